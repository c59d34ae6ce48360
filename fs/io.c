/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/claim.h"
#include "fs/content.h"
#include "fs/control.h"
#include "fs/drain.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/ops.h"
#include "fs/session.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

/* The descriptors at hand update atime; a client that opened with O_NOATIME gets one of its own. */
static int open_noatime(struct spm_fs *fs, uint64_t nodeid, struct spm_fd *fd)
{
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);

	fd->fd = rec ? spm_inode_open(fs, rec, nodeid, O_RDONLY | O_NOATIME) : SPM_STALE;
	return fd->fd < 0 ? fd->fd : 0;
}

static int data_fd(struct spm_fs *fs, uint64_t nodeid, struct spm_inode **rec, struct spm_fd *fd)
{
	*rec = spm_itable_get(&fs->itable, nodeid);
	if (!*rec)
		return SPM_STALE;
	return spm_fd_get(fs, *rec, nodeid, SPM_FD_IO, fd);
}

void spm_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec;
	int rc;

	if (spm_control_is(ino)) {
		spm_control_read(req, ino, fi->fh, size, off);
		return;
	}
	rec = spm_itable_get(&fs->itable, ino);
	if (!rec)
		rc = SPM_STALE;
	else if (fi->flags & O_NOATIME)
		rc = open_noatime(fs, ino, &fd);
	else
		rc = spm_fd_get(fs, rec, ino, SPM_FD_IO, &fd);
	if (!rc)
		rc = fs->content->reply(req, rec, fd.fd, size, off, (fi->fh & SPM_FH_KIND_MASK) == SPM_OPEN_MIRROR);
	if (rc)
		spm_reply_rc(req, rc);
}

/* True: an earlier worker came to the end of this request, and here is its answer. */
static bool answer_done(fuse_req_t req)
{
	uint64_t n;
	int rc;

	if (!spm_was_done(&rc, &n))
		return false;
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, (size_t)n);
	return true;
}

/* Whether a write there makes a hole in what somebody may have mapped. */
static bool leaves_gap(struct spm_fs *fs, const struct spm_inode *rec, int fd, off_t off)
{
	struct stat st;

	return atomic_load_explicit(&fs->promises.on, memory_order_relaxed) && spm_inode_is(rec, SPM_INODE_MAPPED) &&
	       !fstat(fd, &st) && off > st.st_size;
}

/* For a request that makes a file longer: what its size is before, for who does it again. */
static void note_size(int fd, uint64_t end)
{
	struct stat st;

	if (!fstat(fd, &st) && end > (uint64_t)st.st_size)
		spm_begin((uint64_t)st.st_size, 0, 0);
}

/*
 * A request that came again may find less room than it had the first time: what its dead worker had written of [off, off + size)
 * beyond the @n bytes that are told now is not left behind. No other request makes the file longer meanwhile: the client's
 * kernel holds the inode's lock.
 */
static void take_back_rest(struct spm_fs *fs, const struct spm_inode *rec, int fd, off_t off, size_t size, ssize_t n)
{
	uint64_t end = (uint64_t)off + (n > 0 ? (uint64_t)n : 0), was;
	struct stat st;
	int rc;

	if (n == (ssize_t)size || !spm_again(&was, NULL) || fstat(fd, &st))
		return;
	if (n <= 0 || end < was)
		end = was;
	rc = (uint64_t)st.st_size > end ? fs->content->shrink(fs, rec, fd, end) : 0;
	if (rc)
		spm_log(SPM_LOG_ERR, "inode %llu: cannot take back a part of a write: %s", (unsigned long long)rec->ino,
			strerror(-rc));
}

/*
 * Of pages that it writes back the client's kernel takes every answer but an error for all of them: what is
 * missing would be lost, and neither msync(2) nor close(2) would say so. So the rest (@all) is tried again, until it
 * is there or there is an error to tell.
 */
static ssize_t write_out(struct spm_fs *fs, const struct spm_inode *rec, int fd, const char *buf, size_t size,
			 off_t off, bool all)
{
	ssize_t n = fs->content->write(fs, rec, fd, buf, size, off), more;

	while (all && n > 0 && (size_t)n < size) {
		more = fs->content->write(fs, rec, fd, buf + n, size - (size_t)n, off + n);
		if (more <= 0)
			return more ? more : -EIO;
		n += more;
	}
	return n;
}

void spm_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		  struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec;
	ssize_t n = -1;
	bool gap;
	int rc;

	if (spm_control_is(ino)) {
		spm_control_write(req, ino, buf, size);
		return;
	}
	if (answer_done(req))
		return;
	rc = data_fd(fs, ino, &rec, &fd);
	/* what was written to a mapping of a mirror was taken already */
	if (!rc && !fi->writepage && !spm_again(NULL, NULL))
		rc = spm_drain_growth(fs, fd.fd, (uint64_t)off + size);
	if (!rc) {
		spm_keep_suid bool keep = spm_fsetid(!spm_self->wire.kill_suidgid && spm_inode_is(rec, SPM_INODE_PRIV));

		(void)keep;
		if (spm_inode_is(rec, SPM_INODE_PRIV))
			spm_as_self();
		gap = leaves_gap(fs, rec, fd.fd, off);
		note_size(fd.fd, (uint64_t)off + size);
		n = write_out(fs, rec, fd.fd, buf, size, off, fi->writepage);
		take_back_rest(fs, rec, fd.fd, off, size, n);
		if (gap)
			spm_promise_changed(fs, rec, ino, fd.fd);
		rc = n >= 0 ? 0 : n == -EBADF ? -EPERM : (int)n;
		spm_fault("effect");
		spm_done(rc, (uint64_t)n);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, (size_t)n);
}

/*
 * With swap, of a file that becomes longer by it. The size first, as truncate(2) does it: nothing behind a file's end can leave, so all
 * of it would have to be on the device at once.
 */
static int allocate_longer(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t end)
{
	uint64_t was, reached;
	int rc, back;

	if (!spm_again(NULL, NULL) && spm_content_is_hopeless(fs, rec->slice, end - from))
		return -ENOSPC;
	rc = fs->content->resize(fs, rec, fd, end, &was);
	if (rc)
		return rc;
	rc = fs->content->fill(fs, rec, fd, from, end, &reached);
	if (!rc)
		return 0;
	back = fs->content->shrink(fs, rec, fd, was);
	if (back)
		spm_log(SPM_LOG_ERR, "inode %llu: cannot take back an allocation: %s", (unsigned long long)rec->ino, strerror(-back));
	return rc;
}

static int allocate(struct spm_fs *fs, struct spm_inode *rec, int fd, int mode, off_t off, off_t len)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	/* (an earlier worker that came to the size may have died before its memory) */
	if (fs->swap && !mode && (st.st_size < off + len || spm_again(NULL, NULL)))
		return allocate_longer(fs, rec, fd, (uint64_t)off, (uint64_t)(off + len));
	return fs->content->allocate(fs, rec, fd, mode, off, len);
}

void spm_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec;
	int rc;

	(void)fi;
	if (spm_was_done(&rc, NULL)) {
		spm_reply_rc(req, rc);
		return;
	}
	rc = data_fd(fs, ino, &rec, &fd);
	if (!rc) {
		/* the client's kernel has taken suid away already if its caller loses it */
		spm_keep_suid bool keep = spm_fsetid(spm_inode_is(rec, SPM_INODE_PRIV));

		(void)keep;
		spm_as_self();
		spm_session_blocking();
		if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
			rc = fs->content->punch(fs, rec, fd.fd, (uint64_t)off, (uint64_t)off + (uint64_t)len);
		else if (!(mode & ~FALLOC_FL_KEEP_SIZE))
			rc = spm_draining(fs) ? -EROFS : allocate(fs, rec, fd.fd, mode, off, len);
		else
			rc = fs->content->other(fs, rec, fd.fd, mode, off, len);
		spm_promise_changed(fs, rec, ino, fd.fd);
		spm_claim_settle(fs, rec->slice);
		if (rc == -EBADF)
			rc = -EPERM;
		spm_fault("effect");
		spm_done(rc, 0);
	}
	spm_reply_rc(req, rc);
}

void spm_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec;
	off_t at = 0;
	int rc = spm_control_is(ino) ? -EINVAL : data_fd(fs, ino, &rec, &fd);

	(void)fi;
	if (!rc) {
		at = fs->content->seek(fs, rec, fd.fd, off, whence);
		rc = at < 0 ? (int)at : 0;
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_lseek(req, at);
}

void spm_op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in,
			    fuse_ino_t out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	spm_auto_fd struct spm_fd from = SPM_FD_NONE, to = SPM_FD_NONE;
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec[2];
	ssize_t n = 0;
	int rc;

	(void)fi_in;
	(void)fi_out;
	(void)flags; /* there is none, and the client's kernel has refused all others */
	if (answer_done(req))
		return;
	rc = spm_control_is(in) || spm_control_is(out) ? -EOPNOTSUPP : data_fd(fs, in, &rec[0], &from);
	if (!rc)
		rc = data_fd(fs, out, &rec[1], &to);
	if (!rc)
		rc = spm_drain_growth(fs, to.fd, (uint64_t)off_out + len);
	if (!rc) {
		spm_keep_suid bool keep = spm_fsetid(spm_inode_is(rec[1], SPM_INODE_PRIV));

		(void)keep;
		spm_as_self();
		spm_session_blocking();
		spm_slices_keep_promises(&fs->slices, rec[1]->slice, len);
		note_size(to.fd, (uint64_t)off_out + len);
		n = fs->content->copy(fs, rec, (int[]){ from.fd, to.fd }, (off_t[]){ off_in, off_out }, len);
		take_back_rest(fs, rec[1], to.fd, off_out, len, n);
		spm_promise_changed(fs, rec[1], out, to.fd);
		rc = n < 0 ? (int)n : 0;
		spm_fault("effect");
		spm_done(rc, (uint64_t)n);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, (size_t)n);
}

static bool sets_flags(unsigned int cmd, const char *buf, unsigned int xflags, unsigned int fl)
{
	unsigned int flags;

	if (cmd == FS_IOC_FSSETXATTR)
		return ((const struct fsxattr *)(const void *)buf)->fsx_xflags & xflags;
	memcpy(&flags, buf, sizeof(flags));
	return cmd == FS_IOC_SETFLAGS && flags & fl;
}

/* chattr +i and +a, see spm_content_fix(). */
static bool makes_fixed(unsigned int cmd, const char *buf)
{
	return sets_flags(cmd, buf, FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND, FS_IMMUTABLE_FL | FS_APPEND_FL);
}

static bool makes_append_only(unsigned int cmd, const char *buf)
{
	return sets_flags(cmd, buf, FS_XFLAG_APPEND, FS_APPEND_FL);
}

struct flags_arg {
	int fd;
	unsigned int cmd;
	char *buf;
};

static int set_flags(void *arg)
{
	const struct flags_arg *a = arg;

	return ioctl(a->fd, a->cmd, a->buf) ? -errno : 0;
}

/*
 * Quotas by project are how an administrator limits a directory on a disk: its files stay in the project that they were made in.
 * (The kernel would let an owner leave.)
 */
static int check_project(int fd, unsigned int cmd, const char *buf)
{
	const struct fsxattr *to = (const void *)buf;
	struct fsxattr is = { 0 };
	unsigned int flags, now;

	memcpy(&flags, buf, sizeof(flags));
	if (cmd == FS_IOC_SETFLAGS)
		return ioctl(fd, FS_IOC_GETFLAGS, &now) || !((flags ^ now) & FS_PROJINHERIT_FL) ? 0 : -EPERM;
	if (cmd != FS_IOC_FSSETXATTR || ioctl(fd, FS_IOC_FSGETXATTR, &is))
		return 0;
	return to->fsx_projid == is.fsx_projid && !((to->fsx_xflags ^ is.fsx_xflags) & FS_XFLAG_PROJINHERIT) ? 0 : -EPERM;
}

static int pass_on(struct spm_fs *fs, const struct spm_inode *rec, int fd, unsigned int cmd, char *buf)
{
	struct flags_arg a = { .fd = fd, .cmd = cmd, .buf = buf };
	int rc = fs->root.fixed ? check_project(fd, cmd, buf) : 0;
	struct stat st;

	if (rc)
		return rc;
	if (fs->swap && makes_fixed(cmd, buf) && !fstat(fd, &st) && S_ISREG(st.st_mode))
		return spm_content_fix(fs, rec, set_flags, &a);
	/* its size could not grow any more: no page is ever written there (fs/pool.h) */
	if (fs->pool && makes_append_only(cmd, buf) && !fstat(fd, &st) && S_ISREG(st.st_mode))
		return -EOPNOTSUPP;
	return set_flags(&a);
}

/* chattr(1) and lsattr(1): the kernel has split and checked them, what is left is to pass them on. */
void spm_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg, struct fuse_file_info *fi,
		  unsigned int flags, const void *in_buf, size_t in_size, size_t out_size)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	char buf[sizeof(struct fsxattr)] __attribute__((aligned(8))) = { 0 };
	struct spm_inode *rec;
	int rc;

	(void)arg;
	(void)fi;
	(void)flags;
	if (cmd != FS_IOC_GETFLAGS && cmd != FS_IOC_SETFLAGS && cmd != FS_IOC_FSGETXATTR && cmd != FS_IOC_FSSETXATTR) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	rc = spm_control_is(ino) || in_size > sizeof(buf) || out_size > sizeof(buf) ?
		     -ENOTTY : data_fd(spm_fs_of(req), ino, &rec, &fd);
	if (!rc) {
		if (in_size)
			memcpy(buf, in_buf, in_size);
		rc = pass_on(spm_fs_of(req), rec, fd.fd, cmd, buf);
		spm_fault("effect");
		if (cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR) {
			/* descriptors from before would still write; and ctime has changed */
			spm_fd_drop(&spm_fs_of(req)->fds, ino);
			spm_content_touched(spm_fs_of(req), rec->slice, rec->ino);
			spm_fresh_void(spm_fs_of(req), ino);
		}
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_ioctl(req, 0, out_size ? buf : NULL, out_size);
}
