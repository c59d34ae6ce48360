/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SOURCE_H
#define SPM_CORE_SOURCE_H

#include "core/log.h"
#include "core/numa.h"

enum spm_source_kind {
	SPM_SOURCE_MEM,  /* plain RAM */
	SPM_SOURCE_NODE, /* memory of NUMA nodes, MPOL_BIND */
};

/* What SOURCE on the command line names. */
struct spm_source {
	enum spm_source_kind kind;
	uint64_t bytes; /* 0: not given (node: takes the nodes' size) */
	struct spm_nodes nodes;
};

/* Parses SOURCE; -EINVAL with the reason and the legal forms in @e. Asks nothing of the machine. */
int spm_source_parse(const char *text, struct spm_source *out, struct spm_error *e) SPM_MUST_CHECK;

/* Checks it against this machine: nodes exist, have memory, are in our cpuset; the size is there.
 * Fills in a size that was not given. -ENODEV, -ENOMEM, -EPERM with the reason in @e. */
int spm_source_check(struct spm_source *s, const char *text, struct spm_error *e) SPM_MUST_CHECK;

#endif
