/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What changes whose an extent is. */
#include "core/pool-local.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- steps of a record, with the lock -- */

void spm_pool_own(struct spm_pool *p, uint32_t d, uint64_t whose, uint64_t extent)
{
	atomic_store_explicit(&p->record[d].whose, whose, memory_order_relaxed);
	spm_pool_fault(p, "pool:whose");
	spm_pool_barrier();
	atomic_store_explicit(&p->record[d].what, spm_pool_what(whose, extent, POOL_OWNED), memory_order_relaxed);
	spm_pool_barrier();
	spm_pool_fault(p, "pool:owned");
	spm_pool_index_add(p, d);
	spm_pool_set_add(&p->movable, d);
}

void spm_pool_release(struct spm_pool *p, uint32_t d)
{
	enum spm_pool_state state;

	spm_pool_mend(p, d);
	state = spm_pool_record_state(p, d);
	spm_pool_index_remove(p, d);
	spm_pool_set_del(&p->movable, d);
	p->bad -= state != POOL_OWNED;
	if (state == POOL_BAD) {
		spm_pool_set_state(p, d, POOL_RETIRED);
		p->retired++;
	} else {
		spm_pool_put(p, d, POOL_FREE);
	}
	spm_pool_fault(p, "pool:freed");
}

/* -- poison -- */

static void tell(struct spm_pool *p, uint32_t d, uint64_t whose, uint64_t extent)
{
	struct spm_pool_file f = spm_pool_file_of(whose);

	if (p->o.poisoned)
		p->o.poisoned(p->o.ctx, &f, extent * p->extent_bytes, (uint64_t)d * p->extent_bytes);
}

/* With the lock. It may be in a set that it leaves, or in nobody's hands; true: it is news. */
static bool lose(struct spm_pool *p, uint32_t d)
{
	switch (spm_pool_record_state(p, d)) {
	case POOL_OWNED:
		spm_pool_set_state(p, d, POOL_BAD);
		spm_pool_set_del(&p->movable, d);
		p->bad++;
		return true;
	case POOL_UNUSED:
	case POOL_FREE:
	case POOL_CLEAN:
		if (!spm_pool_set_has(&p->unused, d) && !spm_pool_set_has(&p->free, d) && !spm_pool_set_has(&p->clean, d))
			return false; /* in somebody's hands: who uses it will meet the poison */
		spm_pool_set_del(&p->unused, d);
		spm_pool_set_del(&p->free, d);
		spm_pool_set_del(&p->clean, d);
		spm_pool_set_state(p, d, POOL_RETIRED);
		p->retired++;
		return true;
	default:
		return false;
	}
}

void spm_pool_lost(struct spm_pool *p, uint32_t d)
{
	uint64_t whose = 0, extent = 0;
	bool news;

	pthread_mutex_lock(&p->lock);
	if (spm_pool_record_state(p, d) == POOL_OWNED) {
		whose = spm_pool_record_whose(p, d);
		extent = spm_pool_record_extent(p, d);
	}
	news = lose(p, d);
	pthread_mutex_unlock(&p->lock);
	if (!news)
		return;
	spm_pool_fault(p, "pool:lost");
	tell(p, d, whose, extent);
}

void spm_pool_retire(struct spm_pool *p, uint32_t d)
{
	pthread_mutex_lock(&p->lock);
	spm_pool_set_state(p, d, POOL_RETIRED);
	p->retired++;
	pthread_mutex_unlock(&p->lock);
	spm_pool_fault(p, "pool:lost");
	tell(p, d, 0, 0);
}

/* -- extents of files -- */

/* With the lock. */
static int look_up(struct spm_pool *p, uint64_t whose, uint64_t extent, uint32_t *d)
{
	*d = spm_pool_index_find(p, whose, extent);
	if (*d == SPM_POOL_NONE)
		return spm_pool_is_doubtful(p, whose, extent) ? -EIO : -ENOENT;
	return spm_pool_record_state(p, *d) != POOL_OWNED ? -EIO : 0;
}

int spm_pool_find(struct spm_pool *p, uint64_t whose, uint64_t extent, uint32_t *d)
{
	int rc;

	pthread_mutex_lock(&p->lock);
	rc = look_up(p, whose, extent, d);
	pthread_mutex_unlock(&p->lock);
	if (rc == -EIO)
		spm_pool_tell_news(p);
	return rc;
}

/* With the lock, which is let go: zeroes what was picked, or picks others until one can be. */
static int make_clean(struct spm_pool *p, uint32_t *d)
{
	bool is_clean = false; /* where it was says so, not its record, which may be damaged */
	int rc;

	while (!is_clean) {
		pthread_mutex_unlock(&p->lock);
		rc = spm_pool_clear(spm_pool_address(p, *d), p->extent_bytes);
		spm_pool_fault(p, "pool:zeroed");
		if (rc)
			spm_pool_retire(p, *d);
		pthread_mutex_lock(&p->lock);
		if (!rc)
			return 0;
		p->reserved++;
		rc = spm_pool_pick(p, true, d, &is_clean);
		if (rc)
			return rc;
	}
	return 0;
}

/* With the lock, and charged. */
static int make(struct spm_pool *p, uint64_t whose, uint64_t extent, uint32_t *d, bool *made)
{
	uint16_t slice = (uint16_t)(whose >> 48);
	bool is_clean;
	uint32_t there;
	int rc;

	*made = false;
	rc = spm_pool_pick(p, true, d, &is_clean);
	if (!rc && !is_clean)
		rc = make_clean(p, d);
	if (rc) {
		spm_pool_unreserve(p, slice, 1);
		return rc;
	}
	/* the lock may have been let go, and another been faster */
	rc = look_up(p, whose, extent, &there);
	if (rc == -ENOENT) {
		spm_pool_own(p, *d, whose, extent);
		*made = true;
		return 0;
	}
	spm_pool_put(p, *d, POOL_CLEAN);
	spm_pool_uncharge(p, slice, 1);
	*d = there;
	return rc;
}

int spm_pool_make(struct spm_pool *p, uint64_t whose, uint64_t extent, bool reserved, uint32_t *d, bool *made)
{
	uint16_t slice = (uint16_t)(whose >> 48);
	int rc;

	*made = false;
	if (extent > POOL_EXTENT_MAX)
		return -EFBIG;
	pthread_mutex_lock(&p->lock);
	rc = look_up(p, whose, extent, d);
	if (rc == -ENOENT) {
		rc = reserved ? 0 : spm_pool_charge(p, slice, 1);
		if (!rc)
			rc = make(p, whose, extent, d, made);
	} else if (reserved) {
		spm_pool_unreserve(p, slice, 1);
	}
	pthread_mutex_unlock(&p->lock);
	if (rc == -EIO)
		spm_pool_tell_news(p);
	return rc;
}

/* -- single extents, for swap -- */

int spm_pool_map_extent(struct spm_pool *p, const struct spm_pool_file *f, uint64_t extent, void **addr)
{
	uint32_t d;
	int rc;

	pthread_mutex_lock(&p->lock);
	rc = look_up(p, spm_pool_whose(f), extent, &d);
	if (!rc && !spm_pool_set_has(&p->movable, d))
		rc = -EBUSY;
	if (!rc) {
		spm_pool_set_del(&p->movable, d);
		*addr = spm_pool_address(p, d);
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

int spm_pool_unmap_extent(struct spm_pool *p, const struct spm_pool_file *f, uint64_t extent, bool drop)
{
	uint32_t d;
	int rc;

	pthread_mutex_lock(&p->lock);
	rc = look_up(p, spm_pool_whose(f), extent, &d);
	if (drop && d != SPM_POOL_NONE) {
		spm_pool_release(p, d);
		spm_pool_uncharge(p, f->slice, 1);
		rc = 0;
	} else if (!rc) {
		spm_pool_set_add(&p->movable, d);
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

int spm_pool_take(struct spm_pool *p, uint16_t slice, uint32_t *extent_no, void **addr)
{
	bool is_clean;
	int rc;

	pthread_mutex_lock(&p->lock);
	rc = spm_pool_charge(p, slice, 1);
	if (!rc) {
		rc = spm_pool_pick(p, false, extent_no, &is_clean);
		if (rc)
			spm_pool_unreserve(p, slice, 1);
		else if (spm_pool_record_state(p, *extent_no) != POOL_FREE)
			spm_pool_set_state(p, *extent_no, POOL_FREE); /* before anything is in it */
	}
	pthread_mutex_unlock(&p->lock);
	if (!rc)
		*addr = spm_pool_address(p, *extent_no);
	return rc;
}

int spm_pool_give(struct spm_pool *p, const struct spm_pool_file *f, uint64_t extent, uint32_t extent_no)
{
	uint64_t whose = spm_pool_whose(f);
	int rc = 0;

	if (extent > POOL_EXTENT_MAX)
		return -EFBIG;
	pthread_mutex_lock(&p->lock);
	if (spm_pool_index_find(p, whose, extent) != SPM_POOL_NONE)
		rc = -EEXIST;
	else
		spm_pool_own(p, extent_no, whose, extent);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void spm_pool_untake(struct spm_pool *p, uint16_t slice, uint32_t extent_no)
{
	pthread_mutex_lock(&p->lock);
	spm_pool_put(p, extent_no, POOL_FREE);
	spm_pool_uncharge(p, slice, 1);
	pthread_mutex_unlock(&p->lock);
}

void spm_pool_untake_lost(struct spm_pool *p, uint16_t slice, uint32_t extent_no)
{
	pthread_mutex_lock(&p->lock);
	spm_pool_uncharge(p, slice, 1);
	pthread_mutex_unlock(&p->lock);
	spm_pool_retire(p, extent_no);
}

int spm_pool_clear_taken(struct spm_pool *p, void *addr, size_t n)
{
	(void)p;
	return spm_pool_clear(addr, n);
}

int spm_pool_look(struct spm_pool *p, const void *addr, size_t n, void (*fn)(void *arg), void *arg)
{
	uint32_t d = (uint32_t)((uint64_t)((const uint8_t *)addr - p->base) / p->extent_bytes);
	int rc = spm_pool_under_guard(addr, n, fn, arg);

	if (rc)
		spm_pool_lost(p, d);
	return rc;
}

/* -- counts -- */

void spm_pool_stats(struct spm_pool *p, struct spm_pool_stats *st, bool metadata)
{
	uint64_t size = p->extent_bytes;

	memset(st, 0, sizeof(*st));
	pthread_mutex_lock(&p->lock);
	st->bytes = (p->extents - p->retired - p->damaged) * size;
	st->used_bytes = p->used * size;
	st->free_bytes = spm_pool_room(p, 0) * size;
	st->clean_bytes = p->clean.count * size;
	st->bad_bytes = p->bad * size;
	st->retired_bytes = p->retired * size;
	st->damaged = p->damaged;
	pthread_mutex_unlock(&p->lock);
	st->zeroed_bytes = atomic_load(&p->zeroed) * size;
	st->moved_bytes = atomic_load(&p->moved) * size;
	if (metadata)
		st->metadata_bytes = p->state_bytes + p->doubts_room * sizeof(*p->doubt) + spm_pool_index_bytes(p) + p->unused.bytes + p->free.bytes +
				     p->clean.bytes + p->movable.bytes + sizeof(*p);
}

/* Nobody's, but in no set: in the hands of who zeroes it, or is about to use it. */
static bool is_in_hand(const struct spm_pool *p, uint32_t d)
{
	uint64_t what = atomic_load_explicit(&p->record[d].what, memory_order_relaxed);
	enum spm_pool_state state = spm_pool_record_state(p, d);

	return state <= POOL_CLEAN && what == spm_pool_what(0, 0, state);
}

uint64_t spm_pool_free_run(struct spm_pool *p)
{
	uint64_t run = 0, longest = 0;

	pthread_mutex_lock(&p->lock);
	for (uint64_t i = 0; i < p->extents; i++) {
		uint64_t word = p->unused.level[0][i / 64] | p->free.level[0][i / 64] | p->clean.level[0][i / 64];

		if (i % 64 == 0 && word == UINT64_MAX) {
			run += 64;
			i += 63;
		} else {
			bool is_free = word >> i % 64 & 1 || (!spm_pool_set_has(&p->movable, i) && is_in_hand(p, (uint32_t)i));

			run = is_free ? run + 1 : 0;
		}
		longest = run > longest ? run : longest;
	}
	pthread_mutex_unlock(&p->lock);
	return longest * p->extent_bytes;
}

uint64_t spm_pool_file_bytes(struct spm_pool *p, const struct spm_pool_file *f)
{
	struct spm_pool_head *h;
	uint64_t count;

	pthread_mutex_lock(&p->lock);
	h = spm_pool_index_head(p, spm_pool_whose(f));
	count = h ? h->count : 0;
	pthread_mutex_unlock(&p->lock);
	return count * p->extent_bytes;
}

uint32_t spm_pool_extent_bytes(const struct spm_pool *p)
{
	return p->extent_bytes;
}

bool spm_pool_next_file(struct spm_pool *p, uint32_t *at, struct spm_pool_file *f)
{
	bool found = false;

	pthread_mutex_lock(&p->lock);
	while (*at < p->heads_top && !found) {
		struct spm_pool_head *h = &p->head[(*at)++];

		found = h->count > 0;
		*f = spm_pool_file_of(h->whose);
	}
	pthread_mutex_unlock(&p->lock);
	return found;
}
