/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_CONTROL_SWAP_H
#define SPM_FS_CONTROL_SWAP_H

#include "fs/fs.h"

/*
 * What is written to the control files that are about swap. All of them -EOPNOTSUPP without swap, -EINVAL for what
 * they do not understand. @req: its client may give up waiting (-EINTR, -ECANCELED).
 */

/* swap.max of the mount; UINT64_MAX: no limit. */
int spm_control_swap_max(struct spm_fs *fs, uint64_t limit) SPM_MUST_CHECK;
/* reclaim: a size. -EAGAIN: it came to less. */
int spm_control_reclaim(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value) SPM_MUST_CHECK;
/*
 * evict, load: "INO FROM LEN", the inode's number as stat(2) shows it, and a part of the file in bytes. -ENOENT: no
 * file that the kernel knows at the moment. -EBUSY: open directly or mapped; -ENOSPC: no room there, or here; -EROFS: nothing
 * is loaded during a drain; -EIO.
 */
int spm_control_evict(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value) SPM_MUST_CHECK;
int spm_control_load(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value) SPM_MUST_CHECK;
/* compact: "1", one pass. -ECANCELED: its client has given up waiting. Nothing that is written to the file can end it: a
 * second write waits in the client's kernel until the first is answered. */
int spm_control_compact(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value) SPM_MUST_CHECK;

/* Makes the slice's use fit into @bytes, as far as it goes. */
void spm_control_shrink_to(struct spm_fs *fs, uint64_t bytes);

#endif
