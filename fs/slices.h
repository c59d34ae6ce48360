/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SLICES_H
#define SPM_FS_SLICES_H

#include "fs/fs.h"

/*
 * Slices as requests see them. A slice is a directory of the mount's top; what holds its place there is never shown. Between
 * slices there is EXDEV, as between filesystems, and a slice cannot be removed or renamed by rmdir(2) and rename(2).
 */

/* What a lookup of a slice that is being removed comes to: it is not there, but that is not to be remembered. */
#define SPM_LEAVING (-EREMCHG)

/* What a slice gets for what was not said of it. */
struct spm_slice_opts spm_slices_defaults(const struct spm_options *o);
/* In the worker's set-up: opens all slices of the region. */
int spm_slices_setup(struct spm_fs *fs) SPM_MUST_CHECK;
/* What a worker that died over a removal has left in swap. */
void spm_slices_finish(struct spm_fs *fs);
void spm_slices_teardown(struct spm_fs *fs);

/* The slice whose place the directory entry @st of @parent is; NULL: none's. */
static inline struct spm_slice *spm_slices_place(struct spm_fs *fs, uint64_t parent, const struct stat *st)
{
	return parent == FUSE_ROOT_ID && S_ISDIR(st->st_mode) ? spm_slices_at(&fs->slices, st->st_ino) : NULL;
}

/* Whether a node is the top directory of a slice that an administrator made. */
static inline bool spm_slices_is_top(struct spm_fs *fs, const struct spm_inode *rec)
{
	return rec && rec->slice && rec->ino == spm_slice_of(fs, rec)->top;
}

/* Where the top directory of a slice lies in the region; its length. */
size_t spm_slices_top(uint16_t slice, char *path, size_t size);
/* Makes of a path in the region ("/region/data/a/b") the one below the mount point ("/a/b", "/SLICE/a/b"); false: it is no user's
 * file. */
bool spm_slices_user_path(struct spm_fs *fs, uint16_t slice, char *path, size_t size);

/* The same of the file with that handle, wherever it is. False: it has no name there. */
bool spm_slices_path_of(struct spm_fs *fs, uint16_t slice, const struct spm_handle *h, char *path, size_t size);

/*
 * Commands, as the control file `slice` takes them: "create NAME key=value...", "set NAME key=value...", "remove NAME [force]".
 * A request: a dead worker may have come to its effect. -errno as core/slices.h has it; -EINVAL: not such a command;
 * -EOPNOTSUPP: swap.max without swap.
 */
/* (its fault point slice:done is passed when the effect is there, and the answer is not) */
int spm_slices_command(struct spm_fs *fs, const char *text) SPM_MUST_CHECK;
/* Puts new limits in force: moves what has to leave, if there is swap. */
int spm_slices_limit(struct spm_fs *fs, uint16_t id, const struct spm_slice_limits *l) SPM_MUST_CHECK;
/* Bytes of all its files in swap files. */
static inline uint64_t spm_slices_swapped(struct spm_fs *fs, uint16_t id)
{
	struct spm_swap_slice_stats st = { .swapped_bytes = 0 };

	if (fs->swap)
		spm_swap_stats_of(fs->swap, id, &st);
	return st.swapped_bytes;
}

/* The list of all, a line each. */
int spm_slices_list(struct spm_fs *fs, FILE *out) SPM_MUST_CHECK;

#endif
