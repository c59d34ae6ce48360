/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which spmfs mounts there are (from mountinfo), and what their control files say. */
#include "config.h"

#include "core/mountinfo.h"
#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>

#define SPM_FSTYPE "fuse.spmfs"

/* "ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS"; 1 when it is a spmfs mount. */
static int parse_line(char *line, struct ctl_mount *m)
{
	char *save = NULL, *field[6], *type, *source;

	for (size_t i = 0; i < 6; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return 0;
	}
	do {
		type = strtok_r(NULL, " ", &save);
	} while (type && strcmp(type, "-"));
	type = strtok_r(NULL, " ", &save);
	source = strtok_r(NULL, " ", &save);
	if (!type || !source || strcmp(type, SPM_FSTYPE))
		return 0;
	spm_mountinfo_unescape(field[3]);
	spm_mountinfo_unescape(field[4]);
	spm_mountinfo_unescape(source);
	snprintf(m->dev, sizeof(m->dev), "%s", field[2]);
	m->root = strdup(field[3]);
	m->point = strdup(field[4]);
	m->source = strdup(source);
	return m->root && m->point && m->source ? 1 : -ENOMEM;
}

static int add_line(struct ctl_mounts *mounts, char *line)
{
	struct ctl_mount *list, m = { 0 };
	int rc = parse_line(line, &m);

	if (rc == 1) {
		list = realloc(mounts->list, (mounts->n + 1) * sizeof(*list));
		if (list) {
			mounts->list = list;
			mounts->list[mounts->n++] = m;
			return 0;
		}
		rc = -ENOMEM;
	}
	if (rc < 0) {
		free(m.root);
		free(m.point);
		free(m.source);
	}
	return rc;
}

int ctl_mounts_read(struct ctl_mounts *mounts)
{
	spm_auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	spm_auto_free char *line = NULL;
	size_t size = 0;
	int rc = 0;

	memset(mounts, 0, sizeof(*mounts));
	if (!f) {
		rc = -errno;
		ctl_error("cannot read /proc/self/mountinfo: %s; is /proc mounted?", strerror(errno));
		return rc;
	}
	while (rc >= 0 && getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		rc = add_line(mounts, line);
	}
	if (rc < 0) {
		ctl_error("cannot read the list of mounts: %s", strerror(-rc));
		ctl_mounts_free(mounts);
	}
	return rc;
}

void ctl_mounts_free(struct ctl_mounts *mounts)
{
	for (size_t i = 0; i < mounts->n; i++) {
		free(mounts->list[i].root);
		free(mounts->list[i].point);
		free(mounts->list[i].source);
	}
	free(mounts->list);
	memset(mounts, 0, sizeof(*mounts));
}

/* The mount that path lies in, for an error message that names it. */
static const struct ctl_mount *mount_around(const struct ctl_mounts *mounts, const char *path)
{
	const struct ctl_mount *best = NULL;
	size_t best_len = 0;

	for (size_t i = 0; i < mounts->n; i++) {
		size_t len = strlen(mounts->list[i].point);

		if (len >= best_len && !strncmp(path, mounts->list[i].point, len) && path[len] == '/') {
			best = &mounts->list[i];
			best_len = len;
		}
	}
	return best;
}

bool ctl_is_dead(int err)
{
	/* the latter for a request that was under way when the connection ended */
	return err == ENOTCONN || err == ECONNABORTED;
}

const struct ctl_mount *ctl_mount_find(const struct ctl_mounts *mounts, const char *path)
{
	const struct ctl_mount *around;
	char real[PATH_MAX];

	if (!realpath(path, real)) {
		/* A dead server answers nothing, and its mount point is still the one that was meant. */
		if (!ctl_is_dead(errno) || snprintf(real, sizeof(real), "%s", path) >= (int)sizeof(real)) {
			ctl_error("%s: %s", path, strerror(errno));
			return NULL;
		}
	}
	/* The last mount on a point is the one that is seen. */
	for (size_t i = mounts->n; i-- > 0;)
		if (!strcmp(mounts->list[i].point, real))
			return &mounts->list[i];
	around = mount_around(mounts, real);
	if (around)
		ctl_error("%s: not a mount point, but inside one: try %s", path, around->point);
	else
		ctl_error("%s: no spmfs is mounted there; findmnt -t %s lists the mounts", path, SPM_FSTYPE);
	return NULL;
}

const struct ctl_mount *ctl_mount_of(const struct ctl_mounts *mounts, dev_t dev, bool whole)
{
	char text[sizeof(mounts->list[0].dev)];

	snprintf(text, sizeof(text), "%u:%u", major(dev), minor(dev));
	for (size_t i = 0; i < mounts->n; i++)
		if (!strcmp(mounts->list[i].dev, text) && (!whole || !strcmp(mounts->list[i].root, "/")))
			return &mounts->list[i];
	return NULL;
}

bool ctl_mount_first(const struct ctl_mounts *mounts, size_t i)
{
	const struct ctl_mount *m = &mounts->list[i];

	for (size_t j = 0; j < i; j++)
		if (!strcmp(m->dev, mounts->list[j].dev) && !strcmp(mounts->list[j].root, "/"))
			return false;
	return !strcmp(m->root, "/");
}

static char *read_all(int fd)
{
	size_t size = 4096, len = 0;
	char *text = malloc(size), *more;

	while (text) {
		ssize_t n = read(fd, text + len, size - len - 1);

		if (n <= 0) {
			if (n == 0) {
				text[len] = '\0';
				return text;
			}
			free(text);
			return NULL;
		}
		len += (size_t)n;
		if (size - len < 2) {
			more = realloc(text, size *= 2);
			if (!more)
				free(text);
			text = more;
		}
	}
	errno = ENOMEM;
	return NULL;
}

static void control_error(const char *mount, const char *name, int err)
{
	if (ctl_is_dead(err))
		ctl_error("%s: its server is gone, its files may not be: umount -l %s, then mount it as "
			  "before with -o recover",
			  mount, mount);
	else if (err == EACCES || err == EPERM)
		ctl_error("%s/.spm/%s: %s; run it as root", mount, name, strerror(err));
	else if (err == ENOENT)
		ctl_error("%s: no control file '%s' there: only part of the filesystem is mounted (a bind "
			  "mount), or its server is another version", mount, name);
	else
		ctl_error("%s/.spm/%s: %s", mount, name, strerror(err));
}

void ctl_path_error(const char *path, int err)
{
	ctl_error("%s: %s", path,
		  ctl_is_dead(err) ? "the mount's server is gone, its files may not be: umount -l it, then mount it as "
				     "before with -o recover"
				   : strerror(err));
}

static int control_open(const char *mount, const char *name, int flags)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/.spm/%s", mount, name) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(path, flags | O_CLOEXEC | O_NOCTTY);
}

char *ctl_control_read(const char *mount, const char *name)
{
	spm_auto_close int fd = control_open(mount, name, O_RDONLY);
	char *text = fd < 0 ? NULL : read_all(fd);

	if (!text)
		control_error(mount, name, errno);
	return text;
}

int ctl_control_open(const char *mount, const char *name)
{
	int fd = control_open(mount, name, O_WRONLY);

	if (fd < 0)
		control_error(mount, name, errno);
	return fd;
}

void ctl_is_draining(const char *what, const char *mount)
{
	ctl_error("%s: the device is being drained, nothing new is taken; spmctl drain --cancel %s ends that", what, mount);
}

bool ctl_has_pool(const char *mount)
{
	struct ctl_table t;
	const char *content;
	bool pool;

	if (ctl_control_table(mount, "features", &t))
		return false;
	content = ctl_table_get(&t, "content");
	pool = content && !strncmp(content, "pool", 4);
	ctl_table_free(&t);
	return pool;
}

void ctl_swap_off(const char *mount)
{
	ctl_error("%s: swap is off; unmount it and mount it with -o swap=DIRECTORY,swapsize=SIZE", mount);
}

int ctl_table_parse(struct ctl_table *table, char *text)
{
	char *save = NULL;
	size_t room = 1;

	memset(table, 0, sizeof(*table));
	table->text = text;
	for (const char *s = text; *s; s++)
		room += *s == '\n';
	table->pairs = calloc(room, sizeof(*table->pairs));
	if (!table->pairs) {
		ctl_table_free(table);
		return -ENOMEM;
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t len = strcspn(line, " ");
		bool bare = !line[len];

		line[len] = '\0';
		table->pairs[table->n].key = line;
		table->pairs[table->n++].value = bare ? line + len : line + len + 1;
	}
	return 0;
}

void ctl_table_free(struct ctl_table *table)
{
	free(table->pairs);
	free(table->text);
	memset(table, 0, sizeof(*table));
}

const char *ctl_table_get(const struct ctl_table *table, const char *key)
{
	for (size_t i = 0; i < table->n; i++)
		if (!strcmp(table->pairs[i].key, key))
			return table->pairs[i].value;
	return NULL;
}

bool ctl_table_u64(const struct ctl_table *table, const char *key, uint64_t *value)
{
	const char *text = ctl_table_get(table, key);
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && !*end;
}

int ctl_control_table(const char *mount, const char *name, struct ctl_table *table)
{
	char *text = ctl_control_read(mount, name);

	if (!text)
		return CTL_FAILED;
	if (!ctl_table_parse(table, text))
		return CTL_DONE;
	ctl_error("%s: out of memory", mount);
	return CTL_FAILED;
}

const char *ctl_refusal(const struct ctl_mounts *mounts, const FTSENT *e)
{
	if (e->fts_level != FTS_ROOTLEVEL || e->fts_info == FTS_DP || e->fts_info == FTS_NS || e->fts_info == FTS_ERR)
		return NULL;
	if (!ctl_mount_of(mounts, e->fts_statp->st_dev, false))
		return "not on a spmfs mount; spmctl status lists the mounts";
	if (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE || e->fts_info == FTS_DEFAULT)
		return "not a regular file or a directory: it has no data on the device";
	return NULL;
}
