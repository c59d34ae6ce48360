/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SETUP_CLAIM_H
#define SPM_FS_SETUP_CLAIM_H

#include "core/cgroup.h"
#include "core/claim.h"
#include "fs/options.h"

/* The part of a mount's set-up (fs/setup.c) that is about isolate=claim. All in the region's namespace. */

/* @whole: the size was not given, so what the kernel cannot do without stays free. -EINVAL: it is too small for a claim. */
int spm_setup_claim_fit(struct spm_options *o, bool whole, struct spm_error *e) SPM_MUST_CHECK;
/* Makes the reserve of a new region, and claims all of the device; @c is left open. -ENOMEM: not all of it can be had, and nothing
 * is held. */
int spm_setup_claim_make(const struct spm_options *o, const struct spm_slice_opts *so, const struct spm_cgroup *cgroup,
			 struct spm_claim *c, struct spm_error *e) SPM_MUST_CHECK;
/* Of a region that is there: 1: it has a reserve, which is open in @c; 0: none. -EINVAL: the option says otherwise. */
int spm_setup_claim_reopen(const struct spm_options *o, struct spm_claim *c, struct spm_error *e) SPM_MUST_CHECK;

#endif
