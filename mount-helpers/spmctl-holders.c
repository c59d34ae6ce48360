/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has a file open or mapped, or uses a slice in any way, from /proc. The inode decides, not a path: a process
 * in another mount namespace, or one that reaches the file by another name, holds it as well.
 */
#include "config.h"

#include "core/slice.h"
#include "mount-helpers/spmctl-slice.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct search {
	dev_t dev;
	ino_t ino;         /* of one file; 0: anything of a slice, or one of many */
	const ino_t *inos; /* of many, in order */
	size_t n_inos;
	uint16_t id;       /* of the slice */
	const char *name;  /* of it, and so of its directory */
	const char *where; /* the mount's device as in mountinfo */
	uint64_t *seen;    /* mount namespaces that were looked at */
	size_t n_seen;
	unsigned int found;
	FILE *out;
};

static int by_ino(const void *a, const void *b)
{
	ino_t x = *(const ino_t *)a, y = *(const ino_t *)b;

	return x < y ? -1 : x > y;
}

static bool is_it(const struct search *s, uint64_t ino)
{
	const ino_t key = ino;

	if (s->inos)
		return bsearch(&key, s->inos, s->n_inos, sizeof(key), by_ino);
	return s->ino ? ino == s->ino : ino == spm_slice_ino(s->id, ino);
}

/* Called for what was found, with how it is held; true: that was enough. */
typedef bool found_fn(void *arg, const char *pid, ino_t ino, bool mapped);

static bool first_one(void *arg, const char *pid, ino_t ino, bool mapped)
{
	(void)arg;
	(void)pid;
	(void)ino;
	(void)mapped;
	return true;
}

/* "START-END PERMS OFFSET MAJ:MIN INO PATH", the device in hex; direct mappings show the mount's file, too. */
static bool maps_it(const struct search *s, const char *pid, found_fn *found, void *arg)
{
	spm_auto_fclose FILE *f = NULL;
	spm_auto_free char *line = NULL;
	unsigned int major_nr, minor_nr;
	unsigned long long ino;
	char path[PATH_MAX];
	bool enough = false;
	size_t size = 0;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "re");
	while (!enough && f && getline(&line, &size, f) > 0)
		enough = sscanf(line, "%*s %*s %*s %x:%x %llu", &major_nr, &minor_nr, &ino) == 3 && is_it(s, ino) &&
			 makedev(major_nr, minor_nr) == s->dev && found(arg, pid, ino, true);
	return enough;
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
	return !(flags & O_PATH) && (!ino || is_it(s, ino));
}

/* What the kernel knows of it: a server that does not answer is not asked. */
static ino_t leads_to_it(const struct search *s, int dir, const char *path)
{
	struct statx sx;

	return !statx(dir, path, AT_STATX_DONT_SYNC, STATX_INO, &sx) && is_it(s, sx.stx_ino) &&
	       makedev(sx.stx_dev_major, sx.stx_dev_minor) == s->dev ? sx.stx_ino : 0;
}

static bool has_it_open(const struct search *s, const char *pid, found_fn *found, void *arg)
{
	char path[PATH_MAX];
	const struct dirent *e;
	bool enough = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	while (!enough && dir && (e = readdir(dir))) {
		ino_t ino = e->d_name[0] != '.' && may_be_it(s, pid, e->d_name) ?
				    leads_to_it(s, dirfd(dir), e->d_name) : 0;

		enough = ino && found(arg, pid, ino, false);
	}
	if (dir)
		closedir(dir);
	return enough;
}

static bool stands_in_it(const struct search *s, const char *pid, const char *link)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, link);
	return leads_to_it(s, AT_FDCWD, path);
}

static void name_of(const char *pid, char name[static 64])
{
	spm_auto_fclose FILE *f = NULL;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f || !fgets(name, 64, f))
		snprintf(name, 64, "?");
	name[strcspn(name, "\n")] = '\0';
	/* a process names itself as it likes */
	for (char *c = name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

static void add(struct search *s, const char *pid, const char *how)
{
	char name[64] = "";

	if (s->found++ >= CTL_HOLDERS_SHOWN)
		return;
	name_of(pid, name);
	fprintf(s->out, "%s%s (pid %s, %s)", s->found > 1 ? ", " : "", name, pid, how);
}

/* Whether a process is the first one that is seen in its mount namespace. */
static bool is_new_namespace(struct search *s, const char *pid)
{
	char path[PATH_MAX];
	uint64_t *seen;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", pid);
	if (stat(path, &st))
		return false;
	for (size_t i = 0; i < s->n_seen; i++)
		if (s->seen[i] == st.st_ino)
			return false;
	seen = realloc(s->seen, (s->n_seen + 1) * sizeof(*seen));
	if (!seen)
		return false;
	s->seen = seen;
	seen[s->n_seen++] = st.st_ino;
	return true;
}

/* "ID PARENT MAJ:MIN ROOT POINT ...": bind mounts of the slice's directory, or of one below. */
static void find_mounts(struct search *s, const char *pid)
{
	spm_auto_fclose FILE *f = NULL;
	spm_auto_free char *line = NULL;
	char path[PATH_MAX];
	size_t size = 0, n = strlen(s->name);

	snprintf(path, sizeof(path), "/proc/%s/mountinfo", pid);
	f = fopen(path, "re");
	while (f && getline(&line, &size, f) > 0) {
		char *save = NULL, *field[5] = { NULL }, how[PATH_MAX + 32];

		for (size_t i = 0; i < 5; i++)
			field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[4] || strcmp(field[2], s->where) || strncmp(field[3] + 1, s->name, n) ||
		    (field[3][n + 1] && field[3][n + 1] != '/'))
			continue;
		snprintf(how, sizeof(how), "mounted at %s", field[4]);
		add(s, pid, how);
	}
}

static void look_at(struct search *s, const char *pid)
{
	const struct {
		const char *how;
		bool is;
	} ways[] = {
		{ "open", has_it_open(s, pid, first_one, NULL) },
		{ "mapped", maps_it(s, pid, first_one, NULL) },
		{ "its working directory", !s->ino && stands_in_it(s, pid, "cwd") },
		{ "its root directory", !s->ino && stands_in_it(s, pid, "root") },
	};
	char how[80] = "";

	for (size_t i = 0; i < SPM_ARRAY_SIZE(ways); i++)
		if (ways[i].is)
			snprintf(how + strlen(how), sizeof(how) - strlen(how), "%s%s", how[0] ? " and " : "",
				 ways[i].how);
	if (how[0])
		add(s, pid, how);
	if (!s->ino && is_new_namespace(s, pid))
		find_mounts(s, pid);
}

static char *search(struct search s)
{
	const struct dirent *e;
	char *text = NULL;
	size_t len = 0;
	DIR *proc = opendir("/proc");

	s.out = proc ? open_memstream(&text, &len) : NULL;
	while (s.out && (e = readdir(proc)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
			look_at(&s, e->d_name);
	if (proc)
		closedir(proc);
	free(s.seen);
	if (s.out && s.found > CTL_HOLDERS_SHOWN)
		fprintf(s.out, " and %u more", s.found - CTL_HOLDERS_SHOWN);
	if (!s.out || fclose(s.out) || !s.found) {
		free(text);
		return NULL;
	}
	return text;
}

char *ctl_holders(dev_t dev, ino_t ino)
{
	struct search s = { .dev = dev, .ino = ino };

	return search(s);
}

char *ctl_slice_holders(const struct ctl_mount *m, const struct ctl_slice *slice)
{
	struct search s = { .id = (uint16_t)ctl_slice_number(slice, "id"), .name = slice->name, .where = m->dev };
	unsigned int major_nr, minor_nr;

	if (!s.id || sscanf(m->dev, "%u:%u", &major_nr, &minor_nr) != 2)
		return NULL;
	s.dev = makedev(major_nr, minor_nr);
	return search(s);
}

/* -- of many files at once -- */

struct many {
	struct ctl_holder *list;
	size_t n, room;
	bool failed;
};

static bool note_holder(void *arg, const char *pid, ino_t ino, bool mapped)
{
	struct many *m = arg;
	struct ctl_holder *h;
	long nr = atol(pid);

	/* what was found of a process is at the end */
	for (size_t i = m->n; i-- > 0 && m->list[i].pid == nr;) {
		if (m->list[i].ino != ino)
			continue;
		*(mapped ? &m->list[i].mapped : &m->list[i].open) = true;
		return false;
	}
	if (m->n == m->room) {
		size_t room = m->room ? m->room * 2 : 16;
		struct ctl_holder *list = realloc(m->list, room * sizeof(*list));

		if (!list) {
			m->failed = true;
			return true;
		}
		m->list = list;
		m->room = room;
	}
	h = &m->list[m->n++];
	*h = (struct ctl_holder){ .pid = nr, .ino = ino, .open = !mapped, .mapped = mapped };
	name_of(pid, h->command);
	return false;
}

int ctl_holders_of(dev_t dev, ino_t *inos, size_t n_inos, struct ctl_holder **list, size_t *n)
{
	struct search s = { .dev = dev, .inos = inos, .n_inos = n_inos };
	DIR *proc = n_inos ? opendir("/proc") : NULL;
	struct many m = { NULL, 0, 0, false };
	const struct dirent *e;

	qsort(inos, n_inos, sizeof(*inos), by_ino);
	while (proc && !m.failed && (e = readdir(proc))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		(void)has_it_open(&s, e->d_name, note_holder, &m);
		(void)maps_it(&s, e->d_name, note_holder, &m);
	}
	if (proc)
		closedir(proc);
	*list = m.list;
	*n = m.n;
	return m.failed ? -ENOMEM : 0;
}
