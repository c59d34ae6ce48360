/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/attr.h"
#include "core/commit.h"
#include "fs/caller.h"
#include "fs/content.h"
#include "fs/control.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/ops.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#ifndef SYS_fchmodat2 /* Linux 6.6 */
#define SYS_fchmodat2 452
#endif

static double timeout_of(const struct spm_inode *rec, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return SPM_TIMEOUT_LONG;
	if (st->st_mode & (S_ISUID | S_ISGID))
		return 0;
	if (spm_inode_is(rec, SPM_INODE_WRMAPPED) ||
	    (spm_inode_is(rec, SPM_INODE_MAPPED) && spm_commit_missing(st)))
		return 0;
	return SPM_TIMEOUT_LONG;
}

int spm_attr_show(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, struct stat *st, double *timeout)
{
	int rc = S_ISREG(st->st_mode) ? fs->content->show(fs, rec, nodeid, fd, st) : 0;

	if (rc < 0)
		return rc;
	st->st_ino = spm_slice_ino(rec->slice, st->st_ino);
	if (spm_inode_is(rec, SPM_INODE_ORPHAN))
		st->st_nlink = S_ISDIR(st->st_mode) || !st->st_nlink ? 0 : st->st_nlink - 1;
	if (st->st_size > SPM_LARGE)
		spm_inode_set(rec, SPM_INODE_LARGE);
	if (S_ISREG(st->st_mode) && st->st_mode & (S_ISUID | S_ISGID))
		spm_inode_set(rec, SPM_INODE_PRIV);
	if (timeout)
		*timeout = rc ? 0 : timeout_of(rec, st);
	return 0;
}

int spm_attr_get(struct spm_fs *fs, uint64_t nodeid, struct stat *st, double *timeout)
{
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	int rc;

	if (!rec)
		return SPM_STALE;
	rc = spm_fd_get(fs, rec, nodeid, SPM_FD_PATH, &fd);
	if (rc)
		return rc;
	if (spm_inode_is(rec, SPM_INODE_DIR))
		spm_fresh_shown(fs, nodeid);
	if (fstat(fd.fd, st))
		return -errno;
	return spm_attr_show(fs, rec, nodeid, fd.fd, st, timeout);
}

static struct spm_wire_sx_time sx_time(struct timespec t)
{
	return (struct spm_wire_sx_time){ .sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec };
}

static struct timespec from_sx(struct statx_timestamp t)
{
	return (struct timespec){ .tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec };
}

/* The one thing that STATX has and GETATTR has not is the birth time. */
static void reply_statx(fuse_req_t req, uint64_t nodeid)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_wire_statx_out out = { .flags = 0 };
	struct statx sx;
	struct stat st;
	double timeout;
	int rc = rec ? spm_fd_get(fs, rec, nodeid, SPM_FD_PATH, &fd) : SPM_STALE;

	if (!rc && spm_inode_is(rec, SPM_INODE_DIR))
		spm_fresh_shown(fs, nodeid);
	if (!rc && statx(fd.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &sx))
		rc = -errno;
	if (!rc) {
		st = (struct stat){ .st_ino = sx.stx_ino, .st_nlink = sx.stx_nlink, .st_mode = sx.stx_mode,
				    .st_size = (off_t)sx.stx_size, .st_blocks = (blkcnt_t)sx.stx_blocks,
				    .st_mtim = from_sx(sx.stx_mtime), .st_ctim = from_sx(sx.stx_ctime) };
		rc = spm_attr_show(fs, rec, nodeid, fd.fd, &st, &timeout);
	}
	if (rc) {
		spm_reply_rc(req, rc);
		return;
	}
	out.attr_valid = (uint64_t)timeout;
	out.stat.mask = sx.stx_mask;
	out.stat.blksize = sx.stx_blksize;
	out.stat.attributes = sx.stx_attributes;
	out.stat.attributes_mask = sx.stx_attributes_mask;
	out.stat.nlink = (uint32_t)st.st_nlink;
	out.stat.uid = sx.stx_uid;
	out.stat.gid = sx.stx_gid;
	out.stat.mode = sx.stx_mode;
	out.stat.ino = st.st_ino;
	out.stat.size = (uint64_t)st.st_size;
	out.stat.blocks = (uint64_t)st.st_blocks;
	out.stat.atime = sx_time(from_sx(sx.stx_atime));
	out.stat.btime = sx_time(from_sx(sx.stx_btime));
	out.stat.ctime = sx_time(st.st_ctim);
	out.stat.mtime = sx_time(st.st_mtim);
	out.stat.rdev_major = sx.stx_rdev_major;
	out.stat.rdev_minor = sx.stx_rdev_minor;
	fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

void spm_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct stat st;
	double timeout;
	int rc;

	(void)fi;
	if (spm_control_is(ino)) {
		if (spm_self->wire.statx) /* the kernel asks again with GETATTR for these */
			fuse_reply_err(req, EOPNOTSUPP);
		else
			spm_control_getattr(req, ino);
		return;
	}
	if (spm_self->wire.statx) {
		reply_statx(req, ino);
		return;
	}
	spm_open_recheck_mapped(fs, ino);
	rc = spm_attr_get(fs, ino, &st, &timeout);
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_attr(req, &st, timeout);
}

static int set_mode(int fd, mode_t mode)
{
	/* the client's kernel has taken sgid out already where its caller may not set it */
	spm_keep_suid bool keep = spm_fsetid(mode & S_ISGID);
	char path[64];

	(void)keep;
	if (!syscall(SYS_fchmodat2, fd, "", mode & 07777, AT_EMPTY_PATH))
		return 0;
	if (errno != ENOSYS)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, mode & 07777) ? -errno : 0;
}

static int set_times(struct spm_fs *fs, const struct spm_inode *rec, int fd, const struct stat *attr, int to_set)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	uint32_t file = spm_content_find(fs, rec);

	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		ts[0] = attr->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		ts[1] = attr->st_mtim;
	/* a move puts back what was there when it began */
	if (file)
		return spm_swap_set_times(fs->swap, file, fd, ts);
	return utimensat(fd, "", ts, AT_EMPTY_PATH) ? -errno : 0;
}

/*
 * sgid on a file that its group may not execute is not a privilege, and chown takes it only from callers who
 * are neither privileged nor in the group.
 */
static bool chown_keeps_sgid(int fd)
{
	uint32_t pid = spm_self->wire.pid;
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && (st.st_mode & (S_ISGID | S_IXGRP)) == S_ISGID &&
	       (spm_caller_has_cap(pid, CAP_FSETID) || spm_caller_in_group(pid, st.st_gid));
}

static int set_owner(int fd, uid_t uid, gid_t gid)
{
	spm_keep_suid bool keep = spm_fsetid(chown_keeps_sgid(fd));

	(void)keep;
	spm_as_self();
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) ? -errno : 0;
}

#define SET_TIMES (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)
#define SET_OWNER (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)

static int apply(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, const struct stat *attr, int to_set)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	int rc = spm_fd_get(fs, rec, nodeid, SPM_FD_PATH, &fd);

	/*
	 * A request that sets nothing is chown(-1, -1), or the kernel taking suid and sgid off a file that
	 * is written to: either is what this chown does.
	 */
	if (!rc && (to_set & SET_OWNER || !(to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_SIZE | SET_TIMES)))) {
		uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
		gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;

		rc = set_owner(fd.fd, uid, gid);
	}
	if (!rc && to_set & FUSE_SET_ATTR_MODE)
		rc = set_mode(fd.fd, attr->st_mode);
	if (!rc && to_set & FUSE_SET_ATTR_SIZE)
		rc = spm_open_truncate(fs, rec, nodeid, (uint64_t)attr->st_size);
	if (!rc && to_set & SET_TIMES)
		rc = set_times(fs, rec, fd.fd, attr, to_set);
	spm_fault("effect");
	if (to_set & ~(FUSE_SET_ATTR_SIZE | SET_TIMES) || !to_set)
		spm_content_touched(fs, rec->slice, rec->ino);
	return rc;
}

void spm_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec;
	struct stat st;
	double timeout;
	int rc;

	(void)fi;
	if (spm_control_is(ino)) {
		spm_control_setattr(req, ino, to_set);
		return;
	}
	rec = spm_itable_get(&fs->itable, ino);
	rc = rec ? apply(fs, rec, ino, attr, to_set) : SPM_STALE;
	if (!rc)
		rc = spm_attr_get(fs, ino, &st, &timeout);
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_attr(req, &st, timeout);
}
