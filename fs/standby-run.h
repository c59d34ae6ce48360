/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_STANDBY_RUN_H
#define SPM_FS_STANDBY_RUN_H

#include "core/slice.h"
#include "fs/handover.h"
#include "fs/nohalt.h"
#include "fs/options.h"
#include "fs/state.h"

/* The standby's side of fs/standby.h. */
struct spm_standby {
	const struct spm_options *opts;
	const char *program; /* absolute path of spmfs, for the keeper to start another standby with */
	int fd[SPM_FDS];     /* SPM_FD_TALK is its own end */
	struct spm_state *state;
	struct spm_nohalt nohalt;
	struct spm_mount mount; /* set by spm_standby_run() */
	pid_t worker;
	int worker_fd; /* pidfd */
	int worker_status; /* of the last one */
	pid_t spare;
	int spare_fd; /* pidfd */
	uint64_t spare_since_ns;
	uint64_t spare_next_ns; /* no other one before */
};

/* In the region's namespace: serves the keeper until the mount ends. Returns the exit status of the process. */
int spm_standby_run(struct spm_standby *s);
/* Goes on as the keeper, which gets @fd. Returns only if that fails, -errno. */
int spm_standby_exec_keeper(const struct spm_standby *s, const int fd[static SPM_FDS]);

/* What a keeper starts when its standby has died, or for an upgrade: the first argument begins with this. */
#define SPM_STANDBY_ARG "--standby="
/* The arguments: SPM_STANDBY_ARG and descriptors, "-" and flags (f, s), SOURCE, MOUNTPOINT, LIST. Nothing is
 * looked up by path: the mount point's server may be dead. Returns the exit status. */
int spm_standby_main(int argc, char **argv);

#endif
