/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The leaves of each file, private: a sorted array of its large ones. In a file without gaps leaf n is at place
 * n, which is where a search begins (and ends); else it is a binary one.
 */
#include "core/extmap-local.h"

#include <errno.h>
#include <string.h>

#define ROOM_MIN 6u

static uint64_t bytes_of(uint32_t room)
{
	return sizeof(struct spm_extmap_leaves) + room * sizeof(struct spm_extmap_at);
}

/* Makes room for another leaf. -ENOMEM. */
static int grow(struct spm_extmap *m, uint32_t file, bool large)
{
	struct spm_extmap_leaves *l = spm_extleaves_of(m, file), *fresh;
	uint32_t room = l ? l->room : 0;

	if (l && (!large || l->count < room))
		return 0;
	if (large)
		room = room ? room + room / 2 : ROOM_MIN;
	fresh = realloc(l, bytes_of(room));
	if (!fresh)
		return -ENOMEM;
	if (!l) {
		memset(fresh, 0, sizeof(*fresh));
		m->chains++;
	}
	m->chain_bytes += bytes_of(room) - (l ? bytes_of(fresh->room) : 0);
	fresh->room = room;
	m->leaves_of[file - 1] = fresh;
	return 0;
}

/* The first place with that group or a later one. */
static uint32_t place_of(const struct spm_extmap_leaves *l, uint64_t group)
{
	uint32_t low = 0, high = l->count;

	if (!high || l->large[high - 1].group < group)
		return high;
	/* groups differ, so none is behind the place that it has in a file without gaps */
	high = group < high ? (uint32_t)group : high - 1;
	if (!high || l->large[high - 1].group < group)
		return high;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (l->large[mid].group < group)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct spm_extmap_leaf *large_unit(const struct spm_extmap *m, uint32_t leaf)
{
	return spm_extpool_unit(m->larges, leaf);
}

int spm_extleaves_append(struct spm_extmap *m, uint32_t file, uint64_t group, uint32_t leaf)
{
	struct spm_extmap_leaves *l;

	if (grow(m, file, true))
		return -ENOMEM;
	l = spm_extleaves_of(m, file);
	l->large[l->count++] = (struct spm_extmap_at){ group, leaf };
	return 0;
}

int spm_extleaves_set_middle(struct spm_extmap *m, uint32_t file, uint32_t leaf)
{
	if (grow(m, file, false))
		return -ENOMEM;
	spm_extleaves_of(m, file)->middle = leaf;
	return 0;
}

static int by_group(const void *a, const void *b)
{
	const struct spm_extmap_at *x = a, *y = b;

	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	return (x->leaf > y->leaf) - (x->leaf < y->leaf);
}

void spm_extleaves_sort(struct spm_extmap *m, uint32_t file,
			void (*twice)(struct spm_extmap *m, uint32_t leaf))
{
	struct spm_extmap_leaves *l = spm_extleaves_of(m, file);
	uint32_t kept = 0;

	if (!l)
		return;
	qsort(l->large, l->count, sizeof(l->large[0]), by_group);
	for (uint32_t i = 0; i < l->count; i++) {
		if (kept && l->large[kept - 1].group == l->large[i].group)
			twice(m, l->large[i].leaf);
		else
			l->large[kept++] = l->large[i];
	}
	l->count = kept;
}

void spm_extleaves_drop(struct spm_extmap *m, uint32_t file)
{
	struct spm_extmap_leaves *l = spm_extleaves_of(m, file);

	if (!l)
		return;
	m->chain_bytes -= bytes_of(l->room);
	m->chains--;
	free(l);
	m->leaves_of[file - 1] = NULL;
}

/* A leaf in which no record says anything, live, for @group (large) or the file's middle. 0: no memory. */
static uint32_t make_leaf(struct spm_extmap *m, struct spm_extmap_pool *p, uint32_t file, uint64_t group)
{
	uint32_t number = spm_extpool_alloc(p);
	struct spm_extmap_leaf *u;

	if (!number)
		return 0;
	u = spm_extpool_unit(p, number);
	/* what was there may look like anything */
	__atomic_store_n(&u->check, 0, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	memset(u->x, 0, p->unit - sizeof(*u));
	for (uint32_t i = 0; i < EXTMAP_RECORDS(p->unit); i++)
		u->x[i].word = SPM_EXTENT_HERE_WORD;
	u->group = group;
	u->file = file;
	spm_extmap_barrier();
	__atomic_store_n(&u->check, spm_extmap_leaf_check(&m->head[file], u), __ATOMIC_RELAXED);
	spm_extmap_barrier();
	return number;
}

static void free_leaf(struct spm_extmap_pool *p, uint32_t number)
{
	struct spm_extmap_leaf *u = spm_extpool_unit(p, number);

	spm_extmap_barrier();
	__atomic_store_n(&u->check, 0, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	spm_extpool_free(p, number);
}

struct spm_extent *spm_extleaves_middle(struct spm_extmap *m, uint32_t file, bool make)
{
	struct spm_extmap_leaves *l = spm_extleaves_of(m, file);
	struct spm_extmap_leaf *u;

	if (!l || !l->middle) {
		if (!make || grow(m, file, false))
			return NULL;
		l = spm_extleaves_of(m, file);
		l->middle = make_leaf(m, m->middles, file, 0);
		if (!l->middle)
			return NULL;
	}
	u = spm_extpool_unit(m->middles, l->middle);
	return u->x;
}

struct spm_extent *spm_extleaves_large(struct spm_extmap *m, uint32_t file, uint64_t group, bool make)
{
	struct spm_extmap_leaves *l = spm_extleaves_of(m, file);
	uint32_t i = l ? place_of(l, group) : 0, leaf;

	if (l && i < l->count && l->large[i].group == group)
		return large_unit(m, l->large[i].leaf)->x;
	if (!make || grow(m, file, true))
		return NULL;
	leaf = make_leaf(m, m->larges, file, group);
	if (!leaf)
		return NULL;
	l = spm_extleaves_of(m, file);
	memmove(&l->large[i + 1], &l->large[i], (l->count - i) * sizeof(l->large[0]));
	l->large[i] = (struct spm_extmap_at){ group, leaf };
	l->count++;
	return large_unit(m, leaf)->x;
}

struct spm_extent *spm_extleaves_next(const struct spm_extmap *m, uint32_t file, uint64_t *group)
{
	const struct spm_extmap_leaves *l = spm_extleaves_of(m, file);
	uint32_t i = l ? place_of(l, *group) : 0;

	if (!l || i == l->count)
		return NULL;
	*group = l->large[i].group;
	return large_unit(m, l->large[i].leaf)->x;
}

static bool says_nothing(const struct spm_extmap_leaf *u, uint32_t records)
{
	for (uint32_t i = 0; i < records; i++)
		if (spm_extent_how(&u->x[i]))
			return false;
	return true;
}

void spm_extleaves_free(struct spm_extmap *m, uint32_t file, bool all)
{
	struct spm_extmap_leaves *l = spm_extleaves_of(m, file);
	uint32_t kept = 0;

	if (!l)
		return;
	if (l->middle &&
	    (all || says_nothing(spm_extpool_unit(m->middles, l->middle), EXTMAP_MIDDLE_RECORDS))) {
		free_leaf(m->middles, l->middle);
		l->middle = 0;
	}
	for (uint32_t i = 0; i < l->count; i++) {
		if (all || says_nothing(large_unit(m, l->large[i].leaf), EXTMAP_LARGE_RECORDS))
			free_leaf(m->larges, l->large[i].leaf);
		else
			l->large[kept++] = l->large[i];
	}
	l->count = kept;
	if (!kept && !l->middle)
		spm_extleaves_drop(m, file);
}
