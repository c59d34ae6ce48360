/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What requests do to extents that are out: write, punch, truncate, remove, open; and who waits for whom. */
#include "tests/unit/swap.h"

#include <time.h>

#define EXTENT (64u << 10)

static struct sample sample_out(const char *name, uint64_t bytes)
{
	struct sample s = sample_new(name);

	sample_write(&s, 0, bytes);
	ck_assert_int_eq(evict(&s), (int64_t)((bytes + 4095) & ~UINT64_C(4095)));
	return s;
}

START_TEST(write_brings_back)
{
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 10 * EXTENT);
	sample_write(&s, 3 * EXTENT + 100, 5 * EXTENT + 1);
	for (uint64_t e = 0; e < 10; e++)
		ck_assert_int_eq(is_out(&s, e), e < 3 || e > 5);
	sample_check(&s);
	/* and out again, with a second version of these */
	ck_assert_int_eq(evict(&s), 3 * EXTENT);
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

static void check_zeroed(struct sample *s, uint64_t from, uint64_t to)
{
	memset(s->want + from, 0, to - from);
	sample_check(s);
}

START_TEST(punch)
{
	static const struct {
		uint64_t from, to;
		uint64_t left; /* extents that stay out, of 10: a bit each */
	} punches[] = {
		{ 0, 10 * EXTENT, 0 },
		{ 2 * EXTENT, 3 * EXTENT, 0x3fb },
		{ 2 * EXTENT + 4096, 5 * EXTENT - 4096, 0x3e3 },
		{ 2 * EXTENT + 4096, 2 * EXTENT + 8192, 0x3fb },
		{ 2 * EXTENT, 2 * EXTENT + 1, 0x3fb },
		{ 2 * EXTENT + 1, 4 * EXTENT, 0x3f3 },
		{ 9 * EXTENT, 20 * EXTENT, 0x1ff },
		{ 8 * EXTENT + 5, 12 * EXTENT + 5, 0x0ff },
	};
	uint64_t from = punches[_i].from, to = punches[_i].to;
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 10 * EXTENT);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, from, to), 0);
	for (uint64_t e = 0; e < 10; e++)
		ck_assert_int_eq(is_out(&s, e), punches[_i].left >> e & 1);
	ck_assert_uint_eq(rig_slots_used(&rig), (uint64_t)__builtin_popcountll(punches[_i].left) * EXTENT);
	check_zeroed(&s, from, to < 10 * EXTENT ? to : 10 * EXTENT);
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	sample_check_here(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(truncate_and_longer_again)
{
	static const uint64_t sizes[] = { 0, 1, 4095, 4096, 4097, EXTENT - 1, EXTENT, EXTENT + 1, 5 * EXTENT - 5000, 5 * EXTENT,
					  10 * EXTENT - 1, 10 * EXTENT, 11 * EXTENT + 7 };
	uint64_t size = sizes[_i], kept = size / EXTENT < 10 ? size / EXTENT : 10;
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 10 * EXTENT);
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, size), 0);
	for (uint64_t e = 0; e < 12; e++)
		ck_assert_int_eq(is_out(&s, e), e < kept);
	ck_assert_uint_eq(rig_slots_used(&rig), kept * EXTENT);
	if (size < 10 * EXTENT)
		memset(s.want + size, 0, 12 * EXTENT - size);
	s.size = size;
	sample_check(&s);
	/* what was cut off is zeros, whether it was out or not */
	s.size = 12 * EXTENT;
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, s.size), 0);
	sample_check(&s);
	(void)!evict(&s);
	sample_check(&s);
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	sample_check_here(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(removed)
{
	struct spm_swap_stats before, after;
	struct stat st;
	struct sample s;

	set_up(EXTENT);
	spm_swap_stats(rig.s, &before);
	s = sample_out("f", 16 * MIB);
	ck_assert_int_eq(fstat(s.fd, &st), 0);
	spm_swap_stats(rig.s, &after);
	ck_assert_uint_gt(after.map_bytes, before.map_bytes);
	spm_swap_gone(rig.s, 0, st.st_ino);
	ck_assert_uint_eq(spm_swap_find(rig.s, 0, st.st_ino), 0);
	spm_swap_stats(rig.s, &after);
	ck_assert_uint_eq(after.swap_used_bytes, 0);
	ck_assert_uint_eq(after.swapped_bytes, 0);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(two_ranges)
{
	uint32_t file[2];
	uint64_t from[2] = { 3 * EXTENT + 5, 7 * EXTENT }, to[2] = { 4 * EXTENT + 5, 8 * EXTENT };
	struct spm_pin pin[2];
	struct sample s[2];

	set_up(EXTENT);
	s[0] = sample_out("a", 10 * EXTENT);
	s[1] = sample_out("b", 10 * EXTENT);
	for (unsigned int same = 0; same < 3; same++) {
		file[0] = s[same & 1].file;
		file[1] = same == 2 ? s[0].file : s[1].file;
		ck_assert_int_eq(spm_swap_pin_two(rig.s, file, from, to, pin), 0);
		for (unsigned int i = 0; i < 2; i++) {
			struct sample *of = file[i] == s[0].file ? &s[0] : &s[1];

			ck_assert(!is_out(of, from[i] / EXTENT) && !is_out(of, (to[i] - 1) / EXTENT));
			ck_assert_int_eq(evict(of), 0);
		}
		spm_swap_unpin(&pin[0]);
		spm_swap_unpin(&pin[1]);
		(void)!evict(&s[0]);
		(void)!evict(&s[1]);
	}
	/* a file without a head takes part, too */
	file[0] = 0;
	ck_assert_int_eq(spm_swap_pin_two(rig.s, file, from, to, pin), 0);
	spm_swap_unpin(&pin[0]);
	spm_swap_unpin(&pin[1]);
	for (unsigned int i = 0; i < 2; i++) {
		sample_check(&s[i]);
		sample_end(&s[i]);
	}
	tear_down();
}
END_TEST

START_TEST(who_keeps_the_reclaimer_out)
{
	static const enum spm_pin_how hows[] = { SPM_PIN_FILE, SPM_PIN_DROP, SPM_PIN_TRIM };
	struct spm_whose who;
	struct spm_pin pin;
	struct sample s;

	set_up(EXTENT);
	s = sample_new("f");
	sample_write(&s, 0, 4 * EXTENT);
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert_int_eq(spm_swap_pin(rig.s, s.file, 0, UINT64_MAX, hows[i], &pin), 0);
		ck_assert_int_eq(spm_visit_begin(rig.s, s.file, false, &who), -EBUSY);
		spm_swap_unpin(&pin);
	}
	/* what is pinned stays, the rest goes */
	ck_assert_int_eq(spm_swap_pin(rig.s, s.file, EXTENT, EXTENT + 1, SPM_PIN_READ, &pin), 0);
	ck_assert_int_eq(evict(&s), 3 * EXTENT);
	ck_assert(!is_out(&s, 1));
	spm_swap_unpin(&pin);
	ck_assert_int_eq(evict(&s), EXTENT);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(direct_files_stay)
{
	struct spm_pin pin;
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 4 * EXTENT);
	ck_assert_int_eq(spm_swap_pin(rig.s, s.file, 0, UINT64_MAX, SPM_PIN_FILE, &pin), 0);
	ck_assert_int_eq(spm_swap_direct(&pin), -EAGAIN);
	ck_assert_int_eq(spm_swap_load(&pin, 0, UINT64_MAX), 0);
	ck_assert_int_eq(spm_swap_direct(&pin), 0);
	spm_swap_unpin(&pin);
	/* the sample's own descriptor is somebody who has it open */
	ck_assert_int_eq(evict(&s), -EBUSY);
	close(s.fd);
	ck_assert_int_eq(evict(&s), 4 * EXTENT);
	s.fd = rig_fd(&rig, "f");
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

/* -- room -- */

START_TEST(more_than_the_device_holds)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	const struct rig_opts o = { .memory = 24 * MIB, .swap = 96 * MIB, .swap_files = 2, .extent = _i ? EXTENT : 2 << 20,
				    .swap_opts = { .used_max = UINT64_MAX } };
	struct spm_swap_stats st;
	struct sample s[4];

	set_up_with(&o);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	for (unsigned int i = 0; i < 4; i++) {
		s[i] = sample_new(names[i]);
		for (uint64_t at = 0; at < 16 * MIB; at += MIB)
			sample_write(&s[i], at, at + MIB);
	}
	spm_swap_stats(rig.s, &st);
	ck_assert_uint_ge(st.swapped_bytes, 40 * MIB);
	ck_assert_uint_gt(st.direct_waits, 0);
	ck_assert_uint_eq(st.refused, 0);
	for (unsigned int i = 0; i < 4; i++) {
		sample_check(&s[i]);
		/* each one fits, if the others leave */
		ck_assert_int_eq(rig_load(&rig, s[i].file), 0);
		sample_check_here(&s[i]);
	}
	for (unsigned int i = 0; i < 4; i++)
		sample_end(&s[i]);
	tear_down();
}
END_TEST

/* Nothing may leave, so there is no room; soon told, and the file is as it was. */
START_TEST(no_room)
{
	const struct rig_opts o = { .memory = 12 * MIB, .swap = 64 * MIB, .swap_files = 1, .extent = EXTENT,
				    .swap_opts = { .used_max = UINT64_MAX } };
	struct timespec from, to;
	struct spm_pin pin;
	struct sample s, t;
	uint64_t at = 0;

	set_up_with(&o);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	s = sample_new("mapped");
	sample_write(&s, 0, 10 * MIB);
	ck_assert_int_eq(spm_swap_pin(rig.s, s.file, 0, UINT64_MAX, SPM_PIN_FILE, &pin), 0);
	ck_assert_int_eq(spm_swap_direct(&pin), 0);
	spm_swap_unpin(&pin);
	t = sample_new("t");
	ck_assert_int_eq(spm_swap_pin(rig.s, t.file, 0, UINT64_MAX, SPM_PIN_FILE, &pin), 0);
	ck_assert_int_eq(spm_swap_direct(&pin), 0);
	spm_swap_unpin(&pin);
	clock_gettime(CLOCK_MONOTONIC, &from);
	while (rig_write(&rig, t.file, t.fd, s.want, EXTENT, at) == (ssize_t)EXTENT)
		ck_assert_uint_le(at += EXTENT, 2 * MIB);
	ck_assert_int_eq(rig_write(&rig, t.file, t.fd, s.want, EXTENT, at + MIB), -ENOSPC);
	clock_gettime(CLOCK_MONOTONIC, &to);
	ck_assert_int_lt(to.tv_sec - from.tv_sec, 10);
	/* and there is some when one of them is closed */
	close(s.fd);
	ck_assert_int_eq(rig_write(&rig, t.file, t.fd, s.want, EXTENT, at + MIB), EXTENT);
	s.fd = rig_fd(&rig, "mapped");
	sample_check(&s);
	sample_end(&s);
	sample_end(&t);
	tear_down();
}
END_TEST

/* In the background, between the watermarks; and by hand. */
START_TEST(watermarks)
{
	const struct rig_opts o = { .memory = 64 * MIB, .swap = 64 * MIB, .swap_files = 1, .extent = EXTENT,
				    .swap_opts = { .low_pct = 80, .high_pct = 90, .used_max = UINT64_MAX } };
	struct timespec ms = { .tv_nsec = 1000000 };
	struct sample s;
	int n = 0;

	set_up_with(&o);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	s = sample_new("f");
	sample_write(&s, 0, 16 * MIB);
	/* 75 % free: up to 90 %, that is to 6.4 MiB */
	while (spm_swap_bytes_of(rig.s, s.file) < 9 * MIB) {
		nanosleep(&ms, NULL);
		ck_assert_int_lt(n++, 20000);
	}
	sample_check(&s);
	ck_assert_uint_lt(spm_swap_bytes_of(rig.s, s.file), 13 * MIB);
	ck_assert_uint_ge(spm_swap_reclaim(rig.s, 0, MIB), MIB);
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(cold_leaves)
{
	const struct rig_opts o = { .memory = 64 * MIB, .swap = 64 * MIB, .swap_files = 1, .extent = EXTENT,
				    .swap_opts = { .cold_s = 1, .used_max = UINT64_MAX } };
	struct timespec ms = { .tv_nsec = 1000000 };
	struct sample s;
	char c;
	int n = 0;

	set_up_with(&o);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	s = sample_new("f");
	sample_write(&s, 0, 2 * MIB);
	/* all but the page that is read all the time */
	while (spm_swap_bytes_of(rig.s, s.file) < 2 * MIB - EXTENT) {
		ck_assert_int_eq(read_at(&s, &c, 1, MIB, NULL), 1);
		nanosleep(&ms, NULL);
		ck_assert_int_lt(n++, 30000);
	}
	ck_assert(!is_out(&s, MIB / EXTENT));
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

static uint16_t age(struct sample *s, uint64_t extent)
{
	return spm_extmap_age(spm_swap_clock(rig.s), spm_extent_used(spm_extmap_get(&rig.s->map, s->file, extent, false)));
}

/* The clock of last uses goes round in 4.5 hours; what is older than that goes on to be old. */
START_TEST(old_stays_old)
{
	const uint64_t five_hours = 5 * 3600 * 4;
	uint16_t seen = 0;
	struct sample s;
	char c;

	set_up(EXTENT);
	s = sample_new("f");
	sample_write(&s, 0, 4 * EXTENT);
	ck_assert_int_eq(spm_swap_evict(rig.s, s.file, 2 * EXTENT, 3 * EXTENT), EXTENT);
	for (uint64_t t = 0; t < 3 * five_hours; t += 1500) {
		rig.s->ticks_ahead += 1500;
		spm_ages_settle(rig.s);
		ck_assert_int_eq(read_at(&s, &c, 1, 0, NULL), 1);
		ck_assert_uint_le(age(&s, 0), 8);
		for (uint64_t e = 1; e < 4; e += 2) /* of what is out it is not kept */
			ck_assert_uint_ge(age(&s, e), seen);
		seen = age(&s, 1) < SPM_AGE_MAX - 1 ? age(&s, 1) : SPM_AGE_MAX - 1;
	}
	ck_assert_uint_eq(seen, SPM_AGE_MAX - 1);
	/* of the whole file as well, of which direct users do not touch extents */
	ck_assert_uint_ge(spm_extmap_age(spm_swap_clock(rig.s), spm_extmap_file(&rig.s->map, s.file)->used), SPM_AGE_MAX - 1);
	ck_assert(is_out(&s, 2));
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

void add_pin_tests(TCase *t)
{
	tcase_add_test(t, write_brings_back);
	tcase_add_loop_test(t, punch, 0, 8);
	tcase_add_loop_test(t, truncate_and_longer_again, 0, 13);
	tcase_add_test(t, removed);
	tcase_add_test(t, two_ranges);
	tcase_add_test(t, who_keeps_the_reclaimer_out);
	tcase_add_test(t, direct_files_stay);
	tcase_add_loop_test(t, more_than_the_device_holds, 0, 2);
	tcase_add_test(t, no_room);
	tcase_add_test(t, watermarks);
	tcase_add_test(t, cold_leaves);
	tcase_add_test(t, old_stays_old);
}
