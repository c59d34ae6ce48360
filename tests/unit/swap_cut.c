/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Truncates and punches with edges in swapped extents that cannot come back: nothing is free on the device, and in
 * the swap files nothing or little. All that is to go goes, all the rest stays.
 */
#include "core/extmap-local.h"
#include "tests/unit/swap.h"

#include <sys/statvfs.h>
#include <time.h>

#define PAGES_MAX 2048u
#define ROUNDS    12

static const struct rig_opts small_rig = { .memory = 12 * MIB, .swap = 16 * MIB, .swap_files = 1,
					   .swap_opts = { .used_max = UINT64_MAX } };

/* What takes all that is free. */
struct hog {
	int fd; /* of the device */
	uint64_t pages;
	struct {
		uint32_t at, blocks;
	} slot[4096];
	unsigned int slots;
	uint64_t bytes;
};

static void hog_device(struct hog *h)
{
	off_t at = 0, piece = 4 * (off_t)MIB;

	h->pages = 0;
	h->fd = openat(rig.mount_fd, "hog", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(h->fd, 0);
	for (; piece >= 4096; piece /= 2)
		for (; !fallocate(h->fd, 0, at, piece); at += piece)
			h->pages += (uint64_t)piece / 4096;
}

static void hog_slots(struct hog *h)
{
	unsigned int grow;

	for (uint32_t n = 513; n; n = n > 1 ? n / 2 : 0) {
		while (!spm_slots_alloc_instead(&rig.s->slots, n, &h->slot[h->slots].at, &grow)) {
			h->slot[h->slots++].blocks = n;
			h->bytes += (uint64_t)n * SPM_SLOT_BLOCK;
			ck_assert_uint_lt(h->slots, SPM_ARRAY_SIZE(h->slot));
		}
	}
}

/* Somebody on this machine who drops caches may hold what was removed for a moment. UINT64_MAX: all. */
static void wait_free(uint64_t pages)
{
	struct statvfs sv;
	int n = 0;

	do {
		nanosleep(&(struct timespec){ .tv_nsec = n ? 1000000 : 0 }, NULL);
		ck_assert_int_eq(fstatvfs(rig.mount_fd, &sv), 0);
		ck_assert_int_lt(n++, 20000);
	} while (sv.f_bfree < (pages < sv.f_blocks ? pages : sv.f_blocks));
}

static void hog_end(struct hog *h)
{
	struct statvfs sv;

	ck_assert_int_eq(fstatvfs(rig.mount_fd, &sv), 0);
	for (; h->slots; h->slots--)
		spm_slots_free(&rig.s->slots, h->slot[h->slots - 1].at, h->slot[h->slots - 1].blocks);
	h->bytes = 0;
	ck_assert_int_eq(unlinkat(rig.mount_fd, "hog", 0), 0);
	spm_cleanup_close(&h->fd);
	wait_free(sv.f_bfree + h->pages);
}

/* -- shapes -- */

static const struct {
	uint32_t from, to, step; /* pages that are written */
	uint64_t less;           /* bytes by which the last page is not full */
} shapes[] = {
	{ 0, 2048, 1, 0 },   /* all of several extents */
	{ 0, 1030, 1, 4000 },
	{ 0, 16, 1, 0 },     /* a slot without trailer */
	{ 0, 5, 1, 100 },
	{ 0, 17, 1, 0 },
	{ 0, 1100, 2, 0 },   /* every second page */
	{ 1, 900, 3, 7 },
	{ 9, 1200, 1, 0 },   /* a hole first */
	{ 511, 530, 1, 1 },
};
static const uint32_t extents[] = { 64 << 10, 2 << 20 };
#define KINDS ((int)(SPM_ARRAY_SIZE(shapes) * SPM_ARRAY_SIZE(extents)))

static struct sample sample_shape(unsigned int kind)
{
	struct sample s = sample_new("f");

	for (uint32_t p = shapes[kind].from; p < shapes[kind].to; p += shapes[kind].step)
		sample_write(&s, (uint64_t)p * 4096, (uint64_t)(p + 1) * 4096);
	s.size -= shapes[kind].less;
	ck_assert_int_eq(ftruncate(s.fd, (off_t)s.size), 0);
	memset(s.want + s.size, 0, shapes[kind].less);
	ck_assert_int_gt(evict(&s), 0);
	return s;
}

static uint64_t dice(unsigned int *seed, uint64_t sides)
{
	return (uint64_t)rand_r(seed) % sides;
}

/* Any byte, but often where something begins or ends. */
static uint64_t some_offset(unsigned int *seed, uint64_t size, uint32_t extent)
{
	uint64_t at = dice(seed, size + 4096);

	switch (dice(seed, 5)) {
	case 0:
		return at;
	case 1:
		return at & ~UINT64_C(4095);
	case 2:
		return (at & ~(uint64_t)(extent - 1)) + dice(seed, 2) * (1 + dice(seed, 5000));
	case 3:
		return size - dice(seed, 2) * dice(seed, size < 5000 ? size : 5000);
	default:
		return (at & ~UINT64_C(4095)) + 1 + dice(seed, 4094);
	}
}

static void find_pages(struct sample *s, bool has[static PAGES_MAX + 8])
{
	memset(has, 0, PAGES_MAX + 8);
	for (uint64_t p = 0; p * 4096 < s->size; p++)
		has[p] = spm_swap_seek(rig.s, s->file, s->fd, (off_t)p * 4096, SEEK_DATA) == (off_t)p * 4096;
}

/* Drops [from, to) of what there must be. */
static uint64_t drop(struct sample *s, bool has[static PAGES_MAX + 8], uint64_t from, uint64_t to)
{
	uint64_t left = 0;

	if (from < s->size)
		memset(s->want + from, 0, (to < s->size ? to : s->size) - from);
	for (uint64_t p = 0; p < PAGES_MAX + 8; p++) {
		has[p] = has[p] && !(p * 4096 >= from && (p + 1) * 4096 <= to);
		left += has[p];
	}
	return left;
}

static int count_blocks(void *arg, uint64_t extent, struct spm_extent *x)
{
	(void)extent;
	*(uint64_t *)arg += (uint64_t)spm_extent_blocks(x) * SPM_SLOT_BLOCK;
	return 0;
}

static void check_all(struct sample *s, const bool has[static PAGES_MAX + 8], uint64_t left, const struct hog *h)
{
	bool is[PAGES_MAX + 8];
	uint64_t blocks = 0;

	sample_check(s);
	find_pages(s, is);
	for (uint64_t p = 0; p < PAGES_MAX + 8; p++)
		ck_assert_msg(is[p] == has[p], "page %llu is %s", (unsigned long long)p, is[p] ? "data" : "none");
	ck_assert_uint_eq(spm_swap_bytes_of(rig.s, s->file), left * 4096);
	(void)spm_extmap_each(&rig.s->map, s->file, 0, count_blocks, &blocks);
	ck_assert_uint_eq(rig_slots_used(&rig), blocks + h->bytes);
	ck_assert_uint_eq(rig.count->swapin_bytes, 0);
	ck_assert_uint_ne(rig.s->cut.run, SPM_SLOT_NONE);
}

static void one_cut(unsigned int kind, unsigned int *seed, bool full)
{
	struct hog h = { .fd = -1 };
	bool has[PAGES_MAX + 8], truncate = !dice(seed, 3);
	struct sample s = sample_shape(kind);
	uint64_t from = some_offset(seed, s.size, rig.o.extent), to = some_offset(seed, s.size, rig.o.extent), left;

	if (to <= from)
		to = from + 1 + dice(seed, 9000);
	find_pages(&s, has);
	hog_device(&h);
	if (full)
		hog_slots(&h);
	if (truncate) {
		ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, from), 0);
		left = drop(&s, has, from, UINT64_MAX);
		s.size = from;
		check_all(&s, has, left, &h);
		ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, to), 0); /* zeros behind */
		s.size = to;
	} else {
		ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, from, to), 0);
		left = drop(&s, has, from, to);
	}
	check_all(&s, has, left, &h);
	rig_close(&rig);
	rig_open(&rig, false);
	h.slots = 0; /* of which the new one knows nothing */
	h.bytes = 0;
	check_all(&s, has, left, &h);
	hog_end(&h);
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	sample_check_here(&s);
	ck_assert_uint_eq(rig_slots_used(&rig), 0);
	rig.count->swapin_bytes = 0;
	ck_assert_int_eq(unlinkat(rig.mount_fd, "f", 0), 0);
	sample_end(&s);
	wait_free(UINT64_MAX);
}

START_TEST(any_range)
{
	struct rig_opts o = small_rig;
	unsigned int seed = (unsigned int)_i + 1;

	o.extent = extents[_i / (int)SPM_ARRAY_SIZE(shapes)];
	set_up_with(&o);
	for (unsigned int i = 0; i < ROUNDS; i++)
		one_cut((unsigned int)_i % SPM_ARRAY_SIZE(shapes), &seed, i % 2);
	tear_down();
}
END_TEST

/* Both edges in one extent, or in two: the second one cannot be read, or be written. The first one is as it was. */
START_TEST(both_edges_or_none)
{
	struct rig_opts o = small_rig;
	struct hog h = { .fd = -1 };
	struct sample s;

	o.extent = 64 << 10;
	set_up_with(&o);
	s = sample_shape(0);
	hog_device(&h);
	if (_i)
		hog_slots(&h);
	/* coming back fails before, by itself; then the first is read, and the second not */
	rig.read_error = -EIO;
	rig.errors = 100;
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5000, 3 * (64 << 10) + 5000), -EIO);
	rig.read_error = rig.errors = 0;
	sample_check(&s);
	/* no disk to write to */
	rig.write_error = -EIO;
	rig.errors = 1;
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5000, 3 * (64 << 10) + 5000), -ENOSPC);
	ck_assert_uint_eq(rig.s->map.setup->retired, 1);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5000, 3 * (64 << 10) + 5000), -ENOSPC);
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, 5000), -ENOSPC);
	rig.errors = 0;
	sample_check(&s);
	/* what goes as a whole needs no room */
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 0, 2 * (64 << 10)), 0);
	memset(s.want, 0, 2 * (64 << 10));
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, 4 * (64 << 10)), 0);
	s.size = 4 * (64 << 10);
	sample_check(&s);
	hog_end(&h);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5000, 3 * (64 << 10) + 5000), 0);
	memset(s.want, 0, 3 * (64 << 10) + 5000);
	sample_check(&s);
	sample_end(&s);
	tear_down();
}
END_TEST

/* The run was written, but not what was to come after: the slot stays there, and another run is found. */
START_TEST(run_becomes_a_slot)
{
	struct rig_opts o = small_rig;
	struct hog h = { .fd = -1 };
	struct sample s;

	o.extent = 64 << 10;
	o.swap_files = 2;
	set_up_with(&o);
	s = sample_shape(0);
	hog_device(&h);
	hog_slots(&h);
	rig.write_error = -EIO;
	rig.errors = 0;
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5000, 9000), 0);
	memset(s.want + 5000, 0, 4000);
	sample_check(&s);
	/* the second of two writes */
	rig.write_after = 1;
	rig.errors = 1;
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 15000, 39000), 0);
	memset(s.want + 15000, 0, 24000);
	ck_assert_uint_ne(rig.s->map.setup->retired, 0);
	ck_assert_uint_eq(rig.s->cut.run, SPM_SLOT_NONE);
	rig.errors = 0;
	sample_check(&s);
	hog_end(&h);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 70000, 100000), 0);
	memset(s.want + 70000, 0, 30000);
	rig_close(&rig);
	rig_open(&rig, false);
	sample_check(&s);
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	sample_check_here(&s);
	ck_assert_uint_eq(rig_slots_used(&rig), 0);
	sample_end(&s);
	tear_down();
}
END_TEST

/* swap.max is reached: what makes files smaller is not held up by that. */
START_TEST(beyond_the_limit)
{
	struct rig_opts o = small_rig;
	struct hog h = { .fd = -1 };
	struct sample s;

	o.extent = 2 << 20;
	set_up_with(&o);
	s = sample_shape(0);
	hog_device(&h);
	spm_swap_set_max(rig.s, 0);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5000, 5 * MIB), 0);
	memset(s.want + 5000, 0, 5 * MIB - 5000);
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, 7 * MIB - 3), 0);
	s.size = 7 * MIB - 3;
	sample_check(&s);
	hog_end(&h);
	sample_end(&s);
	tear_down();
}
END_TEST

/* Died while the record was changing: it is done. */
START_TEST(half_changed)
{
	struct rig_opts o = small_rig;
	struct hog h = { .fd = -1 };
	struct spm_extmap_change *c;
	struct spm_extent *x, was;
	struct sample s;

	o.extent = 64 << 10;
	set_up_with(&o);
	s = sample_shape(0);
	hog_device(&h);
	x = spm_extmap_get(&rig.s->map, s.file, 0, false);
	was = *x;
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5000, 30000), 0);
	memset(s.want + 5000, 0, 25000);
	c = spm_extmap_change_of(&rig.s->map);
	ck_assert_uint_eq(c->how, 0);
	c->how = spm_extent_how(x);
	c->sum = spm_extmap_change_sum(c);
	x->word = was.word;
	x->check = _i & 1 ? was.check : x->check;
	x->slot = _i & 2 ? was.slot : x->slot;
	rig_close(&rig);
	rig_open(&rig, false);
	ck_assert_uint_eq(spm_extmap_change_of(&rig.s->map)->how, 0);
	sample_check(&s);
	/* one of another file that had the number is not */
	c = spm_extmap_change_of(&rig.s->map);
	c->how = spm_extent_how(&was);
	c->ino++;
	c->sum = spm_extmap_change_sum(c);
	rig_close(&rig);
	rig_open(&rig, false);
	sample_check(&s);
	hog_end(&h);
	sample_end(&s);
	tear_down();
}
END_TEST

/* What is kept lies high up, behind what has gone: compaction moves it, so that the file can be made smaller. */
START_TEST(compaction_moves_the_run)
{
	struct rig_opts o = small_rig;
	uint32_t blocks, low, high;
	unsigned int grow;
	struct stat st;

	o.extent = 64 << 10;
	set_up_with(&o);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	blocks = rig.s->cut.blocks;
	ck_assert_uint_eq(blocks, 17);
	spm_slots_unhold(&rig.s->slots, rig.s->cut.run, blocks, 0);
	ck_assert_int_eq(spm_slots_alloc(&rig.s->slots, 1000, &low, &grow), 0);
	ck_assert_int_eq(spm_slots_hold(&rig.s->slots, blocks, &high), 0);
	rig.s->cut.run = high;
	spm_slots_free(&rig.s->slots, low, 1000);
	ck_assert_int_eq(spm_swap_compact(rig.s), 0);
	ck_assert_uint_eq(rig.s->cut.run, low);
	ck_assert_int_eq(fstat(rig.swap_fd[0], &st), 0);
	ck_assert_int_eq(st.st_size, (SPM_SLOT_FIRST + blocks) * SPM_SLOT_BLOCK);
	ck_assert_uint_eq(rig_slots_used(&rig), 0);
	tear_down();
}
END_TEST

void add_cut_tests(TCase *t)
{
	tcase_add_loop_test(t, any_range, 0, KINDS);
	tcase_add_loop_test(t, both_edges_or_none, 0, 2);
	tcase_add_test(t, run_becomes_a_slot);
	tcase_add_test(t, beyond_the_limit);
	tcase_add_loop_test(t, half_changed, 0, 4);
	tcase_add_test(t, compaction_moves_the_run);
}
