/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl devices: what memory of this machine could back a mount, and the SOURCE to type for it. */
#include "config.h"

#include "core/numa.h"
#include "core/size.h"
#include "core/source.h"
#include "mount-helpers/spmctl-devices.h"
#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <string.h>

#define NODES "/sys/devices/system/node"

struct dev_row *dev_row_add(struct dev_table *table)
{
	struct dev_row *rows = realloc(table->rows, (table->n + 1) * sizeof(*rows));

	if (!rows) {
		ctl_error("devices: out of memory");
		return NULL;
	}
	table->rows = rows;
	memset(&rows[table->n], 0, sizeof(*rows));
	rows[table->n].node = rows[table->n].online = rows[table->n].blocks = rows[table->n].movable = -1;
	return &rows[table->n++];
}

/* Everything else on the machine lives from this memory: propose half of what is free, in whole units. */
static void propose_half(struct dev_row *row, const char *prefix)
{
	uint64_t half = row->free_bytes / 2;

	if (half >= 1ULL << 30)
		snprintf(row->source, sizeof(row->source), "%s:%" PRIu64 "G", prefix, half >> 30);
	else if (half >= 1ULL << 20)
		snprintf(row->source, sizeof(row->source), "%s:%" PRIu64 "M", prefix, half >> 20);
	else
		snprintf(row->reason, sizeof(row->reason), "less than 2 MiB of it is free");
}

static int add_ram(struct dev_table *table)
{
	struct dev_row *row = dev_row_add(table);
	struct spm_numa_mem m;
	int rc;

	if (!row)
		return -ENOMEM;
	rc = spm_mem_available(&m);
	if (rc) {
		ctl_error("devices: cannot read /proc/meminfo: %s", strerror(-rc));
		return rc;
	}
	snprintf(row->name, sizeof(row->name), "ram");
	snprintf(row->kind, sizeof(row->kind), "ram");
	snprintf(row->state, sizeof(row->state), "plain RAM, from whatever node has it");
	row->size_bytes = m.total_bytes;
	row->free_bytes = m.free_bytes;
	row->has_free = true;
	propose_half(row, "mem");
	return 0;
}

/* First line of a file of a node, "" when there is none. */
static void node_line(int node, const char *file, char *buf, size_t len)
{
	spm_auto_fclose FILE *f = NULL;
	char path[128];

	snprintf(path, sizeof(path), NODES "/node%d/%s", node, file);
	f = fopen(path, "re");
	if (!f || !fgets(buf, (int)len, f))
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

/* Memory blocks of a node that are there and not online: what memhp_default_state=offline leaves. */
static size_t offline_blocks(int node)
{
	char pattern[128], state[16];
	size_t offline = 0;
	glob_t g;

	snprintf(pattern, sizeof(pattern), NODES "/node%d/memory[0-9]*", node);
	if (glob(pattern, GLOB_NOSORT, NULL, &g))
		return 0;
	for (size_t i = 0; i < g.gl_pathc; i++) {
		char file[64];

		snprintf(file, sizeof(file), "%.40s/state", strrchr(g.gl_pathv[i], '/') + 1);
		node_line(node, file, state, sizeof(state));
		offline += !strcmp(state, "offline");
	}
	globfree(&g);
	return offline;
}

/* Nodes whose memory nothing is put on that does not ask for it by name. No released kernel has them. */
static bool is_private(int node)
{
	static const char *const files[] = { "has_memory_private", "has_user_memory" };
	struct spm_nodes list;
	char line[256];

	for (size_t i = 0; i < SPM_ARRAY_SIZE(files); i++) {
		spm_auto_fclose FILE *f = NULL;
		char path[128];

		snprintf(path, sizeof(path), NODES "/%s", files[i]);
		f = fopen(path, "re");
		if (f && fgets(line, sizeof(line), f)) {
			line[strcspn(line, "\n")] = '\0';
			if (!spm_nodes_parse(line, &list) && spm_nodes_test(&list, node))
				return true;
		}
		node_line(node, files[i], line, sizeof(line));
		if (line[0] && strcmp(line, "0") != 0)
			return true;
	}
	return false;
}

static void describe_node(struct dev_row *row, int node, const struct spm_nodes *allowed)
{
	size_t offline = offline_blocks(node);

	if (row->private_memory) {
		snprintf(row->reason, sizeof(row->reason), "it is a private node, which this version cannot use");
		return;
	}
	if (offline) {
		snprintf(row->reason, sizeof(row->reason), "%zu of its memory blocks are offline", offline);
		snprintf(row->command, sizeof(row->command),
			 "echo online_movable | tee " NODES "/node%d/memory*/state", node);
	}
	if (!row->size_bytes) {
		if (!offline)
			snprintf(row->reason, sizeof(row->reason), "it has no memory");
	} else if (!spm_nodes_test(allowed, node)) {
		/* Outside of the cpuset the kernel ignores the binding without a word. */
		snprintf(row->reason, sizeof(row->reason), "it is outside of this process's cpuset");
		snprintf(row->command, sizeof(row->command),
			 "systemd-run mount -t fuse.spmfs node:%d /spm", node);
	} else if (row->memory_only) {
		snprintf(row->source, sizeof(row->source), "node:%d", node);
	} else {
		char prefix[32];

		snprintf(prefix, sizeof(prefix), "node:%d", node);
		propose_half(row, prefix);
	}
}

static int add_node(struct dev_table *table, int node, const struct spm_nodes *allowed)
{
	struct dev_row *row = dev_row_add(table);
	struct spm_numa_mem m = { 0 };

	if (!row)
		return -ENOMEM;
	snprintf(row->name, sizeof(row->name), "node%d", node);
	snprintf(row->kind, sizeof(row->kind), "node");
	row->node = node;
	node_line(node, "cpulist", row->cpus, sizeof(row->cpus));
	row->memory_only = !row->cpus[0];
	if (!spm_numa_meminfo(node, &m))
		row->has_free = true;
	row->size_bytes = m.total_bytes;
	row->free_bytes = m.free_bytes;
	row->private_memory = is_private(node);
	if (row->private_memory)
		snprintf(row->state, sizeof(row->state),
			 "a private node: its memory is for whoever asks for it by name");
	else if (row->memory_only)
		snprintf(row->state, sizeof(row->state), "a node of memory only");
	else
		snprintf(row->state, sizeof(row->state), "a node with CPUs %.100s", row->cpus);
	describe_node(row, node, allowed);
	return 0;
}

static int add_nodes(struct dev_table *table)
{
	struct spm_nodes allowed = { 0 };
	int rc = spm_numa_allowed(&allowed);

	/* A kernel without NUMA has no node to tell of, which is no failure. */
	if (rc == -ENOSYS)
		return 0;
	if (rc) {
		ctl_error("devices: cannot read the memory nodes of the cpuset: %s", strerror(-rc));
		return rc;
	}
	for (int node = 0; node < SPM_NUMA_MAX; node++) {
		char path[128];

		snprintf(path, sizeof(path), NODES "/node%d", node);
		if (access(path, F_OK))
			continue;
		rc = add_node(table, node, &allowed);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_of(const struct dev_row *row, const struct spm_source *s)
{
	if (s->kind == SPM_SOURCE_NODE)
		return !strcmp(row->kind, "node") && spm_nodes_test(&s->nodes, row->node);
	return s->kind == SPM_SOURCE_DIR && !strcmp(row->kind, "fsdax") && row->source[0] &&
	       !strcmp(row->source + strlen("dir:"), s->path);
}

/* Which mounts of this namespace have what; dax devices have notes for that. */
static int mark_mounts(struct dev_table *table)
{
	struct ctl_mounts mounts;
	int rc = ctl_mounts_read(&mounts);

	if (rc)
		return rc;
	for (size_t m = 0; m < mounts.n; m++) {
		struct spm_error e = { "" };
		struct spm_source s;

		if (!ctl_mount_first(&mounts, m) || spm_source_parse(mounts.list[m].source, &s, &e))
			continue;
		for (size_t i = 0; i < table->n; i++) {
			struct dev_row *row = &table->rows[i];
			size_t n = strlen(row->used_by);

			if (is_of(row, &s))
				snprintf(row->used_by + n, sizeof(row->used_by) - n, "%s%.200s",
					 n ? ", " : "the mount at ", mounts.list[m].point);
		}
	}
	ctl_mounts_free(&mounts);
	return 0;
}

static struct json_object *text_or_null(const char *text)
{
	return *text ? json_object_new_string(text) : NULL;
}

/* As daxctl list has them; what is not known is left out, as there. */
static void dax_json(const struct dev_row *row, const struct ctl_opts *opts, struct json_object *obj)
{
	json_object_object_add(obj, "chardev", json_object_new_string(row->name));
	ctl_json_size(opts, obj, "size", row->size_bytes);
	json_object_object_add(obj, "target_node", row->node < 0 ? NULL : json_object_new_int(row->node));
	json_object_object_add(obj, "align", json_object_new_int64((int64_t)row->align));
	json_object_object_add(obj, "mode", json_object_new_string(row->mode));
	if (row->blocks >= 0) {
		json_object_object_add(obj, "online_memblocks", json_object_new_int(row->online));
		json_object_object_add(obj, "total_memblocks", json_object_new_int(row->blocks));
	}
	if (row->movable >= 0)
		json_object_object_add(obj, "movable", json_object_new_boolean(row->movable));
}

static struct json_object *row_json(const struct dev_row *row, const struct ctl_opts *opts)
{
	struct json_object *obj = json_object_new_object();

	json_object_object_add(obj, "name", json_object_new_string(row->name));
	json_object_object_add(obj, "kind", json_object_new_string(row->kind));
	json_object_object_add(obj, "usable", json_object_new_boolean(row->source[0]));
	json_object_object_add(obj, "source", text_or_null(row->source));
	ctl_json_size(opts, obj, "size_bytes", row->size_bytes);
	if (row->has_free)
		ctl_json_size(opts, obj, "free_bytes", row->free_bytes);
	else
		json_object_object_add(obj, "free_bytes", NULL);
	json_object_object_add(obj, "node", row->node < 0 ? NULL : json_object_new_int(row->node));
	json_object_object_add(obj, "cpus", text_or_null(row->cpus));
	json_object_object_add(obj, "memory_only", json_object_new_boolean(row->memory_only));
	json_object_object_add(obj, "state", text_or_null(row->state));
	json_object_object_add(obj, "reason", text_or_null(row->reason));
	json_object_object_add(obj, "command", text_or_null(row->command));
	json_object_object_add(obj, "options", text_or_null(row->options));
	json_object_object_add(obj, "used_by", text_or_null(row->used_by));
	if (row->mode[0])
		json_object_object_add(obj, "system_ram", json_object_new_boolean(row->as_memory));
	if (row->mode[0])
		dax_json(row, opts, obj);
	return obj;
}

static void row_text(const struct dev_row *row, const struct ctl_opts *opts)
{
	char size[CTL_SIZE_LEN], avail[CTL_SIZE_LEN];
	const int width = opts->human ? 8 : 14;

	printf("%-8s  %-14s %*s %*s  %s\n", row->name, row->source[0] ? row->source : "-", width,
	       ctl_size(opts, row->size_bytes, size), width,
	       row->has_free ? ctl_size(opts, row->free_bytes, avail) : "-", row->state);
	if (row->options[0])
		printf("%-8s  mount it with -o %s\n", "", row->options);
	if (row->used_by[0])
		printf("%-8s  used by %s\n", "", row->used_by);
	if (row->reason[0])
		printf("%-8s  %s: %s%s%s\n", "",
		       !row->source[0] ? "not usable" : strcmp(row->kind, "node") ? "but" : "not all of it", row->reason,
		       row->command[0] ? "; run: " : "", row->command);
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct dev_table table = { 0 };
	struct ctl_list list;
	struct ctl_opts opts;
	int first = ctl_options(cmd, argc, argv, &opts), rc;

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (opts.restore && first == argc)
		return dev_restore(opts.restore);
	if (first != argc) {
		ctl_error("devices: takes no argument ('%s'); usage: spmctl devices %s", argv[first],
			  cmd->args);
		return CTL_USAGE;
	}
	rc = add_ram(&table);
	if (!rc)
		rc = add_nodes(&table);
	if (!rc)
		rc = dev_rows_dax(&table);
	if (!rc)
		rc = dev_rows_fs(&table);
	if (!rc)
		rc = mark_mounts(&table);
	if (!rc && opts.json)
		ctl_list_begin(&list);
	else if (!rc)
		printf("%-8s  %-14s %*s %*s  %s\n", "NAME", "SOURCE", opts.human ? 8 : 14, "SIZE",
		       opts.human ? 8 : 14, "FREE", "STATE");
	for (size_t i = 0; !rc && i < table.n; i++) {
		if (opts.json)
			ctl_list_add(&list, row_json(&table.rows[i], &opts));
		else
			row_text(&table.rows[i], &opts);
	}
	if (!rc && opts.json)
		ctl_list_end(&list);
	free(table.rows);
	return rc ? CTL_FAILED : CTL_DONE;
}

const struct ctl_cmd ctl_devices = {
	.name = "devices",
	.args = "[--json] [-u] [--restore DEVICE]",
	.help = "what memory could back a mount, and its SOURCE",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN | CTL_OPT_RESTORE,
	.run = run,
};
