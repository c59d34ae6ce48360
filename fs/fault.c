/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/fault.h"
#include "fs/control.h"
#include "fs/fs.h"
#include "fs/opname.h"
#include "fs/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static const char *const actions[] = {
	[SPM_FAULT_KILL] = "kill", [SPM_FAULT_SEGV] = "segv", [SPM_FAULT_ABORT] = "abort", [SPM_FAULT_HANG] = "hang",
	[SPM_FAULT_SLOW] = "slow", [SPM_FAULT_EIO] = "eio", [SPM_FAULT_ENOSPC] = "enospc",
};

bool spm_faults_on(void)
{
	return spm_self && spm_self->desk && spm_self->desks->state->faults_on;
}

static int act(const struct spm_fault_point *p)
{
	const struct timespec ts = { .tv_sec = p->ms / 1000, .tv_nsec = (long)(p->ms % 1000) * 1000000 };
	sigset_t set;

	switch (p->action) {
	case SPM_FAULT_KILL:
		kill(getpid(), SIGKILL);
		break;
	case SPM_FAULT_SEGV:
		signal(SIGSEGV, SIG_DFL);
		/* raised, unlike a real one, it waits for as long as the thread blocks it */
		sigemptyset(&set);
		sigaddset(&set, SIGSEGV);
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
		raise(SIGSEGV);
		break;
	case SPM_FAULT_ABORT:
		abort();
	case SPM_FAULT_HANG:
		for (;;)
			pause();
	case SPM_FAULT_SLOW:
		spm_session_blocking();
		nanosleep(&ts, NULL);
		break;
	case SPM_FAULT_EIO:
		return -EIO;
	case SPM_FAULT_ENOSPC:
		return -ENOSPC;
	}
	return 0;
}

/* What is armed at @point acts; @where is what it is called in the log. */
static int pass(struct spm_state *s, const char *point, const char *where)
{
	int rc = 0;

	for (size_t i = 0; i < SPM_FAULTS; i++) {
		struct spm_fault_point *p = &s->fault[i];
		uint32_t left = __atomic_load_n(&p->left, __ATOMIC_ACQUIRE);

		if (!left || strcmp(p->at, point) ||
		    !__atomic_compare_exchange_n(&p->left, &left, left - 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		if (left > p->times)
			continue;
		/* for tests that wait for it: nobody may answer now */
		if (p->action == SPM_FAULT_HANG || p->action == SPM_FAULT_SLOW)
			spm_log(SPM_LOG_INFO, "fault: %s %s", where, actions[p->action]);
		rc = act(p);
	}
	return rc;
}

int spm_fault_at(struct spm_state *s, const char *at)
{
	return pass(s, at, at);
}

void spm_fault_hit(const char *step)
{
	struct spm_state *s = spm_self->desks->state;
	const struct fuse_in_header *h = spm_self->buf;
	char at[sizeof(s->fault[0].at)];

	if (spm_control_is(h->nodeid)) /* or arming a point would be what hits it */
		return;
	snprintf(at, sizeof(at), "%s:%s", spm_opname(spm_self->hold->opcode), step);
	(void)pass(s, at, at);
	if (!strcmp(step, "request"))
		(void)pass(s, "any:request", at);
}

/* "slow:5000" or one of the plain words. */
static int parse_action(const char *word, struct spm_fault_point *p)
{
	size_t n = strcspn(word, ":");

	for (uint32_t i = SPM_FAULT_KILL; i < SPM_ARRAY_SIZE(actions); i++) {
		if (strlen(actions[i]) != n || memcmp(actions[i], word, n))
			continue;
		p->action = i;
		p->ms = word[n] ? (uint32_t)strtoul(word + n + 1, NULL, 10) : 0;
		return 0;
	}
	return -EINVAL;
}

int spm_fault_set(struct spm_state *s, const char *text)
{
	struct spm_fault_point p = { .times = 1 };
	unsigned int first = 1, times = 1;
	char action[16];

	if (!strcmp(text, "clear")) {
		memset(s->fault, 0, sizeof(s->fault));
		return 0;
	}
	if (sscanf(text, "%39s %15s %u %u", p.at, action, &first, &times) < 2 || !strchr(p.at, ':') || !first || !times ||
	    parse_action(action, &p))
		return -EINVAL;
	p.times = times;
	for (size_t i = 0; i < SPM_FAULTS; i++) {
		if (s->fault[i].left)
			continue;
		s->fault[i] = p;
		__atomic_store_n(&s->fault[i].left, first - 1 + times, __ATOMIC_RELEASE);
		return 0;
	}
	return -ENOSPC;
}

int spm_fault_show(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	const struct spm_state *s = fs->desks.state;

	(void)slice;
	for (size_t i = 0; i < SPM_FAULTS; i++)
		if (s->fault[i].left)
			fprintf(out, "%s %s %u\n", s->fault[i].at, actions[s->fault[i].action], s->fault[i].left);
	return 0;
}

int spm_fault_store(struct spm_fs *fs, uint16_t slice, const char *value)
{
	(void)slice;
	return spm_fault_set(fs->desks.state, value);
}
