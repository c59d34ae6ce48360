/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accounts of slices in a pool: law 6. */
#include "tests/unit/pool.h"

#define EXTENT (64 * KIB)
#define DEVICE (32 * EXTENT)
#define ALL    31u /* the last one has the label */

static const struct spm_pool_file one = { .ino = 11, .slice = 0 }, two = { .ino = 12, .slice = 5 }, three = { .ino = 13, .slice = 7 };

static int commit(struct pool_rig *r, const struct spm_pool_file *f, uint64_t first, uint64_t n)
{
	return spm_pool_commit(r->p, f, first * EXTENT, (first + n) * EXTENT, NULL, NULL);
}

static int punch(struct pool_rig *r, const struct spm_pool_file *f, uint64_t first, uint64_t n)
{
	spm_auto_pool struct spm_pool_held held;

	spm_pool_lock(r->p, f, SPM_POOL_EXCLUSIVE, &held);
	return spm_pool_punch(r->p, f, first * EXTENT, (first + n) * EXTENT);
}

static struct spm_pool_account account(struct pool_rig *r, const struct spm_pool_file *f)
{
	struct spm_pool_account a;

	spm_pool_account(r->p, f->slice, &a);
	return a;
}

static uint64_t room(struct pool_rig *r, const struct spm_pool_file *f)
{
	return account(r, f).room / EXTENT;
}

START_TEST(limits_hold)
{
	struct spm_pool_opts o = { .bytes_max = 8 * EXTENT + 5 };
	uint8_t buf[4 * EXTENT];
	struct pool_rig r;

	memset(buf, 1, sizeof(buf));
	rig_make(&r, DEVICE, EXTENT);
	rig_again(&r, &o);
	ck_assert_uint_eq(rig_stats(&r).free_bytes, 8 * EXTENT);
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 0, 4 * EXTENT - 1, false), 0);
	ck_assert_int_eq(spm_pool_write(r.p, &two, buf, sizeof(buf), 0), 3 * EXTENT);
	ck_assert_int_eq(spm_pool_write(r.p, &two, buf, 1, 9 * EXTENT), -EDQUOT);
	ck_assert_int_eq(commit(&r, &two, 0, 4), -EDQUOT);
	ck_assert_int_eq(commit(&r, &two, 0, 3), 0);
	ck_assert_uint_eq(spm_pool_slice_bytes(r.p, two.slice), 3 * EXTENT);
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 0, 3 * EXTENT - 1, false), -EBUSY);
	ck_assert_int_eq(commit(&r, &one, 0, 9), -EDQUOT);
	ck_assert_int_eq(commit(&r, &one, 0, 5), 0);
	spm_pool_limit(r.p, 4 * EXTENT);
	ck_assert_uint_eq(rig_stats(&r).free_bytes, 0);
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, 1, 9 * EXTENT), -EDQUOT);
	ck_assert_int_eq(commit(&r, &one, 0, 5), 0);
	/* the next process knows that of slice 0, until somebody says otherwise, and no other */
	rig_again(&r, NULL);
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, 1, 9 * EXTENT), -EDQUOT);
	ck_assert_int_eq(commit(&r, &two, 0, 4), 0);
	spm_pool_remove_slice(r.p, two.slice);
	ck_assert_uint_eq(spm_pool_slice_bytes(r.p, two.slice), 0);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 5 * EXTENT);
	spm_pool_limit(r.p, UINT64_MAX);
	rig_again(&r, NULL);
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, 1, 9 * EXTENT), 1);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

START_TEST(a_min_is_kept)
{
	struct pool_rig r;

	rig_make(&r, DEVICE, EXTENT);
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 10 * EXTENT, UINT64_MAX, false), 0);
	ck_assert_uint_eq(room(&r, &one), ALL - 10);
	ck_assert_uint_eq(room(&r, &two), ALL);
	ck_assert_int_eq(commit(&r, &one, 0, ALL - 9), -ENOSPC);
	ck_assert_int_eq(commit(&r, &one, 0, ALL - 10), 0);
	ck_assert_int_eq(spm_pool_set_slice(r.p, three.slice, 1, UINT64_MAX, false), -ENOSPC);
	ck_assert_int_eq(commit(&r, &three, 0, 1), -ENOSPC);
	ck_assert_int_eq(commit(&r, &two, 0, 10), 0);
	ck_assert_int_eq(commit(&r, &two, 10, 1), -ENOSPC);
	/* what it gives back within its min is still its own */
	ck_assert_int_eq(punch(&r, &two, 0, 3), 0);
	ck_assert_int_eq(commit(&r, &one, 30, 1), -ENOSPC);
	ck_assert_int_eq(commit(&r, &two, 0, 3), 0);
	/* and what others give back is everybody's */
	ck_assert_int_eq(punch(&r, &one, 0, 5), 0);
	ck_assert_int_eq(spm_pool_set_slice(r.p, three.slice, 5 * EXTENT + 1, UINT64_MAX, false), -ENOSPC);
	ck_assert_int_eq(spm_pool_set_slice(r.p, three.slice, 4 * EXTENT + 1, UINT64_MAX, false), 0);
	ck_assert_uint_eq(account(&r, &three).min, 5 * EXTENT);
	ck_assert_int_eq(commit(&r, &one, 0, 1), -ENOSPC);
	ck_assert_int_eq(commit(&r, &three, 0, 5), 0);
	/* a smaller min is never refused; a max is no less than it */
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 9 * EXTENT + 1, 9 * EXTENT + 2, false), 0);
	ck_assert_uint_eq(account(&r, &two).max, 10 * EXTENT);
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 0, 9 * EXTENT, false), -EBUSY);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

START_TEST(what_is_guaranteed_and_lost)
{
	struct pool_rig r;

	rig_make(&r, DEVICE, EXTENT);
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 20 * EXTENT, UINT64_MAX, false), 0);
	ck_assert_int_eq(spm_pool_set_slice(r.p, three.slice, 20 * EXTENT, UINT64_MAX, true), 0);
	ck_assert_uint_gt(account(&r, &one).committed, account(&r, &one).capacity);
	ck_assert_int_eq(commit(&r, &one, 0, 1), -ENOSPC);
	ck_assert_int_eq(commit(&r, &two, 0, 15), 0);
	ck_assert_int_eq(commit(&r, &three, 0, 17), -ENOSPC);
	ck_assert_int_eq(commit(&r, &three, 0, 16), 0);
	ck_assert_int_eq(commit(&r, &two, 15, 1), -ENOSPC);
	/* less is never refused */
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 19 * EXTENT, UINT64_MAX, false), 0);
	ck_assert_int_eq(spm_pool_set_slice(r.p, two.slice, 20 * EXTENT, UINT64_MAX, false), -ENOSPC);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

/* -- at random -- */

#define SLICES 4

struct slice_model {
	bool has[ALL];
	uint64_t min, max; /* extents */
};

static uint64_t used_of(const struct slice_model *m)
{
	uint64_t n = 0;

	for (unsigned int e = 0; e < ALL; e++)
		n += m->has[e];
	return n;
}

static uint64_t sure_of(const struct slice_model *m)
{
	return used_of(m) > m->min ? used_of(m) : m->min;
}

static uint64_t all_sure(const struct slice_model *m)
{
	uint64_t n = 0;

	for (int i = 0; i < SLICES; i++)
		n += sure_of(&m[i]);
	return n;
}

static int want_commit(struct slice_model *all, struct slice_model *m, unsigned int first, unsigned int n)
{
	struct slice_model before = *m;

	for (unsigned int e = first; e < first + n; e++)
		m->has[e] = true;
	if (used_of(m) == used_of(&before))
		return 0;
	if (used_of(m) <= m->max && all_sure(all) <= ALL)
		return 0;
	n = used_of(m) > m->max;
	*m = before;
	return n ? -EDQUOT : -ENOSPC;
}

static int want_set(struct slice_model *all, struct slice_model *m, uint64_t min, uint64_t max)
{
	uint64_t before = m->min, sure = sure_of(m);

	max = max < min ? min : max;
	if (used_of(m) > max)
		return -EBUSY;
	m->min = min;
	if (min > sure && all_sure(all) > ALL) {
		m->min = before;
		return -ENOSPC;
	}
	m->max = max;
	return 0;
}

START_TEST(accounts_are_those_of_a_model)
{
	struct slice_model m[SLICES] = { { .min = 0 } };
	unsigned int seed = (unsigned int)_i + 1, refused = 0;
	struct pool_rig r;

	for (int i = 0; i < SLICES; i++)
		m[i].max = UINT64_MAX;
	rig_make(&r, DEVICE, EXTENT);
	for (int step = 0; step < 3000; step++) {
		unsigned int i = (unsigned int)rand_r(&seed) % SLICES, first = (unsigned int)rand_r(&seed) % ALL;
		unsigned int n = (unsigned int)rand_r(&seed) % (ALL - first) + 1;
		struct spm_pool_file f = { .ino = 20 + i, .slice = (uint16_t)i };
		int want = 0, rc;

		switch (rand_r(&seed) % 4) {
		case 0:
			rc = punch(&r, &f, first, n);
			memset(m[i].has + first, 0, n);
			break;
		case 1: /* slice 0 has no min */
			n = i ? (unsigned int)rand_r(&seed) % 12 : 0;
			first = (unsigned int)rand_r(&seed) % ALL;
			rc = spm_pool_set_slice(r.p, f.slice, n * EXTENT, first * EXTENT + first, false);
			want = want_set(m, &m[i], n, first);
			break;
		default:
			rc = commit(&r, &f, first, n);
			want = want_commit(m, &m[i], first, n);
		}
		refused += want != 0;
		ck_assert_msg(rc == want, "step %d: %d, not %d", step, rc, want);
		ck_assert_uint_eq(account(&r, &f).used, used_of(&m[i]) * EXTENT);
		ck_assert_uint_eq(account(&r, &f).min, m[i].min * EXTENT);
		ck_assert_uint_eq(account(&r, &f).committed, all_sure(m) * EXTENT);
	}
	ck_assert_uint_gt(refused, 100);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

void add_slices_tests(TCase *t)
{
	tcase_add_test(t, limits_hold);
	tcase_add_test(t, a_min_is_kept);
	tcase_add_test(t, what_is_guaranteed_and_lost);
	tcase_add_loop_test(t, accounts_are_those_of_a_model, 0, 4);
}
