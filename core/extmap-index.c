/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heads by inode: open addressing with linear probing, at most half full. */
#include "core/extmap-local.h"

#include <errno.h>
#include <sys/mman.h>

#define INDEX_MIN 1024u

static uint32_t home_of(const struct spm_extmap *m, uint16_t slice, uint64_t ino)
{
	/* Fibonacci hashing: 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4) */
	uint64_t product = (ino + ((uint64_t)slice << 48)) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(product >> 32) & m->index_mask;
}

/* Where it is, or would be put. */
static uint32_t place_of(const struct spm_extmap *m, uint16_t slice, uint64_t ino)
{
	uint32_t i = home_of(m, slice, ino);

	while (m->index[i] && (m->head[m->index[i]].ino != ino || m->head[m->index[i]].slice != slice))
		i = (i + 1) & m->index_mask;
	return i;
}

static int resize(struct spm_extmap *m, uint32_t size)
{
	uint32_t *old = m->index, old_size = old ? m->index_mask + 1 : 0;
	/* by mmap, since malloc would keep what a shrinking index gives back */
	uint32_t *fresh = mmap(NULL, size * sizeof(*fresh), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

	if (fresh == MAP_FAILED)
		return -ENOMEM;
	m->index = fresh;
	m->index_mask = size - 1;
	for (uint32_t i = 0; i < old_size; i++)
		if (old[i])
			fresh[place_of(m, m->head[old[i]].slice, m->head[old[i]].ino)] = old[i];
	if (old)
		munmap(old, old_size * sizeof(*old));
	return 0;
}

int spm_extindex_init(struct spm_extmap *m)
{
	return resize(m, INDEX_MIN);
}

void spm_extindex_destroy(struct spm_extmap *m)
{
	if (m->index)
		munmap(m->index, (m->index_mask + 1) * sizeof(*m->index));
}

uint32_t spm_extindex_find(const struct spm_extmap *m, uint16_t slice, uint64_t ino)
{
	return m->index[place_of(m, slice, ino)];
}

int spm_extindex_add(struct spm_extmap *m, uint16_t slice, uint64_t ino, uint32_t file)
{
	if (m->live * 2 >= m->index_mask && resize(m, (m->index_mask + 1) * 2))
		return -ENOMEM;
	m->index[place_of(m, slice, ino)] = file;
	m->live++;
	return 0;
}

void spm_extindex_remove(struct spm_extmap *m, uint16_t slice, uint64_t ino)
{
	uint32_t hole = place_of(m, slice, ino);

	if (!m->index[hole])
		return;
	/* whatever is found by way of the hole moves into it, and leaves one */
	for (uint32_t i = (hole + 1) & m->index_mask; m->index[i]; i = (i + 1) & m->index_mask) {
		const struct spm_extfile *f = &m->head[m->index[i]];
		uint32_t home = home_of(m, f->slice, f->ino);

		if (((i - home) & m->index_mask) < ((i - hole) & m->index_mask))
			continue;
		m->index[hole] = m->index[i];
		hole = i;
	}
	m->index[hole] = 0;
	m->live--;
	if (m->index_mask + 1 > INDEX_MIN && m->live * 8 < m->index_mask)
		(void)resize(m, (m->index_mask + 1) / 4 > INDEX_MIN ? (m->index_mask + 1) / 4 : INDEX_MIN);
}
