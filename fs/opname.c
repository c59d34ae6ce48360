/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/opname.h"

#include <linux/fuse.h>

/* Numbers of include/uapi/linux/fuse.h that older headers lack. */
enum { OP_SYNCFS = 50, OP_TMPFILE = 51, OP_STATX = 52 };

static const char *const names[] = {
	[FUSE_LOOKUP] = "lookup", [FUSE_FORGET] = "forget", [FUSE_GETATTR] = "getattr", [FUSE_SETATTR] = "setattr",
	[FUSE_READLINK] = "readlink", [FUSE_SYMLINK] = "symlink", [FUSE_MKNOD] = "mknod", [FUSE_MKDIR] = "mkdir",
	[FUSE_UNLINK] = "unlink", [FUSE_RMDIR] = "rmdir", [FUSE_RENAME] = "rename", [FUSE_LINK] = "link",
	[FUSE_OPEN] = "open", [FUSE_READ] = "read", [FUSE_WRITE] = "write", [FUSE_STATFS] = "statfs",
	[FUSE_RELEASE] = "release", [FUSE_FSYNC] = "fsync", [FUSE_SETXATTR] = "setxattr",
	[FUSE_GETXATTR] = "getxattr", [FUSE_LISTXATTR] = "listxattr", [FUSE_REMOVEXATTR] = "removexattr",
	[FUSE_FLUSH] = "flush", [FUSE_INIT] = "init", [FUSE_OPENDIR] = "opendir", [FUSE_READDIR] = "readdir",
	[FUSE_RELEASEDIR] = "releasedir", [FUSE_FSYNCDIR] = "fsyncdir", [FUSE_ACCESS] = "access",
	[FUSE_CREATE] = "create", [FUSE_INTERRUPT] = "interrupt", [FUSE_DESTROY] = "destroy",
	[FUSE_IOCTL] = "ioctl", [FUSE_POLL] = "poll", [FUSE_BATCH_FORGET] = "batchforget",
	[FUSE_FALLOCATE] = "fallocate", [FUSE_READDIRPLUS] = "readdirplus", [FUSE_RENAME2] = "rename",
	[FUSE_LSEEK] = "lseek", [FUSE_COPY_FILE_RANGE] = "copyfilerange", [OP_SYNCFS] = "syncfs",
	[OP_TMPFILE] = "tmpfile", [OP_STATX] = "statx",
};

const char *spm_opname(uint32_t opcode)
{
	const char *name = opcode < sizeof(names) / sizeof(names[0]) ? names[opcode] : 0;

	return name ? name : "unknown";
}
