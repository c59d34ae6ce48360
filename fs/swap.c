/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/swap.h"
#include "core/commit.h"
#include "core/lease.h"
#include "core/region.h"
#include "fs/content.h"
#include "fs/claim.h"
#include "fs/drain.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/pool.h"
#include "fs/slices.h"
#include "fs/swap-map.h"
#include "fs/swap-walk.h"
#include "fs/thread.h"
#include "fs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

#ifndef PR_SET_IO_FLUSHER /* Linux 5.6 */
#define PR_SET_IO_FLUSHER 57
#endif

#define PIECE (UINT64_C(8) << 20) /* what a pin for writing may cover */

/* -- what core cannot know -- */

static struct spm_slice *slice_of(struct spm_fs *fs, uint16_t slice)
{
	return spm_slices_get(&fs->slices, slice);
}

static int op_open(void *ctx, uint16_t slice, const struct spm_handle *h)
{
	struct spm_slice *s = slice_of(ctx, slice);
	spm_auto_close int fd = s ? spm_handle_open(s->mount_fd, h, O_RDWR | O_NOATIME | O_NONBLOCK) : -ESTALE;

	/* see spm_content_fix() */
	if (fd >= 0 && fgetxattr(fd, SPM_XATTR_CAPABILITY, NULL, 0) > 0)
		return -EPERM;
	return spm_steal_fd(&fd);
}

static int op_commit(void *ctx, uint16_t slice, int fd, uint64_t from, uint64_t to)
{
	struct spm_slice *s = slice_of(ctx, slice);

	return s ? spm_content_commit(ctx, s, fd, from, to) : -ESTALE;
}

static int op_bind(void *ctx, uint16_t slice, int fd, uint64_t from, uint64_t to)
{
	struct spm_slice *s = slice_of(ctx, slice);

	return s ? spm_commit_bind(s, fd, from, to) : -ESTALE;
}

static int op_punch(void *ctx, int fd, uint64_t from, uint64_t to)
{
	struct spm_fs *fs = ctx;
	struct stat st = { .st_dev = 0 };
	spm_keep_suid bool keep = spm_fsetid(!fstat(fd, &st) && st.st_mode & (S_ISUID | S_ISGID));

	int rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) ? -errno : 0;

	(void)keep;
	if (fs->slices.claim)
		spm_claim_settle(fs, spm_slices_by_dev(&fs->slices, st.st_dev));
	return rc;
}

static int op_statfs(void *ctx, uint16_t slice, struct statvfs *sv)
{
	struct spm_fs *fs = ctx;

	return spm_slices_statfs(&fs->slices, slice, sv);
}

/* An inode that the kernel does not know is not open; but a mapping from before this mount may have outlived that one. */
static int release_unknown(struct spm_fs *fs, uint32_t file, uint16_t slice, const struct spm_handle *h)
{
	spm_auto_close int fd = op_open(fs, slice, h);
	enum spm_lease l;

	if (fd < 0)
		return fd;
	l = fs->leases.on ? spm_lease_test(fd) : SPM_LEASE_UNKNOWN;
	if (l != SPM_LEASE_FREE)
		return -EBUSY;
	spm_swap_idle(fs->swap, file);
	return 0;
}

static int op_release(void *ctx, uint32_t file, uint16_t slice, uint64_t ino, const struct spm_handle *h)
{
	struct spm_fs *fs = ctx;
	struct spm_inode *rec;
	uint64_t nodeid;
	int rc;

	/*
	 * With this lock an inode that is not in the table now is not opened directly before we are done: it gets there
	 * by a lookup, but the open waits (open_locked in fs/open.c).
	 */
	pthread_mutex_lock(&fs->direct_lock);
	rec = spm_itable_find(&fs->itable, slice, ino, &nodeid);
	rc = rec ? 0 : release_unknown(fs, file, slice, h);
	pthread_mutex_unlock(&fs->direct_lock);
	return rec ? spm_open_release(fs, nodeid, file) : rc;
}

static int op_shared(void *ctx, uint64_t *bytes, uint64_t *free)
{
	struct spm_fs *fs = ctx;

	spm_slices_shared(&fs->slices, bytes, free);
	return 0;
}

static uint64_t op_spare(void *ctx, uint16_t victim, uint16_t slice)
{
	struct spm_fs *fs = ctx;

	return spm_slices_spare(&fs->slices, victim, slice);
}

static int op_grow(void *ctx, uint16_t slice, uint64_t bytes)
{
	struct spm_fs *fs = ctx;

	return spm_slices_grow(&fs->slices, slice, bytes);
}

static uint64_t op_swap_max(void *ctx, uint16_t slice)
{
	struct spm_fs *fs = ctx;
	struct spm_slice_record r;

	return spm_slices_record(&fs->slices, slice, &r) ? spm_slice_swap_max_of(&r.limits) : UINT64_MAX;
}

static uint32_t op_cold(void *ctx, uint16_t slice)
{
	struct spm_slice *s = slice_of(ctx, slice);

	return s ? atomic_load_explicit(&s->cold_s, memory_order_relaxed) : UINT32_MAX;
}

static void op_slow(void *ctx)
{
	(void)ctx;
	spm_session_blocking();
}

static void op_fault(void *ctx, const char *at)
{
	struct spm_fs *fs = ctx;

	if (fs->desks.state->faults_on)
		spm_fault_at(fs->desks.state, at);
}

static int op_io_fault(void *ctx, bool write)
{
	struct spm_fs *fs = ctx;

	return fs->desks.state->faults_on ? spm_fault_at(fs->desks.state, write ? "swapio:write" : "swapio:read") : 0;
}

static void op_damaged(void *ctx, uint16_t slice, uint64_t ino, const struct spm_handle *h, uint64_t offset, const char *why)
{
	static const char then[] = "each read tries again; to give it up, punch a hole there (fallocate -p), or remove the file";
	struct spm_fs *fs = ctx;
	char path[PATH_MAX];

	if (spm_slices_path_of(fs, slice, h, path, sizeof(path)))
		spm_log(SPM_LOG_ERR, "%s: swap error: %s%s cannot be read at offset %llu: %s; %s", fs->opts->mountpoint,
			fs->opts->mountpoint, path, (unsigned long long)offset, why, then);
	else
		spm_log(SPM_LOG_ERR, "%s: swap error: inode %llu (which has no name any more) cannot be read at offset %llu: %s",
			fs->opts->mountpoint, (unsigned long long)spm_slice_ino(slice, ino), (unsigned long long)offset, why);
}

/* The names are what set-up has written down, one a line. */
static void op_file_failed(void *ctx, unsigned int file, const char *what, int error, const char *then)
{
	spm_auto_fclose FILE *names = fopen(SPM_REGION_SWAP, "re");
	spm_auto_free char *line = NULL;
	struct spm_fs *fs = ctx;
	ssize_t n = -1;
	size_t room = 0;

	for (unsigned int i = 0; names && i <= file; i++)
		n = getline(&line, &room, names);
	if (n > 0)
		line[strcspn(line, "\n")] = '\0';
	spm_log(SPM_LOG_ERR, "%s: swap error: %s: %s: %s; %s", fs->opts->mountpoint, n > 0 ? line : "a swap file", what,
		strerror(error), then);
}

/* -- set-up -- */

#define COUNTERS_BYTES (SPM_SWAP_SLICES * sizeof(struct spm_swap_slice_counters))

/* They go on with the next worker, and begin anew with the mount, as the mount's own do. */
static void map_counters(struct spm_fs *fs)
{
	int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (fs->desks.generation > 1 ? 0 : O_TRUNC);
	spm_auto_close int fd = open(SPM_REGION_COUNTS, flags, 0600);
	void *p = MAP_FAILED;

	/* all of it now, or a store there might have no memory */
	if (fd >= 0 && !fallocate(fd, 0, 0, COUNTERS_BYTES))
		p = mmap(NULL, COUNTERS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		spm_log(SPM_LOG_WARNING, "%s: counters of slices begin anew with each worker: %m", fs->opts->mountpoint);
	else
		fs->slice_counters = p;
}

static int open_swap(struct spm_fs *fs)
{
	struct spm_swap_ops ops = { .ctx = fs, .open = op_open, .commit = op_commit, .bind = op_bind, .punch = op_punch, .release = op_release,
					  .statfs = op_statfs, .shared = op_shared, .spare = op_spare, .grow = op_grow,
					  .swap_max = op_swap_max, .cold = op_cold, .slow = op_slow, .fault = op_fault, .io_fault = op_io_fault,
					  .damaged = op_damaged, .file_failed = op_file_failed };
	struct spm_swap_opts o = { .low_pct = fs->opts->low_pct, .high_pct = fs->opts->high_pct,
					 .cold_s = fs->opts->cold_s, .compact_bps = fs->opts->compact_bps,
					 .used_max = UINT64_MAX - atomic_load(&fs->desks.state->swap_max_less) };
	int rc;

	if (fs->pool)
		spm_pooled_swap_ops(fs, &ops);
	/* threads that core makes inherit both. What frees memory must not wait for memory; refused without CAP_SYS_RESOURCE */
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		spm_log(SPM_LOG_DEBUG, "%s: not an IO flusher: %m", fs->opts->mountpoint);
	rc = spm_thread_confine();
	if (rc)
		return rc;
	/* by path: a worker's lock on it must be its own */
	fs->map_fd = spm_swap_map_open(&fs->map_renewed);
	if (fs->map_fd < 0)
		return fs->map_fd;
	map_counters(fs);
	o.slice_counters = fs->slice_counters;
	o.stored_bytes = &fs->desks.state->swap_stored_bytes;
	rc = spm_budget_init(fs);
	if (!rc)
		rc = spm_swap_open(&fs->swap, &o, &ops, &fs->desks.state->swap, fs->map_fd, fs->swap_fd);
	if (!rc && spm_draining(fs))
		spm_swap_drain(fs->swap, true);
	return rc;
}

int spm_content_open(struct spm_fs *fs, const struct spm_worker_args *a)
{
	int rc;

	memcpy(fs->swap_fd, a->swap_fd, sizeof(fs->swap_fd));
	fs->map_fd = -1;
	rc = a->pool_fd >= 0 ? spm_pooled_open(fs, a) : 0;
	if (!rc && fs->opts->swap)
		rc = open_swap(fs);
	return !rc && fs->pool ? spm_pooled_settle(fs) : rc;
}

int spm_content_start(struct spm_fs *fs)
{
	int rc = fs->pool ? spm_pooled_start(fs) : 0;

	if (rc || !fs->swap)
		return rc;
	spm_budget_rebuild(fs);
	/* from here on no older program serves this mount any more */
	rc = fs->map_renewed ? spm_swap_map_commit() : 0;
	if (!rc && fs->map_renewed)
		spm_log(SPM_LOG_INFO, "%s: swap: the extent map of an older version was taken over", fs->opts->mountpoint);
	if (!rc)
		rc = spm_swap_start(fs->swap);
	return rc ? rc : spm_swap_walk_start(fs);
}

void spm_content_stop(struct spm_fs *fs)
{
	if (fs->swap) {
		spm_swap_walk_stop(fs);
		spm_swap_stop(fs->swap);
	}
	if (fs->pool)
		spm_pooled_stop(fs);
}

void spm_content_close(struct spm_fs *fs)
{
	if (fs->swap)
		spm_swap_close(fs->swap);
	if (fs->pool)
		spm_pooled_close(fs);
	spm_budget_destroy(fs);
	if (fs->slice_counters)
		munmap(fs->slice_counters, COUNTERS_BYTES);
	spm_cleanup_close(&fs->map_fd);
	for (size_t i = 0; i < SPM_SWAP_FILES; i++)
		spm_cleanup_close(&fs->swap_fd[i]);
}

/* -- for requests -- */

#define GROWS 256u /* where memory is there, but not what it is asked for with: no inode is left, for example */

bool spm_content_room(struct spm_fs *fs, uint16_t slice, int rc, uint64_t bytes, unsigned int *tries)
{
	if (rc != -ENOSPC && rc != -EDQUOT) /* the latter is what ext4 says of a slice */
		return false;
	if (!spm_slices_grow(&fs->slices, slice, bytes) ||
	    (spm_promise_sweep(fs) && !spm_slices_grow(&fs->slices, slice, bytes)))
		return ++*tries < GROWS;
	if (fs->swap) {
		spm_session_blocking();
		if (!spm_swap_room(fs->swap, slice, bytes, tries))
			return true;
	}
	return spm_orphans_wait(fs, tries);
}

int spm_content_pin(struct spm_fs *fs, const struct spm_inode *rec, uint64_t from, uint64_t to, enum spm_pin_how how,
		    struct spm_pin *pin)
{
	uint32_t file;
	int rc = spm_content_head(fs, rec, &file);

	*pin = SPM_PIN_NONE;
	return rc || !file ? rc : spm_swap_pin(fs->swap, file, from, to, how, pin);
}

int spm_content_show(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, struct stat *st)
{
	spm_auto_fd struct spm_fd own = SPM_FD_NONE;
	uint32_t file = spm_content_find(fs, rec);
	int rc = 0;

	if (!file)
		return 0;
	if (fd < 0) {
		rc = spm_fd_get(fs, rec, nodeid, SPM_FD_PATH, &own);
		fd = own.fd;
	}
	return rc ? rc : spm_swap_stat(fs->swap, file, fd, st);
}

bool spm_content_is_hopeless(struct spm_fs *fs, uint16_t slice, uint64_t len)
{
	struct spm_swap_stats st;
	struct statvfs sv;

	if (!fs->swap || spm_slices_statfs(&fs->slices, slice, &sv))
		return false;
	spm_swap_stats(fs->swap, &st);
	return len + st.reserve_bytes > (uint64_t)sv.f_blocks * sv.f_frsize + st.space_bytes;
}

bool spm_content_go_on(struct spm_fs *fs, uint16_t slice, ssize_t n, uint64_t left, unsigned int *tries)
{
	if (n > 0)
		*tries = 0; /* something came of the last wait */
	return n > 0 || (n < 0 && spm_content_room(fs, slice, (int)n, left, tries));
}

#define STORE_MAX (4 * 4096) /* of more, an extent comes back for it */

bool spm_content_store(struct spm_fs *fs, const struct spm_inode *rec, int fd, const void *buf, size_t size, off_t off)
{
	uint32_t file;

	if (!fs->swap || !size || size > STORE_MAX || size % 4096 || off % 4096 || spm_content_head(fs, rec, &file))
		return false;
	for (size_t done = 0; done < size; done += 4096)
		if (spm_swap_store(fs->swap, file, fd, (const char *)buf + done, (uint64_t)off + done))
			return false;
	return true;
}

ssize_t spm_content_write(struct spm_fs *fs, const struct spm_inode *rec, int fd, const void *buf, size_t size, off_t off)
{
	unsigned int tries = 0;
	size_t done = 0;
	ssize_t n;

	if (spm_content_store(fs, rec, fd, buf, size, off))
		return (ssize_t)size;
	spm_slices_keep_promises(&fs->slices, rec->slice, size);
	/* done in part, it is done again as a whole after a crash: the same bytes at the same place */
	do {
		spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;

		n = spm_content_pin(fs, rec, (uint64_t)off + done, (uint64_t)off + size, SPM_PIN_WRITE, &pin);
		if (n)
			break;
		n = spm_commit_bind(spm_slice_of(fs, rec), fd, (uint64_t)off + done, (uint64_t)off + size);
		if (!n) {
			n = pwrite(fd, (const char *)buf + done, size - done, off + (off_t)done);
			n = n < 0 ? -errno : n;
		}
		if (n > 0)
			done += (size_t)n;
		spm_swap_unpin(&pin);
	} while (done < size && spm_content_go_on(fs, rec->slice, n, size - done, &tries));
	return done ? (ssize_t)done : n;
}

#define COMMITS 8u /* others take what it was given meanwhile */

/* (with swap, who waits for room looks for what is not needed any more: here a move may be under way) */
static bool may_grow(struct spm_fs *fs, uint16_t slice, uint64_t bytes)
{
	return !spm_slices_grow(&fs->slices, slice, bytes) ||
	       (!fs->swap && spm_promise_sweep(fs) && !spm_slices_grow(&fs->slices, slice, bytes));
}

static int commit_claimed(struct spm_fs *fs, struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	int rc = spm_claim_commit(fs, s, fd, from, to);

	return rc == -ENOSPC && !fs->swap && spm_promise_sweep(fs) ? spm_claim_commit(fs, s, fd, from, to) : rc;
}

/* What ext4 says of a slice others say of a filesystem. Where it is not ours, it is an administrator's quota, and said as it is. */
static int commit(struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	int rc = spm_commit_range(s, fd, from, to);

	return rc == -EDQUOT && s->project ? -ENOSPC : rc;
}

static int commit_granted(struct spm_fs *fs, struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	int rc;

	spm_slices_keep_promises(&fs->slices, s->id, to - from);
	rc = commit(s, fd, from, to);
	for (unsigned int i = 0; rc == -ENOSPC && i < COMMITS && may_grow(fs, s->id, to - from); i++)
		rc = commit(s, fd, from, to);
	return rc;
}

int spm_content_commit(struct spm_fs *fs, struct spm_slice *s, int fd, uint64_t from, uint64_t to)
{
	unsigned int turns = 0;
	struct stat st;
	int rc;
	/* fallocate(2) takes them away like a write, and nobody has asked for one */
	spm_keep_suid bool keep = spm_fsetid(!fstat(fd, &st) && st.st_mode & (S_ISUID | S_ISGID));

	(void)keep;
	do
		rc = fs->slices.claim ? commit_claimed(fs, s, fd, from & ~(uint64_t)4095, to) : commit_granted(fs, s, fd, from, to);
	while (rc == -ENOSPC && !fs->swap && spm_orphans_wait(fs, &turns));
	return rc;
}

int spm_content_allocate(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to, uint64_t *reached)
{
	struct spm_slice *s = spm_slice_of(fs, rec);
	unsigned int tries = 0;
	int rc = 0;

	*reached = from;
	if (!fs->swap) {
		rc = spm_content_commit(fs, s, fd, from, to);
		*reached = rc ? from : to;
		return rc;
	}
	while (*reached < to) {
		spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
		/* up to the next multiple, so that an extent is in one piece */
		uint64_t at = *reached, end = (at / PIECE + 1) * PIECE;

		if (end > to)
			end = to;
		rc = spm_content_pin(fs, rec, at, end, SPM_PIN_WRITE, &pin);
		if (rc)
			break;
		rc = spm_content_commit(fs, s, fd, at, end);
		spm_swap_unpin(&pin);
		if (!rc)
			*reached = end;
		if (!spm_content_go_on(fs, rec->slice, rc ? rc : 1, end - at, &tries))
			break;
	}
	return rc;
}

static int load_all(struct spm_fs *fs, const struct spm_inode *rec)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	int rc = spm_content_pin(fs, rec, 0, UINT64_MAX, SPM_PIN_FILE, &pin);

	return rc ? rc : spm_swap_load(&pin, 0, UINT64_MAX);
}

#define FIX_TURNS 8

int spm_content_fix(struct spm_fs *fs, const struct spm_inode *rec, int (*fn)(void *arg), void *arg)
{
	/* behind all content: a pin TRIM for being alone with the file */
	const uint64_t end = INT64_MAX & ~(uint64_t)(SPM_EXTENT_MAX - 1);
	int rc = 0;

	if (spm_draining(fs))
		return -EROFS;
	for (int turn = 0; turn < FIX_TURNS; turn++) {
		spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;

		rc = load_all(fs, rec);
		if (!rc)
			rc = spm_content_pin(fs, rec, end, UINT64_MAX, SPM_PIN_TRIM, &pin);
		if (rc)
			return rc;
		if (!spm_swap_bytes_of(fs->swap, pin.file))
			return fn(arg);
	}
	return -EBUSY;
}

int spm_content_remove(struct spm_fs *fs, struct spm_slice *s, uint64_t ino)
{
	char name[SPM_ORPHAN_NAME_LEN];
	struct stat st;
	int rc;

	spm_slice_orphan_name(ino, name);
	if (fs->content->has(fs, s->id, ino)) {
		/* half a rename leaves a file with another name here: what it holds is not ours to drop */
		if (!fstatat(s->orphans_fd, name, &st, AT_SYMLINK_NOFOLLOW) && st.st_nlink == 1) {
			fs->content->drop(fs, s->id, ino);
			spm_content_fault(fs, "trim:gone");
		}
	}
	if (fs->slices.claim)
		spm_claim_free(fs, s, name);
	rc = spm_slice_orphan_remove(s, ino, false);
	spm_claim_settle(fs, s->id);
	return rc;
}
