/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_HANDLE_H
#define SPM_CORE_HANDLE_H

#include <stdint.h>
#include "core/util.h"

/*
 * A kernel file handle (name_to_handle_at(2)): names an inode of a region without holding a descriptor.
 * 16 bytes hold those of tmpfs (12), ext4 (8) and xfs (8 or 12).
 */
#define SPM_HANDLE_BYTES 16
struct spm_handle {
	uint8_t type;
	uint8_t len;
	uint8_t bytes[SPM_HANDLE_BYTES];
};

/* The handle of @name in @dirfd; an empty @name means @dirfd itself. Symbolic links are not followed.
 * -errno of name_to_handle_at(2); -EOVERFLOW: the filesystem's handles are too long. */
int spm_handle_at(int dirfd, const char *name, struct spm_handle *out) SPM_MUST_CHECK;

/* Opens the inode; @mount_fd is any descriptor (not O_PATH) on the same mount.
 * Returns a descriptor, or -errno; -ESTALE: the inode is gone. */
int spm_handle_open(int mount_fd, const struct spm_handle *h, int flags) SPM_MUST_CHECK;

#endif
