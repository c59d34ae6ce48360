/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl files: where the bytes of files are and how they are mapped. No file is opened for it. */
#include "config.h"

#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static const char *const sizes[] = { "size", "resident_bytes", "swapped_bytes" };

struct walk {
	const struct ctl_opts *opts;
	struct ctl_mounts mounts;
	FTS *fts;
	struct ctl_list list;
	bool head;   /* the text table's first line is out */
	int rc;
};

static void row_json(struct walk *w, const char *path, const struct ctl_table *t)
{
	struct json_object *obj = json_object_new_object();
	const char *mode = ctl_table_get(t, "mode");
	uint64_t n;

	json_object_object_add(obj, "path", ctl_json_bytes(path));
	for (size_t i = 0; i < SPM_ARRAY_SIZE(sizes); i++)
		if (ctl_table_u64(t, sizes[i], &n))
			ctl_json_size(w->opts, obj, sizes[i], n);
	json_object_object_add(obj, "mode", mode ? json_object_new_string(mode) : NULL);
	if (ctl_table_u64(t, "huge_bytes", &n))
		ctl_json_size(w->opts, obj, "huge_bytes", n);
	ctl_list_add(&w->list, obj);
}

static void row_text(struct walk *w, const char *path, const struct ctl_table *t)
{
	static const char *const columns[] = { "size", "resident_bytes", "swapped_bytes", "huge_bytes" };
	const char *mode = ctl_table_get(t, "mode");
	const int width = w->opts->human ? 8 : 14;

	if (!w->head)
		printf("%*s %*s %*s %*s  %-6s  %s\n", width, "SIZE", width, "RESIDENT", width, "SWAPPED",
		       width, "HUGE", "MODE", "PATH");
	w->head = true;
	for (size_t i = 0; i < SPM_ARRAY_SIZE(columns); i++) {
		char buf[CTL_SIZE_LEN];
		uint64_t n;

		printf("%*s ", width, ctl_table_u64(t, columns[i], &n) ? ctl_size(w->opts, n, buf) : "?");
	}
	printf(" %-6s  ", mode ? mode : "?");
	ctl_print_path(path);
	putchar('\n');
}

static void file_error(struct walk *w, const char *path, int err)
{
	w->rc = CTL_FAILED;
	ctl_path_error(path, err);
}

/* One line for what was named, not one for each file below it. */
static bool refuse_root(struct walk *w, FTSENT *e)
{
	const char *why = ctl_refusal(&w->mounts, e);

	if (!why)
		return false;
	ctl_error("%s: %s", e->fts_path, why);
	w->rc = CTL_FAILED;
	fts_set(w->fts, e, FTS_SKIP);
	return true;
}

static void one_file(struct walk *w, const char *path, const char *access_path)
{
	char text[1024];
	struct ctl_table t;
	ssize_t n = lgetxattr(access_path, CTL_XATTR_FILE, text, sizeof(text) - 1);
	char *copy;

	if (n < 0) {
		/* Deleted while the walk was on its way. */
		if (errno != ENOENT)
			file_error(w, path, errno);
		return;
	}
	text[n] = '\0';
	copy = strdup(text);
	if (!copy || ctl_table_parse(&t, copy)) {
		file_error(w, path, ENOMEM);
		return;
	}
	if (w->opts->json)
		row_json(w, path, &t);
	else
		row_text(w, path, &t);
	ctl_table_free(&t);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* A walk passes by what has no data: links, fifos, sockets, devices. */
static void visit(struct walk *w, FTSENT *e)
{
	if (refuse_root(w, e))
		return;
	switch (e->fts_info) {
	case FTS_F:
		one_file(w, e->fts_path, e->fts_accpath);
		break;
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		/* What vanished below a directory that is being walked is no failure. */
		if (e->fts_errno != ENOENT || e->fts_level == FTS_ROOTLEVEL)
			file_error(w, e->fts_path, e->fts_errno);
		break;
	}
}

static void walk(struct walk *w)
{
	FTSENT *e;

	if (w->opts->json)
		ctl_list_begin(&w->list);
	while ((errno = 0, e = fts_read(w->fts)))
		visit(w, e);
	if (errno)
		file_error(w, "files", errno);
	if (w->opts->json)
		ctl_list_end(&w->list);
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_opts opts;
	struct walk w = { .opts = &opts, .rc = CTL_DONE };
	int first = ctl_options(cmd, argc, argv, &opts);

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (first == argc) {
		ctl_error("files: give a file or a directory; usage: spmctl files %s", cmd->args);
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&w.mounts))
		return CTL_FAILED;
	w.fts = fts_open(argv + first, FTS_PHYSICAL | FTS_XDEV, by_name);
	if (w.fts) {
		walk(&w);
		fts_close(w.fts);
	} else {
		file_error(&w, "files", errno);
	}
	ctl_mounts_free(&w.mounts);
	return w.rc;
}

const struct ctl_cmd ctl_files = {
	.name = "files",
	.args = "[--json] [-u] PATH...",
	.help = "where the bytes of files are, how they are mapped",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN,
	.run = run,
};
