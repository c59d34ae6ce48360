/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Moves used extents down, the highest to the lowest place, until what is free is one run. */
#include "core/pool-local.h"

#include <errno.h>
#include <time.h>

#define PERIOD_S 2 /* between two looks of the background whether there is anything to move */

struct move {
	uint32_t from, to;
	uint64_t whose, extent;
};

/* With the lock. Whether there is anything to move, and what would be. */
static bool next_move(struct spm_pool *p, struct move *m)
{
	uint64_t from, to = spm_pool_lowest(p);

	/* one with a damaged record is not movable any more */
	while ((from = spm_pool_set_last(&p->movable)) != UINT64_MAX) {
		spm_pool_mend(p, (uint32_t)from);
		if (spm_pool_set_has(&p->movable, from))
			break;
	}
	if (from == UINT64_MAX || to == UINT64_MAX || to > from)
		return false;
	m->from = (uint32_t)from;
	m->to = (uint32_t)to;
	m->whose = spm_pool_record_whose(p, m->from);
	m->extent = spm_pool_record_extent(p, m->from);
	return true;
}

/* With the lock, and the file's: it is still the one to be moved. */
static bool begin(struct spm_pool *p, struct move *m)
{
	struct move now;

	if (!next_move(p, &now) || now.from != m->from || now.whose != m->whose || now.extent != m->extent)
		return false;
	m->to = now.to;
	spm_pool_set_del(&p->unused, m->to);
	spm_pool_set_del(&p->free, m->to);
	spm_pool_set_del(&p->clean, m->to);
	if (spm_pool_record_state(p, m->to) != POOL_FREE)
		spm_pool_set_state(p, m->to, POOL_FREE); /* before anything is in it */
	p->transient++;
	return true;
}

/* With both locks, after the copy. */
static void end(struct spm_pool *p, const struct move *m)
{
	/* poison may have been told of meanwhile, or its record be damaged */
	spm_pool_mend(p, m->from);
	if (spm_pool_record_state(p, m->from) != POOL_OWNED) {
		spm_pool_put(p, m->to, POOL_FREE);
		return;
	}
	spm_pool_index_remove(p, m->from);
	spm_pool_set_del(&p->movable, m->from);
	spm_pool_own(p, m->to, m->whose, m->extent);
	spm_pool_fault(p, "pool:moved");
	spm_pool_put(p, m->from, POOL_FREE);
	spm_pool_fault(p, "pool:freed");
	atomic_fetch_add(&p->moved, 1);
}

static void move(struct spm_pool *p, struct move *m)
{
	struct spm_pool_file f = spm_pool_file_of(m->whose);
	spm_auto_pool struct spm_pool_held held;
	const void *lost;
	bool ok;
	int rc;

	spm_pool_lock(p, &f, SPM_POOL_EXCLUSIVE, &held);
	pthread_mutex_lock(&p->lock);
	ok = begin(p, m);
	pthread_mutex_unlock(&p->lock);
	if (!ok)
		return;
	rc = spm_pool_copy_over(spm_pool_address(p, m->to), spm_pool_address(p, m->from), p->extent_bytes, &lost);
	spm_pool_fault(p, "pool:copied");
	if (rc && lost == spm_pool_address(p, m->to))
		spm_pool_retire(p, m->to);
	else if (rc)
		spm_pool_lost(p, m->from);
	pthread_mutex_lock(&p->lock);
	if (!rc)
		end(p, m);
	else if (lost != spm_pool_address(p, m->to))
		spm_pool_put(p, m->to, POOL_FREE);
	p->transient--;
	pthread_cond_broadcast(&p->settled);
	pthread_mutex_unlock(&p->lock);
}

/* -- bandwidth -- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Until as much may have been moved; in short naps, so that cancelling takes effect. */
static bool wait_for_turn(const struct spm_pool_compact *c, uint64_t began, uint64_t moved)
{
	const uint64_t nap = 20000000;
	struct timespec t = { .tv_sec = 0 };
	uint64_t due, now;

	for (;;) {
		if (c->cancel && c->cancel(c->arg))
			return false;
		if (!c->bps)
			return true;
		due = began + (uint64_t)((double)moved / (double)c->bps * 1e9);
		now = now_ns();
		if (now >= due)
			return true;
		t.tv_nsec = (long)(due - now < nap ? due - now : nap);
		nanosleep(&t, NULL);
	}
}

/* All that there is to move. */
static int run_pass(struct spm_pool *p, struct spm_pool_compact *c)
{
	uint64_t began = now_ns(), first = atomic_load(&p->moved);
	struct move m;
	bool more;

	c->moved_bytes = 0;
	for (;;) {
		if (!wait_for_turn(c, began, c->moved_bytes))
			return -ECANCELED;
		pthread_mutex_lock(&p->lock);
		more = next_move(p, &m);
		pthread_mutex_unlock(&p->lock);
		if (!more)
			return 0;
		move(p, &m);
		c->moved_bytes = (atomic_load(&p->moved) - first) * p->extent_bytes;
	}
}

/* With the lock. */
static void end_pass(struct spm_pool *p)
{
	p->compacting = POOL_IDLE;
	pthread_cond_broadcast(&p->settled);
}

int spm_pool_compact(struct spm_pool *p, struct spm_pool_compact *c)
{
	int rc = 0;

	c->moved_bytes = 0;
	pthread_mutex_lock(&p->lock);
	p->compact_calls++;
	while (p->compacting == POOL_COMPACTS_BEHIND)
		pthread_cond_wait(&p->settled, &p->lock);
	p->compact_calls--;
	if (p->compacting != POOL_IDLE)
		rc = -EALREADY;
	else
		p->compacting = POOL_COMPACTS;
	pthread_mutex_unlock(&p->lock);
	if (rc)
		return rc;
	rc = run_pass(p, c);
	pthread_mutex_lock(&p->lock);
	end_pass(p);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* -- in the background -- */

static bool is_wanted_away(void *arg)
{
	struct spm_pool *p = arg;
	bool wanted;

	pthread_mutex_lock(&p->lock);
	wanted = p->stop || p->compact_calls;
	pthread_mutex_unlock(&p->lock);
	return wanted;
}

/* With the lock. */
static bool is_due(struct spm_pool *p)
{
	struct move m;

	return p->compacting == POOL_IDLE && !p->compact_calls && next_move(p, &m);
}

static void *compactor(void *arg)
{
	struct spm_pool *p = arg;
	struct spm_pool_compact c = { .bps = p->o.compact_bps, .cancel = is_wanted_away, .arg = p };
	struct timespec until;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += PERIOD_S;
		while (!p->stop && !pthread_cond_timedwait(&p->compact_wake, &p->lock, &until))
			;
		if (p->stop || !is_due(p))
			continue;
		p->compacting = POOL_COMPACTS_BEHIND;
		pthread_mutex_unlock(&p->lock);
		(void)run_pass(p, &c);
		pthread_mutex_lock(&p->lock);
		end_pass(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int spm_pool_compactor_start(struct spm_pool *p)
{
	int rc = p->o.compact_bps ? pthread_create(&p->compactor, NULL, compactor, p) : 0;

	p->compactor_runs = p->o.compact_bps && !rc;
	return -rc;
}

void spm_pool_compactor_stop(struct spm_pool *p)
{
	if (p->compactor_runs)
		pthread_join(p->compactor, NULL);
	p->compactor_runs = false;
}
