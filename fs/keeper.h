/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_KEEPER_H
#define SPM_FS_KEEPER_H

#include "fs/options.h"

/*
 * The keeper: the small parent process of a mount. It builds the region in a mount namespace of its own,
 * makes the FUSE mount on the host, forks the worker, and when the mount ends (umount, SIGTERM, SIGINT, a
 * dead worker) cleans up: every mount of it in every namespace, the kept region's pin, the cgroup.
 *
 * Once, before it settles, @report is called: with an empty text when the mount is usable, with a note if it
 * is usable with a restriction that the user should know, or with the reason why it failed.
 * Returns the exit status of the process: 0, or 32 as mount(8) has it. @o->source has been checked, or
 * (spm_keeper_kept) belongs to a kept region, which knows its size.
 */
enum spm_report {
	SPM_REPORT_OK,
	SPM_REPORT_FAILED,
	SPM_REPORT_CHILD, /* in the worker: lets go of whatever waits for the report */
};
typedef void (*spm_report_fn)(enum spm_report r, const char *text, void *arg);

/* Whether a region of this name was kept: then its memory is in use already, and need not be free. */
bool spm_keeper_kept(const char *name);

#define SPM_EXIT_USAGE  1
#define SPM_EXIT_FAILED 32

int spm_keeper_main(struct spm_options *o, spm_report_fn report, void *arg);

#endif
