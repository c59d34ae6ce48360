/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/mounts.h"
#include "core/mountinfo.h"
#include "fs/wire.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
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
#define SYNC_TRIES  1000 /* of 10 ms */
#define DEAD_TRIES  100  /* likewise */
#define RUN_TRIES    25
#define RUN_PAUSE_NS 4000000

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

/* What is looked for: a spmfs by number and source, or (dev 0) the pin of a namespace at a path. */
struct wanted {
	dev_t dev;
	const char *source;
	int fuse_fd; /* tells when the mount, and with it the right to its number, is gone; -1: nobody does */
	const char *path;
	ino_t ns;
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
		spm_mountinfo_unescape(line + at);
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
	if (ns < 0 || root < 0 || spm_enter_mount_ns(ns) || fchdir(root) || chroot("."))
		return -errno;
	return 0;
}

/* Whether @path, seen from here, is still what was found in mountinfo. */
static bool still_there(const struct wanted *w, const char *path)
{
	struct statfs sf;
	struct statx sx;
	struct stat st;

	/* in another namespace the same name may be another mount's */
	if (!w->dev)
		return !statfs(path, &sf) && sf.f_type == NSFS_MAGIC && !stat(path, &st) &&
		       st.st_ino == w->ns;
	return !statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, 0, &sx) &&
	       makedev(sx.stx_dev_major, sx.stx_dev_minor) == w->dev;
}

enum visited {
	VISITED_GONE,  /* the mount is not there any more; the next one may be */
	VISITED_STAYS, /* nothing more to do in this namespace */
	VISITED_ALL,   /* nor in any other */
};
typedef enum visited (*visit_fn)(const char *path, void *arg);

struct unmounting {
	bool sync;
	bool dead;   /* only what answers ENOTCONN */
	bool remove;
	int count;
};

/* Runs @fn in a child, for it may never return; its result, or -1 if it did not within @tries of 10 ms. */
static int attempt(int (*fn)(const char *path), const char *path, int tries)
{
	static const struct timespec pause = { .tv_nsec = 10000000 };
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid)
		_exit(fn(path));
	for (int i = 0; i < tries; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		nanosleep(&pause, NULL);
	}
	kill(pid, SIGKILL);
	return -1;
}

static int sync_all(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || syncfs(fd);
}

static int is_dead(const char *path)
{
	struct statfs sf;

	return statfs(path, &sf) && errno == ENOTCONN;
}

static enum visited unmount_here(const char *path, void *arg)
{
	struct unmounting *u = arg;

	/* what mirror mappings have made dirty; for a while, since the worker may be stuck */
	if (u->sync && attempt(sync_all, path, SYNC_TRIES) < 0)
		spm_log(SPM_LOG_WARNING, "%s: not everything could be written back in time", path);
	u->sync = false; /* once is enough: it is one filesystem */
	/* the number may be another mount's by now: that one answers, or is about to */
	if (u->dead && attempt(is_dead, path, DEAD_TRIES) != 1)
		return VISITED_STAYS;
	if (u->remove && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
		return VISITED_STAYS;
	u->count++;
	return u->remove ? VISITED_GONE : VISITED_ALL;
}

/* Whether the kernel has ended the connection, and with it the right to the mount's device number. */
static bool is_over(const struct wanted *w)
{
	struct pollfd pfd = { .fd = w->fuse_fd };

	return w->fuse_fd >= 0 && poll(&pfd, 1, 0) == 1 && pfd.revents & (POLLERR | POLLHUP);
}

static enum visited visit_mounts(int proc, const struct wanted *w, int home_ns, visit_fn fn, void *arg)
{
	enum visited v = VISITED_GONE;
	char path[4096];

	for (int i = 0; v == VISITED_GONE && i < ROUNDS_MAX; i++) {
		if (!find_mount(proc, w, path, sizeof(path)) || is_over(w))
			break;
		v = VISITED_STAYS;
		if (!visit(proc) && still_there(w, path))
			v = fn(path, arg);
		if (spm_enter_mount_ns(home_ns))
			spm_log(SPM_LOG_ERR, "cannot return to the region's namespace: %m");
	}
	return v;
}

/* Calls @fn in the namespace and root of each process that sees such a mount, for each such mount. */
static void for_each_mount(const struct wanted *w, int home_ns, visit_fn fn, void *arg)
{
	DIR *proc = opendir("/proc");
	enum visited v = VISITED_STAYS;
	struct dirent *d;

	while (proc && v != VISITED_ALL && !is_over(w) && (d = readdir(proc))) {
		spm_auto_close int fd = -1;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		fd = openat(dirfd(proc), d->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			v = visit_mounts(fd, w, home_ns, fn, arg);
	}
	if (proc)
		closedir(proc);
}

int spm_mounts_remove_all(dev_t dev, const char *source, int fuse_fd, bool sync, int home_ns)
{
	struct wanted w = { .dev = dev, .source = source, .fuse_fd = fuse_fd };
	struct unmounting u = { .sync = sync, .remove = true };

	for_each_mount(&w, home_ns, unmount_here, &u);
	return u.count;
}

int spm_mounts_dead(dev_t dev, const char *source, bool remove, int home_ns)
{
	struct wanted w = { .dev = dev, .source = source, .fuse_fd = -1 };
	struct unmounting u = { .dead = true, .remove = remove };

	for_each_mount(&w, home_ns, unmount_here, &u);
	return u.count;
}

void spm_mounts_pin_path(const char *name, char *buf, size_t len)
{
	snprintf(buf, len, SPM_RUN_DIR "/%s.ns", name);
}

void spm_mounts_socket_path(const char *name, char *buf, size_t len)
{
	snprintf(buf, len, SPM_RUN_DIR "/%s.sock", name);
}

/* A mount namespace can only be bound where its propagation ends, hence a private mount for the pins. */
int spm_mounts_run_dir(struct spm_error *e)
{
	struct stat dir, parent;

	if (mkdir(SPM_RUN_DIR, 0700) && errno != EEXIST)
		return spm_fail(e, -errno, "cannot make %s: %m", SPM_RUN_DIR);
	if (stat(SPM_RUN_DIR, &dir) || stat("/run", &parent))
		return spm_fail(e, -errno, "cannot look at %s: %m", SPM_RUN_DIR);
	if (dir.st_dev != parent.st_dev)
		return 0;
	if (mount("spmfs", SPM_RUN_DIR, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=0700") ||
	    mount(NULL, SPM_RUN_DIR, NULL, MS_PRIVATE, NULL))
		return spm_fail(e, -errno, "cannot mount %s: %m", SPM_RUN_DIR);
	return 0;
}

static bool holds_something(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *de;

	while (d && (de = readdir(d)) && (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..")))
		;
	if (!d)
		return true;
	closedir(d);
	return de;
}

/*
 * Only an empty directory goes: other regions have their pins in it, and dax devices notes of what they were, which would not
 * keep it busy. Somebody may be looking into it at this moment.
 */
void spm_mounts_run_dir_remove(void)
{
	static const struct timespec pause = { .tv_nsec = RUN_PAUSE_NS };
	int rc = -1;

	for (int i = 0; i < RUN_TRIES && !holds_something(SPM_RUN_DIR); i++) {
		rc = umount2(SPM_RUN_DIR, UMOUNT_NOFOLLOW);
		if (!rc || errno != EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	/* it was not empty after all: whoever comes next mounts it again */
	if (!rc && rmdir(SPM_RUN_DIR))
		spm_log(SPM_LOG_DEBUG, "%s: %m", SPM_RUN_DIR);
}

int spm_mounts_pin(const char *name, int ns_fd, struct spm_error *e)
{
	char path[128], from[64];
	int rc = spm_mounts_run_dir(e), fd;

	if (rc)
		return rc;
	spm_mounts_pin_path(name, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (fd < 0)
		return spm_fail(e, -errno, "%s: %m; choose another name=", path);
	close(fd);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", ns_fd);
	if (mount(from, path, NULL, MS_BIND, NULL)) {
		rc = -errno;
		unlink(path);
		return spm_fail(e, rc, "cannot keep the region as %s: %s", path, strerror(-rc));
	}
	return 0;
}

struct tidying {
	const char *socket;
	bool unpin;
	void (*last)(void *arg);
	void *arg;
};

static enum visited tidy_here(const char *path, void *arg)
{
	struct tidying *t = arg;

	unlink(t->socket);
	if (!t->unpin)
		return VISITED_ALL;
	if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
		return VISITED_STAYS;
	unlink(path);
	if (t->last)
		t->last(t->arg);
	t->last = NULL;
	spm_mounts_run_dir_remove();
	return VISITED_GONE;
}

void spm_mounts_tidy(const char *name, bool unpin, int home_ns, void (*last)(void *arg), void *arg)
{
	char path[128], socket[128];
	struct wanted w = { .path = path, .fuse_fd = -1 };
	struct tidying t = { .socket = socket, .unpin = unpin, .last = last, .arg = arg };
	struct stat st;

	if (fstat(home_ns, &st))
		return;
	w.ns = st.st_ino;
	spm_mounts_pin_path(name, path, sizeof(path));
	spm_mounts_socket_path(name, socket, sizeof(socket));
	for_each_mount(&w, home_ns, tidy_here, &t);
}
