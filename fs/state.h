/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_STATE_H
#define SPM_FS_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/swap.h"

/*
 * What outlives a worker, in shared memory: a memfd that the mount's set-up makes and the keeper holds, sealed
 * against a change of size. The keeper includes this file, so it is plain C without libfuse, and the keeper
 * maps only the first SPM_STATE_HEAD_BYTES.
 *
 *	head	(keeper and worker)  what the mount negotiated, who runs, counters, one struct spm_hold per slot
 *	desks	(worker)             one struct spm_desk (fs/desk.h) per slot: how far its request has got
 *	buffers	(worker, a memfd of its own)  one receive buffer per slot
 *	inodes	(worker, a memfd of its own)  the inode table, core/itable.h
 *
 * Who writes what: each field says it. A worker's thread writes only to the slot that it owns; a slot whose
 * owner has died (stage other than FREE, generation not the running one) is the next worker's to settle,
 * before that one serves anything. Whatever is read here after a crash is checked before it is used: an index
 * against its table, a stage against the enum, a length against its room.
 *
 * Order of stores is what a crash can see: a process that dies leaves its stores behind in program order, so
 * between a record and the effect that it announces there is a compiler barrier (spm_state_barrier), no more.
 */
#define SPM_STATE_MAGIC   UINT64_C(0x6174736d666d7073) /* "spmfmsta" */
#define SPM_STATE_VERSION 4u /* of all four parts; a worker of another one refuses to take over */
#define SPM_SLOTS         1024u

#define spm_state_barrier() atomic_signal_fence(memory_order_seq_cst)

enum spm_stage {
	SPM_STAGE_FREE,
	SPM_STAGE_READING,   /* owned; the buffer gets the next request, or has just got it */
	SPM_STAGE_HELD,      /* the request in the buffer is being worked on */
	SPM_STAGE_WAITING,   /* its worker died over it, and it was not yet worked on again */
	SPM_STAGE_ANSWERING, /* all is done, the answer is being written or was */
	SPM_STAGES
};

enum spm_hold_flags {
	SPM_HOLD_SLOW = 1 << 0, /* may wait for I/O or for another's lock: says nothing about the worker's health */
	SPM_HOLD_TAKES = 1 << 1, /* the thread looks for a request, and may have got one that is not HELD yet */
};

/* One per slot: what the keeper may want to know of a request in hand. */
struct spm_hold {
	uint32_t stage;
	uint32_t opcode;   /* FUSE_* */
	uint64_t since_ns; /* CLOCK_MONOTONIC, when it became HELD */
	uint32_t flags;
	uint32_t generation; /* of the worker that owns it */
};

/* Whether the kernel can do a thing, as the first worker found out: the others must not come to another result. */
struct spm_found {
	uint32_t on;
	char why[120]; /* not */
};

/* A fault point that a test has set, see fs/fault.h. */
#define SPM_FAULTS 8u
struct spm_fault_point {
	char at[40];      /* "mkdir:effect"; empty: unused */
	uint32_t action;  /* enum spm_fault_action */
	uint32_t ms;      /* of SLOW */
	uint32_t times;   /* it acts in the last so many passes */
	uint32_t left;    /* passes; 0: done */
};

/* What set-up found out about the mount. Keeper and standby copy it when they start. */
enum spm_mount_flags {
	SPM_MOUNT_PINNED = 1 << 0,
	SPM_MOUNT_KEEP = 1 << 1,     /* an orderly end leaves the region */
	SPM_MOUNT_REOPENED = 1 << 2, /* the region is a left-over one */
	SPM_MOUNT_CLEAN = 1 << 3,    /* which had been left in order */
	SPM_MOUNT_DIR = 1 << 5,      /* the region is a directory (core/dir.h): it stays, and no pin is needed to find it */
	SPM_MOUNT_NO_EXEC = 1 << 4,  /* process 1 does not see the program: no standby can be started anew */
};

struct spm_mount {
	uint64_t dev; /* its device number */
	uint64_t device_bytes, device_align; /* of a pool's device */
	uint32_t flags;
	char cgroup[100];     /* the worker's, below the hierarchy's root */
	char no_recover[120]; /* why the region is not pinned; empty: it is */
	char note[256];       /* what whoever mounts should know of the swap files; empty: nothing */
};

#define SPM_INIT_ROOM 256u

struct spm_state {
	/* set-up */
	uint64_t magic;
	uint32_t version;
	uint32_t bytes; /* of this memfd */
	struct spm_mount mount;

	/* the keeper */
	int32_t keeper_pid;
	int32_t standby_pid;      /* its child */
	uint64_t keeper_since_ns; /* when it began */
	uint32_t ready_generation; /* of the last worker that served; 0: the mount has not been usable yet */

	/* the standby */
	uint32_t keeper_deaths;   /* of keepers that died soon after each other */
	uint64_t keeper_death_ns; /* the first of those */
	uint64_t keeper_answered; /* requests answered when the last one died */

	/* the keeper, while no worker runs */
	uint32_t generation;      /* of the worker that runs or is about to; the first is 1 */
	uint32_t restarts;        /* workers started because one had died; upgrades do not count */
	uint32_t death_signal;    /* of the last worker; 0: it ended in order (upgrade) */
	uint32_t death_hung;      /* 1: the keeper killed it because it answered nothing */
	uint64_t death_ns;        /* when it was seen, CLOCK_MONOTONIC */

	/* the worker */
	uint32_t init_request_len, init_reply_len; /* the reply's is set last; 0: INIT is not answered yet */
	uint8_t init_request[SPM_INIT_ROOM];       /* as the kernel sent it */
	uint8_t init_reply[SPM_INIT_ROOM];         /* as it was answered, with its header */
	_Atomic uint64_t received;                 /* requests that were read, by all workers */
	_Atomic uint64_t answered;                 /* and worked through to the end */
	uint32_t resend;                           /* 1: the kernel gives unanswered requests to the next worker */
	uint32_t probed;                           /* 1: what follows is valid */
	struct spm_found passthrough, leases;
	uint64_t backing_opening;                  /* node id for which a backing id is being made, else 0 */
	int32_t backing_last;                      /* the newest id that was recorded */
	uint32_t reserved_2;
	uint32_t faults_on;
	uint32_t all_slow; /* generation of the worker if all its threads wait for slow things: it reads nothing, in order */
	_Atomic uint32_t draining;                 /* 1: fs/drain.h */
	uint32_t reserved[5];
	_Atomic uint64_t swap_stored_bytes;        /* see struct spm_swap_stats; goes on over restarts */
	_Atomic uint64_t mode_held, wakeups;       /* counters of struct spm_counters that go on over restarts */
	_Atomic uint64_t swap_max_less;            /* so much less than UINT64_MAX is swap.max */
	struct spm_swap_counters swap;
	struct spm_fault_point fault[SPM_FAULTS];

	struct spm_hold hold[SPM_SLOTS];
};
#define SPM_STATE_HEAD_BYTES ((sizeof(struct spm_state) + 4095) & ~(size_t)4095)
_Static_assert(sizeof(struct spm_state) < 64 * 1024, "the keeper locks this in memory");

#endif
