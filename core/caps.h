/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_CAPS_H
#define SPM_CORE_CAPS_H

#include <stdint.h>
#include "core/util.h"

/* Sets of capabilities are 64-bit masks, 1 << CAP_x. All of this concerns the calling thread alone;
 * threads that it makes afterwards inherit. */
#define SPM_CAP(cap) (UINT64_C(1) << (cap))

/* What this thread may use at most (the permitted set); -errno of capget(2). */
int spm_caps_permitted(uint64_t *permitted) SPM_MUST_CHECK;
/* Sets effective and permitted; clears the inheritable and ambient sets. */
int spm_caps_set(uint64_t effective, uint64_t permitted) SPM_MUST_CHECK;
/* Limits the bounding set to @keep, and stops changes of fsuid from touching the sets
 * (SECBIT_NO_SETUID_FIXUP, locked). Needs CAP_SETPCAP. */
int spm_caps_confine(uint64_t keep) SPM_MUST_CHECK;

#endif
