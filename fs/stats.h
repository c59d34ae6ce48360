/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_STATS_H
#define SPM_FS_STATS_H

#include "fs/fs.h"

/* The texts of the control files. Each writes to @out; -errno of gathering. */
int spm_stats_stat(struct spm_fs *fs, FILE *out) SPM_MUST_CHECK;
int spm_stats_metrics(struct spm_fs *fs, FILE *out) SPM_MUST_CHECK;
int spm_stats_features(struct spm_fs *fs, FILE *out) SPM_MUST_CHECK;
int spm_stats_current(struct spm_fs *fs, FILE *out) SPM_MUST_CHECK;
int spm_stats_max(struct spm_fs *fs, FILE *out) SPM_MUST_CHECK;

/* One file's: the value of the xattr system.spm.file. */
#define SPM_XATTR_FILE "system.spm.file"
int spm_stats_file(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, FILE *out) SPM_MUST_CHECK;

#endif
