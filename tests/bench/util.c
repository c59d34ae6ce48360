/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/bench/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define HUGE (2 * MIB)

int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

void pause_ms(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

const char *path_in(char *buf, const char *dir, const char *name)
{
	int n = snprintf(buf, PATH_MAX, "%s/%s", dir, name);

	/* A cut name would measure, or remove, some other file. */
	if (n >= PATH_MAX)
		abort();
	return buf;
}

int make_file(const char *path)
{
	if (unlink(path) && errno != ENOENT)
		return -errno;
	return mknod(path, S_IFREG | 0644, 0) ? -errno : 0;
}

int commit_file(int fd, size_t len)
{
	struct stat st;

	if (ftruncate(fd, (off_t)len) || fallocate(fd, 0, 0, (off_t)len) || fstat(fd, &st))
		return -errno;
	return (uint64_t)st.st_blocks * 512 >= len ? 0 : -EIO;
}

int fill_file(int fd, size_t len)
{
	uint64_t *buf = malloc(MIB), seed = 0x9e3779b97f4a7c15;
	size_t done = 0;
	int rc = 0;

	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < MIB / sizeof(*buf); i++)
		buf[i] = next_random(&seed);
	while (done < len) {
		size_t want = len - done < MIB ? len - done : MIB;
		ssize_t n = pwrite(fd, buf, want, (off_t)done);

		if (n <= 0) {
			rc = n ? -errno : -EIO;
			break;
		}
		done += (size_t)n;
	}
	free(buf);
	return rc;
}

void *map_aligned(int fd, size_t len, bool writable)
{
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	char *hole = mmap(NULL, len + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at, *map;

	if (hole == MAP_FAILED)
		return NULL;
	at = (char *)(((uintptr_t)hole + HUGE - 1) & ~(HUGE - 1));
	map = mmap(at, len, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	if (map == MAP_FAILED) {
		int err = errno;

		munmap(hole, len + HUGE);
		errno = err;
		return NULL;
	}
	if (at > hole)
		munmap(hole, (size_t)(at - hole));
	munmap(at + len, HUGE - (size_t)(at - hole));
	return map;
}

int64_t huge_mapped(const void *addr)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool here = false, seen = false;
	int64_t kib = 0, n;
	unsigned long from, to;

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			here = (uintptr_t)addr >= from && (uintptr_t)addr < to;
			seen |= here;
		} else if (here && (sscanf(line, "ShmemPmdMapped: %" SCNd64, &n) == 1 ||
				    sscanf(line, "FilePmdMapped: %" SCNd64, &n) == 1)) {
			kib += n;
		}
	}
	fclose(f);
	return seen ? kib * 1024 : -ENOENT;
}

void heat_memory(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return;
	/* Whole huge pages, since that is what the filesystem will take. */
	madvise(p, len, MADV_HUGEPAGE);
	for (size_t at = 0; at < len; at += 4096)
		p[at] = 1;
	munmap(p, len);
}

int64_t free_bytes(const char *dir)
{
	struct statvfs sv;

	if (statvfs(dir, &sv))
		return -errno;
	return (int64_t)(sv.f_bfree * sv.f_frsize);
}

int wait_free(const char *dir, int64_t want)
{
	int64_t until = now_ns() + INT64_C(10000000000), have;

	while ((have = free_bytes(dir)) < want) {
		if (have < 0)
			return (int)have;
		if (now_ns() > until)
			return -ETIMEDOUT;
		pause_ms(1);
	}
	return 0;
}

int drop_names(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	/* Twice: the first pass only takes the mark "used lately" off the names. */
	for (int i = 0; i < 2 && !rc; i++)
		rc = pwrite(fd, "2\n", 2, 0) == 2 ? 0 : -errno;
	close(fd);
	return rc;
}
