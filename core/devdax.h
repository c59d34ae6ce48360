/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_DEVDAX_H
#define SPM_CORE_DEVDAX_H

#include "core/source.h"

/*
 * A dax device in mode devdax: a character device that can only be mapped, whose memory the kernel never gives to anybody.
 *
 * For tests root may say by SPMFS_DAX_FILE=PATH in the environment of mount(8) that a regular file (on tmpfs or hugetlbfs) stands
 * in for whichever device SOURCE names.
 */
struct spm_devdax {
	int fd;         /* open for both; locked (flock) for as long as it, or a copy in another process, is open; -1: none */
	uint64_t bytes;
	uint64_t align; /* of mappings */
	uint64_t binding; /* another number each time that the driver takes the device; of a stand-in 0 */
	bool stand_in;
};

/* The file that stands in, or NULL. */
const char *spm_devdax_stand_in(void);
/* Whether the device of @s can have a pool: fills in mode and size. -ENODEV; -ENOTSUP: it is in another mode; with the reason. */
int spm_devdax_check(struct spm_source *s, const char *text, struct spm_error *e) SPM_MUST_CHECK;
/* -EBUSY: another mount has it (after waiting for one that is about to end); -ENODEV; -errno of open(2), with the reason. */
int spm_devdax_open(const struct spm_source *s, const char *text, struct spm_devdax *out, struct spm_error *e) SPM_MUST_CHECK;

#endif
