/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SWAP_H
#define SPM_CORE_SWAP_H

#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "core/extmap.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/slots.h"

/*
 * Swap: extents of files that nobody maps leave the device for slots of swap files, and come back.
 *
 * An extent's bytes are in the file's pages (here), or in a slot (core/extmap.h says when each counts). It leaves:
 *	write its pages and a trailer to a free slot; wait; record slot and check, state OUT; punch; state SWAPPED.
 * It comes back:
 *	state IN; allocate its pages; read; verify; clear the record; free the slot.
 * A worker that dies in between leaves OUT or IN behind, and its successor punches these (spm_swap_open).
 *
 * Who keeps whom out (core/swap-pins.c). A request pins the extents that it works on; a move (out, in, to another slot)
 * needs the extent unpinned, and keeps others off it meanwhile; a truncate has the file to itself; a visit is the
 * reclaimer's presence at a file, without which it holds no descriptor of it. A file that is open directly, or may be mapped
 * so, has SPM_EXTFILE_DIRECT: no visit until the lease test (spm_swap_ops.release) has taken that away.
 *
 * Order: pins before inode locks of the caller; of two files, the lower number first; within a file upwards. No pin but
 * FILE is held over a wait for room (spm_swap_room), which may move anything else. spm_swap_ops.release is called without
 * any pin, but the caller may be visiting other files: so nobody pins with an inode's lock held.
 *
 * Room. Nothing is allocated on the device but by somebody who can wait: on -ENOSPC the caller lets go of its pins, waits
 * by spm_swap_room(), and tries again; that says -ENOSPC when nothing more can go.
 */
struct spm_swap;

struct spm_swap_opts {
	uint32_t low_pct, high_pct; /* free memory, of the slice: reclaim in the background starts, and stops */
	uint32_t cold_s;            /* what was not used for so long leaves in any case; 0: off */
	uint64_t compact_bps;       /* in the background; 0: off */
	uint64_t used_max;          /* bytes in swap files; UINT64_MAX: no limit */
	_Atomic uint64_t *stored_bytes; /* a counter that outlives the worker; NULL: it does not */
	struct spm_swap_slice_counters *slice_counters; /* SPM_SWAP_SLICES, which outlive the worker; NULL: they do not */
};

/* Slices have numbers below this; 0 is the root slice. */
#define SPM_SWAP_SLICES 4096u

/* What core cannot know. Called by any thread. Those that may be NULL say so. */
struct spm_swap_ops {
	void *ctx;
	/* What is here lies in this pool, whose extents are as large, and the region's files have a size and no pages; NULL: it is these
	 * files' pages. Then commit, bind and punch are not called, and times are nobody's to put back. Attached by whoever calls
	 * spm_swap_open(), and not started nor allocated from before: a dead worker's I/O may be filling what is free there. No lock
	 * of the pool may be held where swap is called: a read that is waited for may be waiting for it. Each file that is asked about
	 * has a head. */
	struct spm_pool *pool;
	/* A descriptor of the inode, O_RDWR | O_NOATIME, its caller's; -ESTALE: it is gone. */
	int (*open)(void *ctx, uint16_t slice, const struct spm_handle *h);
	/* spm_commit_range() in that slice. */
	int (*commit)(void *ctx, uint16_t slice, int fd, uint64_t from, uint64_t to);
	/* Only the first part of that: whatever allocates there next does so where it should. */
	int (*bind)(void *ctx, uint16_t slice, int fd, uint64_t from, uint64_t to);
	/* fallocate(2) with PUNCH_HOLE, which must not take suid and sgid away. */
	int (*punch)(void *ctx, int fd, uint64_t from, uint64_t to);
	/* The lease test: 0: nobody has the file open directly or maps it, and SPM_EXTFILE_DIRECT was cleared by
	 * spm_swap_idle(); -EBUSY: somebody has; -ESTALE. */
	int (*release)(void *ctx, uint32_t file, uint16_t slice, uint64_t ino, const struct spm_handle *h);
	/* Of a slice: its size is what it may have at most, and free what it does not use of that. */
	int (*statfs)(void *ctx, uint16_t slice, struct statvfs *sv);
	/* Of the device what is guaranteed to no slice, and how much of that nobody uses. NULL: as statfs of slice 0. */
	int (*shared)(void *ctx, uint64_t *bytes, uint64_t *free);
	/* How many bytes of slice @victim may leave for the sake of @slice, another one: what it uses beyond what it is
	 * guaranteed, and none if @slice may not have more anyway. NULL: any, the slices share one memory. */
	uint64_t (*spare)(void *ctx, uint16_t victim, uint16_t slice);
	/* What is free goes to @slice, so that it may use @bytes more than it does. 0: it may use more than before. NULL: it may use
	 * whatever is free. */
	int (*grow)(void *ctx, uint16_t slice, uint64_t bytes);
	/* How many bytes of a slice may be in slots; seconds after which what it does not use leaves in any case (0: never). NULL:
	 * no limit; as in the options. */
	uint64_t (*swap_max)(void *ctx, uint16_t slice);
	uint32_t (*cold)(void *ctx, uint16_t slice);
	/* The thread may be slow from here on. */
	void (*slow)(void *ctx);
	/* A fault point of tests, "swapout:recorded". */
	void (*fault)(void *ctx, const char *at);
	/* The same for I/O: 0, or the error that it is to end with. */
	int (*io_fault)(void *ctx, bool write);
	/* Something went wrong with a swap file, by number: @what, errno, and what becomes of it. For the log, with a path. */
	void (*file_failed)(void *ctx, unsigned int file, const char *what, int error, const char *then);
	/* An extent could not be read back: @why. For the log, with a path. */
	void (*damaged)(void *ctx, uint16_t slice, uint64_t ino, const struct spm_handle *h, uint64_t offset, const char *why);
};

/* Only grow, but for the first five. They start at 0 with each worker; @base outlives it (in the shared state). */
struct spm_swap_stats {
	uint64_t swap_bytes, swap_used_bytes, swapped_bytes;
	uint64_t reserve_bytes;        /* of space_bytes, what only exchanges and cuts may take: it is nobody's to fill */
	uint64_t space_bytes;          /* what the files hold and can still take: they grow again where compaction has cut them */
	uint64_t extent_bytes;
	uint64_t swapout_bytes, swapin_bytes, swap_errors, write_errors;
	uint64_t read_through_bytes;   /* served from slots without coming back */
	uint64_t stored_bytes;         /* written into slots in the same way */
	uint64_t evicted_hot;          /* extents that came back within a minute of leaving */
	uint64_t collapsed_bytes, moved_bytes; /* by compaction */
	uint64_t direct_waits;         /* requests that waited for room */
	uint64_t refused;              /* of these, answered with ENOSPC since nothing more could go */
	uint64_t reclaim_runs;         /* times that the background found less than low= free */
	uint64_t huge_bytes, scanned_bytes;    /* of resident bytes, at compaction's last pass */
	uint64_t map_bytes;            /* of the extent map itself */
};
/* Counters that go on over restarts: in shared memory, added to by spm_swap. */
struct spm_swap_counters {
	_Atomic uint64_t swapout_bytes, swapin_bytes, swap_errors, write_errors, read_through_bytes, evicted_hot,
		collapsed_bytes, moved_bytes, direct_waits, refused, reclaim_runs;
};

/* Of a slice, in the same way. */
struct spm_swap_slice_counters {
	_Atomic uint64_t swapout_bytes, swapin_bytes, swap_errors, write_errors, evicted_hot, direct_waits, refused, reclaim_runs;
};
struct spm_swap_slice_stats {
	uint64_t swapped_bytes; /* now: what swap_max limits */
	uint64_t swapout_bytes, swapin_bytes, swap_errors, write_errors, evicted_hot, direct_waits, refused, reclaim_runs;
};

/*
 * Takes over map and swap files: reads the map, takes the slots, finishes what a dead worker has left half way (so before
 * anything is served). @map_fd (an open file of this process alone: it is locked) and @files stay the caller's. Starts the ring, but no thread of its own.
 */
int spm_swap_open(struct spm_swap **out, const struct spm_swap_opts *o, const struct spm_swap_ops *ops,
		  struct spm_swap_counters *count, int map_fd, const int *files) SPM_MUST_CHECK;
/* The reclaimer, the loader and the compactor; stop: before close, waits for them. */
int spm_swap_start(struct spm_swap *s) SPM_MUST_CHECK;
void spm_swap_stop(struct spm_swap *s);
void spm_swap_close(struct spm_swap *s);

/* -- files -- */

/* The number of a regular file's head; spm_swap_file() makes one (0: no memory), with SPM_EXTFILE_DIRECT unless @fresh
 * (just made by the request in hand, so nobody can map it). */
uint32_t spm_swap_find(struct spm_swap *s, uint16_t slice, uint64_t ino);
uint32_t spm_swap_file(struct spm_swap *s, uint16_t slice, uint64_t ino, const struct spm_handle *h, bool fresh);
/* The last name and the last user of a file go: its slots are free. Before its inode goes, so that the number cannot be
 * another's. Waits for whoever visits it. */
void spm_swap_gone(struct spm_swap *s, uint16_t slice, uint64_t ino);
/* The first extent of a file from @from on that is in a slot, or whose record is damaged; UINT64_MAX: none. */
uint64_t spm_swap_next_slot(struct spm_swap *s, uint32_t file, uint64_t from);
/* Bytes of a file in slots. */
uint64_t spm_swap_bytes_of(struct spm_swap *s, uint32_t file);
/*
 * fstat(2) as users see it: st_blocks with what is in slots, and times that no move has changed (core/extmap.h). @fd may be
 * O_PATH. Needed for each file with a head before its attributes are shown, also where fstatat(2) has told them already.
 */
int spm_swap_stat(struct spm_swap *s, uint32_t file, int fd, struct stat *st) SPM_MUST_CHECK;
/* A request has changed ctime (chmod, chown, link, rename, xattr) by itself, without a pin. Requests that write hold a pin
 * over it, which says so. */
void spm_swap_touched(struct spm_swap *s, uint32_t file);
/* utimensat(2) of the file @fd, also while moves of it are under way. -errno. */
int spm_swap_set_times(struct spm_swap *s, uint32_t file, int fd, const struct timespec ts[2]) SPM_MUST_CHECK;
/* lseek(2) with SEEK_DATA or SEEK_HOLE, swapped pages being data. -ENXIO. */
off_t spm_swap_seek(struct spm_swap *s, uint32_t file, int fd, off_t off, int whence);

/* -- requests -- */

/*
 * One page (4096 bytes, as is @off) of a file written into the slot that it is in, without a pin; @fd: for size and times.
 * 0: it is there. Else nothing was changed that a write by way of a pin would not change again: -EALREADY: the extent is here,
 * or should be, or cannot be written so; -errno: the slot could not be read or written.
 */
int spm_swap_store(struct spm_swap *s, uint32_t file, int fd, const void *page, uint64_t off) SPM_MUST_CHECK;

enum spm_pin_how {
	SPM_PIN_READ,  /* content is read; may be left in its slot: look at spm_pin.through */
	SPM_PIN_WRITE, /* content is here, all of it that the range touches */
	SPM_PIN_DROP,  /* content is about to be punched: what is in the range is here, or out of the slots already, but for
			* whole extents; when that is done, spm_swap_dropped() */
	SPM_PIN_TRIM,  /* the same for truncate: up to the file's end, and nobody else is at the file meanwhile */
	SPM_PIN_FILE,  /* nothing is moved in or out of the file but by its holder; what is swapped stays swapped. For
			* opening, and for setting times */
};

struct spm_pin {
	struct spm_swap *swap;
	uint32_t file; /* 0: none is held */
	enum spm_pin_how how;
	uint64_t first, last; /* extents */
	bool through;  /* READ: something is in slots, so use spm_swap_read() */
};
#define SPM_PIN_NONE ((struct spm_pin){ .file = 0 })

/*
 * A thread holds one pin (or the two of spm_swap_pin_two) at a time. READ and WRITE are for requests, up to 8 MiB.
 * Pins [from, to) of @file. Brings back what must be here, which may take long and wait for room
 * (ops.slow is called first). -ENOSPC; -EIO: an extent cannot be read back; -ENOMEM.
 */
int spm_swap_pin(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to, enum spm_pin_how how,
		 struct spm_pin *pin) SPM_MUST_CHECK;
/* Two ranges at once, WRITE each (also of one file), without deadlock. */
int spm_swap_pin_two(struct spm_swap *s, const uint32_t file[2], const uint64_t from[2], const uint64_t to[2],
		     struct spm_pin pin[2]) SPM_MUST_CHECK;
void spm_swap_unpin(struct spm_pin *pin);
#define spm_auto_pin __attribute__((cleanup(spm_swap_unpin)))

/* With pin.through: reads like pread(2); what is in slots comes from there, verified, and stays there. @buf is aligned to
 * 4096. -EIO. */
ssize_t spm_swap_read(struct spm_pin *pin, int fd, void *buf, size_t size, off_t off) SPM_MUST_CHECK;
/* With DROP or TRIM, after the punch or truncate: the slots of whole extents in the range are free. */
void spm_swap_dropped(struct spm_pin *pin);

/* After -ENOSPC, without pins: waits until @bytes more may fit in that slice. 0: try again; -ENOSPC: nothing more can go;
 * @tries: 0 at first, and after each time that something came of it; the caller's. */
int spm_swap_room(struct spm_swap *s, uint16_t slice, uint64_t bytes, unsigned int *tries) SPM_MUST_CHECK;
/* How many threads wait for room in a slice now, for whatever. */
unsigned int spm_swap_waiting(struct spm_swap *s, uint16_t slice);

/* How many pages of a tmpfs file are allocated there, written to or not; UINT64_MAX: the kernel does not tell. */
uint64_t spm_pages_in(int fd, uint64_t from, uint64_t to);

/* -- opening -- */

/* With a pin FILE held: brings everything back, by a deep queue, in order, waiting for room. -ENOSPC (what came back stays);
 * -EIO. */
int spm_swap_load(struct spm_pin *pin, uint64_t from, uint64_t to) SPM_MUST_CHECK;
/* With a pin FILE held, nothing swapped: the file may be mapped from now on. -EAGAIN: something is swapped. */
int spm_swap_direct(struct spm_pin *pin) SPM_MUST_CHECK;
/* A lease test was free: it may be visited. */
void spm_swap_idle(struct spm_swap *s, uint32_t file);
/* SPM_EXTFILE_DIRECT: it is open directly, or was, and no lease test has been free since. */
bool spm_swap_is_direct(struct spm_swap *s, uint32_t file);
/* A direct open or close of it: how old its content looks. */
void spm_swap_used(struct spm_swap *s, uint32_t file);

/* -- by hand, and for limits -- */

/* Moves [from, to) of a file out: bytes that left, or -EBUSY: pinned; -ENOSPC: swap is full; -EDQUOT: its slice's part of it is;
 * -EIO: it cannot be written. */
int64_t spm_swap_evict(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to) SPM_MUST_CHECK;
/* Makes @bytes free, beyond what is: how many it came to. Files of that slice leave; for the root slice, of any that has more than
 * it is guaranteed. */
uint64_t spm_swap_reclaim(struct spm_swap *s, uint16_t slice, uint64_t bytes);
/* One pass over device memory and swap files, at full speed: 0; -ECANCELED by spm_swap_compact_cancel(). */
int spm_swap_compact(struct spm_swap *s) SPM_MUST_CHECK;
void spm_swap_compact_cancel(struct spm_swap *s);
void spm_swap_set_max(struct spm_swap *s, uint64_t used_max);
void spm_swap_stats(struct spm_swap *s, struct spm_swap_stats *out);
void spm_swap_stats_of(struct spm_swap *s, uint16_t slice, struct spm_swap_slice_stats *out);

/* -- drain -- */

/* Everything is to leave from now on (@on), or need not any more. What requests bring back leaves again; reads bring back
 * nothing. Not kept: for each worker anew. */
void spm_swap_drain(struct spm_swap *s, bool on);
/* A part of a pass that moves out whatever can go, for about @ns nanoseconds: -EAGAIN: call again. Otherwise the pass is over:
 * 0; -ENOSPC: swap is full; -EDQUOT: a slice's part of it is; -EIO: something cannot be written. What is in use stays. */
int spm_swap_drain_some(struct spm_swap *s, int64_t ns) SPM_MUST_CHECK;

/* Whose head a number is. */
struct spm_swap_whose {
	uint16_t slice;
	uint64_t ino;
	struct spm_handle handle;
};
/* The first file after @after (0: of all) that has a head; 0: there is none. */
uint32_t spm_swap_next(struct spm_swap *s, uint32_t after, struct spm_swap_whose *out);

/* -- slices -- */

/* A limit of a slice has changed: the reclaimer looks at it anew. */
void spm_swap_slice_changed(struct spm_swap *s, uint16_t slice);
/* Until it is let go, core has no file of the slice open; requests that need one wait. For unmounting it. -EBUSY: there still is one
 * after a few seconds, as there is when somebody waits for memory. */
int spm_swap_slice_hold(struct spm_swap *s, uint16_t slice) SPM_MUST_CHECK;
void spm_swap_slice_let_go(struct spm_swap *s, uint16_t slice);
/* The slice's files are gone for good: so are their heads, and their slots are free. To be repeated after a death in between, before
 * the number is used for another one. Its counters are 0 then. -ENOMEM: not all. */
int spm_swap_slice_gone(struct spm_swap *s, uint16_t slice) SPM_MUST_CHECK;

#endif
