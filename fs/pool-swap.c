/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Swap of files whose content is in a pool: what core asks for, where that is not as with files of a tmpfs (fs/swap.c). */
#include "fs/pool.h"
#include "fs/slices.h"
#include "fs/swap.h"

#include <errno.h>
#include <fcntl.h>

/* For its size: a move does nothing to the region's file. Of what is fixed (spm_content_fix()) there is none for writing. */
static int op_open(void *ctx, uint16_t slice, const struct spm_handle *h)
{
	struct spm_fs *fs = ctx;
	struct spm_slice *s = spm_slices_get(&fs->slices, slice);

	return s ? spm_handle_open(s->mount_fd, h, O_RDWR | O_NOATIME | O_NONBLOCK) : -ESTALE;
}

/* The kernel maps no character device through FUSE: nobody can have it open directly. */
static int op_release(void *ctx, uint32_t file, uint16_t slice, uint64_t ino, const struct spm_handle *h)
{
	struct spm_fs *fs = ctx;

	(void)slice;
	(void)ino;
	(void)h;
	spm_swap_idle(fs->swap, file);
	return 0;
}

void spm_pooled_swap_ops(struct spm_fs *fs, struct spm_swap_ops *ops)
{
	ops->pool = fs->pool;
	ops->open = op_open;
	ops->release = op_release;
}
