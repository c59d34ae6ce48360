/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Among the rows of spmctl devices: file systems that are mounted with -o dax, and persistent memory without one. */
#include "config.h"

#include "core/mountinfo.h"
#include "core/source.h"
#include "mount-helpers/spmctl-devices.h"
#include "mount-helpers/spmctl.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BLOCK "/sys/block"

/* Whether the options of a file system say that all of its files are mapped from the device. */
static bool has_dax(char *options)
{
	char *rest = NULL;

	for (char *o = strtok_r(options, ",", &rest); o; o = strtok_r(NULL, ",", &rest))
		if (!strcmp(o, "dax") || !strcmp(o, "dax=always"))
			return true;
	return false;
}

static int add_fs(struct dev_table *table, const char *type, const char *device, const char *point)
{
	struct dev_row *row = dev_row_add(table);
	const char *slash = strrchr(device, '/');
	struct spm_source s = { .kind = SPM_SOURCE_DIR };
	struct spm_error e = { "" };
	char dir[320], text[336];
	struct statvfs sv;

	if (!row)
		return -ENOMEM;
	snprintf(row->name, sizeof(row->name), "%.60s", slash ? slash + 1 : device);
	snprintf(row->kind, sizeof(row->kind), "fsdax");
	snprintf(row->state, sizeof(row->state), "%s mounted with -o dax at %.300s", type, point);
	if (!statvfs(point, &sv)) {
		row->size_bytes = (uint64_t)sv.f_blocks * sv.f_frsize;
		row->free_bytes = (uint64_t)sv.f_bavail * sv.f_frsize;
		row->has_free = true;
	}
	/* a directory of its own: the top one may be other people's */
	snprintf(dir, sizeof(dir), "%.300s/spmfs", strcmp(point, "/") ? point : "");
	snprintf(text, sizeof(text), "dir:%s", dir);
	s.path = dir;
	if (access(dir, F_OK) && errno == ENOENT) {
		snprintf(row->reason, sizeof(row->reason),
			 "a mount wants a directory of its own there, to be mounted as %s", text);
		snprintf(row->command, sizeof(row->command), "mkdir -m 700 %s", dir);
	} else if (spm_source_check(&s, text, &e)) {
		snprintf(row->reason, sizeof(row->reason), "%s", e.text);
	} else {
		snprintf(row->source, sizeof(row->source), "%.319s", text);
	}
	return 0;
}

static bool seen(const struct dev_table *table, const char *name)
{
	for (size_t i = 0; i < table->n; i++)
		if (!strcmp(table->rows[i].kind, "fsdax") && !strcmp(table->rows[i].name, name))
			return true;
	return false;
}

/* "ID PARENT DEV ROOT POINT OPTIONS [TAGS] - TYPE DEVICE SUPER-OPTIONS" */
static int add_mounts(struct dev_table *table)
{
	spm_auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	spm_auto_free char *line = NULL;
	size_t room = 0;
	int rc = 0;

	while (!rc && f && getline(&line, &room, f) > 0) {
		char type[16], device[256], root[16];
		int at = 0, end = 0, opts = 0;
		char *dash = strstr(line, " - ");

		if (!dash || sscanf(line, "%*d %*d %*s %15s %n%*s%n", root, &at, &end) != 1 || !end ||
		    strcmp(root, "/") || sscanf(dash, " - %15s %255s %n", type, device, &opts) != 2 || !opts)
			continue;
		dash[opts + (int)strcspn(dash + opts, "\n")] = '\0';
		line[end] = '\0';
		spm_mountinfo_unescape(line + at);
		if (has_dax(dash + opts) && !seen(table, strrchr(device, '/') ? strrchr(device, '/') + 1 : device))
			rc = add_fs(table, type, device, line + at);
	}
	return rc;
}

static unsigned long long number(const char *name, const char *file)
{
	spm_auto_fclose FILE *f = NULL;
	unsigned long long n = 0;
	char path[320];

	snprintf(path, sizeof(path), BLOCK "/%.200s/%s", name, file);
	f = fopen(path, "re");
	return f && fscanf(f, "%llu", &n) == 1 ? n : 0;
}

static int add_pmem(struct dev_table *table)
{
	DIR *dir = opendir(BLOCK);
	const struct dirent *e;
	int rc = 0;

	while (!rc && dir && (e = readdir(dir))) {
		struct dev_row *row;

		if (strncmp(e->d_name, "pmem", 4) || seen(table, e->d_name) || !number(e->d_name, "size"))
			continue;
		row = dev_row_add(table);
		if (!row) {
			rc = -ENOMEM;
			break;
		}
		snprintf(row->name, sizeof(row->name), "%.60s", e->d_name);
		snprintf(row->kind, sizeof(row->kind), "pmem");
		row->size_bytes = (uint64_t)number(e->d_name, "size") * 512;
		if (number(e->d_name, "queue/dax")) {
			snprintf(row->state, sizeof(row->state), "persistent memory, fsdax");
			snprintf(row->reason, sizeof(row->reason), "no file system on it is mounted with -o dax");
			snprintf(row->command, sizeof(row->command),
				 "mkfs.xfs -m reflink=0 /dev/%.60s && mount -o dax /dev/%.60s /mnt", e->d_name,
				 e->d_name);
		} else {
			snprintf(row->state, sizeof(row->state), "persistent memory, not for DAX");
			snprintf(row->reason, sizeof(row->reason), "its namespace is not in mode fsdax or devdax");
			snprintf(row->command, sizeof(row->command),
				 "ndctl create-namespace -f -e namespaceX.Y -m devdax");
		}
	}
	if (dir)
		closedir(dir);
	return rc;
}

int dev_rows_fs(struct dev_table *table)
{
	int rc = add_mounts(table);

	return rc ? rc : add_pmem(table);
}
