/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_NOHALT_H
#define SPM_FS_NOHALT_H

#include "fs/options.h"

/*
 * Keeps idle processors from halting while a client and the server answer each other at once.
 *
 * A client that waits for its answer leaves its processor idle. In a virtual machine an idle processor that
 * halts leaves the guest, and waking it costs more than the request itself (8 us against 6 us, measured). The
 * kernel's answer is to poll a moment first (guest_halt_poll_ns); where that is switched off, a PM QoS request
 * through /dev/cpu_dma_latency (Documentation/power/pm_qos_interface.rst) has the same effect, for as long as
 * it is held. Idle polling takes no time from anybody who has something to run. The kernel drops the request
 * when its descriptor closes. The standby and the keeper have it too, and take a dead worker's request back.
 *
 * Not locked: one thread at a time, that with the lead, holds and releases.
 */
struct spm_nohalt {
	int fd; /* of /dev/cpu_dma_latency; -1: off */
	bool held;
	char why[120]; /* it is off */
};

/* In the host's mount namespace: decides and opens. Never fails: without it requests take longer. */
void spm_nohalt_open(struct spm_nohalt *n, enum spm_nohalt_when when);
void spm_nohalt_close(struct spm_nohalt *n);

/* Each costs a system call and wakes idle processors, where it changes anything. */
void spm_nohalt_hold(struct spm_nohalt *n);
void spm_nohalt_release(struct spm_nohalt *n);

/* By whoever shares the descriptor with a holder that has died, and left its request behind. */
void spm_nohalt_reset(struct spm_nohalt *n);

#endif
