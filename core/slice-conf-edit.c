/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes of a configuration file, line by line: libinih reads only. */
#include "core/slice-conf.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FIRST_LINE "# Slices of the mount of this name, see spmfs.conf(5).\n"

struct line {
	const char *at;
	size_t len; /* with its line end */
};

struct lines {
	struct line *list;
	size_t n;
};

static int split(const char *text, struct lines *out)
{
	size_t n = 1;

	for (const char *p = text; *p; p++)
		n += *p == '\n';
	out->n = 0;
	out->list = calloc(n, sizeof(*out->list));
	if (!out->list)
		return -ENOMEM;
	/* some editors put a mark in front */
	if (!strncmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	while (*text) {
		size_t len = strcspn(text, "\n");

		len += text[len] == '\n';
		out->list[out->n++] = (struct line){ text, len };
		text += len;
	}
	return 0;
}

static char first_of(const struct line *l)
{
	size_t at = 0;

	while (at < l->len && strchr(" \t\r\n", l->at[at]))
		at++;
	return at < l->len ? l->at[at] : '\0';
}

static bool is_comment(const struct line *l)
{
	return first_of(l) == '#' || first_of(l) == ';';
}

static bool is_blank(const struct line *l)
{
	return !first_of(l);
}

/* The enum spm_limit of a line, or -1. */
static int key_of(const struct line *l)
{
	char key[32];
	size_t from = 0, n;

	while (from < l->len && strchr(" \t", l->at[from]))
		from++;
	for (n = from; n < l->len && !strchr("=:\n", l->at[n]);)
		n++;
	while (n > from && strchr(" \t", l->at[n - 1]))
		n--;
	if (is_comment(l) || n - from >= sizeof(key))
		return -1;
	snprintf(key, sizeof(key), "%.*s", (int)(n - from), l->at + from);
	return spm_limit_find(key);
}

static bool is_header(const struct line *l, const char *name)
{
	char text[256], found[SPM_SLICE_NAME_MAX + 1];
	struct spm_error e = { "" };

	if (first_of(l) != '[')
		return false;
	if (!name)
		return true;
	snprintf(text, sizeof(text), "%.*s", (int)(l->len < 255 ? l->len : 255), l->at);
	return spm_slices_conf_header(text, found, &e) > 0 && !strcmp(found, name);
}

/* The section's lines, header first; false: there is none. */
static bool find_section(const struct lines *all, const char *name, size_t *from, size_t *to)
{
	size_t i = 0;

	while (i < all->n && !is_header(&all->list[i], name))
		i++;
	*from = i++;
	while (i < all->n && !is_header(&all->list[i], NULL))
		i++;
	*to = i;
	return *from < all->n;
}

static void put(FILE *out, const struct lines *all, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		fwrite(all->list[i].at, 1, all->list[i].len, out);
	/* what follows must not go on in a last line that has no end */
	if (to > from && to == all->n && all->list[to - 1].at[all->list[to - 1].len - 1] != '\n')
		fputc('\n', out);
}

static void put_key(FILE *out, int k, const char *value)
{
	for (const char *p = spm_limit_key((enum spm_limit)k); *p; p++)
		fputc(*p == '.' ? '-' : *p, out);
	fprintf(out, " = %s\n", value);
}

/* The line with another value; a comment behind it stays. */
static void put_changed(FILE *out, const struct line *l, const char *value)
{
	size_t at = 0, comment, end = l->len;

	while (!strchr("=:", l->at[at]))
		at++;
	at++;
	while (at < l->len && strchr(" \t", l->at[at]))
		at++;
	while (end > at && strchr("\r\n", l->at[end - 1]))
		end--;
	for (comment = at; comment < end; comment++)
		if (l->at[comment] == ';' && strchr(" \t", l->at[comment - 1]))
			break;
	while (comment < end && comment > at && strchr(" \t", l->at[comment - 1]))
		comment--;
	fwrite(l->at, 1, at, out);
	fprintf(out, "%s%s%.*s\n", value, comment == at && comment < end ? " " : "", (int)(end - comment),
		l->at + comment);
}

static void put_section(FILE *out, const struct lines *all, size_t from, size_t to,
			const struct spm_slice_edit *edit)
{
	unsigned int done = 0;
	size_t last = from;

	for (size_t i = from; i < to; i++)
		if (key_of(&all->list[i]) >= 0)
			last = i;
	for (size_t i = from; i < to; i++) {
		int k = i > from ? key_of(&all->list[i]) : -1;

		if (k < 0)
			put(out, all, i, i + 1);
		else if (edit->value[k])
			put_changed(out, &all->list[i], edit->value[k]);
		else if (edit->how == SPM_EDIT_SET)
			put(out, all, i, i + 1);
		if (k >= 0)
			done |= 1u << k;
		for (k = 0; i == last && k < SPM_LIMITS; k++)
			if (edit->value[k] && !(done & 1u << k))
				put_key(out, k, edit->value[k]);
	}
}

static void put_new(FILE *out, const struct lines *all, const struct spm_slice_edit *edit)
{
	put(out, all, 0, all->n);
	if (all->n && !is_blank(&all->list[all->n - 1]))
		fputc('\n', out);
	fprintf(out, "[slice %s]\n", edit->name);
	for (int k = 0; k < SPM_LIMITS; k++)
		if (edit->value[k])
			put_key(out, k, edit->value[k]);
}

/*
 * The comment right above the header, and what stands right behind the keys, is the section's and goes with it; but
 * not what the file begins with, nor what stands behind a blank line, which is about the next one.
 */
static void put_without(FILE *out, const struct lines *all, size_t from, size_t to)
{
	size_t top = from, tail = from + 1;

	while (top && is_comment(&all->list[top - 1]))
		top--;
	if (!top)
		top = from;
	for (size_t i = from + 1; i < to; i++)
		if (!is_comment(&all->list[i]) && !is_blank(&all->list[i]))
			tail = i + 1;
	while (tail < to && is_comment(&all->list[tail]))
		tail++;
	/* one blank line of the two that would meet */
	if (tail < all->n && is_blank(&all->list[tail]) && (!top || is_blank(&all->list[top - 1])))
		tail++;
	else if (tail == all->n && top && is_blank(&all->list[top - 1]))
		top--;
	put(out, all, 0, top);
	put(out, all, tail, all->n);
}

char *spm_slices_conf_edited(const char *text, const struct spm_slice_edit *edit)
{
	struct lines all;
	char *edited = NULL;
	size_t len, from, to;
	bool found;
	FILE *out;

	if (split(text, &all))
		return NULL;
	out = open_memstream(&edited, &len);
	if (!out) {
		free(all.list);
		return NULL;
	}
	found = find_section(&all, edit->name, &from, &to);
	if (edit->how == SPM_EDIT_REMOVE) {
		if (found)
			put_without(out, &all, from, to);
		else
			put(out, &all, 0, all.n);
	} else if (found) {
		put(out, &all, 0, from);
		put_section(out, &all, from, to, edit);
		put(out, &all, to, all.n);
	} else {
		put_new(out, &all, edit);
	}
	free(all.list);
	if (!fclose(out))
		return edited;
	free(edited);
	return NULL;
}

/* Written beside it and put in its place, with the old one's owner and mode. */
static int replace(const char *path, const char *dir, const char *text, const struct stat *old, struct spm_error *e)
{
	spm_auto_close int fd = -1, dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char next[PATH_MAX];
	size_t len = strlen(text);
	ssize_t n;
	int rc;

	if (snprintf(next, sizeof(next), "%s.XXXXXX", path) >= (int)sizeof(next))
		return spm_fail(e, -ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
	fd = dir_fd < 0 ? -1 : mkostemp(next, O_CLOEXEC);
	if (fd < 0)
		return spm_fail(e, -errno, "cannot write into %s: %m", dir);
	n = write(fd, text, len);
	if (n >= 0 && (size_t)n != len)
		errno = ENOSPC;
	if (n == (ssize_t)len && !fchmod(fd, old ? old->st_mode & 07777 : 0644) &&
	    (!old || !fchown(fd, old->st_uid, old->st_gid)) && !fsync(fd) && !rename(next, path) && !fsync(dir_fd))
		return 0;
	rc = spm_fail(e, -errno, "cannot write %s: %m", path);
	unlink(next);
	return rc;
}

/* The directory, made if it is missing, and locked: whoever else changes a file in it waits. */
static int lock_dir(const char *dir, struct spm_error *e)
{
	spm_auto_close int fd = -1;

	if (mkdir(dir, 0755) && errno != EEXIST)
		return spm_fail(e, -errno, "cannot make %s: %m", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX))
		return spm_fail(e, -errno, "cannot lock %s: %m", dir);
	return spm_steal_fd(&fd);
}

static int change_text(const char *path, const char *dir, const char *text, size_t len, const struct stat *old,
		       const struct spm_slice_edit *edit, struct spm_error *e)
{
	struct spm_slices_conf conf;
	char *edited;
	int rc = spm_slices_conf_parse(text, len, path, &conf, e);

	if (rc)
		return rc;
	spm_slices_conf_free(&conf);
	edited = spm_slices_conf_edited(text, edit);
	if (!edited)
		return -ENOMEM;
	rc = spm_slices_conf_parse(edited, strlen(edited), path, &conf, e);
	spm_slices_conf_free(&conf);
	if (!rc && strcmp(text, edited))
		rc = replace(path, dir, edited, old, e);
	free(edited);
	return rc;
}

static int change(const char *path, const char *dir, const struct spm_slice_edit *edit, struct spm_error *e)
{
	char *text = NULL;
	struct stat st;
	size_t len = 0;
	int rc = spm_slices_conf_load(path, &text, &len);

	if (!rc && stat(path, &st))
		rc = -errno;
	if (rc == -ENOENT)
		return edit->how == SPM_EDIT_REMOVE ? 0 : change_text(path, dir, FIRST_LINE, strlen(FIRST_LINE), NULL,
								      edit, e);
	rc = rc ? spm_fail(e, rc, "cannot read %s: %s", path, strerror(-rc)) :
		  change_text(path, dir, text, len, &st, edit, e);
	free(text);
	return rc;
}

int spm_slices_conf_save(const char *path, const struct spm_slice_edit *edit, struct spm_error *e)
{
	char real[PATH_MAX], dir[PATH_MAX];
	spm_auto_close int lock = -1;

	/* a link stays one: what it leads to is replaced */
	if (!realpath(path, real) && snprintf(real, sizeof(real), "%s", path) >= (int)sizeof(real))
		return spm_fail(e, -ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
	snprintf(dir, sizeof(dir), "%s", real);
	lock = lock_dir(dirname(dir), e);
	return lock < 0 ? lock : change(real, dir, edit, e);
}
