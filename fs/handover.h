/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_HANDOVER_H
#define SPM_FS_HANDOVER_H

#include <stdbool.h>
#include "core/slots.h"
#include "core/util.h"
#include "fs/standby.h"

/*
 * What the processes of a mount hand to each other: descriptors over exec, and words over sockets. The keeper
 * is linked with this, so it needs nothing but libc.
 *
 * Keeper and standby hold the same descriptors, so that each can start the other anew.
 */
enum spm_fd_of {
	SPM_FD_TALK,   /* keeper and standby: its end of the pair */
	SPM_FD_STATE,  /* these two first, whatever the version: a program of another one can refuse by them */
	SPM_FD_BUFFERS,
	SPM_FD_INODES,
	SPM_FD_FUSE,
	SPM_FD_REGION, /* its mount namespace */
	SPM_FD_META,   /* the region's meta file, whose lock says that it is in use */
	SPM_FD_READY,  /* where the keeper hears from workers */
	SPM_FD_WORKER, /* the other end of that */
	SPM_FD_NOHALT,
	SPM_FD_CGROUP, /* the hierarchy's root */
	SPM_FD_CONTROL, /* listens; upgrades are asked for here */
	SPM_FD_NOTIFY, /* systemd's socket */
	SPM_FD_KEEPER, /* the keeper's program file */
	SPM_FD_DEVICE, /* the note on a dax device, whose lock says that it is in use */
	SPM_FD_LOG,    /* the system log's socket */
	SPM_FD_REPORT, /* what the launcher waits for; with the next one until the mount is usable, else -1 */
	SPM_FD_NULL,   /* /dev/null, which the region's namespace does not have */
	SPM_FD_POOL,   /* the device that a pool lies on, locked (flock): it is in use */
	SPM_FD_SWAP,   /* swap files, and the directories that they lie in */
	SPM_FD_SWAP_DIR = SPM_FD_SWAP + SPM_SWAP_FILES,
	SPM_FDS = SPM_FD_SWAP_DIR + SPM_SWAP_FILES
};

/* All of them as one argument of a program: numbers with commas between. */
#define SPM_FDS_TEXT (SPM_FDS * 12)
void spm_fds_format(const int fd[static SPM_FDS], char text[static SPM_FDS_TEXT]);
/* False: not such a list, or none of this version (then @fd has what could be read, else -1). */
bool spm_fds_parse(const char *text, int fd[static SPM_FDS]);
/* Whether they go on over exec. */
void spm_fds_inherit(const int fd[static SPM_FDS], bool inherit);

/* Sends one word, with a descriptor unless @pass is -1; never waits. -errno of sendmsg(2). */
int spm_word_send(int sock, const struct spm_word *w, int pass);
/* Takes one word, and the descriptor that came with it (else -1). 0; -EPIPE: the other end is gone; -EBADMSG:
 * not a word; -EAGAIN, if the socket does not wait. */
int spm_word_take(int sock, struct spm_word *w, int *passed) SPM_MUST_CHECK;

/*
 * A worker holds a lock on the state for as long as it lives: so there is never more than one, and whoever has
 * lost track of it finds its pid, which cannot be another process's.
 */
/* Kills a worker that holds it still. -errno of fcntl(2). */
int spm_worker_lock(int state_fd) SPM_MUST_CHECK;
/* Its pid; 0: no worker runs. */
pid_t spm_worker_locked(int state_fd);


/* The keeper holds one as well. -EBUSY: another keeper lives, and goes on to. */
int spm_keeper_lock(int state_fd) SPM_MUST_CHECK;

uint64_t spm_clock_ns(void);

#endif
