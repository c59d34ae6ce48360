/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SWAP_WALK_H
#define SPM_FS_SWAP_WALK_H

#include "fs/fs.h"

/*
 * A thread that goes once through the files of a kept region and gives each one a head in the extent map, or what a mount
 * without swap has left there could never be moved out. Does nothing in a region that this mount has made: there each
 * file gets its head with its first byte.
 */
int spm_swap_walk_start(struct spm_fs *fs) SPM_MUST_CHECK;
void spm_swap_walk_stop(struct spm_fs *fs);

#endif
