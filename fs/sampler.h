/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SAMPLER_H
#define SPM_FS_SAMPLER_H

#include "fs/fs.h"

/*
 * A slow thread that walks the files of a node: source, counts pages on other nodes (foreign_bytes in `stat`)
 * and brings home what nobody else maps. Does nothing for other sources.
 */
int spm_sampler_start(struct spm_fs *fs) SPM_MUST_CHECK;
void spm_sampler_stop(struct spm_fs *fs);

#endif
