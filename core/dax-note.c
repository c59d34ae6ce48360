/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/dax-note.h"
#include "core/dax.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#define PAUSE_NS   20000000
#define LOCK_TRIES 100	/* for one who looks at it, or has just ended */
#define END_TRIES  3000 /* for a mount that gives it back */

static void note_path(const char *dax, char *buf, size_t len)
{
	snprintf(buf, len, SPM_RUN_DIR "/%s.dax", dax);
}

/* Whether the path still leads to what was locked: the one who had it may have removed it. */
static bool is_there(const char *path, int fd)
{
	struct stat a, b;

	return !stat(path, &a) && !fstat(fd, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int spm_dax_note_lock(const char *dax, struct spm_error *e)
{
	static const struct timespec pause = { .tv_nsec = PAUSE_NS };
	char path[64 + SPM_DAX_NAME];

	note_path(dax, path, sizeof(path));
	for (int tries = 0;; tries++) {
		spm_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		struct spm_dax_note n = { .mount = "" };

		if (fd < 0)
			return spm_fail(e, -errno, "cannot open %s: %m", path);
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			if (is_there(path, fd))
				return spm_steal_fd(&fd);
			continue;
		}
		if (errno != EWOULDBLOCK)
			return spm_fail(e, -errno, "cannot lock %s: %m", path);
		(void)!spm_dax_note_read(fd, &n);
		if (tries > (n.ends ? END_TRIES : LOCK_TRIES))
			return spm_fail(e, -EBUSY,
					"%s is in use by the mount '%s'; unmount that, or take another device", dax,
					n.mount[0] ? n.mount : "?");
		nanosleep(&pause, NULL);
	}
}

static bool parse_mode(const char *text, enum spm_dax_mode *mode)
{
	static const enum spm_dax_mode modes[] = { SPM_DAX_AUTO, SPM_DAX_SYSTEM_RAM, SPM_DAX_DEVDAX };

	for (size_t i = 0; i < SPM_ARRAY_SIZE(modes); i++) {
		if (!strcmp(text, spm_dax_mode_name(modes[i]))) {
			*mode = modes[i];
			return true;
		}
	}
	return false;
}

int spm_dax_note_read(int fd, struct spm_dax_note *n)
{
	char text[256], mode[16], before[24], *dash;
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
	int ends = 0;

	*n = (struct spm_dax_note){ .node = -1 };
	if (len < 0)
		return -errno;
	text[len] = '\0';
	if (!len)
		return -ENODATA;
	if (sscanf(text, "mount %71s\nmode %15s\nbefore %23s\nnode %d\nends %d", n->mount, mode, before, &n->node,
		   &ends) != 5)
		return -EPROTO;
	dash = strstr(before, "-offline");
	if (dash)
		*dash = '\0';
	n->offline = dash;
	n->ends = ends;
	return parse_mode(mode, &n->mode) && parse_mode(before, &n->before) ? 0 : -EPROTO;
}

int spm_dax_note_write(int fd, const struct spm_dax_note *n)
{
	char text[256];
	int len = snprintf(text, sizeof(text), "mount %s\nmode %s\nbefore %s%s\nnode %d\nends %d\n", n->mount,
			   spm_dax_mode_name(n->mode), spm_dax_mode_name(n->before), n->offline ? "-offline" : "",
			   n->node, n->ends);

	if (pwrite(fd, text, (size_t)len, 0) != len || ftruncate(fd, len))
		return errno ? -errno : -EIO;
	return 0;
}

int spm_dax_note_look(const char *dax, struct spm_dax_note *n)
{
	char path[64 + SPM_DAX_NAME];
	spm_auto_close int fd = -1;
	int rc, busy;

	note_path(dax, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	busy = flock(fd, LOCK_SH | LOCK_NB);
	rc = spm_dax_note_read(fd, n);
	if (rc == -ENODATA && !busy)
		return -ENOENT;
	return rc && rc != -ENODATA ? rc : busy ? 1 : 0;
}

void spm_dax_note_remove(const char *dax, int fd)
{
	char path[64 + SPM_DAX_NAME];

	note_path(dax, path, sizeof(path));
	if (is_there(path, fd))
		unlink(path);
	flock(fd, LOCK_UN);
}

bool spm_dax_note_has_region(const struct spm_dax_note *n)
{
	char path[128];
	struct statfs sf;

	snprintf(path, sizeof(path), SPM_RUN_DIR "/%s.ns", n->mount);
	return !statfs(path, &sf) && sf.f_type == NSFS_MAGIC;
}
