/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/commit.h"
#include "fs/control.h"
#include "fs/fault.h"
#include "fs/ops.h"
#include "fs/session.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

/* From here on a splice is cheaper than a copy through a buffer (more system calls, one copy less). Requests
 * are not received that way: measured, a WRITE of 1 MiB takes longer through a pipe than copied. */
#define SPLICE_MIN 32768u

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

/*
 * Sends file content to the kernel without copying it here: header and the file's own pages through a pipe.
 * libfuse could (fuse_reply_data), but it maps the header into the pipe and grows the pipe on the way.
 * -EAGAIN: nothing was sent, copy instead.
 */
static int reply_splice(fuse_req_t req, int fd, size_t size, off_t off)
{
	struct spm_thread *t = spm_self;
	struct fuse_out_header h = { .unique = t->wire.unique };
	struct iovec iov = { .iov_base = &h, .iov_len = sizeof(h) };
	size_t done = 0, in_pipe = 0;
	struct stat st;
	ssize_t n;

	if (t->pipe[0] < 0 || fstat(fd, &st) || off >= st.st_size)
		return -EAGAIN;
	if ((off_t)size > st.st_size - off)
		size = (size_t)(st.st_size - off);
	h.len = (uint32_t)(sizeof(h) + size);
	/* the header is copied into the pipe, not referred to: it is on the stack */
	if (write(t->pipe[1], iov.iov_base, iov.iov_len) != (ssize_t)sizeof(h))
		goto reset;
	in_pipe = sizeof(h);
	while (done < size) {
		n = splice(fd, &off, t->pipe[1], NULL, size - done, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (n <= 0)
			goto reset; /* the file shrank meanwhile */
		done += (size_t)n;
		in_pipe += (size_t)n;
	}
	spm_fault("reply");
	spm_desk_answering(true);
	n = splice(t->pipe[0], NULL, spm_fs_of(req)->dev_fd, NULL, h.len, 0);
	if (n == (ssize_t)h.len || (n < 0 && errno == ENOENT)) {
		fuse_reply_none(req); /* the reply is out, or nobody waits for it: libfuse only lets go */
		return 0;
	}
reset:
	spm_thread_pipe_drain(t, in_pipe);
	return -EAGAIN;
}

void spm_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_thread *t = spm_self;
	struct spm_inode *rec;
	ssize_t n;
	int rc;

	if (spm_control_is(ino)) {
		spm_control_read(req, ino, size, off);
		return;
	}
	if (fi->flags & O_NOATIME)
		rc = open_noatime(spm_fs_of(req), ino, &fd);
	else
		rc = data_fd(spm_fs_of(req), ino, &rec, &fd);
	if (!rc && size >= SPLICE_MIN && !reply_splice(req, fd.fd, size, off))
		return;
	if (!rc && !t->io_buf)
		t->io_buf = aligned_alloc(4096, SPM_WIRE_MAX_WRITE);
	if (!rc && !t->io_buf)
		rc = -ENOMEM;
	if (rc) {
		spm_reply_rc(req, rc);
		return;
	}
	n = pread(fd.fd, t->io_buf, size, off);
	if (n < 0)
		spm_reply_rc(req, -errno);
	else
		fuse_reply_buf(req, t->io_buf, (size_t)n);
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

void spm_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		  struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_inode *rec;
	ssize_t n = -1;
	int rc;

	(void)fi;
	if (spm_control_is(ino)) {
		spm_control_write(req, ino, buf, size);
		return;
	}
	if (answer_done(req))
		return;
	rc = data_fd(spm_fs_of(req), ino, &rec, &fd);
	if (!rc) {
		spm_keep_suid bool keep = spm_fsetid(!spm_self->wire.kill_suidgid && spm_inode_is(rec, SPM_INODE_PRIV));

		(void)keep;
		if (spm_inode_is(rec, SPM_INODE_PRIV))
			spm_as_self();
		n = pwrite(fd.fd, buf, size, off);
		rc = n >= 0 ? 0 : errno == EBADF ? -EPERM : -errno;
		spm_fault("effect");
		spm_done(rc, (uint64_t)n);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, (size_t)n);
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
		if (!(mode & ~FALLOC_FL_KEEP_SIZE) && spm_slice_of(fs, rec)->bind)
			rc = spm_commit_range(spm_slice_of(fs, rec), fd.fd, (uint64_t)off, (uint64_t)(off + len));
		if (!rc && fallocate(fd.fd, mode, off, len))
			rc = errno == EBADF ? -EPERM : -errno;
		spm_fault("effect");
		spm_done(rc, 0);
	}
	spm_reply_rc(req, rc);
}

void spm_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_inode *rec;
	off_t at = 0;
	int rc = spm_control_is(ino) ? -EINVAL : data_fd(spm_fs_of(req), ino, &rec, &fd);

	(void)fi;
	if (!rc) {
		/* the position of a shared descriptor means nothing: data goes by pread and pwrite */
		at = lseek(fd.fd, off, whence);
		rc = at < 0 ? -errno : 0;
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
	struct spm_inode *rec;
	ssize_t n = 0;
	int rc;

	(void)fi_in;
	(void)fi_out;
	if (answer_done(req))
		return;
	rc = spm_control_is(in) || spm_control_is(out) ? -EOPNOTSUPP : data_fd(fs, in, &rec, &from);
	if (!rc)
		rc = data_fd(fs, out, &rec, &to);
	if (!rc) {
		spm_keep_suid bool keep = spm_fsetid(spm_inode_is(rec, SPM_INODE_PRIV));

		(void)keep;
		spm_as_self();
		spm_session_blocking();
		n = copy_file_range(from.fd, &off_in, to.fd, &off_out, len, (unsigned int)flags);
		rc = n < 0 ? -errno : 0;
		spm_fault("effect");
		spm_done(rc, (uint64_t)n);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, (size_t)n);
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
		if (ioctl(fd.fd, cmd, buf))
			rc = -errno;
		spm_fault("effect");
		if (cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR) {
			/* descriptors from before would still write; and ctime has changed */
			spm_fd_drop(&spm_fs_of(req)->fds, ino);
			spm_fresh_void(spm_fs_of(req), ino);
		}
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_ioctl(req, 0, out_size ? buf : NULL, out_size);
}
