/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/entry.h"
#include "fs/attr.h"
#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>

int spm_entry_make(struct spm_fs *fs, uint16_t slice, int dirfd, const char *name, struct stat *st,
		   struct fuse_entry_param *e, struct spm_inode **rec_out)
{
	unsigned int flags = 0;
	struct spm_handle h;
	struct spm_inode *rec;
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
	else if (S_ISREG(st->st_mode) && fs->reopened)
		/* mappings outlive a mount: in a kept region any file may have one until a lease test says no */
		flags = SPM_INODE_MAPPED;
	rec = spm_itable_intern(&fs->itable, slice, st->st_ino, &h, flags, &nodeid);
	if (!rec)
		return -ENOMEM;
	if (S_ISDIR(st->st_mode)) {
		/* again, since others may change a directory at any time: what is shown was read after this was noted */
		spm_fresh_shown(fs, nodeid);
		if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) {
			spm_forget(fs, nodeid, 1);
			return -errno;
		}
	}
	spm_attr_show(rec, st);
	*e = (struct fuse_entry_param){ .ino = nodeid, .attr = *st, .entry_timeout = SPM_TIMEOUT_LONG,
					.attr_timeout = spm_attr_timeout(rec, st) };
	if (rec_out)
		*rec_out = rec;
	return 0;
}

int spm_entry_lookup(struct spm_fs *fs, uint64_t parent, int dirfd, const char *name, struct fuse_entry_param *e)
{
	const struct spm_inode *dir = spm_itable_get(&fs->itable, parent);
	struct stat st;
	int rc;

	if (!dir)
		return SPM_STALE;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	rc = spm_entry_make(fs, dir->slice, dirfd, name, &st, e, NULL);
	if (rc || S_ISDIR(st.st_mode))
		return rc;
	rc = spm_names_set(fs, e->ino, parent, name);
	if (rc)
		spm_forget(fs, e->ino, 1);
	return rc;
}

void spm_entry_reply(fuse_req_t req, const struct fuse_entry_param *e)
{
	struct spm_fs *fs = spm_fs_of(req);

	if (fuse_reply_entry(req, e) == -ENOENT)
		spm_forget(fs, e->ino, 1);
}

void spm_forget(struct spm_fs *fs, uint64_t nodeid, uint64_t n)
{
	struct spm_inode last;
	struct spm_slice *s;

	if (spm_control_is(nodeid) || !spm_itable_forget(&fs->itable, nodeid, n, &last))
		return;
	s = spm_slice_of(fs, &last);
	spm_fd_drop(&fs->fds, nodeid);
	spm_names_forget(fs, nodeid);
	if (last.backing_id)
		spm_wire_backing_close(fs->dev_fd, last.backing_id);
	if (last.flags & SPM_INODE_ORPHAN && last.flags & SPM_INODE_LARGE)
		spm_session_blocking(); /* giving gigabytes back takes its time */
	if (last.flags & SPM_INODE_ORPHAN && spm_slice_orphan_remove(s, last.ino, false) == -EISDIR)
		spm_slice_orphan_remove(s, last.ino, true);
}
