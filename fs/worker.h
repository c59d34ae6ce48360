/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_WORKER_H
#define SPM_FS_WORKER_H

#include "core/slots.h"
#include "fs/fs.h"

/*
 * The worker: the process that serves a mount. It is forked by the standby inside of the region's mount
 * namespace, with /dev/fuse open and the mount made.
 */
struct spm_worker_args {
	const struct spm_options *opts;
	struct spm_slice root; /* owned by the worker */
	int dev_fd;            /* likewise */
	int state_fd, buffers_fd; /* fs/desk.h */
	int inodes_fd;         /* owned by the worker */
	int swap_fd[SPM_SWAP_FILES]; /* owned by the worker; -1: unused */
	int pool_fd;           /* a pool's device, owned by the worker; -1: content is in the region */
	int ready_fd;          /* gets one struct spm_word, READY or FAILED; closed then */
	bool reopened;         /* the region is a kept one */
	struct spm_nohalt nohalt; /* owned by the worker */
};

/* Serves until the mount is gone. Returns the exit status of the process (fs/standby.h). */
int spm_worker_main(struct spm_worker_args *a);

/* Whether this program could go on with the mount in @state_fd: speaks its format, and comes to the same reply to
 * INIT. -EPROTO with the reason in @e. */
int spm_worker_rehearse(const struct spm_options *o, int state_fd, struct spm_error *e) SPM_MUST_CHECK;

/* A request before INIT is answered: keeps INIT's, for the workers to come. */
void spm_worker_keep_init(struct spm_fs *fs, const void *buf, size_t len);
/* INIT is answered: finds out what the kernel can do, and tells the keeper. */
void spm_worker_ready(struct spm_fs *fs);

/* From now on some file may carry user.spm.map; remembered with the region. -errno of setxattr(2). */
int spm_worker_note_map_xattr(struct spm_fs *fs) SPM_MUST_CHECK;

#endif
