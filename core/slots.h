/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SLOTS_H
#define SPM_CORE_SLOTS_H

#include <pthread.h>
#include <stdint.h>
#include "core/util.h"

/*
 * Slots: runs of 4 KiB blocks in swap files. Which are taken is known from the extent map alone (the records are the
 * truth, core/extmap.h); the bitmaps here are derived from it and rebuilt by each process (spm_slots_take).
 *
 * A slot address has the file in its upper 4 bits and the block in the lower 28: 1 TiB per file, and one number says
 * where an extent is. Blocks below SPM_SLOT_FIRST of each file are its header.
 *
 * A file has three sizes, in blocks: @limit (what swapsize= allots to it), @blocks (how large it is now, all of it
 * preallocated) and @top (behind the last taken block). Allocation is striped over the files by their free space, and
 * lowest first within one, so that tails come free. It grows a file only through the caller (spm_slots_alloc says so).
 *
 * One lock, a leaf. Nothing here touches a file.
 */
#define SPM_SLOT_BLOCK   4096u
#define SPM_SLOT_FIRST   256u /* 1 MiB: header, and an alignment that every disk likes */
#define SPM_SWAP_FILES   8u
#define SPM_SLOT_FILE(a)     ((a) >> 28)
#define SPM_SLOT_AT(a)       ((a) & ((UINT32_C(1) << 28) - 1))
#define SPM_SLOT_ADDR(f, b)  ((uint32_t)(f) << 28 | (uint32_t)(b))
#define SPM_SLOT_BLOCKS_MAX (UINT32_C(1) << 28)
#define SPM_SLOTS_RETRY     5
#define SPM_SLOT_NONE        0u /* never a slot: block 0 is a header */

struct spm_slot_file {
	uint64_t *bits;
	struct spm_slot_runs *runs; /* where free runs are: core/slots.c */
	uint32_t limit, blocks, top, used; /* used: without the header */
	uint32_t held;    /* taken by nobody's slot: spm_slots_hold() */
	bool retired;     /* returned write errors: nothing new goes there, what is there can be read */
	int64_t stuck;    /* when it could not grow, seconds of CLOCK_MONOTONIC; asked to again after SPM_SLOTS_RETRY; 0: it may */
};

struct spm_slots {
	pthread_mutex_t lock; /* guards what follows */
	struct spm_slot_file file[SPM_SWAP_FILES];
	unsigned int count;
	uint64_t used_max;    /* blocks, over all files: swap.max; more is -EDQUOT */
};

/* @limit, @blocks: per file, in blocks, with the header. -ENOMEM. */
int spm_slots_init(struct spm_slots *s, unsigned int count, const uint32_t *limit, const uint32_t *blocks) SPM_MUST_CHECK;
void spm_slots_destroy(struct spm_slots *s);

/*
 * A free run of @n blocks: its address. -ENOSPC: no file has one; -EDQUOT: beyond used_max; -EAGAIN: a file could grow
 * (*@grow) to hold it: make it larger (spm_slots_grown) or, if that fails, say so (spm_slots_cannot_grow), and try again.
 */
int spm_slots_alloc(struct spm_slots *s, uint32_t n, uint32_t *addr, unsigned int *grow) SPM_MUST_CHECK;
/* The same for what takes the place of another slot, which goes: used_max does not count. */
int spm_slots_alloc_instead(struct spm_slots *s, uint32_t n, uint32_t *addr, unsigned int *grow) SPM_MUST_CHECK;
/* The lowest free run that ends at or below @below in the same file, for compaction; used_max does not count, since the
 * other copy goes. -ENOSPC: there is none, or the file is retired. */
int spm_slots_alloc_below(struct spm_slots *s, uint32_t n, uint32_t below, uint32_t *addr) SPM_MUST_CHECK;
void spm_slots_free(struct spm_slots *s, uint32_t addr, uint32_t n);
/*
 * Keeps a free run for a time when there is no other: it is in nobody's use, and is counted nowhere but that it is not left.
 * -ENOSPC: no file has one without growing. hold_below: as spm_slots_alloc_below().
 */
int spm_slots_hold(struct spm_slots *s, uint32_t n, uint32_t *addr) SPM_MUST_CHECK;
int spm_slots_hold_below(struct spm_slots *s, uint32_t n, uint32_t below, uint32_t *addr) SPM_MUST_CHECK;
/* That of @n blocks is not kept any longer: the first @used of them are a slot, the others free. */
void spm_slots_unhold(struct spm_slots *s, uint32_t addr, uint32_t n, uint32_t used);
/* A record names it. -EEXIST: another does already; -ERANGE: no such file, the header, or behind the end. */
int spm_slots_take(struct spm_slots *s, uint32_t addr, uint32_t n) SPM_MUST_CHECK;

void spm_slots_grown(struct spm_slots *s, unsigned int file, uint32_t blocks);
void spm_slots_cannot_grow(struct spm_slots *s, unsigned int file);
/* Takes the free tail of a file from allocation, all but @keep blocks of it; how large the file must stay. */
uint32_t spm_slots_shrink(struct spm_slots *s, unsigned int file, uint32_t keep);
/* True: it was not retired before. */
bool spm_slots_retire(struct spm_slots *s, unsigned int file);
bool spm_slots_is_retired(struct spm_slots *s, unsigned int file);

/* Bytes over all files: sizes, and what is taken. */
uint64_t spm_slots_bytes(struct spm_slots *s);
uint64_t spm_slots_used(struct spm_slots *s);
/* What could still be taken, growing included; 0 for retired files. */
uint64_t spm_slots_left(struct spm_slots *s);
/* Both together, at one instant. */
uint64_t spm_slots_space(struct spm_slots *s);
/* What is held free: it is in none of these but the first. */
uint64_t spm_slots_held(struct spm_slots *s);

#endif
