/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/quota.h"

#include <errno.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIB 1024u /* limits are counted in these, whatever a filesystem's blocks are */

/* By descriptor: the device is not in the region's namespace, and a path may lead elsewhere. */
static int call(int fd, unsigned int cmd, uint32_t project, void *arg)
{
	return syscall(SYS_quotactl_fd, fd, QCMD(cmd, PRJQUOTA), project, arg) ? -errno : 0;
}

bool spm_quota_enforced(int fd)
{
	struct fs_quota_statv st = { .qs_version = FS_QSTATV_VERSION1 };

	return !call(fd, Q_XGETQSTATV, 0, &st) && st.qs_flags & FS_QUOTA_PDQ_ENFD;
}

int spm_quota_get(int fd, uint32_t project, struct spm_quota *q)
{
	struct if_dqblk b;
	int rc;

	memset(&b, 0, sizeof(b));
	rc = call(fd, Q_GETQUOTA, project, &b);
	/* xfs makes a record for a number when it is first used */
	*q = (struct spm_quota){ .used = 0 };
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	q->used = b.dqb_curspace;
	q->limit = b.dqb_bhardlimit * KIB;
	q->inodes = b.dqb_curinodes;
	q->inode_limit = b.dqb_ihardlimit;
	return 0;
}

int spm_quota_set_bytes(int fd, uint32_t project, uint64_t bytes)
{
	struct if_dqblk b;

	memset(&b, 0, sizeof(b));
	b.dqb_bhardlimit = bytes / KIB;
	b.dqb_valid = QIF_BLIMITS;
	return call(fd, Q_SETQUOTA, project, &b);
}

int spm_quota_set_inodes(int fd, uint32_t project, uint64_t inodes)
{
	struct if_dqblk b;

	memset(&b, 0, sizeof(b));
	b.dqb_ihardlimit = inodes;
	b.dqb_valid = QIF_ILIMITS;
	return call(fd, Q_SETQUOTA, project, &b);
}

int spm_project_of(int fd, uint32_t *project)
{
	struct fsxattr a;

	memset(&a, 0, sizeof(a));
	*project = 0;
	if (ioctl(fd, FS_IOC_FSGETXATTR, &a))
		return -errno;
	*project = a.fsx_projid;
	return 0;
}

int spm_project_enter(int dir, uint32_t project)
{
	struct fsxattr a;

	memset(&a, 0, sizeof(a));
	if (ioctl(dir, FS_IOC_FSGETXATTR, &a))
		return -errno;
	a.fsx_projid = project;
	a.fsx_xflags = project ? a.fsx_xflags | FS_XFLAG_PROJINHERIT : a.fsx_xflags & ~(unsigned int)FS_XFLAG_PROJINHERIT;
	return ioctl(dir, FS_IOC_FSSETXATTR, &a) ? -errno : 0;
}

bool spm_project_is_free(int fd, uint32_t project)
{
	struct spm_quota q;

	return !spm_quota_get(fd, project, &q) && !q.used && !q.limit && !q.inodes && !q.inode_limit;
}
