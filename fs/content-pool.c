/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Content in a pool of extents on a device, and in slots of swap files; the rules are in fs/pool.h. */
#include "fs/content.h"
#include "fs/fault.h"
#include "fs/pool.h"
#include "fs/session.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>

#define PIECE ((size_t)4 << 20) /* of a copy: what both files are locked for at a time */

static struct spm_pool_file file_of(const struct spm_inode *rec)
{
	return spm_pooled_file(rec->slice, rec->ino);
}

/* Immutable files are open for reading only, whatever is asked for. */
static int check_writable(int fd)
{
	int how = fcntl(fd, F_GETFL);

	return how < 0 ? -errno : (how & O_ACCMODE) == O_RDONLY ? -EPERM : 0;
}

static int set_size(int fd, uint64_t size)
{
	if (!ftruncate(fd, (off_t)size))
		return 0;
	return errno == EINVAL || errno == EBADF ? -EPERM : -errno;
}

/* What a write does to the file but for its bytes: times, suid, and a size of @end or more. With the pool's lock of it. */
static int reach(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t end)
{
	pthread_mutex_t *lock = &fs->size_locks[rec->ino % SPM_SIZE_LOCKS];
	struct stat st;
	int rc;

	pthread_mutex_lock(lock);
	rc = fstat(fd, &st) ? -errno : set_size(fd, end > (uint64_t)st.st_size ? end : (uint64_t)st.st_size);
	pthread_mutex_unlock(lock);
	return rc;
}

/* -- reading -- */

/* Of what is to be read from @from on, what there is. */
static int up_to_end(int fd, uint64_t from, size_t *len)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (from >= (uint64_t)st.st_size)
		*len = 0;
	else if (*len > (uint64_t)st.st_size - from)
		*len = (size_t)((uint64_t)st.st_size - from);
	return 0;
}

/* Up to the file's end, which is no nearer as long as it is pinned or locked; a read counts as a use of it. */
static ssize_t read_some(struct spm_fs *fs, const struct spm_inode *rec, struct spm_pin *pin, int fd, void *buf, size_t size,
			 off_t off, bool mirror)
{
	const struct spm_pool_file f = file_of(rec);
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	char byte;
	ssize_t n;

	if (!pin->through)
		spm_pool_lock(fs->pool, &f, SPM_POOL_SHARED, &held);
	n = up_to_end(fd, (uint64_t)off, &size);
	if (n || !size)
		return n;
	if (pin->through)
		n = spm_swap_read(pin, fd, buf, size, off);
	else
		n = spm_pool_read(fs->pool, &f, buf, size, (uint64_t)off);
	/* what ends before a damaged extent a page cache would take for the file's end; it asks again for each page */
	if (n >= 0 && (size_t)n < size && mirror)
		return -EIO;
	/* of the region's file, which has no page there, and gets none */
	return n > 0 && pread(fd, &byte, 1, off) < 0 ? -errno : n;
}

static int reply_read(fuse_req_t req, struct spm_inode *rec, int fd, size_t size, off_t off, bool mirror)
{
	struct spm_thread *t = spm_self;
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	ssize_t n;

	if (!spm_thread_io_buf(t))
		return -ENOMEM;
	n = spm_content_pin(spm_fs_of(req), rec, (uint64_t)off, (uint64_t)off + size, SPM_PIN_READ, &pin);
	if (!n)
		n = read_some(spm_fs_of(req), rec, &pin, fd, t->io_buf, size, off, mirror);
	spm_swap_unpin(&pin);
	if (n >= 0)
		fuse_reply_buf(req, t->io_buf, (size_t)n);
	return n < 0 ? (int)n : 0;
}

static off_t seek(struct spm_fs *fs, const struct spm_inode *rec, int fd, off_t off, int whence)
{
	const struct spm_pool_file f = file_of(rec);
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	struct stat st;
	uint32_t file;
	int rc = spm_content_head(fs, rec, &file);

	if (rc)
		return rc;
	if (file)
		return spm_swap_seek(fs->swap, file, fd, off, whence);
	spm_pool_lock(fs->pool, &f, SPM_POOL_SHARED, &held);
	if (fstat(fd, &st))
		return -errno;
	return spm_pool_seek(fs->pool, &f, off, whence, (uint64_t)st.st_size);
}

static int show(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, struct stat *st)
{
	const struct spm_pool_file f = file_of(rec);

	if (spm_content_find(fs, rec))
		return spm_content_show(fs, rec, nodeid, fd, st);
	st->st_blocks = (blkcnt_t)(spm_pool_file_bytes(fs->pool, &f) / 512);
	return 0;
}

/* -- writing -- */

/* Bytes that a request may have pinned at a time, of the few extents that its slice may have: a quarter of them; 0: there is but one. */
static uint64_t most_pinned(struct spm_fs *fs, uint16_t slice)
{
	const uint64_t extent = spm_pool_extent_bytes(fs->pool);
	struct spm_pool_account a;
	uint64_t others, all;

	spm_pool_account(fs->pool, slice, &a);
	others = a.sure - a.min;
	all = a.capacity > others ? a.capacity - others : 0;
	all = a.max < all ? a.max : all;
	if (all < 2 * extent)
		return 0;
	return all < 8 * extent ? extent : all / 4 / extent * extent;
}

/* How far a request for [from, to) goes at a time. With swap alone: what is not pinned, may be more than there is. */
static uint64_t round_end(struct spm_fs *fs, uint16_t slice, uint64_t from, uint64_t to)
{
	const uint64_t extent = spm_pool_extent_bytes(fs->pool);
	uint64_t end, most;

	if (!fs->swap || to <= (from / extent + 1) * extent)
		return to;
	most = most_pinned(fs, slice);
	end = from / extent * extent + (most ? most : extent);
	return end < to ? end : to;
}

/* A slice that has its max is as full to who writes there as a device is: that is what tmpfs says. */
static ssize_t full(ssize_t rc)
{
	return rc == -EDQUOT ? -ENOSPC : rc;
}

static int commit(struct spm_fs *fs, const struct spm_pool_file *f, uint64_t from, uint64_t to)
{
	return (int)full(spm_pool_commit(fs->pool, f, from, to, NULL, NULL));
}

/* Memory for [from, to), or for the beginning of it: where that ends. -ENOSPC: for none. Takes the pool's lock itself. */
static int commit_some(struct spm_fs *fs, const struct spm_pool_file *f, uint64_t from, uint64_t to, uint64_t *reached)
{
	const uint64_t extent = spm_pool_extent_bytes(fs->pool);
	int rc = 0;

	*reached = from;
	while (!rc && *reached < to) {
		uint64_t end = (*reached / extent + 1) * extent;

		if (end > to)
			end = to;
		rc = commit(fs, f, *reached, end);
		if (!rc)
			*reached = end;
	}
	return *reached > from ? 0 : rc;
}

static int punch(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to)
{
	const uint64_t extent = spm_pool_extent_bytes(fs->pool);
	const struct spm_pool_file f = file_of(rec);
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	uint64_t whole = to;
	struct stat st;
	int rc = spm_content_pin(fs, rec, from, to, SPM_PIN_DROP, &pin);

	if (rc)
		return rc;
	spm_pool_lock(fs->pool, &f, SPM_POOL_EXCLUSIVE, &held);
	if (fstat(fd, &st))
		return -errno;
	/* behind the file's end there is nothing but zeros in its last extent: that goes as a whole */
	if (to >= (uint64_t)st.st_size && to / extent == (uint64_t)st.st_size / extent)
		whole = (to + extent - 1) / extent * extent;
	/* there is nothing to punch in the region's file: for its times, and for what the kernel refuses */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, 1))
		return -errno;
	rc = spm_pool_punch(fs->pool, &f, from, whole);
	spm_content_fault(fs, "trim:punched");
	spm_pool_unlock(&held);
	if (!rc && fs->swap)
		spm_swap_dropped(&pin);
	return rc;
}

/* Memory, size, bytes: of as much as there is memory for. */
static ssize_t write_once(struct spm_fs *fs, const struct spm_inode *rec, int fd, const char *buf, size_t size, uint64_t from)
{
	const struct spm_pool_file f = file_of(rec);
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	uint64_t reached;
	int rc = commit_some(fs, &f, from, from + size, &reached);

	if (rc)
		return rc;
	spm_fault("committed");
	spm_pool_lock(fs->pool, &f, SPM_POOL_SHARED, &held);
	rc = reach(fs, rec, fd, reached);
	spm_fault("sized");
	return rc ? rc : full(spm_pool_write(fs->pool, &f, buf, (size_t)(reached - from), from));
}

static ssize_t write_some(struct spm_fs *fs, const struct spm_inode *rec, int fd, const void *buf, size_t size, off_t off)
{
	unsigned int tries = 0;
	size_t done = 0, some;
	ssize_t n = check_writable(fd);

	if (n || !size)
		return n;
	if (spm_content_store(fs, rec, fd, buf, size, off))
		return (ssize_t)size;
	do {
		spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
		uint64_t at = (uint64_t)off + done, end = round_end(fs, rec->slice, at, (uint64_t)off + size);

		some = (size_t)(end - at);
		n = spm_content_pin(fs, rec, at, end, SPM_PIN_WRITE, &pin);
		if (n)
			break;
		n = write_once(fs, rec, fd, (const char *)buf + done, some, at);
		if (n > 0)
			done += (size_t)n;
		spm_swap_unpin(&pin);
	} while (done < size && spm_content_go_on(fs, rec->slice, n, some, &tries));
	return done ? (ssize_t)done : n;
}

/* With swap piece by piece, since all of it need not be on the device at once; without, all of it fits or nothing is made. */
static int fill(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to, uint64_t *reached)
{
	const struct spm_pool_file f = file_of(rec);
	unsigned int tries = 0;
	int rc = 0;

	(void)fd;
	*reached = from;
	if (!fs->swap) {
		do
			rc = commit(fs, &f, from, to);
		while (rc == -ENOSPC && spm_orphans_wait(fs, &tries));
		*reached = rc ? from : to;
		return rc;
	}
	if (spm_content_is_hopeless(fs, rec->slice, to - from))
		return -ENOSPC;
	while (*reached < to) {
		spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
		uint64_t at = *reached, end = (at / PIECE + 1) * PIECE;

		end = round_end(fs, rec->slice, at, end > to ? to : end);
		rc = spm_content_pin(fs, rec, at, end, SPM_PIN_WRITE, &pin);
		if (rc)
			break;
		rc = commit_some(fs, &f, at, end, reached);
		spm_swap_unpin(&pin);
		if (!spm_content_go_on(fs, rec->slice, rc ? rc : 1, end - at, &tries))
			break;
	}
	return rc;
}

static int allocate(struct spm_fs *fs, struct spm_inode *rec, int fd, int mode, off_t off, off_t len)
{
	const struct spm_pool_file f = file_of(rec);
	uint64_t from = (uint64_t)off, end = from + (uint64_t)len, reached, behind;
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	struct stat st;
	int rc = check_writable(fd);

	if (!rc && fstat(fd, &st))
		rc = -errno;
	if (rc)
		return rc;
	rc = fill(fs, rec, fd, from, end, &reached);
	if (!rc) {
		spm_pool_lock(fs->pool, &f, SPM_POOL_SHARED, &held);
		return reach(fs, rec, fd, mode & FALLOC_FL_KEEP_SIZE ? 0 : end);
	}
	/* behind the file's end nobody would ever see it */
	behind = ((uint64_t)st.st_size + 4095) & ~UINT64_C(4095);
	if (from < behind)
		from = behind;
	if (reached > from)
		(void)punch(fs, rec, fd, from, reached);
	return rc;
}

/* As tmpfs: it knows none of these. */
static int change_otherwise(struct spm_fs *fs, const struct spm_inode *rec, int fd, int mode, off_t off, off_t len)
{
	(void)fs;
	(void)rec;
	(void)fd;
	(void)mode;
	(void)off;
	(void)len;
	return -EOPNOTSUPP;
}

/* -- the size -- */

/* Exclusive. Sets the size; what was behind it is given up. */
static int cut(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t size, uint64_t was)
{
	const struct spm_pool_file f = file_of(rec);
	int note, rc;

	note = size > was ? -1 : spm_pool_trim_begin(fs->pool, &f, &rec->handle);
	rc = set_size(fd, size);
	spm_fault("truncated");
	spm_content_fault(fs, "trim:truncated");
	if (note < 0)
		return rc;
	/* (of what the device has lost the end cannot be zeroed, and cannot be read either) */
	if (!rc)
		rc = spm_pool_punch(fs->pool, &f, size, UINT64_MAX);
	spm_fault("punched");
	spm_content_fault(fs, "trim:punched");
	spm_pool_trim_end(fs->pool, note);
	return rc == -EIO ? 0 : rc;
}

static int resize(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t size, uint64_t *was)
{
	const struct spm_pool_file f = file_of(rec);
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	uint64_t truncated = 0;
	struct stat st;
	int rc = spm_content_pin(fs, rec, size, UINT64_MAX, SPM_PIN_TRIM, &pin);

	if (rc)
		return rc;
	spm_pool_lock(fs->pool, &f, SPM_POOL_EXCLUSIVE, &held);
	if (fstat(fd, &st))
		return -errno;
	/* a request that comes again finds the new size, but perhaps not all of its memory */
	if (!spm_again(was, &truncated))
		*was = (uint64_t)st.st_size;
	spm_begin(*was, 0, 0);
	if (size < (uint64_t)st.st_size && (uint64_t)st.st_size - size > SPM_LARGE)
		spm_session_blocking();
	/* (what an earlier worker has cut off, this one has given up when it started) */
	rc = truncated ? 0 : cut(fs, rec, fd, size, (uint64_t)st.st_size);
	if (rc)
		return rc;
	spm_self->desk->b = 1;
	spm_pool_unlock(&held);
	if (fs->swap && !truncated && size <= (uint64_t)st.st_size)
		spm_swap_dropped(&pin);
	return 0;
}

static int shrink(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t size)
{
	const struct spm_pool_file f = file_of(rec);
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	int rc = spm_content_pin(fs, rec, size, UINT64_MAX, SPM_PIN_TRIM, &pin);

	if (rc)
		return rc;
	spm_pool_lock(fs->pool, &f, SPM_POOL_EXCLUSIVE, &held);
	rc = cut(fs, rec, fd, size, size);
	spm_pool_unlock(&held);
	if (!rc && fs->swap)
		spm_swap_dropped(&pin);
	return rc;
}

/* -- two files -- */

static ssize_t copy_piece(struct spm_fs *fs, struct spm_inode *const rec[2], const int fd[2], uint64_t from, uint64_t to, size_t len)
{
	static const enum spm_pool_how how[2] = { SPM_POOL_SHARED, SPM_POOL_SHARED };
	const struct spm_pool_file f[2] = { file_of(rec[0]), file_of(rec[1]) };
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };
	uint64_t reached;
	int rc = up_to_end(fd[0], from, &len);

	if (!rc && len)
		rc = commit_some(fs, &f[1], to, to + len, &reached);
	if (rc || !len)
		return rc;
	spm_pool_lock_two(fs->pool, f, how, &held);
	len = (size_t)(reached - to);
	rc = up_to_end(fd[0], from, &len); /* it may be shorter now */
	reached = to + len;
	if (!rc && len)
		rc = reach(fs, rec[1], fd[1], reached);
	return rc || !len ? rc : full(spm_pool_copy(fs->pool, &f[0], from, &f[1], to, (size_t)(reached - to)));
}

/* The same with what it works on pinned. */
static ssize_t copy_pinned(struct spm_fs *fs, struct spm_inode *const rec[2], const int fd[2], uint64_t from, uint64_t to,
			   size_t len)
{
	struct spm_pin pin[2] = { SPM_PIN_NONE, SPM_PIN_NONE };
	uint32_t file[2];
	ssize_t n = fs->swap ? up_to_end(fd[0], from, &len) : 0;

	for (int i = 0; i < 2 && !n; i++)
		n = spm_content_head(fs, rec[i], &file[i]);
	if (n || !len)
		return n;
	if (fs->swap)
		n = spm_swap_pin_two(fs->swap, file, (uint64_t[]){ from, to }, (uint64_t[]){ from + len, to + len }, pin);
	if (n)
		return n;
	n = copy_piece(fs, rec, fd, from, to, len);
	spm_swap_unpin(&pin[0]);
	spm_swap_unpin(&pin[1]);
	return n;
}

static ssize_t copy(struct spm_fs *fs, struct spm_inode *const rec[2], const int fd[2], const off_t off[2], size_t len)
{
	unsigned int tries = 0;
	size_t done = 0, some;
	ssize_t n = check_writable(fd[1]);
	char byte;

	/* a read counts as a use */
	if (!n && pread(fd[0], &byte, 1, off[0]) < 0)
		n = -errno;
	if (n)
		return n;
	/* both are pinned; the client's kernel reads and writes then */
	if (fs->swap && (!most_pinned(fs, rec[0]->slice) || !most_pinned(fs, rec[1]->slice)))
		return -EOPNOTSUPP;
	do {
		some = len - done < PIECE ? len - done : PIECE;
		for (int i = 0; i < 2; i++) {
			uint64_t at = (uint64_t)off[i] + done;

			some = (size_t)(round_end(fs, rec[i]->slice, at, at + some) - at);
		}
		n = copy_pinned(fs, rec, fd, (uint64_t)off[0] + done, (uint64_t)off[1] + done, some);
		done += n > 0 ? (size_t)n : 0;
	} while (done < len && spm_content_go_on(fs, rec[1]->slice, n, some, &tries));
	return done ? (ssize_t)done : n;
}

/* -- the end of a file -- */

static bool has(struct spm_fs *fs, uint16_t slice, uint64_t ino)
{
	const struct spm_pool_file f = spm_pooled_file(slice, ino);

	return spm_pool_has(fs->pool, &f) || (fs->swap && spm_swap_find(fs->swap, slice, ino));
}

static void drop(struct spm_fs *fs, uint16_t slice, uint64_t ino)
{
	const struct spm_pool_file f = spm_pooled_file(slice, ino);
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };

	/* first, so that nothing of it moves any more */
	if (fs->swap) {
		spm_session_blocking();
		spm_swap_gone(fs->swap, slice, ino);
	}
	spm_pool_lock(fs->pool, &f, SPM_POOL_EXCLUSIVE, &held);
	spm_pool_remove(fs->pool, &f);
}

const struct spm_content spm_content_in_pool = {
	.reply = reply_read,
	.write = write_some,
	.resize = resize,
	.shrink = shrink,
	.fill = fill,
	.allocate = allocate,
	.punch = punch,
	.other = change_otherwise,
	.seek = seek,
	.copy = copy,
	.show = show,
	.has = has,
	.drop = drop,
};
