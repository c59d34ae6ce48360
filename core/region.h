/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_REGION_H
#define SPM_CORE_REGION_H

#include "core/slice.h"

/*
 * A region: a mount namespace of its own that holds nothing but /proc and the root-private filesystems on
 * the device. No process outside of it has a path to them, and a mount namespace made later on the host
 * does not get a copy that would keep the memory.
 */
#define SPM_REGION_DIR  "/region"
#define SPM_REGION_META "/region.source" /* what the region was made from: bytes and SOURCE, one line */

/* Moves the calling process (single-threaded) into a new, empty mount namespace. */
int spm_region_enter_new(struct spm_error *e) SPM_MUST_CHECK;
/* In the new namespace: makes the region with its root slice. @source is what the user typed. */
int spm_region_create(const char *source, uint64_t device_bytes, const struct spm_slice_opts *o,
		      struct spm_slice *root, struct spm_error *e) SPM_MUST_CHECK;
/* In the namespace of the kept region @name: finds it again, and the size of its device. -EBUSY: another mount
 * uses it; -EINVAL: it was made from another source. */
int spm_region_reopen(const char *source, const char *name, uint64_t *device_bytes, struct spm_slice *root, struct spm_error *e) SPM_MUST_CHECK;

#endif
