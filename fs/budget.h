/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_BUDGET_H
#define SPM_FS_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/slices.h"
#include "core/util.h"

/*
 * With swap: how much of the device the files take that are open directly or may still be mapped so. Nothing of them
 * can leave, so map=auto makes a file direct only while that leaves room to reclaim in. Each slice has a budget of its own:
 * its max, its pin.max, and no more than the others leave it with their min or with what they have pinned beyond.
 *
 * An estimate: what a file had, or was given, when it was last opened or truncated. It is private to the worker, and made
 * anew by the next one.
 */
struct spm_budget {
	uint32_t *pages; /* by index in the inode table; an entry is guarded by its inode's lock. NULL: no swap */
	uint64_t room;   /* bytes that @pages maps */
	_Atomic uint64_t total[SPM_SLICES_MAX]; /* pages */
	_Atomic uint64_t swept_ns; /* when those that are not mapped any more were last looked for */
};

struct spm_fs;
struct spm_inode;

/* -errno of mmap(2). */
int spm_budget_init(struct spm_fs *fs) SPM_MUST_CHECK;
/* After a takeover: what is open or mapped now. */
void spm_budget_rebuild(struct spm_fs *fs);
void spm_budget_destroy(struct spm_fs *fs);

/* With the inode's lock: an inode takes at least @bytes from now on; it takes nothing. */
void spm_budget_grow(struct spm_fs *fs, uint64_t nodeid, uint64_t bytes);
void spm_budget_drop(struct spm_fs *fs, uint64_t nodeid);

/* Whether an inode may take @bytes; with @all, of the whole limit, else of what is below the high watermark. Without
 * any lock or pin: it may test leases. */
bool spm_budget_fits(struct spm_fs *fs, uint64_t nodeid, uint64_t bytes, bool all);

#endif
