/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/placement.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define BATCH 512

static int count_foreign(char *p, size_t len, const struct spm_nodes *nodes, uint64_t *foreign)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = len / page;
	void *addr[BATCH];
	int status[BATCH];

	for (size_t done = 0; done < pages;) {
		size_t n = pages - done < BATCH ? pages - done : BATCH;

		for (size_t i = 0; i < n; i++)
			addr[i] = p + (done + i) * page;
		if (syscall(SYS_move_pages, 0, n, addr, NULL, status, 0))
			return -errno;
		for (size_t i = 0; i < n; i++)
			if (status[i] >= 0 && !spm_nodes_test(nodes, status[i]))
				++*foreign;
		done += n;
	}
	return 0;
}

static int check_data(int fd, uint64_t from, uint64_t to, const struct spm_nodes *nodes, uint64_t *foreign)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), len;
	uint64_t before = *foreign;
	char *p;
	int rc = 0;

	from &= ~(uint64_t)(page - 1);
	len = (size_t)(to - from + page - 1) & ~(page - 1);
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)from);
	if (p == MAP_FAILED)
		return -errno;
	if (!madvise(p, len, MADV_POPULATE_READ))
		rc = count_foreign(p, len, nodes, foreign);
	/* MPOL_MF_MOVE leaves pages alone that another process maps; what it moved counts no more */
	if (!rc && *foreign > before &&
	    !syscall(SYS_mbind, p, len, (unsigned long)MPOL_BIND, nodes->bits, (unsigned long)SPM_NUMA_MAX,
		     (unsigned long)MPOL_MF_MOVE)) {
		*foreign = before;
		rc = count_foreign(p, len, nodes, foreign);
	}
	munmap(p, len);
	return rc;
}

int spm_placement_check(int fd, uint64_t size, const struct spm_nodes *nodes, uint64_t *at, uint64_t *foreign_pages)
{
	off_t data = *at < size ? lseek(fd, (off_t)*at, SEEK_DATA) : -1, hole;

	if (data < 0) {
		*at = size;
		return 0;
	}
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	if ((uint64_t)(hole - data) > SPM_PLACEMENT_STEP)
		hole = data + (off_t)SPM_PLACEMENT_STEP;
	*at = (uint64_t)hole;
	return check_data(fd, (uint64_t)data, (uint64_t)hole, nodes, foreign_pages);
}
