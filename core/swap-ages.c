/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clock of last uses has 16 bits and goes round every 4.5 hours: what is older than that must not look young again. */
#include "core/swap-room.h"

/* The use of @used, or that at which an age is SPM_AGE_MAX; never 0, which says that there was none. */
static uint16_t not_older(uint16_t now, uint16_t used)
{
	uint16_t oldest = (uint16_t)(now - SPM_AGE_MAX);

	return spm_extmap_age(now, used) <= SPM_AGE_MAX ? used : oldest ? oldest : 1;
}

static int settle_record(void *arg, uint64_t extent, struct spm_extent *x)
{
	uint16_t now = *(uint16_t *)arg, used = spm_extent_used(x);

	(void)extent;
	if (used && not_older(now, used) != used)
		spm_extent_touch(x, not_older(now, used));
	return 0;
}

void spm_ages_settle(struct spm_swap *s)
{
	struct spm_reclaimer *r = s->reclaim;
	uint64_t ticks = spm_swap_ticks(s);
	uint16_t now = (uint16_t)ticks;

	if (ticks - r->settled < SPM_AGE_WALK)
		return;
	r->settled = ticks;
	for (uint32_t file = 0; (file = spm_extmap_next_file(&s->map, file + 1));) {
		struct spm_bucket *b = spm_bucket_lock(s, file);
		uint16_t *used = &spm_extmap_file(&s->map, file)->used, was = __atomic_load_n(used, __ATOMIC_RELAXED);

		if (not_older(now, was) != was)
			__atomic_store_n(used, not_older(now, was), __ATOMIC_RELAXED);
		(void)spm_extmap_ages(&s->map, file, settle_record, &now);
		spm_bucket_unlock(b);
	}
}
