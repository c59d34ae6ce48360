/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/dir.h"
#include "core/beneath.h"
#include "core/quota.h"
#include "core/region.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif

#define FORMAT      "format"
#define FORMAT_NEW  "format.new"
#define FORMAT_TEXT "spmfs directory, format 1\n"
#define META        "meta"
#define DATA_NEW    "data.new"

#define PAGE 4096u
#define PATH_LEN_MAX 400 /* a source has to fit into struct spm_region */

/* -- what is there -- */

/* The kernel's name of what is mounted there is not looked for: the two that will do are known by number. */
static bool is_known(const struct statfs *sf)
{
	return sf->f_type == XFS_SUPER_MAGIC || sf->f_type == EXT4_SUPER_MAGIC;
}

bool spm_dir_is_dax(int fd)
{
	struct statx sx;

	return !statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) && sx.stx_attributes & STATX_ATTR_DAX;
}

static bool has_format(int dir)
{
	spm_auto_close int f = openat(dir, FORMAT, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char was[sizeof(FORMAT_TEXT)] = "";

	return f >= 0 && read(f, was, sizeof(was) - 1) >= 0 && !strncmp(was, FORMAT_TEXT, strlen("spmfs directory"));
}

/* In a directory that is spmfs's everything is a file of its mount, or is to be removed. */
static int check_above(int dir, const char *text, struct spm_error *e)
{
	spm_auto_close int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat at, above = { .st_ino = 0 };

	while (fd >= 0 && !fstat(fd, &at)) {
		int up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = up;
		if (fd < 0 || fstat(fd, &above) || above.st_dev != at.st_dev || above.st_ino == at.st_ino)
			break;
		if (has_format(fd))
			return spm_fail(e, -EBUSY, "%s: lies in a directory of another spmfs mount, and is one of its files; give a "
					"directory outside of that", text);
	}
	return 0;
}

/* 1: it is ours. 0: it is not, and may become so. Else -errno, with the reason. */
static int look_inside(int dir, const char *text, struct spm_error *e)
{
	/* what is left of a set-up that was cut short before it was ours; and what mke2fs makes */
	static const char *const harmless[] = { ".", "..", FORMAT_NEW, "lost+found" };
	spm_auto_close int f = openat(dir, FORMAT, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int fd, rc = 0;
	char was[sizeof(FORMAT_TEXT) + 1] = "";
	struct dirent *de;
	DIR *d;

	if (f >= 0 && read(f, was, sizeof(was) - 1) >= 0 && !strcmp(was, FORMAT_TEXT))
		return 1;
	if (f >= 0 && !strncmp(was, FORMAT_TEXT, strlen("spmfs directory")))
		return spm_fail(e, -EPROTO, "%s: was laid out by another version of spmfs; mount it with that, or give an "
				"empty directory", text);
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		rc = spm_fail(e, -errno, "%s: cannot read the directory: %m", text);
		spm_cleanup_close(&fd);
		return rc;
	}
	while (!rc && (de = readdir(d))) {
		size_t i = 0;

		while (i < SPM_ARRAY_SIZE(harmless) && strcmp(de->d_name, harmless[i]))
			i++;
		if (i == SPM_ARRAY_SIZE(harmless))
			rc = spm_fail(e, -ENOTEMPTY, "%s: has files that are not spmfs's ('%s' for one); give an empty "
				      "directory", text, de->d_name);
	}
	closedir(d);
	return rc;
}

static int check_dax(int dir, const struct spm_source *s, const char *text, struct spm_error *e)
{
	spm_auto_close int fd = openat(dir, SPM_SLICE_PROBE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (s->force)
		return 0;
	/* a directory is never DAX itself; a new file in it tells */
	if (fd < 0)
		fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return spm_fail(e, -errno, "%s: cannot make a file there: %m", text);
	if (spm_dir_is_dax(fd))
		return 0;
	return spm_fail(e, -EOPNOTSUPP, "%s: the filesystem does not map files from the device itself (DAX), they would be in the "
			"page cache; mount it with -o dax on persistent memory, or add -o force to use it as it is", text);
}

static int check_place(int dir, const char *text, struct spm_error *e)
{
	char where[PATH_MAX];
	struct statfs sf;
	struct stat st;
	int rc;

	if (fstatfs(dir, &sf) || fstat(dir, &st))
		return spm_fail(e, -errno, "%s: %m", text);
	if (!is_known(&sf))
		return spm_fail(e, -EOPNOTSUPP, "%s: not on xfs or ext4; give a directory of one of these", text);
	if (sf.f_flags & ST_RDONLY)
		return spm_fail(e, -EROFS, "%s: the filesystem is mounted read-only; remount it with -o rw", text);
	if (st.st_uid)
		return spm_fail(e, -EPERM, "%s: belongs to user %u, who could put files of his own there; 'chown root' it "
				"if it is to be spmfs's", text, st.st_uid);
	rc = spm_beneath_spmfs(dir, where);
	if (rc > 0)
		return spm_fail(e, -ELOOP, "%s: lies on the spmfs mount %s, which would wait for itself; give a directory of "
				"another disk", text, where);
	return rc < 0 ? spm_fail(e, rc, "%s: cannot tell what it lies on: %s", text, strerror(-rc)) : 0;
}

static int check_name(const char *text, const char *path, struct spm_error *e)
{
	if (*path != '/')
		return spm_fail(e, -EINVAL, "%s: give an absolute path, as in dir:/mnt/pmem/spm", text);
	if (strlen(path) > PATH_LEN_MAX)
		return spm_fail(e, -EINVAL, "%s: the path has more than %d characters; make a link to it with a shorter one",
				text, PATH_LEN_MAX);
	for (const char *p = path; *p; p++)
		/* in mountinfo these look otherwise, and the mount is found there by its source */
		if (isspace((unsigned char)*p) || iscntrl((unsigned char)*p) || strchr("\\#", *p))
			return spm_fail(e, -EINVAL, "%s: blanks, '#' and backslashes cannot stand in a source; make a "
					"link to it without", text);
	return 0;
}

const char *spm_dir_no_quota(int dir, char *buf, size_t len)
{
	spm_auto_close int data = openat(dir, SPM_SLICE_DATA, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	uint32_t project = 0;
	struct statvfs sv;

	if (!spm_quota_enforced(dir))
		return "its filesystem has no quotas of projects; unmount that, and mount it with -o prjquota (ext4: after 'tune2fs "
		       "-O quota,project -Q prjquota')";
	if (spm_project_of(data >= 0 ? data : dir, &project))
		return "its filesystem does not tell which project a file is in; give a directory of another one";
	if (data >= 0 && spm_project_is_ours(project))
		return NULL;
	if (project) {
		snprintf(buf, len, "it is in project %u of somebody else; give a directory that is in none", project);
		return buf;
	}
	if (data >= 0)
		return "its files were made while there were no quotas of projects, and are in none; mount a new directory, and "
		       "move them there";
	if (!fstatvfs(dir, &sv) && sv.f_frsize > PAGE)
		return "the blocks of its filesystem are larger than 4 KiB; give a directory of another one";
	return NULL;
}

int spm_dir_check(struct spm_source *s, const char *text, struct spm_error *e)
{
	spm_auto_close int dir = -1;
	struct statvfs sv;
	char buf[128];
	const char *why;
	int rc = check_name(text, s->path, e);

	if (rc)
		return rc;
	dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return spm_fail(e, -errno, "%s: %m%s", text, errno == ENOENT ? "; make it with mkdir" : "");
	rc = check_place(dir, text, e);
	if (!rc)
		rc = check_above(dir, text, e);
	if (!rc)
		rc = look_inside(dir, text, e);
	if (rc >= 0)
		rc = check_dax(dir, s, text, e);
	if (rc)
		return rc;
	why = s->wants_quota ? spm_dir_no_quota(dir, buf, sizeof(buf)) : NULL;
	if (why)
		return spm_fail(e, -EOPNOTSUPP, "%s: size= and slices need a quota, and there can be none: %s", text, why);
	if (fstatvfs(dir, &sv))
		return spm_fail(e, -errno, "%s: %m", text);
	s->bytes = (uint64_t)sv.f_blocks * sv.f_frsize;
	return 0;
}

/* -- attaching it -- */

int spm_dir_tree(int dir_fd, const char *text, struct spm_error *e)
{
	int fd = open_tree(dir_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	/* what is mounted below stays out of sight, since it is not cloned */
	return fd < 0 ? spm_fail(e, -errno, "%s: cannot mount it in the region: %m", text) : fd;
}

static int attach(int tree, const struct spm_slice_opts *o, const char *text, struct spm_error *e)
{
	const unsigned long atime = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;

	if (move_mount(tree, "", AT_FDCWD, SPM_REGION_DIR, MOVE_MOUNT_F_EMPTY_PATH) ||
	    /* it is a peer of the mount that it was cloned from: what is mounted there must not turn up here */
	    mount(NULL, SPM_REGION_DIR, NULL, MS_PRIVATE, NULL) ||
	    mount(NULL, SPM_REGION_DIR, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (o->mount_flags & atime), NULL))
		return spm_fail(e, -errno, "%s: cannot mount it in the region: %m", text);
	return 0;
}

/* Whole or not at all, also when the power fails. */
static int write_format(int dir)
{
	spm_auto_close int f = openat(dir, FORMAT_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t n;

	if (f < 0)
		return -errno;
	n = write(f, FORMAT_TEXT, strlen(FORMAT_TEXT));
	if (n != (ssize_t)strlen(FORMAT_TEXT))
		return n < 0 ? -errno : -ENOSPC;
	if (fsync(f) || renameat(dir, FORMAT_NEW, dir, FORMAT) || fsync(dir))
		return -errno;
	return 0;
}

#define BLOCKS ((SPM_PROJECT_LAST - SPM_PROJECT_FIRST + 1) / SPM_PROJECT_BLOCK)

/* A project that nobody else uses, if there can be one. Two mounts that begin at once see each other's inode in it. */
static int choose_project(int dir, int orphans, uint32_t *project)
{
	char buf[128];
	struct spm_quota q;
	struct stat st;
	int rc;

	*project = 0;
	rc = spm_project_of(orphans, project);
	if (spm_dir_no_quota(dir, buf, sizeof(buf))) {
		/* nothing is moved from one project to another */
		rc = !rc && spm_project_is_ours(*project) ? spm_project_enter(orphans, 0) : 0;
		*project = 0;
		return rc;
	}
	if (rc || spm_project_is_ours(*project)) /* a set-up that was cut short has chosen */
		return rc;
	if (fstat(dir, &st))
		return -errno;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		*project = SPM_PROJECT_FIRST + (uint32_t)(st.st_ino + i) % BLOCKS * SPM_PROJECT_BLOCK;
		if (!spm_project_is_free(dir, *project))
			continue;
		rc = spm_project_enter(orphans, *project);
		if (rc || (!spm_quota_get(dir, *project, &q) && q.inodes <= 1))
			return rc;
		rc = spm_project_enter(orphans, 0);
		if (rc)
			return rc;
	}
	*project = 0;
	return 0;
}

/* What is to become data, and orphans: all that will be made there is in their project. */
static int in_project(int dir)
{
	spm_auto_close int orphans = openat(dir, SPM_SLICE_ORPHANS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	spm_auto_close int data = -1;
	uint32_t project;
	int rc;

	(void)unlinkat(dir, DATA_NEW, AT_REMOVEDIR);
	if (orphans < 0 || mkdirat(dir, DATA_NEW, 0700))
		return -errno;
	data = openat(dir, DATA_NEW, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (data < 0)
		return -errno;
	rc = choose_project(dir, orphans, &project);
	return !rc && project ? spm_project_enter(data, project) : rc;
}

/* The users' top directory has its owner and mode, and its project, when it gets its name. */
static int make_dirs(int dir, const struct spm_slice_opts *o, bool *had)
{
	struct stat st;
	int rc;

	*had = !fstatat(dir, SPM_SLICE_DATA, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
	if (mkdirat(dir, SPM_SLICE_ORPHANS, 0700) && errno != EEXIST)
		return -errno;
	if (*had)
		return 0;
	rc = in_project(dir);
	if (rc)
		return rc;
	if (fchmodat(dir, DATA_NEW, o->mode, 0) ||
	    fchownat(dir, DATA_NEW, o->uid, o->gid, 0) || renameat(dir, DATA_NEW, dir, SPM_SLICE_DATA) || fsync(dir))
		return -errno;
	/* chown(2) of a directory may have taken bits of its mode away */
	return fchmodat(dir, SPM_SLICE_DATA, o->mode, 0) ? -errno : 0;
}

static int in_use(const char *text, struct spm_error *e)
{
	return spm_fail(e, -EBUSY, "%s: in use by another mount; unmount that one first", text);
}

/* The line is replaced in place: one that is cut off by a power failure is as good as none, and not "clean". */
static int open_meta(int dir, const struct spm_source *s, const char *text, bool *clean, struct spm_error *e)
{
	spm_auto_close int meta = openat(dir, META, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct spm_region was;

	if (meta < 0)
		return spm_fail(e, -errno, "%s: cannot open its file '" META "': %m", text);
	if (spm_region_flock(meta))
		return in_use(text, e);
	*clean = !spm_region_read(meta, &was) && was.clean;
	if (ftruncate(meta, 0) || lseek(meta, 0, SEEK_SET) < 0 ||
	    dprintf(meta, "%llu %s\n%s", (unsigned long long)s->bytes, text, *clean ? SPM_REGION_CLEAN : "") < 0 ||
	    fsync(meta))
		return spm_fail(e, -errno, "%s: cannot write its file '" META "': %m", text);
	return spm_steal_fd(&meta);
}

static int make_ours(int dir, const struct spm_slice_opts *o, const char *text, bool *had, struct spm_error *e)
{
	int rc = look_inside(dir, text, e);

	if (rc < 0)
		return rc;
	if (!rc)
		rc = write_format(dir);
	else
		rc = 0;
	if (!rc && fchmod(dir, 0700))
		rc = -errno;
	if (!rc)
		rc = make_dirs(dir, o, had);
	return rc ? spm_fail(e, rc, "%s: cannot set it up: %s", text, strerror(-rc)) : 0;
}

int spm_dir_attach(int tree, const struct spm_source *s, const char *text, const struct spm_slice_opts *o,
		   struct spm_slice *root, struct spm_dir_state *st, struct spm_error *e)
{
	spm_auto_close int dir = -1, meta = -1;
	int rc = attach(tree, o, text, e);

	if (rc)
		return rc;
	dir = open(SPM_REGION_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return spm_fail(e, -errno, "%s: %m", text);
	/* while it is being set up; meta, which may have to be made, is what is locked from then on */
	if (spm_region_flock(dir))
		return in_use(text, e);
	rc = make_ours(dir, o, text, &st->had, e);
	if (rc)
		return rc;
	meta = open_meta(dir, s, text, &st->clean, e);
	if (meta < 0)
		return meta;
	if (symlink(SPM_REGION_DIR "/" META, SPM_REGION_META))
		return spm_fail(e, -errno, "cannot make %s: %m", SPM_REGION_META);
	rc = spm_slice_open(SPM_REGION_DIR, root, e);
	if (rc)
		return rc;
	spm_slice_read_features(SPM_REGION_DIR, root);
	return spm_steal_fd(&meta);
}
