/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slices that share a device, swap files, and the one thread that moves out: who gets what, and who is left alone. Needs root. */
#include "tests/unit/swap_slices.h"

/* -- who gets what -- */

/* Many threads in one slice, one thread in the other: they get as much of the disk. */
START_TEST(equal_shares)
{
	struct writer w[9];
	atomic_bool stop = false;
	const unsigned int enough = 300, slack = 16; /* the end of a turn each */

	delay_ms = 1;
	set_up_equal(16 * MIB, plain);
	writers_start(w, 8, 1, 4 * MIB, &stop);
	writers_start(w + 8, 1, 2, 32 * MIB, &stop);
	wait_until(moved_both[1] > enough && moved_both[2] > enough);
	stop = true;
	writers_end(w, 9);
	printf("# %u and %u extents, of these %u and %u while both waited\n", moved[1], moved[2], moved_both[1], moved_both[2]);
	fflush(stdout);
	/* a machine that is busy may keep the one from asking in time, but then the other's are not counted */
	ck_assert_uint_le(moved_both[1], moved[2] * 12 / 10 + slack);
	ck_assert_uint_le(moved_both[2], moved[1] * 12 / 10 + slack);
	for (unsigned int i = 0; i < 9; i++)
		ck_assert_uint_eq(w[i].refused, 0);
	tear_down();
}
END_TEST

/* Nothing of one slice can leave: those who write there are told so, those in the other notice nothing. */
START_TEST(full_slice_is_alone)
{
	struct doc held, free;
	struct writer w[4];
	atomic_bool stop = false;
	struct spm_pin pin;

	set_up_equal(8 * MIB, plain);
	held = doc_new(1);
	ck_assert_int_eq(doc_write(&held, 0, 7 * MIB), 0);
	/* before they write: later there might be more of them than there is memory */
	writers_make(w, 4, 1, 64 * MIB, &stop);
	for (unsigned int i = 0; i <= 4; i++) {
		ck_assert_int_eq(spm_swap_pin(rig.s, i ? w[i - 1].doc.file : held.file, 0, UINT64_MAX, SPM_PIN_FILE, &pin), 0);
		ck_assert_int_eq(spm_swap_load(&pin, 0, UINT64_MAX), 0);
		while (spm_swap_direct(&pin)) /* it is open, so it cannot leave from now on */
			ck_assert_int_eq(spm_swap_load(&pin, 0, UINT64_MAX), 0);
		spm_swap_unpin(&pin);
	}
	writers_run(w, 4);
	for (unsigned int i = 0; i < 4; i++)
		wait_until(w[i].refused > 1);
	free = doc_new(2);
	ck_assert_int_eq(doc_write(&free, 0, 48 * MIB), 0);
	doc_check(&free, 0, 48 * MIB);
	ck_assert_uint_gt(stats_of(1).refused, 4);
	ck_assert_uint_eq(stats_of(2).refused, 0);
	ck_assert_uint_gt(stats_of(2).direct_waits, 0);
	ck_assert_uint_ge(stats_of(2).swapped_bytes, 40 * MIB);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	stop = true;
	writers_end(w, 4);
	close(held.fd);
	close(free.fd);
	tear_down();
}
END_TEST

/* The same with many files, at which it takes long to find out that nothing can leave. */
START_TEST(full_slice_takes_no_time)
{
	struct doc held[100], free;
	struct writer w;
	atomic_bool stop = false;
	struct spm_pin pin;
	unsigned int before;

	set_up_equal(8 * MIB, plain);
	for (unsigned int i = 0; i < 100; i++) {
		held[i] = doc_new(1);
		ck_assert_int_eq(doc_write(&held[i], 0, 80 << 10), 0);
		ck_assert_int_eq(spm_swap_pin(rig.s, held[i].file, 0, UINT64_MAX, SPM_PIN_FILE, &pin), 0);
		ck_assert_int_eq(spm_swap_load(&pin, 0, UINT64_MAX), 0);
		ck_assert_int_eq(spm_swap_direct(&pin), 0);
		spm_swap_unpin(&pin);
	}
	lease_ms = 2;
	part[1].swap_max = 0; /* what it writes itself cannot leave either */
	writers_start(&w, 1, 1, 64 * MIB, &stop);
	wait_until(w.refused);
	free = doc_new(2);
	ck_assert_int_eq(doc_write(&free, 0, 8 * MIB), 0);
	before = leases;
	/* in 24 turns or so: of 25 tests, and not 400 */
	ck_assert_int_eq(doc_write(&free, 8 * MIB, 32 * MIB), 0);
	printf("# %u lease tests\n", leases - before);
	fflush(stdout);
	ck_assert_uint_lt(leases - before, 2400);
	ck_assert_uint_eq(stats_of(2).refused, 0);
	/* and its own writers are still told */
	before = w.refused;
	wait_until(w.refused > before);
	stop = true;
	writers_end(&w, 1);
	for (unsigned int i = 0; i < 100; i++)
		close(held[i].fd);
	close(free.fd);
	tear_down();
}
END_TEST

/* Memory goes where it is asked for, from who has more than he is guaranteed, and no further. */
START_TEST(nobody_below_min)
{
	static const uint64_t min[2] = { 24 * MIB, 8 * MIB }, max[2] = { 44 * MIB, 44 * MIB }, grant[2] = { 40 * MIB, 8 * MIB };
	struct doc a, b;

	set_up(min, max, grant, plain);
	a = doc_new(1);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&a, 0, 40 * MIB), 0);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	ck_assert_int_eq(doc_write(&b, 0, 64 * MIB), 0);
	/* it took what there was to be had, and the rest of its own */
	ck_assert_uint_ge(used(1), min[0]);
	ck_assert_uint_lt(used(1), min[0] + 2 * MIB);
	ck_assert_uint_ge(stats_of(1).swapped_bytes, 14 * MIB);
	ck_assert_uint_ge(stats_of(2).swapped_bytes, 38 * MIB);
	/* and back */
	ck_assert_int_eq(doc_write(&a, 40 * MIB, 80 * MIB), 0);
	ck_assert_uint_ge(used(2), min[1]);
	ck_assert_uint_lt(used(2), min[1] + 2 * MIB);
	ck_assert(!below_min);
	doc_check(&a, 0, 80 * MIB);
	doc_check(&b, 0, 64 * MIB);
	ck_assert_uint_eq(stats_of(1).refused + stats_of(2).refused, 0);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* The same with both at once. */
START_TEST(both_over_min)
{
	static const uint64_t min[2] = { 8 * MIB, 8 * MIB }, max[2] = { 24 * MIB, 24 * MIB }, grant[2] = { 16 * MIB, 16 * MIB };
	struct writer w[5];
	atomic_bool stop = false;

	set_up(min, max, grant, plain);
	writers_start(w, 4, 1, 12 * MIB, &stop);
	writers_start(w + 4, 1, 2, 48 * MIB, &stop);
	wait_until(stats_of(1).swapout_bytes > 64 * MIB && stats_of(2).swapout_bytes > 64 * MIB);
	stop = true;
	writers_end(w, 5);
	ck_assert(!below_min);
	ck_assert_uint_eq(stats_of(1).refused + stats_of(2).refused, 0);
	tear_down();
}
END_TEST

/* A slice has so much in swap and no more, also after a restart. The other does not notice. */
START_TEST(limit_of_swap)
{
	struct doc a, b;

	set_up_equal(32 * MIB, plain);
	a = doc_new(1);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&a, 0, 16 * MIB), 0);
	ck_assert_int_eq(doc_write(&b, 0, 16 * MIB), 0);
	part[1].swap_max = 4 * MIB + 100;
	ck_assert_int_eq(spm_swap_evict(rig.s, a.file, 0, UINT64_MAX), -EDQUOT);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 4 * MIB);
	ck_assert_int_eq(spm_swap_evict(rig.s, b.file, 0, UINT64_MAX), 16 * MIB);
	rig_close(&rig);
	rig_open(&rig, true);
	close(a.fd); /* nobody knows that it is not mapped */
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 4 * MIB);
	ck_assert_uint_eq(stats_of(2).swapped_bytes, 16 * MIB);
	/* these are counted on */
	ck_assert_uint_eq(stats_of(1).swapout_bytes, 4 * MIB);
	ck_assert_uint_eq(stats_of(2).swapout_bytes, 16 * MIB);
	ck_assert_int_eq(spm_swap_evict(rig.s, a.file, 0, UINT64_MAX), -EDQUOT);
	part[1].swap_max = 6 * MIB;
	ck_assert_int_eq(spm_swap_evict(rig.s, a.file, 0, UINT64_MAX), -EDQUOT);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 6 * MIB);
	a.fd = openat(part[1].fd, "0", O_RDWR | O_CLOEXEC);
	doc_check(&a, 0, 16 * MIB);
	doc_check(&b, 0, 16 * MIB);
	ck_assert_int_eq(rig_load(&rig, a.file), 0);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* Memory and swap of a slice are full: more is refused, soon; what is there can be changed, also in slots. */
START_TEST(full_to_the_limit)
{
	struct doc a, b;
	uint64_t at = 0;

	set_up_equal(8 * MIB, plain);
	part[1].swap_max = 8 * MIB;
	a = doc_new(1);
	while (!doc_write(&a, at, at + EXTENT))
		ck_assert_uint_le(at += EXTENT, 16 * MIB);
	ck_assert_uint_ge(at, 15 * MIB);
	ck_assert_uint_gt(stats_of(1).refused, 0);
	for (int i = 0; i < 2; i++)
		for (uint64_t o = 0; o < at; o += EXTENT)
			ck_assert_int_eq(doc_write(&a, o + 4096, o + 8192), 0);
	ck_assert_uint_le(stats_of(1).swapped_bytes, 8 * MIB + 4 * EXTENT);
	doc_check(&a, 0, at);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 24 * MIB), 0);
	doc_check(&b, 0, 24 * MIB);
	ck_assert_uint_eq(stats_of(2).refused, 0);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* One slice's files are forgotten, as often as one likes; the other's stay. */
START_TEST(gone)
{
	struct spm_swap_stats st;
	struct doc a[3], b;

	set_up_equal(16 * MIB, plain);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 12 * MIB), 0);
	for (unsigned int i = 0; i < 3; i++) {
		a[i] = doc_new(1);
		ck_assert_int_eq(doc_write(&a[i], 0, 12 * MIB), 0);
	}
	ck_assert_int_eq(spm_swap_evict(rig.s, b.file, 0, UINT64_MAX), 12 * MIB);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(spm_swap_slice_hold(rig.s, 1), 0);
		ck_assert_int_eq(spm_swap_slice_gone(rig.s, 1), 0);
		spm_swap_slice_let_go(rig.s, 1);
		if (i == 1) {
			rig_close(&rig);
			rig_open(&rig, true);
		}
		spm_swap_stats(rig.s, &st);
		ck_assert_uint_eq(stats_of(1).swapped_bytes + stats_of(1).swapout_bytes + stats_of(1).direct_waits, 0);
		ck_assert_uint_eq(stats_of(2).swapout_bytes, 12 * MIB);
		ck_assert_uint_eq(st.swapped_bytes, 12 * MIB);
	}
	doc_check(&b, 0, 12 * MIB);
	for (unsigned int i = 0; i < 3; i++)
		close(a[i].fd);
	close(b.fd);
	tear_down();
}
END_TEST

static void *write_once(void *arg)
{
	struct writer *w = arg;

	if (doc_write(&w->doc, 0, EXTENT))
		rig_fail("write");
	w->refused = 1; /* done */
	return NULL;
}

/* While a slice is held nothing of it is opened, and who needs that waits. */
START_TEST(held)
{
	struct writer w = { .refused = 0 };
	struct timespec ms = { .tv_nsec = 20000000 };
	struct doc other;

	set_up_equal(16 * MIB, plain);
	w.doc = doc_new(1);
	other = doc_new(2);
	ck_assert_int_eq(doc_write(&w.doc, 0, 2 * EXTENT), 0);
	ck_assert_int_eq(doc_write(&other, 0, 2 * EXTENT), 0);
	ck_assert_int_eq(spm_swap_evict(rig.s, w.doc.file, 0, EXTENT), EXTENT);
	ck_assert_int_eq(spm_swap_slice_hold(rig.s, 1), 0);
	ck_assert_int_eq(spm_swap_evict(rig.s, w.doc.file, 0, UINT64_MAX), -EBUSY);
	ck_assert_int_eq(spm_swap_evict(rig.s, other.file, 0, UINT64_MAX), 2 * EXTENT);
	ck_assert_int_eq(rig_load(&rig, other.file), 0);
	ck_assert(!pthread_create(&w.thread, NULL, write_once, &w));
	nanosleep(&ms, NULL);
	ck_assert_uint_eq(w.refused, 0);
	spm_swap_slice_let_go(rig.s, 1);
	wait_until(w.refused);
	pthread_join(w.thread, NULL);
	doc_check(&w.doc, 0, 2 * EXTENT);
	close(w.doc.fd);
	close(other.fd);
	tear_down();
}
END_TEST

/* -- jobs -- */

struct asker {
	pthread_t thread;
	uint16_t slice;
	_Atomic(struct spm_job *) job;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	a->job = spm_job_get(rig.s, a->slice, true);
	return NULL;
}

static unsigned int waiting_for_jobs(void)
{
	struct spm_job_waiter { struct spm_job_waiter *next; } *w;
	unsigned int n = 0;

	pthread_mutex_lock(&rig.s->jobs.lock);
	for (w = (struct spm_job_waiter *)rig.s->jobs.waiting; w; w = w->next)
		n++;
	pthread_mutex_unlock(&rig.s->jobs.lock);
	return n;
}

/* All jobs are one slice's, which wants more: the other one's, who comes later, gets the next. */
START_TEST(fewest_first)
{
	struct asker a[3] = { { .slice = 1 }, { .slice = 1 }, { .slice = 2 } };
	struct spm_job *j[SPM_JOBS];

	set_up_equal(16 * MIB, plain);
	for (unsigned int i = 0; i < SPM_JOBS; i++) {
		j[i] = spm_job_get(rig.s, 1, false);
		ck_assert_ptr_nonnull(j[i]);
	}
	ck_assert_ptr_null(spm_job_get(rig.s, 2, false));
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert(!pthread_create(&a[i].thread, NULL, ask, &a[i]));
		wait_until(waiting_for_jobs() == i + 1);
	}
	spm_job_put(rig.s, j[0]);
	wait_until(a[2].job);
	ck_assert(!a[0].job && !a[1].job);
	/* of one slice, who came first */
	spm_job_put(rig.s, j[1]);
	wait_until(a[0].job);
	ck_assert(!a[1].job);
	spm_job_put(rig.s, j[2]);
	wait_until(a[1].job);
	for (unsigned int i = 0; i < 3; i++) {
		pthread_join(a[i].thread, NULL);
		spm_job_put(rig.s, a[i].job);
	}
	for (unsigned int i = 3; i < SPM_JOBS; i++)
		spm_job_put(rig.s, j[i]);
	for (unsigned int i = 0; i < PARTS; i++)
		ck_assert_uint_eq(rig.s->slice[i].jobs, 0);
	tear_down();
}
END_TEST

/* -- in the background -- */

/* A slice that has little left of its max; the other has a lot, and loses nothing. */
START_TEST(watermarks)
{
	struct doc a, b;

	set_up_equal(32 * MIB, (struct spm_swap_opts){ .low_pct = 25, .high_pct = 50, .used_max = UINT64_MAX });
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 20 * MIB), 0);
	a = doc_new(1);
	ck_assert_int_eq(doc_write(&a, 0, 28 * MIB), 0);
	wait_until(used(1) <= 16 * MIB + EXTENT);
	ck_assert_uint_gt(used(1), 12 * MIB);
	ck_assert_uint_eq(stats_of(2).swapped_bytes, 0);
	ck_assert_uint_gt(stats_of(1).reclaim_runs, 0);
	ck_assert_uint_eq(stats_of(2).reclaim_runs, 0);
	doc_check(&a, 0, 28 * MIB);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* What all share comes to its end, while no slice is near its max: those who have more than their min give. */
START_TEST(watermark_of_all)
{
	static const uint64_t min[2] = { 16 * MIB, 0 }, max[2] = { 64 * MIB, 64 * MIB }, grant[2] = { 24 * MIB, 40 * MIB };
	struct doc a, b;

	set_up(min, max, grant, (struct spm_swap_opts){ .low_pct = 20, .high_pct = 40, .used_max = UINT64_MAX });
	a = doc_new(1);
	ck_assert_int_eq(doc_write(&a, 0, 16 * MIB), 0);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 40 * MIB), 0);
	/* 49 MiB are shared: 10 of them are to be free, and then 19 */
	wait_until(used(2) <= 30 * MIB);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	ck_assert_uint_ge(used(1), 16 * MIB);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

START_TEST(cold_by_slice)
{
	struct doc a, b;

	set_up_equal(16 * MIB, plain);
	a = doc_new(1);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&a, 0, 4 * MIB), 0);
	ck_assert_int_eq(doc_write(&b, 0, 4 * MIB), 0);
	part[1].cold = 1;
	spm_swap_slice_changed(rig.s, 1);
	wait_until(stats_of(1).swapped_bytes == 4 * MIB);
	ck_assert_uint_eq(stats_of(2).swapped_bytes, 0);
	/* by hand, too */
	ck_assert_uint_ge(spm_swap_reclaim(rig.s, 2, 2 * MIB), 2 * MIB);
	ck_assert_uint_ge(stats_of(2).swapped_bytes, 2 * MIB);
	ck_assert_uint_le(spm_swap_reclaim(rig.s, 2, 64 * MIB), 2 * MIB);
	doc_check(&a, 0, 4 * MIB);
	doc_check(&b, 0, 4 * MIB);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("swap-slices");
	TCase *t = tcase_create("swap-slices");

	tcase_set_timeout(t, FOREVER + 60);
	tcase_add_test(t, equal_shares);
	tcase_add_test(t, full_slice_is_alone);
	tcase_add_test(t, full_slice_takes_no_time);
	tcase_add_test(t, nobody_below_min);
	tcase_add_test(t, both_over_min);
	tcase_add_test(t, limit_of_swap);
	tcase_add_test(t, full_to_the_limit);
	tcase_add_test(t, gone);
	tcase_add_test(t, held);
	tcase_add_test(t, fewest_first);
	tcase_add_test(t, watermarks);
	tcase_add_test(t, watermark_of_all);
	tcase_add_test(t, cold_by_slice);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
