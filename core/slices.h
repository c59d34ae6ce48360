/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SLICES_H
#define SPM_CORE_SLICES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include "core/claim.h"
#include "core/pool.h"
#include "core/slice.h"

/*
 * All slices of a mount: the root slice (number 0) and those that an administrator made, each a top-level directory of the
 * mount with a filesystem of its own (core/slice.h).
 *
 * In the region's namespace:
 *	/region                the root slice; in its data, an empty directory with the slice's name holds its place
 *	/region.slice/NUMBER   where the slice's filesystem is mounted
 *	/region.slices         the table: struct spm_slices_file, mapped by each worker
 *
 * The table is the truth about limits; sizes of filesystems (grants) are the kernel's truth. An entry has two copies of its
 * record, and one store says which counts: so a change is made or not made, wherever a worker dies. States:
 *	FREE -> MAKING -> LIVE -> REMOVING -> GONE -> FREE
 * A worker that finds MAKING takes back what there is of it, to GONE, since it may have been seen; one that finds REMOVING goes on;
 * GONE: unmounted, but what its files have in swap, or in a pool, is not free yet (spm_slices_remove_done).
 *
 * Memory (law 6). The filesystem's size is the slice's grant: what it may use without asking. Always
 *	the sum of all grants <= the device, and  min <= grant <= max  for each,
 * since a grant shrinks before another grows; the kernel refuses a size below what is in use. Who needs more than its grant
 * gets, in this order: what nobody has; what others have free beyond their min (the root slice first); and then, with swap, what
 * leaves the files of those that are over their min. The root slice has no min, and starts with everything.
 *
 * A fault in a hole of a file that is mapped directly is served by the kernel out of the grant, and cannot ask. So such holes are
 * promised: what a slice has promised is not free, to others, and it is given more before it uses that up itself.
 *
 * With a pool (core/pool.h) the filesystems hold names alone, and their sizes say nothing: memory is extents, which the pool charges
 * to slices one by one (core/pool-slices.c). A grant is then what a slice uses, or its min if that is more; no fault takes memory
 * behind the pool's back, and nothing is promised.
 *
 * Where the region is a directory (core/dir.h), a slice's filesystem is a directory below it, mounted by itself, and its size is the
 * quota of its project (core/quota.h). Table and slices last as long as the directory does:
 *	/region/slices/table	what /region.slices leads to
 *	/region/slices/NUMBER	what is mounted at /region.slice/NUMBER
 * What others have on that filesystem is taken from the device's size when slices are opened; what they take later is not known here.
 */
#define SPM_SLICES_MAX     4096u
#define SPM_SLICE_NAME_MAX 63u
#define SPM_SLICE_NONE     UINT64_MAX /* no limit */
#define SPM_REGION_SLICES    "/region.slices"
#define SPM_REGION_SLICE_DIR "/region.slice"

enum spm_slice_state { SPM_SLICE_FREE, SPM_SLICE_MAKING, SPM_SLICE_LIVE, SPM_SLICE_REMOVING, SPM_SLICE_GONE };

enum spm_slice_flags {
	SPM_SLICE_DELEGATED = 1 << 0, /* its owner may lower its limits */
};

/* What an administrator says of a slice. Sizes in bytes; SPM_SLICE_NONE: no limit but the device's, or the mount's. */
struct spm_slice_limits {
	uint64_t min, max, swap_max, pin_max;
	uint64_t own_max, own_swap_max; /* lowered by the owner; the lower one of the two counts */
	uint64_t inodes;                /* 0: no limit */
	uint32_t cold_s;                /* UINT32_MAX: as the mount */
	uint32_t flags;
	uint32_t map;                   /* enum spm_map; UINT32_MAX: as the mount */
	uint32_t uid, gid, mode;        /* of the top directory, when it is made */
	uint64_t seq;                   /* of the record that was changed to this; 0: of whichever it is */
	char nodes[128];                /* "": as the mount */
	char huge[16];                  /* as tmpfs(5); "": as the mount */
};

/* One copy of an entry, 512 bytes. */
struct spm_slice_record {
	uint32_t check; /* CRC32C of what follows */
	uint16_t id;
	uint16_t state;
	char name[SPM_SLICE_NAME_MAX + 1];
	uint64_t place; /* inode of the directory that holds its place; 0: not made yet */
	uint64_t top;   /* inode of its top directory */
	uint64_t seq;   /* counts changes: the higher one of two copies that are whole */
	struct spm_slice_limits limits;
	uint8_t zero[512 - 8 - (SPM_SLICE_NAME_MAX + 1) - 24 - sizeof(struct spm_slice_limits)];
};
_Static_assert(sizeof(struct spm_slice_record) == 512, "two to an entry of 1 KiB and a bit");

/* One after the other, so that the table takes memory for what was ever used. */
struct spm_slices_entry {
	_Atomic uint32_t which; /* of the copies */
	uint32_t zero;
	struct spm_slice_record copy[2];
};

struct spm_slices_file {
	uint64_t magic;
	_Atomic uint64_t root_max; /* of the root slice: pages, and 16 bits on top to check them */
	_Atomic uint32_t used;     /* entries 1 to this one have been in use */
	_Atomic uint32_t next;     /* where to look for a free one: numbers are not used again soon */
	struct spm_slices_entry entry[SPM_SLICES_MAX];
};

#define SPM_SLICE_INODES_MAX (UINT64_C(1) << 40) /* as good as no limit */
#define SPM_SLICE_FLOOR 16384u /* a grant is never less: to tmpfs, 0 is no limit */
#define SPM_SLICES_RESTING 64u /* removed slices whose descriptors are not used again */
#define SPM_SLICES_BUCKETS 1024u

struct spm_slices {
	pthread_mutex_t lock;         /* guards the table's writers, grants and by_id's writers; a leaf but for the log's */
	struct spm_slices_file *file; /* NULL: no slice was ever made */
	bool durable;                 /* and it outlives the machine's being switched off */
	uint64_t device_bytes;
	uint64_t granted;             /* sum of all grants */
	/* Of these: of filesystems whose record is damaged, and what others have (fixed), also removed slices whose files are not all gone. */
	_Atomic uint64_t lost;
	uint64_t going[SPM_SLICES_MAX]; /* what those have, each */
	_Atomic unsigned int count;   /* LIVE, without the root slice */
	unsigned int at;              /* whose turn it is to give what it has free */
	/* NULL: there is none. Read without the lock: a slice is never freed while the worker lives, it only comes to be dead */
	struct spm_slice *_Atomic by_id[SPM_SLICES_MAX];
	struct spm_slice *_Atomic at_place[SPM_SLICES_BUCKETS];
	struct spm_slice *dead;       /* the oldest first; their descriptors lead nowhere, and are used again at last */
	struct spm_slice *spare;      /* and then the structs are, too: never freed, since readers take no lock */
	unsigned int dead_count;
	struct spm_slice_opts defaults; /* of the mount: what a slice gets for what was not said */
	const struct spm_nodes *nodes;  /* the device's; NULL: any */
	struct spm_node_budget *budget; /* and what they still have */
	struct spm_claim *claim;        /* the caller's; NULL: none. With one a grant is what is in use, see core/grants-claim.c */
	struct spm_pool *pool;          /* the caller's, see spm_slices_in_pool(); NULL: memory is in the filesystems */
	/* Whether a free number must not be given yet, since somebody still refers to inodes by it; NULL: never */
	bool (*is_known)(void *ctx, uint16_t id);
	void (*fault)(void *ctx, const char *at); /* a fault point of tests, "slice:mounted"; NULL: none */
	void *ctx;
};

/* Whether a slice may have this name: letters, digits, '_', '.', '-', the first none of the last two. */
bool spm_slice_name_ok(const char *name);

/* In a region that is a directory, before that: whether it has a table, which then is where it is looked for. -errno. */
int spm_slices_dir_find(void) SPM_MUST_CHECK;

/*
 * The region's table, if it has one: opens all its slices, and finishes what a dead worker left. @root is the root slice, which
 * stays the caller's. A damaged entry is logged and left alone (its slice is not reachable). -errno.
 */
int spm_slices_open(struct spm_slices *t, struct spm_slice *root, uint64_t device_bytes, const struct spm_slice_opts *defaults,
		    const struct spm_nodes *nodes) SPM_MUST_CHECK;
/* The second half of that: makes grants fit limits, where a worker died over a change of them. When it is known what the slices have
 * promised. */
void spm_slices_settle(struct spm_slices *t);
void spm_slices_close(struct spm_slices *t);
/* Memory is the pool's, to which the limits of all slices are told; before anything is asked about memory. NULL: no more, for it is
 * about to be detached. */
void spm_slices_in_pool(struct spm_slices *t, struct spm_pool *pool);

static inline struct spm_slice *spm_slices_get(struct spm_slices *t, uint16_t id)
{
	return id < SPM_SLICES_MAX ? atomic_load_explicit(&t->by_id[id], memory_order_acquire) : NULL;
}

/* Numbers up to this one may be taken. */
static inline uint16_t spm_slices_last(const struct spm_slices *t)
{
	uint32_t used = t->file ? atomic_load(&t->file->used) : 0;

	return (uint16_t)(used < SPM_SLICES_MAX ? used : SPM_SLICES_MAX - 1);
}

/* The slice whose place is inode @place of the root slice's data, also if it is leaving; NULL: that is an ordinary
 * directory. */
struct spm_slice *spm_slices_at(struct spm_slices *t, uint64_t place);
/* Whose filesystem has files with that st_dev; SPM_SLICES_MAX: none's. */
uint16_t spm_slices_by_dev(struct spm_slices *t, dev_t dev);
/* By name. NULL: none is LIVE. */
struct spm_slice *spm_slices_find(struct spm_slices *t, const char *name);
/* A copy of a slice's record; false: it is not LIVE. The root slice has one as well, made up. */
bool spm_slices_record(struct spm_slices *t, uint16_t id, struct spm_slice_record *out);
/* The root slice's limit, in bytes. */
uint64_t spm_slices_root_max(const struct spm_slices *t);
void spm_slices_put_root_max(struct spm_slices *t, uint64_t bytes);
/* The lower one of what administrator and owner say. */
static inline uint64_t spm_slice_max_of(const struct spm_slice_limits *l)
{
	return l->max < l->own_max ? l->max : l->own_max;
}
static inline uint64_t spm_slice_swap_max_of(const struct spm_slice_limits *l)
{
	return l->swap_max < l->own_swap_max ? l->swap_max : l->own_swap_max;
}

/*
 * Makes a slice, with a min of 0 for now: spm_slices_set() comes next. -EEXIST: the name is taken, by a slice or a file;
 * -ENOSPC: the sum of all min would be more than the device, or no memory at all is free; -EINVAL: name, nodes or huge; -ERANGE: min
 * above max, or above the device; -ENFILE: there are SPM_SLICES_MAX; -EOPNOTSUPP: the root slice is fixed and in no project, or
 * what was said of nodes or huge pages means nothing there.
 * @again: a dead worker may have made it for the same request, and that is as good.
 */
int spm_slices_create(struct spm_slices *t, const char *name, const struct spm_slice_limits *l, bool again, uint16_t *id)
	SPM_MUST_CHECK;
/*
 * Changes limits, at once: what cannot be changed later (nodes, huge) is as it was in @l, or it is -EOPNOTSUPP. -EBUSY: more
 * than the new max is in use (with swap: reclaim it and try again), or more files than the new limit; -ENOSPC: as above;
 * -EAGAIN: @l->seq says which record it was made from, and somebody has changed it since: read it again.
 */
int spm_slices_set(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l) SPM_MUST_CHECK;
/* Owner and mode of its top directory, as @l has them. */
int spm_slices_chown(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l) SPM_MUST_CHECK;
/*
 * In three steps. begin: from now on the slice is not found by its place (-ENOENT: none; -ENOTEMPTY unless @force; -EBUSY:
 * another one is removing it). end: its filesystem is unmounted, with what is in it. -EBUSY: somebody has a file of it open or
 * mapped, -ENOTEMPTY: somebody made one since; then it is as it was, but for requests that came in between. Before that the
 * caller looks who has, and lets go of all that it has open there itself; or thinks better of it: not. done: nothing refers to
 * its files any more, so its number is free.
 */
int spm_slices_remove_begin(struct spm_slices *t, const char *name, bool force, uint16_t *id) SPM_MUST_CHECK;
void spm_slices_remove_not(struct spm_slices *t, uint16_t id);
int spm_slices_remove_end(struct spm_slices *t, uint16_t id, bool force) SPM_MUST_CHECK;
void spm_slices_remove_done(struct spm_slices *t, uint16_t id);
/* The next one from @id that waits for done, since a worker died before; 0: none. */
uint16_t spm_slices_removed(struct spm_slices *t, uint16_t id);

/* -- memory: core/grants.c; in a pool: core/slices-pool.c -- */

/* In what units a slice gets memory, in bytes; and the least max that it may have. */
uint64_t spm_slices_unit(const struct spm_slices *t);
uint64_t spm_slices_least(const struct spm_slices *t);

/* What a slice has, in bytes. */
struct spm_slice_use {
	uint64_t used, grant, min, max; /* max: never above the device */
	uint64_t promised;              /* not used yet, and not free either */
};
int spm_slices_use(struct spm_slices *t, uint16_t id, struct spm_slice_use *out) SPM_MUST_CHECK;

/* What users are shown: the size is the max; of the root slice what others do not use and are not guaranteed. */
int spm_slices_statfs(struct spm_slices *t, uint16_t id, struct statvfs *out) SPM_MUST_CHECK;

/* What of the device is guaranteed to nobody, and how much of that is not used. */
void spm_slices_shared(struct spm_slices *t, uint64_t *size, uint64_t *free);

/*
 * Gives slice @id @bytes more than it uses, out of what is free, or as much of that as there is. 0: it has so much, or at
 * least more than before. -ENOSPC: nothing is free (something else has to leave first: spm_slices_spare); -EDQUOT: it has its max.
 * In a pool there is nothing to give: 0 says that it could have so much now.
 */
int spm_slices_grow(struct spm_slices *t, uint16_t id, uint64_t bytes) SPM_MUST_CHECK;

/*
 * Promises @bytes more to faults in slice @id, which is given first what it has not. -ENOSPC, -EDQUOT: it cannot have so much; then
 * nothing was promised, unless @anyway: what it has, others do not get. Goes on until it is taken back: as faults use it up, and
 * when they are over. Nothing if no slice was ever made but the root slice.
 */
int spm_slices_promise(struct spm_slices *t, uint16_t id, uint64_t bytes, bool anyway) SPM_MUST_CHECK;
void spm_slices_unpromise(struct spm_slices *t, uint16_t id, uint64_t bytes);
/* Slice @id is about to use up to @bytes by itself: it is given more if that is needed to keep its promises, and there is some. Costs
 * next to nothing while it has made none. */
void spm_slices_keep_promises(struct spm_slices *t, uint16_t id, uint64_t bytes);
/* Slice @id is about to get a name, or something else that a filesystem on a disk keeps in blocks. Nothing unless it is fixed. */
void spm_slices_keep_room(struct spm_slices *t, uint16_t id);
/* How many bytes of slice @victim may leave for the sake of @id: all, if it is the same; what it uses beyond its min, if @id is
 * below its max; else none. */
uint64_t spm_slices_spare(struct spm_slices *t, uint16_t victim, uint16_t id);
/* With a claim: what files of slice @id (SPM_SLICES_MAX: of all) have let go of goes back to the reserve. What of the device is in
 * nobody's hands then, in bytes: others have it. */
uint64_t spm_slices_reclaim(struct spm_slices *t, uint16_t id);
/* Bytes in reserve. */
uint64_t spm_slices_held(struct spm_slices *t);
/* The root slice's max, in bytes. */
/* -EBUSY: more is in use; -ERANGE: less than a unit. */
int spm_slices_set_root_max(struct spm_slices *t, uint64_t bytes) SPM_MUST_CHECK;

/* For core/slices.c. What the root slice may have; @grant: what it has, which is its max if nothing else says so. */
uint64_t spm_grants_root_max(struct spm_slices *t, uint64_t grant);
/* With the lock: brings what it has in accord with limits that are about to count. -ENOSPC, -EBUSY. */
int spm_grants_fit(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l) SPM_MUST_CHECK;
/* With the lock: the sum of all min with @id's as @min. */
bool spm_grants_min_fits(struct spm_slices *t, uint16_t id, uint64_t min);
/* With the lock: brings a slice's grant to @bytes, or as near as it goes, but then to no more than @part. -ENOSPC, -EBUSY. */
int spm_grants_set(struct spm_slices *t, uint16_t id, uint64_t bytes, uint64_t part) SPM_MUST_CHECK;
/* Without it: holds on to the filesystem at @path, which is about to be unmounted there; -1: without a claim there is no need. Then
 * the files of slice @s, which nobody else reaches any more, give back what they have bit by bit. */
int spm_claimed_tree(const struct spm_slices *t, const char *path);
void spm_claimed_empty(struct spm_slices *t, struct spm_slice *s, int tree);
/* With the lock: takes @bytes for slice @id (SPM_SLICES_MAX: one to come) out of what nobody has, or others have free. What it
 * came to. */
uint64_t spm_grants_take(struct spm_slices *t, uint16_t id, uint64_t bytes);

#endif
