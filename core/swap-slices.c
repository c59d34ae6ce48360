/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What swap knows of slices: how much of each is in slots, and may be; who has files of it open here. */
#include "core/swap-local.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define HOLD_S 5 /* for what is under way in a slice that is to be let go of */

int spm_swap_slices_init(struct spm_swap *s)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&s->hold_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->hold_wake, &attr);
	pthread_condattr_destroy(&attr);
	/* so large that the kernel gives memory to what is used of it only; the last one is nobody's: the reclaimer's jobs */
	s->slice = calloc(SPM_SWAP_SLICES + 1, sizeof(*s->slice));
	s->slice_count = s->opts.slice_counters;
	if (!s->slice_count)
		s->slice_count = s->own_slice_count = calloc(SPM_SWAP_SLICES, sizeof(*s->slice_count));
	return s->slice && s->slice_count ? 0 : -ENOMEM;
}

void spm_swap_slices_destroy(struct spm_swap *s)
{
	free(s->slice);
	free(s->own_slice_count);
}

/* -- limits of swap -- */

bool spm_quota_take(struct spm_swap *s, uint16_t slice, uint32_t pages, bool exchange)
{
	struct spm_swap_slice *sl = &s->slice[slice];
	uint64_t max = s->ops.swap_max ? s->ops.swap_max(s->ops.ctx, slice) : UINT64_MAX, slack = 0, leaving;

	/* what comes back frees as much: the limit is passed for a moment, rather than a file's own bytes not to be had */
	if (exchange)
		slack = 4 * (uint64_t)s->extent_bytes / 4096;
	leaving = atomic_fetch_add(&sl->leaving, pages) + pages;
	if (max == UINT64_MAX || atomic_load(&sl->pages) + leaving <= max / 4096 + slack)
		return true;
	atomic_fetch_sub(&sl->leaving, pages);
	return false;
}

void spm_quota_done(struct spm_swap *s, uint16_t slice, uint32_t pages)
{
	atomic_fetch_sub(&s->slice[slice].leaving, pages);
}

/* -- descriptors -- */

int spm_slice_enter(struct spm_swap *s, uint16_t slice, bool wait)
{
	struct spm_swap_slice *sl = &s->slice[slice];

	for (;;) {
		atomic_fetch_add(&sl->users, 1);
		if (!atomic_load(&sl->held))
			return 0;
		spm_slice_leave(s, slice);
		if (!wait)
			return -EBUSY;
		pthread_mutex_lock(&s->hold_lock);
		while (atomic_load(&sl->held))
			pthread_cond_wait(&s->hold_wake, &s->hold_lock);
		pthread_mutex_unlock(&s->hold_lock);
	}
}

void spm_slice_leave(struct spm_swap *s, uint16_t slice)
{
	struct spm_swap_slice *sl = &s->slice[slice];

	if (atomic_fetch_sub(&sl->users, 1) > 1 || !atomic_load(&sl->held))
		return;
	pthread_mutex_lock(&s->hold_lock);
	pthread_cond_broadcast(&s->hold_wake);
	pthread_mutex_unlock(&s->hold_lock);
}

int spm_file_open(struct spm_swap *s, uint16_t slice, const struct spm_handle *h, bool wait)
{
	int fd = spm_slice_enter(s, slice, wait);

	if (fd)
		return fd;
	fd = s->ops.open(s->ops.ctx, slice, h);
	if (fd < 0)
		spm_slice_leave(s, slice);
	return fd;
}

void spm_file_close(struct spm_swap *s, uint16_t slice, int *fd)
{
	spm_cleanup_close(fd);
	spm_slice_leave(s, slice);
}

int spm_swap_slice_hold(struct spm_swap *s, uint16_t slice)
{
	struct spm_swap_slice *sl = &s->slice[slice % SPM_SWAP_SLICES];
	struct timespec until;
	bool timeout = false;

	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += HOLD_S;
	pthread_mutex_lock(&s->hold_lock);
	atomic_store(&sl->held, true);
	while (atomic_load(&sl->users) && !timeout)
		timeout = pthread_cond_timedwait(&s->hold_wake, &s->hold_lock, &until) == ETIMEDOUT;
	timeout = timeout && atomic_load(&sl->users);
	pthread_mutex_unlock(&s->hold_lock);
	if (timeout)
		spm_swap_slice_let_go(s, slice);
	return timeout ? -EBUSY : 0;
}

void spm_swap_slice_let_go(struct spm_swap *s, uint16_t slice)
{
	pthread_mutex_lock(&s->hold_lock);
	atomic_store(&s->slice[slice % SPM_SWAP_SLICES].held, false);
	pthread_cond_broadcast(&s->hold_wake);
	pthread_mutex_unlock(&s->hold_lock);
}

int spm_swap_slice_gone(struct spm_swap *s, uint16_t slice)
{
	struct spm_swap_slice_counters *c = &s->slice_count[slice % SPM_SWAP_SLICES];
	struct spm_whose who;
	int rc = 0;

	for (uint32_t file = 0; (file = spm_extmap_next_file(&s->map, file + 1));) {
		struct spm_bucket *b = spm_bucket_lock(s, file);
		bool its = spm_whose(s, file, &who) && who.slice == slice;

		spm_bucket_unlock(b);
		if (!its)
			continue;
		spm_swap_gone(s, slice, who.ino);
		if (spm_swap_find(s, slice, who.ino))
			rc = -ENOMEM;
	}
	/* another one with this number begins anew */
	atomic_store(&c->swapout_bytes, 0);
	atomic_store(&c->swapin_bytes, 0);
	atomic_store(&c->swap_errors, 0);
	atomic_store(&c->write_errors, 0);
	atomic_store(&c->evicted_hot, 0);
	atomic_store(&c->direct_waits, 0);
	atomic_store(&c->refused, 0);
	atomic_store(&c->reclaim_runs, 0);
	return rc;
}

/* -- memory -- */

int spm_memory_of(struct spm_swap *s, uint16_t slice, struct spm_memory *m)
{
	struct statvfs sv;
	int rc = s->ops.statfs(s->ops.ctx, slice, &sv);

	*m = (struct spm_memory){ 0 };
	if (rc)
		return rc;
	m->size = (uint64_t)sv.f_blocks * sv.f_frsize;
	m->free = (uint64_t)sv.f_bavail * sv.f_frsize;
	return 0;
}

int spm_memory_shared(struct spm_swap *s, struct spm_memory *m)
{
	return s->ops.shared ? s->ops.shared(s->ops.ctx, &m->size, &m->free) : spm_memory_of(s, 0, m);
}

/* -- numbers -- */

void spm_swap_stats_of(struct spm_swap *s, uint16_t slice, struct spm_swap_slice_stats *out)
{
	const struct spm_swap_slice_counters *c = &s->slice_count[slice % SPM_SWAP_SLICES];

	*out = (struct spm_swap_slice_stats){
		.swapped_bytes = atomic_load(&s->slice[slice % SPM_SWAP_SLICES].pages) * 4096,
		.swapout_bytes = atomic_load(&c->swapout_bytes),
		.swapin_bytes = atomic_load(&c->swapin_bytes),
		.swap_errors = atomic_load(&c->swap_errors),
		.write_errors = atomic_load(&c->write_errors),
		.evicted_hot = atomic_load(&c->evicted_hot),
		.direct_waits = atomic_load(&c->direct_waits),
		.refused = atomic_load(&c->refused),
		.reclaim_runs = atomic_load(&c->reclaim_runs),
	};
}
