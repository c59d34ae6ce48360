/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_POOL_LOCAL_H
#define SPM_CORE_POOL_LOCAL_H

#include <pthread.h>
#include <stdatomic.h>
#include "core/mix.h"
#include "core/pool.h"
#include "core/pool-set.h"

/* The inside of a pool (core/pool.h), for core/pool*.c and their tests. */

#define POOL_MAGIC      UINT64_C(0x6c6f6f702d6d7073) /* "spm-pool" */
#define POOL_LABEL      UINT64_C(0x6c62616c2d6d7073) /* "spm-labl" */
#define POOL_VERSION    2u
#define POOL_NOTES      64u
#define POOL_RECORDS_AT 4096u
#define POOL_LABEL_SIZE 4096u
#define POOL_STRIPES    256u
#define POOL_STEP       256u /* extents that are worked on without letting others to the lock */

enum spm_pool_state { POOL_UNUSED, POOL_FREE, POOL_CLEAN, POOL_OWNED, POOL_BAD, POOL_RETIRED, POOL_LOST, POOL_STATES };

/* @what: file extent << 16 | check << 8 | state. A zero record is POOL_UNUSED. */
struct spm_pool_record {
	_Atomic uint64_t whose; /* slice << 48 | ino */
	_Atomic uint64_t what;
};
_Static_assert(sizeof(struct spm_pool_record) == 16, "16 bytes an extent");
#define POOL_EXTENT_MAX ((UINT64_C(1) << 48) - 1)

/* A truncate under way: @whose is the store that counts, 0: none. */
struct spm_pool_note {
	struct spm_handle handle;
	_Atomic uint64_t whose;
};

/*
 * Extents [first, end) of a file, which has none of them: a damaged record may have been of one. Behind the records in the state file,
 * from a page's start to the file's end. In use from the store of @check on until that is 0; never changed in between.
 */
struct spm_pool_doubt {
	uint64_t whose, first, end;
	_Atomic uint64_t check;
};
_Static_assert(4096 % sizeof(struct spm_pool_doubt) == 0, "whole ones in a page");

/* A record that was found damaged while it was in use, and is to be told of. */
struct spm_pool_news {
	uint64_t whose, extent;
};
#define POOL_NEWS 8u

/* Which device it was when it was last known to be the pool's. */
struct spm_pool_ident {
	uint64_t id[2];   /* st_rdev; of a regular file st_dev and st_ino */
	uint64_t binding;
	uint64_t check;   /* of all before; any other: not known */
};

struct spm_pool_header {
	uint64_t magic;
	uint32_t version, extent_bytes;
	uint8_t uuid[16];
	uint64_t extents;      /* records, and extents of the device from its start on */
	uint64_t device_bytes, label_at;
	uint64_t check;        /* of all before */
	_Atomic uint64_t limit; /* of all files, bytes; 0: none */
	struct spm_pool_note notes[POOL_NOTES];
	struct spm_pool_ident ident;
};
_Static_assert(sizeof(struct spm_pool_header) <= POOL_RECORDS_AT, "records lie behind it");

struct spm_pool_label {
	uint64_t magic;
	uint8_t uuid[16];
	uint64_t check;
};

/* Of each extent: in lists of extents, by number plus one, so that zeroed memory is empty lists. */
struct spm_pool_link {
	uint32_t chain;      /* with the same hash of file and extent */
	uint32_t next, prev; /* of the same file */
};

/* A file that has extents. */
struct spm_pool_head {
	uint64_t whose;
	uint32_t first;      /* extent plus one */
	uint32_t count;
	uint32_t chain;      /* head plus one; of free heads: the next one */
	uint32_t unused;
};

struct spm_pool {
	struct spm_pool_header *header;
	struct spm_pool_record *record;
	uint8_t *base;           /* of the device */
	uint64_t state_bytes, map_bytes;
	uint32_t extents, extent_bytes;
	int state_fd;            /* the caller's */
	struct spm_pool_opts o;
	uint64_t clean_max;      /* extents zeroed in advance */

	pthread_mutex_t lock;    /* guards all from here to the stripes; a leaf */
	pthread_cond_t work;     /* for zeroers */
	pthread_cond_t settled;  /* what was private to a zeroer or to compaction is somebody's again; a note is free */
	struct spm_pool_set unused, free, clean, movable;
	uint32_t *bucket;        /* extents by whose and which */
	struct spm_pool_link *link;
	struct spm_pool_head *head;
	uint32_t *head_bucket;
	uint32_t bucket_mask, head_mask;
	uint32_t heads_top, heads_free;
	uint64_t *high;          /* of an extent's number in its file, what its bucket does not tell; 0 unless @any_high */
	bool any_high;
	uint32_t transient;      /* extents in the hands of zeroers and compaction: free a moment later */
	uint64_t reserved;       /* extents charged, and not picked yet */
	uint64_t bad, retired, damaged; /* bad: LOST as well */
	struct spm_pool_doubt *doubt;
	uint32_t doubts_room, doubts_top, doubts; /* mapped, behind the last one in use, in use */
	uint32_t doubts_damaged;
	struct spm_pool_news news[POOL_NEWS];
	unsigned int news_count;
	uint64_t used;           /* extents charged; of each slice: slice_used */
	uint64_t sure;           /* sum of slice_min */
	uint64_t committed;      /* sum of what each slice uses or is sure of, whichever is more */
	uint64_t slice_used[SPM_POOL_SLICES], slice_min[SPM_POOL_SLICES], slice_limit[SPM_POOL_SLICES];
	bool noted[POOL_NOTES];  /* by this process */
	bool stop;
	enum { POOL_IDLE, POOL_COMPACTS, POOL_COMPACTS_BEHIND } compacting; /* the last: in the background */
	unsigned int compact_calls; /* that wait for the background to give way */
	atomic_uint_fast64_t zeroed, moved; /* extents */

	pthread_t *zeroer, compactor;
	unsigned int zeroers;
	bool compactor_runs;
	pthread_cond_t compact_wake; /* with the lock: stop */
	pthread_rwlock_t stripe[POOL_STRIPES];
};

/* A killed process leaves its stores behind in program order. */
#define spm_pool_barrier() atomic_signal_fence(memory_order_seq_cst)

static inline uint64_t spm_pool_whose(const struct spm_pool_file *f)
{
	return (uint64_t)f->slice << 48 | f->ino;
}

static inline struct spm_pool_file spm_pool_file_of(uint64_t whose)
{
	return (struct spm_pool_file){ .ino = whose & SPM_POOL_INO_MAX, .slice = (uint16_t)(whose >> 48) };
}

static inline void *spm_pool_address(const struct spm_pool *p, uint32_t d)
{
	return p->base + (uint64_t)d * p->extent_bytes;
}

/* Whether a record in that state says whose it is. */
static inline bool spm_pool_is_files(enum spm_pool_state state)
{
	return state == POOL_OWNED || state == POOL_BAD || state == POOL_LOST;
}

/* What a record's second word is; what is nobody's does not depend on the first, which is written while it
 * is. */
static inline uint64_t spm_pool_what(uint64_t whose, uint64_t extent, enum spm_pool_state state)
{
	bool owned = spm_pool_is_files(state);
	uint64_t mixed = spm_mix((owned ? whose ^ extent << 16 : 0) + state);

	return state == POOL_UNUSED ? 0 : (owned ? extent << 16 : 0) | (mixed & 0xff) << 8 | state;
}

static inline uint64_t spm_pool_record_whose(const struct spm_pool *p, uint32_t d)
{
	return atomic_load_explicit(&p->record[d].whose, memory_order_relaxed);
}

static inline uint64_t spm_pool_record_extent(const struct spm_pool *p, uint32_t d)
{
	return atomic_load_explicit(&p->record[d].what, memory_order_relaxed) >> 16;
}

static inline enum spm_pool_state spm_pool_record_state(const struct spm_pool *p, uint32_t d)
{
	return (enum spm_pool_state)(atomic_load_explicit(&p->record[d].what, memory_order_relaxed) & 0xff);
}

/* The one store of a step. */
static inline void spm_pool_set_state(struct spm_pool *p, uint32_t d, enum spm_pool_state state)
{
	uint64_t whose = spm_pool_record_whose(p, d), extent = spm_pool_record_extent(p, d);

	spm_pool_barrier();
	atomic_store_explicit(&p->record[d].what, spm_pool_what(whose, extent, state), memory_order_relaxed);
	spm_pool_barrier();
}

static inline void spm_pool_fault(struct spm_pool *p, const char *at)
{
	if (p->o.fault)
		p->o.fault(p->o.ctx, at);
}

/* pool-index.c. All with the lock. Extents are numbers on the device; SPM_POOL_NONE: none. */
int spm_pool_index_init(struct spm_pool *p) SPM_MUST_CHECK;
void spm_pool_index_destroy(struct spm_pool *p);
uint64_t spm_pool_index_bytes(const struct spm_pool *p);
uint32_t spm_pool_index_find(struct spm_pool *p, uint64_t whose, uint64_t extent);
/* The record says whose it is, or (for remove) still does. */
void spm_pool_index_add(struct spm_pool *p, uint32_t d);
void spm_pool_index_remove(struct spm_pool *p, uint32_t d);
/* NULL: it has no extent. */
struct spm_pool_head *spm_pool_index_head(const struct spm_pool *p, uint64_t whose);
/* Whose an extent is that is in there, whatever its record says. False: it is not there. */
bool spm_pool_index_recall(const struct spm_pool *p, uint32_t d, uint64_t *whose, uint64_t *extent);

/* pool-doubt.c: records that are damaged. All but the last two with the lock. */
bool spm_pool_is_sound(const struct spm_pool *p, uint32_t d);
/* The record of an extent in the index, if it is damaged, says from now on that it is LOST. */
void spm_pool_mend(struct spm_pool *p, uint32_t d);
/* Which extent of its file it is; mends it. */
uint64_t spm_pool_extent_of(struct spm_pool *p, uint32_t d);
bool spm_pool_is_doubtful(const struct spm_pool *p, uint64_t whose, uint64_t extent);
/* The first doubtful extent of the file from @from on, UINT64_MAX: none. */
uint64_t spm_pool_next_doubt(const struct spm_pool *p, uint64_t whose, uint64_t from);
/* Holes from now on. */
void spm_pool_doubt_drop(struct spm_pool *p, uint64_t whose, uint64_t first, uint64_t end);
void spm_pool_doubt_drop_slice(struct spm_pool *p, uint16_t slice);
int spm_pool_doubts_map(struct spm_pool *p) SPM_MUST_CHECK;
void spm_pool_doubts_unmap(struct spm_pool *p);
/* Says what was found, without the lock. */
void spm_pool_tell_news(struct spm_pool *p);

/* pool-scan.c */
void spm_pool_scan(struct spm_pool *p);

/* pool-ident.c */
/* Of a device as it is. -errno; -ENODEV: a file that is too short. */
int spm_pool_ident_of(const struct spm_pool_device *d, struct spm_pool_ident *i) SPM_MUST_CHECK;
/* Whether nobody but pools can have had the device since it was noted there. */
bool spm_pool_ident_same(const struct spm_pool_ident *noted, const struct spm_pool_ident *now);
/* Notes it. A death before the end leaves none that anything is the same as. */
void spm_pool_ident_note(struct spm_pool_ident *to, const struct spm_pool_ident *now);
uint64_t spm_pool_check_of(const void *from, size_t bytes);

/* pool-compact.c: in the background. */
int spm_pool_compactor_start(struct spm_pool *p) SPM_MUST_CHECK;
void spm_pool_compactor_stop(struct spm_pool *p);

/* pool-free.c: extents that are nobody's, with the lock. */
/* Takes one that is reserved out of its set, and it is not reserved any more. -ENOSPC: poison has taken what
 * was left. */
int spm_pool_pick(struct spm_pool *p, bool want_clean, uint32_t *d, bool *is_clean) SPM_MUST_CHECK;
void spm_pool_put(struct spm_pool *p, uint32_t d, enum spm_pool_state state);
/* The lowest extent that is nobody's. */
uint64_t spm_pool_lowest(const struct spm_pool *p);

/* pool-slices.c, with the lock. */
/* Counts them to the slice, and reserves them for spm_pool_pick(). -EDQUOT: beyond its max; -ENOSPC. */
int spm_pool_charge(struct spm_pool *p, uint16_t slice, uint64_t extents) SPM_MUST_CHECK;
void spm_pool_uncharge(struct spm_pool *p, uint16_t slice, uint64_t extents);
/* The same, of what was never picked. */
void spm_pool_unreserve(struct spm_pool *p, uint16_t slice, uint64_t extents);
/* What is found to be a slice's, or not to be, before there are limits. */
void spm_pool_count(struct spm_pool *p, uint16_t slice, int by);
/* How many extents it could be charged now. */
uint64_t spm_pool_room(const struct spm_pool *p, uint16_t slice);

/* pool.c */
/* The extent, made if @make. @reserved: out of a reservation, charged already. @made: it was not there.
 * -ENOENT; -EIO; -ENOSPC; -EDQUOT. */
int spm_pool_find(struct spm_pool *p, uint64_t whose, uint64_t extent, uint32_t *d) SPM_MUST_CHECK;
int spm_pool_make(struct spm_pool *p, uint64_t whose, uint64_t extent, bool reserved, uint32_t *d,
		  bool *made) SPM_MUST_CHECK;
/* With the lock: gives an owned extent up. */
void spm_pool_release(struct spm_pool *p, uint32_t d);
/* With the lock: a record becomes that file's, or is no more. */
void spm_pool_own(struct spm_pool *p, uint32_t d, uint64_t whose, uint64_t extent);
/* Without: the device has lost an extent that is a file's. */
void spm_pool_lost(struct spm_pool *p, uint32_t d);
/* Without: one that is in the caller's hands. */
void spm_pool_retire(struct spm_pool *p, uint32_t d);

/* pool-io.c: with the file's lock. The first extent from @from on that the file has, UINT64_MAX: none. */
uint64_t spm_pool_next_extent(struct spm_pool *p, uint64_t whose, uint64_t from);

/* pool-copy.c: device memory is touched by these alone. -EIO. */
int spm_pool_copy_from(void *to, const void *device, size_t n) SPM_MUST_CHECK;
int spm_pool_copy_to(void *device, const void *from, size_t n) SPM_MUST_CHECK;
/* Both on the device, past the caches if it is much; *lost is the side that was. */
int spm_pool_copy_over(void *to, const void *from, size_t n, const void **lost) SPM_MUST_CHECK;
int spm_pool_clear(void *device, size_t n) SPM_MUST_CHECK;
int spm_pool_under_guard(const void *device, size_t n, void (*fn)(void *arg), void *arg) SPM_MUST_CHECK;
/* BUS_MCEERR_AO in [base, base + bytes): noted from now on, or no more. -ENOSPC. */
int spm_pool_watch(const void *base, uint64_t bytes) SPM_MUST_CHECK;
void spm_pool_unwatch(const void *base);
/* An address that was noted in that range, NULL: none. */
void *spm_pool_noted(const void *base, uint64_t bytes);

#endif
