/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compaction, in the background within a bandwidth, or a pass on demand at full speed.
 *
 * Device memory: extents that small writes and evictions have left in small pages are collapsed into huge ones. Nothing moves
 * from a mapper's view, so files that are mapped are not left out; memory that was never written to is (to look at it is to
 * write to it).
 *
 * Swap files: slots behind the place up to which the file would be full without holes move down into holes, highest first,
 * then the tail is given back. A move copies, then changes the record's slot by one store, then frees the old slot: at
 * each instant the record names a whole copy.
 */
#include "core/swap-evict.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core/extents.h"

#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

#define HUGE_BYTES (UINT64_C(2) << 20)
#define PERIOD_S   30 /* between two passes in the background, if something was written */
#define BATCH      (UINT64_C(4) << 20) /* after so many bytes the bandwidth is looked at */
#define LOOKS      64u /* at huge pages that need nothing, between two looks around */
#define KEEP_SHARE 8u /* in the background, a swap file keeps this part of its limit as a free tail */

struct spm_compactor {
	pthread_mutex_t lock; /* guards stop and what the last pass has found */
	pthread_cond_t wake;
	pthread_mutex_t pass_lock; /* one pass at a time; taken before any other lock of swap */
	pthread_t thread;
	bool started, stop;
	atomic_bool cancel;
	uint64_t huge, scanned;
	uint64_t seen; /* what had been written when the last background pass began */
};

struct pass {
	struct spm_swap *s;
	struct spm_compactor *c;
	uint64_t bps;      /* 0: as fast as can be */
	uint64_t batch;    /* bytes since the last look at the time */
	char *window;      /* address space for one huge page, aligned */
	char *bounce;      /* an extent and its trailer */
	uint64_t huge, scanned;
	int rc;
};

/* Waits as the bandwidth asks for, so nothing is visited just then. False: it is time to end. */
static bool go_on(struct pass *p)
{
	struct spm_compactor *c = p->c;
	struct timespec until;
	bool on;

	if (p->bps && p->batch >= BATCH) {
		uint64_t ns = p->batch * 1000000000 / p->bps;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += (time_t)((until.tv_nsec + (int64_t)ns) / 1000000000);
		until.tv_nsec = (long)((until.tv_nsec + (int64_t)ns) % 1000000000);
		pthread_mutex_lock(&c->lock);
		while (!c->stop && !pthread_cond_timedwait(&c->wake, &c->lock, &until))
			;
		pthread_mutex_unlock(&c->lock);
	}
	if (p->batch >= BATCH)
		p->batch = 0;
	pthread_mutex_lock(&c->lock);
	on = !c->stop && !atomic_load(&c->cancel);
	pthread_mutex_unlock(&c->lock);
	if (!on)
		p->rc = -ECANCELED;
	return on;
}

/* -- device memory -- */

/* All of it is data: it has been written to. */
static bool is_all_data(int fd, uint64_t at)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole = data == (off_t)at ? lseek(fd, data, SEEK_HOLE) : -1;

	return hole >= (off_t)(at + HUGE_BYTES);
}

static void collapse(struct pass *p, int fd, uint64_t at)
{
	uint64_t huge = 0;
	void *map;

	if (spm_extents_huge_in(fd, at, at + HUGE_BYTES, &huge))
		return;
	/* smaller extents could not leave a huge page: the kernel may keep its memory until all of it is punched */
	if (huge < HUGE_BYTES && p->s->extent_bytes == HUGE_BYTES) {
		map = mmap(p->window, HUGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)at);
		if (map != MAP_FAILED && !madvise(map, HUGE_BYTES, MADV_COLLAPSE)) {
			huge = HUGE_BYTES;
			atomic_fetch_add(&p->s->count->collapsed_bytes, HUGE_BYTES);
		}
		(void)mmap(p->window, HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		p->batch += HUGE_BYTES;
	}
	p->huge += huge;
}

/* Some of a file's memory, from *@at on. True: there is more. */
static bool memory_of(struct pass *p, int fd, off_t *at)
{
	unsigned int looked = 0;
	struct stat st;
	off_t data;

	if (fstat(fd, &st))
		return false;
	if (!*at)
		p->scanned += (uint64_t)st.st_blocks * 512;
	while (p->batch < BATCH && looked < LOOKS) {
		if ((uint64_t)*at + HUGE_BYTES > (uint64_t)st.st_size || (data = lseek(fd, *at, SEEK_DATA)) < 0)
			return false;
		*at = (off_t)(((uint64_t)data + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
		if (*at != data)
			continue;
		if (is_all_data(fd, (uint64_t)data))
			collapse(p, fd, (uint64_t)data);
		*at += (off_t)HUGE_BYTES;
		looked++;
	}
	return true;
}

/*
 * The same, with the file visited and open for no longer than that takes: requests may wait for the visit, and a lease test
 * does not want our descriptor.
 */
static bool visit_memory(struct pass *p, uint32_t file, off_t *at)
{
	struct spm_swap *s = p->s;
	struct spm_whose who;
	struct spm_bucket *b = spm_bucket_lock(s, file);
	bool direct = spm_flag_is(spm_extmap_file(&s->map, file), SPM_EXTFILE_DIRECT), known = spm_whose(s, file, &who), more;
	int fd;

	spm_bucket_unlock(b);
	if (s->ops.pool) /* whose extents are as large as its pages can be */
		return false;
	/* a mirror's opener may be about to test the lease, which a descriptor of ours would spoil */
	if (!known || (!direct && spm_visit_begin(s, file, false, &who)))
		return false;
	fd = spm_file_open(s, who.slice, &who.handle, false);
	more = fd >= 0 && memory_of(p, fd, at);
	if (fd >= 0)
		spm_file_close(s, who.slice, &fd);
	if (!direct)
		spm_visit_end(s, file);
	return more;
}

static void compact_memory(struct pass *p)
{
	for (uint32_t file = 0; !p->rc && (file = spm_extmap_next_file(&p->s->map, file + 1));) {
		off_t at = 0;

		while (visit_memory(p, file, &at) && go_on(p))
			;
		p->batch += 4096;
		(void)go_on(p);
	}
}

/* -- swap files -- */

struct tail {
	struct pass *p;
	unsigned int file; /* the swap file */
	uint32_t from;     /* blocks from here on should move */
	struct tail_slot {
		uint32_t slot, file;
		uint64_t extent;
	} *list;
	size_t count, room;
	uint32_t inode;    /* of the walk */
};

static int note_slot(void *arg, uint64_t extent, struct spm_extent *x)
{
	struct tail *t = arg;
	uint32_t slot = __atomic_load_n(&x->slot, __ATOMIC_RELAXED); /* may be changing: looked at again when it is taken */

	if (SPM_SLOT_FILE(slot) != t->file || SPM_SLOT_AT(slot) < t->from)
		return 0;
	if (t->count == t->room) {
		size_t room = t->room ? t->room * 2 : 256;
		struct tail_slot *list = realloc(t->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		t->list = list;
		t->room = room;
	}
	t->list[t->count++] = (struct tail_slot){ .slot = slot, .file = t->inode, .extent = extent };
	return 0;
}

static int highest_first(const void *a, const void *b)
{
	const struct tail_slot *x = a, *y = b;

	return (x->slot < y->slot) - (x->slot > y->slot);
}

static int copy_slot(struct pass *p, uint32_t from, uint32_t to, uint32_t blocks)
{
	struct iovec iov[2] = { { .iov_base = p->bounce, .iov_len = (size_t)blocks * SPM_SLOT_BLOCK },
				{ .iov_base = p->bounce, .iov_len = (size_t)blocks * SPM_SLOT_BLOCK } };
	struct spm_io io[2] = { { .op = SPM_IO_READ, .file = SPM_SLOT_FILE(from), .iov = &iov[0], .iovs = 1, .link = true,
				  .offset = (uint64_t)SPM_SLOT_AT(from) * SPM_SLOT_BLOCK },
				{ .op = SPM_IO_WRITE, .file = SPM_SLOT_FILE(to), .iov = &iov[1], .iovs = 1,
				  .offset = (uint64_t)SPM_SLOT_AT(to) * SPM_SLOT_BLOCK } };
	struct spm_io *const ios[2] = { &io[0], &io[1] };
	struct spm_ioq q;

	spm_ioq_init(&q);
	spm_ring_submit(p->s->ring, &q, ios, 2);
	while (spm_ioq_next(&q, true))
		;
	spm_ioq_destroy(&q);
	return io[0].result ? io[0].result : io[1].result;
}

/* With the extent taken. */
static int move_taken(struct pass *p, const struct tail_slot *t)
{
	struct spm_swap *s = p->s;
	struct spm_bucket *b = spm_bucket_lock(s, t->file);
	struct spm_extent *x = spm_extmap_get(&s->map, t->file, t->extent, false);
	bool same = x && spm_extent_how(x) && x->slot == t->slot && spm_extent_ok(x);
	uint32_t blocks = same ? spm_extent_blocks(x) : 0, to;
	int rc;

	spm_bucket_unlock(b);
	if (!same)
		return 0;
	rc = spm_swap_own(s);
	if (!rc)
		rc = spm_slots_alloc_below(&s->slots, blocks, t->slot, &to);
	if (rc)
		return rc;
	rc = copy_slot(p, t->slot, to, blocks);
	spm_swap_fault(s, "compact:copied");
	if (rc) {
		spm_slots_free(&s->slots, to, blocks);
		return rc;
	}
	spm_extmap_change(&s->map, t->file, t->extent, x, to, x->check, spm_extent_how(x));
	spm_swap_fault(s, "compact:moved");
	spm_slots_free(&s->slots, t->slot, blocks);
	atomic_fetch_add(&s->count->moved_bytes, (uint64_t)blocks * SPM_SLOT_BLOCK);
	p->batch += 2 * (uint64_t)blocks * SPM_SLOT_BLOCK;
	return 0;
}

static void move_down(struct pass *p, const struct tail_slot *t)
{
	struct spm_swap *s = p->s;
	struct spm_whose who;

	if (spm_evict_visit(s, t->file, false, &who))
		return;
	if (!spm_move_try(s, t->file, t->extent)) {
		/* one that cannot be read, or has no place below, stays: the file ends behind it */
		(void)!move_taken(p, t);
		spm_move_end(s, t->file, t->extent);
	}
	spm_visit_end(s, t->file);
	(void)go_on(p);
}

static void give_back_tail(struct pass *p, unsigned int file)
{
	struct spm_swap *s = p->s;
	uint32_t blocks;

	pthread_mutex_lock(&s->grow_lock);
	blocks = spm_slots_shrink(&s->slots, file, p->bps ? s->slots.file[file].limit / KEEP_SHARE : 0);
	if (ftruncate(s->files[file], (off_t)blocks * SPM_SLOT_BLOCK))
		s->ops.file_failed(s->ops.ctx, file, "it cannot be made smaller", errno, "it stays as large as it is");
	pthread_mutex_unlock(&s->grow_lock);
}

static void compact_file(struct pass *p, unsigned int file)
{
	struct spm_swap *s = p->s;
	struct spm_slot_file *f = &s->slots.file[file];
	struct tail t = { .p = p, .file = file };
	bool retired;

	spm_cuts_compact(s, file);
	pthread_mutex_lock(&s->slots.lock);
	t.from = SPM_SLOT_FIRST + f->used + f->held;
	retired = f->retired || f->top <= t.from;
	pthread_mutex_unlock(&s->slots.lock);
	for (uint32_t i = 0; !retired && !p->rc && (i = spm_extmap_next_file(&s->map, i + 1));) {
		struct spm_bucket *b = spm_bucket_lock(s, i);

		t.inode = i;
		if (spm_extmap_each(&s->map, i, 0, note_slot, &t))
			p->rc = -ENOMEM;
		spm_bucket_unlock(b);
	}
	if (t.count)
		qsort(t.list, t.count, sizeof(*t.list), highest_first);
	for (size_t i = 0; i < t.count && !p->rc; i++)
		move_down(p, &t.list[i]);
	free(t.list);
	if (!p->rc && !f->retired)
		give_back_tail(p, file);
}

/* -- passes -- */

static int run_pass(struct spm_swap *s, uint64_t bps)
{
	struct spm_compactor *c = s->compact;
	struct pass p = { .s = s, .c = c, .bps = bps };
	char *area = mmap(NULL, 2 * HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return -errno;
	p.window = (char *)(((uintptr_t)area + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	p.bounce = aligned_alloc(4096, SPM_EXTENT_MAX + SPM_SLOT_BLOCK);
	if (!p.bounce)
		p.rc = -ENOMEM;
	if (!p.rc)
		compact_memory(&p);
	for (unsigned int i = 0; i < s->n_files && !p.rc; i++)
		compact_file(&p, i);
	pthread_mutex_lock(&c->lock);
	if (!p.rc) {
		c->huge = p.huge;
		c->scanned = p.scanned;
	}
	pthread_mutex_unlock(&c->lock);
	free(p.bounce);
	munmap(area, 2 * HUGE_BYTES);
	return p.rc;
}

int spm_swap_compact(struct spm_swap *s)
{
	struct spm_compactor *c = s->compact;
	int rc;

	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	pthread_mutex_lock(&c->pass_lock);
	atomic_store(&c->cancel, false);
	rc = run_pass(s, 0);
	pthread_mutex_unlock(&c->pass_lock);
	return rc;
}

void spm_swap_compact_cancel(struct spm_swap *s)
{
	atomic_store(&s->compact->cancel, true);
}

/* Whether a pass could find anything to do. */
static bool is_due(struct spm_swap *s)
{
	struct spm_compactor *c = s->compact;
	uint64_t now = atomic_load(&s->writes);
	bool due = now != c->seen;

	c->seen = now;
	return due;
}

static void *serve(void *arg)
{
	struct spm_swap *s = arg;
	struct spm_compactor *c = s->compact;
	struct timespec until;

	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += PERIOD_S;
		while (!c->stop && !pthread_cond_timedwait(&c->wake, &c->lock, &until))
			;
		pthread_mutex_unlock(&c->lock);
		if (is_due(s) && !pthread_mutex_trylock(&c->pass_lock)) {
			atomic_store(&c->cancel, false);
			(void)!run_pass(s, s->opts.compact_bps);
			pthread_mutex_unlock(&c->pass_lock);
		}
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int spm_compactor_start(struct spm_swap *s)
{
	struct spm_compactor *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;
	int rc = 0;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->pass_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->wake, &attr);
	pthread_condattr_destroy(&attr);
	s->compact = c;
	if (s->opts.compact_bps)
		rc = pthread_create(&c->thread, NULL, serve, s);
	c->started = s->opts.compact_bps && !rc;
	return -rc;
}

void spm_compactor_stop(struct spm_swap *s)
{
	struct spm_compactor *c = s->compact;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->wake);
	pthread_mutex_unlock(&c->lock);
	if (c->started)
		pthread_join(c->thread, NULL);
	c->started = false;
}

void spm_compactor_stats(struct spm_swap *s, struct spm_swap_stats *out)
{
	struct spm_compactor *c = s->compact;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	out->huge_bytes = c->huge;
	out->scanned_bytes = c->scanned;
	pthread_mutex_unlock(&c->lock);
}
