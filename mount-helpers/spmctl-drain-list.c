/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is left of a mount that is being drained, and who holds it. */
#include "config.h"

#include "core/mountinfo.h"
#include "core/size.h"
#include "mount-helpers/spmctl-drain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LINES 20u /* of files, for a person */

/* "INO BYTES MODE PATH" */
static int parse_file(struct ctl_left *l, const char *value)
{
	struct ctl_left_file *f = &l->files[l->n_files];
	static const char *const modes[] = { "direct", "mirror", "idle", "fixed" };
	uintmax_t ino, bytes;
	char mode[8];
	int at = 0;

	if (sscanf(value, "%ju %ju %7s %n", &ino, &bytes, mode, &at) != 3 || !at)
		return -EPROTO;
	*f = (struct ctl_left_file){ .ino = ino, .resident = bytes, .mode = "?", .path = strdup(value + at) };
	for (size_t i = 0; i < SPM_ARRAY_SIZE(modes); i++)
		if (!strcmp(mode, modes[i]))
			f->mode = modes[i];
	l->n_files++;
	if (!f->path)
		return -ENOMEM;
	spm_mountinfo_unescape(f->path); /* the server writes as mountinfo does */
	return 0;
}

static int find_holders(const struct ctl_mount *m, struct ctl_left *l)
{
	struct stat st;
	ino_t *inos;
	int rc;

	if (stat(m->point, &st))
		return -errno;
	inos = calloc(l->n_files + 1, sizeof(*inos));
	if (!inos)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_files; i++)
		inos[i] = l->files[i].ino;
	rc = ctl_holders_of(st.st_dev, inos, l->n_files, &l->holders, &l->n_holders);
	free(inos);
	return rc;
}

int ctl_left_read(const struct ctl_mount *m, struct ctl_left *l)
{
	int rc;

	*l = (struct ctl_left){ .point = m->point };
	if (ctl_control_table(m->point, "drain", &l->table))
		return CTL_FAILED;
	l->state = ctl_table_get(&l->table, "state");
	rc = l->state && ctl_table_u64(&l->table, "resident_bytes", &l->resident) ? 0 : -EPROTO;
	(void)ctl_table_u64(&l->table, "more_files", &l->more_files);
	(void)ctl_table_u64(&l->table, "more_bytes", &l->more_bytes);
	l->files = calloc(l->table.n + 1, sizeof(*l->files));
	if (!l->files)
		rc = -ENOMEM;
	for (size_t i = 0; i < l->table.n && !rc; i++)
		if (!strcmp(l->table.pairs[i].key, "file"))
			rc = parse_file(l, l->table.pairs[i].value);
	if (!rc)
		rc = find_holders(m, l);
	if (!rc)
		return CTL_DONE;
	ctl_error("%s: %s", m->point, rc == -EPROTO ? "its server is another version" : strerror(-rc));
	ctl_left_free(l);
	return CTL_FAILED;
}

void ctl_left_free(struct ctl_left *l)
{
	for (size_t i = 0; l->files && i < l->n_files; i++)
		free(l->files[i].path);
	free(l->files);
	free(l->holders);
	if (l->table.pairs)
		ctl_table_free(&l->table);
	*l = (struct ctl_left){ .point = l->point };
}

static const char *how(const struct ctl_holder *h)
{
	return h->open && h->mapped ? "open and mapped" : h->open ? "open" : "mapped";
}

/* How many hold it; those that a line has room for are named. */
static unsigned int put_holders(const struct ctl_left *l, ino_t ino, FILE *out)
{
	unsigned int found = 0;

	for (size_t i = 0; i < l->n_holders; i++) {
		const struct ctl_holder *h = &l->holders[i];

		if (h->ino == ino && found++ < CTL_HOLDERS_SHOWN)
			fprintf(out, "%s%s (pid %ld, %s)", found > 1 ? ", " : "held by ", h->command, h->pid, how(h));
	}
	if (found > CTL_HOLDERS_SHOWN)
		fprintf(out, " and %u more", found - CTL_HOLDERS_SHOWN);
	return found;
}

static void put_path(const char *point, const char *path, FILE *out)
{
	if (*path == '/')
		fputs(point, out);
	for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
		if (*s < 0x20 || *s == 0x7f)
			fprintf(out, "\\%03o", *s);
		else
			fputc(*s, out);
	}
}

static void put_file(const struct ctl_left *l, const struct ctl_left_file *f, FILE *out)
{
	const struct ctl_opts human = { .human = true };
	bool direct = !strcmp(f->mode, "direct");
	char size[CTL_SIZE_LEN];

	put_path(l->point, f->path, out);
	fprintf(out, ": %s, ", ctl_size(&human, f->resident, size));
	if (!strcmp(f->mode, "fixed"))
		fputs("which cannot leave: chattr +i or +a, or file capabilities", out);
	else if (!put_holders(l, f->ino, out))
		fputs(direct ? "held by nobody that /proc shows here: a process in a container, io_uring or a device may "
			       "hold it" : l->why ? l->why : "on its way", out);
	fputc('\n', out);
}

/* What is no file's, or of a file that is not listed. */
static void put_rest(const struct ctl_left *l, FILE *out)
{
	const struct ctl_opts human = { .human = true };
	uint64_t sum = l->more_bytes;
	char size[CTL_SIZE_LEN];

	for (size_t i = 0; i < l->n_files; i++)
		sum += l->files[i].resident;
	if (sum < l->resident)
		fprintf(out, "and %s in %s; removing them helps\n", ctl_size(&human, l->resident - sum, size),
			l->swap ? "symbolic links with long targets, which cannot leave" :
				  "files that nobody uses, or symbolic links with long targets");
}

char *ctl_left_text(const struct ctl_left *l, bool all)
{
	unsigned int lines = 0;
	uint64_t more = l->more_files;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (size_t i = 0; i < l->n_files; i++) {
		const struct ctl_left_file *f = &l->files[i];

		if (!all && strcmp(f->mode, "direct") && strcmp(f->mode, "fixed"))
			continue;
		if (lines++ < LINES)
			put_file(l, f, out);
		else
			more++;
	}
	if (all && more)
		fprintf(out, "and %" PRIu64 " more files\n", more);
	if (all)
		put_rest(l, out);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

static struct json_object *holders_json(const struct ctl_left *l, ino_t ino)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < l->n_holders; i++) {
		struct json_object *obj;

		if (l->holders[i].ino != ino)
			continue;
		obj = json_object_new_object();
		json_object_object_add(obj, "pid", json_object_new_int64(l->holders[i].pid));
		json_object_object_add(obj, "command", ctl_json_bytes(l->holders[i].command));
		json_object_object_add(obj, "open", json_object_new_boolean(l->holders[i].open));
		json_object_object_add(obj, "mapped", json_object_new_boolean(l->holders[i].mapped));
		json_object_array_add(list, obj);
	}
	return list;
}

void ctl_left_json(const struct ctl_left *l, const struct ctl_opts *opts, struct json_object *obj)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < l->n_files; i++) {
		const struct ctl_left_file *f = &l->files[i];
		struct json_object *file = json_object_new_object();
		spm_auto_free char *path = NULL;

		if (asprintf(&path, "%s%s", *f->path == '/' ? l->point : "", f->path) < 0)
			path = NULL;
		json_object_object_add(file, "path", path ? ctl_json_bytes(path) : NULL);
		ctl_json_size(opts, file, "resident_bytes", f->resident);
		json_object_object_add(file, "mode", json_object_new_string(f->mode));
		json_object_object_add(file, "holders", holders_json(l, f->ino));
		json_object_array_add(list, file);
	}
	json_object_object_add(obj, "files", list);
	if (!l->more_files)
		return;
	json_object_object_add(obj, "more_files", json_object_new_uint64(l->more_files));
	ctl_json_size(opts, obj, "more_bytes", l->more_bytes);
}
