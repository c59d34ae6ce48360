/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/commit.h"
#include "core/extents.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* A policy set through a mapping of a tmpfs file is stored with the file, so this puts a mapper's away. */
static int rebind(const struct spm_nodes *nodes, int fd, uint64_t from, uint64_t to)
{
	size_t len = (size_t)(to - from);
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)from);
	int rc = 0;

	if (p == MAP_FAILED)
		return -errno;
	if (syscall(SYS_mbind, p, len, (unsigned long)MPOL_BIND, nodes->bits, (unsigned long)SPM_NUMA_MAX, 0UL))
		rc = -errno;
	munmap(p, len);
	return rc;
}

/*
 * What is to be allocated comes from the slice's nodes, which have it. All of it is looked at before the first page is asked
 * for: what a node has not got the kernel does not refuse (core/noderoom.h).
 */
static int prepare(const struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages, there;
	int rc;

	from &= ~(page - 1);
	to = (to + page - 1) & ~(page - 1);
	pages = (to - from) / page;
	there = spm_pages_in(fd, from, to);
	if (there != UINT64_MAX && there >= pages)
		return 0;
	rc = rebind(s->bind, fd, from, to);
	if (rc || there == UINT64_MAX || !s->budget)
		return rc;
	return spm_node_budget_take(s->budget, s->bind, (pages - there) * page);
}

int spm_commit_bind(const struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	return s->bind && to > from ? prepare(s, fd, from, to) : 0;
}

int spm_commit_range(const struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int rc = 0;

	from &= ~(page - 1);
	if (to <= from)
		return 0;
	if (to > INT64_MAX - page)
		return -EFBIG;
	if (s->bind)
		rc = prepare(s, fd, from, to);
	if (rc)
		return rc;
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) ? -errno : 0;
}
