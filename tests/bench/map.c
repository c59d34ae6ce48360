/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of mapped files: random access, first touch, the mirror. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define PAGE 4096

static struct mapped {
	char path[PATH_MAX];
	int fd;
	size_t len;
	volatile uint64_t *map;
} mapped[SIDES];

static void mapped_close(struct mapped *m)
{
	if (m->map)
		munmap((void *)(uintptr_t)m->map, m->len);
	if (m->fd > 0) {
		close(m->fd);
		unlink(m->path);
	}
	m->map = NULL;
	m->fd = 0;
}

static void mapped_close_all(struct bench *b)
{
	for (int side = 0; side < SIDES; side++)
		mapped_close(&mapped[side]);
}

/* A new committed file, open for reading and writing, not yet mapped. */
static int committed_open(struct bench *b, enum side side, const char *name)
{
	struct mapped *m = &mapped[side];
	int rc;

	m->len = b->scale.map_bytes;
	rc = make_file(path_in(m->path, bench_dir(b, side), name));
	if (rc)
		return bench_fail(b, rc, "cannot make %s", m->path);
	m->fd = open(m->path, O_RDWR | O_CLOEXEC);
	if (m->fd < 0)
		return bench_fail(b, -errno, "cannot open %s", m->path);
	rc = commit_file(m->fd, m->len);
	if (rc)
		return bench_fail(b, rc, "cannot commit %zu bytes in %s", m->len, m->path);
	return bench_need_mode(b, side, m->path, "direct");
}

static int committed_map(struct bench *b, enum side side)
{
	struct mapped *m = &mapped[side];

	m->map = map_aligned(m->fd, m->len, true);
	return m->map ? 0 : bench_fail(b, -errno, "cannot map %s", m->path);
}

/* Writes one byte in every page. */
static void touch(const struct mapped *m)
{
	volatile char *p = (volatile char *)m->map;

	for (size_t at = 0; at < m->len; at += PAGE)
		p[at] = 1;
}

/* New files each round: which physical pages a file gets would otherwise decide the ratio of a whole run. */
static int random_begin(struct bench *b, int round)
{
	int64_t huge[SIDES];

	heat_memory(2 * b->scale.map_bytes);
	for (int i = 0; i < SIDES; i++) {
		enum side side = (enum side)((i + round) & 1);
		int rc = committed_open(b, side, "random");

		if (!rc)
			rc = committed_map(b, side);
		if (rc)
			return rc;
		touch(&mapped[side]);
		huge[side] = huge_mapped((const void *)(uintptr_t)mapped[side].map);
	}
	bench_note(b, "mapped by huge pages: tmpfs %.0f %%, spmfs %.0f %%",
		   100.0 * (double)huge[SIDE_TMPFS] / (double)b->scale.map_bytes,
		   100.0 * (double)huge[SIDE_SPMFS] / (double)b->scale.map_bytes);
	return 0;
}

static int random_sample(struct bench *b, enum side side, double *value)
{
	volatile uint64_t *map = mapped[side].map;
	uint64_t mask = mapped[side].len / sizeof(*map) - 1, seed = 88172645463325252, sum = 0;
	int n = b->scale.accesses;
	int64_t t = now_ns();

	if (b->fig->what == RANDOM_READ)
		for (int i = 0; i < n; i++)
			sum += map[next_random(&seed) & mask];
	else
		for (int i = 0; i < n; i++)
			map[next_random(&seed) & mask] = (uint64_t)i;
	*value = (double)(now_ns() - t) / n;
	(void)sum;
	return 0;
}

const struct probe random_probe = {
	.begin = random_begin,
	.sample = random_sample,
	.end = mapped_close_all,
};

static int touch_sample(struct bench *b, enum side side, double *value)
{
	int64_t before, start, t;
	int rc;

	before = free_bytes(bench_dir(b, side));
	heat_memory(2 * b->scale.map_bytes);
	start = now_ns();
	rc = committed_open(b, side, "touch");
	if (!rc)
		rc = committed_map(b, side);
	if (rc)
		return rc;
	t = now_ns();
	touch(&mapped[side]);
	/* Zeroing pages at commit makes the touch cheap and the commit dear: both are shown. */
	t = now_ns() - (b->fig->what == TOUCH_ALL ? start : t);
	*value = (double)t / 1e3 / (double)(mapped[side].len / MIB);
	mapped_close(&mapped[side]);
	/* The next sample is to find the same pages free. */
	rc = wait_free(bench_dir(b, side), before - (int64_t)MIB);
	return rc ? bench_fail(b, rc, "memory of a removed file does not come back") : 0;
}

const struct probe touch_probe = {
	.sample = touch_sample,
	.end = mapped_close_all,
};

static int mirror_open(struct bench *b, enum side side)
{
	struct mapped *m = &mapped[side];
	int rc;

	m->len = b->scale.mirror_bytes;
	rc = make_file(path_in(m->path, bench_dir(b, side), "mirror"));
	if (rc)
		return bench_fail(b, rc, "cannot make %s", m->path);
	/* Before the first open: live opens keep the mode that they have. */
	if (side == SIDE_SPMFS && b->server.n && setxattr(m->path, "user.spm.map", "mirror", 6, 0))
		return bench_fail(b, -errno, "cannot set user.spm.map on %s", m->path);
	m->fd = open(m->path, O_RDWR | O_CLOEXEC);
	if (m->fd < 0)
		return bench_fail(b, -errno, "cannot open %s", m->path);
	rc = fill_file(m->fd, m->len);
	if (rc)
		return bench_fail(b, rc, "cannot write %s", m->path);
	return bench_need_mode(b, side, m->path, "mirror");
}

/* A mirror's pages are small ones of the page cache, whatever the region has: the pair of equal pages. */
static int tmpfs_huge(struct bench *b, const char *huge)
{
	char data[64];

	snprintf(data, sizeof(data), "huge=%s", huge);
	if (mount(NULL, bench_dir(b, SIDE_TMPFS), NULL, MS_REMOUNT, data))
		return bench_fail(b, -errno, "cannot remount the tmpfs with %s", data);
	return 0;
}

static void mirror_teardown(struct bench *b)
{
	mapped_close_all(b);
	if (b->fig->what == MIRROR_SMALL)
		(void)tmpfs_huge(b, "within_size");
}

static int mirror_setup(struct bench *b)
{
	int ready = b->fig->what == MIRROR_SMALL ? tmpfs_huge(b, "never") : 0;

	if (ready)
		return ready;
	for (int side = 0; side < SIDES; side++) {
		int rc = mirror_open(b, (enum side)side);

		if (rc)
			return rc;
	}
	return 0;
}

/* Takes the file out of the page cache; an error if it is still there. */
static int mirror_drop(struct bench *b, const struct mapped *m)
{
	size_t pages = m->len / PAGE, left = 0;
	unsigned char *in;
	void *map;
	int rc;

	rc = -posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (rc)
		return bench_fail(b, rc, "posix_fadvise");
	in = malloc(pages);
	map = mmap(NULL, m->len, PROT_READ, MAP_SHARED, m->fd, 0);
	if (!in || map == MAP_FAILED || mincore(map, m->len, in))
		rc = bench_fail(b, -errno, "cannot see what is cached of %s", m->path);
	for (size_t i = 0; !rc && i < pages; i++)
		left += in[i] & 1;
	if (map != MAP_FAILED)
		munmap(map, m->len);
	free(in);
	if (left > pages / 100)
		rc = bench_fail(b, UNFIT, "%zu of %zu pages stay cached", left, pages);
	return rc;
}

static int mirror_sample(struct bench *b, enum side side, double *value)
{
	struct mapped *m = &mapped[side];
	uint64_t sum = 0;
	int rc = 0;
	int64_t t;

	if (side == SIDE_SPMFS && b->server.n)
		rc = mirror_drop(b, m);
	if (rc)
		return rc;
	t = now_ns();
	m->map = map_aligned(m->fd, m->len, false);
	if (!m->map)
		return bench_fail(b, -errno, "cannot map %s", m->path);
	for (size_t i = 0; i < m->len / sizeof(*m->map); i++)
		sum += m->map[i];
	t = now_ns() - t;
	munmap((void *)(uintptr_t)m->map, m->len);
	m->map = NULL;
	(void)sum;
	*value = (double)m->len / (double)MIB / ((double)t / 1e9);
	return 0;
}

const struct probe mirror_probe = {
	.setup = mirror_setup,
	.sample = mirror_sample,
	.teardown = mirror_teardown,
};
