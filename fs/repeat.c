/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After a crash the kernel sends every request again that was not answered, also those whose effect was there. This
 * table says for each why a second time neither fails falsely nor is done twice.
 *
 * What all of it rests on: while a request is unanswered the client's kernel goes on holding the locks that it took
 * for it: a directory's over whatever changes names in it, an inode's over truncate, fallocate, xattrs and
 * attributes (not over opens, also not with O_TRUNC). And the region has no other way in. A client that is killed gives
 * them up only between FUSE_NOTIFY_RESEND and the reading of its request, while nothing is served; such a request does
 * not come again, see give_up() in takeover.c.
 * So a name that was absent when the first worker began, and is there now, was made by the request itself.
 */
#include "fs/repeat.h"

#include <linux/fuse.h>
#include <stddef.h>

enum { OP_TMPFILE = 51, OP_STATX = 52 };

#define LOOKUPS SPM_REPEAT_UNDO_LOOKUPS
#define OPENED  SPM_REPEAT_UNDO_OPEN
#define ORPHANS SPM_REPEAT_ORPHANS
#define NAME    SPM_REPEAT_NAME
#define FINISH  SPM_REPEAT_FINISH

static const struct spm_repeat_row rows[] = {
	{ FUSE_LOOKUP, LOOKUPS, "the count is undone" },
	{ FUSE_FORGET, SPM_REPEAT_LOST, "done from the buffer, once: the ledger says whether" },
	{ FUSE_BATCH_FORGET, SPM_REPEAT_LOST, "the same, entry by entry" },
	{ FUSE_GETATTR, 0, "reads" },
	{ OP_STATX, 0, "reads" },
	{ FUSE_READLINK, 0, "reads" },
	{ FUSE_READ, 0, "reads" },
	{ FUSE_STATFS, 0, "reads" },
	{ FUSE_GETXATTR, 0, "reads" },
	{ FUSE_LISTXATTR, 0, "reads" },
	{ FUSE_LSEEK, 0, "reads" },
	{ FUSE_OPENDIR, 0, "handles hold no state" },
	{ FUSE_READDIR, 0, "offsets are the region's own" },
	{ FUSE_READDIRPLUS, LOOKUPS, "the same, and the counts are undone" },
	{ FUSE_SETATTR, 0, "sets the same values again, under the client's inode lock; truncated (desk.b) only once: slots behind "
	  "the end were dropped when this worker began" },
	{ FUSE_MKDIR, LOOKUPS | NAME, "EEXIST after 'begun': made by itself" },
	{ FUSE_MKNOD, LOOKUPS | NAME, "EEXIST after 'begun': made by itself" },
	{ FUSE_SYMLINK, LOOKUPS | NAME, "EEXIST after 'begun': made by itself" },
	{ FUSE_LINK, LOOKUPS | ORPHANS | NAME, "after 'begun', the name is this inode's already: linked by itself" },
	{ FUSE_CREATE, LOOKUPS | OPENED | NAME, "EEXIST with O_EXCL after 'begun': made by itself; the open is undone" },
	{ OP_TMPFILE, LOOKUPS | OPENED | ORPHANS, "what the first worker made (desk.a) is removed" },
	{ FUSE_OPEN, OPENED, "the open is undone; emptied (desk.b) is not emptied again, others may have written since" },
	{ FUSE_RELEASE, FINISH, "the ledger says whether it was counted" },
	{ FUSE_UNLINK, ORPHANS | NAME, "ENOENT after 'begun': removed by itself" },
	{ FUSE_RMDIR, ORPHANS | NAME, "ENOENT after 'begun': removed by itself" },
	{ FUSE_RENAME, ORPHANS | FINISH, "which inode is where (desk.a, desk.b) tells how far it came; it goes on from there" },
	{ FUSE_RENAME2, ORPHANS | FINISH, "the same" },
	{ FUSE_WRITE, 0, "'done' is answered at once; else the same bytes at the same place, also with O_APPEND: the "
	  "client's kernel says where; what there is no room for any more is taken back (desk.a: the size before); a control file: the same setting, and what has moved already is passed over" },
	{ FUSE_FALLOCATE, 0, "'done' is answered at once; else the same range, under the client's inode lock (what a direct "
	  "mapping stored into a hole in the few instructions before 'done' is lost: stores take no lock)" },
	{ FUSE_COPY_FILE_RANGE, 0, "'done' is answered at once; else the same ranges, which do not overlap; as with WRITE" },
	{ FUSE_SETXATTR, 0, "EEXIST with XATTR_CREATE, and absent (desk.a) when begun: set by itself" },
	{ FUSE_REMOVEXATTR, 0, "ENODATA, and there (desk.a) when begun: removed by itself" },
	{ FUSE_FSYNC, 0, "writes what is not on the disk yet" },
	{ FUSE_FSYNCDIR, 0, "the same" },
	{ FUSE_IOCTL, 0, "sets the same flags again" },
};

const struct spm_repeat_row *spm_repeat_row(uint32_t opcode)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].opcode == opcode)
			return &rows[i];
	return NULL;
}
