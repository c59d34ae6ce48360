/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/lease.h"
#include "core/slice.h"

#include <errno.h>
#include <fcntl.h>

enum spm_lease spm_lease_test(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK))
		return errno == EAGAIN ? SPM_LEASE_BUSY : SPM_LEASE_UNKNOWN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return SPM_LEASE_FREE;
}

int spm_lease_probe(int mount_fd)
{
	spm_auto_close int fd = spm_slice_probe(mount_fd);

	if (fd < 0)
		return fd;
	if (fcntl(fd, F_SETLEASE, F_WRLCK))
		return -errno;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}
