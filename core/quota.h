/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_QUOTA_H
#define SPM_CORE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include "core/util.h"

/*
 * Projects of xfs and ext4, and their quotas: each file is in one, which counts what it takes, and what is made in a directory
 * is in that directory's. All take a descriptor of anything on the filesystem, not O_PATH. -errno.
 *
 * spmfs uses the numbers from SPM_PROJECT_FIRST to SPM_PROJECT_LAST, and each of these only where nobody has used it: a block of
 * SPM_PROJECT_BLOCK for each directory of a dir: source, the first for its root slice, and the others for slices by number.
 */
#define SPM_PROJECT_FIRST UINT32_C(0x73700000)
#define SPM_PROJECT_LAST  UINT32_C(0x737fffff)
#define SPM_PROJECT_BLOCK 4096u

struct spm_quota {
	uint64_t used, limit;         /* bytes; a limit of 0 is none */
	uint64_t inodes, inode_limit;
};

/* Whether the filesystem enforces limits of projects. */
bool spm_quota_enforced(int fd);
int spm_quota_get(int fd, uint32_t project, struct spm_quota *q) SPM_MUST_CHECK;
/* It may be below what is used: then nothing is taken any more. Whole KiB. */
int spm_quota_set_bytes(int fd, uint32_t project, uint64_t bytes) SPM_MUST_CHECK;
int spm_quota_set_inodes(int fd, uint32_t project, uint64_t inodes) SPM_MUST_CHECK;

/* The project of a file or directory; 0: none. */
int spm_project_of(int fd, uint32_t *project) SPM_MUST_CHECK;
/* Puts a directory into one, and whatever will be made there; what is there already stays as it is. */
int spm_project_enter(int dir, uint32_t project) SPM_MUST_CHECK;

static inline bool spm_project_is_ours(uint32_t project)
{
	return project >= SPM_PROJECT_FIRST && project <= SPM_PROJECT_LAST;
}
/* Nothing is in it, and nobody has set a limit for it. */
bool spm_project_is_free(int fd, uint32_t project);

#endif
