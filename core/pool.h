/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_POOL_H
#define SPM_CORE_POOL_H

#include <stdint.h>
#include <sys/types.h>
#include "core/handle.h"

/*
 * A pool: the content of files in extents of a mapped device (a character device of device-dax; in tests a
 * file on tmpfs or hugetlbfs). Names, sizes and attributes are the region's; the pool knows files by slice
 * and inode number.
 *
 * The truth is a table of one record for each extent of the device, in a mapped state file that outlives all
 * processes as the extent map does: whose it is, and which extent of that file. What finds an extent by file
 * is derived by each process that attaches (core/pool-index.c). A record's state:
 *
 *	UNUSED	nobody had it; its content is whatever the device held (a new state file is all zeros: this)
 *	FREE	somebody had it: it is to be zeroed soon
 *	CLEAN	all zeros, and nobody's
 *	OWNED	its content is that extent of that file
 *	BAD	the same, but the device has lost it (poison): EIO until the file gives it up; then RETIRED
 *	RETIRED	poisoned, nobody's, never to be used again
 *	LOST	it was its file's when this record was found damaged: EIO until the file gives it up; then FREE
 *
 * Each step is one store of the record's second word, which has state, file extent and a check over both
 * words, after everything that it stands for (spm_pool_barrier()); the first word (whose) is written before
 * while the record is nobody's.
 * To own:	zero the extent, or fill it (swap-in, compaction); store whose; store OWNED.
 * To free:	one store of FREE. Its content counts no more, and nobody gets it before it is zeroed.
 * To move:	copy to an extent that is nobody's, own that too, then free the old one, all with the file's lock
 *		held. A process that dies between the two leaves two records of one file extent, with the same
 *		content: a successor takes either.
 * A record with a wrong check is never followed. Who has the extent in its index knows whose it was (LOST). At a start it is set aside,
 * and what files may have had there is doubtful: extents of files, in a table behind the records, that they have not and that
 * read as EIO until they are given up. See spm_pool_doubt().
 *
 * The device carries a label (in its last 4 KiB, which are no extent's): the
 * pool's uuid. A pool whose device has been used by another since is refused (-ESTALE), so recover cannot
 * show another's bytes.
 *
 * Locks. A file's lock (spm_pool_lock()) is the caller's to take, and says what the pool may do under it:
 * shared, its extents stay where they are (reads, writes, allocations); exclusive, nobody else is at its
 * content (punch, truncate, removal, moves). It is striped, so no thread holds two (spm_pool_lock_two() takes
 * those of two files), nor waits for anything else with it held, faults of a client's memory included. It
 * comes after inode locks of the caller. Inside of the pool there is one lock over index and free lists, a
 * leaf, held for no copying or zeroing.
 *
 * Device memory is touched by functions of this header alone (pool-copy.c): a load of poisoned memory is a
 * SIGBUS, which they turn into -EIO. An address that is given out (spm_pool_map_extent()) is for I/O by the
 * kernel, which answers EFAULT there.
 */
#define SPM_POOL_EXTENT_MAX (UINT32_C(2) << 20)
#define SPM_POOL_EXTENT_MIN (UINT32_C(64) << 10)
#define SPM_POOL_SLICES     4096u
#define SPM_POOL_NONE       UINT32_MAX
#define SPM_POOL_INO_MAX    ((UINT64_C(1) << 48) - 1)

struct spm_pool;

struct spm_pool_file {
	uint64_t ino; /* of the region's inode, 1 to SPM_POOL_INO_MAX */
	uint16_t slice;
};

/* What the device is. */
struct spm_pool_device {
	int fd;           /* the caller's; needed by create and attach only */
	uint64_t bytes;   /* need be no multiple of anything */
	uint64_t align;   /* of mappings: 4 KiB, 2 MiB, 1 GiB. A power of two */
	uint64_t binding; /* another number each time that a driver takes the device; 0: not known */
};

/* All may be 0, or NULL. */
struct spm_pool_opts {
	uint64_t bytes_max;   /* limit of slice 0; 0: the one that the state file knows, at first none */
	uint64_t clean_bytes; /* zeroed in advance, at most: an eighth of the pool or 1 GiB, whichever is less */
	uint64_t compact_bps; /* what a thread may move in the background, bytes a second; 0: nothing */
	unsigned int zeroers; /* threads that zero: 1 */
	/* The caller has kept others off the device since it was attached last: which device it is, and its label, which may be what
	 * the device has lost, are not looked at. */
	bool kept;
	/* Taken as it is with the right label, also if its driver has let go of it since, or it is a device of another number. */
	bool moved;
	/* The device lost an extent at @offset; of @f, or of nobody (f->ino 0). For the log, with a path. Any
	 * thread, no locks but the file's. */
	void (*poisoned)(void *ctx, const struct spm_pool_file *f, uint64_t file_offset, uint64_t offset);
	/* The record of an extent of @f that is in use was found damaged: it cannot be read any more. As above. */
	void (*damaged)(void *ctx, const struct spm_pool_file *f, uint64_t file_offset);
	/* A lock is about to be waited for, or much to be zeroed: the thread may be slow from here on. */
	void (*slow)(void *ctx);
	/* A fault point of tests, "pool:owned". */
	void (*fault)(void *ctx, const char *at);
	void *ctx;
};

/* -- the pool -- (pool.c, pool-scan.c) */

/* Makes the state file @state (new, on tmpfs; all its memory is allocated here) of an empty pool on the
 * device, and labels that. @uuid is new. -ENOSPC: not one extent fits; -EINVAL: extent_bytes or align is no
 * power of two or out of range; -errno of mmap(2), fallocate(2). */
int spm_pool_create(int state, const struct spm_pool_device *d, uint32_t extent_bytes,
		    const uint8_t uuid[static 16]) SPM_MUST_CHECK;
/* Maps state (the caller's, open as long as the pool) and device, finds all extents, finishes what a dead
 * process left half way. -EPROTO: not a state file of this version; -ENODEV: another device, or its size
 * changed; -ESTALE: used by another since; -EREMCHG: its driver has let go of it since, or its number has changed, so that its
 * memory may have been anybody's, though the label is right (see @moved). Installs the handler of SIGBUS for this
 * process (spm_pool_catch()). */
int spm_pool_attach(struct spm_pool **out, int state, const struct spm_pool_device *d,
		    const struct spm_pool_opts *o) SPM_MUST_CHECK;
/* Threads that zero, and move, in the background. Without them allocation zeroes on demand. */
int spm_pool_start(struct spm_pool *p) SPM_MUST_CHECK;
void spm_pool_stop(struct spm_pool *p);
void spm_pool_detach(struct spm_pool *p);

uint32_t spm_pool_extent_bytes(const struct spm_pool *p);

struct spm_pool_stats {
	uint64_t bytes;         /* all extents that are not retired */
	uint64_t used_bytes;    /* OWNED and BAD */
	uint64_t free_bytes;    /* what files of slice 0 can still get */
	uint64_t clean_bytes;   /* zeroed already */
	uint64_t bad_bytes, retired_bytes; /* bad: LOST as well */
	uint64_t zeroed_bytes, moved_bytes;      /* since attach */
	uint64_t damaged;       /* records set aside */
	uint64_t metadata_bytes; /* of state file and index, what is in memory */
};
/* Looks at the page tables of the index for metadata_bytes, where @metadata. */
void spm_pool_stats(struct spm_pool *p, struct spm_pool_stats *st, bool metadata);
/* The longest run of extents that are nobody's, bytes. Looks at all of them. */
uint64_t spm_pool_free_run(struct spm_pool *p);
/* O(1). */
uint64_t spm_pool_file_bytes(struct spm_pool *p, const struct spm_pool_file *f);

/* It has extents, or doubtful ones. */
bool spm_pool_has(struct spm_pool *p, const struct spm_pool_file *f);

/*
 * -- damage -- (pool-doubt.c)
 * If attach has found any, which spm_pool_damaged() says, the caller goes through all files, and calls spm_pool_doubt() for each: what it
 * has neither here nor in a slot may have been lost. Then, and not before, spm_pool_settled(): the damage is forgotten, and what was set
 * aside is free. Who dies before that leaves it to be done again. Nothing may be allocated meanwhile.
 */
struct spm_pool_doubts {
	uint64_t extents; /* that are doubtful now, and were not */
	uint64_t first;   /* of them */
};
uint64_t spm_pool_damaged(struct spm_pool *p);
/* Of a file of @end extents. @next_slot: the first from @from on that is in a slot, UINT64_MAX: none; NULL: there are no slots.
 * -errno of fallocate(2), mmap(2). */
int spm_pool_doubt(struct spm_pool *p, const struct spm_pool_file *f, uint64_t end,
		   uint64_t (*next_slot)(void *arg, uint64_t from), void *arg, struct spm_pool_doubts *found) SPM_MUST_CHECK;
void spm_pool_settled(struct spm_pool *p);

/* -- slices -- (pool-slices.c)
 * A slice has up to its max, and its min is there for it whatever others want: the sum of what each uses, or is
 * sure of by its min if that is more, is never made larger than the pool. All in whole extents. */

struct spm_pool_account {
	uint64_t used;      /* what is being allocated included */
	uint64_t min, max;  /* max: UINT64_MAX: no limit */
	uint64_t room;      /* what it could get now */
	/* of all slices */
	uint64_t capacity;  /* as stats.bytes */
	uint64_t sure;      /* sum of all min */
	uint64_t committed; /* sum of used, or min */
};
/* O(1). */
void spm_pool_account(struct spm_pool *p, uint16_t slice, struct spm_pool_account *a);
uint64_t spm_pool_slice_bytes(struct spm_pool *p, uint16_t slice);
/* Not kept in the state file: the caller's to say again after attach. @min counts as the extents that it takes, @max
 * as those that are whole in it, but no less than that; UINT64_MAX: no limit. -EBUSY: it uses more than @max;
 * -ENOSPC: a min that others have, or are sure of. @force: whatever others have; it gets no more than there is. */
int spm_pool_set_slice(struct spm_pool *p, uint16_t slice, uint64_t min, uint64_t max, bool force) SPM_MUST_CHECK;
/* The max of slice 0, which has no min; kept in the state file. May be below what it uses, then it gets no more. */
void spm_pool_limit(struct spm_pool *p, uint64_t bytes);

/* -- locks -- (pool-lock.c) */

enum spm_pool_how { SPM_POOL_SHARED, SPM_POOL_EXCLUSIVE };
struct spm_pool_held {
	struct spm_pool *pool;  /* NULL: nothing is held */
	int stripe[2];          /* -1: none */
};
void spm_pool_lock(struct spm_pool *p, const struct spm_pool_file *f, enum spm_pool_how how,
		   struct spm_pool_held *h);
/* Two files (also the same one twice: the stronger counts). */
void spm_pool_lock_two(struct spm_pool *p, const struct spm_pool_file f[2], const enum spm_pool_how how[2],
		       struct spm_pool_held *h);
void spm_pool_unlock(struct spm_pool_held *h);
#define spm_auto_pool __attribute__((cleanup(spm_pool_unlock)))

/* -- content of files -- (pool-io.c)
 * The file's end is the region's; the pool keeps this: behind it there are only zeros and holes. So whoever
 * makes a file shorter gives up what was behind, see spm_pool_trim_begin(), and a write that makes it longer
 * comes after the region's file got its size. Offsets and lengths are bytes. */

/* Shared. Holes read as zeros. What came before an error, or -EIO. */
ssize_t spm_pool_read(struct spm_pool *p, const struct spm_pool_file *f, void *buf, size_t n,
		      uint64_t off) SPM_MUST_CHECK;
/* Shared. Allocates. What was written before an error; -ENOSPC; -EDQUOT: its slice has its max; -EIO: poisoned;
 * -EFBIG. */
ssize_t spm_pool_write(struct spm_pool *p, const struct spm_pool_file *f, const void *buf, size_t n,
		       uint64_t off) SPM_MUST_CHECK;
/* With no lock, since zeroing takes time: it takes the file's, shared, for each extent. Allocates all of
 * [from, to), which is reserved first, so that it either fits or nothing is made. -ENOSPC; -EDQUOT; -EFBIG;
 * -EIO: poisoned; -EINTR: @cancel (may be NULL) said so, asked between extents: what was made stays. */
int spm_pool_commit(struct spm_pool *p, const struct spm_pool_file *f, uint64_t from, uint64_t to,
		    bool (*cancel)(void *arg), void *arg) SPM_MUST_CHECK;
/* Shared. Zeros [from, to) where there is anything, and keeps the extents. -EIO. */
int spm_pool_zero(struct spm_pool *p, const struct spm_pool_file *f, uint64_t from, uint64_t to) SPM_MUST_CHECK;
/* Exclusive. Whole extents in [from, to) become holes, the rest of it zeros; to UINT64_MAX: all to the end.
 * -EIO: a part of a poisoned extent cannot be zeroed (a whole one goes). */
int spm_pool_punch(struct spm_pool *p, const struct spm_pool_file *f, uint64_t from, uint64_t to) SPM_MUST_CHECK;
/* Exclusive. All of the file, before its inode goes. In steps, so that others are not kept waiting. */
void spm_pool_remove(struct spm_pool *p, const struct spm_pool_file *f);
/* Of all files of a slice that nobody is at any more. */
void spm_pool_remove_slice(struct spm_pool *p, uint16_t slice);
/* Shared. lseek(2) with SEEK_DATA or SEEK_HOLE in a file of @size bytes; poisoned extents are data. -ENXIO;
 * -EINVAL. */
off_t spm_pool_seek(struct spm_pool *p, const struct spm_pool_file *f, off_t off, int whence,
		    uint64_t size) SPM_MUST_CHECK;
/* Shared on @in, exclusive or shared on @out (spm_pool_lock_two()): copies n bytes, no overlap. What came
 * before an error. */
ssize_t spm_pool_copy(struct spm_pool *p, const struct spm_pool_file *in, uint64_t from,
		      const struct spm_pool_file *out, uint64_t to, size_t n) SPM_MUST_CHECK;

/*
 * Truncate has two effects that are not one store: the region's file gets its size, the pool gives up what is
 * behind. So:
 *	note = spm_pool_trim_begin(p, f, h);    kept in the state file, with the handle
 *	ftruncate(region's file, size);
 *	spm_pool_punch(p, f, size, UINT64_MAX);
 *	spm_pool_trim_end(p, note);
 * A successor calls spm_pool_trims() before it serves anything; for each note it punches from the size that
 * the region's file has now (0: the file is gone), and then the note is gone. Waits if all notes are taken;
 * the caller holds the file's lock, exclusively, all the while.
 */
int spm_pool_trim_begin(struct spm_pool *p, const struct spm_pool_file *f,
			const struct spm_handle *h) SPM_MUST_CHECK;
void spm_pool_trim_end(struct spm_pool *p, int note);
/* @end: the size of the file now. -errno of the first @end that failed; that note stays. What is poisoned
 * stays so. */
typedef int spm_pool_end(void *arg, const struct spm_pool_file *f, const struct spm_handle *h, uint64_t *size);
int spm_pool_trims(struct spm_pool *p, spm_pool_end *end, void *arg) SPM_MUST_CHECK;

/* Files that own extents, one by one, in no order, some twice: false ends. @at starts at 0. For checks (is
 * the inode there?). */
bool spm_pool_next_file(struct spm_pool *p, uint32_t *at, struct spm_pool_file *f);

/* -- single extents, for swap -- (pool.c) */

/* With the file's lock, which need not be held over what is done there: compaction leaves the extent where it
 * is until spm_pool_unmap_extent(), and whoever would give it up has to be kept out by the caller. -ENOENT: a
 * hole; -EIO: poisoned; -EBUSY: it is mapped already. */
int spm_pool_map_extent(struct spm_pool *p, const struct spm_pool_file *f, uint64_t extent,
			void **addr) SPM_MUST_CHECK;
/* -EIO: the device has lost it meanwhile. @drop: the file gives it up, it is in a slot now. */
int spm_pool_unmap_extent(struct spm_pool *p, const struct spm_pool_file *f, uint64_t extent,
			  bool drop) SPM_MUST_CHECK;
/* An extent that is nobody's yet, not zeroed, charged to @slice: to be filled at *addr, then owned by
 * spm_pool_give(), or given back by spm_pool_untake(). It is free again if the process dies. -ENOSPC;
 * -EDQUOT. */
int spm_pool_take(struct spm_pool *p, uint16_t slice, uint32_t *extent_no, void **addr) SPM_MUST_CHECK;
/* Shared or exclusive. -EEXIST: the file has that extent already (it stays taken); -EFBIG. */
int spm_pool_give(struct spm_pool *p, const struct spm_pool_file *f, uint64_t extent,
		  uint32_t extent_no) SPM_MUST_CHECK;
void spm_pool_untake(struct spm_pool *p, uint16_t slice, uint32_t extent_no);
/* The device has lost it: it is never used again. */
void spm_pool_untake_lost(struct spm_pool *p, uint16_t slice, uint32_t extent_no);
/* Zeros a part of what was taken. -EIO: poisoned. */
int spm_pool_clear_taken(struct spm_pool *p, void *addr, size_t n) SPM_MUST_CHECK;
/* @fn reads from an address that was given out, of @n bytes within an extent, and has nothing to let go: where
 * poison is met, it is left by siglongjmp(3). -EIO: that has happened, and if the extent is a file's, it is
 * lost. */
int spm_pool_look(struct spm_pool *p, const void *addr, size_t n, void (*fn)(void *arg), void *arg) SPM_MUST_CHECK;

/* -- compaction -- (pool-compact.c) */

struct spm_pool_compact {
	uint64_t bps;                 /* limit of the bandwidth, 0: none */
	bool (*cancel)(void *arg);    /* asked between extents; may be NULL */
	void *arg;
	uint64_t moved_bytes;         /* out */
};
/* Moves used extents down until the free ones are one run (but for poisoned ones, which stay). 0; -ECANCELED;
 * -EALREADY: another call is at it (what is done in the background gives way). */
int spm_pool_compact(struct spm_pool *p, struct spm_pool_compact *c) SPM_MUST_CHECK;

/* -- memory errors -- (pool-copy.c) */

/* Has this process survive SIGBUS in copies of this header; BUS_MCEERR_AO, which tells of poison that nobody
 * has read yet, is noted and looked at by the zeroers. Signals from elsewhere go to the handler that was
 * there. Once per process, by attach. */
int spm_pool_catch(void) SPM_MUST_CHECK;

#endif
