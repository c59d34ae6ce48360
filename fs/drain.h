/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_DRAIN_H
#define SPM_FS_DRAIN_H

#include "fs/fs.h"

/*
 * The mount's device is to be taken away: nothing new is taken (-EROFS: opens for writing, new names, growth), whatever is
 * opened for reading becomes a mirror, and everything that can leaves for swap. Reads, removals, mappings and writes in place
 * by who has a file open go on. It is drained when nothing of any file is on the device, and no file is open or mapped directly.
 *
 * It is said in the shared state, so it outlives workers, but not the mount.
 */
enum spm_drain { SPM_DRAIN_OFF, SPM_DRAIN_ON, SPM_DRAIN_DONE };

static inline bool spm_draining(const struct spm_fs *fs)
{
	return __builtin_expect(atomic_load_explicit(&fs->desks.state->draining, memory_order_relaxed), 0);
}

/* Whether the request in hand must not make anything new. One that a worker has begun comes to its end. */
bool spm_drain_refuses(const struct spm_fs *fs);
/* The same for one that makes @fd's file reach to @end: 0, -EROFS, or -errno. */
int spm_drain_growth(const struct spm_fs *fs, int fd, uint64_t end) SPM_MUST_CHECK;

enum spm_drain spm_drain_state(struct spm_fs *fs);
const char *spm_drain_name(enum spm_drain d);

/* The control file: what is left; and "1": begin, and do so for a moment (-EAGAIN: there is more to do, -ENOSPC, -EDQUOT,
 * -EIO: not everything has a place in swap files); "more": go on, or -ECANCELED; "0": service is as it was. */
int spm_drain_show(struct spm_fs *fs, uint16_t slice, FILE *out) SPM_MUST_CHECK;
int spm_drain_write(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value) SPM_MUST_CHECK;

#endif
