/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The extent map (core/extmap.h): against a plain model, taken over, its memory, under threads. */
#include "tests/unit/extmap.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#define TIB_EXTENTS (UINT64_C(1) << 40 >> 21)

static uint64_t shared_bytes(struct spm_extmap *m)
{
	struct stat st;

	ck_assert_int_eq(fstat(m->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(one_head_per_inode)
{
	struct spm_extmap m;
	struct spm_handle h = handle_of(7);
	uint32_t a, b;

	new_map(&m);
	ck_assert_uint_eq(spm_extmap_find(&m, 0, 7), 0);
	a = intern(&m, 0, 7);
	ck_assert_uint_eq(spm_extmap_intern(&m, 0, 7, &h, 0), a);
	ck_assert_uint_eq(spm_extmap_find(&m, 0, 7), a);
	b = intern(&m, 1, 7);
	ck_assert_uint_ne(a, b);
	ck_assert_uint_eq(spm_extmap_file(&m, a)->flags & 0xff, SPM_EXTFILE_DIRECT);
	ck_assert_uint_eq(spm_extmap_file(&m, b)->slice, 1);
	ck_assert_int_eq(memcmp(&spm_extmap_file(&m, b)->handle, &h, sizeof(h)), 0);
	ck_assert_uint_eq(spm_extmap_next_file(&m, 1), a);
	ck_assert_uint_eq(spm_extmap_next_file(&m, a + 1), b);
	ck_assert_uint_eq(spm_extmap_next_file(&m, b + 1), 0);
	ck_assert_uint_gt(m.heads_top, b);
	spm_extmap_forget(&m, a);
	ck_assert_uint_eq(spm_extmap_find(&m, 0, 7), 0);
	ck_assert_uint_eq(spm_extmap_find(&m, 1, 7), b);
	end_map(&m);
}
END_TEST

/* Every place where one kind of leaf ends and the next begins, and where no file can reach. */
START_TEST(places)
{
	static const uint64_t at[] = { 0, 1, 2, 3, 21, 22, 23, 361, 362, 702, 1u << 20, UINT64_C(1) << 42,
				       EXTMAP_EXTENTS - 1 };
	struct spm_extent *seen[SPM_ARRAY_SIZE(at)], *x;
	struct spm_extmap m;
	uint32_t file, other;
	uint64_t e = 0;

	new_map(&m);
	file = intern(&m, 0, 7);
	other = intern(&m, 0, 8);
	for (size_t i = 2; i < SPM_ARRAY_SIZE(at); i++)
		ck_assert_ptr_null(spm_extmap_get(&m, file, at[i], false));
	for (size_t i = SPM_ARRAY_SIZE(at); i--;) {
		seen[i] = spm_extmap_get(&m, file, at[i], true);
		ck_assert_ptr_nonnull(seen[i]);
		ck_assert_uint_eq(spm_extent_how(seen[i]), 0);
		set_record(seen[i], 7, at[i]);
	}
	for (size_t i = 0; i < SPM_ARRAY_SIZE(at); i++, e++) {
		ck_assert(is_out(&m, file, at[i]));
		ck_assert_ptr_eq(spm_extmap_get(&m, file, at[i], false), seen[i]);
		e = spm_extmap_next(&m, file, e, &x);
		ck_assert_uint_eq(e, at[i]);
		ck_assert_ptr_eq(x, seen[i]);
		ck_assert(!is_out(&m, other, at[i]));
	}
	ck_assert_uint_eq(spm_extmap_next(&m, file, e, &x), UINT64_MAX);
	ck_assert_uint_eq(spm_extmap_next(&m, file, UINT64_MAX, &x), UINT64_MAX);
	ck_assert_uint_eq(spm_extmap_next(&m, other, 0, &x), UINT64_MAX);
	ck_assert_ptr_null(spm_extmap_get(&m, file, EXTMAP_EXTENTS, true));
	ck_assert_ptr_null(spm_extmap_get(&m, file, UINT64_MAX, true));
	end_map(&m);
}
END_TEST

/* -- a model: for each file, which extents are out -- */

#define FILES 60u
#define SPAN  1500u

struct model {
	uint32_t file[FILES]; /* 0: it has no head */
	uint8_t out[FILES][SPAN];
};

static uint64_t ino_of(uint32_t i)
{
	return 10 + (i & 1 ? i : (uint64_t)i << 33);
}

/* Files are of three kinds: a few extents, some hundred, and scattered ones of a huge file. */
static uint64_t extent_of(uint32_t i, uint32_t n)
{
	return i % 3 == 0 ? n % 25 : i % 3 == 1 ? n : (uint64_t)n * 1000003;
}

static uint32_t slot_index(uint32_t i, uint32_t n)
{
	return i % 3 == 0 ? n % 25 : n;
}

struct walk {
	const struct model *mo;
	uint32_t i, count;
	uint64_t last;
};

static int check_step(void *arg, uint64_t extent, struct spm_extent *x)
{
	struct walk *w = arg;
	uint64_t n = w->i % 3 == 2 ? extent / 1000003 : extent;

	must(!w->count || extent > w->last);
	must(n < SPAN && extent == extent_of(w->i, (uint32_t)n) && w->mo->out[w->i][n]);
	must(x->slot == slot_of(ino_of(w->i), extent));
	w->last = extent;
	w->count++;
	return 0;
}

static void check_model(struct spm_extmap *m, const struct model *mo)
{
	uint32_t live = 0;

	for (uint32_t i = 0; i < FILES; i++) {
		struct walk w = { .mo = mo, .i = i };
		uint32_t out = 0;

		ck_assert_uint_eq(spm_extmap_find(m, (uint16_t)(i % 5), ino_of(i)), mo->file[i]);
		if (!mo->file[i])
			continue;
		live++;
		for (uint32_t n = 0; n < SPAN; n++)
			out += mo->out[i][n];
		ck_assert_int_eq(spm_extmap_each(m, mo->file[i], 0, check_step, &w), 0);
		ck_assert_uint_eq(w.count, out);
	}
	ck_assert_uint_eq(m->live, live);
	for (uint32_t f = spm_extmap_next_file(m, 0); f; f = spm_extmap_next_file(m, f + 1))
		live--;
	ck_assert_uint_eq(live, 0);
}

static void model_step(struct spm_extmap *m, struct model *mo, unsigned int *seed)
{
	uint32_t i = (uint32_t)rand_r(seed) % FILES, n = (uint32_t)rand_r(seed) % SPAN;
	uint32_t what = (uint32_t)rand_r(seed) % 200;
	uint64_t e = extent_of(i, n);

	if (!mo->file[i]) {
		mo->file[i] = intern(m, (uint16_t)(i % 5), ino_of(i));
	} else if (what == 0) {
		drop_file(m, mo->file[i]);
		mo->file[i] = 0;
		memset(mo->out[i], 0, sizeof(mo->out[i]));
	} else if (what == 1) {
		spm_extmap_tidy(m, mo->file[i]);
	} else if (what < 110) {
		swap_out(m, mo->file[i], e);
		mo->out[i][slot_index(i, n)] = 1;
	} else {
		must(is_out(m, mo->file[i], e) == mo->out[i][slot_index(i, n)]);
		if (mo->out[i][slot_index(i, n)])
			spm_extent_set_how(spm_extmap_get(m, mo->file[i], e, false), 0);
		mo->out[i][slot_index(i, n)] = 0;
	}
}

START_TEST(against_a_model)
{
	static struct model mo;
	struct spm_extmap m, again;
	unsigned int seed = (unsigned int)_i + 1;

	memset(&mo, 0, sizeof(mo));
	new_map(&m);
	for (int round = 0; round < 5; round++) {
		for (int n = 0; n < 40000; n++)
			model_step(&m, &mo, &seed);
		check_model(&m, &mo);
		/* another process finds the same, and goes on */
		take_over(&again, m.fd, 0);
		check_model(&again, &mo);
		ck_assert_uint_eq(again.heads->count, m.heads->count);
		ck_assert_uint_eq(again.middles->count, m.middles->count);
		ck_assert_uint_eq(again.larges->count, m.larges->count);
		spm_extmap_detach(&m);
		m = again;
	}
	for (uint32_t i = 0; i < FILES; i++)
		if (mo.file[i])
			drop_file(&m, mo.file[i]);
	ck_assert_uint_eq(m.live + m.heads->count + m.middles->count + m.larges->count + m.chains, 0);
	ck_assert_uint_eq(m.chain_bytes, 0);
	ck_assert_uint_le(shared_bytes(&m), EXTMAP_PAGE);
	end_map(&m);
}
END_TEST

/* What the last scan found of each file counts the pages in slots, and only these. */
START_TEST(sums)
{
	struct spm_extmap m, b;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	for (uint64_t e = 0; e < 1000; e += 3)
		swap_out(&m, file, e);
	spm_extent_set_how(spm_extmap_get(&m, file, 0, false), SPM_HOW_MAKE(SPM_EXTENT_OUT, 16, SPM_HOW_SMALL));
	spm_extent_set_how(spm_extmap_get(&m, file, 3, false), SPM_HOW_MAKE(SPM_EXTENT_IN, 3, SPM_HOW_SPARSE));
	spm_extent_set_how(spm_extmap_get(&m, file, 6, false), 0);
	m.head[file].swapped = 12345;
	take_over(&b, m.fd, 0);
	ck_assert_uint_eq(b.head[file].swapped, 331 * 512 + 16 + 3);
	ck_assert_uint_eq(spm_extent_blocks(spm_extmap_get(&b, file, 0, false)), 16);
	ck_assert_uint_eq(spm_extent_blocks(spm_extmap_get(&b, file, 3, false)), 4);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

/* Extents that are here count as used or not; those in slots are there in any case. */
static int count_use(void *arg, uint64_t extent, struct spm_extent *x)
{
	uint64_t *sum = arg;

	ck_assert(spm_extent_used(x) || spm_extent_how(x));
	*sum += extent;
	return *sum > 100000000 ? -EINTR : 0;
}

START_TEST(ages)
{
	struct spm_extmap m;
	struct spm_extent *x;
	uint64_t sum = 0;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	for (uint64_t e = 0; e < 1000; e++)
		must(spm_extmap_get(&m, file, e, true));
	spm_extent_touch(spm_extmap_get(&m, file, 1, false), 5);
	spm_extent_touch(spm_extmap_get(&m, file, 21, false), 6);
	spm_extent_touch(spm_extmap_get(&m, file, 900, false), 7);
	swap_out(&m, file, 500);
	spm_extent_touch(spm_extmap_get(&m, file, 500, false), 9); /* of what is out it is not kept */
	ck_assert(is_out(&m, file, 500));
	ck_assert(spm_extent_ok(spm_extmap_get(&m, file, 500, false)));
	ck_assert_int_eq(spm_extmap_ages(&m, file, count_use, &sum), 0);
	ck_assert_uint_eq(sum, 1 + 21 + 900 + 500);
	ck_assert_uint_eq(spm_extmap_next(&m, file, 0, &x), 500);
	ck_assert_uint_eq(spm_extmap_next(&m, file, 501, &x), UINT64_MAX);
	sum = 100000000;
	ck_assert_int_eq(spm_extmap_ages(&m, file, count_use, &sum), -EINTR);
	ck_assert_uint_eq(sum, 100000001);
	end_map(&m);
}
END_TEST

START_TEST(times)
{
	struct spm_extmap m;
	struct spm_exttimes *t;
	uint32_t file, other;
	uint64_t before;

	new_map(&m);
	file = intern(&m, 0, 7);
	other = intern(&m, 0, 8);
	before = shared_bytes(&m);
	t = spm_extmap_times(&m, file);
	ck_assert_ptr_nonnull(t);
	ck_assert_int_eq(t->mtime | t->ctime | t->ours, 0);
	*t = (struct spm_exttimes){ 1, 2, 3 };
	ck_assert_int_eq(spm_extmap_times(&m, other)->mtime, 0);
	ck_assert_ptr_eq(spm_extmap_times(&m, file), t);
	ck_assert_uint_eq(shared_bytes(&m), before + EXTMAP_PAGE);
	spm_extmap_forget(&m, file);
	ck_assert_uint_eq(intern(&m, 0, 9), file);
	ck_assert_ptr_eq(spm_extmap_times(&m, file), t);
	ck_assert_int_eq(t->mtime | t->ctime | t->ours, 0);
	spm_extmap_forget(&m, file);
	spm_extmap_forget(&m, other);
	ck_assert_uint_le(shared_bytes(&m), EXTMAP_PAGE);
	end_map(&m);
}
END_TEST

START_TEST(clock_and_age)
{
	struct timespec t;
	uint16_t now;

	clock_gettime(CLOCK_BOOTTIME, &t);
	now = spm_extmap_clock();
	ck_assert_uint_le(spm_extmap_age(now, (uint16_t)((uint64_t)t.tv_sec * 4)), 8);
	ck_assert_uint_eq(spm_extmap_age(3, 65535), 4);
}
END_TEST

/* -- memory -- */

/* The whole of what a map costs, as spm_extmap_bytes() tells it: never less than what the file really has. */
static uint64_t all_bytes(struct spm_extmap *m)
{
	uint64_t bytes = spm_extmap_bytes(m);

	ck_assert_uint_ge(bytes, shared_bytes(m) + (m->index_mask + 1) * sizeof(*m->index) + m->chain_bytes);
	return bytes;
}

START_TEST(dense_file_is_small)
{
	/* upwards, downwards, scattered */
	static const uint64_t step[] = { 1, TIB_EXTENTS - 1, 340 * 611 };
	uint64_t e = 0, before;
	struct spm_extmap m;
	uint32_t file;

	new_map(&m);
	before = shared_bytes(&m);
	file = intern(&m, 0, 7);
	for (uint64_t n = 0; n < TIB_EXTENTS; n++, e = (e + step[_i] + (_i == 2 && n % 3 == 0)) % TIB_EXTENTS)
		swap_out(&m, file, e);
	if (_i == 2)
		for (e = 0; e < TIB_EXTENTS; e++)
			swap_out(&m, file, e);
	for (e = 0; e < TIB_EXTENTS; e += 97)
		must(is_out(&m, file, e));
	ck_assert_uint_le(all_bytes(&m), 16 * TIB_EXTENTS);
	drop_file(&m, file);
	ck_assert_uint_le(shared_bytes(&m), before);
	ck_assert_uint_le(all_bytes(&m), 65536);
	end_map(&m);
}
END_TEST

START_TEST(sparse_file_is_small)
{
	struct spm_extmap m;
	struct spm_extent *x;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	swap_out(&m, file, TIB_EXTENTS - 1);
	ck_assert_uint_lt(all_bytes(&m), 65536);
	/* looking costs nothing */
	for (uint64_t e = 0; e < TIB_EXTENTS - 1; e++)
		x = spm_extmap_get(&m, file, e, false);
	ck_assert_uint_eq(spm_extmap_next(&m, file, 0, &x), TIB_EXTENTS - 1);
	for (uint32_t f = spm_extmap_next_file(&m, 1); f; f = spm_extmap_next_file(&m, f + 1))
		ck_assert_uint_eq(f, file);
	ck_assert_uint_lt(all_bytes(&m), 65536);
	end_map(&m);
}
END_TEST

START_TEST(leaves_that_say_nothing_go)
{
	struct spm_extmap m;
	uint64_t before, used;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	before = shared_bytes(&m);
	for (uint64_t e = 0; e < 100000; e++)
		must(spm_extmap_get(&m, file, e, true));
	swap_out(&m, file, 5);
	swap_out(&m, file, 50000);
	used = shared_bytes(&m);
	spm_extmap_tidy(&m, file);
	ck_assert_uint_lt(shared_bytes(&m), used);
	ck_assert_uint_le(shared_bytes(&m), before + 2 * EXTMAP_PAGE + EXTMAP_LOOSE * EXTMAP_PAGE);
	ck_assert_uint_eq(m.middles->count + m.larges->count, 2);
	ck_assert(is_out(&m, file, 5));
	ck_assert(is_out(&m, file, 50000));
	ck_assert_ptr_null(spm_extmap_get(&m, file, 49000, false));
	spm_extent_set_how(spm_extmap_get(&m, file, 5, false), 0);
	spm_extent_set_how(spm_extmap_get(&m, file, 50000, false), 0);
	spm_extmap_tidy(&m, file);
	ck_assert_uint_eq(m.middles->count + m.larges->count + m.chains, 0);
	ck_assert_uint_eq(shared_bytes(&m), before);
	end_map(&m);
}
END_TEST

START_TEST(many_files_come_and_go)
{
	enum { N = 200000 };
	struct spm_extmap m;
	uint64_t before;

	new_map(&m);
	before = shared_bytes(&m);
	for (uint64_t i = 0; i < N; i++)
		must(intern(&m, (uint16_t)(i % 3), 100 + i) == i + 1);
	ck_assert_uint_le(all_bytes(&m), UINT64_C(100) * N);
	for (uint32_t i = 1; i <= N; i += 2)
		spm_extmap_forget(&m, i);
	for (uint64_t i = 0; i < N; i++)
		must(spm_extmap_find(&m, (uint16_t)(i % 3), 100 + i) == (i % 2 ? i + 1 : 0));
	for (uint32_t i = 2; i <= N; i += 2)
		spm_extmap_forget(&m, i);
	ck_assert_uint_le(shared_bytes(&m), before);
	ck_assert_uint_le(all_bytes(&m), 65536 + 32768);
	end_map(&m);
}
END_TEST

/* A filesystem that is full: "no memory", not a SIGBUS. */
START_TEST(no_memory)
{
	struct spm_extmap_setup setup = { .extent_bytes = SPM_EXTENT_MIN, .files = 1 };
	char dir[] = "/tmp/extmap.XXXXXX", path[64];
	struct spm_handle h = handle_of(1);
	struct spm_extmap m;
	uint64_t files = 0, extents = 0;
	int fd;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return; /* not root */
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(mount("none", dir, "tmpfs", 0, "size=64k"), 0);
	snprintf(path, sizeof(path), "%s/map", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_eq(spm_extmap_create(fd, &setup), 0);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	ck_assert_uint_ne(spm_extmap_intern(&m, 0, 1, &h, 0), 0);
	while (spm_extmap_get(&m, 1, extents, true))
		extents++;
	ck_assert_uint_eq(extents, 22 + 13 * 340);
	ck_assert_ptr_null(spm_extmap_times(&m, 1));
	while (spm_extmap_intern(&m, 1, files + 1, &h, 0))
		files++;
	ck_assert_uint_eq(files, 63);
	ck_assert_uint_eq(spm_extmap_find(&m, 1, 64), 0);
	spm_extmap_tidy(&m, 1);
	ck_assert_ptr_nonnull(spm_extmap_times(&m, 1));
	ck_assert_ptr_nonnull(spm_extmap_get(&m, 1, 1u << 30, true));
	end_map(&m);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}
END_TEST

/* -- threads -- */

struct racer {
	struct spm_extmap *m;
	unsigned int seed;
	uint16_t slice;
	uint32_t shared;  /* a file that all work on, at extents of their own */
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (uint64_t n = 0; n < 20000; n++) {
		uint64_t ino = 10 + (uint64_t)rand_r(&r->seed) % 64, e = (uint64_t)rand_r(&r->seed) % 2000;
		struct spm_handle h = handle_of(ino);
		uint32_t file = spm_extmap_intern(r->m, r->slice, ino, &h, 0);
		struct spm_extent *x = file ? spm_extmap_get(r->m, file, e, true) : NULL;

		if (!x || spm_extmap_find(r->m, r->slice, ino) != file ||
		    spm_extmap_next(r->m, file, 0, &x) != UINT64_MAX)
			return arg;
		if (n % 3 == 0)
			spm_extmap_tidy(r->m, file);
		if (n % 5 == 0)
			spm_extmap_forget(r->m, file);
		e = n * 4 + r->slice;
		x = spm_extmap_get(r->m, r->shared, e, true);
		if (!x)
			return arg;
		set_record(x, 1, e);
		spm_extent_touch(spm_extmap_get(r->m, r->shared, (uint64_t)rand_r(&r->seed) % 2, false), 1);
		if (spm_extmap_next(r->m, r->shared, e, &x) != e || !spm_extmap_bytes(r->m))
			return arg;
	}
	return NULL;
}

START_TEST(threads)
{
	struct spm_extmap m;
	struct racer r[4];
	pthread_t id[4];
	uint32_t shared;
	void *bad;

	new_map(&m);
	shared = intern(&m, 9, 1);
	for (uint16_t i = 0; i < 4; i++) {
		r[i] = (struct racer){ .m = &m, .seed = i, .slice = i, .shared = shared };
		ck_assert_int_eq(pthread_create(&id[i], NULL, race, &r[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(id[i], &bad);
		ck_assert_ptr_null(bad);
	}
	for (uint64_t e = 0; e < 80000; e++)
		must(is_out(&m, shared, e));
	end_map(&m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("extmap");
	TCase *t = tcase_create("extmap");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, one_head_per_inode);
	tcase_add_test(t, places);
	tcase_add_loop_test(t, against_a_model, 0, 3);
	tcase_add_test(t, sums);
	tcase_add_test(t, ages);
	tcase_add_test(t, times);
	tcase_add_test(t, clock_and_age);
	tcase_add_loop_test(t, dense_file_is_small, 0, 3);
	tcase_add_test(t, sparse_file_is_small);
	tcase_add_test(t, leaves_that_say_nothing_go);
	tcase_add_test(t, many_files_come_and_go);
	tcase_add_test(t, no_memory);
	add_damage_tests(t);
	add_kill_test(t);
	add_old_tests(t);
	tcase_add_test(t, threads);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
