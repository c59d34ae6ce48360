/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_BENEATH_H
#define SPM_CORE_BENEATH_H

#include <limits.h>
#include "core/util.h"

/*
 * Whether a file lies on an spmfs mount: directly, as an overlay's upper layer, or on block devices that are made of
 * such files (loop devices, their partitions, what device mapper and md put on top). 1: it does, with the mount point
 * in @where; 0: not, as far as the caller's mount namespace and /sys tell; -ELOOP: too deeply nested to tell.
 */
int spm_beneath_spmfs(int fd, char where[static PATH_MAX]) SPM_MUST_CHECK;

#endif
