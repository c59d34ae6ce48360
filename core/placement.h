/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_PLACEMENT_H
#define SPM_CORE_PLACEMENT_H

#include "core/numa.h"

#define SPM_PLACEMENT_STEP (UINT64_C(64) << 20) /* looked at in one call of spm_placement_check() */

/*
 * Counts the pages of a file's data in [*at, *at + STEP) that are not on @nodes, brings home those that
 * nobody else maps, and moves *at on; *at is @size at the end of the file. Only data is looked at: holes
 * stay holes. Any mapper of a file may have moved its pages or pulled them off the node (long-term pins).
 * @fd is open O_RDWR. -errno of mmap(2), move_pages(2).
 */
int spm_placement_check(int fd, uint64_t size, const struct spm_nodes *nodes, uint64_t *at, uint64_t *foreign_pages)
	SPM_MUST_CHECK;

#endif
