/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/progs/oldmap.h"

#include "core/extmap-local.h"
#include "core/mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Written down from what version 1 was, and not from what today's program knows of it. */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t mix(uint64_t x, const void *bytes, size_t len)
{
	const char *at = bytes;

	for (size_t done = 0; done < len; done += 8) {
		uint64_t word = 0;

		memcpy(&word, at + done, len - done < 8 ? len - done : 8);
		x = spm_mix(x ^ word);
	}
	return x;
}

static void put16(char *at, uint64_t v)
{
	uint16_t x = (uint16_t)v;

	memcpy(at, &x, sizeof(x));
}

static void put32(char *at, uint64_t v)
{
	uint32_t x = (uint32_t)v;

	memcpy(at, &x, sizeof(x));
}

static void put64(char *at, uint64_t v)
{
	memcpy(at, &v, sizeof(v));
}

/* slot 4, check 4, last use 2, how 2 */
static void old_record(const struct spm_extent *x, char *to)
{
	uint16_t used = spm_extent_used(x), how = spm_extent_how(x);

	put32(to, x->slot);
	put32(to + 4, x->check);
	put16(to + 8, used);
	put16(to + 10, how);
}

static uint64_t inode_of(const struct spm_extfile *f)
{
	return mix(spm_mix(EXTMAP_MAGIC ^ f->ino) ^ f->slice, &f->handle, sizeof(f->handle));
}

/* ino 8, slice 2, check 2, handle 18, flags 2, swapped 4, last use 2, times 2, two records */
static void old_head(const struct spm_extfile *f, char *to)
{
	memset(to, 0, sizeof(*f));
	if (!f->check)
		return;
	put64(to, f->ino);
	put16(to + 8, f->slice);
	put16(to + 10, inode_of(f));
	memcpy(to + 12, &f->handle, 18);
	put16(to + 30, f->flags & 15);
	put32(to + 32, f->swapped);
	put16(to + 36, f->used);
	put16(to + 38, !!(f->flags & 16));
	for (unsigned int i = 0; i < 2; i++)
		old_record(&f->first[i], to + 40 + (size_t)i * 12);
}

/* file 4, check 4, group 8, records */
static void old_leaf(const struct spm_extfile *heads, const struct spm_extmap_leaf *u, char *to, uint32_t bytes)
{
	memset(to, 0, bytes);
	if (!u->check)
		return;
	put32(to, u->file);
	put32(to + 4, spm_mix(spm_mix(inode_of(&heads[u->file - 1]) ^ u->file) ^ u->group) >> 32);
	put64(to + 8, u->group);
	for (uint32_t i = 0; i < (bytes - 16) / 12; i++)
		old_record(&u->x[i], to + 16 + (size_t)i * 12);
}

static void old_header(char *to)
{
	struct spm_extmap_header *h = (struct spm_extmap_header *)(void *)to;
	struct spm_extmap_change c;

	h->version = 1;
	h->check = spm_extmap_header_check(h);
	memcpy(&c, to + EXTMAP_CHANGE_AT, sizeof(c));
	/* ino 8, extent 8, file 4, slot 4, check 4, slice 2, how 2 */
	memset(to + EXTMAP_CHANGE_AT, 0, sizeof(c));
	put64(to + EXTMAP_CHANGE_AT, c.ino);
	put64(to + EXTMAP_CHANGE_AT + 8, c.extent);
	put32(to + EXTMAP_CHANGE_AT + 16, c.file);
	put32(to + EXTMAP_CHANGE_AT + 20, c.slot);
	put32(to + EXTMAP_CHANGE_AT + 24, c.check);
	put16(to + EXTMAP_CHANGE_AT + 28, c.slice);
	put16(to + EXTMAP_CHANGE_AT + 30, c.how);
}

static void old_page(const struct spm_extfile *heads, uint64_t at, const char *from, char *to)
{
	memcpy(to, from, EXTMAP_PAGE);
	if (at < EXTMAP_HEADS_AT)
		old_header(to);
	else if (at < EXTMAP_TIMES_AT)
		for (size_t i = 0; i < EXTMAP_PAGE; i += 64)
			old_head((const struct spm_extfile *)(const void *)(from + i), to + i);
	else if (at >= EXTMAP_LARGES_AT)
		old_leaf(heads, (const struct spm_extmap_leaf *)(const void *)from, to, EXTMAP_PAGE);
	else if (at >= EXTMAP_MIDDLES_AT)
		for (size_t i = 0; i < EXTMAP_PAGE; i += EXTMAP_MIDDLE_BYTES)
			old_leaf(heads, (const struct spm_extmap_leaf *)(const void *)(from + i), to + i, EXTMAP_MIDDLE_BYTES);
}

/* The next data page from @at on, or -1. */
static off_t next_page(int fd, off_t at)
{
	at = lseek(fd, at, SEEK_DATA);
	return at < 0 ? -1 : at / EXTMAP_PAGE * EXTMAP_PAGE;
}

static void make_from(int fd, const char *map, off_t from, off_t to)
{
	const struct spm_extfile *heads = (const struct spm_extfile *)(const void *)(map + EXTMAP_HEADS_AT);
	char page[EXTMAP_PAGE] __attribute__((aligned(8)));

	for (off_t at = from; (at = next_page(fd, at)) >= 0 && at < to; at += EXTMAP_PAGE) {
		old_page(heads, (uint64_t)at, map + at, page);
		if (pwrite(fd, page, sizeof(page), at) != sizeof(page))
			fail("pwrite");
	}
}

void oldmap_make(int fd)
{
	char *map = mmap(NULL, EXTMAP_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (map == MAP_FAILED)
		fail("mmap");
	/* heads after leaves, which are known by them */
	make_from(fd, map, EXTMAP_MIDDLES_AT, EXTMAP_BYTES);
	make_from(fd, map, 0, EXTMAP_MIDDLES_AT);
	munmap(map, EXTMAP_BYTES);
}
