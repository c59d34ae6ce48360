/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SETUP_POOL_H
#define SPM_FS_SETUP_POOL_H

#include "core/devdax.h"
#include "core/slices.h"
#include "fs/handover.h"
#include "fs/options.h"
#include "fs/setup-swap.h"
#include "fs/state.h"

/*
 * The part of a mount's set-up (fs/setup.c) that is about a pool on a dax device: the device on the host, and the pool's state file
 * in the region. A region that has one needs its device, and nobody must have used that since.
 */
struct spm_setup_pool {
	struct spm_options *o;
	struct spm_error *err;
	struct spm_devdax dev;
	struct spm_pool *pool; /* attached, for as long as slices are made in set-up */
	int state_fd;
};

static inline bool spm_setup_has_pool(const struct spm_options *o)
{
	return o->source.kind == SPM_SOURCE_DAX && o->source.dax_mode == SPM_DAX_DEVDAX;
}

/* What the region's own filesystem may have: names. */
uint64_t spm_setup_pool_names(const struct spm_options *o);
/* In the host's namespace: opens the device, if SOURCE is one. */
int spm_setup_pool_device(struct spm_setup_pool *p) SPM_MUST_CHECK;
/* In the region's: makes an empty pool. */
int spm_setup_pool_make(struct spm_setup_pool *p) SPM_MUST_CHECK;
/* In the namespace of a region that is there already, and back in it in the end. Extents are as large as they were. */
int spm_setup_pool_reopen(struct spm_setup_pool *p, int host_ns, int region_ns) SPM_MUST_CHECK;
/* So that slices can be made: their limits are about the pool's memory. Does nothing if there is no pool. */
int spm_setup_pool_for_slices(struct spm_setup_pool *p, struct spm_slices *slices) SPM_MUST_CHECK;
void spm_setup_pool_done(struct spm_setup_pool *p, struct spm_slices *slices);
/* Removes the orphans of all slices, and what the pool and swap have of them; looks whether size= is enough for the rest. */
int spm_setup_pool_orphans(struct spm_setup_pool *p, struct spm_setup_swap *swap, struct spm_slices *slices) SPM_MUST_CHECK;
/* The descriptor, which is the caller's from then on, and what workers must know of the device. */
void spm_setup_pool_hand_over(struct spm_setup_pool *p, int fd[static SPM_FDS], struct spm_mount *m);

#endif
