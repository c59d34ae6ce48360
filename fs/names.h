/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_NAMES_H
#define SPM_FS_NAMES_H

#include <pthread.h>
#include <stdbool.h>
#include "core/itable.h"
#include "core/util.h"

/*
 * How an inode of the region is opened: by its file handle, or, where the kernel allows that for directories
 * only (in a user namespace), by a name that it is known to have.
 *
 * In the second case one name of each inode that is no directory is remembered here. Whoever takes that name
 * away leaves the inode another one among the orphans, also if it has further names: which these are, nobody
 * knows. An orphan's link count is shown one lower as ever, so nothing of it is visible.
 */
struct spm_name {
	struct spm_name *next;
	uint64_t nodeid, parent;
	char text[];
};

#define SPM_NAMES_BUCKETS 65536u

struct spm_names {
	bool on;
	pthread_mutex_t lock; /* guards the buckets; a leaf */
	struct spm_name **bucket;
};

struct spm_fs;

/* Finds out whether names are needed. -ENOMEM, or -errno of a region that allows neither. */
int spm_names_init(struct spm_fs *fs);
/* In a worker that takes over: finds the names of all inodes in the table again, from the directories in it. -ENOMEM. */
int spm_names_rebuild(struct spm_fs *fs) SPM_MUST_CHECK;
void spm_names_destroy(struct spm_names *n);

/* Remembers a name of an inode; does nothing where handles will do. -ENOMEM. */
int spm_names_set(struct spm_fs *fs, uint64_t nodeid, uint64_t parent, const char *name);
void spm_names_forget(struct spm_fs *fs, uint64_t nodeid);

/* Opens an inode with the flags of open(2). A descriptor, or -errno; -ESTALE: it is gone. */
int spm_inode_open(struct spm_fs *fs, const struct spm_inode *rec, uint64_t nodeid, int flags);

#endif
