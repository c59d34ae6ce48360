/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_LEASE_H
#define SPM_CORE_LEASE_H

#include "core/util.h"

enum spm_lease {
	SPM_LEASE_FREE,    /* nobody has this file open or mapped, but for @fd */
	SPM_LEASE_BUSY,    /* somebody has */
	SPM_LEASE_UNKNOWN, /* the kernel does not tell (fs.leases-enable=0): to be taken for busy */
};

/*
 * Tells whether a backing file is open or mapped by anyone: a write lease is granted only if not, and a
 * mapping counts as long as it lives, unlike the RELEASE of the FUSE file that it was made from.
 * @fd is open O_RDWR and the caller's only descriptor, backing id and mapping of the inode; the caller holds
 * the inode's lock and opens the inode nowhere else meanwhile (such an open would wait for the lease to break).
 * SIGIO must be ignored or blocked by then: a broken lease sends it.
 */
enum spm_lease spm_lease_test(int fd);

/* Whether leases work on @dirfd's filesystem: makes and tests an unnamed file there. -errno of why not. */
int spm_lease_probe(int mount_fd) SPM_MUST_CHECK;

#endif
