/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents that are nobody's: which one is taken next, and zeroing them. */
#include "core/pool-local.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

uint64_t spm_pool_lowest(const struct spm_pool *p)
{
	uint64_t clean = spm_pool_set_first(&p->clean), held = spm_pool_set_first(&p->free);
	uint64_t unused = spm_pool_set_first(&p->unused);

	held = held < unused ? held : unused;
	return clean < held ? clean : held;
}

/* Lowest first, so that the top of the device stays free as long as it can. */
int spm_pool_pick(struct spm_pool *p, bool want_clean, uint32_t *d, bool *is_clean)
{
	struct spm_pool_set *order[3] = { &p->free, &p->unused, &p->clean };
	uint64_t at = UINT64_MAX;

	if (want_clean) {
		order[0] = &p->clean;
		order[1] = &p->free;
		order[2] = &p->unused;
	}
	for (;;) {
		for (int i = 0; i < 3 && at == UINT64_MAX; i++) {
			at = spm_pool_set_first(order[i]);
			if (at != UINT64_MAX)
				spm_pool_set_del(order[i], at);
			*is_clean = order[i] == &p->clean;
		}
		if (at != UINT64_MAX || !p->transient)
			break;
		pthread_cond_wait(&p->settled, &p->lock);
	}
	if (at == UINT64_MAX)
		return -ENOSPC;
	*d = (uint32_t)at;
	p->reserved--;
	if (p->zeroers && p->clean.count < p->clean_max && (p->free.count || p->unused.count))
		pthread_cond_signal(&p->work);
	return 0;
}

/* With what its content is now. */
void spm_pool_put(struct spm_pool *p, uint32_t d, enum spm_pool_state state)
{
	if (spm_pool_record_state(p, d) != state)
		spm_pool_set_state(p, d, state);
	spm_pool_set_add(state == POOL_CLEAN ? &p->clean : state == POOL_FREE ? &p->free : &p->unused, d);
	if (state == POOL_FREE && p->zeroers)
		pthread_cond_signal(&p->work);
}

/* -- zeroing in the background -- */

/* Poison that the kernel has told of, and nobody has met yet. */
static void look_at_notes(struct spm_pool *p)
{
	uint64_t bytes = (uint64_t)p->extents * p->extent_bytes;
	uint8_t *at;

	while ((at = spm_pool_noted(p->base, bytes)))
		spm_pool_lost(p, (uint32_t)((uint64_t)(at - p->base) / p->extent_bytes));
	spm_pool_tell_news(p);
}

static bool next_to_zero(struct spm_pool *p, uint32_t *d)
{
	struct spm_pool_set *from = p->free.count ? &p->free : &p->unused;

	if (!p->free.count && p->clean.count >= p->clean_max)
		return false;
	if (!from->count)
		return false;
	*d = (uint32_t)spm_pool_set_first(from);
	spm_pool_set_del(from, *d);
	p->transient++;
	return true;
}

/* With the lock, which is let go meanwhile. */
static void zero_one(struct spm_pool *p, uint32_t d)
{
	int rc;

	pthread_mutex_unlock(&p->lock);
	rc = spm_pool_clear(spm_pool_address(p, d), p->extent_bytes);
	spm_pool_fault(p, "pool:zeroed");
	if (rc)
		spm_pool_retire(p, d);
	pthread_mutex_lock(&p->lock);
	if (!rc) {
		spm_pool_put(p, d, POOL_CLEAN);
		atomic_fetch_add(&p->zeroed, 1);
	}
	p->transient--;
	pthread_cond_broadcast(&p->settled);
}

/* Whether a clean one is wanted is asked again after each wait, so a wake-up that comes early is not lost. */
static void *zeroer(void *arg)
{
	struct spm_pool *p = arg;
	struct timespec until;
	uint32_t d;

	/* to be told of poison that the kernel finds by itself, not only of what somebody here meets; old kernels may say no */
	(void)prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		if (next_to_zero(p, &d)) {
			zero_one(p, d);
			continue;
		}
		/* a signal handler can wake nobody, so notes are looked at from time to time */
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&p->work, &p->lock, &until);
		pthread_mutex_unlock(&p->lock);
		look_at_notes(p);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int spm_pool_start(struct spm_pool *p)
{
	unsigned int n = p->o.zeroers ? p->o.zeroers : 1;
	int rc;

	p->zeroer = calloc(n, sizeof(*p->zeroer));
	if (!p->zeroer)
		return -ENOMEM;
	p->stop = false;
	for (unsigned int i = 0; i < n; i++) {
		rc = pthread_create(&p->zeroer[i], NULL, zeroer, p);
		if (rc) {
			spm_pool_stop(p);
			return -rc;
		}
		pthread_mutex_lock(&p->lock);
		p->zeroers = i + 1;
		pthread_mutex_unlock(&p->lock);
	}
	rc = spm_pool_compactor_start(p);
	if (rc)
		spm_pool_stop(p);
	return rc;
}

void spm_pool_stop(struct spm_pool *p)
{
	unsigned int n;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	n = p->zeroers;
	p->zeroers = 0;
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->compact_wake);
	pthread_mutex_unlock(&p->lock);
	spm_pool_compactor_stop(p);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(p->zeroer[i], NULL);
	free(p->zeroer);
	p->zeroer = NULL;
}
