/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Actor commands that ask which physical pages a mapping shows, and where they are. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <linux/kernel-page-flags.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/progs/spmt.h"

static int read_u64(const char *path, uint64_t index, uint64_t *val)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, val, sizeof(*val), (off_t)(index * sizeof(*val)));
	close(fd);
	return n == sizeof(*val) ? 0 : n < 0 ? -errno : -ENODATA;
}

static int frame_of(const char *p, uint64_t *pfn)
{
	uint64_t entry;
	/* Volatile, since only the fault is wanted. */
	char byte = *(const volatile char *)p;
	int rc = read_u64("/proc/self/pagemap", (uintptr_t)p / 4096, &entry);

	(void)byte;
	*pfn = entry & ((UINT64_C(1) << 55) - 1);
	return rc ? rc : *pfn ? 0 : -ENODATA;
}

/* The frame's number: equal numbers are the same page, whoever maps it. Needs root. */
static int cmd_pfn(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	uint64_t pfn;
	int rc;

	if (!m)
		return -ENXIO;
	rc = frame_of(m->p + spmt_num(argv[2]), &pfn);
	return rc ? rc : spmt_say("%" PRIu64, pfn);
}

/* shmem: a page of a tmpfs; file: page cache of a filesystem with a backing store, FUSE among them; anon. */
static int cmd_kind(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	uint64_t pfn, flags;
	int rc;

	if (!m)
		return -ENXIO;
	rc = frame_of(m->p + spmt_num(argv[2]), &pfn);
	if (!rc)
		rc = read_u64("/proc/kpageflags", pfn, &flags);
	if (rc)
		return rc;
	if (flags & 1ULL << KPF_ANON)
		return spmt_say("anon");
	return spmt_say(flags & 1ULL << KPF_SWAPBACKED ? "shmem" : "file");
}

/* The value of one smaps field in kB, summed over the parts of the mapping. */
static int cmd_smaps(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long lo, hi, kb, sum = 0;
	bool inside = false;
	char line[512], key[64];

	if (!m || !f) {
		if (f)
			fclose(f);
		return -ENXIO;
	}
	snprintf(key, sizeof(key), "%s:", argv[2]);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &lo, &hi) == 2)
			inside = lo >= (uintptr_t)m->p && lo < (uintptr_t)m->p + m->len;
		else if (inside && !strncmp(line, key, strlen(key)) &&
			 sscanf(line + strlen(key), " %lu kB", &kb) == 1)
			sum += kb;
	}
	fclose(f);
	return spmt_say("%lu", sum);
}

/* How many pages of the mapping's file are in memory, as the kernel tells the owner. */
static int cmd_mincore(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	unsigned char *vec;
	size_t pages, n = 0;
	int rc;

	if (!m)
		return -ENXIO;
	pages = (m->len + 4095) / 4096;
	vec = malloc(pages);
	if (!vec)
		return -ENOMEM;
	rc = mincore(m->p, m->len, vec) ? -errno : 0;
	for (size_t i = 0; !rc && i < pages; i++)
		n += vec[i] & 1;
	free(vec);
	return rc ? rc : spmt_say("%zu", n);
}

static int cmd_mbind(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	unsigned long mask = 1UL << spmt_num(argv[3]);
	int policy = MPOL_INTERLEAVE;

	if (!m)
		return -ENXIO;
	if (!strcmp(argv[2], "bind"))
		policy = MPOL_BIND;
	else if (!strcmp(argv[2], "preferred"))
		policy = MPOL_PREFERRED;
	return syscall(SYS_mbind, m->p, m->len, policy, &mask, 64UL, (unsigned long)MPOL_MF_MOVE) ? -errno
												  : 0;
}

/* Answers the status of each page as move_pages gives it: a node, or a negative error. */
static int cmd_movepages(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	size_t count = spmt_num(argv[3]), used = 0;
	int node = (int)spmt_num(argv[2]), nodes[64], status[64];
	void *pages[64];

	if (!m || count > 64)
		return -ENXIO;
	for (size_t i = 0; i < count; i++) {
		pages[i] = m->p + i * 4096;
		nodes[i] = node;
	}
	if (syscall(SYS_move_pages, 0, count, pages, nodes, status, MPOL_MF_MOVE) < 0)
		return -errno;
	for (size_t i = 0; i < count && used < sizeof(spmt_reply) - 16; i++)
		used += (size_t)snprintf(spmt_reply + used, sizeof(spmt_reply) - used, "%s%d", i ? " " : "",
					 status[i]);
	return 0;
}

/* Where the pages of a mapping are, "NODE:COUNT ..."; what it has not touched is not there for move_pages(2). */
static int cmd_nodes(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	size_t count[64] = { 0 }, used = 0;

	for (size_t at = 0; m && at < m->len; at += 64 * 4096) {
		size_t n = (m->len - at) / 4096 < 64 ? (m->len - at) / 4096 : 64;
		void *pages[64];
		int status[64];

		for (size_t i = 0; i < n; i++)
			pages[i] = m->p + at + i * 4096;
		if (n && syscall(SYS_move_pages, 0, n, pages, NULL, status, 0) < 0)
			return -errno;
		for (size_t i = 0; i < n; i++)
			if (status[i] >= 0 && status[i] < 64)
				count[status[i]]++;
	}
	for (int i = 0; m && i < 64; i++)
		if (count[i])
			used += (size_t)snprintf(spmt_reply + used, sizeof(spmt_reply) - used, "%s%d:%zu",
						 used ? " " : "", i, count[i]);
	return m ? 0 : -ENXIO;
}

/* The page itself, which stays in there when the mapping is gone. */
static int cmd_pipe(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	struct iovec iov = { .iov_len = 4096 };
	uint64_t off = spmt_num(argv[2]);
	int fd[2], rc;

	if (!m || off + iov.iov_len > m->len)
		return -ENXIO;
	iov.iov_base = m->p + off;
	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	rc = vmsplice(fd[1], &iov, 1, 0) < 0 ? -errno : spmt_fd_add(argv[3], fd[0]);
	if (rc)
		close(fd[0]);
	close(fd[1]);
	return rc;
}

/* As a device does that is given memory to work on: the pages are pinned until unpin. */
static int cmd_pin(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	struct io_uring_params p = { 0 };
	struct iovec iov;
	int ring, rc;

	if (!m)
		return -ENXIO;
	iov = (struct iovec){ .iov_base = m->p, .iov_len = m->len };
	ring = (int)syscall(SYS_io_uring_setup, 1, &p);
	if (ring < 0)
		return -errno;
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1)) {
		rc = -errno;
		close(ring);
		return rc;
	}
	return spmt_fd_add(argv[2], ring);
}

/* As I/O that never ends: a pipe holds the first page until it is closed, and the kernel cannot move it. */
static int cmd_splice(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	struct iovec iov;
	int p[2], rc;

	if (!m)
		return -ENXIO;
	if (pipe2(p, O_CLOEXEC))
		return -errno;
	iov = (struct iovec){ .iov_base = m->p, .iov_len = 4096 };
	rc = vmsplice(p[1], &iov, 1, 0) == 4096 ? 0 : -errno;
	close(p[1]);
	if (rc) {
		close(p[0]);
		return rc;
	}
	return spmt_fd_add(argv[2], p[0]);
}

const struct spmt_cmd spmt_page_cmds[] = {
	{ "pfn", 2, cmd_pfn },		   /* M OFF */
	{ "kind", 2, cmd_kind },	   /* M OFF: shmem, file or anon */
	{ "smaps", 2, cmd_smaps },	   /* M KEY */
	{ "mincore", 1, cmd_mincore },	   /* M */
	{ "mbind", 3, cmd_mbind },	   /* M bind|preferred|interleave NODE */
	{ "movepages", 3, cmd_movepages }, /* M NODE COUNT */
	{ "nodes", 1, cmd_nodes },	   /* M */
	{ "pipe", 3, cmd_pipe },	   /* M OFF H: puts a page into a pipe; close H takes it out */
	{ "pin", 2, cmd_pin },		   /* M H: close H unpins */
	{ "splice", 2, cmd_splice },	   /* M H: close H lets it go */
	{ NULL },
};
