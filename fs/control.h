/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_CONTROL_H
#define SPM_FS_CONTROL_H

#include "fs/fs.h"

/*
 * The control files, MOUNT/.spm/ and MOUNT/SLICE/.spm/: made up by the server, reachable by name, in no listing of the mount.
 * Their node ids have bit 62 set, which no id of the inode table has (SPM_ITABLE_SEQ_MAX), then the
 * slice, then the number of the file. The first read of an open
 * descriptor makes the text; who may read or write is their mode, as for any file.
 */
#define SPM_CONTROL_DIR ".spm"
#define SPM_CONTROL_BIT (UINT64_C(1) << 62)

static inline bool spm_control_is(uint64_t nodeid)
{
	return nodeid & SPM_CONTROL_BIT;
}

/* Whether @name in @parent belongs to the control files, so that nobody may make, remove or rename it. */
bool spm_control_names(struct spm_fs *fs, uint64_t parent, const char *name);

/* Whose directory a control file is in: 0: the mount's. */
uint16_t spm_control_slice(uint64_t nodeid);

void spm_control_lookup(fuse_req_t req, uint64_t parent, const char *name);
void spm_control_getattr(fuse_req_t req, uint64_t nodeid);
void spm_control_setattr(fuse_req_t req, uint64_t nodeid, int to_set);
void spm_control_open(fuse_req_t req, uint64_t nodeid, struct fuse_file_info *fi);
void spm_control_release(struct spm_fs *fs, uint64_t handle);
void spm_control_read(fuse_req_t req, uint64_t nodeid, uint64_t handle, size_t size, off_t off);
void spm_control_write(fuse_req_t req, uint64_t nodeid, const char *buf, size_t size);
void spm_control_readdir(fuse_req_t req, uint64_t nodeid, size_t size, off_t off, bool plus);

#endif
