/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SWAP_H
#define SPM_FS_SWAP_H

#include <errno.h>
#include "fs/fault.h"
#include "fs/fs.h"

/*
 * Between the requests and core/swap.h. With swap off each of these is one test of a pointer.
 *
 * The rules for a request on a file's content:
 *  - it has a head (spm_content_head) and pins what it works on, before any lock of an inode, for as long as it works. Reading
 *    too: a file without a head gets one from the next request, and may leave under the eyes of a reader without a pin;
 *  - what allocates may fail with -ENOSPC for now: let go of the pin (FILE may be kept), spm_content_room(), and begin again;
 *  - what drops content drops the parts of extents by the pin (DROP, TRIM), which waits for nothing that it has dropped something
 *    for; then all of it in the region, then whole slots (spm_swap_dropped). What is refused by the pin has dropped nothing, and
 *    nothing refuses it later; after a crash in between the request comes again;
 *  - who changes ctime alone says so afterwards (spm_content_touched).
 */
struct spm_worker_args;

/* In the worker's set-up, before anything is served: takes over swap files and extent map. Starts no request. */
int spm_content_open(struct spm_fs *fs, const struct spm_worker_args *a) SPM_MUST_CHECK;
/* Threads: reclaim, and heads for the files of a region that had none. */
int spm_content_start(struct spm_fs *fs) SPM_MUST_CHECK;
void spm_content_stop(struct spm_fs *fs);
void spm_content_close(struct spm_fs *fs);

/* The number of a file's head; 0: it has none, or swap is off. */
static inline uint32_t spm_content_find(struct spm_fs *fs, const struct spm_inode *rec)
{
	return fs->swap ? spm_swap_find(fs->swap, rec->slice, rec->ino) : 0;
}

/* The same, made if there is none. *@file is 0 if swap is off. -ENOMEM. */
static inline int spm_content_head(struct spm_fs *fs, const struct spm_inode *rec, uint32_t *file)
{
	*file = 0;
	if (!fs->swap || spm_inode_is(rec, SPM_INODE_DIR))
		return 0;
	/* a head that is made after those of a removed slice went would be found by the next one of its number */
	if (spm_slice_of(fs, rec) == &fs->gone)
		return -ESTALE;
	*file = spm_swap_file(fs->swap, rec->slice, rec->ino, &rec->handle, false);
	return *file ? 0 : -ENOMEM;
}

/*
 * Pins [from, to) of an inode, waiting for room if what is swapped there has to come back; no more than one pin a thread.
 * With swap off nothing is pinned. -ENOSPC, -EIO, -ENOMEM.
 */
int spm_content_pin(struct spm_fs *fs, const struct spm_inode *rec, uint64_t from, uint64_t to, enum spm_pin_how how,
		    struct spm_pin *pin) SPM_MUST_CHECK;

/* Whether a request that came to @rc for want of @bytes shall begin again: its slice was given more, or with swap something has
 * left. With swap without inode locks, and pins but FILE. */
bool spm_content_room(struct spm_fs *fs, uint16_t slice, int rc, uint64_t bytes, unsigned int *tries);

/* The same for one that works in parts, of which one came to @n bytes, or an error, and @left are to be done. */
bool spm_content_go_on(struct spm_fs *fs, uint16_t slice, ssize_t n, uint64_t left, unsigned int *tries);

/* With swap, attributes as users see them: what moves have done to the file is not shown. 1: moves and writes are under way,
 * so that it may be a little wrong. */
int spm_content_show(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, struct stat *st) SPM_MUST_CHECK;

/* With swap: more than device and swap together hold is refused at once, before anything has to leave for it. */
bool spm_content_is_hopeless(struct spm_fs *fs, uint16_t slice, uint64_t len);

/* Some pages into the slots that they are in (spm_swap_store). False: not, or not all: they are to be written. */
bool spm_content_store(struct spm_fs *fs, const struct spm_inode *rec, int fd, const void *buf, size_t size, off_t off);
/* pwrite(2), but for room; all of it, or what there was room for. */
ssize_t spm_content_write(struct spm_fs *fs, const struct spm_inode *rec, int fd, const void *buf, size_t size, off_t off);

/* Allocates [from, to), which need not be here all at once in the end; the size stays. What it came to is left there if it
 * fails: *@reached. */
int spm_content_allocate(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to, uint64_t *reached)
	SPM_MUST_CHECK;

/* spm_commit_range(), by which suid and sgid stay, and for which the slice is given more memory if there is some. */
int spm_content_commit(struct spm_fs *fs, struct spm_slice *s, int fd, uint64_t from, uint64_t to) SPM_MUST_CHECK;

/* A request has changed ctime of an inode by itself. */
static inline void spm_content_touched(struct spm_fs *fs, uint16_t slice, uint64_t ino)
{
	uint32_t file = fs->swap ? spm_swap_find(fs->swap, slice, ino) : 0;

	if (file)
		spm_swap_touched(fs->swap, file);
}

/*
 * Does what fixes content to the device: chattr +i and +a (nothing can be punched or restored in such a file), and file
 * capabilities, which a punch takes away (not in a pool, where no move touches the region's file). All of it is here before, and
 * nobody has a descriptor of it from before by which it could leave later. -ENOSPC, -EIO, -EBUSY, or what @fn returns.
 */
int spm_content_fix(struct spm_fs *fs, const struct spm_inode *rec, int (*fn)(void *arg), void *arg) SPM_MUST_CHECK;
#define SPM_XATTR_CAPABILITY "security.capability"

/* A point of a move, which belongs to no step of a request (fs/fault.h). */
static inline void spm_content_fault(struct spm_fs *fs, const char *at)
{
	if (fs->swap && __builtin_expect(fs->desks.state->faults_on, 0))
		(void)spm_fault_at(fs->desks.state, at);
}

/* The last name of an inode is that among the orphans, and nobody refers to it: removes it, with its slots. -EISDIR: try as
 * a directory. */
int spm_content_remove(struct spm_fs *fs, struct spm_slice *s, uint64_t ino);

#endif
