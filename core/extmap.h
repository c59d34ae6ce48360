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
 * @word, after everything else in the record, with spm_extmap_barrier() between. Where more of a record changes while it names
 * a slot, be it only the slot (spm_extmap_change), the store is that of a note of it.
 * A successor punches every extent that it finds OUT or IN before it serves anything (core/swap.h).
 *
 * What a slot of n pages holds: its n pages, then, unless SMALL, one block with the trailer (core/trailer.h): per-page
 * checksums, and which pages of the extent these are if SPARSE (else the first n). @check is the CRC32C of the trailer,
 * or if SMALL, of the pages.
 *
 * Derived by spm_extmap_scan(), private to a process: the index by inode, the free lists, each head's sum.
 *
 * Damage. Whatever single byte is wrong is noticed, and what it says is never followed:
 *
 *	record	has a guard, stored with the state by one store. One that is wrong is given up (SPM_HOW_DAMAGED: EIO). None
 *		of its bytes makes of a record that names a slot one that does not, and all zeros is none of both.
 *	head, leaf	whose it is has a CRC32C, the last store when it is made and the first when it goes. A byte that is wrong
 *		is found by trying, and put right. Otherwise the head or leaf is set aside, and nobody knows what was in it:
 *		@lost_heads, @lost_leaves. Then whatever of a file has no record and no page may be what was lost, and is given
 *		up by core/swap-lost.c; where extents were moving, with what has pages.
 *	flags	of a head are there twice; derived, times and last uses: not at all, since they lead to no content.
 *
 * Version 1 had no guards (core/extmap-old.c makes a map of this version of it).
 *
 * Locks: m->lock guards allocation and index; the records of a file are its user's to guard (core/swap-pins.c).
 */
#define SPM_EXTMAP_VERSION 2u
#define SPM_EXTENT_MAX     (UINT32_C(2) << 20)
#define SPM_EXTENT_MIN     (UINT32_C(64) << 10)
#define SPM_EXTENT_PAGES   (SPM_EXTENT_MAX / 4096u)

enum spm_extent_state { SPM_EXTENT_HERE, SPM_EXTENT_OUT, SPM_EXTENT_SWAPPED, SPM_EXTENT_IN };

struct spm_extent {
	uint32_t slot;  /* core/slots.h */
	uint32_t check;
	uint32_t word;  /* what spm_extent_how() says; and a guard over all, or if it names no slot, spm_extent_used() */
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

#define SPM_HOW_GIVEN_UP SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 0, SPM_HOW_DAMAGED)

/*
 * The upper half of @word. Of a record that names a slot both bytes have their highest bit, of one that does not neither: a
 * wrong byte makes of none of them the other.
 */
#define SPM_EXTENT_HERE_CODE    UINT32_C(0x5a5a)
#define SPM_EXTENT_HERE_WORD    (SPM_EXTENT_HERE_CODE << 16)
#define SPM_EXTENT_CODE_MARKS   0x8080u
#define SPM_EXTENT_CODE_STATE   13
#define SPM_EXTENT_CODE_SPARSE  0x1000u
#define SPM_EXTENT_CODE_DAMAGED 0x0800u
#define SPM_EXTENT_CODE_SMALL   0x0400u
#define SPM_EXTENT_CODE_PAGES   8 /* two bits of their number less one; seven more in the lower byte */

/* What of a record is looked at without the extent's pin as well: SPM_HOW_*; 0: here or hole. */
static inline uint16_t spm_extent_how(const struct spm_extent *x)
{
	uint32_t code = __atomic_load_n(&x->word, __ATOMIC_RELAXED) >> 16;

	if (code == SPM_EXTENT_HERE_CODE)
		return 0;
	if ((code & SPM_EXTENT_CODE_MARKS) != SPM_EXTENT_CODE_MARKS || code & SPM_EXTENT_CODE_DAMAGED)
		return SPM_HOW_GIVEN_UP;
	return SPM_HOW_MAKE(code >> SPM_EXTENT_CODE_STATE & 3, ((code >> SPM_EXTENT_CODE_PAGES & 3) << 7 | (code & 0x7f)) + 1,
			    (code & SPM_EXTENT_CODE_SPARSE ? SPM_HOW_SPARSE : 0) |
				    (code & SPM_EXTENT_CODE_SMALL ? SPM_HOW_SMALL : 0));
}

static inline uint32_t spm_extent_pages(const struct spm_extent *x)
{
	return spm_extent_how(x) & SPM_HOW_PAGES;
}

/* Blocks of its slot. */
static inline uint32_t spm_extent_blocks(const struct spm_extent *x)
{
	uint16_t how = spm_extent_how(x);

	return how & SPM_HOW_DAMAGED ? 0 : (how & SPM_HOW_PAGES) + !(how & SPM_HOW_SMALL);
}

/* The clock of the last use, see spm_extmap_clock(); wraps. 0: not known, also of whatever names a slot. */
static inline uint16_t spm_extent_used(const struct spm_extent *x)
{
	uint32_t word = __atomic_load_n(&x->word, __ATOMIC_RELAXED);

	return word >> 16 == SPM_EXTENT_HERE_CODE ? (uint16_t)word : 0;
}

/* Not of what names a slot. */
static inline void spm_extent_touch(struct spm_extent *x, uint16_t now)
{
	uint32_t word = __atomic_load_n(&x->word, __ATOMIC_RELAXED);

	/* a state that is set meanwhile is the truth */
	if (word >> 16 == SPM_EXTENT_HERE_CODE)
		(void)__atomic_compare_exchange_n(&x->word, &word, SPM_EXTENT_HERE_WORD | now, false, __ATOMIC_RELAXED,
						  __ATOMIC_RELAXED);
}

/* After everything that the new state stands for, and before everything that relies on it. Slot and check have been set, while the
 * record named no slot, or are what they were. */
void spm_extent_set_how(struct spm_extent *x, uint16_t how);
/* The record makes no sense (or its slot is not its own): gives it up. */
void spm_extent_damage(struct spm_extent *x);
/* Its guard fits. For whoever has the extent's pin, or moves it. */
bool spm_extent_ok(const struct spm_extent *x);

enum spm_extfile_flags {
	SPM_EXTFILE_DIRECT = 1 << 0, /* opened directly, or may be mapped so: nothing leaves until a lease test was free */
	SPM_EXTFILE_TRIM = 1 << 1,   /* is being truncated: records behind its end are to be dropped */
	SPM_EXTFILE_TIMES = 1 << 2,  /* a move is changing its times: spm_exttimes.mtime is the right one */
	SPM_EXTFILE_SHOWN = 1 << 3,  /* spm_exttimes is valid */
	SPM_EXTFILE_DATED = 1 << 4,  /* it has a struct spm_exttimes that may not be zero */
	SPM_EXTFILE_UNSURE = 1 << 6, /* core/swap-lost.c is giving up what may have been lost of it */
	SPM_EXTFILE_MOVING = 1 << 5, /* of some extents that have pages these may not count: see what their records say */
};
#define SPM_EXTFILE_FLAGS 0x7fu

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
	uint64_t ino;      /* 0: nobody's */
	uint32_t check;    /* of ino, slice, handle; 0: the head is free */
	uint16_t slice;
	struct spm_handle handle;
	uint32_t swapped;  /* pages in slots; derived */
	uint16_t flags;    /* the lower byte; the upper one is its complement */
	uint16_t used;     /* clock of the last use of the whole file */
	struct spm_extent first[SPM_EXTFILE_INLINE];
};
_Static_assert(sizeof(struct spm_extfile) == 64, "a head is one cache line");

static inline bool spm_flag_is(const struct spm_extfile *f, unsigned int flags)
{
	return __atomic_load_n(&f->flags, __ATOMIC_RELAXED) & flags & SPM_EXTFILE_FLAGS;
}
static inline bool spm_flags_ok(const struct spm_extfile *f)
{
	return (f->flags >> 8 ^ (f->flags & 0xff)) == 0xff && !(f->flags & 0xff & ~SPM_EXTFILE_FLAGS);
}
/* Sets some, then clears some, in one store. */
void spm_flags_change(struct spm_extfile *f, unsigned int set, unsigned int clear);
static inline void spm_flag_set(struct spm_extfile *f, unsigned int flags)
{
	spm_flags_change(f, flags, 0);
}
static inline void spm_flag_clear(struct spm_extfile *f, unsigned int flags)
{
	spm_flags_change(f, 0, flags);
}

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
	uint32_t lost_heads, lost_leaves; /* set aside: nobody knows what was in them */
	bool lost_moving;               /* a head was, of whose file extents may have been moving */
};

/* Makes an empty map in @fd (a new file on tmpfs, sparse, its size fixed here). -errno of ftruncate(2). */
int spm_extmap_create(int fd, const struct spm_extmap_setup *setup) SPM_MUST_CHECK;
/* Maps @fd, which is the caller's. -EPROTO: not a map of this version, or its header is damaged. */
int spm_extmap_attach(struct spm_extmap *m, int fd) SPM_MUST_CHECK;
/* Finds heads and leaves. Damage is counted in m->damaged, and logged. -ENOMEM; -errno of lseek(2). */
int spm_extmap_scan(struct spm_extmap *m) SPM_MUST_CHECK;
/* All that may have been in the leaves that were set aside has been given up: forgets them. */
void spm_extmap_settled(struct spm_extmap *m);
/* Extents [@first, @end) around @extent whose records are, or would be, in one head or leaf; false: there is no such leaf. */
bool spm_extmap_leaf_around(struct spm_extmap *m, uint32_t file, uint64_t extent, uint64_t *first, uint64_t *end);
void spm_extmap_detach(struct spm_extmap *m);
/* What the map in @fd was made with, also one of an older version. 1: it is of an older version; -EPROTONOSUPPORT: of a newer
 * one; -EPROTO: it is no map. */
int spm_extmap_setup_of(int fd, struct spm_extmap_setup *setup) SPM_MUST_CHECK;
/* Makes of a map of an older version, which stays as it is, one of this version in the new file @to. Nobody may be at the old one.
 * -EPROTO: it is none; -errno. */
int spm_extmap_renew(int from, int to) SPM_MUST_CHECK;

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
