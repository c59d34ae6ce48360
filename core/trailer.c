/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/trailer.h"

#include <isa-l/crc.h>
#include <string.h>

uint32_t spm_crc(const void *data, size_t len)
{
	const size_t step = (size_t)1 << 30; /* the library counts in int */
	/* It neither declares its input const nor inverts. */
	unsigned char *p = (unsigned char *)(uintptr_t)data;
	uint32_t crc = UINT32_MAX;

	for (; len > step; p += step, len -= step)
		crc = crc32_iscsi(p, (int)step, crc);
	return ~crc32_iscsi(p, (int)len, crc);
}

static uint32_t pages_in(const struct spm_trailer *t)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(t->map); i++)
		n += (uint32_t)__builtin_popcountll(t->map[i]);
	return n;
}

uint32_t spm_trailer_seal(struct spm_trailer *t)
{
	t->magic = SPM_TRAILER_MAGIC;
	memset(t->zero, 0, sizeof(t->zero));
	return spm_crc(t, sizeof(*t));
}

bool spm_trailer_ok(const struct spm_trailer *t, uint32_t check, uint16_t slice, uint64_t ino,
		    uint64_t extent, uint32_t pages)
{
	return spm_crc(t, sizeof(*t)) == check && t->magic == SPM_TRAILER_MAGIC && t->slice == slice &&
	       t->ino == ino && t->extent == extent && t->pages == pages && pages_in(t) == pages;
}
