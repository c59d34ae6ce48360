/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How treestress compares: results, attributes, whole trees. */
#include "tests/namespace/stress.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

void same_result(struct world *w)
{
	char *line = w->log[w->ops % LOG_LINES];
	size_t len = strlen(line);

	snprintf(line + len, LOG_WIDTH - len, " = %ld%s%s", w->res[1], w->err[1] ? " " : "",
		 w->err[1] ? strerrorname_np(w->err[1]) : "");
	if (w->res[0] == w->res[1] && w->err[0] == w->err[1])
		return;
	w->error = w->err[0] != w->err[1];
	differ(w, "tested: %ld %s, reference: %ld %s", w->res[0], w->err[0] ? strerrorname_np(w->err[0]) : "",
	       w->res[1], w->err[1] ? strerrorname_np(w->err[1]) : "");
}

/* Everything but times, inode numbers and blocks. */
void same_stat(struct world *w, const struct stat st[2], const char *what)
{
	if (st[0].st_mode != st[1].st_mode)
		differ(w, "%s: mode 0%o, reference 0%o", what, st[0].st_mode, st[1].st_mode);
	if (st[0].st_uid != st[1].st_uid || st[0].st_gid != st[1].st_gid)
		differ(w, "%s: owner %u:%u, reference %u:%u", what, st[0].st_uid, st[0].st_gid, st[1].st_uid,
		       st[1].st_gid);
	if (st[0].st_nlink != st[1].st_nlink)
		differ(w, "%s: nlink %lu, reference %lu", what, (unsigned long)st[0].st_nlink,
		       (unsigned long)st[1].st_nlink);
	if (st[0].st_size != st[1].st_size && !(w->disk && S_ISDIR(st[0].st_mode)))
		differ(w, "%s: size %lld, reference %lld", what, (long long)st[0].st_size,
		       (long long)st[1].st_size);
	if (st[0].st_rdev != st[1].st_rdev)
		differ(w, "%s: device %lx, reference %lx", what, (unsigned long)st[0].st_rdev,
		       (unsigned long)st[1].st_rdev);
}

void same_path(struct world *w, const char *path)
{
	struct stat st[2];

	BOTH(w, fstatat(w->root[s], path, &st[s], AT_SYMLINK_NOFOLLOW));
	if (!w->res[0])
		same_stat(w, st, path);
}

void same_fd(struct world *w, const struct slot *slot)
{
	struct stat st[2];

	BOTH(w, fstat(slot->fd[s], &st[s]));
	if (!w->res[0])
		same_stat(w, st, "open file");
}

/* ---- trees ---- */

/* Inodes with several names: which path came first. The same names must be one inode on both sides. */
struct links {
	struct {
		ino_t ino[2];
	} * seen;
	size_t n, room;
};

static void same_links(struct world *w, struct links *l, const struct stat st[2], const char *path)
{
	size_t i;

	for (i = 0; i < l->n; i++) {
		bool a = l->seen[i].ino[0] == st[0].st_ino, b = l->seen[i].ino[1] == st[1].st_ino;

		if (a != b)
			differ(w, "%s: a hard link of something else than in the reference", path);
		if (a)
			return;
	}
	if (l->n == l->room) {
		l->room = l->room ? l->room * 2 : 64;
		l->seen = realloc(l->seen, l->room * sizeof(l->seen[0]));
	}
	l->seen[l->n].ino[0] = st[0].st_ino;
	l->seen[l->n++].ino[1] = st[1].st_ino;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t sorted_names(struct world *w, int fd, char ***names)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = own < 0 ? NULL : fdopendir(own);
	size_t n = 0, room = 0;
	struct dirent *e;

	*names = NULL;
	if (!d)
		differ(w, "a directory cannot be listed: %s", strerror(errno));
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (n == room) {
			room = room ? room * 2 : 32;
			*names = realloc(*names, room * sizeof(**names));
		}
		(*names)[n++] = strdup(e->d_name);
	}
	closedir(d);
	if (n)
		qsort(*names, n, sizeof(**names), by_name);
	return n;
}

static void same_content(struct world *w, const int fds[2], const char *path)
{
	off_t at = 0;

	do {
		BOTH(w, pread(fds[s], w->buf[s], MAX_SIZE, at));
		if (w->res[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
			differ(w, "%s: content differs after %lld", path, (long long)at);
		at += w->res[0];
	} while (w->res[0] > 0);
}

static void same_xattrs(struct world *w, const int fds[2], const char *path)
{
	char lists[2][4096], values[2][8192];
	char *sorted[2][64];
	size_t n[2] = {0, 0}, i;
	int k;

	for (k = 0; k < 2; k++)
		w->res[k] = flistxattr(fds[k], lists[k], sizeof(lists[k]));
	if (!w->disk && w->res[0] != w->res[1])
		differ(w, "%s: names of extended attributes: %ld bytes, reference %ld", path, w->res[0], w->res[1]);
	for (k = 0; k < 2; k++) {
		char *p;

		/* xfs shows root how it stores ACLs */
		for (p = lists[k]; p < lists[k] + w->res[k] && n[k] < 64; p += strlen(p) + 1)
			if (strncmp(p, "trusted.SGI_ACL_", strlen("trusted.SGI_ACL_")))
				sorted[k][n[k]++] = p;
		qsort(sorted[k], n[k], sizeof(sorted[k][0]), by_name);
	}
	for (i = 0; i < n[0] || i < n[1]; i++) {
		if (i >= n[0] || i >= n[1] || strcmp(sorted[0][i], sorted[1][i]))
			differ(w, "%s: extended attribute %s is not on both sides", path, i < n[0] ? sorted[0][i] : sorted[1][i]);
		BOTH(w, fgetxattr(fds[s], sorted[s][i], values[s], sizeof(values[s])));
		if (w->res[0] > 0 && memcmp(values[0], values[1], (size_t)w->res[0]))
			differ(w, "%s: value of %s differs", path, sorted[0][i]);
	}
}

static void compare_dirs(struct world *w, const int dirs[2], const char *path, struct links *l);

static void compare_entry(struct world *w, const int dirs[2], const char *path, const char *name,
			  struct links *l)
{
	char full[1024];
	struct stat st[2];
	int fds[2];

	snprintf(full, sizeof(full), "%s/%s", path, name);
	BOTH(w, fstatat(dirs[s], name, &st[s], AT_SYMLINK_NOFOLLOW));
	same_stat(w, st, full);
	if (!S_ISDIR(st[0].st_mode) && st[0].st_nlink > 1)
		same_links(w, l, st, full);
	if (S_ISLNK(st[0].st_mode)) {
		BOTH(w, readlinkat(dirs[s], name, w->buf[s], MAX_SIZE));
		if (memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
			differ(w, "%s: target differs", full);
	}
	if (!S_ISREG(st[0].st_mode) && !S_ISDIR(st[0].st_mode))
		return;
	BOTH_FD(w, openat(dirs[s], name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
	same_xattrs(w, fds, full);
	if (S_ISREG(st[0].st_mode))
		same_content(w, fds, full);
	else
		compare_dirs(w, fds, full, l);
	close(fds[0]);
	close(fds[1]);
}

static void compare_dirs(struct world *w, const int dirs[2], const char *path, struct links *l)
{
	char **names[2];
	size_t n[2], i;
	int k;

	for (k = 0; k < 2; k++)
		n[k] = sorted_names(w, dirs[k], &names[k]);
	for (i = 0; i < n[0] || i < n[1]; i++) {
		const char *a = i < n[0] ? names[0][i] : "(nothing)",
			   *b = i < n[1] ? names[1][i] : "(nothing)";

		if (strcmp(a, b))
			differ(w, "%s: entry %s, reference %s", path, a, b);
		compare_entry(w, dirs, path, a, l);
	}
	for (k = 0; k < 2; k++) {
		for (i = 0; i < n[k]; i++)
			free(names[k][i]);
		free(names[k]);
	}
}

void same_tree(struct world *w, const int dirs[2], const char *what)
{
	struct links l = {0};

	say(w, "comparison of %s", what);
	compare_dirs(w, dirs, what, &l);
	free(l.seen);
}
