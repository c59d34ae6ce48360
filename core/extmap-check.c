/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tells a damaged record, head or leaf from a whole one; and a head or leaf of which one byte is wrong is put right. */
#include "core/extmap-local.h"
#include "core/trailer.h"

#include <isa-l/crc.h>
#include <stddef.h>
#include <string.h>

#define GUARD_SEED 0x1d0fu /* or a record of zeros would have a guard of zeros */
#define LIVE_BITS  UINT32_C(0x80000001)
#define SMALL_MAX  16u /* pages of a slot without trailer */

/* -- records -- */

static uint32_t code_of(uint16_t how)
{
	uint32_t pages = how & SPM_HOW_PAGES, less = pages ? pages - 1 : 0;

	return SPM_EXTENT_CODE_MARKS | (uint32_t)SPM_HOW_STATE_OF(how) << SPM_EXTENT_CODE_STATE |
	       (how & SPM_HOW_SPARSE ? SPM_EXTENT_CODE_SPARSE : 0) | (how & SPM_HOW_DAMAGED ? SPM_EXTENT_CODE_DAMAGED : 0) |
	       (how & SPM_HOW_SMALL ? SPM_EXTENT_CODE_SMALL : 0) | (less >> 7 & 3) << SPM_EXTENT_CODE_PAGES | (less & 0x7f);
}

/* A CRC of 16 bits notices whatever is wrong within 16 bits in a row. */
static uint32_t word_of(const struct spm_extent *x, uint16_t how)
{
	struct {
		uint32_t slot, check;
		uint16_t code;
	} all = { x->slot, x->check, (uint16_t)code_of(how) };

	if (!how)
		return SPM_EXTENT_HERE_WORD;
	return (uint32_t)all.code << 16 | crc16_t10dif(GUARD_SEED, (unsigned char *)&all, offsetof(typeof(all), code) + 2);
}

void spm_extent_set_how(struct spm_extent *x, uint16_t how)
{
	uint32_t word = word_of(x, how);

	spm_extmap_barrier();
	__atomic_store_n(&x->word, word, __ATOMIC_RELAXED);
	spm_extmap_barrier();
}

void spm_extent_damage(struct spm_extent *x)
{
	x->slot = 0; /* from here on the guard is wrong, which means the same */
	spm_extent_set_how(x, SPM_HOW_GIVEN_UP);
}

bool spm_extent_ok(const struct spm_extent *x)
{
	uint16_t how = spm_extent_how(x);

	return !how || x->word == word_of(x, how);
}

bool spm_extent_possible(uint32_t slot, uint16_t how, uint32_t pages_max)
{
	uint32_t pages = how & SPM_HOW_PAGES;
	bool small = how & SPM_HOW_SMALL, sparse = how & SPM_HOW_SPARSE;

	if (how == SPM_HOW_GIVEN_UP)
		return !slot;
	return SPM_HOW_STATE_OF(how) != SPM_EXTENT_HERE && pages && pages <= pages_max && slot &&
	       !(how & ~(SPM_HOW_PAGES | SPM_HOW_STATE | SPM_HOW_SMALL | SPM_HOW_SPARSE)) &&
	       !(small && (sparse || pages > SMALL_MAX));
}

uint32_t spm_extmap_change_sum(const struct spm_extmap_change *c)
{
	struct spm_extmap_change copy = *c;

	copy.sum = 0;
	return spm_crc(&copy, sizeof(copy));
}

/* -- flags -- */

void spm_flags_change(struct spm_extfile *f, unsigned int set, unsigned int clear)
{
	uint16_t old = __atomic_load_n(&f->flags, __ATOMIC_RELAXED), new;
	unsigned int low;

	do {
		low = ((old & 0xffu) | set) & ~clear;
		new = (uint16_t)(low | (~low & 0xffu) << 8);
	} while (!__atomic_compare_exchange_n(&f->flags, &old, new, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

/* -- heads and leaves -- */

/* Of a head: all of it in front of what changes. */
struct identity {
	uint64_t ino;
	uint32_t check;
	uint16_t slice;
	struct spm_handle handle;
};
_Static_assert(offsetof(struct spm_extfile, swapped) == sizeof(struct identity), "which is how a head begins");

uint32_t spm_extmap_head_check(const struct spm_extfile *f)
{
	struct identity id;

	memcpy(&id, f, sizeof(id));
	id.check = 0;
	return spm_crc(&id, sizeof(id)) | LIVE_BITS;
}

uint32_t spm_extmap_leaf_check(const struct spm_extfile *f, const struct spm_extmap_leaf *u)
{
	struct {
		struct identity head;
		uint64_t group;
		uint64_t file;
	} all;

	memcpy(&all.head, f, sizeof(all.head));
	all.head.check = 0;
	all.group = u->group;
	all.file = u->file;
	return spm_crc(&all, sizeof(all)) | LIVE_BITS;
}

bool spm_extmap_leaf_fits(const struct spm_extmap *m, const struct spm_extmap_leaf *u, uint64_t groups)
{
	return u->group < groups && spm_extpool_taken(m->heads, u->file) && spm_extindex_has(m, u->file) &&
	       u->check == spm_extmap_leaf_check(&m->head[u->file], u);
}

static bool head_fits(const void *arg, const void *unit)
{
	const struct spm_extfile *f = unit;

	(void)arg;
	return f->ino && f->handle.len <= SPM_HANDLE_BYTES && f->check == spm_extmap_head_check(f);
}

struct leaf_mending {
	const struct spm_extmap *m;
	uint64_t groups;
};

static bool leaf_fits(const void *arg, const void *unit)
{
	const struct leaf_mending *l = arg;

	return spm_extmap_leaf_fits(l->m, unit, l->groups);
}

/* Tries each value of each of the first @bytes of @unit: whether it fits with exactly one of them, which is left there. */
static bool mend(unsigned char *unit, size_t bytes, bool (*fits)(const void *arg, const void *unit), const void *arg)
{
	unsigned int found = 0, value = 0;
	size_t at = 0;

	for (size_t i = 0; i < bytes; i++) {
		unsigned char was = unit[i];

		for (unsigned int v = 0; v < 256; v++) {
			unit[i] = (unsigned char)v;
			if (v == was || !fits(arg, unit))
				continue;
			found++;
			at = i;
			value = v;
		}
		unit[i] = was;
	}
	if (found == 1)
		unit[at] = (unsigned char)value;
	return found == 1;
}

bool spm_extmap_mend_head(struct spm_extfile *f)
{
	struct spm_extfile copy = *f;

	if (!mend((unsigned char *)&copy, sizeof(struct identity), head_fits, NULL))
		return false;
	memcpy(f, &copy, sizeof(struct identity));
	return true;
}

bool spm_extmap_mend_leaf(const struct spm_extmap *m, struct spm_extmap_leaf *u, uint64_t groups)
{
	const struct leaf_mending l = { m, groups };
	struct spm_extmap_leaf copy = *u;

	if (!mend((unsigned char *)&copy, sizeof(copy), leaf_fits, &l))
		return false;
	memcpy(u, &copy, sizeof(copy));
	return true;
}
