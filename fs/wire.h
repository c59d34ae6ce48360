/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_WIRE_H
#define SPM_FS_WIRE_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "core/util.h"

/*
 * The part of the FUSE protocol that libfuse may not know: everything where the wire differs from what the
 * library at hand would read or write is here, and only here. Numbers and layouts are those of the kernel's
 * include/uapi/linux/fuse.h, protocol 7.40.
 *
 * The INIT reply is ours, whichever libfuse made it, so that a mount negotiates the same with 3.14 and 3.17.
 * Newer requests are rewritten into ones that every libfuse 3.14 and later decodes, and what they say beyond
 * those is kept in struct spm_wire_request.
 */

/* What the request in hand says beyond what libfuse hands on. */
struct spm_wire_request {
	bool tmpfile;        /* this CREATE is a TMPFILE */
	bool statx;          /* this GETATTR is a STATX */
	bool kill_suidgid;   /* the caller may not keep suid, sgid (WRITE, OPEN and CREATE with O_TRUNC, SETATTR) */
	bool acl_kill_sgid;  /* this SETXATTR of an ACL takes sgid away */
	uint32_t pid;
	uint64_t unique;
};

/* What INIT agreed on. */
struct spm_wire_init {
	uint32_t minor;      /* of the kernel's protocol 7.x */
	uint64_t offered;    /* flags */
	uint64_t agreed;
	bool done;
};

#define SPM_FUSE_HANDLE_KILLPRIV_V2 (UINT64_C(1) << 28)
#define SPM_FUSE_SETXATTR_EXT       (UINT64_C(1) << 29)
#define SPM_FUSE_INIT_EXT           (UINT64_C(1) << 30)
#define SPM_FUSE_PASSTHROUGH        (UINT64_C(1) << 37)
#define SPM_FUSE_HAS_RESEND         (UINT64_C(1) << 39)
#define SPM_FUSE_ALLOW_IDMAP        (UINT64_C(1) << 40)

#define SPM_FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#define SPM_FOPEN_PASSTHROUGH            (1 << 7)

/* The largest request: a WRITE of 1 MiB with its headers, page aligned. */
#define SPM_WIRE_MAX_WRITE (1u << 20)
/* The largest READ (mount option max_read): what is copied between two CPUs should fit in a cache, two threads
 * shall have something to do when the kernel reads ahead, and an unprivileged pipe must hold it. Measured:
 * 128 KiB and 512 KiB read a cold mirror about a quarter slower. */
#define SPM_WIRE_MAX_READ (256u << 10)
#define SPM_WIRE_BUFSIZE   (SPM_WIRE_MAX_WRITE + 4096u)

/* fuse_open_out with the backing id where libfuse 3.14 has padding. */
struct spm_wire_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

struct spm_wire_sx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};

struct spm_wire_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct {
		uint32_t mask, blksize;
		uint64_t attributes;
		uint32_t nlink, uid, gid;
		uint16_t mode, pad;
		uint64_t ino, size, blocks, attributes_mask;
		struct spm_wire_sx_time atime, btime, ctime, mtime;
		uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
		uint64_t spare[14];
	} stat;
};

/*
 * Looks at a request of @len bytes in @buf before libfuse does, and rewrites it in place if need be (it may
 * become shorter: the new length is returned).
 */
size_t spm_wire_request(void *buf, size_t len, struct spm_wire_init *init, struct spm_wire_request *out);

/* Edits the reply to INIT in @iov (header, fuse_init_out); others pass. @without: flags that are not asked for though the kernel
 * offers them. */
void spm_wire_reply(struct iovec *iov, int count, struct spm_wire_init *init, uint64_t without);
/* The flags that such a reply (header and all, @len bytes) has agreed on. */
uint64_t spm_wire_agreed(const void *reply, size_t len);

/* A libfuse entry as it stands on the wire, for replies that libfuse cannot build whole. */
struct fuse_entry_param;
void spm_wire_entry(const struct fuse_entry_param *e, struct fuse_entry_out *out);

/* FUSE_DEV_IOC_BACKING_OPEN: the backing id (> 0) or -errno. The calling thread's credentials are those
 * with which the kernel will read and write the file. */
int spm_wire_backing_open(int dev_fd, int fd) SPM_MUST_CHECK;
int spm_wire_backing_close(int dev_fd, int backing_id);

#endif
