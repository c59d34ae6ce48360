/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct walk {
	spm_walk_fn *fn;
	void *arg;
	const atomic_bool *stop;
	/* directories to look at: handles, so that it costs no descriptors however deep they lie */
	struct spm_handle *dirs;
	size_t count, room;
	const struct spm_slice *slice; /* in which it is */
};

static bool is_stopped(const struct walk *w)
{
	return w->stop && atomic_load(w->stop);
}

static int push(struct walk *w, const struct spm_handle *h)
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

static int look_at(struct walk *w, int dirfd, const struct dirent *d)
{
	struct spm_handle h;
	struct stat st;

	int rc;

	if ((d->d_type != DT_REG && d->d_type != DT_DIR) || !strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
		return 0;
	rc = fstatat(dirfd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) ? -errno : spm_handle_at(dirfd, d->d_name, &h);
	if (rc)
		return rc == -ENOENT ? 0 : rc; /* gone meanwhile */
	return S_ISDIR(st.st_mode) ? push(w, &h) : S_ISREG(st.st_mode) ? w->fn(w->arg, w->slice, &st, &h) : 0;
}

static int walk_dir(struct walk *w, const struct spm_handle *h)
{
	int fd = spm_handle_open(w->slice->mount_fd, h, O_RDONLY | O_DIRECTORY | O_NOATIME), rc = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (fd < 0)
		return fd == -ESTALE || fd == -ENOENT ? 0 : fd; /* removed meanwhile */
	if (!dir) {
		spm_cleanup_close(&fd);
		return -ENOMEM;
	}
	while (!rc && !is_stopped(w) && (d = readdir(dir)))
		rc = look_at(w, fd, d);
	closedir(dir);
	return rc;
}

static int walk_below(struct walk *w, int top_fd)
{
	struct spm_handle h;
	int rc = spm_handle_at(top_fd, "", &h);

	if (!rc)
		rc = push(w, &h);
	while (!rc && w->count && !is_stopped(w)) {
		h = w->dirs[--w->count];
		rc = walk_dir(w, &h);
	}
	return rc;
}

int spm_walk(struct spm_fs *fs, bool orphans, spm_walk_fn *fn, void *arg, const atomic_bool *stop)
{
	struct walk w = { .fn = fn, .arg = arg, .stop = stop };
	int rc = 0;

	for (uint32_t id = 0; id < SPM_SLICES_MAX && !rc && !is_stopped(&w); id++) {
		w.slice = spm_slices_get(&fs->slices, (uint16_t)id);
		if (w.slice)
			rc = walk_below(&w, w.slice->data_fd);
		if (w.slice && !rc && orphans)
			rc = walk_below(&w, w.slice->orphans_fd);
	}
	free(w.dirs);
	return rc;
}
