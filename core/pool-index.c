/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents by file, derived from the records: chains by hash of file and extent, a list of each file's
 * extents, and heads of files by hash. 4 + 12 bytes for each extent, at most 26 for each file that has one;
 * memory that was never needed is never touched.
 */
#include "core/pool-local.h"

#include <errno.h>
#include <sys/mman.h>

static void *reserve(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* it is sparse */
	(void)madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static uint32_t power_of_two(uint32_t n)
{
	uint32_t size = 64;

	while (size < n)
		size *= 2;
	return size;
}

int spm_pool_index_init(struct spm_pool *p)
{
	p->bucket_mask = power_of_two(p->extents) - 1;
	p->head_mask = power_of_two(p->extents / 2) - 1;
	p->bucket = reserve(((uint64_t)p->bucket_mask + 1) * sizeof(uint32_t));
	p->head_bucket = reserve(((uint64_t)p->head_mask + 1) * sizeof(uint32_t));
	p->link = reserve(p->extents * sizeof(struct spm_pool_link));
	p->head = reserve(p->extents * sizeof(struct spm_pool_head));
	p->high = reserve(p->extents * sizeof(*p->high));
	return p->bucket && p->head_bucket && p->link && p->head && p->high ? 0 : -ENOMEM;
}

static void unmap(void *at, uint64_t bytes)
{
	if (at)
		munmap(at, bytes);
}

void spm_pool_index_destroy(struct spm_pool *p)
{
	unmap(p->bucket, ((uint64_t)p->bucket_mask + 1) * sizeof(uint32_t));
	unmap(p->head_bucket, ((uint64_t)p->head_mask + 1) * sizeof(uint32_t));
	unmap(p->link, p->extents * sizeof(struct spm_pool_link));
	unmap(p->head, p->extents * sizeof(struct spm_pool_head));
	unmap(p->high, p->extents * sizeof(*p->high));
}

/* What of a mapping is in memory. */
static uint64_t resident(const void *at, uint64_t bytes)
{
	uint64_t pages = 0, left = (bytes + 4095) / 4096;
	unsigned char in[1024];

	for (const uint8_t *from = at; left; from += sizeof(in) * 4096) {
		uint64_t n = left < sizeof(in) ? left : sizeof(in);

		if (mincore((void *)(uintptr_t)from, n * 4096, in))
			return bytes;
		for (uint64_t i = 0; i < n; i++)
			pages += in[i] & 1;
		left -= n;
	}
	return pages * 4096;
}

uint64_t spm_pool_index_bytes(const struct spm_pool *p)
{
	return resident(p->bucket, ((uint64_t)p->bucket_mask + 1) * sizeof(uint32_t)) +
	       resident(p->head_bucket, ((uint64_t)p->head_mask + 1) * sizeof(uint32_t)) +
	       resident(p->link, p->extents * sizeof(struct spm_pool_link)) +
	       resident(p->head, p->extents * sizeof(struct spm_pool_head)) +
	       resident(p->high, p->extents * sizeof(*p->high));
}

static uint32_t *bucket_of(const struct spm_pool *p, uint64_t whose, uint64_t extent)
{
	/* neighbours in a file are neighbours here, unless many files do the same */
	return &p->bucket[(uint32_t)(spm_mix(whose) + extent) & p->bucket_mask];
}

static uint32_t *head_bucket_of(const struct spm_pool *p, uint64_t whose)
{
	return &p->head_bucket[(uint32_t)spm_mix(whose) & p->head_mask];
}

/* Of each that is passed the record may have been damaged since it came here. (What is about to be another's is not in there.) */
uint32_t spm_pool_index_find(struct spm_pool *p, uint64_t whose, uint64_t extent)
{
	uint32_t at = *bucket_of(p, whose, extent);

	for (uint32_t i = at; i; i = p->link[i - 1].chain)
		spm_pool_mend(p, i - 1);
	while (at && (spm_pool_record_whose(p, at - 1) != whose || spm_pool_record_extent(p, at - 1) != extent))
		at = p->link[at - 1].chain;
	return at ? at - 1 : SPM_POOL_NONE;
}

struct spm_pool_head *spm_pool_index_head(const struct spm_pool *p, uint64_t whose)
{
	uint32_t at = *head_bucket_of(p, whose);

	while (at && p->head[at - 1].whose != whose)
		at = p->head[at - 1].chain;
	return at ? &p->head[at - 1] : NULL;
}

/* There are as many heads as extents, so there always is one. */
static struct spm_pool_head *make_head(struct spm_pool *p, uint64_t whose)
{
	uint32_t *bucket = head_bucket_of(p, whose), at = p->heads_free;

	if (at)
		p->heads_free = p->head[at - 1].chain;
	else
		at = ++p->heads_top;
	p->head[at - 1] = (struct spm_pool_head){ .whose = whose, .chain = *bucket };
	*bucket = at;
	return &p->head[at - 1];
}

static void drop_head(struct spm_pool *p, struct spm_pool_head *h)
{
	uint32_t *at = head_bucket_of(p, h->whose), number = (uint32_t)(h - p->head) + 1;

	while (*at != number)
		at = &p->head[*at - 1].chain;
	*at = h->chain;
	*h = (struct spm_pool_head){ .chain = p->heads_free };
	p->heads_free = number;
}

void spm_pool_index_add(struct spm_pool *p, uint32_t d)
{
	uint64_t whose = spm_pool_record_whose(p, d);
	uint64_t extent = spm_pool_record_extent(p, d), high = extent / ((uint64_t)p->bucket_mask + 1);
	uint32_t *bucket = bucket_of(p, whose, extent);
	struct spm_pool_head *h = spm_pool_index_head(p, whose);

	/* needs no memory as long as no file is sparse and larger than the pool */
	p->any_high = p->any_high || high;
	if (p->any_high)
		p->high[d] = high;
	if (!h)
		h = make_head(p, whose);
	p->link[d] = (struct spm_pool_link){ .chain = *bucket, .next = h->first };
	if (h->first)
		p->link[h->first - 1].prev = d + 1;
	h->first = d + 1;
	h->count++;
	*bucket = d + 1;
}

void spm_pool_index_remove(struct spm_pool *p, uint32_t d)
{
	uint64_t whose = spm_pool_record_whose(p, d);
	uint32_t *at = bucket_of(p, whose, spm_pool_record_extent(p, d));
	struct spm_pool_head *h = spm_pool_index_head(p, whose);
	struct spm_pool_link *l = &p->link[d];

	while (*at != d + 1)
		at = &p->link[*at - 1].chain;
	*at = l->chain;
	if (l->prev)
		p->link[l->prev - 1].next = l->next;
	else
		h->first = l->next;
	if (l->next)
		p->link[l->next - 1].prev = l->prev;
	if (!--h->count)
		drop_head(p, h);
	*l = (struct spm_pool_link){ .chain = 0 };
}

/* -- by what is here alone -- */

static const struct spm_pool_head *head_with(const struct spm_pool *p, uint32_t d)
{
	while (p->link[d].prev)
		d = p->link[d].prev - 1;
	for (uint32_t i = 0; i < p->heads_top; i++)
		if (p->head[i].count && p->head[i].first == d + 1)
			return &p->head[i];
	return NULL;
}

static bool is_in_chain(const struct spm_pool *p, uint32_t bucket, uint32_t d)
{
	uint32_t at = p->bucket[bucket];

	while (at && at != d + 1)
		at = p->link[at - 1].chain;
	return at;
}

bool spm_pool_index_recall(const struct spm_pool *p, uint32_t d, uint64_t *whose, uint64_t *extent)
{
	const struct spm_pool_head *h = head_with(p, d);
	uint32_t bucket = 0, low;

	while (h && bucket <= p->bucket_mask && !is_in_chain(p, bucket, d))
		bucket++;
	if (!h || bucket > p->bucket_mask)
		return false;
	low = (bucket - (uint32_t)spm_mix(h->whose)) & p->bucket_mask;
	*whose = h->whose;
	*extent = p->any_high ? p->high[d] * ((uint64_t)p->bucket_mask + 1) + low : low;
	return true;
}
