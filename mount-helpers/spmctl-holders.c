/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has a file open or mapped, from /proc. The inode decides, not a path: a process in another mount namespace,
 * or one that reaches the file by another name, holds it as well.
 */
#include "config.h"

#include "mount-helpers/spmctl.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct search {
	dev_t dev;
	ino_t ino;
	unsigned int found;
	FILE *out;
};

/* "START-END PERMS OFFSET MAJ:MIN INO PATH", the device in hex; direct mappings show the mount's file, too. */
static bool maps_it(const struct search *s, const char *pid)
{
	spm_auto_fclose FILE *f = NULL;
	spm_auto_free char *line = NULL;
	unsigned int major_nr, minor_nr;
	unsigned long long ino;
	char path[PATH_MAX];
	bool found = false;
	size_t size = 0;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "re");
	while (!found && f && getline(&line, &size, f) > 0)
		found = sscanf(line, "%*s %*s %*s %x:%x %llu", &major_nr, &minor_nr, &ino) == 3 && ino == s->ino &&
			makedev(major_nr, minor_nr) == s->dev;
	return found;
}

/* Looks at fdinfo first: to stat(2) whatever others have open may hang on a filesystem that is none of ours. */
static bool may_be_it(const struct search *s, const char *pid, const char *fd)
{
	spm_auto_fclose FILE *f = NULL;
	char path[PATH_MAX], line[128];
	unsigned long long ino = 0;
	unsigned int flags = 0;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", pid, fd);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!ino && fgets(line, sizeof(line), f)) {
		sscanf(line, "flags: %o", &flags);
		sscanf(line, "ino: %llu", &ino);
	}
	/* an O_PATH descriptor holds nothing; before Linux 5.14 there is no ino there */
	return !(flags & O_PATH) && (!ino || ino == s->ino);
}

static bool has_it_open(const struct search *s, const char *pid)
{
	char path[PATH_MAX];
	const struct dirent *e;
	bool found = false;
	struct statx sx;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	while (!found && dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || !may_be_it(s, pid, e->d_name))
			continue;
		found = !statx(dirfd(dir), e->d_name, AT_STATX_DONT_SYNC, STATX_INO, &sx) && sx.stx_ino == s->ino &&
			makedev(sx.stx_dev_major, sx.stx_dev_minor) == s->dev;
	}
	if (dir)
		closedir(dir);
	return found;
}

static void add(struct search *s, const char *pid, const char *how)
{
	spm_auto_fclose FILE *f = NULL;
	char path[PATH_MAX], name[64] = "";

	if (s->found++ >= CTL_HOLDERS_SHOWN)
		return;
	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f || !fgets(name, sizeof(name), f))
		snprintf(name, sizeof(name), "?");
	name[strcspn(name, "\n")] = '\0';
	/* a process names itself as it likes */
	for (char *c = name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	fprintf(s->out, "%s%s (pid %s, %s)", s->found > 1 ? ", " : "", name, pid, how);
}

char *ctl_holders(dev_t dev, ino_t ino)
{
	struct search s = { .dev = dev, .ino = ino };
	const struct dirent *e;
	char *text = NULL;
	size_t len = 0;
	DIR *proc = opendir("/proc");

	s.out = proc ? open_memstream(&text, &len) : NULL;
	while (s.out && (e = readdir(proc))) {
		bool open, mapped;

		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		open = has_it_open(&s, e->d_name);
		mapped = maps_it(&s, e->d_name);
		if (open || mapped)
			add(&s, e->d_name, open && mapped ? "open and mapped" : open ? "open" : "mapped");
	}
	if (proc)
		closedir(proc);
	if (s.out && s.found > CTL_HOLDERS_SHOWN)
		fprintf(s.out, " and %u more", s.found - CTL_HOLDERS_SHOWN);
	if (!s.out || fclose(s.out) || !s.found) {
		free(text);
		return NULL;
	}
	return text;
}
