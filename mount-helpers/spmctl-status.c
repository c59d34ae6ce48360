/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl status: what a mount holds and who serves it, from its control files stat and features. */
#include "config.h"

#include "mount-helpers/spmctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum kind { TEXT, YES_NO, COUNT, SIZE };

/* Scripts depend on these keys and on their order. */
static const struct {
	const char *key;
	enum kind kind;
} keys[] = {
	{ "source", TEXT },
	{ "name", TEXT },
	{ "version", TEXT },
	{ "device_bytes", SIZE },
	{ "resident_bytes", SIZE },
	{ "free_bytes", SIZE },
	{ "pinned_bytes", SIZE },
	{ "swapped_bytes", SIZE },
	{ "swap_bytes", SIZE },
	{ "swap_used_bytes", SIZE },
	{ "swapout_bytes", SIZE },
	{ "swapin_bytes", SIZE },
	{ "swap_errors", COUNT },
	{ "keeper_pid", COUNT },
	{ "worker_pid", COUNT },
	{ "worker_restarts", COUNT },
	{ "direct_supported", YES_NO },
	{ "isolation", TEXT },
	{ "foreign_bytes", SIZE },
	{ "bad_bytes", SIZE },
	{ "retired_bytes", SIZE },
	{ "drain", TEXT },
};

struct status {
	struct ctl_table stat, features;
};

static const char *text_of(const struct status *s, const char *key)
{
	const char *value = ctl_table_get(&s->features, key);

	return value ? value : ctl_table_get(&s->stat, key);
}

static bool number_of(const struct status *s, const char *key, uint64_t *value)
{
	return ctl_table_u64(&s->stat, key, value) || ctl_table_u64(&s->features, key, value);
}

static int status_read(const char *point, struct status *s)
{
	memset(s, 0, sizeof(*s));
	if (ctl_control_table(point, "stat", &s->stat))
		return CTL_FAILED;
	if (!ctl_control_table(point, "features", &s->features))
		return CTL_DONE;
	ctl_table_free(&s->stat);
	return CTL_FAILED;
}

static struct json_object *status_json(const struct status *s, const struct ctl_opts *opts)
{
	struct json_object *obj = json_object_new_object();

	for (size_t i = 0; i < SPM_ARRAY_SIZE(keys); i++) {
		const char *key = keys[i].key, *text = text_of(s, key);
		struct json_object *value = NULL; /* null: this server does not tell it */
		uint64_t n;

		if (keys[i].kind == TEXT && text) {
			value = ctl_json_bytes(text);
		} else if (keys[i].kind == YES_NO && text) {
			value = json_object_new_boolean(!strcmp(text, "1"));
		} else if (keys[i].kind == SIZE && number_of(s, key, &n)) {
			ctl_json_size(opts, obj, key, n);
			continue;
		} else if (keys[i].kind == COUNT && number_of(s, key, &n)) {
			value = json_object_new_uint64(n);
		}
		json_object_object_add(obj, key, value);
	}
	return obj;
}

static const char *size_text(const struct status *s, const struct ctl_opts *opts, const char *key,
			     char buf[static CTL_SIZE_LEN])
{
	uint64_t n;

	return number_of(s, key, &n) ? ctl_size(opts, n, buf) : "?";
}

static const char *or_unknown(const char *text)
{
	return text ? text : "?";
}

static void swap_text(const struct status *s, const struct ctl_opts *opts)
{
	char a[CTL_SIZE_LEN], b[CTL_SIZE_LEN], c[CTL_SIZE_LEN], d[CTL_SIZE_LEN];
	const char *swap = text_of(s, "swap");
	uint64_t errors = 0;

	if (!swap || strncmp(swap, "on", 2)) {
		printf("  swap       %s\n", or_unknown(swap)); /* why it is off */
		return;
	}
	printf("  swap       %s used of %s, %s written, %s read\n", size_text(s, opts, "swap_used_bytes", a),
	       size_text(s, opts, "swap_bytes", b), size_text(s, opts, "swapout_bytes", c),
	       size_text(s, opts, "swapin_bytes", d));
	if (number_of(s, "swap_errors", &errors) && errors)
		printf("  damaged    %llu extents could not be read back: the system log says which\n",
		       (unsigned long long)errors);
}

static void lost_text(const struct status *s, const struct ctl_opts *opts)
{
	char a[CTL_SIZE_LEN], b[CTL_SIZE_LEN];
	uint64_t bad = 0, retired = 0;

	if (number_of(s, "bad_bytes", &bad) && number_of(s, "retired_bytes", &retired) && bad + retired)
		printf("  lost       %s of files, and %s that is not used any more: memory errors, the system log says where\n",
		       ctl_size(opts, bad, a), ctl_size(opts, retired, b));
}

static void drain_text(const struct ctl_mount *m, const struct status *s)
{
	const char *drain = text_of(s, "drain");

	if (!drain || !strcmp(drain, "none"))
		return;
	printf("  drain      %s: nothing new is taken; spmctl drain --cancel ", drain);
	ctl_print_path(m->point);
	puts(" ends that");
}

static void status_text(const struct ctl_mount *m, const struct status *s, const struct ctl_opts *opts)
{
	char a[CTL_SIZE_LEN], b[CTL_SIZE_LEN], c[CTL_SIZE_LEN], d[CTL_SIZE_LEN];

	ctl_print_path(m->point);
	printf(": %s, name %s, spmfs %s\n", or_unknown(text_of(s, "source")), or_unknown(text_of(s, "name")),
	       or_unknown(text_of(s, "version")));
	printf("  memory     %s resident of %s, %s free, %s pinned by direct opens and mappings\n",
	       size_text(s, opts, "resident_bytes", a), size_text(s, opts, "limit_bytes", b),
	       size_text(s, opts, "free_bytes", c), size_text(s, opts, "pinned_bytes", d));
	lost_text(s, opts);
	swap_text(s, opts);
	drain_text(m, s);
	/* says why, when it is off */
	printf("  direct     %s\n", or_unknown(text_of(s, "passthrough")));
	printf("  open       %s direct, %s mirror\n", or_unknown(text_of(s, "open_direct")),
	       or_unknown(text_of(s, "open_mirror")));
	printf("  isolation  %s; %s on foreign nodes\n", or_unknown(text_of(s, "isolation")),
	       size_text(s, opts, "foreign_bytes", a));
	printf("  server     keeper %s, worker %s, restarted %s times\n",
	       or_unknown(text_of(s, "keeper_pid")), or_unknown(text_of(s, "worker_pid")),
	       or_unknown(text_of(s, "worker_restarts")));
}

/* One mount named by its path gives an object; any other call gives a list, which says what is where. */
static int show(const struct ctl_mount *m, const struct ctl_opts *opts, struct ctl_list *list)
{
	struct json_object *obj;
	struct status s;

	if (status_read(m->point, &s))
		return CTL_FAILED;
	if (!opts->json) {
		status_text(m, &s, opts);
	} else {
		obj = status_json(&s, opts);
		if (list) {
			json_object_object_add(obj, "mountpoint", ctl_json_bytes(m->point));
			ctl_list_add(list, obj);
		} else {
			ctl_json_print(obj);
		}
	}
	ctl_table_free(&s.stat);
	ctl_table_free(&s.features);
	return CTL_DONE;
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	const struct ctl_mount *m;
	struct ctl_list items, *list;
	struct ctl_mounts mounts;
	struct ctl_opts opts;
	int first = ctl_options(cmd, argc, argv, &opts), rc = CTL_DONE;

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (ctl_mounts_read(&mounts))
		return CTL_FAILED;
	list = opts.json && argc - first != 1 ? &items : NULL;
	if (list)
		ctl_list_begin(list);
	for (int i = first; i < argc; i++) {
		m = ctl_mount_find(&mounts, argv[i]);
		if (!m || show(m, &opts, list))
			rc = CTL_FAILED;
	}
	for (size_t i = 0; first == argc && i < mounts.n; i++) {
		m = &mounts.list[i];
		if (ctl_mount_first(&mounts, i) && show(m, &opts, list))
			rc = CTL_FAILED;
	}
	if (list)
		ctl_list_end(list);
	else if (first == argc && !mounts.n)
		ctl_error("no spmfs is mounted here; mount -t fuse.spmfs mem:1G /spm mounts one");
	ctl_mounts_free(&mounts);
	return rc;
}

const struct ctl_cmd ctl_status = {
	.name = "status",
	.args = "[--json] [-u] [MOUNTPOINT...]",
	.help = "what mounts hold and who serves them",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN,
	.run = run,
};
