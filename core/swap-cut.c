/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots lose pages. A truncate or punch needs the extents at its edges, and when device and swap are full these
 * cannot come back. So what is to stay of each is written to another slot, and the record changes to that.
 *
 * There is such a slot also when nothing is free: one run of blocks is kept for this. What was put there goes on to the
 * start of the old slot, which is large enough, so that the run is free again for whoever waits for the lock.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <string.h>

#define LEAST_RUNS 3u /* a swap that has room for fewer whole slots keeps none for cuts */

/* A slot as it is, and as it will be. */
struct slot {
	struct spm_extent *x;
	uint64_t extent;
	uint32_t old, old_blocks;
	uint32_t to, blocks; /* 0 blocks: nothing is left */
	uint32_t check;
	uint16_t how;
	bool same;           /* nothing of it goes */
	bool kept;           /* @to is the run that is kept */
	char *buf;           /* its pages, then the trailer */
	struct spm_trailer *trailer; /* of the new one: behind any content of @buf */
};

unsigned int spm_cut_edges(const struct spm_swap *s, uint64_t from, uint64_t to, struct spm_cut cut[static 2])
{
	uint32_t mask = s->extent_bytes - 1;
	uint64_t first = from >> s->shift, last = to >> s->shift;
	unsigned int n = 0;

	if (from & mask)
		cut[n++] = (struct spm_cut){ .extent = first, .from = (uint32_t)from & mask,
					     .to = last == first ? (uint32_t)to & mask : s->extent_bytes };
	if (to & mask && to != UINT64_MAX && !(n && last == first))
		cut[n++] = (struct spm_cut){ .extent = last, .to = (uint32_t)to & mask };
	return n;
}

/* -- one slot -- */

static int slot_io(struct spm_swap *s, enum spm_io_op op, uint32_t slot, void *buf, uint32_t blocks)
{
	struct iovec iov = { .iov_base = buf, .iov_len = (size_t)blocks * SPM_SLOT_BLOCK };
	struct spm_io io = { .op = op, .file = SPM_SLOT_FILE(slot), .iov = &iov, .iovs = 1,
			     .offset = (uint64_t)SPM_SLOT_AT(slot) * SPM_SLOT_BLOCK }, *ios = &io;
	int rc = s->ops.io_fault ? s->ops.io_fault(s->ops.ctx, op == SPM_IO_WRITE) : 0;
	struct spm_ioq q;

	if (rc)
		return rc;
	spm_ioq_init(&q);
	spm_ring_submit(s->ring, &q, &ios, 1);
	(void)spm_ioq_next(&q, true);
	spm_ioq_destroy(&q);
	return io.result;
}

static int read_slot(struct spm_swap *s, const struct spm_whose *who, struct slot *c)
{
	uint32_t pages = spm_extent_pages(c->x);
	int rc;

	if (c->x->slot == SPM_SLOT_NONE || !spm_extent_ok(c->x))
		return -EPROTO;
	c->old = c->x->slot;
	c->old_blocks = spm_extent_blocks(c->x);
	rc = slot_io(s, SPM_IO_READ, c->old, c->buf, c->old_blocks);
	if (rc)
		return rc;
	if (spm_extent_how(c->x) & SPM_HOW_SMALL)
		return spm_crc(c->buf, (size_t)pages * 4096) == c->x->check ? 0 : -EBADMSG;
	return spm_trailer_ok((struct spm_trailer *)(c->buf + (size_t)pages * 4096), c->x->check, who->slice, who->ino,
			      c->extent, pages) ? 0 : -EBADMSG;
}

/* Zeroes what of a page is within the cut. True: there is something. */
static bool zero_part(char *page, uint32_t at, const struct spm_cut *cut)
{
	uint32_t from = cut->from > at ? cut->from - at : 0, to = cut->to < at + 4096 ? cut->to - at : 4096;

	if (cut->to <= at || cut->from >= at + 4096)
		return false;
	memset(page + from, 0, to - from);
	return true;
}

/* Leaves what is to stay in c->buf and c->trailer: how many pages, or -EBADMSG. A page that goes need not be right. */
static int shrink(struct slot *c, const struct spm_cut *cut)
{
	const struct spm_trailer *old = (struct spm_trailer *)(c->buf + (size_t)spm_extent_pages(c->x) * 4096);
	bool small = spm_extent_how(c->x) & SPM_HOW_SMALL;
	uint32_t left = 0, k = 0;

	memset(c->trailer, 0, sizeof(*c->trailer));
	c->same = true;
	for (uint32_t p = 0; k < spm_extent_pages(c->x); p++) {
		uint32_t at = p * 4096;
		char *page = c->buf + (size_t)k * 4096, *to = c->buf + (size_t)left * 4096;

		if (!small && !(old->map[p / 64] >> p % 64 & 1))
			continue;
		k++;
		if (at >= cut->from && at + 4096 <= cut->to) {
			c->same = false;
			continue;
		}
		if (!small && spm_crc(page, 4096) != old->crc[k - 1])
			return -EBADMSG;
		if (to != page)
			memcpy(to, page, 4096);
		if (zero_part(to, at, cut))
			c->same = false;
		c->trailer->map[p / 64] |= UINT64_C(1) << p % 64;
		c->trailer->crc[left++] = spm_crc(to, 4096);
	}
	return (int)left;
}

/* The first @pages of the extent, and no other. */
static bool is_dense(const struct spm_trailer *t, uint32_t pages)
{
	for (uint32_t p = 0; p < pages; p++)
		if (!(t->map[p / 64] >> p % 64 & 1))
			return false;
	return true;
}

/* Reads a slot, and makes of it what is to stay. */
static int prepare(struct spm_swap *s, const struct spm_whose *who, const struct spm_cut *cut, struct slot *c)
{
	struct spm_trailer *t;
	uint32_t pages;
	int rc;

	*c = (struct slot){ .x = spm_extmap_get(&s->map, who->file, cut->extent, false), .extent = cut->extent };
	c->buf = aligned_alloc(4096, s->extent_bytes + 2 * sizeof(*t));
	if (!c->buf)
		return -ENOMEM;
	c->trailer = t = (struct spm_trailer *)(c->buf + s->extent_bytes + sizeof(*t));
	rc = read_slot(s, who, c);
	if (!rc)
		rc = shrink(c, cut);
	if (rc < 0)
		return spm_in_damaged(s, who, c->extent, rc);
	pages = (uint32_t)rc;
	if (!pages)
		return 0;
	c->how = (uint16_t)(pages | (is_dense(t, pages) ? 0 : SPM_HOW_SPARSE));
	if (!(c->how & SPM_HOW_SPARSE) && pages <= SPM_SMALL_PAGES)
		c->how |= SPM_HOW_SMALL;
	c->blocks = pages + !(c->how & SPM_HOW_SMALL);
	if (c->how & SPM_HOW_SMALL) {
		c->check = spm_crc(c->buf, (size_t)pages * 4096);
		return 0;
	}
	t->pages = (uint16_t)pages;
	t->slice = who->slice;
	t->ino = who->ino;
	t->extent = c->extent;
	c->check = spm_trailer_seal(t);
	memcpy(c->buf + (size_t)pages * 4096, t, sizeof(*t));
	return 0;
}

static void record(struct spm_swap *s, const struct spm_whose *who, struct slot *c, uint32_t slot)
{
	spm_record_change(s, who->file, c->extent, c->x, slot, c->check, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, c->how, 0));
	spm_swap_fault(s, "cut:recorded");
}

/* -- where it goes -- */

/* With s->cut.lock. */
static bool has_run(struct spm_swap *s)
{
	if (s->cut.run != SPM_SLOT_NONE && spm_slots_is_retired(&s->slots, SPM_SLOT_FILE(s->cut.run))) {
		spm_slots_unhold(&s->slots, s->cut.run, s->cut.blocks, 0);
		s->cut.run = SPM_SLOT_NONE;
	}
	if (s->cut.run == SPM_SLOT_NONE && s->cut.blocks && spm_slots_hold(&s->slots, s->cut.blocks, &s->cut.run))
		s->cut.run = SPM_SLOT_NONE;
	return s->cut.run != SPM_SLOT_NONE;
}

/* Writes it to a new slot, or leaves that for the moment at which it may have the run. */
static int place(struct spm_swap *s, struct slot *c)
{
	int rc;

	if (c->same || !c->blocks)
		return 0;
	/* a file that cannot be written to is not asked again */
	for (unsigned int i = 0; i <= s->n_files; i++) {
		rc = spm_slot_alloc_instead(s, c->blocks, &c->to);
		if (rc == -ENOSPC && has_run(s)) {
			c->kept = true;
			return 0;
		}
		if (rc)
			return rc;
		rc = slot_io(s, SPM_IO_WRITE, c->to, c->buf, c->blocks);
		if (!rc)
			break;
		spm_write_failed(s, c->to, rc);
		spm_slots_free(&s->slots, c->to, c->blocks);
		c->to = SPM_SLOT_NONE;
	}
	spm_swap_fault(s, "cut:written");
	return rc;
}

/* By way of the run: @c is in its old slot then, or nothing has changed. */
static int by_run(struct spm_swap *s, const struct spm_whose *who, struct slot *c)
{
	int rc = slot_io(s, SPM_IO_WRITE, s->cut.run, c->buf, c->blocks);

	if (rc) {
		spm_write_failed(s, s->cut.run, rc);
		return -ENOSPC; /* another disk may have some */
	}
	spm_swap_fault(s, "cut:written");
	record(s, who, c, s->cut.run);
	rc = slot_io(s, SPM_IO_WRITE, c->old, c->buf, c->blocks);
	if (rc) { /* then it stays where it is */
		spm_write_failed(s, c->old, rc);
		spm_slots_unhold(&s->slots, s->cut.run, s->cut.blocks, c->blocks);
		s->cut.run = SPM_SLOT_NONE;
		spm_slots_free(&s->slots, c->old, c->old_blocks);
		return 0;
	}
	record(s, who, c, c->old);
	if (c->old_blocks > c->blocks)
		spm_slots_free(&s->slots, c->old + c->blocks, c->old_blocks - c->blocks);
	return 0;
}

static void commit(struct spm_swap *s, const struct spm_whose *who, struct slot *c)
{
	if (c->blocks)
		record(s, who, c, c->to);
	else
		spm_record_clear(s, who->file, c->x);
	spm_slots_free(&s->slots, c->old, c->old_blocks);
	c->to = SPM_SLOT_NONE;
}

/* -- all of it -- */

/* First what needs the run, since that may fail as yet. */
static int commit_all(struct spm_swap *s, const struct spm_whose *who, struct slot *c, unsigned int n)
{
	int rc = 0;

	for (unsigned int i = 0; i < n && !rc; i++)
		if (c[i].kept)
			rc = by_run(s, who, &c[i]);
	for (unsigned int i = 0; i < n && !rc; i++)
		if (!c[i].kept && !c[i].same)
			commit(s, who, &c[i]);
	return rc;
}

int spm_cut(struct spm_swap *s, const struct spm_whose *who, const struct spm_cut cut[], unsigned int n)
{
	struct slot c[2] = { { .buf = NULL } };
	int rc = 0;

	pthread_mutex_lock(&s->cut.lock);
	for (unsigned int i = 0; i < n && !rc; i++) {
		rc = prepare(s, who, &cut[i], &c[i]);
		if (!rc)
			rc = place(s, &c[i]);
	}
	if (!rc)
		rc = commit_all(s, who, c, n);
	for (unsigned int i = 0; i < n; i++) {
		if (c[i].to != SPM_SLOT_NONE)
			spm_slots_free(&s->slots, c[i].to, c[i].blocks);
		free(c[i].buf);
	}
	pthread_mutex_unlock(&s->cut.lock);
	return rc;
}

void spm_cuts_init(struct spm_swap *s)
{
	const struct spm_extmap_setup *setup = s->map.setup;
	uint32_t whole = s->extent_bytes / SPM_SLOT_BLOCK + 1;
	uint64_t all = 0;

	for (unsigned int i = 0; i < setup->files; i++)
		all += setup->blocks_limit[i] - SPM_SLOT_FIRST;
	s->cut.blocks = all < LEAST_RUNS * whole ? 0 : whole;
	pthread_mutex_lock(&s->cut.lock);
	(void)has_run(s); /* or later, when something is free */
	pthread_mutex_unlock(&s->cut.lock);
}

void spm_cuts_compact(struct spm_swap *s, unsigned int file)
{
	uint32_t to;

	pthread_mutex_lock(&s->cut.lock);
	if (has_run(s) && SPM_SLOT_FILE(s->cut.run) == file &&
	    !spm_slots_hold_below(&s->slots, s->cut.blocks, s->cut.run, &to)) {
		spm_slots_unhold(&s->slots, s->cut.run, s->cut.blocks, 0);
		s->cut.run = to;
	}
	pthread_mutex_unlock(&s->cut.lock);
}
