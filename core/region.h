/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_REGION_H
#define SPM_CORE_REGION_H

#include <time.h>
#include "core/slice.h"

/*
 * A region: a mount namespace of its own that holds nothing but /proc and the root-private filesystems on
 * the device. No process outside of it has a path to them, and a mount namespace made later on the host
 * does not get a copy that would keep the memory.
 */
#define SPM_REGION_DIR  "/region"
#define SPM_REGION_META "/region.source" /* what it was made from: bytes and SOURCE, one line; then its mark */
/* With swap: the extent map (core/extmap.h), and the paths of the swap files, one a line. */
#define SPM_REGION_EXTENTS "/region.extents"
#define SPM_REGION_COUNTS  "/region.counts" /* of slices; see struct spm_swap_slice_counters */
#define SPM_REGION_SWAP    "/region.swap"
/* With a pool on a dax device: its state (core/pool.h). */
#define SPM_REGION_POOL    "/region.pool"

#define SPM_REGION_CLEAN "clean\n" /* the mark */

/* What the meta file says. */
struct spm_region {
	uint64_t bytes;   /* of the device */
	char source[480]; /* as the user typed it */
	bool clean;       /* left in order; false while it is in use */
	time_t since;     /* when that was set */
};

/* Moves the calling process (single-threaded) into a new, empty mount namespace. */
int spm_region_enter_new(struct spm_error *e) SPM_MUST_CHECK;

/*
 * In the region's namespace. The meta file is returned open and locked: the region is in use until the last
 * descriptor of that open file is closed.
 */
/* Makes the region with its root slice; returns the meta file. @source is what the user typed. */
int spm_region_create(const char *source, uint64_t device_bytes, const struct spm_slice_opts *o,
		      struct spm_slice *root, struct spm_error *e) SPM_MUST_CHECK;
/* Returns the meta file of a region that is there already. -EBUSY: another mount uses it. */
int spm_region_lock(const char *name, struct spm_error *e) SPM_MUST_CHECK;
/* -EPROTO: not a meta file. */
int spm_region_read(int meta, struct spm_region *r) SPM_MUST_CHECK;
int spm_region_mark(int meta, bool clean) SPM_MUST_CHECK;
/* Locks what stands for a region; waits a little, since a mount that has just ended may take a moment to let go. -EBUSY. */
int spm_region_flock(int fd) SPM_MUST_CHECK;
/* Opens the root slice. -EINVAL: it was made from another source. */
int spm_region_open(const char *source, const char *name, const struct spm_region *r, struct spm_slice *root,
		    struct spm_error *e) SPM_MUST_CHECK;

/*
 * In its namespace, at its end: unmounts all of its filesystems, so that their memory is free when this returns. -EBUSY:
 * somebody has a file of it open or mapped; with @wait after some seconds.
 */
int spm_region_unmount(bool wait) SPM_MUST_CHECK;

#endif
