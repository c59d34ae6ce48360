/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_KEEPER_H
#define SPM_FS_KEEPER_H

#include "fs/handover.h"
#include "fs/state.h"

/*
 * The keeper's inside (fs/standby.h says what it is for). It is a program of its own: libc only, no threads, no
 * allocation, all of it locked in memory, so that nothing that ends other processes ends this one.
 */
#define SPM_CRASH_DEATHS 5 /* in SPM_CRASH_NS without an answered request: no use to go on */
#define SPM_CRASH_NS     UINT64_C(10000000000)
#define SPM_SECOND_NS    UINT64_C(1000000000)

enum spm_keeper_level { SPM_SAY_ERR = 3, SPM_SAY_INFO = 6 };

/* Exit status of a child that could not become the program. */
#define SPM_PARTY_NOT_RUN 127

/* A standby, as the keeper sees it. */
struct spm_party {
	int talk; /* -1: there is none */
	pid_t pid;
	bool ready; /* it has said hello */
	uint64_t since_ns;
	char version[32];
};

enum spm_worker_phase {
	SPM_WORKER_NONE,
	SPM_WORKER_ASKED,   /* a standby was told to start it */
	SPM_WORKER_STARTED, /* it runs */
	SPM_WORKER_SERVES,
};

struct spm_keeper_worker {
	enum spm_worker_phase phase;
	pid_t pid; /* 0: not known yet */
	int pidfd;
	uint64_t since_ns; /* when it was asked for */
	uint64_t gone_ns;  /* its pidfd says that it is dead, nobody has told how yet */
	bool hung;         /* killed for that */
	bool nobodys;      /* not a child of this process nor of the standby: how it ends nobody will know */
	char failed[SPM_WORD_TEXT]; /* why it could not serve */
	uint32_t failed_errno;      /* the same as a number, if there is one */
};

/* Workers that never served, one after another: what they lack may be there a moment later. */
struct spm_keeper_fails {
	unsigned int count;
	uint64_t since_ns; /* the first of them */
	uint64_t retry_ns; /* when the next one is asked for; 0: none waits for that */
	char why[SPM_WORD_TEXT]; /* the last, which has been logged */
};

enum spm_upgrade_phase {
	SPM_UPGRADE_NONE,
	SPM_UPGRADE_LOADING,  /* the new program has not said hello yet */
	SPM_UPGRADE_LOADED,   /* it has; the running worker is not to be asked yet, since it just takes over */
	SPM_UPGRADE_YIELDING, /* the old worker was asked to end */
	SPM_UPGRADE_STARTING, /* the new one was asked for */
};

struct spm_upgrade {
	enum spm_upgrade_phase phase;
	int client; /* who waits for the answer; -1: nobody */
	uint64_t deadline_ns; /* of the phase */
	char program[SPM_WORD_TEXT];
};

/* Has connected to the control socket, and not said yet what it wants. */
#define SPM_CALLERS 4
struct spm_caller {
	int fd; /* -1: unused */
	uint64_t deadline_ns;
};

struct spm_keeper {
	int fd[SPM_FDS]; /* SPM_FD_TALK is not used, see standby */
	struct spm_state *state; /* its head */
	int signal_fd;
	bool foreground, journal; /* stderr is systemd's journal */
	int level;
	uint64_t watchdog_ns;
	/* as they came: for whoever is started next */
	const char *watchdog, *flags, *name, *source, *mountpoint, *list;
	const char *program;
	char upgraded[SPM_WORD_TEXT]; /* what that is after an upgrade */

	struct spm_party standby, spare;
	struct spm_party next, next_spare; /* those that an upgrade brings */
	unsigned int standby_fails;     /* in a row, before it could say hello */
	unsigned int standby_quick;     /* in a row, that died right after their start */
	uint64_t standby_retry_ns;      /* not before; 0: not at all, until it is needed */

	struct spm_keeper_worker worker;
	struct spm_keeper_fails fails;
	bool wanted; /* a worker has to be started as soon as there is a standby */
	uint64_t death_ns[SPM_CRASH_DEATHS];
	unsigned int deaths;
	uint64_t answered; /* when the first of those died */

	uint64_t check_ns; /* when the watchdog looks next */
	uint64_t unread_ns; /* since when requests wait and nobody reads; 0: not so */
	uint64_t received;

	struct spm_upgrade upgrade;
	struct spm_caller caller[SPM_CALLERS];

	bool ending;
	uint64_t end_ns;
	unsigned int end_tries;
	enum spm_end end;
	int end_signal; /* that asked for it; 0: none */
	char failed[SPM_WORD_TEXT]; /* why the mount never became usable */
	bool finished;
	int status;
};

/* -- fs/keeper-say.c -- */
void spm_keeper_say(const struct spm_keeper *k, enum spm_keeper_level level, const char *fmt, ...)
	SPM_PRINTF(3, 4);
/* "KILL" */
const char *spm_keeper_signal(int sig);
/* To systemd, if it wants to know. */
void spm_keeper_notify(const struct spm_keeper *k, const char *fmt, ...) SPM_PRINTF(2, 3);
/* To the launcher, once: the mount is usable, with a note; or it is not, with the reason. */
void spm_keeper_report(struct spm_keeper *k, bool ok, const char *text);

/* -- fs/keeper-worker.c -- */
/* A worker is needed: asks @p for one now, or the next standby as soon as it can. */
void spm_keeper_want_worker(struct spm_keeper *k);
void spm_keeper_ask_worker(struct spm_keeper *k, struct spm_party *p);
void spm_keeper_forget_worker(struct spm_keeper *k);
void spm_keeper_kill_worker(struct spm_keeper *k, int sig);
/* @pidfd, owned from now on, may be -1. */
void spm_keeper_worker_started(struct spm_keeper *k, pid_t pid, int pidfd);
void spm_keeper_hear_worker(struct spm_keeper *k);
void spm_keeper_hear_failed(struct spm_keeper *k, const struct spm_word *w);
/* With the status of waitpid(2), or @known false. */
void spm_keeper_worker_died(struct spm_keeper *k, int status, bool known);
/* The one that did not come up is asked for again, if it is time. */
void spm_keeper_retry_worker(struct spm_keeper *k, uint64_t now);
/* Looks whether it still answers; at @now, if it is time for that. */
void spm_keeper_watch(struct spm_keeper *k, uint64_t now);
/* Takes over from a keeper that has died. */
void spm_keeper_adopt_worker(struct spm_keeper *k);

/* -- fs/keeper-standby.c -- */
void spm_keeper_start_standby(struct spm_keeper *k);
/* Another program as a standby, in the namespace of @ns. */
bool spm_keeper_start_party(struct spm_keeper *k, struct spm_party *p, const char *program, int ns);
void spm_keeper_hear_standby(struct spm_keeper *k);
/* @talk, owned from now on, is its socket. */
void spm_keeper_new_spare(struct spm_party *p, const struct spm_word *w, int talk);
void spm_keeper_standby_died(struct spm_keeper *k, int status, bool known);
void spm_keeper_drop_party(struct spm_party *p, bool retire);
/* Ends the mount. */
void spm_keeper_end(struct spm_keeper *k, enum spm_end how);
/* Without any standby that could clean up. */
void spm_keeper_give_up(struct spm_keeper *k, const char *why);

/* -- fs/keeper-upgrade.c -- */
void spm_keeper_accept(struct spm_keeper *k);
void spm_keeper_hear_caller(struct spm_keeper *k, struct spm_caller *c);
/* Who waits for an upgrade has nothing more to say: it is gone. */
void spm_keeper_drop_client(struct spm_keeper *k);
/* Those that say nothing. */
void spm_keeper_drop_callers(struct spm_keeper *k, uint64_t now);
void spm_keeper_hear_next(struct spm_keeper *k);
/* With the status of waitpid(2). */
void spm_keeper_next_died(struct spm_keeper *k, int status);
/* Goes on with it once the worker serves again, or when it takes too long. */
void spm_keeper_upgrade_step(struct spm_keeper *k, uint64_t now);
/* The worker has died: true if that was, or broke, the upgrade, and the next one was asked for. */
bool spm_keeper_upgrade_death(struct spm_keeper *k, int status, bool known);
void spm_keeper_upgrade_done(struct spm_keeper *k);
void spm_keeper_upgrade_refuse(struct spm_keeper *k, const char *why);

#endif
