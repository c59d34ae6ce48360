/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slices whose memory is extents of a pool. The table says what they may have, as ever; the pool keeps the accounts, and each worker
 * tells it the limits anew. A number that no slice has any more may have extents until they are removed: they count.
 */
#include "core/slices-local.h"

#include <errno.h>

_Static_assert(SPM_SLICES_MAX <= SPM_POOL_SLICES, "numbers of slices are the pool's");

static const struct spm_slice_limits no_limits = { .max = SPM_SLICE_NONE, .own_max = SPM_SLICE_NONE };

static int tell(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l, bool force)
{
	return spm_pool_set_slice(t->pool, id, l->min, spm_slice_max_of(l), force);
}

void spm_slices_pool_say(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l)
{
	if (t->pool && id)
		(void)!tell(t, id, l ? l : &no_limits, true);
}

int spm_slices_pool_fit(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l)
{
	return tell(t, id, l, false);
}

void spm_slices_in_pool(struct spm_slices *t, struct spm_pool *pool)
{
	uint16_t used = spm_slices_last(t);
	struct spm_pool_account a;

	t->pool = pool;
	if (!pool)
		return;
	spm_pool_account(pool, 0, &a);
	t->device_bytes = a.capacity;
	for (uint16_t id = 1; id <= used; id++)
		if (spm_slices_get(t, id))
			spm_slices_pool_say(t, id, &spm_slices_raw(t, id)->limits);
}

void spm_slices_pool_settle(struct spm_slices *t)
{
	struct spm_pool_account a;

	spm_pool_account(t->pool, 0, &a);
	if (a.committed > a.capacity)
		spm_log(SPM_LOG_ERR, "slices: the device has lost memory, and cannot give all that is guaranteed: %llu bytes are missing; "
			"lower the min of some", (unsigned long long)(a.committed - a.capacity));
}

int spm_slices_pool_look(struct spm_slices *t, uint16_t id, struct spm_slice_use *u)
{
	struct spm_slice *s = spm_slices_get(t, id);
	struct spm_pool_account a;

	if (!s || atomic_load(&s->away))
		return -ENOENT;
	spm_pool_account(t->pool, id, &a);
	u->promised = 0;
	u->used = a.used;
	u->min = a.min;
	u->max = a.max < t->device_bytes ? a.max : t->device_bytes;
	u->grant = a.used > a.min ? a.used : a.min;
	return 0;
}

void spm_slices_pool_statfs(struct spm_slices *t, uint16_t id, struct statvfs *out)
{
	uint64_t size, others;
	struct spm_pool_account a;

	spm_pool_account(t->pool, id, &a);
	size = a.max < t->device_bytes ? a.max : t->device_bytes;
	if (!id) {
		others = a.committed - a.used;
		others = a.capacity > others ? a.capacity - others : 0;
		size = size < others ? size : others;
	}
	if (size < a.used)
		size = a.used;
	out->f_blocks = size / out->f_frsize;
	out->f_bfree = out->f_bavail = (size - a.used) / out->f_frsize;
}

void spm_slices_pool_shared(struct spm_slices *t, uint64_t *size, uint64_t *free)
{
	struct spm_pool_account a;
	uint64_t all;

	spm_pool_account(t->pool, 0, &a);
	/* without slices the root slice may have less than the device */
	all = t->file || a.max > a.capacity ? a.capacity : a.max;
	*size = all > a.sure ? all - a.sure : 0;
	*free = all > a.committed ? all - a.committed : 0;
}

int spm_slices_pool_grow(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	uint64_t unit = spm_slices_unit(t), more = bytes / unit + !!(bytes % unit);
	struct spm_pool_account a;

	spm_pool_account(t->pool, id, &a);
	if (a.room / unit >= more)
		return 0;
	return a.max <= a.used || (a.max - a.used) / unit < more ? -EDQUOT : -ENOSPC;
}

int spm_slices_pool_set_root_max(struct spm_slices *t, uint64_t bytes)
{
	struct spm_pool_account a;

	spm_pool_account(t->pool, 0, &a);
	if (bytes < spm_slices_unit(t))
		return -ERANGE;
	if (bytes < a.used)
		return -EBUSY;
	spm_pool_limit(t->pool, bytes);
	return 0;
}

bool spm_slices_pool_min_fits(struct spm_slices *t, uint16_t id, uint64_t min)
{
	uint64_t unit = spm_slices_unit(t), least = (min + unit - 1) / unit * unit;
	struct spm_pool_account all, own = { .min = 0 };

	spm_pool_account(t->pool, 0, &all);
	if (id)
		spm_pool_account(t->pool, id, &own);
	/* (less than before is never refused, whatever the device has lost) */
	return least <= own.min || all.sure - own.min + least <= all.capacity;
}
