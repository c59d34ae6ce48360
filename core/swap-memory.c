/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the bytes of an extent lie that is here: in pages of the region's file, or in an extent of a pool (core/pool.h). All that
 * swap does to them is here and in find_pages() (core/swap-out.c).
 *
 * In a pool an extent is there as a whole, or not at all. It leaves by its address, and is given up; what comes back is read into
 * an extent that is nobody's, which becomes the file's when all of it is right.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

static struct spm_pool_file pooled(struct spm_swap *s, uint32_t file)
{
	const struct spm_extfile *f = spm_extmap_file(&s->map, file);

	return (struct spm_pool_file){ .ino = f->ino, .slice = f->slice };
}

/* -- leaving -- */

static int map_pooled(struct spm_swap *s, struct spm_job *j)
{
	const struct spm_pool_file f = pooled(s, j->file);
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	void *p;
	int rc;

	/* compaction must not be moving it */
	spm_pool_lock(s->ops.pool, &f, SPM_POOL_SHARED, &held);
	rc = spm_pool_map_extent(s->ops.pool, &f, j->extent, &p);
	j->map = rc ? NULL : p;
	return rc;
}

int spm_memory_map(struct spm_swap *s, struct spm_job *j, int fd)
{
	void *p;

	if (s->ops.pool)
		return map_pooled(s, j);
	p = mmap(NULL, j->len, PROT_READ, MAP_SHARED, fd, (off_t)j->off);
	if (p == MAP_FAILED)
		return -errno;
	j->map = p;
	(void)madvise(p, j->len, MADV_DONTDUMP);
	return 0;
}

int spm_memory_unmap(struct spm_swap *s, struct spm_job *j)
{
	int rc = 0;

	if (s->ops.pool) {
		const struct spm_pool_file f = pooled(s, j->file);

		rc = spm_pool_unmap_extent(s->ops.pool, &f, j->extent, false);
	} else {
		munmap(j->map, j->len);
	}
	j->map = NULL;
	return rc;
}

int spm_memory_drop(struct spm_swap *s, struct spm_job *j, int fd)
{
	if (s->ops.pool) {
		const struct spm_pool_file f = pooled(s, j->file);

		return spm_pool_unmap_extent(s->ops.pool, &f, j->extent, true);
	}
	munmap(j->map, j->len);
	return spm_swap_punch(s, fd, j->off, j->off + j->len);
}

/* -- coming back -- */

/* The next run of pages that the job has (or, not @has, that it does not), from *@from on: *@from and its end. False: there is
 * none before @end. */
static bool next_run(const struct spm_job *j, bool has, uint32_t end, uint32_t *from, uint32_t *to)
{
	uint32_t p = *from;

	while (p < end && (j->bits[p / 64] >> p % 64 & 1) != has)
		p++;
	*from = p;
	while (p < end && (j->bits[p / 64] >> p % 64 & 1) == has)
		p++;
	*to = p;
	return p > *from;
}

/* Page by page: 0, -ENOSPC, -EINVAL: this kernel cannot (before 5.14). */
static int populate(const struct spm_job *j, uint32_t from, uint32_t to)
{
	int rc;

	do
		rc = madvise(j->map + (size_t)from * 4096, (size_t)(to - from) * 4096, MADV_POPULATE_WRITE) ? -errno : 0;
	while (rc == -EINTR || rc == -EAGAIN);
	return rc == -EFAULT ? -ENOSPC : rc; /* what a store there would be told by SIGBUS */
}

/*
 * Memory for the pages of the job. A whole extent gets a huge page by fallocate(2); for a part of one that would allocate a huge
 * page as well, of which the rest would stay: a sparse file would come back many times as large.
 */
static int allocate(struct spm_swap *s, const struct spm_job *j, const struct spm_whose *who, int fd)
{
	uint64_t end = j->off + s->extent_bytes;
	uint32_t from, to;
	int rc;

	if (j->pages == s->extent_bytes / 4096)
		return s->ops.commit(s->ops.ctx, who->slice, fd, j->off, end);
	rc = s->ops.bind(s->ops.ctx, who->slice, fd, j->off, end);
	(void)madvise(j->map, j->len, MADV_NOHUGEPAGE);
	for (from = 0; !rc && next_run(j, true, SPM_EXTENT_PAGES, &from, &to); from = to) {
		rc = populate(j, from, to);
		if (rc == -EINVAL)
			rc = s->ops.commit(s->ops.ctx, who->slice, fd, j->off + (uint64_t)from * 4096,
					   j->off + (uint64_t)to * 4096);
	}
	return rc;
}

/* What the slot does not have is zeros. */
static int clear_rest(struct spm_swap *s, const struct spm_job *j, char *map)
{
	uint32_t from, to;
	int rc = 0;

	for (from = 0; !rc && next_run(j, false, s->extent_bytes / 4096, &from, &to); from = to)
		rc = spm_pool_clear_taken(s->ops.pool, map + (size_t)from * 4096, (size_t)(to - from) * 4096);
	return rc;
}

/* Another one in place of each that the device has lost. */
static int take_pooled(struct spm_swap *s, struct spm_job *j, uint16_t slice)
{
	void *p;
	int rc;

	for (;;) {
		rc = spm_pool_take(s->ops.pool, slice, &j->taken, &p);
		if (rc)
			return rc == -EDQUOT ? -ENOSPC : rc;
		if (!clear_rest(s, j, p))
			break;
		spm_pool_untake_lost(s->ops.pool, slice, j->taken);
	}
	j->map = p;
	return 0;
}

bool spm_memory_is_lost(struct spm_swap *s, struct spm_job *j, uint16_t slice)
{
	/* what came there was not right, so it may as well be zeros */
	if (!s->ops.pool || !j->map || !spm_pool_clear_taken(s->ops.pool, j->map, s->extent_bytes))
		return false;
	spm_pool_untake_lost(s->ops.pool, slice, j->taken);
	j->map = NULL;
	return true;
}

int spm_memory_make(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, int fd)
{
	void *p;

	if (s->ops.pool)
		return take_pooled(s, j, who->slice);
	p = mmap(NULL, j->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)j->off);
	if (p == MAP_FAILED)
		return -errno;
	j->map = p;
	(void)madvise(p, j->len, MADV_DONTDUMP);
	return allocate(s, j, who, fd);
}

int spm_memory_unmake(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, int fd)
{
	char *map = j->map;

	j->map = NULL;
	if (s->ops.pool) {
		if (map)
			spm_pool_untake(s->ops.pool, who->slice, j->taken);
		return 0;
	}
	if (map)
		munmap(map, j->len);
	return spm_swap_punch(s, fd, j->off, j->off + j->len);
}

int spm_memory_keep(struct spm_swap *s, struct spm_job *j)
{
	const struct spm_pool_file f = pooled(s, j->file);

	if (s->ops.pool)
		return spm_pool_give(s->ops.pool, &f, j->extent, j->taken);
	munmap(j->map, j->len);
	return 0;
}

/* -- of a file -- */

int spm_memory_look(struct spm_swap *s, struct spm_job *j, void (*fn)(void *arg), void *arg)
{
	if (s->ops.pool)
		return spm_pool_look(s->ops.pool, j->map, s->extent_bytes, fn, arg);
	fn(arg);
	return 0;
}

int spm_memory_settle(struct spm_swap *s, uint32_t file, int fd, uint64_t extent)
{
	const struct spm_pool_file f = pooled(s, file);
	uint64_t at = extent << s->shift;
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };

	if (!s->ops.pool)
		return spm_swap_punch(s, fd, at, at + s->extent_bytes);
	spm_pool_lock(s->ops.pool, &f, SPM_POOL_EXCLUSIVE, &held);
	return spm_pool_punch(s->ops.pool, &f, at, at + s->extent_bytes);
}

uint64_t spm_memory_blocks(struct spm_swap *s, uint32_t file, const struct stat *st)
{
	const struct spm_pool_file f = pooled(s, file);

	return s->ops.pool ? spm_pool_file_bytes(s->ops.pool, &f) / 512 : (uint64_t)st->st_blocks;
}

ssize_t spm_memory_read(struct spm_swap *s, uint32_t file, int fd, void *buf, size_t n, uint64_t off)
{
	const struct spm_pool_file f = pooled(s, file);
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	ssize_t got;

	if (s->ops.pool) {
		spm_pool_lock(s->ops.pool, &f, SPM_POOL_SHARED, &held);
		return spm_pool_read(s->ops.pool, &f, buf, n, off);
	}
	got = pread(fd, buf, n, (off_t)off);
	return got < 0 ? -errno : got;
}

off_t spm_memory_seek(struct spm_swap *s, uint32_t file, int fd, uint64_t off, int whence)
{
	const struct spm_pool_file f = pooled(s, file);
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	struct stat st;
	off_t at;

	if (!s->ops.pool) {
		at = lseek(fd, (off_t)off, whence);
		return at < 0 ? -errno : at;
	}
	if (fstat(fd, &st))
		return -errno;
	spm_pool_lock(s->ops.pool, &f, SPM_POOL_SHARED, &held);
	return spm_pool_seek(s->ops.pool, &f, (off_t)off, whence, (uint64_t)st.st_size);
}
