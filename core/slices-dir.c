/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slices of a region that is a directory: each is a directory below it, in a project of its own (core/slices.h). */
#include "core/dir.h"
#include "core/quota.h"
#include "core/region.h"
#include "core/slices-local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#define REMOVE_TURNS 4 /* in which nothing was moved up: what is left does not go */
#define TABLE     SPM_DIR_SLICES "/table"
#define TABLE_NEW TABLE ".new"

static void home_of(uint16_t id, char path[static 64])
{
	snprintf(path, 64, SPM_DIR_SLICES "/%u", id);
}

/* -- the table -- */

static int open_homes(void)
{
	int fd;

	if (mkdir(SPM_DIR_SLICES, 0700) && errno != EEXIST)
		return -errno;
	fd = open(SPM_DIR_SLICES, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* All of its blocks, so that no store into it can fail. */
int spm_slices_dir_table(void)
{
	spm_auto_close int homes = open_homes();
	spm_auto_close int fd = -1;

	if (homes < 0)
		return homes;
	fd = open(TABLE_NEW, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fallocate(fd, 0, 0, sizeof(struct spm_slices_file)))
		return -errno;
	return spm_steal_fd(&fd);
}

int spm_slices_dir_keep(int fd)
{
	spm_auto_close int homes = open_homes();

	if (homes < 0)
		return homes;
	if (fsync(fd) || rename(TABLE_NEW, TABLE) || fsync(homes))
		return -errno;
	return spm_slices_dir_find();
}

int spm_slices_dir_find(void)
{
	if (access(TABLE, F_OK))
		return errno == ENOENT ? 0 : -errno;
	if (mkdir(SPM_REGION_SLICE_DIR, 0700) && errno != EEXIST)
		return -errno;
	return symlink(TABLE, SPM_REGION_SLICES) && errno != EEXIST ? -errno : 0;
}

/* -- one slice -- */

static uint32_t project_of(const struct spm_slice *root, uint16_t id)
{
	return root->project + id;
}

bool spm_slices_dir_is_free(const struct spm_slice *root, uint16_t id)
{
	char home[64];

	home_of(id, home);
	return access(home, F_OK) && errno == ENOENT && spm_project_is_free(root->mount_fd, project_of(root, id));
}

/* Without quotas in force there is no number, and what would be counted from 0 is others'. */
static int set_limits(const struct spm_slice *root, uint16_t id, uint64_t bytes)
{
	int rc = !root->project ? -EOPNOTSUPP : spm_quota_set_bytes(root->mount_fd, project_of(root, id), bytes);

	return rc ? rc : spm_quota_set_inodes(root->mount_fd, project_of(root, id), 0);
}

int spm_slices_dir_make(const struct spm_slice *root, uint16_t id, const char *path, const struct spm_slice_opts *o)
{
	spm_auto_close int homes = open_homes();
	spm_auto_close int top = -1, probe = -1;
	char home[64];
	int rc;

	home_of(id, home);
	if (homes < 0)
		return homes;
	if (mkdir(home, 0700))
		return -errno;
	top = open(home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (top < 0)
		return -errno;
	/* the limit comes after what xfs would not make with a small one */
	rc = spm_project_enter(top, project_of(root, id));
	if (!rc)
		rc = spm_slice_make_dirs(top, o);
	if (!rc) {
		probe = spm_slice_probe(top);
		rc = probe < 0 ? probe : 0;
	}
	if (!rc)
		rc = set_limits(root, id, o->size_bytes);
	if (!rc && o->nr_inodes_set)
		rc = spm_slice_inode_quota(root->mount_fd, project_of(root, id), o->nr_inodes);
	if (!rc && (fsync(top) || fsync(homes)))
		rc = -errno;
	return rc ? rc : spm_slices_dir_mount(id, path);
}

int spm_slices_dir_sync(const struct spm_slice *root)
{
	spm_auto_close int data = openat(root->data_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return data < 0 || fsync(data) ? -errno : 0;
}

int spm_slices_dir_mount(uint16_t id, const char *path)
{
	struct stat above, st;
	char home[64];

	home_of(id, home);
	if ((mkdir(path, 0700) && errno != EEXIST) || stat(path, &st) || stat(SPM_REGION_SLICE_DIR, &above))
		return -errno;
	if (st.st_dev != above.st_dev)
		return 0;
	return mount(home, path, NULL, MS_BIND, NULL) ? -errno : 0;
}

/* -- its end -- */

/* What a user has made immutable goes like all the rest. */
static void make_mutable(int fd)
{
	int flags;

	if (!ioctl(fd, FS_IOC_GETFLAGS, &flags) && flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) {
		flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

static int open_below(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC | flags);

	if (fd >= 0)
		make_mutable(fd);
	return fd;
}

static int unlink_below(int dir, const char *name)
{
	int fd;

	if (!unlinkat(dir, name, 0))
		return 0;
	if (errno != EPERM)
		return -errno;
	fd = open_below(dir, name, 0);
	spm_cleanup_close(&fd);
	return unlinkat(dir, name, 0) ? -errno : 0;
}

static int empty_one(int dir, int top, uint64_t *moved);

/* A directory in @top is emptied; what lies deeper is moved up to @top, so that no depth is too much for us. */
static int remove_dir(int dir, const char *name, int top, uint64_t *moved)
{
	spm_auto_close int fd = -1;
	char up[32];
	int rc;

	if (!unlinkat(dir, name, AT_REMOVEDIR))
		return 0;
	fd = open_below(dir, name, O_DIRECTORY);
	if (fd < 0)
		return -errno;
	if (dir != top) {
		snprintf(up, sizeof(up), "moved.%llu", (unsigned long long)++*moved);
		return renameat2(dir, name, top, up, RENAME_NOREPLACE) && errno != EEXIST ? -errno : 0;
	}
	rc = empty_one(fd, top, moved);
	(void)unlinkat(dir, name, AT_REMOVEDIR);
	return rc;
}

static int empty_one(int dir, int top, uint64_t *moved)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;

	if (!d) {
		rc = -errno;
		spm_cleanup_close(&fd);
		return rc;
	}
	while (!rc && (de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		rc = unlink_below(dir, de->d_name);
		if (rc == -EISDIR)
			rc = remove_dir(dir, de->d_name, top, moved);
		if (rc == -ENOENT) /* somebody on the host was faster */
			rc = 0;
	}
	closedir(d);
	return rc;
}

int spm_slices_dir_remove(const struct spm_slice *root, uint16_t id)
{
	spm_auto_close int top = -1;
	uint64_t moved = 0, before = 0;
	unsigned int idle = 0;
	char home[64];
	int rc = 0;

	home_of(id, home);
	top = open(home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (top < 0 && errno != ENOENT)
		return -errno;
	/* what is moved to its top may take a block there, and nobody else makes anything in it any more */
	if (root->project && set_limits(root, id, 0))
		spm_log(SPM_LOG_DEBUG, "project %u: its limit stays", project_of(root, id));
	while (top >= 0 && !rc && rmdir(home)) {
		if (errno != ENOTEMPTY || idle == REMOVE_TURNS)
			return -errno;
		rc = empty_one(top, top, &moved);
		idle = moved == before ? idle + 1 : 0;
		before = moved;
	}
	/* (a number that keeps its limit is not taken again) */
	return rc || !root->project ? rc : set_limits(root, id, 0);
}

/* -- what there is for all -- */

/* One that never had a limit has all that is there. */
static void limit_root(struct spm_slices *t, struct spm_slice *root)
{
	uint64_t others = t->granted - root->grant, bytes;
	struct spm_quota q;

	if (spm_quota_get(root->mount_fd, root->project, &q) || q.limit)
		return;
	bytes = t->device_bytes > others ? (t->device_bytes - others) & ~UINT64_C(4095) : 0;
	if (bytes < SPM_SLICE_FLOOR)
		bytes = SPM_SLICE_FLOOR;
	if (spm_slice_resize(root, bytes))
		return;
	root->grant = bytes;
	t->granted = others + bytes;
}

void spm_slices_dir_going(struct spm_slices *t, uint16_t id)
{
	const struct spm_slice *root = spm_slices_get(t, 0);
	struct spm_quota q;

	if (!spm_slices_in_dir(t) || !root->project || spm_slices_raw(t, id)->state != SPM_SLICE_GONE ||
	    spm_quota_get(root->mount_fd, project_of(root, id), &q))
		return;
	t->going[id] = q.used;
	t->granted += q.used;
	t->lost += q.used;
}

void spm_slices_dir_share(struct spm_slices *t)
{
	struct spm_slice *root = spm_slices_get(t, 0);
	uint16_t last = spm_slices_last(t);
	uint64_t taken, own = 0;
	struct spm_quota q;
	struct statvfs sv;

	if (!root->project || fstatvfs(root->mount_fd, &sv))
		return;
	taken = (uint64_t)(sv.f_blocks - sv.f_bavail) * sv.f_frsize;
	for (uint32_t id = 0; id <= last; id++) {
		if (spm_slices_get(t, (uint16_t)id) && !spm_quota_get(root->mount_fd, project_of(root, (uint16_t)id), &q))
			own += q.used;
		else if (!spm_slices_get(t, (uint16_t)id))
			spm_slices_dir_going(t, (uint16_t)id);
		own += t->going[id];
	}
	taken = taken > own ? taken - own : 0;
	t->lost += taken;
	t->granted += taken;
	limit_root(t, root);
	if (t->granted > t->device_bytes)
		(void)spm_grants_take(t, SPM_SLICES_MAX, t->granted - t->device_bytes);
}

int spm_slices_filesystem(struct spm_slices *t, uint16_t id, const char *path, const struct spm_slice_opts *o,
			  struct spm_slice *made)
{
	struct spm_error e = { "" };
	int rc;

	if (spm_slices_in_dir(t)) {
		rc = spm_slices_dir_make(spm_slices_get(t, 0), id, path, o);
		return rc ? rc : spm_slice_open_bare(path, made);
	}
	rc = spm_slice_create(path, o, made, &e);
	return !rc || rc == -ENOMEM ? rc : -EINVAL;
}
