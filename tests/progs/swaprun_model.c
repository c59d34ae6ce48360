/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What files must hold: words that say where they belong, and how changes are counted. */
#include "tests/progs/swaprun.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ODD UINT64_C(0x9e3779b97f4a7c15)
#define TOP (UINT64_C(1) << 63) /* no word is zero */
enum { FILE_AT = 50, WORD_AT = 24, VERSION_BITS = 24 };
_Static_assert(MAX_FILES < 1 << (63 - FILE_AT), "a file's number has 13 bits");

static uint64_t odd_inverse;

void model_init(void)
{
	uint64_t x = ODD;

	for (int i = 0; i < 6; i++)
		x *= 2 - ODD * x;
	odd_inverse = x;
}

static uint64_t word_at(uint32_t file, uint64_t word, uint32_t version)
{
	return (TOP | (uint64_t)file << FILE_AT | word << WORD_AT | (version & ((1u << VERSION_BITS) - 1))) * ODD;
}

uint64_t word_of(const struct content *c, uint32_t in_block)
{
	return c->version ? word_at(c->file, (uint64_t)c->block * WORDS + in_block, c->version) : 0;
}

void fill_new(uint32_t number, uint64_t off, size_t len, uint32_t version, void *buf)
{
	uint64_t *w = buf;

	for (size_t i = 0; i < len / 8; i++)
		w[i] = word_at(number, off / 8 + i, version);
}

/* What a word says of itself. */
static void explain(uint64_t w, char *text, size_t room)
{
	uint64_t x = w * odd_inverse;

	if (!w)
		snprintf(text, room, "zeros");
	else if (!(x & TOP))
		snprintf(text, room, "0x%016llx, which nobody wrote", (unsigned long long)w);
	else
		snprintf(text, room, "what was written to file %u at 0x%llx as version %u",
			 (unsigned int)(x >> FILE_AT) & 0x1fff,
			 (unsigned long long)(x >> WORD_AT & ((1 << (FILE_AT - WORD_AT)) - 1)) * 8,
			 (unsigned int)x & ((1u << VERSION_BITS) - 1));
}

static bool differs(struct process *p, uint32_t number, uint64_t off, uint64_t got, const char *wanted, const char *how)
{
	char is[120], path[512];

	atomic_fetch_add(&p->m->differences, 1);
	if (atomic_fetch_add(&p->m->shown, 1) < 24) {
		explain(got, is, sizeof(is));
		path_of(p, number, p->m->file[number].name, path, sizeof(path));
		printf("# process %u, %s of %s (file %u) at 0x%llx: %s; wanted: %s (%s)\n", p->id, how, path, number,
		       (unsigned long long)off, is, wanted, p->m->doing[p->id]);
		fflush(stdout);
	}
	atomic_store(&p->m->stop, 1);
	return false;
}

bool same_as_model(struct process *p, uint32_t number, uint64_t off, size_t len, const void *buf, const char *how)
{
	const uint64_t *w = buf;
	bool same = true;
	char text[120];

	for (size_t i = 0; i < len / 8; i++) {
		uint64_t at = off / 8 + i;
		const struct block *b = &blocks_of(p->m, number)[at / WORDS];
		uint32_t in = at % WORDS;
		uint64_t want = word_of(in < b->cut ? &b->a : &b->b, in);

		if (w[i] == want)
			continue;
		explain(want, text, sizeof(text));
		same = differs(p, number, off + i * 8, w[i], text, how);
		i |= WORDS - 1; /* one word a block is enough */
	}
	return same;
}

static bool word_plausible(const struct block *b, uint64_t w, uint32_t number, uint64_t at, uint32_t low, bool sure)
{
	uint64_t x = w * odd_inverse;
	uint32_t version = (uint32_t)x & ((1u << VERSION_BITS) - 1);

	if (!w)
		return !sure || atomic_load(&b->zeroed) >= low;
	if (!(x & TOP))
		return false;
	if (atomic_load(&b->copied) >= low && (x >> WORD_AT) % WORDS == at % WORDS)
		return true;
	if ((uint32_t)(x >> FILE_AT & 0x1fff) != number || (x >> WORD_AT & ((1 << (FILE_AT - WORD_AT)) - 1)) != at)
		return !sure && (x >> WORD_AT) % WORDS == at % WORDS;
	return !sure || (version >= low && version <= atomic_load(&b->begun));
}

bool plausible(struct process *p, uint32_t number, uint64_t off, size_t len, const void *buf, const uint32_t *low,
	       bool sure, const char *how)
{
	const uint64_t *w = buf;
	bool good = true;
	char text[120];

	for (size_t i = 0; i < len / 8; i++) {
		uint64_t at = off / 8 + i;
		const struct block *b = &blocks_of(p->m, number)[at / WORDS];
		uint32_t from = low[at / WORDS - off / BLOCK];

		if (word_plausible(b, w[i], number, at, from, sure))
			continue;
		snprintf(text, sizeof(text), "of changes %u to %u%s (zeros: %u, copied: %u)", from, b->begun,
			 sure ? "" : ", or older", b->zeroed, b->copied);
		good = differs(p, number, off + i * 8, w[i], text, how);
		i |= WORDS - 1;
	}
	return good;
}

void widen(const struct process *p, uint32_t number, uint64_t *from, uint64_t *to)
{
	const struct block *b = blocks_of(p->m, number);

	if (*from % BLOCK && (b[*from / BLOCK].cut != WORDS || (*from / BLOCK == *to / BLOCK && *to % BLOCK)))
		*from -= *from % BLOCK;
	if (*to % BLOCK && b[*to / BLOCK].cut != WORDS)
		*to += BLOCK - *to % BLOCK;
}

uint32_t change_begins(struct process *p, uint32_t number, uint64_t from, uint64_t to, enum change how)
{
	uint32_t change = ++p->m->file[number].changes;

	for (uint64_t i = from / BLOCK; i * BLOCK < to; i++) {
		struct block *b = &blocks_of(p->m, number)[i];

		if (how != CHANGE_DATA)
			atomic_store(&b->zeroed, change);
		if (how == CHANGE_COPY)
			atomic_store(&b->copied, change);
		atomic_store(&b->begun, change);
	}
	return change;
}

/* Never leaves three contents, see widen(). */
static void change_block(struct block *b, uint32_t first, uint32_t end, const struct content *c)
{
	if (!first && end == WORDS) {
		b->a = *c;
		b->cut = WORDS;
	} else if (!first) {
		if (b->cut == WORDS)
			b->b = b->a;
		b->a = *c;
		b->cut = end;
	} else {
		b->b = *c;
		b->cut = first;
	}
	atomic_store(&b->low, b->cut < WORDS && b->b.change < b->a.change ? b->b.change : b->a.change);
}

static struct content content_of(uint32_t number, uint64_t block, enum change how, uint32_t change,
				 const struct content *copied)
{
	struct content c = { .change = change, .version = change, .block = (uint32_t)block, .file = number };

	if (how == CHANGE_ZERO)
		c.version = 0;
	if (how == CHANGE_COPY) {
		c = *copied;
		c.change = change;
	}
	return c;
}

void change_ends(struct process *p, uint32_t number, uint64_t from, uint64_t to, enum change how, uint32_t change,
		 const struct content *copied)
{
	for (uint64_t i = from / BLOCK; i * BLOCK < to; i++) {
		uint64_t first = i * BLOCK < from ? from % BLOCK / 8 : 0;
		uint64_t end = (i + 1) * BLOCK > to ? to % BLOCK / 8 : WORDS;
		struct content c = content_of(number, i, how, change, copied ? &copied[i - from / BLOCK] : NULL);

		change_block(&blocks_of(p->m, number)[i], (uint32_t)first, (uint32_t)end, &c);
	}
}

/* How many words from @first on are those of the new content; the others must be the old ones. */
static int words_changed(const struct block *b, const uint64_t *w, uint32_t first, uint32_t end, const struct content *c)
{
	int changed = 0;

	for (uint32_t i = 0; i < WORDS; i++) {
		bool inside = i >= first && i < end;
		uint64_t old = word_of(i < b->cut ? &b->a : &b->b, i);

		if (inside && w[i] == word_of(c, i) && w[i] != old && changed == (int)(i - first))
			changed++;
		else if (w[i] != old)
			return -1;
	}
	return changed;
}

bool change_failed(struct process *p, uint32_t number, int fd, uint64_t from, uint64_t to, uint32_t change)
{
	uint64_t w[WORDS];

	for (uint64_t i = from / BLOCK; i * BLOCK < to; i++) {
		uint32_t first = i * BLOCK < from ? (uint32_t)(from % BLOCK / 8) : 0;
		uint32_t end = (i + 1) * BLOCK > to ? (uint32_t)(to % BLOCK / 8) : WORDS;
		struct content c = content_of(number, i, CHANGE_DATA, change, NULL);
		struct block *b = &blocks_of(p->m, number)[i];
		ssize_t n = pread(fd, w, BLOCK, (off_t)(i * BLOCK));
		int changed;

		if (n < 0)
			return failed(p, "pread after a write that failed");
		memset((char *)w + n, 0, (size_t)(BLOCK - n));
		changed = words_changed(b, w, first, end, &c);
		if (changed < 0 || (changed && changed != (int)(end - first) && (first || b->cut != WORDS)))
			return wrong(p, "file %u: a write that failed left a mixture at 0x%llx", number,
				     (unsigned long long)i * BLOCK);
		if (changed)
			change_block(b, first, first + (uint32_t)changed, &c);
	}
	return true;
}

bool has_data(const struct process *p, uint32_t number, uint64_t block)
{
	const struct block *b = &blocks_of(p->m, number)[block];

	return b->a.version || (b->cut != WORDS && b->b.version);
}

uint64_t data_bytes(const struct process *p, uint32_t number)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i * BLOCK < p->m->file[number].size; i++)
		n += has_data(p, number, i);
	return n * BLOCK;
}
