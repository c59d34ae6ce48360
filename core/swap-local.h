/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SWAP_LOCAL_H
#define SPM_CORE_SWAP_LOCAL_H

#include "core/ring.h"
#include "core/swap.h"
#include "core/trailer.h"

/*
 * What the parts of swap share. Files: swap.c (context, take-over, numbers), swap-pins.c (who keeps whom out), swap-times.c
 * (stat), swap-in.c and swap-out.c (the moves), swap-jobs.c, swap-cut.c (slots lose pages), swap-read.c (reading slots), swap-store.c (writing into them),
 * swap-trailers.c (what was read of them lately), swap-slices.c, swap-evict.c, swap-reclaim.c (who leaves), swap-ages.c (how old it
 * is), swap-room.c (who waits for it), swap-load.c (whole files, and ahead), swap-compact.c, swap-drain.c (everything).
 *
 * Lock order: a bucket's lock, then map.lock, slots.lock, the ring's, the loader's, the reclaimer's (all leaves). No I/O and
 * no system call that waits is made under a bucket's lock but for fstat(2) and futimens(2) of the region, which do not wait.
 */
#define SPM_JOBS        64u  /* moves at once, over all threads */
#define SPM_DEPTH       16u  /* of one thread that moves many; as deep as fio's reference */
#define SPM_RING_DEPTH  128u
#define SPM_SMALL_PAGES 16u  /* a slot of so few pages has no trailer */
#define SPM_BUCKETS     256u
#define SPM_RUNS_MAX    (SPM_EXTENT_PAGES / 2 + 1)

/* An extent that is pinned, or moves, or is about to. */
struct spm_hot {
	struct spm_hot *next;
	uint64_t extent;
	uint32_t pins;
	uint32_t waiting;          /* whoever waits for it, claims too */
	uint32_t claims, holders;  /* who waits to take it: requests; those with the whole file */
	bool moving;
};

/* A file that somebody is at. Guarded by its bucket's lock; freed with the last user. */
struct spm_active {
	struct spm_active *next;
	struct spm_hot *hot;
	uint32_t file;
	uint32_t users;   /* whoever holds this struct, waiters too */
	uint32_t ranged;  /* pins READ, WRITE */
	uint32_t whole;   /* pins FILE, DROP */
	uint32_t want;    /* these, waiting */
	uint32_t drop_waits, trim_waits;
	uint32_t moving;  /* extents */
	uint32_t writers; /* pins of requests that change it */
	bool dropping, trimming, visited;
	/* times: what they and st_blocks were before the moves under way, and whether a request has changed them since */
	bool times_kept;
	uint32_t times_busy, writes, changes, writes_before, changes_before;
	int64_t blocks_before;
};

struct spm_bucket {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct spm_active *first;
};

/* One move. */
struct spm_job {
	struct spm_io io;
	struct spm_job *next;
	struct iovec iov[SPM_RUNS_MAX + 1];
	struct spm_trailer *trailer; /* aligned */
	struct spm_extent *x;
	uint64_t extent;
	uint32_t file, slot, pages, check;
	uint16_t holder; /* the slice that it is counted for while it is in use */
	uint16_t how; /* flags and pages of the record */
	char *map;    /* the extent's pages */
	uint32_t taken; /* of a pool: the extent that it is to be read into */
	size_t len;
	uint64_t off;
	uint64_t bits[SPM_EXTENT_PAGES / 64]; /* which pages of the extent */
	bool busy;    /* submitted */
};

/* Where the bytes of an inode are asked for: what a head says, copied so that it stays. */
struct spm_whose {
	uint32_t file;
	uint16_t slice;
	uint64_t ino;
	struct spm_handle handle;
};

/* What memory is waited for: when there is none, those are refused first whose going makes room. */
enum spm_room_for {
	SPM_ROOM_NEW,  /* more than there was */
	SPM_ROOM_BACK, /* what comes back, and frees its slot */
	SPM_ROOM_LOAD, /* the same, for a whole file, of which nothing can leave meanwhile */
	SPM_ROOM_OWN,  /* nobody needs it, but the slice's own memory is to leave */
	SPM_ROOM_KINDS
};

/* A pass over all heads: where it has come to, and what it takes. */
struct spm_pass {
	uint32_t cursor;
	uint16_t age;
	int64_t begin, until; /* ns: since when, and how long that holds */
	/* of a round that was broken off before it found anything, and goes on: how often the pass has come to its end, and what was
	 * seen by then */
	bool broken_off, skipped, direct, over;
	unsigned int ends, unfit;
};

/* Those of one slice who wait for room; see core/swap-room.c. Guarded by the reclaimer's lock. */
struct spm_room {
	struct spm_room *next;  /* in line */
	uint16_t slice;
	bool in_line;
	bool used;                     /* @done is there */
	pthread_cond_t done;           /* something was freed for it, or a round has ended */
	_Atomic uint32_t waiting;      /* threads */
	bool refused[SPM_ROOM_KINDS];  /* to be handed out, to one of each */
	uint64_t need[SPM_ROOM_KINDS]; /* bytes that those who wait want together */
	uint64_t requests, covered;    /* numbers of requests: the last, and the last that a finished round has seen */
	uint64_t freed;                /* bytes, ever */
	uint64_t exchanged;            /* of these, with the reserve's help: only for what comes back */
	uint64_t own;                  /* of these, the slice's own */
	uint64_t promised;             /* of @freed: up to here it is for those who wait */
	/* the reclaimer's */
	struct spm_pass pass[2];       /* over what may leave for it, and over its own */
	bool refilling[2];             /* in the background, in the same way */
	unsigned int busy;             /* rounds in a row that freed nothing, because all was in use */
	int64_t not_before;            /* it is tried again */
	/* bytes written for it, or their worth in time, and what it did not claim: who has the least is next */
	uint64_t served;
	int64_t turn_ns;               /* when its last turn began */
};

/* What swap knows of a slice. As long as it is not used it is zero, and takes no memory. */
struct spm_swap_slice {
	_Atomic uint64_t pages;   /* in slots */
	_Atomic uint64_t leaving; /* on their way there */
	_Atomic uint32_t users;   /* who has, or is about to have, a descriptor of a file of it */
	atomic_bool held;         /* there shall be none */
	uint32_t jobs;            /* that it holds; guarded by jobs.lock */
	struct spm_room room;
};

struct spm_trailers;
struct spm_reclaimer;
struct spm_loader;
struct spm_compactor;

struct spm_swap {
	struct spm_swap_opts opts;
	struct spm_swap_ops ops;
	struct spm_extmap map;
	struct spm_slots slots;
	struct spm_ring *ring;
	struct spm_swap_counters *count;
	int files[SPM_SWAP_FILES];
	unsigned int n_files;
	unsigned int shift;      /* of an extent's bytes */
	uint32_t extent_bytes;
	uint32_t reserve;        /* blocks of slots that only exchanges may take: what leaves so that something can come back */
	struct {
		pthread_mutex_t lock; /* over a cut, with its I/O; taken with extents claimed, and no other lock */
		uint32_t run;         /* room for a whole slot, for when there is no other; SPM_SLOT_NONE: none is to be had */
		uint32_t blocks;
	} cut;
	_Atomic uint64_t swapped; /* pages */
	_Atomic uint32_t stores;  /* notes of the map that are in use, bit per note */
	_Atomic uint64_t *stored_bytes, own_stored_bytes;
	_Atomic uint64_t writes;  /* requests that wrote: whether there is something to look at */
	struct spm_bucket bucket[SPM_BUCKETS];
	struct {
		pthread_mutex_t lock; /* guards first, waiting, and who holds how many; a leaf */
		struct spm_job *first;
		struct spm_job_waiter *waiting; /* those who came first, first */
		struct spm_job *all;
		char *trailers;
	} jobs;
	struct spm_swap_slice *slice;       /* by number */
	struct spm_swap_slice_counters *slice_count, *own_slice_count;
	pthread_mutex_t hold_lock;          /* for waiting until nobody uses a slice, or may again; a leaf */
	pthread_cond_t hold_wake;
	int map_fd;
	pthread_mutex_t own_lock;  /* over the wait for a dead worker's I/O; taken with no other lock */
	atomic_bool owned;
	pthread_mutex_t lost_lock; /* over the look at a file whose head may have been lost; taken with no other lock */
	pthread_mutex_t grow_lock; /* over fallocate(2) of a swap file; taken with no other lock */
	/* reads of swapped extents lately, by hash: what is read again and again comes back. Unlocked: an estimate */
	uint8_t touched[65536];
	uint32_t touched_at;    /* second in which they were halved last */
	uint16_t left_at;       /* clock of when an extent left last */
	uint16_t left[65536];   /* the same of each, by hash, in quarter minutes, never 0. Unlocked: an estimate */
	uint32_t seq_file[256];   /* sequential readers, by hash: the file, and where the next read would begin */
	uint64_t seq_first[256], seq_next[256];
	struct {
		atomic_bool on;
		pthread_mutex_t lock; /* guards the rest, over a part of a pass with its I/O; taken with no other lock */
		uint32_t cursor;      /* the file that the pass has come to */
		int error;            /* what it has come to */
	} drain;
	uint64_t ticks_ahead;   /* of tests: of the clock of last uses */
	struct spm_trailers *trailers;
	struct spm_reclaimer *reclaim;
	struct spm_loader *loader;
	struct spm_compactor *compact;
};

/* -- swap-pins.c -- */
int spm_pins_init(struct spm_swap *s);
/* The reclaimer at a file: -EBUSY: it is direct, or (without @wait) somebody has it to himself; -ESTALE: no such file. */
int spm_visit_begin(struct spm_swap *s, uint32_t file, bool wait, struct spm_whose *who) SPM_MUST_CHECK;
/* Somebody waits for it to go. */
bool spm_visit_unwanted(struct spm_swap *s, uint32_t file);
void spm_visit_end(struct spm_swap *s, uint32_t file);
/* A visitor takes an extent: -EBUSY: it is pinned. */
int spm_move_try(struct spm_swap *s, uint32_t file, uint64_t extent) SPM_MUST_CHECK;
/* Somebody waits for the extent. */
bool spm_move_unwanted(struct spm_swap *s, uint32_t file, uint64_t extent);
void spm_move_end(struct spm_swap *s, uint32_t file, uint64_t extent);
/*
 * Takes a swapped extent so that a page of it can be written into its slot, as if by a pin WRITE. -EALREADY: it is here, or should
 * come back; -ENOMEM. With the end, the file has changed.
 */
int spm_store_begin(struct spm_swap *s, uint32_t file, uint64_t extent, uint64_t off, struct spm_whose *who) SPM_MUST_CHECK;
void spm_store_end(struct spm_swap *s, uint32_t file, uint64_t extent);
/* With a pin FILE: takes a swapped extent, waiting for its readers if @patient, else -EAGAIN. -EALREADY: it is not swapped. */
int spm_move_claim(struct spm_swap *s, uint32_t file, uint64_t extent, bool patient) SPM_MUST_CHECK;
/* The same for a prefetch, without a pin and without waiting; as EBUSY. */
int spm_move_claim_now(struct spm_swap *s, uint32_t file, uint64_t extent) SPM_MUST_CHECK;
/* With the lock; NULL: nobody is at it. */
static inline struct spm_active *spm_active_look(struct spm_bucket *b, uint32_t file)
{
	struct spm_active *a = b->first;

	while (a && a->file != file)
		a = a->next;
	return a;
}
struct spm_bucket *spm_bucket_lock(struct spm_swap *s, uint32_t file);
static inline void spm_bucket_unlock(struct spm_bucket *b)
{
	pthread_mutex_unlock(&b->lock);
}
/* Whose a file number is; with its bucket's lock, or a pin or visit. False: nobody's. */
bool spm_whose(struct spm_swap *s, uint32_t file, struct spm_whose *who);

/* -- the clock of last uses -- */
static inline uint64_t spm_swap_ticks(const struct spm_swap *s)
{
	return spm_extmap_ticks() + s->ticks_ahead;
}
static inline uint16_t spm_swap_clock(const struct spm_swap *s)
{
	return (uint16_t)spm_swap_ticks(s);
}

/* -- swap-times.c -- */
/* Around what changes the times of the region's inode; for the owner of a moving extent. */
void spm_times_begin(struct spm_swap *s, uint32_t file, int fd);
void spm_times_end(struct spm_swap *s, uint32_t file, int fd);
/* With the lock: a request has got (1) or gives up (-1) a pin by which it changes the file. */
void spm_times_write(struct spm_swap *s, struct spm_active *a, int pins);

/* -- swap-slices.c -- */
int spm_swap_slices_init(struct spm_swap *s) SPM_MUST_CHECK;
void spm_swap_slices_destroy(struct spm_swap *s);
/* A file's; its user's number stays its own. */
static inline uint16_t spm_slice_of(struct spm_swap *s, uint32_t file)
{
	return spm_extmap_file(&s->map, file)->slice % SPM_SWAP_SLICES;
}
static inline struct spm_swap_slice *spm_slice_of_file(struct spm_swap *s, uint32_t file)
{
	return &s->slice[spm_slice_of(s, file)];
}
/* Of all and of one slice. */
#define spm_count(s, id, what, n) \
	(atomic_fetch_add(&(s)->count->what, (n)), atomic_fetch_add(&(s)->slice_count[id].what, (n)))
/* Whether so many pages more of a slice may be in slots: they are on their way from then on, until done. With @exchange as
 * many come back soon. */
bool spm_quota_take(struct spm_swap *s, uint16_t slice, uint32_t pages, bool exchange);
void spm_quota_done(struct spm_swap *s, uint16_t slice, uint32_t pages);
/* Around what needs files of a slice; -EBUSY: not now, unless one may @wait. */
int spm_slice_enter(struct spm_swap *s, uint16_t slice, bool wait) SPM_MUST_CHECK;
void spm_slice_leave(struct spm_swap *s, uint16_t slice);
/* ops.open with that, and its end. */
int spm_file_open(struct spm_swap *s, uint16_t slice, const struct spm_handle *h, bool wait) SPM_MUST_CHECK;
void spm_file_close(struct spm_swap *s, uint16_t slice, int *fd);
/* Bytes of memory: of a slice; of the device what is guaranteed to none. */
struct spm_memory {
	uint64_t size, free;
};
int spm_memory_of(struct spm_swap *s, uint16_t slice, struct spm_memory *m) SPM_MUST_CHECK;
int spm_memory_shared(struct spm_swap *s, struct spm_memory *m) SPM_MUST_CHECK;

/* -- swap-jobs.c -- */
int spm_jobs_init(struct spm_swap *s) SPM_MUST_CHECK;
void spm_jobs_destroy(struct spm_swap *s);
/* NULL: none is free, and one may not wait. @slice: for whom; SPM_SWAP_SLICES: for the reclaimer. */
struct spm_job *spm_job_get(struct spm_swap *s, uint16_t slice, bool wait);
void spm_job_put(struct spm_swap *s, struct spm_job *j);
/* The I/O of a job: its pages, in order, and a trailer if there is one. */
void spm_job_submit(struct spm_swap *s, struct spm_ioq *q, struct spm_job *j, enum spm_io_op op);

/* -- swap.c: slots and records -- */
/*
 * Waits until the I/O of a dead worker has ended: it goes on for a while after its process is gone, and would overwrite what is
 * put into the same slots, or pages, meanwhile. The ring holds the extent map's open file, which is locked, until then.
 */
int spm_swap_own(struct spm_swap *s) SPM_MUST_CHECK;
/* @keep: blocks that must be left. */
int spm_slot_alloc(struct spm_swap *s, uint32_t blocks, uint32_t keep, uint32_t *slot) SPM_MUST_CHECK;
/* For what takes the place of another slot: swap.max does not count, nor what is to be left. -ENOSPC. */
int spm_slot_alloc_instead(struct spm_swap *s, uint32_t blocks, uint32_t *slot) SPM_MUST_CHECK;
int spm_swap_punch(struct spm_swap *s, int fd, uint64_t from, uint64_t to) SPM_MUST_CHECK;
/* One record changes to @how with what is in it; with its extent moving. Counts @pages. */
void spm_record_set(struct spm_swap *s, uint32_t file, struct spm_extent *x, uint32_t slot, uint32_t check, uint16_t how);
/* The same for one that names another slot already, and is to name one or the other wherever the process dies. */
void spm_record_change(struct spm_swap *s, uint32_t file, uint64_t extent, struct spm_extent *x, uint32_t slot, uint32_t check,
		       uint16_t how);
void spm_record_clear(struct spm_swap *s, uint32_t file, struct spm_extent *x);
static inline void spm_swap_fault(struct spm_swap *s, const char *at)
{
	if (s->ops.fault)
		s->ops.fault(s->ops.ctx, at);
}

/* -- swap-in.c -- */
/*
 * Brings back an extent that the caller has taken (moving). prepare: allocates and maps, and has @j ready to be submitted;
 * finish: verifies @j->io.result, and makes the pages count. After a failure the extent is swapped as before. -ENOSPC;
 * -EIO: damaged, and told; -ESTALE.
 */
int spm_in_prepare(struct spm_swap *s, struct spm_job *j, int fd, const struct spm_whose *who, uint64_t extent)
	SPM_MUST_CHECK;
int spm_in_finish(struct spm_swap *s, struct spm_job *j, int fd, const struct spm_whose *who) SPM_MUST_CHECK;
/* Says of @j where an extent's bytes are, from its record; its trailer is read if which pages they are is only known there.
 * -EALREADY: it is not swapped; -EPROTO: its slot is unknown; -EBADMSG; -errno of the read. The extent moves, or is pinned. */
int spm_job_describe(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, uint64_t extent) SPM_MUST_CHECK;
/* Reads the trailer of a job that was described, and is not SMALL. */
int spm_job_trailer(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who) SPM_MUST_CHECK;
/* Counts and tells that an extent cannot be read because of @rc: -EIO. */
int spm_in_damaged(struct spm_swap *s, const struct spm_whose *who, uint64_t extent, int rc);
/* The job's extent leaves now: should it come back soon, that was one too many. */
void spm_left_now(struct spm_swap *s, const struct spm_job *j);
/* All of it, with a descriptor of its own. */
int spm_in_one(struct spm_swap *s, const struct spm_whose *who, uint64_t extent) SPM_MUST_CHECK;

/* -- swap-out.c -- */
/*
 * Moves out an extent that the caller has taken, of a file that it visits. prepare: finds its pages, takes a slot, has @j ready
 * (-ENODATA: it has no page; -E2BIG: more pages than may leave; -EDQUOT: more than its slice may have in swap; -ENOSPC: no slot;
 * -ENOMEM). finish: the record, and the punch; *@bytes that are free. A failed write leaves the extent where it was.
 */
struct spm_out_limits {
	uint32_t keep;  /* blocks of slots that must be left */
	uint32_t pages; /* that may leave */
	bool exchange;  /* as many come back */
};
int spm_out_prepare(struct spm_swap *s, struct spm_job *j, int fd, uint32_t file, uint64_t extent, const struct spm_out_limits *l)
	SPM_MUST_CHECK;
/* A write to a slot has failed: counted, and if that is the disk's fault nothing more is written to the file. */
void spm_write_failed(struct spm_swap *s, uint32_t slot, int rc);
/* The next extent from @extent on, below @end, that may have pages. */
uint64_t spm_out_next(struct spm_swap *s, uint32_t file, int fd, uint64_t extent, uint64_t end);
int spm_out_finish(struct spm_swap *s, struct spm_job *j, int fd, const struct spm_whose *who, uint64_t *bytes)
	SPM_MUST_CHECK;

/* -- swap-memory.c: where what is here lies -- */
/* How much memory is free when that extent has left: of a pool it is a whole one, however little of it was written. */
static inline uint64_t spm_memory_freed(const struct spm_swap *s, const struct spm_job *j)
{
	return s->ops.pool ? s->extent_bytes : (uint64_t)j->pages * 4096;
}
/* Of an extent that leaves: sets j->map. -ENOENT: a pool has none; -EIO: poisoned; -errno. */
int spm_memory_map(struct spm_swap *s, struct spm_job *j, int fd) SPM_MUST_CHECK;
/* It stays after all. -EIO: the device has lost it meanwhile. */
int spm_memory_unmap(struct spm_swap *s, struct spm_job *j);
/* It is in its slot, and its memory is free. */
int spm_memory_drop(struct spm_swap *s, struct spm_job *j, int fd) SPM_MUST_CHECK;
/* Of an extent that comes back: memory that does not count as yet, at j->map. After a failure: unmake. -ENOSPC. */
int spm_memory_make(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, int fd) SPM_MUST_CHECK;
/* Of one that was to come back and did not, whether that is because the device has lost what it came to. The job has none then. */
bool spm_memory_is_lost(struct spm_swap *s, struct spm_job *j, uint16_t slice);
int spm_memory_unmake(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, int fd) SPM_MUST_CHECK;
/* It counts as soon as the record is cleared. */
int spm_memory_keep(struct spm_swap *s, struct spm_job *j) SPM_MUST_CHECK;
/* @fn reads what lies at j->map. -EIO: the device has lost it, @fn was left where that was met. */
int spm_memory_look(struct spm_swap *s, struct spm_job *j, void (*fn)(void *arg), void *arg) SPM_MUST_CHECK;
/* What a dead worker has left of an extent goes. */
int spm_memory_settle(struct spm_swap *s, uint32_t file, int fd, uint64_t extent) SPM_MUST_CHECK;
/* As pread(2) and lseek(2), and st_blocks. -errno. */
ssize_t spm_memory_read(struct spm_swap *s, uint32_t file, int fd, void *buf, size_t n, uint64_t off) SPM_MUST_CHECK;
off_t spm_memory_seek(struct spm_swap *s, uint32_t file, int fd, uint64_t off, int whence) SPM_MUST_CHECK;
uint64_t spm_memory_blocks(struct spm_swap *s, uint32_t file, const struct stat *st);

/* -- swap-cut.c -- */
struct spm_cut {
	uint64_t extent;
	uint32_t from, to; /* bytes of the extent that are about to be dropped */
};
/* What of [from, to) are parts of extents: one or two of them. */
unsigned int spm_cut_edges(const struct spm_swap *s, uint64_t from, uint64_t to, struct spm_cut cut[static 2]);
/*
 * Drops these bytes of swapped extents in their slots, without any memory of the device: for requests whose edges cannot come
 * back. The caller has claimed the extents. All that is left is written to other slots before any record changes, so after
 * a failure nothing is dropped. -ENOSPC: no slot at all; -EIO: what is to stay cannot be read; -ENOMEM.
 */
int spm_cut(struct spm_swap *s, const struct spm_whose *who, const struct spm_cut cut[], unsigned int n) SPM_MUST_CHECK;
void spm_cuts_init(struct spm_swap *s);
/* What it keeps of that swap file moves down, so that the file can be made smaller. */
void spm_cuts_compact(struct spm_swap *s, unsigned int file);

/* -- swap-lost.c: what of the extent map is damaged, so that nobody knows what it said -- */
/* Gives up what may have been in the leaves that are set aside, and forgets these; and ends what a dead worker began of that. */
int spm_lost_settle(struct spm_swap *s) SPM_MUST_CHECK;
/* As spm_extmap_find() and spm_extmap_intern(), while a head is set aside: a file that has none may be the one whose it was. */
uint32_t spm_lost_find(struct spm_swap *s, uint16_t slice, uint64_t ino);
uint32_t spm_lost_head(struct spm_swap *s, uint16_t slice, uint64_t ino, const struct spm_handle *h);

/* -- swap-store.c -- */
/* Ends what a dead worker began; after the map was scanned, before anything of a slot is believed. */
int spm_stores_settle(struct spm_swap *s) SPM_MUST_CHECK;

/* -- swap-trailers.c -- */
int spm_trailers_init(struct spm_swap *s) SPM_MUST_CHECK;
void spm_trailers_destroy(struct spm_swap *s);
/* The trailer of the job's slot, as it was read and verified before, into @j->trailer; false: it is not known. */
bool spm_trailer_recall(struct spm_swap *s, const struct spm_job *j, const struct spm_whose *who);
/* @j->trailer was read, and is right. */
void spm_trailer_keep(struct spm_swap *s, const struct spm_job *j);

/* -- swap-load.c -- */
int spm_loader_start(struct spm_swap *s) SPM_MUST_CHECK;
void spm_loader_stop(struct spm_swap *s);
/* [from, to) of a file is likely to be read next. Never waits. */
void spm_loader_ahead(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to);

/* -- swap-reclaim.c -- */
int spm_reclaimer_init(struct spm_swap *s) SPM_MUST_CHECK;
int spm_reclaimer_start(struct spm_swap *s) SPM_MUST_CHECK;
void spm_reclaimer_stop(struct spm_swap *s);
/* Something was written: a slice's free memory should be looked at, soon. Cheap; with whatever lock but the reclaimer's. */
void spm_reclaim_nudge(struct spm_swap *s, uint16_t slice);

/* -- swap-drain.c -- */
int spm_drain_init(struct spm_swap *s);
/* Everything is to leave, so nothing comes back for speed alone. */
static inline bool spm_is_draining(struct spm_swap *s)
{
	return atomic_load_explicit(&s->drain.on, memory_order_relaxed);
}

/* -- swap-room.c -- */
/* As spm_swap_room(). */
int spm_room_wait(struct spm_swap *s, uint16_t slice, enum spm_room_for what, uint64_t bytes, unsigned int *tries) SPM_MUST_CHECK;

/* -- swap-ages.c -- */
/* Keeps what is very old at SPM_AGE_MAX, if that is due. Called by the reclaimer, which sees to it. */
#define SPM_AGE_MAX 58000u /* ticks: a little more than the longest cold=, and well within the clock's range */
#define SPM_AGE_WALK 2048u /* ticks, 8.5 minutes: between two looks for what has come to SPM_AGE_MAX */
void spm_ages_settle(struct spm_swap *s);

/* -- swap-compact.c -- */
int spm_compactor_start(struct spm_swap *s) SPM_MUST_CHECK;
void spm_compactor_stop(struct spm_swap *s);
/* What its last pass has found. */
void spm_compactor_stats(struct spm_swap *s, struct spm_swap_stats *out);

#endif
