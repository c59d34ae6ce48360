/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SWAP_ROOM_H
#define SPM_CORE_SWAP_ROOM_H

#include "core/swap-evict.h"

/* The reclaimer: what swap-reclaim.c and swap-room.c share. */
#define SPM_AGES        1024u /* steps of the histogram, of 64 ticks each: all of the clock */
#define SPM_FINE        64u   /* ages below this many ticks, one by one */
#define SPM_ROUND_BYTES (UINT64_C(32) << 20)
#define SPM_TURN_NS     INT64_C(50000000) /* a turn that does not come to what it may have is no longer, while others wait */

enum spm_may { SPM_MAY_ASK, SPM_MAY, SPM_MAY_NOT };

struct spm_reclaimer {
	pthread_mutex_t lock; /* guards what follows, and all struct spm_room, but for what is the thread's own */
	pthread_cond_t wake;
	pthread_t thread;
	bool running, stop;
	bool active; /* a bit of @written is set */
	bool asleep; /* until it is woken */
	uint64_t written[SPM_SWAP_SLICES / 64]; /* by slice: something was written since its free memory was looked at */
	struct spm_room *first; /* the line of those that wait */
	/* the thread's own: what is going on */
	struct spm_room *room; /* for whom; NULL: nobody waits for it */
	uint16_t slice;        /* for which slice */
	bool own;              /* of which alone something is to leave */
	bool exchange;
	bool over;             /* its part of swap is full */
	bool contended;        /* others wait, or did a moment ago */
	bool yield;            /* it is the turn of one of those */
	uint64_t fresh, given; /* bytes that left others: not yet handed to it, and handed over in this round */
	uint8_t may[SPM_SWAP_SLICES]; /* which slices may lose something: enum spm_may */
	/* whose turn it was */
	uint64_t top;                /* the most that any slice was served when its turn began */
	uint16_t last, before;       /* the last two different slices */
	int64_t last_ns, before_ns;  /* when */
	uint64_t portion;            /* of each turn, while several slices wait */
	int64_t portion_ns;          /* since when */
	int64_t look_at, cold_at, again_at; /* ns */
	bool looked;                 /* the last thing done was no round */
	uint64_t settled;            /* when ages were looked at, in ticks */
	struct spm_pass cold;
	uint32_t cold_least;         /* seconds, of the slices that the pass has met; 0: none */
	struct spm_evictor ev;
	uint32_t fine[SPM_FINE], coarse[SPM_AGES];
};

int64_t spm_room_clock(void);
static inline struct spm_room *spm_room_of(struct spm_swap *s, uint16_t slice)
{
	return &s->slice[slice % SPM_SWAP_SLICES].room;
}
/* All with the lock, but for should_yield. Whose turn it is, who leaves the line by that; NULL: nobody's, until *@until. */
struct spm_room *spm_room_next(struct spm_reclaimer *r, int64_t now, int64_t *until);
static inline bool spm_room_is_waited_for(const struct spm_room *room)
{
	return room->requests != room->covered;
}
void spm_room_line_up(struct spm_reclaimer *r, struct spm_room *room);
/* A turn of @slice begins: whether another slice waits, or did a moment ago. */
bool spm_room_is_contended(struct spm_reclaimer *r, uint16_t slice, int64_t now);
/* In a turn: whether a slice that has got less waits, or it takes too long. */
bool spm_room_should_yield(struct spm_reclaimer *r);
/* Those who wait in it look again what came of it. */
static inline void spm_room_tell(struct spm_room *room)
{
	if (room->used)
		pthread_cond_broadcast(&room->done);
}
/* Memory came free that this slice can use. */
void spm_room_freed(struct spm_reclaimer *r, struct spm_room *room, uint64_t bytes, bool own);
/* Nothing came free, or with @exchanged only for what comes back: one of those who wait is refused. */
void spm_room_refuse(struct spm_reclaimer *r, struct spm_room *room, bool exchanged);

#endif
