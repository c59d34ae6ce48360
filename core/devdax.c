/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/devdax.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define DEVICES       "/sys/bus/dax/devices/"
#define LOCK_TRIES    150
#define LOCK_PAUSE_NS 20000000
#define ALIGN         (UINT64_C(2) << 20) /* where the kernel does not say (before Linux 5.10) */

const char *spm_devdax_stand_in(void)
{
	const char *path = geteuid() ? NULL : secure_getenv("SPMFS_DAX_FILE");

	return path && *path ? path : NULL;
}

/* A number in a file of the device; false: there is none. */
static bool read_number(const char *dax, const char *name, uint64_t *out)
{
	char path[128];
	unsigned long long n;
	spm_auto_fclose FILE *f = NULL;

	snprintf(path, sizeof(path), DEVICES "%s/%s", dax, name);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%llu", &n) != 1)
		return false;
	*out = n;
	return true;
}

/* The driver that has the device: "device_dax", "kmem", or "". */
static void read_driver(const char *dax, char driver[static 64])
{
	char path[128], to[PATH_MAX];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), DEVICES "%s/driver", dax);
	n = readlink(path, to, sizeof(to) - 1);
	to[n > 0 ? n : 0] = '\0';
	slash = strrchr(to, '/');
	snprintf(driver, 64, "%.63s", slash ? slash + 1 : "");
}

/* sysfs makes its link to the driver anew each time, and gives no number twice. 0: not known. */
static uint64_t read_binding(const char *dax)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), DEVICES "%s/driver", dax);
	return lstat(path, &st) ? 0 : (uint64_t)st.st_ino;
}

static int check_stand_in(const char *path, struct spm_source *s, const char *text, struct spm_error *e)
{
	struct stat st;

	if (stat(path, &st) || !S_ISREG(st.st_mode))
		return spm_fail(e, -ENODEV, "%s: SPMFS_DAX_FILE=%s: not a regular file", text, path);
	s->dax_mode = SPM_DAX_DEVDAX;
	s->bytes = (uint64_t)st.st_size;
	return 0;
}

int spm_devdax_check(struct spm_source *s, const char *text, struct spm_error *e)
{
	const char *path = spm_devdax_stand_in();
	char driver[64];

	if (path)
		return check_stand_in(path, s, text, e);
	if (!read_number(s->dax, "size", &s->bytes))
		return spm_fail(e, -ENODEV, "%s: there is no such dax device; 'spmctl devices' lists those that there are", text);
	read_driver(s->dax, driver);
	if (strcmp(driver, "device_dax"))
		return spm_fail(e, -ENOTSUP, "%s: the device is not in mode devdax; 'daxctl reconfigure-device --mode=devdax %s' makes it so",
				text, s->dax);
	s->dax_mode = SPM_DAX_DEVDAX;
	return 0;
}

/* A mount that has just ended may take a moment to let go. */
static int lock_device(int fd)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	int busy;

	for (int tries = 0; (busy = flock(fd, LOCK_EX | LOCK_NB)) && errno == EWOULDBLOCK && tries < LOCK_TRIES; tries++)
		nanosleep(&pause, NULL);
	return busy ? errno == EWOULDBLOCK ? -EBUSY : -errno : 0;
}

/* What may be mapped of a file goes by the pages that it has. */
static int look_at_file(int fd, struct spm_devdax *d)
{
	struct statfs sf;
	struct stat st;

	if (fstat(fd, &st) || fstatfs(fd, &sf))
		return -errno;
	d->bytes = (uint64_t)st.st_size;
	d->align = sf.f_bsize > 4096 ? (uint64_t)sf.f_bsize : 4096;
	return 0;
}

static int look_at_device(int fd, const char *dax, struct spm_devdax *d)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISCHR(st.st_mode) || !read_number(dax, "size", &d->bytes))
		return -ENODEV;
	if (!read_number(dax, "align", &d->align) || !d->align)
		d->align = ALIGN;
	d->binding = read_binding(dax);
	return 0;
}

int spm_devdax_open(const struct spm_source *s, const char *text, struct spm_devdax *out, struct spm_error *e)
{
	const char *stand_in = spm_devdax_stand_in();
	struct spm_devdax d = { .stand_in = stand_in };
	spm_auto_close int fd = -1;
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/dev/%s", s->dax);
	fd = open(stand_in ? stand_in : path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return spm_fail(e, -errno, "%s: cannot open %s: %s", text, stand_in ? stand_in : path, strerror(errno));
	rc = lock_device(fd);
	if (rc == -EBUSY)
		return spm_fail(e, rc, "%s: another mount uses the device; unmount that one, or take another device", text);
	if (!rc)
		rc = stand_in ? look_at_file(fd, &d) : look_at_device(fd, s->dax, &d);
	if (rc)
		return spm_fail(e, rc, "%s: cannot use %s: %s", text, stand_in ? stand_in : path, strerror(-rc));
	d.fd = spm_steal_fd(&fd);
	*out = d;
	return 0;
}
