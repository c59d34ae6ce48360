/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_PROMISE_H
#define SPM_FS_PROMISE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/util.h"

/*
 * Holes that a client may fill behind the server's back: of files that are open directly by somebody who may map them, or still are
 * mapped. Their bytes are promised (spm_slices_promise), or a fault there would end in SIGBUS when another slice has got the memory
 * meanwhile.
 *
 * What is promised for a file is what it lacked when it was last looked at: at each open that can be mapped, when its size or its
 * content changes here, and (holes having been filled since, mappings having ended) when somebody is about to be refused memory. It
 * goes when a lease test says that nobody maps the file, and with the inode's record. It is private to the worker; the next one
 * looks at all files that may be mapped before it serves anything.
 *
 * Without slices nothing ever takes memory from anybody, and nothing is promised.
 */
struct spm_promise {
	uint32_t pages;      /* promised; 0: not in the ring */
	uint32_t behind;     /* pages of the file that were behind its end, when it was looked at */
	uint32_t next, prev; /* the ring of all that have some; entry 0 is its head */
};

struct spm_promises {
	atomic_bool on;
	pthread_mutex_t lock; /* guards what follows; taken under an inode's lock, before that of struct spm_slices */
	struct spm_promise *at; /* by index in the inode table */
	uint64_t bytes;         /* that @at maps; an entry that was never used costs no memory */
	uint32_t count;
	bool counting;          /* in set-up */
	_Atomic uint64_t swept_ns, sweep_ns; /* when spm_promise_sweep() was last at work, and for how long */
};

struct spm_fs;
struct spm_inode;

/* In the worker's set-up, when the inode table is there: what may be mapped now is promised. -ENOMEM; -errno of mmap(2). */
int spm_promise_init(struct spm_fs *fs) SPM_MUST_CHECK;
void spm_promise_destroy(struct spm_fs *fs);
/* The first slice was made: from now on there are promises. Without any lock. -ENOMEM: not of all that is open. */
int spm_promise_start(struct spm_fs *fs) SPM_MUST_CHECK;

/*
 * An inode may be mapped: its holes are promised. @fd is one of it, not O_PATH, or -1. -ENOSPC: they cannot be; with @anyway they are
 * as far as the slice has memory, and that is 0. -ESTALE. Safe with an inode's lock.
 */
int spm_promise_make(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, bool anyway) SPM_MUST_CHECK;
/* The content or size of an inode that may be mapped has been changed here. */
void spm_promise_changed(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd);
/* Nobody maps it any more. */
void spm_promise_drop(struct spm_fs *fs, uint64_t nodeid);

/* Takes back what is not needed any more; whether something was. Before somebody is refused memory, with whatever locks. */
bool spm_promise_sweep(struct spm_fs *fs);

#endif
