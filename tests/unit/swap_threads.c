/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that are larger than the device together, with many threads at them, while extents leave and come back. SPM_TEST_SECONDS
 * says for how long, each; SPM_TEST_SEED how the dice fall.
 */
#include "tests/unit/swap_model.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)

static const struct {
	uint64_t memory;
	uint32_t extent, files, blocks, threads, low, high;
	bool direct, pooled;
} kinds[] = {
	/* files of 6 MiB and more, so that one fits where it is to be mapped */
	{ 64 * MIB, 2 * MIB, 24, 2048, 6, 10, 20, false, false },
	{ 8 * MIB, 64 << 10, 16, 384, 8, 5, 10, false, false },
	{ 16 * MIB, 2 * MIB, 12, 1024, 4, 5, 10, false, false },
	{ 32 * MIB, 128 << 10, 24, 1024, 6, 10, 30, true, false },
	{ 8 * MIB, 64 << 10, 8, 700, 6, 0, 0, false, false },
	/* in a pool */
	{ 8 * MIB, 64 << 10, 16, 384, 8, 5, 10, false, true },
	{ 32 * MIB, 2 * MIB, 12, 1024, 4, 5, 10, false, true },
	{ 8 * MIB, 64 << 10, 8, 700, 6, 0, 0, false, true },
};

static unsigned int number(const char *name, unsigned int def)
{
	const char *v = getenv(name);

	return v ? (unsigned int)strtoul(v, NULL, 10) : def;
}

START_TEST(threads)
{
	struct rig_opts o = { .memory = kinds[_i].memory, .swap = 256 * MIB, .swap_files = 1 + (unsigned int)_i % 2,
			      .extent = kinds[_i].extent, .pooled = kinds[_i].pooled,
			      .swap_opts = { .low_pct = kinds[_i].low, .high_pct = kinds[_i].high, .compact_bps = 64 * MIB,
					     .used_max = UINT64_MAX } };
	struct model_opts mo = { .files = kinds[_i].files, .blocks = kinds[_i].blocks, .threads = kinds[_i].threads,
				 .direct = kinds[_i].direct, .seed = number("SPM_TEST_SEED", 1) };
	struct model *m = model_new(&mo);
	struct spm_swap_stats st;
	struct rig r;

	rig_make(&r, &o);
	rig_open(&r, true);
	model_run(m, &r, number("SPM_TEST_SECONDS", 4) * 1000);
	spm_swap_stats(r.s, &st);
	printf("# %llu requests, %llu MiB written, %llu out, %llu in, %llu read in slots, %llu collapsed, %llu moved, "
	       "%llu waits, %llu refused, %llu without space\n", (unsigned long long)m->ops, (unsigned long long)m->bytes / MIB,
	       (unsigned long long)st.swapout_bytes / MIB, (unsigned long long)st.swapin_bytes / MIB,
	       (unsigned long long)st.read_through_bytes / MIB, (unsigned long long)st.collapsed_bytes / MIB,
	       (unsigned long long)st.moved_bytes / MIB, (unsigned long long)st.direct_waits,
	       (unsigned long long)st.refused, (unsigned long long)m->nospace);
	fflush(stdout);
	ck_assert_uint_eq(r.damaged, 0);
	model_verify(m, &r);
	spm_swap_stop(r.s);
	model_audit(&r);
	model_remove(m, &r);
	/* all that swapped went out and, more or less, in again */
	ck_assert_uint_gt(st.swapout_bytes, kinds[_i].memory);
	ck_assert_uint_gt(st.swapin_bytes, kinds[_i].memory / 8);
	rig_close(&r);
	rig_destroy(&r);
	model_free(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("swap-threads");
	TCase *t = tcase_create("swap-threads");
	unsigned int kind = number("SPM_TEST_KIND", SPM_ARRAY_SIZE(kinds));

	tcase_set_timeout(t, 0);
	if (kind < SPM_ARRAY_SIZE(kinds))
		tcase_add_loop_test(t, threads, (int)kind, (int)kind + 1);
	else
		tcase_add_loop_test(t, threads, 0, (int)SPM_ARRAY_SIZE(kinds));
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
