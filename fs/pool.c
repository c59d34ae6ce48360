/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/pool.h"
#include "core/region.h"
#include "fs/content.h"
#include "fs/fault.h"
#include "fs/session.h"
#include "fs/slices.h"
#include "fs/thread.h"
#include "fs/walk.h"
#include "fs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

/* -- what core cannot know -- */

static void op_slow(void *ctx)
{
	(void)ctx;
	spm_session_blocking();
}

static void op_fault(void *ctx, const char *at)
{
	struct spm_fs *fs = ctx;

	if (fs->desks.state->faults_on)
		(void)spm_fault_at(fs->desks.state, at);
}

static const char give_up[] = "to give it up, punch a hole there (fallocate -p), or remove the file";

static void op_poisoned(void *ctx, const struct spm_pool_file *f, uint64_t file_offset, uint64_t offset)
{
	struct spm_fs *fs = ctx;
	struct spm_inode *rec;
	char path[PATH_MAX];
	uint64_t nodeid;

	if (!f->ino) {
		spm_log(SPM_LOG_ERR, "%s: memory error: the device has lost the extent at %llu, which no file has; it is not used "
			"any more", fs->opts->mountpoint, (unsigned long long)offset);
		return;
	}
	rec = spm_itable_find(&fs->itable, f->slice, f->ino, &nodeid);
	if (rec && spm_slices_path_of(fs, f->slice, &rec->handle, path, sizeof(path)))
		spm_log(SPM_LOG_ERR, "%s: memory error: %s%s cannot be read at offset %llu: the device has lost the extent at %llu; %s",
			fs->opts->mountpoint, fs->opts->mountpoint, path, (unsigned long long)file_offset,
			(unsigned long long)offset, give_up);
	else
		spm_log(SPM_LOG_ERR, "%s: memory error: inode %llu cannot be read at offset %llu: the device has lost the extent at "
			"%llu", fs->opts->mountpoint, (unsigned long long)f->ino, (unsigned long long)file_offset,
			(unsigned long long)offset);
}

static void op_damaged(void *ctx, const struct spm_pool_file *f, uint64_t file_offset)
{
	struct spm_fs *fs = ctx;
	struct spm_inode *rec;
	char path[PATH_MAX];
	uint64_t nodeid;

	rec = spm_itable_find(&fs->itable, f->slice, f->ino, &nodeid);
	if (rec && spm_slices_path_of(fs, f->slice, &rec->handle, path, sizeof(path)))
		spm_log(SPM_LOG_ERR, "%s: pool error: %s%s cannot be read at offset %llu: the pool's record of it was damaged; %s",
			fs->opts->mountpoint, fs->opts->mountpoint, path, (unsigned long long)file_offset, give_up);
	else
		spm_log(SPM_LOG_ERR, "%s: pool error: inode %llu cannot be read at offset %llu: the pool's record of it was damaged",
			fs->opts->mountpoint, (unsigned long long)f->ino, (unsigned long long)file_offset);
}

/* -- damaged records that a dead process has left -- */

struct slots_of {
	struct spm_fs *fs;
	uint32_t file;
};

static uint64_t next_slot(void *arg, uint64_t from)
{
	const struct slots_of *s = arg;

	return spm_swap_next_slot(s->fs->swap, s->file, from);
}

static int doubt(void *arg, const struct spm_slice *s, const struct stat *st, const struct spm_handle *h)
{
	struct spm_fs *fs = arg;
	const struct spm_pool_file f = spm_pooled_file(s->id, st->st_ino);
	const uint64_t extent = spm_pool_extent_bytes(fs->pool);
	struct slots_of slots = { fs, fs->swap ? spm_swap_find(fs->swap, s->id, st->st_ino) : 0 };
	struct spm_pool_doubts found;
	char path[PATH_MAX];
	int rc = spm_pool_doubt(fs->pool, &f, ((uint64_t)st->st_size + extent - 1) / extent, slots.file ? next_slot : NULL, &slots,
				&found);

	if (!found.extents)
		return rc;
	if (spm_slices_path_of(fs, s->id, h, path, sizeof(path)))
		spm_log(SPM_LOG_ERR, "%s: pool error: %s%s may have lost %llu extents, the first at offset %llu, and cannot be read there: the "
			"pool's records are damaged; %s", fs->opts->mountpoint, fs->opts->mountpoint, path,
			(unsigned long long)found.extents, (unsigned long long)(found.first * extent), give_up);
	else
		spm_log(SPM_LOG_ERR, "%s: pool error: inode %llu (which has no name any more) may have lost %llu extents: the pool's records "
			"are damaged", fs->opts->mountpoint, (unsigned long long)st->st_ino, (unsigned long long)found.extents);
	return rc;
}

static int settle_damage(struct spm_fs *fs)
{
	uint64_t n = spm_pool_damaged(fs->pool);
	int rc;

	if (!n)
		return 0;
	spm_log(SPM_LOG_ERR, "%s: pool error: %llu of the pool's records are damaged; what files may have lost by that is said file by file",
		fs->opts->mountpoint, (unsigned long long)n);
	rc = spm_walk(fs, true, doubt, fs, NULL);
	if (rc)
		return rc;
	spm_pool_settled(fs->pool);
	/* what was set aside is there again */
	spm_slices_in_pool(&fs->slices, fs->pool);
	return 0;
}

/* Where a file ends that was being cut off; 0: it is gone. */
static int end_of(void *arg, const struct spm_pool_file *f, const struct spm_handle *h, uint64_t *size)
{
	struct spm_fs *fs = arg;
	struct spm_slice *s = spm_slices_get(&fs->slices, f->slice);
	spm_auto_close int fd = s ? spm_handle_open(s->mount_fd, h, O_PATH) : -ESTALE;
	struct stat st;

	*size = 0;
	if (fd == -ESTALE)
		return 0;
	if (fd < 0 || fstat(fd, &st))
		return fd < 0 ? fd : -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

/* -- set-up -- */

const char *spm_pooled_why_not(int rc)
{
	switch (rc) {
	case -ESTALE:
		return "another mount has used the device since, and what it held is gone";
	case -ENODEV:
		return "it is another device, or its size has changed";
	case -EREMCHG:
		return "its driver has let go of the device since, so others may have had its memory";
	case -EPROTO:
		return "its state is damaged, or of another version";
	default:
		return strerror(-rc);
	}
}

static int attach(struct spm_fs *fs, const struct spm_worker_args *a)
{
	const struct spm_mount *m = &fs->desks.state->mount;
	const struct spm_pool_device d = { .fd = a->pool_fd, .bytes = m->device_bytes, .align = m->device_align };
	/* set-up has looked, and the device is locked since */
	struct spm_pool_opts o = { .kept = true, .poisoned = op_poisoned, .damaged = op_damaged, .slow = op_slow, .fault = op_fault, .ctx = fs };
	int rc;

	fs->pool_state_fd = open(SPM_REGION_POOL, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fs->pool_state_fd < 0)
		return -errno;
	if (fs->opts->swap || fs->opts->given & SPM_GIVEN_COMPACT)
		o.compact_bps = fs->opts->compact_bps;
	/* of the first worker of this mount; later ones find what a remount has said since */
	if (fs->desks.generation <= 1)
		o.bytes_max = fs->opts->size_bytes;
	rc = spm_pool_attach(&fs->pool, fs->pool_state_fd, &d, &o);
	if (!rc)
		spm_slices_in_pool(&fs->slices, fs->pool);
	return rc;
}

static int cannot_use(struct spm_fs *fs, int rc)
{
	spm_log(SPM_LOG_ERR, "%s: the pool on %s cannot be used: %s", fs->opts->mountpoint, fs->opts->source_text,
		spm_pooled_why_not(rc));
	return rc;
}

int spm_pooled_open(struct spm_fs *fs, const struct spm_worker_args *a)
{
	int rc;

	fs->pool_fd = a->pool_fd;
	for (unsigned int i = 0; i < SPM_SIZE_LOCKS; i++)
		pthread_mutex_init(&fs->size_locks[i], NULL);
	/* threads that core makes inherit this */
	rc = spm_thread_confine();
	if (!rc)
		rc = attach(fs, a);
	if (rc)
		return cannot_use(fs, rc);
	fs->content = &spm_content_in_pool;
	return 0;
}

int spm_pooled_settle(struct spm_fs *fs)
{
	int rc = spm_pool_trims(fs->pool, end_of, fs);

	if (!rc)
		rc = settle_damage(fs);
	return rc ? cannot_use(fs, rc) : 0;
}

int spm_pooled_start(struct spm_fs *fs)
{
	return spm_pool_start(fs->pool);
}

void spm_pooled_stop(struct spm_fs *fs)
{
	spm_pool_stop(fs->pool);
}

void spm_pooled_close(struct spm_fs *fs)
{
	spm_slices_in_pool(&fs->slices, NULL);
	spm_pool_detach(fs->pool);
	spm_cleanup_close(&fs->pool_state_fd);
	spm_cleanup_close(&fs->pool_fd);
}

/* -- compaction -- */

static bool is_cancelled(void *arg)
{
	return fuse_req_interrupted(arg);
}

int spm_pooled_compact(struct spm_fs *fs, fuse_req_t req)
{
	struct spm_pool_compact c = { .cancel = is_cancelled, .arg = req };
	int rc;

	spm_session_blocking();
	rc = spm_pool_compact(fs->pool, &c);
	return rc == -EALREADY ? -EBUSY : rc;
}
