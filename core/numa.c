/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/numa.h"
#include "core/noderoom.h"

#include <ctype.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>

#define WORD_BITS (8 * sizeof(unsigned long))

bool spm_nodes_test(const struct spm_nodes *n, int node)
{
	return n->bits[(size_t)node / WORD_BITS] >> ((size_t)node % WORD_BITS) & 1;
}

void spm_nodes_set(struct spm_nodes *n, int node)
{
	n->bits[(size_t)node / WORD_BITS] |= 1UL << ((size_t)node % WORD_BITS);
}

static int parse_node(const char **p)
{
	unsigned long v;
	char *end;

	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	v = strtoul(*p, &end, 10);
	*p = end;
	return v < SPM_NUMA_MAX ? (int)v : -ERANGE;
}

int spm_nodes_parse(const char *list, struct spm_nodes *out)
{
	struct spm_nodes n = { { 0 } };
	const char *p = list;

	for (;;) {
		int first = parse_node(&p), last = first;

		if (first < 0)
			return first;
		if (*p == '-') {
			p++;
			last = parse_node(&p);
			if (last < 0)
				return last;
			if (last < first)
				return -EINVAL;
		}
		for (int i = first; i <= last; i++)
			spm_nodes_set(&n, i);
		if (!*p)
			break;
		if (*p++ != ',')
			return -EINVAL;
	}
	*out = n;
	return 0;
}

char *spm_nodes_format(const struct spm_nodes *n, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (int i = 0; i < SPM_NUMA_MAX && at < len; i++) {
		int last = i;

		if (!spm_nodes_test(n, i))
			continue;
		while (last + 1 < SPM_NUMA_MAX && spm_nodes_test(n, last + 1))
			last++;
		at += (size_t)snprintf(buf + at, len - at, at ? ",%d" : "%d", i);
		if (last > i && at < len)
			at += (size_t)snprintf(buf + at, len - at, "-%d", last);
		i = last;
	}
	return buf;
}

int spm_numa_with_memory(struct spm_nodes *out)
{
	spm_auto_fclose FILE *f = fopen("/sys/devices/system/node/has_memory", "re");
	char line[256];

	if (!f)
		return -errno;
	if (!fgets(line, sizeof(line), f))
		return -EIO;
	line[strcspn(line, "\n")] = '\0';
	return spm_nodes_parse(line, out);
}

int spm_numa_allowed(struct spm_nodes *out)
{
	memset(out, 0, sizeof(*out));
	if (syscall(SYS_get_mempolicy, NULL, out->bits, (unsigned long)SPM_NUMA_MAX, NULL,
		    (unsigned long)MPOL_F_MEMS_ALLOWED))
		return -errno;
	return 0;
}

/* Finds "KEY ... VALUE kB" in either format of meminfo. */
static bool meminfo_line(const char *line, const char *key, uint64_t *bytes)
{
	const char *p = strstr(line, key);
	unsigned long long kb;

	if (!p || (p != line && p[-1] != ' ') || p[strlen(key)] != ':')
		return false;
	if (sscanf(p + strlen(key) + 1, " %llu kB", &kb) != 1)
		return false;
	*bytes = (uint64_t)kb * 1024;
	return true;
}

int spm_numa_meminfo(int node, struct spm_numa_mem *m)
{
	spm_auto_fclose FILE *f = NULL;
	uint64_t total = UINT64_MAX, free_b = 0, file = 0, shmem = 0;
	struct spm_nodes one = { { 0 } };
	char path[64], line[256];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? -ENODEV : -errno;
	while (fgets(line, sizeof(line), f)) {
		(void)(meminfo_line(line, "MemTotal", &total) || meminfo_line(line, "MemFree", &free_b) ||
		       meminfo_line(line, "FilePages", &file) || meminfo_line(line, "Shmem", &shmem));
	}
	if (total == UINT64_MAX)
		return -EIO;
	m->total_bytes = total;
	spm_nodes_set(&one, node);
	if (spm_node_room(&one, &m->free_bytes))
		m->free_bytes = free_b + (file > shmem ? file - shmem : 0);
	return 0;
}

int spm_mem_available(struct spm_numa_mem *m)
{
	spm_auto_fclose FILE *f = fopen("/proc/meminfo", "re");
	bool total = false, avail = false;
	char line[256];

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		total |= meminfo_line(line, "MemTotal", &m->total_bytes);
		avail |= meminfo_line(line, "MemAvailable", &m->free_bytes);
	}
	return total && avail ? 0 : -EIO;
}
