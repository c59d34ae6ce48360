/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target for taking over an extent map: a small real one is overlaid with the input, as by a wild store or a
 * bad bit of memory, scanned, walked, worked with, and taken over again. Built as tests/fuzz/options.c is.
 *
 * The input is a list of {area and whether to make the check fit again, unit, offset (2), length, bytes}.
 */
#include "core/extmap-local.h"
#include "core/log.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define UNITS 12u /* of an area that the input reaches: more than are in use */
#define RESEAL 0x80u

/* Instead of core's: what is damaged here is of no interest to anybody. */
void spm_log(enum spm_log_level level, const char *fmt, ...)
{
	(void)level, (void)fmt;
}

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static struct spm_handle handle_of(uint64_t ino)
{
	struct spm_handle h = { .type = 1, .len = 8 };

	memcpy(h.bytes, &ino, sizeof(ino));
	return h;
}

/* Five files with a few records in head, middle and large leaves. */
static int small_map(void)
{
	static const uint64_t at[] = { 0, 1, 5, 21, 30, 400, 100000 };
	struct spm_extmap_setup setup = { .extent_bytes = SPM_EXTENT_MAX, .files = 2 };
	int fd = memfd_create("extents", MFD_CLOEXEC);
	struct spm_extmap m;

	require(fd >= 0 && !spm_extmap_create(fd, &setup) && !spm_extmap_attach(&m, fd), "a new map");
	for (uint64_t ino = 1; ino <= 5; ino++) {
		struct spm_handle h = handle_of(ino);
		uint32_t file = spm_extmap_intern(&m, 0, ino, &h, 0);

		for (size_t i = 0; file && i < SPM_ARRAY_SIZE(at) && (ino > 2 || i < 4); i++) {
			struct spm_extent *x = spm_extmap_get(&m, file, at[i], true);

			x->slot = (uint32_t)(ino * 1000 + i);
			x->check = x->slot * 7;
			spm_extent_set_how(x, SPM_HOW_MAKE(1 + i % 3, i < 2 ? 3 : 512, i < 2 ? SPM_HOW_SMALL : 0));
		}
	}
	spm_extmap_detach(&m);
	return fd;
}

/* -- overlays -- */

static const struct area {
	uint64_t at;
	uint32_t unit;
} areas[] = {
	{ 0, EXTMAP_PAGE },
	{ EXTMAP_HEADS_AT, sizeof(struct spm_extfile) },
	{ EXTMAP_MIDDLES_AT, EXTMAP_MIDDLE_BYTES },
	{ EXTMAP_LARGES_AT, EXTMAP_LARGE_BYTES },
};

static void get_at(int fd, uint64_t at, void *to, size_t size)
{
	require(pread(fd, to, size, (off_t)at) == (ssize_t)size, "pread");
}

static void put_at(int fd, uint64_t at, const void *from, size_t size)
{
	require(pwrite(fd, from, size, (off_t)at) == (ssize_t)size, "pwrite");
}

/* Makes the guards of records fit what is in them. */
static void reseal_records(int fd, uint64_t at, uint32_t records)
{
	struct spm_extent x;

	for (; records; records--, at += sizeof(x)) {
		get_at(fd, at, &x, sizeof(x));
		if (!spm_extent_how(&x) || spm_extent_how(&x) & SPM_HOW_DAMAGED)
			continue;
		spm_extent_set_how(&x, spm_extent_how(&x));
		put_at(fd, at, &x, sizeof(x));
	}
}

/* Makes the check of a unit fit what is in it, so that the scan looks further. */
static void reseal(int fd, unsigned int area, uint64_t at)
{
	struct spm_extmap_header h;
	struct spm_extmap_change c;
	struct spm_extmap_leaf u;
	struct spm_extfile f;

	if (area == 0) {
		get_at(fd, EXTMAP_CHANGE_AT, &c, sizeof(c));
		c.sum = spm_extmap_change_sum(&c);
		put_at(fd, EXTMAP_CHANGE_AT, &c, sizeof(c));
		get_at(fd, at, &h, sizeof(h));
		h.check = spm_extmap_header_check(&h);
		put_at(fd, at, &h, sizeof(h));
	} else if (area == 1) {
		get_at(fd, at, &f, sizeof(f));
		f.check = spm_extmap_head_check(&f);
		put_at(fd, at, &f, sizeof(f));
		reseal_records(fd, at + offsetof(struct spm_extfile, first), SPM_EXTFILE_INLINE);
	} else {
		get_at(fd, at, &u, sizeof(u));
		if (!u.file || u.file > UNITS)
			return;
		get_at(fd, EXTMAP_HEADS_AT + (u.file - 1) * sizeof(f), &f, sizeof(f));
		u.check = spm_extmap_leaf_check(&f, &u);
		put_at(fd, at, &u, sizeof(u));
		reseal_records(fd, at + sizeof(u), EXTMAP_RECORDS(areas[area].unit));
	}
}

static void overlay(int fd, const uint8_t *data, size_t size)
{
	while (size >= 5) {
		unsigned int area = data[0] % SPM_ARRAY_SIZE(areas);
		uint64_t at = areas[area].at + (area ? data[1] % UNITS * areas[area].unit : 0);
		uint32_t offset = (data[2] | (uint32_t)data[3] << 8) % areas[area].unit, len = data[4] % 64;
		bool again = data[0] & RESEAL;

		data += 5;
		size -= 5;
		len = len < size ? len : (uint32_t)size;
		len = len < areas[area].unit - offset ? len : areas[area].unit - offset;
		put_at(fd, at + offset, data, len);
		if (again)
			reseal(fd, area, at);
		data += len;
		size -= len;
	}
}

/* -- what must hold -- */

static int look(void *arg, uint64_t extent, struct spm_extent *x)
{
	uint64_t *next = arg;
	uint32_t pages = spm_extent_pages(x);

	require(extent >= *next && extent < EXTMAP_EXTENTS + EXTMAP_LARGE_FIRST + EXTMAP_LARGE_RECORDS,
		"extents come in order, and are some");
	require(spm_extent_ok(x), "a record is whole, or was given up as a whole");
	if (spm_extent_how(x) & SPM_HOW_DAMAGED)
		require(!x->slot && !pages && !spm_extent_blocks(x), "a damaged record names nothing");
	else
		require(x->slot && pages >= 1 && pages <= SPM_EXTENT_PAGES, "a record names a slot and its pages");
	*next = extent + 1;
	return 0;
}

static int clear(void *arg, uint64_t extent, struct spm_extent *x)
{
	(void)arg, (void)extent;
	spm_extent_set_how(x, 0);
	return 0;
}

static void work(struct spm_extmap *m)
{
	uint32_t live = 0;

	for (uint32_t file = spm_extmap_next_file(m, 0); file; file = spm_extmap_next_file(m, file + 1)) {
		const struct spm_extfile *f = spm_extmap_file(m, file);
		uint64_t next = 0;

		live++;
		require(spm_extmap_find(m, f->slice, f->ino) == file, "a file is found by its inode");
		require(!spm_extmap_each(m, file, 0, look, &next), "a walk ends");
		if (file % 3 == 0) {
			(void)spm_extmap_each(m, file, 0, clear, NULL);
			spm_extmap_forget(m, file);
			live--;
		} else if (file % 3 == 1) {
			spm_extmap_tidy(m, file);
			require(spm_extmap_get(m, file, 50000, true), "a new leaf");
		}
	}
	for (uint64_t ino = 1; ino < 10; ino++) {
		struct spm_handle h = handle_of(ino);

		live += !spm_extmap_find(m, 0, ino);
		require(spm_extmap_intern(m, 0, ino, &h, 0), "a head for each inode");
	}
	require(m->live == live, "files are counted");
	require(m->damaged <= UNITS * (3 + 2 + EXTMAP_MIDDLE_RECORDS + EXTMAP_LARGE_RECORDS), "counted once");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	spm_auto_close int fd = small_map();
	struct spm_extmap m;
	uint32_t live;

	overlay(fd, data, size);
	if (spm_extmap_attach(&m, fd))
		return 0;
	require(!spm_extmap_scan(&m), "a scan of anything");
	work(&m);
	spm_extmap_settled(&m);
	live = m.live;
	spm_extmap_detach(&m);
	/* whatever it was, now it is a map that the next process reads the same way */
	require(!spm_extmap_attach(&m, fd) && !spm_extmap_scan(&m), "a second scan");
	require(m.live == live, "the same files");
	spm_extmap_detach(&m);
	return 0;
}

#ifndef SPM_LIBFUZZER
#define MUTATIONS 5000

/* Small numbers, where fields begin, and what is already there: random bytes alone would fail the first check. */
static size_t make_input(uint8_t *buf, unsigned int *seed)
{
	static const uint16_t offsets[] = { 0, 4, 8, 10, 12, 16, 26, 30, 32, 38, 40, 44, 50, 52, 60, 62 };
	size_t n = 0;

	for (int ops = 1 + rand_r(seed) % 6; ops; ops--) {
		uint32_t offset = offsets[(size_t)rand_r(seed) % SPM_ARRAY_SIZE(offsets)];
		uint8_t len = (uint8_t)(1 + rand_r(seed) % 8);

		if (rand_r(seed) % 3 == 0)
			offset = (uint32_t)rand_r(seed) % 4096;
		buf[n] = (uint8_t)(rand_r(seed) % 10 ? 1 + rand_r(seed) % 3 : 0);
		buf[n++] |= (uint8_t)(rand_r(seed) % 3 ? RESEAL : 0);
		buf[n++] = (uint8_t)(rand_r(seed) % UNITS);
		buf[n++] = (uint8_t)offset;
		buf[n++] = (uint8_t)(offset >> 8);
		buf[n++] = len;
		for (; len; len--)
			buf[n++] = (uint8_t)(rand_r(seed) % 2 ? rand_r(seed) % 8 : rand_r(seed));
	}
	return n;
}

static int replay(const char *path)
{
	spm_auto_fclose FILE *f = fopen(path, "rb");
	uint8_t buf[65536];

	if (!f) {
		perror(path);
		return 1;
	}
	return LLVMFuzzerTestOneInput(buf, fread(buf, 1, sizeof(buf), f));
}

int main(int argc, char **argv)
{
	unsigned int seed = 1;
	int rc = 0;

	for (int i = 1; i < argc; i++)
		rc |= replay(argv[i]);
	if (argc > 1)
		return rc;
	for (int i = 0; i < MUTATIONS; i++) {
		uint8_t buf[128];
		size_t len = make_input(buf, &seed);

		LLVMFuzzerTestOneInput(buf, len);
	}
	printf("1..1\nok 1 - %d damaged extent maps\n", MUTATIONS);
	return 0;
}
#endif
