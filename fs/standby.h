/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_STANDBY_H
#define SPM_FS_STANDBY_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Three processes serve a mount:
 *
 *	keeper   `spmfs-keeper`, static, libc only: owns /dev/fuse, the shared state (fs/state.h), the region's
 *	         mount namespace; watches, decides, restarts, logs. Never touches the region or a request.
 *	standby  `spmfs`, exec'ed once in a namespace that has its libraries, then moved into the region's: forks
 *	         a worker when the keeper says so, is its parent, tells how it ended; and in the end unmounts and
 *	         cleans up (that needs /proc, memory and libraries, none of which the keeper has).
 *	worker   a fork of the standby: serves (fs/worker.h), and may die at any instruction.
 *
 * The standby is why a restart costs a fork and no exec: it needs no path, no library, no host namespace, and
 * it is still the program that the mount was made with after the package was upgraded. It does nothing that
 * could fail while it waits. If it dies nevertheless, its spare steps in: a fork of it that only waits for that,
 * and for which no path and no library is needed either. If there is none (both were killed), the keeper starts a
 * standby by exec in the mount namespace of process 1.
 *
 * Keeper and standby talk over a SOCK_SEQPACKET pair, one struct spm_word a message. A worker tells the keeper
 * that it serves over a second pair, whose worker end every worker inherits.
 */
#define SPM_WORD_TEXT 480

enum spm_word_kind {
	/* keeper to standby */
	SPM_WORD_START = 1, /* fork a worker; value: its generation, unless the state has another one by then */
	SPM_WORD_STEP_IN,   /* to the spare: be the standby from now on */
	SPM_WORD_END,       /* value: enum spm_end; pid: the worker if one runs. Unmount, clean up, exit */
	/* standby to keeper */
	SPM_WORD_HELLO,     /* value: SPM_STATE_VERSION that it speaks; text: its program version */
	SPM_WORD_REFUSED,   /* instead of HELLO: text says why it cannot take this mount over */
	SPM_WORD_STARTED,   /* pid; with a pidfd as SCM_RIGHTS */
	SPM_WORD_DIED,      /* pid; value: status of waitpid(2) */
	SPM_WORD_SPARE,     /* pid of a fork of it that waits to step in; with its socket as SCM_RIGHTS */
	/* worker to keeper */
	SPM_WORD_READY,     /* value: generation; text: what the user of mount(8) should know, or empty */
	SPM_WORD_FAILED,    /* pid; text: why it cannot serve; it exits then. value: errno, EPROTO if no other can either */
	/* spmctl to keeper, on the control socket, and the one answer to it */
	SPM_WORD_UPGRADE,   /* text: absolute path of spmfs, in the mount namespace that comes as SCM_RIGHTS */
	SPM_WORD_DONE,      /* text: from what to what, and how long it took. REFUSED: why not */
};

enum spm_end {
	SPM_END_UNMOUNTED, /* the connection is gone: clean up; if the mount is still there it was aborted */
	SPM_END_UNMOUNT,   /* unmount everywhere, then end the worker, then clean up */
	SPM_END_ABANDON,   /* the worker cannot be kept alive: leave region, pin and (dead) mount as they are */
	SPM_END_RETIRE,    /* another standby has taken over: exit and touch nothing */
};

struct spm_word {
	uint32_t kind;
	uint32_t value;
	int32_t pid;
	uint32_t reserved;
	char text[SPM_WORD_TEXT]; /* ends with a NUL */
};

/* How a worker ends in order. Any other exit status is a crash. */
#define SPM_WORKER_UNMOUNTED 0 /* the kernel says that the mount is gone */
#define SPM_WORKER_YIELDED   3 /* told by SIGTERM to make room for the next one; nothing is in hand */

#endif
