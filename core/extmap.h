/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_EXTMAP_H
#define SPM_CORE_EXTMAP_H

#include <pthread.h>
#include <stdint.h>
#include "core/handle.h"

/*
 * The extent map: where the bytes of each file are, in a mapped file that outlives the worker and the keeper (it lies in
 * the region's mount namespace, so that -o recover and keep find it).
 *
 * A file has a head (64 bytes, with the records of its first two extents), one middle leaf (256 bytes, 20 records) for the
 * next ones, and large leaves (4 KiB, 340 records each) for the rest; leaves exist only where a record says something.
 * So an extent costs 12 bytes, and what is all resident or all hole costs a head.
 *
 * A record (12 bytes) of an extent that is not swapped carries only its last use. Else:
 *
 *	state OUT	the slot is whole, and the record is the truth; the extent may still have pages, which must go
 *	state SWAPPED	the slot is whole, the extent has no page
 *	state IN	the slot is whole, and the record is the truth; the extent has some pages, of any content
 *
 * So there are three instants: the store of state OUT (from then on the slot counts), the store of SWAPPED (a note that
 * nothing is left to punch), and the store that clears the record (from then on the pages count). Each is one store of
 * @how, after everything else in the record, with spm_extmap_barrier() between; and the move of a slot is one store of
 * @slot. Where all of a record changes while it names a slot (spm_extmap_change), the store is that of a note of it.
 * A successor punches every extent that it finds OUT or IN before it serves anything (core/swap.h).
 *
 * What a slot of n pages holds: its n pages, then, unless SMALL, one block with the trailer (core/trailer.h): per-page
 * checksums, and which pages of the extent these are if SPARSE (else the first n). @check is the CRC32C of the trailer,
 * or if SMALL, of the pages.
 *
 * Derived by spm_extmap_scan(), private to a process: the index by inode, the free lists, each head's sum.
 * A head whose check is wrong, a leaf that names no head, a record with an impossible state is set aside (damaged), never
 * followed.
 *
 * Locks: m->lock guards allocation and index; the records of a file are its user's to guard (core/swap-pins.c).
 */
#define SPM_EXTMAP_VERSION 1u
#define SPM_EXTENT_MAX     (UINT32_C(2) << 20)
#define SPM_EXTENT_MIN     (UINT32_C(64) << 10)
#define SPM_EXTENT_PAGES   (SPM_EXTENT_MAX / 4096u)

enum spm_extent_state { SPM_EXTENT_HERE, SPM_EXTENT_OUT, SPM_EXTENT_SWAPPED, SPM_EXTENT_IN };

struct spm_extent {
	uint32_t slot;  /* core/slots.h */
	uint32_t check;
	uint16_t used;  /* clock of the last use, see spm_extmap_clock(); wraps */
	uint16_t how;   /* SPM_HOW_*; 0: here or hole */
};
_Static_assert(sizeof(struct spm_extent) == 12, "12 bytes an extent");

#define spm_extmap_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)

#define SPM_HOW_PAGES   0x03ffu /* 1 to 512 */
#define SPM_HOW_STATE   0x0c00u
#define SPM_HOW_SMALL   0x1000u
#define SPM_HOW_SPARSE  0x2000u
#define SPM_HOW_DAMAGED 0x4000u /* the record was, so reading is EIO. With SWAPPED, no slot, no pages */
#define SPM_HOW_STATE_OF(h)   ((enum spm_extent_state)(((h) & SPM_HOW_STATE) >> 10))
#define SPM_HOW_MAKE(st, n, f) ((uint16_t)((unsigned int)(st) << 10 | (n) | (f)))

static inline uint32_t spm_extent_pages(const struct spm_extent *x)
{
	return x->how & SPM_HOW_PAGES;
}

/* Blocks of its slot. */
static inline uint32_t spm_extent_blocks(const struct spm_extent *x)
{
	return x->how & SPM_HOW_DAMAGED ? 0 : spm_extent_pages(x) + !(x->how & SPM_HOW_SMALL);
}

/* What is looked at, or changed, without the extent's pin as well, or by a store that has to be one. */
static inline uint16_t spm_extent_how(const struct spm_extent *x)
{
	return __atomic_load_n(&x->how, __ATOMIC_RELAXED);
}

static inline uint16_t spm_extent_used(const struct spm_extent *x)
{
	return __atomic_load_n(&x->used, __ATOMIC_RELAXED);
}

static inline void spm_extent_touch(struct spm_extent *x, uint16_t now)
{
	__atomic_store_n(&x->used, now, __ATOMIC_RELAXED);
}

/* After everything that the new state stands for, and before everything that relies on it. */
static inline void spm_extent_set_how(struct spm_extent *x, uint16_t how)
{
	spm_extmap_barrier();
	__atomic_store_n(&x->how, how, __ATOMIC_RELAXED);
	spm_extmap_barrier();
}

/* The record makes no sense (or its slot is not its own): gives it up. */
static inline void spm_extent_damage(struct spm_extent *x)
{
	x->slot = 0;
	spm_extent_set_how(x, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 0, SPM_HOW_DAMAGED));
}

enum spm_extfile_flags {
	SPM_EXTFILE_DIRECT = 1 << 0, /* opened directly, or may be mapped so: nothing leaves until a lease test was free */
	SPM_EXTFILE_TRIM = 1 << 1,   /* is being truncated: records behind its end are to be dropped */
	SPM_EXTFILE_TIMES = 1 << 2,  /* a move is changing its times: spm_exttimes.mtime is the right one */
	SPM_EXTFILE_SHOWN = 1 << 3,  /* spm_exttimes is valid */
};

/*
 * What users see of a file's times. A move changes mtime and ctime of the region's inode (punch and write fault do), which
 * nobody asked for. mtime is put back; ctime cannot be, so as long as the inode's ctime is the one that our last move left
 * (@ours), @ctime is shown instead. In an area of its own, by file number, touched for files that were moved only.
 */
struct spm_exttimes {
	int64_t mtime, ctime, ours; /* ns since 1970 */
};

#define SPM_EXTFILE_INLINE 2u
#define SPM_EXTMAP_NEAR    22u /* extents below have their records in the head or the middle leaf, which is small */
struct spm_extfile {
	uint64_t ino;      /* 0: the head is free */
	uint16_t slice;
	uint16_t check;    /* of ino, slice, handle */
	struct spm_handle handle;
	uint16_t flags;
	uint32_t swapped;  /* pages in slots; derived */
	uint16_t used;     /* clock of the last use of the whole file */
	uint16_t times;    /* it has a struct spm_exttimes that may not be zero */
	struct spm_extent first[SPM_EXTFILE_INLINE];
};
_Static_assert(sizeof(struct spm_extfile) == 64, "a head is one cache line");

/* What the mount that made the map was given: another one must be given the same. */
#define SPM_EXTMAP_FILES 8u /* SPM_SWAP_FILES */
struct spm_extmap_setup {
	uint8_t uuid[16];       /* of the region; in the headers of its swap files as well */
	uint32_t extent_bytes;
	uint32_t files;
	uint32_t blocks_limit[SPM_EXTMAP_FILES];
	uint32_t retired;       /* bit per swap file */
	uint32_t reserved[6];
};

struct spm_extmap_header;
struct spm_extmap_leaves;
struct spm_extmap_pool;

struct spm_extmap {
	pthread_mutex_t lock;
	struct spm_extmap_header *header;
	struct spm_extmap_setup *setup; /* in the header */
	uint64_t bytes;  /* mapped */
	int fd;
	struct spm_extmap_pool *heads, *middles, *larges; /* private */
	struct spm_extfile *head;       /* head[1] is the first; file numbers index it */
	struct spm_exttimes *times;     /* by file number less one */
	uint32_t heads_top;             /* behind the last head that was ever used */
	uint32_t *index;                /* by (slice, ino), open addressing, 0: empty */
	uint32_t index_mask, live;
	struct spm_extmap_leaves **leaves_of; /* by file number less one: which leaves it has */
	uint64_t chain_bytes;           /* of these, over @chains files */
	uint32_t chains;
	uint32_t damaged;
};

/* Makes an empty map in @fd (a new file on tmpfs, sparse, its size fixed here). -errno of ftruncate(2). */
int spm_extmap_create(int fd, const struct spm_extmap_setup *setup) SPM_MUST_CHECK;
/* Maps @fd, which is the caller's. -EPROTO: not a map of this version, or its header is damaged. */
int spm_extmap_attach(struct spm_extmap *m, int fd) SPM_MUST_CHECK;
/* Finds heads and leaves. Damage is counted in m->damaged, and logged. -ENOMEM; -errno of lseek(2). */
int spm_extmap_scan(struct spm_extmap *m) SPM_MUST_CHECK;
void spm_extmap_detach(struct spm_extmap *m);

/* The next file from number @from on, 0: none. (Looking at free heads themselves would give them memory.) */
uint32_t spm_extmap_next_file(struct spm_extmap *m, uint32_t from);
/* The file's number, 0: it has no head. */
uint32_t spm_extmap_find(struct spm_extmap *m, uint16_t slice, uint64_t ino);
/* The same, made if there is none, with @flags. 0: no memory. */
uint32_t spm_extmap_intern(struct spm_extmap *m, uint16_t slice, uint64_t ino, const struct spm_handle *h,
			   unsigned int flags) SPM_MUST_CHECK;
/* Frees head and leaves; no record may name a slot any more. */
void spm_extmap_forget(struct spm_extmap *m, uint32_t file);

/* The record of an extent; NULL: there is no leaf for it (it is here, or a hole), or with @make, no memory. Stays where it is
 * until the file is forgotten, or the leaf given back by spm_extmap_tidy(). */
struct spm_extent *spm_extmap_get(struct spm_extmap *m, uint32_t file, uint64_t extent, bool make);
/* A record that names a slot names another from now on, with what is in that: at once, wherever the process dies. */
void spm_extmap_change(struct spm_extmap *m, uint32_t file, uint64_t extent, struct spm_extent *x, uint32_t slot,
		       uint32_t check, uint16_t how);
/* Gives back leaves in which no record names a slot; nobody may hold a record of the file. */
void spm_extmap_tidy(struct spm_extmap *m, uint32_t file);
/* Calls @fn for each record of a file that names a slot (or is damaged), with extents from @from on, in order;
 * stops at the first that does not return 0, and returns that. @fn may clear the record, and call anything but
 * forget and tidy. */
int spm_extmap_each(struct spm_extmap *m, uint32_t file, uint64_t from,
		    int (*fn)(void *arg, uint64_t extent, struct spm_extent *x), void *arg);
/* The same for each record that has a last use (other than 0) as well. */
int spm_extmap_ages(struct spm_extmap *m, uint32_t file,
		    int (*fn)(void *arg, uint64_t extent, struct spm_extent *x), void *arg);
/* The next extent from @from on with a record that names a slot or is damaged (@x), UINT64_MAX: none. */
uint64_t spm_extmap_next(struct spm_extmap *m, uint32_t file, uint64_t from, struct spm_extent **x);

/* The times of a file, zero as long as nobody has set them; stays where it is. Guarded as the records are.
 * NULL: no memory, at the first call for this file. */
struct spm_exttimes *spm_extmap_times(struct spm_extmap *m, uint32_t file);

static inline struct spm_extfile *spm_extmap_file(struct spm_extmap *m, uint32_t file)
{
	return &m->head[file];
}

/* Memory in use by the map, bytes. */
uint64_t spm_extmap_bytes(struct spm_extmap *m);

/* The clock of last uses: quarter seconds of CLOCK_BOOTTIME, 16 bits of them; and how long ago, at most 4.5 hours: what is
 * older has to be kept from looking young (core/swap-reclaim.c does that). */
uint64_t spm_extmap_ticks(void);
uint16_t spm_extmap_clock(void);
static inline uint16_t spm_extmap_age(uint16_t now, uint16_t used)
{
	return (uint16_t)(now - used);
}

#endif
