/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who waits for room.
 *
 * Each slice has a line of its own, and these take turns: a round is for one slice, and while several wait, of the same number of
 * bytes for each, however many threads wait in it, and for however much. Next is who has been served the least, and who is
 * ahead of one that comes to wait ends his turn early: who has one thread is not always there in time. A turn that finds
 * nothing is as short, and goes on another time.
 *
 * Whoever waits counts himself among the requests of his slice, and waits until a round for it that began after that has ended, or
 * until enough was freed. A round that frees nothing refuses one of those who wait; the others ask again, since what the
 * refused one lets go may be theirs. If only slots are short, what leaves for something that comes back may take the last ones.
 *
 * What left another slice is the waiting one's as soon as it has left (ops.grow): until then it is free there.
 */
#include "core/swap-room.h"

#include <errno.h>
#include <time.h>

#define TRIES_MAX   2000u
#define GROW_OFTEN  8u                 /* of so many tries one waits, though something seems to be free */
#define RECENT_NS   INT64_C(1000000000) /* slices that waited within this time share with each other */
#define LAG_BYTES   (4 * SPM_ROUND_BYTES)

int64_t spm_room_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* -- the line -- */

void spm_room_line_up(struct spm_reclaimer *r, struct spm_room *room)
{
	struct spm_room **p = &r->first;

	if (room->in_line)
		return;
	while (*p)
		p = &(*p)->next;
	*p = room;
	room->next = NULL;
	room->in_line = true;
}

/* What was not claimed is lost: all of it after a pause, and else what is more than a few turns. */
static void settle(struct spm_reclaimer *r, struct spm_room *room, int64_t now)
{
	uint64_t lag = room->turn_ns && now - room->turn_ns < RECENT_NS ? LAG_BYTES : 0, least = r->top > lag ? r->top - lag : 0;

	if (room->served < least)
		room->served = least;
}

struct spm_room *spm_room_next(struct spm_reclaimer *r, int64_t now, int64_t *until)
{
	struct spm_room **next = NULL, *room;

	*until = INT64_MAX;
	for (struct spm_room **p = &r->first; (room = *p); p = &room->next) {
		if (room->not_before > now) {
			*until = room->not_before < *until ? room->not_before : *until;
			continue;
		}
		settle(r, room, now);
		if (!next || room->served < (*next)->served)
			next = p;
	}
	if (!next)
		return NULL;
	room = *next;
	*next = room->next;
	room->in_line = false;
	room->turn_ns = now;
	r->top = room->served > r->top ? room->served : r->top;
	return room;
}

bool spm_room_should_yield(struct spm_reclaimer *r)
{
	uint64_t served = r->room->served + r->ev.written;
	bool late = spm_room_clock() - r->room->turn_ns > SPM_TURN_NS, yield = false;

	pthread_mutex_lock(&r->lock);
	for (struct spm_room *room = r->first; room && !yield; room = room->next)
		yield = !room->not_before && (late || (room->turn_ns && room->served + r->portion < served));
	pthread_mutex_unlock(&r->lock);
	return yield;
}

bool spm_room_is_contended(struct spm_reclaimer *r, uint16_t slice, int64_t now)
{
	if (r->last != slice) {
		r->before = r->last;
		r->before_ns = r->last_ns;
		r->last = slice;
	}
	r->last_ns = now;
	return r->first || (r->before_ns && now - r->before_ns < RECENT_NS);
}

void spm_room_freed(struct spm_reclaimer *r, struct spm_room *room, uint64_t bytes, bool own)
{
	room->freed += bytes;
	room->own += own ? bytes : 0;
	room->exchanged += r->exchange ? bytes : 0;
	spm_room_tell(room);
}

/* What has been freed for that purpose, ever. */
static uint64_t freed_for(const struct spm_room *room, enum spm_room_for what)
{
	return what == SPM_ROOM_NEW ? room->freed - room->exchanged : what == SPM_ROOM_OWN ? room->own : room->freed;
}

/* A load of another slice, of which something may leave for this one, keeps that from it. */
static bool refuse_another(struct spm_reclaimer *r, const struct spm_room *room)
{
	for (struct spm_room *other = r->first; other; other = other->next) {
		if (other == room || !other->need[SPM_ROOM_LOAD] || r->may[other->slice] != SPM_MAY)
			continue;
		other->covered = other->requests;
		other->refused[SPM_ROOM_LOAD] = true;
		spm_room_tell(other);
		return true;
	}
	return false;
}

void spm_room_refuse(struct spm_reclaimer *r, struct spm_room *room, bool exchanged)
{
	/* a load keeps what has come back of a whole file from leaving; the others hold nothing */
	static const enum spm_room_for order[] = { SPM_ROOM_OWN, SPM_ROOM_LOAD, SPM_ROOM_NEW, SPM_ROOM_BACK };

	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(order); i++) {
		enum spm_room_for what = order[i];

		if (!room->need[what] || (exchanged && (what == SPM_ROOM_LOAD || what == SPM_ROOM_BACK)))
			continue;
		if (what == SPM_ROOM_OWN || what == SPM_ROOM_LOAD || exchanged || !refuse_another(r, room))
			room->refused[what] = true;
		return;
	}
}

/* -- waiting -- */

/*
 * What has to be freed for those who came before: else all who wait would try for what is enough for one, again and again, and the
 * more of them there are the less would come of it. No more than a hint: whoever has waited for a round goes on with what there is.
 */
static uint64_t ahead_of(struct spm_room *room, enum spm_room_for what, uint64_t bytes)
{
	uint64_t ahead = room->promised > room->freed ? room->promised - room->freed : 0;

	room->promised = room->freed + ahead + bytes;
	return what == SPM_ROOM_OWN ? 0 : ahead; /* which is counted by itself */
}

static void give_up_place(struct spm_room *room)
{
	for (unsigned int i = 0; i < SPM_ROOM_KINDS; i++)
		if (room->need[i])
			return;
	room->promised = 0; /* what others had no use for is nobody's */
}

static int wait_for(struct spm_swap *s, uint16_t slice, enum spm_room_for what, uint64_t bytes, uint64_t *freed)
{
	struct spm_room *room = spm_room_of(s, slice);
	struct spm_reclaimer *r = s->reclaim;
	uint64_t mine, before, ahead;
	int rc = 0;

	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	spm_count(s, slice, direct_waits, 1);
	pthread_mutex_lock(&r->lock);
	if (room->slice != slice) /* the first time */
		room->slice = slice;
	if (!room->used)
		pthread_cond_init(&room->done, NULL);
	room->used = true;
	atomic_fetch_add(&room->waiting, 1);
	before = freed_for(room, what);
	ahead = ahead_of(room, what, bytes);
	room->need[what] += bytes;
	mine = ++room->requests;
	spm_room_line_up(r, room);
	pthread_cond_signal(&r->wake);
	while (r->running && freed_for(room, what) - before < ahead + bytes) {
		if (room->covered < mine) {
			pthread_cond_wait(&room->done, &r->lock);
		} else if (freed_for(room, what) != before) {
			break; /* something, and no more for now */
		} else if (room->refused[what]) {
			room->refused[what] = false;
			spm_count(s, slice, refused, 1);
			rc = -ENOSPC;
			break;
		} else {
			mine = ++room->requests;
			spm_room_line_up(r, room);
			pthread_cond_signal(&r->wake);
		}
	}
	if (!r->running)
		rc = -ENOSPC;
	room->need[what] -= bytes;
	give_up_place(room);
	*freed = freed_for(room, what) - before;
	atomic_fetch_sub(&room->waiting, 1);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

int spm_room_wait(struct spm_swap *s, uint16_t slice, enum spm_room_for what, uint64_t bytes, unsigned int *tries)
{
	uint64_t freed;

	if (++*tries > TRIES_MAX)
		return -ENOSPC;
	/* what is free need not leave first; others may be faster, and then it does */
	if (s->ops.grow && *tries % GROW_OFTEN && !s->ops.grow(s->ops.ctx, slice, bytes))
		return 0;
	return wait_for(s, slice, what, bytes, &freed);
}

int spm_swap_room(struct spm_swap *s, uint16_t slice, uint64_t bytes, unsigned int *tries)
{
	return spm_room_wait(s, slice, SPM_ROOM_NEW, bytes, tries);
}

unsigned int spm_swap_waiting(struct spm_swap *s, uint16_t slice)
{
	return atomic_load(&spm_room_of(s, slice)->waiting);
}

uint64_t spm_swap_reclaim(struct spm_swap *s, uint16_t slice, uint64_t bytes)
{
	uint64_t done = 0, freed;

	for (unsigned int tries = 0; done < bytes && tries < TRIES_MAX; tries++) {
		if (wait_for(s, slice, slice ? SPM_ROOM_OWN : SPM_ROOM_NEW, bytes - done, &freed))
			break;
		done += freed;
	}
	return done;
}
