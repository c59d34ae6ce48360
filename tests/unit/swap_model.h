/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_SWAP_MODEL_H
#define SPM_TESTS_SWAP_MODEL_H

/*
 * A model of some files: which version of each 4 KiB block was acknowledged, and which one is being written. Threads change
 * the files by requests as fs/ makes them, and whatever is read must be what the model says; a block has its file, place and
 * version written all over it. The model is in shared memory, and so outlives the process that was at it.
 */
#include "tests/unit/swap_rig.h"

#define MODEL_FILES   24u
#define MODEL_THREADS 8u

struct model_opts {
	uint32_t files, blocks; /* of each file, at most */
	uint32_t threads;
	bool direct;            /* some open directly and map */
	unsigned int seed;
};

struct model_block {
	/* versions: odd ones are data, even ones zeros; 0 is how it begins */
	_Atomic uint32_t acked, pending;
	/* a death has left words of several versions, of which this is the oldest; else 0 */
	_Atomic uint32_t torn;
};

struct model {
	struct model_opts o;
	_Atomic uint32_t version;
	_Atomic uint64_t ops, bytes, nospace;
	_Atomic uint64_t done[MODEL_THREADS];      /* for whoever watches */
	const char *_Atomic doing[MODEL_THREADS];
	atomic_bool stop;
	struct model_block block[];
};

struct model *model_new(const struct model_opts *o);
void model_free(struct model *m);
/* Runs the threads in this process for @ms; aborts if none of them comes to the end of a request for long. */
void model_run(struct model *m, struct rig *r, unsigned int ms);
/* Everything as it must be, with nobody at it; then it is what counts (after a death, pending ones may or may not have been
 * done). */
void model_verify(struct model *m, struct rig *r);
/* Slots and records agree. */
void model_audit(struct rig *r);
/* Removes all files; then nothing is in use. */
void model_remove(struct model *m, struct rig *r);

#endif
