/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_RING_H
#define SPM_CORE_RING_H

#include <pthread.h>
#include <stdint.h>
#include <sys/uio.h>
#include "core/util.h"

/*
 * The one I/O engine: an io_uring for reads and writes of swap files.
 *
 * Any thread submits (a batch is one system call); one thread of the engine's own takes completions off the ring,
 * puts them on the queue that their I/O was submitted with, and does nothing else: it never blocks but for the next
 * completion. What comes up short is submitted again for the rest there, so a finished I/O is whole or an error. What the
 * kernel has no memory for is tried again for about 6 s, with pauses.
 *
 * Links are kept here, not by IOSQE_IO_LINK: the kernel breaks a chain where a transfer comes up short, where a batch that
 * it could not take whole ends, and where the thread that submitted it is gone.
 *
 * A thread may end before its I/O does. A process may end, too: then what is in flight still goes on for a moment, after
 * the process has been waited for. Its successor learns of the end by a lock: a registered file is closed only after
 * the last I/O, so a flock(2) on a file of @files that this process alone has open stands until then.
 *
 * The files are registered; the ring is restricted to what is used here (IORING_REGISTER_RESTRICTIONS): READV, WRITEV,
 * READ, WRITE, FSYNC, ASYNC_CANCEL, NOP, on registered files only. Buffers are never registered: that pins pages for
 * long, which moves them off a movable node (design, section 6).
 *
 * Memory: @depth requests at most are in the kernel; the rest waits in the order of submission. All of it is allocated
 * by spm_ring_open(); a struct spm_io is its caller's, from spm_ring_submit() until spm_ioq_next() has returned it.
 */
struct spm_ring;

enum spm_io_op { SPM_IO_READ, SPM_IO_WRITE, SPM_IO_SYNC };

struct spm_ioq;

struct spm_io {
	/* the caller's */
	enum spm_io_op op;
	unsigned int file;    /* index among the ring's files */
	uint64_t offset;      /* bytes */
	struct iovec *iov;    /* changed on the way if the kernel does only a part */
	unsigned int iovs;    /* up to IOV_MAX */
	bool link;            /* the next one of the batch starts when this one has ended well, else it ends -ECANCELED */
	void *arg;
	/* the answer */
	int result;           /* 0, or -errno; -EIO: the file ended before the data */
	/* the ring's */
	struct spm_ioq *queue;
	struct spm_io *next;
	struct spm_io *then; /* linked to this one */
	uint64_t left;
	uint16_t state, tries;
};

/* Where finished I/O is waited for. Its owner is one thread at a time. */
struct spm_ioq {
	pthread_mutex_t lock; /* guards the list and the count; a leaf */
	pthread_cond_t wake;
	struct spm_io *first, **last; /* finished */
	unsigned int in_flight;       /* submitted and not returned yet */
};

void spm_ioq_init(struct spm_ioq *q);
void spm_ioq_destroy(struct spm_ioq *q); /* nothing may be in flight */

/* Whether io_uring can be had here: 0, or -errno (EPERM: kernel.io_uring_disabled or a seccomp filter; ENOSYS) with a line
 * for the user in @why. */
struct spm_error;
int spm_ring_probe(struct spm_error *why) SPM_MUST_CHECK;

/* @files stay the caller's; @depth: 1 to 1024. -errno of io_uring_setup(2), io_uring_register(2), pthread_create(3). */
int spm_ring_open(struct spm_ring **out, const int *files, unsigned int count, unsigned int depth) SPM_MUST_CHECK;
/* Waits for what is in flight. */
void spm_ring_close(struct spm_ring *r);

/* Submits @n requests in order, by one system call if the ring has room. Never fails: an I/O that cannot be submitted ends
 * with an error. */
void spm_ring_submit(struct spm_ring *r, struct spm_ioq *q, struct spm_io *const *ios, unsigned int n);
/* The next finished one; NULL: none is in flight, or (without @wait) none is finished. */
struct spm_io *spm_ioq_next(struct spm_ioq *q, bool wait);
/* Asks for an early end of everything of @q that has not ended; each still comes back by spm_ioq_next(), with -ECANCELED
 * or as it went. */
void spm_ring_cancel(struct spm_ring *r, struct spm_ioq *q);

#endif
