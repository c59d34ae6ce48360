/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_DESK_H
#define SPM_FS_DESK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include "core/ledger.h"
#include "core/util.h"
#include "fs/state.h"

/*
 * A desk: where a serving thread works on one request, in shared memory, so that whoever takes over finds the
 * request and how far it had got. One per slot: hold (fs/state.h, also for the keeper's eyes), desk, buffer.
 *
 * Requests come again after a crash (FUSE_NOTIFY_RESEND), also those whose effect was there already. How each kind
 * is made safe to repeat is the table in fs/repeat.c; what it needs to know from before is written here:
 *
 *  begun   set right before the first effect. With it @a, @b (what was there before, mostly inode numbers) and
 *          @other (the second directory) are valid.
 *  done    set right after the last effect, with @rc and @result: a repeated request is answered with these.
 *
 * A desk belongs to its thread from spm_desk_take() to spm_desk_leave(), and stays behind when the worker dies.
 */
struct spm_desk {
	uint64_t unique; /* of the request, without the mark of a repeated one; 0: none */
	uint32_t blame;  /* see fs/takeover.c */
	uint32_t begun;
	uint64_t a, b, other;
	uint32_t done;
	int32_t rc;
	uint64_t result;
	int32_t closing_id; /* a backing id that is being closed; its inode knows nothing of it any more */
	uint32_t reserved;
	struct spm_ledger ledger;
};

#define SPM_FUSE_UNIQUE_RESEND (UINT64_C(1) << 63)

/* A buffer: room in front so that the data of a WRITE begins on a page, the request, the book's node ids. */
#define SPM_BUFFER_STRIDE ((1u << 20) + (128u << 10))
#define SPM_BUFFER_IDS    8192u

/* The shared memory, mapped. */
struct spm_desks {
	struct spm_state *state;
	struct spm_desk *desk;
	char *buffers;
	uint32_t generation;
	pthread_mutex_t lock; /* guards taken; a leaf */
	uint64_t taken[SPM_SLOTS / 64];
};

/* Sizes of the memfds, for whoever makes them. */
size_t spm_state_bytes(void);
size_t spm_buffers_bytes(void);

/* Makes both, sealed; the head is filled in but for what the keeper writes. -errno. */
int spm_desks_create(int *state_fd, int *buffers_fd) SPM_MUST_CHECK;

/* Maps both (the descriptors stay the caller's). -EPROTO: not what this program calls a state. */
int spm_desks_attach(struct spm_desks *d, int state_fd, int buffers_fd) SPM_MUST_CHECK;
void spm_desks_detach(struct spm_desks *d);

/* The request in a slot, SPM_WIRE_BUFSIZE; and its book's node ids. */
void *spm_desk_buffer(const struct spm_desks *d, uint32_t slot);
uint64_t *spm_desk_ids(const struct spm_desks *d, uint32_t slot);

struct spm_thread;

/* Gives the thread a free slot. -EMFILE: there is none. */
int spm_desk_take(struct spm_desks *d, struct spm_thread *t) SPM_MUST_CHECK;
void spm_desk_leave(struct spm_desks *d, struct spm_thread *t);

/* The steps of a request: the buffer is about to be filled; it holds a request; that is answered. */
void spm_desk_reading(struct spm_thread *t);
void spm_desk_begin(struct spm_thread *t);
void spm_desk_end(struct spm_thread *t);

/* The answer to the request in hand is written next (a request that does not come again after this was answered; one
 * that does not come again before it was given up by a client that was killed); or it was not taken after all. */
void spm_desk_answering(bool yes);
/* Frees a slot that a dead worker has left, and its memory. */
void spm_desk_clear(struct spm_desks *d, uint32_t slot);

/* For the requests' code, about the request in hand. */

/* The effect comes next. @a, @b: what was there before. */
void spm_begin(uint64_t a, uint64_t b, uint64_t other);
/* The worker that had this request before may have come to its effect: @a, @b as they were then. */
bool spm_again(uint64_t *a, uint64_t *b);
/* All effects are there: what the answer says. */
void spm_done(int rc, uint64_t result);
/* Whether an earlier worker came so far. */
bool spm_was_done(int *rc, uint64_t *result);
/* Its book; NULL in threads that serve no requests. */
const struct spm_book *spm_my_book(void);

#endif
