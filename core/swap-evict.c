/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/swap-evict.h"

#include <errno.h>
#include <string.h>

#define UNFIT_MAX 64u
#define OVER_MAX  8u  /* extents of a file that are too large for what its slice has left in swap */

void spm_evictor_init(struct spm_evictor *ev, struct spm_swap *s)
{
	memset(ev, 0, sizeof(*ev));
	ev->s = s;
	ev->holder = SPM_SWAP_SLICES;
	spm_ioq_init(&ev->q);
}

void spm_evictor_destroy(struct spm_evictor *ev)
{
	spm_evictor_drain(ev);
	spm_ioq_destroy(&ev->q);
}

static void let_go(struct spm_evictor *ev, struct spm_evict_file *f)
{
	if (f->in_flight || f->open)
		return;
	if (f->fd >= 0)
		spm_file_close(ev->s, f->who.slice, &f->fd);
	spm_visit_end(ev->s, f->who.file);
	f->who.file = 0;
}

static void finish_one(struct spm_evictor *ev)
{
	struct spm_io *io = spm_ioq_next(&ev->q, true);
	struct spm_job *j = io->arg;
	struct spm_evict_file *f = ev->of[j - ev->s->jobs.all];
	uint64_t bytes, freed = spm_memory_freed(ev->s, j);
	int rc = spm_out_finish(ev->s, j, f->fd, &f->who, &bytes);

	/* if somebody waited for the extent, or the disk failed, it stays */
	ev->skipped |= rc == -ECANCELED;
	if (rc && rc != -ECANCELED && !ev->error)
		ev->error = rc;
	spm_move_end(ev->s, f->who.file, j->extent);
	spm_job_put(ev->s, j);
	ev->in_flight--;
	f->in_flight--;
	ev->leaving -= freed;
	ev->freed += bytes;
	if (bytes && ev->progress)
		ev->progress(ev->arg, f->who.slice, bytes);
	let_go(ev, f);
}

void spm_evictor_drain(struct spm_evictor *ev)
{
	while (ev->in_flight)
		finish_one(ev);
}

/* The bytes that are gone or on their way. */
static uint64_t under_way(const struct spm_evictor *ev)
{
	return ev->freed + ev->leaving;
}

void spm_evictor_wait(struct spm_evictor *ev, uint64_t bytes)
{
	while (ev->in_flight && under_way(ev) >= bytes)
		finish_one(ev);
}

/* 0: started, or in use; -ENODATA: there is nothing to move; or why not. */
static int start_one(struct spm_evictor *ev, struct spm_evict_file *f, uint64_t extent)
{
	struct spm_out_limits limits = { .keep = ev->keep, .pages = SPM_EXTENT_PAGES, .exchange = ev->exchange };
	struct spm_swap *s = ev->s;
	struct spm_job *j;
	int rc;

	while (ev->in_flight >= SPM_DEPTH)
		finish_one(ev);
	if (ev->may_leave) {
		uint64_t bytes = ev->may_leave(ev->arg, f->who.slice);

		if (bytes < 4096)
			return -EPERM;
		if (bytes / 4096 < limits.pages)
			limits.pages = (uint32_t)(bytes / 4096);
	}
	rc = spm_move_try(s, f->who.file, extent);
	ev->skipped |= rc == -EBUSY;
	if (rc)
		return rc == -EBUSY ? 0 : rc;
	while (!(j = spm_job_get(s, ev->holder, !ev->in_flight)))
		finish_one(ev);
	rc = spm_out_prepare(s, j, f->fd, f->who.file, extent, &limits);
	if (rc == -ENOSPC)
		ev->full = ++ev->unfit >= UNFIT_MAX;
	if (rc) {
		spm_move_end(s, f->who.file, extent);
		spm_job_put(s, j);
		return rc;
	}
	ev->of[j - s->jobs.all] = f;
	ev->in_flight++;
	ev->leaving += spm_memory_freed(s, j);
	ev->written += (uint64_t)j->pages * 4096;
	f->in_flight++;
	spm_job_submit(s, &ev->q, j, SPM_IO_WRITE);
	return 0;
}

static uint16_t age_of(struct spm_swap *s, uint32_t file, uint64_t extent, uint16_t now)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	const struct spm_extent *x = spm_extmap_get(&s->map, file, extent, false);
	uint16_t whole = spm_extmap_age(now, __atomic_load_n(&spm_extmap_file(&s->map, file)->used, __ATOMIC_RELAXED)), one;

	one = x && spm_extent_used(x) ? spm_extmap_age(now, spm_extent_used(x)) : whole;
	spm_bucket_unlock(b);
	return one < whole ? one : whole;
}

static int walk(struct spm_evictor *ev, struct spm_evict_file *f, uint64_t from, uint64_t to, uint16_t age, uint64_t enough)
{
	struct spm_swap *s = ev->s;
	uint64_t extent = from >> s->shift, end;
	uint16_t now = spm_swap_clock(s);
	unsigned int over = 0;
	bool unfit = false;

	if (to > f->size)
		to = f->size;
	end = to ? ((to - 1) >> s->shift) + 1 : 0;
	while (extent < end && under_way(ev) < enough) {
		int rc;

		if (spm_visit_unwanted(s, f->who.file)) {
			ev->skipped = true;
			return -EBUSY;
		}
		if (age && age_of(s, f->who.file, extent, now) < age) {
			extent++;
			continue;
		}
		rc = start_one(ev, f, extent++);
		if (rc == -ENODATA) /* over what is a hole, or swapped already */
			extent = spm_out_next(s, f->who.file, f->fd, extent, end);
		else if (rc == -ENOSPC && !ev->full) /* there may be a slot for a smaller one */
			unfit = true;
		else if (rc == -EDQUOT && ++over < OVER_MAX)
			continue;
		else if (rc && rc != -E2BIG) /* so much may not leave, but a smaller one may */
			return rc;
	}
	return unfit ? -ENOSPC : over ? -EDQUOT : 0;
}

static struct spm_evict_file *free_file(struct spm_evictor *ev)
{
	for (;;) {
		for (size_t i = 0; i < SPM_ARRAY_SIZE(ev->file); i++)
			if (!ev->file[i].who.file)
				return &ev->file[i];
		finish_one(ev); /* one has something in flight, or it would be free */
	}
}

int spm_evict_visit(struct spm_swap *s, uint32_t file, bool wait, struct spm_whose *who)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	bool known = spm_whose(s, file, who);
	int rc = 0;

	spm_bucket_unlock(b);
	if (!known)
		return -ESTALE;
	/* which tests the lease: nothing of it may be open here */
	if (spm_flag_is(spm_extmap_file(&s->map, file), SPM_EXTFILE_DIRECT)) {
		rc = spm_slice_enter(s, who->slice, false);
		if (rc)
			return rc;
		rc = s->ops.release(s->ops.ctx, file, who->slice, who->ino, &who->handle);
		spm_slice_leave(s, who->slice);
	}
	return rc ? rc : spm_visit_begin(s, file, wait, who);
}

static int open_file(struct spm_swap *s, struct spm_evict_file *f)
{
	struct stat st;

	f->fd = spm_file_open(s, f->who.slice, &f->who.handle, false);
	if (f->fd < 0)
		return f->fd;
	if (fstat(f->fd, &st))
		return -errno;
	f->size = (uint64_t)st.st_size;
	return spm_memory_blocks(s, f->who.file, &st) ? 0 : -ENODATA;
}

int spm_evict_file(struct spm_evictor *ev, uint32_t file, uint64_t from, uint64_t to, uint16_t age, uint64_t enough, bool wait)
{
	struct spm_evict_file *f = free_file(ev);
	struct spm_whose who;
	int rc = spm_evict_visit(ev->s, file, wait, &f->who);

	if (rc == -EBUSY)
		*(spm_swap_is_direct(ev->s, file) ? &ev->direct : &ev->skipped) = true;
	if (rc) {
		f->who.file = 0;
		return rc;
	}
	f->open = true;
	rc = open_file(ev->s, f);
	if (!rc)
		rc = walk(ev, f, from, to, age, enough);
	f->open = false;
	who = f->who;
	let_go(ev, f);
	if (rc == -ESTALE && !spm_swap_bytes_of(ev->s, file)) /* a head that came too late */
		spm_swap_gone(ev->s, who.slice, who.ino);
	return rc == -ENODATA ? 0 : rc;
}

int64_t spm_swap_evict(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to)
{
	struct spm_evictor *ev = malloc(sizeof(*ev));
	int64_t freed;
	int rc, error;

	if (!ev)
		return -ENOMEM;
	spm_evictor_init(ev, s);
	ev->keep = s->reserve;
	ev->holder = spm_slice_of(s, file);
	rc = spm_evict_file(ev, file, from, to, 0, UINT64_MAX, true);
	spm_evictor_destroy(ev);
	freed = (int64_t)ev->freed;
	error = ev->error;
	free(ev);
	return rc ? rc : error ? error : freed;
}
