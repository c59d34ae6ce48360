/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures of a pool (core/pool.h), without a mount: a memfd stands in for the device. In the column of tmpfs
 * is what the C library does with as much memory of the same kind and as many threads.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/pool.h"
#include "tests/bench/bench.h"
#include "tests/bench/util.h"

#define EXTENT  (2 * MIB)
#define TIB     (UINT64_C(1) << 40)
#define THREADS 2
#define PAIRS   200000

static const struct spm_pool_file mine = { .ino = 1 };

static struct {
	struct spm_pool *p;
	struct spm_pool_device dev;
	int state;
	uint8_t *memory; /* for the other side */
	size_t extents;
} rig = { .state = -1, .dev.fd = -1 };

static void teardown(struct bench *b)
{
	(void)b;
	if (rig.p)
		spm_pool_detach(rig.p);
	if (rig.state >= 0)
		close(rig.state);
	if (rig.dev.fd >= 0)
		close(rig.dev.fd);
	if (rig.memory)
		munmap(rig.memory, rig.extents * EXTENT);
	rig.p = NULL;
	rig.memory = NULL;
	rig.state = rig.dev.fd = -1;
}

static int make_pool(struct bench *b, uint64_t bytes)
{
	static const uint8_t uuid[16] = "a pool measured";
	struct spm_pool_opts o = { .zeroers = THREADS };
	int rc;

	rig.dev = (struct spm_pool_device){ .fd = memfd_create("device", MFD_CLOEXEC),
					    .bytes = bytes + 4096,
					    .align = 4096 };
	rig.state = memfd_create("state", MFD_CLOEXEC);
	if (rig.dev.fd < 0 || rig.state < 0 || ftruncate(rig.dev.fd, (off_t)rig.dev.bytes))
		return bench_fail(b, -errno, "the file that stands in for a device");
	rc = spm_pool_create(rig.state, &rig.dev, EXTENT, uuid);
	if (!rc)
		rc = spm_pool_attach(&rig.p, rig.state, &rig.dev, &o);
	return rc ? bench_fail(b, rc, "a pool of %llu MiB", (unsigned long long)bytes / MIB) : 0;
}

/* With memory that has been touched, on both sides. */
static int setup_filled(struct bench *b)
{
	int fd = memfd_create("memory", MFD_CLOEXEC), rc;

	rig.extents = b->scale.io_bytes / EXTENT;
	rc = make_pool(b, rig.extents * EXTENT);
	if (!rc)
		rc = spm_pool_commit(rig.p, &mine, 0, rig.extents * EXTENT, NULL, NULL);
	if (!rc && (fd < 0 || ftruncate(fd, (off_t)(rig.extents * EXTENT))))
		rc = -errno;
	if (!rc)
		rig.memory = map_aligned(fd, rig.extents * EXTENT, true);
	if (fd >= 0)
		close(fd);
	if (rc || !rig.memory)
		return bench_fail(b, rc ? rc : -errno, "memory to measure with");
	memset(rig.memory, 1, rig.extents * EXTENT);
	return 0;
}

/* -- zeroing -- */

static void *zero_part(void *arg)
{
	size_t part = *(size_t *)arg;

	for (size_t e = part; e < rig.extents; e += THREADS)
		memset(rig.memory + e * EXTENT, 0, EXTENT);
	return NULL;
}

static int zero_by_memset(void)
{
	pthread_t id[THREADS];
	size_t part[THREADS];
	int rc = 0, n;

	for (n = 0; n < THREADS && !rc; n++) {
		part[n] = (size_t)n;
		rc = pthread_create(&id[n], NULL, zero_part, &part[n]);
	}
	for (int i = 0; i < n - !!rc; i++)
		pthread_join(id[i], NULL);
	return -rc;
}

/* All that a file had; returns when the last extent of it is clean. */
static int zero_by_pool(void)
{
	struct spm_pool_stats st;
	int rc = spm_pool_start(rig.p);

	for (int n = 0; n < 600000 && !rc; n++) {
		usleep(100);
		spm_pool_stats(rig.p, &st, false);
		if (st.clean_bytes >= rig.extents * EXTENT)
			return 0;
	}
	return rc ? rc : -ETIMEDOUT;
}

static int sample_zero(struct bench *b, enum side side, double *value)
{
	int rc = 0;
	int64_t began;

	if (side == SIDE_SPMFS) {
		rc = spm_pool_commit(rig.p, &mine, 0, rig.extents * EXTENT, NULL, NULL);
		spm_pool_remove(rig.p, &mine);
	}
	began = now_ns();
	if (!rc)
		rc = side == SIDE_SPMFS ? zero_by_pool() : zero_by_memset();
	*value = (double)(rig.extents * EXTENT) / MIB / ((double)(now_ns() - began) / 1e9);
	if (side == SIDE_SPMFS)
		spm_pool_stop(rig.p);
	return rc ? bench_fail(b, rc, "zeroing") : 0;
}

/* -- compaction -- */

/* The lower half is given up, so that all of the upper one moves. */
static int sample_compact(struct bench *b, enum side side, double *value)
{
	size_t half = rig.extents / 2, moved = half * EXTENT;
	int64_t began;
	int rc = 0;

	if (side == SIDE_SPMFS) {
		/* in order from the bottom, so that the first half of the file is the lower one */
		spm_pool_remove(rig.p, &mine);
		rc = spm_pool_commit(rig.p, &mine, 0, rig.extents * EXTENT, NULL, NULL);
		if (!rc)
			rc = spm_pool_punch(rig.p, &mine, 0, half * EXTENT);
	}
	began = now_ns();
	if (side == SIDE_SPMFS && !rc) {
		struct spm_pool_compact c = { .bps = 0 };

		rc = spm_pool_compact(rig.p, &c);
		moved = c.moved_bytes;
	} else {
		for (size_t e = 0; e < half; e++)
			memcpy(rig.memory + e * EXTENT, rig.memory + (rig.extents - 1 - e) * EXTENT, EXTENT);
	}
	*value = (double)moved / MIB / ((double)(now_ns() - began) / 1e9);
	if (rc)
		return bench_fail(b, rc, "compaction");
	if (side == SIDE_SPMFS && (moved < half * EXTENT || spm_pool_free_run(rig.p) != (rig.extents - half) * EXTENT))
		return bench_fail(b, UNFIT, "%zu MiB were moved, and what is free is not one run", moved / MIB);
	return 0;
}

/* -- allocation, and what is known of extents -- */

static int setup_large(struct bench *b)
{
	return make_pool(b, TIB);
}

/* Its zeroing apart, which is a figure of its own: taken unzeroed, as for what comes back from swap. */
static void *allocate(void *arg)
{
	struct spm_pool_file f = { .ino = 2 + *(unsigned int *)arg };
	uint32_t d;
	void *at;
	int rc = 0;

	for (uint64_t n = 0; n < PAIRS && !rc; n += 1000) {
		for (uint64_t e = n; e < n + 1000 && !rc; e++) {
			rc = spm_pool_take(rig.p, 0, &d, &at);
			if (!rc)
				rc = spm_pool_give(rig.p, &f, e, d);
		}
		spm_pool_remove(rig.p, &f);
	}
	return (void *)(intptr_t)rc; /* NOLINT(performance-no-int-to-ptr): a number all the way */
}

static int sample_alloc(struct bench *b, enum side side, double *value)
{
	int threads = b->fig->what, rc = 0, n;
	unsigned int number[THREADS];
	pthread_t id[THREADS];
	int64_t began = now_ns();
	void *end;

	(void)side;
	for (n = 0; n < threads && !rc; n++) {
		number[n] = (unsigned int)n;
		rc = -pthread_create(&id[n], NULL, allocate, &number[n]);
	}
	for (int i = 0; i < n - !!rc; i++) {
		pthread_join(id[i], &end);
		rc = rc ? rc : (int)(intptr_t)end;
	}
	*value = (double)(now_ns() - began) / PAIRS / threads;
	return rc ? bench_fail(b, rc, "allocation") : 0;
}

/* Each extent is a file's, of 1,000 or of its own. */
static int sample_metadata(struct bench *b, enum side side, double *value)
{
	struct spm_pool_stats st;
	int rc = 0;

	(void)side;
	for (uint64_t i = 0; i < TIB / EXTENT && !rc; i++) {
		struct spm_pool_file f = { .ino = 10 + (b->fig->what == POOL_SMALL ? i : i / 500) };
		uint32_t d;
		void *at;

		rc = spm_pool_take(rig.p, 0, &d, &at);
		if (!rc)
			rc = spm_pool_give(rig.p, &f, i, d);
	}
	spm_pool_stats(rig.p, &st, true);
	*value = (double)st.metadata_bytes / MIB;
	return rc ? bench_fail(b, rc, "a full pool") : 0;
}

const struct probe pool_zero_probe = { .setup = setup_filled, .sample = sample_zero, .teardown = teardown };
const struct probe pool_compact_probe = { .setup = setup_filled,
					  .sample = sample_compact,
					  .teardown = teardown };
const struct probe pool_alloc_probe = { .setup = setup_large, .sample = sample_alloc, .teardown = teardown,
					.spmfs_only = true };
const struct probe pool_metadata_probe = { .setup = setup_large, .sample = sample_metadata, .teardown = teardown,
					   .spmfs_only = true, .once = true };
