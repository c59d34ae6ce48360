/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_BOUNDED_H
#define SPM_FS_BOUNDED_H

#include "fs/fs.h"

/*
 * Taking pages away from a file whose mappings are of the device itself (DAX) waits until nobody else holds them: a client that
 * has put one into a pipe, or has I/O under way to it, may do so for ever, and the file's other requests wait behind that. So these
 * wait for some seconds and then give up: -EBUSY, and nothing has changed. May be slow, so no lock is held.
 */
int spm_bounded_fallocate(struct spm_fs *fs, int fd, int mode, off_t off, off_t len) SPM_MUST_CHECK;
int spm_bounded_truncate(struct spm_fs *fs, int fd, off_t size) SPM_MUST_CHECK;

#endif
