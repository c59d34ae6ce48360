/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/swap-map.h"
#include "core/extmap.h"
#include "core/region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define NEXT SPM_REGION_EXTENTS ".new"

/* The old worker's I/O may still fill slots and pages: its ring holds the map's open file, and the lock on it, until it has ended. */
static int await_others(int fd)
{
	int rc;

	while ((rc = flock(fd, LOCK_EX)) && errno == EINTR)
		;
	return rc ? -errno : 0;
}

static int make_copy(int from)
{
	spm_auto_close int to = open(NEXT, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = to < 0 ? -errno : await_others(from);

	if (!rc)
		rc = spm_extmap_renew(from, to);
	if (rc && to >= 0)
		unlink(NEXT);
	return rc ? rc : spm_steal_fd(&to);
}

int spm_swap_map_open(bool *renewed)
{
	spm_auto_close int fd = open(SPM_REGION_EXTENTS, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct spm_extmap_setup setup;
	int rc;

	*renewed = false;
	if (fd < 0)
		return -errno;
	/* of a program that came no further */
	if (unlink(NEXT) && errno != ENOENT)
		return -errno;
	rc = spm_extmap_setup_of(fd, &setup);
	if (rc < 0)
		return rc;
	*renewed = rc;
	return rc ? make_copy(fd) : spm_steal_fd(&fd);
}

int spm_swap_map_commit(void)
{
	return rename(NEXT, SPM_REGION_EXTENTS) ? -errno : 0;
}

int spm_swap_map_settle(void)
{
	bool renewed;
	spm_auto_close int fd = spm_swap_map_open(&renewed);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	return renewed ? spm_swap_map_commit() : 0;
}
