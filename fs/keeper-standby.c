/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: its standby, which does what the keeper cannot, and ending the mount by it. */
#include "fs/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define FAILS_IDLE   3 /* standbys that may fail in a row while nobody needs one */
#define FAILS_NEEDED 10
#define EXIT_FAILED  32
#define QUICK_NS     (SPM_SECOND_NS / 10)
#define QUICK_MAX    10 /* so many that lived for less are followed at once */

static _Noreturn void exec_party(struct spm_keeper *k, const char *program, int ns)
{
	char list[sizeof("--standby=") + SPM_FDS_TEXT] = "--standby=";
	char *argv[] = { (char *)program, list, (char *)k->flags, (char *)k->source, (char *)k->mountpoint,
			 (char *)k->list, NULL };

	if (ns < 0)
		ns = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
	spm_fds_format(k->fd, list + strlen(list));
	if (ns < 0 || spm_enter_mount_ns(ns)) {
		spm_keeper_say(k, SPM_SAY_ERR, "%s: cannot enter the mount namespace of process 1: %m",
			       k->mountpoint);
	} else {
		spm_fds_inherit(k->fd, true);
		execve(program, argv, environ);
		spm_keeper_say(k, SPM_SAY_ERR, "%s: cannot run %s: %m", k->mountpoint, program);
	}
	_exit(SPM_PARTY_NOT_RUN);
}

bool spm_keeper_start_party(struct spm_keeper *k, struct spm_party *p, const char *program, int ns)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return false;
	pid = fork();
	if (!pid) {
		k->fd[SPM_FD_TALK] = pair[1];
		setpgid(0, 0);
		/* the keeper may die before it has noted it */
		if (p == &k->standby)
			k->state->standby_pid = getpid();
		exec_party(k, program, ns);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return false;
	}
	/* a group of its own, so that whatever an unknown program has started can be ended with it */
	setpgid(pid, pid);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	*p = (struct spm_party){ .talk = pair[0], .pid = pid, .since_ns = spm_clock_ns() };
	return true;
}

void spm_keeper_drop_party(struct spm_party *p, bool retire)
{
	struct spm_word w = { .kind = SPM_WORD_END, .value = SPM_END_RETIRE };

	if (p->pid > 0 && !retire && kill(-p->pid, SIGKILL))
		kill(p->pid, SIGKILL); /* one that set-up or another standby has forked */
	if (p->talk >= 0) {
		(void)spm_word_send(p->talk, &w, -1);
		close(p->talk);
	}
	*p = (struct spm_party){ .talk = -1 };
}

/* -- the end -- */

void spm_keeper_give_up(struct spm_keeper *k, const char *why)
{
	spm_keeper_say(k, SPM_SAY_ERR, "%s: %s", k->mountpoint, why);
	spm_keeper_kill_worker(k, SIGKILL);
	k->status = EXIT_FAILED;
	k->finished = true;
}

static void tell_end(struct spm_keeper *k)
{
	struct spm_word w = { .kind = SPM_WORD_END, .value = k->end, .pid = k->worker.pid };

	(void)spm_word_send(k->standby.talk, &w, -1);
}

void spm_keeper_end(struct spm_keeper *k, enum spm_end how)
{
	if (k->ending)
		return;
	k->ending = true;
	k->end_ns = spm_clock_ns();
	/* bound in the directory that is about to go, which would stay busy */
	spm_cleanup_close(&k->fd[SPM_FD_CONTROL]);
	k->fd[SPM_FD_CONTROL] = -1;
	k->end = how;
	spm_keeper_notify(k, "STOPPING=1");
	if (k->upgrade.phase != SPM_UPGRADE_NONE)
		spm_keeper_upgrade_refuse(k, "the mount ends");
	if (how == SPM_END_ABANDON) {
		/* with the last descriptor the connection goes, and nobody waits any more */
		close(k->fd[SPM_FD_FUSE]);
		k->fd[SPM_FD_FUSE] = -1;
	}
	if (k->standby.ready)
		tell_end(k);
	else if (!k->standby.pid)
		spm_keeper_start_standby(
			k); /* which may be the spare; if not, that has to go like everybody else */
	spm_keeper_drop_party(&k->spare, true);
}

/* -- its life -- */

void spm_keeper_new_spare(struct spm_party *p, const struct spm_word *w, int talk)
{
	spm_keeper_drop_party(p, true);
	*p = (struct spm_party){ .talk = talk, .pid = w->pid };
}

/* The spare becomes the standby. */
static bool step_in(struct spm_keeper *k)
{
	struct spm_word w = { .kind = SPM_WORD_STEP_IN };

	if (k->spare.talk < 0)
		return false;
	k->standby = k->spare;
	k->spare = (struct spm_party){ .talk = -1 };
	k->standby.since_ns = spm_clock_ns();
	k->state->standby_pid = k->standby.pid;
	fcntl(k->standby.talk, F_SETFL, O_NONBLOCK);
	/* one that is dead, too, is found out like any other */
	(void)spm_word_send(k->standby.talk, &w, -1);
	return true;
}

void spm_keeper_start_standby(struct spm_keeper *k)
{
	k->standby_retry_ns = 0;
	if (step_in(k))
		return;
	if (!spm_keeper_start_party(k, &k->standby, k->program, -1)) {
		spm_keeper_say(k, SPM_SAY_ERR, "%s: cannot start a standby: %m", k->mountpoint);
		k->standby_retry_ns = spm_clock_ns() + SPM_SECOND_NS;
	}
	k->state->standby_pid = k->standby.pid;
}

static void hello(struct spm_keeper *k, const struct spm_word *w)
{
	struct spm_party *p = &k->standby;

	p->ready = true;
	snprintf(p->version, sizeof(p->version), "%.*s", (int)sizeof(p->version) - 1, w->text);
	if (k->ending)
		tell_end(k);
	else if (k->wanted)
		spm_keeper_ask_worker(k, p);
}

/* What a standby, whichever it is, says of its worker. */
static void of_worker(struct spm_keeper *k, const struct spm_word *w, int pidfd)
{
	if (w->kind == SPM_WORD_STARTED) {
		spm_keeper_worker_started(k, w->pid, pidfd);
		return;
	}
	spm_cleanup_close(&pidfd);
	if (w->kind == SPM_WORD_DIED && w->pid == k->worker.pid && w->pid) {
		spm_keeper_worker_died(k, (int)w->value, true);
	} else if (w->kind == SPM_WORD_FAILED) {
		spm_keeper_hear_failed(k, w);
		spm_keeper_worker_died(k, 0, false);
	}
}

void spm_keeper_hear_standby(struct spm_keeper *k)
{
	struct spm_word w;
	int pidfd, rc;

	while (k->standby.talk >= 0) {
		rc = spm_word_take(k->standby.talk, &w, &pidfd);
		if (rc == -EPIPE) {
			/* how it ended is known as soon as it has been waited for */
			close(k->standby.talk);
			k->standby.talk = -1;
			k->standby.ready = false;
		}
		if (rc)
			return;
		if (w.kind == SPM_WORD_SPARE) {
			spm_keeper_new_spare(&k->spare, &w, pidfd);
		} else if (w.kind == SPM_WORD_HELLO) {
			spm_cleanup_close(&pidfd);
			hello(k, &w);
		} else if (w.kind == SPM_WORD_REFUSED) {
			spm_cleanup_close(&pidfd);
			spm_keeper_say(k, SPM_SAY_ERR, "%s: %s cannot be the standby: %s", k->mountpoint,
				       k->program, w.text);
		} else {
			of_worker(k, &w, pidfd);
		}
	}
}

/* It died before it could tell what became of the worker that it was asked for. */
static void find_worker(struct spm_keeper *k)
{
	if (k->worker.phase != SPM_WORKER_ASKED || k->worker.pid || k->upgrade.phase == SPM_UPGRADE_STARTING)
		return;
	if (spm_worker_locked(k->fd[SPM_FD_STATE]))
		spm_keeper_adopt_worker(k);
	else
		spm_keeper_want_worker(k);
}

/* An end with an error has been told by whoever saw the error. */
static void say_end(const struct spm_keeper *k)
{
	const char *kept = k->state->mount.flags & SPM_MOUNT_KEEP ? "; its files are kept" : "";

	if (k->status || !k->state->ready_generation)
		return;
	if (k->end_signal)
		spm_keeper_say(k, SPM_SAY_INFO, "%s: end: unmounted, as SIG%s asked%s", k->mountpoint,
			       spm_keeper_signal(k->end_signal), kept);
	else
		spm_keeper_say(k, SPM_SAY_INFO, "%s: end: unmounted%s", k->mountpoint, kept);
}

void spm_keeper_standby_died(struct spm_keeper *k, int status, bool known)
{
	uint64_t now = spm_clock_ns();
	bool was_ready, quick = now - k->standby.since_ns < QUICK_NS;

	spm_keeper_hear_standby(k); /* its last words */
	was_ready = k->standby.version[0];
	k->standby = (struct spm_party){ .talk = -1 };
	if (k->ending && known && WIFEXITED(status) && was_ready) {
		k->status = WEXITSTATUS(status);
		k->finished = true;
		say_end(k);
		return;
	}
	if (k->ending && ++k->end_tries > 2) {
		spm_keeper_give_up(k, "the standby died while it ended the mount; unmount with umount -l");
		return;
	}
	if (known && WIFSIGNALED(status))
		spm_keeper_say(k, SPM_SAY_ERR, "%s: crash: the standby was killed by SIG%s; starting another",
			       k->mountpoint, spm_keeper_signal(WTERMSIG(status)));
	else if (was_ready)
		spm_keeper_say(k, SPM_SAY_ERR,
			       "%s: crash: the standby ended with status %d; starting another", k->mountpoint,
			       known ? WEXITSTATUS(status) : 0);
	k->standby_fails = was_ready ? 0 : k->standby_fails + 1;
	k->standby_quick = quick ? k->standby_quick + 1 : 0;
	if (was_ready && k->standby_quick < QUICK_MAX) {
		spm_keeper_start_standby(k);
	} else if (k->standby_fails < (k->wanted || k->ending ? FAILS_NEEDED : FAILS_IDLE)) {
		k->standby_retry_ns = now + SPM_SECOND_NS;
	} else if (k->wanted || k->ending) {
		spm_keeper_give_up(
			k, "no standby can be started, and without one no worker; unmount with umount -l");
		return;
	} else {
		spm_keeper_say(k, SPM_SAY_ERR,
			       "%s: no standby can be started; the next try is when a worker has died",
			       k->mountpoint);
		k->standby_fails = 0;
	}
	find_worker(k);
}
