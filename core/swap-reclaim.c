/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who leaves, and when. One thread moves out: in the background when free memory of a slice falls below low= until it is high=,
 * at once when somebody waits for room, and what was not used for cold= seconds.
 *
 * The coldest first, by passes over all heads: a pass takes what is at least as old as a tenth of all that has an age
 * (extents with a record, files without one); when it comes to its end the next one's threshold is found anew. So ages are
 * looked at once per pass and not sorted, and what leaves is among the oldest tenth of what is there.
 *
 * Rounds. Whoever waits for room counts himself among the requests, and waits until a round that began after that has ended,
 * or until enough was freed. A round that frees nothing refuses one of those who wait; the others ask again, since what the
 * refused one lets go may be theirs. If only slots are short, what leaves for something that comes back may take the last ones.
 */
#include "core/swap-evict.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define AGES        1024u /* steps of the histogram, of 64 ticks each: all of the clock */
#define AGE_STEP    64u
#define FINE        64u   /* ages below this many ticks, one by one */
#define AGE_WALK    2048u /* ticks, 8.5 minutes: between two looks for what has come to SPM_AGE_MAX */
#define CHECK_NS    50000000 /* between two looks at free memory while requests write */
#define ROUND_BYTES (UINT64_C(32) << 20)
#define TRIES_MAX   2000u
#define PASSES      3u
#define BUSY_ROUNDS 200u    /* that free nothing because all was in use for a moment, before one who waits is refused */
#define DIRECT_ROUNDS 5u    /* because all was open directly: a lease test is a moment behind a close, and takes its time */
#define BUSY_NS     2000000

struct spm_reclaimer {
	pthread_mutex_t lock; /* guards what follows, but for what is the thread's own */
	pthread_cond_t wake, done;
	pthread_t thread;
	bool running, stop;
	bool active; /* something was written since free memory was looked at */
	bool asleep; /* until somebody writes */
	uint64_t need[SPM_ROOM_KINDS]; /* bytes that those who wait want together */
	uint64_t requests, covered; /* numbers of requests: the last, and the last that a finished round has seen */
	uint64_t freed;             /* bytes, ever */
	uint64_t exchanged;         /* of these, with the reserve's help: only for what comes back */
	bool refused[SPM_ROOM_KINDS]; /* to be handed out, to one of each */
	/* the thread's own */
	uint32_t cursor;
	uint16_t age;
	unsigned int busy; /* rounds in a row that freed nothing for that reason */
	uint64_t settled;  /* when ages were looked at, in ticks */
	bool exchange;
	struct spm_evictor ev;
	uint32_t fine[FINE], coarse[AGES];
};

static void told(void *arg, uint64_t bytes)
{
	struct spm_reclaimer *r = arg;

	pthread_mutex_lock(&r->lock);
	r->freed += bytes;
	r->exchanged += r->exchange ? bytes : 0;
	pthread_cond_broadcast(&r->done);
	pthread_mutex_unlock(&r->lock);
}

/* -- whom -- */

static void count_age(struct spm_reclaimer *r, uint16_t age)
{
	if (age < FINE)
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

/* The age that a tenth of everything has at least. */
static uint16_t find_threshold(struct spm_swap *s, struct spm_reclaimer *r)
{
	struct ages a = { .r = r, .now = spm_swap_clock(s) };
	uint64_t all = 0, old = 0;

	memset(r->fine, 0, sizeof(r->fine));
	memset(r->coarse, 0, sizeof(r->coarse));
	for (uint32_t file = 0; (file = spm_extmap_next_file(&s->map, file + 1));) {
		struct spm_bucket *b = spm_bucket_lock(s, file);

		a.whole = spm_extmap_age(a.now, __atomic_load_n(&spm_extmap_file(&s->map, file)->used, __ATOMIC_RELAXED));
		a.records = false;
		(void)spm_extmap_ages(&s->map, file, count_record, &a);
		/* where there are records, the head may be of the time when it was made, and say nothing; or all has left */
		if (!a.records)
			count_age(r, a.whole);
		spm_bucket_unlock(b);
	}
	for (unsigned int i = 0; i < FINE; i++)
		all += r->fine[i];
	for (unsigned int i = 0; i < AGES; i++)
		all += r->coarse[i];
	for (unsigned int i = AGES; i-- > 0;) {
		old += r->coarse[i];
		if (old && old >= all / 10)
			return (uint16_t)(i * AGE_STEP);
	}
	for (unsigned int i = FINE; i-- > 0;) {
		old += r->fine[i];
		if (old && old >= all / 10)
			return (uint16_t)i;
	}
	return 0;
}

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

	if (ticks - r->settled < AGE_WALK)
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

/* Moves out at least @bytes if there is so much that may go; what came to be free. UINT64_MAX: all that is as old as @min_age. */
static uint64_t make_room(struct spm_swap *s, struct spm_reclaimer *r, uint64_t bytes, uint16_t min_age)
{
	struct spm_evictor *ev = &r->ev;
	unsigned int passes = 0;

	ev->freed = 0;
	ev->unfit = 0;
	ev->full = false;
	ev->keep = r->exchange ? 0 : s->reserve;
	if (bytes == UINT64_MAX) {
		r->cursor = r->age = 0;
		passes = PASSES;
	} else if (!r->cursor) {
		r->age = find_threshold(s, r);
	}
	while (ev->freed < bytes && !ev->full) {
		r->cursor = spm_extmap_next_file(&s->map, r->cursor + 1);
		if (!r->cursor) {
			spm_evictor_drain(ev);
			if (ev->freed >= bytes || passes++ == PASSES)
				break;
			/* the last one takes whatever there is */
			r->age = passes == PASSES ? 0 : find_threshold(s, r);
			continue;
		}
		int rc = spm_evict_file(ev, r->cursor, 0, UINT64_MAX, r->age < min_age ? min_age : r->age, bytes, false);

		if (rc == -EBUSY) /* in use: as good as used now */
			spm_swap_used(s, r->cursor);
	}
	spm_evictor_drain(ev);
	return ev->freed;
}

/* -- how much -- */

/* What is missing up to the @pct watermark. */
static uint64_t below(struct spm_swap *s, uint32_t pct)
{
	struct statvfs sv;
	uint64_t want, free;

	if (s->ops.statfs(s->ops.ctx, 0, &sv))
		return 0;
	want = (uint64_t)sv.f_blocks * sv.f_frsize / 100 * pct;
	free = (uint64_t)sv.f_bavail * sv.f_frsize;
	return want > free ? want - free : 0;
}

static uint64_t background(struct spm_swap *s)
{
	uint64_t want = below(s, s->opts.low_pct) ? below(s, s->opts.high_pct) : 0;

	return want < ROUND_BYTES ? want : ROUND_BYTES;
}

/* -- the thread -- */

static void deadline(struct timespec *ts, int64_t ns)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_nsec += ns % 1000000000;
	ts->tv_sec += ns / 1000000000 + ts->tv_nsec / 1000000000;
	ts->tv_nsec %= 1000000000;
}

/* With the lock: until there is something to do, or to look at. */
static void sleep_a_while(struct spm_swap *s, struct spm_reclaimer *r)
{
	int64_t cold_ns = (int64_t)s->opts.cold_s * 250000000, walk_ns = (int64_t)AGE_WALK * 250000000;
	struct timespec ts;

	if (r->requests != r->covered || r->stop)
		return;
	if (!r->active && !cold_ns) {
		r->asleep = true;
		deadline(&ts, walk_ns);
		(void)pthread_cond_timedwait(&r->wake, &r->lock, &ts);
		r->asleep = false;
		return;
	}
	if (cold_ns > walk_ns)
		cold_ns = walk_ns;
	deadline(&ts, r->active ? CHECK_NS : cold_ns);
	__atomic_store_n(&r->active, false, __ATOMIC_RELAXED);
	(void)pthread_cond_timedwait(&r->wake, &r->lock, &ts);
}

/* One of those who wait is refused; the others ask again, since what he lets go may be theirs. */
static void refuse(struct spm_reclaimer *r, bool exchanged)
{
	/* a load keeps what has come back of a whole file from leaving; the others hold nothing */
	static const enum spm_room_for order[] = { SPM_ROOM_LOAD, SPM_ROOM_NEW, SPM_ROOM_BACK };

	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(order); i++) {
		if (r->need[order[i]] && (!exchanged || order[i] == SPM_ROOM_NEW)) {
			r->refused[order[i]] = true;
			return;
		}
	}
}

static void round_for(struct spm_swap *s, struct spm_reclaimer *r)
{
	static const struct timespec pause = { .tv_nsec = BUSY_NS };
	uint64_t seen = r->requests, back = r->need[SPM_ROOM_BACK] + r->need[SPM_ROOM_LOAD], want = r->need[SPM_ROOM_NEW] + back;
	uint64_t freed, exchanged = 0;
	unsigned int patience;

	pthread_mutex_unlock(&r->lock);
	if (want < s->extent_bytes)
		want = s->extent_bytes;
	if (want < below(s, s->opts.high_pct))
		want = below(s, s->opts.high_pct);
	r->ev.skipped = r->ev.direct = false;
	freed = make_room(s, r, want < ROUND_BYTES ? want : ROUND_BYTES, 0);
	if (!freed && back && r->ev.unfit) {
		r->ev.skipped = r->ev.direct = false;
		r->exchange = true;
		exchanged = make_room(s, r, back < ROUND_BYTES ? back : ROUND_BYTES, 0);
		r->exchange = false;
	}
	/* where there is no slot, what is in use would not leave a moment later either */
	patience = r->ev.unfit ? 0 : r->ev.skipped ? BUSY_ROUNDS : r->ev.direct ? DIRECT_ROUNDS : 0;
	if (!freed && !exchanged && ++r->busy < patience) {
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&r->lock);
		return;
	}
	r->busy = 0;
	pthread_mutex_lock(&r->lock);
	r->covered = seen;
	memset(r->refused, 0, sizeof(r->refused));
	if (!freed)
		refuse(r, exchanged);
	pthread_cond_broadcast(&r->done);
}

static void *serve(void *arg)
{
	struct spm_swap *s = arg;
	struct spm_reclaimer *r = s->reclaim;

	pthread_mutex_lock(&r->lock);
	while (!r->stop) {
		uint64_t want;

		sleep_a_while(s, r);
		if (r->stop)
			break;
		if (spm_swap_ticks(s) - r->settled >= AGE_WALK) {
			pthread_mutex_unlock(&r->lock);
			spm_ages_settle(s);
			pthread_mutex_lock(&r->lock);
		}
		if (r->requests != r->covered) {
			round_for(s, r);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		want = background(s);
		if (want)
			atomic_fetch_add(&s->count->reclaim_runs, 1);
		if (want && make_room(s, r, want, 0) && background(s)) {
			pthread_mutex_lock(&r->lock);
			__atomic_store_n(&r->active, true, __ATOMIC_RELAXED);
			continue;
		}
		if (s->opts.cold_s)
			(void)make_room(s, r, UINT64_MAX, (uint16_t)(s->opts.cold_s * 4 < SPM_AGE_MAX ? s->opts.cold_s * 4 : SPM_AGE_MAX - 1));
		pthread_mutex_lock(&r->lock);
	}
	/* nobody must wait for a thread that is gone */
	r->running = false;
	pthread_cond_broadcast(&r->done);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

void spm_reclaim_nudge(struct spm_swap *s)
{
	struct spm_reclaimer *r = s->reclaim;

	if (__atomic_load_n(&r->active, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&r->lock);
	__atomic_store_n(&r->active, true, __ATOMIC_RELAXED);
	if (r->asleep)
		pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
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
	pthread_cond_init(&r->done, NULL);
	pthread_condattr_destroy(&attr);
	spm_evictor_init(&r->ev, s);
	r->ev.progress = told;
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

/* -- waiting for room -- */

/* What has been freed for that purpose, ever. */
static uint64_t freed_for(const struct spm_reclaimer *r, enum spm_room_for what)
{
	return what == SPM_ROOM_NEW ? r->freed - r->exchanged : r->freed;
}

int spm_room_wait(struct spm_swap *s, enum spm_room_for what, uint64_t bytes, unsigned int *tries)
{
	struct spm_reclaimer *r = s->reclaim;
	uint64_t mine, before;
	int rc = 0;

	if (++*tries > TRIES_MAX)
		return -ENOSPC;
	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	atomic_fetch_add(&s->count->direct_waits, 1);
	pthread_mutex_lock(&r->lock);
	before = freed_for(r, what);
	r->need[what] += bytes;
	mine = ++r->requests;
	pthread_cond_signal(&r->wake);
	while (r->running && freed_for(r, what) - before < bytes) {
		if (r->covered < mine) {
			pthread_cond_wait(&r->done, &r->lock);
		} else if (freed_for(r, what) != before) {
			break; /* something, and no more for now */
		} else if (r->refused[what]) {
			r->refused[what] = false;
			atomic_fetch_add(&s->count->refused, 1);
			rc = -ENOSPC;
			break;
		} else {
			mine = ++r->requests;
			pthread_cond_signal(&r->wake);
		}
	}
	if (!r->running)
		rc = -ENOSPC;
	r->need[what] -= bytes;
	pthread_mutex_unlock(&r->lock);
	return rc;
}

int spm_swap_room(struct spm_swap *s, uint16_t slice, uint64_t bytes, unsigned int *tries)
{
	(void)slice; /* all files are in the root slice as yet */
	return spm_room_wait(s, SPM_ROOM_NEW, bytes, tries);
}

uint64_t spm_swap_reclaim(struct spm_swap *s, uint16_t slice, uint64_t bytes)
{
	uint64_t before = atomic_load(&s->count->swapout_bytes), done = 0;
	unsigned int tries = 0;

	while (done < bytes && !spm_swap_room(s, slice, bytes - done, &tries))
		done = atomic_load(&s->count->swapout_bytes) - before;
	return done;
}
