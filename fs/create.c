/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/content.h"
#include "fs/control.h"
#include "fs/drain.h"
#include "fs/entry.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/ops.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PAGE 4096u

/* A directory in which a request wants to make a name. */
static int parent_dir(struct spm_fs *fs, uint64_t nodeid, const char *name, struct spm_inode **dir, struct spm_fd *fd)
{
	if (spm_control_names(fs, nodeid, name))
		return -EPERM;
	if (spm_drain_refuses(fs))
		return -EROFS;
	*dir = spm_itable_get(&fs->itable, nodeid);
	if (!*dir)
		return SPM_STALE;
	spm_slices_keep_room(&fs->slices, (*dir)->slice);
	return spm_fd_get(fs, *dir, nodeid, SPM_FD_PATH, fd);
}

static void become_client(fuse_req_t req)
{
	const struct fuse_ctx *c = fuse_req_ctx(req);

	spm_as_client(c->uid, c->gid, c->umask);
}

static int link_fd(int fd, int dirfd, const char *name)
{
	char path[64];

	if (!linkat(fd, "", dirfd, name, AT_EMPTY_PATH))
		return 0;
	if (errno != ENOENT)
		return -errno;
	/* without CAP_DAC_READ_SEARCH of the first user namespace there is only the long way */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* Where inode @st->st_ino gets its second name, so that its handle stays good while nobody links it. */
static int link_orphan(struct spm_slice *s, int fd, const struct stat *st)
{
	char name[SPM_ORPHAN_NAME_LEN];

	spm_slice_orphan_name(st->st_ino, name);
	return link_fd(fd, s->orphans_fd, name);
}

/*
 * A file made by O_TMPFILE gets a name among the orphans. What an earlier worker made for this request is gone: it was marked, or
 * removed, before anything was served again (spm_orphan_finish()). Its number may be another's by now.
 */
static int link_tmpfile(struct spm_slice *s, int fd, struct stat *st)
{
	int rc;

	spm_self->desk->begun = 0;
	spm_begin(st->st_ino, 0, 0);
	rc = link_orphan(s, fd, st);
	spm_fault("linked");
	st->st_nlink = 1;
	return rc;
}

/* A file that this request has made was never open or mapped: what it will hold can leave without a lease test. */
static int give_head(struct spm_fs *fs, const struct spm_inode *rec, bool fresh)
{
	if (!fs->swap)
		return 0;
	return spm_swap_file(fs->swap, rec->slice, rec->ino, &rec->handle, fresh) ? 0 : -ENOMEM;
}

/* A descriptor of the file; *@fresh: it is new, by this request (or its first try). */
static int open_new(int dirfd, const char *name, mode_t mode, int flags, bool *fresh)
{
	const int how = O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC | (flags & O_TRUNC);
	bool again = spm_again(NULL, NULL);
	int fd;

	spm_begin(0, 0, 0);
	*fresh = true;
	fd = openat(dirfd, name, how | O_EXCL, mode);
	if (fd < 0 && errno == EEXIST && (again || !(flags & O_EXCL))) {
		*fresh = again;
		fd = openat(dirfd, name, how, mode);
	}
	spm_fault("effect");
	return fd;
}

static bool is_full(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

static int make_file(fuse_req_t req, struct spm_slice *s, int dirfd, const char *name, mode_t mode, int flags,
		     bool *fresh, struct stat *st)
{
	/* sgid in @mode: the client's kernel has applied the rules of setgid directories already */
	spm_keep_suid bool keep = spm_fsetid(mode & S_ISGID);
	bool tmpfile = spm_self->wire.tmpfile;
	unsigned int turns = 0;
	int fd, rc;

	(void)keep;
	become_client(req);
	do {
		if (tmpfile) {
			*fresh = true;
			fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode & 07777);
			spm_fault("effect");
		} else {
			fd = open_new(dirfd, name, mode & 07777, flags, fresh);
		}
		rc = fd < 0 ? -errno : 0;
	} while (is_full(rc) && spm_orphans_wait(spm_fs_of(req), &turns));
	if (rc)
		return rc;
	if (fstat(fd, st))
		rc = -errno;
	else if (tmpfile)
		rc = link_tmpfile(s, fd, st);
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

void spm_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *dir = NULL, *rec = NULL;
	spm_auto_fd struct spm_fd dfd = SPM_FD_NONE;
	spm_auto_close int fd = -1;
	struct fuse_entry_param e = { 0 };
	struct spm_wire_open_out open_out;
	struct stat st;
	bool fresh = false;
	int rc = parent_dir(fs, parent, name, &dir, &dfd);

	if (!rc) {
		fd = make_file(req, spm_slice_of(fs, dir), dfd.fd, name, mode, fi->flags, &fresh, &st);
		rc = fd < 0 ? fd : 0;
	}
	if (!rc)
		rc = spm_entry_make(fs, dir->slice, fd, "", fresh, &st, &e, &rec);
	if (!rc && spm_self->wire.tmpfile) {
		spm_inode_set(rec, SPM_INODE_ORPHAN);
		atomic_fetch_add(&fs->orphans_known, 1);
		e.attr.st_nlink = 0;
	}
	if (!rc) {
		if (!spm_self->wire.tmpfile)
			rc = spm_names_set(fs, e.ino, parent, name);
		if (!rc)
			rc = give_head(fs, rec, fresh);
		if (!rc)
			rc = spm_open_file(fs, rec, e.ino, fd, fi->flags & ~O_TRUNC, &open_out);
		if (rc)
			spm_uncount(fs, e.ino);
	}
	if (!rc && !spm_self->wire.tmpfile)
		spm_fresh_changed(fs, parent);
	if (rc)
		spm_reply_rc(req, rc);
	else if (spm_open_reply(req, &e, &open_out) == -ENOENT) {
		spm_open_undo(fs, e.ino, open_out.fh);
		spm_uncount(fs, e.ino);
	}
}

/* Common end of the requests that make something other than an open file. */
static void reply_made(fuse_req_t req, uint64_t parent, int dirfd, const char *name, bool fresh, int rc)
{
	struct fuse_entry_param e;

	if (!rc) {
		spm_fresh_changed(spm_fs_of(req), parent);
		rc = spm_entry_lookup(spm_fs_of(req), parent, dirfd, name, fresh, &e);
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		spm_entry_reply(req, &e);
}

/* After an attempt to make a name: whether it is there because this request made it before. */
static int made(int rc, bool again, int dirfd, const char *name, mode_t type)
{
	int failed = rc ? -errno : 0;
	struct stat st;

	spm_fault("effect");
	if (failed == -EEXIST && again && !fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) &&
	    (st.st_mode & S_IFMT) == type)
		return 0;
	return failed;
}

void spm_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct spm_inode *dir = NULL;
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	unsigned int turns = 0;
	spm_keep_suid bool keep = spm_fsetid(mode & S_ISGID);
	int rc = parent_dir(spm_fs_of(req), parent, name, &dir, &fd);

	(void)keep;
	if (!rc) {
		bool again = spm_again(NULL, NULL);

		become_client(req);
		spm_begin(0, 0, 0);
		do
			rc = made(mknodat(fd.fd, name, mode, rdev), again, fd.fd, name, mode & S_IFMT ? mode & S_IFMT : S_IFREG);
		while (is_full(rc) && spm_orphans_wait(spm_fs_of(req), &turns));
	}
	reply_made(req, parent, fd.fd, name, true, rc);
}

void spm_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct spm_inode *dir = NULL;
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	unsigned int turns = 0;
	int rc = parent_dir(spm_fs_of(req), parent, name, &dir, &fd);

	if (!rc) {
		bool again = spm_again(NULL, NULL);

		become_client(req);
		spm_begin(0, 0, 0);
		do
			rc = made(mkdirat(fd.fd, name, mode), again, fd.fd, name, S_IFDIR);
		while (is_full(rc) && spm_orphans_wait(spm_fs_of(req), &turns));
	}
	reply_made(req, parent, fd.fd, name, true, rc);
}

/* ENOSPC may mean that no inode is left: then no room helps, nor where all room is for content (fs/pool.h). */
static bool needs_page(struct spm_fs *fs, const struct spm_inode *dir, int rc)
{
	struct statvfs sv;

	return is_full(rc) && !fs->pool && !spm_slice_statfs(spm_slice_of(fs, dir), &sv) &&
	       !sv.f_bavail;
}

void spm_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *dir = NULL;
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	unsigned int tries = 0;
	int rc = parent_dir(fs, parent, name, &dir, &fd);

	if (!rc) {
		bool again = spm_again(NULL, NULL);

		become_client(req);
		spm_begin(0, 0, 0);
		do { /* a long target takes a page */
			rc = symlinkat(target, fd.fd, name) ? -errno : 0;
		} while (is_full(rc) && (needs_page(fs, dir, rc) ? spm_content_room(fs, dir->slice, rc, PAGE, &tries) :
								  spm_orphans_wait(fs, &tries)));
		errno = -rc;
		rc = made(rc, again, fd.fd, name, S_IFLNK);
	}
	reply_made(req, parent, fd.fd, name, true, rc);
}

/*
 * A file made by O_TMPFILE has one name already, among the orphans: linking it in is moving that one.
 * (Other orphans never come here: the client's kernel does not link a file whose link count is 0.)
 */
static int link_in(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int dirfd, const char *name)
{
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);
	struct spm_slice *s = spm_slice_of(fs, rec);
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	char orphan[SPM_ORPHAN_NAME_LEN];
	struct stat st;
	int rc;

	(void)lock;
	rc = spm_fd_get(fs, rec, nodeid, SPM_FD_PATH, &fd);
	if (rc)
		return rc;
	if (fstat(fd.fd, &st))
		return -errno;
	if (spm_inode_is(rec, SPM_INODE_ORPHAN) && st.st_nlink == 1) {
		spm_slice_orphan_name(rec->ino, orphan);
		if (renameat2(s->orphans_fd, orphan, dirfd, name, RENAME_NOREPLACE))
			return -errno;
		spm_inode_clear(rec, SPM_INODE_ORPHAN);
		atomic_fetch_sub(&fs->orphans_known, 1);
		return 0;
	}
	return link_fd(fd.fd, dirfd, name);
}

/* Whether the name is the inode's already. It may have been its first, taken from among the orphans. */
static bool is_linked(struct spm_fs *fs, struct spm_inode *rec, int dirfd, const char *name)
{
	struct spm_slice *s = spm_slice_of(fs, rec);
	char orphan[SPM_ORPHAN_NAME_LEN];
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) || st.st_ino != rec->ino)
		return false;
	spm_slice_orphan_name(rec->ino, orphan);
	if (fstatat(s->orphans_fd, orphan, &st, AT_SYMLINK_NOFOLLOW))
		spm_inode_clear(rec, SPM_INODE_ORPHAN);
	return true;
}

void spm_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec = spm_itable_get(&fs->itable, ino), *dir = NULL;
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	unsigned int turns = 0;
	int rc = spm_control_is(ino) ? -EPERM : rec ? parent_dir(fs, newparent, newname, &dir, &fd) : SPM_STALE;

	if (!rc && rec->slice != dir->slice)
		rc = -EXDEV;
	if (!rc) {
		bool again = spm_again(NULL, NULL);

		spm_begin(rec->ino, 0, ino);
		do
			rc = link_in(fs, rec, ino, fd.fd, newname);
		while (is_full(rc) && spm_orphans_wait(fs, &turns));
		spm_fault("effect");
		if (rc && again)
			rc = is_linked(fs, rec, fd.fd, newname) ? 0 : rc;
		spm_content_touched(fs, rec->slice, rec->ino);
	}
	reply_made(req, newparent, fd.fd, newname, false, rc);
}
