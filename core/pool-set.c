/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/pool-set.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static uint64_t words_for(uint64_t n)
{
	return (n + 63) / 64;
}

int spm_pool_set_init(struct spm_pool_set *s, uint64_t n)
{
	uint64_t words = 0, of = n;
	uint64_t *at;

	memset(s, 0, sizeof(*s));
	s->n = n;
	do {
		of = words_for(of);
		words += of;
		s->levels++;
	} while (of > 1);
	s->bytes = words * sizeof(uint64_t);
	at = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return -ENOMEM;
	for (unsigned int l = 0; l < s->levels; l++) {
		n = words_for(n);
		s->level[l] = at;
		at += n;
	}
	return 0;
}

void spm_pool_set_destroy(struct spm_pool_set *s)
{
	if (s->level[0])
		munmap(s->level[0], s->bytes);
	memset(s, 0, sizeof(*s));
}

void spm_pool_set_add(struct spm_pool_set *s, uint64_t i)
{
	if (spm_pool_set_has(s, i))
		return;
	s->count++;
	for (unsigned int l = 0; l < s->levels; l++, i /= 64) {
		uint64_t before = s->level[l][i / 64];

		s->level[l][i / 64] = before | UINT64_C(1) << i % 64;
		if (before)
			return;
	}
}

void spm_pool_set_del(struct spm_pool_set *s, uint64_t i)
{
	if (!spm_pool_set_has(s, i))
		return;
	s->count--;
	for (unsigned int l = 0; l < s->levels; l++, i /= 64)
		if (s->level[l][i / 64] &= ~(UINT64_C(1) << i % 64))
			return;
}

uint64_t spm_pool_set_first(const struct spm_pool_set *s)
{
	uint64_t i = 0;

	if (!s->count)
		return UINT64_MAX;
	for (unsigned int l = s->levels; l-- > 0;)
		i = i * 64 + (uint64_t)__builtin_ctzll(s->level[l][i]);
	return i;
}

uint64_t spm_pool_set_last(const struct spm_pool_set *s)
{
	uint64_t i = 0;

	if (!s->count)
		return UINT64_MAX;
	for (unsigned int l = s->levels; l-- > 0;)
		i = i * 64 + 63 - (uint64_t)__builtin_clzll(s->level[l][i]);
	return i;
}
