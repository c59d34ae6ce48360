/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/beneath.h"
#include "core/mountinfo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEPTH_MAX 16

struct search {
	char *where; /* PATH_MAX */
	int depth;
};

/* One line of mountinfo, its words in place. */
struct line {
	unsigned long long id;
	dev_t dev;
	char *dir, *type, *source, *options;
};

static int check_path(struct search *s, const char *path);

static bool split(char *text, struct line *l)
{
	unsigned int major, minor;
	char *rest, *save = NULL, *tail = strstr(text, " - ");

	if (!tail || sscanf(text, "%llu %*u %u:%u", &l->id, &major, &minor) != 3)
		return false;
	*tail = '\0';
	l->dev = makedev(major, minor);
	strtok_r(text, " \n", &save);
	for (int i = 0; i < 3; i++)
		strtok_r(NULL, " \n", &save);
	l->dir = strtok_r(NULL, " \n", &save);
	rest = tail + 3;
	l->type = strtok_r(rest, " \n", &save);
	l->source = strtok_r(NULL, " \n", &save);
	l->options = strtok_r(NULL, " \n", &save);
	if (!l->dir || !l->type || !l->source || !l->options)
		return false;
	spm_mountinfo_unescape(l->dir);
	spm_mountinfo_unescape(l->source);
	return true;
}

static int read_line(const char *path, char *buf, size_t len)
{
	spm_auto_fclose FILE *f = fopen(path, "re");

	if (!f || !fgets(buf, (int)len, f))
		return -ENOENT;
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

static int check_block(struct search *s, dev_t dev);

static int check_block_file(struct search *s, const char *path)
{
	unsigned int major, minor;
	char text[32];

	if (read_line(path, text, sizeof(text)) || sscanf(text, "%u:%u", &major, &minor) != 2)
		return 0;
	return check_block(s, makedev(major, minor));
}

/* What device mapper or md has made it of. */
static int check_slaves(struct search *s, const char *base)
{
	char path[PATH_MAX];
	struct dirent *de;
	DIR *d;
	int rc = 0;

	snprintf(path, sizeof(path), "%s/slaves", base);
	d = opendir(path);
	while (d && !rc && (de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/slaves/%s/dev", base, de->d_name);
		rc = check_block_file(s, path);
	}
	if (d)
		closedir(d);
	return rc;
}

static int check_block(struct search *s, dev_t dev)
{
	char base[64], path[96], file[PATH_MAX];
	int rc = 0;

	if (++s->depth > DEPTH_MAX)
		return -ELOOP;
	snprintf(base, sizeof(base), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	snprintf(path, sizeof(path), "%s/loop/backing_file", base);
	if (!read_line(path, file, sizeof(file)))
		rc = check_path(s, file);
	snprintf(path, sizeof(path), "%s/partition", base);
	if (!rc && !access(path, F_OK)) {
		snprintf(path, sizeof(path), "%s/../dev", base);
		rc = check_block_file(s, path);
	}
	if (!rc)
		rc = check_slaves(s, base);
	s->depth--;
	return rc;
}

static int check_mount(struct search *s, struct line *l)
{
	char *upper = !strcmp(l->type, "overlay") ? strstr(l->options, "upperdir=") : NULL;
	struct stat st;

	if (!strcmp(l->type, "fuse.spmfs")) {
		snprintf(s->where, PATH_MAX, "%s", l->dir);
		return 1;
	}
	if (upper) {
		upper += strlen("upperdir=");
		upper[strcspn(upper, ",")] = '\0';
		return check_path(s, spm_mountinfo_unescape(upper));
	}
	/* with a device number of its own for each subvolume or snapshot (btrfs) */
	if (!major(l->dev) && !strncmp(l->source, "/dev/", 5) && !stat(l->source, &st) && S_ISBLK(st.st_mode))
		return check_block(s, st.st_rdev);
	return 0;
}

static int check_fd(struct search *s, int fd)
{
	spm_auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	spm_auto_free char *text = NULL;
	struct statx sx;
	size_t room = 0;
	bool found = false;
	int rc = 0;

	if (!f || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &sx))
		return 0;
	while (!found && getline(&text, &room, f) > 0) {
		dev_t dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
		struct line l;

		if (!split(text, &l))
			continue;
		found = sx.stx_mask & STATX_MNT_ID ? l.id == sx.stx_mnt_id : l.dev == dev;
		if (found)
			rc = check_mount(s, &l);
	}
	return !rc && sx.stx_dev_major ? check_block(s, makedev(sx.stx_dev_major, sx.stx_dev_minor)) : rc;
}

static int check_path(struct search *s, const char *path)
{
	spm_auto_close int fd = open(path, O_PATH | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return 0;
	if (++s->depth > DEPTH_MAX)
		return -ELOOP;
	rc = check_fd(s, fd);
	s->depth--;
	return rc;
}

int spm_beneath_spmfs(int fd, char where[static PATH_MAX])
{
	struct search s = { .where = where };

	return check_fd(&s, fd);
}
