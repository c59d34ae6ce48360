/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Content in the region's own files, and in slots of swap files. With swap, the rules are those of fs/swap.h. */
#include "core/commit.h"
#include "fs/bounded.h"
#include "fs/content.h"
#include "fs/fault.h"
#include "fs/session.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>

/* From here on a splice is cheaper than a copy through a buffer (more system calls, one copy less). Requests
 * are not received that way: measured, a WRITE of 1 MiB takes longer through a pipe than copied. */
#define SPLICE_MIN 32768u

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

#define SHORT_TRIES 4 /* somebody may make the file longer at that moment, or shorter, once or twice */

/* What is missing at its end is an error as a whole for a page cache, which would take it for the file's end: what ends before a
 * damaged extent. It asks again for each page. */
static ssize_t read_whole(struct spm_pin *pin, int fd, void *buf, size_t size, off_t off)
{
	struct stat st;
	ssize_t n = 0;

	for (int i = 0; i < SHORT_TRIES; i++) {
		n = spm_swap_read(pin, fd, buf, size, off);
		if (n <= 0 || (size_t)n == size)
			return n;
		if (fstat(fd, &st))
			return -errno;
		if (st.st_size - off <= n)
			return n;
	}
	return -EIO;
}

/* With data in slots: what pread(2) does, that it counts as a use of the file included. */
static ssize_t read_through(struct spm_pin *pin, int fd, void *buf, size_t size, off_t off, bool mirror)
{
	ssize_t n = mirror ? read_whole(pin, fd, buf, size, off) : spm_swap_read(pin, fd, buf, size, off);
	char byte;

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
	if (!spm_thread_io_buf(t))
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

static int reply_read(fuse_req_t req, struct spm_inode *rec, int fd, size_t size, off_t off, bool mirror)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	int rc = spm_content_pin(spm_fs_of(req), rec, (uint64_t)off, (uint64_t)off + size, SPM_PIN_READ, &pin);

	return rc ? rc : read_pinned(req, &pin, fd, size, off, mirror);
}

static int punch(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	int rc = spm_content_pin(fs, rec, from, to, SPM_PIN_DROP, &pin);

	if (!rc)
		rc = spm_bounded_fallocate(fs, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
	spm_content_fault(fs, "trim:punched");
	if (!rc && fs->swap)
		spm_swap_dropped(&pin);
	return rc;
}

/*
 * With swap memory is allocated piece by piece, since all of it need not be on the device at once. Holes that were filled
 * stay filled if that fails in the end; what lies behind the file's end is given back, as nobody would ever see it.
 */
static int allocate(struct spm_fs *fs, struct spm_inode *rec, int fd, int mode, off_t off, off_t len)
{
	uint64_t from = (uint64_t)off, to = from + (uint64_t)len, reached, behind;
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	unsigned int turns = 0;
	struct stat st;
	int rc = 0;

	if (!fs->swap) {
		if (spm_slice_of(fs, rec)->bind || fs->slices.file || fs->slices.claim)
			rc = spm_content_commit(fs, spm_slice_of(fs, rec), fd, from, to);
		while (!rc && (rc = fallocate(fd, mode, off, len) ? -errno : 0) == -ENOSPC && spm_orphans_wait(fs, &turns))
			rc = 0;
		return rc;
	}
	if (spm_content_is_hopeless(fs, rec->slice, (uint64_t)len))
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

/* What moves or zeroes what may be in slots; tmpfs knows none of these. */
static int change_otherwise(struct spm_fs *fs, const struct spm_inode *rec, int fd, int mode, off_t off, off_t len)
{
	(void)rec;
	if (fs->swap)
		return -EOPNOTSUPP;
	return spm_bounded_fallocate(fs, fd, mode, off, len);
}

/* The position of a shared descriptor means nothing: data goes by pread and pwrite. */
static off_t seek(struct spm_fs *fs, const struct spm_inode *rec, int fd, off_t off, int whence)
{
	uint32_t file;
	int rc = spm_content_head(fs, rec, &file);

	if (rc)
		return rc;
	if (file)
		return spm_swap_seek(fs->swap, file, fd, off, whence);
	off = lseek(fd, off, whence);
	return off < 0 ? -errno : off;
}

#define COPY_MAX ((size_t)8 << 20) /* with swap: what two pins may cover; and what is asked of nodes at once */

/* On a bound slice in parts, each no longer than its source. */
static ssize_t copy_here(const struct spm_slice *s, const int fd[2], loff_t at[2], size_t len)
{
	struct stat st;
	ssize_t n;

	if (s->bind && len > COPY_MAX)
		len = COPY_MAX;
	if (s->bind && !fstat(fd[0], &st) && at[0] < st.st_size && len > (uint64_t)(st.st_size - at[0]))
		len = (size_t)(st.st_size - at[0]);
	n = spm_commit_bind(s, fd[1], (uint64_t)at[1], (uint64_t)at[1] + len);
	if (n)
		return n;
	n = copy_file_range(fd[0], &at[0], fd[1], &at[1], len, 0);
	return n < 0 ? -errno : n;
}

/* One try at [@off[0] + @done, ...) with what it reads here. */
static ssize_t copy_some(struct spm_fs *fs, const struct spm_slice *s, const uint32_t file[2], const int fd[2], const off_t off[2],
			 size_t done, size_t len)
{
	const uint64_t from[2] = { (uint64_t)off[0] + done, (uint64_t)off[1] + done };
	const uint64_t to[2] = { from[0] + len, from[1] + len };
	struct spm_pin pin[2] = { SPM_PIN_NONE, SPM_PIN_NONE };
	loff_t at[2] = { (loff_t)from[0], (loff_t)from[1] };
	int rc = spm_swap_pin_two(fs->swap, file, from, to, pin);
	ssize_t n;

	if (rc)
		return rc;
	n = copy_here(s, fd, at, len);
	spm_swap_unpin(&pin[0]);
	spm_swap_unpin(&pin[1]);
	return n;
}

/* copy_file_range(2), but for room: all of it up to the end of the source, or what there was room for. */
static ssize_t copy(struct spm_fs *fs, struct spm_inode *const rec[2], const int fd[2], const off_t off[2], size_t len)
{
	const struct spm_slice *s = spm_slice_of(fs, rec[1]);
	loff_t at[2] = { off[0], off[1] };
	unsigned int tries = 0;
	uint32_t file[2];
	size_t done = 0;
	ssize_t n;

	if (!fs->swap) {
		do {
			n = copy_here(s, fd, at, len - done);
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
		n = copy_some(fs, s, file, fd, off, done, len - done < COPY_MAX ? len - done : COPY_MAX);
		if (n > 0)
			done += (size_t)n;
	} while (done < len && spm_content_go_on(fs, rec[1]->slice, n, len - done, &tries));
	return done ? (ssize_t)done : n;
}

static int set_end(struct spm_fs *fs, int fd, uint64_t size)
{
	int rc = spm_bounded_truncate(fs, fd, (off_t)size);

	return rc == -EINVAL || rc == -EBADF ? -EPERM : rc; /* immutable: open for reading only */
}

static int resize(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t size, uint64_t *was)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	struct stat st = { .st_size = 0 };
	uint64_t truncated = 0;
	int rc = spm_content_pin(fs, rec, size, UINT64_MAX, SPM_PIN_TRIM, &pin);

	if (rc)
		return rc;
	if (fstat(fd, &st))
		return -errno;
	/* a request that comes again finds the new size, but perhaps not all of its memory */
	if (!spm_again(was, &truncated))
		*was = (uint64_t)st.st_size;
	spm_begin(*was, 0, 0);
	if (size < (uint64_t)st.st_size && (uint64_t)st.st_size - size > SPM_LARGE)
		spm_session_blocking();
	rc = truncated ? 0 : set_end(fs, fd, size);
	if (rc)
		return rc;
	spm_fault("truncated");
	spm_content_fault(fs, "trim:truncated");
	spm_self->desk->b = 1;
	/* (if it was truncated by an earlier worker, this one has dropped the rest when it started) */
	if (fs->swap && !truncated && size <= (uint64_t)st.st_size)
		spm_swap_dropped(&pin);
	return 0;
}

static int shrink(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t size)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	int rc = spm_content_pin(fs, rec, size, UINT64_MAX, SPM_PIN_TRIM, &pin);

	if (!rc)
		rc = spm_bounded_truncate(fs, fd, (off_t)size);
	if (!rc && fs->swap)
		spm_swap_dropped(&pin);
	return rc;
}

/* What it has in slots is free before its inode is gone. */
static bool has(struct spm_fs *fs, uint16_t slice, uint64_t ino)
{
	return fs->swap && spm_swap_find(fs->swap, slice, ino);
}

static void drop(struct spm_fs *fs, uint16_t slice, uint64_t ino)
{
	spm_session_blocking();
	spm_swap_gone(fs->swap, slice, ino);
}

const struct spm_content spm_content_in_files = {
	.reply = reply_read,
	.write = spm_content_write,
	.resize = resize,
	.shrink = shrink,
	.fill = spm_content_allocate,
	.allocate = allocate,
	.punch = punch,
	.other = change_otherwise,
	.seek = seek,
	.copy = copy,
	.show = spm_content_show,
	.has = has,
	.drop = drop,
};
