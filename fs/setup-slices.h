/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SETUP_SLICES_H
#define SPM_FS_SETUP_SLICES_H

#include "core/slice-conf.h"
#include "fs/options.h"

/*
 * The part of a mount's set-up (fs/setup.c) that is about declared slices, spmfs.conf(5): all of them are there
 * when the mount is, or it is refused.
 */

/* The mount's configuration file; NULL: it has none, and @why (or NULL) says why. */
const char *spm_setup_slices_path(const struct spm_options *o, char *buf, size_t len, const char **why);

/* In the host's namespace, before anything is made. No file is an empty one, unless it was asked for. */
int spm_setup_slices_read(struct spm_options *o, struct spm_slices_conf *conf,
			  struct spm_error *e) SPM_MUST_CHECK;
/* Whether the device, whose size is known by now, has what they are guaranteed. */
int spm_setup_slices_fit(const struct spm_options *o, const struct spm_slices_conf *conf,
			 struct spm_error *e) SPM_MUST_CHECK;
/*
 * In the region's, with its table open. Makes what is missing, and sets what is there already to what the file
 * says; when one fails, the others are as they were.
 */
int spm_setup_slices_make(const struct spm_options *o, const struct spm_slices_conf *conf, struct spm_slices *t,
			  struct spm_error *e) SPM_MUST_CHECK;

#endif
