/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/slots.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/*
 * Where the free runs of a file are: a tree over leaves of LEAF_BLOCKS bits each, of which every node
 * knows the free blocks at its start, at its end, and its longest free run. So the lowest run of any
 * length is found by one way down, and a change is one way up: a search from a hint would be quadratic in
 * a file that is nearly full of holes too small for a 2 MiB extent, which is what eviction and return of
 * small extents lead to. It costs 12 bytes per 512 blocks.
 *
 * The tree ends at a power of two; what is behind the limit counts as free and is never given out, since
 * the lowest run is all that is asked for. For the same reason blocks behind the present size need no
 * mark.
 */
#define LEAF_WORDS  16u
#define LEAF_BLOCKS (LEAF_WORDS * 64u)

struct spm_slot_runs {
	uint32_t first, last, longest;
};

static struct spm_slot_runs runs_free(uint32_t blocks)
{
	return (struct spm_slot_runs){ blocks, blocks, blocks };
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Leaves of the tree: a power of two. */
static uint32_t leaves_for(uint32_t limit)
{
	uint32_t n = 1;

	while ((uint64_t)n * LEAF_BLOCKS < limit)
		n *= 2;
	return n;
}

/* Words of @bits: whole leaves. */
static size_t words_for(uint32_t limit)
{
	return ((size_t)limit + LEAF_BLOCKS - 1) / LEAF_BLOCKS * LEAF_WORDS;
}

/* ---- the bits of one leaf ---- */

/* The longest run of ones in @x. */
static uint32_t longest_ones(uint64_t x)
{
	uint32_t n = 0;

	for (; x; x &= x << 1)
		n++;
	return n;
}

static struct spm_slot_runs leaf_runs(const uint64_t *bits)
{
	struct spm_slot_runs r = { 0, 0, 0 };
	uint32_t run = 0; /* the free run that has come so far */
	bool taken = false;

	for (unsigned int i = 0; i < LEAF_WORDS; i++) {
		uint64_t w = bits[i];

		if (!w) {
			run += 64;
			continue;
		}
		run += (uint32_t)__builtin_ctzll(w);
		if (!taken)
			r.first = run;
		taken = true;
		r.longest = max_u32(r.longest, run);
		/* within a word only what is longer than the longest so far matters, and that is rare */
		if (r.longest < 62 && ~w)
			r.longest = max_u32(r.longest, longest_ones(~w));
		run = (uint32_t)__builtin_clzll(w);
	}
	if (!taken)
		return runs_free(LEAF_BLOCKS);
	r.last = run;
	r.longest = max_u32(r.longest, run);
	return r;
}

/* The first free run of @n blocks that ends within the leaf; there is one. */
static uint32_t leaf_find(const uint64_t *bits, uint32_t n)
{
	uint32_t at = 0, start = 0;

	while (at < LEAF_BLOCKS && at - start < n) {
		uint64_t w = bits[at / 64] >> at % 64;
		uint32_t step = 64 - at % 64;

		if (w & 1) {
			/* shifted in zeros are no free blocks, but there the word ends */
			uint64_t zeros = ~w;

			if (zeros && (uint32_t)__builtin_ctzll(zeros) < step)
				step = (uint32_t)__builtin_ctzll(zeros);
			start = at + step;
		} else if (w) {
			step = (uint32_t)__builtin_ctzll(w);
		}
		at += step;
	}
	return start;
}

/* ---- the tree ---- */

/* runs[1] is the root, runs[i] has runs[2 i] and runs[2 i + 1] below it; @half: blocks below each. */
static void join(struct spm_slot_runs *runs, uint32_t i, uint32_t half)
{
	const struct spm_slot_runs *a = &runs[2 * i], *b = &runs[2 * i + 1];

	runs[i].first = a->first == half ? half + b->first : a->first;
	runs[i].last = b->last == half ? half + a->last : b->last;
	runs[i].longest = max_u32(a->last + b->first, max_u32(a->longest, b->longest));
}

/* Blocks [at, at + n) have changed. */
static void changed(struct spm_slot_file *f, uint32_t at, uint32_t n)
{
	uint32_t leaves = leaves_for(f->limit), half = LEAF_BLOCKS;
	uint32_t from = at / LEAF_BLOCKS, to = (at + n - 1) / LEAF_BLOCKS;

	for (uint32_t i = from; i <= to; i++)
		f->runs[leaves + i] = leaf_runs(f->bits + (size_t)i * LEAF_WORDS);
	from = (leaves + from) / 2;
	to = (leaves + to) / 2;
	for (; from; from /= 2, to /= 2, half *= 2)
		for (uint32_t i = from; i <= to; i++)
			join(f->runs, i, half);
	/* the free run at the tree's end reaches over the limit */
	f->top = leaves * LEAF_BLOCKS - f->runs[1].last;
}

/* The lowest free run of @n blocks; it may end behind the limit. UINT32_MAX: not even that. */
static uint32_t lowest(const struct spm_slot_file *f, uint32_t n)
{
	uint32_t leaves = leaves_for(f->limit), base = 0, size = leaves * LEAF_BLOCKS, i = 1;

	if (f->runs[1].longest < n)
		return UINT32_MAX;
	while (i < leaves) {
		const struct spm_slot_runs *a = &f->runs[2 * i];

		if (f->runs[i].first >= n)
			return base;
		size /= 2;
		i *= 2;
		if (a[0].longest >= n)
			continue;
		if (a[0].last + a[1].first >= n)
			return base + size - a[0].last;
		base += size;
		i++;
	}
	if (f->runs[i].first >= n)
		return base;
	return base + leaf_find(f->bits + (size_t)base / 64, n);
}

/* Sets or clears a range of bits; how many of them were otherwise before. */
static uint32_t mark(uint64_t *bits, uint32_t at, uint32_t n, bool taken)
{
	uint32_t count = 0, end = at + n;

	while (at < end) {
		uint32_t in = at % 64, step = end - at < 64 - in ? end - at : 64 - in;
		uint64_t mask = (step == 64 ? UINT64_MAX : (UINT64_C(1) << step) - 1) << in, *w = &bits[at / 64];

		count += (uint32_t)__builtin_popcountll((taken ? ~*w : *w) & mask);
		*w = taken ? *w | mask : *w & ~mask;
		at += step;
	}
	return count;
}

static bool any_taken(const uint64_t *bits, uint32_t at, uint32_t n)
{
	uint32_t end = at + n;

	while (at < end) {
		uint32_t in = at % 64, step = end - at < 64 - in ? end - at : 64 - in;
		uint64_t mask = (step == 64 ? UINT64_MAX : (UINT64_C(1) << step) - 1) << in;

		if (bits[at / 64] & mask)
			return true;
		at += step;
	}
	return false;
}

static void take(struct spm_slot_file *f, uint32_t at, uint32_t n)
{
	f->used += mark(f->bits, at, n, true);
	changed(f, at, n);
}

/* ---- making and unmaking ---- */

static int init_file(struct spm_slot_file *f, uint32_t limit, uint32_t blocks)
{
	uint32_t leaves = leaves_for(limit), half = LEAF_BLOCKS, from = leaves;

	f->limit = limit;
	f->blocks = blocks;
	f->bits = calloc(words_for(limit), sizeof(*f->bits));
	f->runs = calloc((size_t)leaves * 2, sizeof(*f->runs));
	if (!f->bits || !f->runs)
		return -ENOMEM;
	for (uint32_t i = leaves; i < leaves * 2; i++)
		f->runs[i] = runs_free(LEAF_BLOCKS);
	while ((from /= 2)) {
		for (uint32_t i = from; i < from * 2; i++)
			join(f->runs, i, half);
		half *= 2;
	}
	take(f, 0, SPM_SLOT_FIRST);
	f->used = 0; /* the header is not */
	return 0;
}

int spm_slots_init(struct spm_slots *s, unsigned int count, const uint32_t *limit, const uint32_t *blocks)
{
	int rc = 0;

	memset(s, 0, sizeof(*s));
	if (count > SPM_SWAP_FILES)
		return -EINVAL;
	for (unsigned int i = 0; i < count; i++)
		if (limit[i] < SPM_SLOT_FIRST || limit[i] > SPM_SLOT_BLOCKS_MAX || blocks[i] > limit[i] ||
		    blocks[i] < SPM_SLOT_FIRST)
			return -EINVAL;
	pthread_mutex_init(&s->lock, NULL);
	s->used_max = UINT64_MAX;
	for (s->count = 0; !rc && s->count < count; s->count++)
		rc = init_file(&s->file[s->count], limit[s->count], blocks[s->count]);
	if (rc)
		spm_slots_destroy(s);
	return rc;
}

void spm_slots_destroy(struct spm_slots *s)
{
	for (unsigned int i = 0; i < s->count; i++) {
		free(s->file[i].bits);
		free(s->file[i].runs);
	}
	pthread_mutex_destroy(&s->lock);
	memset(s, 0, sizeof(*s));
}

/* ---- allocation ---- */

static int64_t seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* How far a file may reach: its limit, or where it is if it could not grow a moment ago (the disk may have
 * room again). */
static uint32_t reach(const struct spm_slot_file *f)
{
	return f->stuck && seconds() - f->stuck < SPM_SLOTS_RETRY ? f->blocks : f->limit;
}

static uint64_t used_locked(const struct spm_slots *s)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < s->count; i++)
		n += s->file[i].used;
	return n;
}

/* Whether more of @a is free than of @b, of what each was allotted: so all fill at one pace, and all disks
 * have work. A file that was shrunk has little to offer until it grows. */
static bool freer(const struct spm_slot_file *a, const struct spm_slot_file *b)
{
	uint64_t free_a = a->blocks - SPM_SLOT_FIRST - a->used, free_b = b->blocks - SPM_SLOT_FIRST - b->used;

	return free_a * b->limit > free_b * a->limit;
}

/* The files that take new slots, in the order in which they are to be tried. */
static unsigned int by_free(const struct spm_slots *s, unsigned int order[static SPM_SWAP_FILES])
{
	unsigned int n = 0, j;

	for (unsigned int i = 0; i < s->count; i++) {
		if (s->file[i].retired)
			continue;
		for (j = n++; j > 0 && freer(&s->file[i], &s->file[order[j - 1]]); j--)
			order[j] = order[j - 1];
		order[j] = i;
	}
	return n;
}

static int alloc_locked(struct spm_slots *s, uint32_t n, uint64_t used_max, uint32_t *addr, unsigned int *grow)
{
	unsigned int order[SPM_SWAP_FILES], count = by_free(s, order);
	int rc = -ENOSPC;

	if (n > used_max || used_locked(s) > used_max - n)
		return -EDQUOT;
	for (unsigned int i = 0; i < count; i++) {
		struct spm_slot_file *f = &s->file[order[i]];
		uint32_t at = lowest(f, n);

		if (at == UINT32_MAX)
			continue;
		if ((uint64_t)at + n <= f->blocks) {
			take(f, at, n);
			*addr = SPM_SLOT_ADDR(order[i], at);
			return 0;
		}
		if (rc == -ENOSPC && (uint64_t)at + n <= reach(f)) {
			*grow = order[i];
			rc = -EAGAIN;
		}
	}
	return rc;
}

int spm_slots_alloc(struct spm_slots *s, uint32_t n, uint32_t *addr, unsigned int *grow)
{
	int rc;

	if (!n || n > SPM_SLOT_BLOCKS_MAX)
		return -ENOSPC;
	pthread_mutex_lock(&s->lock);
	rc = alloc_locked(s, n, s->used_max, addr, grow);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int spm_slots_alloc_instead(struct spm_slots *s, uint32_t n, uint32_t *addr, unsigned int *grow)
{
	int rc;

	if (!n || n > SPM_SLOT_BLOCKS_MAX)
		return -ENOSPC;
	pthread_mutex_lock(&s->lock);
	rc = alloc_locked(s, n, UINT64_MAX, addr, grow);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* Takes the lowest run, if it ends at or below block @below of the file. */
static int take_below(struct spm_slots *s, unsigned int file, uint32_t n, uint32_t below, uint32_t *addr)
{
	struct spm_slot_file *f = &s->file[file];
	uint32_t at = f->retired ? UINT32_MAX : lowest(f, n);

	if (at == UINT32_MAX || at + n > below || at + n > f->blocks)
		return -ENOSPC;
	take(f, at, n);
	*addr = SPM_SLOT_ADDR(file, at);
	return 0;
}

int spm_slots_alloc_below(struct spm_slots *s, uint32_t n, uint32_t below, uint32_t *addr)
{
	unsigned int file = SPM_SLOT_FILE(below);
	int rc;

	if (!n || n > SPM_SLOT_BLOCKS_MAX || file >= s->count)
		return -ENOSPC;
	pthread_mutex_lock(&s->lock);
	rc = take_below(s, file, n, SPM_SLOT_AT(below), addr);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* What was just taken is held. */
static void held(struct spm_slots *s, uint32_t addr, uint32_t n)
{
	s->file[SPM_SLOT_FILE(addr)].used -= n;
	s->file[SPM_SLOT_FILE(addr)].held += n;
}

int spm_slots_hold(struct spm_slots *s, uint32_t n, uint32_t *addr)
{
	unsigned int order[SPM_SWAP_FILES], count;
	int rc = -ENOSPC;

	pthread_mutex_lock(&s->lock);
	count = by_free(s, order);
	for (unsigned int i = 0; i < count && rc; i++)
		rc = take_below(s, order[i], n, UINT32_MAX, addr);
	if (!rc)
		held(s, *addr, n);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int spm_slots_hold_below(struct spm_slots *s, uint32_t n, uint32_t below, uint32_t *addr)
{
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = take_below(s, SPM_SLOT_FILE(below), n, SPM_SLOT_AT(below), addr);
	if (!rc)
		held(s, *addr, n);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void spm_slots_unhold(struct spm_slots *s, uint32_t addr, uint32_t n, uint32_t used)
{
	struct spm_slot_file *f = &s->file[SPM_SLOT_FILE(addr)];

	pthread_mutex_lock(&s->lock);
	f->held -= n;
	f->used += used;
	if (n > used) {
		(void)mark(f->bits, SPM_SLOT_AT(addr) + used, n - used, false);
		changed(f, SPM_SLOT_AT(addr) + used, n - used);
	}
	pthread_mutex_unlock(&s->lock);
}

/* Whether there can be a slot at @addr. */
static bool in_range(const struct spm_slots *s, uint32_t addr, uint32_t n)
{
	unsigned int file = SPM_SLOT_FILE(addr);
	uint32_t at = SPM_SLOT_AT(addr);

	return n && file < s->count && at >= SPM_SLOT_FIRST && n <= SPM_SLOT_BLOCKS_MAX &&
	       at + n <= s->file[file].blocks;
}

void spm_slots_free(struct spm_slots *s, uint32_t addr, uint32_t n)
{
	struct spm_slot_file *f = &s->file[SPM_SLOT_FILE(addr) % SPM_SWAP_FILES];

	pthread_mutex_lock(&s->lock);
	if (in_range(s, addr, n)) {
		f->used -= mark(f->bits, SPM_SLOT_AT(addr), n, false);
		changed(f, SPM_SLOT_AT(addr), n);
	}
	pthread_mutex_unlock(&s->lock);
}

int spm_slots_take(struct spm_slots *s, uint32_t addr, uint32_t n)
{
	struct spm_slot_file *f = &s->file[SPM_SLOT_FILE(addr) % SPM_SWAP_FILES];
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (!in_range(s, addr, n))
		rc = -ERANGE;
	else if (any_taken(f->bits, SPM_SLOT_AT(addr), n))
		rc = -EEXIST;
	else
		take(f, SPM_SLOT_AT(addr), n);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* ---- sizes ---- */

void spm_slots_grown(struct spm_slots *s, unsigned int file, uint32_t blocks)
{
	struct spm_slot_file *f = &s->file[file];

	pthread_mutex_lock(&s->lock);
	if (blocks > f->blocks)
		f->blocks = blocks < f->limit ? blocks : f->limit;
	f->stuck = 0;
	pthread_mutex_unlock(&s->lock);
}

void spm_slots_cannot_grow(struct spm_slots *s, unsigned int file)
{
	pthread_mutex_lock(&s->lock);
	/* 0 stands for "it may" */
	s->file[file].stuck = seconds() | 1;
	pthread_mutex_unlock(&s->lock);
}

uint32_t spm_slots_shrink(struct spm_slots *s, unsigned int file, uint32_t keep)
{
	struct spm_slot_file *f = &s->file[file];
	uint32_t blocks;

	pthread_mutex_lock(&s->lock);
	if (f->blocks - f->top > keep)
		f->blocks = f->top + keep;
	blocks = f->blocks;
	pthread_mutex_unlock(&s->lock);
	return blocks;
}

bool spm_slots_retire(struct spm_slots *s, unsigned int file)
{
	bool first;

	pthread_mutex_lock(&s->lock);
	first = !s->file[file].retired;
	s->file[file].retired = true;
	pthread_mutex_unlock(&s->lock);
	return first;
}

bool spm_slots_is_retired(struct spm_slots *s, unsigned int file)
{
	bool yes;

	pthread_mutex_lock(&s->lock);
	yes = s->file[file].retired;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

uint64_t spm_slots_bytes(struct spm_slots *s)
{
	uint64_t n = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < s->count; i++)
		n += s->file[i].blocks;
	pthread_mutex_unlock(&s->lock);
	return n * SPM_SLOT_BLOCK;
}

uint64_t spm_slots_used(struct spm_slots *s)
{
	uint64_t n;

	pthread_mutex_lock(&s->lock);
	n = used_locked(s);
	pthread_mutex_unlock(&s->lock);
	return n * SPM_SLOT_BLOCK;
}

static uint64_t left_locked(struct spm_slots *s)
{
	uint64_t n = 0, used = used_locked(s), quota = s->used_max > used ? s->used_max - used : 0;

	for (unsigned int i = 0; i < s->count; i++)
		if (!s->file[i].retired)
			n += reach(&s->file[i]) - SPM_SLOT_FIRST - s->file[i].used - s->file[i].held;
	return n < quota ? n : quota;
}

uint64_t spm_slots_left(struct spm_slots *s)
{
	uint64_t n;

	pthread_mutex_lock(&s->lock);
	n = left_locked(s);
	pthread_mutex_unlock(&s->lock);
	return n * SPM_SLOT_BLOCK;
}

uint64_t spm_slots_space(struct spm_slots *s)
{
	uint64_t n;

	pthread_mutex_lock(&s->lock);
	n = used_locked(s) + left_locked(s);
	pthread_mutex_unlock(&s->lock);
	return n * SPM_SLOT_BLOCK;
}

uint64_t spm_slots_held(struct spm_slots *s)
{
	uint64_t n = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < s->count; i++)
		n += s->file[i].held;
	pthread_mutex_unlock(&s->lock);
	return n * SPM_SLOT_BLOCK;
}
