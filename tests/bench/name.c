/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of names: what one client pays for each operation, one after the other. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define OPEN_FILES 64

/* The directory that a sample works in, and how many files f0, f1, ... it has. */
static struct {
	char dir[SIDES][PATH_MAX];
	int files;
} names;

static const char *numbered(char *buf, enum side side, char letter, int i)
{
	char name[32];

	snprintf(name, sizeof(name), "%c%d", letter, i);
	return path_in(buf, names.dir[side], name);
}

static int create_close(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	return close(fd) ? -errno : 0;
}

static int open_close(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return close(fd) ? -errno : 0;
}

static int names_setup(struct bench *b, int files)
{
	char path[PATH_MAX];

	names.files = files;
	for (int i = 0; i < SIDES; i++) {
		enum side side = (enum side)i;
		int rc = 0;

		path_in(names.dir[side], bench_dir(b, side), "names");
		if (mkdir(names.dir[side], 0755))
			return bench_fail(b, -errno, "cannot make %s", names.dir[side]);
		for (int n = 0; n < files && !rc; n++)
			rc = create_close(numbered(path, side, 'f', n));
		if (rc)
			return bench_fail(b, rc, "cannot make %s", path);
	}
	return 0;
}

static void names_teardown(struct bench *b)
{
	char path[PATH_MAX];

	for (int i = 0; i < SIDES; i++) {
		enum side side = (enum side)i;

		/* f0 may have been renamed while a sample failed half way. */
		for (int n = 0; n < names.files; n++)
			unlink(numbered(path, side, 'f', n));
		rmdir(names.dir[side]);
	}
}

static int name_setup(struct bench *b)
{
	return names_setup(b, OPEN_FILES);
}

/* One operation, with a name that was not used before where it makes one. */
static int name_op(int what, enum side side, int i)
{
	char path[PATH_MAX], to[PATH_MAX];
	int rc;

	switch (what) {
	case NAME_CREATE:
		rc = create_close(numbered(path, side, 'c', i));
		return rc ? rc : unlink(path) ? -errno : 0;
	case NAME_OPEN:
		return open_close(numbered(path, side, 'f', i % OPEN_FILES));
	case NAME_RENAME:
		return rename(numbered(path, side, 'r', i), numbered(to, side, 'r', i + 1)) ? -errno : 0;
	default:
		numbered(path, side, 'd', i);
		return mkdir(path, 0755) || rmdir(path) ? -errno : 0;
	}
}

static int name_sample(struct bench *b, enum side side, double *value)
{
	int n = b->scale.name_ops, what = b->fig->what, rc = 0;
	char path[PATH_MAX], to[PATH_MAX];
	int64_t t;

	if (what == NAME_RENAME && rename(numbered(path, side, 'f', 0), numbered(to, side, 'r', 0)))
		return bench_fail(b, -errno, "cannot rename %s", path);
	t = now_ns();
	for (int i = 0; i < n && !rc; i++)
		rc = name_op(what, side, i);
	*value = (double)(now_ns() - t) / 1e3 / n;
	if (what == NAME_RENAME && rename(numbered(path, side, 'r', n), numbered(to, side, 'f', 0)) && !rc)
		rc = -errno;
	return rc ? bench_fail(b, rc, "%s in %s", b->fig->title, names.dir[side]) : 0;
}

const struct probe name_probe = {
	.setup = name_setup,
	.sample = name_sample,
	.teardown = names_teardown,
};

static int cached_setup(struct bench *b)
{
	return names_setup(b, 1);
}

static int cached_sample(struct bench *b, enum side side, double *value)
{
	char path[PATH_MAX];
	struct stat st;
	int64_t t;

	numbered(path, side, 'f', 0);
	/* The first call may ask the server. */
	if (stat(path, &st))
		return bench_fail(b, -errno, "%s", path);
	t = now_ns();
	for (int i = 0; i < b->scale.cached_ops; i++)
		if (stat(path, &st))
			return bench_fail(b, -errno, "%s", path);
	*value = (double)(now_ns() - t) / b->scale.cached_ops;
	return 0;
}

const struct probe cached_probe = {
	.setup = cached_setup,
	.sample = cached_sample,
	.teardown = names_teardown,
};

static int uncached_setup(struct bench *b)
{
	return names_setup(b, b->scale.name_ops);
}

/* tmpfs keeps all its names in memory: its side is the same walk without anything to ask for. */
static int uncached_sample(struct bench *b, enum side side, double *value)
{
	bool ask = side == SIDE_SPMFS && b->server.n;
	int64_t before = 0, sent, t;
	int n = b->scale.name_ops;
	char path[PATH_MAX];
	struct stat st;
	int rc;

	rc = drop_names();
	if (rc)
		return bench_fail(b, SKIP, "cannot drop cached names: %s", strerror(-rc));
	rc = server_settle(&b->server);
	if (rc)
		return bench_fail(b, rc, "the server does not come to rest");
	if (ask)
		before = server_stat(&b->server, "requests");
	/* The directory is warm on both sides, its names are not. */
	if (stat(names.dir[side], &st))
		return bench_fail(b, -errno, "%s", names.dir[side]);
	t = now_ns();
	for (int i = 0; i < n; i++)
		if (stat(numbered(path, side, 'f', i), &st))
			return bench_fail(b, -errno, "%s", path);
	*value = (double)(now_ns() - t) / 1e3 / n;
	if (!ask)
		return 0;
	sent = server_stat(&b->server, "requests") - before;
	if (sent < n * 9 / 10)
		return bench_fail(b, UNFIT, "the names were still cached: %d stat made %lld requests", n,
				  (long long)sent);
	return 0;
}

const struct probe uncached_probe = {
	.setup = uncached_setup,
	.sample = uncached_sample,
	.teardown = names_teardown,
};
