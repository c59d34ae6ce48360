/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents that leave and come back (core/swap.h), on a real tmpfs and a real disk. Needs root. */
#include "tests/unit/swap.h"

#include <time.h>

struct rig rig;

/* -- for all parts -- */

void set_up_with(const struct rig_opts *o)
{
	rig_make(&rig, o);
	rig_open(&rig, false);
}

void set_up(uint32_t extent)
{
	const struct rig_opts o = { .memory = 64 * MIB, .swap = 64 * MIB, .swap_files = 1, .extent = extent,
				    .swap_opts = { .low_pct = 5, .high_pct = 10, .used_max = UINT64_MAX } };

	set_up_with(&o);
}

void tear_down(void)
{
	rig_close(&rig);
	rig_destroy(&rig);
}

struct sample sample_new(const char *name)
{
	struct sample s = { .want = rig_pages(16 * MIB) };

	s.file = rig_file(&rig, name, true, &s.fd);
	return s;
}

void sample_end(struct sample *s)
{
	close(s->fd);
	munmap(s->want, 16 * MIB);
}

void sample_write(struct sample *s, uint64_t from, uint64_t to)
{
	static uint32_t version;

	ck_assert_uint_le(to, 16 * MIB);
	version++;
	for (uint64_t i = from; i < to; i++)
		s->want[i] = (char)(1 + (i / 4096 * 7 + i + version * 31) % 251);
	ck_assert_int_eq(rig_write(&rig, s->file, s->fd, s->want + from, to - from, from), (ssize_t)(to - from));
	if (to > s->size)
		s->size = to;
}

void forget_reads(void)
{
	memset(rig.s->touched, 0, sizeof(rig.s->touched));
	memset(rig.s->seq_next, 0, sizeof(rig.s->seq_next));
}

ssize_t read_at(struct sample *s, void *buf, size_t size, uint64_t off, bool *through)
{
	return rig_read(&rig, s->file, s->fd, buf, size, off, through);
}

void sample_check(struct sample *s)
{
	char *buf = rig_pages(2 * RIG_PAGE);

	for (uint64_t at = 0; at < s->size; at += 2 * RIG_PAGE) {
		size_t n = s->size - at < 2 * RIG_PAGE ? (size_t)(s->size - at) : 2 * RIG_PAGE;

		forget_reads();
		ck_assert_int_eq(read_at(s, buf, 2 * RIG_PAGE, at, NULL), (ssize_t)n);
		ck_assert_msg(!memcmp(buf, s->want + at, n), "at %llu", (unsigned long long)at);
	}
	munmap(buf, 2 * RIG_PAGE);
}

void sample_check_here(struct sample *s)
{
	char *buf = rig_pages(16 * MIB);

	ck_assert_int_eq(pread(s->fd, buf, 16 * MIB, 0), (ssize_t)s->size);
	for (uint64_t at = 0; at < s->size; at += RIG_PAGE)
		ck_assert_msg(!memcmp(buf + at, s->want + at, s->size - at < RIG_PAGE ? s->size - at : RIG_PAGE), "page %llu",
			      (unsigned long long)at / RIG_PAGE);
	munmap(buf, 16 * MIB);
}

int64_t evict(struct sample *s)
{
	return spm_swap_evict(rig.s, s->file, 0, UINT64_MAX);
}

bool is_out(struct sample *s, uint64_t extent)
{
	const struct spm_extent *x = spm_extmap_get(&rig.s->map, s->file, extent, false);

	return x && SPM_HOW_STATE_OF(spm_extent_how(x)) == SPM_EXTENT_SWAPPED;
}

/* -- shapes -- */

struct shape {
	const char *what;
	uint32_t pages[3][2]; /* written, from and to; in the second and third, every second page (or third) only */
	uint32_t committed[2];
	uint64_t size; /* if not by these */
};

static const struct shape shapes[] = {
	{ "one extent of 2 MiB", { { 0, 512 } }, { 0, 0 }, 0 },
	{ "an extent and a bit", { { 0, 513 } }, { 0, 0 }, 513 * 4096 - 4000 },
	{ "one page", { { 0, 1 } }, { 0, 0 }, 0 },
	{ "one byte", { { 0, 1 } }, { 0, 0 }, 1 },
	{ "small", { { 0, 16 } }, { 0, 0 }, 0 },
	{ "not small", { { 0, 17 } }, { 0, 0 }, 0 },
	{ "every second page", { { 0, 0 }, { 0, 512 } }, { 0, 0 }, 0 },
	{ "every third page, a hole first", { { 0, 0 }, { 0, 0 }, { 3, 1024 } }, { 0, 0 }, 0 },
	{ "a hole first", { { 100, 512 } }, { 0, 0 }, 0 },
	{ "one page after a hole", { { 511, 512 } }, { 0, 0 }, 0 },
	{ "a hole behind", { { 0, 40 } }, { 0, 0 }, 1200 * 4096 },
	{ "extents with holes between", { { 0, 3 }, { 700, 900 }, { 1500, 2048 } }, { 0, 0 }, 0 },
	{ "committed", { { 0, 0 } }, { 0, 600 }, 600 * 4096 },
	{ "written here, committed there", { { 10, 200 } }, { 0, 600 }, 600 * 4096 },
	{ "written and committed alternate", { { 0, 0 }, { 0, 300 } }, { 0, 300 }, 300 * 4096 },
	{ "committed behind the end", { { 0, 30 } }, { 0, 100 }, 30 * 4096 },
	{ "empty", { { 0, 0 } }, { 0, 0 }, 0 },
};
static const uint32_t extents[] = { 2 << 20, 64 << 10, 256 << 10 };
#define SHAPES ((int)(SPM_ARRAY_SIZE(shapes) * SPM_ARRAY_SIZE(extents)))

static void make_shape(struct sample *s, const struct shape *sh)
{
	if (sh->committed[1])
		ck_assert_int_eq(fallocate(s->fd, FALLOC_FL_KEEP_SIZE, sh->committed[0] * 4096,
					   (sh->committed[1] - sh->committed[0]) * 4096), 0);
	for (uint32_t step = 1; step <= 3; step++)
		for (uint32_t p = sh->pages[step - 1][0]; p < sh->pages[step - 1][1]; p += step)
			sample_write(s, (uint64_t)p * 4096, (uint64_t)(p + 1) * 4096);
	if (sh->size) {
		ck_assert_int_eq(ftruncate(s->fd, (off_t)sh->size), 0);
		memset(s->want + sh->size, 0, 16 * MIB - sh->size);
		s->size = sh->size;
	}
}

/* What users see besides the content. */
struct view {
	struct stat st;
	off_t data[2100], hole[2100];
};

static struct view *look(struct sample *s)
{
	struct view *v = calloc(1, sizeof(*v));

	ck_assert_ptr_nonnull(v);
	ck_assert_int_eq(spm_swap_stat(rig.s, s->file, s->fd, &v->st), 0);
	for (size_t p = 0; p < SPM_ARRAY_SIZE(v->data); p++) {
		v->data[p] = spm_swap_seek(rig.s, s->file, s->fd, (off_t)p * 4096, SEEK_DATA);
		v->hole[p] = spm_swap_seek(rig.s, s->file, s->fd, (off_t)p * 4096 + (p % 3 ? 0 : 77), SEEK_HOLE);
	}
	return v;
}

/* @committed: what was never written to may be data now. */
static void check_view(struct sample *s, const struct view *was, bool committed)
{
	struct view *is = look(s);

	ck_assert_int_eq(was->st.st_size, is->st.st_size);
	ck_assert_int_eq(was->st.st_blocks, is->st.st_blocks);
	ck_assert_mem_eq(&was->st.st_mtim, &is->st.st_mtim, sizeof(struct timespec));
	ck_assert_mem_eq(&was->st.st_ctim, &is->st.st_ctim, sizeof(struct timespec));
	for (size_t p = 0; p < SPM_ARRAY_SIZE(was->data) && !committed; p++) {
		ck_assert_msg(was->data[p] == is->data[p], "data from page %zu: %lld, not %lld", p, (long long)is->data[p],
			      (long long)was->data[p]);
		ck_assert_msg(was->hole[p] == is->hole[p], "hole from page %zu: %lld, not %lld", p, (long long)is->hole[p],
			      (long long)was->hole[p]);
	}
	free(is);
}

/* Until a change of a file would show in its times. */
static void wait_for_tick(void)
{
	struct timespec from, now;

	clock_gettime(CLOCK_REALTIME_COARSE, &from);
	do
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (now.tv_nsec == from.tv_nsec && now.tv_sec == from.tv_sec);
}

START_TEST(there_and_back)
{
	const struct shape *sh = &shapes[_i % (int)SPM_ARRAY_SIZE(shapes)];
	bool committed = sh->committed[1];
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000, .tv_nsec = 123456789 } };
	struct spm_swap_stats st;
	struct sample s;
	struct view *v;
	struct stat raw;
	int64_t out;

	set_up(extents[_i / (int)SPM_ARRAY_SIZE(shapes)]);
	s = sample_new("f");
	make_shape(&s, sh);
	ck_assert_int_eq(futimens(s.fd, ts), 0);
	v = look(&s);
	ck_assert_int_eq(v->st.st_mtim.tv_nsec, 123456789);
	wait_for_tick();
	for (int round = 0; round < 2; round++) {
		out = evict(&s);
		ck_assert_int_ge(out, 0);
		ck_assert_int_eq(fstat(s.fd, &raw), 0);
		/* but for what lies behind the end */
		ck_assert_int_eq(out, (v->st.st_blocks - raw.st_blocks) * 512);
		ck_assert(s.size ? lseek(s.fd, 0, SEEK_DATA) == -1 && errno == ENXIO : !out);
		ck_assert_uint_eq(spm_swap_bytes_of(rig.s, s.file), (uint64_t)out);
		check_view(&s, v, committed);
		sample_check(&s);
		ck_assert_uint_eq(spm_swap_bytes_of(rig.s, s.file), (uint64_t)out);
		wait_for_tick();
		ck_assert_int_eq(rig_load(&rig, s.file), 0);
		ck_assert_uint_eq(spm_swap_bytes_of(rig.s, s.file), 0);
		check_view(&s, v, committed);
		sample_check_here(&s);
		ck_assert_uint_eq(rig_slots_used(&rig), 0);
	}
	spm_swap_stats(rig.s, &st);
	ck_assert_uint_eq(st.swapin_bytes, st.swapout_bytes);
	ck_assert_uint_eq(st.swap_errors + st.write_errors + st.swapped_bytes, 0);
	free(v);
	sample_end(&s);
	tear_down();
}
END_TEST

/* -- reading in slots -- */

START_TEST(reads_of_all_kinds)
{
	static const size_t sizes[] = { 1, 2, 100, 4095, 4096, 4097, 8192, 12287, 15000 };
	static const uint64_t offs[] = { 0, 1, 4095, 4096, 4097, 8191, 65536 - 4096, 65536 - 1, 65536, 65536 + 100, 3 * 65536 - 7000 };
	char *buf = rig_pages(1 << 20);
	struct sample s;

	set_up(_i ? 64 << 10 : 2 << 20);
	s = sample_new("f");
	sample_write(&s, 0, 3 * 65536 - 1000);
	sample_write(&s, 2 * MIB, 2 * MIB + 40 * 4096);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 3 * 4096, 5 * 4096), 0);
	memset(s.want + 3 * 4096, 0, 2 * 4096);
	ck_assert_int_gt(evict(&s), 0);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(sizes); i++) {
		for (size_t k = 0; k < 2 * SPM_ARRAY_SIZE(offs); k++) {
			uint64_t off = offs[k / 2] + (k % 2 ? 2 * MIB : 0);
			size_t n = off >= s.size ? 0 : s.size - off < sizes[i] ? (size_t)(s.size - off) : sizes[i];
			bool through = false;

			/* a read that is a good part of an extent would bring it back */
			if (sizes[i] * 4 >= rig.o.extent)
				continue;
			forget_reads();
			memset(buf, 0x55, sizes[i] + 1);
			ck_assert_int_eq(read_at(&s, buf, sizes[i], off, &through), (ssize_t)n);
			ck_assert(!memcmp(buf, s.want + off, n));
			ck_assert_int_eq(buf[sizes[i]], 0x55);
			/* what is a hole was never anywhere */
			ck_assert(through || off >= s.size || off >= 3 * 65536);
		}
	}
	ck_assert_uint_gt(spm_swap_bytes_of(rig.s, s.file), 0);
	sample_end(&s);
	munmap(buf, 1 << 20);
	tear_down();
}
END_TEST

/* While others leave (_i), an extent comes back only for more reads. */
START_TEST(read_often_comes_back)
{
	struct sample s;
	char *buf = rig_pages(4096);
	int reads = 0;

	set_up(2 << 20);
	s = sample_new("f");
	sample_write(&s, 0, 8 * MIB);
	ck_assert_int_eq(evict(&s), 8 * MIB);
	do {
		rig.s->left_at = (uint16_t)(spm_extmap_clock() - (_i ? 0 : 1000));
		ck_assert_int_eq(read_at(&s, buf, 4096, 5 * MIB + (uint64_t)(reads * 37 % 100) * 4096, NULL), 4096);
		ck_assert_int_lt(reads++, 100000);
	} while (is_out(&s, 2));
	ck_assert_int_gt(reads, _i ? 60 : 16);
	ck_assert(is_out(&s, 0) && is_out(&s, 1) && is_out(&s, 3));
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	sample_check_here(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(reads_in_order_load_ahead)
{
	struct sample s;
	char *buf = rig_pages(MIB);
	uint64_t at = 0;
	int n = 0;

	set_up(2 << 20);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	s = sample_new("f");
	sample_write(&s, 0, 16 * MIB);
	ck_assert_int_eq(evict(&s), 16 * MIB);
	for (; at < 9 * MIB; at += MIB)
		ck_assert_int_eq(read_at(&s, buf, MIB, at, NULL), MIB);
	/* what is read around a page of a mapping is no sequence yet; this is, and the next ones come by themselves */
	ck_assert(is_out(&s, 0));
	ck_assert(!is_out(&s, 4));
	while (is_out(&s, 5) || is_out(&s, 6) || is_out(&s, 7)) {
		struct timespec ms = { .tv_nsec = 1000000 };

		nanosleep(&ms, NULL);
		ck_assert_int_lt(n++, 20000);
	}
	ck_assert(is_out(&s, 1));
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

/* -- times -- */

static struct timespec mtime_of(struct sample *s)
{
	struct stat st;

	ck_assert_int_eq(spm_swap_stat(rig.s, s->file, s->fd, &st), 0);
	return st.st_mtim;
}

/* A request that holds its pin while another extent is moved: its mtime is what is seen after both. */
START_TEST(mtime_of_a_write_stays)
{
	struct timespec old[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };
	struct spm_pin pin;
	struct sample s;

	set_up(2 << 20);
	s = sample_new("f");
	sample_write(&s, 0, 4 * MIB);
	ck_assert_int_eq(futimens(s.fd, old), 0);
	ck_assert_int_eq(spm_swap_pin(rig.s, s.file, 0, 4096, SPM_PIN_WRITE, &pin), 0);
	if (_i)
		ck_assert_int_eq(pwrite(s.fd, s.want, 4096, 0), 4096);
	ck_assert_int_eq(evict(&s), 2 * MIB);
	if (!_i)
		ck_assert_int_eq(pwrite(s.fd, s.want, 4096, 0), 4096);
	spm_swap_unpin(&pin);
	ck_assert_int_gt(mtime_of(&s).tv_sec, 1000000000);
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

/* chmod and the like between two moves: its ctime is seen. */
START_TEST(ctime_of_a_change_shows)
{
	struct stat was, is;
	struct sample s;

	set_up(2 << 20);
	s = sample_new("f");
	sample_write(&s, 0, MIB);
	ck_assert_int_eq(evict(&s), MIB);
	ck_assert_int_eq(spm_swap_stat(rig.s, s.file, s.fd, &was), 0);
	wait_for_tick();
	ck_assert_int_eq(fchmod(s.fd, 0640), 0);
	spm_swap_touched(rig.s, s.file);
	ck_assert_int_eq(spm_swap_stat(rig.s, s.file, s.fd, &is), 0);
	ck_assert(is.st_ctim.tv_sec != was.st_ctim.tv_sec || is.st_ctim.tv_nsec != was.st_ctim.tv_nsec);
	ck_assert_mem_eq(&is.st_mtim, &was.st_mtim, sizeof(is.st_mtim));
	was = is;
	wait_for_tick();
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	ck_assert_int_eq(spm_swap_stat(rig.s, s.file, s.fd, &is), 0);
	ck_assert_mem_eq(&is.st_ctim, &was.st_ctim, sizeof(is.st_ctim));
	ck_assert_mem_eq(&is.st_mtim, &was.st_mtim, sizeof(is.st_mtim));
	sample_end(&s);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("swap");
	TCase *t = tcase_create("swap");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, there_and_back, 0, SHAPES);
	tcase_add_loop_test(t, reads_of_all_kinds, 0, 2);
	tcase_add_loop_test(t, read_often_comes_back, 0, 2);
	tcase_add_test(t, reads_in_order_load_ahead);
	tcase_add_loop_test(t, mtime_of_a_write_stays, 0, 2);
	tcase_add_test(t, ctime_of_a_change_shows);
	add_pin_tests(t);
	add_error_tests(t);
	add_cut_tests(t);
	add_drain_tests(t);
	add_damage_tests(t);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
