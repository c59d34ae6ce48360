/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/swap-walk.h"
#include "fs/pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct spm_swap_walk {
	struct spm_fs *fs;
	pthread_t thread;
	atomic_bool stop;
	/* directories to look at: handles, so that it costs no descriptors however deep they lie */
	struct spm_handle *dirs;
	size_t count, room;
	const struct spm_slice *slice; /* in which it is */
};

static int push(struct spm_swap_walk *w, const struct spm_handle *h)
{
	if (w->count == w->room) {
		size_t room = w->room ? w->room * 2 : 256;
		struct spm_handle *dirs = realloc(w->dirs, room * sizeof(*dirs));

		if (!dirs)
			return -ENOMEM;
		w->dirs = dirs;
		w->room = room;
	}
	w->dirs[w->count++] = *h;
	return 0;
}

static int give_head(struct spm_fs *fs, const struct spm_slice *s, const struct stat *st, const struct spm_handle *h)
{
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

static int look_at(struct spm_swap_walk *w, int dirfd, const struct dirent *d)
{
	struct spm_handle h;
	struct stat st;

	if ((d->d_type != DT_REG && d->d_type != DT_DIR) || !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") ||
	    fstatat(dirfd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) || spm_handle_at(dirfd, d->d_name, &h))
		return 0; /* gone meanwhile */
	return S_ISDIR(st.st_mode) ? push(w, &h) : S_ISREG(st.st_mode) ? give_head(w->fs, w->slice, &st, &h) : 0;
}

static int walk_dir(struct spm_swap_walk *w, const struct spm_handle *h)
{
	int fd = spm_handle_open(w->slice->mount_fd, h, O_RDONLY | O_DIRECTORY | O_NOATIME), rc = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir) { /* removed meanwhile */
		spm_cleanup_close(&fd);
		return 0;
	}
	while (!rc && !atomic_load(&w->stop) && (d = readdir(dir)))
		rc = look_at(w, fd, d);
	closedir(dir);
	return rc;
}

static int walk_slice(struct spm_swap_walk *w)
{
	struct spm_handle h;
	int rc = spm_handle_at(w->slice->data_fd, "", &h);

	if (!rc)
		rc = push(w, &h);
	while (!rc && w->count && !atomic_load(&w->stop)) {
		h = w->dirs[--w->count];
		rc = walk_dir(w, &h);
	}
	return rc;
}

static void *walk(void *arg)
{
	struct spm_swap_walk *w = arg;
	int rc = 0;

	for (uint32_t id = 0; id < SPM_SLICES_MAX && !rc && !atomic_load(&w->stop); id++) {
		w->slice = spm_slices_get(&w->fs->slices, (uint16_t)id);
		if (w->slice)
			rc = walk_slice(w);
	}
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
	free(w->dirs);
	free(w);
	fs->walk = NULL;
}
