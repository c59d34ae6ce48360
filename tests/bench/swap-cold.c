/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One page of an extent that is out, touched through a mirror's mapping. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/disk.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define PAGE 4096
#define APART 8 /* extents: a touch has what lies around it read, and what may come next */

static struct cold {
	char path[PATH_MAX];
	int fd, disk;	      /* the mirror; fio's file */
	uint32_t *order;      /* its extents, shuffled */
	size_t extent, n, at; /* bytes of one; how many are touched; the next in order */
	double rate;	      /* of fio's reads, MiB/s */
	double disk_us;	      /* of a read of 4 KiB, the last median */
} cold;

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int cold_uncache(struct bench *b, const volatile char *map)
{
	int rc = map ? madvise((void *)(uintptr_t)map, b->swap.bytes, MADV_DONTNEED) : 0;

	rc = rc ? -errno : -posix_fadvise(cold.fd, 0, 0, POSIX_FADV_DONTNEED);
	return rc ? bench_fail(b, rc, "cannot take %s out of the cache", cold.path) : 0;
}

/* All of it out, and nothing of it cached. */
static int cold_refill(struct bench *b)
{
	static uint64_t seed = 88172645463325252;
	int64_t ns;
	int rc = swap_evict(b, cold.path, &ns);

	rc = rc ? rc : cold_uncache(b, NULL);
	if (rc)
		return rc;
	for (uint32_t i = (uint32_t)cold.n - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(next_random(&seed) % (i + 1)), was = cold.order[i];

		cold.order[i] = cold.order[k];
		cold.order[k] = was;
	}
	cold.at = 0;
	return server_settle(&b->server);
}

static int cold_setup(struct bench *b)
{
	char path[PATH_MAX], extent[64];
	double rate;
	int rc = fio_prepare(b);

	if (!rc)
		rc = fio_run(b, true, &rate);
	if (rc)
		return rc;
	cold.disk = open(fio_path(b, path), O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (cold.disk < 0)
		return bench_fail(b, SKIP, "no O_DIRECT for %s: %s", path, strerror(errno));
	path_in(cold.path, bench_dir(b, SIDE_SPMFS), "cold");
	rc = swap_file_make(b, cold.path, "mirror", b->swap.bytes);
	cold.fd = rc ? -1 : open(cold.path, O_RDONLY | O_CLOEXEC);
	if (cold.fd < 0)
		return rc ? rc : bench_fail(b, -errno, "cannot open %s", cold.path);
	cold.extent = strtoull(server_feature(&b->server, "extent", extent, sizeof(extent)), NULL, 10);
	cold.n = cold.extent ? b->swap.bytes / cold.extent / APART : 0;
	cold.order = cold.n ? malloc(cold.n * sizeof(*cold.order)) : NULL;
	if (!cold.order)
		return bench_fail(b, -ENOMEM, "extents of %s", cold.path);
	for (uint32_t i = 0; i < cold.n; i++)
		cold.order[i] = i * APART + APART / 2;
	rc = bench_need_mode(b, SIDE_SPMFS, cold.path, "mirror");
	return rc ? rc : cold_refill(b);
}

static int cold_begin(struct bench *b, int round)
{
	(void)round;
	return fio_run(b, false, &cold.rate);
}

static void cold_teardown(struct bench *b)
{
	if (cold.disk > 0)
		close(cold.disk);
	if (cold.fd > 0)
		close(cold.fd);
	if (*cold.path)
		unlink(cold.path);
	free(cold.order);
	memset(&cold, 0, sizeof(cold));
	fio_remove(b);
}

/* Microseconds of one read of 4 KiB somewhere on the disk, or negative. */
static double disk_read(const struct bench *b, uint64_t *seed, void *buf)
{
	off_t at = (off_t)(next_random(seed) % (b->swap.bytes / PAGE) * PAGE);
	int64_t t = now_ns();

	return pread(cold.disk, buf, PAGE, at) == PAGE ? (double)(now_ns() - t) / 1e3 : -1;
}

static double touch_one(const volatile char *map, uint64_t *seed)
{
	size_t at = cold.order[cold.at++] * cold.extent + next_random(seed) % (cold.extent / PAGE) * PAGE;
	int64_t t = now_ns();

	(void)map[at];
	return (double)(now_ns() - t) / 1e3;
}

static int cold_touch(struct bench *b, double *us, int n, uint64_t *seed)
{
	int64_t through = server_stat(&b->server, "swap_read_through_bytes");
	int64_t in = server_stat(&b->server, "swapin_bytes");
	const volatile char *map;
	int rc = cold.at + (size_t)n > cold.n ? cold_refill(b) : 0;

	if (rc)
		return rc;
	map = map_aligned(cold.fd, b->swap.bytes, false);
	if (!map)
		return bench_fail(b, -errno, "cannot map %s", cold.path);
	if (b->fig->what == COLD_ALONE && madvise((void *)(uintptr_t)map, b->swap.bytes, MADV_RANDOM))
		rc = bench_fail(b, -errno, "madvise");
	for (int i = 0; i < n && !rc; i++) {
		us[i] = touch_one(map, seed);
		rc = cold_uncache(b, map);
	}
	munmap((void *)(uintptr_t)map, b->swap.bytes);
	through = server_stat(&b->server, "swap_read_through_bytes") - through;
	in = server_stat(&b->server, "swapin_bytes") - in;
	if (rc)
		return rc;
	if (through + in < (int64_t)n * PAGE)
		return bench_fail(b, UNFIT, "%d extents touched, %lld bytes read from swap", n,
				  (long long)(through + in));
	bench_note(b,
		   "disk: 4 KiB %.0f us, extent at %.0f MiB/s %.0f us; a touch read %lld KiB of a slot, "
		   "brought %lld",
		   cold.disk_us, cold.rate, (double)cold.extent / MIB / cold.rate * 1e6,
		   (long long)through / n / 1024, (long long)in / n / 1024);
	return 0;
}

static int cold_sample(struct bench *b, enum side side, double *value)
{
	static uint64_t seed = 0x2545f4914f6cdd1d;
	int n = b->scale.cold_reads, rc = 0;
	void *buf = aligned_alloc(PAGE, PAGE);
	double *us;

	if ((size_t)n > cold.n)
		n = (int)cold.n;
	us = calloc((size_t)n, sizeof(*us));
	if (!us || !buf)
		rc = bench_fail(b, -ENOMEM, "samples");
	else if (side == SIDE_SPMFS)
		rc = cold_touch(b, us, n, &seed);
	for (int i = 0; side == SIDE_TMPFS && i < n && !rc; i++) {
		us[i] = disk_read(b, &seed, buf);
		rc = us[i] < 0 ? bench_fail(b, -EIO, "cannot read what fio wrote") : 0;
	}
	if (!rc) {
		qsort(us, (size_t)n, sizeof(*us), by_value);
		*value = us[n / 2];
		if (side == SIDE_TMPFS) {
			cold.disk_us = *value;
			*value += (double)cold.extent / MIB / cold.rate * 1e6;
		}
	}
	free(us);
	free(buf);
	return rc;
}

const struct probe cold_probe = {
	.setup = cold_setup,
	.begin = cold_begin,
	.sample = cold_sample,
	.teardown = cold_teardown,
	.needs_server = true,
	.heavy = true,
};
