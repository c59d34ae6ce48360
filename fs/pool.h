/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_POOL_H
#define SPM_FS_POOL_H

#include <string.h>
#include "core/pool.h"
#include "fs/fs.h"

/*
 * A mount whose files have their content in a pool on a dax device (core/pool.h): the worker's side. fs/content-pool.c is how
 * requests get at it, fs/setup-pool.h how it is made.
 *
 * The region's file carries all the rest: its size is the file's, and each change of content is an ftruncate(2) of it as well, by which
 * the kernel sets times and takes suid and file capabilities away as for a write. It never has a page.
 *
 * The order of steps, so that what a crash leaves is right:
 *  - what makes a file longer: memory first, then the size, then the bytes. Behind the end there are only zeros, so that what
 *    was not written yet reads as zeros, and a file that grows shows nothing old;
 *  - what makes it shorter: a note (spm_pool_trim_begin), the size, the memory. A worker finishes what notes say before it
 *    serves anything;
 *  - what removes it: the memory, then the inode.
 * Locks: the pool's lock of the file (core/pool.h) comes after an inode lock; fs->size_locks after that: two writers with the pool's
 * lock shared must not set the size by turns.
 *
 * With swap (fs/pool-swap.c) the rules of fs/swap.h come first. A request pins what it works on before it takes any of these locks, and
 * so finds all of it in the pool, or for reading perhaps in slots; no lock of the pool is held where it pins, unpins, drops slots (which
 * waits for reads from before) or waits for room. What is in slots behind a truncate is dropped by the mark of its pin, so after a crash
 * the extent map's marks are followed first, and then the pool's notes.
 */
struct spm_worker_args;

/* What attaching to a pool has failed with, for the user. */
const char *spm_pooled_why_not(int rc);

/* In the worker's set-up, before anything is served. -errno; a pool that cannot be used is logged with the reason. */
int spm_pooled_open(struct spm_fs *fs, const struct spm_worker_args *a) SPM_MUST_CHECK;
/* Then swap is opened, if there is any: a dead worker may still be reading into what is free. After that, and before anything is
 * allocated: what was cut off when the last worker died goes. */
int spm_pooled_settle(struct spm_fs *fs) SPM_MUST_CHECK;
int spm_pooled_start(struct spm_fs *fs) SPM_MUST_CHECK;
void spm_pooled_stop(struct spm_fs *fs);
void spm_pooled_close(struct spm_fs *fs);

static inline struct spm_pool_file spm_pooled_file(uint16_t slice, uint64_t ino)
{
	return (struct spm_pool_file){ .ino = ino, .slice = slice };
}

/* What swap asks for, where it is not as with content in files. (pool-swap.c) */
void spm_pooled_swap_ops(struct spm_fs *fs, struct spm_swap_ops *ops);

/* Moves extents until what is free is one run. -ECANCELED: the request was interrupted; -EBUSY: it is being done. */
int spm_pooled_compact(struct spm_fs *fs, fuse_req_t req) SPM_MUST_CHECK;

#endif
