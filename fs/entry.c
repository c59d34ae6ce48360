/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/entry.h"
#include "fs/attr.h"
#include "fs/control.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/session.h"
#include "fs/slices.h"
#include "fs/swap.h"

#include <errno.h>
#include <fcntl.h>

int spm_entry_make(struct spm_fs *fs, uint16_t slice, int dirfd, const char *name, bool fresh, struct stat *st,
		   struct fuse_entry_param *e, struct spm_inode **rec_out)
{
	unsigned int flags = 0;
	struct spm_handle h;
	struct spm_inode *rec;
	double timeout;
	uint64_t nodeid;
	int rc;

	/*
	 * Two calls by name see the same inode: the client's kernel holds the directory's lock over a
	 * lookup, and nobody but this server changes names.
	 */
	rc = spm_handle_at(dirfd, name, &h);
	if (rc)
		return rc;
	if (S_ISDIR(st->st_mode))
		flags = SPM_INODE_DIR;
	else if (S_ISREG(st->st_mode) && fs->reopened && !fresh && !fs->pool)
		/* mappings outlive a mount: in a kept region any file may have one until a lease test says no */
		flags = SPM_INODE_MAPPED;
	rec = spm_itable_intern(&fs->itable, slice, st->st_ino, &h, flags, spm_my_book(), &nodeid);
	if (!rec)
		return -ENOMEM;
	spm_fault("counted");
	if (S_ISDIR(st->st_mode)) {
		/* again, since others may change a directory at any time: what is shown was read after this was noted */
		spm_fresh_shown(fs, nodeid);
		if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) {
			spm_uncount(fs, nodeid);
			return -errno;
		}
	}
	rc = spm_attr_show(fs, rec, nodeid, *name ? -1 : dirfd, st, &timeout);
	if (rc) {
		spm_uncount(fs, nodeid);
		return rc;
	}
	*e = (struct fuse_entry_param){ .ino = nodeid, .attr = *st, .entry_timeout = SPM_TIMEOUT_LONG,
					.attr_timeout = timeout };
	if (rec_out)
		*rec_out = rec;
	return 0;
}

static int enter_slice(struct spm_fs *fs, struct spm_slice *s, struct fuse_entry_param *e)
{
	struct stat st;

	if (atomic_load(&s->leaving))
		return SPM_LEAVING;
	if (fstat(s->data_fd, &st))
		return -errno;
	return spm_entry_make(fs, s->id, s->data_fd, "", false, &st, e, NULL);
}

int spm_entry_lookup(struct spm_fs *fs, uint64_t parent, int dirfd, const char *name, bool fresh, struct fuse_entry_param *e)
{
	const struct spm_inode *dir = spm_itable_get(&fs->itable, parent);
	struct spm_slice *s;
	struct stat st;
	int rc;

	if (!dir)
		return SPM_STALE;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	s = spm_slices_place(fs, parent, &st);
	if (s)
		return enter_slice(fs, s, e);
	rc = spm_entry_make(fs, dir->slice, dirfd, name, fresh, &st, e, NULL);
	if (rc || S_ISDIR(st.st_mode))
		return rc;
	rc = spm_names_set(fs, e->ino, parent, name);
	if (rc)
		spm_uncount(fs, e->ino);
	return rc;
}

void spm_entry_reply(fuse_req_t req, const struct fuse_entry_param *e)
{
	struct spm_fs *fs = spm_fs_of(req);

	if (fuse_reply_entry(req, e) == -ENOENT)
		spm_uncount(fs, e->ino);
}

/* Nobody will refer to the inode any more: what hangs on its record goes, so that a crash leaves no record without. */
static void let_go(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	struct spm_slice *s = spm_slice_of(fs, rec);
	pthread_mutex_t *lock;

	lock = spm_lock_inode(fs, nodeid);
	spm_open_close_backing(fs, rec);
	spm_budget_drop(fs, nodeid);
	spm_promise_drop(fs, nodeid);
	pthread_mutex_unlock(lock);
	if (!spm_inode_is(rec, SPM_INODE_ORPHAN))
		return;
	if (spm_inode_is(rec, SPM_INODE_LARGE))
		spm_session_blocking(); /* giving gigabytes back takes its time */
	spm_fault("removing");
	if (spm_content_remove(fs, s, rec->ino) == -EISDIR)
		spm_slice_orphan_remove(s, rec->ino, true);
	spm_fault("removed");
}

void spm_forget_noted(struct spm_fs *fs, uint64_t nodeid, uint64_t n, const struct spm_book *b, enum spm_entry entry,
		      uint32_t mark)
{
	struct spm_dying dying = { .index = 0 };
	bool orphan = false;
	enum spm_forgot rc;

	if (spm_control_is(nodeid)) {
		if (b)
			b->ledger->entry[entry] = mark;
		return;
	}
	while ((rc = spm_itable_forget(&fs->itable, nodeid, n, &dying, b, entry, mark)) == SPM_FORGOT_LAST) {
		struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);

		if (rec && !orphan && spm_inode_is(rec, SPM_INODE_ORPHAN)) {
			orphan = true;
			atomic_fetch_add(&fs->orphans_going, 1);
		}
		if (rec)
			let_go(fs, rec, nodeid);
	}
	if (rc == SPM_FORGOT_ALL)
		spm_fd_drop(&fs->fds, nodeid);
	/* what it had is free with its last descriptor */
	if (orphan) {
		atomic_fetch_sub(&fs->orphans_going, 1);
		atomic_fetch_sub(&fs->orphans_known, 1);
	}
	if (rc != SPM_FORGOT_ALL)
		return;
	spm_names_forget(fs, nodeid);
}

void spm_uncount(struct spm_fs *fs, uint64_t nodeid)
{
	const struct spm_book *b = spm_my_book();
	uint32_t n = b ? b->ledger->entry[SPM_ENTRY_LOOKUPS] : 0;

	spm_forget_noted(fs, nodeid, 1, b, SPM_ENTRY_LOOKUPS, n ? n - 1 : 0);
}
