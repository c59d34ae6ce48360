/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rows of spmctl devices. */
#ifndef SPMCTL_DEVICES_H
#define SPMCTL_DEVICES_H

#include "core/util.h"

#include <stddef.h>

/* All strings are the table's. An empty one means: does not apply. */
struct dev_row {
	char name[64];
	char kind[16];       /* ram, node, dax, fsdax or pmem */
	char source[320];    /* what to type as SOURCE; empty: not usable as it is */
	char options[32];    /* what to type behind -o with it */
	char state[400];     /* one phrase for people */
	char cpus[128];      /* the CPUs of a node, a kernel list */
	char reason[512];    /* why it is not usable, or not all of it */
	char command[400];   /* the command that changes that */
	char used_by[240];   /* mounts or processes */
	uint64_t size_bytes;
	uint64_t free_bytes;
	bool has_free;
	bool memory_only;
	bool private_memory; /* that the kernel keeps for whoever asks for it by name */
	int node;            /* -1: none */
	/* of dax devices, as daxctl has them */
	char mode[16];
	bool as_memory;      /* daxmode=system-ram would do */
	uint64_t align;
	int online, blocks, movable; /* of its memory; -1: not known, or none */
};

struct dev_table {
	struct dev_row *rows;
	size_t n;
};

/* A zeroed row with node -1, NULL when memory is out (told). The pointer holds until the next call. */
struct dev_row *dev_row_add(struct dev_table *table);

/* Appends the dax devices, and says of the nodes which of them belong to one. Returns 0, or a negative errno (told). */
int dev_rows_dax(struct dev_table *table);
/* Appends file systems that are mounted with -o dax, and persistent memory that has none. */
int dev_rows_fs(struct dev_table *table);
/* Gives the device @name back as it was before a mount that could not. Returns an enum ctl_exit. */
int dev_restore(const char *name);

#endif
