/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listing. A directory handle holds no state: the offsets are the region filesystem's own, which since
 * Linux 6.6 stay with their names, so a listing goes on where it was whoever creates and deletes meanwhile,
 * and whichever worker answers.
 */
#include "fs/control.h"
#include "fs/entry.h"
#include "fs/ops.h"
#include "fs/slices.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#define GETDENTS_SIZE 32768u

struct listing {
	fuse_req_t req;
	struct spm_inode *dir;
	uint64_t nodeid;
	int fd;
	bool plus;
	char *buf;
	size_t size, used;
	int rc; /* of the first entry that could not be shown, if none could before it */
};

void spm_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!spm_control_is(ino) && !spm_itable_get(&spm_fs_of(req)->itable, ino))
		spm_reply_rc(req, SPM_STALE);
	else
		fuse_reply_open(req, fi);
}

static size_t add_plain(struct listing *l, const struct dirent64 *d)
{
	struct stat st = { .st_ino = d->d_ino, .st_mode = (mode_t)d->d_type << 12 };
	const struct spm_slice *s = spm_slices_place(spm_fs_of(l->req), l->nodeid, &st);

	if (s && atomic_load(&s->leaving))
		return 0;
	st.st_ino = s ? spm_slice_ino(s->id, s->top) : spm_slice_ino(l->dir->slice, d->d_ino);
	return fuse_add_direntry(l->req, l->buf + l->used, l->size - l->used, d->d_name, &st, d->d_off);
}

/* Each name that is shown with attributes counts as a lookup; one that does not fit must not. */
static size_t add_plus(struct listing *l, const struct dirent64 *d)
{
	struct spm_fs *fs = spm_fs_of(l->req);
	struct fuse_entry_param e = { .attr = { .st_ino = spm_slice_ino(l->dir->slice, d->d_ino),
						.st_mode = (mode_t)d->d_type << 12 } };
	size_t room = l->size - l->used, need;

	need = fuse_add_direntry_plus(l->req, NULL, 0, d->d_name, NULL, 0);
	if (need > room)
		return need;
	if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..")) {
		int rc = spm_entry_lookup(fs, l->nodeid, l->fd, d->d_name, false, &e);

		if (rc == -ENOENT || rc == SPM_LEAVING) /* went away between the two calls */
			return 0;
		if (rc) /* node id 0: the name is listed, and looked up if anyone wants it */
			e.ino = 0;
	}
	return fuse_add_direntry_plus(l->req, l->buf + l->used, room, d->d_name, &e, d->d_off);
}

/* Adds what fits of one getdents, and moves @off behind it; false: the reply is full. */
static bool add_all(struct listing *l, const char *dents, ssize_t n, off_t *off)
{
	for (ssize_t at = 0; at < n;) {
		const struct dirent64 *d = (const void *)(dents + at);
		size_t need = l->plus ? add_plus(l, d) : add_plain(l, d);

		if (need > l->size - l->used)
			return false;
		l->used += need;
		at += d->d_reclen;
		*off = d->d_off;
	}
	return true;
}

/*
 * ext4 (seen on Linux 6.18): a descriptor whose first read is at the directory's end takes that for its beginning as well, and
 * lists nothing when it is put back there. Read once elsewhere it finds its way again.
 */
static void unsettle(int fd)
{
	char dents[512] __attribute__((aligned(8)));

	if (lseek(fd, 1, SEEK_SET) == 1 && getdents64(fd, dents, sizeof(dents)) < 0)
		spm_log(SPM_LOG_DEBUG, "getdents: %m");
}

/* Seek and read belong together: the descriptor is shared. What is looked up afterwards may have to wait for others, without a lock. */
static ssize_t read_some(struct listing *l, off_t off, char *dents, size_t size)
{
	spm_locked pthread_mutex_t *lock = spm_lock_inode(spm_fs_of(l->req), l->nodeid);
	ssize_t n = lseek(l->fd, off, SEEK_SET) < 0 ? -1 : getdents64(l->fd, dents, size);

	(void)lock;
	if (n < 0)
		return -errno;
	if (!n && off && spm_fs_of(l->req)->root.fixed)
		unsettle(l->fd);
	return n;
}

static int fill(struct listing *l, off_t off)
{
	char dents[GETDENTS_SIZE] __attribute__((aligned(8)));
	/* read about as much as will be shown, or the rest is read again by the next request */
	size_t want = l->plus ? l->size / 4 : l->size;
	ssize_t n;

	if (want > sizeof(dents))
		want = sizeof(dents);
	if (want < 1024)
		want = 1024;
	do {
		n = read_some(l, off, dents, want);
	} while (n > 0 && add_all(l, dents, n, &off));
	return n < 0 ? (int)n : 0;
}

static void list(fuse_req_t req, uint64_t nodeid, size_t size, off_t off, bool plus)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct listing l = { .req = req, .nodeid = nodeid, .plus = plus, .size = size, .dir = spm_itable_get(&fs->itable, nodeid) };
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	spm_auto_free char *buf = malloc(size);
	int rc;

	if (!buf)
		rc = -ENOMEM;
	else
		rc = l.dir ? spm_fd_get(fs, l.dir, nodeid, SPM_FD_IO, &fd) : SPM_STALE;
	if (!rc) {
		l.buf = buf;
		l.fd = fd.fd;
		rc = fill(&l, off);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_buf(req, buf, l.used);
}

void spm_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	if (spm_control_is(ino))
		spm_control_readdir(req, ino, size, off, false);
	else
		list(req, ino, size, off, false);
}

void spm_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	if (spm_control_is(ino))
		spm_control_readdir(req, ino, size, off, true);
	else
		list(req, ino, size, off, true);
}
