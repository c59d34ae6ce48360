/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks that fail, lie, or are full; workers that died half way; swap files that shrink. */
#include "tests/unit/swap.h"

#include <sys/mount.h>
#include <time.h>

#define EXTENT (128u << 10) /* 32 pages: slots with a trailer */

static struct spm_extent *record(struct sample *s, uint64_t extent)
{
	struct spm_extent *x = spm_extmap_get(&rig.s->map, s->file, extent, false);

	ck_assert_ptr_nonnull(x);
	return x;
}

static struct sample sample_out(const char *name, uint64_t bytes)
{
	struct sample s = sample_new(name);

	sample_write(&s, 0, bytes);
	ck_assert_int_ge(evict(&s), (int64_t)bytes);
	return s;
}

/* One page from the middle of each 4: 0, or -errno. */
static ssize_t read_page(struct sample *s, uint64_t page)
{
	static char buf[4096] __attribute__((aligned(4096)));
	ssize_t n;

	forget_reads();
	n = read_at(s, buf, 4096, page * 4096, NULL);
	if (n < 0)
		return n;
	ck_assert_int_eq(n, 4096);
	ck_assert(!memcmp(buf, s->want + page * 4096, 4096));
	return 0;
}

static void flip_kept(uint32_t slot, uint64_t byte)
{
	uint64_t at = (uint64_t)SPM_SLOT_AT(slot) * SPM_SLOT_BLOCK + byte;
	char *page = rig_pages(4096);
	int fd = rig.swap_fd[SPM_SLOT_FILE(slot)];

	ck_assert_int_eq(pread(fd, page, 4096, (off_t)(at & ~UINT64_C(4095))), 4096);
	page[at & 4095] ^= 0x10;
	ck_assert_int_eq(pwrite(fd, page, 4096, (off_t)(at & ~UINT64_C(4095))), 4096);
	munmap(page, 4096);
}

static void flip(uint32_t slot, uint64_t byte)
{
	flip_kept(slot, byte);
	/* trailers that were read before are remembered, and would do */
	spm_trailers_destroy(rig.s);
	ck_assert_int_eq(spm_trailers_init(rig.s), 0);
}

START_TEST(read_error)
{
	struct spm_pin pin;
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 10 * EXTENT);
	rig.read_error = -EIO;
	rig.errors = 1;
	ck_assert_int_eq(read_page(&s, 3 * 32 + 5), -EIO);
	ck_assert_uint_eq(rig.damaged, 1);
	ck_assert_uint_eq(rig.damaged_at, 3 * EXTENT);
	rig.errors = 1;
	ck_assert_int_eq(spm_swap_pin(rig.s, s.file, 4 * EXTENT, 4 * EXTENT + 1, SPM_PIN_WRITE, &pin), -EIO);
	rig.errors = 1;
	ck_assert_int_eq(rig_load(&rig, s.file), -EIO);
	/* nothing was lost by that */
	sample_check(&s);
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	sample_check_here(&s);
	ck_assert_uint_eq(rig.damaged, 3);
	ck_assert_uint_eq(rig_slots_used(&rig), 0);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(write_error)
{
	const struct rig_opts o = { .memory = 64 * MIB, .swap = 64 * MIB, .swap_files = 2, .extent = EXTENT,
				    .swap_opts = { .used_max = UINT64_MAX } };
	struct spm_swap_stats st;
	struct sample s, t;
	uint32_t retired;

	set_up_with(&o);
	t = sample_out("before", 4 * EXTENT);
	s = sample_new("f");
	sample_write(&s, 0, 4 * EXTENT);
	rig.write_error = -EIO;
	rig.errors = 1;
	ck_assert_int_eq(evict(&s), -EIO);
	spm_swap_stats(rig.s, &st);
	ck_assert_uint_eq(st.write_errors, 1);
	sample_check(&s);
	/* the other one takes what comes */
	retired = rig.s->map.setup->retired;
	ck_assert(retired == 1 || retired == 2);
	rig.errors = 0;
	ck_assert_int_ge(evict(&s), EXTENT);
	sample_write(&s, 0, 4 * EXTENT);
	ck_assert_int_eq(evict(&s), 4 * EXTENT);
	for (uint64_t e = 0; e < 4; e++)
		ck_assert_uint_eq(UINT32_C(1) << SPM_SLOT_FILE(record(&s, e)->slot), 3 - retired);
	/* the next worker knows; what is in it can be read */
	rig_close(&rig);
	rig_open(&rig, false);
	sample_check(&t);
	sample_check(&s);
	rig.errors = 1;
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	close(s.fd); /* of which the new one does not know that it is not mapped */
	ck_assert_int_eq(evict(&s), -EIO);
	ck_assert_int_eq(rig.s->map.setup->retired, 3);
	ck_assert_int_eq(evict(&s), -ENOSPC);
	s.fd = rig_fd(&rig, "f");
	sample_check(&s);
	sample_check(&t);
	sample_end(&s);
	sample_end(&t);
	tear_down();
}
END_TEST

/* A bit in a page is EIO for that page; one in what says what is where, for the extent. Nothing else. */
START_TEST(bit_flips)
{
	struct spm_pin pin;
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 10 * EXTENT);
	flip(record(&s, 2)->slot, 7 * 4096 + 99);
	flip(record(&s, 5)->slot, EXTENT + (_i ? 5 : 3000)); /* the trailer */
	for (uint64_t p = 0; p < 10 * 32; p++)
		ck_assert_int_eq(read_page(&s, p), p == 2 * 32 + 7 || p / 32 == 5 ? -EIO : 0);
	ck_assert_uint_eq(rig.damaged, 33);
	for (uint64_t e = 0; e < 10; e++) {
		ck_assert_int_eq(spm_swap_pin(rig.s, s.file, e * EXTENT, e * EXTENT + 1, SPM_PIN_WRITE, &pin),
				 e == 2 || e == 5 ? -EIO : 0);
		spm_swap_unpin(&pin);
		ck_assert_int_eq(is_out(&s, e), e == 2 || e == 5);
	}
	ck_assert_int_eq(rig_load(&rig, s.file), -EIO);
	/* what is thrown away as a whole need not be read */
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 2 * EXTENT, 3 * EXTENT), 0);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 5 * EXTENT + 4096, 6 * EXTENT), -EIO);
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, 5 * EXTENT), 0);
	memset(s.want + 2 * EXTENT, 0, EXTENT);
	s.size = 5 * EXTENT;
	sample_check(&s);
	ck_assert_uint_eq(rig_slots_used(&rig), 0);
	sample_end(&s);
	tear_down();
}
END_TEST

START_TEST(flips_in_small_and_sparse)
{
	struct sample small, sparse;

	set_up(EXTENT);
	small = sample_out("small", 3 * 4096);
	sparse = sample_new("sparse");
	for (uint64_t p = 1; p < 32; p += 2)
		sample_write(&sparse, p * 4096, (p + 1) * 4096);
	ck_assert_int_eq(evict(&sparse), 16 * 4096);
	flip(record(&small, 0)->slot, 2 * 4096 + 5);
	for (uint64_t p = 0; p < 3; p++)
		ck_assert_int_eq(read_page(&small, p), -EIO);
	flip(record(&sparse, 0)->slot, 3 * 4096);
	for (uint64_t p = 0; p < 32; p++)
		ck_assert_int_eq(read_page(&sparse, p), p == 7 ? -EIO : 0);
	flip(record(&sparse, 0)->slot, 16 * 4096 + 30); /* which pages it has */
	for (uint64_t p = 0; p < 32; p++)
		ck_assert_int_eq(read_page(&sparse, p), -EIO);
	ck_assert_int_eq(spm_swap_seek(rig.s, sparse.file, sparse.fd, 0, SEEK_DATA), 0);
	sample_end(&small);
	sample_end(&sparse);
	tear_down();
}
END_TEST

/* What is remembered of a slot is of no account when the slot is another extent's. */
START_TEST(slots_change_hands)
{
	struct sample s[2];

	set_up(EXTENT);
	s[0] = sample_out("f", 10 * EXTENT);
	sample_check(&s[0]);
	for (unsigned int turn = 1; turn < 6; turn++) {
		struct sample *old = &s[~turn & 1], *new = &s[turn & 1];

		ck_assert_int_eq(rig_truncate(&rig, old->file, old->fd, 0), 0);
		sample_end(old);
		*new = sample_out(turn & 1 ? "g" : "h", 10 * EXTENT);
		for (uint64_t p = 0; p < 2 * 10 * 32; p++)
			ck_assert_int_eq(read_page(new, p % (10 * 32)), 0);
		new->size = 10 * EXTENT;
	}
	/* the next page of a slot is a read of that page: the trailer may be anything by now */
	flip_kept(record(&s[1], 3)->slot, EXTENT + 5);
	ck_assert_int_eq(read_page(&s[1], 3 * 32 + 9), 0);
	flip_kept(record(&s[1], 3)->slot, 9 * 4096);
	ck_assert_int_eq(read_page(&s[1], 3 * 32 + 9), -EIO);
	sample_end(&s[1]);
	tear_down();
}
END_TEST

/* A slot that holds what it should, but of another extent or another file. */
START_TEST(foreign_slot)
{
	char *a = rig_pages(EXTENT + 4096), *b = rig_pages(EXTENT + 4096);
	off_t at[2];
	struct sample s, t;

	set_up(EXTENT);
	s = sample_out("f", 4 * EXTENT);
	t = sample_out("g", 4 * EXTENT);
	at[0] = (off_t)SPM_SLOT_AT(record(&s, 1)->slot) * SPM_SLOT_BLOCK;
	at[1] = (off_t)SPM_SLOT_AT(_i ? record(&t, 1)->slot : record(&s, 2)->slot) * SPM_SLOT_BLOCK;
	ck_assert_int_eq(pread(rig.swap_fd[0], a, EXTENT + 4096, at[0]), EXTENT + 4096);
	ck_assert_int_eq(pread(rig.swap_fd[0], b, EXTENT + 4096, at[1]), EXTENT + 4096);
	ck_assert_int_eq(pwrite(rig.swap_fd[0], b, EXTENT + 4096, at[0]), EXTENT + 4096);
	ck_assert_int_eq(pwrite(rig.swap_fd[0], a, EXTENT + 4096, at[1]), EXTENT + 4096);
	for (uint64_t p = 0; p < 4 * 32; p++) {
		ck_assert_int_eq(read_page(&s, p), p / 32 == 1 || (!_i && p / 32 == 2) ? -EIO : 0);
		ck_assert_int_eq(read_page(&t, p), _i && p / 32 == 1 ? -EIO : 0);
	}
	sample_end(&s);
	sample_end(&t);
	tear_down();
}
END_TEST

/* -- died half way -- */

static void reopen(void)
{
	rig_close(&rig);
	rig_open(&rig, false);
}

/* Recorded, and not punched yet; or punched and read in half. The slot counts. */
START_TEST(half_out_half_in)
{
	struct spm_extent *x;
	struct sample s;
	struct stat st;
	char junk[4096];

	memset(junk, 0x77, sizeof(junk));
	set_up(EXTENT);
	s = sample_out("f", 10 * EXTENT);
	for (uint64_t e = 2; e < 4; e++) {
		x = record(&s, e);
		spm_extent_set_how(x, SPM_HOW_MAKE(e == 2 ? SPM_EXTENT_OUT : SPM_EXTENT_IN, spm_extent_how(x) & ~SPM_HOW_STATE, 0));
		for (uint64_t at = e * EXTENT; at < (e + 1) * EXTENT; at += 2 * 4096)
			ck_assert_int_eq(pwrite(s.fd, junk, sizeof(junk), (off_t)at), sizeof(junk));
	}
	reopen();
	ck_assert(is_out(&s, 2) && is_out(&s, 3));
	ck_assert_int_eq(fstat(s.fd, &st), 0);
	ck_assert_int_eq(st.st_blocks, 0);
	ck_assert_uint_eq(spm_swap_bytes_of(rig.s, s.file), 10 * EXTENT);
	sample_check(&s);
	ck_assert_int_eq(rig_load(&rig, s.file), 0);
	sample_check_here(&s);
	ck_assert_uint_eq(rig_slots_used(&rig), 0);
	sample_end(&s);
	tear_down();
}
END_TEST

/* Truncated, and the records behind the end still there. */
START_TEST(half_truncated)
{
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 10 * EXTENT);
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, 9 * EXTENT + 5), 0);
	spm_flag_set(spm_extmap_file(&rig.s->map, s.file), SPM_EXTFILE_TRIM);
	if (_i)
		ck_assert_int_eq(ftruncate(s.fd, 4 * EXTENT), 0);
	reopen();
	for (uint64_t e = 0; e < 10; e++)
		ck_assert_int_eq(is_out(&s, e), e < (_i ? 4 : 9));
	s.size = _i ? 4 * EXTENT : 9 * EXTENT + 5;
	sample_check(&s);
	ck_assert(!spm_flag_is(spm_extmap_file(&rig.s->map, s.file), SPM_EXTFILE_TRIM));
	ck_assert_uint_eq(rig_slots_used(&rig), (_i ? 4 : 9) * (EXTENT + 4096));
	sample_end(&s);
	tear_down();
}
END_TEST

/* A move had its mtime half put back. */
START_TEST(times_half_put_back)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000, .tv_nsec = 7 } };
	struct spm_exttimes *t;
	struct stat st;
	struct sample s;

	set_up(EXTENT);
	s = sample_new("f");
	sample_write(&s, 0, 4 * EXTENT);
	ck_assert_int_eq(futimens(s.fd, ts), 0);
	ck_assert_int_eq(evict(&s), 4 * EXTENT);
	t = spm_extmap_times(&rig.s->map, s.file);
	ck_assert_int_eq(t->mtime, 1000000000000000007);
	spm_flag_set(spm_extmap_file(&rig.s->map, s.file), SPM_EXTFILE_TIMES);
	ck_assert_int_eq(futimens(s.fd, NULL), 0);
	reopen();
	ck_assert_int_eq(spm_swap_stat(rig.s, s.file, s.fd, &st), 0);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1000000000);
	ck_assert_int_eq(st.st_mtim.tv_nsec, 7);
	sample_end(&s);
	tear_down();
}
END_TEST

/* Two extents name one slot, another names none that exists: EIO for one of the two, and for that. */
START_TEST(records_that_cannot_be)
{
	struct spm_extent *x;
	struct sample s;

	set_up(EXTENT);
	s = sample_out("f", 6 * EXTENT);
	/* whole records, which are another's, or of another swap file */
	x = record(&s, 3);
	x->slot = record(&s, 1)->slot;
	spm_extent_set_how(x, spm_extent_how(x));
	x = record(&s, 4);
	x->slot = SPM_SLOT_ADDR(0, 64 * MIB / 4096 - 3);
	spm_extent_set_how(x, spm_extent_how(x));
	reopen();
	for (uint64_t p = 0; p < 6 * 32; p++)
		ck_assert_int_eq(read_page(&s, p), p / 32 == 3 || p / 32 == 4 ? -EIO : 0);
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, 0), 0);
	ck_assert_uint_eq(rig_slots_used(&rig), 0);
	sample_end(&s);
	tear_down();
}
END_TEST

/* -- full -- */

START_TEST(swap_full)
{
	const struct rig_opts o = { .memory = 64 * MIB, .swap = 5 * MIB, .swap_files = 1, .extent = EXTENT,
				    .swap_opts = { .used_max = UINT64_MAX } };
	struct spm_swap_stats st;
	struct sample s;

	set_up_with(&o);
	s = sample_new("f");
	sample_write(&s, 0, 16 * MIB);
	ck_assert_int_eq(evict(&s), -ENOSPC);
	spm_swap_stats(rig.s, &st);
	/* 1 MiB is the header's, and half of one the reserve */
	ck_assert_uint_gt(st.swapped_bytes, 3 * MIB);
	sample_check(&s);
	ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, 0, 2 * MIB), 0);
	memset(s.want, 0, 2 * MIB);
	ck_assert_int_gt(spm_swap_evict(rig.s, s.file, 6 * MIB, 7 * MIB), 0);
	sample_check(&s);
	/* and by swap.max */
	spm_swap_set_max(rig.s, 2 * MIB);
	ck_assert_int_eq(spm_swap_evict(rig.s, s.file, 7 * MIB, 8 * MIB), -ENOSPC);
	ck_assert_int_eq(rig_truncate(&rig, s.file, s.fd, 4 * MIB), 0);
	sample_end(&s);
	tear_down();
}
END_TEST

/* Device and swap are full: no new data, but all that is there can be changed, cut and punched anywhere. */
START_TEST(both_full)
{
	const struct rig_opts o = { .memory = 12 * MIB, .swap = 16 * MIB, .swap_files = 1, .extent = _i ? 2 << 20 : EXTENT,
				    .swap_opts = { .used_max = UINT64_MAX } };
	struct sample s[2];
	uint64_t at = 0;

	set_up_with(&o);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	s[0] = sample_new("f");
	s[1] = sample_new("g");
	sample_write(&s[0], 0, 12 * MIB);
	for (; at < 16 * MIB; at += 4096) {
		memset(s[1].want + at, 1 + (int)(at / 4096 % 100), 4096);
		if (rig_write(&rig, s[1].file, s[1].fd, s[1].want + at, 4096, at) != 4096)
			break;
		s[1].size = at + 4096;
	}
	/* less the header and a reserve */
	ck_assert_uint_gt(s[1].size, _i ? 5 * MIB : 12 * MIB);
	ck_assert_uint_lt(s[1].size, 16 * MIB);
	for (unsigned int round = 0; round < 3; round++)
		for (unsigned int i = 0; i < 2; i++)
			for (at = 0; at + 100 < s[i].size; at += EXTENT)
				sample_write(&s[i], at + 5, at + 99);
	for (unsigned int i = 0; i < 2; i++) {
		sample_check(&s[i]);
		ck_assert_int_eq(rig_punch(&rig, s[i].file, s[i].fd, MIB + 77, MIB + 99), 0);
		memset(s[i].want + MIB + 77, 0, 22);
		ck_assert_int_eq(rig_truncate(&rig, s[i].file, s[i].fd, 4 * MIB + 1), 0);
		s[i].size = 4 * MIB + 1;
		sample_check(&s[i]);
	}
	sample_write(&s[0], 4 * MIB, 10 * MIB);
	sample_check(&s[0]);
	for (unsigned int i = 0; i < 2; i++)
		sample_end(&s[i]);
	tear_down();
}
END_TEST

static uint64_t swap_file_size(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(rig.swap_fd[0], &st), 0);
	return (uint64_t)st.st_size;
}

/* Compaction moves slots down and gives the tail back; what needs it later gets it again. */
START_TEST(shrinks_and_grows)
{
	struct spm_swap_stats st;
	struct sample s, t;

	set_up(EXTENT);
	ck_assert_int_eq(spm_swap_start(rig.s), 0);
	s = sample_out("f", 8 * MIB);
	t = sample_out("g", 8 * MIB);
	for (uint64_t at = 0; at < 8 * MIB; at += 2 * EXTENT) {
		ck_assert_int_eq(rig_punch(&rig, s.file, s.fd, at, at + EXTENT), 0);
		memset(s.want + at, 0, EXTENT);
	}
	ck_assert_uint_eq(swap_file_size(), 64 * MIB);
	ck_assert_int_eq(spm_swap_compact(rig.s), 0);
	spm_swap_stats(rig.s, &st);
	ck_assert_uint_gt(st.moved_bytes, 3 * MIB);
	ck_assert_uint_lt(swap_file_size(), 15 * MIB);
	ck_assert_uint_ge(swap_file_size(), MIB + st.swap_used_bytes);
	sample_check(&s);
	sample_check(&t);
	reopen();
	sample_check(&s);
	sample_write(&s, 0, 16 * MIB);
	close(s.fd);
	ck_assert_int_gt(evict(&s), 15 * (int64_t)MIB);
	s.fd = rig_fd(&rig, "f");
	ck_assert_uint_gt(swap_file_size(), 24 * MIB);
	sample_check(&s);
	sample_check(&t);
	sample_end(&s);
	sample_end(&t);
	tear_down();
}
END_TEST

/* The swap file's disk is full: what fits leaves, the rest stays, and nothing is lost. */
START_TEST(disk_full)
{
	char dir[] = "swap-rig-XXXXXX";
	struct sample s;
	int64_t out;
	int fd;

	set_up(EXTENT);
	rig_close(&rig);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(mount("disk", dir, "tmpfs", 0, "size=12M"), 0);
	fd = open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(umount2(dir, MNT_DETACH), 0);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_int_eq(fallocate(fd, 0, 0, 2 * MIB), 0);
	close(rig.swap_fd[0]);
	rig.swap_fd[0] = fd;
	rig_open(&rig, false);
	s = sample_new("f");
	sample_write(&s, 0, 16 * MIB);
	out = evict(&s);
	ck_assert_int_eq(out, -ENOSPC);
	ck_assert_uint_gt(spm_swap_bytes_of(rig.s, s.file), 6 * MIB);
	sample_check(&s);
	ck_assert_uint_eq(rig.s->map.setup->retired, 0);
	sample_end(&s);
	tear_down();
}
END_TEST

void add_error_tests(TCase *t)
{
	tcase_add_test(t, read_error);
	tcase_add_test(t, write_error);
	tcase_add_loop_test(t, bit_flips, 0, 2);
	tcase_add_test(t, flips_in_small_and_sparse);
	tcase_add_test(t, slots_change_hands);
	tcase_add_loop_test(t, foreign_slot, 0, 2);
	tcase_add_test(t, half_out_half_in);
	tcase_add_loop_test(t, half_truncated, 0, 2);
	tcase_add_test(t, times_half_put_back);
	tcase_add_test(t, records_that_cannot_be);
	tcase_add_test(t, swap_full);
	tcase_add_loop_test(t, both_full, 0, 2);
	tcase_add_test(t, shrinks_and_grows);
	tcase_add_test(t, disk_full);
}
