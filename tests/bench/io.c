/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of read and write, of plain and of served opens. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define CHECK_CALLS 256

static struct {
	char path[SIDES][PATH_MAX];
	int fd[SIDES];
	char *buf;
} io;

/* A call of the figure in hand at some place of the file. */
static int io_call(const struct bench *b, enum side side, uint64_t where)
{
	int what = b->fig->what;
	size_t len = what == IO_READ_1M || what == IO_WRITE_1M ? MIB : 4 * KIB;
	off_t at = (off_t)(where % (b->scale.io_bytes / len) * len);
	ssize_t n;

	if (what == IO_READ_1M || what == IO_PREAD_4K)
		n = pread(io.fd[side], io.buf, len, at);
	else
		n = pwrite(io.fd[side], io.buf, len, at);
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -EIO;
	return 0;
}

/* Whether the open is of the kind that the figure speaks of: a plain one sends nothing to the server. */
static int io_check(struct bench *b)
{
	int64_t before = server_stat(&b->server, "requests"), sent;

	if (!b->server.n)
		return 0;
	for (int i = 0; i < CHECK_CALLS; i++) {
		int rc = io_call(b, SIDE_SPMFS, (uint64_t)i);

		if (rc)
			return bench_fail(b, rc, "%s", io.path[SIDE_SPMFS]);
	}
	sent = server_stat(&b->server, "requests") - before;
	if (before < 0)
		return bench_fail(b, (int)before, "no requests line in .spm/stat");
	if (b->fig->where == SERVED ? sent < CHECK_CALLS : sent > CHECK_CALLS / 2)
		return bench_fail(b, UNFIT, "the open is not %s: %d calls made %lld requests",
				  b->fig->where == SERVED ? "served" : "plain", CHECK_CALLS, (long long)sent);
	return 0;
}

static int io_setup(struct bench *b)
{
	io.fd[SIDE_TMPFS] = io.fd[SIDE_SPMFS] = -1;
	io.buf = aligned_alloc(4096, MIB);
	if (!io.buf)
		return -ENOMEM;
	memset(io.buf, 0x5a, MIB);
	for (int i = 0; i < SIDES; i++) {
		enum side side = (enum side)i;
		char *path = io.path[side];
		int rc = make_file(path_in(path, bench_dir(b, side), "io"));

		if (rc)
			return bench_fail(b, rc, "cannot make %s", path);
		io.fd[side] = open(path, O_RDWR | O_CLOEXEC);
		if (io.fd[side] < 0)
			return bench_fail(b, -errno, "cannot open %s", path);
		rc = commit_file(io.fd[side], b->scale.io_bytes);
		if (!rc)
			rc = fill_file(io.fd[side], b->scale.io_bytes);
		if (rc)
			return bench_fail(b, rc, "cannot write %s", path);
		rc = bench_need_mode(b, side, path, "direct");
		if (rc)
			return rc;
	}
	return io_check(b);
}

static int io_sample(struct bench *b, enum side side, double *value)
{
	bool big = b->fig->what == IO_READ_1M || b->fig->what == IO_WRITE_1M;
	int n = big ? (int)(b->scale.io_bytes / MIB) : b->scale.io_ops, rc = 0;
	uint64_t seed = 88172645463325252;
	int64_t t = now_ns();

	/* Large calls go through the file in order, small ones anywhere. */
	for (int i = 0; i < n && !rc; i++)
		rc = io_call(b, side, big ? (uint64_t)i : next_random(&seed));
	*value = (double)(now_ns() - t) / 1e3 / n;
	return rc ? bench_fail(b, rc, "%s", io.path[side]) : 0;
}

static void io_teardown(struct bench *b)
{
	for (int side = 0; side < SIDES; side++) {
		if (io.fd[side] < 0)
			continue;
		close(io.fd[side]);
		unlink(io.path[side]);
	}
	free(io.buf);
	io.buf = NULL;
}

const struct probe io_probe = {
	.setup = io_setup,
	.sample = io_sample,
	.teardown = io_teardown,
};
