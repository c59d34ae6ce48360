/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/setup.h"
#include "core/cgroup.h"
#include "core/dir.h"
#include "core/region.h"
#include "core/size.h"
#include "fs/device.h"
#include "fs/handover.h"
#include "fs/mounts.h"
#include "fs/setup-pool.h"
#include "fs/setup-claim.h"
#include "fs/setup-dir.h"
#include "fs/setup-slices.h"
#include "fs/setup-swap.h"
#include "fs/shared.h"
#include "fs/slices.h"
#include "fs/standby-run.h"
#include "fs/state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#define READ_AHEAD_KB      "4096" /* mirror reads: large requests keep the round trips few */
#define READ_AHEAD_KB_SWAP "1024" /* a fault reads as much around its page, which may have to come from disk */
/*
 * Percent of the memory that may be dirty at all (not of all memory), which the dirty pages of a mirror's mappings may be. The
 * kernel's default for FUSE, 1, makes it write what is hot again and again, and what is cold page by page, an extent each.
 */
#define MAX_RATIO_SWAP     "20"
#define NAMESPACE_TRIES 512

struct setup {
	struct spm_options *o;
	struct spm_error *err;
	int fd[SPM_FDS];
	int where_fd; /* the mount point */
	int mount_fd;
	int host_ns;
	int bdi_fd;
	int standby_end; /* of SPM_FD_TALK */
	struct spm_cgroup cgroup;
	struct spm_nohalt nohalt;
	struct spm_setup_swap swap;
	struct spm_setup_pool pool;
	struct spm_slice root;
	struct spm_claim claim;
	bool claimed; /* the same is open */
	struct spm_slices_conf conf;
	struct spm_slices slices; /* open during set-up alone: what is open in a slice keeps it from being removed */
	struct spm_mount mount; /* goes into the state */
	struct spm_state *state;
	bool mounted;
	int dir_fd;  /* of a dir: source, O_PATH */
	int tree_fd; /* a mount of it, for the region */
	bool took_device;
	char program[PATH_MAX];
};

static void close_fd(int *fd)
{
	spm_cleanup_close(fd);
	*fd = -1;
}

static int open_ns(struct setup *s, int *ns)
{
	*ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	return *ns < 0 ? spm_fail(s->err, -errno, "cannot open /proc/self/ns/mnt: %m") : 0;
}

static int go(struct setup *s, int ns)
{
	return spm_enter_mount_ns(ns) ? spm_fail(s->err, -errno, "cannot change the mount namespace: %m") : 0;
}

/* Whether the keeper will be able to start a standby anew: in a fork, since there is no way back. */
static bool can_exec(const struct setup *s)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		spm_auto_close int ns = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);

		_exit(ns < 0 || spm_enter_mount_ns(ns) || access(s->program, X_OK));
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid < 0 || !status;
}

/* Found while its path still means what the caller meant. */
static int open_dir(struct setup *s)
{
	struct spm_source *src = &s->o->source;

	if (src->kind != SPM_SOURCE_DIR)
		return 0;
	if (spm_shared_in_user_ns())
		return spm_fail(s->err, -EPERM, "%s: not in a user namespace; mount as root", s->o->source_text);
	s->dir_fd = open(src->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return s->dir_fd < 0 ? spm_fail(s->err, -errno, "%s: %m", s->o->source_text) : 0;
}

/* Everything that is only reachable from the host's namespace. */
static int open_host(struct setup *s)
{
	int rc;

	s->fd[SPM_FD_FUSE] = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s->fd[SPM_FD_FUSE] < 0)
		return spm_fail(s->err, -errno, "cannot open /dev/fuse: %m; 'modprobe fuse' loads the driver%s",
				errno == EACCES || errno == EPERM ? ", and its mode says who may use it" : "");
	s->where_fd = open(s->o->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->where_fd < 0)
		return spm_fail(s->err, -errno, "%s: %m", s->o->mountpoint);
	rc = open_dir(s);
	if (!rc)
		rc = spm_shared_programs(s->program, &s->fd[SPM_FD_KEEPER], s->err);
	if (rc)
		return rc;
	if (!can_exec(s))
		s->mount.flags |= SPM_MOUNT_NO_EXEC;
	s->bdi_fd = open("/sys/class/bdi", O_PATH | O_DIRECTORY | O_CLOEXEC);
	spm_nohalt_open(&s->nohalt, s->o->nohalt);
	s->fd[SPM_FD_NOHALT] = s->nohalt.fd;
	if (spm_cgroup_make(&s->cgroup, s->o->name))
		spm_log(SPM_LOG_DEBUG, "no memory cgroup of its own for the worker: %m");
	s->fd[SPM_FD_CGROUP] = s->cgroup.base_fd;
	snprintf(s->mount.cgroup, sizeof(s->mount.cgroup), "%s", s->cgroup.base_fd < 0 ? "" : s->cgroup.name);
	if (!s->o->foreground)
		s->fd[SPM_FD_LOG] = spm_shared_connect("/dev/log");
	if (getenv("NOTIFY_SOCKET"))
		s->fd[SPM_FD_NOTIFY] = spm_shared_connect(getenv("NOTIFY_SOCKET"));
	rc = open_ns(s, &s->host_ns);
	/* out of a chroot, if the caller was in one: its root could not be left behind by pivot_root */
	return rc ? rc : go(s, s->host_ns);
}

/* The region of a server that died is somebody's data: taken over, or given up, only when the user says so. */
static int refuse_left_over(struct setup *s, const struct spm_region *r)
{
	struct statvfs sv = { .f_bsize = 0 };
	char used[16], when[32] = "", path[128], swap[160];
	struct tm tm;

	if (spm_slice_statfs(&s->root, &sv))
		return spm_fail(s->err, -EIO, "cannot look at the region '%s'", s->o->name);
	if (localtime_r(&r->since, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	spm_mounts_pin_path(s->o->name, path, sizeof(path));
	spm_setup_swap_names(swap, sizeof(swap));
	return spm_fail(s->err, -EEXIST,
			"a server that died has left the region '%s' (%s in %llu files and directories, "
			"in use since %s); take it over with -o recover, or give the memory back with "
			"'umount %s && rm %s%s%s%s'",
			s->o->name,
			spm_size_human((uint64_t)(sv.f_blocks - sv.f_bavail) * sv.f_frsize, used, sizeof(used)),
			/* without the top directories of the filesystem */
			(unsigned long long)(sv.f_files - sv.f_ffree > 3 ? sv.f_files - sv.f_ffree - 3 : 0), when,
			path, path, swap, s->o->source.dax[0] ? " && spmctl devices --restore " : "", s->o->source.dax);
}

/* As spm_slices_setup() does in each worker. */
static int open_slices(struct setup *s)
{
	const struct spm_options *o = s->o;
	const struct spm_slice_opts defaults = spm_slices_defaults(o);
	int rc = spm_slices_open(&s->slices, &s->root, o->source.bytes, &defaults,
				 spm_source_on_nodes(&o->source) ? &o->source.nodes : NULL);

	s->slices.claim = s->claimed ? &s->claim : NULL;
	/* (what is in a pool its worker settles) */
	if (!rc && s->pool.dev.fd < 0)
		spm_slices_settle(&s->slices);
	return rc ? spm_fail(s->err, rc, "cannot open the slices of the region '%s': %s", o->name, strerror(-rc)) : 0;
}

static int reopen_claim(struct setup *s)
{
	int rc = spm_setup_claim_reopen(s->o, &s->claim, s->err);

	s->claimed = rc > 0;
	return rc < 0 ? rc : 0;
}

static int reopen_region(struct setup *s)
{
	struct spm_region r;
	int rc = spm_region_read(s->fd[SPM_FD_META], &r);

	if (rc)
		return spm_fail(s->err, rc, "the region '%s' does not say what it was made from: %s", s->o->name,
				strerror(-rc));
	rc = spm_region_open(s->o->source_text, s->o->name, &r, &s->root, s->err);
	if (rc)
		return rc;
	if (!r.clean && !s->o->recover)
		return refuse_left_over(s, &r);
	rc = spm_device_read(s->o, s->fd[SPM_FD_DEVICE], s->err);
	if (!rc)
		rc = spm_setup_pool_reopen(&s->pool, s->host_ns, s->fd[SPM_FD_REGION]);
	s->o->source.bytes = r.bytes;
	if (!rc)
		rc = spm_options_fit(s->o, s->err);
	if (rc)
		return rc;
	rc = spm_setup_swap_reopen(&s->swap, &s->root, s->host_ns, s->fd[SPM_FD_REGION]);
	if (!rc)
		rc = reopen_claim(s);
	if (!rc)
		rc = open_slices(s);
	if (!rc)
		rc = s->pool.dev.fd >= 0 ? spm_setup_pool_orphans(&s->pool, &s->swap, &s->slices) :
					   spm_setup_swap_orphans(&s->swap, &s->slices, NULL, NULL);
	if (rc)
		return rc;
	if (s->o->size_bytes && s->pool.dev.fd < 0)
		rc = spm_slices_set_root_max(&s->slices, s->o->size_bytes);
	if (rc)
		return spm_fail(s->err, rc, "option size=: the kept region '%s' holds more than that",
				s->o->name);
	s->mount.flags |= SPM_MOUNT_REOPENED | SPM_MOUNT_PINNED | (r.clean ? SPM_MOUNT_CLEAN : 0);
	if (!r.clean)
		spm_log(SPM_LOG_INFO,
			"%s: recover: the region '%s', left by servers that died, is taken over",
			s->o->mountpoint, s->o->name);
	return 0;
}

/* What its root slice, and the reserve, are mounted with; @mpol is used by that. */
static struct spm_slice_opts region_opts(const struct spm_options *o, char *mpol, size_t len)
{
	char list[256];
	struct spm_slice_opts so = {
		.size_bytes = o->claim ? SPM_CLAIM_FLOAT : o->size_bytes ? o->size_bytes : o->source.bytes,
		.nr_inodes = o->nr_inodes,
		.nr_inodes_set = o->nr_inodes_set,
		.mode = o->mode,
		.uid = o->uid,
		.gid = o->gid,
		.huge = o->huge,
		.small_pages = o->swap && o->extent_bytes < SPM_EXTENT_MAX,
		.mpol = o->mpol,
		.mount_flags = o->mount_flags,
	};

	if (spm_source_on_nodes(&o->source)) {
		snprintf(mpol, len, "bind:%s", spm_nodes_format(&o->source.nodes, list, sizeof(list)));
		so.mpol = mpol;
	}
	return so;
}

static int create_region(struct setup *s)
{
	const struct spm_options *o = s->o;
	char mpol[300];
	struct spm_slice_opts so = region_opts(o, mpol, sizeof(mpol));

	if (o->source.kind == SPM_SOURCE_DIR)
		return spm_setup_dir_attach(s->o, s->tree_fd, &so, &s->root, &s->fd[SPM_FD_META], &s->mount.flags, s->err);
	if (s->pool.dev.fd >= 0)
		so.size_bytes = spm_setup_pool_names(o);
	s->fd[SPM_FD_META] = spm_region_create(o->source_text, o->source.bytes, &so, &s->root, s->err);
	return s->fd[SPM_FD_META] < 0 ? s->fd[SPM_FD_META] : 0;
}

/* Goes to the @nth CPU, also if the caller's mask leaves it out. */
static void use_cpu(int nth)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(nth % get_nprocs_conf(), &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Back on the host, pins the new namespace; *@again: another number might do. */
static int pin_region(struct setup *s, bool *again)
{
	struct spm_error e = { "" };
	int rc = go(s, s->host_ns);

	if (rc)
		return rc;
	rc = spm_mounts_pin(s->o->name, s->fd[SPM_FD_REGION], &e);
	*again = rc == -EINVAL;
	if (!rc)
		s->mount.flags |= SPM_MOUNT_PINNED;
	else if (s->o->keep || rc == -EEXIST || s->took_device)
		return spm_fail(s->err, rc, "%s%s", s->o->keep ? "option keep: " : "", e.text);
	snprintf(s->mount.no_recover, sizeof(s->mount.no_recover), "%.*s", (int)sizeof(s->mount.no_recover) - 1,
		 rc ? e.text : "");
	return 0;
}

/* What is cloned has to be so in the namespace that it is in. */
static int take_dir(struct setup *s)
{
	close_fd(&s->tree_fd);
	if (s->o->source.kind != SPM_SOURCE_DIR)
		return 0;
	s->tree_fd = spm_dir_tree(s->dir_fd, s->o->source_text, s->err);
	return s->tree_fd < 0 ? s->tree_fd : 0;
}

/* A pin for recovery is only made where it is of use: by root, outside of user namespaces. */
static bool wants_pin(struct setup *s)
{
	if (s->o->keep || !spm_shared_in_user_ns())
		return true;
	snprintf(s->mount.no_recover, sizeof(s->mount.no_recover), "not in a user namespace");
	return false;
}

static int make_claim(struct setup *s)
{
	char mpol[300];
	struct spm_slice_opts so = region_opts(s->o, mpol, sizeof(mpol));
	int rc = spm_setup_claim_make(s->o, &so, &s->cgroup, &s->claim, s->err);

	s->claimed = !rc;
	return rc;
}

/* Those that PATH has from before. */
static int open_dir_slices(struct setup *s)
{
	int rc = spm_setup_dir_check(s->o, &s->root, s->err);

	if (!rc && spm_setup_dir_has_slices()) {
		rc = open_slices(s);
		if (!rc)
			rc = spm_setup_swap_orphans(&s->swap, &s->slices, NULL, NULL);
	}
	return rc ? rc : spm_setup_dir_size(s->o, &s->root, &s->slices, s->err);
}

/* A new namespace, the region in it, and its pin. */
static int enter_new(struct setup *s)
{
	bool again = false, pin = wants_pin(s);
	cpu_set_t mask;
	int rc, tries = 0;

	sched_getaffinity(0, sizeof(mask), &mask);
	do {
		s->err->text[0] = '\0';
		again = false;
		spm_slice_close(&s->root);
		close_fd(&s->fd[SPM_FD_META]);
		close_fd(&s->fd[SPM_FD_REGION]);
		/*
		 * A mount namespace can be pinned only in one with a smaller number, and each CPU gives out
		 * numbers from a stock of its own: where the new one's is too small, that of another CPU, or a
		 * later one, will do.
		 */
		if (tries)
			use_cpu(tries);
		rc = take_dir(s);
		if (!rc)
			rc = spm_region_enter_new(s->err);
		if (!rc)
			rc = open_ns(s, &s->fd[SPM_FD_REGION]);
		/* first, so that whoever finds the pin finds a region that is in use */
		if (!rc)
			rc = create_region(s);
		if (!rc && pin)
			rc = pin_region(s, &again);
	} while (again && ++tries < NAMESPACE_TRIES);
	if (tries)
		sched_setaffinity(0, sizeof(mask), &mask);
	if (!rc && pin)
		rc = go(s, s->fd[SPM_FD_REGION]);
	if (!rc)
		rc = spm_setup_pool_make(&s->pool);
	if (!rc && s->o->claim)
		rc = make_claim(s);
	if (!rc && s->o->source.kind == SPM_SOURCE_DIR)
		rc = open_dir_slices(s);
	return rc ? rc : spm_setup_swap_map(&s->swap, &s->root);
}

/* Whether the region that was entered is still the one that its name stands for. */
static int still_there(struct setup *s, const char *path, const struct stat *pin)
{
	struct stat now;
	int rc = go(s, s->host_ns);
	bool same = !rc && !stat(path, &now) && now.st_ino == pin->st_ino && now.st_dev == pin->st_dev;

	if (!rc && same)
		rc = go(s, s->fd[SPM_FD_REGION]);
	return rc ? rc : same;
}

/* The pin of a dead server's view of a directory: there is nothing in it that the directory does not have. */
static int drop_view(struct setup *s, bool *dropped)
{
	struct spm_region r;
	int rc;

	*dropped = s->o->source.kind == SPM_SOURCE_DIR && !spm_region_read(s->fd[SPM_FD_META], &r) &&
		   !strncmp(r.source, "dir:", 4);
	if (!*dropped)
		return 0;
	spm_mounts_tidy(s->o->name, true, s->fd[SPM_FD_REGION], NULL, NULL);
	rc = go(s, s->host_ns);
	close_fd(&s->fd[SPM_FD_META]);
	close_fd(&s->fd[SPM_FD_REGION]);
	return rc ? rc : -ENOENT;
}

static int enter_left_over(struct setup *s, const char *path)
{
	spm_auto_close int pin = open(path, O_RDONLY | O_CLOEXEC);
	struct statfs sf;
	struct stat st;
	bool dropped;
	int rc;

	if (pin < 0)
		return -ENOENT;
	if (fstatfs(pin, &sf) || sf.f_type != NSFS_MAGIC) {
		/* left by a set-up that was killed before it could bind the namespace here */
		unlink(path);
		return -ENOENT;
	}
	if (fstat(pin, &st))
		return spm_fail(s->err, -errno, "%s: %m", path);
	if (spm_enter_mount_ns(pin))
		return spm_fail(s->err, -errno, "cannot enter the region '%s': %m", s->o->name);
	rc = open_ns(s, &s->fd[SPM_FD_REGION]);
	if (rc)
		return rc;
	s->fd[SPM_FD_META] = spm_region_lock(s->o->name, s->err);
	if (s->fd[SPM_FD_META] < 0)
		return s->fd[SPM_FD_META] == -ENOENT ? -EIO : s->fd[SPM_FD_META];
	rc = still_there(s, path, &st);
	if (rc < 0)
		return rc;
	if (rc) {
		rc = drop_view(s, &dropped);
		return rc || dropped ? rc : reopen_region(s);
	}
	/* a mount that was about to end has done so: this process is back on the host, and starts anew */
	close_fd(&s->fd[SPM_FD_META]);
	close_fd(&s->fd[SPM_FD_REGION]);
	return -ENOENT;
}

bool spm_setup_left_over(const char *name)
{
	char path[128];

	spm_mounts_pin_path(name, path, sizeof(path));
	return !access(path, F_OK);
}

/* What main() left to do because there was a region, which is gone now. */
static int check_source(struct setup *s)
{
	struct spm_source *src = &s->o->source;
	const char *path = src->path;
	char link[32];
	bool whole = !src->bytes || src->kind == SPM_SOURCE_DAX;
	int rc;

	/* the caller may have been in a chroot, which was left */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", s->dir_fd);
	if (src->kind == SPM_SOURCE_DIR)
		src->path = link;
	rc = spm_device_take(s->o, s->fd[SPM_FD_DEVICE], s->err);
	src->path = path;
	s->took_device = !rc && s->fd[SPM_FD_DEVICE] >= 0;
	if (!rc)
		rc = spm_setup_claim_fit(s->o, whole, s->err);
	return rc ? rc : spm_options_fit(s->o, s->err);
}

static int build_region(struct setup *s)
{
	char path[128];
	int rc;

	rc = spm_device_lock(s->o, &s->fd[SPM_FD_DEVICE], s->err);
	if (rc)
		return rc;
	spm_mounts_pin_path(s->o->name, path, sizeof(path));
	rc = enter_left_over(s, path);
	if (rc != -ENOENT)
		return rc;
	rc = check_source(s);
	if (!rc)
		rc = spm_setup_pool_device(&s->pool);
	if (!rc)
		rc = spm_setup_swap_files(&s->swap);
	return rc ? rc : enter_new(s);
}

/* The slices that are declared; the region is there, and entered. */
static int make_slices(struct setup *s)
{
	int rc = spm_setup_slices_fit(s->o, &s->conf, s->err);

	if (!rc && s->conf.n && !spm_slices_get(&s->slices, 0))
		rc = open_slices(s);
	if (!rc && s->conf.n)
		rc = spm_setup_pool_for_slices(&s->pool, &s->slices);
	if (!rc)
		rc = spm_setup_slices_make(s->o, &s->conf, &s->slices, s->err);
	spm_setup_pool_done(&s->pool, &s->slices);
	return rc;
}

static void tune(const struct setup *s, const char *what, const char *value)
{
	char path[64];
	spm_auto_close int fd = -1;

	snprintf(path, sizeof(path), "%u:%u/%s", major((dev_t)s->mount.dev), minor((dev_t)s->mount.dev), what);
	fd = openat(s->bdi_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, value, strlen(value)) < 0)
		spm_log(SPM_LOG_DEBUG, "%s: %m", what);
}

/* How the client's kernel reads and writes back a mirror. Its default of 128 KiB would make it read in many small requests. */
static void tune_mirrors(const struct setup *s)
{
	if (s->bdi_fd < 0)
		return;
	tune(s, "read_ahead_kb", s->o->swap ? READ_AHEAD_KB_SWAP : READ_AHEAD_KB);
	if (s->o->swap)
		tune(s, "max_ratio", MAX_RATIO_SWAP);
}

/* Where spmctl reaches the keeper: beside the pin, since both are found by the mount's name. */
static void open_control(struct setup *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if (!(s->mount.flags & SPM_MOUNT_PINNED))
		return;
	spm_mounts_socket_path(s->o->name, addr.sun_path, sizeof(addr.sun_path));
	unlink(addr.sun_path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || chmod(addr.sun_path, 0600) ||
	    listen(fd, 8)) {
		spm_log(SPM_LOG_WARNING, "%s: %m; spmctl upgrade will not work", addr.sun_path);
		spm_cleanup_close(&fd);
		return;
	}
	s->fd[SPM_FD_CONTROL] = fd;
}

static void close_claim(struct setup *s)
{
	if (s->claimed)
		spm_claim_close(&s->claim);
	s->claimed = false;
}

static int mount_on_host(struct setup *s)
{
	dev_t dev = 0;
	int rc;

	rc = go(s, s->host_ns);
	if (rc)
		return rc;
	open_control(s);
	s->mount_fd = spm_mounts_make(s->o, s->fd[SPM_FD_FUSE], &dev, s->err);
	rc = s->mount_fd < 0 ? s->mount_fd : 0;
	s->mount.dev = dev;
	if (!rc) {
		rc = spm_mounts_attach(s->mount_fd, s->where_fd, s->err);
		s->mounted = !rc;
	}
	if (!rc)
		tune_mirrors(s);
	if (go(s, s->fd[SPM_FD_REGION]) && !rc)
		rc = -EIO;
	/* from here on nothing of the host's namespace is held */
	close_fd(&s->host_ns);
	close_fd(&s->where_fd);
	close_fd(&s->mount_fd);
	close_fd(&s->bdi_fd);
	close_fd(&s->dir_fd);
	close_fd(&s->tree_fd);
	spm_slices_close(&s->slices);
	spm_slice_close(&s->root);
	close_claim(s);
	return rc;
}

/* On the host, with the region gone. */
static void give_back(void *arg)
{
	struct setup *s = arg;
	struct spm_error e = { "" };

	if (spm_device_give_back(s->o, s->fd[SPM_FD_DEVICE], &e))
		spm_log(SPM_LOG_ERR, "%s: %s", s->o->mountpoint, e.text);
	s->took_device = false;
}

/* What was taken by a set-up that failed, on the host if it is still there or can be. */
static void release_device(struct setup *s)
{
	if (s->took_device && s->host_ns >= 0) {
		close_fd(&s->fd[SPM_FD_META]);
		close_fd(&s->fd[SPM_FD_REGION]);
		if (!spm_enter_mount_ns(s->host_ns))
			give_back(s);
	}
	if (s->fd[SPM_FD_DEVICE] < 0)
		return;
	spm_device_leave(s->o, s->fd[SPM_FD_DEVICE]);
	close_fd(&s->fd[SPM_FD_DEVICE]);
	spm_mounts_run_dir_remove();
}

static void clean_up(struct setup *s)
{
	bool end = false;

	close_fd(&s->fd[SPM_FD_CONTROL]);
	if (s->mounted && s->fd[SPM_FD_REGION] >= 0)
		spm_mounts_remove_all((dev_t)s->mount.dev, s->o->source_text, s->fd[SPM_FD_FUSE], false,
				      s->fd[SPM_FD_REGION]);
	spm_slices_close(&s->slices);
	close_claim(s);
	spm_setup_swap_undo(&s->swap, s->fd[SPM_FD_REGION]);
	spm_slice_close(&s->root);
	if (s->took_device && s->mount.flags & SPM_MOUNT_PINNED && !spm_enter_mount_ns(s->fd[SPM_FD_REGION]))
		end = spm_device_end(s->o, s->fd[SPM_FD_DEVICE], (dev_t)s->mount.dev, -1, 0);
	if (s->mount.flags & SPM_MOUNT_PINNED)
		spm_mounts_tidy(s->o->name, !(s->mount.flags & SPM_MOUNT_REOPENED) || s->mount.flags & SPM_MOUNT_DIR,
				s->fd[SPM_FD_REGION], end ? give_back : NULL, s);
	release_device(s);
	spm_cgroup_remove(&s->cgroup);
}

static int make_shared(struct setup *s)
{
	int pair[2], ready[2], rc;

	if (s->o->keep)
		s->mount.flags |= SPM_MOUNT_KEEP;
	spm_setup_swap_hand_over(&s->swap, s->fd, s->mount.note, sizeof(s->mount.note));
	spm_setup_pool_hand_over(&s->pool, s->fd, &s->mount);
	rc = spm_shared_make(&s->mount, s->fd, &s->state, s->err);
	if (rc)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return spm_fail(s->err, -errno, "cannot make a socket: %m");
	s->fd[SPM_FD_TALK] = pair[0];
	s->standby_end = pair[1];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ready))
		return spm_fail(s->err, -errno, "cannot make a socket: %m");
	s->fd[SPM_FD_READY] = ready[0];
	s->fd[SPM_FD_WORKER] = ready[1];
	return 0;
}

/* The child is the standby, this process becomes the keeper; both hold the same descriptors. */
static int divide(struct setup *s)
{
	struct spm_standby standby = {
		.opts = s->o, .program = s->program, .state = s->state, .nohalt = s->nohalt
	};
	pid_t pid = fork();
	int rc;

	if (pid < 0)
		return spm_fail(s->err, -errno, "cannot start the standby: %m");
	if (!pid) {
		memcpy(standby.fd, s->fd, sizeof(standby.fd));
		close(s->fd[SPM_FD_TALK]);
		standby.fd[SPM_FD_TALK] = s->standby_end;
		exit(spm_standby_run(&standby));
	}
	close_fd(&s->standby_end);
	s->state->standby_pid = pid;
	rc = spm_standby_exec_keeper(&standby, s->fd);
	/* without a keeper the standby takes everything back */
	close_fd(&s->fd[SPM_FD_TALK]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->mounted = s->took_device = false;
	s->mount.flags = 0;
	close_fd(&s->fd[SPM_FD_DEVICE]);
	s->cgroup.base_fd = -1;
	spm_setup_swap_forget(&s->swap);
	return spm_fail(s->err, rc, "cannot run the keeper: %s", strerror(-rc));
}

/* Children inherit all of this. */
static void own_process(void)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	spm_auto_close int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	sigset_t set;

	/* the device's users would lose it all at once; what these processes themselves use is next to nothing */
	if (oom >= 0 && write(oom, "-1000", 5) < 0)
		spm_log(SPM_LOG_DEBUG, "oom_score_adj: %m");
	setrlimit(RLIMIT_FSIZE, &unlimited);
	signal(SIGPIPE, SIG_IGN);
	/* the keeper's to answer, which this process becomes */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
#ifndef __SANITIZE_ADDRESS__
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

int spm_setup_run(struct spm_options *o, const struct spm_report_fds *report, struct spm_error *e)
{
	struct setup s = { .o = o,
			   .err = e,
			   .where_fd = -1,
			   .mount_fd = -1,
			   .host_ns = -1,
			   .bdi_fd = -1,
			   .dir_fd = -1,
			   .tree_fd = -1,
			   .standby_end = -1,
			   .swap = { .o = o, .err = e },
			   .pool = { .o = o, .err = e, .dev.fd = -1, .state_fd = -1 },
			   .nohalt = { .fd = -1 },
			   .cgroup = { .base_fd = -1 },
			   .root = { .mount_fd = -1, .data_fd = -1, .orphans_fd = -1 } };
	int rc;

	for (int i = 0; i < SPM_FDS; i++)
		s.fd[i] = -1;
	s.fd[SPM_FD_REPORT] = report->report;
	s.fd[SPM_FD_NULL] = report->null;
	own_process();
	rc = spm_setup_swap_possible(o, e);
	if (!rc)
		rc = spm_setup_slices_read(o, &s.conf, e);
	if (!rc)
		rc = open_host(&s);
	if (!rc)
		rc = build_region(&s);
	if (!rc)
		rc = make_slices(&s);
	spm_slices_conf_free(&s.conf);
	if (!rc)
		rc = mount_on_host(&s);
	if (!rc)
		rc = make_shared(&s);
	if (!rc)
		rc = divide(&s);
	clean_up(&s);
	return spm_fail(e, rc, "%s", strerror(-rc));
}
