/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SETUP_H
#define SPM_FS_SETUP_H

#include "fs/options.h"

/*
 * Makes a mount: the region in a mount namespace of its own, the shared memory, the FUSE mount on the host. Then
 * forks the first standby, and goes on as the keeper (another program, fs/standby.h says who does what), which
 * reports to the launcher when the mount is usable. Returns only when something failed before that, with the
 * reason in @e and everything taken back; the exit status is SPM_EXIT_FAILED then.
 *
 * @o->source has been checked, or (spm_setup_left_over) belongs to a region that is there already and knows its size.
 */
#define SPM_EXIT_USAGE  1
#define SPM_EXIT_FAILED 32

struct spm_report_fds {
	int report; /* what the launcher reads: '+' and a note, or '-' and a reason; -1: in the foreground */
	int null;   /* /dev/null, to leave the terminal with */
};

int spm_setup_run(struct spm_options *o, const struct spm_report_fds *report, struct spm_error *e) SPM_MUST_CHECK;

/* Whether a region of this name is there already: then its memory is in use already, and need not be free. */
bool spm_setup_left_over(const char *name);

#endif
