/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/control.h"
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

/*
 * With data in slots: what pread(2) does, that it counts as a use of the file included. What ends before a damaged extent is
 * an error as a whole for a page cache (@mirror), which would take it for the file's end; it asks again for each page.
 */
static ssize_t read_through(struct spm_pin *pin, int fd, void *buf, size_t size, off_t off, bool mirror)
{
	ssize_t n = spm_swap_read(pin, fd, buf, size, off);
	struct stat st;
	char byte;

	if (n > 0 && mirror && (size_t)n < size) {
		if (fstat(fd, &st))
			return -errno;
		if (st.st_size - off > n)
			return -EIO;
	}
	/* nothing is allocated by it */
	return n > 0 && pread(fd, &byte, 1, off) < 0 ? -errno : n;
}

/* Reads and answers. @pin keeps what is here from leaving until it has been read. */
static int read_pinned(fuse_req_t req, struct spm_pin *pin, int fd, size_t size, off_t off, bool mirror)
{
	struct spm_thread *t = spm_self;
	ssize_t n;

	if (!pin->through && size >= SPLICE_MIN && !reply_splice(req, fd, size, off))
		return 0;
	if (!t->io_buf)
		t->io_buf = aligned_alloc(4096, SPM_WIRE_MAX_WRITE);
	if (!t->io_buf)
		return -ENOMEM;
	if (pin->through)
		n = read_through(pin, fd, t->io_buf, size, off, mirror);
	else if ((n = pread(fd, t->io_buf, size, off)) < 0)
		n = -errno;
	spm_swap_unpin(pin);
	if (n >= 0)
		fuse_reply_buf(req, t->io_buf, (size_t)n);
	return n < 0 ? (int)n : 0;
}

void spm_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
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
		rc = spm_content_pin(fs, rec, (uint64_t)off, (uint64_t)off + size, SPM_PIN_READ, &pin);
	if (!rc)
		rc = read_pinned(req, &pin, fd.fd, size, off, (fi->fh & SPM_FH_KIND_MASK) == SPM_OPEN_MIRROR);
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

void spm_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		  struct fuse_file_info *fi)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct spm_fs *fs = spm_fs_of(req);
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
	rc = data_fd(fs, ino, &rec, &fd);
	if (!rc) {
		spm_keep_suid bool keep = spm_fsetid(!spm_self->wire.kill_suidgid && spm_inode_is(rec, SPM_INODE_PRIV));

		(void)keep;
		if (spm_inode_is(rec, SPM_INODE_PRIV))
			spm_as_self();
		n = spm_content_write(fs, rec, fd.fd, buf, size, off);
		rc = n >= 0 ? 0 : n == -EBADF ? -EPERM : (int)n;
		spm_fault("effect");
		spm_done(rc, (uint64_t)n);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, (size_t)n);
}

static int punch(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	int rc = spm_content_pin(fs, rec, from, to, SPM_PIN_DROP, &pin);

	if (!rc && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)))
		rc = -errno;
	spm_content_fault(fs, "trim:punched");
	if (!rc && fs->swap)
		spm_swap_dropped(&pin);
	return rc;
}

/* More than device and swap together hold is refused at once, before anything has to leave for it. */
static bool is_hopeless(struct spm_fs *fs, uint16_t slice, uint64_t len)
{
	struct spm_swap_stats st;
	struct statvfs sv;

	spm_swap_stats(fs->swap, &st);
	return !spm_slices_statfs(&fs->slices, slice, &sv) &&
	       len + st.reserve_bytes > (uint64_t)sv.f_blocks * sv.f_frsize + st.space_bytes;
}

/*
 * With swap memory is allocated piece by piece, since all of it need not be on the device at once. Holes that were filled
 * stay filled if that fails in the end; what lies behind the file's end is given back, as nobody would ever see it.
 */
static int allocate(struct spm_fs *fs, struct spm_inode *rec, int fd, int mode, off_t off, off_t len)
{
	uint64_t from = (uint64_t)off, to = from + (uint64_t)len, reached, behind;
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	struct stat st;
	int rc = 0;

	if (!fs->swap) {
		if (spm_slice_of(fs, rec)->bind || fs->slices.file)
			rc = spm_content_commit(fs, spm_slice_of(fs, rec), fd, from, to);
		return rc ? rc : fallocate(fd, mode, off, len) ? -errno : 0;
	}
	if (is_hopeless(fs, rec->slice, (uint64_t)len))
		return -ENOSPC;
	if (fstat(fd, &st))
		return -errno;
	rc = spm_content_allocate(fs, rec, fd, from, to, &reached);
	if (!rc && !(mode & FALLOC_FL_KEEP_SIZE)) /* the size last: here there is memory already, or room for a page */
		rc = spm_content_pin(fs, rec, to - 1, to, SPM_PIN_WRITE, &pin);
	if (!rc && !(mode & FALLOC_FL_KEEP_SIZE) && fallocate(fd, 0, (off_t)to - 1, 1))
		rc = -errno;
	spm_swap_unpin(&pin);
	behind = ((uint64_t)st.st_size + 4095) & ~UINT64_C(4095);
	if (behind < from)
		behind = from;
	if (rc && reached > behind)
		(void)punch(fs, rec, fd, behind, reached);
	return rc;
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
			rc = punch(fs, rec, fd.fd, (uint64_t)off, (uint64_t)off + (uint64_t)len);
		else if (!(mode & ~FALLOC_FL_KEEP_SIZE))
			rc = allocate(fs, rec, fd.fd, mode, off, len);
		else /* not one that moves or zeroes what may be in slots; tmpfs knows none of these */
			rc = fs->swap ? -EOPNOTSUPP : fallocate(fd.fd, mode, off, len) ? -errno : 0;
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
	uint32_t file = 0;
	off_t at = 0;
	int rc = spm_control_is(ino) ? -EINVAL : data_fd(fs, ino, &rec, &fd);

	(void)fi;
	if (!rc)
		rc = spm_content_head(fs, rec, &file);
	if (!rc) {
		/* the position of a shared descriptor means nothing: data goes by pread and pwrite */
		at = file ? spm_swap_seek(fs->swap, file, fd.fd, off, whence) : lseek(fd.fd, off, whence);
		rc = at >= 0 ? 0 : file ? (int)at : -errno;
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_lseek(req, at);
}

#define COPY_MAX ((size_t)8 << 20) /* with swap: what two pins may cover */

/* One try at [@off[0] + @done, ...) with what it reads here. */
static ssize_t copy_some(struct spm_fs *fs, const uint32_t file[2], const int fd[2], const off_t off[2], size_t done, size_t len)
{
	const uint64_t from[2] = { (uint64_t)off[0] + done, (uint64_t)off[1] + done };
	const uint64_t to[2] = { from[0] + len, from[1] + len };
	struct spm_pin pin[2] = { SPM_PIN_NONE, SPM_PIN_NONE };
	loff_t at[2] = { (loff_t)from[0], (loff_t)from[1] };
	int rc = spm_swap_pin_two(fs->swap, file, from, to, pin);
	ssize_t n;

	if (rc)
		return rc;
	n = copy_file_range(fd[0], &at[0], fd[1], &at[1], len, 0);
	n = n < 0 ? -errno : n;
	spm_swap_unpin(&pin[0]);
	spm_swap_unpin(&pin[1]);
	return n;
}

/* copy_file_range(2), but for room: all of it up to the end of the source, or what there was room for. */
static ssize_t copy(struct spm_fs *fs, struct spm_inode *const rec[2], const int fd[2], const off_t off[2], size_t len)
{
	loff_t at[2] = { off[0], off[1] };
	unsigned int tries = 0;
	uint32_t file[2];
	size_t done = 0;
	ssize_t n;

	if (!fs->swap) {
		do {
			n = copy_file_range(fd[0], &at[0], fd[1], &at[1], len - done, 0);
			n = n < 0 ? -errno : n;
			done += n > 0 ? (size_t)n : 0;
		} while (done < len && n && spm_content_go_on(fs, rec[1]->slice, n, len - done, &tries));
		return done ? (ssize_t)done : n;
	}
	for (int i = 0; i < 2; i++) {
		int rc = spm_content_head(fs, rec[i], &file[i]);

		if (rc)
			return rc;
	}
	do {
		n = copy_some(fs, file, fd, off, done, len - done < COPY_MAX ? len - done : COPY_MAX);
		if (n > 0)
			done += (size_t)n;
	} while (done < len && spm_content_go_on(fs, rec[1]->slice, n, len - done, &tries));
	return done ? (ssize_t)done : n;
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
	if (!rc) {
		spm_keep_suid bool keep = spm_fsetid(spm_inode_is(rec[1], SPM_INODE_PRIV));

		(void)keep;
		spm_as_self();
		spm_session_blocking();
		n = copy(fs, rec, (int[]){ from.fd, to.fd }, (off_t[]){ off_in, off_out }, len);
		rc = n < 0 ? (int)n : 0;
		spm_fault("effect");
		spm_done(rc, (uint64_t)n);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, (size_t)n);
}

/* chattr +i and +a, see spm_content_fix(). */
static bool makes_fixed(unsigned int cmd, const char *buf)
{
	unsigned int flags;

	if (cmd == FS_IOC_FSSETXATTR)
		return ((const struct fsxattr *)(const void *)buf)->fsx_xflags & (FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND);
	memcpy(&flags, buf, sizeof(flags));
	return cmd == FS_IOC_SETFLAGS && flags & (FS_IMMUTABLE_FL | FS_APPEND_FL);
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

static int pass_on(struct spm_fs *fs, const struct spm_inode *rec, int fd, unsigned int cmd, char *buf)
{
	struct flags_arg a = { .fd = fd, .cmd = cmd, .buf = buf };
	struct stat st;

	if (fs->swap && makes_fixed(cmd, buf) && !fstat(fd, &st) && S_ISREG(st.st_mode))
		return spm_content_fix(fs, rec, set_flags, &a);
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
