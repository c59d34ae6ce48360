/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/slice.h"
#include "core/dir.h"
#include "core/quota.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#define ATIME_FLAGS (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME)

/* statvfs(3) reports mount flags by the same numbers, but for this one which it leaves out */
#define ATIME_STATVFS (MS_NOATIME | MS_NODIRATIME)

#define SLICE_INODES 3 /* of its own: data, orphans, probe */
#define DIR_INODES   4 /* the same, and its top, which is not a filesystem's */
#define INODES_MANY  (UINT64_C(1) << 40) /* what is shown as no limit; counts of the whole filesystem are others' business */

struct mount_try {
	bool noswap;
	bool huge;
};

static int mount_tmpfs(const char *path, const struct spm_slice_opts *o, const struct mount_try *t)
{
	char data[512];
	int n;

	/* the filesystem's own top is for root alone: users only ever see what FUSE shows of `data` */
	n = snprintf(data, sizeof(data), "mode=0700,inode64,size=%llu", (unsigned long long)o->size_bytes);
	if (o->nr_inodes_set)
		n += snprintf(data + n, sizeof(data) - (size_t)n, ",nr_inodes=%llu",
			      (unsigned long long)(o->nr_inodes ? o->nr_inodes + SLICE_INODES : 0));
	if (t->huge && !o->small_pages)
		n += snprintf(data + n, sizeof(data) - (size_t)n, ",huge=%s", o->huge ? o->huge : "within_size");
	if (t->noswap)
		n += snprintf(data + n, sizeof(data) - (size_t)n, ",noswap");
	if (o->mpol)
		n += snprintf(data + n, sizeof(data) - (size_t)n, ",mpol=%s", o->mpol);
	if ((size_t)n >= sizeof(data))
		return -ENAMETOOLONG;
	return mount("spmfs", path, "tmpfs", MS_NOSUID | MS_NODEV | (o->mount_flags & ATIME_FLAGS), data) ? -errno : 0;
}

/* Without quotas in force its project means nothing. */
static uint32_t find_project(int mount_fd)
{
	spm_auto_close int fd = openat(mount_fd, SPM_SLICE_DATA, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	uint32_t project;

	if (fd < 0 || spm_project_of(fd, &project) || !spm_project_is_ours(project) || !spm_quota_enforced(fd))
		return 0;
	return project;
}

static int open_dirs(const char *path, struct spm_slice *s)
{
	struct statfs sf;
	struct stat st;

	s->mount_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->mount_fd < 0)
		return -errno;
	if (fstatfs(s->mount_fd, &sf) || fstat(s->mount_fd, &st))
		return -errno;
	s->dev = st.st_dev;
	s->fixed = sf.f_type != TMPFS_MAGIC;
	s->project = s->fixed ? find_project(s->mount_fd) : 0;
	s->data_fd = openat(s->mount_fd, SPM_SLICE_DATA, O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->orphans_fd = openat(s->mount_fd, SPM_SLICE_ORPHANS, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return s->data_fd < 0 || s->orphans_fd < 0 ? -errno : 0;
}

static void slice_init(struct spm_slice *s)
{
	*s = (struct spm_slice){ .mount_fd = -1, .data_fd = -1, .orphans_fd = -1, .map = UINT32_MAX,
				  .cold_s = UINT32_MAX, .pin_max = UINT64_MAX };
}

void spm_slice_read_features(const char *path, struct spm_slice *s)
{
	spm_auto_fclose FILE *mounts = setmntent("/proc/self/mounts", "re");
	spm_auto_close int probe = -1;
	struct mntent *m;

	if (s->fixed) {
		probe = spm_slice_probe(s->mount_fd);
		s->features = (struct spm_slice_features){ .dax = probe >= 0 && spm_dir_is_dax(probe) };
		return;
	}
	while (mounts && (m = getmntent(mounts))) {
		if (strcmp(m->mnt_dir, path))
			continue;
		s->features.noswap = hasmntopt(m, "noswap");
		s->features.huge = hasmntopt(m, "huge");
	}
}

int spm_slice_open_bare(const char *path, struct spm_slice *out)
{
	int rc;

	slice_init(out);
	rc = open_dirs(path, out);
	if (rc)
		spm_slice_close(out);
	return rc;
}

int spm_slice_open(const char *path, struct spm_slice *out, struct spm_error *e)
{
	int rc = spm_slice_open_bare(path, out);

	if (rc)
		return spm_fail(e, rc, "the region holds no data directory: %s", strerror(-rc));
	return 0;
}

int spm_slice_make_dirs(int mount_fd, const struct spm_slice_opts *o)
{
	if (mkdirat(mount_fd, SPM_SLICE_DATA, 0700) || mkdirat(mount_fd, SPM_SLICE_ORPHANS, 0700) ||
	    /* in this order: in a group of others sgid could not be set */
	    fchmodat(mount_fd, SPM_SLICE_DATA, o->mode, 0) || fchownat(mount_fd, SPM_SLICE_DATA, o->uid, o->gid, 0))
		return -errno;
	return 0;
}

int spm_slice_create(const char *path, const struct spm_slice_opts *o, struct spm_slice *out, struct spm_error *e)
{
	/* noswap came with Linux 6.4 and needs root; huge needs CONFIG_TRANSPARENT_HUGEPAGE */
	static const struct mount_try tries[] = { { true, true }, { false, true }, { true, false }, { false, false } };
	int rc = -EINVAL;
	size_t i;

	slice_init(out);
	for (i = 0; i < SPM_ARRAY_SIZE(tries); i++) {
		if (!tries[i].huge && o->huge)
			continue; /* asked for by name: not ours to drop */
		rc = mount_tmpfs(path, o, &tries[i]);
		if (rc != -EINVAL)
			break;
	}
	if (rc)
		return spm_fail(e, rc, "cannot mount the region's tmpfs (%s); check size=, nr_inodes=, huge= and mpol=",
				strerror(-rc));
	out->features = (struct spm_slice_features){ .noswap = tries[i].noswap, .huge = tries[i].huge && !o->small_pages };

	out->mount_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = out->mount_fd < 0 ? -errno : spm_slice_make_dirs(out->mount_fd, o);
	if (rc) {
		spm_slice_close(out);
		return spm_fail(e, rc, "cannot set up the region: %s", strerror(-rc));
	}
	close(out->mount_fd);
	rc = open_dirs(path, out);
	if (rc)
		spm_slice_close(out);
	return rc;
}

void spm_slice_close(struct spm_slice *s)
{
	spm_cleanup_close(&s->orphans_fd);
	spm_cleanup_close(&s->data_fd);
	spm_cleanup_close(&s->mount_fd);
	slice_init(s);
}

int spm_slice_reopen(const char *path, struct spm_slice *s)
{
	struct spm_slice now;
	int rc;

	slice_init(&now);
	rc = open_dirs(path, &now);
	if (!rc && (dup3(now.mount_fd, s->mount_fd, O_CLOEXEC) < 0 || dup3(now.data_fd, s->data_fd, O_CLOEXEC) < 0 ||
		    dup3(now.orphans_fd, s->orphans_fd, O_CLOEXEC) < 0))
		rc = -errno;
	spm_slice_close(&now);
	return rc;
}

int spm_slice_probe(int mount_fd)
{
	int fd = openat(mount_fd, SPM_SLICE_PROBE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

/* A limit below what is used is not refused: it only stops what comes after. */
static int set_quota(const struct spm_slice *s, uint64_t bytes)
{
	struct spm_quota was, now;
	int rc = spm_quota_get(s->mount_fd, s->project, &was);

	if (rc || (bytes && was.used > bytes))
		return rc ? rc : -EBUSY;
	rc = spm_quota_set_bytes(s->mount_fd, s->project, bytes);
	if (rc || !bytes)
		return rc;
	rc = spm_quota_get(s->mount_fd, s->project, &now);
	if (rc || now.used <= bytes)
		return rc;
	rc = spm_quota_set_bytes(s->mount_fd, s->project, was.limit);
	return rc ? rc : -EBUSY;
}

int spm_slice_inode_quota(int mount_fd, uint32_t project, uint64_t inodes)
{
	struct spm_quota q;
	int rc = spm_quota_get(mount_fd, project, &q);

	inodes = inodes && inodes < INODES_MANY ? inodes + DIR_INODES : 0;
	if (rc || (inodes && q.inodes > inodes))
		return rc ? rc : -EBUSY;
	return spm_quota_set_inodes(mount_fd, project, inodes);
}

static int reconfigure(struct spm_slice *s, const char *data)
{
	char path[64];
	struct statvfs sv;

	if (s->fixed)
		return -EOPNOTSUPP;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->mount_fd);
	if (fstatvfs(s->mount_fd, &sv))
		return -errno;
	if (!mount(NULL, path, NULL, MS_REMOUNT | (sv.f_flag & (MS_NOSUID | MS_NODEV | ATIME_STATVFS)), data))
		return 0;
	/* tmpfs says EINVAL for less than what is in use */
	return errno == EINVAL ? -EBUSY : -errno;
}

int spm_slice_resize(struct spm_slice *s, uint64_t bytes)
{
	char data[64];

	if (s->project)
		return set_quota(s, bytes);
	snprintf(data, sizeof(data), "size=%llu", (unsigned long long)bytes);
	return reconfigure(s, data);
}

int spm_slice_set_inodes(struct spm_slice *s, uint64_t inodes)
{
	char data[64];

	if (s->project)
		return spm_slice_inode_quota(s->mount_fd, s->project, inodes);
	snprintf(data, sizeof(data), "nr_inodes=%llu", (unsigned long long)(inodes ? inodes + SLICE_INODES : 0));
	return reconfigure(s, data);
}

int spm_slice_statfs(const struct spm_slice *s, struct statvfs *out)
{
	struct spm_quota q;
	int rc = fstatvfs(s->mount_fd, out) ? -errno : 0;

	if (rc || !s->project)
		return rc;
	rc = spm_quota_get(s->mount_fd, s->project, &q);
	if (rc)
		return rc;
	if (q.limit) {
		out->f_blocks = q.limit / out->f_frsize;
		out->f_bfree = out->f_bavail = q.limit > q.used ? (q.limit - q.used) / out->f_frsize : 0;
	}
	if (q.inode_limit || s->id) {
		out->f_files = q.inode_limit ? q.inode_limit : INODES_MANY;
		out->f_ffree = out->f_favail = out->f_files > q.inodes ? out->f_files - q.inodes : 0;
	}
	return 0;
}

void spm_slice_orphan_name(uint64_t ino, char name[static SPM_ORPHAN_NAME_LEN])
{
	snprintf(name, SPM_ORPHAN_NAME_LEN, "%llx", (unsigned long long)ino);
}

int spm_slice_orphan_remove(struct spm_slice *s, uint64_t ino, bool dir)
{
	char name[SPM_ORPHAN_NAME_LEN];

	spm_slice_orphan_name(ino, name);
	return unlinkat(s->orphans_fd, name, dir ? AT_REMOVEDIR : 0) ? -errno : 0;
}

int spm_slice_orphans_clear(struct spm_slice *s, void (*gone)(void *arg, uint64_t ino), void *arg)
{
	int fd = openat(s->orphans_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	struct stat st;
	int rc = 0;

	if (!d) {
		rc = -errno;
		spm_cleanup_close(&fd);
		return rc;
	}
	while ((de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if (gone && !fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) && st.st_nlink == 1)
			gone(arg, st.st_ino);
		if (unlinkat(fd, de->d_name, 0) && unlinkat(fd, de->d_name, AT_REMOVEDIR))
			rc = -errno;
	}
	closedir(d);
	return rc;
}
