/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_POOL_SET_H
#define SPM_CORE_POOL_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/util.h"

/*
 * A set of the numbers below n, as bits, with levels of bits above that say which words are not empty:
 * finding the lowest or highest member looks at one word a level. Takes n/8 bytes and little more. No locks.
 */
#define SPM_POOL_SET_LEVELS 6u /* 2^36 numbers */

struct spm_pool_set {
	uint64_t *level[SPM_POOL_SET_LEVELS]; /* [0] are the members */
	unsigned int levels;
	uint64_t n, count;
	size_t bytes;
};

/* -ENOMEM. */
int spm_pool_set_init(struct spm_pool_set *s, uint64_t n) SPM_MUST_CHECK;
void spm_pool_set_destroy(struct spm_pool_set *s);
/* Adding a member, or removing what is none, does nothing. */
void spm_pool_set_add(struct spm_pool_set *s, uint64_t i);
void spm_pool_set_del(struct spm_pool_set *s, uint64_t i);
/* UINT64_MAX: the set is empty. */
uint64_t spm_pool_set_first(const struct spm_pool_set *s);
uint64_t spm_pool_set_last(const struct spm_pool_set *s);

static inline bool spm_pool_set_has(const struct spm_pool_set *s, uint64_t i)
{
	return s->level[0][i / 64] >> i % 64 & 1;
}

#endif
