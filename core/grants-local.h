/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_GRANTS_LOCAL_H
#define SPM_CORE_GRANTS_LOCAL_H

#include "core/slices.h"

/* Between grants.c and grants-claim.c (what is different with a claim). All with the lock. */

#define SPM_GRANT_PAGE 4096u

static inline uint64_t spm_grant_pages(uint64_t bytes)
{
	const uint64_t page = SPM_GRANT_PAGE;

	return bytes > UINT64_MAX - page ? bytes & ~(page - 1) : (bytes + page - 1) & ~(page - 1);
}

int spm_grants_look(struct spm_slices *t, uint16_t id, struct spm_slice_use *u) SPM_MUST_CHECK;
/* The one place where a filesystem's size changes. */
int spm_grants_resize(struct spm_slices *t, uint16_t id, uint64_t bytes) SPM_MUST_CHECK;
/* What a slice has when it uses @bytes more, and its promises are kept. */
uint64_t spm_grants_wanted(const struct spm_slices *t, const struct spm_slice_use *u, uint64_t bytes, uint64_t promised);

/* spm_grants_take(), out of the reserve. */
uint64_t spm_claimed_take(struct spm_slices *t, uint16_t id, uint64_t bytes);
/* spm_grants_set(): what it loses goes to the reserve, and what it may have more stays there until it is used. */
int spm_claimed_set(struct spm_slices *t, uint16_t id, uint64_t bytes) SPM_MUST_CHECK;
/* Gives a slice that is to use @bytes more a grant of @want, or what there is. @u is what it has, before and after. */
int spm_claimed_grow(struct spm_slices *t, uint16_t id, uint64_t bytes, uint64_t want, struct spm_slice_use *u) SPM_MUST_CHECK;

#endif
