/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of slices: what many of them cost, and how fast memory moves from one to another. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define STRUCT_FILE 256 /* what a descriptor costs the kernel: its struct file, its dentry and its inode */
#define DENTRY	    192
#define INODE	    800
#define LIST_MAX    (8 * MIB)

/* Writes @text to the control file @name. */
static int tell(struct bench *b, const char *name, const char *text)
{
	char path[PATH_MAX];
	int fd = open(path_in(path, b->server.root, name), O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		rc = bench_fail(b, -errno, "'%s' to %s", text, name);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* ---- many ---- */

static struct {
	bool done;
	int rc;
	double create_s, list_ms, df_us, takeover_ms, remove_s, bytes, threads;
	char why[256];
} many;

static int each(struct bench *b, const char *verb)
{
	char text[64];
	int rc = 0;

	for (int i = 0; i < b->scale.slices && !rc; i++) {
		snprintf(text, sizeof(text), "%s bench%04d", verb, i);
		rc = tell(b, ".spm/slice", text);
	}
	return rc;
}

static int threads_of(const struct bench *b)
{
	char path[64];
	struct dirent *e;
	int n = 0;

	for (int i = 0; i < b->server.n; i++) {
		DIR *d;

		snprintf(path, sizeof(path), "/proc/%d/task", (int)b->server.pid[i]);
		d = opendir(path);
		while (d && (e = readdir(d)))
			n += e->d_name[0] != '.';
		if (d)
			closedir(d);
	}
	return n;
}

/* All of the list, in one go. */
static int time_list(struct bench *b)
{
	char path[PATH_MAX], *text = malloc(LIST_MAX);
	size_t len = 0;
	int64_t t = now_ns();
	int fd, lines = 0;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	fd = open(path_in(path, b->server.root, ".spm/slices"), O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && len < LIST_MAX && (n = read(fd, text + len, LIST_MAX - len)) > 0)
		len += (size_t)n;
	many.list_ms = (double)(now_ns() - t) / 1e6;
	if (fd >= 0)
		close(fd);
	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	free(text);
	return lines == b->scale.slices
		       ? 0
		       : bench_fail(b, UNFIT, "the list has %d lines for %d slices", lines, b->scale.slices);
}

static int time_df(struct bench *b)
{
	struct statvfs sv;
	int64_t t = now_ns();

	for (int i = 0; i < 100; i++)
		if (statvfs(b->server.root, &sv))
			return bench_fail(b, -errno, "statfs");
	many.df_us = (double)(now_ns() - t) / 1e3 / 100;
	return 0;
}

/* What a new worker needs to open them all, as a mount does that finds them in a kept region. */
static int time_opening(struct bench *b)
{
	char path[PATH_MAX], buf[64];
	pid_t pid = (pid_t)strtol(server_feature(&b->server, "worker_pid", buf, sizeof(buf)), NULL, 10);
	struct stat st;
	int64_t t = now_ns();

	if (pid <= 0 || kill(pid, SIGKILL))
		return bench_fail(b, -ESRCH, "cannot kill the worker");
	if (stat(path_in(path, b->server.root, "bench0000/none"), &st) >= 0 || errno != ENOENT)
		return bench_fail(b, UNFIT, "a slice after the death: %s", strerror(errno));
	many.takeover_ms = (double)(now_ns() - t) / 1e6;
	server_find(&b->server, bench_dir(b, SIDE_SPMFS));
	return 0;
}

static int many_run(struct bench *b)
{
	int64_t memory, t;
	int fds, threads, rc = server_settle(&b->server);

	if (rc)
		return rc;
	memory = server_memory(&b->server);
	fds = server_descriptors(&b->server);
	threads = threads_of(b);
	t = now_ns();
	rc = each(b, "create");
	many.create_s = (double)(now_ns() - t) / 1e9;
	if (!rc)
		rc = server_settle(&b->server);
	memory = server_memory(&b->server) - memory;
	fds = server_descriptors(&b->server) - fds;
	many.threads = threads_of(b) - threads;
	many.bytes = ((double)memory + (double)fds * (STRUCT_FILE + DENTRY + INODE)) / b->scale.slices;
	if (!rc)
		rc = time_list(b);
	if (!rc)
		rc = time_df(b);
	if (!rc)
		rc = time_opening(b);
	t = now_ns();
	if (!rc)
		rc = each(b, "remove");
	many.remove_s = (double)(now_ns() - t) / 1e9;
	return rc;
}

static int many_sample(struct bench *b, enum side side, double *value)
{
	(void)side;
	if (!many.done) {
		many.rc = many_run(b);
		many.done = true;
		if (many.rc)
			snprintf(many.why, sizeof(many.why), "%s", b->why);
	}
	if (many.rc) {
		snprintf(b->why, sizeof(b->why), "%s", many.why);
		return many.rc;
	}
	bench_note(b, "%d slices; made in %.2f s, removed in %.2f s", b->scale.slices, many.create_s,
		   many.remove_s);
	switch (b->fig->what) {
	case SLICES_LIST:
		*value = many.list_ms;
		break;
	case SLICES_DF:
		*value = many.df_us;
		break;
	case SLICES_OPEN:
		*value = many.takeover_ms;
		break;
	case SLICES_MEMORY:
		*value = many.bytes / (double)KIB;
		break;
	default:
		*value = many.threads;
	}
	return 0;
}

const struct probe slices_probe = {
	.sample = many_sample,
	.once = true,
	.spmfs_only = true,
	.needs_server = true,
};

/* ---- moving ---- */

static char from_path[PATH_MAX], to_path[PATH_MAX];

/* All of the file on the device again; nobody uses it then. */
static int come_back(struct bench *b)
{
	int fd = open(from_path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return bench_fail(b, -errno, "cannot open %s", from_path);
	close(fd);
	if (swapped_bytes(from_path))
		return bench_fail(b, UNFIT, "%s was open, and is not here", from_path);
	return server_settle(&b->server);
}

static int moving_setup(struct bench *b)
{
	int rc = tell(b, ".spm/slice", "create benchfrom");

	if (!rc)
		rc = tell(b, ".spm/slice", "create benchto");
	path_in(from_path, b->server.root, "benchfrom/f");
	path_in(to_path, b->server.root, "benchto/f");
	if (!rc)
		rc = swap_file_make(b, from_path, "direct", b->swap.bytes);
	return rc;
}

/* The same leaves by hand, or since another slice allocates as much. */
static int moving_sample(struct bench *b, enum side side, double *value)
{
	int64_t out = 0, ns = 0, t;
	int fd = -1, rc = come_back(b);

	if (rc)
		return rc;
	out = server_stat(&b->server, "swapout_bytes");
	if (side == SIDE_TMPFS) {
		rc = swap_evict(b, from_path, &ns);
	} else {
		fd = open(to_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		t = now_ns();
		if (fd < 0 || fallocate(fd, 0, 0, (off_t)b->swap.bytes))
			rc = bench_fail(b, -errno, "cannot allocate %s", to_path);
		ns = now_ns() - t;
	}
	out = server_stat(&b->server, "swapout_bytes") - out;
	if (fd >= 0) {
		close(fd);
		unlink(to_path);
	}
	if (!rc && out < (int64_t)b->swap.bytes / 2)
		rc = bench_fail(b, UNFIT, "only %lld bytes have left", (long long)out);
	*value = (double)out / (double)MIB / ((double)ns / 1e9);
	return rc ? rc : server_settle(&b->server);
}

static void moving_remove(struct bench *b)
{
	char why[sizeof(b->why)];

	memcpy(why, b->why, sizeof(why));
	(void)tell(b, ".spm/slice", "remove benchto force");
	(void)tell(b, ".spm/slice", "remove benchfrom force");
	memcpy(b->why, why, sizeof(why));
}

const struct probe moving_probe = {
	.setup = moving_setup,
	.sample = moving_sample,
	.teardown = moving_remove,
	.needs_server = true,
	.heavy = true,
};
