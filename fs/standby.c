/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"
#include "fs/standby-run.h"
#include "core/cgroup.h"
#include "core/region.h"
#include "core/swapfile.h"
#include "fs/device.h"
#include "fs/mounts.h"
#include "fs/rights.h"
#include "fs/setup.h"
#include "fs/shared.h"
#include "fs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define GRACE_MS        3000 /* for the kernel to say that the mount is gone, before the worker is told */
#define YIELD_MS        3000 /* for the worker to finish what it has in hand, before it is killed */
#define SPARE_PAUSE_NS  UINT64_C(1000000000) /* one that lived for less is not followed at once */
#define KEEPER_DEATHS   5 /* within */
#define KEEPER_DEATH_NS UINT64_C(10000000000)
#define KEEPER_START_NS UINT64_C(20000000)

static void close_fd(int *fd)
{
	spm_cleanup_close(fd);
	*fd = -1;
}

static bool ended(const struct spm_standby *s)
{
	struct pollfd pfd = { .fd = s->fd[SPM_FD_FUSE] };

	return poll(&pfd, 1, 0) == 1 && pfd.revents & (POLLERR | POLLHUP);
}

static void tell(struct spm_standby *s, struct spm_word w, int pass)
{
	int rc = spm_word_send(s->fd[SPM_FD_TALK], &w, pass);

	/* a keeper that is gone is found out when its next word is waited for */
	if (rc && rc != -EPIPE)
		spm_log(SPM_LOG_ERR, "%s: cannot tell the keeper: %s", s->opts->mountpoint, strerror(-rc));
}

static void say_hello(struct spm_standby *s)
{
	struct spm_word w = {
		.kind = SPM_WORD_HELLO, .value = SPM_STATE_VERSION, .pid = getpid(), .text = PACKAGE_VERSION
	};

	tell(s, w, -1);
}

/* Whether the keeper has made this process the standby: a program that an upgrade brings is not, before it is done. */
static bool is_chosen(const struct spm_standby *s)
{
	return s->state->standby_pid == getpid();
}

/* In a fork of the standby, whose children are not this process's. */
static void forget_children(struct spm_standby *s)
{
	s->worker = s->spare = 0;
	close_fd(&s->worker_fd);
	close_fd(&s->spare_fd);
}

/* -- a worker -- */

/* In the worker: what is the standby's or the keeper's. The lock of the region stays, with its descriptor. */
static void close_others(struct spm_standby *s)
{
	static const enum spm_fd_of theirs[] = { SPM_FD_TALK,    SPM_FD_REGION, SPM_FD_READY,  SPM_FD_CGROUP,
						 SPM_FD_CONTROL, SPM_FD_NOTIFY, SPM_FD_KEEPER, SPM_FD_LOG };

	for (size_t i = 0; i < SPM_ARRAY_SIZE(theirs); i++)
		close_fd(&s->fd[theirs[i]]);
	for (int i = 0; i < (int)SPM_SWAP_FILES; i++)
		close_fd(&s->fd[SPM_FD_SWAP_DIR + i]);
	close_fd(&s->spare_fd);
}

static void *join(void *arg)
{
	struct spm_cgroup *c = arg;
	int rc = spm_cgroup_join(c);

	if (rc)
		spm_log(SPM_LOG_DEBUG, "cannot join the cgroup %s: %s", c->name, strerror(-rc));
	spm_cleanup_close(&c->base_fd);
	free(c);
	return NULL;
}

/*
 * The kernel moves a process under a lock of all cgroups, which on a busy machine takes up to seconds. The first worker waits for
 * that, so that nothing is charged to whoever called mount(8); a later one, whose clients wait, serves meanwhile.
 */
static void join_cgroup(const struct spm_standby *s)
{
	struct spm_cgroup *c = s->fd[SPM_FD_CGROUP] < 0 ? NULL : calloc(1, sizeof(*c));
	sigset_t all, was;
	pthread_t thread;

	if (!c)
		return;
	/* signals are the main thread's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	c->base_fd = fcntl(s->fd[SPM_FD_CGROUP], F_DUPFD_CLOEXEC, 0);
	snprintf(c->name, sizeof(c->name), "%.*s", (int)sizeof(c->name) - 1, s->mount.cgroup);
	if (s->state->generation > 1 && !pthread_create(&thread, NULL, join, c))
		(void)pthread_detach(thread);
	else
		(void)join(c);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
}

static int run_worker(struct spm_standby *s)
{
	struct spm_worker_args a = { .opts = s->opts,
				     .dev_fd = s->fd[SPM_FD_FUSE],
				     .state_fd = s->fd[SPM_FD_STATE],
				     .buffers_fd = s->fd[SPM_FD_BUFFERS],
				     .inodes_fd = s->fd[SPM_FD_INODES],
				     .ready_fd = s->fd[SPM_FD_WORKER],
				     .pool_fd = s->fd[SPM_FD_POOL],
				     .reopened = s->mount.flags & SPM_MOUNT_REOPENED,
				     .nohalt = s->nohalt };
	struct spm_word failed = { .kind = SPM_WORD_FAILED, .pid = getpid() };
	struct spm_error e = { "" };

	memcpy(a.swap_fd, &s->fd[SPM_FD_SWAP], sizeof(a.swap_fd));
	join_cgroup(s);
	close_others(s);
	if (spm_slice_open(SPM_REGION_DIR, &a.root, &e)) {
		snprintf(failed.text, sizeof(failed.text), "%.*s", (int)sizeof(failed.text) - 1, e.text);
		spm_word_send(a.ready_fd, &failed, -1);
		return 1;
	}
	spm_slice_read_features(SPM_REGION_DIR, &a.root);
	/* mountinfo says nothing of huge=never, which is a feature too when it was asked for */
	a.root.features.huge |= s->opts->huge != NULL;
	return spm_worker_main(&a);
}

static void kill_worker(struct spm_standby *s, int sig)
{
	if (s->worker_fd >= 0)
		syscall(SYS_pidfd_send_signal, s->worker_fd, sig, NULL, 0);
}

static void reap(struct spm_standby *s)
{
	int status = 0;

	while (waitpid(s->worker, &status, 0) < 0 && errno == EINTR)
		;
	s->worker_status = status;
	s->worker = 0;
	close_fd(&s->worker_fd);
	/* a request that the dead one held would keep processors from halting */
	spm_nohalt_reset(&s->nohalt);
}

static void worker_died(struct spm_standby *s)
{
	struct spm_word w = { .kind = SPM_WORD_DIED, .pid = s->worker };

	reap(s);
	w.value = (uint32_t)s->worker_status;
	tell(s, w, -1);
}

static void tell_failed(struct spm_standby *s, const char *what, int error)
{
	struct spm_word w = { .kind = SPM_WORD_FAILED, .value = (uint32_t)error };

	snprintf(w.text, sizeof(w.text), "%s: %s", what, strerror(error));
	tell(s, w, -1);
}

static void start_worker(struct spm_standby *s, uint32_t generation)
{
	struct spm_word w = { .kind = SPM_WORD_STARTED };
	pid_t pid;

	if (s->worker) {
		kill_worker(s, SIGKILL);
		reap(s);
	}
	/* from now on the region changes */
	if (spm_region_mark(s->fd[SPM_FD_META], false))
		spm_log(SPM_LOG_WARNING, "%s: cannot mark the region as in use: %m", s->opts->mountpoint);
	pid = fork();
	if (!pid) {
		/* if this process was killed meanwhile, the keeper may have asked another one */
		if (spm_worker_lock(s->fd[SPM_FD_STATE]) || s->state->generation != generation)
			_exit(SPM_WORKER_YIELDED);
		exit(run_worker(s));
	}
	if (pid < 0) {
		tell_failed(s, "cannot fork", errno);
		return;
	}
	s->worker = pid;
	s->worker_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (s->worker_fd < 0) {
		int error = errno;

		/* how it ends would never be known */
		kill(pid, SIGKILL);
		reap(s);
		tell_failed(s, "cannot watch a worker", error);
		return;
	}
	w.pid = pid;
	tell(s, w, s->worker_fd);
}

/* -- the spare -- */

/* In the spare: until it is needed. False: it never will be. */
static bool stand_by(struct spm_standby *s)
{
	struct spm_word w;
	int rc;

	prctl(PR_SET_NAME, "spmfs-spare", 0, 0, 0);
	do {
		rc = spm_word_take(s->fd[SPM_FD_TALK], &w, NULL);
	} while (!rc && w.kind != SPM_WORD_STEP_IN);
	prctl(PR_SET_NAME, "spmfs-standby", 0, 0, 0);
	/* or the keeper has died when it was about to say so */
	return !rc || is_chosen(s);
}

/* Nothing depends on it, so that it may fail. Returns in the spare, too, when that steps in. */
static void make_spare(struct spm_standby *s)
{
	struct spm_word w = { .kind = SPM_WORD_SPARE };
	int pair[2];

	s->spare_next_ns = spm_clock_ns() + SPARE_PAUSE_NS; /* if this one cannot be made */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return;
	w.pid = fork();
	if (!w.pid) {
		close(pair[0]);
		close(s->fd[SPM_FD_TALK]);
		s->fd[SPM_FD_TALK] = pair[1];
		forget_children(s);
		s->spare_next_ns = 0;
		if (!stand_by(s))
			_exit(0);
		say_hello(s);
		return;
	}
	close(pair[1]);
	if (w.pid > 0)
		s->spare_fd = (int)syscall(SYS_pidfd_open, w.pid, 0);
	if (s->spare_fd >= 0) {
		s->spare = w.pid;
		s->spare_since_ns = spm_clock_ns();
		s->spare_next_ns = 0;
		tell(s, w, pair[0]);
	} else if (w.pid > 0) {
		kill(w.pid, SIGKILL);
		waitpid(w.pid, NULL, 0);
	}
	close(pair[0]);
}

/* It was killed. The next one is made at once, unless this goes round and round. */
static void spare_died(struct spm_standby *s)
{
	while (waitpid(s->spare, NULL, 0) < 0 && errno == EINTR)
		;
	s->spare = 0;
	close_fd(&s->spare_fd);
	if (spm_clock_ns() - s->spare_since_ns < SPARE_PAUSE_NS)
		s->spare_next_ns = spm_clock_ns() + SPARE_PAUSE_NS;
}

/* Milliseconds until it is time for one; 0: now, -1: there is one, or nothing is served yet. */
static int spare_due(const struct spm_standby *s)
{
	uint64_t now = spm_clock_ns();

	if (s->spare || !s->state->generation)
		return -1;
	return now >= s->spare_next_ns ? 0 : (int)((s->spare_next_ns - now) / 1000000 + 1);
}

/* -- the end -- */

/* Ends the worker if it lives: first it may find out by itself that the mount is gone. */
static void end_worker(struct spm_standby *s, int grace_ms)
{
	struct pollfd pfd = { .fd = s->worker_fd, .events = POLLIN };

	if (s->worker_fd >= 0 && poll(&pfd, 1, grace_ms) != 1) {
		kill_worker(s, SIGTERM);
		if (poll(&pfd, 1, YIELD_MS) != 1) {
			kill_worker(s, SIGKILL);
			poll(&pfd, 1, YIELD_MS);
		}
	}
	if (s->worker)
		reap(s);
	close_fd(&s->worker_fd);
}

static void remove_swap(struct spm_standby *s)
{
	spm_auto_fclose FILE *names = fopen(SPM_REGION_SWAP, "re");
	spm_auto_free char *line = NULL;
	size_t room = 0;

	for (int i = 0; i < (int)SPM_SWAP_FILES; i++) {
		char *slash = NULL;

		if (names && getline(&line, &room, names) > 0) {
			line[strcspn(line, "\n")] = '\0';
			slash = strrchr(line, '/');
		}
		if (s->fd[SPM_FD_SWAP + i] >= 0)
			spm_swapfile_remove(s->fd[SPM_FD_SWAP + i], s->fd[SPM_FD_SWAP_DIR + i], slash ? slash + 1 : NULL);
	}
}

/* On the host, with the region gone. */
static void give_back(void *arg)
{
	struct spm_standby *s = arg;
	struct spm_error e = { "" };

	if (spm_device_give_back(s->opts, s->fd[SPM_FD_DEVICE], &e))
		spm_log(SPM_LOG_ERR, "%s: %s", s->opts->mountpoint, e.text);
	else
		spm_log(SPM_LOG_INFO, "%s: end: %s is what it was before the mount", s->opts->mountpoint, s->opts->source.dax);
}

/* What the mount leaves outside of itself: kept, but for a region that never came to be one. */
static void clean_up(struct spm_standby *s, bool keep)
{
	struct spm_cgroup c = { .base_fd = s->fd[SPM_FD_CGROUP] };
	bool back = false;

	snprintf(c.name, sizeof(c.name), "%.*s", (int)sizeof(c.name) - 1, s->mount.cgroup);
	if (c.name[0])
		spm_cgroup_remove(&c);
	if (!keep)
		remove_swap(s);
	if (keep && s->opts->source.kind == SPM_SOURCE_DAX)
		spm_log(SPM_LOG_INFO, "%s: end: %s stays as it is, for the files; it is given back with 'umount " SPM_RUN_DIR
			"/%s.ns && rm " SPM_RUN_DIR "/%s.ns && spmctl devices --restore %s'", s->opts->mountpoint,
			s->opts->source.dax, s->opts->name, s->opts->name, s->opts->source.dax);
	else if (!keep)
		back = spm_device_end(s->opts, s->fd[SPM_FD_DEVICE], (dev_t)s->mount.dev, s->fd[SPM_FD_FUSE],
				      s->state->backing_last);
	if (s->mount.flags & SPM_MOUNT_PINNED)
		spm_mounts_tidy(s->opts->name, !keep || s->mount.flags & SPM_MOUNT_DIR, s->fd[SPM_FD_REGION], back ? give_back : NULL,
				s);
}

static int clean_up_orderly(struct spm_standby *s)
{
	bool used = s->state->ready_generation;
	bool keep = s->mount.flags & (used ? SPM_MOUNT_KEEP : SPM_MOUNT_REOPENED);

	/* whoever has unmounted a filesystem expects its files on the disk */
	if (s->mount.flags & SPM_MOUNT_DIR && syncfs(s->fd[SPM_FD_META]))
		spm_log(SPM_LOG_ERR, "%s: not everything could be written to %s: %m", s->opts->mountpoint, s->opts->source_text);
	if (keep && (used || s->mount.flags & SPM_MOUNT_CLEAN) && spm_region_mark(s->fd[SPM_FD_META], true))
		spm_log(SPM_LOG_WARNING, "%s: cannot mark the region as left in order", s->opts->mountpoint);
	clean_up(s, keep);
	return used ? 0 : SPM_EXIT_FAILED;
}

/* Asked to end: the mount goes away under its users, lazily, then the worker. */
static int unmount(struct spm_standby *s)
{
	const char *source = s->opts->source_text;
	dev_t dev = (dev_t)s->mount.dev;

	if (ended(s))
		spm_mounts_dead(dev, source, true, s->fd[SPM_FD_REGION]);
	else
		spm_mounts_remove_all(dev, source, s->fd[SPM_FD_FUSE],
				      s->worker_fd >= 0 && s->state->ready_generation, s->fd[SPM_FD_REGION]);
	/* still open files keep the connection alive: their users get ENOTCONN then, mappings stay */
	end_worker(s, s->state->ready_generation ? GRACE_MS : 0);
	return clean_up_orderly(s);
}

/* The connection is gone: in order if there is no mount any more. */
static int after_unmount(struct spm_standby *s)
{
	end_worker(s, 0);
	if (!spm_mounts_dead((dev_t)s->mount.dev, s->opts->source_text, false, s->fd[SPM_FD_REGION]))
		return clean_up_orderly(s);
	spm_log(SPM_LOG_ERR,
		"%s: the kernel has aborted the connection of a mount that is still there; "
		"the region '%s' stays: umount -l %s, then mount with -o recover",
		s->opts->mountpoint, s->opts->name, s->opts->mountpoint);
	clean_up(s, true);
	return SPM_EXIT_FAILED;
}

static int end(struct spm_standby *s, const struct spm_word *w)
{
	close_fd(&s->fd[SPM_FD_CONTROL]); /* or its directory would be busy */
	/* a worker that another standby had forked */
	if (!s->worker && w->pid > 0)
		s->worker_fd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	switch (w->value) {
	case SPM_END_UNMOUNT:
		return unmount(s);
	case SPM_END_UNMOUNTED:
		return after_unmount(s);
	case SPM_END_RETIRE:
		return 0;
	default:
		/* first, for with the last descriptor nobody waits any more */
		close_fd(&s->fd[SPM_FD_FUSE]);
		end_worker(s, 0);
		clean_up(s, true);
		return SPM_EXIT_FAILED;
	}
}

/* -- the keeper -- */

int spm_standby_exec_keeper(const struct spm_standby *s, const int fd[static SPM_FDS])
{
	const struct spm_options *o = s->opts;
	char fds[SPM_FDS_TEXT], watchdog[16], arg0[] = "spmfs-keeper";
	spm_auto_free char *list = NULL;
	char flags[] = { '-', o->foreground ? 'f' : '-', o->sloppy ? 's' : '-', '\0' };
	char *argv[] = { arg0,           fds,           watchdog, flags, o->name, (char *)s->program,
			 o->source_text, o->mountpoint, NULL,     NULL };
	int rc;

	spm_fds_format(fd, fds);
	snprintf(watchdog, sizeof(watchdog), "%u", o->watchdog);
	if (asprintf(&list, "%s%sname=%s", o->list ? o->list : "", o->list ? "," : "", o->name) < 0)
		return -ENOMEM;
	argv[8] = list;
	spm_fds_inherit(fd, true);
	execveat(fd[SPM_FD_KEEPER], "", argv, environ, AT_EMPTY_PATH);
	rc = -errno;
	spm_fds_inherit(fd, false);
	return rc;
}

/* Whether the keeper has died so often that another one would not help: without work being done in between, or
 * right at its start. */
static bool count_keeper_death(struct spm_state *st)
{
	uint64_t now = spm_clock_ns(), answered = atomic_load(&st->answered);
	bool helped = now - st->keeper_since_ns > KEEPER_START_NS && answered != st->keeper_answered;

	if (!st->keeper_deaths || helped || now - st->keeper_death_ns > KEEPER_DEATH_NS) {
		st->keeper_deaths = 0;
		st->keeper_death_ns = now;
	}
	st->keeper_answered = answered;
	return ++st->keeper_deaths >= KEEPER_DEATHS;
}

/*
 * The keeper has died. This process becomes the next one, so that a running worker is its child as it was;
 * a child of it is the standby then. In the child: 0. Only the child returns, unless it cannot be.
 */
static int succeed_keeper(struct spm_standby *s)
{
	int pair[2], rc = 0;
	pid_t pid;

	/* goes on over exec */
	rc = spm_keeper_lock(s->fd[SPM_FD_STATE]);
	if (rc == -EBUSY)
		return rc;
	if (count_keeper_death(s->state)) {
		spm_log(SPM_LOG_ERR,
			"%s: crash: the keeper died %d times in %u s: giving up; the worker serves on until "
			"it ends",
			s->opts->mountpoint, KEEPER_DEATHS, (unsigned int)(KEEPER_DEATH_NS / 1000000000u));
		return -ELOOP;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		close(pair[0]);
		close(s->fd[SPM_FD_TALK]);
		s->fd[SPM_FD_TALK] = pair[1];
		forget_children(s);
		s->state->standby_pid = getpid();
		return 0;
	}
	close(pair[1]);
	close(s->fd[SPM_FD_TALK]);
	s->fd[SPM_FD_TALK] = pair[0];
	s->state->standby_pid = pid;
	rc = spm_standby_exec_keeper(s, s->fd);
	spm_log(SPM_LOG_ERR, "%s: cannot run the keeper: %s", s->opts->mountpoint, strerror(-rc));
	/* its end of the pair closes now, so the child tries again */
	_exit(SPM_EXIT_FAILED);
}

/* -- waiting -- */

/* What the keeper says. 0, or 1: the process ends with *@status. */
static int hear(struct spm_standby *s, int *status)
{
	struct spm_word w;
	int rc = spm_word_take(s->fd[SPM_FD_TALK], &w, NULL);

	if (!rc && w.kind == SPM_WORD_START) {
		start_worker(s, w.value);
	} else if (!rc && w.kind == SPM_WORD_END) {
		*status = end(s, &w);
		return 1;
	} else if (rc == -EPIPE) {
		if (!s->state->ready_generation) {
			close_fd(&s->fd[SPM_FD_CONTROL]);
			*status = unmount(s); /* nobody has used it: the launcher says that it failed */
			return 1;
		}
		*status = SPM_EXIT_FAILED;
		if (!is_chosen(s))
			return 1;
		rc = succeed_keeper(s);
		if (rc) {
			if (rc != -ELOOP)
				spm_log(SPM_LOG_ERR,
					"%s: crash: the keeper died, and no other can be started: %s",
					s->opts->mountpoint, strerror(-rc));
			return 1;
		}
		say_hello(s);
	}
	return 0;
}

static int confine(void)
{
	uint64_t have;
	int rc = spm_caps_permitted(&have);

	return rc ? rc : spm_caps_set(have & SPM_RIGHTS_STANDBY & ~SPM_RIGHTS_RAISED, have & SPM_RIGHTS_STANDBY);
}

static void own_process(struct spm_standby *s)
{
	static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE };
	int null = s->fd[SPM_FD_NULL];
	sigset_t none;

	/* of the terminal and of whoever sends signals to all of a group, the keeper is in charge */
	for (size_t i = 0; i < SPM_ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NAME, "spmfs-standby", 0, 0, 0);
#ifndef __SANITIZE_ADDRESS__
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
	if (null >= 0)
		for (int fd = 0; fd <= 2; fd++)
			dup2(null, fd);
	close_fd(&s->fd[SPM_FD_NULL]);
	close_fd(&s->fd[SPM_FD_REPORT]);
}

int spm_standby_run(struct spm_standby *s)
{
	int status = 0, rc;

	s->worker = s->spare = 0;
	s->worker_fd = s->spare_fd = -1;
	s->mount = s->state->mount;
	s->mount.cgroup[sizeof(s->mount.cgroup) - 1] = '\0';
	own_process(s);
	rc = confine();
	if (rc)
		spm_log(SPM_LOG_WARNING, "cannot drop capabilities: %s", strerror(-rc));
	say_hello(s);
	do {
		struct pollfd pfd[3] = { { .fd = s->fd[SPM_FD_TALK], .events = POLLIN },
					 { .fd = s->worker_fd, .events = POLLIN },
					 { .fd = s->spare_fd, .events = POLLIN } };

		rc = 0;
		if (!spare_due(s)) {
			make_spare(s);
			continue; /* as the standby, or as the spare that has become it */
		}
		if (poll(pfd, 3, spare_due(s)) <= 0)
			continue;
		if (pfd[1].revents)
			worker_died(s);
		if (pfd[2].revents)
			spare_died(s);
		rc = pfd[0].revents ? hear(s, &status) : 0;
	} while (!rc);
	return status;
}

/* -- started by a keeper -- */

static int refuse(int talk, const char *why)
{
	struct spm_word w = { .kind = SPM_WORD_REFUSED };

	snprintf(w.text, sizeof(w.text), "%.*s", (int)sizeof(w.text) - 1, why);
	spm_word_send(talk, &w, -1);
	return SPM_EXIT_FAILED;
}

static int read_options(struct spm_options *o, char **argv, struct spm_error *e)
{
	int rc;

	spm_options_init(o);
	o->foreground = strchr(argv[2], 'f');
	o->sloppy = strchr(argv[2], 's');
	o->source_text = strdup(argv[3]);
	o->mountpoint = strdup(argv[4]);
	if (!o->source_text || !o->mountpoint)
		return -ENOMEM;
	rc = spm_source_parse(o->source_text, &o->source, e);
	if (!rc)
		rc = spm_options_parse(o, argv[5], e);
	return rc ? rc : spm_options_finish(o, e);
}

/* Out of the host's namespace, and what the region says of itself. */
static int enter_region(struct spm_standby *s, struct spm_options *o, struct spm_error *e)
{
	struct spm_region r;
	int rc;

	if (!o->foreground)
		spm_log_to_syslog("spmfs");
	if (spm_enter_mount_ns(s->fd[SPM_FD_REGION]))
		return spm_fail(e, -errno, "cannot enter the region: %m");
	rc = spm_region_read(s->fd[SPM_FD_META], &r);
	if (rc)
		return spm_fail(e, rc, "cannot read what the region was made from: %s", strerror(-rc));
	o->source.bytes = r.bytes;
	rc = spm_device_read(o, s->fd[SPM_FD_DEVICE], e);
	return rc ? rc : spm_options_fit(o, e);
}

/* A descriptor that was passed on, or else the reason why there is none. */
static void find_nohalt(struct spm_standby *s)
{
	if (s->fd[SPM_FD_NOHALT] < 0) {
		spm_nohalt_open(&s->nohalt, s->opts->nohalt);
		s->fd[SPM_FD_NOHALT] = s->nohalt.fd;
	} else {
		s->nohalt = (struct spm_nohalt){ .fd = s->fd[SPM_FD_NOHALT] };
	}
}

int spm_standby_main(int argc, char **argv)
{
	char why[SPM_WORD_TEXT] = "", program[PATH_MAX];
	struct spm_standby s = { .program = program };
	bool whole = spm_fds_parse(argv[1] + strlen(SPM_STANDBY_ARG), s.fd);
	struct spm_error e = { "" };
	struct spm_options o;
	uint32_t version = 0;
	int rc;

	spm_options_init(&o);
	rc = spm_shared_map(s.fd[SPM_FD_STATE], &s.state, &version);
	if (argc < 3 || s.fd[SPM_FD_TALK] < 0 || rc == -EPROTO) {
		fprintf(stderr, "spmfs: " SPM_STANDBY_ARG " is what a mount's keeper starts, see spmfs(8); "
				"it is of no use by hand\n");
		return SPM_EXIT_USAGE;
	}
	if (rc == -ENOTSUP || argc != 6 || !whole) {
		snprintf(why, sizeof(why),
			 "the mount's state has version %u, this is spmfs " PACKAGE_VERSION " with version %u",
			 version, SPM_STATE_VERSION);
		return refuse(s.fd[SPM_FD_TALK], why);
	}
	spm_fds_inherit(s.fd, false);
	s.opts = &o;
	if (!rc)
		rc = spm_shared_program(program);
	if (!rc)
		rc = read_options(&o, argv, &e);
	if (!rc)
		find_nohalt(&s);
	if (!rc)
		rc = enter_region(&s, &o, &e);
	if (!rc)
		rc = spm_worker_rehearse(&o, s.fd[SPM_FD_STATE], &e);
	if (rc)
		rc = refuse(s.fd[SPM_FD_TALK], why[0] ? why : e.text[0] ? e.text : strerror(-rc));
	else
		rc = spm_standby_run(&s);
	spm_options_free(&o);
	return rc;
}
