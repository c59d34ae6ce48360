/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single pages written into the slots that they are in. A store at random into what is cold would bring a whole extent back, for
 * which another one has to leave; so it goes where the page is, as a read does, until the extent is used again and again.
 *
 * The page is overwritten in its place, then the trailer, then the record gets the trailer's new check. Law 2: before the first of
 * these a note says what both checksums of the page and of the trailer are (struct spm_extmap_store). Whoever dies in between
 * leaves a page that is as before or as after, since a write to the file ends or was never begun when a process is gone
 * (spm_swap_own() waits for the end), and the successor makes trailer and record say which. The same is done at once
 * where a write fails.
 */
#include "core/swap-local.h"
#include "core/extmap-local.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BLOCK SPM_SLOT_BLOCK

static int block_io(struct spm_swap *s, uint32_t slot, uint32_t block, void *buf, bool write)
{
	off_t at = (off_t)(SPM_SLOT_AT(slot) + (uint64_t)block) * BLOCK;
	int fd = s->files[SPM_SLOT_FILE(slot)], rc = s->ops.io_fault ? s->ops.io_fault(s->ops.ctx, write) : 0;
	ssize_t n;

	if (rc)
		return rc;
	do
		n = write ? pwrite(fd, buf, BLOCK, at) : pread(fd, buf, BLOCK, at);
	while (n < 0 && errno == EINTR);
	return n == BLOCK ? 0 : n < 0 ? -errno : -EIO;
}

static uint32_t note_sum(const struct spm_extmap_store *n)
{
	struct spm_extmap_store copy = *n;

	copy.sum = 0;
	copy.on = 1;
	return spm_crc(&copy, sizeof(copy));
}

static void note_end(struct spm_extmap_store *n)
{
	__atomic_store_n(&n->on, 0, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	n->sum = 0;
}

/* NULL: others have all of them. */
static struct spm_extmap_store *note_get(struct spm_swap *s)
{
	uint32_t taken = atomic_load(&s->stores);
	unsigned int i;

	do {
		i = (unsigned int)__builtin_ctz(~taken);
		if (i >= EXTMAP_STORES)
			return NULL;
	} while (!atomic_compare_exchange_weak(&s->stores, &taken, taken | UINT32_C(1) << i));
	return spm_extmap_stores_of(&s->map) + i;
}

static void note_put(struct spm_swap *s, const struct spm_extmap_store *n)
{
	atomic_fetch_and(&s->stores, ~(UINT32_C(1) << (n - spm_extmap_stores_of(&s->map))));
}

/* -- what a note leads to -- */

static uint32_t seal_with(struct spm_trailer *t, uint32_t page, uint32_t crc)
{
	t->crc[page] = crc;
	return spm_trailer_seal(t);
}

/*
 * Makes trailer and record say what the page is, before or after the store. -EBADMSG: the trailer is neither of both, or the page:
 * then that is what a read finds. @block: room for one.
 */
static int settle(struct spm_swap *s, const struct spm_extmap_store *n, struct spm_extent *x, struct spm_trailer *t, void *block)
{
	const struct spm_extfile *f = spm_extmap_file(&s->map, n->file);
	uint32_t pages = spm_extent_pages(x), check, was;
	int rc = block_io(s, n->slot, pages, t, false);

	if (rc)
		return rc;
	if (spm_trailer_ok(t, n->old_check, f->slice, f->ino, n->extent, pages))
		was = n->old_check;
	else if (spm_trailer_ok(t, n->new_check, f->slice, f->ino, n->extent, pages))
		was = n->new_check;
	else
		return -EBADMSG;
	rc = block_io(s, n->slot, n->page, block, false);
	if (rc)
		return rc;
	check = seal_with(t, n->page, spm_crc(block, BLOCK) == n->new_crc ? n->new_crc : n->old_crc);
	if (check != n->old_check && check != n->new_check)
		return -EBADMSG;
	if (check != was)
		rc = block_io(s, n->slot, pages, t, true);
	if (!rc && check != x->check)
		spm_extmap_change(&s->map, n->file, n->extent, x, x->slot, check, spm_extent_how(x));
	return rc;
}

/* The disk fails just now: the note stays, with its place taken, and the next process tries again to make the trailer right. Until
 * then the page is an error to read. One whose extent is elsewhere by then, or gone, is dropped. */
static bool stays_open(int settled)
{
	return settled && settled != -EBADMSG;
}

static int settle_left(struct spm_swap *s, const struct spm_extmap_store *n, void *blocks)
{
	const struct spm_extfile *f = spm_extmap_file(&s->map, n->file);
	uint32_t file = n->file && n->file < s->map.heads_top ? n->file : 0;
	struct spm_extent *x = file && f->ino == n->ino && f->slice == n->slice ? spm_extmap_get(&s->map, file, n->extent, false) : NULL;
	uint16_t how = x ? spm_extent_how(x) : 0;

	/* whoever set the note had the extent to himself */
	if (!how || how & (SPM_HOW_SMALL | SPM_HOW_DAMAGED) || !spm_extent_ok(x) || x->slot != n->slot ||
	    SPM_SLOT_FILE(n->slot) >= s->n_files || n->page >= (how & SPM_HOW_PAGES) ||
	    (x->check != n->old_check && x->check != n->new_check))
		return 0;
	return settle(s, n, x, blocks, (char *)blocks + BLOCK);
}

int spm_stores_settle(struct spm_swap *s)
{
	struct spm_extmap_store *n = spm_extmap_stores_of(&s->map);
	spm_auto_free char *blocks = NULL;
	int rc = 0;

	for (unsigned int i = 0; i < EXTMAP_STORES && !rc; i++, n++) {
		if (!n->on && !n->sum)
			continue;
		blocks = blocks ? blocks : aligned_alloc(BLOCK, 2 * BLOCK);
		rc = blocks ? spm_swap_own(s) : -ENOMEM;
		if (rc)
			break;
		/* one that does not fit was not whole yet: nothing was written for it */
		if (n->on && n->sum == note_sum(n)) {
			int bad = settle_left(s, n, blocks);

			if (stays_open(bad)) /* once more */
				bad = settle_left(s, n, blocks);
			if (bad)
				spm_log(SPM_LOG_WARNING, "inode %llu, extent %llu: what was being written into its slot: %s",
					(unsigned long long)n->ino, (unsigned long long)n->extent,
					bad == -EBADMSG ? "its checksum is wrong" : strerror(-bad));
			spm_swap_fault(s, "store:settled");
			if (stays_open(bad)) {
				atomic_fetch_or(&s->stores, UINT32_C(1) << i);
				continue;
			}
		}
		note_end(n);
	}
	return rc;
}

/* -- stores -- */

/* Where in the slot the page is; -EALREADY: nowhere, or not so that it can be written alone. */
static int place_of(struct spm_swap *s, const struct spm_job *j, uint32_t page)
{
	uint32_t at = 0;

	if (j->how & SPM_HOW_SMALL || SPM_HOW_STATE_OF(spm_extent_how(j->x)) != SPM_EXTENT_SWAPPED ||
	    spm_slots_is_retired(&s->slots, SPM_SLOT_FILE(j->slot)) || !(j->bits[page / 64] >> page % 64 & 1))
		return -EALREADY;
	for (uint32_t w = 0; w < page / 64; w++)
		at += (uint32_t)__builtin_popcountll(j->bits[w]);
	return (int)(at + (uint32_t)__builtin_popcountll(j->bits[page / 64] & ((UINT64_C(1) << page % 64) - 1)));
}

/* @j->trailer is that of the slot; @block what the page is to be. */
static int write_page(struct spm_swap *s, struct spm_job *j, struct spm_extmap_store *n, uint32_t at, char *block)
{
	uint32_t old_crc = j->trailer->crc[at];
	int rc;

	*n = (struct spm_extmap_store){ .ino = spm_extmap_file(&s->map, j->file)->ino,
					.slice = spm_extmap_file(&s->map, j->file)->slice, .extent = j->extent, .file = j->file,
					.slot = j->slot, .page = (uint16_t)at, .old_crc = old_crc, .old_check = j->x->check,
					.new_crc = spm_crc(block, BLOCK) };
	n->new_check = seal_with(j->trailer, at, n->new_crc);
	spm_extmap_barrier();
	n->sum = note_sum(n);
	spm_extmap_barrier();
	__atomic_store_n(&n->on, 1, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	spm_swap_fault(s, "store:noted");
	rc = block_io(s, j->slot, at, block, true);
	spm_swap_fault(s, "store:written");
	if (!rc)
		rc = block_io(s, j->slot, j->pages, j->trailer, true);
	spm_swap_fault(s, "store:sealed");
	if (!rc)
		spm_record_change(s, j->file, j->extent, j->x, j->slot, n->new_check, spm_extent_how(j->x));
	spm_swap_fault(s, "store:recorded");
	if (!rc) {
		spm_trailer_keep(s, j);
	} else {
		int bad = settle(s, n, j->x, j->trailer, block);

		spm_write_failed(s, j->slot, rc);
		if (bad)
			spm_log(SPM_LOG_WARNING, "inode %llu, extent %llu: a write into its slot has failed, and what is there cannot be told: %s",
				(unsigned long long)n->ino, (unsigned long long)n->extent, strerror(-bad));
		if (stays_open(bad))
			return rc;
	}
	note_end(n);
	return rc;
}

static int store_page(struct spm_swap *s, const struct spm_whose *who, const char *data, uint64_t off)
{
	spm_auto_free char *block = aligned_alloc(BLOCK, BLOCK);
	struct spm_extmap_store *n = block ? note_get(s) : NULL;
	struct spm_job *j;
	int rc, at;

	if (!n)
		return -EALREADY;
	j = spm_job_get(s, who->slice, true);
	rc = spm_job_describe(s, j, who, off >> s->shift);
	at = rc ? rc : place_of(s, j, (uint32_t)(off - j->off) / 4096);
	rc = at < 0 ? at : 0;
	if (!rc && !(j->how & SPM_HOW_SPARSE))
		rc = spm_job_trailer(s, j, who);
	if (!rc) {
		memcpy(block, data, BLOCK);
		rc = spm_swap_own(s);
	}
	if (!rc)
		rc = write_page(s, j, n, (uint32_t)at, block);
	spm_job_put(s, j);
	if (!n->on)
		note_put(s, n);
	return rc;
}

int spm_swap_store(struct spm_swap *s, uint32_t file, int fd, const void *page, uint64_t off)
{
	const struct timespec now[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
	uint64_t extent = off >> s->shift;
	struct spm_whose who;
	struct stat st;
	int rc;

	if (!file || off % BLOCK || !spm_swap_bytes_of(s, file))
		return -EALREADY;
	rc = spm_store_begin(s, file, extent, off, &who);
	if (rc)
		return rc;
	/* where a write takes suid or capabilities away, a write it is */
	if (fstat(fd, &st) || off + BLOCK > (uint64_t)st.st_size || st.st_mode & (S_ISUID | S_ISGID) ||
	    fgetxattr(fd, "security.capability", NULL, 0) > 0)
		rc = -EALREADY;
	if (!rc)
		rc = store_page(s, &who, page, off);
	if (!rc && futimens(fd, now))
		rc = -errno;
	if (!rc)
		atomic_fetch_add(s->stored_bytes, BLOCK);
	spm_store_end(s, file, extent);
	return rc;
}
