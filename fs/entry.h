/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_ENTRY_H
#define SPM_FS_ENTRY_H

#include "fs/fs.h"

/*
 * Entries: what the kernel is told of an inode by name, and remembers until it says FORGET. Each one that is
 * replied counts as a lookup in the inode table.
 */

/* @fresh: the request in hand has made it, so nobody can have mapped it before this mount. */

/* Counts a lookup of what @st and @dirfd/@name (an empty @name: @dirfd itself) describe and fills in a reply.
 * *@rec_out may be NULL. -ENOMEM: the inode table is full. */
int spm_entry_make(struct spm_fs *fs, uint16_t slice, int dirfd, const char *name, bool fresh, struct stat *st,
		   struct fuse_entry_param *e, struct spm_inode **rec_out) SPM_MUST_CHECK;
/* Stats @name in @dirfd, which is node @parent, then as above. */
int spm_entry_lookup(struct spm_fs *fs, uint64_t parent, int dirfd, const char *name, bool fresh, struct fuse_entry_param *e)
	SPM_MUST_CHECK;
/* Replies with an entry; takes the lookup back if the kernel did not take the reply. */
void spm_entry_reply(fuse_req_t req, const struct fuse_entry_param *e);

/* Takes back @n lookups and, with the last, whatever the server still kept for the inode; in the same step @entry of
 * the book (may be NULL) becomes @mark. */
void spm_forget_noted(struct spm_fs *fs, uint64_t nodeid, uint64_t n, const struct spm_book *b, enum spm_entry entry,
		      uint32_t mark);
/* Takes back the last lookup that the request in hand has counted. */
void spm_uncount(struct spm_fs *fs, uint64_t nodeid);

#endif
