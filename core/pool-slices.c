/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which slice may have how many extents (law 6). A slice has a min, which is kept for it, and a max. What is committed is the sum of
 * what each uses or is sure of, whichever is more, and that never grows beyond the pool. One lock guards all of it, so nothing has
 * to be granted in advance: each extent is charged when it is asked for.
 */
#include "core/pool-local.h"

#include <errno.h>

static uint64_t capacity(const struct spm_pool *p)
{
	return p->extents - p->retired - p->damaged;
}

static uint64_t sure_of(const struct spm_pool *p, uint16_t slice)
{
	return p->slice_used[slice] > p->slice_min[slice] ? p->slice_used[slice] : p->slice_min[slice];
}

/* The one place where an account changes. */
static void put(struct spm_pool *p, uint16_t slice, uint64_t used, uint64_t min)
{
	uint64_t before = sure_of(p, slice);

	p->used = p->used - p->slice_used[slice] + used;
	p->sure = p->sure - p->slice_min[slice] + min;
	p->slice_used[slice] = used;
	p->slice_min[slice] = min;
	p->committed = p->committed - before + sure_of(p, slice);
}

/* Extents that are nobody's, and that nobody has reserved. */
static uint64_t at_hand(const struct spm_pool *p)
{
	uint64_t held = p->clean.count + p->free.count + p->unused.count + p->transient;

	return held > p->reserved ? held - p->reserved : 0;
}

/* Of what is sure to it, and of what nobody is sure of. */
uint64_t spm_pool_room(const struct spm_pool *p, uint16_t slice)
{
	uint64_t used = p->slice_used[slice], max = p->slice_limit[slice], here = at_hand(p);
	uint64_t may = sure_of(p, slice) - used;

	may += capacity(p) > p->committed ? capacity(p) - p->committed : 0;
	if (may > here)
		may = here;
	if (may > max || max - may < used)
		may = max > used ? max - used : 0;
	return may;
}

int spm_pool_charge(struct spm_pool *p, uint16_t slice, uint64_t extents)
{
	uint64_t used = p->slice_used[slice], max = p->slice_limit[slice];

	if (!extents)
		return 0;
	if (max < used || max - used < extents)
		return -EDQUOT;
	if (spm_pool_room(p, slice) < extents)
		return -ENOSPC;
	put(p, slice, used + extents, p->slice_min[slice]);
	p->reserved += extents;
	return 0;
}

void spm_pool_uncharge(struct spm_pool *p, uint16_t slice, uint64_t extents)
{
	put(p, slice, p->slice_used[slice] - extents, p->slice_min[slice]);
}

void spm_pool_unreserve(struct spm_pool *p, uint16_t slice, uint64_t extents)
{
	spm_pool_uncharge(p, slice, extents);
	p->reserved -= extents;
}

void spm_pool_count(struct spm_pool *p, uint16_t slice, int by)
{
	put(p, slice, p->slice_used[slice] + (uint64_t)(int64_t)by, p->slice_min[slice]);
}

/* -- limits -- */

/* As many as it takes for @bytes. */
static uint64_t extents_for(const struct spm_pool *p, uint64_t bytes)
{
	return bytes / p->extent_bytes + !!(bytes % p->extent_bytes);
}

static uint64_t extents_in(const struct spm_pool *p, uint64_t bytes)
{
	return bytes == UINT64_MAX ? bytes : bytes / p->extent_bytes;
}

int spm_pool_set_slice(struct spm_pool *p, uint16_t slice, uint64_t min, uint64_t max, bool force)
{
	uint64_t least = extents_for(p, min), most = extents_in(p, max), used, more;
	int rc = 0;

	most = most < least ? least : most;
	pthread_mutex_lock(&p->lock);
	used = p->slice_used[slice];
	more = (used > least ? used : least) - sure_of(p, slice);
	if (!force && used > most)
		rc = -EBUSY;
	/* (less than before is never refused, whatever the device has lost) */
	else if (!force && least > sure_of(p, slice) && (p->committed > capacity(p) || capacity(p) - p->committed < more))
		rc = -ENOSPC;
	if (!rc) {
		put(p, slice, used, least);
		p->slice_limit[slice] = most;
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void spm_pool_limit(struct spm_pool *p, uint64_t bytes)
{
	pthread_mutex_lock(&p->lock);
	atomic_store(&p->header->limit, bytes == UINT64_MAX ? 0 : bytes);
	p->slice_limit[0] = extents_in(p, bytes);
	pthread_mutex_unlock(&p->lock);
}

/* -- what is said -- */

void spm_pool_account(struct spm_pool *p, uint16_t slice, struct spm_pool_account *a)
{
	uint64_t size = p->extent_bytes, max;

	pthread_mutex_lock(&p->lock);
	max = p->slice_limit[slice];
	a->used = p->slice_used[slice] * size;
	a->min = p->slice_min[slice] * size;
	a->max = max > UINT64_MAX / size ? UINT64_MAX : max * size;
	a->room = spm_pool_room(p, slice) * size;
	a->capacity = capacity(p) * size;
	a->sure = p->sure * size;
	a->committed = p->committed * size;
	pthread_mutex_unlock(&p->lock);
}

uint64_t spm_pool_slice_bytes(struct spm_pool *p, uint16_t slice)
{
	struct spm_pool_account a;

	spm_pool_account(p, slice, &a);
	return a.used;
}
