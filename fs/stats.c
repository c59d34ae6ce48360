/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"
#include "fs/stats.h"
#include "core/dir.h"
#include "core/extents.h"
#include "fs/attr.h"
#include "fs/content.h"
#include "fs/drain.h"
#include "fs/open.h"
#include "fs/pool.h"
#include "fs/setup-slices.h"
#include "fs/slices.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

struct numbers {
	uint64_t device, limit, used, free, pinned, inodes;
};

/* Open directly, or may still be mapped so. */
static bool is_pinned(const struct spm_inode *rec, const void *arg)
{
	(void)arg;
	return spm_inode_is(rec, SPM_INODE_MAPPED);
}

int spm_stats_pinned(struct spm_fs *fs, uint64_t *bytes, size_t *files)
{
	spm_auto_free uint64_t *ids = NULL;
	size_t count;
	int rc;

	*bytes = 0;
	*files = 0;
	spm_session_blocking();
	rc = spm_itable_collect(&fs->itable, is_pinned, NULL, &ids, &count);
	for (size_t i = 0; i < count; i++) {
		struct spm_inode *rec = spm_itable_get(&fs->itable, ids[i]);
		struct stat st;

		if (rec && !strcmp(spm_open_mode(fs, rec, ids[i]), "direct") && !spm_attr_get(fs, ids[i], &st, NULL)) {
			*bytes += (uint64_t)st.st_blocks * 512;
			*files += st.st_size > 0; /* one without size can be fixed to the device, so that no test tells more */
		}
	}
	return rc;
}

uint64_t spm_stats_resident(struct spm_fs *fs)
{
	uint32_t ids = fs->slices.file ? atomic_load(&fs->slices.file->used) : 0;
	struct spm_pool_stats st;
	struct spm_slice_use u;
	uint64_t used = 0;

	if (fs->pool) {
		spm_pool_stats(fs->pool, &st, false);
		return st.used_bytes; /* also of slices that are leaving */
	}
	for (uint32_t id = 0; id <= ids; id++)
		if (spm_slices_get(&fs->slices, (uint16_t)id) && !spm_slices_use(&fs->slices, (uint16_t)id, &u))
			used += u.used;
	return used;
}

static int gather(struct spm_fs *fs, struct numbers *n)
{
	struct spm_slice_record root;
	struct spm_pool_stats st;
	size_t files;

	n->device = fs->opts->source.bytes;
	n->used = spm_stats_resident(fs);
	n->inodes = fs->itable.live;
	(void)spm_slices_record(&fs->slices, 0, &root);
	n->limit = n->device;
	/* its own tables take a little, and memory errors do */
	if (fs->pool) {
		spm_pool_stats(fs->pool, &st, false);
		n->limit = st.bytes;
	}
	/* without slices the files' limit is the mount's; slices have limits of their own */
	if (!atomic_load(&fs->slices.count) && root.limits.max < n->limit)
		n->limit = root.limits.max;
	n->free = n->limit > n->used ? n->limit - n->used : 0;
	return spm_stats_pinned(fs, &n->pinned, &files);
}

struct metric {
	const char *name;
	bool counter;
	uint64_t value;
	const char *help;
};

#define METRICS_MAX 48

/* The keys are there without swap as well: whoever reads them need not know how it was mounted. */
static size_t swap_metrics(struct spm_fs *fs, struct metric m[static METRICS_MAX])
{
	struct spm_swap_stats st;

	spm_stats_swap(fs, &st);
	const struct metric all[] = {
		{ "swapped_bytes", false, st.swapped_bytes, "file content in swap files" },
		{ "swap_bytes", false, st.swap_bytes, "size of the swap files" },
		{ "swap_used_bytes", false, st.swap_used_bytes, "swap in use" },
		{ "swapout_bytes", true, st.swapout_bytes, "written to swap files" },
		{ "swapin_bytes", true, st.swapin_bytes, "read back from swap files" },
		{ "swap_errors", true, st.swap_errors, "extents that could not be read back" },
		{ "swap_write_errors", true, st.write_errors, "writes to swap files that failed" },
		{ "swap_read_through_bytes", true, st.read_through_bytes, "read from swap files without coming back" },
		{ "swap_stored_bytes", true, st.stored_bytes, "written into swap files without coming back" },
		{ "swap_evicted_hot", true, st.evicted_hot, "extents that came back within a minute of leaving" },
		{ "swap_direct_waits", true, st.direct_waits, "requests that waited until memory was free" },
		{ "swap_refused", true, st.refused, "of these, in vain" },
		{ "swap_reclaim_runs", true, st.reclaim_runs, "times that less than low= was free" },
		{ "swap_map_bytes", false, st.map_bytes, "memory that tells what is where in the swap files" },
		{ "huge_bytes", false, st.huge_bytes, "in huge pages, when compaction last looked" },
		{ "huge_scanned_bytes", false, st.scanned_bytes, "resident bytes that it looked at" },
		{ "compact_collapsed_bytes", true, st.collapsed_bytes, "put into huge pages by compaction" },
		{ "compact_moved_bytes", true, st.moved_bytes, "moved within swap files by compaction" },
	};

	memcpy(m, all, sizeof(all));
	return SPM_ARRAY_SIZE(all);
}

/* The same with these. */
static size_t pool_metrics(struct spm_fs *fs, struct metric m[static METRICS_MAX])
{
	struct spm_pool_stats st = { .bytes = 0 };
	uint64_t run = 0;

	if (fs->pool) {
		spm_pool_stats(fs->pool, &st, false);
		run = spm_pool_free_run(fs->pool);
		st.retired_bytes += st.damaged * spm_pool_extent_bytes(fs->pool);
	}
	const struct metric all[] = {
		{ "bad_bytes", false, st.bad_bytes, "of files in a pool, lost by the device" },
		{ "retired_bytes", false, st.retired_bytes, "of a pool, not used any more since the device has lost it" },
		{ "free_run_bytes", false, run, "of a pool, longest run of free extents" },
		{ "pool_moved_bytes", true, st.moved_bytes, "moved in a pool by compaction" },
	};

	memcpy(m, all, sizeof(all));
	return SPM_ARRAY_SIZE(all);
}

static int metrics(struct spm_fs *fs, struct metric m[static METRICS_MAX], size_t *count)
{
	struct metric swap[METRICS_MAX], pool[METRICS_MAX];
	struct numbers n = { 0 };
	size_t swaps = swap_metrics(fs, swap), pools = pool_metrics(fs, pool);
	int rc = gather(fs, &n);
	const struct metric all[] = {
		{ "device_bytes", false, n.device, "memory of the device" },
		{ "limit_bytes", false, n.limit, "memory that files may use" },
		{ "resident_bytes", false, n.used, "memory of the device in use by files" },
		{ "free_bytes", false, n.free, "memory that is left" },
		{ "pinned_bytes", false, n.pinned, "resident in files that are open or mapped directly" },
		{ "foreign_bytes", false, (uint64_t)atomic_load(&fs->foreign_pages) * 4096u,
		  "region pages on nodes that are not the device's, when last sampled" },
		{ "inodes_known", false, n.inodes, "inodes that the kernel remembers" },
		{ "open_direct", false, (uint64_t)atomic_load(&fs->count.open_direct), "open files, direct" },
		{ "open_mirror", false, (uint64_t)atomic_load(&fs->count.open_mirror), "open files, mirror" },
		{ "mode_held", true, atomic_load(&fs->desks.state->mode_held),
		  "opens that asked for mirror while a mapping held the file direct" },
		{ "claimed_bytes", false, spm_slices_held(&fs->slices), "free memory of the device that is held in reserve" },
		{ "unclaimed_bytes", false, atomic_load(&fs->claim.missing), "memory of the device that others have taken" },
		{ "draining", false, spm_draining(fs), "1 while nothing new is taken and everything is to leave" },
		{ "requests", true, atomic_load(&fs->desks.state->answered), "requests served" },
		{ "wakeups", true, atomic_load(&fs->desks.state->wakeups), "requests that found the server asleep" },
	};

	if (rc)
		return rc;
	memcpy(m, all, sizeof(all));
	memcpy(m + SPM_ARRAY_SIZE(all), swap, swaps * sizeof(*swap));
	memcpy(m + SPM_ARRAY_SIZE(all) + swaps, pool, pools * sizeof(*pool));
	*count = SPM_ARRAY_SIZE(all) + swaps + pools;
	return 0;
}

/* What an owner is told: nothing that depends on others. */
static int slice_stat(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_slice_use u;
	struct spm_slice *s = spm_slices_get(&fs->slices, slice);
	struct statvfs sv;
	int rc = s ? spm_slices_use(&fs->slices, slice, &u) : -ENODEV;

	if (!rc)
		rc = spm_slice_statfs(s, &sv);
	if (rc)
		return rc;
	fprintf(out, "limit_bytes %llu\nmin_bytes %llu\nresident_bytes %llu\nfree_bytes %llu\nswapped_bytes %llu\n",
		(unsigned long long)u.max, (unsigned long long)u.min, (unsigned long long)u.used,
		(unsigned long long)(u.max > u.used ? u.max - u.used : 0),
		(unsigned long long)(spm_slices_swapped(fs, slice)));
	/* without the two directories and the probe file that hold the slice up */
	if (sv.f_files)
		fprintf(out, "inodes %llu\n", (unsigned long long)(sv.f_files - sv.f_ffree > 3 ? sv.f_files - sv.f_ffree - 3 : 0));
	return 0;
}

int spm_stats_stat(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct metric m[METRICS_MAX];
	size_t n;
	int rc;

	if (slice)
		return slice_stat(fs, slice, out);
	rc = metrics(fs, m, &n);

	for (size_t i = 0; !rc && i < n; i++)
		fprintf(out, "%s %llu\n", m[i].name, (unsigned long long)m[i].value);
	return rc;
}

/* https://github.com/prometheus/OpenMetrics, text format 1.0 */
int spm_stats_metrics(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct metric m[METRICS_MAX];
	size_t n;
	int rc = metrics(fs, m, &n);

	(void)slice;
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "# TYPE spmfs_%s %s\n# HELP spmfs_%s %s.\n", m[i].name,
			m[i].counter ? "counter" : "gauge", m[i].name, m[i].help);
		fprintf(out, "spmfs_%s%s{name=\"%s\"} %llu\n", m[i].name, m[i].counter ? "_total" : "",
			fs->opts->name, (unsigned long long)m[i].value);
	}
	fputs("# EOF\n", out);
	return 0;
}

static void put_feature(FILE *out, const char *key, const struct spm_feature *f)
{
	if (f->on)
		fprintf(out, "%s on\n", key);
	else
		fprintf(out, "%s off: %s\n", key, f->why);
}

/* Without one there is no size, and are no slices. */
static void put_quota(struct spm_fs *fs, FILE *out)
{
	char buf[128];
	const char *why = fs->root.project ? NULL : spm_dir_no_quota(fs->root.mount_fd, buf, sizeof(buf));

	if (fs->root.project)
		fprintf(out, "quota project %u\n", fs->root.project);
	else
		fprintf(out, "quota off: %s\n", why ? why : "all of the numbers that spmfs may use are taken");
}

static void put_memory(struct spm_fs *fs, FILE *out)
{
	const struct spm_options *o = fs->opts;

	if (fs->root.fixed) {
		fprintf(out, "dax %s\n", fs->root.features.dax ? "on" : "off: option force: files are mapped from the page cache");
		put_quota(fs, out);
		return;
	}
	fprintf(out, "noswap %s\n", fs->root.features.noswap || fs->pool ? "on" :
		"off: the kernel may swap this memory (noswap needs Linux 6.4 and root)");
	if (fs->pool)
		fputs("huge off: the content of files is in a pool on a dax device\n", out);
	else if (fs->root.features.huge)
		fprintf(out, "huge %s\n", o->huge ? o->huge : "within_size");
	else
		fprintf(out, "huge off: %s\n", o->swap && o->extent_bytes < SPM_EXTENT_MAX ? "option extent= is less than a huge page" :
			"the kernel has no transparent huge pages");
}

int spm_stats_features(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	const struct spm_options *o = fs->opts;
	const struct spm_state *st = fs->desks.state;
	const char *conf, *why = "";
	struct utsname u;
	char path[128];

	(void)slice;
	uname(&u);
	fprintf(out, "source %s\nname %s\nversion %s\n", o->source_text, o->name, PACKAGE_VERSION);
	fprintf(out, "keeper_pid %d\nstandby_pid %d\nworker_pid %d\nworker_restarts %u\n", st->keeper_pid, st->standby_pid, getpid(),
		st->restarts);
	fprintf(out, "direct_supported %d\n", fs->passthrough.on);
	/* a tmpfs on a plain node shares it with whatever else the kernel puts there, and so does the page cache */
	fprintf(out, "isolation %s\n", fs->root.features.dax || fs->pool ? "hard" : fs->slices.claim ? "claimed" : "soft");
	fprintf(out, "content %s\n", fs->pool ? "pool: extents of a dax device, of which files are mirrors" : "files");
	fprintf(out, "drain %s\n", spm_drain_name(spm_drain_state(fs)));
	put_feature(out, "passthrough", &fs->passthrough);
	put_feature(out, "leases", &fs->leases);
	if (fs->init.agreed & SPM_FUSE_ALLOW_IDMAP)
		fputs("idmap on\n", out);
	else
		fprintf(out, "idmap off: %s\n", o->no_idmap ? "option noidmap" : fs->init.offered & SPM_FUSE_ALLOW_IDMAP ?
			"the program that made this mount did not know it; unmount and mount again" :
			"the kernel cannot map owners of FUSE mounts (Linux 6.12 and later)");
	if (fs->nohalt.fd >= 0)
		fputs("nohalt on\n", out);
	else
		fprintf(out, "nohalt off: %s\n", fs->nohalt.why);
	put_memory(fs, out);
	fprintf(out, "map %s\ncommit %s\n", spm_map_name(o->map), o->commit_lazy ? "lazy" : "eager");
	fprintf(out, "writes %s\n", fs->served_writes ? "served" : "plain");
	spm_stats_swap_features(fs, out);
	fprintf(out, "restart on%s\n", st->resend ? "" :
		": but requests in hand when the server dies fail with EIO (to send them again needs Linux 6.9)");
	fprintf(out, "standby %s\n", st->mount.flags & SPM_MOUNT_NO_EXEC ?
		"off: spmfs cannot be run in the mount namespace of process 1: once standby and spare were both killed, "
		"a worker that dies is not followed by another" : "on");
	conf = spm_setup_slices_path(o, path, sizeof(path), &why);
	fprintf(out, "conf %s%s\n", conf ? "" : "off: ", conf ? conf : why);
	fprintf(out, "keep %s\n", o->keep || fs->root.fixed ? "on" : "off: umount gives the memory back");
	if (st->mount.no_recover[0])
		fprintf(out, "recover off: %.*s\n", (int)sizeof(st->mount.no_recover), st->mount.no_recover);
	else
		fputs("recover on\n", out);
	if (o->watchdog)
		fprintf(out, "watchdog %u\n", o->watchdog);
	else
		fprintf(out, "watchdog off: %s\n", o->given & SPM_GIVEN_WATCHDOG ? "option watchdog=0" :
			"the directory's filesystem may be frozen for long; option watchdog=30 switches it on");
	fprintf(out, "libfuse %s\nkernel %s\nprotocol 7.%u\n", fuse_pkgversion(), u.release, fs->init.minor);
	return 0;
}

int spm_stats_current(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_slice_use u;
	int rc = spm_slices_use(&fs->slices, slice, &u);

	if (!rc)
		fprintf(out, "%llu\n", (unsigned long long)u.used);
	return rc;
}

int spm_stats_min(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_slice_use u;
	int rc = spm_slices_use(&fs->slices, slice, &u);

	if (!rc)
		fprintf(out, "%llu\n", (unsigned long long)u.min);
	return rc;
}

int spm_stats_max(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_slice_use u;
	int rc = spm_slices_use(&fs->slices, slice, &u);

	if (!rc && u.max >= fs->slices.device_bytes)
		fputs("max\n", out);
	else if (!rc)
		fprintf(out, "%llu\n", (unsigned long long)u.max);
	return rc;
}

/* The region's own word for what is on the device: users are shown what is in swap files as blocks, too. */
static int residence(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, struct stat *st, uint64_t *huge)
{
	/* of its own, not the cached one: it is closed again before anyone could test the lease */
	spm_auto_close int fd = spm_inode_open(fs, rec, nodeid, O_RDONLY | O_NOATIME);

	*huge = 0;
	if (fd < 0)
		return fd;
	if (fstat(fd, st))
		return -errno;
	if (fs->pool) {
		const struct spm_pool_file f = spm_pooled_file(rec->slice, rec->ino);

		st->st_blocks = (blkcnt_t)(spm_pool_file_bytes(fs->pool, &f) / 512);
		return 0;
	}
	/* to look would read all of it from a disk */
	if (!fs->root.fixed && spm_extents_huge(fd, (uint64_t)st->st_size, huge))
		*huge = 0;
	return 0;
}

int spm_stats_file(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, FILE *out)
{
	uint32_t file = fs->swap ? spm_swap_find(fs->swap, rec->slice, rec->ino) : 0;
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	uint64_t huge, swapped;
	const char *mode;
	struct stat st;
	int rc = spm_attr_get(fs, nodeid, &st, NULL);

	if (rc)
		return rc;
	if (!S_ISREG(st.st_mode))
		return -ENODATA;
	spm_session_blocking();
	mode = spm_open_mode(fs, rec, nodeid);
	/* to count huge pages is to touch pages: one that had just left would be there again, empty */
	if (file)
		rc = spm_swap_pin(fs->swap, file, 0, (uint64_t)st.st_size, SPM_PIN_FILE, &pin);
	if (!rc)
		rc = residence(fs, rec, nodeid, &st, &huge);
	if (rc)
		return rc;
	swapped = file ? spm_swap_bytes_of(fs->swap, file) : 0;
	fprintf(out, "size %llu\nresident_bytes %llu\nswapped_bytes %llu\nhuge_bytes %llu\nmode %s\n",
		(unsigned long long)st.st_size, (unsigned long long)st.st_blocks * 512, (unsigned long long)swapped,
		(unsigned long long)huge, mode);
	return 0;
}
