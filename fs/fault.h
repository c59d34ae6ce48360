/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_FAULT_H
#define SPM_FS_FAULT_H

#include <stdbool.h>
#include <stdio.h>
#include "fs/state.h"

/*
 * Fault points: places at which a test can have the worker die, hang or be slow. Only with SPMFS_FAULTS=1 in the
 * environment of mount(8); else each costs one test of a flag. What is armed is in the shared state, so that a
 * point acts once and not in every worker after it.
 *
 * A point is "OP:STEP", OP being the request in hand (its FUSE name in lower case). Every request has the steps
 * taken (just read), request (taken up), reply (about to be answered), replied; those that change something, effect; a
 * few have more: those that may be slow, unled (its thread reads no more, and no other one has begun to). A thread that
 * hangs or is slow says so in the log.
 * Moves of extents have points of their own, whichever thread makes them: "swapout:recorded" and so on (core/swap.h), and
 * "swapio:read" and "swapio:write", for which there are the actions eio and enospc.
 */
enum spm_fault_action { SPM_FAULT_NONE, SPM_FAULT_KILL, SPM_FAULT_SEGV, SPM_FAULT_ABORT, SPM_FAULT_HANG, SPM_FAULT_SLOW,
	SPM_FAULT_EIO, SPM_FAULT_ENOSPC /* of I/O to swap files: it ends with that */ };

#define SPM_FAULT_FILE "fault"

struct spm_fs;

/* A thread that serves no request has no points. */
bool spm_faults_on(void);
void spm_fault_hit(const char *step);
static inline void spm_fault(const char *step)
{
	if (__builtin_expect(spm_faults_on(), 0))
		spm_fault_hit(step);
}

/* A point by its whole name, in any thread. 0, or the error that I/O is to end with. */
int spm_fault_at(struct spm_state *s, const char *at);

/*
 * "mkdir:effect kill": the next pass; "... kill 3": the third from now; "... segv 1 2": the next two. "any:request" is
 * the next request of whatever kind. "clear" disarms all. -EINVAL; -ENOSPC: SPM_FAULTS are armed.
 */
int spm_fault_set(struct spm_state *s, const char *text);
int spm_fault_show(struct spm_fs *fs, uint16_t slice, FILE *out);
int spm_fault_store(struct spm_fs *fs, uint16_t slice, const char *value);

#endif
