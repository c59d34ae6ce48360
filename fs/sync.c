/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsync(2): only where files outlive the machine's being switched off. */
#include "fs/control.h"
#include "fs/fault.h"
#include "fs/ops.h"
#include "fs/session.h"

#include <errno.h>

static int sync_inode(struct spm_fs *fs, uint64_t nodeid, bool data)
{
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	int rc = rec ? spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &fd) : SPM_STALE;

	if (rc)
		return rc;
	spm_session_blocking();
	rc = data ? fdatasync(fd.fd) : fsync(fd.fd);
	return rc ? -errno : 0;
}

static void sync_or_never(fuse_req_t req, fuse_ino_t ino, bool data)
{
	struct spm_fs *fs = spm_fs_of(req);
	int rc = 0;

	if (!fs->root.fixed)
		rc = -ENOSYS; /* memory has nothing behind it; the kernel does not ask again */
	else if (!spm_control_is(ino))
		rc = sync_inode(fs, ino, data);
	spm_fault("effect");
	spm_reply_rc(req, rc);
}

void spm_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)fi;
	sync_or_never(req, ino, datasync);
}

void spm_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)fi;
	sync_or_never(req, ino, datasync);
}
