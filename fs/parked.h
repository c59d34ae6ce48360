/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_PARKED_H
#define SPM_FS_PARKED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Requests without a thread. Who writes to a full slice waits for room, in a thread; and the threads are all tenants'. So while
 * SPM_WAITERS of them wait for room in one slice, what else asks for memory there is copied, and waits in a line of its own until
 * one of those has come to an end. Nothing has been done for it then: to its client it looks like one that the server has not
 * come to, and so it does to the next worker, which the kernel sends it again. So nothing is parked where the kernel cannot do that,
 * nor what an earlier worker had begun.
 *
 * A line holds SPM_PARKED_BYTES; what comes when it is full waits in a thread after all.
 */
#define SPM_WAITERS      64u
#define SPM_PARKED_BYTES ((size_t)512 << 20)

struct spm_parked_line;

struct spm_parked {
	pthread_mutex_t lock; /* guards the lines; a leaf */
	struct spm_parked_line *lines; /* those that are not empty, and maybe others */
	atomic_uint count;    /* requests in all of them */
};

struct spm_fs;
struct spm_thread;

void spm_parked_init(struct spm_fs *fs);
/* Those that are there are nobody's: the mount is gone, or another worker gets them. */
void spm_parked_destroy(struct spm_fs *fs);

/* The request at the thread's desk, of @len bytes, was parked: the desk is free. */
bool spm_park(struct spm_fs *fs, struct spm_thread *t, size_t len);
/* The request at the thread's desk was a word about one that is parked: its client is killed, and it was answered with EINTR. Other
 * signals do not end a write, as they do not on tmpfs. */
bool spm_parked_interrupt(struct spm_fs *fs, struct spm_thread *t, size_t len);
/* Puts the next one whose turn it is on the thread's desk: its length; 0: there is none. */
ssize_t spm_parked_next(struct spm_fs *fs, struct spm_thread *t);

#endif
