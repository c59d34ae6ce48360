/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * More than the device holds: a working set of twice its size, random 4 KiB; and what leaves while a
 * tenth is in use.
 *
 * All by mappings, with MADV_RANDOM, as whoever reads at random does it.
 *
 * tmpfs: clients and the pages of their files are limited to the device's size by a memory cgroup; the kernel
 * swaps. spmfs: the device has that size. Clients, with the pages that they cache, are limited to the same by
 * a group of their own; or (WORK_EQUAL) they cache nothing, by O_DIRECT reads and writes: both sides have the
 * same memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/disk.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define CLIENTS	  4
#define PAGE	  4096
#define AREA	  (2 * MIB) /* what is hot is so in pieces of this size */
#define HOT_SHARE 10	    /* one area of so many is hot, */
#define HOT_OPS	  90	    /* and has so many of a hundred operations */
#define WRITES	  20

/* Shared with the children. */
struct shared {
	_Atomic int stop, err;
	struct {
		_Alignas(64) _Atomic uint64_t n;
	} count[CLIENTS];
};

typedef int work_fn(const struct bench *b, enum side side, struct shared *sh, int me);

static size_t file_bytes(const struct bench *b)
{
	/* twice the device, a quarter of swap.bytes */
	return b->swap.bytes / 2 / CLIENTS / AREA * AREA;
}

static const char *work_path(const struct bench *b, enum side side, int me, char *path)
{
	char name[32];

	snprintf(name, sizeof(name), "work%d", me);
	return path_in(path, bench_dir(b, side), name);
}

/* Into the group that limits this side's clients. */
static int work_limit(const struct bench *b, enum side side)
{
	char path[PATH_MAX];
	int fd, rc;

	snprintf(path, sizeof(path), "%s.%s/cgroup.procs", b->swap.memcg,
		 side == SIDE_SPMFS ? "spmfs" : "tmpfs");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return rc;
}

/* Where nobody is killed for want of memory in the group, writes are told so while pages are on their way to
 * disk. */
static int work_write(int fd, const char *buf, off_t at)
{
	int64_t until = now_ns() + INT64_C(60000000000);

	for (;;) {
		ssize_t n = pwrite(fd, buf, AREA, at);

		if (n == (ssize_t)AREA)
			return 0;
		if ((n < 0 && errno != ENOMEM) || now_ns() > until)
			return n < 0 ? -errno : -EIO;
		pause_ms(1);
	}
}

static int work_fill(const struct bench *b, enum side side, struct shared *sh, int me)
{
	char path[PATH_MAX], *buf = malloc(AREA);
	int fd, rc = make_file(work_path(b, side, me, path));

	(void)sh;
	fd = rc ? rc : open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || !buf) {
		rc = rc ? rc : fd < 0 ? -errno : -ENOMEM;
	} else {
		memset(buf, 'f', AREA);
		rc = ftruncate(fd, (off_t)file_bytes(b)) ? -errno : 0;
	}
	for (size_t at = 0; at < file_bytes(b) && !rc; at += AREA)
		rc = work_write(fd, buf, (off_t)at);
	if (fd >= 0)
		close(fd);
	free(buf);
	return rc;
}

/* The areas of a file, the hot ones first. */
static uint32_t *work_areas(size_t n)
{
	uint32_t *area = malloc(n * sizeof(*area));
	uint64_t seed = 88172645463325252;

	for (uint32_t i = 0; area && i < n; i++) {
		uint32_t k = (uint32_t)(next_random(&seed) % (i + 1));

		area[i] = area[k];
		area[k] = i;
	}
	return area;
}

/* One client's file: mapped, or open for O_DIRECT where map is NULL. */
struct work {
	int fd;
	char *map, *buf;
	uint32_t *area;
	size_t n, len;
};

static int work_op(const struct work *w, off_t at, bool write)
{
	ssize_t done = PAGE;

	if (w->map)
		memcpy(write ? w->map + at : w->buf, write ? w->buf : w->map + at, PAGE);
	else
		done = write ? pwrite(w->fd, w->buf, PAGE, at) : pread(w->fd, w->buf, PAGE, at);
	return done == PAGE ? 0 : done < 0 ? -errno : -EIO;
}

static int work_ops(struct shared *sh, int me, const struct work *w)
{
	size_t hot = w->n > HOT_SHARE ? w->n / HOT_SHARE : 1;
	uint64_t seed = 0x2545f4914f6cdd1d + (uint64_t)me;
	int rc = 0;

	while (!rc && !atomic_load_explicit(&sh->stop, memory_order_relaxed)) {
		uint64_t r = next_random(&seed), pick = next_random(&seed),
			 page = next_random(&seed) % (AREA / PAGE);
		size_t i = r % 100 < HOT_OPS ? pick % hot : hot + pick % (w->n - hot);

		rc = work_op(w, (off_t)(w->area[i] * AREA + page * PAGE), r / 100 % 100 < WRITES);
		atomic_fetch_add_explicit(&sh->count[me].n, 1, memory_order_relaxed);
	}
	return rc;
}

static int work_client(const struct bench *b, enum side side, struct shared *sh, int me)
{
	bool uncached = side == SIDE_SPMFS && b->fig->what == WORK_EQUAL;
	struct work w = {.n = file_bytes(b) / AREA, .len = file_bytes(b), .buf = aligned_alloc(PAGE, PAGE)};
	char path[PATH_MAX];
	int rc;

	w.area = work_areas(w.n);
	w.fd = open(work_path(b, side, me, path), O_RDWR | O_CLOEXEC | (uncached ? O_DIRECT : 0));
	rc = w.fd < 0 ? -errno : !w.buf || !w.area ? -ENOMEM : 0;
	if (!rc && !uncached) {
		w.map = map_aligned(w.fd, w.len, true);
		rc = w.map && !madvise(w.map, w.len, MADV_RANDOM) ? 0 : -errno;
	}
	if (!rc)
		rc = work_ops(sh, me, &w);
	if (w.map)
		munmap(w.map, w.len);
	if (w.fd >= 0)
		close(w.fd);
	free(w.buf);
	free(w.area);
	return rc;
}

static int work_child(const struct bench *b, enum side side, struct shared *sh, int me, work_fn *fn,
		      pid_t parent)
{
	int rc;

	/* No child outlives a bench that was killed. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return 1;
	rc = work_limit(b, side);
	if (!rc)
		rc = fn(b, side, sh, me);
	if (rc)
		atomic_store(&sh->err, -rc);
	return rc ? 1 : 0;
}

static uint64_t work_done(const struct shared *sh)
{
	uint64_t sum = 0;

	for (int i = 0; i < CLIENTS; i++)
		sum += atomic_load(&sh->count[i].n);
	return sum;
}

/* A window of the clients' work, after a lead in which what is hot comes in. */
static double work_window(const struct bench *b, const struct shared *sh)
{
	uint64_t before;
	int64_t t;

	pause_ms(b->scale.work_ms);
	before = work_done(sh);
	t = now_ns();
	pause_ms(b->scale.work_ms);
	return (double)(work_done(sh) - before) / ((double)(now_ns() - t) / 1e9);
}

/* One that waits for memory which does not come is ended after five minutes; the kernel would end it at once.
 */
static bool work_killed(pid_t pid, int *rc)
{
	int64_t until = now_ns() + INT64_C(300000000000);
	int status = 0;
	pid_t got;

	while (!(got = waitpid(pid, &status, WNOHANG)) && now_ns() < until)
		pause_ms(2);
	if (!got) {
		kill(pid, SIGKILL);
		got = waitpid(pid, &status, 0);
	}
	if (!*rc && (got != pid || status))
		*rc = -EIO;
	return got == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* All clients do fn; with @rate they do it for as long as it takes to measure. */
static int work_run(struct bench *b, enum side side, work_fn *fn, double *rate)
{
	struct shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid[CLIENTS], parent = getpid();
	int rc = 0, n;
	bool killed = false;

	if (sh == MAP_FAILED)
		return -errno;
	fflush(NULL);
	for (n = 0; n < CLIENTS && !rc; n++) {
		pid[n] = fork();
		if (!pid[n])
			_exit(work_child(b, side, sh, n, fn, parent));
		rc = pid[n] < 0 ? -errno : 0;
	}
	if (rc)
		n--;
	else if (rate)
		*rate = work_window(b, sh);
	atomic_store(&sh->stop, 1);
	for (int i = 0; i < n; i++)
		killed |= work_killed(pid[i], &rc);
	if (rc && atomic_load(&sh->err))
		rc = -atomic_load(&sh->err);
	munmap(sh, sizeof(*sh));
	if (killed && side == SIDE_TMPFS)
		return bench_fail(b, SKIP, "clients of tmpfs are killed for want of memory in their group");
	return rc ? bench_fail(b, rc, "a client in %s", bench_dir(b, side)) : 0;
}

static void work_teardown(struct bench *b)
{
	char path[PATH_MAX];

	if (b->swap.why)
		return;
	for (int side = 0; side < SIDES; side++)
		for (int i = 0; i < CLIENTS; i++)
			unlink(work_path(b, (enum side)side, i, path));
	kernel_swap_off(b);
}

static int work_setup(struct bench *b)
{
	int rc;

	if (!*b->swap.memcg)
		return bench_fail(b, SKIP, "no memory cgroup to limit tmpfs by");
	rc = kernel_swap_on(b);
	for (int side = 0; side < SIDES && !rc; side++)
		rc = work_run(b, (enum side)side, work_fill, NULL);
	return rc;
}

static int work_sample(struct bench *b, enum side side, double *value)
{
	int64_t out = server_stat(&b->server, "swapout_bytes"), in = server_stat(&b->server, "swapin_bytes"),
		through = server_stat(&b->server, "swap_read_through_bytes");
	int rc = work_run(b, side, work_client, value);

	if (rc || side == SIDE_TMPFS)
		return rc;
	bench_note(b,
		   "%d clients on %zu MiB; tmpfs and clients in %zu MiB; spmfs: a device of %zu MiB, %s; "
		   "out %lld, in %lld, read in slots %lld MiB",
		   CLIENTS, CLIENTS * file_bytes(b) / MIB, b->swap.bytes / 4 / MIB, b->swap.bytes / 4 / MIB,
		   b->fig->what == WORK_EQUAL ? "clients cache nothing"
					      : "clients and their cache in as much RAM",
		   (long long)(server_stat(&b->server, "swapout_bytes") - out) / (long long)MIB,
		   (long long)(server_stat(&b->server, "swapin_bytes") - in) / (long long)MIB,
		   (long long)(server_stat(&b->server, "swap_read_through_bytes") - through) / (long long)MIB);
	return 0;
}

const struct probe workset_probe = {
	.setup = work_setup,
	.sample = work_sample,
	.teardown = work_teardown,
	.needs_server = true,
	.heavy = true,
	.restless = true,
};

/* ---- what leaves while a tenth is in use ---- */

static size_t hot_bytes(const struct bench *b)
{
	return b->swap.bytes / 2 / HOT_SHARE / AREA * AREA;
}

/* Reads a page of each area, again and again, past the client's cache. */
static int hot_reader(const struct bench *b, const char *path, _Atomic int *stop)
{
	char *buf = aligned_alloc(PAGE, PAGE);
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC), rc = fd < 0 || !buf ? -errno : 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!rc && !atomic_load(stop)) {
		for (size_t at = 0; at < hot_bytes(b) && !rc; at += AREA)
			rc = pread(fd, buf, PAGE, (off_t)at) == PAGE ? 0 : -EIO;
		pause_ms(20);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return rc ? 1 : 0;
}

/*
 * The cold nine tenths, in files as large as the hot one, over as long as a window: the clock of last uses
 * counts quarters of a second, in which all of a small device could be written.
 */
static int cold_files(struct bench *b, bool make)
{
	char name[32], path[PATH_MAX];
	int rc = 0;

	for (int i = 1; i < HOT_SHARE && !rc; i++) {
		snprintf(name, sizeof(name), "idle%d", i);
		path_in(path, bench_dir(b, SIDE_SPMFS), name);
		if (!make) {
			unlink(path);
			continue;
		}
		rc = swap_file_make(b, path, "mirror", hot_bytes(b));
		pause_ms(b->scale.work_ms / (HOT_SHARE - 1));
	}
	return rc;
}

static int hot_run(struct bench *b, const char *path, _Atomic int *stop)
{
	int rc, status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(hot_reader(b, path, stop));
	if (pid < 0)
		return bench_fail(b, -errno, "cannot start a reader");
	rc = cold_files(b, true);
	atomic_store(stop, 1);
	if ((waitpid(pid, &status, 0) != pid || status) && !rc)
		rc = bench_fail(b, -EIO, "the reader of %s", path);
	return rc;
}

static int hot_sample(struct bench *b, enum side side, double *value)
{
	_Atomic int *stop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t out = server_stat(&b->server, "swapout_bytes"), hot;
	int64_t in = server_stat(&b->server, "swapin_bytes");
	char path[PATH_MAX];
	int rc;

	if (stop == MAP_FAILED)
		return bench_fail(b, -errno, "shared memory");
	path_in(path, bench_dir(b, side), "hot");
	rc = swap_file_make(b, path, "mirror", hot_bytes(b));
	if (!rc)
		rc = hot_run(b, path, stop);
	munmap(stop, PAGE);
	/* of the hot file what came back, nobody reading another, and what is out now */
	hot = server_stat(&b->server, "swapin_bytes") - in + swapped_bytes(path);
	out = server_stat(&b->server, "swapout_bytes") - out;
	unlink(path);
	(void)cold_files(b, false);
	if (!rc && out < (int64_t)b->swap.bytes / 8)
		return bench_fail(b, UNFIT, "only %lld MiB left", (long long)(out / (int64_t)MIB));
	bench_note(b, "%lld MiB left, %lld of them of the hot tenth", (long long)(out / (int64_t)MIB),
		   (long long)(hot / (int64_t)MIB));
	*value = 100.0 * (double)hot / (double)out;
	return rc;
}

const struct probe hot_probe = {
	.sample = hot_sample,
	.once = true,
	.spmfs_only = true,
	.needs_server = true,
	.restless = true,
};
