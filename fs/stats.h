/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_STATS_H
#define SPM_FS_STATS_H

#include "fs/fs.h"

/* The texts of the control files. Each writes to @out; -errno of gathering. */
int spm_stats_stat(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_metrics(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_features(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_min(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_pin_max(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_current(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_max(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_swap_max(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_swap_current(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_stats_events(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;

/* Swap's figures, 0 without; its lines in features; swap.max, UINT64_MAX: no limit. */
void spm_stats_swap(struct spm_fs *fs, struct spm_swap_stats *st);
void spm_stats_swap_features(struct spm_fs *fs, FILE *out);
uint64_t spm_stats_swap_limit(struct spm_fs *fs);

/* Memory of the device in use, by all slices. */
uint64_t spm_stats_resident(struct spm_fs *fs);
/* Files with a size that are open or mapped directly, and what they have, in swap files as well. -ENOMEM. */
int spm_stats_pinned(struct spm_fs *fs, uint64_t *bytes, size_t *files) SPM_MUST_CHECK;

/* One file's: the value of the xattr system.spm.file. */
#define SPM_XATTR_FILE "system.spm.file"
int spm_stats_file(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, FILE *out) SPM_MUST_CHECK;

#endif
