/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of swap: files leave and come back, what that costs the server, what the extent map costs. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/disk.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define SPARSE_BYTES (UINT64_C(1) << 40)
#define FIRST	     24 /* extents: more than a head and its first leaf hold */

static char moved_path[PATH_MAX]; /* "" without a file */

static double rate_of(const struct bench *b, int64_t ns)
{
	return (double)b->swap.bytes / (double)MIB / ((double)ns / 1e9);
}

/* Swap that goes through the page cache is nothing to compare. */
static int need_direct_io(struct bench *b)
{
	char how[600];

	if (strstr(server_feature(&b->server, "swap", how, sizeof(how)), "buffered"))
		return bench_fail(b, SKIP, "no O_DIRECT for swap files in %s", b->swap.disk);
	return 0;
}

int64_t swapped_bytes(const char *path)
{
	char buf[64];

	return strtoll(file_told(path, "swapped_bytes", buf, sizeof(buf)), NULL, 10);
}

int swap_evict(struct bench *b, const char *path, int64_t *ns)
{
	int64_t until = now_ns() + INT64_C(10000000000), start;
	int fd, file = open(path, O_PATH | O_CLOEXEC), rc;
	char control[PATH_MAX], text[96];
	struct stat st;

	if (file < 0 || fstat(file, &st))
		return bench_fail(b, -errno, "cannot look at %s", path);
	snprintf(text, sizeof(text), "%" PRIu64 " 0 %" PRId64 "\n", (uint64_t)st.st_ino, (int64_t)st.st_size);
	fd = open(path_in(control, b->server.root, ".spm/evict"), O_WRONLY | O_CLOEXEC);
	rc = fd < 0 ? -errno : -EBUSY;
	/* its last close is told to the server a moment after it was made */
	while (rc == -EBUSY && now_ns() < until) {
		start = now_ns();
		rc = write(fd, text, strlen(text)) < 0 ? -errno : 0;
		*ns = now_ns() - start;
		if (rc)
			pause_ms(5);
	}
	if (fd >= 0)
		close(fd);
	close(file);
	return rc ? bench_fail(b, rc, "cannot evict %s", path) : 0;
}

int swap_file_make(struct bench *b, const char *path, const char *map, size_t len)
{
	int fd, rc = make_file(path);

	if (!rc && setxattr(path, "user.spm.map", map, strlen(map), 0))
		rc = -errno;
	fd = rc ? rc : open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return bench_fail(b, rc ? rc : -errno, "cannot make %s", path);
	rc = ftruncate(fd, (off_t)len) ? -errno : fill_file(fd, len);
	close(fd);
	return rc ? bench_fail(b, rc, "cannot write %s", path) : 0;
}

/* Everything is to leave, or the time says nothing. */
static int move_out(struct bench *b, int64_t *ns)
{
	int rc = swap_evict(b, moved_path, ns);
	int64_t out = rc ? 0 : swapped_bytes(moved_path);

	if (!rc && out < (int64_t)b->swap.bytes)
		return bench_fail(b, UNFIT, "%lld of %zu bytes are out", (long long)out, b->swap.bytes);
	return rc;
}

/* Opened for reading, to be mapped. */
static int move_in(struct bench *b, int64_t *ns)
{
	int64_t start = now_ns();
	int fd = open(moved_path, O_RDONLY | O_CLOEXEC), rc;

	*ns = now_ns() - start;
	if (fd < 0)
		return bench_fail(b, -errno, "cannot open %s", moved_path);
	rc = bench_need_mode(b, SIDE_SPMFS, moved_path, "direct");
	if (!rc && swapped_bytes(moved_path))
		rc = bench_fail(b, UNFIT, "%s is open, and not here", moved_path);
	close(fd);
	return rc;
}

static void moved_remove(struct bench *b)
{
	fio_remove(b);
	paged_remove(b);
	kernel_swap_off(b);
	if (*moved_path)
		unlink(moved_path);
	moved_path[0] = 0;
}

/* Once out and in again: the first use of disk blocks and of memory costs more than any other. */
static int moved_prepare(struct bench *b)
{
	int64_t ns;
	int rc = need_direct_io(b);

	if (rc)
		return rc;
	path_in(moved_path, bench_dir(b, SIDE_SPMFS), "moved");
	rc = swap_file_make(b, moved_path, "direct", b->swap.bytes);
	if (!rc)
		rc = move_out(b, &ns);
	return rc ? rc : move_in(b, &ns);
}

static int moved_setup(struct bench *b)
{
	double rate;
	int rc;

	if (b->fig->what == BESIDE_FIO) {
		rc = fio_prepare(b);
		if (!rc)
			rc = fio_run(b, true, &rate);
	} else {
		rc = kernel_swap_on(b);
		if (!rc)
			rc = paged_prepare(b);
	}
	return rc ? rc : moved_prepare(b);
}

static int out_sample(struct bench *b, enum side side, double *value)
{
	int64_t ns = 0;
	int rc = 0;

	if (side == SIDE_TMPFS && b->fig->what == BESIDE_FIO)
		return fio_run(b, true, value);
	if (side == SIDE_TMPFS)
		return paged_out(b, value);
	if (swapped_bytes(moved_path))
		rc = move_in(b, &ns);
	if (!rc)
		rc = server_settle(&b->server);
	if (!rc)
		rc = move_out(b, &ns);
	*value = rate_of(b, ns);
	return rc;
}

const struct probe out_probe = {
	.setup = moved_setup,
	.sample = out_sample,
	.teardown = moved_remove,
	.needs_server = true,
	.heavy = true,
};

static int in_sample(struct bench *b, enum side side, double *value)
{
	int64_t ns = 0;
	int rc = 0;

	if (side == SIDE_TMPFS && b->fig->what == BESIDE_FIO)
		return fio_run(b, false, value);
	if (side == SIDE_TMPFS) {
		rc = paged_out(b, value);
		if (rc)
			return rc;
		heat_memory(b->swap.bytes);
		paged_in(b, value);
		return 0;
	}
	if (!swapped_bytes(moved_path))
		rc = move_out(b, &ns);
	if (!rc)
		rc = server_settle(&b->server);
	heat_memory(b->swap.bytes);
	if (!rc)
		rc = move_in(b, &ns);
	*value = rate_of(b, ns);
	return rc;
}

const struct probe in_probe = {
	.setup = moved_setup,
	.sample = in_sample,
	.teardown = moved_remove,
	.needs_server = true,
	.heavy = true,
};

static int cpu_sample(struct bench *b, enum side side, double *value)
{
	int64_t used, ns;
	int rc = swapped_bytes(moved_path) ? move_in(b, &ns) : 0;

	(void)side;
	if (!rc)
		rc = server_settle(&b->server);
	used = server_cpu_ns(&b->server);
	if (!rc)
		rc = move_out(b, &ns);
	used = server_cpu_ns(&b->server) - used;
	*value = (double)used / (double)b->swap.bytes;
	return rc;
}

const struct probe swap_cpu_probe = {
	.setup = moved_prepare,
	.sample = cpu_sample,
	.teardown = moved_remove,
	.spmfs_only = true,
	.needs_server = true,
	.heavy = true,
};

/* ---- the extent map ---- */

/* A page here and there, n in all, one in each nth part of the file. */
static int scatter(const char *path, uint64_t bytes, uint64_t n)
{
	static const char page[4 * KIB] = "page";
	uint64_t part = bytes / n, seed = 88172645463325252;
	int fd, rc = make_file(path);

	if (!rc && setxattr(path, "user.spm.map", "mirror", 6, 0))
		rc = -errno;
	fd = rc ? rc : open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return rc ? rc : -errno;
	rc = ftruncate(fd, (off_t)bytes) ? -errno : 0;
	for (uint64_t i = 0; i < n && !rc; i++) {
		uint64_t at = i * part + next_random(&seed) % (part - sizeof(page));

		if (pwrite(fd, page, sizeof(page), (off_t)(at & ~(uint64_t)(sizeof(page) - 1))) !=
		    sizeof(page))
			rc = -errno;
	}
	close(fd);
	return rc;
}

static uint64_t extent_bytes(const struct bench *b)
{
	char buf[64];

	return strtoull(server_feature(&b->server, "extent", buf, sizeof(buf)), NULL, 10);
}

/* What the first file costs is no extent's: tables that grow by pages. It is there until the end. */
static int map_setup(struct bench *b)
{
	int64_t ns;
	int rc;

	path_in(moved_path, bench_dir(b, SIDE_SPMFS), "first");
	rc = scatter(moved_path, FIRST * extent_bytes(b), FIRST);
	return rc ? bench_fail(b, rc, "cannot write %s", moved_path) : swap_evict(b, moved_path, &ns);
}

static int map_sample(struct bench *b, enum side side, double *value)
{
	int64_t before = server_stat(&b->server, "swap_map_bytes"), after, out, ns;
	bool sparse = b->fig->what == MAP_SPARSE;
	uint64_t n = extent_bytes(b);
	char path[PATH_MAX];
	int rc;

	n = n ? b->swap.bytes / n : 0;
	if (before < 0 || !n)
		return bench_fail(b, -EIO, "no swap_map_bytes, or no extent, in %s/.spm", b->server.root);
	path_in(path, bench_dir(b, side), sparse ? "sparse" : "dense");
	rc = sparse ? scatter(path, SPARSE_BYTES, n) : swap_file_make(b, path, "mirror", b->swap.bytes);
	if (rc)
		bench_fail(b, rc, "cannot write %s", path);
	else
		rc = swap_evict(b, path, &ns);
	after = server_stat(&b->server, "swap_map_bytes");
	out = swapped_bytes(path);
	unlink(path);
	if (!rc && out < (int64_t)(sparse ? n * 4 * KIB : b->swap.bytes))
		rc = bench_fail(b, UNFIT, "only %lld bytes of %s are out", (long long)out, path);
	if (!rc && after <= before)
		rc = bench_fail(b, UNFIT, "the extent map does not grow for %llu extents",
				(unsigned long long)n);
	bench_note(b, "%llu extents; the map had %lld bytes before, %lld then", (unsigned long long)n,
		   (long long)before, (long long)after);
	*value = (double)(after - before) / (double)(sparse ? MIB : n);
	return rc;
}

const struct probe swap_map_probe = {
	.setup = map_setup,
	.sample = map_sample,
	.teardown = moved_remove,
	.once = true,
	.spmfs_only = true,
	.needs_server = true,
};
