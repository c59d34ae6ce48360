/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_CALLER_H
#define SPM_FS_CALLER_H

#include <stdint.h>
#include "core/util.h"

/*
 * What the kernel does not say of a request's caller, read from /proc: for the rare answers that tmpfs gives
 * differently to the privileged, never to allow anything. False where it cannot be found out.
 */

/* Whether the caller has a capability (CAP_*) in the first user namespace. */
bool spm_caller_has_cap(uint32_t pid, int cap);
/* Whether @gid is among its groups. Of an idmapped mount, where the caller may see another one, the answer may be wrong. */
bool spm_caller_in_group(uint32_t pid, uint32_t gid);
/* Whether that thread is being killed. */
bool spm_caller_is_killed(uint32_t pid);

#endif
