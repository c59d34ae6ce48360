/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Swap as a whole: taking over what there is, slots, records, numbers. */
#include "core/swap-local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define GROW_BLOCKS (UINT32_C(64) << 8) /* 64 MiB: a swap file that was shrunk grows by so much at a time */
#define GROW_LEAST  (UINT32_C(4) << 8)

/* -- slots -- */

static int grow(struct spm_swap *s, unsigned int file)
{
	const struct spm_slot_file *f = &s->slots.file[file];
	uint32_t blocks, more;
	int rc = -EAGAIN;

	pthread_mutex_lock(&s->grow_lock);
	pthread_mutex_lock(&s->slots.lock);
	blocks = f->blocks;
	pthread_mutex_unlock(&s->slots.lock);
	/* a disk that is nearly full may have less */
	more = f->limit - blocks < GROW_BLOCKS ? f->limit - blocks : GROW_BLOCKS;
	for (; rc && more; more = more > GROW_LEAST ? more / 2 : 0) {
		rc = fallocate(s->files[file], 0, 0, ((off_t)blocks + more) * SPM_SLOT_BLOCK) && errno != EOPNOTSUPP ? -errno : 0;
		if (!rc)
			spm_slots_grown(&s->slots, file, blocks + more);
	}
	if (rc && rc != -EAGAIN) { /* else another thread has done it */
		s->ops.file_failed(s->ops.ctx, file, "it cannot grow", -rc, "make room on its disk");
		spm_slots_cannot_grow(&s->slots, file);
	}
	pthread_mutex_unlock(&s->grow_lock);
	return rc;
}

int spm_slot_alloc_instead(struct spm_swap *s, uint32_t blocks, uint32_t *slot)
{
	unsigned int file;
	int rc = spm_swap_own(s);

	while (!rc && (rc = spm_slots_alloc_instead(&s->slots, blocks, slot, &file)) == -EAGAIN) {
		(void)grow(s, file);
		rc = 0;
	}
	return rc;
}

int spm_slot_alloc(struct spm_swap *s, uint32_t blocks, uint32_t keep, uint32_t *slot)
{
	unsigned int file;
	int rc = spm_swap_own(s);

	if (!rc && keep && spm_slots_left(&s->slots) / SPM_SLOT_BLOCK < (uint64_t)blocks + keep)
		return -ENOSPC;
	while (!rc && (rc = spm_slots_alloc(&s->slots, blocks, slot, &file)) == -EAGAIN) {
		(void)grow(s, file); /* or it is left alone from now on */
		rc = 0;
	}
	return rc == -EDQUOT ? -ENOSPC : rc;
}

/* -- records -- */

int spm_swap_punch(struct spm_swap *s, int fd, uint64_t from, uint64_t to)
{
	int rc;

	do
		rc = s->ops.punch(s->ops.ctx, fd, from, to);
	while (rc == -EINTR);
	return rc;
}

static void count_pages(struct spm_swap *s, uint32_t file, int64_t pages)
{
	struct spm_extfile *f = spm_extmap_file(&s->map, file);

	__atomic_fetch_add(&f->swapped, (uint32_t)pages, __ATOMIC_RELAXED);
	atomic_fetch_add(&s->swapped, (uint64_t)pages);
	atomic_fetch_add(&spm_slice_of_file(s, file)->pages, (uint64_t)pages);
}

void spm_record_set(struct spm_swap *s, uint32_t file, struct spm_extent *x, uint32_t slot, uint32_t check, uint16_t how)
{
	int64_t pages = (int64_t)(how & SPM_HOW_PAGES) - (int64_t)spm_extent_pages(x);

	__atomic_store_n(&x->slot, slot, __ATOMIC_RELAXED); /* a compactor may look at it */
	x->check = check;
	spm_extent_set_how(x, how);
	if (pages)
		count_pages(s, file, pages);
}

void spm_record_change(struct spm_swap *s, uint32_t file, uint64_t extent, struct spm_extent *x, uint32_t slot, uint32_t check,
		       uint16_t how)
{
	int64_t pages = (int64_t)(how & SPM_HOW_PAGES) - (int64_t)spm_extent_pages(x);

	spm_extmap_change(&s->map, file, extent, x, slot, check, how);
	if (pages)
		count_pages(s, file, pages);
}

void spm_record_clear(struct spm_swap *s, uint32_t file, struct spm_extent *x)
{
	int64_t pages = spm_extent_pages(x);

	spm_extent_set_how(x, 0);
	/* a hole in a swap file: compaction has something to look at, also where nothing is written */
	atomic_fetch_add_explicit(&s->writes, 1, memory_order_relaxed);
	count_pages(s, file, -pages);
}

/* -- taking over -- */

struct survey {
	struct spm_swap *s;
	uint32_t file;
	int fd;         /* -1: not opened */
	uint64_t size;  /* with trim: what is behind it goes */
	bool trim;
	int rc;
};

static int survey_open(struct survey *v)
{
	const struct spm_extfile *f = spm_extmap_file(&v->s->map, v->file);

	if (v->fd < 0)
		v->fd = v->s->ops.open(v->s->ops.ctx, f->slice, &f->handle);
	return v->fd < 0 ? v->fd : 0;
}

/* Pages that do not count go, before anybody sees them. */
static int settle_record(struct survey *v, uint64_t extent, struct spm_extent *x)
{
	int rc = v->s->ops.pool ? 0 : survey_open(v);

	/* a read that is under way still might fill them, if they cannot go because they are part of a huge page */
	if (!rc && SPM_HOW_STATE_OF(spm_extent_how(x)) == SPM_EXTENT_IN)
		rc = spm_swap_own(v->s);
	if (rc == -ESTALE)
		return 0; /* the file is gone, and with it whoever could read it */
	if (!rc)
		rc = spm_memory_settle(v->s, v->file, v->fd, extent);
	if (!rc)
		spm_extent_set_how(x, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, spm_extent_how(x) & ~SPM_HOW_STATE, 0));
	return rc;
}

static int survey_record(void *arg, uint64_t extent, struct spm_extent *x)
{
	struct survey *v = arg;
	uint32_t blocks = spm_extent_blocks(x);
	int rc;

	if (v->trim && extent << v->s->shift >= v->size) {
		spm_extent_set_how(x, 0);
		return 0;
	}
	if (SPM_HOW_STATE_OF(spm_extent_how(x)) != SPM_EXTENT_SWAPPED) {
		rc = settle_record(v, extent, x);
		if (rc)
			return rc;
	}
	count_pages(v->s, v->file, spm_extent_pages(x));
	rc = x->slot ? spm_slots_take(&v->s->slots, x->slot, blocks) : 0;
	if (rc) {
		spm_log(SPM_LOG_ERR, "inode %llu: extent %llu is recorded in a slot that %s",
			(unsigned long long)spm_extmap_file(&v->s->map, v->file)->ino, (unsigned long long)extent,
			rc == -ERANGE ? "does not exist" : "another extent has as well");
		count_pages(v->s, v->file, -(int64_t)spm_extent_pages(x));
		spm_extent_damage(x); /* EIO, for this extent; the slot is the other's */
	}
	return 0;
}

static void put_back_mtime(struct spm_swap *s, struct survey *v)
{
	const struct spm_exttimes *t = spm_extmap_times(&s->map, v->file);
	int64_t ns = t ? t->mtime : 0;
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 } };

	if (ts[1].tv_nsec < 0) {
		ts[1].tv_nsec += 1000000000;
		ts[1].tv_sec--;
	}
	if (t && !survey_open(v) && futimens(v->fd, ts))
		spm_log(SPM_LOG_WARNING, "inode %llu: mtime: %m", (unsigned long long)spm_extmap_file(&s->map, v->file)->ino);
}

static int take_over_file(struct spm_swap *s, uint32_t file)
{
	struct spm_extfile *f = spm_extmap_file(&s->map, file);
	struct survey v = { .s = s, .file = file, .fd = -1 };
	struct stat st;
	int rc;

	f->swapped = 0;
	if (spm_flag_is(f, SPM_EXTFILE_TRIM) && !survey_open(&v) && !fstat(v.fd, &st)) {
		v.trim = true;
		v.size = (uint64_t)st.st_size;
	}
	rc = spm_extmap_each(&s->map, file, 0, survey_record, &v);
	if (!rc && spm_flag_is(f, SPM_EXTFILE_TIMES)) {
		put_back_mtime(s, &v);
		spm_flag_clear(f, SPM_EXTFILE_SHOWN); /* which ctime is the move's, nobody knows now */
	}
	/* a worker that died may have had it open, or left a mapping */
	spm_flags_change(f, SPM_EXTFILE_DIRECT, SPM_EXTFILE_TRIM | SPM_EXTFILE_TIMES | (rc ? 0 : SPM_EXTFILE_MOVING));
	spm_cleanup_close(&v.fd);
	return rc;
}

static int take_over(struct spm_swap *s)
{
	int rc = spm_extmap_scan(&s->map);

	if (!rc && (s->map.lost_leaves || s->map.lost_heads))
		rc = spm_lost_settle(s);
	if (!rc)
		rc = spm_stores_settle(s);
	for (uint32_t file = 0; !rc && (file = spm_extmap_next_file(&s->map, file + 1));)
		rc = take_over_file(s, file);
	return rc;
}

int spm_swap_own(struct spm_swap *s)
{
	int rc = 0;

	if (atomic_load_explicit(&s->owned, memory_order_acquire))
		return 0;
	pthread_mutex_lock(&s->own_lock);
	if (!atomic_load(&s->owned)) {
		while ((rc = flock(s->map_fd, LOCK_EX)) && errno == EINTR)
			;
		rc = rc ? -errno : 0;
		atomic_store(&s->owned, !rc);
	}
	pthread_mutex_unlock(&s->own_lock);
	return rc;
}

/*
 * Once device and swap are full, something can come back only if something else leaves, which needs a slot first. So new
 * data does not get the last ones.
 */
static uint32_t reserve_of(const struct spm_extmap_setup *setup)
{
	uint64_t whole = setup->extent_bytes / 4096 + 1, all = 0;

	for (unsigned int i = 0; i < setup->files; i++)
		all += setup->blocks_limit[i] - SPM_SLOT_FIRST;
	if (all < 2 * whole)
		return 0;
	return (uint32_t)(all / 8 < whole ? whole : all / 8 < 4 * whole ? all / 8 : 4 * whole);
}

static int open_slots(struct spm_swap *s, const int *files)
{
	const struct spm_extmap_setup *setup = s->map.setup;
	uint32_t blocks[SPM_SWAP_FILES];
	struct stat st;
	int rc;

	s->n_files = setup->files;
	for (unsigned int i = 0; i < s->n_files; i++) {
		s->files[i] = files[i];
		if (fstat(files[i], &st))
			return -errno;
		blocks[i] = (uint64_t)st.st_size / SPM_SLOT_BLOCK < setup->blocks_limit[i] ?
				    (uint32_t)(st.st_size / SPM_SLOT_BLOCK) : setup->blocks_limit[i];
	}
	s->reserve = reserve_of(setup);
	rc = spm_slots_init(&s->slots, s->n_files, setup->blocks_limit, blocks);
	s->slots.used_max = s->opts.used_max / SPM_SLOT_BLOCK;
	for (unsigned int i = 0; !rc && i < s->n_files; i++)
		if (setup->retired >> i & 1)
			(void)spm_slots_retire(&s->slots, i);
	return rc;
}

static int open_ring(struct spm_swap *s)
{
	int files[SPM_SWAP_FILES + 1];

	memcpy(files, s->files, s->n_files * sizeof(files[0]));
	files[s->n_files] = s->map_fd; /* for spm_swap_own() of the next worker */
	return spm_ring_open(&s->ring, files, s->n_files + 1, SPM_RING_DEPTH);
}

int spm_swap_open(struct spm_swap **out, const struct spm_swap_opts *o, const struct spm_swap_ops *ops,
		  struct spm_swap_counters *count, int map_fd, const int *files)
{
	struct spm_swap *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->opts = *o;
	s->ops = *ops;
	s->count = count;
	s->stored_bytes = o->stored_bytes ? o->stored_bytes : &s->own_stored_bytes;
	s->map_fd = map_fd;
	pthread_mutex_init(&s->grow_lock, NULL);
	pthread_mutex_init(&s->own_lock, NULL);
	pthread_mutex_init(&s->lost_lock, NULL);
	pthread_mutex_init(&s->cut.lock, NULL);
	rc = spm_pins_init(s);
	if (!rc)
		rc = spm_drain_init(s);
	if (!rc)
		rc = spm_jobs_init(s);
	if (!rc)
		rc = spm_swap_slices_init(s);
	if (!rc)
		rc = spm_trailers_init(s);
	if (!rc)
		rc = spm_extmap_attach(&s->map, map_fd);
	if (!rc) {
		s->extent_bytes = s->map.setup->extent_bytes;
		s->shift = (unsigned int)__builtin_ctz(s->extent_bytes);
		if (s->ops.pool && spm_pool_extent_bytes(s->ops.pool) != s->extent_bytes)
			rc = -EINVAL;
	}
	if (!rc) {
		rc = open_slots(s, files);
	}
	if (!rc)
		rc = open_ring(s);
	if (!rc)
		rc = spm_reclaimer_init(s);
	if (!rc)
		rc = take_over(s);
	if (!rc)
		spm_cuts_init(s);
	if (rc) {
		spm_swap_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

int spm_swap_start(struct spm_swap *s)
{
	int rc = spm_reclaimer_start(s);

	if (!rc)
		rc = spm_loader_start(s);
	return rc ? rc : spm_compactor_start(s);
}

void spm_swap_stop(struct spm_swap *s)
{
	spm_compactor_stop(s);
	spm_loader_stop(s);
	spm_reclaimer_stop(s);
}

void spm_swap_close(struct spm_swap *s)
{
	if (s->ring)
		spm_ring_close(s->ring);
	if (s->map.header) {
		spm_slots_destroy(&s->slots);
		spm_extmap_detach(&s->map);
	}
	spm_trailers_destroy(s);
	free(s->reclaim);
	free(s->compact);
	spm_jobs_destroy(s);
	spm_swap_slices_destroy(s);
	free(s);
}

/* -- files -- */

uint32_t spm_swap_find(struct spm_swap *s, uint16_t slice, uint64_t ino)
{
	return s->map.lost_heads ? spm_lost_find(s, slice, ino) : spm_extmap_find(&s->map, slice, ino);
}

uint32_t spm_swap_file(struct spm_swap *s, uint16_t slice, uint64_t ino, const struct spm_handle *h, bool fresh)
{
	uint32_t file = spm_swap_find(s, slice, ino);

	if (!file && !fresh && s->map.lost_heads)
		return spm_lost_head(s, slice, ino, h);
	return file ? file : spm_extmap_intern(&s->map, slice, ino, h, fresh ? 0 : SPM_EXTFILE_DIRECT);
}

uint64_t spm_swap_next_slot(struct spm_swap *s, uint32_t file, uint64_t from)
{
	struct spm_extent *x;

	return file ? spm_extmap_next(&s->map, file, from, &x) : UINT64_MAX;
}

uint64_t spm_swap_bytes_of(struct spm_swap *s, uint32_t file)
{
	return file ? (uint64_t)__atomic_load_n(&spm_extmap_file(&s->map, file)->swapped, __ATOMIC_RELAXED) * 4096 : 0;
}

void spm_swap_idle(struct spm_swap *s, uint32_t file)
{
	struct spm_extfile *f = spm_extmap_file(&s->map, file);

	if (file && spm_flag_is(f, SPM_EXTFILE_DIRECT))
		spm_flag_clear(f, SPM_EXTFILE_DIRECT);
}

bool spm_swap_is_direct(struct spm_swap *s, uint32_t file)
{
	return file && spm_flag_is(spm_extmap_file(&s->map, file), SPM_EXTFILE_DIRECT);
}

void spm_swap_used(struct spm_swap *s, uint32_t file)
{
	if (file)
		__atomic_store_n(&spm_extmap_file(&s->map, file)->used, spm_swap_clock(s), __ATOMIC_RELAXED);
}

int spm_swap_direct(struct spm_pin *pin)
{
	struct spm_extfile *f;

	if (!pin->file)
		return 0;
	f = spm_extmap_file(&pin->swap->map, pin->file);
	if (__atomic_load_n(&f->swapped, __ATOMIC_RELAXED))
		return -EAGAIN;
	spm_swap_used(pin->swap, pin->file);
	spm_flag_set(f, SPM_EXTFILE_DIRECT);
	return 0;
}

void spm_swap_set_max(struct spm_swap *s, uint64_t used_max)
{
	pthread_mutex_lock(&s->slots.lock);
	s->slots.used_max = used_max / SPM_SLOT_BLOCK;
	pthread_mutex_unlock(&s->slots.lock);
}

void spm_swap_stats(struct spm_swap *s, struct spm_swap_stats *out)
{
	const struct spm_swap_counters *c = s->count;
	uint64_t held = spm_slots_held(&s->slots);

	*out = (struct spm_swap_stats){
		.swap_bytes = spm_slots_bytes(&s->slots),
		.swap_used_bytes = spm_slots_used(&s->slots),
		.swapped_bytes = atomic_load(&s->swapped) * 4096,
		.extent_bytes = s->extent_bytes,
		.space_bytes = spm_slots_space(&s->slots) + held,
		.reserve_bytes = (uint64_t)s->reserve * SPM_SLOT_BLOCK + held,
		.swapout_bytes = atomic_load(&c->swapout_bytes),
		.swapin_bytes = atomic_load(&c->swapin_bytes),
		.swap_errors = atomic_load(&c->swap_errors),
		.write_errors = atomic_load(&c->write_errors),
		.read_through_bytes = atomic_load(&c->read_through_bytes),
		.stored_bytes = atomic_load(s->stored_bytes),
		.evicted_hot = atomic_load(&c->evicted_hot),
		.collapsed_bytes = atomic_load(&c->collapsed_bytes),
		.moved_bytes = atomic_load(&c->moved_bytes),
		.direct_waits = atomic_load(&c->direct_waits),
		.refused = atomic_load(&c->refused),
		.reclaim_runs = atomic_load(&c->reclaim_runs),
		.map_bytes = spm_extmap_bytes(&s->map),
	};
	spm_compactor_stats(s, out);
}
