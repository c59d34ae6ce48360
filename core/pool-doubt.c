/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records that are damaged. While a process has the extent in its index it knows whose it was, and the record says LOST from then on.
 * Of one that a successor finds nobody knows anything: whatever a file has neither here nor in a slot may have been there. It is
 * doubtful then, and reads as EIO until it is punched, or cut off. That takes holes along, but never shows zeros where there was something.
 */
#include "core/pool-local.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

bool spm_pool_is_sound(const struct spm_pool *p, uint32_t d)
{
	uint64_t whose = spm_pool_record_whose(p, d),
		 what = atomic_load_explicit(&p->record[d].what, memory_order_relaxed);
	enum spm_pool_state state = spm_pool_record_state(p, d);

	if (state >= POOL_STATES || what != spm_pool_what(whose, what >> 16, state))
		return false;
	return !spm_pool_is_files(state) || ((whose & SPM_POOL_INO_MAX) && whose >> 48 < SPM_POOL_SLICES);
}

/* -- while it is in use -- */

static uint64_t count_bad(const struct spm_pool *p)
{
	uint64_t n = 0;

	for (uint32_t d = 0; d < p->extents; d++) {
		enum spm_pool_state state = spm_pool_record_state(p, d);

		n += (state == POOL_BAD || state == POOL_LOST) && spm_pool_is_sound(p, d);
	}
	return n;
}

void spm_pool_mend(struct spm_pool *p, uint32_t d)
{
	uint64_t whose, extent;

	/* (one that is nobody's is no business of the index) */
	if ((spm_pool_is_sound(p, d) && spm_pool_is_files(spm_pool_record_state(p, d))) ||
	    !spm_pool_index_recall(p, d, &whose, &extent))
		return;
	spm_pool_set_del(&p->movable, d);
	/* wrong until the second store */
	atomic_store_explicit(&p->record[d].whose, whose, memory_order_relaxed);
	spm_pool_barrier();
	atomic_store_explicit(&p->record[d].what, spm_pool_what(whose, extent, POOL_LOST), memory_order_relaxed);
	spm_pool_barrier();
	/* nobody knows whether it was among them */
	p->bad = count_bad(p);
	if (p->news_count < POOL_NEWS)
		p->news[p->news_count++] = (struct spm_pool_news){ .whose = whose, .extent = extent };
}

uint64_t spm_pool_extent_of(struct spm_pool *p, uint32_t d)
{
	spm_pool_mend(p, d);
	return spm_pool_record_extent(p, d);
}

void spm_pool_tell_news(struct spm_pool *p)
{
	struct spm_pool_news news;
	struct spm_pool_file f;
	bool any;

	for (;;) {
		pthread_mutex_lock(&p->lock);
		any = p->news_count;
		if (any)
			news = p->news[--p->news_count];
		pthread_mutex_unlock(&p->lock);
		if (!any)
			return;
		f = spm_pool_file_of(news.whose);
		if (p->o.damaged)
			p->o.damaged(p->o.ctx, &f, news.extent * p->extent_bytes);
	}
}

/* -- what may have been lost -- */

static uint64_t check_of(uint64_t whose, uint64_t first, uint64_t end)
{
	const uint64_t words[] = { whose, first, end };

	return spm_pool_check_of(words, sizeof(words)) | 1;
}

static bool is_live(const struct spm_pool_doubt *x)
{
	return atomic_load_explicit(&x->check, memory_order_relaxed);
}

static bool fits(const struct spm_pool_doubt *x)
{
	return x->check == check_of(x->whose, x->first, x->end);
}

/* Damaged, and known to be: who dies leaves it so. */
static void set_aside(struct spm_pool_doubt *x)
{
	x->whose = 0;
	x->first = 0;
	x->end = 0;
}

static bool is_aside(const struct spm_pool_doubt *x)
{
	return !x->whose && !x->end;
}

static uint64_t doubts_at(const struct spm_pool *p)
{
	return (p->state_bytes + 4095) / 4096 * 4096;
}

static int map_table(struct spm_pool *p, uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->state_fd, (off_t)doubts_at(p));

	if (at == MAP_FAILED)
		return -errno;
	spm_pool_doubts_unmap(p);
	p->doubt = at;
	p->doubts_room = (uint32_t)(bytes / sizeof(*p->doubt));
	return 0;
}

int spm_pool_doubts_map(struct spm_pool *p)
{
	struct stat st;
	int rc;

	if (fstat(p->state_fd, &st))
		return -errno;
	if ((uint64_t)st.st_size < doubts_at(p) + 4096)
		return 0;
	rc = map_table(p, ((uint64_t)st.st_size - doubts_at(p)) / 4096 * 4096);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < p->doubts_room; i++) {
		struct spm_pool_doubt *x = &p->doubt[i];

		if (!is_live(x))
			continue;
		p->doubts++;
		p->doubts_top = i + 1;
		if (fits(x))
			continue;
		p->doubts_damaged++;
		set_aside(x);
	}
	return 0;
}

void spm_pool_doubts_unmap(struct spm_pool *p)
{
	if (p->doubt)
		munmap(p->doubt, p->doubts_room * sizeof(*p->doubt));
	p->doubt = NULL;
}

static int grow(struct spm_pool *p)
{
	uint64_t had = p->doubts_room * sizeof(*p->doubt), bytes = had ? had * 2 : 4096;
	int rc;

	do
		rc = fallocate(p->state_fd, 0, (off_t)doubts_at(p), (off_t)bytes) ? -errno : 0;
	while (rc == -EINTR);
	return rc ? rc : map_table(p, bytes);
}

static int doubt_add(struct spm_pool *p, uint64_t whose, uint64_t first, uint64_t end)
{
	struct spm_pool_doubt *x;
	uint32_t i = 0;
	int rc = p->doubts == p->doubts_room ? grow(p) : 0;

	if (rc)
		return rc;
	while (is_live(&p->doubt[i]))
		i++;
	x = &p->doubt[i];
	x->whose = whose;
	x->first = first;
	x->end = end;
	spm_pool_barrier();
	atomic_store_explicit(&x->check, check_of(whose, first, end), memory_order_relaxed);
	spm_pool_barrier();
	p->doubts++;
	if (p->doubts_top <= i)
		p->doubts_top = i + 1;
	return 0;
}

static void doubt_del(struct spm_pool *p, struct spm_pool_doubt *x)
{
	spm_pool_barrier();
	atomic_store_explicit(&x->check, 0, memory_order_relaxed);
	p->doubts--;
}

uint64_t spm_pool_next_doubt(const struct spm_pool *p, uint64_t whose, uint64_t from)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; p->doubts && i < p->doubts_top; i++) {
		const struct spm_pool_doubt *x = &p->doubt[i];
		uint64_t first = x->first > from ? x->first : from;

		if (!is_live(x) || is_aside(x))
			continue;
		if (!fits(x)) /* damaged since: until the next start it may be of anything */
			return from;
		if (x->whose == whose && first < x->end && first < next)
			next = first;
	}
	return next;
}

bool spm_pool_is_doubtful(const struct spm_pool *p, uint64_t whose, uint64_t extent)
{
	return p->doubts && spm_pool_next_doubt(p, whose, extent) == extent;
}

void spm_pool_doubt_drop(struct spm_pool *p, uint64_t whose, uint64_t first, uint64_t end)
{
	for (uint32_t i = 0; p->doubts && i < p->doubts_top; i++) {
		const struct spm_pool_doubt x = p->doubt[i];
		int rc = 0;

		if (!is_live(&x) || x.whose != whose || x.first >= end || x.end <= first)
			continue;
		/* what stays, first: who dies in between leaves all of it doubtful */
		if (x.first < first)
			rc = doubt_add(p, whose, x.first, first);
		if (!rc && x.end > end)
			rc = doubt_add(p, whose, end, x.end);
		if (!rc)
			doubt_del(p, &p->doubt[i]);
	}
}

void spm_pool_doubt_drop_slice(struct spm_pool *p, uint16_t slice)
{
	for (uint32_t i = 0; p->doubts && i < p->doubts_top; i++)
		if (is_live(&p->doubt[i]) && p->doubt[i].whose >> 48 == slice)
			doubt_del(p, &p->doubt[i]);
}

bool spm_pool_has(struct spm_pool *p, const struct spm_pool_file *f)
{
	uint64_t whose = spm_pool_whose(f);
	bool has;

	pthread_mutex_lock(&p->lock);
	has = spm_pool_index_head(p, whose) || spm_pool_next_doubt(p, whose, 0) != UINT64_MAX;
	pthread_mutex_unlock(&p->lock);
	return has;
}

/* -- at a start -- */

uint64_t spm_pool_damaged(struct spm_pool *p)
{
	uint64_t n;

	pthread_mutex_lock(&p->lock);
	n = p->damaged + p->doubts_damaged;
	pthread_mutex_unlock(&p->lock);
	return n;
}

int spm_pool_doubt(struct spm_pool *p, const struct spm_pool_file *f, uint64_t end,
		   uint64_t (*next_slot)(void *arg, uint64_t from), void *arg, struct spm_pool_doubts *found)
{
	uint64_t whose = spm_pool_whose(f), next, slot;
	int rc = 0;

	*found = (struct spm_pool_doubts){ .extents = 0 };
	for (uint64_t e = 0; e < end && !rc; e = next + 1) {
		next = spm_pool_next_extent(p, whose, e);
		slot = next_slot ? next_slot(arg, e) : UINT64_MAX;
		next = slot < next ? slot : next;
		next = next < end ? next : end;
		if (next == e)
			continue;
		pthread_mutex_lock(&p->lock);
		rc = doubt_add(p, whose, e, next);
		pthread_mutex_unlock(&p->lock);
		if (!found->extents)
			found->first = e;
		found->extents += next - e;
	}
	return rc;
}

void spm_pool_settled(struct spm_pool *p)
{
	pthread_mutex_lock(&p->lock);
	for (uint32_t d = 0; p->damaged && d < p->extents; d++) {
		if (spm_pool_is_sound(p, d))
			continue;
		spm_pool_mend(p, d);
		if (spm_pool_is_sound(p, d))
			continue;
		spm_pool_set_state(p, d, POOL_FREE);
		spm_pool_put(p, d, POOL_FREE);
	}
	for (uint32_t i = 0; p->doubts_damaged && i < p->doubts_top; i++) {
		struct spm_pool_doubt *x = &p->doubt[i];

		if (is_live(x) && is_aside(x))
			doubt_del(p, x);
	}
	p->damaged = 0;
	p->doubts_damaged = 0;
	pthread_mutex_unlock(&p->lock);
}
