/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/swap-walk.h"
#include "fs/pool.h"
#include "fs/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct spm_swap_walk {
	struct spm_fs *fs;
	pthread_t thread;
	atomic_bool stop;
};

static int give_head(void *arg, const struct spm_slice *s, const struct stat *st, const struct spm_handle *h)
{
	struct spm_fs *fs = arg;
	const struct spm_pool_file f = spm_pooled_file(s->id, st->st_ino);
	bool any = fs->pool ? spm_pool_file_bytes(fs->pool, &f) > 0 : st->st_blocks > 0;
	int fd;

	if (!any || spm_swap_find(fs->swap, s->id, st->st_ino))
		return 0;
	/* a mapping from before this mount may live: not fresh */
	if (!spm_swap_file(fs->swap, s->id, st->st_ino, h, false))
		return -ENOMEM;
	/* whoever removed the file before it had a head could not take that away */
	fd = spm_handle_open(s->mount_fd, h, O_PATH);
	if (fd == -ESTALE)
		spm_swap_gone(fs->swap, s->id, st->st_ino);
	spm_cleanup_close(&fd);
	return 0;
}

static void *walk(void *arg)
{
	struct spm_swap_walk *w = arg;
	int rc = spm_walk(w->fs, false, give_head, w->fs, &w->stop);

	if (rc)
		spm_log(SPM_LOG_WARNING, "%s: not all files of the kept region can be moved to swap before they are used: %s",
			w->fs->opts->mountpoint, strerror(-rc));
	return NULL;
}

int spm_swap_walk_start(struct spm_fs *fs)
{
	struct spm_swap_walk *w;
	int rc;

	if (!fs->reopened)
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->fs = fs;
	rc = -pthread_create(&w->thread, NULL, walk, w);
	if (rc)
		free(w);
	else
		fs->walk = w;
	return rc;
}

void spm_swap_walk_stop(struct spm_fs *fs)
{
	struct spm_swap_walk *w = fs->walk;

	if (!w)
		return;
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	free(w);
	fs->walk = NULL;
}
