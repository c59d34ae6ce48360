/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/sampler.h"
#include "core/placement.h"
#include "fs/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define ROUND_SECONDS 30
#define STEP_PAUSE_NS 20000000 /* after each step of a large file: at most about 3 GiB a second */
#define DEPTH_MAX     64       /* deeper files are not sampled: a descriptor is held per level */

struct walk {
	struct spm_fs *fs;
	const struct spm_slice *slice;
	uint64_t foreign;
};

/* False: the sampler is to stop. */
static bool nap(struct spm_fs *fs, long ns, time_t seconds)
{
	struct timespec until;
	bool go_on;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds + (until.tv_nsec + ns) / 1000000000;
	until.tv_nsec = (until.tv_nsec + ns) % 1000000000;
	pthread_mutex_lock(&fs->sampler.lock);
	while (!fs->sampler.stop && !pthread_cond_timedwait(&fs->sampler.wake, &fs->sampler.lock, &until))
		;
	go_on = !fs->sampler.stop;
	pthread_mutex_unlock(&fs->sampler.lock);
	return go_on;
}

/* One step of one file. The inode's lock keeps lease tests from taking the mapping here for a client's. */
static int check_step(struct walk *w, int dirfd, const struct dirent *d, uint64_t *at, uint64_t *size)
{
	struct spm_fs *fs = w->fs;
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	spm_auto_close int fd = -1;
	pthread_mutex_t *lock = NULL;
	uint64_t nodeid;
	struct stat st;
	uint32_t file = fs->swap ? spm_swap_find(fs->swap, w->slice->id, d->d_ino) : 0;
	int rc;

	/* looking at a page that has just left would make another one there */
	if (file && spm_swap_pin(fs->swap, file, 0, UINT64_MAX, SPM_PIN_FILE, &pin))
		return -EAGAIN;
	if (spm_itable_find(&fs->itable, w->slice->id, d->d_ino, &nodeid))
		lock = spm_lock_inode(fs, nodeid);
	fd = openat(dirfd, d->d_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		rc = -ENOENT;
	} else {
		*size = (uint64_t)st.st_size;
		rc = spm_placement_check(fd, *size, w->slice->bind, at, &w->foreign);
	}
	spm_cleanup_close(&fd);
	fd = -1;
	if (lock)
		pthread_mutex_unlock(lock);
	return rc;
}

static bool check_file(struct walk *w, int dirfd, const struct dirent *d)
{
	uint64_t at = 0, size = 0;

	do {
		if (check_step(w, dirfd, d, &at, &size))
			break; /* removed meanwhile, or not to be opened: the next round sees */
		if (at < size && !nap(w->fs, STEP_PAUSE_NS, 0))
			return false;
	} while (at < size);
	return true;
}

static bool walk_dir(struct walk *w, int fd, int depth)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	bool go_on = true;

	if (!dir) {
		close(fd);
		return true;
	}
	while (go_on && (d = readdir(dir))) {
		int sub;

		if (d->d_type == DT_REG)
			go_on = check_file(w, fd, d);
		if (d->d_type != DT_DIR || !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || depth == DEPTH_MAX)
			continue;
		sub = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
		if (sub >= 0)
			go_on = walk_dir(w, sub, depth + 1);
	}
	closedir(dir);
	return go_on;
}

static bool walk_all(struct walk *w)
{
	for (uint32_t id = 0; id < SPM_SLICES_MAX; id++) {
		int top;

		/* (of a mem: source a slice may have nodes of its own) */
		w->slice = spm_slices_get(&w->fs->slices, (uint16_t)id);
		top = w->slice && w->slice->bind ? openat(w->slice->mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
		if (top >= 0 && !walk_dir(w, top, 0))
			return false;
	}
	return true;
}

static void *sample(void *arg)
{
	struct spm_fs *fs = arg;
	int rc = spm_thread_confine();

	if (rc) {
		spm_log(SPM_LOG_ERR, "the sampler cannot drop its rights: %s", strerror(-rc));
		return NULL;
	}
	do {
		struct walk w = { .fs = fs };

		if (walk_all(&w))
			atomic_store(&fs->foreign_pages, (unsigned int)w.foreign);
	} while (nap(fs, 0, ROUND_SECONDS));
	return NULL;
}

int spm_sampler_start(struct spm_fs *fs)
{
	pthread_mutex_init(&fs->sampler.lock, NULL);
	pthread_cond_init(&fs->sampler.wake, NULL);
	if (fs->root.fixed || fs->pool)
		return 0;
	fs->sampler.running = true;
	return -pthread_create(&fs->sampler.thread, NULL, sample, fs);
}

void spm_sampler_stop(struct spm_fs *fs)
{
	if (!fs->sampler.running)
		return;
	pthread_mutex_lock(&fs->sampler.lock);
	fs->sampler.stop = true;
	pthread_cond_signal(&fs->sampler.wake);
	pthread_mutex_unlock(&fs->sampler.lock);
	pthread_join(fs->sampler.thread, NULL);
}
