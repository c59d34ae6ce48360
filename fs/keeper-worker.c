/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: starting workers, seeing how they end, and whether they still answer. */
#include "fs/keeper.h"
#include "fs/opname.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NAMES_MAX      4
#define ANY_LATENCY_US 2000000000 /* the kernel's PM_QOS_CPU_LATENCY_DEFAULT_VALUE */
#define FORK_NS        (5 * SPM_SECOND_NS)
#define RETRIES_NS     (30 * SPM_SECOND_NS) /* so long workers may fail to come up, one after another */
#define START_NS       (10 * SPM_SECOND_NS) /* at least so long may a takeover last */

static bool connection_ended(const struct spm_keeper *k)
{
	struct pollfd pfd = { .fd = k->fd[SPM_FD_FUSE] };

	return poll(&pfd, 1, 0) == 1 && pfd.revents & (POLLERR | POLLHUP);
}

void spm_keeper_ask_worker(struct spm_keeper *k, struct spm_party *p)
{
	struct spm_word w = { .kind = SPM_WORD_START, .value = k->state->generation + 1 };

	k->wanted = false;
	k->worker.phase = SPM_WORKER_ASKED;
	k->worker.since_ns = spm_clock_ns();
	k->worker.failed[0] = '\0';
	k->worker.failed_errno = 0;
	k->fails.retry_ns = 0;
	k->unread_ns = 0;
	k->state->generation = w.value;
	spm_state_barrier();
	/* a standby that is gone is found out as such, and another one asked then */
	(void)spm_word_send(p->talk, &w, -1);
}

void spm_keeper_want_worker(struct spm_keeper *k)
{
	if (k->standby.ready) {
		spm_keeper_ask_worker(k, &k->standby);
		return;
	}
	k->wanted = true;
	if (!k->standby.pid)
		spm_keeper_start_standby(k);
}

void spm_keeper_kill_worker(struct spm_keeper *k, int sig)
{
	if (k->worker.pidfd >= 0)
		syscall(SYS_pidfd_send_signal, k->worker.pidfd, sig, NULL, 0);
}

void spm_keeper_worker_started(struct spm_keeper *k, pid_t pid, int pidfd)
{
	spm_cleanup_close(&k->worker.pidfd);
	k->worker.pid = pid;
	k->worker.pidfd = pidfd;
	k->worker.gone_ns = 0;
	k->worker.hung = k->worker.nobodys = false;
	if (k->worker.phase == SPM_WORKER_ASKED)
		k->worker.phase = SPM_WORKER_STARTED;
}

void spm_keeper_forget_worker(struct spm_keeper *k)
{
	spm_cleanup_close(&k->worker.pidfd);
	k->worker.pidfd = -1;
	k->worker.pid = 0;
	k->worker.phase = SPM_WORKER_NONE;
	k->worker.gone_ns = 0;
	k->worker.hung = false;
}

/* -- ready -- */

static void took_over(struct spm_keeper *k, pid_t pid)
{
	uint64_t ms = (spm_clock_ns() - k->state->death_ns) / 1000000;
	char fails[48] = "";

	if (k->fails.count)
		snprintf(fails, sizeof(fails), " and %u that could not serve", k->fails.count);
	spm_keeper_say(k, SPM_SAY_INFO, "%s: takeover: worker %d serves, %llu ms after the death of the last one%s",
		       k->mountpoint, pid, (unsigned long long)ms, fails);
	spm_keeper_notify(k, "STATUS=%s serves, %u restarts", k->mountpoint, k->state->restarts);
}

static void worker_serves(struct spm_keeper *k, const struct spm_word *w)
{
	bool first = !k->state->ready_generation;

	k->worker.phase = SPM_WORKER_SERVES;
	k->state->ready_generation = w->value;
	k->check_ns = 0;
	if (first) {
		spm_keeper_report(k, true, w->text);
		spm_keeper_notify(k, "READY=1\nMAINPID=%d\nSTATUS=%s serves", getpid(), k->mountpoint);
	} else if (k->upgrade.phase == SPM_UPGRADE_STARTING) {
		spm_keeper_upgrade_done(k);
	} else {
		took_over(k, w->pid);
	}
	k->fails = (struct spm_keeper_fails){ .count = 0 };
}

void spm_keeper_hear_failed(struct spm_keeper *k, const struct spm_word *w)
{
	memcpy(k->worker.failed, w->text, sizeof(w->text));
	k->worker.failed_errno = w->value;
}

void spm_keeper_hear_worker(struct spm_keeper *k)
{
	struct spm_word w;

	while (!spm_word_take(k->fd[SPM_FD_READY], &w, NULL)) {
		if (w.kind == SPM_WORD_FAILED && (!k->worker.pid || w.pid == k->worker.pid))
			spm_keeper_hear_failed(k, &w);
		else if (w.kind == SPM_WORD_READY && w.value == k->state->generation && !k->ending)
			worker_serves(k, &w);
	}
}

/* -- deaths -- */

/* What the dead worker had in hand. */
static const char *in_hand(const struct spm_keeper *k, char *text, size_t size)
{
	unsigned int n = 0;
	size_t at = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < SPM_SLOTS && n < NAMES_MAX; i++) {
		const struct spm_hold *h = &k->state->hold[i];

		if (h->stage != SPM_STAGE_HELD || h->generation != k->state->generation)
			continue;
		at += (size_t)snprintf(text + at, size - at, "%s%s", n++ ? ", " : "", spm_opname(h->opcode));
		if (at >= size)
			break;
	}
	return n ? text : "nothing";
}

static const char *cause(const struct spm_keeper *k, int status, bool known, char *text, size_t size)
{
	if (k->worker.hung)
		snprintf(text, size, "hung: it answered nothing for %s s, and was killed", k->watchdog);
	else if (!known)
		snprintf(text, size, "died of an unknown cause");
	else if (WIFSIGNALED(status))
		snprintf(text, size, "was killed by SIG%s", spm_keeper_signal(WTERMSIG(status)));
	else
		snprintf(text, size, "ended with status %d", WEXITSTATUS(status));
	return text;
}

/* Whether workers die so fast that another one would not help. */
static bool crash_loop(struct spm_keeper *k, uint64_t now)
{
	uint64_t answered = atomic_load(&k->state->answered);

	if (answered != k->answered)
		k->deaths = 0;
	k->answered = answered;
	if (k->deaths == SPM_CRASH_DEATHS) {
		memmove(k->death_ns, k->death_ns + 1, sizeof(k->death_ns) - sizeof(k->death_ns[0]));
		k->deaths--;
	}
	k->death_ns[k->deaths++] = now;
	return k->deaths == SPM_CRASH_DEATHS && now - k->death_ns[0] <= SPM_CRASH_NS;
}

static void abandon(struct spm_keeper *k, const char *why)
{
	spm_keeper_say(k, SPM_SAY_ERR,
		       "%s: crash: %s; giving up. The region '%s' stays: umount -l %s, then mount with -o recover",
		       k->mountpoint, why, k->name, k->mountpoint);
	spm_keeper_end(k, SPM_END_ABANDON);
}

/*
 * It never served: no crash of a worker, for what it lacked (memory, a process, descriptors) may be there soon. Only
 * damage to what it takes over stays.
 */
static void failed_to_start(struct spm_keeper *k, int status, bool known)
{
	static const uint16_t pause_ms[] = { 0, 10, 100, 1000 };
	struct spm_keeper_fails *f = &k->fails;
	uint64_t now = spm_clock_ns();
	char why[SPM_WORD_TEXT], line[SPM_WORD_TEXT + 96];
	bool final = k->worker.failed_errno == EPROTO;

	if (k->worker.failed[0])
		snprintf(why, sizeof(why), "%s", k->worker.failed);
	else if (known)
		snprintf(why, sizeof(why), "it ended with status %d", WEXITSTATUS(status));
	else
		snprintf(why, sizeof(why), "it died of an unknown cause");
	/* of one that has run, requests that were in hand before are noted by now, those still in hand are its own */
	if (k->worker.pid)
		k->state->death_signal = k->state->death_hung = 0;
	spm_keeper_forget_worker(k);
	if (!f->count)
		f->since_ns = now;
	if (final || now - f->since_ns > RETRIES_NS) {
		snprintf(line, sizeof(line), "no worker can serve (%u tried): %s", f->count + 1, why);
		abandon(k, line);
		return;
	}
	if (strcmp(f->why, why)) {
		spm_keeper_say(k, SPM_SAY_ERR, "%s: takeover: a worker cannot serve: %s; trying again",
			       k->mountpoint, why);
		memcpy(f->why, why, sizeof(f->why));
	}
	f->retry_ns = now + pause_ms[f->count < SPM_ARRAY_SIZE(pause_ms) ? f->count :
					SPM_ARRAY_SIZE(pause_ms) - 1] * UINT64_C(1000000);
	f->count++;
}

void spm_keeper_retry_worker(struct spm_keeper *k, uint64_t now)
{
	if (!k->fails.retry_ns || now < k->fails.retry_ns)
		return;
	k->fails.retry_ns = 0;
	spm_keeper_want_worker(k);
}

static void restart_after_crash(struct spm_keeper *k, int status, bool known, uint64_t when)
{
	char why[96], hand[128], names[128], line[400];
	struct spm_state *st = k->state;
	bool served = st->ready_generation == st->generation;

	cause(k, status, known, why, sizeof(why));
	snprintf(hand, sizeof(hand), "%s", in_hand(k, names, sizeof(names)));
	if (k->worker.pid)
		spm_keeper_say(k, SPM_SAY_ERR, "%s: crash: worker %d %s; in hand: %s", k->mountpoint, k->worker.pid,
			       why, hand);
	else
		spm_keeper_say(k, SPM_SAY_ERR, "%s: crash: the worker died with the keeper; in hand: %s",
			       k->mountpoint, hand);
	st->death_signal = !served ? 0 : !known ? SIGKILL : WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : SIGABRT;
	st->death_hung = served && k->worker.hung;
	st->death_ns = when;
	spm_keeper_forget_worker(k);
	if (crash_loop(k, when)) {
		snprintf(line, sizeof(line),
			 "%d workers died in %u s without serving a request, the last one %s, in hand: %s",
			 SPM_CRASH_DEATHS, (unsigned int)(SPM_CRASH_NS / SPM_SECOND_NS), why, hand);
		abandon(k, line);
		return;
	}
	st->restarts++;
	spm_keeper_want_worker(k);
}

void spm_keeper_worker_died(struct spm_keeper *k, int status, bool known)
{
	static const int32_t any_latency = ANY_LATENCY_US;
	uint64_t when = k->worker.gone_ns ? k->worker.gone_ns : spm_clock_ns();
	bool served;

	spm_keeper_hear_worker(k); /* its last words */
	served = k->state->ready_generation == k->state->generation;
	/* what it may have asked of the processors, and nobody takes back any more */
	if (k->fd[SPM_FD_NOHALT] >= 0 && write(k->fd[SPM_FD_NOHALT], &any_latency, sizeof(any_latency)) < 0)
		spm_keeper_say(k, SPM_SAY_ERR, "cpu_dma_latency: %m");
	if (k->ending) {
		spm_keeper_forget_worker(k);
	} else if ((known && WIFEXITED(status) && WEXITSTATUS(status) == SPM_WORKER_UNMOUNTED) ||
		   connection_ended(k)) {
		spm_keeper_forget_worker(k);
		spm_keeper_end(k, SPM_END_UNMOUNTED);
	} else if (!k->state->ready_generation) {
		snprintf(k->failed, sizeof(k->failed), "%s",
			 k->worker.failed[0] ? k->worker.failed :
					       "the worker died before it could serve; see the log");
		spm_keeper_forget_worker(k);
		spm_keeper_end(k, SPM_END_UNMOUNT);
	} else if (spm_keeper_upgrade_death(k, status, known)) {
		return;
	} else if (!served && !k->worker.hung && !(known && WIFSIGNALED(status))) {
		failed_to_start(k, status, known);
	} else if (known && WIFEXITED(status) && WEXITSTATUS(status) == SPM_WORKER_YIELDED) {
		spm_keeper_say(k, SPM_SAY_INFO, "%s: worker %d ended as it was told; the next one takes over",
			       k->mountpoint, k->worker.pid);
		k->state->death_signal = k->state->death_hung = 0;
		k->state->death_ns = when;
		spm_keeper_forget_worker(k);
		spm_keeper_want_worker(k);
	} else {
		restart_after_crash(k, status, known, when);
	}
}

/* -- after another keeper -- */

void spm_keeper_adopt_worker(struct spm_keeper *k)
{
	pid_t pid = spm_worker_locked(k->fd[SPM_FD_STATE]);
	siginfo_t si = { .si_pid = 0 };
	int pidfd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	k->worker.since_ns = spm_clock_ns();
	/* asked again, now that the number cannot be given to another one unnoticed */
	if (pid && pidfd >= 0 && spm_worker_locked(k->fd[SPM_FD_STATE]) == pid) {
		k->worker.phase = SPM_WORKER_ASKED;
		spm_keeper_worker_started(k, pid, pidfd);
		k->worker.nobodys = waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT);
		if (k->state->ready_generation == k->state->generation)
			k->worker.phase = SPM_WORKER_SERVES;
		return;
	}
	spm_cleanup_close(&pidfd);
	k->worker.pid = pid;
	spm_keeper_worker_died(k, 0, false);
}

/* -- the watchdog -- */

static bool holds_too_long(const struct spm_keeper *k, uint64_t now)
{
	for (unsigned int i = 0; i < SPM_SLOTS; i++) {
		const struct spm_hold *h = &k->state->hold[i];

		if (h->stage == SPM_STAGE_HELD && !(h->flags & SPM_HOLD_SLOW) &&
		    h->generation == k->state->generation && h->since_ns && now > h->since_ns &&
		    now - h->since_ns > k->watchdog_ns)
			return true;
	}
	return false;
}

/*
 * Every thread waits for something slow: then nobody can read, and that says nothing of the worker's health. Only the
 * worker knows it: of one that is stopped while it answers, or while one thread gives the lead to another, the slots
 * alone would tell the same.
 */
static bool all_slow(const struct spm_keeper *k)
{
	return k->state->all_slow == k->state->generation;
}

/* A thread is between two states: it does not stay there. */
static bool takes(const struct spm_keeper *k)
{
	for (unsigned int i = 0; i < SPM_SLOTS; i++)
		if (k->state->hold[i].flags & SPM_HOLD_TAKES && k->state->hold[i].generation == k->state->generation)
			return true;
	return false;
}

static bool leaves_unread(struct spm_keeper *k, uint64_t now)
{
	struct pollfd pfd = { .fd = k->fd[SPM_FD_FUSE], .events = POLLIN };
	uint64_t received = atomic_load(&k->state->received);
	bool unread = (poll(&pfd, 1, 0) == 1 && pfd.revents & POLLIN && !all_slow(k)) || takes(k);

	if (!unread || received != k->received)
		k->unread_ns = 0;
	k->received = received;
	if (unread && !k->unread_ns)
		k->unread_ns = now;
	return k->unread_ns && now - k->unread_ns > k->watchdog_ns;
}

void spm_keeper_watch(struct spm_keeper *k, uint64_t now)
{
	uint64_t pause = k->watchdog_ns / 4 > SPM_SECOND_NS ? k->watchdog_ns / 4 : SPM_SECOND_NS;
	bool hung;

	/* a death that nobody has told of: the standby died with it, and it was not this process's child */
	if (k->worker.gone_ns && (k->worker.nobodys || now - k->worker.gone_ns > SPM_SECOND_NS)) {
		spm_keeper_worker_died(k, 0, false);
		return;
	}
	/* a standby that does not do as it is told is no better than a dead one */
	if (k->worker.phase == SPM_WORKER_ASKED && now - k->worker.since_ns > FORK_NS &&
	    k->upgrade.phase != SPM_UPGRADE_STARTING) {
		k->worker.since_ns = now;
		if (k->standby.pid > 0)
			kill(k->standby.pid, SIGKILL);
		return;
	}
	if (!k->watchdog_ns || k->worker.phase < SPM_WORKER_STARTED || k->worker.gone_ns || now < k->check_ns)
		return;
	k->check_ns = now + pause;
	if (k->worker.phase == SPM_WORKER_SERVES)
		hung = holds_too_long(k, now) || leaves_unread(k, now);
	else
		hung = now - k->worker.since_ns > (k->watchdog_ns > START_NS ? k->watchdog_ns : START_NS);
	if (hung && !k->worker.hung) {
		k->worker.hung = true;
		spm_keeper_kill_worker(k, SIGKILL);
	}
}
