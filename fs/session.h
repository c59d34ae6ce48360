/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SESSION_H
#define SPM_FS_SESSION_H

#include "fs/fs.h"
#include "fs/thread.h"

/*
 * The threads that answer requests.
 *
 * At any time at most one thread waits for requests: the leader. It answers short requests itself and reads
 * on; waking a second thread for each would cost more than the request. A thread that is about to do
 * something slow says so (spm_session_blocking), and another one takes the lead meanwhile. When requests
 * queue up faster than the leader answers, helpers are woken, which go back to sleep at an empty queue. When
 * all threads are busy with slow things another one is made: somebody always reads.
 *
 * Waiting. Most of the time of a round trip is the wake-up of a sleeping server. So after a request the
 * leader looks for the next one for a moment (SPIN_NS), giving the processor away at each turn
 * (sched_yield), before it sleeps. It learns: looking that keeps failing is done ever more rarely, and when
 * another task turns out to want the processor it stops for a while. An idle mount sleeps in poll(2).
 */

/* Serves until the mount ends: 0, or until SIGTERM: 1, and nothing is in hand. -errno of setting up. */
int spm_session_run(struct spm_fs *fs) SPM_MUST_CHECK;

/* Reads one request at the thread's desk: its length, -EAGAIN: none waits, -ENODEV: the mount is gone. */
ssize_t spm_session_read(struct spm_fs *fs, struct spm_thread *t);
/* Answers it. */
void spm_session_answer(struct spm_fs *fs, struct spm_thread *t, size_t len);

/* The calling thread may be slow from here to the end of its request: lets another one lead. */
void spm_session_blocking(void);

#endif
