/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/slices.h"
#include "core/limits.h"
#include "core/region.h"
#include "fs/claim.h"
#include "fs/drain.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#define PATIENCE_NS INT64_C(500000000)
#define TURNS       16 /* others write, or take what was freed, meanwhile */

/* -- the worker's side -- */

/* A number is not given again while the kernel knows an inode by it. */
static bool is_known(void *ctx, uint16_t id)
{
	struct spm_fs *fs = ctx;

	return spm_itable_count_slice(&fs->itable, id) > 0;
}

struct spm_slice_opts spm_slices_defaults(const struct spm_options *o)
{
	return (struct spm_slice_opts){ .huge = o->huge, .mpol = o->mpol, .mount_flags = o->mount_flags,
					.small_pages = o->swap && o->extent_bytes < SPM_EXTENT_MAX };
}

static void fault(void *ctx, const char *at)
{
	struct spm_fs *fs = ctx;

	if (fs->desks.state && fs->desks.state->faults_on)
		(void)spm_fault_at(fs->desks.state, at);
}

int spm_slices_setup(struct spm_fs *fs)
{
	const struct spm_options *o = fs->opts;
	const struct spm_slice_opts defaults = spm_slices_defaults(o);
	int rc, nowhere = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (nowhere < 0)
		return -errno;
	fs->gone = (struct spm_slice){ .id = UINT16_MAX, .mount_fd = nowhere, .data_fd = nowhere, .orphans_fd = nowhere,
				       .map = UINT32_MAX, .cold_s = UINT32_MAX };
	rc = spm_slices_open(&fs->slices, &fs->root, o->source.bytes, &defaults, fs->root.bind);
	fs->slices.is_known = is_known;
	fs->slices.fault = fault;
	fs->slices.ctx = fs;
	if (fs->slices.file)
		fs->served_writes = true;
	return rc ? rc : spm_claim_setup(fs);
}

/* The number is another's only when no slot is this one's. */
static void forget_slice(struct spm_fs *fs, uint16_t id)
{
	int rc = fs->swap ? spm_swap_slice_gone(fs->swap, id) : 0;

	if (fs->pool)
		spm_pool_remove_slice(fs->pool, id);
	fault(fs, "slice:emptied");
	if (rc)
		spm_log(SPM_LOG_ERR, "slice %u: not all of its slots are free: %s", id, strerror(-rc));
	else
		spm_slices_remove_done(&fs->slices, id);
}

void spm_slices_finish(struct spm_fs *fs)
{
	for (uint16_t id = 0; (id = spm_slices_removed(&fs->slices, id + 1));)
		forget_slice(fs, id);
}

void spm_slices_teardown(struct spm_fs *fs)
{
	spm_claim_teardown(fs);
	spm_slices_close(&fs->slices);
	if (fs->gone.mount_fd > 0)
		close(fs->gone.mount_fd);
}

size_t spm_slices_top(uint16_t slice, char *path, size_t size)
{
	int n = slice ? snprintf(path, size, SPM_REGION_SLICE_DIR "/%u/" SPM_SLICE_DATA, slice) :
			snprintf(path, size, SPM_REGION_DIR "/" SPM_SLICE_DATA);

	return (size_t)n;
}

bool spm_slices_user_path(struct spm_fs *fs, uint16_t slice, char *path, size_t size)
{
	struct spm_slice_record r;
	char top[64], below[PATH_MAX];
	size_t n = spm_slices_top(slice, top, sizeof(top));

	if (strncmp(path, top, n) || (path[n] && path[n] != '/') || !spm_slices_record(&fs->slices, slice, &r))
		return false;
	snprintf(below, sizeof(below), "%s", path + n);
	snprintf(path, size, "%s%s%s", slice ? "/" : "", r.name, below);
	return true;
}

bool spm_slices_path_of(struct spm_fs *fs, uint16_t slice, const struct spm_handle *h, char *path, size_t size)
{
	struct spm_slice *s = spm_slices_get(&fs->slices, slice);
	spm_auto_close int fd = s ? spm_handle_open(s->mount_fd, h, O_PATH) : -ESTALE;
	char link[64];
	ssize_t n = -1;

	if (fd >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, path, size - 1);
	}
	path[n > 0 ? n : 0] = '\0';
	return n > 0 && spm_slices_user_path(fs, slice, path, size);
}

/* -- limits -- */

/* Something has to leave first: the slice's own above its new max, or anybody's for its new min. */
static int make_way(struct spm_fs *fs, uint16_t id, const struct spm_slice_limits *l, int rc, unsigned int *tries)
{
	struct spm_slice_use u;

	if (!fs->swap || spm_slices_use(&fs->slices, id, &u))
		return rc;
	spm_session_blocking();
	if (rc == -EBUSY && u.used > spm_slice_max_of(l))
		return spm_swap_reclaim(fs->swap, id, u.used - spm_slice_max_of(l)) ? 0 : rc;
	if (rc == -ENOSPC && l->min > u.grant)
		return spm_swap_room(fs->swap, id, l->min - u.grant, tries);
	return rc;
}

int spm_slices_limit(struct spm_fs *fs, uint16_t id, const struct spm_slice_limits *l)
{
	unsigned int tries = 0;
	int rc = spm_slices_set(&fs->slices, id, l);

	if (rc == -ENOSPC && spm_promise_sweep(fs))
		rc = spm_slices_set(&fs->slices, id, l);
	for (int i = 0; (rc == -EBUSY || rc == -ENOSPC) && i < TURNS; i++) {
		int failed = rc;

		rc = make_way(fs, id, l, rc, &tries);
		if (rc)
			return failed;
		rc = spm_slices_set(&fs->slices, id, l);
	}
	if (!rc && fs->swap)
		spm_swap_slice_changed(fs->swap, id);
	return rc;
}

/* -- removal -- */

static bool is_of(const struct spm_inode *rec, const void *slice)
{
	return rec->slice == *(const uint16_t *)slice;
}

/* Lets go of all that the server itself has open of an inode. -EBUSY: a client has it open, or maps it. */
static int leave(struct spm_fs *fs, uint64_t nodeid)
{
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);
	pthread_mutex_t *lock;
	bool busy;

	if (!rec)
		return 0;
	spm_open_recheck_mapped(fs, nodeid);
	lock = spm_lock_inode(fs, nodeid);
	busy = rec->open_plain || rec->open_served || rec->open_mirror || spm_inode_is(rec, SPM_INODE_MAPPED);
	if (!busy) {
		spm_open_close_backing(fs, rec);
		spm_fd_drop(&fs->fds, nodeid);
		spm_budget_drop(fs, nodeid);
		spm_promise_drop(fs, nodeid);
	}
	pthread_mutex_unlock(lock);
	return busy ? -EBUSY : 0;
}

static int leave_all(struct spm_fs *fs, uint16_t slice)
{
	spm_auto_free uint64_t *ids = NULL;
	size_t count;
	int rc = spm_itable_collect(&fs->itable, is_of, &slice, &ids, &count);

	for (size_t i = 0; i < count && !rc; i++)
		rc = leave(fs, ids[i]);
	return rc;
}

/* -- commands -- */

static void tell_kernel(struct spm_fs *fs, const char *name)
{
	(void)fuse_lowlevel_notify_inval_entry(fs->se, FUSE_ROOT_ID, name, strlen(name));
	/* also for whoever writes the command: his kernel does not know that it changed the directory */
	spm_fresh_void(fs, FUSE_ROOT_ID);
}

/* Nobody has it open but swap. What was in slots goes after the rest, and before its number can be another's. */
static int end_slice(struct spm_fs *fs, uint16_t id, bool force)
{
	int rc = fs->swap ? spm_swap_slice_hold(fs->swap, id) : 0;

	if (rc) {
		spm_slices_remove_not(&fs->slices, id);
		return rc;
	}
	rc = spm_slices_remove_end(&fs->slices, id, force);
	/* first: who waits for the end of this may have a file of it pinned, and is told that it is stale */
	if (fs->swap)
		spm_swap_slice_let_go(fs->swap, id);
	if (!rc)
		forget_slice(fs, id);
	return rc;
}

static int remove_now(struct spm_fs *fs, const char *name, bool force)
{
	uint16_t id;
	int rc = spm_slices_remove_begin(&fs->slices, name, force, &id);

	if (rc)
		return rc;
	/* one that is refused does nothing to what clients have in their hands: not yet a word to the kernel */
	rc = leave_all(fs, id);
	if (rc) {
		spm_slices_remove_not(&fs->slices, id);
		return rc;
	}
	tell_kernel(fs, name);
	/* until then names in it could still be used without a look at the top */
	rc = leave_all(fs, id);
	if (rc)
		spm_slices_remove_not(&fs->slices, id);
	else
		rc = end_slice(fs, id, force);
	tell_kernel(fs, name);
	return rc;
}

static int create_now(struct spm_fs *fs, const char *name, const struct spm_slice_limits *l, bool again)
{
	uint16_t id;
	int rc = spm_slices_create(&fs->slices, name, l, again, &id);

	if (rc)
		return rc;
	/* what is written behind the server's back cannot ask for more, nor can a fault */
	fs->served_writes = true;
	rc = spm_promise_start(fs);
	if (!rc)
		rc = spm_slices_limit(fs, id, l);
	if (rc) /* nobody has seen it yet */
		(void)remove_now(fs, name, true);
	else
		tell_kernel(fs, name);
	return rc;
}

/* Its number; 0: there is none of that name. */
static uint16_t number_of(struct spm_fs *fs, const char *name)
{
	const struct spm_slice *s = spm_slices_find(&fs->slices, name);

	return s ? s->id : 0;
}

/* Owner and mode are the directory's own, whoever has changed them. */
static void show_owner(struct spm_fs *fs, struct spm_slice_record *r)
{
	const struct spm_slice *s = spm_slices_get(&fs->slices, r->id);
	struct stat st;

	if (!s || atomic_load(&s->away) || fstat(s->data_fd, &st))
		return;
	r->limits.uid = st.st_uid;
	r->limits.gid = st.st_gid;
	r->limits.mode = st.st_mode & 07777;
}

static int chown_now(struct spm_fs *fs, uint16_t id, const struct spm_slice_limits *l)
{
	const struct spm_slice *s = spm_slices_get(&fs->slices, id);
	uint64_t nodeid;
	/* also in a group that is not the server's */
	spm_keep_suid bool sgid = spm_fsetid(l->mode & (S_ISUID | S_ISGID));
	int rc = spm_slices_chown(&fs->slices, id, l);

	(void)sgid;
	if (!rc && s && spm_itable_find(&fs->itable, id, s->top, &nodeid))
		spm_fresh_void(fs, nodeid);
	return rc;
}

static int words(struct spm_fs *fs, struct spm_slice_limits *l, const char *text, unsigned int *given)
{
	spm_auto_free char *copy = strdup(text);
	struct spm_error e = { "" };
	int rc = copy ? spm_limits_words(l, copy, given, &e) : -ENOMEM;

	if (!rc && *given & 1u << SPM_LIMIT_SWAP_MAX && l->swap_max != SPM_SLICE_NONE && !fs->swap)
		rc = -EOPNOTSUPP;
	return rc;
}

static int set_now(struct spm_fs *fs, const char *name, const char *text)
{
	const unsigned int owner = 1u << SPM_LIMIT_UID | 1u << SPM_LIMIT_GID | 1u << SPM_LIMIT_MODE;
	struct spm_slice_record r;
	unsigned int given;
	uint16_t id;
	int rc;

	do { /* again, if another one has changed it meanwhile */
		id = number_of(fs, name);
		if (!id || !spm_slices_record(&fs->slices, id, &r))
			return -ENOENT;
		show_owner(fs, &r);
		rc = words(fs, &r.limits, text, &given);
		if (!rc)
			rc = spm_slices_limit(fs, id, &r.limits);
	} while (rc == -EAGAIN);
	return !rc && given & owner ? chown_now(fs, id, &r.limits) : rc;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static int do_verb(struct spm_fs *fs, const char *verb, const char *name, const char *text, bool again, uint64_t was)
{
	struct spm_slice_limits l;
	unsigned int given;
	int rc;

	if (!strcmp(verb, "set"))
		return set_now(fs, name, text);
	if (!strcmp(verb, "remove")) {
		if (*text && strcmp(text, "force"))
			return -EINVAL;
		return again && was && number_of(fs, name) != was ? 0 : remove_now(fs, name, *text);
	}
	if (strcmp(verb, "create"))
		return -EINVAL;
	if (spm_draining(fs) && !again)
		return -EROFS;
	spm_limits_init(&l);
	rc = words(fs, &l, text, &given);
	return rc ? rc : create_now(fs, name, &l, again && !was);
}

static int command(struct spm_fs *fs, char *copy)
{
	static const struct timespec pause = { .tv_nsec = PATIENCE_NS / 20 };
	char *save = NULL, *verb = strtok_r(copy, " ", &save), *name = verb ? strtok_r(NULL, " ", &save) : NULL;
	int64_t until = now_ns() + PATIENCE_NS;
	bool again;
	uint64_t was;
	int rc;

	if (!name || !spm_slice_name_ok(name))
		return -EINVAL;
	/* what there was before says whether a dead worker came to the effect */
	again = spm_again(&was, NULL);
	if (!again)
		was = number_of(fs, name);
	spm_begin(was, 0, 0);
	spm_session_blocking();
	/* The kernel tells a moment later that a file is closed, or removed: who has done that and goes on is not refused for it.
	 * When it comes again it has waited: a request that is in hand at two deaths is taken for their cause. */
	while ((rc = do_verb(fs, verb, name, save, again, was)) == -EBUSY || rc == -ENOSPC) {
		/* (between two tries to make it, another one could make a slice of that name) */
		if (again || now_ns() > until || !strcmp(verb, "create"))
			break;
		nanosleep(&pause, NULL);
	}
	return rc;
}

int spm_slices_command(struct spm_fs *fs, const char *text)
{
	spm_auto_free char *copy = strdup(text);
	int rc = copy ? command(fs, copy) : -ENOMEM;

	fault(fs, "slice:done");
	return rc;
}

/* -- the list -- */

static void put_size(FILE *out, const char *key, uint64_t bytes)
{
	if (bytes == SPM_SLICE_NONE)
		fprintf(out, " %s=max", key);
	else
		fprintf(out, " %s=%llu", key, (unsigned long long)bytes);
}

static void put_slice(struct spm_fs *fs, const struct spm_slice_record *r, const struct spm_slice_use *u, FILE *out)
{
	char text[SPM_LIMIT_TEXT];

	fprintf(out, "%s id=%u current=%llu grant=%llu swap.current=%llu", r->name, r->id, (unsigned long long)u->used,
		(unsigned long long)u->grant, (unsigned long long)(spm_slices_swapped(fs, r->id)));
	put_size(out, "own.max", r->limits.own_max);
	put_size(out, "own.swap.max", r->limits.own_swap_max);
	for (int k = 0; k < SPM_LIMITS; k++)
		fprintf(out, " %s=%s", spm_limit_key((enum spm_limit)k), spm_limit_text(&r->limits, (enum spm_limit)k, text));
	fputc('\n', out);
}

int spm_slices_list(struct spm_fs *fs, FILE *out)
{
	uint32_t used = fs->slices.file ? atomic_load(&fs->slices.file->used) : 0;

	for (uint16_t id = 1; id <= used; id++) {
		struct spm_slice_record r;
		struct spm_slice_use u;

		if (spm_slices_get(&fs->slices, id) && spm_slices_record(&fs->slices, id, &r) && !spm_slices_use(&fs->slices, id, &u)) {
			show_owner(fs, &r);
			put_slice(fs, &r, &u, out);
		}
	}
	return 0;
}
