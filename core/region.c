/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/region.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>

#define LOCK_TRIES    150
#define LOCK_PAUSE_NS 20000000

static int fail_step(struct spm_error *e, const char *step)
{
	int rc = -errno;

	return spm_fail(e, rc, "cannot make a private mount namespace (%s: %s)", step, strerror(-rc));
}

/* Any directory will do to stack the new root on: the old tree is let go a moment later. */
static const char *some_directory(void)
{
	static const char *const dirs[] = { "/run", "/tmp", "/mnt", "/dev" };
	struct stat st;

	for (size_t i = 0; i < SPM_ARRAY_SIZE(dirs); i++)
		if (!stat(dirs[i], &st) && S_ISDIR(st.st_mode))
			return dirs[i];
	return "/proc";
}

int spm_region_enter_new(struct spm_error *e)
{
	const char *base = some_directory();

	if (unshare(CLONE_NEWNS))
		return fail_step(e, "unshare");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return fail_step(e, "private propagation");
	/* what lies here (core/extmap.h) is needed to free memory; noswap came with Linux 6.4, and is not for user namespaces */
	if (mount("spmfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0700,noswap") &&
	    mount("spmfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0700"))
		return fail_step(e, "tmpfs");
	if (chdir(base) || mkdir("proc", 0555) || mkdir("region", 0700))
		return fail_step(e, "mkdir");
	/* recursive, since in a user namespace what is mounted below /proc is locked to it */
	if (mount("/proc", "proc", NULL, MS_BIND | MS_REC, NULL))
		return fail_step(e, "/proc");
	if (syscall(SYS_pivot_root, ".", "."))
		return fail_step(e, "pivot_root");
	/* Other people's mounts must not stay busy because of us. Lazily is right here: these are copies. */
	if (umount2(".", MNT_DETACH) || chdir("/"))
		return fail_step(e, "umount");
	return 0;
}

int spm_region_flock(int fd)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	int busy;

	for (int tries = 0; (busy = flock(fd, LOCK_EX | LOCK_NB)) && tries < LOCK_TRIES; tries++)
		nanosleep(&pause, NULL);
	return busy ? -EBUSY : 0;
}

/* The lock lives as long as the open file, which all processes of a mount share. */
static int lock_meta(int flags, const char *name, struct spm_error *e)
{
	int fd = open(SPM_REGION_META, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		return spm_fail(e, -errno, "cannot open %s: %s", SPM_REGION_META, strerror(errno));
	if (spm_region_flock(fd)) {
		close(fd);
		return spm_fail(e, -EBUSY, "the region '%s' is in use by another mount; unmount that one or choose another name=", name);
	}
	return fd;
}

int spm_region_create(const char *source, uint64_t device_bytes, const struct spm_slice_opts *o,
		      struct spm_slice *root, struct spm_error *e)
{
	spm_auto_close int meta = lock_meta(O_RDWR | O_CREAT | O_EXCL, "", e);
	int rc;

	if (meta < 0)
		return meta;
	if (dprintf(meta, "%llu %s\n", (unsigned long long)device_bytes, source) < 0)
		return spm_fail(e, -EIO, "cannot write %s", SPM_REGION_META);
	rc = spm_slice_create(SPM_REGION_DIR, o, root, e);
	return rc ? rc : spm_steal_fd(&meta);
}

int spm_region_lock(const char *name, struct spm_error *e)
{
	return lock_meta(O_RDWR, name, e);
}

int spm_region_read(int meta, struct spm_region *r)
{
	char text[sizeof(r->source) + 64], *end, *mark;
	ssize_t n = pread(meta, text, sizeof(text) - 1, 0);
	struct stat st;

	*r = (struct spm_region){ .bytes = 0 };
	if (n < 0 || fstat(meta, &st))
		return -errno;
	text[n] = '\0';
	mark = strchr(text, '\n');
	if (!mark)
		return -EPROTO;
	*mark++ = '\0';
	r->bytes = strtoull(text, &end, 10);
	if (end == text || *end != ' ' || strlen(end + 1) >= sizeof(r->source))
		return -EPROTO;
	memcpy(r->source, end + 1, strlen(end + 1) + 1);
	r->clean = !strcmp(mark, SPM_REGION_CLEAN);
	r->since = st.st_mtime;
	return 0;
}

int spm_region_mark(int meta, bool clean)
{
	char text[600], *end;
	ssize_t n = pread(meta, text, sizeof(text) - 1, 0);
	off_t at;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	end = strchr(text, '\n');
	if (!end)
		return -EPROTO;
	at = end + 1 - text;
	if (ftruncate(meta, at))
		return -errno;
	if (clean && pwrite(meta, SPM_REGION_CLEAN, strlen(SPM_REGION_CLEAN), at) < 0)
		return -errno;
	/* a directory's is on a disk: it must not say that all is in order when the power fails while it is in use */
	return fdatasync(meta) ? -errno : 0;
}

int spm_region_open(const char *source, const char *name, const struct spm_region *r, struct spm_slice *root,
		    struct spm_error *e)
{
	int rc;

	if (strcmp(r->source, source))
		return spm_fail(e, -EINVAL, "the kept region '%s' was made from %s, not from %s; "
				"mount it with that source, or choose another name=", name, r->source, source);
	rc = spm_slice_open(SPM_REGION_DIR, root, e);
	if (!rc)
		spm_slice_read_features(SPM_REGION_DIR, root);
	return rc;
}

/* The last mount of the namespace that is not /proc or below it, nor the root. False: there is none. */
static bool last_mount(char *path, size_t len)
{
	spm_auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	spm_auto_free char *line = NULL;
	bool found = false;
	size_t room = 0;

	while (f && getline(&line, &room, f) > 0) {
		int at = 0, end = 0;

		if (sscanf(line, "%*d %*d %*s %*s %n%*s%n", &at, &end) < 0 || !end || (size_t)(end - at) >= len)
			continue;
		line[end] = '\0';
		if (!strcmp(line + at, "/") || !strcmp(line + at, "/proc") || !strncmp(line + at, "/proc/", 6))
			continue;
		memcpy(path, line + at, (size_t)(end - at) + 1);
		found = true;
	}
	return found;
}

int spm_region_unmount(bool wait)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	char path[256];

	for (int tries = 0; last_mount(path, sizeof(path));) {
		if (!umount2(path, UMOUNT_NOFOLLOW))
			continue;
		if (errno != EBUSY || !wait || ++tries >= LOCK_TRIES)
			return -errno;
		nanosleep(&pause, NULL);
	}
	return 0;
}
