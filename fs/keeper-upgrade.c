/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: another program takes over, or if it cannot, the old one goes on. */
#include "fs/keeper.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ASK_NS   (5 * SPM_SECOND_NS) /* a client has so long to say what it wants */
#define LOAD_NS  (10 * SPM_SECOND_NS)
#define YIELD_NS (5 * SPM_SECOND_NS)
#define START_NS (10 * SPM_SECOND_NS)

static void answer(struct spm_keeper *k, enum spm_word_kind kind, const char *text)
{
	struct spm_word w = { .kind = kind };

	if (k->upgrade.client < 0)
		return;
	snprintf(w.text, sizeof(w.text), "%s", text);
	(void)spm_word_send(k->upgrade.client, &w, -1);
	close(k->upgrade.client);
	k->upgrade.client = -1;
}

void spm_keeper_upgrade_refuse(struct spm_keeper *k, const char *why)
{
	if (k->upgrade.phase != SPM_UPGRADE_NONE)
		spm_keeper_say(k, SPM_SAY_ERR, "%s: upgrade: %s was refused: %s", k->mountpoint,
			       k->upgrade.program, why);
	answer(k, SPM_WORD_REFUSED, why);
	spm_keeper_drop_party(&k->next, false);
	spm_keeper_drop_party(&k->next_spare, true);
	k->upgrade.phase = SPM_UPGRADE_NONE;
}

void spm_keeper_accept(struct spm_keeper *k)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);
	struct spm_caller *c = &k->caller[0];
	int fd = accept4(k->fd[SPM_FD_CONTROL], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	/* the mode of the socket says the same; whoever changed it meant well */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.uid) {
		close(fd);
		return;
	}
	/* an unused one, or the one that has been silent for the longest */
	for (int i = 1; i < SPM_CALLERS && c->fd >= 0; i++)
		if (k->caller[i].fd < 0 || k->caller[i].deadline_ns < c->deadline_ns)
			c = &k->caller[i];
	spm_cleanup_close(&c->fd);
	*c = (struct spm_caller){ .fd = fd, .deadline_ns = spm_clock_ns() + ASK_NS };
}

static void begin(struct spm_keeper *k, const struct spm_word *w, int ns)
{
	if (k->ending || !k->state->ready_generation) {
		spm_keeper_upgrade_refuse(k, "the mount does not serve");
	} else if (w->text[0] != '/' || ns < 0) {
		spm_keeper_upgrade_refuse(
			k, "the path of the program has to be absolute, and its mount namespace given");
	} else {
		memcpy(k->upgrade.program, w->text, sizeof(k->upgrade.program));
		k->upgrade.phase = SPM_UPGRADE_LOADING;
		k->upgrade.deadline_ns = spm_clock_ns() + LOAD_NS;
		if (!spm_keeper_start_party(k, &k->next, k->upgrade.program, ns))
			spm_keeper_upgrade_refuse(k, "cannot start another process");
	}
}

void spm_keeper_hear_caller(struct spm_keeper *k, struct spm_caller *c)
{
	struct spm_word w, busy = { .kind = SPM_WORD_REFUSED, .text = "another upgrade is under way" };
	int ns = -1, rc = spm_word_take(c->fd, &w, &ns);

	if (rc == -EAGAIN)
		return;
	if (!rc && w.kind == SPM_WORD_UPGRADE && k->upgrade.phase == SPM_UPGRADE_NONE) {
		spm_cleanup_close(&k->upgrade.client);
		k->upgrade.client = spm_steal_fd(&c->fd);
		begin(k, &w, ns);
	} else if (!rc && w.kind == SPM_WORD_UPGRADE) {
		(void)spm_word_send(c->fd, &busy, -1);
	}
	spm_cleanup_close(&ns);
	spm_cleanup_close(&c->fd);
	c->fd = -1;
}

void spm_keeper_drop_client(struct spm_keeper *k)
{
	/* the upgrade goes on */
	spm_cleanup_close(&k->upgrade.client);
	k->upgrade.client = -1;
}

void spm_keeper_drop_callers(struct spm_keeper *k, uint64_t now)
{
	for (int i = 0; i < SPM_CALLERS; i++) {
		if (k->caller[i].fd < 0 || now < k->caller[i].deadline_ns)
			continue;
		close(k->caller[i].fd);
		k->caller[i].fd = -1;
	}
}

void spm_keeper_hear_next(struct spm_keeper *k)
{
	struct spm_word w;
	int pidfd;

	while (k->next.talk >= 0) {
		int rc = spm_word_take(k->next.talk, &w, &pidfd);

		if (rc == -EPIPE) {
			close(k->next.talk);
			k->next.talk = -1;
		}
		if (rc)
			return;
		if (w.kind == SPM_WORD_SPARE) {
			spm_keeper_new_spare(&k->next_spare, &w, spm_steal_fd(&pidfd));
		} else if (w.kind == SPM_WORD_STARTED) {
			spm_keeper_worker_started(k, w.pid, spm_steal_fd(&pidfd));
		} else if (w.kind == SPM_WORD_DIED && w.pid == k->worker.pid) {
			spm_keeper_worker_died(k, (int)w.value, true);
		} else if (w.kind == SPM_WORD_REFUSED) {
			spm_keeper_upgrade_refuse(k, w.text);
		} else if (w.kind == SPM_WORD_HELLO && w.value != SPM_STATE_VERSION) {
			spm_keeper_upgrade_refuse(k, "it speaks another version of the mount's state");
		} else if (w.kind == SPM_WORD_HELLO && k->upgrade.phase == SPM_UPGRADE_LOADING) {
			k->next.ready = true;
			snprintf(k->next.version, sizeof(k->next.version), "%.*s",
				 (int)sizeof(k->next.version) - 1, w.text);
			k->upgrade.phase = SPM_UPGRADE_LOADED;
		} else if (w.kind == SPM_WORD_FAILED) {
			spm_keeper_hear_failed(k, &w);
			spm_keeper_worker_died(k, 0, false);
		}
		spm_cleanup_close(&pidfd);
	}
}

static const char *why_ended(int status, char *text, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(text, size, "SIG%s killed it before it could take over",
			 spm_keeper_signal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == SPM_PARTY_NOT_RUN)
		snprintf(text, size, "it cannot be run; the log of the mount says why");
	else
		snprintf(text, size, "it ended with status %d before it could take over; is it spmfs?",
			 WEXITSTATUS(status));
	return text;
}

void spm_keeper_next_died(struct spm_keeper *k, int status)
{
	pid_t group = k->next.pid;
	char why[128];

	spm_keeper_hear_next(k);
	if (k->upgrade.phase == SPM_UPGRADE_NONE)
		return;
	kill(-group, SIGKILL); /* what it may have started */
	k->next.pid = 0;
	k->next.ready = false;
	if (k->upgrade.phase == SPM_UPGRADE_STARTING && k->worker.pid)
		spm_keeper_kill_worker(k, SIGKILL); /* which goes back to the old program */
	else if (k->upgrade.phase == SPM_UPGRADE_STARTING)
		spm_keeper_worker_died(k, 0, false);
	else
		spm_keeper_upgrade_refuse(k, why_ended(status, why, sizeof(why)));
}

void spm_keeper_upgrade_step(struct spm_keeper *k, uint64_t now)
{
	struct spm_upgrade *u = &k->upgrade;
	bool late = now >= u->deadline_ns;

	switch (u->phase) {
	case SPM_UPGRADE_NONE:
		break;
	case SPM_UPGRADE_LOADING:
	case SPM_UPGRADE_LOADED:
		if (u->phase == SPM_UPGRADE_LOADED && k->worker.phase == SPM_WORKER_SERVES) {
			u->phase = SPM_UPGRADE_YIELDING;
			u->deadline_ns = now + YIELD_NS;
			spm_keeper_kill_worker(k, SIGTERM);
		} else if (late) {
			spm_keeper_upgrade_refuse(k, "the new program did not come up in time");
		}
		break;
	case SPM_UPGRADE_YIELDING:
	case SPM_UPGRADE_STARTING:
		if (late) {
			snprintf(k->worker.failed, sizeof(k->worker.failed), "its worker did not serve in time");
			spm_keeper_kill_worker(k, SIGKILL);
			u->deadline_ns = now + YIELD_NS;
		}
		break;
	}
}

bool spm_keeper_upgrade_death(struct spm_keeper *k, int status, bool known)
{
	char why[SPM_WORD_TEXT];

	if (k->upgrade.phase != SPM_UPGRADE_YIELDING && k->upgrade.phase != SPM_UPGRADE_STARTING)
		return false;
	/* no request is to blame for what becomes of the new program's worker */
	k->state->death_signal = k->upgrade.phase == SPM_UPGRADE_YIELDING && known && WIFSIGNALED(status) ?
		(uint32_t)WTERMSIG(status) : 0;
	k->state->death_hung = 0;
	k->state->death_ns = spm_clock_ns();
	if (k->upgrade.phase == SPM_UPGRADE_YIELDING && k->next.ready) {
		spm_keeper_forget_worker(k);
		k->upgrade.phase = SPM_UPGRADE_STARTING;
		k->upgrade.deadline_ns = spm_clock_ns() + START_NS;
		spm_keeper_ask_worker(k, &k->next);
		return true;
	}
	snprintf(why, sizeof(why), "%.400s; the old program serves on",
		 k->worker.failed[0] ? k->worker.failed : "its worker died");
	spm_keeper_forget_worker(k);
	spm_keeper_upgrade_refuse(k, why);
	spm_keeper_want_worker(k);
	return true;
}

void spm_keeper_upgrade_done(struct spm_keeper *k)
{
	char text[SPM_WORD_TEXT];

	snprintf(text, sizeof(text), "%s -> %s, takeover %llu ms", k->standby.version, k->next.version,
		 (unsigned long long)(spm_clock_ns() - k->state->death_ns) / 1000000);
	/* first: if this process dies, whoever finds its own number here is the one that follows it */
	k->state->standby_pid = k->next.pid;
	spm_keeper_drop_party(&k->standby, true);
	k->standby = k->next;
	k->next = (struct spm_party){ .talk = -1 };
	spm_keeper_drop_party(&k->spare, true);
	k->spare = k->next_spare;
	k->next_spare = (struct spm_party){ .talk = -1 };
	memcpy(k->upgraded, k->upgrade.program, sizeof(k->upgraded));
	k->program = k->upgraded;
	k->upgrade.phase = SPM_UPGRADE_NONE;
	spm_keeper_say(k, SPM_SAY_INFO, "%s: upgrade: %s", k->mountpoint, text);
	answer(k, SPM_WORD_DONE, text);
}
