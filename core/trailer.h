/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_TRAILER_H
#define SPM_CORE_TRAILER_H

#include <stdint.h>
#include "core/extmap.h"

/*
 * The last block of a slot that is not SMALL: whose it is, which pages of the extent the slot holds, and the CRC32C of each, so
 * that any page can be read alone and verified. The record has the trailer's own CRC32C.
 */
#define SPM_TRAILER_MAGIC UINT32_C(0x74746d73)

struct spm_trailer {
	uint32_t magic;
	uint16_t pages;
	uint16_t slice;
	uint64_t ino;
	uint64_t extent;
	uint64_t map[SPM_EXTENT_PAGES / 64]; /* bit per page of the extent that the slot holds, in order */
	uint32_t crc[SPM_EXTENT_PAGES];      /* of the pages of the slot, in order */
	uint8_t zero[4096 - 24 - SPM_EXTENT_PAGES / 8 - SPM_EXTENT_PAGES * 4];
};
_Static_assert(sizeof(struct spm_trailer) == 4096, "one block");

/* CRC32C (Castagnoli), as iSCSI and ext4 use it. */
uint32_t spm_crc(const void *data, size_t len);

/* Completes a trailer of which the owner, map, pages and crc[] are filled in; the CRC of the whole block, for the record. */
uint32_t spm_trailer_seal(struct spm_trailer *t);
/* Whether @t is the trailer that a record speaks of: @check and @pages are the record's. Nothing in @t counts before that. */
bool spm_trailer_ok(const struct spm_trailer *t, uint32_t check, uint16_t slice, uint64_t ino,
		    uint64_t extent, uint32_t pages);

#endif
