/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Grants of a mount with a claim (core/claim.h). A grant is what the slice uses and a little more; the rest of its min, and of the
 * device, is in the reserve. So what one slice gets out of the reserve is never what another one's min has still to come.
 */
#include "core/grants-local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>

#define DEPTH_MAX 64             /* of directories: what lies deeper is let go of at once */
#define LOOK_NS   INT64_C(50000000) /* between two tries to get what others have */

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* What is held, and not another slice's by its min. */
static uint64_t free_for(struct spm_slices *t, uint16_t id)
{
	uint16_t last = atomic_load(&t->count) ? spm_slices_last(t) : 0;
	uint64_t held = spm_claim_held(t->claim), owed = 0;

	for (uint16_t other = 1; other <= last; other++) {
		const struct spm_slice *s = spm_slices_get(t, other);
		uint64_t min = s ? spm_grant_pages(atomic_load(&s->min)) : 0;

		if (s && other != id && min > s->grant)
			owed += min - s->grant;
	}
	return held > owed ? held - owed : 0;
}

uint64_t spm_claimed_take(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	uint64_t free = free_for(t, id);

	return spm_claim_give(t->claim, bytes < free ? bytes : free);
}

/* What nobody holds goes to the reserve. What of it others have. */
static uint64_t take_back(struct spm_slices *t)
{
	uint64_t held = t->granted + spm_claim_held(t->claim), gap = t->device_bytes > held ? t->device_bytes - held : 0;
	struct spm_claim *c = t->claim;
	int64_t now = now_ns();

	gap &= ~(uint64_t)(SPM_GRANT_PAGE - 1);
	/* what could not be had a moment ago is not looked for at each request */
	if (!gap || (gap <= c->missing && now < c->look_ns))
		return gap;
	gap -= spm_claim_take(c, gap);
	c->missing = gap;
	c->look_ns = now + LOOK_NS;
	return gap;
}

int spm_claimed_set(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	struct spm_slice_use u;
	int rc = spm_grants_look(t, id, &u);

	if (rc || bytes == u.grant)
		return rc;
	if (bytes > u.grant)
		return free_for(t, id) >= bytes - u.grant ? 0 : -ENOSPC;
	rc = spm_grants_resize(t, id, bytes);
	(void)take_back(t);
	return rc;
}

/* Out of the reserve, as much as that or a little more. */
int spm_claimed_grow(struct spm_slices *t, uint16_t id, uint64_t bytes, uint64_t want, struct spm_slice_use *u)
{
	uint64_t need, free, got;
	int rc;

	if (u->grant >= want) {
		/* somebody else has got what was let go of for it: as much again */
		if (spm_claim_is_short(t->claim, bytes))
			(void)spm_claim_give(t->claim, bytes < SPM_CLAIM_HUGE ? SPM_CLAIM_HUGE : bytes);
		return 0;
	}
	if (u->grant >= u->max)
		return 0;
	need = want - u->grant;
	/* what fills huge pages gets huge pages, whatever is free of small ones; to break one up takes long, too */
	if (bytes >= SPM_CLAIM_HUGE && bytes < t->device_bytes && need < spm_grant_pages(bytes))
		need = spm_grant_pages(bytes);
	if (need > SPM_CLAIM_HUGE / 4)
		need = (need + SPM_CLAIM_HUGE - 1) & ~(SPM_CLAIM_HUGE - 1);
	need = need < SPM_CLAIM_FLOAT ? SPM_CLAIM_FLOAT : need;
	need = need < u->max - u->grant ? need : u->max - u->grant;
	free = free_for(t, id);
	got = spm_claim_give(t->claim, need < free ? need : free);
	if (!got)
		return 0;
	rc = spm_grants_resize(t, id, u->grant + got);
	return rc ? rc : spm_grants_look(t, id, u);
}

/* @quiet: also what a slice has free in between, if nothing of it has changed since the last time. */
static void shrink(struct spm_slices *t, uint16_t id, bool quiet)
{
	uint64_t keep = SPM_CLAIM_FLOAT, least = 2 * SPM_CLAIM_FLOAT, used, want;
	struct spm_slice *s = spm_slices_get(t, id);
	struct spm_slice_use u;

	if (!s || spm_grants_look(t, id, &u))
		return;
	used = u.used + u.promised;
	if (id && quiet && s->rested == used) {
		keep = 0;
		least = SPM_SLICE_FLOOR;
	}
	if (quiet)
		s->rested = used;
	want = used + keep > SPM_SLICE_FLOOR ? used + keep : SPM_SLICE_FLOOR;
	/* (it may be more in use by now; then the kernel refuses) */
	if (u.grant > used + least)
		(void)!spm_grants_resize(t, id, spm_grant_pages(want));
}

uint64_t spm_slices_reclaim(struct spm_slices *t, uint16_t id)
{
	uint64_t missing;

	if (!t->claim)
		return 0;
	pthread_mutex_lock(&t->lock);
	if (id < SPM_SLICES_MAX)
		shrink(t, id, false);
	for (uint32_t i = 0; id >= SPM_SLICES_MAX && i <= spm_slices_last(t); i++)
		shrink(t, (uint16_t)i, true);
	missing = take_back(t);
	pthread_mutex_unlock(&t->lock);
	return missing;
}

uint64_t spm_slices_held(struct spm_slices *t)
{
	uint64_t held;

	if (!t->claim)
		return 0;
	pthread_mutex_lock(&t->lock);
	held = spm_claim_held(t->claim);
	pthread_mutex_unlock(&t->lock);
	return held;
}

uint16_t spm_slices_by_dev(struct spm_slices *t, dev_t dev)
{
	uint16_t last = spm_slices_last(t);

	for (uint16_t id = 0; id <= last; id++) {
		const struct spm_slice *s = spm_slices_get(t, id);

		if (s && s->dev == dev && !atomic_load(&s->away))
			return id;
	}
	return SPM_SLICES_MAX;
}

/* -- a slice that is not mounted any more -- */

int spm_claimed_tree(const struct spm_slices *t, const char *path)
{
	/* a mount of its own: it does not keep the one at @path busy */
	return t->claim ? open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) : -1;
}

/* What it has let go of is the reserve's. */
static void let_go(struct spm_slices *t, struct spm_slice *s, uint64_t bytes)
{
	pthread_mutex_lock(&t->lock);
	if (bytes > s->grant)
		bytes = s->grant;
	s->grant -= bytes;
	t->granted -= bytes;
	(void)take_back(t);
	pthread_mutex_unlock(&t->lock);
}

static void empty_file(struct spm_slices *t, struct spm_slice *s, int dirfd, const char *name)
{
	spm_auto_close int fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
	uint64_t size, step = SPM_CLAIM_HUGE;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return;
	for (size = (uint64_t)st.st_size; size && st.st_blocks;) {
		blkcnt_t before = st.st_blocks;

		size = size > step ? (size - step) & ~(SPM_CLAIM_HUGE - 1) : 0;
		if (ftruncate(fd, (off_t)size) || fstat(fd, &st))
			return;
		let_go(t, s, (uint64_t)(before > st.st_blocks ? before - st.st_blocks : 0) * 512);
		step = st.st_blocks == before ? step * 2 : SPM_CLAIM_HUGE; /* large steps over holes */
	}
}

static void empty_dir(struct spm_slices *t, struct spm_slice *s, int fd, int depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *d;

	if (!dir) {
		close(fd);
		return;
	}
	while ((d = readdir(dir))) {
		int sub;

		if (d->d_type == DT_REG)
			empty_file(t, s, fd, d->d_name);
		if (d->d_type != DT_DIR || !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || depth == DEPTH_MAX)
			continue;
		sub = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
		if (sub >= 0)
			empty_dir(t, s, sub, depth + 1);
	}
	closedir(dir);
}

void spm_claimed_empty(struct spm_slices *t, struct spm_slice *s, int tree)
{
	int fd = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		empty_dir(t, s, fd, 0);
}
