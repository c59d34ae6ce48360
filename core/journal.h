/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_JOURNAL_H
#define SPM_CORE_JOURNAL_H

#include "core/util.h"

/* Whether what is written to @fd goes to systemd's journal, line by line; a line may have its level in front,
 * "<6>", then: sd-daemon(3). The keeper uses this too, so it needs nothing but libc. */
bool spm_journal_reads(int fd);

#endif
