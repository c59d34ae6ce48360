/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_EXTMAP_LOCAL_H
#define SPM_CORE_EXTMAP_LOCAL_H

#include "core/extmap.h"

/*
 * Between the parts of the extent map.
 *
 * The file: a page for the header, then four areas, sparse: heads, times (by file number as well), middle and
 * large leaves. Numbers of heads and leaves begin with 1, 0 is none.
 *
 * A head or a leaf is live when its check is not 0. That is the last store when it is made and the first when it
 * goes, so whatever a killed process leaves behind is live and whole, or free. A forgotten file loses its leaves
 * first. A check has two bits that are always set, in different bytes: no wrong byte makes it look free.
 *
 * What a scan has set aside keeps its place, is found by nobody, and gets or keeps a wrong check, so that the
 * next process sets it aside as well.
 */
#define EXTMAP_MAGIC   UINT64_C(0x73706d6578746d70) /* "spmextmp" */
#define EXTMAP_PAGE    4096u
#define EXTMAP_GROUP   512u /* heads whose times and leaf pointers fill whole pages */
#define EXTMAP_HEADS   (UINT32_C(1) << 24)
#define EXTMAP_MIDDLES (UINT32_C(1) << 22)
#define EXTMAP_LARGES  (UINT32_C(1) << 22)
#define EXTMAP_EXTENTS (UINT64_C(1) << 47) /* of the smallest size, in the largest off_t */

struct spm_extmap_header {
	uint64_t magic;
	uint32_t version, heads, middles, larges;
	uint64_t check; /* of what never changes: all but setup.retired */
	struct spm_extmap_setup setup;
	uint32_t zero;
};

/*
 * A record that names one slot is about to name another, with other pages: more than one store. All of it is written here
 * first, @how last; a successor finds it and makes the change once more. In the header's page, all zero if there is none.
 */
struct spm_extmap_change {
	uint64_t ino, extent;
	uint32_t file, slot, check;
	uint32_t sum;        /* of all the rest */
	uint16_t slice, how; /* how: 0: there is none */
};
#define EXTMAP_CHANGE_AT 2048u

/*
 * A page of a slot is about to be overwritten in its place (core/swap-store.c): what it and the trailer are before and after. @sum
 * is over all the rest, with @on being 1, which is stored last. In the header's page, all zero if there is none. Programs that
 * know none of these leave the space alone.
 */
struct spm_extmap_store {
	uint64_t ino, extent;
	uint32_t file, slot;
	uint32_t old_crc, new_crc, old_check, new_check;
	uint32_t sum, on;
	uint16_t slice, page; /* @page: of the slot */
	uint32_t zero;
};
#define EXTMAP_STORES_AT 2560u
#define EXTMAP_STORES    16u
_Static_assert(sizeof(struct spm_extmap_header) <= EXTMAP_CHANGE_AT, "both in the header's page");
_Static_assert(EXTMAP_CHANGE_AT + sizeof(struct spm_extmap_change) <= EXTMAP_PAGE, "both in the header's page");

_Static_assert(EXTMAP_CHANGE_AT + sizeof(struct spm_extmap_change) <= EXTMAP_STORES_AT, "and behind them the stores");
_Static_assert(EXTMAP_STORES_AT + EXTMAP_STORES * sizeof(struct spm_extmap_store) <= EXTMAP_PAGE, "in the header's page, too");

static inline struct spm_extmap_store *spm_extmap_stores_of(const struct spm_extmap *m)
{
	return (struct spm_extmap_store *)(void *)((char *)m->header + EXTMAP_STORES_AT);
}

static inline struct spm_extmap_change *spm_extmap_change_of(const struct spm_extmap *m)
{
	return (struct spm_extmap_change *)(void *)((char *)m->header + EXTMAP_CHANGE_AT);
}

/* It is made. Without its sum, too: one wrong byte must not make a note that counts of one that did. */
static inline void spm_extmap_change_end(struct spm_extmap_change *c)
{
	__atomic_store_n(&c->how, 0, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	c->sum = 0;
}

struct spm_extmap_leaf {
	uint32_t file;
	uint32_t check; /* of file, group, and the file's inode: never passes to another that gets the number; 0: the leaf is free */
	uint64_t group; /* which of the file's large leaves it is; of a middle one: 0 */
	struct spm_extent x[];
};
#define EXTMAP_MIDDLE_BYTES 256u
#define EXTMAP_LARGE_BYTES  4096u
#define EXTMAP_RECORDS(bytes) \
	((uint32_t)(((bytes) - sizeof(struct spm_extmap_leaf)) / sizeof(struct spm_extent)))
#define EXTMAP_MIDDLE_RECORDS EXTMAP_RECORDS(EXTMAP_MIDDLE_BYTES)
#define EXTMAP_LARGE_RECORDS  EXTMAP_RECORDS(EXTMAP_LARGE_BYTES)
#define EXTMAP_LARGE_FIRST    (SPM_EXTFILE_INLINE + EXTMAP_MIDDLE_RECORDS)
_Static_assert(EXTMAP_LARGE_FIRST == SPM_EXTMAP_NEAR, "as the header says");
#define EXTMAP_GROUPS         (EXTMAP_EXTENTS / EXTMAP_LARGE_RECORDS)
_Static_assert(EXTMAP_MIDDLE_RECORDS == 20 && EXTMAP_LARGE_RECORDS == 340, "records per leaf");

/* Byte offsets of the areas in the file. */
#define EXTMAP_HEADS_AT   ((uint64_t)EXTMAP_PAGE)
#define EXTMAP_TIMES_AT   (EXTMAP_HEADS_AT + (uint64_t)EXTMAP_HEADS * sizeof(struct spm_extfile))
#define EXTMAP_MIDDLES_AT (EXTMAP_TIMES_AT + (uint64_t)EXTMAP_HEADS * sizeof(struct spm_exttimes))
#define EXTMAP_LARGES_AT  (EXTMAP_MIDDLES_AT + (uint64_t)EXTMAP_MIDDLES * EXTMAP_MIDDLE_BYTES)
#define EXTMAP_BYTES      (EXTMAP_LARGES_AT + (uint64_t)EXTMAP_LARGES * EXTMAP_LARGE_BYTES)

uint64_t spm_extmap_header_check(const struct spm_extmap_header *h);
uint32_t spm_extmap_change_sum(const struct spm_extmap_change *c);

/* -- checks (core/extmap-check.c) -- */

uint32_t spm_extmap_head_check(const struct spm_extfile *f);
uint32_t spm_extmap_leaf_check(const struct spm_extfile *f, const struct spm_extmap_leaf *u);
/* The check does not fit: tries whether it does with one byte changed, and changes that. False: with none, or several. */
bool spm_extmap_mend_head(struct spm_extfile *f);
/* @groups: how many there can be. Also if it names no head. */
bool spm_extmap_mend_leaf(const struct spm_extmap *m, struct spm_extmap_leaf *u, uint64_t groups);
/* The leaf names a live head, and fits it. */
bool spm_extmap_leaf_fits(const struct spm_extmap *m, const struct spm_extmap_leaf *u, uint64_t groups);
/* Whether a record makes sense, with what @how says of it. */
bool spm_extent_possible(uint32_t slot, uint16_t how, uint32_t pages_max);

/* -- pools (core/extmap-pool.c): which units of an area are taken. With m->lock -- */

#define EXTMAP_LOOSE 16u
struct spm_extmap_pool {
	char *base;
	uint64_t at;       /* of the area, in the file */
	int fd;
	uint32_t unit, max;
	uint64_t *used;    /* bit per unit */
	uint64_t *full;    /* bit per word of @used: all are taken */
	uint32_t low;      /* no free unit below this word of @full */
	uint32_t top;      /* highest number that was ever taken */
	uint32_t count;
	uint32_t loose[EXTMAP_LOOSE]; /* pages that may hold nothing any more, to be given back together */
	unsigned int loose_count;
};

struct spm_extmap_pool *spm_extpool_new(char *map, uint64_t at, int fd, uint32_t unit, uint32_t max);
void spm_extpool_destroy(struct spm_extmap_pool *p);
/* The lowest free one, with memory behind it. 0: none, or no memory. Its content is anything. */
uint32_t spm_extpool_alloc(struct spm_extmap_pool *p);
void spm_extpool_free(struct spm_extmap_pool *p, uint32_t number);
/* It was found in use. */
void spm_extpool_take(struct spm_extmap_pool *p, uint32_t number);
bool spm_extpool_taken(const struct spm_extmap_pool *p, uint32_t number);
/* The next one from @from on that is taken, 0: none. */
uint32_t spm_extpool_next(const struct spm_extmap_pool *p, uint32_t from);
/* Whether none of the EXTMAP_GROUP around this one is taken. */
bool spm_extpool_idle(const struct spm_extmap_pool *p, uint32_t number);
/* Calls @fn for each unit on pages that hold data; gives back the pages of which it took none. Stops at an
 * error. */
int spm_extpool_scan(struct spm_extmap_pool *p, int (*fn)(struct spm_extmap *m, uint32_t number),
		     struct spm_extmap *m);
uint64_t spm_extpool_bytes(const struct spm_extmap_pool *p);

static inline void *spm_extpool_unit(const struct spm_extmap_pool *p, uint32_t number)
{
	return p->base + (uint64_t)(number - 1) * p->unit;
}

/* Memory for a range of the file, so that nobody gets SIGBUS there. -ENOSPC or -ENOMEM. */
int spm_extmap_populate(int fd, uint64_t from, uint64_t bytes);
/* Private memory that is used as it is touched; NULL: none. */
void *spm_extmap_reserve(uint64_t bytes);

/* -- leaves of a file (core/extmap-leaves.c). With m->lock -- */

struct spm_extmap_leaves {
	uint32_t middle;
	uint32_t count, room;
	struct spm_extmap_at {
		uint64_t group;
		uint32_t leaf;
	} large[]; /* in order of group */
};

/* What a scan has found. -ENOMEM. Not yet in order, until spm_extleaves_sort() was called. */
int spm_extleaves_append(struct spm_extmap *m, uint32_t file, uint64_t group, uint32_t leaf);
int spm_extleaves_set_middle(struct spm_extmap *m, uint32_t file, uint32_t leaf);
/* Puts them in order; calls @twice with a leaf for a place that has one, and drops it. */
void spm_extleaves_sort(struct spm_extmap *m, uint32_t file,
			void (*twice)(struct spm_extmap *m, uint32_t leaf));
void spm_extleaves_drop(struct spm_extmap *m, uint32_t file);
/* The records of a leaf; NULL: there is none, or with @make, no memory. */
struct spm_extent *spm_extleaves_middle(struct spm_extmap *m, uint32_t file, bool make);
struct spm_extent *spm_extleaves_large(struct spm_extmap *m, uint32_t file, uint64_t group, bool make);
/* Of the first large leaf from *@group on, which is told. */
struct spm_extent *spm_extleaves_next(const struct spm_extmap *m, uint32_t file, uint64_t *group);
/* All leaves, or those without a record that says something. */
void spm_extleaves_free(struct spm_extmap *m, uint32_t file, bool all);

static inline struct spm_extmap_leaves *spm_extleaves_of(const struct spm_extmap *m, uint32_t file)
{
	return m->leaves_of[file - 1];
}

/* -- the index (core/extmap-index.c). With m->lock -- */

int spm_extindex_init(struct spm_extmap *m);
void spm_extindex_destroy(struct spm_extmap *m);
/* The file's number, 0: it is not there. */
uint32_t spm_extindex_find(const struct spm_extmap *m, uint16_t slice, uint64_t ino);
/* Adds one that is not there. -ENOMEM. */
int spm_extindex_add(struct spm_extmap *m, uint16_t slice, uint64_t ino, uint32_t file);
void spm_extindex_remove(struct spm_extmap *m, uint16_t slice, uint64_t ino);
/* Of a head that is taken: false: it was set aside. */
static inline bool spm_extindex_has(const struct spm_extmap *m, uint32_t file)
{
	return spm_extindex_find(m, m->head[file].slice, m->head[file].ino) == file;
}

#endif
