/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Everything leaves, and nothing comes back but for those who cannot do without. */
#include "tests/unit/swap.h"

#include <time.h>

#define SOON_NS INT64_C(1000000)

static int drain_all(void)
{
	int rc;

	do
		rc = spm_swap_drain_some(rig.s, SOON_NS);
	while (rc == -EAGAIN);
	return rc;
}

static uint64_t here(struct sample *s)
{
	struct stat st;

	ck_assert_int_eq(fstat(s->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(reads_bring_nothing_back)
{
	char *buf = rig_pages(16 * MIB);
	struct sample a, b;
	bool through;

	set_up(SPM_EXTENT_MAX);
	a = sample_new("a");
	b = sample_new("b");
	sample_write(&a, 0, 16 * MIB);
	sample_write(&b, 0, 5 * MIB + 3);
	spm_swap_drain(rig.s, true);
	ck_assert_int_eq(drain_all(), 0);
	ck_assert_uint_eq(here(&a) + here(&b), 0);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(read_at(&a, buf, 2 * MIB, 4 * MIB, &through), 2 * MIB);
		ck_assert(through && !memcmp(buf, a.want + 4 * MIB, 2 * MIB));
	}
	ck_assert_uint_eq(here(&a), 0);
	spm_swap_drain(rig.s, false);
	for (int i = 0; i < 100 && !here(&a); i++)
		ck_assert_int_eq(read_at(&a, buf, 2 * MIB, 4 * MIB, NULL), 2 * MIB);
	ck_assert_uint_ge(here(&a), 2 * MIB); /* what is read again and again does, when it may */
	sample_check(&a);
	sample_check(&b);
	sample_end(&a);
	sample_end(&b);
	munmap(buf, 16 * MIB);
	tear_down();
}
END_TEST

/* By the reclaimer, without another pass. */
START_TEST(writes_leave_again)
{
	static const struct timespec pause = { .tv_nsec = 5000000 };
	struct sample s;

	set_up(SPM_EXTENT_MAX);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	s = sample_new("s");
	sample_write(&s, 0, 8 * MIB);
	spm_swap_drain(rig.s, true);
	ck_assert_int_eq(drain_all(), 0);
	for (int round = 0; round < 3; round++) {
		sample_write(&s, 3 * MIB, 3 * MIB + 5000);
		while (here(&s)) /* the suite's time limit ends it */
			nanosleep(&pause, NULL);
	}
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

/* What is pinned, and what there is no slot for, stays; the next pass finds what can go by then. */
START_TEST(what_stays)
{
	struct spm_pin pin;
	struct sample a, b;

	set_up(SPM_EXTENT_MAX);
	a = sample_new("a");
	b = sample_new("b");
	sample_write(&a, 0, 4 * MIB);
	sample_write(&b, 0, 4 * MIB);
	ck_assert_int_eq(spm_swap_pin(rig.s, a.file, 2 * MIB, 2 * MIB + 1, SPM_PIN_WRITE, &pin), 0);
	spm_swap_drain(rig.s, true);
	ck_assert_int_eq(drain_all(), 0);
	ck_assert_uint_eq(here(&a), 2 * MIB);
	ck_assert_uint_eq(here(&b), 0);
	spm_swap_unpin(&pin);
	spm_swap_set_max(rig.s, 7 * MIB);
	ck_assert_int_eq(drain_all(), -ENOSPC);
	ck_assert_uint_eq(here(&a), 2 * MIB);
	spm_swap_set_max(rig.s, UINT64_MAX);
	ck_assert_int_eq(drain_all(), 0);
	ck_assert_uint_eq(here(&a), 0);
	sample_check(&a);
	sample_check(&b);
	sample_end(&a);
	sample_end(&b);
	tear_down();
}
END_TEST

void add_drain_tests(TCase *t)
{
	tcase_add_test(t, reads_bring_nothing_back);
	tcase_add_test(t, writes_leave_again);
	tcase_add_test(t, what_stays);
}
