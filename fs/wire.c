/* SPDX-License-Identifier: GPL-2.0-or-later */
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include "fs/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

enum { OP_TMPFILE = 51, OP_STATX = 52 };

#define WRITE_KILL_SUIDGID    (1u << 2)
#define FATTR_KILL_SUIDGID_   (1u << 11)
#define OPEN_KILL_SUIDGID     (1u << 0)
#define SETXATTR_ACL_KILL_SGID (1u << 0)

struct init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
	uint32_t unused[11];
};

struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint16_t request_timeout;
	uint16_t unused[11];
};
_Static_assert(sizeof(struct init_out) == 64, "fuse_init_out of protocol 7.23 and later");

struct statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};

struct setxattr_in {
	uint32_t size, flags, setxattr_flags, padding;
};

struct open_in {
	uint32_t flags, open_flags;
};

struct create_in {
	uint32_t flags, mode, umask, open_flags;
};

struct write_in {
	uint64_t fh, offset;
	uint32_t size, write_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define IOC_BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

/*
 * What a mount negotiates. Left out on purpose: WRITEBACK_CACHE (turns passthrough off), AUTO_INVAL_DATA
 * (nobody else changes files), POSIX_LOCKS and FLOCK_LOCKS (the kernel keeps locks, so they survive the
 * worker), EXPORT_SUPPORT, HANDLE_KILLPRIV (V2 replaces it), and DIRECT_IO_ALLOW_MMAP (served opens map
 * through passthrough).
 */
#define WANT_FLAGS                                                                                       \
	((uint64_t)(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK |           \
		    FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | \
		    FUSE_POSIX_ACL | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_HAS_IOCTL_DIR) |         \
	 SPM_FUSE_HANDLE_KILLPRIV_V2 | SPM_FUSE_SETXATTR_EXT | SPM_FUSE_INIT_EXT | SPM_FUSE_PASSTHROUGH |     \
	 SPM_FUSE_HAS_RESEND | SPM_FUSE_ALLOW_IDMAP)

/* What libfuse may see of the kernel's offer: the rest would make one version act unlike another. */
#define SHOW_FLAGS                                                                                       \
	((uint64_t)(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK |           \
		    FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | \
		    FUSE_POSIX_ACL | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_HAS_IOCTL_DIR))

static void init_request(void *arg, size_t len, struct spm_wire_init *init)
{
	struct init_in *in = arg;

	if (len < offsetof(struct init_in, flags2))
		return;
	init->minor = in->minor;
	init->offered = in->flags;
	if (in->flags & SPM_FUSE_INIT_EXT && len >= offsetof(struct init_in, unused)) {
		init->offered |= (uint64_t)in->flags2 << 32;
		in->flags2 = 0;
	}
	in->flags &= (uint32_t)SHOW_FLAGS;
}

/* STATX asks as GETATTR does, with more fields behind; the handler builds the longer reply. */
static size_t rewrite_statx(struct fuse_in_header *h, size_t len)
{
	struct statx_in in;
	struct fuse_getattr_in out;

	if (len < sizeof(*h) + sizeof(in))
		return len;
	memcpy(&in, h + 1, sizeof(in));
	out = (struct fuse_getattr_in){ .getattr_flags = in.getattr_flags, .fh = in.fh };
	memcpy(h + 1, &out, sizeof(out));
	h->opcode = FUSE_GETATTR;
	h->len = (uint32_t)(sizeof(*h) + sizeof(out));
	return h->len;
}

/* fuse_setxattr_in grew by 8 bytes with SETXATTR_EXT; libfuse 3.14 knows the short one. */
static size_t rewrite_setxattr(struct fuse_in_header *h, size_t len, struct spm_wire_request *out)
{
	char *arg = (char *)(h + 1);
	struct setxattr_in in;

	if (len < sizeof(*h) + sizeof(in))
		return len;
	memcpy(&in, arg, sizeof(in));
	out->acl_kill_sgid = in.setxattr_flags & SETXATTR_ACL_KILL_SGID;
	memmove(arg + 8, arg + sizeof(in), len - sizeof(*h) - sizeof(in));
	h->len = (uint32_t)(len - 8);
	return h->len;
}

static uint32_t flags_at(const void *arg, size_t have, size_t offset)
{
	uint32_t v = 0;

	if (offset + sizeof(v) <= have)
		memcpy(&v, (const char *)arg + offset, sizeof(v));
	return v;
}

size_t spm_wire_request(void *buf, size_t len, struct spm_wire_init *init, struct spm_wire_request *out)
{
	struct fuse_in_header *h = buf;
	void *arg = h + 1;
	size_t have = len - sizeof(*h);

	*out = (struct spm_wire_request){ .pid = h->pid, .unique = h->unique };
	switch (h->opcode) {
	case FUSE_INIT:
		init_request(arg, have, init);
		break;
	case OP_TMPFILE:
		out->tmpfile = true;
		h->opcode = FUSE_CREATE;
		break;
	case FUSE_CREATE:
		out->kill_suidgid = flags_at(arg, have, offsetof(struct create_in, open_flags)) & OPEN_KILL_SUIDGID;
		break;
	case FUSE_OPEN:
		out->kill_suidgid = flags_at(arg, have, offsetof(struct open_in, open_flags)) & OPEN_KILL_SUIDGID;
		break;
	case FUSE_WRITE:
		out->kill_suidgid = flags_at(arg, have, offsetof(struct write_in, write_flags)) & WRITE_KILL_SUIDGID;
		break;
	case FUSE_SETATTR:
		out->kill_suidgid = flags_at(arg, have, 0) & FATTR_KILL_SUIDGID_;
		break;
	case FUSE_SETXATTR:
		if (init->agreed & SPM_FUSE_SETXATTR_EXT)
			return rewrite_setxattr(h, len, out);
		break;
	case OP_STATX:
		out->statx = true;
		return rewrite_statx(h, len);
	}
	return len;
}

uint64_t spm_wire_agreed(const void *reply, size_t len)
{
	struct init_out o;

	if (len < sizeof(struct fuse_out_header) + sizeof(o))
		return 0;
	memcpy(&o, (const char *)reply + sizeof(struct fuse_out_header), sizeof(o));
	return o.flags | (uint64_t)o.flags2 << 32;
}

void spm_wire_reply(struct iovec *iov, int count, struct spm_wire_init *init, uint64_t without)
{
	struct init_out *o;

	if (init->done || count < 2 || iov[1].iov_len < sizeof(*o))
		return;
	o = iov[1].iov_base;
	init->agreed = WANT_FLAGS & init->offered & ~without;
	*o = (struct init_out){
		.major = FUSE_KERNEL_VERSION,
		/* what this file was written for, whatever the headers at hand say */
		.minor = init->minor < 40 ? init->minor : 40,
		.flags = (uint32_t)init->agreed,
		.flags2 = (uint32_t)(init->agreed >> 32),
		.max_readahead = 8u << 20, /* the kernel takes the smaller of this and read_ahead_kb of the mount */
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = SPM_WIRE_MAX_WRITE,
		.max_pages = SPM_WIRE_MAX_WRITE / 4096,
		.time_gran = 1,
		/* 1: the region's filesystem may be passed through to, and nothing may stack on top of that */
		.max_stack_depth = init->agreed & SPM_FUSE_PASSTHROUGH ? 1 : 0,
	};
	init->done = true;
}

static void split_time(double seconds, uint64_t *sec, uint32_t *nsec)
{
	*sec = (uint64_t)seconds;
	*nsec = (uint32_t)((seconds - (double)*sec) * 1e9);
}

void spm_wire_entry(const struct fuse_entry_param *e, struct fuse_entry_out *out)
{
	const struct stat *st = &e->attr;

	*out = (struct fuse_entry_out){ .nodeid = e->ino, .generation = e->generation };
	split_time(e->entry_timeout, &out->entry_valid, &out->entry_valid_nsec);
	split_time(e->attr_timeout, &out->attr_valid, &out->attr_valid_nsec);
	out->attr = (struct fuse_attr){
		.ino = st->st_ino, .size = (uint64_t)st->st_size, .blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec, .mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec, .atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec, .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode, .nlink = (uint32_t)st->st_nlink, .uid = st->st_uid, .gid = st->st_gid,
		.rdev = (uint32_t)st->st_rdev, .blksize = (uint32_t)st->st_blksize,
	};
}

int spm_wire_backing_open(int dev_fd, int fd)
{
	struct backing_map m = { .fd = fd };
	int id = ioctl(dev_fd, IOC_BACKING_OPEN, &m);

	if (id < 0)
		return -errno;
	return id ? id : -EIO;
}

int spm_wire_backing_close(int dev_fd, int backing_id)
{
	uint32_t id = (uint32_t)backing_id;

	return ioctl(dev_fd, IOC_BACKING_CLOSE, &id) ? -errno : 0;
}
