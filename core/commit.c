/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/commit.h"

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

int spm_commit_bind(const struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	return s->bind ? rebind(s->bind, fd, from, to) : 0;
}

int spm_commit_range(const struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	from &= ~(page - 1);
	if (to <= from)
		return 0;
	if (to > INT64_MAX - page)
		return -EFBIG;
	if (s->bind) {
		int rc = rebind(s->bind, fd, from, (to + page - 1) & ~(page - 1));

		if (rc)
			return rc;
	}
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) ? -errno : 0;
}
