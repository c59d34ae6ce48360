/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_DEVICE_H
#define SPM_FS_DEVICE_H

#include <sys/types.h>
#include "core/dax-note.h"
#include "fs/options.h"

/*
 * The device of a mount whose SOURCE is a dax device: from its check to the day when it is what it was before. The
 * descriptor is that of the note on it (core/dax-note.h), which all processes of the mount hold: SPM_FD_DEVICE. For
 * every other SOURCE the functions do nothing, but for the check.
 */

/* On the host, before anything is made, and changes nothing: spm_source_check(), or the same for a device. */
int spm_device_check(struct spm_options *o, struct spm_error *e) SPM_MUST_CHECK;
/* On the host: it is this mount's from now on, in whatever mode it is. Returns the descriptor, or -1 for other
 * sources; -EBUSY: another mount has it, or a kept region lies there. */
int spm_device_lock(const struct spm_options *o, int *fd, struct spm_error *e) SPM_MUST_CHECK;
/* Brings it into the mode that is asked for, fills in the nodes and the size. After a failure all is as it was. */
int spm_device_take(struct spm_options *o, int fd, struct spm_error *e) SPM_MUST_CHECK;
/* For a mount that is there already, or its region: the mode and the nodes, by the note. In any namespace. */
int spm_device_read(struct spm_options *o, int fd, struct spm_error *e) SPM_MUST_CHECK;

/* On the host, once the region is gone (spm_region_unmount): makes it what it was, and forgets it. For as long as
 * that may take; -EBUSY, -ETIMEDOUT: it could not be, and says what is to do. */
int spm_device_give_back(const struct spm_options *o, int fd, struct spm_error *e) SPM_MUST_CHECK;
/* For a set-up that failed before it took the device. */
void spm_device_leave(const struct spm_options *o, int fd);

/* In the region's namespace, at an orderly end: whether the device can be given back, the region's memory being gone.
 * If not, it is said why. @dev is the mount, @fuse_fd its /dev/fuse, @last_id the last of its backing ids. */
bool spm_device_end(const struct spm_options *o, int fd, dev_t dev, int fuse_fd, int32_t last_id);

#endif
