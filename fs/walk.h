/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_WALK_H
#define SPM_FS_WALK_H

#include "fs/fs.h"

/* Of a regular file; not 0: that is the end. */
typedef int spm_walk_fn(void *arg, const struct spm_slice *s, const struct stat *st, const struct spm_handle *h);

/*
 * Goes once through the files of all slices, with @orphans also through those that have lost their names. A file with several names
 * comes several times; what is renamed meanwhile may be missed. *@stop (may be NULL) ends it early. -ENOMEM; what @fn has returned.
 */
int spm_walk(struct spm_fs *fs, bool orphans, spm_walk_fn *fn, void *arg, const atomic_bool *stop) SPM_MUST_CHECK;

#endif
