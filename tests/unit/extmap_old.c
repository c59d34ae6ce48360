/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A map of version 1 is taken over: all that it said, and of what was damaged in it, that it was. */
#include "tests/progs/oldmap.h"
#include "tests/unit/extmap.h"

#define OLD_FILES   20u
#define OLD_EXTENTS 800u

static void fill_old(struct spm_extmap *m)
{
	for (uint64_t i = 0; i < OLD_FILES; i++) {
		uint32_t file = intern(m, (uint16_t)(i % 3), 50 + i);

		for (uint64_t e = i; e < OLD_EXTENTS; e++)
			swap_out(m, file, e);
		spm_extent_touch(spm_extmap_get(m, file, 0, false), (uint16_t)(100 + i)); /* where it is here */
		*spm_extmap_times(m, file) = (struct spm_exttimes){ (int64_t)i, 2, 3 };
	}
	spm_extmap_forget(m, spm_extmap_find(m, 0, 53));
}

/* The extents of a file that are out, or given up. */
static uint32_t count_said(struct spm_extmap *m, uint64_t i, uint32_t *given_up)
{
	uint32_t file = spm_extmap_find(m, (uint16_t)(i % 3), 50 + i), out = 0;
	struct spm_extent *x;

	*given_up = 0;
	for (uint64_t e = 0; file && (e = spm_extmap_next(m, file, e, &x)) != UINT64_MAX; e++) {
		if (spm_extent_how(x) & SPM_HOW_DAMAGED) {
			*given_up += 1;
		} else {
			must(is_out(m, file, e));
			out++;
		}
	}
	return out;
}

/* The map in @from, as today's; both are closed with it. */
static void renew(struct spm_extmap *m, int from, uint32_t damaged)
{
	struct spm_extmap_setup setup;
	int to = memfd_create("extents", MFD_CLOEXEC);

	ck_assert_int_ge(to, 0);
	ck_assert_int_eq(spm_extmap_setup_of(from, &setup), 1);
	ck_assert_int_eq(memcmp(setup.uuid, "a region", 9), 0);
	ck_assert_int_eq(spm_extmap_attach(m, from), -EPROTO);
	ck_assert_int_eq(spm_extmap_renew(from, to), 0);
	ck_assert_int_eq(spm_extmap_setup_of(to, &setup), 0);
	ck_assert_int_eq(spm_extmap_renew(to, to), -EPROTO);
	take_over(m, to, damaged);
	close(from);
}

static int old_map(void)
{
	struct spm_extmap m;
	int fd = new_file();

	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	fill_old(&m);
	spm_extmap_detach(&m);
	oldmap_make(fd);
	return fd;
}

START_TEST(taken_over)
{
	struct spm_extmap m;
	uint32_t lost;

	renew(&m, old_map(), 0);
	ck_assert_uint_eq(m.live, OLD_FILES - 1);
	for (uint64_t i = 0; i < OLD_FILES; i++) {
		uint32_t file = spm_extmap_find(&m, (uint16_t)(i % 3), 50 + i);

		ck_assert_uint_eq(count_said(&m, i, &lost), i == 3 ? 0 : OLD_EXTENTS - i);
		ck_assert_uint_eq(lost, 0);
		if (i == 3)
			continue;
		ck_assert_uint_eq(m.head[file].swapped, (OLD_EXTENTS - i) * 512);
		ck_assert(spm_flag_is(&m.head[file], SPM_EXTFILE_DIRECT) && spm_flag_is(&m.head[file], SPM_EXTFILE_DATED));
		ck_assert_int_eq(spm_extmap_times(&m, file)->mtime, (int64_t)i);
		ck_assert_uint_eq(spm_extent_used(spm_extmap_get(&m, file, 0, false)), i ? 100 + i : 0);
	}
	end_map(&m);
}
END_TEST

static void flip_at(int fd, uint64_t at)
{
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x40;
	ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
}

/* Offsets in a head: its inode; in a leaf: its file, group, check; in a record: how, which makes it impossible. */
START_TEST(damaged_before)
{
	static const struct {
		uint64_t at;
		uint32_t damaged, lost_heads, lost_leaves, given_up;
	} cases[] = {
		{ EXTMAP_HEADS_AT + 7 * 64 + 1, 1 + 4, 1, 4, 0 },
		{ EXTMAP_MIDDLES_AT + 5 * 256 + 0, 1, 0, 1, 0 },
		{ EXTMAP_LARGES_AT + 5 * 4096 + 4, 1, 0, 1, 0 },
		{ EXTMAP_LARGES_AT + 5 * 4096 + 8, 1, 0, 1, 0 },
		{ EXTMAP_LARGES_AT + 5 * 4096 + 16 + 11, 0, 0, 0, 1 }, /* told when it is read */
	};
	uint32_t given_up = 0, one;
	struct spm_extmap m;
	int fd = old_map();

	flip_at(fd, cases[_i].at);
	renew(&m, fd, cases[_i].damaged);
	ck_assert_uint_eq(m.lost_heads, cases[_i].lost_heads);
	ck_assert_uint_eq(m.lost_leaves, cases[_i].lost_leaves);
	for (uint64_t i = 0; i < OLD_FILES; i++) {
		(void)count_said(&m, i, &one);
		given_up += one;
	}
	ck_assert_uint_eq(given_up, cases[_i].given_up);
	end_map(&m);
}
END_TEST

/* Of a newer program: told apart from damage. */
START_TEST(newer)
{
	struct spm_extmap_setup setup;
	struct spm_extmap_header h;
	int fd = new_file();

	ck_assert_int_eq(pread(fd, &h, sizeof(h), 0), sizeof(h));
	h.version++;
	ck_assert_int_eq(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	ck_assert_int_eq(spm_extmap_setup_of(fd, &setup), -EPROTO);
	h.check = spm_extmap_header_check(&h);
	ck_assert_int_eq(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	ck_assert_int_eq(spm_extmap_setup_of(fd, &setup), -EPROTONOSUPPORT);
	ck_assert_int_eq(spm_extmap_renew(fd, fd), -EPROTONOSUPPORT);
	close(fd);
}
END_TEST

void add_old_tests(TCase *t)
{
	tcase_add_test(t, taken_over);
	tcase_add_loop_test(t, damaged_before, 0, 5);
	tcase_add_test(t, newer);
}
