/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/mounts.h"
#include "fs/wire.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS_MAX  1000 /* unmounts in one namespace; a bound, not an expectation */
#define STACKED_MAX 16
#define SYNC_TRIES  1000 /* of 10 ms */

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
	pid_t worker;
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

/* The last such mount that a process sees, into @path. @proc is its directory in /proc. */
static bool find_mount(int proc, const struct wanted *w, char *path, size_t len)
{
	int fd = openat(proc, "mountinfo", O_RDONLY | O_CLOEXEC);
	spm_auto_fclose FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	spm_auto_free char *line = NULL;
	bool found = false;
	size_t room = 0;

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

/*
 * Goes to where a process lives: its namespace and its root (a chroot has paths of its own). By a descriptor of
 * its directory: once the process has died there is nothing below it, whoever gets its number.
 */
static int visit(int proc)
{
	spm_auto_close int ns = openat(proc, "ns/mnt", O_RDONLY | O_CLOEXEC), root = -1;

	root = openat(proc, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (ns < 0 || root < 0 || setns(ns, CLONE_NEWNS) || fchdir(root) || chroot("."))
		return -errno;
	return 0;
}

/* Whether @path, seen from here, is still what was found in mountinfo. */
static bool still_there(const struct wanted *w, const char *path)
{
	struct statfs sf;
	struct statx sx;

	if (!w->dev)
		return !statfs(path, &sf) && sf.f_type == NSFS_MAGIC;
	return !statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, 0, &sx) &&
	       makedev(sx.stx_dev_major, sx.stx_dev_minor) == w->dev;
}

typedef void (*visit_fn)(const char *path, void *arg);

struct unmounting {
	bool sync;
	int count;
};

/* Writes back what mirror mappings have made dirty; for a while, since the worker may be stuck. */
static void sync_mount(const char *path)
{
	static const struct timespec pause = { .tv_nsec = 10000000 };
	pid_t pid = fork();

	if (pid < 0)
		return;
	if (!pid) {
		int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		_exit(fd < 0 || syncfs(fd));
	}
	for (int i = 0; i < SYNC_TRIES; i++) {
		if (waitpid(pid, NULL, WNOHANG))
			return;
		nanosleep(&pause, NULL);
	}
	spm_log(SPM_LOG_WARNING, "%s: not everything could be written back in time", path);
	kill(pid, SIGKILL);
}

static void unmount_here(const char *path, void *arg)
{
	struct unmounting *u = arg;

	if (u->sync)
		sync_mount(path);
	u->sync = false; /* once is enough: it is one filesystem */
	if (!umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
		u->count++;
}

/* Whether the worker that serves the mount has ended, and with it the right to the mount's device number. */
static bool is_over(const struct wanted *w)
{
	siginfo_t si = { .si_pid = 0 };

	return w->worker && !waitid(P_PID, (id_t)w->worker, &si, WEXITED | WNOHANG | WNOWAIT) && si.si_pid;
}

static void visit_mounts(int proc, const struct wanted *w, int home_ns, visit_fn fn, void *arg)
{
	char path[4096], last[4096] = "";

	for (int i = 0; i < ROUNDS_MAX && find_mount(proc, w, path, sizeof(path)) && !is_over(w); i++) {
		int rc;

		/* not gone, though it was tried: stacked mounts go one by one, others stay */
		if (!strcmp(path, last) && i > STACKED_MAX)
			break;
		strcpy(last, path);
		rc = visit(proc);
		if (!rc && still_there(w, path))
			fn(path, arg);
		if (setns(home_ns, CLONE_NEWNS))
			spm_log(SPM_LOG_ERR, "cannot return to the region's namespace: %m");
		if (rc)
			break;
	}
}

/* Calls @fn in the namespace and root of each process that sees such a mount, for each such mount. */
static void for_each_mount(const struct wanted *w, int home_ns, visit_fn fn, void *arg)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;

	while (proc && !is_over(w) && (d = readdir(proc))) {
		spm_auto_close int fd = -1;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		fd = openat(dirfd(proc), d->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			visit_mounts(fd, w, home_ns, fn, arg);
	}
	if (proc)
		closedir(proc);
}

int spm_mounts_remove_all(dev_t dev, const char *source, pid_t worker, int home_ns)
{
	struct wanted w = { .dev = dev, .source = source, .worker = worker };
	struct unmounting u = { .sync = worker };

	for_each_mount(&w, home_ns, unmount_here, &u);
	return u.count;
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
