/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that go: unlink, rmdir, and what a rename replaces.
 *
 * The last name of a file, and a directory, is moved among the orphans of its slice instead of removed, since
 * the kernel may go on referring to it (open, mapped, working directory) and without a name its file handle
 * would die. FORGET removes it for good. The move is one atomic rename: at no instant is the file without a
 * name. The client's kernel holds the locks of both directories and of the victim over all of this.
 */
#include "fs/content.h"
#include "fs/control.h"
#include "fs/fault.h"
#include "fs/ops.h"
#include "fs/slices.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

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
	if (spm_control_names(fs, parent, name))
		return -EPERM;
	out->dir = spm_itable_get(&fs->itable, parent);
	if (!out->dir)
		return SPM_STALE;
	spm_slices_keep_room(&fs->slices, out->dir->slice);
	return spm_fd_get(fs, out->dir, parent, SPM_FD_PATH, &out->fd);
}

/* -- what is removed, but not gone yet -- */

#define FORGET_NS  INT64_C(250000000) /* by then the client's kernel has told what it has let go of */
#define WAIT_NS    2000000
#define WAIT_TURNS 1000u
#define SHORT_DIV  8u        /* what can be written before the wait is over is more than that */

static int64_t coarse_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

bool spm_orphans_wait(struct spm_fs *fs, unsigned int *turns)
{
	static const struct timespec pause = { .tv_nsec = WAIT_NS };
	int64_t at = atomic_load(&fs->orphaned_ns);

	if (!atomic_load(&fs->orphans_going) && (!at || coarse_ns() - at > FORGET_NS))
		return false;
	if (++*turns > WAIT_TURNS)
		return false;
	spm_session_blocking();
	nanosleep(&pause, NULL);
	return true;
}

void spm_orphans_settle(struct spm_fs *fs)
{
	unsigned int turns = 0;
	struct statvfs sv;

	while ((atomic_load(&fs->orphans_going) || atomic_load(&fs->orphans_known) > 0) && !spm_slice_statfs(&fs->root, &sv) &&
	       sv.f_bavail < sv.f_blocks / SHORT_DIV && spm_orphans_wait(fs, &turns))
		;
}

static void mark_orphan(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);

	spm_inode_set(rec, SPM_INODE_ORPHAN);
	pthread_mutex_unlock(lock);
	atomic_fetch_add(&fs->orphans_known, 1);
	atomic_store(&fs->orphaned_ns, coarse_ns());
}

void spm_orphan_finish(struct spm_fs *fs, uint16_t slice, uint64_t ino)
{
	struct spm_slice *s = slice ? spm_slices_get(&fs->slices, slice) : &fs->root;
	char orphan[SPM_ORPHAN_NAME_LEN];
	struct spm_inode *rec;
	uint64_t nodeid;
	struct stat st;

	if (!ino || !s)
		return;
	rec = spm_itable_find(&fs->itable, slice, ino, &nodeid);
	spm_slice_orphan_name(ino, orphan);
	/*
	 * It may have kept other names (a rename that died before it replaced the victim): the mark is right then as
	 * well, since the orphan name is shown as none. An inode that the kernel does not know keeps only those.
	 */
	if (!rec) {
		if (!fstatat(s->orphans_fd, orphan, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode))
			(void)spm_content_remove(fs, s, ino);
		return;
	}
	if (fstatat(s->orphans_fd, orphan, &st, AT_SYMLINK_NOFOLLOW))
		spm_inode_clear(rec, SPM_INODE_ORPHAN);
	else
		mark_orphan(fs, rec, nodeid);
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

/* Whether an inode has content that does not go with it (slots, extents of a pool). */
static bool has_more(struct spm_fs *fs, const struct spm_slice *s, const struct stat *st)
{
	return S_ISREG(st->st_mode) && fs->content->has(fs, s->id, st->st_ino);
}

/*
 * Moves @p among the orphans, or if the kernel does not know it, so that nobody can refer to it, removes it. Such a file
 * with content of that kind goes by the orphans as well: it is free before the inode is gone, and a crash in between must not
 * leave a name of a file that has lost a part.
 */
static int move_to_orphans(struct spm_fs *fs, const struct place *p, const struct stat *st)
{
	struct spm_slice *s = spm_slice_of(fs, p->dir);
	char orphan[SPM_ORPHAN_NAME_LEN];
	struct spm_inode *rec;
	uint64_t nodeid;

	rec = spm_itable_find(&fs->itable, s->id, st->st_ino, &nodeid);
	if (!rec && (!has_more(fs, s, st) || st->st_nlink > 1))
		return unlinkat(p->fd.fd, p->name, S_ISDIR(st->st_mode) ? AT_REMOVEDIR : 0) ? -errno : 0;
	spm_slice_orphan_name(st->st_ino, orphan);
	if (renameat2(p->fd.fd, p->name, s->orphans_fd, orphan, RENAME_NOREPLACE))
		return -errno;
	spm_fault("effect");
	if (!rec)
		return spm_content_remove(fs, s, st->st_ino);
	mark_orphan(fs, rec, nodeid);
	spm_content_touched(fs, s->id, st->st_ino);
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

/* What is to be removed. 1: nothing, since an earlier worker has removed it for this request. */
static int find_victim(const struct place *p, struct stat *st)
{
	if (!fstatat(p->fd.fd, p->name, st, AT_SYMLINK_NOFOLLOW)) {
		spm_begin(st->st_ino, 0, 0);
		return 0;
	}
	return errno == ENOENT && spm_again(NULL, NULL) ? 1 : -errno;
}

void spm_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct spm_fs *fs = spm_fs_of(req);
	auto_place struct place p;
	struct stat st;
	int rc = place_get(fs, parent, name, &p);

	if (!rc)
		rc = find_victim(&p, &st);
	if (!rc && S_ISDIR(st.st_mode))
		rc = -EISDIR;
	if (!rc && keeps_a_name(fs, p.dir, &st)) {
		rc = unlinkat(p.fd.fd, name, 0) ? -errno : 0;
		spm_fault("effect");
		spm_content_touched(fs, p.dir->slice, st.st_ino);
	} else if (!rc) {
		rc = move_to_orphans(fs, &p, &st);
	}
	if (rc >= 0)
		spm_fresh_changed(fs, parent);
	spm_reply_rc(req, rc > 0 ? 0 : rc);
}

void spm_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct spm_fs *fs = spm_fs_of(req);
	auto_place struct place p;
	struct stat st;
	int rc = place_get(fs, parent, name, &p);

	if (!rc)
		rc = find_victim(&p, &st);
	if (!rc && !S_ISDIR(st.st_mode))
		rc = -ENOTDIR;
	if (!rc && spm_slices_place(fs, parent, &st))
		rc = -EBUSY;
	if (!rc)
		rc = check_empty(p.fd.fd, name);
	if (!rc)
		rc = move_to_orphans(fs, &p, &st);
	if (rc >= 0)
		spm_fresh_changed(fs, parent);
	spm_reply_rc(req, rc > 0 ? 0 : rc);
}

/* A rename, with what its two names stood for when it began (ino 0: nothing). */
struct move {
	struct place from, to;
	struct stat moved, victim;
	unsigned int flags;
	bool again;        /* an earlier worker may have come to its effect; then */
	uint64_t was_from, was_to;
};

/* The two change places, and the victim leaves from where the other was. */
static int trade_places(struct spm_fs *fs, const struct move *m, bool traded)
{
	int rc;

	if (!traded && renameat2(m->from.fd.fd, m->from.name, m->to.fd.fd, m->to.name, RENAME_EXCHANGE))
		return -errno;
	spm_fault("exchanged");
	rc = move_to_orphans(fs, &m->from, &m->victim);
	if (!rc && m->flags & RENAME_WHITEOUT && mknodat(m->from.fd.fd, m->from.name, S_IFCHR, makedev(0, 0)))
		rc = -errno;
	return rc;
}

/* A file gets its orphan name first, so that the rename that takes its last other name is one atomic step. */
static int replace_file(struct spm_fs *fs, const struct move *m)
{
	struct spm_slice *s = spm_slice_of(fs, m->to.dir);
	char orphan[SPM_ORPHAN_NAME_LEN];
	struct spm_inode *rec = NULL;
	bool more = false;
	struct stat left;
	uint64_t nodeid;
	int rc = 0;

	spm_slice_orphan_name(m->victim.st_ino, orphan);
	/* with an orphan name from before it only seems to have another one */
	if (!keeps_a_name(fs, m->to.dir, &m->victim) || (m->again && !fstatat(s->orphans_fd, orphan, &left, AT_SYMLINK_NOFOLLOW))) {
		rec = spm_itable_find(&fs->itable, s->id, m->victim.st_ino, &nodeid);
		more = !rec && has_more(fs, s, &m->victim); /* as in move_to_orphans() */
	}
	if ((rec || more) && linkat(m->to.fd.fd, m->to.name, s->orphans_fd, orphan, 0) && !(errno == EEXIST && m->again))
		/* a name costs an inode of nr_inodes, of which there is none left */
		return errno == ENOSPC || errno == EDQUOT ? trade_places(fs, m, false) : -errno;
	spm_fault("linked");
	if (renameat2(m->from.fd.fd, m->from.name, m->to.fd.fd, m->to.name, m->flags))
		rc = -errno;
	spm_fault("effect");
	if ((rec || more) && rc)
		unlinkat(s->orphans_fd, orphan, 0);
	if (rec && rc)
		spm_inode_clear(rec, SPM_INODE_ORPHAN); /* a takeover may have marked it */
	else if (rec)
		mark_orphan(fs, rec, nodeid);
	else if (more && !rc)
		(void)spm_content_remove(fs, s, m->victim.st_ino);
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

static int stat_at(const struct place *p, struct stat *st)
{
	if (!fstatat(p->fd.fd, p->name, st, AT_SYMLINK_NOFOLLOW))
		return 0;
	*st = (struct stat){ .st_ino = 0 };
	return errno == ENOENT ? 0 : -errno;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && !st->st_rdev;
}

/*
 * How far an earlier worker came, told by which inode is where now. Nothing but this request has changed the two
 * names since it began.
 */
enum progress { NOT_BEGUN, TRADED, VICTIM_GONE, DONE };

static enum progress how_far(const struct move *m)
{
	const uint64_t from = m->moved.st_ino, to = m->victim.st_ino;

	if (!m->again || m->was_from == m->was_to || to != m->was_from)
		return NOT_BEGUN;
	if (m->flags & RENAME_EXCHANGE)
		return from == m->was_to ? DONE : NOT_BEGUN;
	if (m->was_to && from == m->was_to)
		return TRADED;
	if (m->flags & RENAME_WHITEOUT)
		return is_whiteout(&m->moved) ? DONE : from ? NOT_BEGUN : VICTIM_GONE;
	return from ? NOT_BEGUN : DONE;
}

static int resume(struct spm_fs *fs, struct move *m, enum progress p)
{
	if (p == TRADED) { /* the victim is where the other was */
		m->victim = m->moved;
		return trade_places(fs, m, true);
	}
	if (p == VICTIM_GONE && mknodat(m->from.fd.fd, m->from.name, S_IFCHR, makedev(0, 0)))
		return -errno;
	return 0;
}

static int move(struct spm_fs *fs, struct move *m)
{
	enum progress p = how_far(m);
	int rc;

	if (p != NOT_BEGUN)
		return resume(fs, m, p);
	if (m->flags & (RENAME_NOREPLACE | RENAME_EXCHANGE) || !m->victim.st_ino) {
		rc = renameat2(m->from.fd.fd, m->from.name, m->to.fd.fd, m->to.name, m->flags) ? -errno : 0;
		spm_fault("effect");
		return rc;
	}
	if (!S_ISDIR(m->victim.st_mode))
		return replace_file(fs, m);
	/* directories cannot be linked */
	rc = check_empty(m->to.fd.fd, m->to.name);
	return rc ? rc : trade_places(fs, m, false);
}

/* In a user namespace, where inodes are found by name. */
static int follow_names(struct spm_fs *fs, const struct move *m, uint64_t parent, uint64_t newparent)
{
	struct stat now;
	int rc = fs->names.on ? stat_at(&m->to, &now) : 0;

	if (!rc && fs->names.on && now.st_ino)
		rc = follow_name(fs, m->to.dir, &now, newparent, m->to.name);
	if (!rc && fs->names.on && m->flags & RENAME_EXCHANGE)
		rc = stat_at(&m->from, &now);
	if (!rc && fs->names.on && m->flags & RENAME_EXCHANGE && now.st_ino)
		rc = follow_name(fs, m->from.dir, &now, parent, m->from.name);
	return rc;
}

static void move_put(struct move *m)
{
	place_put(&m->from);
	place_put(&m->to);
}

void spm_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
		   unsigned int flags)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct move m __attribute__((cleanup(move_put))) = { .from.fd = SPM_FD_NONE, .to.fd = SPM_FD_NONE, .flags = flags };
	int rc = place_get(fs, parent, name, &m.from);

	if (!rc)
		rc = place_get(fs, newparent, newname, &m.to);
	if (!rc)
		rc = stat_at(&m.from, &m.moved);
	if (!rc)
		rc = stat_at(&m.to, &m.victim);
	if (!rc && (spm_slices_place(fs, parent, &m.moved) || spm_slices_place(fs, newparent, &m.victim)))
		rc = -EBUSY;
	if (!rc && m.from.dir->slice != m.to.dir->slice)
		rc = -EXDEV;
	if (!rc) {
		if (flags & RENAME_WHITEOUT) /* it makes an inode, which is the caller's */
			spm_as_client(fuse_req_ctx(req)->uid, fuse_req_ctx(req)->gid, 0);
		m.again = spm_again(&m.was_from, &m.was_to);
		spm_begin(m.moved.st_ino, m.victim.st_ino, newparent);
		rc = move(fs, &m);
	}
	if (!rc) {
		spm_content_touched(fs, m.from.dir->slice, m.moved.st_ino);
		if (m.victim.st_ino) /* exchanged, or one of its names is gone */
			spm_content_touched(fs, m.to.dir->slice, m.victim.st_ino);
		rc = follow_names(fs, &m, parent, newparent);
	}
	if (!rc)
		spm_fresh_changed(fs, parent);
	if (!rc && newparent != parent)
		spm_fresh_changed(fs, newparent);
	spm_reply_rc(req, rc);
}
