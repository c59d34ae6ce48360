/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/source.h"
#include "core/dir.h"
#include "core/size.h"

#include <errno.h>
#include <string.h>

#define MIN_BYTES 65536 /* below this not even the directories of the region fit with room to spare */

static int parse_size(const char *text, const char *size, struct spm_source *s, struct spm_error *e)
{
	if (spm_size_parse(size, &s->bytes))
		return spm_fail(e, -EINVAL, "%s: bad size '%s'; give a number with K, M, G or T, as in mem:1G",
				text, size);
	if (s->bytes < MIN_BYTES)
		return spm_fail(e, -EINVAL, "%s: size %s is too small; the least is 64K", text, size);
	return 0;
}

static int parse_nodes(const char *text, struct spm_source *s, struct spm_error *e)
{
	const char *list = text + 5, *colon = strchr(list, ':');
	char nodes[128];
	size_t n = colon ? (size_t)(colon - list) : strlen(list);

	s->kind = SPM_SOURCE_NODE;
	if (n >= sizeof(nodes))
		return spm_fail(e, -EINVAL, "%s: node list too long", text);
	memcpy(nodes, list, n);
	nodes[n] = '\0';
	if (spm_nodes_parse(nodes, &s->nodes))
		return spm_fail(e, -EINVAL, "%s: bad node list '%s'; give node:LIST[:SIZE] as in node:1 or node:1-2:16G",
				text, nodes);
	return colon ? parse_size(text, colon + 1, s, e) : 0;
}

static bool parse_dax(const char *text, struct spm_source *s)
{
	const char *name = strncmp(text, "/dev/", 5) ? text : text + 5;
	unsigned int region, dev;
	int end = 0;

	/* sscanf(3) alone would take blanks and signs */
	if (strncmp(name, "dax", 3) || name[3 + strspn(name + 3, "0123456789.")] || strlen(name) >= sizeof(s->dax) ||
	    sscanf(name, "dax%9u.%9u%n", &region, &dev, &end) != 2 || name[end])
		return false;
	s->kind = SPM_SOURCE_DAX;
	memcpy(s->dax, name, strlen(name) + 1);
	return true;
}

int spm_source_parse(const char *text, struct spm_source *out, struct spm_error *e)
{
	struct spm_source s = { .kind = SPM_SOURCE_MEM };
	int rc = 0;

	if (!strncmp(text, "mem:", 4)) {
		rc = parse_size(text, text + 4, &s, e);
	} else if (!strncmp(text, "node:", 5)) {
		rc = parse_nodes(text, &s, e);
	} else if (!strncmp(text, "dir:", 4)) {
		s.kind = SPM_SOURCE_DIR;
		s.path = text + 4;
		if (!*s.path)
			rc = spm_fail(e, -EINVAL, "%s: no directory given; give dir:PATH", text);
	} else if (!parse_dax(text, &s)) {
		return spm_fail(e, -EINVAL,
				"%s: unknown source; give mem:SIZE (plain memory), node:LIST[:SIZE] (NUMA nodes), daxX.Y "
				"(a dax device) or dir:PATH (a directory), 'spmctl devices' lists what this machine has", text);
	}
	if (rc)
		return rc;
	*out = s;
	return 0;
}

bool spm_source_on_nodes(const struct spm_source *s)
{
	return s->kind == SPM_SOURCE_NODE || (s->kind == SPM_SOURCE_DAX && s->dax_mode == SPM_DAX_SYSTEM_RAM);
}

static int check_nodes(struct spm_source *s, const char *text, struct spm_numa_mem *sum, struct spm_error *e)
{
	struct spm_nodes with, allowed;
	char list[256];

	if (spm_numa_with_memory(&with))
		return spm_fail(e, -ENODEV, "%s: this kernel has no NUMA support; use mem:SIZE", text);
	if (spm_numa_allowed(&allowed))
		return spm_fail(e, -errno, "%s: cannot read the cpuset's memory nodes: %s", text, strerror(errno));
	for (int i = 0; i < SPM_NUMA_MAX; i++) {
		struct spm_numa_mem m;

		if (!spm_nodes_test(&s->nodes, i))
			continue;
		if (!spm_nodes_test(&with, i) || spm_numa_meminfo(i, &m))
			return spm_fail(e, -ENODEV, "%s: node %d does not exist or has no memory; nodes with memory: %s",
					text, i, spm_nodes_format(&with, list, sizeof(list)));
		/* the kernel ignores a bind policy outside of the allocating task's cpuset */
		if (!spm_nodes_test(&allowed, i))
			return spm_fail(e, -EPERM, "%s: node %d is outside of this process's cpuset (%s); "
					"mount from a cpuset that has it", text, i,
					spm_nodes_format(&allowed, list, sizeof(list)));
		sum->total_bytes += m.total_bytes;
		sum->free_bytes += m.free_bytes;
	}
	return 0;
}

int spm_source_check(struct spm_source *s, const char *text, struct spm_error *e)
{
	struct spm_numa_mem m = { 0, 0 };
	char want[16], have[16];
	int rc;

	if (s->kind == SPM_SOURCE_DIR)
		return spm_dir_check(s, text, e);
	if (s->kind == SPM_SOURCE_NODE) {
		rc = check_nodes(s, text, &m, e);
		if (rc)
			return rc;
		if (!s->bytes)
			s->bytes = m.free_bytes & ~(uint64_t)(MIN_BYTES - 1);
	} else if (spm_mem_available(&m)) {
		return spm_fail(e, -EIO, "%s: cannot read /proc/meminfo", text);
	}
	if (s->bytes < MIN_BYTES || s->bytes > m.free_bytes)
		return spm_fail(e, -ENOMEM, "%s: size %s is more than the %s that are free; give a smaller size", text,
				spm_size_human(s->bytes, want, sizeof(want)),
				spm_size_human(m.free_bytes, have, sizeof(have)));
	return 0;
}
