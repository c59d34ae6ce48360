/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/claim.h"
#include "core/commit.h"
#include "core/lease.h"
#include "core/size.h"
#include "fs/session.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define ROUND_SECONDS 1
#define TOLD_PART     1000 /* of the device: when that is in others' hands, it is told */
#define COMMITS       256u /* others take what it was given meanwhile */

int spm_claim_setup(struct spm_fs *fs)
{
	int rc;

	fs->claim.c = (struct spm_claim){ .device_bytes = fs->opts->source.bytes, .nodes = fs->root.bind };
	rc = spm_claim_open(&fs->claim.c);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	fs->slices.claim = &fs->claim.c;
	/* what it was given is there, however little the others have left */
	if (fs->root.budget)
		fs->root.budget->last = true;
	fs->served_writes = true;
	return 0;
}

void spm_claim_settle_now(struct spm_fs *fs, uint16_t id)
{
	atomic_store(&fs->claim.missing, spm_slices_reclaim(&fs->slices, id));
}

static int commit_one(struct spm_fs *fs, struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	int rc;

	/* first, or the kernel would look elsewhere for a page that it may not use in the end */
	if (!spm_pages_in(fd, from, to))
		(void)!spm_slices_grow(&fs->slices, s->id, to - from);
	rc = spm_commit_range(s, fd, from, to);
	for (unsigned int i = 0; rc == -ENOSPC && i < COMMITS && !spm_slices_grow(&fs->slices, s->id, to - from); i++)
		rc = spm_commit_range(s, fd, from, to);
	return rc;
}

int spm_claim_commit(struct spm_fs *fs, struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	struct spm_slice_use u;
	struct stat st;
	int rc = spm_slices_use(&fs->slices, s->id, &u);

	if (!rc && fstat(fd, &st))
		rc = -errno;
	/* what cannot fit, whatever of it is there, is refused before it has taken everything */
	if (!rc && to - from > (u.max > u.used ? u.max - u.used : 0) + (uint64_t)st.st_blocks * 512)
		rc = -ENOSPC;
	for (uint64_t at = from; at < to && !rc;) {
		uint64_t end = (at / SPM_CLAIM_HUGE + 1) * SPM_CLAIM_HUGE;

		if (end > to)
			end = to;
		rc = commit_one(fs, s, fd, at, end);
		at = end;
	}
	return rc;
}

void spm_claim_free(struct spm_fs *fs, const struct spm_slice *s, const char *name)
{
	spm_auto_close int fd = openat(s->orphans_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t size, step = SPM_CLAIM_HUGE;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
	    (uint64_t)st.st_blocks * 512 <= 2 * SPM_CLAIM_HUGE)
		return;
	/* who mapped it before this mount was made may map it still */
	if (!fs->leases.on || spm_lease_test(fd) != SPM_LEASE_FREE)
		return;
	spm_session_blocking();
	size = (uint64_t)st.st_size;
	while (size && (uint64_t)st.st_blocks * 512 > 2 * SPM_CLAIM_HUGE) {
		blkcnt_t before = st.st_blocks;

		size = size > step ? (size - step) & ~(SPM_CLAIM_HUGE - 1) : 0;
		if (ftruncate(fd, (off_t)size) || fstat(fd, &st))
			return;
		spm_claim_settle(fs, s->id);
		step = st.st_blocks == before ? step * 2 : SPM_CLAIM_HUGE; /* large steps over holes */
	}
}

static void *keep(void *arg)
{
	struct spm_fs *fs = arg;
	struct timespec until;
	bool told = false;

	pthread_mutex_lock(&fs->claim.lock);
	while (!fs->claim.stop) {
		uint64_t missing;

		pthread_mutex_unlock(&fs->claim.lock);
		spm_claim_settle(fs, SPM_SLICES_MAX);
		missing = atomic_load(&fs->claim.missing);
		if (!told && missing > fs->opts->source.bytes / TOLD_PART) {
			char text[16];

			spm_log(SPM_LOG_WARNING, "%s: isolate: others have %s of the device; what they give back is claimed again",
				fs->opts->mountpoint, spm_size_human(missing, text, sizeof(text)));
			told = true;
		}
		told = told && missing;
		pthread_mutex_lock(&fs->claim.lock);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += ROUND_SECONDS;
		if (!fs->claim.stop)
			(void)pthread_cond_timedwait(&fs->claim.wake, &fs->claim.lock, &until);
	}
	pthread_mutex_unlock(&fs->claim.lock);
	return NULL;
}

int spm_claim_start(struct spm_fs *fs)
{
	int rc;

	if (!fs->slices.claim)
		return 0;
	pthread_mutex_init(&fs->claim.lock, NULL);
	pthread_cond_init(&fs->claim.wake, NULL);
	rc = -pthread_create(&fs->claim.thread, NULL, keep, fs);
	fs->claim.running = !rc;
	return rc;
}

void spm_claim_stop(struct spm_fs *fs)
{
	if (!fs->claim.running)
		return;
	pthread_mutex_lock(&fs->claim.lock);
	fs->claim.stop = true;
	pthread_cond_signal(&fs->claim.wake);
	pthread_mutex_unlock(&fs->claim.lock);
	pthread_join(fs->claim.thread, NULL);
	fs->claim.running = false;
}

void spm_claim_teardown(struct spm_fs *fs)
{
	if (fs->slices.claim)
		spm_claim_close(&fs->claim.c);
	fs->slices.claim = NULL;
}
