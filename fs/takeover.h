/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_TAKEOVER_H
#define SPM_FS_TAKEOVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>
#include "fs/state.h"

/*
 * A worker that goes on where another has died. Before it serves anything:
 *
 *  1. settle   the ledgers of all slots (core/ledger.h), then read the inode table;
 *  2. init     the stored INIT request goes through libfuse once more, its reply is compared and dropped;
 *  3. resend   FUSE_NOTIFY_RESEND; what was unanswered is read until the first request that is new, or none is left;
 *  4. sort     each of these is matched with the slot that had it: its counts are undone; if it has been in hand at
 *              too many deaths it gets EIO. A slot that nobody asks for any more was answered: its counts stand;
 *  5. tidy     forgets that were read but not done; orphans not yet marked; backing ids without an owner; attributes
 *              that the kernel was to be told about.
 *
 * Then the threads start, and take the repeated requests before any new one. Each step may be cut short by another
 * death: what it has not done is still there for the next worker.
 *
 * A kernel without FUSE_NOTIFY_RESEND (before Linux 6.9) sends nothing again: what was in hand gets EIO.
 */
struct spm_recovered;
struct spm_stale_name;

struct spm_takeover {
	pthread_mutex_t lock; /* guards the list; a leaf */
	struct spm_recovered *first, **last;
	atomic_uint left; /* in the list */
	struct spm_stale_name *stale; /* names that the kernel is to be told of */
	uint64_t matched[SPM_SLOTS / 64]; /* slots whose request is in the list */
};

struct spm_fs;
struct spm_thread;

/* Whether another worker has served the mount. */
static inline bool spm_takeover_needed(const struct spm_state *s)
{
	return s->init_reply_len;
}

void spm_takeover_init(struct spm_takeover *to);
/* Step 1, after attaching. -errno of spm_itable_scan(). */
int spm_takeover_settle(struct spm_fs *fs);
/* The rest, in the thread at hand, which must be set up to serve. -EPROTO: INIT comes out differently. */
int spm_takeover_run(struct spm_fs *fs);

/* The next repeated request into the thread's buffer: its length; 0: none left. */
ssize_t spm_takeover_next(struct spm_fs *fs, struct spm_thread *t);
/* Once requests are served again: tells the kernel of names that it may remember wrongly. May wait for clients. */
void spm_takeover_tell(struct spm_fs *fs);
void spm_takeover_destroy(struct spm_takeover *to);

#endif
