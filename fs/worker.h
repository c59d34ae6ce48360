/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_WORKER_H
#define SPM_FS_WORKER_H

#include "fs/fs.h"

/*
 * The worker: the process that serves a mount. It is forked by the keeper inside of the region's mount
 * namespace, with /dev/fuse open and the mount made.
 */
struct spm_worker_args {
	const struct spm_options *opts;
	struct spm_slice root; /* owned by the worker */
	int dev_fd;            /* likewise */
	int ready_fd;          /* gets "ok", or the reason why not; closed then */
	pid_t keeper_pid;
	bool reopened;         /* the region is a kept one */
	struct spm_nohalt nohalt; /* owned by the worker */
};

/* Serves until the mount is gone. Returns the exit status of the process. */
int spm_worker_main(struct spm_worker_args *a);

/* INIT is answered: finds out what the kernel can do, and tells the keeper. */
void spm_worker_ready(struct spm_fs *fs);

/* From now on some file may carry user.spm.map; remembered with the region. -errno of setxattr(2). */
int spm_worker_note_map_xattr(struct spm_fs *fs) SPM_MUST_CHECK;

#endif
