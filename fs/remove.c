/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that go: unlink, rmdir, and what a rename replaces.
 *
 * The last name of a file, and a directory, is moved among the orphans of its slice instead of removed, since
 * the kernel may go on referring to it (open, mapped, working directory) and without a name its file handle
 * would die. FORGET removes it for good. The move is one atomic rename: at no instant is the file without a
 * name. The client's kernel holds the locks of both directories and of the victim over all of this.
 */
#include "fs/control.h"
#include "fs/ops.h"
#include "fs/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

struct place {
	struct spm_inode *dir;
	struct spm_fd fd;
	const char *name;
};

static void place_put(struct place *p)
{
	spm_fd_put(&p->fd);
}
#define auto_place __attribute__((cleanup(place_put)))

static int place_get(struct spm_fs *fs, uint64_t parent, const char *name, struct place *out)
{
	*out = (struct place){ .fd = SPM_FD_NONE, .name = name };
	if (spm_control_names(parent, name))
		return -EPERM;
	out->dir = spm_itable_get(&fs->itable, parent);
	if (!out->dir)
		return SPM_STALE;
	return spm_fd_get(fs, out->dir, parent, SPM_FD_PATH, &out->fd);
}

static void mark_orphan(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);

	spm_inode_set(rec, SPM_INODE_ORPHAN);
	pthread_mutex_unlock(lock);
}

static int check_empty(int dirfd, const char *name)
{
	spm_auto_close int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	char buf[1024] __attribute__((aligned(8)));
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = getdents64(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
				return -ENOTEMPTY;
			at += d->d_reclen;
		}
	}
	return n < 0 ? -errno : 0;
}

/* Moves @p among the orphans. */
static int move_to_orphans(struct spm_fs *fs, const struct place *p, const struct stat *st)
{
	struct spm_slice *s = spm_slice_of(fs, p->dir);
	char orphan[SPM_ORPHAN_NAME_LEN];
	struct spm_inode *rec;
	uint64_t nodeid;

	rec = spm_itable_find(&fs->itable, s->id, st->st_ino, &nodeid);
	if (!rec) /* not known to the kernel: nobody can refer to it */
		return unlinkat(p->fd.fd, p->name, S_ISDIR(st->st_mode) ? AT_REMOVEDIR : 0) ? -errno : 0;
	spm_slice_orphan_name(st->st_ino, orphan);
	if (renameat2(p->fd.fd, p->name, s->orphans_fd, orphan, RENAME_NOREPLACE))
		return -errno;
	mark_orphan(fs, rec, nodeid);
	return 0;
}

/* Whether a file that loses a name has another one, and one by which it can be found. */
static bool keeps_a_name(struct spm_fs *fs, const struct spm_inode *dir, const struct stat *st)
{
	struct spm_inode *rec;
	uint64_t nodeid;

	if (st->st_nlink == 1)
		return false;
	if (!fs->names.on)
		return true;
	rec = spm_itable_find(&fs->itable, dir->slice, st->st_ino, &nodeid);
	return !rec || spm_inode_is(rec, SPM_INODE_ORPHAN);
}

void spm_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct spm_fs *fs = spm_fs_of(req);
	auto_place struct place p;
	struct stat st;
	int rc = place_get(fs, parent, name, &p);

	if (!rc && fstatat(p.fd.fd, name, &st, AT_SYMLINK_NOFOLLOW))
		rc = -errno;
	if (!rc && S_ISDIR(st.st_mode))
		rc = -EISDIR;
	if (!rc) {
		if (keeps_a_name(fs, p.dir, &st))
			rc = unlinkat(p.fd.fd, name, 0) ? -errno : 0;
		else
			rc = move_to_orphans(fs, &p, &st);
	}
	if (!rc)
		spm_fresh_changed(fs, parent);
	spm_reply_rc(req, rc);
}

void spm_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct spm_fs *fs = spm_fs_of(req);
	auto_place struct place p;
	struct stat st;
	int rc = place_get(fs, parent, name, &p);

	if (!rc && fstatat(p.fd.fd, name, &st, AT_SYMLINK_NOFOLLOW))
		rc = -errno;
	if (!rc && !S_ISDIR(st.st_mode))
		rc = -ENOTDIR;
	if (!rc)
		rc = check_empty(p.fd.fd, name);
	if (!rc)
		rc = move_to_orphans(fs, &p, &st);
	if (!rc)
		spm_fresh_changed(fs, parent);
	spm_reply_rc(req, rc);
}

/* The two change places, and the victim leaves from where the other was. */
static int trade_places(struct spm_fs *fs, const struct place *from, const struct place *to, const struct stat *victim,
			unsigned int flags)
{
	int rc;

	if (renameat2(from->fd.fd, from->name, to->fd.fd, to->name, RENAME_EXCHANGE))
		return -errno;
	rc = move_to_orphans(fs, from, victim);
	if (!rc && flags & RENAME_WHITEOUT && mknodat(from->fd.fd, from->name, S_IFCHR, makedev(0, 0)))
		rc = -errno;
	return rc;
}

/* A file gets its orphan name first, so that the rename that takes its last other name is one atomic step. */
static int replace_file(struct spm_fs *fs, const struct place *from, const struct place *to, const struct stat *victim,
			unsigned int flags)
{
	struct spm_slice *s = spm_slice_of(fs, to->dir);
	char orphan[SPM_ORPHAN_NAME_LEN];
	struct spm_inode *rec = NULL;
	uint64_t nodeid;
	int rc = 0;

	if (!keeps_a_name(fs, to->dir, victim))
		rec = spm_itable_find(&fs->itable, s->id, victim->st_ino, &nodeid);
	if (rec) {
		spm_slice_orphan_name(victim->st_ino, orphan);
		if (linkat(to->fd.fd, to->name, s->orphans_fd, orphan, 0))
			/* a name costs an inode of nr_inodes, of which there is none left */
			return errno == ENOSPC ? trade_places(fs, from, to, victim, flags) : -errno;
	}
	if (renameat2(from->fd.fd, from->name, to->fd.fd, to->name, flags))
		rc = -errno;
	if (rec && rc)
		unlinkat(s->orphans_fd, orphan, 0);
	else if (rec)
		mark_orphan(fs, rec, nodeid);
	return rc;
}

/* The name that an inode is found by is where it was moved to. */
static int follow_name(struct spm_fs *fs, const struct spm_inode *dir, const struct stat *st, uint64_t parent,
		       const char *name)
{
	uint64_t nodeid;

	if (S_ISDIR(st->st_mode) || !spm_itable_find(&fs->itable, dir->slice, st->st_ino, &nodeid))
		return 0;
	return spm_names_set(fs, nodeid, parent, name);
}

void spm_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
		   unsigned int flags)
{
	struct spm_fs *fs = spm_fs_of(req);
	auto_place struct place from, to = { .fd = SPM_FD_NONE };
	struct stat victim, moved, other;
	int rc = place_get(fs, parent, name, &from);

	if (!rc)
		rc = place_get(fs, newparent, newname, &to);
	if (rc) {
		spm_reply_rc(req, rc);
		return;
	}
	if (flags & RENAME_WHITEOUT) /* it makes an inode, which is the caller's */
		spm_as_client(fuse_req_ctx(req)->uid, fuse_req_ctx(req)->gid, 0);
	if (fs->names.on && (fstatat(from.fd.fd, name, &moved, AT_SYMLINK_NOFOLLOW) ||
			     (flags & RENAME_EXCHANGE && fstatat(to.fd.fd, newname, &other, AT_SYMLINK_NOFOLLOW))))
		rc = -errno;
	else if (flags & (RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    fstatat(to.fd.fd, newname, &victim, AT_SYMLINK_NOFOLLOW))
		rc = renameat2(from.fd.fd, name, to.fd.fd, newname, flags) ? -errno : 0;
	else if (S_ISDIR(victim.st_mode)) {
		/* directories cannot be linked */
		rc = check_empty(to.fd.fd, newname);
		if (!rc)
			rc = trade_places(fs, &from, &to, &victim, flags);
	}
	else
		rc = replace_file(fs, &from, &to, &victim, flags);
	if (!rc && fs->names.on) {
		rc = follow_name(fs, to.dir, &moved, newparent, newname);
		if (!rc && flags & RENAME_EXCHANGE)
			rc = follow_name(fs, from.dir, &other, parent, name);
	}
	if (!rc)
		spm_fresh_changed(fs, parent);
	if (!rc && newparent != parent)
		spm_fresh_changed(fs, newparent);
	spm_reply_rc(req, rc);
}
