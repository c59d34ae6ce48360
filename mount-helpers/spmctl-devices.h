/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rows of spmctl devices. */
#ifndef SPMCTL_DEVICES_H
#define SPMCTL_DEVICES_H

#include "core/util.h"

#include <stddef.h>

/* All strings are the table's. An empty one means: does not apply. */
struct dev_row {
	char name[64];
	char kind[16];       /* ram, node or dax */
	char source[64];     /* what to type as SOURCE; empty: not usable as it is */
	char state[128];     /* one phrase for people */
	char cpus[128];      /* the CPUs of a node, a kernel list */
	char reason[160];    /* why it is not usable, or not all of it */
	char command[160];   /* the command that changes that */
	uint64_t size_bytes;
	uint64_t free_bytes;
	bool has_free;
	bool memory_only;
	int node;            /* -1: none */
};

struct dev_table {
	struct dev_row *rows;
	size_t n;
};

/* A zeroed row with node -1, NULL when memory is out (told). The pointer holds until the next call. */
struct dev_row *dev_row_add(struct dev_table *table);

/* Appends the dax devices. Returns 0, or a negative errno (told). */
int dev_rows_dax(struct dev_table *table);

#endif
