/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/budget.h"
#include "fs/fs.h"
#include "fs/handover.h"
#include "fs/open.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE        4096u
#define SWEEP_NS    UINT64_C(200000000) /* between two looks at all that was mapped, for map=auto */
#define PATIENCE_NS UINT64_C(50000000)  /* RELEASE and the kernel's own references end a while after close(2) */
#define PATIENCE_STEP_NS 2000000

int spm_budget_init(struct spm_fs *fs)
{
	struct spm_budget *b = &fs->budget;
	void *p;

	b->room = (uint64_t)fs->itable.max * sizeof(*b->pages);
	p = mmap(NULL, b->room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	b->pages = p;
	return 0;
}

void spm_budget_destroy(struct spm_fs *fs)
{
	if (fs->budget.pages)
		munmap(fs->budget.pages, fs->budget.room);
}

/* (the record of an inode that is known, so it has its slice) */
static void set(struct spm_fs *fs, uint32_t index, uint32_t pages)
{
	struct spm_budget *b = &fs->budget;
	uint32_t was = b->pages[index];

	/* an entry that was never used costs no memory */
	if (was == pages)
		return;
	__atomic_store_n(&b->pages[index], pages, __ATOMIC_RELAXED);
	atomic_fetch_add(&b->total[fs->itable.records[index].slice % SPM_SLICES_MAX], (uint64_t)pages - was);
}

static uint32_t pages_of(uint64_t bytes)
{
	uint64_t pages = bytes / PAGE + !!(bytes % PAGE);

	return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

void spm_budget_grow(struct spm_fs *fs, uint64_t nodeid, uint64_t bytes)
{
	uint32_t index = (uint32_t)nodeid, pages = pages_of(bytes);

	if (fs->budget.pages && fs->budget.pages[index] < pages)
		set(fs, index, pages);
}

void spm_budget_drop(struct spm_fs *fs, uint64_t nodeid)
{
	if (fs->budget.pages)
		set(fs, (uint32_t)nodeid, 0);
}

static void rebuild_record(struct spm_inode *rec, void *arg)
{
	struct spm_fs *fs = arg;
	spm_auto_close int fd = -1;
	struct stat st;

	if (!spm_inode_is(rec, SPM_INODE_MAPPED) || spm_inode_is(rec, SPM_INODE_DIR))
		return;
	fd = spm_handle_open(spm_slice_of(fs, rec)->mount_fd, &rec->handle, O_PATH);
	if (fd >= 0 && !fstat(fd, &st))
		spm_budget_grow(fs, (uint64_t)(rec - fs->itable.records), (uint64_t)st.st_blocks * 512);
}

void spm_budget_rebuild(struct spm_fs *fs)
{
	spm_itable_each(&fs->itable, rebuild_record, fs);
}

/* -- what is not mapped any more -- */

#define SWEEP_MAX 4096u

struct sweep {
	struct spm_fs *fs;
	size_t count;
	uint64_t ids[SWEEP_MAX];
};

static void sweep_record(struct spm_inode *rec, void *arg)
{
	struct sweep *s = arg;
	uint32_t index = (uint32_t)(rec - s->fs->itable.records);

	if (s->count < SWEEP_MAX && __atomic_load_n(&s->fs->budget.pages[index], __ATOMIC_RELAXED) &&
	    !__atomic_load_n(&rec->open_plain, __ATOMIC_RELAXED) && !__atomic_load_n(&rec->open_served, __ATOMIC_RELAXED))
		s->ids[s->count++] = (uint64_t)rec->seq << 32 | index;
}

static bool sweep(struct spm_fs *fs, uint64_t pause_ns)
{
	uint64_t now = spm_clock_ns(), last = atomic_load(&fs->budget.swept_ns);
	spm_auto_free struct sweep *s = NULL;

	if (now - last < pause_ns || !atomic_compare_exchange_strong(&fs->budget.swept_ns, &last, now))
		return false;
	s = malloc(sizeof(*s));
	if (!s)
		return false;
	s->fs = fs;
	s->count = 0;
	spm_session_blocking();
	spm_itable_each(&fs->itable, sweep_record, s);
	for (size_t i = 0; i < s->count; i++)
		spm_open_recheck_mapped(fs, s->ids[i]);
	return true;
}

/* How many bytes of a slice may be pinned; UINT64_MAX: it cannot be told. */
static uint64_t limit_of(struct spm_fs *fs, uint16_t slice)
{
	struct spm_slices *t = &fs->slices;
	uint32_t used = t->file ? atomic_load(&t->file->used) : 0;
	uint64_t lost = atomic_load(&t->lost), rest = t->device_bytes - (lost < t->device_bytes ? lost : t->device_bytes);
	const struct spm_slice *s = spm_slices_get(t, slice);
	struct spm_slice_use u;

	if (!s || spm_slices_use(t, slice, &u))
		return UINT64_MAX;
	for (uint32_t id = 0; id <= used; id++) {
		const struct spm_slice *other = spm_slices_get(t, (uint16_t)id);
		uint64_t its = atomic_load(&fs->budget.total[id]) * PAGE;

		if (!other || other == s)
			continue;
		if (its < atomic_load(&other->min))
			its = atomic_load(&other->min);
		rest -= its < rest ? its : rest;
	}
	if (rest < u.min)
		rest = u.min;
	if (rest > u.max)
		rest = u.max;
	return rest < atomic_load(&s->pin_max) ? rest : atomic_load(&s->pin_max);
}

bool spm_budget_fits(struct spm_fs *fs, uint64_t nodeid, uint64_t bytes, bool all)
{
	static const struct timespec pause = { .tv_nsec = PATIENCE_STEP_NS };
	const struct spm_budget *b = &fs->budget;
	uint16_t slice = fs->itable.records[(uint32_t)nodeid].slice % SPM_SLICES_MAX;
	uint64_t have, limit, until = 0;

	if (!b->pages)
		return true;
	for (;;) {
		/* (what others keep may be no more than what they were last known to keep) */
		limit = limit_of(fs, slice) / PAGE;
		if (!all)
			limit -= limit * fs->opts->high_pct / 100;
		have = atomic_load(&b->total[slice]) - __atomic_load_n(&b->pages[(uint32_t)nodeid], __ATOMIC_RELAXED);
		if (have + pages_of(bytes) <= limit)
			return true;
		if (!all && !sweep(fs, SWEEP_NS))
			return false;
		if (!all)
			continue;
		/* whose answer is no is told so after a look of its own, and not for a close that is not through yet */
		if (!until)
			until = spm_clock_ns() + PATIENCE_NS;
		else if (spm_clock_ns() > until)
			return false;
		else
			nanosleep(&pause, NULL);
		(void)sweep(fs, 0);
	}
}
