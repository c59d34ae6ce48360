/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SWAP_EVICT_H
#define SPM_CORE_SWAP_EVICT_H

#include "core/swap-local.h"

/*
 * One thread that moves extents out, up to SPM_DEPTH at a time, of several files if they are small. It visits each file for as
 * long as something of it is in flight.
 */
struct spm_evict_file {
	struct spm_whose who;
	int fd;
	uint64_t size;
	uint32_t in_flight;
	bool open;
};

struct spm_evictor {
	struct spm_swap *s;
	struct spm_ioq q;
	struct spm_evict_file file[SPM_DEPTH + 1];
	struct spm_evict_file *of[SPM_JOBS]; /* whose the job is, by its number */
	unsigned int in_flight;
	uint64_t leaving;                    /* bytes in flight */
	uint64_t freed;                      /* bytes, so far */
	uint64_t written;                    /* bytes, so far, also of what was wanted before it had left */
	int error;                           /* the first of a write */
	uint32_t keep;                       /* blocks of slots that must be left */
	bool exchange;                       /* something of the same size comes back: swap.max of a slice is not meant so closely */
	unsigned int unfit;                  /* extents for which there was no slot */
	bool full;                           /* there have been so many that it is not worth while to go on */
	bool skipped;                        /* something was in use just then, by a request */
	bool direct;                         /* something was open or mapped directly */
	uint16_t holder;                     /* on whose account its jobs are */
	/* Each may be NULL. Bytes that have left a slice; how many may, now: asked before each extent. */
	void (*progress)(void *arg, uint16_t slice, uint64_t bytes);
	uint64_t (*may_leave)(void *arg, uint16_t slice);
	void *arg;
};

void spm_evictor_init(struct spm_evictor *ev, struct spm_swap *s);
/* Waits until less than @bytes are gone or on their way, or nothing is on its way. */
void spm_evictor_wait(struct spm_evictor *ev, uint64_t bytes);
/* Waits for what is in flight. */
void spm_evictor_drain(struct spm_evictor *ev);
void spm_evictor_destroy(struct spm_evictor *ev);

/*
 * Starts to move out those extents in [from, to) of a file whose last use is at least @age ticks ago (0: all), until @enough
 * bytes are on their way or gone. 0; -EBUSY: it is open or mapped directly, or somebody wants it for himself; -ESTALE;
 * -ENOSPC: swap is full; -EDQUOT: the slice's part of it is; -EPERM: no more of the slice may leave.
 */
int spm_evict_file(struct spm_evictor *ev, uint32_t file, uint64_t from, uint64_t to, uint16_t age, uint64_t enough, bool wait)
	SPM_MUST_CHECK;

/* A visit, after a lease test where one is needed. */
int spm_evict_visit(struct spm_swap *s, uint32_t file, bool wait, struct spm_whose *who) SPM_MUST_CHECK;

#endif
