/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extent maps that are no such thing, or hold nonsense: what is wrong is set aside, and nothing else suffers. */
#include "tests/unit/extmap.h"

#include "core/log.h"

#include <stddef.h>

/* Instead of core's, which would fill the test's log. */
static unsigned int logged;
void spm_log(enum spm_log_level level, const char *fmt, ...)
{
	(void)level, (void)fmt;
	logged++;
}

START_TEST(other_files_are_refused)
{
	static const off_t spots[] = { 0, 8, 12, 16, 20, 24, 32, 48, 52, 60 };
	struct spm_extmap_setup setup = { .extent_bytes = 12345, .files = 1 };
	struct spm_extmap m;
	uint8_t byte;
	int fd = new_file();

	for (size_t i = 0; i < SPM_ARRAY_SIZE(spots); i++) {
		ck_assert_int_eq(pread(fd, &byte, 1, spots[i]), 1);
		byte ^= 4;
		ck_assert_int_eq(pwrite(fd, &byte, 1, spots[i]), 1);
		ck_assert_int_eq(spm_extmap_attach(&m, fd), -EPROTO);
		byte ^= 4;
		ck_assert_int_eq(pwrite(fd, &byte, 1, spots[i]), 1);
	}
	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	m.setup->retired = 3; /* is not part of what the header vouches for */
	spm_extmap_detach(&m);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	ck_assert_uint_eq(m.setup->retired, 3);
	spm_extmap_detach(&m);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), -EPROTO);
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), -EPROTO);
	ck_assert_int_eq(spm_extmap_create(fd, &setup), -EINVAL);
	setup = (struct spm_extmap_setup){ .extent_bytes = SPM_EXTENT_MIN, .files = 9 };
	ck_assert_int_eq(spm_extmap_create(fd, &setup), -EINVAL);
	close(fd);
}
END_TEST

/* 20 files of 800 extents, all out. */
static void fill(struct spm_extmap *m)
{
	for (uint64_t i = 0; i < 20; i++) {
		uint32_t file = intern(m, 0, 50 + i);

		for (uint64_t e = 0; e < 800; e++)
			swap_out(m, file, e);
	}
}

static uint32_t count_out(struct spm_extmap *m, uint64_t ino)
{
	uint32_t file = spm_extmap_find(m, 0, ino), out = 0;

	for (uint64_t e = 0; file && e < 800; e++)
		out += is_out(m, file, e);
	return out;
}

/* One wrong byte of what says whose a head is, is put right. */
START_TEST(wrong_byte_in_head)
{
	struct spm_extmap m, b;

	new_map(&m);
	fill(&m);
	for (size_t at = 0; at < offsetof(struct spm_extfile, swapped); at++) {
		flip((char *)spm_extmap_file(&m, spm_extmap_find(&m, 0, 60)) + at, (uint8_t)(_i < 8 ? 1 << _i : 0xff));
		take_over(&b, m.fd, 1);
		for (uint64_t i = 0; i < 20; i++)
			ck_assert_uint_eq(count_out(&b, 50 + i), 800);
		ck_assert_uint_eq(b.lost_heads + b.lost_leaves, 0);
		spm_extmap_detach(&b);
		take_over(&b, m.fd, 0);
		spm_extmap_detach(&b);
	}
	end_map(&m);
}
END_TEST

/* With more than that a head is set aside with its leaves, and stays so when another process looks at it, or the inode comes again. */
START_TEST(damaged_head)
{
	static const size_t spots[] = { offsetof(struct spm_extfile, ino) + 2, offsetof(struct spm_extfile, slice),
					offsetof(struct spm_extfile, check), offsetof(struct spm_extfile, handle) + 1,
					offsetof(struct spm_extfile, handle) + 4 };
	struct spm_extmap m, b;
	char *victim;

	new_map(&m);
	fill(&m);
	victim = (char *)spm_extmap_file(&m, spm_extmap_find(&m, 0, 60));
	flip(victim + spots[_i], 0x10);
	flip(victim + spots[(_i + 1) % 5] + 1, 0x31);
	take_over(&b, m.fd, 1 + 1 + 3);
	for (uint64_t i = 0; i < 20; i++)
		ck_assert_uint_eq(count_out(&b, 50 + i), i == 10 ? 0 : 800);
	ck_assert_uint_eq(b.live, 19);
	ck_assert_uint_eq(b.lost_heads, 1);
	ck_assert_uint_eq(b.lost_leaves, 4);
	ck_assert_uint_eq(intern(&b, 0, 60), 21);
	spm_extmap_settled(&b);
	ck_assert_uint_eq(b.middles->count + b.larges->count, 19 * 4);
	spm_extmap_detach(&b);
	take_over(&b, m.fd, 1);
	ck_assert_uint_eq(b.lost_heads, 1);
	ck_assert_uint_eq(spm_extmap_find(&b, 0, 60), 21);
	ck_assert_uint_eq(count_out(&b, 60), 0);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

START_TEST(damaged_flags)
{
	struct spm_extmap m, b;

	new_map(&m);
	fill(&m);
	m.head[3].flags ^= (uint16_t)(1u << _i);
	take_over(&b, m.fd, 1);
	ck_assert_uint_eq(b.head[3].flags & 0xff, SPM_EXTFILE_DIRECT | SPM_EXTFILE_TRIM | SPM_EXTFILE_DATED | SPM_EXTFILE_MOVING);
	ck_assert_int_eq(spm_extmap_times(&b, 3)->mtime, 0);
	ck_assert_uint_eq(count_out(&b, 52), 800);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

START_TEST(wrong_byte_in_leaf)
{
	struct spm_extmap m, b;

	new_map(&m);
	fill(&m);
	for (size_t at = 0; at < sizeof(struct spm_extmap_leaf); at++) {
		flip((char *)spm_extpool_unit(_i % 2 ? m.middles : m.larges, 5) + at, (uint8_t)(_i < 16 ? 1 << _i / 2 : 0xff));
		take_over(&b, m.fd, 1);
		for (uint64_t i = 0; i < 20; i++)
			ck_assert_uint_eq(count_out(&b, 50 + i), 800);
		ck_assert_uint_eq(b.lost_heads + b.lost_leaves, 0);
		spm_extmap_detach(&b);
		take_over(&b, m.fd, 0);
		spm_extmap_detach(&b);
	}
	end_map(&m);
}
END_TEST

START_TEST(damaged_leaf)
{
	struct spm_extmap m, b;
	char *victim;

	new_map(&m);
	fill(&m);
	victim = spm_extpool_unit(_i < 4 ? m.middles : m.larges, 5);
	flip(victim + _i % 4 * 4, 0x40);
	flip(victim + _i % 4 * 4 + 1, 0x7f);
	take_over(&b, m.fd, 1);
	ck_assert_uint_eq(b.lost_leaves, 1);
	for (uint64_t i = 0; i < 20; i++) {
		bool hit = _i < 4 ? i == 4 : i == 1;

		ck_assert_uint_eq(count_out(&b, 50 + i), !hit ? 800 : _i < 4 ? 780 : 460);
	}
	/* its place can be had anew, in another leaf */
	swap_out(&b, spm_extmap_find(&b, 0, 54), 10);
	swap_out(&b, spm_extmap_find(&b, 0, 51), 400);
	spm_extmap_detach(&b);
	take_over(&b, m.fd, 1);
	ck_assert(is_out(&b, spm_extmap_find(&b, 0, 54), 10));
	ck_assert(is_out(&b, spm_extmap_find(&b, 0, 51), 400));
	spm_extmap_settled(&b);
	ck_assert_uint_eq(b.lost_leaves, 0);
	spm_extmap_detach(&b);
	take_over(&b, m.fd, 0);
	ck_assert(is_out(&b, spm_extmap_find(&b, 0, 54), 10));
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

/* A second head or leaf for the same place is not taken when the first is gone, either. */
START_TEST(two_for_one)
{
	struct spm_extmap m, b;
	uint32_t a, c;

	new_map(&m);
	fill(&m);
	m.head[30] = m.head[7];
	memcpy(spm_extpool_unit(m.middles, 40), spm_extpool_unit(m.middles, 2), EXTMAP_MIDDLE_BYTES);
	memcpy(spm_extpool_unit(m.larges, 100), spm_extpool_unit(m.larges, 9), EXTMAP_LARGE_BYTES);
	take_over(&b, m.fd, 3);
	a = spm_extmap_find(&b, 0, 56);
	c = spm_extmap_find(&b, 0, 51);
	ck_assert_uint_eq(a, 7);
	for (uint64_t i = 0; i < 20; i++)
		ck_assert_uint_eq(count_out(&b, 50 + i), 800);
	drop_file(&b, a);
	ck_assert_int_eq(spm_extmap_each(&b, c, 0, clear_step, NULL), 0);
	ck_assert_int_eq(spm_extmap_each(&b, spm_extmap_find(&b, 0, 52), 0, clear_step, NULL), 0);
	spm_extmap_tidy(&b, c);
	spm_extmap_tidy(&b, spm_extmap_find(&b, 0, 52));
	spm_extmap_detach(&b);
	take_over(&b, m.fd, 3);
	ck_assert_uint_eq(spm_extmap_find(&b, 0, 56), 0);
	ck_assert_uint_eq(count_out(&b, 51) + count_out(&b, 52), 0);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

/* Exactly that extent is lost: whatever is wrong in its record, one byte (0 to 11), all of it (12), or what a whole one says. */
START_TEST(damaged_record)
{
	static const uint16_t hows[] = {
		SPM_HOW_MAKE(SPM_EXTENT_HERE, 5, 0), SPM_HOW_MAKE(SPM_EXTENT_OUT, 17, SPM_HOW_SMALL),
		SPM_HOW_MAKE(SPM_EXTENT_IN, 3, SPM_HOW_SMALL | SPM_HOW_SPARSE), SPM_HOW_GIVEN_UP,
	};
	static const uint64_t at[] = { 1, 9, 500 };
	struct spm_extmap m, b;
	struct spm_extent *x;

	new_map(&m);
	fill(&m);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(at); i++) {
		x = spm_extmap_get(&m, 3, at[i], false);
		if (_i < 12)
			flip((char *)x + _i, (uint8_t)(i == 0 ? 0xff : 1 << (_i + (int)i) % 8));
		else if (_i == 12)
			memset(x, i == 1 ? 0xff : 0, sizeof(*x));
		else
			spm_extent_set_how(x, hows[_i - 13]);
		ck_assert_uint_ne(spm_extent_how(x), 0);
	}
	for (int again = 0; again < 2; again++) {
		take_over(&b, m.fd, again ? 0 : 3);
		ck_assert_uint_eq(b.head[3].swapped, 797 * 512);
		for (uint64_t e = 0; e < 800; e++) {
			bool hit = e == 1 || e == 9 || e == 500;

			x = spm_extmap_get(&b, 3, e, false);
			ck_assert_uint_eq(spm_extmap_next(&b, 3, e, &x), e);
			ck_assert_uint_eq(spm_extent_how(x), hit ? SPM_HOW_GIVEN_UP : SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 512, 0));
			ck_assert(hit ? !x->slot && !spm_extent_blocks(x) : x->slot == slot_of(52, e));
		}
		spm_extmap_detach(&b);
	}
	end_map(&m);
}
END_TEST

/* One that names no slot does not begin to. Its last use is of no account. */
START_TEST(damaged_empty_record)
{
	struct spm_extmap m, b;
	struct spm_extent *x;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	for (int at = 0; at < 12; at++) {
		swap_out(&m, file, 5);
		x = spm_extmap_get(&m, file, 5, false);
		spm_extent_set_how(x, 0); /* slot and check are still there */
		spm_extent_touch(x, (uint16_t)_i);
		flip((char *)x + at, (uint8_t)(_i < 8 ? 1 << _i : _i));
		ck_assert_int_eq(spm_extent_how(x), at < 10 ? 0 : SPM_HOW_GIVEN_UP);
		take_over(&b, m.fd, at < 10 ? 0 : 1);
		ck_assert_uint_eq(b.head[file].swapped, 0);
		spm_extmap_detach(&b);
	}
	end_map(&m);
}
END_TEST

/* A change that was made is not made again, whatever byte of its note is wrong. */
START_TEST(damaged_note)
{
	struct spm_extmap m, b;
	struct spm_extent *x;
	uint32_t file;
	char *byte;
	uint8_t was;

	new_map(&m);
	file = intern(&m, 0, 7);
	swap_out(&m, file, 5);
	x = spm_extmap_get(&m, file, 5, false);
	spm_extmap_change(&m, file, 5, x, 99, 1234, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 512, 0));
	ck_assert_uint_eq(x->slot, 99);
	spm_extent_set_how(x, 0);
	set_record(x, 7, 5);
	for (size_t at = 0; at < sizeof(struct spm_extmap_change); at++) {
		byte = (char *)spm_extmap_change_of(&m) + at;
		was = (uint8_t)*byte;
		*byte = (char)_i;
		ck_assert_int_eq(spm_extmap_attach(&b, m.fd), 0);
		ck_assert_int_eq(spm_extmap_scan(&b), 0);
		ck_assert(is_out(&b, file, 5));
		spm_extmap_detach(&b);
		*byte = (char)was;
	}
	end_map(&m);
}
END_TEST

/* Flipped bits wherever something is: each extent is where it was, or given up. */
START_TEST(flipped_bits)
{
	struct spm_extmap m;
	unsigned int seed = (unsigned int)_i + 1;
	int fd = new_file();
	uint32_t damaged = 0;

	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	fill(&m);
	for (int n = 0; n < 300; n++) {
		struct spm_extmap_pool *p = n % 3 == 0 ? m.heads : n % 3 == 1 ? m.middles : m.larges;
		uint32_t unit = 1 + (uint32_t)rand_r(&seed) % p->top;
		char *byte = (char *)spm_extpool_unit(p, unit) + (uint32_t)rand_r(&seed) % p->unit;
		struct spm_extmap b;
		uint32_t live = 0;

		*byte = (char)(*byte ^ 1 << rand_r(&seed) % 8);
		logged = 0;
		ck_assert_int_eq(spm_extmap_attach(&b, fd), 0);
		ck_assert_int_eq(spm_extmap_scan(&b), 0);
		damaged += b.damaged;
		ck_assert_uint_eq(logged, b.damaged < 8 ? b.damaged : 8);
		for (uint32_t f = spm_extmap_next_file(&b, 1); f; f = spm_extmap_next_file(&b, f + 1)) {
			struct spm_extent *x;
			uint32_t said = 0;

			live++;
			must(spm_extmap_find(&b, b.head[f].slice, b.head[f].ino) == f);
			for (uint64_t e = 0; (e = spm_extmap_next(&b, f, e, &x)) != UINT64_MAX; e++) {
				bool given_up = spm_extent_how(x) & SPM_HOW_DAMAGED;

				must(given_up ? !x->slot : x->slot == slot_of(b.head[f].ino, e) && e < 800);
				said += e < 800;
			}
			must(said == 800);
		}
		must(!b.lost_heads && !b.lost_leaves);
		ck_assert_uint_eq(live, b.live);
		ck_assert_uint_eq(live, 20);
		spm_extmap_detach(&b);
	}
	ck_assert_uint_gt(damaged, 200); /* what leads to no content, or is nobody's, is not noticed */
	end_map(&m);
}
END_TEST

void add_damage_tests(TCase *t)
{
	tcase_add_test(t, other_files_are_refused);
	tcase_add_loop_test(t, wrong_byte_in_head, 0, 9);
	tcase_add_loop_test(t, damaged_head, 0, 5);
	tcase_add_loop_test(t, damaged_flags, 0, 16);
	tcase_add_loop_test(t, wrong_byte_in_leaf, 0, 18);
	tcase_add_loop_test(t, damaged_leaf, 0, 8);
	tcase_add_test(t, two_for_one);
	tcase_add_loop_test(t, damaged_record, 0, 17);
	tcase_add_loop_test(t, damaged_empty_record, 0, 256);
	tcase_add_loop_test(t, damaged_note, 0, 256);
	tcase_add_loop_test(t, flipped_bits, 0, 3);
}
