/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/promise.h"
#include "core/extents.h"
#include "fs/content.h"
#include "fs/fs.h"
#include "fs/handover.h"
#include "fs/open.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE       4096u
#define BATCH      256u
#define SWEEP_MIN_NS UINT64_C(5000000) /* between two sweeps, */
#define SWEEP_PART 4u                  /* and so many times as long as one takes */

static uint32_t clamp(uint64_t pages)
{
	return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

static uint64_t pages_of(uint64_t bytes)
{
	return bytes / PAGE + !!(bytes % PAGE);
}

/* -- with the lock: the ring, and what the slice is told -- */

static void link_entry(struct spm_promises *p, uint32_t i)
{
	struct spm_promise *head = &p->at[0], *e = &p->at[i];

	/* at its end */
	e->next = 0;
	e->prev = head->prev;
	p->at[head->prev].next = i;
	head->prev = i;
	p->count++;
}

static void unlink_entry(struct spm_promises *p, uint32_t i)
{
	struct spm_promise *e = &p->at[i];

	p->at[e->prev].next = e->next;
	p->at[e->next].prev = e->prev;
	*e = (struct spm_promise){ .pages = 0 };
	p->count--;
}

/* What is promised for an inode is @pages from now on. */
static int put(struct spm_fs *fs, uint32_t i, uint64_t pages, bool anyway)
{
	struct spm_promises *p = &fs->promises;
	uint16_t slice = fs->itable.records[i].slice;
	struct spm_promise *e = &p->at[i];
	uint64_t device = fs->slices.device_bytes / PAGE;
	uint32_t want = clamp(pages < device ? pages : device), had = e->pages;
	int rc = 0;

	if (pages > device && !anyway)
		return -ENOSPC; /* (whatever there is would do for some of it) */
	if (want > had && p->counting)
		atomic_fetch_add(&spm_slice_of(fs, &fs->itable.records[i])->promised, (uint64_t)(want - had) * PAGE);
	else if (want > had)
		rc = spm_slices_promise(&fs->slices, slice, (uint64_t)(want - had) * PAGE, anyway);
	else if (want < had)
		spm_slices_unpromise(&fs->slices, slice, (uint64_t)(had - want) * PAGE);
	if (rc == -ENOENT || (rc && !anyway))
		return rc;
	if (!had && want)
		link_entry(p, i);
	e->pages = want;
	if (had && !want)
		unlink_entry(p, i);
	return 0;
}

/* How many pages a file lacks. @fd: not O_PATH, if it is to be told exactly; else what is behind its end is what it was. */
static int holes_of(int fd, bool exact, uint32_t *behind, uint64_t *pages)
{
	uint64_t all, has, in;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	all = pages_of((uint64_t)st.st_size);
	has = (uint64_t)st.st_blocks / (PAGE / 512);
	if (exact) {
		*behind = 0;
		/* (all of it and nothing behind its end, or as much of either: the first, as good as always) */
		in = has && has != all ? spm_pages_in(fd, 0, all * PAGE) : has;
		if (in < has)
			*behind = clamp(has - in);
	}
	has -= *behind < has ? *behind : has;
	*pages = all > has ? all - has : 0;
	return 0;
}

static void look_again(struct spm_fs *fs, uint32_t i)
{
	const struct spm_inode *rec = &fs->itable.records[i];
	spm_auto_close int fd = -1;
	uint64_t pages;

	if (!fs->promises.at[i].pages)
		return;
	/* O_PATH: it disturbs no lease test */
	fd = spm_handle_open(spm_slice_of(fs, rec)->mount_fd, &rec->handle, O_PATH);
	if (fd >= 0 && !holes_of(fd, false, &fs->promises.at[i].behind, &pages))
		(void)!put(fs, i, pages, true);
}

/* -- -- */

static int make(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, bool anyway, bool less)
{
	spm_auto_fd struct spm_fd cached = SPM_FD_NONE;
	struct spm_promises *p = &fs->promises;
	uint32_t i = (uint32_t)nodeid, behind = 0;
	uint64_t pages = 0;
	int rc = 0;

	if (fd < 0) {
		rc = spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &cached);
		fd = cached.fd;
	}
	if (rc)
		return rc;
	/* with the lock also the look: whoever comes later knows more */
	pthread_mutex_lock(&p->lock);
	rc = holes_of(fd, true, &behind, &pages);
	if (!rc && (less || pages > p->at[i].pages))
		rc = put(fs, i, pages, anyway);
	if (!rc && p->at[i].pages)
		p->at[i].behind = behind;
	pthread_mutex_unlock(&p->lock);
	return rc == -ENOENT ? SPM_STALE : rc == -EDQUOT ? -ENOSPC : rc;
}

int spm_promise_make(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, bool anyway)
{
	unsigned int turns = 0;
	int rc;

	if (!atomic_load(&fs->promises.on))
		return 0;
	do {
		rc = make(fs, rec, nodeid, fd, anyway, false);
		if (rc == -ENOSPC && spm_promise_sweep(fs))
			rc = make(fs, rec, nodeid, fd, anyway, false);
	} while (rc == -ENOSPC && !anyway && !fs->swap && spm_orphans_wait(fs, &turns));
	return rc;
}

void spm_promise_changed(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd)
{
	if (atomic_load_explicit(&fs->promises.on, memory_order_relaxed) && spm_inode_is(rec, SPM_INODE_MAPPED))
		(void)!make(fs, rec, nodeid, fd, true, true);
}

void spm_promise_drop(struct spm_fs *fs, uint64_t nodeid)
{
	struct spm_promises *p = &fs->promises;
	uint32_t i = (uint32_t)nodeid;

	/* (who makes one for this inode at this moment has its lock, as the caller has) */
	if (!__atomic_load_n(&p->at[i].pages, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&p->lock);
	(void)!put(fs, i, 0, true);
	pthread_mutex_unlock(&p->lock);
}

/* -- what is not needed any more -- */

/* Up to BATCH of the ring, which goes on behind them next time. */
static uint32_t collect(struct spm_promises *p, uint64_t ids[static BATCH], const struct spm_inode *records)
{
	uint32_t n = 0;

	pthread_mutex_lock(&p->lock);
	for (uint32_t i = p->at[0].next; i && n < BATCH; i = p->at[i].next)
		ids[n++] = (uint64_t)records[i].seq << 32 | i;
	if (n && (uint32_t)ids[n - 1] != p->at[0].prev) {
		uint32_t first = p->at[0].next, last = (uint32_t)ids[n - 1], end = p->at[0].prev;

		/* what was collected goes behind all others */
		p->at[0].next = p->at[last].next;
		p->at[p->at[last].next].prev = 0;
		p->at[end].next = first;
		p->at[first].prev = end;
		p->at[last].next = 0;
		p->at[0].prev = last;
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

static uint64_t promised(struct spm_fs *fs, uint32_t i)
{
	return __atomic_load_n(&fs->promises.at[i].pages, __ATOMIC_RELAXED);
}

bool spm_promise_sweep(struct spm_fs *fs)
{
	struct spm_promises *p = &fs->promises;
	uint64_t start = spm_clock_ns(), last = atomic_load(&p->swept_ns), least = atomic_load(&p->sweep_ns) * SWEEP_PART;
	uint64_t ids[BATCH];
	uint32_t left = p->count, n;
	bool any = false;

	if (!atomic_load(&p->on) || !left || start - last < (least > SWEEP_MIN_NS ? least : SWEEP_MIN_NS) ||
	    !atomic_compare_exchange_strong(&p->swept_ns, &last, start))
		return false;
	spm_session_blocking();
	while (left && (n = collect(p, ids, fs->itable.records))) {
		for (uint32_t k = 0; k < n; k++) {
			uint32_t i = (uint32_t)ids[k];
			uint64_t had = promised(fs, i);

			/* whose inode is in use just now is left for another time */
			spm_open_try_recheck_mapped(fs, ids[k]);
			pthread_mutex_lock(&p->lock);
			look_again(fs, i);
			pthread_mutex_unlock(&p->lock);
			any = any || promised(fs, i) < had;
		}
		left -= n < left ? n : left;
	}
	last = spm_clock_ns();
	atomic_store(&p->sweep_ns, last - start);
	atomic_store(&p->swept_ns, last);
	return any;
}

/* -- beginnings -- */

static bool may_be_mapped(const struct spm_inode *rec, const void *arg)
{
	(void)arg;
	return spm_inode_is(rec, SPM_INODE_MAPPED) && !spm_inode_is(rec, SPM_INODE_DIR);
}

static int promise_all(struct spm_fs *fs)
{
	spm_auto_free uint64_t *ids = NULL;
	uint64_t pages = 0;
	uint32_t behind;
	size_t count;
	int rc = spm_itable_collect(&fs->itable, may_be_mapped, NULL, &ids, &count);

	for (size_t k = 0; k < count; k++) {
		struct spm_inode *rec = spm_itable_get(&fs->itable, ids[k]);
		spm_auto_close int fd = -1;

		if (!rec)
			continue;
		/* most lack nothing, and that is told by less */
		behind = 0;
		fd = spm_handle_open(spm_slice_of(fs, rec)->mount_fd, &rec->handle, O_PATH);
		if (fd >= 0 && !holes_of(fd, false, &behind, &pages) && pages)
			(void)!spm_promise_make(fs, rec, ids[k], -1, true);
	}
	return rc;
}

int spm_promise_start(struct spm_fs *fs)
{
	if (atomic_exchange(&fs->promises.on, true))
		return 0;
	/* who did not see that has marked what it has opened before it let go of this */
	for (unsigned int i = 0; i < SPM_INODE_LOCKS; i++) {
		pthread_mutex_lock(&fs->inode_locks[i]);
		pthread_mutex_unlock(&fs->inode_locks[i]);
	}
	return promise_all(fs);
}

int spm_promise_init(struct spm_fs *fs)
{
	struct spm_promises *p = &fs->promises;
	void *at;
	int rc;

	pthread_mutex_init(&p->lock, NULL);
	p->bytes = (uint64_t)fs->itable.max * sizeof(*p->at);
	at = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	p->at = at;
	atomic_store(&p->on, fs->slices.file);
	/* (nobody is given more before it is known what all have promised) */
	p->counting = true;
	rc = fs->slices.file ? promise_all(fs) : 0;
	p->counting = false;
	return rc;
}

void spm_promise_destroy(struct spm_fs *fs)
{
	if (fs->promises.at)
		munmap(fs->promises.at, fs->promises.bytes);
}
