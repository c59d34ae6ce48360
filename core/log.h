/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_LOG_H
#define SPM_CORE_LOG_H

#include <stddef.h>
#include "core/util.h"

enum spm_log_level { SPM_LOG_ERR = 3, SPM_LOG_WARNING = 4, SPM_LOG_INFO = 6, SPM_LOG_DEBUG = 7 };

/*
 * The log goes to stderr, which may be systemd's journal, until spm_log_to_syslog() is called. One event is
 * one line, "MOUNTPOINT: EVENT: how", with the EVENTs start, recover, crash, takeover, upgrade and end.
 * SPMFS_LOG=debug|info|warning|err in the environment sets the lowest level that is shown (default: info).
 * The sink is the one piece of state outside the context struct: syslog(3) keeps its own as well.
 */
void spm_log_init(void);
void spm_log_to_syslog(const char *ident);
void spm_log(enum spm_log_level level, const char *fmt, ...) SPM_PRINTF(2, 3);

/* A reason for the user: set once, where the cause is known, shown once by the program. */
struct spm_error {
	char text[512];
};

/* Records the reason and returns @rc, so that `return spm_fail(e, -EINVAL, "...")` reads as one step.
 * A reason that is there already is kept: it was closer to the cause. */
int spm_fail(struct spm_error *e, int rc, const char *fmt, ...) SPM_PRINTF(3, 4);

#endif
