/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SETUP_DIR_H
#define SPM_FS_SETUP_DIR_H

#include "core/slices.h"
#include "fs/options.h"

/* The part of a mount's set-up (fs/setup.c) that is about dir: sources. All in the region's namespace. */

/* Attaches the directory, of which @tree_fd is a mount. Sets what @flags (SPM_MOUNT_*) say of it. */
int spm_setup_dir_attach(const struct spm_options *o, int tree_fd, const struct spm_slice_opts *so, struct spm_slice *root,
			 int *meta_fd, uint32_t *flags, struct spm_error *e) SPM_MUST_CHECK;
bool spm_setup_dir_has_slices(void);
/* Whether there are the quotas that it needs. */
int spm_setup_dir_check(const struct spm_options *o, const struct spm_slice *root, struct spm_error *e) SPM_MUST_CHECK;
/* size=, or that there is none. @t: its slices, open if it has some. */
int spm_setup_dir_size(const struct spm_options *o, struct spm_slice *root, struct spm_slices *t, struct spm_error *e)
	SPM_MUST_CHECK;

#endif
