/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/attr.h"
#include "fs/control.h"
#include "fs/entry.h"
#include "fs/ops.h"
#include "fs/slices.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

void spm_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *dir;
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	struct fuse_entry_param e;
	int rc;

	if (spm_control_names(fs, parent, name)) {
		spm_control_lookup(req, parent, name);
		return;
	}
	dir = spm_itable_get(&fs->itable, parent);
	rc = dir ? spm_fd_get(fs, dir, parent, SPM_FD_PATH, &fd) : SPM_STALE;
	if (!rc)
		rc = spm_entry_lookup(fs, parent, fd.fd, name, false, &e);
	if (rc == -ENOENT) {
		/* the kernel may remember that, too: nobody but us makes names */
		e = (struct fuse_entry_param){ .entry_timeout = SPM_TIMEOUT_LONG };
		fuse_reply_entry(req, &e);
	} else if (rc) {
		spm_reply_rc(req, rc == SPM_LEAVING ? -ENOENT : rc);
	} else {
		spm_entry_reply(req, &e);
	}
}

void spm_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	spm_forget_noted(spm_fs_of(req), ino, nlookup, spm_my_book(), SPM_ENTRY_SETTLED, 1);
	fuse_reply_none(req);
}

void spm_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		spm_forget_noted(spm_fs_of(req), forgets[i].ino, forgets[i].nlookup, spm_my_book(), SPM_ENTRY_SETTLED,
				 (uint32_t)i + 1);
	fuse_reply_none(req);
}

void spm_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec = spm_itable_get(&fs->itable, ino);
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	char target[PATH_MAX + 1];
	ssize_t n = 0;
	int rc = rec ? spm_fd_get(fs, rec, ino, SPM_FD_PATH, &fd) : SPM_STALE;

	if (!rc) {
		n = readlinkat(fd.fd, "", target, PATH_MAX);
		rc = n < 0 ? -errno : 0;
	}
	if (rc) {
		spm_reply_rc(req, rc);
		return;
	}
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}

/* The two directories that hold up the slice, and its probe file, are not the user's. */
#define HIDDEN_INODES 3

/* What is in use comes to what files have, here or in swap; what slices have there is not the root slice's. */
static void add_swap(struct spm_fs *fs, struct statvfs *sv)
{
	struct spm_swap_stats st;
	uint64_t space, others = 0;

	spm_swap_stats(fs->swap, &st);
	space = st.space_bytes > st.reserve_bytes ? st.space_bytes - st.reserve_bytes : 0;
	if (atomic_load(&fs->slices.count))
		others = st.swapped_bytes - spm_slices_swapped(fs, 0);
	if (others > st.swapped_bytes)
		others = st.swapped_bytes;
	st.swapped_bytes -= others;
	space = space > others ? space - others : 0;
	/* what an exchange has taken of the reserve counts as well */
	space = (space > st.swapped_bytes ? space : st.swapped_bytes) / sv->f_frsize;
	sv->f_blocks += space;
	sv->f_bfree += space - st.swapped_bytes / sv->f_frsize;
	sv->f_bavail += space - st.swapped_bytes / sv->f_frsize;
}

/* A slice's share: what it has there, and what it may have. */
static void add_slice_swap(struct spm_fs *fs, uint16_t slice, struct statvfs *sv)
{
	uint64_t has = spm_slices_swapped(fs, slice), max = has;
	struct spm_slice_record r;
	struct spm_swap_stats st;

	spm_swap_stats(fs->swap, &st);
	if (spm_slices_record(&fs->slices, slice, &r))
		max = spm_slice_swap_max_of(&r.limits);
	if (max > st.space_bytes - st.reserve_bytes)
		max = st.space_bytes - st.reserve_bytes;
	if (max < has)
		max = has;
	sv->f_blocks += max / sv->f_frsize;
	sv->f_bfree += (max - has) / sv->f_frsize;
	sv->f_bavail += (max - has) / sv->f_frsize;
}

void spm_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_inode *rec = spm_itable_get(&fs->itable, ino);
	struct statvfs sv;
	uint16_t slice = spm_control_is(ino) ? spm_control_slice(ino) : rec ? rec->slice : 0;
	int rc = spm_slices_statfs(&fs->slices, slice, &sv);

	if (rc) {
		spm_reply_rc(req, rc);
		return;
	}
	if (sv.f_files >= HIDDEN_INODES)
		sv.f_files -= HIDDEN_INODES;
	sv.f_namemax = SPM_NAME_MAX;
	if (fs->swap && !slice)
		add_swap(fs, &sv);
	else if (fs->swap)
		add_slice_swap(fs, slice, &sv);
	fuse_reply_statfs(req, &sv);
}
