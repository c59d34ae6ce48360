/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_NODEROOM_H
#define SPM_CORE_NODEROOM_H

#include <stdatomic.h>
#include <stdio.h>
#include "core/numa.h"

/*
 * What can still be allocated on given nodes and nowhere else. The kernel answers an allocation that a binding keeps on
 * a full node with the OOM killer, which ends any process of the machine, one after the other, and frees nothing by it
 * (measured, 6.12 and 7.3); or, for a process that PR_SET_IO_FLUSHER keeps from that, by trying for ever. So whoever
 * allocates asks here first. Others may take the memory in between: that is why what the kernel keeps free (its high
 * watermarks, at which it begins to look for more) is not counted.
 */

/* Adds up, in bytes, what /proc/zoneinfo (@f) says of @nodes. -EIO: it says nothing of them. */
int spm_node_room_parse(FILE *f, const struct spm_nodes *nodes, uint64_t *bytes) SPM_MUST_CHECK;
/* The same of this machine, now. -errno of reading it. */
int spm_node_room(const struct spm_nodes *nodes, uint64_t *bytes) SPM_MUST_CHECK;

/*
 * What is free, down to what the kernel keeps for itself alone (its minimal watermarks), with pages that processors have at hand: for
 * whoever has just given these nodes as much as he asks for. No page cache: what of it is dirty does not go in time, and then the
 * OOM killer comes after all. Where others have taken a node down to its low watermark, which is their limit,
 * the room above the high one is none, however much was given.
 */
int spm_node_room_parse_last(FILE *f, const struct spm_nodes *nodes, uint64_t *bytes) SPM_MUST_CHECK;
int spm_node_room_last(const struct spm_nodes *nodes, uint64_t *bytes) SPM_MUST_CHECK;

/* A part of it that was found not long ago, so that not each small write has to ask. All zeros at first. */
struct spm_node_budget {
	_Atomic int64_t bytes;
	_Atomic int64_t until_ns; /* CLOCK_MONOTONIC */
	bool last;                /* of spm_node_room_last() */
};

/*
 * Takes @bytes. -ENOSPC: the nodes have not got them, and nothing was taken.
 * 0 also where the kernel does not say.
 */
int spm_node_budget_take(struct spm_node_budget *b, const struct spm_nodes *nodes, uint64_t bytes) SPM_MUST_CHECK;

#endif
