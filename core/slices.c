/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/slices-local.h"
#include "core/limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>

#define UMOUNT_TRIES 100 /* of 10 ms: a move or a request may be at a file of it just now */

static int slice_path(uint16_t id, char *path, size_t len)
{
	return snprintf(path, len, SPM_REGION_SLICE_DIR "/%u", id);
}

/* Where the directory that holds a slice's place is made, among the root slice's orphans: it gets its name when it is known. */
static void place_name(uint16_t id, char name[static 64])
{
	snprintf(name, 64, "slice.%u", id);
}

/* -- a slice's filesystem -- */

/* A removal that was about to be refused, or went on no further, has made it so. */
static int make_writable(const char *path, bool writable)
{
	return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (writable ? 0 : MS_RDONLY), NULL) ? -errno : 0;
}

/* For those who take no lock. */
static void show_limits(struct spm_slice *s, const struct spm_slice_limits *l)
{
	atomic_store(&s->map, l->map);
	atomic_store(&s->cold_s, l->cold_s);
	atomic_store(&s->min, l->min);
	atomic_store(&s->pin_max, l->pin_max);
}

static int open_at(struct spm_slices *t, const struct spm_slice_record *r, struct spm_slice *s, struct statvfs *sv)
{
	char path[64];
	int rc;

	slice_path(r->id, path, sizeof(path));
	rc = spm_slices_in_dir(t) ? spm_slices_dir_mount(r->id, path) : 0;
	if (!rc)
		rc = spm_slice_open_bare(path, s);
	if (rc)
		return rc;
	rc = spm_slice_statfs(s, sv);
	if (!rc && sv->f_flag & ST_RDONLY)
		rc = make_writable(path, true);
	if (!rc && r->limits.nodes[0])
		rc = spm_nodes_parse(r->limits.nodes, &s->own_nodes);
	if (rc)
		spm_slice_close(s);
	return rc;
}

static int open_slice(struct spm_slices *t, const struct spm_slice_record *r)
{
	struct spm_slice *s = t->spare ? t->spare : malloc(sizeof(*s));
	struct spm_slice *next = t->spare ? t->spare->next_dead : NULL;
	struct statvfs sv;
	int rc;

	if (!s)
		return -ENOMEM;
	t->spare = next;
	rc = open_at(t, r, s, &sv);
	if (rc) {
		s->next_dead = t->spare;
		t->spare = s;
		return rc;
	}
	s->id = r->id;
	s->place = r->place;
	s->top = r->top;
	s->bind = r->limits.nodes[0] ? &s->own_nodes : t->nodes;
	s->own_budget = (struct spm_node_budget){ 0 };
	s->budget = r->limits.nodes[0] ? &s->own_budget : t->budget;
	show_limits(s, &r->limits);
	s->grant = (uint64_t)sv.f_blocks * sv.f_frsize;
	s->rested = 0;
	t->granted += s->grant;
	t->count++;
	spm_slices_pool_say(t, r->id, &r->limits);
	spm_slices_show(t, s);
	atomic_store_explicit(&t->by_id[r->id], s, memory_order_release);
	return 0;
}

/* It cannot be reached, but what its filesystem may take is taken. */
static void count_lost(struct spm_slices *t, uint16_t id)
{
	struct stat above, st;
	struct statvfs sv;
	char path[64];

	slice_path(id, path, sizeof(path));
	/* (in a directory, what it has is counted with what others have) */
	if (spm_slices_in_dir(t) || stat(path, &st) || stat(SPM_REGION_SLICE_DIR, &above) || st.st_dev == above.st_dev ||
	    statvfs(path, &sv))
		return;
	t->granted += (uint64_t)sv.f_blocks * sv.f_frsize;
	t->lost += (uint64_t)sv.f_blocks * sv.f_frsize;
}

/* Nobody holds its lock or a pointer into it for long, but somebody may have read the number of a descriptor of it: what
 * that leads to must not be another slice's, so the numbers stay taken for a while. */
static void bury(struct spm_slices *t, struct spm_slice *s)
{
	int nowhere = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int *fds[] = { &s->mount_fd, &s->data_fd, &s->orphans_fd };
	struct spm_slice **end = &t->dead;

	for (size_t i = 0; nowhere >= 0 && i < SPM_ARRAY_SIZE(fds); i++)
		(void)dup3(nowhere, *fds[i], O_CLOEXEC);
	spm_cleanup_close(&nowhere);
	spm_slices_hide(t, s);
	spm_slices_pool_say(t, s->id, NULL);
	t->granted -= s->grant;
	spm_slices_dir_going(t, s->id);
	t->count--;
	s->next_dead = NULL;
	while (*end)
		end = &(*end)->next_dead;
	*end = s;
	if (++t->dead_count <= SPM_SLICES_RESTING)
		return;
	s = t->dead;
	t->dead = s->next_dead;
	t->dead_count--;
	spm_slice_close(s);
	s->next_dead = t->spare;
	t->spare = s;
}

/* What a removal, or the taking back of a creation, has to do once nothing of it is open. */
static int take_apart(struct spm_slices *t, const struct spm_slice_record *r)
{
	struct spm_slice *root = spm_slices_get(t, 0);
	struct stat st;
	char path[64];
	int rc;

	slice_path(r->id, path, sizeof(path));
	if (umount2(path, UMOUNT_NOFOLLOW) && errno != EINVAL && errno != ENOENT)
		return -errno;
	(void)rmdir(path);
	/* (one that was LIVE goes later, see spm_slices_remove_done()) */
	rc = r->state == SPM_SLICE_MAKING && spm_slices_in_dir(t) ? spm_slices_dir_remove(root, r->id) : 0;
	if (rc)
		return rc;
	place_name(r->id, path);
	(void)unlinkat(root->orphans_fd, path, AT_REMOVEDIR);
	if (r->place && !fstatat(root->data_fd, r->name, &st, AT_SYMLINK_NOFOLLOW) && st.st_ino == r->place)
		(void)unlinkat(root->data_fd, r->name, AT_REMOVEDIR);
	return spm_slices_in_dir(t) ? spm_slices_dir_sync(root) : 0;
}

/* One that was shown may have something in swap, or in a pool: GONE. */
static int free_entry(struct spm_slices *t, uint16_t id, enum spm_slice_state then)
{
	int rc = take_apart(t, spm_slices_raw(t, id));

	if (!rc)
		spm_slices_commit_state(t, id, then);
	return rc;
}

/* -- opening -- */

static bool is_blank(const struct spm_slice_record *r)
{
	return !r->check && !r->id && !r->seq && !r->name[0];
}

static bool is_whole(const struct spm_slice_record *r, uint16_t id)
{
	return r->check == spm_slice_check(r) && r->id == id && r->state <= SPM_SLICE_GONE && !r->name[SPM_SLICE_NAME_MAX] &&
	       (r->state == SPM_SLICE_FREE || spm_slice_name_ok(r->name)) &&
	       !r->limits.nodes[sizeof(r->limits.nodes) - 1] && !r->limits.huge[sizeof(r->limits.huge) - 1];
}

/* The later one of the copies that are whole: a worker may have died over the other one. */
static bool settle_entry(struct spm_slices *t, uint16_t id)
{
	struct spm_slices_entry *e = &t->file->entry[id];
	uint32_t which = atomic_load(&e->which) & 1;
	const struct spm_slice_record *named = &e->copy[which], *other = &e->copy[which ^ 1];
	bool use_named = is_whole(named, id), use_other = is_whole(other, id);

	if (!use_named && !use_other)
		return is_blank(named) && is_blank(other);
	if (use_other && (!use_named || other->seq > named->seq))
		which ^= 1;
	atomic_store(&e->which, which);
	if (!use_named && !is_blank(named)) {
		struct spm_slice_record r = *other;

		spm_log(SPM_LOG_ERR, "slice '%s': its record is damaged; the one before it is used: check its limits", r.name);
		spm_slices_commit(t, &r);
	}
	return true;
}

static void open_entry(struct spm_slices *t, uint16_t id)
{
	const struct spm_slice_record *r;
	int rc;

	if (!settle_entry(t, id)) {
		count_lost(t, id);
		spm_log(SPM_LOG_ERR, "slice %u: its record is damaged: it cannot be reached, and its memory is free when the mount has "
			"ended without keep", id);
		return;
	}
	r = spm_slices_raw(t, id);
	if (r->state == SPM_SLICE_FREE || r->state == SPM_SLICE_GONE)
		return;
	rc = r->state == SPM_SLICE_LIVE ? open_slice(t, r) : free_entry(t, id, SPM_SLICE_GONE);
	if (rc == -EBUSY) { /* the removal was about to be refused */
		spm_slices_commit_state(t, id, SPM_SLICE_LIVE);
		r = spm_slices_raw(t, id);
		rc = open_slice(t, r);
	}
	if (!rc)
		return;
	count_lost(t, id);
	spm_log(SPM_LOG_ERR, "slice '%s': cannot be %s: %s", r->name, r->state == SPM_SLICE_LIVE ? "opened" : "removed",
		strerror(-rc));
}

/* A worker may have died after a grant had changed for a new limit, and before that was written down. */
static void settle_grant(struct spm_slices *t, uint16_t id)
{
	struct spm_slice_use u;
	int rc = spm_slices_get(t, id) ? spm_slices_use(t, id, &u) : -ENOENT;

	if (!rc && u.grant > u.max && u.used <= u.max) {
		(void)!spm_grants_set(t, id, u.max, u.max);
		return;
	}
	if (rc || u.grant >= u.min)
		return;
	rc = spm_grants_set(t, id, u.min, u.max);
	if (rc)
		spm_log(SPM_LOG_ERR, "slice '%s': cannot have all of its min again: %s; set a min that is free", spm_slices_raw(t, id)->name,
			strerror(-rc));
}

/* What the file says of itself is not taken for granted. @fd is the file. */
static int open_entries(struct spm_slices *t, int fd)
{
	struct spm_slices_file *f = t->file;
	uint64_t entries = 0;
	uint32_t whole = 0;
	uint16_t used;
	off_t at = 0, end = 0;

	while ((at = lseek(fd, end, SEEK_DATA)) >= 0 && (end = lseek(fd, at, SEEK_HOLE)) > at)
		entries = ((uint64_t)end - offsetof(struct spm_slices_file, entry)) / sizeof(f->entry[0]);
	used = (uint16_t)(entries < SPM_SLICES_MAX ? entries : SPM_SLICES_MAX - 1);
	for (uint16_t id = 1; id <= used; id++)
		whole += is_whole(&f->entry[id].copy[0], id) || is_whole(&f->entry[id].copy[1], id);
	if (!spm_slices_settle_head(t) && !whole)
		return -EPROTO;
	atomic_store(&f->used, used);
	for (uint16_t id = 1; id <= used; id++)
		open_entry(t, id);
	if (spm_slices_in_dir(t))
		spm_slices_dir_share(t);
	return 0;
}

void spm_slices_settle(struct spm_slices *t)
{
	uint16_t used = t->pool ? 0 : spm_slices_last(t);

	if (t->pool)
		spm_slices_pool_settle(t);
	(void)spm_slices_reclaim(t, SPM_SLICES_MAX);
	for (uint16_t id = 1; id <= used; id++)
		settle_grant(t, id);
}

int spm_slices_open(struct spm_slices *t, struct spm_slice *root, uint64_t device_bytes, const struct spm_slice_opts *defaults,
		    const struct spm_nodes *nodes)
{
	spm_auto_close int fd = open(SPM_REGION_SLICES, O_RDWR | O_CLOEXEC);
	struct statvfs sv;
	struct stat st;
	int rc = spm_slice_statfs(root, &sv);

	if (rc)
		return rc;
	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	t->device_bytes = device_bytes;
	t->defaults = *defaults;
	t->nodes = nodes;
	t->budget = root->budget;
	root->grant = (uint64_t)sv.f_blocks * sv.f_frsize;
	t->granted = root->grant;
	atomic_store(&t->by_id[0], root);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st))
		return -errno;
	if (st.st_size != sizeof(*t->file))
		return -EPROTO;
	rc = spm_slices_map(t, fd);
	return rc ? rc : open_entries(t, fd);
}

static void free_chain(struct spm_slice *s)
{
	struct spm_slice *next;

	for (; s; s = next) {
		next = s->next_dead;
		spm_slice_close(s);
		free(s);
	}
}

void spm_slices_close(struct spm_slices *t)
{
	struct spm_slice *s;

	for (unsigned int id = 1; id < SPM_SLICES_MAX; id++) {
		s = atomic_exchange(&t->by_id[id], NULL);
		if (s)
			spm_slice_close(s);
		free(s);
	}
	free_chain(t->dead);
	free_chain(t->spare);
	t->dead = t->spare = NULL;
	if (t->file)
		munmap(t->file, sizeof(*t->file));
	t->file = NULL;
}

/* -- finding -- */

static bool is_live(struct spm_slices *t, uint16_t id)
{
	return spm_slices_get(t, id) && spm_slices_raw(t, id)->state == SPM_SLICE_LIVE;
}

static uint16_t id_of(struct spm_slices *t, const char *name)
{
	uint16_t used = spm_slices_last(t);

	for (uint16_t id = 1; id <= used; id++)
		if (is_live(t, id) && !strcmp(spm_slices_raw(t, id)->name, name))
			return id;
	return 0;
}

struct spm_slice *spm_slices_find(struct spm_slices *t, const char *name)
{
	uint16_t id;

	pthread_mutex_lock(&t->lock);
	id = id_of(t, name);
	pthread_mutex_unlock(&t->lock);
	return id ? spm_slices_get(t, id) : NULL;
}

bool spm_slices_record(struct spm_slices *t, uint16_t id, struct spm_slice_record *out)
{
	bool live;

	if (!id) {
		*out = (struct spm_slice_record){ .state = SPM_SLICE_LIVE, .limits = {
			.max = spm_grants_root_max(t, spm_slices_get(t, 0)->grant), .swap_max = SPM_SLICE_NONE,
			.pin_max = SPM_SLICE_NONE, .own_max = SPM_SLICE_NONE, .own_swap_max = SPM_SLICE_NONE,
			.cold_s = UINT32_MAX, .map = UINT32_MAX } };
		return true;
	}
	pthread_mutex_lock(&t->lock);
	live = id < SPM_SLICES_MAX && t->file && is_live(t, id);
	if (live) {
		*out = *spm_slices_raw(t, id);
		out->limits.seq = out->seq;
	}
	pthread_mutex_unlock(&t->lock);
	return live;
}

/* -- making -- */

static int check_limits(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l)
{
	struct spm_nodes nodes;

	if (l->min > l->max || l->min > t->device_bytes || (l->max != SPM_SLICE_NONE && l->max < spm_slices_least(t)))
		return -ERANGE;
	if (spm_slices_in_dir(t) && (l->nodes[0] || l->huge[0]))
		return -EOPNOTSUPP;
	if ((t->pool && spm_limits_not_in_pool(l)) || (l->nodes[0] && spm_nodes_parse(l->nodes, &nodes)))
		return -EINVAL;
	if (l->nodes[0] && t->claim) /* what is held is of all nodes, and given out as it comes */
		return -EOPNOTSUPP;
	for (int n = 0; l->nodes[0] && t->nodes && n < SPM_NUMA_MAX; n++)
		if (spm_nodes_test(&nodes, n) && !spm_nodes_test(t->nodes, n))
			return -EINVAL;
	return spm_grants_min_fits(t, id, l->min) ? 0 : -ENOSPC;
}

static uint16_t free_id(struct spm_slices *t)
{
	uint32_t next = atomic_load(&t->file->next);

	for (uint32_t i = 0; i < SPM_SLICES_MAX; i++, next++) {
		uint16_t id = (uint16_t)(next % SPM_SLICES_MAX);
		const struct spm_slice_record *r = spm_slices_raw(t, id);

		/* (a damaged one may have files) */
		if (!id || spm_slices_get(t, id) || (!is_blank(r) && (!is_whole(r, id) || r->state != SPM_SLICE_FREE)))
			continue;
		if (!is_blank(r) && t->is_known && t->is_known(t->ctx, id))
			continue;
		if (spm_slices_in_dir(t) && !spm_slices_dir_is_free(spm_slices_get(t, 0), id))
			continue;
		atomic_store(&t->file->next, (id + 1u) % SPM_SLICES_MAX);
		if (id > atomic_load(&t->file->used))
			atomic_store(&t->file->used, id);
		return id;
	}
	return 0;
}

/* A tmpfs without a limit cannot be given one later. */
static uint64_t inodes_of(const struct spm_slice_limits *l)
{
	return l->inodes ? l->inodes : SPM_SLICE_INODES_MAX;
}

static int mount_slice(struct spm_slices *t, struct spm_slice_record *r)
{
	struct spm_slice *root = spm_slices_get(t, 0);
	struct spm_slice_opts o = t->defaults;
	struct spm_slice made;
	char path[64], mpol[160];
	struct stat st;
	int rc;

	slice_path(r->id, path, sizeof(path));
	o.size_bytes = t->pool ? root->grant : SPM_SLICE_FLOOR;
	o.nr_inodes = inodes_of(&r->limits);
	o.nr_inodes_set = true;
	o.mode = r->limits.mode;
	o.uid = r->limits.uid;
	o.gid = r->limits.gid;
	if (r->limits.huge[0])
		o.huge = r->limits.huge;
	if (r->limits.nodes[0]) {
		snprintf(mpol, sizeof(mpol), "bind:%s", r->limits.nodes);
		o.mpol = mpol;
	}
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	rc = spm_slices_filesystem(t, r->id, path, &o, &made);
	if (rc)
		return rc;
	rc = fstat(made.data_fd, &st) ? -errno : 0;
	r->top = st.st_ino;
	spm_slice_close(&made);
	if (rc)
		return rc;
	spm_slices_fault(t, "slice:mounted");
	place_name(r->id, path);
	if ((mkdirat(root->orphans_fd, path, 0) && errno != EEXIST) || fstatat(root->orphans_fd, path, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	r->place = st.st_ino;
	spm_slices_commit(t, r);
	spm_slices_fault(t, "slice:placed");
	return 0;
}

static int show_place(struct spm_slices *t, const struct spm_slice_record *r)
{
	const struct spm_slice *root = spm_slices_get(t, 0);
	char name[64];

	place_name(r->id, name);
	if (renameat2(root->orphans_fd, name, root->data_fd, r->name, RENAME_NOREPLACE))
		return -errno;
	return spm_slices_in_dir(t) ? spm_slices_dir_sync(root) : 0;
}

static int create(struct spm_slices *t, const char *name, const struct spm_slice_limits *l, uint16_t *id)
{
	struct spm_slice_record r = { .state = SPM_SLICE_MAKING, .limits = *l };
	int rc = check_limits(t, 0, l);

	if (rc)
		return rc;
	if (!t->pool && spm_grants_take(t, SPM_SLICES_MAX, SPM_SLICE_FLOOR) < SPM_SLICE_FLOOR)
		return -ENOSPC;
	r.id = free_id(t);
	if (!r.id)
		return -ENFILE;
	r.limits.min = 0;
	snprintf(r.name, sizeof(r.name), "%s", name);
	spm_slices_commit(t, &r);
	spm_slices_fault(t, "slice:making");
	rc = mount_slice(t, &r);
	if (!rc)
		rc = open_slice(t, &r);
	/* last, since from now on it can be seen */
	if (!rc)
		rc = show_place(t, &r);
	spm_slices_fault(t, "slice:shown");
	if (rc) {
		struct spm_slice *s = spm_slices_get(t, r.id);

		atomic_store(&t->by_id[r.id], NULL);
		if (s)
			bury(t, s);
		(void)free_entry(t, r.id, SPM_SLICE_FREE);
		return rc;
	}
	r.state = SPM_SLICE_LIVE;
	spm_slices_commit(t, &r);
	spm_slices_fault(t, "slice:live");
	*id = r.id;
	return 0;
}

int spm_slices_create(struct spm_slices *t, const char *name, const struct spm_slice_limits *l, bool again, uint16_t *id)
{
	int rc;

	if (!spm_slice_name_ok(name))
		return -EINVAL;
	if (spm_slices_in_dir(t) && !spm_slices_get(t, 0)->project) /* they could not share its memory */
		return -EOPNOTSUPP;
	pthread_mutex_lock(&t->lock);
	rc = spm_slices_make(t);
	if (!rc) {
		*id = id_of(t, name);
		rc = *id ? again ? 0 : -EEXIST : create(t, name, l, id);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

int spm_slices_set(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l)
{
	struct spm_slice_record r;
	int rc;

	pthread_mutex_lock(&t->lock);
	if (!id || id >= SPM_SLICES_MAX || !t->file || !is_live(t, id)) {
		pthread_mutex_unlock(&t->lock);
		return -ENOENT;
	}
	r = *spm_slices_raw(t, id);
	if (l->seq && l->seq != r.seq)
		rc = -EAGAIN;
	else if (strcmp(r.limits.nodes, l->nodes) || strcmp(r.limits.huge, l->huge))
		rc = -EOPNOTSUPP;
	else
		rc = check_limits(t, id, l);
	if (!rc && r.limits.inodes != l->inodes)
		rc = spm_slice_set_inodes(spm_slices_get(t, id), inodes_of(l));
	if (!rc) {
		rc = spm_grants_fit(t, id, l);
		if (rc && r.limits.inodes != l->inodes)
			(void)!spm_slice_set_inodes(spm_slices_get(t, id), inodes_of(&r.limits));
	}
	if (!rc) {
		spm_slices_fault(t, "slice:granted");
		r.limits = *l;
		if (r.limits.own_max < l->min) /* root's word counts for more than the owner's */
			r.limits.own_max = l->min;
		spm_slices_commit(t, &r);
		show_limits(spm_slices_get(t, id), l);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

/* -- removing -- */

static bool is_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	bool empty = d;

	if (!d) {
		spm_cleanup_close(&fd);
		return false;
	}
	while (empty && (de = readdir(d)))
		empty = !strcmp(de->d_name, ".") || !strcmp(de->d_name, "..");
	closedir(d);
	return empty;
}

int spm_slices_chown(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l)
{
	struct spm_slice *s;
	char path[64];
	int rc = -ENOENT;

	pthread_mutex_lock(&t->lock);
	s = spm_slices_get(t, id);
	if (id && s && is_live(t, id) && !atomic_load(&s->away)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", s->data_fd);
		rc = chmod(path, l->mode) || fchownat(s->data_fd, "", l->uid, l->gid, AT_EMPTY_PATH) ? -errno : 0;
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

int spm_slices_remove_begin(struct spm_slices *t, const char *name, bool force, uint16_t *id)
{
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	*id = id_of(t, name);
	if (!*id)
		rc = -ENOENT;
	else if (!force && !is_empty(spm_slices_get(t, *id)->data_fd))
		rc = -ENOTEMPTY;
	else if (atomic_exchange(&spm_slices_get(t, *id)->leaving, true))
		rc = -EBUSY;
	pthread_mutex_unlock(&t->lock);
	return rc;
}

void spm_slices_remove_not(struct spm_slices *t, uint16_t id)
{
	atomic_store(&spm_slices_get(t, id)->leaving, false);
}

/* Ours would keep it busy. */
static int let_go(struct spm_slices *t, struct spm_slice *s)
{
	spm_auto_close int nowhere = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (nowhere < 0)
		return -errno;
	/* (sizes are changed with the lock, by these descriptors) */
	pthread_mutex_lock(&t->lock);
	atomic_store(&s->away, true);
	(void)dup3(nowhere, s->mount_fd, O_CLOEXEC);
	(void)dup3(nowhere, s->data_fd, O_CLOEXEC);
	(void)dup3(nowhere, s->orphans_fd, O_CLOEXEC);
	pthread_mutex_unlock(&t->lock);
	return 0;
}

/* Whoever makes a file until now has made it, and from now on nobody can. */
static int still_empty(const char *path)
{
	spm_auto_close int fd = -1;

	if (make_writable(path, false))
		return -errno;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	spm_auto_close int data = openat(fd, SPM_SLICE_DATA, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return data >= 0 && is_empty(data) ? 0 : -ENOTEMPTY;
}

/* Tries until no request, no move and no client has a file open. Without the lock. */
static int patiently(int (*fn)(const char *path), const char *path)
{
	static const struct timespec pause = { .tv_nsec = 10000000 };
	int rc = fn(path);

	for (int i = 1; rc == -EBUSY && i < UMOUNT_TRIES; i++) {
		nanosleep(&pause, NULL);
		rc = fn(path);
	}
	return rc;
}

static int unmount(const char *path)
{
	return umount2(path, UMOUNT_NOFOLLOW) ? -errno : 0;
}

/* A removal that is refused. */
static void come_back(struct spm_slices *t, struct spm_slice *s, const char *path)
{
	const char *name = spm_slices_raw(t, s->id)->name;
	int rc = make_writable(path, true);

	if (!rc)
		rc = spm_slice_reopen(path, s);
	if (rc)
		spm_log(SPM_LOG_ERR, "slice '%s': cannot be opened again: %s", name, strerror(-rc));
	if (spm_slices_raw(t, s->id)->state == SPM_SLICE_REMOVING)
		spm_slices_commit_state(t, s->id, SPM_SLICE_LIVE);
	atomic_store(&s->away, false);
	atomic_store(&s->leaving, false);
}

int spm_slices_remove_end(struct spm_slices *t, uint16_t id, bool force)
{
	struct spm_slice *s = spm_slices_get(t, id);
	spm_auto_close int tree = -1;
	char path[64];
	int rc = s ? let_go(t, s) : -ENOENT;

	if (!s)
		return rc;
	if (rc) {
		spm_slices_remove_not(t, id);
		return rc;
	}
	slice_path(id, path, sizeof(path));
	if (!force)
		rc = patiently(still_empty, path);
	if (!rc) {
		pthread_mutex_lock(&t->lock);
		spm_slices_commit_state(t, id, SPM_SLICE_REMOVING);
		pthread_mutex_unlock(&t->lock);
		spm_slices_fault(t, "slice:removing");
		tree = spm_claimed_tree(t, path);
		rc = patiently(unmount, path);
	}
	if (!rc && tree >= 0)
		spm_claimed_empty(t, s, tree);
	pthread_mutex_lock(&t->lock);
	if (rc) {
		come_back(t, s, path);
	} else {
		spm_slices_fault(t, "slice:unmounted");
		(void)free_entry(t, id, SPM_SLICE_GONE);
		atomic_store(&t->by_id[id], NULL);
		bury(t, s);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

void spm_slices_remove_done(struct spm_slices *t, uint16_t id)
{
	/* without the lock: nothing else is under its number until it is free, and a tree takes its time */
	int rc = spm_slices_in_dir(t) && spm_slices_raw(t, id)->state == SPM_SLICE_GONE ?
			 spm_slices_dir_remove(spm_slices_get(t, 0), id) : 0;

	if (rc) {
		spm_log(SPM_LOG_ERR, "slice '%s', removed: its files cannot be: %s; they are tried again when spmfs is mounted again",
			spm_slices_raw(t, id)->name, strerror(-rc));
		return;
	}
	spm_slices_fault(t, "slice:erased");
	pthread_mutex_lock(&t->lock);
	t->granted -= t->going[id];
	t->lost -= t->going[id];
	t->going[id] = 0;
	if (spm_slices_raw(t, id)->state == SPM_SLICE_GONE)
		spm_slices_commit_state(t, id, SPM_SLICE_FREE);
	pthread_mutex_unlock(&t->lock);
}

uint16_t spm_slices_removed(struct spm_slices *t, uint16_t id)
{
	uint32_t used = t->file ? atomic_load(&t->file->used) : 0;

	for (; id && id <= used; id++)
		if (is_whole(spm_slices_raw(t, id), id) && spm_slices_raw(t, id)->state == SPM_SLICE_GONE)
			return id;
	return 0;
}
