/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_CGROUP_H
#define SPM_CORE_CGROUP_H

#include "core/util.h"

/*
 * A memory cgroup of the worker's own, directly below the root and without a limit: device memory is charged
 * to whoever allocates it, and whoever called mount(8) may have a limit that it must not meet.
 */
struct spm_cgroup {
	int base_fd;   /* the hierarchy's root; -1: none could be made */
	char name[96]; /* below it */
};

/* Finds the memory hierarchy (v2, else v1) and makes "spmfs.@name.PID". -errno: there is none, or no right. */
int spm_cgroup_make(struct spm_cgroup *c, const char *name) SPM_MUST_CHECK;
/* Moves the calling process there. */
int spm_cgroup_join(const struct spm_cgroup *c) SPM_MUST_CHECK;
/* Removes it, once no process is left in it. */
void spm_cgroup_remove(struct spm_cgroup *c);

#endif
