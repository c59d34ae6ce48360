/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmfs-keeper: the process that holds a mount, whatever happens to those who serve it. */
#include "fs/keeper.h"
#include "core/journal.h"
#include "fs/rights.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define PAGE        4096ul
#define STACK_BYTES (32 * 1024)
#define EXIT_FAILED 32
#define POLLED      8 /* and the callers */
#define END_NS      (60 * SPM_SECOND_NS) /* writing back, unmounting and the grace periods have limits of their own */

static struct spm_state *map_state(int fd)
{
	struct spm_state *s = mmap(NULL, SPM_STATE_HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (s == MAP_FAILED)
		return NULL;
	return s->magic == SPM_STATE_MAGIC && s->version == SPM_STATE_VERSION ? s : NULL;
}

static __attribute__((noinline)) void touch_stack(void)
{
	volatile char room[STACK_BYTES];

	for (size_t i = 0; i < sizeof(room); i += PAGE)
		room[i] = 0;
}

/*
 * Every page of the program and its data, now: what has to be read from a disk later may not come. On fault, or
 * the whole room for the stack would be locked, too.
 */
static void lock_memory(struct spm_state *state)
{
	const ElfW(Phdr) *ph = (const void *)getauxval(AT_PHDR);

	mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
	for (unsigned long i = 0; ph && i < getauxval(AT_PHNUM); i++) {
		unsigned long from = ph[i].p_vaddr & ~(PAGE - 1),
			      to = (ph[i].p_vaddr + ph[i].p_memsz + PAGE - 1) & ~(PAGE - 1);

		if (ph[i].p_type == PT_LOAD)
			madvise((void *)from, to - from,
				ph[i].p_flags & PF_W ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	}
	madvise(state, SPM_STATE_HEAD_BYTES, MADV_POPULATE_WRITE);
	touch_stack();
}

static int log_level(void)
{
	const char *want = getenv("SPMFS_LOG");

	return want && (!strcmp(want, "err") || !strcmp(want, "warning")) ? SPM_SAY_ERR : SPM_SAY_INFO;
}

static void confine(void)
{
	uint64_t have;

	if (!spm_caps_permitted(&have))
		(void)!spm_caps_set(have & SPM_RIGHTS_KEEPER, have & SPM_RIGHTS_KEEPER);
}

/* The first one, and one that a standby starts when that has died, come with the same arguments. */
static bool read_arguments(struct spm_keeper *k, int argc, char **argv)
{
	if (argc != 9 || !spm_fds_parse(argv[1], k->fd) || k->fd[SPM_FD_TALK] < 0 || k->fd[SPM_FD_STATE] < 0)
		return false;
	k->watchdog = argv[2];
	k->watchdog_ns = strtoul(argv[2], NULL, 10) * SPM_SECOND_NS;
	k->flags = argv[3];
	k->foreground = strchr(argv[3], 'f');
	k->journal = k->foreground && spm_journal_reads(2);
	k->name = argv[4];
	k->program = argv[5];
	k->source = argv[6];
	k->mountpoint = argv[7];
	k->list = argv[8];
	k->level = log_level();
	k->state = map_state(k->fd[SPM_FD_STATE]);
	return k->state;
}

static int own_process(struct spm_keeper *k)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD };
	static const enum spm_fd_of waited[] = { SPM_FD_READY, SPM_FD_CONTROL };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(signals); i++) {
		signal(signals[i], SIG_DFL); /* a standby ignores them */
		sigaddset(&set, signals[i]);
	}
	sigprocmask(SIG_SETMASK, &set, NULL);
	if (spm_keeper_lock(k->fd[SPM_FD_STATE]) == -EBUSY)
		return -EBUSY;
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signal_fd < 0)
		return -errno;
	spm_fds_inherit(k->fd, false);
	k->standby.talk = spm_steal_fd(&k->fd[SPM_FD_TALK]);
	fcntl(k->standby.talk, F_SETFL, O_NONBLOCK);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(waited); i++)
		if (k->fd[waited[i]] >= 0)
			fcntl(k->fd[waited[i]], F_SETFL, O_NONBLOCK);
	prctl(PR_SET_NAME, "spmfs-keeper", 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* workers whose standby has died become children of this process */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	lock_memory(k->state);
	confine();
	return 0;
}

/* -- events -- */

static void children_died(struct spm_keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->standby.pid)
			spm_keeper_standby_died(k, status, true);
		else if (pid == k->next.pid)
			spm_keeper_next_died(k, status);
		else if (pid == k->worker.pid)
			spm_keeper_worker_died(k, status, true);
		else if (pid == k->spare.pid)
			spm_keeper_drop_party(&k->spare, true);
	}
}

static void take_signals(struct spm_keeper *k)
{
	struct signalfd_siginfo si;

	while (read(k->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCHLD) {
			children_died(k);
			continue;
		}
		if (!k->state->ready_generation && !k->failed[0])
			snprintf(k->failed, sizeof(k->failed), "stopped by SIG%s",
				 spm_keeper_signal((int)si.ssi_signo));
		if (!k->ending)
			k->end_signal = (int)si.ssi_signo;
		spm_keeper_end(k, SPM_END_UNMOUNT);
	}
}

static void earlier(uint64_t *at, uint64_t when)
{
	if (when < *at)
		*at = when;
}

/* Milliseconds until something is due; -1: nothing ever is. */
static int due_ms(const struct spm_keeper *k, uint64_t now)
{
	uint64_t at = UINT64_MAX;

	if (k->ending)
		at = k->end_ns + END_NS;
	if (k->worker.gone_ns)
		earlier(&at, k->worker.gone_ns + SPM_SECOND_NS);
	else if (k->worker.phase == SPM_WORKER_ASKED)
		earlier(&at, now + SPM_SECOND_NS);
	else if (k->worker.phase != SPM_WORKER_NONE && k->watchdog_ns)
		earlier(&at, k->check_ns);
	if (!k->standby.pid && k->standby_retry_ns)
		earlier(&at, k->standby_retry_ns);
	if (k->fails.retry_ns)
		earlier(&at, k->fails.retry_ns);
	if (k->upgrade.phase != SPM_UPGRADE_NONE)
		earlier(&at, k->upgrade.deadline_ns);
	for (int i = 0; i < SPM_CALLERS; i++)
		if (k->caller[i].fd >= 0)
			earlier(&at, k->caller[i].deadline_ns);
	if (k->upgrade.phase == SPM_UPGRADE_LOADED && k->worker.phase == SPM_WORKER_SERVES)
		at = now;
	if (at == UINT64_MAX)
		return -1;
	return at <= now ? 0 : (int)((at - now) / 1000000 + 1);
}

static void on_time(struct spm_keeper *k)
{
	uint64_t now = spm_clock_ns();

	if (k->ending) {
		if (now - k->end_ns > END_NS)
			spm_keeper_give_up(k, "the standby does not come to an end; unmount with umount -l");
		return;
	}
	spm_keeper_retry_worker(k, now);
	now = spm_clock_ns(); /* not before whatever that has begun */
	spm_keeper_watch(k, now);
	spm_keeper_upgrade_step(k, now);
	spm_keeper_drop_callers(k, now);
}

static void turn(struct spm_keeper *k)
{
	struct pollfd p[POLLED + SPM_CALLERS] = {
		{ .fd = k->signal_fd, .events = POLLIN },
		{ .fd = k->standby.talk, .events = POLLIN },
		{ .fd = k->next.talk, .events = POLLIN },
		{ .fd = k->fd[SPM_FD_READY], .events = POLLIN },
		{ .fd = k->worker.gone_ns ? -1 : k->worker.pidfd, .events = POLLIN },
		{ .fd = k->fd[SPM_FD_CONTROL], .events = POLLIN },
		{ .fd = k->upgrade.client, .events = POLLIN },
		{ .fd = k->spare.talk },
	};
	int pidfd = k->worker.pidfd;

	for (int i = 0; i < SPM_CALLERS; i++)
		p[POLLED + i] = (struct pollfd){ .fd = k->caller[i].fd, .events = POLLIN };
	if (poll(p, SPM_ARRAY_SIZE(p), due_ms(k, spm_clock_ns())) > 0) {
		if (p[3].revents)
			spm_keeper_hear_worker(k);
		if (p[4].revents && k->worker.pidfd == pidfd)
			k->worker.gone_ns = spm_clock_ns();
		if (p[1].revents)
			spm_keeper_hear_standby(k);
		if (p[2].revents)
			spm_keeper_hear_next(k);
		if (p[7].revents && k->spare.talk == p[7].fd)
			spm_keeper_drop_party(&k->spare, true);
		if (p[0].revents)
			take_signals(k);
		if (p[6].revents && k->upgrade.client == p[6].fd)
			spm_keeper_drop_client(k);
		for (int i = 0; i < SPM_CALLERS; i++)
			if (p[POLLED + i].revents)
				spm_keeper_hear_caller(k, &k->caller[i]);
		if (p[5].revents)
			spm_keeper_accept(k);
	}
	if (!k->standby.pid && k->standby_retry_ns && spm_clock_ns() >= k->standby_retry_ns)
		spm_keeper_start_standby(k);
	on_time(k);
}

/* The first worker, or whatever a keeper that has died left behind. */
static void begin(struct spm_keeper *k)
{
	k->state->keeper_pid = getpid();
	k->state->keeper_since_ns = spm_clock_ns();
	if (!k->state->generation) {
		spm_keeper_want_worker(k);
		return;
	}
	spm_keeper_say(k, SPM_SAY_ERR, "%s: crash: the keeper died; %d is the keeper now", k->mountpoint,
		       getpid());
	spm_keeper_notify(k, "MAINPID=%d", getpid());
	spm_keeper_adopt_worker(k);
}

int main(int argc, char **argv)
{
	static struct spm_keeper k = { .standby.talk = -1,
				       .spare.talk = -1,
				       .next.talk = -1,
				       .next_spare.talk = -1,
				       .worker.pidfd = -1,
				       .upgrade.client = -1 };

	for (int i = 0; i < SPM_CALLERS; i++)
		k.caller[i].fd = -1;
	int rc;

	if (!read_arguments(&k, argc, argv)) {
		static const char text[] =
			"spmfs-keeper: spmfs(8) starts this program; it is of no use by hand\n";

		return write(2, text, sizeof(text) - 1) < 0 ? EXIT_FAILED : 1;
	}
	rc = own_process(&k);
	if (rc) {
		spm_keeper_say(&k, SPM_SAY_ERR, "%s: the keeper cannot start: %s", k.mountpoint, strerror(-rc));
		return EXIT_FAILED;
	}
	k.standby.pid = k.state->standby_pid;
	k.standby.since_ns = spm_clock_ns();
	begin(&k);
	while (!k.finished)
		turn(&k);
	if (!k.state->ready_generation) {
		spm_keeper_report(&k, false, k.failed[0] ? k.failed : "the mount did not come up; see the log");
		return EXIT_FAILED;
	}
	return k.status;
}
