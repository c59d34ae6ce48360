/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SOURCE_H
#define SPM_CORE_SOURCE_H

#include <stdbool.h>
#include "core/log.h"
#include "core/numa.h"

enum spm_source_kind {
	SPM_SOURCE_MEM,  /* plain RAM */
	SPM_SOURCE_NODE, /* memory of NUMA nodes, MPOL_BIND */
	SPM_SOURCE_DAX,  /* a dax device */
	SPM_SOURCE_DIR,  /* a directory of a filesystem */
};

enum spm_dax_mode {
	SPM_DAX_AUTO,       /* asked for only: the mode that the device is in */
	SPM_DAX_SYSTEM_RAM, /* the device's memory is a node, onlined as movable; the rest is as with node: */
	SPM_DAX_DEVDAX,     /* the device stays a character device: a pool of extents in it */
};

#define SPM_DAX_NAME 32 /* room for the kernel's name of a device */

/* What SOURCE on the command line names. */
struct spm_source {
	enum spm_source_kind kind;
	uint64_t bytes; /* 0: not given (node: takes the nodes' size) */
	struct spm_nodes nodes;
	enum spm_dax_mode dax_mode; /* DAX: as daxmode= has it; once the device was taken, never AUTO */
	char dax[SPM_DAX_NAME];     /* DAX: "dax0.0" */
	const char *path;           /* DIR: points into the text that was parsed */
	bool force;                 /* DIR: also where it is not DAX */
	bool wants_quota;           /* DIR: it is to have a size, or slices */
};

/* Whether its memory is that of @nodes and of no others. */
bool spm_source_on_nodes(const struct spm_source *s);

/* Parses SOURCE; -EINVAL with the reason and the legal forms in @e. Asks nothing of the machine. */
int spm_source_parse(const char *text, struct spm_source *out, struct spm_error *e) SPM_MUST_CHECK;

/* Checks one other than DAX (fs/device.h) against this machine: nodes exist, have memory, are in our cpuset; the size is there.
 * Fills in a size that was not given. -ENODEV, -ENOMEM, -EPERM with the reason in @e. */
int spm_source_check(struct spm_source *s, const char *text, struct spm_error *e) SPM_MUST_CHECK;

#endif
