/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl slice list and show: the slices of mounts, from the control file slices. */
#include "config.h"

#include "core/size.h"
#include "mount-helpers/spmctl-slice.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- reading ---- */

static void parse_line(char *line, struct ctl_slice *s)
{
	char *save = NULL;

	s->name = strtok_r(line, " ", &save);
	for (char *w = strtok_r(NULL, " ", &save); w && s->n < CTL_SLICE_KEYS; w = strtok_r(NULL, " ", &save)) {
		char *eq = strchr(w, '=');

		if (!eq)
			continue;
		*eq = '\0';
		s->pairs[s->n++] = (struct ctl_pair){ w, eq + 1 };
	}
}

int ctl_slices_read(const char *mount, struct ctl_slices *slices)
{
	char *save = NULL;
	size_t lines = 1;

	memset(slices, 0, sizeof(*slices));
	slices->text = ctl_control_read(mount, "slices");
	if (!slices->text)
		return CTL_FAILED;
	for (const char *p = slices->text; *p; p++)
		lines += *p == '\n';
	slices->list = calloc(lines, sizeof(*slices->list));
	if (!slices->list) {
		ctl_error("%s: out of memory", mount);
		ctl_slices_free(slices);
		return CTL_FAILED;
	}
	for (char *line = strtok_r(slices->text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		parse_line(line, &slices->list[slices->n]);
		slices->n += slices->list[slices->n].name != NULL;
	}
	return CTL_DONE;
}

void ctl_slices_free(struct ctl_slices *slices)
{
	free(slices->list);
	free(slices->text);
	memset(slices, 0, sizeof(*slices));
}

const struct ctl_slice *ctl_slices_find(const struct ctl_slices *slices, const char *name)
{
	for (size_t i = 0; i < slices->n; i++)
		if (!strcmp(slices->list[i].name, name))
			return &slices->list[i];
	return NULL;
}

const char *ctl_slice_get(const struct ctl_slice *s, const char *key)
{
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->pairs[i].key, key))
			return s->pairs[i].value;
	return NULL;
}

uint64_t ctl_slice_number(const struct ctl_slice *s, const char *key)
{
	const char *text = ctl_slice_get(s, key);
	uint64_t n;

	return text && !spm_number_parse(text, 10, UINT64_MAX - 1, &n) ? n : SPM_SLICE_NONE;
}

uint64_t ctl_slice_max(const struct ctl_slice *s)
{
	uint64_t max = ctl_slice_number(s, "max"), own = ctl_slice_number(s, "own.max");

	return max < own ? max : own;
}

char *ctl_mount_word(const struct ctl_mount *m, const char *file, const char *key)
{
	struct ctl_table t;
	char *word = NULL;

	if (ctl_control_table(m->point, file, &t))
		return NULL;
	if (ctl_table_get(&t, key))
		word = strdup(ctl_table_get(&t, key));
	ctl_table_free(&t);
	return word;
}

uint64_t ctl_mount_number(const struct ctl_mount *m, const char *file, const char *key)
{
	char *word = ctl_mount_word(m, file, key);
	uint64_t n;

	if (!word || spm_number_parse(word, 10, UINT64_MAX, &n))
		n = 0;
	free(word);
	return n;
}

/* ---- JSON ---- */

enum kind { TEXT, SIZE, COUNT, YES_NO };

/* Scripts depend on these keys and on their order. */
static const struct {
	const char *key, *json;
	enum kind kind;
} keys[] = {
	{ "id", "id", COUNT },
	{ "min", "min_bytes", SIZE },
	{ "max", "max_bytes", SIZE },
	{ "own.max", "own_max_bytes", SIZE },
	{ "current", "current_bytes", SIZE },
	{ "grant", "grant_bytes", SIZE },
	{ "swap.max", "swap_max_bytes", SIZE },
	{ "own.swap.max", "own_swap_max_bytes", SIZE },
	{ "swap.current", "swap_current_bytes", SIZE },
	{ "pin.max", "pin_max_bytes", SIZE },
	{ "inodes", "inodes", COUNT },
	{ "uid", "uid", COUNT },
	{ "gid", "gid", COUNT },
	{ "mode", "mode", TEXT },
	{ "nodes", "nodes", TEXT },
	{ "huge", "huge", TEXT },
	{ "map", "map", TEXT },
	{ "cold", "cold", COUNT },
	{ "delegate", "delegate", YES_NO },
};

static char *path_of(const struct ctl_mount *m, const struct ctl_slice *s)
{
	char *path;

	return asprintf(&path, "%s/%s", strcmp(m->point, "/") ? m->point : "", s->name) < 0 ? NULL : path;
}

static struct json_object *slice_json(const struct ctl_mount *m, const struct ctl_slice *s,
				      const struct ctl_opts *opts)
{
	struct json_object *obj = json_object_new_object();
	spm_auto_free char *path = path_of(m, s);

	json_object_object_add(obj, "name", ctl_json_bytes(s->name));
	json_object_object_add(obj, "mountpoint", ctl_json_bytes(m->point));
	json_object_object_add(obj, "path", path ? ctl_json_bytes(path) : NULL);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(keys); i++) {
		const char *text = ctl_slice_get(s, keys[i].key);
		uint64_t n = ctl_slice_number(s, keys[i].key);
		struct json_object *value = NULL; /* null: none, or as the mount */

		if (keys[i].kind == SIZE && n != SPM_SLICE_NONE) {
			ctl_json_size(opts, obj, keys[i].json, n);
			continue;
		}
		if (keys[i].kind == TEXT && text && *text)
			value = ctl_json_bytes(text);
		else if (keys[i].kind == COUNT && n != SPM_SLICE_NONE)
			value = json_object_new_uint64(n);
		else if (keys[i].kind == YES_NO && text)
			value = json_object_new_boolean(!strcmp(text, "1"));
		json_object_object_add(obj, keys[i].json, value);
	}
	return obj;
}

/* ---- text ---- */

static const char *size_of(const struct ctl_slice *s, const struct ctl_opts *opts, const char *key,
			   char buf[static CTL_SIZE_LEN])
{
	uint64_t n = ctl_slice_number(s, key);

	if (n == SPM_SLICE_NONE)
		return ctl_slice_get(s, key) ? "max" : "?";
	return ctl_size(opts, n, buf);
}

static const char *word_of(const struct ctl_slice *s, const char *key)
{
	const char *text = ctl_slice_get(s, key);

	return !text ? "?" : *text ? text : "as the mount";
}

static void show_text(const struct ctl_mount *m, const struct ctl_slice *s, const struct ctl_opts *opts)
{
	char a[CTL_SIZE_LEN], b[CTL_SIZE_LEN], c[CTL_SIZE_LEN], d[CTL_SIZE_LEN];
	const char *delegate = ctl_slice_get(s, "delegate");

	printf("%s: slice %s of ", s->name, word_of(s, "id"));
	ctl_print_path(m->point);
	printf("\n  memory     %s used, %s granted, min %s, max %s\n", size_of(s, opts, "current", a),
	       size_of(s, opts, "grant", b), size_of(s, opts, "min", c), size_of(s, opts, "max", d));
	printf("  swap       %s used, max %s\n", size_of(s, opts, "swap.current", a),
	       size_of(s, opts, "swap.max", b));
	if (ctl_slice_number(s, "own.max") != SPM_SLICE_NONE ||
	    ctl_slice_number(s, "own.swap.max") != SPM_SLICE_NONE)
		printf("  its owner  max %s, of swap %s\n", size_of(s, opts, "own.max", a),
		       size_of(s, opts, "own.swap.max", b));
	printf("  pinned     at most %s\n", size_of(s, opts, "pin.max", a));
	printf("  inodes     %s\n", word_of(s, "inodes"));
	printf("  owner      uid %s, gid %s, mode %s%s\n", word_of(s, "uid"), word_of(s, "gid"), word_of(s, "mode"),
	       delegate && !strcmp(delegate, "1") ? ", may lower max and swap-max" : "");
	printf("  placement  nodes %s, huge pages %s\n", word_of(s, "nodes"), word_of(s, "huge"));
	printf("  files      map %s, cold %s\n", word_of(s, "map"), word_of(s, "cold"));
}

static void rows_text(const struct ctl_slices *slices, const struct ctl_opts *opts)
{
	static const char *const columns[] = { "min", "max", "current", "grant", "swap.current", "swap.max" };
	static const char *const heads[] = { "MIN", "MAX", "USED", "GRANT", "SWAPPED", "SWAP-MAX" };
	const int width = opts->human ? 8 : 14;
	size_t longest = 4;

	for (size_t i = 0; i < slices->n; i++)
		if (strlen(slices->list[i].name) > longest)
			longest = strlen(slices->list[i].name);
	printf("%-*s", (int)longest, "NAME");
	for (size_t k = 0; k < SPM_ARRAY_SIZE(heads); k++)
		printf(" %*s", width, heads[k]);
	puts("  MODE  OWNER");
	for (size_t i = 0; i < slices->n; i++) {
		const struct ctl_slice *s = &slices->list[i];
		char buf[CTL_SIZE_LEN];

		printf("%-*s", (int)longest, s->name);
		for (size_t k = 0; k < SPM_ARRAY_SIZE(columns); k++)
			printf(" %*s", width, size_of(s, opts, columns[k], buf));
		printf("  %s  %s:%s\n", word_of(s, "mode"), word_of(s, "uid"), word_of(s, "gid"));
	}
}

/* ---- the commands ---- */

enum how { AS_TEXT, AS_JSON, AS_K8S };

static int list_mount(const struct ctl_mount *m, const struct ctl_opts *opts, enum how how, struct ctl_list *items,
		      bool *any)
{
	struct ctl_slices slices;
	int rc = ctl_slices_read(m->point, &slices);

	if (rc)
		return rc;
	if (how == AS_K8S) {
		rc = ctl_k8s_print(m, &slices, opts->node, any);
	} else if (how == AS_JSON) {
		for (size_t i = 0; i < slices.n; i++)
			ctl_list_add(items, slice_json(m, &slices.list[i], opts));
	} else {
		if (*any)
			putchar('\n');
		*any = true;
		ctl_print_path(m->point);
		puts(slices.n ? ":" : ": no slices");
		if (slices.n)
			rows_text(&slices, opts);
	}
	ctl_slices_free(&slices);
	return rc;
}

static int run_list(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_list items;
	struct ctl_mounts mounts;
	struct ctl_opts opts;
	enum how how = AS_TEXT;
	bool any = false;
	int first = ctl_options(cmd, argc, argv, &opts), rc = CTL_DONE;

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (opts.output && strcmp(opts.output, "k8s-pv")) {
		ctl_error("slice list: option --output %s: give k8s-pv, or leave it out", opts.output);
		return CTL_USAGE;
	}
	if (opts.node && !opts.output) {
		ctl_error("slice list: option --node is of use with --output k8s-pv only");
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&mounts))
		return CTL_FAILED;
	how = opts.output ? AS_K8S : opts.json ? AS_JSON : AS_TEXT;
	if (how == AS_JSON)
		ctl_list_begin(&items);
	for (int i = first; i < argc; i++) {
		const struct ctl_mount *m = ctl_mount_find(&mounts, argv[i]);

		if (!m || list_mount(m, &opts, how, &items, &any))
			rc = CTL_FAILED;
	}
	for (size_t i = 0; first == argc && i < mounts.n; i++)
		if (ctl_mount_first(&mounts, i) && list_mount(&mounts.list[i], &opts, how, &items, &any))
			rc = CTL_FAILED;
	if (how == AS_JSON)
		ctl_list_end(&items);
	ctl_mounts_free(&mounts);
	return rc;
}

static int run_show(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_slice_call c;
	struct ctl_slices slices;
	const struct ctl_slice *s;
	int rc = ctl_slice_begin(&c, cmd, argc, argv);

	if (rc)
		return rc < 0 ? CTL_DONE : rc;
	rc = ctl_slices_read(c.mount->point, &slices);
	s = rc ? NULL : ctl_slices_find(&slices, c.name);
	if (s && c.opts.json)
		ctl_json_print(slice_json(c.mount, s, &c.opts));
	else if (s)
		show_text(c.mount, s, &c.opts);
	else if (!rc)
		rc = ctl_slice_why(&c, NULL, ENOENT);
	ctl_slices_free(&slices);
	ctl_slice_end(&c);
	return rc;
}

const struct ctl_cmd ctl_slice_list = {
	.name = "slice list",
	.args = "[--json | --output k8s-pv [--node NAME]] [-u] [MOUNTPOINT...]",
	.help = "the slices of mounts",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN | CTL_OPT_OUTPUT | CTL_OPT_NODE,
	.run = run_list,
};

const struct ctl_cmd ctl_slice_show = {
	.name = "slice show",
	.args = "[--json] [-u] NAME MOUNTPOINT",
	.help = "one slice",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN,
	.run = run_show,
};
