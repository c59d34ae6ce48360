/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_DIR_H
#define SPM_CORE_DIR_H

#include "core/slice.h"

/*
 * SOURCE dir:PATH. The region is a directory of an xfs or ext4 filesystem that somebody else has mounted, with -o dax on
 * persistent memory: a mapping of a file there is of the device's own pages. What lies in PATH, which is for root alone:
 *
 *	format		says that the directory is spmfs's, and how it is laid out; made before all the rest
 *	meta		what SPM_REGION_META is for other regions; locked as long as the mount lives
 *	data, orphans, probe	as in any slice (core/slice.h)
 *	slices		the others, and their table (core/slices.h); made with the first
 *
 * Everything lasts: an end of the mount, of the processes or of the machine leaves the files. What a dead server had among
 * the orphans is removed when the next one comes.
 *
 * Where the filesystem has quotas of projects, data and orphans are in one of their own from the start (core/quota.h), so that there
 * can be a size, and slices. What is in a project already, when PATH is given to spmfs, is an administrator's, and stays so.
 */
#define SPM_DIR_SLICES "/region/slices"

/* On the host, nothing is changed: PATH can be used, and how large its filesystem is (@s->bytes). Errors are in @e. */
int spm_dir_check(struct spm_source *s, const char *text, struct spm_error *e) SPM_MUST_CHECK;

/* Why a directory has, or will have, no quota of its own; NULL: it has. @buf may be used. */
const char *spm_dir_no_quota(int dir, char *buf, size_t len);

/* On the host: a mount of PATH, which is @dir_fd, that is attached nowhere. A descriptor, or -errno. */
int spm_dir_tree(int dir_fd, const char *text, struct spm_error *e) SPM_MUST_CHECK;

/* How a directory was found. */
struct spm_dir_state {
	bool had;   /* it was in use before */
	bool clean; /* and left in order, and so it says until spm_region_mark() */
};

/*
 * In the region's namespace: attaches @tree, and makes what is missing of the region. Returns its meta file, which is
 * locked: -EBUSY, another mount uses the directory, by whatever name. @text is SOURCE as it was typed.
 */
int spm_dir_attach(int tree, const struct spm_source *s, const char *text, const struct spm_slice_opts *o,
		   struct spm_slice *root, struct spm_dir_state *st, struct spm_error *e) SPM_MUST_CHECK;

/* Whether a file is mapped from the device itself. */
bool spm_dir_is_dax(int fd);

#endif
