/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_NUMA_H
#define SPM_CORE_NUMA_H

#include <stddef.h>
#include <stdint.h>
#include "core/util.h"

#define SPM_NUMA_MAX 1024 /* CONFIG_NODES_SHIFT is at most 10 */

/* A set of NUMA nodes, laid out as mbind(2) wants it. */
struct spm_nodes {
	unsigned long bits[SPM_NUMA_MAX / (8 * sizeof(unsigned long))];
};

struct spm_numa_mem {
	uint64_t total_bytes;
	uint64_t free_bytes; /* what can be allocated there, see core/noderoom.h */
};

/* A kernel node list, "0", "1-3,5". -EINVAL: malformed or empty; -ERANGE: a node of 1024 or more. */
int spm_nodes_parse(const char *list, struct spm_nodes *out) SPM_MUST_CHECK;
bool spm_nodes_test(const struct spm_nodes *n, int node);
void spm_nodes_set(struct spm_nodes *n, int node);
/* Writes a kernel node list; returns @buf. */
char *spm_nodes_format(const struct spm_nodes *n, char *buf, size_t len);

/* Nodes that have memory. -errno of reading sysfs. */
int spm_numa_with_memory(struct spm_nodes *out) SPM_MUST_CHECK;
/* Nodes that the calling task's cpuset lets it allocate from: MPOL_BIND outside of it is ignored. */
int spm_numa_allowed(struct spm_nodes *out) SPM_MUST_CHECK;
/* -ENODEV: no such node; -EIO: sysfs says something unexpected. */
int spm_numa_meminfo(int node, struct spm_numa_mem *m) SPM_MUST_CHECK;
/* All memory of the machine (MemAvailable of /proc/meminfo). */
int spm_mem_available(struct spm_numa_mem *m) SPM_MUST_CHECK;

#endif
