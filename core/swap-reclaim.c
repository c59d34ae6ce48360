/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who leaves, and when. One thread moves out: in the background when free memory, of a slice or of what all share, falls below low=
 * until it is high=, at once when somebody waits for room (core/swap-room.c), and what was not used for cold= seconds.
 *
 * For a slice that needs memory its own files may leave, and those of slices that have more than they are guaranteed; when a
 * slice has as much as it may have, its own alone.
 *
 * The coldest first, by passes over all heads: a pass takes what is at least as old as a tenth of all that may leave and has an
 * age (extents with a record, files without one); when it comes to its end the next one's threshold is found anew. So ages are
 * looked at once per pass and not sorted, and what leaves is among the oldest tenth of what is there.
 */
#include "core/swap-room.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define AGE_STEP    64u
#define AGAIN_NS    500000000 /* until a second look, where nothing went since it was in use */
#define CHECK_NS    50000000 /* between two looks at free memory while requests write */
#define COLD_NS     250000000 /* a look for what is cold is made every so often, times its seconds */
#define GIVE_BYTES  (UINT64_C(1) << 20) /* what left others is handed over in pieces of so much */
#define PASSES      3u
#define AIM_COSTS   16      /* what is oldest is found out again after so many times as long as that takes */
#define OVER_MAX    8u      /* files of a slice that do not fit in its part of swap, until the others are left alone */
#define BUSY_ROUNDS 200u    /* that free nothing because all was in use for a moment, before one who waits is refused */
#define DIRECT_ROUNDS 5u    /* because all was open directly: a lease test is a moment behind a close, and takes its time */
#define BUSY_NS     2000000
#define WALK_NS     (SPM_AGE_WALK * INT64_C(250000000))
#define PORTION_NS  INT64_C(1000000000) /* so long the smallest one counts */

/* -- what came of it -- */

/* Hands over what has left others, before they use it again. */
static void give(struct spm_swap *s, struct spm_reclaimer *r)
{
	uint64_t bytes = r->fresh;

	if (!bytes)
		return;
	r->given += bytes;
	r->fresh = 0;
	if (s->ops.grow)
		(void)!s->ops.grow(s->ops.ctx, r->slice, r->given); /* whoever finds that it is not enough comes again */
	pthread_mutex_lock(&r->lock);
	spm_room_freed(r, r->room, bytes, false);
	pthread_mutex_unlock(&r->lock);
}

static void told(void *arg, uint16_t victim, uint64_t bytes)
{
	struct spm_reclaimer *r = arg;
	struct spm_swap *s = r->ev.s;

	if (r->room && victim != r->slice) {
		r->fresh += bytes;
		if (r->fresh >= GIVE_BYTES || !s->ops.grow)
			give(s, r);
		return;
	}
	pthread_mutex_lock(&r->lock);
	spm_room_freed(r, spm_room_of(s, victim), bytes, true);
	pthread_mutex_unlock(&r->lock);
}

/* -- whom -- */

/* Whether anything of a slice may leave, as far as is known. */
static bool may_lose(struct spm_swap *s, struct spm_reclaimer *r, uint16_t victim)
{
	if (r->own && victim != r->slice)
		return false;
	if (r->may[victim] == SPM_MAY_ASK)
		r->may[victim] = victim == r->slice || !s->ops.spare || s->ops.spare(s->ops.ctx, victim, r->slice) ? SPM_MAY : SPM_MAY_NOT;
	return r->may[victim] == SPM_MAY;
}

/* How many bytes of a slice may leave now: what is on its way counts as gone. */
static uint64_t may_leave(void *arg, uint16_t victim)
{
	struct spm_reclaimer *r = arg;
	struct spm_swap *s = r->ev.s;
	uint64_t spare, leaving;

	r->yield = r->yield || (r->contended && spm_room_should_yield(r));
	if (r->yield)
		return 0;
	if (victim == r->slice || !s->ops.spare)
		return UINT64_MAX;
	spare = s->ops.spare(s->ops.ctx, victim, r->slice);
	leaving = atomic_load(&s->slice[victim].leaving) * 4096;
	if (spare < leaving + 4096) {
		r->may[victim] = SPM_MAY_NOT;
		return 0;
	}
	return spare - leaving;
}

static void count_age(struct spm_reclaimer *r, uint16_t age)
{
	if (age < SPM_FINE)
		r->fine[age]++;
	else
		r->coarse[age / AGE_STEP]++;
}

struct ages {
	struct spm_reclaimer *r;
	uint16_t now, whole; /* the age of the file at hand, by its head */
	bool records;
};

static int count_record(void *arg, uint64_t extent, struct spm_extent *x)
{
	struct ages *a = arg;
	uint16_t age = spm_extmap_age(a->now, spm_extent_used(x));

	(void)extent;
	a->records = true;
	if (!spm_extent_how(x)) /* as age_of() in swap-evict.c has it */
		count_age(a->r, age < a->whole ? age : a->whole);
	return 0;
}

/* The age that a tenth of everything that may leave has at least. */
static uint16_t find_threshold(struct spm_swap *s, struct spm_reclaimer *r)
{
	struct ages a = { .r = r, .now = spm_swap_clock(s) };
	uint64_t all = 0, old = 0;

	memset(r->fine, 0, sizeof(r->fine));
	memset(r->coarse, 0, sizeof(r->coarse));
	for (uint32_t file = 0; (file = spm_extmap_next_file(&s->map, file + 1));) {
		struct spm_bucket *b;

		if (!may_lose(s, r, spm_slice_of(s, file)))
			continue;
		b = spm_bucket_lock(s, file);
		a.whole = spm_extmap_age(a.now, __atomic_load_n(&spm_extmap_file(&s->map, file)->used, __ATOMIC_RELAXED));
		a.records = false;
		(void)spm_extmap_ages(&s->map, file, count_record, &a);
		/* where there are records, the head may be of the time when it was made, and say nothing; or all has left */
		if (!a.records)
			count_age(r, a.whole);
		spm_bucket_unlock(b);
	}
	for (unsigned int i = 0; i < SPM_FINE; i++)
		all += r->fine[i];
	for (unsigned int i = 0; i < SPM_AGES; i++)
		all += r->coarse[i];
	for (unsigned int i = SPM_AGES; i-- > 0;) {
		old += r->coarse[i];
		if (old && old >= all / 10)
			return (uint16_t)(i * AGE_STEP);
	}
	for (unsigned int i = SPM_FINE; i-- > 0;) {
		old += r->fine[i];
		if (old && old >= all / 10)
			return (uint16_t)i;
	}
	return 0;
}

/* What a round, or a part of one, is for. */
static void begin(struct spm_swap *s, struct spm_reclaimer *r, struct spm_room *room, uint16_t slice, bool own)
{
	r->room = room;
	r->slice = slice;
	r->own = own;
	r->over = false;
	r->given = 0;
	r->yield = false;
	memset(r->may, SPM_MAY_ASK, sizeof(r->may));
	r->ev.skipped = r->ev.direct = r->ev.full = false;
	r->ev.freed = 0;
	r->ev.unfit = 0;
	r->ev.keep = r->exchange ? 0 : s->reserve;
	r->ev.exchange = r->exchange;
}

/*
 * A pass begins anew with each round, unless it takes long to come to where something is to be had: then it goes on where the last
 * round has ended. True: it is to be found out how long.
 */
static bool aim(struct spm_swap *s, struct spm_reclaimer *r, struct spm_pass *p)
{
	int64_t now = spm_room_clock();

	if (p->broken_off || (p->cursor && now < p->until))
		return false;
	p->cursor = 0;
	p->begin = now;
	p->age = find_threshold(s, r);
	return true;
}

/* A round that has found nothing as yet ends before its time, or goes on. */
static void break_off(struct spm_reclaimer *r, struct spm_pass *p, unsigned int passes)
{
	p->broken_off = r->yield && !r->ev.freed;
	p->ends = passes;
	p->skipped = r->ev.skipped;
	p->direct = r->ev.direct;
	p->over = r->over;
	p->unfit = r->ev.unfit;
}

static unsigned int go_on(struct spm_reclaimer *r, const struct spm_pass *p)
{
	if (!p->broken_off)
		return 0;
	r->ev.skipped = p->skipped;
	r->ev.direct = p->direct;
	r->over = p->over;
	r->ev.unfit = p->unfit;
	return p->ends;
}

/* Moves out at least @bytes if there is so much that may go; what came to be free. */
static uint64_t make_room(struct spm_swap *s, struct spm_reclaimer *r, uint64_t bytes)
{
	struct spm_pass *p = &spm_room_of(s, r->slice)->pass[r->own];
	struct spm_evictor *ev = &r->ev;
	unsigned int passes = go_on(r, p), over = 0;
	bool aiming = aim(s, r, p);
	uint64_t before = ev->written;

	while (ev->freed < bytes && !ev->full) {
		int rc;

		r->yield = r->yield || (r->contended && spm_room_should_yield(r));
		if (r->yield)
			break;
		spm_evictor_wait(ev, bytes);
		if (ev->freed >= bytes)
			break;
		p->cursor = spm_extmap_next_file(&s->map, p->cursor + 1);
		if (!p->cursor) {
			spm_evictor_drain(ev);
			if (ev->freed >= bytes || passes++ == PASSES)
				break;
			/* the last one takes whatever there is */
			p->age = passes == PASSES ? 0 : find_threshold(s, r);
			continue;
		}
		if (!may_lose(s, r, spm_slice_of(s, p->cursor)))
			continue;
		rc = spm_evict_file(ev, p->cursor, 0, UINT64_MAX, p->age, bytes, false);
		if (aiming && ev->written != before) {
			aiming = false;
			p->until = spm_room_clock();
			p->until += AIM_COSTS * (p->until - p->begin);
		}
		if (rc == -EBUSY) /* in use: as good as used now */
			spm_swap_used(s, p->cursor);
		if (rc == -EDQUOT) {
			uint16_t slice = spm_slice_of(s, p->cursor);

			r->over |= slice == r->slice;
			if (++over >= OVER_MAX)
				r->may[slice] = SPM_MAY_NOT;
		}
	}
	spm_evictor_drain(ev);
	break_off(r, p, passes);
	if (r->room)
		give(s, r);
	return ev->freed;
}

/* -- how much -- */

/* What is missing up to the @pct watermark. */
static uint64_t below(const struct spm_memory *m, uint32_t pct)
{
	uint64_t want = m->size / 100 * pct;

	return want > m->free ? want - m->free : 0;
}

/* The watermarks: while everything is to leave, all of it. */
static uint32_t low_of(struct spm_swap *s)
{
	return spm_is_draining(s) ? 100 : s->opts.low_pct;
}

static uint32_t high_of(struct spm_swap *s)
{
	return spm_is_draining(s) ? 100 : s->opts.high_pct;
}

/* The same for a slice and for what all share, whichever is more. */
static uint64_t missing(struct spm_swap *s, uint16_t slice, uint32_t pct)
{
	struct spm_memory own, all;
	uint64_t a = spm_memory_of(s, slice, &own) ? 0 : below(&own, pct);
	uint64_t b = spm_memory_shared(s, &all) ? 0 : below(&all, pct);

	return a > b ? a : b;
}

/* What a slice gets in one turn while others wait: as much as they, for all of them as the smallest can do with. */
static uint64_t portion(struct spm_swap *s, struct spm_reclaimer *r, uint16_t slice, int64_t now)
{
	uint64_t least = 4 * (uint64_t)s->extent_bytes, mine;
	struct spm_memory m;

	mine = spm_memory_of(s, slice, &m) ? SPM_ROUND_BYTES : m.size / 8;
	mine = mine < least ? least : mine > SPM_ROUND_BYTES ? SPM_ROUND_BYTES : mine;
	if (now - r->portion_ns > PORTION_NS || mine <= r->portion) {
		r->portion = mine;
		r->portion_ns = now;
	}
	return r->portion;
}

static uint64_t how_much(struct spm_swap *s, struct spm_reclaimer *r, uint16_t slice, uint64_t want, bool own)
{
	uint64_t more = own ? 0 : missing(s, slice, high_of(s));

	if (r->contended)
		return portion(s, r, slice, spm_room_clock());
	if (want < more)
		want = more;
	if (want < s->extent_bytes)
		want = s->extent_bytes;
	return want < SPM_ROUND_BYTES ? want : SPM_ROUND_BYTES;
}

/* -- rounds -- */

/* With the lock, given up meanwhile. */
static void round_for(struct spm_swap *s, struct spm_reclaimer *r, struct spm_room *room)
{
	uint64_t seen = room->requests, back = room->need[SPM_ROOM_BACK] + room->need[SPM_ROOM_LOAD];
	uint64_t want = room->need[SPM_ROOM_NEW] + room->need[SPM_ROOM_OWN] + back, freed, exchanged = 0;
	bool own = room->need[SPM_ROOM_OWN];
	unsigned int patience;

	r->contended = spm_room_is_contended(r, room->slice, spm_room_clock());
	pthread_mutex_unlock(&r->lock);
	want = how_much(s, r, room->slice, want, own);
	begin(s, r, room, room->slice, own);
	r->ev.written = 0;
	freed = make_room(s, r, want);
	if (!freed && back && !r->yield && (r->ev.unfit || r->over)) {
		r->exchange = true;
		r->contended = false;
		begin(s, r, room, room->slice, own);
		exchanged = make_room(s, r, back < want ? back : want);
		r->exchange = false;
	}
	/* where there is no slot, what is in use would not leave a moment later either */
	patience = r->ev.unfit ? 0 : r->ev.skipped ? BUSY_ROUNDS : r->ev.direct ? DIRECT_ROUNDS : 0;
	pthread_mutex_lock(&r->lock);
	r->room = NULL;
	r->contended = false;
	room->served += r->ev.written ? r->ev.written : r->portion * (uint64_t)(spm_room_clock() - room->turn_ns) / SPM_TURN_NS;
	if (!freed && !exchanged && (r->yield || ++room->busy < patience)) {
		room->not_before = r->yield ? 0 : spm_room_clock() + BUSY_NS;
		spm_room_line_up(r, room);
		return;
	}
	room->busy = 0;
	room->not_before = 0;
	room->covered = seen;
	memset(room->refused, 0, sizeof(room->refused));
	if (!freed)
		spm_room_refuse(r, room, exchanged);
	if (spm_room_is_waited_for(room))
		spm_room_line_up(r, room);
	spm_room_tell(room);
}

/* -- in the background -- */

/* One turn for a slice, or for what all share: from below low= on until it is high=. True: there is more to do. */
static bool refill(struct spm_swap *s, struct spm_reclaimer *r, uint16_t slice, bool own)
{
	bool *refilling = &spm_room_of(s, slice)->refilling[own];
	struct spm_memory m;
	uint64_t want;

	if (own ? spm_memory_of(s, slice, &m) : spm_memory_shared(s, &m))
		return false;
	want = below(&m, low_of(s)) || *refilling ? below(&m, high_of(s)) : 0;
	if (want && !*refilling && !spm_is_draining(s))
		spm_count(s, slice, reclaim_runs, 1);
	*refilling = false;
	if (!want)
		return false;
	begin(s, r, NULL, slice, own);
	*refilling = make_room(s, r, want < SPM_ROUND_BYTES ? want : SPM_ROUND_BYTES) && want > r->ev.freed;
	/* what a request had in its hands just now, nobody may write to again */
	if (!*refilling && want > r->ev.freed && (r->ev.skipped || spm_is_draining(s)))
		r->again_at = spm_room_clock() + AGAIN_NS;
	return *refilling;
}

static uint32_t cold_of(struct spm_swap *s, uint16_t slice)
{
	uint32_t cold = s->ops.cold ? s->ops.cold(s->ops.ctx, slice) : s->opts.cold_s;

	return cold < 16000 ? cold : cold == UINT32_MAX ? s->opts.cold_s : 16000;
}

/* Looks at the slices in which something was written. */
static void look_around(struct spm_swap *s, struct spm_reclaimer *r)
{
	uint64_t written[SPM_ARRAY_SIZE(r->written)], more[SPM_ARRAY_SIZE(r->written)] = { 0 };
	int64_t now;

	r->again_at = INT64_MAX;
	/* first, since what is written from now on may be passed over below */
	pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(written); i++)
		written[i] = __atomic_exchange_n(&r->written[i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&r->active, false, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&r->lock);
	if (refill(s, r, 0, false))
		more[0] |= 1;
	for (unsigned int i = 0; i < SPM_SWAP_SLICES; i++) {
		uint32_t cold;

		if (!(i % 64) && !written[i / 64]) {
			i += 63;
			continue;
		}
		if (!(written[i / 64] >> i % 64 & 1))
			continue;
		now = spm_room_clock();
		cold = cold_of(s, (uint16_t)i);
		if (cold && r->cold_at > now + (int64_t)cold * COLD_NS)
			r->cold_at = now + (int64_t)cold * COLD_NS;
		/* what the root slice may have at most is what all share */
		if (i && refill(s, r, (uint16_t)i, true))
			more[i / 64] |= UINT64_C(1) << i % 64;
	}
	r->look_at = spm_room_clock() + CHECK_NS;
	pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(more); i++) {
		__atomic_or_fetch(&r->written[i], more[i], __ATOMIC_RELAXED);
		if (!more[i])
			continue;
		__atomic_store_n(&r->active, true, __ATOMIC_RELAXED);
		r->look_at = 0;
	}
	pthread_mutex_unlock(&r->lock);
}

static bool is_wanted_elsewhere(struct spm_reclaimer *r)
{
	bool yes;

	pthread_mutex_lock(&r->lock);
	yes = r->first || r->stop;
	pthread_mutex_unlock(&r->lock);
	return yes;
}

/* What was not used for as long as its slice says leaves. Goes on later where somebody waits meanwhile. */
static void cold_pass(struct spm_swap *s, struct spm_reclaimer *r)
{
	struct spm_evictor *ev = &r->ev;

	begin(s, r, NULL, 0, false);
	ev->may_leave = NULL;
	while ((r->cold.cursor = spm_extmap_next_file(&s->map, r->cold.cursor + 1))) {
		uint16_t slice = spm_slice_of(s, r->cold.cursor);
		uint32_t cold = r->may[slice] == SPM_MAY_NOT ? 0 : cold_of(s, slice);
		int rc;

		if (!cold)
			continue;
		if (!r->cold_least || cold < r->cold_least)
			r->cold_least = cold;
		rc = spm_evict_file(ev, r->cold.cursor, 0, UINT64_MAX, (uint16_t)(cold * 4), UINT64_MAX, false);
		if (rc == -EBUSY)
			spm_swap_used(s, r->cold.cursor);
		if (rc == -EDQUOT)
			r->may[slice] = SPM_MAY_NOT;
		if (ev->full)
			r->cold.cursor = 0;
		if (ev->full || is_wanted_elsewhere(r))
			break;
	}
	spm_evictor_drain(ev);
	ev->may_leave = may_leave;
	if (r->cold.cursor)
		return;
	r->cold_at = r->cold_least ? spm_room_clock() + r->cold_least * COLD_NS : INT64_MAX;
	r->cold_least = 0;
}

/* -- the thread -- */

/* With the lock: until @until, or somebody waits, or writes after a time without. */
static void sleep_until(struct spm_reclaimer *r, int64_t until)
{
	struct timespec ts = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };

	r->asleep = true;
	if (until == INT64_MAX)
		pthread_cond_wait(&r->wake, &r->lock);
	else
		(void)pthread_cond_timedwait(&r->wake, &r->lock, &ts);
	r->asleep = false;
}

/* With the lock, given up meanwhile. */
static void step(struct spm_swap *s, struct spm_reclaimer *r)
{
	int64_t now = spm_room_clock(), until;
	bool settle = spm_swap_ticks(s) - r->settled >= SPM_AGE_WALK;
	bool look = (r->active && now >= r->look_at) || now >= r->again_at, cold = now >= r->cold_at;
	struct spm_room *room;

	/* by turns with those who wait */
	if ((look || cold || settle) && !(r->looked && r->first)) {
		r->looked = true;
		pthread_mutex_unlock(&r->lock);
		if (settle)
			spm_ages_settle(s);
		if (look)
			look_around(s, r);
		if (cold)
			cold_pass(s, r);
		pthread_mutex_lock(&r->lock);
		return;
	}
	r->looked = false;
	room = spm_room_next(r, now, &until);
	if (room) {
		round_for(s, r, room);
	} else if (!look && !cold && !settle) {
		until = r->active && r->look_at < until ? r->look_at : until;
		until = r->again_at < until ? r->again_at : until;
		until = r->cold_at < until ? r->cold_at : until;
		sleep_until(r, until < now + WALK_NS ? until : now + WALK_NS);
	}
}

static void *serve(void *arg)
{
	struct spm_swap *s = arg;
	struct spm_reclaimer *r = s->reclaim;

	pthread_mutex_lock(&r->lock);
	while (!r->stop)
		step(s, r);
	/* nobody must wait for a thread that is gone */
	r->running = false;
	for (unsigned int i = 0; i < SPM_SWAP_SLICES; i++)
		spm_room_tell(&s->slice[i].room);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

void spm_reclaim_nudge(struct spm_swap *s, uint16_t slice)
{
	struct spm_reclaimer *r = s->reclaim;
	uint64_t bit = UINT64_C(1) << slice % 64;

	if (__atomic_load_n(&r->written[slice / 64], __ATOMIC_RELAXED) & bit)
		return;
	pthread_mutex_lock(&r->lock);
	__atomic_or_fetch(&r->written[slice / 64], bit, __ATOMIC_RELAXED);
	__atomic_store_n(&r->active, true, __ATOMIC_RELAXED);
	if (r->asleep)
		pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
}

void spm_swap_slice_changed(struct spm_swap *s, uint16_t slice)
{
	spm_reclaim_nudge(s, slice % SPM_SWAP_SLICES);
}

int spm_reclaimer_init(struct spm_swap *s)
{
	struct spm_reclaimer *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wake, &attr);
	pthread_condattr_destroy(&attr);
	spm_evictor_init(&r->ev, s);
	r->ev.progress = told;
	r->ev.may_leave = may_leave;
	r->ev.arg = r;
	r->settled = spm_swap_ticks(s);
	s->reclaim = r;
	return 0;
}

int spm_reclaimer_start(struct spm_swap *s)
{
	struct spm_reclaimer *r = s->reclaim;
	int rc;

	r->running = true;
	r->active = true;
	r->again_at = INT64_MAX;
	r->written[0] = 1;
	rc = pthread_create(&r->thread, NULL, serve, s);
	if (rc)
		r->running = false;
	return -rc;
}

void spm_reclaimer_stop(struct spm_swap *s)
{
	struct spm_reclaimer *r = s->reclaim;

	pthread_mutex_lock(&r->lock);
	if (!r->running && !r->stop) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	r->stop = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
}
