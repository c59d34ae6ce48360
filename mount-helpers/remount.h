/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_HELPERS_REMOUNT_H
#define SPM_HELPERS_REMOUNT_H

#include "fs/options.h"

/* mount -o remount: changes what a live mount can change. -errno with the reason in @e. */
int spm_remount(struct spm_options *o, struct spm_error *e) SPM_MUST_CHECK;

#endif
