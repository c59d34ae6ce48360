/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The areas of the extent map that units are taken from, lowest first, so that what is in use stays together.
 * Two levels of bits: 16 million heads are 4,096 words to look through, not 262,144.
 */
#include "core/extmap-local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

void *spm_extmap_reserve(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);

	if (p == MAP_FAILED)
		return NULL;
	/* one huge page would be more than all that a small map needs */
	(void)madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

int spm_extmap_populate(int fd, uint64_t from, uint64_t bytes)
{
	uint64_t start = from / EXTMAP_PAGE * EXTMAP_PAGE;
	int rc;

	do
		rc = fallocate(fd, 0, (off_t)start, (off_t)(from + bytes - start));
	while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

struct spm_extmap_pool *spm_extpool_new(char *map, uint64_t at, int fd, uint32_t unit, uint32_t max)
{
	struct spm_extmap_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	*p = (struct spm_extmap_pool){ .base = map + at, .at = at, .fd = fd, .unit = unit, .max = max };
	p->used = spm_extmap_reserve(max / 8);
	p->full = spm_extmap_reserve(max / 8 / 64);
	if (!p->used || !p->full) {
		spm_extpool_destroy(p);
		return NULL;
	}
	return p;
}

void spm_extpool_destroy(struct spm_extmap_pool *p)
{
	if (!p)
		return;
	if (p->used)
		munmap(p->used, p->max / 8);
	if (p->full)
		munmap(p->full, p->max / 8 / 64);
	free(p);
}

static bool page_idle(const struct spm_extmap_pool *p, uint32_t page)
{
	uint32_t n = EXTMAP_PAGE / p->unit, first = page * n;
	uint64_t mask = n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;

	return !(p->used[first / 64] >> first % 64 & mask);
}

bool spm_extpool_idle(const struct spm_extmap_pool *p, uint32_t number)
{
	uint32_t first = (number - 1) / EXTMAP_GROUP * (EXTMAP_GROUP / 64);
	uint64_t any = 0;

	for (uint32_t w = 0; w < EXTMAP_GROUP / 64; w++)
		any |= p->used[first + w];
	return !any;
}

bool spm_extpool_taken(const struct spm_extmap_pool *p, uint32_t number)
{
	uint32_t u = number - 1;

	return number && u < p->max && p->used[u / 64] >> u % 64 & 1;
}

uint32_t spm_extpool_next(const struct spm_extmap_pool *p, uint32_t from)
{
	for (uint32_t u = from ? from - 1 : 0; u < p->top; u = (u / 64 + 1) * 64) {
		uint64_t rest = p->used[u / 64] >> u % 64;

		if (rest)
			return u + (uint32_t)__builtin_ctzll(rest) + 1;
	}
	return 0;
}

void spm_extpool_take(struct spm_extmap_pool *p, uint32_t number)
{
	uint32_t u = number - 1, w = u / 64;

	p->used[w] |= UINT64_C(1) << u % 64;
	if (!~p->used[w])
		p->full[w / 64] |= UINT64_C(1) << w % 64;
	p->count++;
	if (p->top < number)
		p->top = number;
}

uint32_t spm_extpool_alloc(struct spm_extmap_pool *p)
{
	uint32_t words = p->max / 64 / 64, w, u;

	while (p->low < words && !~p->full[p->low])
		p->low++;
	if (p->low == words)
		return 0;
	w = p->low * 64 + (uint32_t)__builtin_ctzll(~p->full[p->low]);
	u = w * 64 + (uint32_t)__builtin_ctzll(~p->used[w]);
	if (page_idle(p, u / (EXTMAP_PAGE / p->unit)) &&
	    spm_extmap_populate(p->fd, p->at + (uint64_t)u * p->unit, p->unit))
		return 0;
	spm_extpool_take(p, u + 1);
	return u + 1;
}

static int by_number(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void give_back(struct spm_extmap_pool *p, uint32_t page, uint32_t pages)
{
	char *from = p->base + (uint64_t)page * EXTMAP_PAGE;

	if (pages)
		(void)madvise(from, (uint64_t)pages * EXTMAP_PAGE, MADV_REMOVE);
}

/* Gives back the loose pages, but for those that have been used again. */
static void flush_loose(struct spm_extmap_pool *p)
{
	uint32_t from = 0, n = 0;

	qsort(p->loose, p->loose_count, sizeof(p->loose[0]), by_number);
	for (unsigned int i = 0; i < p->loose_count; i++) {
		uint32_t page = p->loose[i];

		if (!page_idle(p, page) || (n && page == from + n - 1))
			continue;
		if (!n || page != from + n) {
			give_back(p, from, n);
			from = page;
			n = 0;
		}
		n++;
	}
	give_back(p, from, n);
	p->loose_count = 0;
}

void spm_extpool_free(struct spm_extmap_pool *p, uint32_t number)
{
	uint32_t u = number - 1, w = u / 64, page = u / (EXTMAP_PAGE / p->unit);

	p->used[w] &= ~(UINT64_C(1) << u % 64);
	p->full[w / 64] &= ~(UINT64_C(1) << w % 64);
	p->count--;
	if (w / 64 < p->low)
		p->low = w / 64;
	if (page_idle(p, page))
		p->loose[p->loose_count++] = page;
	if (p->loose_count == EXTMAP_LOOSE || !p->count)
		flush_loose(p);
	if (!p->count) {
		(void)madvise(p->used, p->max / 8, MADV_DONTNEED);
		(void)madvise(p->full, p->max / 8 / 64, MADV_DONTNEED);
	}
}

static int scan_page(struct spm_extmap_pool *p, uint32_t page,
		     int (*fn)(struct spm_extmap *m, uint32_t number), struct spm_extmap *m)
{
	uint32_t n = EXTMAP_PAGE / p->unit;

	for (uint32_t i = 0; i < n; i++) {
		int rc = fn(m, page * n + i + 1);

		if (rc)
			return rc;
	}
	/* what was freed and not given back by the process before */
	if (page_idle(p, page))
		give_back(p, page, 1);
	return 0;
}

int spm_extpool_scan(struct spm_extmap_pool *p, int (*fn)(struct spm_extmap *m, uint32_t number),
		     struct spm_extmap *m)
{
	off_t end = (off_t)(p->at + (uint64_t)p->max * p->unit), data = (off_t)p->at, hole;
	int rc = 0;

	/* what was never used is skipped: even reading it would cost memory */
	while (!rc && data < end && (data = lseek(p->fd, data, SEEK_DATA)) >= 0 && data < end) {
		hole = lseek(p->fd, data, SEEK_HOLE);
		if (hole < 0 || hole > end)
			hole = end;
		for (; !rc && data < hole; data += EXTMAP_PAGE)
			rc = scan_page(p, (uint32_t)(((uint64_t)data - p->at) / EXTMAP_PAGE), fn, m);
	}
	return rc ? rc : data < 0 && errno != ENXIO ? -errno : 0;
}

uint64_t spm_extpool_bytes(const struct spm_extmap_pool *p)
{
	const uint64_t used = 8 * EXTMAP_PAGE, full = 64 * used; /* units that one page of them stands for */

	return ((p->top + used - 1) / used + (p->top + full - 1) / full) * EXTMAP_PAGE + sizeof(*p);
}
