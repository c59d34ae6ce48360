/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keeper.h"
#include "core/caps.h"
#include "core/cgroup.h"
#include "core/region.h"
#include "fs/mounts.h"
#include "fs/standby.h"
#include "fs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#define READ_AHEAD_KB "4096" /* mirror reads: large requests keep the round trips few */
#define NAMESPACE_TRIES 512
#define END_TRIES     300    /* of 10 ms, for the worker to see that the mount is gone, before it is told */

struct keeper {
	struct spm_options *o;
	struct spm_error err;
	struct spm_cgroup cgroup;
	struct spm_slice root;
	bool reopened; /* the region is a kept one */
	bool pinned;
	int fuse_fd;
	int where_fd;  /* the mount point */
	int mount_fd;
	int host_ns;
	int home_ns;   /* the region's */
	int bdi_fd;
	int state_fd, buffers_fd, inodes_fd;
	struct spm_state *state;
	struct spm_nohalt nohalt;
	dev_t dev;
	bool settled;  /* the mount has been in use */
	bool mounted;  /* as far as is known: the kernel may not have told yet that it is not */
	pid_t worker;
	sigset_t signals;
	spm_report_fn report;
	void *report_arg;
};

static void close_fd(int *fd)
{
	spm_cleanup_close(fd);
	*fd = -1;
}

static int open_ns(struct keeper *k, int *ns)
{
	*ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	return *ns < 0 ? spm_fail(&k->err, -errno, "cannot open /proc/self/ns/mnt: %m") : 0;
}

static int go(struct keeper *k, int ns)
{
	return setns(ns, CLONE_NEWNS) ? spm_fail(&k->err, -errno, "cannot change the mount namespace: %m") : 0;
}

/* Everything that is only reachable from the host's namespace. */
static int open_host(struct keeper *k)
{
	int rc;

	k->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (k->fuse_fd < 0)
		return spm_fail(&k->err, -errno, "cannot open /dev/fuse: %m; 'modprobe fuse' loads the driver%s",
				errno == EACCES || errno == EPERM ? ", and its mode says who may use it" : "");
	k->where_fd = open(k->o->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (k->where_fd < 0)
		return spm_fail(&k->err, -errno, "%s: %m", k->o->mountpoint);
	k->bdi_fd = open("/sys/class/bdi", O_PATH | O_DIRECTORY | O_CLOEXEC);
	spm_nohalt_open(&k->nohalt, k->o->nohalt);
	if (spm_cgroup_make(&k->cgroup, k->o->name))
		spm_log(SPM_LOG_DEBUG, "no memory cgroup of its own for the worker: %m");
	rc = open_ns(k, &k->host_ns);
	/* out of a chroot, if the caller was in one: its root could not be left behind by pivot_root */
	return rc ? rc : go(k, k->host_ns);
}

static int reopen_region(struct keeper *k)
{
	int rc = spm_region_reopen(k->o->source_text, k->o->name, &k->o->source.bytes, &k->root, &k->err);

	if (!rc)
		rc = spm_options_fit(k->o, &k->err);
	if (!rc && k->o->size_bytes)
		rc = spm_slice_resize(&k->root, k->o->size_bytes);
	return rc ? spm_fail(&k->err, rc, "option size=: the kept region '%s' holds more than that", k->o->name) : 0;
}

static int create_region(struct keeper *k)
{
	const struct spm_options *o = k->o;
	char list[256], mpol[300];
	struct spm_slice_opts so = {
		.size_bytes = o->size_bytes ? o->size_bytes : o->source.bytes,
		.nr_inodes = o->nr_inodes, .nr_inodes_set = o->nr_inodes_set,
		.mode = o->mode, .uid = o->uid, .gid = o->gid, .huge = o->huge, .mpol = o->mpol,
		.mount_flags = o->mount_flags,
	};

	if (o->source.kind == SPM_SOURCE_NODE) {
		snprintf(mpol, sizeof(mpol), "bind:%s", spm_nodes_format(&o->source.nodes, list, sizeof(list)));
		so.mpol = mpol;
	}
	return spm_region_create(o->source_text, o->source.bytes, &so, &k->root, &k->err);
}

/* Goes to the @nth CPU, also if the caller's mask leaves it out. */
static void use_cpu(int nth)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(nth % get_nprocs_conf(), &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Back on the host, pins the new namespace. */
static int pin_region(struct keeper *k)
{
	int rc = go(k, k->host_ns);

	return rc ? rc : spm_mounts_pin(k->o->name, k->home_ns, &k->err);
}

/* A new namespace for the region, and with keep its pin. */
static int enter_new(struct keeper *k)
{
	cpu_set_t mask;
	int rc, tries = 0;

	sched_getaffinity(0, sizeof(mask), &mask);
	do {
		k->err.text[0] = '\0';
		close_fd(&k->home_ns);
		/*
		 * A mount namespace can be pinned only in one with a smaller number, and each CPU gives out
		 * numbers from a stock of its own: where the new one's is too small, that of another CPU, or a
		 * later one, will do.
		 */
		if (tries)
			use_cpu(tries);
		rc = spm_region_enter_new(&k->err);
		if (!rc)
			rc = open_ns(k, &k->home_ns);
		if (!rc && k->o->keep) {
			rc = pin_region(k);
			k->pinned = !rc;
		}
	} while (rc == -EINVAL && k->home_ns >= 0 && ++tries < NAMESPACE_TRIES);
	if (tries)
		sched_setaffinity(0, sizeof(mask), &mask);
	return rc || !k->o->keep ? rc : go(k, k->home_ns);
}

/* Whether the region that was entered is still the one that its name stands for. */
static int still_kept(struct keeper *k, const char *path, const struct stat *pin)
{
	struct stat now;
	int rc = go(k, k->host_ns);
	bool same = !rc && !stat(path, &now) && now.st_ino == pin->st_ino && now.st_dev == pin->st_dev;

	if (!rc && same)
		rc = go(k, k->home_ns);
	return rc ? rc : same;
}

static int enter_kept(struct keeper *k, const char *path)
{
	spm_auto_close int pin = open(path, O_RDONLY | O_CLOEXEC);
	struct statfs sf;
	struct stat st;
	int rc;

	if (pin < 0)
		return -ENOENT;
	if (fstatfs(pin, &sf) || sf.f_type != NSFS_MAGIC) {
		/* left by a keeper that was killed before it could bind the namespace here */
		unlink(path);
		return -ENOENT;
	}
	if (fstat(pin, &st))
		return spm_fail(&k->err, -errno, "%s: %m", path);
	if (setns(pin, CLONE_NEWNS))
		return spm_fail(&k->err, -errno, "cannot enter the kept region '%s': %m", k->o->name);
	rc = open_ns(k, &k->home_ns);
	if (!rc)
		rc = reopen_region(k);
	if (!rc)
		rc = still_kept(k, path, &st);
	if (rc < 0)
		return rc;
	if (rc) {
		k->reopened = k->pinned = true;
		return 0;
	}
	/* a mount without keep was about to end it: this process is back on the host, and starts anew */
	spm_slice_close(&k->root);
	close_fd(&k->home_ns);
	return -ENOENT;
}

bool spm_keeper_kept(const char *name)
{
	char path[128];

	spm_mounts_pin_path(name, path, sizeof(path));
	return !access(path, F_OK);
}

/* What main() left to do because there was a kept region, which is gone now. */
static int check_source(struct keeper *k)
{
	int rc = spm_source_check(&k->o->source, k->o->source_text, &k->err);

	return rc ? rc : spm_options_fit(k->o, &k->err);
}

static int build_region(struct keeper *k)
{
	char path[128];
	int rc;

	spm_mounts_pin_path(k->o->name, path, sizeof(path));
	rc = enter_kept(k, path);
	if (rc != -ENOENT)
		return rc;
	rc = check_source(k);
	if (!rc)
		rc = enter_new(k);
	return rc ? rc : create_region(k);
}

/* The kernel's default of 128 KiB would make a mirror read in many small requests. */
static void raise_read_ahead(struct keeper *k)
{
	char path[64];
	spm_auto_close int fd = -1;

	if (k->bdi_fd < 0)
		return;
	snprintf(path, sizeof(path), "%u:%u/read_ahead_kb", major(k->dev), minor(k->dev));
	fd = openat(k->bdi_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, READ_AHEAD_KB, sizeof(READ_AHEAD_KB) - 1) < 0)
		spm_log(SPM_LOG_DEBUG, "read_ahead_kb: %m");
}

static int mount_on_host(struct keeper *k)
{
	int rc;

	rc = go(k, k->host_ns);
	if (rc)
		return rc;
	k->mount_fd = spm_mounts_make(k->o, k->fuse_fd, &k->dev, &k->err);
	rc = k->mount_fd < 0 ? k->mount_fd : 0;
	if (!rc) {
		rc = spm_mounts_attach(k->mount_fd, k->where_fd, &k->err);
		k->mounted = !rc;
	}
	if (!rc)
		raise_read_ahead(k);
	if (go(k, k->home_ns) && !rc)
		rc = -EIO;
	/* from here on nothing of the host's namespace is held */
	close_fd(&k->host_ns);
	close_fd(&k->where_fd);
	close_fd(&k->mount_fd);
	return rc;
}

static int run_worker(struct keeper *k, int ready_fd)
{
	struct spm_worker_args a = { .opts = k->o, .root = k->root, .dev_fd = k->fuse_fd, .ready_fd = ready_fd,
				     .state_fd = k->state_fd, .buffers_fd = k->buffers_fd, .inodes_fd = k->inodes_fd,
				     .reopened = k->reopened, .nohalt = k->nohalt };
	int rc = spm_cgroup_join(&k->cgroup);

	k->report(SPM_REPORT_CHILD, "", k->report_arg);
	if (rc)
		spm_log(SPM_LOG_DEBUG, "cannot join the cgroup %s: %s", k->cgroup.name, strerror(-rc));
	close_fd(&k->cgroup.base_fd);
	close_fd(&k->home_ns);
	close_fd(&k->bdi_fd);
	return spm_worker_main(&a);
}

/* Forks the worker and waits for its word. @note gets what the user should know. */
static int start_worker(struct keeper *k, char note[static 512])
{
	size_t at = 0;
	ssize_t n;
	int p[2];

	if (pipe2(p, O_CLOEXEC))
		return spm_fail(&k->err, -errno, "cannot make a pipe: %m");
	k->worker = fork();
	if (k->worker < 0)
		return spm_fail(&k->err, -errno, "cannot start the worker: %m");
	if (!k->worker) {
		close(p[0]);
		exit(run_worker(k, p[1]));
	}
	close(p[1]);
	while (at < 511 && ((n = read(p[0], note + at, 511 - at)) > 0 || (n < 0 && errno == EINTR)))
		at += n > 0 ? (size_t)n : 0;
	note[at] = '\0';
	close(p[0]);
	if (strncmp(note, "ok", 2))
		return spm_fail(&k->err, -EIO, "%s", at ? note : "the worker died before it could serve; see the log");
	memmove(note, note + 2, at - 1);
	return 0;
}

/* The worker is gone: says so if it should not be. */
static int reap(struct keeper *k)
{
	int status, rc = 0;

	while (waitpid(k->worker, &status, 0) < 0 && errno == EINTR)
		;
	k->worker = 0;
	if (WIFSIGNALED(status)) {
		spm_log(SPM_LOG_ERR, "%s: the worker was killed by signal %d (%s)",
			k->o->mountpoint, WTERMSIG(status), strsignal(WTERMSIG(status)));
		k->state->death_signal = (uint32_t)WTERMSIG(status);
		rc = SPM_EXIT_FAILED;
	} else if (WEXITSTATUS(status) == SPM_WORKER_YIELDED) {
		rc = 0; /* told to */
	} else if (WEXITSTATUS(status)) {
		rc = SPM_EXIT_FAILED;
	} else {
		k->mounted = false; /* the worker ended because the kernel said so */
	}
	return rc;
}

/* Asked to end: the mount goes away under its users, lazily, then the worker. */
static int end(struct keeper *k)
{
	static const struct timespec pause = { .tv_nsec = 10000000 };

	spm_mounts_remove_all(k->dev, k->o->source_text, k->worker, k->home_ns);
	k->mounted = false;
	/* still open files keep the connection alive: their users get ENOTCONN then, mappings stay */
	for (int i = 0; i < END_TRIES; i++) {
		siginfo_t si = { .si_pid = 0 };

		if (!waitid(P_PID, (id_t)k->worker, &si, WEXITED | WNOHANG | WNOWAIT) && si.si_pid)
			break;
		nanosleep(&pause, NULL);
	}
	kill(k->worker, SIGTERM);
	reap(k);
	return 0;
}

static int start_worker(struct keeper *k, char note[static 512]);
static int watch(struct keeper *k)
{
	for (;;) {
		int sig = sigwaitinfo(&k->signals, NULL), rc;
		char note[512];

		if (sig == SIGCHLD) {
			rc = reap(k);
			if (rc != SPM_EXIT_FAILED || k->state->restarts >= 100000)
				return rc;
			do {
				k->state->generation++;
				k->state->restarts++;
			} while (start_worker(k, note) && reap(k) == SPM_EXIT_FAILED);
			continue;
		}
		if (sig > 0)
			return end(k);
	}
}

static void clean_up(struct keeper *k)
{
	if (k->worker) {
		kill(k->worker, SIGTERM);
		reap(k);
	}
	close_fd(&k->fuse_fd);
	spm_nohalt_close(&k->nohalt);
	if (k->mounted && k->home_ns >= 0)
		spm_mounts_remove_all(k->dev, k->o->source_text, 0, k->home_ns);
	/* kept, but for a region that never came to be one */
	if (k->pinned && (k->settled ? !k->o->keep : !k->reopened))
		spm_mounts_unpin(k->o->name, k->home_ns);
	spm_cgroup_remove(&k->cgroup);
}

/* What ending a mount needs (entering namespaces, looking at processes, ending the worker), and what the workers do. */
static int confine(void)
{
	uint64_t keep = SPM_CAP(CAP_SYS_ADMIN) | SPM_CAP(CAP_SYS_CHROOT) | SPM_CAP(CAP_SYS_PTRACE) |
			SPM_CAP(CAP_KILL) | SPM_CAP(CAP_DAC_OVERRIDE) | SPM_CAP(CAP_DAC_READ_SEARCH) |
			SPM_CAP(CAP_CHOWN) | SPM_CAP(CAP_FOWNER) | SPM_CAP(CAP_MKNOD) | SPM_CAP(CAP_SETFCAP) |
			SPM_CAP(CAP_SETUID) | SPM_CAP(CAP_SETGID) | SPM_CAP(CAP_LEASE) | SPM_CAP(CAP_LINUX_IMMUTABLE);
	uint64_t have;
	int rc = spm_caps_permitted(&have);

	return rc ? rc : spm_caps_set(have & keep, have & (keep | SPM_CAP(CAP_FSETID)));
}

static void own_process(struct keeper *k)
{
	spm_auto_close int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* the device's users would lose it all at once; what this process itself uses is next to nothing */
	if (oom >= 0 && write(oom, "-1000", 5) < 0)
		spm_log(SPM_LOG_DEBUG, "oom_score_adj: %m");
	sigemptyset(&k->signals);
	sigaddset(&k->signals, SIGTERM);
	sigaddset(&k->signals, SIGINT);
	sigaddset(&k->signals, SIGHUP);
	sigaddset(&k->signals, SIGQUIT);
	sigaddset(&k->signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &k->signals, NULL);
	signal(SIGPIPE, SIG_IGN);
#ifndef __SANITIZE_ADDRESS__
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

int spm_keeper_main(struct spm_options *o, spm_report_fn report, void *arg)
{
	struct keeper k = { .o = o, .report = report, .report_arg = arg, .fuse_fd = -1, .where_fd = -1, .mount_fd = -1, .host_ns = -1, .home_ns = -1,
			    .bdi_fd = -1, .nohalt = { .fd = -1 }, .cgroup = { .base_fd = -1 },
			    .root = { .mount_fd = -1, .data_fd = -1, .orphans_fd = -1 } };
	char note[512];
	int rc;

	own_process(&k);
	rc = open_host(&k);
	if (!rc)
		rc = build_region(&k);
	if (!rc)
		rc = mount_on_host(&k);
	if (!rc)
		rc = spm_desks_create(&k.state_fd, &k.buffers_fd);
	if (!rc) {
		k.inodes_fd = spm_itable_create(32u << 20);
		k.state = mmap(NULL, SPM_STATE_HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, k.state_fd, 0);
		k.state->keeper_pid = (uint32_t)getpid();
		k.state->generation = 1;
		rc = start_worker(&k, note);
		if (!rc)
			rc = confine();
	}
	if (rc) {
		clean_up(&k);
		spm_fail(&k.err, rc, "%s", strerror(-rc));
		report(SPM_REPORT_FAILED, k.err.text, arg);
		return SPM_EXIT_FAILED;
	}
	close_fd(&k.bdi_fd);
	k.settled = true;
	report(SPM_REPORT_OK, note, arg);
	rc = watch(&k);
	clean_up(&k);
	return rc;
}
