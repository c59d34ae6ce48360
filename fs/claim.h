/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_CLAIM_H
#define SPM_FS_CLAIM_H

#include "fs/fs.h"

/*
 * isolate=claim (core/claim.h). Memory comes out of the reserve where ENOSPC asks for it (spm_content_room), and before a
 * range is committed; it goes back after each request that frees some, and once a second for what no request tells of.
 */

/* In a worker's set-up: finds the region's reserve, if it has one. */
int spm_claim_setup(struct spm_fs *fs) SPM_MUST_CHECK;
int spm_claim_start(struct spm_fs *fs) SPM_MUST_CHECK;
void spm_claim_stop(struct spm_fs *fs);
void spm_claim_teardown(struct spm_fs *fs);

/* Something of slice @id has been freed. Without a claim one test of a pointer. */
void spm_claim_settle_now(struct spm_fs *fs, uint16_t id);
static inline void spm_claim_settle(struct spm_fs *fs, uint16_t id)
{
	if (fs->slices.claim)
		spm_claim_settle_now(fs, id);
}

/* spm_commit_range(), extent by extent, each with memory that was held until then. What was done stays if it fails. */
int spm_claim_commit(struct spm_fs *fs, struct spm_slice *s, int fd, uint64_t from, uint64_t to) SPM_MUST_CHECK;
/* A large orphan of slice @s that nobody refers to any more: lets go of it extent by extent. */
void spm_claim_free(struct spm_fs *fs, const struct spm_slice *s, const char *name);

#endif
