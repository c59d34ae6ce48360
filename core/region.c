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

#define LOCK_TRIES    50
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
	if (mount("spmfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0700"))
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

/* The lock lives as long as the open file, which keeper and worker share. */
static int lock_meta(int flags, const char *name, struct spm_error *e)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	int fd = open(SPM_REGION_META, flags | O_CLOEXEC, 0600), busy;

	if (fd < 0)
		return spm_fail(e, -errno, "cannot open %s: %s", SPM_REGION_META, strerror(errno));
	/* a mount that has just ended may take a moment to let go */
	for (int tries = 0; (busy = flock(fd, LOCK_EX | LOCK_NB)) && tries < LOCK_TRIES; tries++)
		nanosleep(&pause, NULL);
	if (busy) {
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
	if (dprintf(meta, "%llu %s", (unsigned long long)device_bytes, source) < 0)
		return spm_fail(e, -EIO, "cannot write %s", SPM_REGION_META);
	rc = spm_slice_create(SPM_REGION_DIR, o, root, e);
	if (!rc)
		(void)spm_steal_fd(&meta); /* held, with its lock, until the process ends */
	return rc;
}

int spm_region_reopen(const char *source, const char *name, uint64_t *device_bytes, struct spm_slice *root, struct spm_error *e)
{
	spm_auto_close int meta = lock_meta(O_RDWR, name, e);
	char was[512], *made_from;
	ssize_t n;
	int rc;

	if (meta < 0)
		return meta;
	n = pread(meta, was, sizeof(was) - 1, 0);
	if (n < 0)
		return spm_fail(e, -EIO, "cannot read %s", SPM_REGION_META);
	was[n] = '\0';
	*device_bytes = strtoull(was, &made_from, 10);
	made_from += *made_from == ' ';
	if (strcmp(made_from, source))
		return spm_fail(e, -EINVAL, "the kept region '%s' was made from %s, not from %s; "
				"mount it with that source, or choose another name=", name, made_from, source);
	rc = spm_slice_open(SPM_REGION_DIR, root, e);
	if (rc)
		return rc;
	rc = spm_slice_orphans_clear(root);
	if (rc)
		return spm_fail(e, rc, "cannot clear the orphans of the kept region: %s", strerror(-rc));
	(void)spm_steal_fd(&meta);
	return 0;
}
