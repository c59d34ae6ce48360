/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_OPEN_H
#define SPM_FS_OPEN_H

#include "fs/fs.h"

/*
 * The state machine of open files: direct or mirror, per inode, one mode at a time.
 *
 *   1. live opens exist: the same mode (the kernel refuses to mix cached and passthrough opens);
 *   2. none, but the inode may still be mapped directly (the lease test tells): direct;
 *   3. otherwise user.spm.map of the file, else of the nearest directory above that has it, else map=.
 *
 * Direct opens are plain (reads, writes and mmap go to the region's file) or served (mmap does; reads and
 * writes come here, so that memory is allocated by the worker). Both may be live on one inode and share its
 * one backing id. Handles are stateless: the kind is in them, the counts are in the inode's record.
 *
 * All of it happens under the inode's lock.
 *
 * With swap, an open by which a file may be mapped directly first brings back all of it (a pin FILE keeps it here
 * until the file is marked as direct, core/swap.h); where that does not fit, map=auto takes the mirror. An open that only
 * writes cannot be mapped: nothing is brought back for it, and what it writes may leave while it is open. So with swap
 * map=auto gives it the mirror, which whoever opens the file next can join whatever has become of its size.
 */
enum spm_open_kind { SPM_OPEN_PLAIN = 1, SPM_OPEN_SERVED = 2, SPM_OPEN_MIRROR = 3 };
#define SPM_FH_KIND_MASK 0xffu
#define SPM_FH_WRITES    0x100u

/*
 * Opens an inode with the flags of open(2) (O_TRUNC empties it). @fd: a descriptor of it that the caller has
 * at hand, open for writing, or -1.
 * -ENOSPC: commit=eager could not have the memory; -ESTALE; -EMFILE.
 */
int spm_open_file(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, int flags,
		  struct spm_wire_open_out *out) SPM_MUST_CHECK;
/* The kernel did not take the reply to an open of the request in hand. */
void spm_open_undo(struct spm_fs *fs, uint64_t nodeid, uint64_t fh);
/* The reply to OPEN, or with @e to CREATE; what fuse_reply_*() returns. */
int spm_open_reply(fuse_req_t req, const struct fuse_entry_param *e, const struct spm_wire_open_out *out);

/* Changes the size; with commit=eager the memory of a growing direct file comes with it, or -ENOSPC. */
int spm_open_truncate(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, uint64_t size) SPM_MUST_CHECK;

/* Looks again whether an inode that was open directly is still mapped; cheap when nothing is to be learnt. */
void spm_open_recheck_mapped(struct spm_fs *fs, uint64_t nodeid);

/* The same for somebody who holds locks of inodes: not if that would wait for another one. */
void spm_open_try_recheck_mapped(struct spm_fs *fs, uint64_t nodeid);

/* The lease test of the reclaimer (struct spm_swap_ops): -EBUSY; 0: nobody has the inode open to be mapped, or mapped, and
 * @file was told to be idle. */
int spm_open_release(struct spm_fs *fs, uint64_t nodeid, uint32_t file) SPM_MUST_CHECK;

/* "direct", "mirror" or "idle": what an inode is now. */
const char *spm_open_mode(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid);

/* The wish that counts for an inode that nobody has open. */
enum spm_map spm_open_preference(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid);
#define SPM_XATTR_MAP "user.spm.map"

/* Makes a backing id for @fd and records it in @rec (NULL: in none). The id, or -errno. */
int spm_open_backing(struct spm_fs *fs, uint64_t nodeid, struct spm_inode *rec, int fd) SPM_MUST_CHECK;
/* With the inode's lock: closes its backing id, if it has one. */
void spm_open_close_backing(struct spm_fs *fs, struct spm_inode *rec);

#endif
