/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/mounts.h"
#include "fs/wire.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define ROUNDS_MAX  1000 /* unmounts in one namespace; a bound, not an expectation */
#define STACKED_MAX 16

static int set_string(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) ? -errno : 0;
}

static int set_flag(int fs, const char *key)
{
	return fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0) ? -errno : 0;
}

static unsigned int mount_attrs(unsigned long f)
{
	static const struct {
		unsigned long ms;
		unsigned int attr;
	} map[] = { { MS_RDONLY, MOUNT_ATTR_RDONLY }, { MS_NOSUID, MOUNT_ATTR_NOSUID },
		    { MS_NODEV, MOUNT_ATTR_NODEV }, { MS_NOEXEC, MOUNT_ATTR_NOEXEC },
		    { MS_NODIRATIME, MOUNT_ATTR_NODIRATIME }, { 256, 0x00200000 /* NOSYMFOLLOW */ } };
	unsigned int attrs = 0;

	for (size_t i = 0; i < SPM_ARRAY_SIZE(map); i++)
		if (f & map[i].ms)
			attrs |= map[i].attr;
	if (f & MS_NOATIME)
		attrs |= MOUNT_ATTR_NOATIME;
	else if (f & MS_STRICTATIME)
		attrs |= MOUNT_ATTR_STRICTATIME;
	return attrs;
}

static int configure(int fs, const struct spm_options *o, int fuse_fd)
{
	static const struct {
		unsigned long ms;
		const char *key;
	} sb[] = { { MS_RDONLY, "ro" }, { MS_SYNCHRONOUS, "sync" }, { MS_DIRSYNC, "dirsync" } };
	char number[16];
	int rc = set_string(fs, "source", o->source_text);

	if (!rc)
		rc = set_string(fs, "subtype", "spmfs");
	snprintf(number, sizeof(number), "%d", fuse_fd);
	if (!rc)
		rc = set_string(fs, "fd", number);
	if (!rc)
		rc = set_string(fs, "rootmode", "40000");
	snprintf(number, sizeof(number), "%u", getuid());
	if (!rc)
		rc = set_string(fs, "user_id", number);
	snprintf(number, sizeof(number), "%u", getgid());
	if (!rc)
		rc = set_string(fs, "group_id", number);
	snprintf(number, sizeof(number), "%u", SPM_WIRE_MAX_READ);
	if (!rc)
		rc = set_string(fs, "max_read", number);
	if (!rc)
		rc = set_flag(fs, "default_permissions");
	if (!rc)
		rc = set_flag(fs, "allow_other");
	for (size_t i = 0; !rc && i < SPM_ARRAY_SIZE(sb); i++)
		if (o->mount_flags & sb[i].ms)
			rc = set_flag(fs, sb[i].key);
	return rc;
}

int spm_mounts_make(const struct spm_options *o, int fuse_fd, dev_t *dev, struct spm_error *e)
{
	spm_auto_close int fs = fsopen("fuse", FSOPEN_CLOEXEC), mnt = -1;
	struct statx sx;
	int rc;

	if (fs < 0)
		return spm_fail(e, -errno, "this kernel cannot mount FUSE (%m); load the module with 'modprobe fuse'");
	rc = configure(fs, o, fuse_fd);
	if (!rc && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		rc = -errno;
	if (!rc) {
		mnt = fsmount(fs, FSMOUNT_CLOEXEC, mount_attrs(o->mount_flags));
		rc = mnt < 0 ? -errno : 0;
	}
	/* nobody answers yet: the device number must come without asking the filesystem */
	if (!rc && statx(mnt, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &sx))
		rc = -errno;
	if (rc)
		return spm_fail(e, rc, "cannot mount with /dev/fuse: %s", strerror(-rc));
	*dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
	return spm_steal_fd(&mnt);
}

int spm_mounts_attach(int mount_fd, int where_fd, struct spm_error *e)
{
	if (move_mount(mount_fd, "", where_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		return spm_fail(e, -errno, "cannot attach the mount to its mount point: %m");
	return 0;
}

/* mountinfo writes blanks and backslashes as \ooo */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && isdigit((unsigned char)s[1]) && isdigit((unsigned char)s[2]) &&
		    isdigit((unsigned char)s[3])) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* What is looked for: a spmfs by number and source, or (dev 0) a mount at a path. */
struct wanted {
	dev_t dev;
	const char *source;
	const char *path;
};

/* The rest of a line of mountinfo: "OPTIONS [TAGS] - TYPE SOURCE SUPER-OPTIONS". */
static bool is_ours(const char *rest, const char *source)
{
	const char *dash = strstr(rest, " - fuse.spmfs ");
	size_t n = strlen(source);

	if (!dash)
		return false;
	dash += strlen(" - fuse.spmfs ");
	return !strncmp(dash, source, n) && dash[n] == ' ';
}

/* The last such mount that process @pid sees, into @path. */
static bool find_mount(const char *pid, const struct wanted *w, char *path, size_t len)
{
	spm_auto_fclose FILE *f = NULL;
	spm_auto_free char *line = NULL;
	bool found = false;
	size_t room = 0;
	char name[NAME_MAX + 32];

	snprintf(name, sizeof(name), "/proc/%s/mountinfo", pid);
	f = fopen(name, "re");
	while (f && getline(&line, &room, f) > 0) {
		unsigned int major, minor;
		int at = 0, end = 0;

		if (sscanf(line, "%*d %*d %u:%u %*s %n%*s%n", &major, &minor, &at, &end) != 2 || !end)
			continue;
		line[end] = '\0';
		unescape(line + at);
		if (w->dev ? makedev(major, minor) != w->dev || !is_ours(line + end + 1, w->source) :
			     strcmp(line + at, w->path) != 0)
			continue;
		if (strlen(line + at) < len) {
			strcpy(path, line + at);
			found = true;
		}
	}
	return found;
}

/* Goes to where process @pid lives: its namespace and its root (a chroot has paths of its own). */
static int visit(const char *pid)
{
	spm_auto_close int ns = -1, root = -1;
	char name[NAME_MAX + 32];

	snprintf(name, sizeof(name), "/proc/%s/ns/mnt", pid);
	ns = open(name, O_RDONLY | O_CLOEXEC);
	snprintf(name, sizeof(name), "/proc/%s/root", pid);
	root = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (ns < 0 || root < 0 || setns(ns, CLONE_NEWNS) || fchdir(root) || chroot("."))
		return -errno;
	return 0;
}

typedef void (*visit_fn)(const char *path, void *arg);

static void unmount_here(const char *path, void *arg)
{
	if (!umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
		++*(int *)arg;
}

/* Calls @fn in the namespace and root of each process that sees such a mount, for each such mount. */
static void for_each_mount(const struct wanted *w, int home_ns, visit_fn fn, void *arg)
{
	DIR *proc = opendir("/proc");
	char path[4096], last[4096];
	struct dirent *d;

	while (proc && (d = readdir(proc))) {
		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		*last = '\0';
		for (int i = 0; i < ROUNDS_MAX && find_mount(d->d_name, w, path, sizeof(path)); i++) {
			/* not gone, though it was tried: stacked mounts go one by one, others stay */
			if (!strcmp(path, last) && i > STACKED_MAX)
				break;
			strcpy(last, path);
			if (!visit(d->d_name))
				fn(path, arg);
			else
				i = ROUNDS_MAX;
			if (setns(home_ns, CLONE_NEWNS))
				spm_log(SPM_LOG_ERR, "cannot return to the region's namespace: %m");
		}
	}
	if (proc)
		closedir(proc);
}

int spm_mounts_remove_all(dev_t dev, const char *source, int home_ns)
{
	struct wanted w = { .dev = dev, .source = source };
	int count = 0;

	for_each_mount(&w, home_ns, unmount_here, &count);
	return count;
}

void spm_mounts_pin_path(const char *name, char *buf, size_t len)
{
	snprintf(buf, len, SPM_RUN_DIR "/%s.ns", name);
}

/* A mount namespace can only be bound where its propagation ends, hence a private mount for the pins. */
static int make_run_dir(struct spm_error *e)
{
	struct stat dir, parent;

	if (mkdir(SPM_RUN_DIR, 0700) && errno != EEXIST)
		return spm_fail(e, -errno, "option keep: cannot make %s: %m", SPM_RUN_DIR);
	if (stat(SPM_RUN_DIR, &dir) || stat("/run", &parent))
		return spm_fail(e, -errno, "option keep: cannot look at %s: %m", SPM_RUN_DIR);
	if (dir.st_dev != parent.st_dev)
		return 0;
	if (mount("spmfs", SPM_RUN_DIR, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=0700") ||
	    mount(NULL, SPM_RUN_DIR, NULL, MS_PRIVATE, NULL))
		return spm_fail(e, -errno, "option keep: cannot mount %s: %m", SPM_RUN_DIR);
	return 0;
}

int spm_mounts_pin(const char *name, int ns_fd, struct spm_error *e)
{
	char path[128], from[64];
	int rc = make_run_dir(e), fd;

	if (rc)
		return rc;
	spm_mounts_pin_path(name, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (fd < 0)
		return spm_fail(e, -errno, "option keep: %s: %m; choose another name=", path);
	close(fd);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", ns_fd);
	if (mount(from, path, NULL, MS_BIND, NULL)) {
		rc = -errno;
		unlink(path);
		return spm_fail(e, rc, "option keep: cannot keep the region as %s: %s", path, strerror(-rc));
	}
	return 0;
}

static void unpin_here(const char *path, void *arg)
{
	int *count = arg;

	if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
		return;
	++*count;
	unlink(path);
	/* only an empty directory goes: other kept regions have their pins in it */
	if (!umount2(SPM_RUN_DIR, UMOUNT_NOFOLLOW) && rmdir(SPM_RUN_DIR)) {
		/* it was not empty after all: whoever comes next mounts it again */
		spm_log(SPM_LOG_DEBUG, "%s: %m", SPM_RUN_DIR);
	}
}

void spm_mounts_unpin(const char *name, int home_ns)
{
	char path[128];
	struct wanted w = { .path = path };
	int count = 0;

	spm_mounts_pin_path(name, path, sizeof(path));
	for_each_mount(&w, home_ns, unpin_here, &count);
}
