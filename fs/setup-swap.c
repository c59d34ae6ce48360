/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/setup-swap.h"
#include "core/extmap.h"
#include "core/lease.h"
#include "core/region.h"
#include "core/ring.h"
#include "core/size.h"
#include "fs/mounts.h"
#include "fs/setup-pool.h"
#include "fs/shared.h"
#include "fs/swap-map.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/wait.h>

int spm_setup_swap_possible(const struct spm_options *o, struct spm_error *e)
{
	if (!o->swap)
		return 0;
	if (spm_shared_in_user_ns())
		return spm_fail(e, -EPERM, "option swap=: not in a user namespace; mount as root, or leave swap= out");
	return spm_ring_probe(e);
}

/* Without file leases nobody could tell what is mapped, and nothing might ever leave. (Of a pool nothing is mapped directly.) */
static int check_leases(struct spm_setup_swap *s, const struct spm_slice *root)
{
	int rc = spm_setup_has_pool(s->o) ? 0 : spm_lease_probe(root->mount_fd);

	if (!rc)
		return 0;
	return spm_fail(s->err, rc, "option swap=: the kernel does not tell which files are mapped (a file "
			"lease: %s); 'sysctl fs.leases-enable=1', or leave swap= out", strerror(-rc));
}

/* -- files that another region may still need -- */

/* Whether the region behind @pin has a map of that uuid: 0 or 1, or 2: cannot tell. In a process of its own. */
static int ask_region(const char *pin, const uint8_t uuid[static 16])
{
	spm_auto_close int ns = open(pin, O_RDONLY | O_CLOEXEC), fd = -1;
	struct spm_extmap_setup setup;

	if (ns < 0)
		return errno == ENOENT ? 0 : 2;
	if (spm_enter_mount_ns(ns))
		return errno == EINVAL ? 0 : 2; /* the file is there, but no namespace is bound to it */
	fd = open(SPM_REGION_EXTENTS, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : 2;
	if (spm_extmap_setup_of(fd, &setup) < 0)
		return 2;
	return !memcmp(setup.uuid, uuid, 16);
}

static int taken(void *ctx, const char *path, const struct spm_swapfile_header *h, struct spm_error *e)
{
	char name[sizeof(h->name) + 1] = "", pin[128];
	int status = 0;
	pid_t pid;

	(void)ctx;
	memcpy(name, h->name, sizeof(h->name));
	if (strchr(name, '/'))
		return 0;
	spm_mounts_pin_path(name, pin, sizeof(pin));
	if (access(pin, F_OK))
		return 0;
	pid = fork();
	if (!pid)
		_exit(ask_region(pin, h->uuid));
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid > 0 && WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return spm_fail(e, -EBUSY, "swap=%s: has data of the region '%s', which is kept; name another file, or "
			"give that region up with 'umount %s && rm %s %s'", path, name, pin, pin, path);
}

static struct spm_swapfiles_want wanted(const struct spm_options *o)
{
	return (struct spm_swapfiles_want){ .list = o->swap,
					    .name = o->name,
					    .bytes = o->swap_bytes ? o->swap_bytes : o->source.bytes,
					    .taken = taken };
}

int spm_setup_swap_dry(const struct spm_options *o, struct spm_error *e)
{
	struct spm_swapfiles_want w = wanted(o);
	struct spm_swapfiles files;
	int rc;

	if (!o->swap)
		return 0;
	w.dry = true;
	rc = spm_setup_swap_possible(o, e);
	return rc ? rc : spm_swapfiles_open(&w, &files, e);
}

int spm_setup_swap_files(struct spm_setup_swap *s)
{
	struct spm_swapfiles_want w = wanted(s->o);

	return s->o->swap ? spm_swapfiles_open(&w, &s->files, s->err) : 0;
}

/* -- the region's side -- */

/* Other processes read it at any time, so it is replaced as a whole. */
static int write_names(struct spm_setup_swap *s)
{
	static const char next[] = SPM_REGION_SWAP ".new";
	FILE *f = fopen(next, "we");
	int rc = f ? 0 : -errno;

	for (unsigned int i = 0; f && i < s->files.count; i++)
		if (fprintf(f, "%s\n", s->files.path[i]) < 0)
			rc = -EIO;
	if (f && fclose(f))
		rc = -errno;
	if (!rc && rename(next, SPM_REGION_SWAP))
		rc = -errno;
	return rc ? spm_fail(s->err, rc, "cannot write %s: %s", SPM_REGION_SWAP, strerror(-rc)) : 0;
}

static int make_map(struct spm_setup_swap *s, const struct spm_extmap_setup *setup)
{
	spm_auto_close int fd = -1;
	int rc;

	/* the map grows with what is swapped; the region's own small filesystem has no room for that */
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=0"))
		return spm_fail(s->err, -errno, "cannot make room for the extent map: %m");
	fd = open(SPM_REGION_EXTENTS, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return spm_fail(s->err, -errno, "cannot make %s: %m", SPM_REGION_EXTENTS);
	rc = spm_extmap_create(fd, setup);
	if (rc) {
		unlink(SPM_REGION_EXTENTS);
		return spm_fail(s->err, rc, "cannot make the extent map: %s", strerror(-rc));
	}
	return 0;
}

int spm_setup_swap_map(struct spm_setup_swap *s, const struct spm_slice *root)
{
	struct spm_extmap_setup setup = { .extent_bytes = s->o->extent_bytes, .files = s->files.count };
	int rc;

	if (!s->files.count)
		return 0;
	for (unsigned int i = 0; i < s->files.count; i++)
		setup.blocks_limit[i] = s->files.blocks[i];
	if (getrandom(setup.uuid, sizeof(setup.uuid), 0) != sizeof(setup.uuid))
		return spm_fail(s->err, -EIO, "cannot get random numbers: %m");
	rc = check_leases(s, root);
	if (!rc)
		rc = write_names(s);
	if (!rc)
		rc = spm_swapfiles_stamp(&s->files, s->o->name, setup.uuid, s->err);
	/* last, since a region that has a map needs all the rest */
	if (!rc)
		rc = make_map(s, &setup);
	s->map_made = !rc;
	return rc;
}

/* -- a region that is there already -- */

/* The names as one line, with @between between them. */
static void join_names(char *buf, size_t len, char between)
{
	spm_auto_fclose FILE *f = fopen(SPM_REGION_SWAP, "re");
	size_t n;

	buf[0] = '\0';
	if (!f)
		return;
	n = fread(buf, 1, len - 1, f);
	if (n == len - 1 && n > 3)
		memcpy(buf + n - 3, "...", 3);
	else if (n)
		n--; /* the last line's end */
	buf[n] = '\0';
	for (char *p = buf; (p = strchr(p, '\n'));)
		*p = between;
}

void spm_setup_swap_names(char *buf, size_t len)
{
	join_names(buf + 1, len - 1, ' ');
	buf[0] = buf[1] ? ' ' : '\0';
}

/* Sizes are the map's; what says otherwise is refused rather than passed over. */
static int check_setup(struct spm_setup_swap *s, const struct spm_extmap_setup *x)
{
	struct spm_options *o = s->o;
	uint64_t each = (uint64_t)x->blocks_limit[0] * SPM_SLOT_BLOCK;
	char had[16], given[16], list[96];

	if (!x->files || x->files > SPM_SWAP_FILES)
		return spm_fail(s->err, -EPROTO, "the extent map of the region '%s' is damaged", o->name);
	if (o->swap_bytes && (o->swap_bytes / x->files & ~(uint64_t)(SPM_SLOT_BLOCK - 1)) != each)
		return spm_fail(s->err, -EINVAL, "option swapsize=%s: the region '%s' has swap files of %s; leave it out",
				spm_size_human(o->swap_bytes, given, sizeof(given)), o->name,
				spm_size_human(each * x->files, had, sizeof(had)));
	if (o->given & SPM_GIVEN_EXTENT && o->extent_bytes != x->extent_bytes)
		return spm_fail(s->err, -EINVAL, "option extent=%s: the region '%s' has extents of %s; leave it out",
				spm_size_human(o->extent_bytes, given, sizeof(given)), o->name,
				spm_size_human(x->extent_bytes, had, sizeof(had)));
	/* for whoever reads the options later, in this process or another */
	snprintf(list, sizeof(list), "extent=%u,swapsize=%llu", x->extent_bytes,
		 (unsigned long long)(each * x->files));
	return spm_options_parse(o, list, s->err) ?: spm_options_finish(o, s->err);
}

static int need_files(struct spm_setup_swap *s, const char *why)
{
	char names[240];

	join_names(names, sizeof(names), ':');
	return spm_fail(s->err, -EINVAL, "the region '%s' has data in swap files; mount it with swap=%s%s%s", s->o->name,
			names, why[0] ? ": " : "", why);
}

static int reopen_files(struct spm_setup_swap *s, const struct spm_extmap_setup *x, int host_ns,
			int region_ns)
{
	struct spm_swapfiles_want w = wanted(s->o);
	struct spm_error e = { "" };
	int rc;

	if (spm_enter_mount_ns(host_ns))
		return spm_fail(s->err, -errno, "cannot change the mount namespace: %m");
	w.uuid = x->uuid;
	rc = spm_swapfiles_open(&w, &s->files, &e);
	if (spm_enter_mount_ns(region_ns))
		return spm_fail(s->err, -errno, "cannot change the mount namespace: %m");
	if (rc)
		return need_files(s, e.text);
	if (s->files.count != x->files)
		return need_files(s, "");
	return write_names(s);
}

/* It had no swap so far. */
static int add_swap(struct spm_setup_swap *s, const struct spm_slice *root, int host_ns, int region_ns)
{
	int rc;

	if (!s->o->swap)
		return 0;
	if (!spm_setup_has_pool(s->o) && s->o->extent_bytes < SPM_EXTENT_MAX && root->features.huge)
		return spm_fail(s->err, -EINVAL, "option extent=: the region '%s' has huge pages, and less than 2M cannot "
				"leave one; leave it out", s->o->name);
	if (spm_enter_mount_ns(host_ns))
		return spm_fail(s->err, -errno, "cannot change the mount namespace: %m");
	rc = spm_setup_swap_files(s);
	if (spm_enter_mount_ns(region_ns) && !rc)
		rc = spm_fail(s->err, -errno, "cannot change the mount namespace: %m");
	return rc ? rc : spm_setup_swap_map(s, root);
}

int spm_setup_swap_reopen(struct spm_setup_swap *s, const struct spm_slice *root, int host_ns, int region_ns)
{
	int rc = spm_swap_map_settle();
	spm_auto_close int fd = open(SPM_REGION_EXTENTS, O_RDWR | O_CLOEXEC);
	char pin[128], names[240];
	struct spm_extmap m;

	if (fd < 0 && errno == ENOENT)
		return add_swap(s, root, host_ns, region_ns);
	if (rc == -EPROTONOSUPPORT)
		return spm_fail(s->err, rc, "the region '%s' is of a newer version of spmfs; mount it with that", s->o->name);
	if (!rc)
		rc = fd < 0 ? -errno : spm_extmap_attach(&m, fd);
	spm_mounts_pin_path(s->o->name, pin, sizeof(pin));
	spm_setup_swap_names(names, sizeof(names));
	if (rc)
		return spm_fail(s->err, rc, "the region '%s' cannot be used, its extent map is damaged (%s); give the "
				"memory back with 'umount %s && rm %s%s'", s->o->name, strerror(-rc), pin, pin, names);
	if (!s->o->swap)
		rc = need_files(s, "");
	if (!rc)
		rc = check_setup(s, m.setup);
	if (!rc)
		rc = check_leases(s, root);
	if (!rc)
		rc = reopen_files(s, m.setup, host_ns, region_ns);
	spm_extmap_detach(&m);
	return rc;
}

struct forgetting {
	struct spm_extmap *map; /* NULL: there is none */
	uint16_t slice;
	spm_setup_orphan *also; /* may be NULL */
	void *arg;
};

/* The inode goes, so its slots are free. Without its head no worker will ever look for it. */
static void forget_orphan(void *arg, uint64_t ino)
{
	const struct forgetting *g = arg;
	struct spm_extmap *m = g->map;
	uint32_t file = m ? spm_extmap_find(m, g->slice, ino) : 0;
	struct spm_extent *x;

	if (g->also)
		g->also(g->arg, g->slice, ino);
	if (!file)
		return;
	for (uint64_t at = 0; (at = spm_extmap_next(m, file, at, &x)) != UINT64_MAX; at++)
		spm_extent_set_how(x, 0);
	spm_extmap_forget(m, file);
}

static int clear_all(struct spm_slices *slices, struct forgetting *g)
{
	int rc = 0;

	for (uint32_t id = 0; id < SPM_SLICES_MAX && !rc; id++) {
		struct spm_slice *s = spm_slices_get(slices, (uint16_t)id);

		g->slice = (uint16_t)id;
		if (s)
			rc = spm_slice_orphans_clear(s, forget_orphan, g);
	}
	return rc;
}

/*
 * What a dead worker was reading into a pool goes on for a moment. The mark of such an extent, by which the next worker would wait
 * for that, goes here if it is an orphan's.
 */
static int wait_for_reads(int map_fd)
{
	int rc;

	do
		rc = flock(map_fd, LOCK_EX) ? -errno : 0;
	while (rc == -EINTR);
	return rc;
}

int spm_setup_swap_orphans(struct spm_setup_swap *s, struct spm_slices *slices, spm_setup_orphan *also, void *arg)
{
	spm_auto_close int fd = s->files.count && !s->map_made ? open(SPM_REGION_EXTENTS, O_RDWR | O_CLOEXEC) : -1;
	struct forgetting g = { .also = also, .arg = arg };
	struct spm_extmap m;
	int rc;

	if (fd < 0) {
		rc = clear_all(slices, &g);
	} else {
		rc = spm_setup_has_pool(s->o) ? wait_for_reads(fd) : 0;
		if (!rc)
			rc = spm_extmap_attach(&m, fd);
		if (rc)
			return spm_fail(s->err, rc, "cannot map the extent map: %s", strerror(-rc));
		rc = spm_extmap_scan(&m);
		g.map = &m;
		if (!rc)
			rc = clear_all(slices, &g);
		spm_extmap_detach(&m);
	}
	return !rc ? 0 : spm_fail(s->err, rc, "cannot clear the orphans of the region '%s': %s", s->o->name,
				  strerror(-rc));
}

/* -- the end of it -- */

void spm_setup_swap_hand_over(struct spm_setup_swap *s, int fd[static SPM_FDS], char *note, size_t len)
{
	for (unsigned int i = 0; i < s->files.count; i++) {
		fd[SPM_FD_SWAP + i] = s->files.fd[i];
		fd[SPM_FD_SWAP_DIR + i] = s->files.dir_fd[i];
	}
	spm_swapfiles_note(&s->files, note, len);
}

void spm_setup_swap_undo(struct spm_setup_swap *s, int region_ns)
{
	if (s->map_made && !spm_enter_mount_ns(region_ns)) {
		unlink(SPM_REGION_EXTENTS);
		unlink(SPM_REGION_SWAP);
	}
	spm_swapfiles_undo(&s->files);
	s->map_made = false;
}

void spm_setup_swap_forget(struct spm_setup_swap *s)
{
	spm_swapfiles_close(&s->files);
	s->map_made = false;
}
