/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_COMMIT_H
#define SPM_CORE_COMMIT_H

#include "core/slice.h"

/*
 * Allocates the memory of [from, to) of the file @fd (open for writing) on the slice's own nodes, so that no
 * later fault in it can fail; the size of the file stays. All or nothing.
 * The allocation is made here because whoever allocates decides: the kernel charges it to the allocating
 * task's memory cgroup, obeys its cpuset, and takes the file's policy, which any mapper may have changed.
 * -ENOSPC: the slice is full (or @to is beyond it), or its nodes are; -EFBIG; -errno of mbind(2) or fallocate(2).
 */
int spm_commit_range(const struct spm_slice *s, int fd, uint64_t from, uint64_t to) SPM_MUST_CHECK;

/*
 * Has what will be allocated in [from, to) come from the slice's own nodes; for whoever allocates by a write or a fault.
 * -ENOSPC: these have less than that. -errno of mmap(2), mbind(2).
 */
int spm_commit_bind(const struct spm_slice *s, int fd, uint64_t from, uint64_t to) SPM_MUST_CHECK;

/* Bytes of a file that faults could still have to allocate, from its size and st_blocks. */
static inline uint64_t spm_commit_missing(const struct stat *st)
{
	uint64_t have = (uint64_t)st->st_blocks * 512;

	return (uint64_t)st->st_size > have ? (uint64_t)st->st_size - have : 0;
}

#endif
