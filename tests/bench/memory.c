/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of memory: what a remembered inode costs the server, what small files cost the device. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define SMALL_FILES   50

/* One run of files created, listed and removed answers three figures. */
static struct {
	bool done;
	int rc;
	double bytes, descriptors, left;
	char note[256];
} inodes;

static int inode_dir(const struct bench *b, int d, char *path)
{
	char name[32];

	snprintf(name, sizeof(name), "inodes%d", d);
	path_in(path, bench_dir(b, SIDE_SPMFS), name);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int create_files(int dir, int n)
{
	char name[32];

	for (int i = 0; i < n; i++) {
		int fd;

		snprintf(name, sizeof(name), "f%d", i);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	return 0;
}

/* As ls -l does. Names that the kernel forgot for want of memory are looked up once more. */
static int list_files(const char *path, int expected)
{
	const struct dirent *de;
	DIR *d = opendir(path);
	struct stat st;
	int n = 0;

	if (!d)
		return -errno;
	while ((de = readdir(d)))
		n += de->d_name[0] == 'f' && !fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW);
	closedir(d);
	return n == expected ? 0 : -EIO;
}

static int remove_files(int dir, int n)
{
	char name[32];

	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		if (unlinkat(dir, name, 0) && errno != ENOENT)
			return -errno;
	}
	return 0;
}

static int dir_count(const struct bench *b)
{
	return (b->scale.inodes + BENCH_FILES_PER_DIR - 1) / BENCH_FILES_PER_DIR;
}

static int files_in(const struct bench *b, int d)
{
	int left = b->scale.inodes - d * BENCH_FILES_PER_DIR;

	return left < BENCH_FILES_PER_DIR ? left : BENCH_FILES_PER_DIR;
}

int bench_inodes_make(struct bench *b)
{
	char path[PATH_MAX];
	int rc = 0;

	for (int d = 0; d < dir_count(b) && !rc; d++) {
		int fd = inode_dir(b, d, path);

		if (fd >= 0) {
			close(fd);
			return bench_fail(b, -EEXIST, "%s", path);
		}
		fd = mkdir(path, 0755) ? -1 : inode_dir(b, d, path);
		rc = fd < 0 ? -errno : create_files(fd, files_in(b, d));
		if (fd >= 0)
			close(fd);
	}
	for (int d = 0; d < dir_count(b) && !rc; d++) {
		int fd = inode_dir(b, d, path);

		rc = fd < 0 ? -errno : list_files(path, files_in(b, d));
		if (fd >= 0)
			close(fd);
	}
	return rc ? bench_fail(b, rc, "cannot create or list the files of %s", path) : 0;
}

int bench_inodes_remove(struct bench *b)
{
	char path[PATH_MAX];

	for (int d = 0; d < dir_count(b); d++) {
		int fd = inode_dir(b, d, path), rc;

		if (fd < 0)
			continue;
		rc = remove_files(fd, files_in(b, d));
		close(fd);
		if (!rc && rmdir(path))
			rc = -errno;
		if (rc)
			return bench_fail(b, rc, "cannot empty %s", path);
	}
	return 0;
}

/* Memory of the server after it had 10 s to give back what it does not need. */
static int64_t memory_left(struct bench *b, int64_t enough)
{
	int64_t until = now_ns() + INT64_C(10000000000), have;

	do {
		have = server_memory(&b->server);
		if (have <= enough)
			break;
		pause_ms(100);
	} while (now_ns() < until);
	return have;
}

static int inode_run(struct bench *b)
{
	const struct server *srv = &b->server;
	int64_t known = server_stat(srv, "inodes_known"), before, most, left;
	int rc, fds = server_descriptors(srv);

	before = server_memory(srv);
	if (before < 0 || fds < 0 || known < 0)
		return bench_fail(b, -EIO, "cannot read the server's memory, descriptors or inodes_known");
	rc = bench_inodes_make(b);
	if (!rc)
		rc = server_settle(srv);
	most = server_memory(srv);
	inodes.descriptors = server_descriptors(srv) - fds;
	known = server_stat(srv, "inodes_known") - known;
	/* Also after an error: the next figure is to find the mount empty. */
	if (bench_inodes_remove(b) || rc)
		return rc ? rc : -EIO;
	rc = drop_names();
	if (rc)
		return bench_fail(b, SKIP, "cannot drop cached names: %s", strerror(-rc));
	if (known < b->scale.inodes / 2)
		return bench_fail(b, UNFIT, "only %lld of %d inodes remembered: did somebody drop caches?",
				  (long long)known, b->scale.inodes);
	/* A mebibyte more or less is chance, not memory of these inodes. */
	left = memory_left(b, before + (most - before) / 20 + (int64_t)MIB);
	inodes.bytes = (double)(most - before) / (double)known;
	if (most > before && left > before)
		inodes.left = 100.0 * (double)(left - before) / (double)(most - before);
	snprintf(inodes.note, sizeof(inodes.note), "%lld inodes known; server memory %.1f, %.1f, %.1f MiB",
		 (long long)known, (double)before / MIB, (double)most / MIB, (double)left / MIB);
	return 0;
}

static int inode_sample(struct bench *b, enum side side, double *value)
{
	if (!inodes.done) {
		inodes.rc = inode_run(b);
		inodes.done = true;
		if (inodes.rc)
			snprintf(inodes.note, sizeof(inodes.note), "%s", b->why);
	}
	if (inodes.rc) {
		snprintf(b->why, sizeof(b->why), "%s", inodes.note);
		return inodes.rc;
	}
	bench_note(b, "%s", inodes.note);
	if (b->fig->what == INODE_BYTES)
		*value = inodes.bytes;
	else
		*value = b->fig->what == INODE_LEFT ? inodes.left : inodes.descriptors;
	return 0;
}

const struct probe inode_probe = {
	.sample = inode_sample,
	.once = true,
	.spmfs_only = true,
	.needs_server = true,
};

static int write_small(const char *path)
{
	static const char page[4 * KIB] = "small";
	int fd, rc = make_file(path);

	if (rc)
		return rc;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = write(fd, page, sizeof(page)) == (ssize_t)sizeof(page) ? 0 : -EIO;
	close(fd);
	return rc;
}

static int small_sample(struct bench *b, enum side side, double *value)
{
	const char *dir = bench_dir(b, side);
	int64_t before = free_bytes(dir);
	char path[PATH_MAX], name[32];
	int rc = before < 0 ? (int)before : 0;

	for (int i = 0; i < SMALL_FILES && !rc; i++) {
		snprintf(name, sizeof(name), "small%d", i);
		rc = write_small(path_in(path, dir, name));
	}
	*value = (double)(before - free_bytes(dir)) / KIB;
	for (int i = 0; i < SMALL_FILES; i++) {
		snprintf(name, sizeof(name), "small%d", i);
		unlink(path_in(path, dir, name));
	}
	if (!rc && *value < SMALL_FILES * 4)
		return bench_fail(b, UNFIT, "statfs of %s shows %.0f KiB for %d files of 4 KiB", dir, *value,
				  SMALL_FILES);
	return rc ? bench_fail(b, rc, "cannot write small files in %s", dir) : 0;
}

const struct probe small_probe = {
	.sample = small_sample,
	.once = true,
};
