/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_ATTR_H
#define SPM_FS_ATTR_H

#include "fs/fs.h"

/*
 * How long the kernel may believe attributes, in seconds: as good as for ever, since nobody but spmfs changes files, except
 * where the kernel does it behind our back: a write through passthrough takes suid away, a write through a mapping sets
 * times, and touching a hole of one allocates blocks; and except while content of the file is on its way to or from swap
 * and written to at once. It is *@timeout below; NULL: not asked for.
 */

/* Attributes of an inode as users see them. -ESTALE: not a node id of ours. */
int spm_attr_get(struct spm_fs *fs, uint64_t nodeid, struct stat *st, double *timeout) SPM_MUST_CHECK;

/* Turns the region's attributes into the user's: inode number, link count of orphans; blocks and times of a file that was
 * swapped (@fd: the inode, may be O_PATH; -1: none is at hand). Notes suid and sgid. -errno of opening and asking again. */
int spm_attr_show(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, struct stat *st, double *timeout)
	SPM_MUST_CHECK;

#define SPM_TIMEOUT_LONG (7 * 86400.0)

#endif
