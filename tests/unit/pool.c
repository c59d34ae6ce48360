/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/pool.h"

#include <sys/sendfile.h>

#define EXTENT (64 * KIB)

static const struct spm_pool_file one = { .ino = 11, .slice = 0 }, two = { .ino = 12, .slice = 5 };

static bool all_are(const uint8_t *at, size_t n, uint8_t what)
{
	return at[0] == what && !memcmp(at, at + 1, n - 1);
}

void rig_audit(struct spm_pool *p)
{
	uint64_t owned = 0, slices = 0, in_heads = 0, sure = 0, committed = 0;

	for (uint32_t d = 0; d < p->extents; d++) {
		enum spm_pool_state s = spm_pool_record_state(p, d);
		bool is_owned = spm_pool_is_files(s);

		must(spm_pool_set_has(&p->clean, d) == (s == POOL_CLEAN));
		must(spm_pool_set_has(&p->free, d) == (s == POOL_FREE));
		must(spm_pool_set_has(&p->unused, d) == (s == POOL_UNUSED));
		must(spm_pool_set_has(&p->movable, d) == (s == POOL_OWNED));
		must(s != POOL_CLEAN || all_are(spm_pool_address(p, d), p->extent_bytes, 0));
		must(!is_owned || spm_pool_index_find(p, spm_pool_record_whose(p, d), spm_pool_record_extent(p, d)) == d);
		owned += is_owned;
	}
	for (unsigned int i = 0; i < SPM_POOL_SLICES; i++) {
		slices += p->slice_used[i];
		sure += p->slice_min[i];
		committed += p->slice_used[i] > p->slice_min[i] ? p->slice_used[i] : p->slice_min[i];
	}
	must(sure == p->sure && committed == p->committed);
	for (uint32_t h = 0; h < p->heads_top; h++)
		in_heads += p->head[h].count;
	must(owned == p->used && owned == slices && owned == in_heads && !p->reserved && !p->transient);
}

/* -- layout -- */

static const struct {
	uint64_t bytes, align;
	uint32_t extent;
	int rc;
	uint64_t extents, label_at;
} layouts[] = {
	/* the label takes an extent where nothing else is left */
	{ 8 * MIB, 4 * KIB, 2 * MIB, 0, 3, 8 * MIB - 4096 },
	{ 8 * MIB + 4 * KIB, 4 * KIB, 2 * MIB, 0, 4, 8 * MIB },
	{ 8 * MIB + 4095, 4 * KIB, 2 * MIB, 0, 3, 8 * MIB - 4096 },
	{ 9 * MIB, 2 * MIB, 2 * MIB, 0, 3, 8 * MIB - 4096 },
	{ 9 * MIB, 4 * KIB, 64 * KIB, 0, 143, 9 * MIB - 4096 },
	{ (3 << 10) * MIB + 5 * MIB, (1 << 10) * MIB, 2 * MIB, 0, 3 * 512 - 1, (3 << 10) * MIB - 4096 },
	{ 2 * MIB, 4 * KIB, 2 * MIB, -ENOSPC, 0, 0 },
	{ 1 * MIB, 2 * MIB, 64 * KIB, -ENOSPC, 0, 0 },
	{ 8 * MIB, 4 * KIB, 4 * MIB, -EINVAL, 0, 0 },
	{ 8 * MIB, 4 * KIB, 32 * KIB, -EINVAL, 0, 0 },
	{ 8 * MIB, 4 * KIB, 96 * KIB, -EINVAL, 0, 0 },
	{ 8 * MIB, 6 * KIB, 64 * KIB, -EINVAL, 0, 0 },
	{ 8 * MIB, 0, 64 * KIB, -EINVAL, 0, 0 },
};

START_TEST(layout_of_devices)
{
	struct pool_rig r;

	rig_device(&r, layouts[_i].bytes, false);
	r.dev.align = layouts[_i].align;
	ck_assert_int_eq(spm_pool_create(r.state, &r.dev, layouts[_i].extent, rig_uuid), layouts[_i].rc);
	if (!layouts[_i].rc) {
		rig_attach(&r, NULL);
		ck_assert_uint_eq(r.p->extents, layouts[_i].extents);
		ck_assert_uint_eq(r.p->header->label_at, layouts[_i].label_at);
		ck_assert_uint_eq((uintptr_t)r.p->base % layouts[_i].align, 0);
		ck_assert_uint_eq(rig_stats(&r).free_bytes, layouts[_i].extents * layouts[_i].extent);
		ck_assert_uint_eq(spm_pool_extent_bytes(r.p), layouts[_i].extent);
		spm_pool_detach(r.p);
	}
	close(r.state);
	close(r.dev.fd);
}
END_TEST

START_TEST(refuses_what_is_not_its_own)
{
	struct pool_rig r, other;
	struct spm_pool_device d;
	struct spm_pool *p;
	uint64_t junk = 1;

	rig_make(&r, 8 * MIB, EXTENT);
	rig_make(&other, 8 * MIB, EXTENT);
	/* another device, with a label or without; another size */
	d = other.dev;
	ck_assert_int_eq(pwrite(d.fd, &junk, sizeof(junk), (off_t)other.p->header->label_at), sizeof(junk));
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &d, &(struct spm_pool_opts){ .moved = true }), -ENODEV);
	d = r.dev;
	d.bytes -= 4096;
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &d, NULL), -ENODEV);
	ck_assert_int_eq(ftruncate(r.dev.fd, (off_t)d.bytes), 0);
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &r.dev, NULL), -ENODEV);
	ck_assert_int_eq(ftruncate(r.dev.fd, (off_t)r.dev.bytes), 0);
	rig_end(&r);

	/* another pool was made on the device since, and one of the same uuid */
	r.state = memfd_create("state", MFD_CLOEXEC);
	ck_assert_int_eq(spm_pool_create(r.state, &other.dev, 2 * EXTENT, (const uint8_t *)"not the same one"), 0);
	ck_assert_int_eq(spm_pool_attach(&p, other.state, &other.dev, NULL), -ESTALE);
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &other.dev, NULL), 0);
	spm_pool_detach(p);

	/* no state file, or a damaged one */
	ck_assert_int_eq(spm_pool_attach(&p, other.dev.fd, &other.dev, NULL), -EPROTO);
	ck_assert_int_eq(pwrite(r.state, &junk, 1, 20), 1);
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &other.dev, NULL), -EPROTO);
	close(r.state);
	rig_end(&other);
}
END_TEST

/* A device that its driver has let go of, and one that has come back as another: the label says that it is the pool's, but not who
 * has had the rest of it. */
START_TEST(asks_before_it_takes_a_device_that_was_away)
{
	const struct spm_pool_opts moved = { .moved = true }, kept = { .kept = true };
	struct pool_rig r;
	struct spm_pool *p;
	uint8_t byte = 0;
	int fd, old;

	rig_device(&r, 8 * MIB, true);
	r.dev.binding = 7;
	ck_assert_int_eq(spm_pool_create(r.state, &r.dev, EXTENT, rig_uuid), 0);
	rig_attach(&r, NULL);
	ck_assert_int_eq(spm_pool_write(r.p, &one, "x", 1, 0), 1);
	spm_pool_detach(r.p);
	old = r.dev.fd;
	if (_i) {
		/* the same bytes on another device */
		fd = memfd_create("again", MFD_CLOEXEC);
		for (off_t at = 0; at < (off_t)(8 * MIB);)
			must(sendfile(fd, old, &at, 8 * MIB) > 0);
		r.dev.fd = fd;
	} else {
		r.dev.binding = 8;
	}
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &r.dev, NULL), -EREMCHG);
	/* who has held it all the time need not say */
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &r.dev, &kept), 0);
	spm_pool_detach(p);
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &r.dev, NULL), -EREMCHG);
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &r.dev, &moved), 0);
	ck_assert_int_eq(spm_pool_read(p, &one, &byte, 1, 0), 1);
	ck_assert_uint_eq(byte, 'x');
	/* a death while that was being noted */
	p->header->ident.check ^= 1;
	spm_pool_detach(p);
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &r.dev, NULL), -EREMCHG);
	ck_assert_int_eq(spm_pool_attach(&p, r.state, &r.dev, &moved), 0);
	spm_pool_detach(p);
	/* said once */
	rig_attach(&r, NULL);
	rig_end(&r);
	if (_i)
		close(old);
}
END_TEST

/* -- content -- */

START_TEST(reads_what_was_written)
{
	uint8_t buf[3 * EXTENT], got[3 * EXTENT];
	struct pool_rig r;

	rig_make(&r, 4 * MIB, EXTENT);
	memset(buf, 7, sizeof(buf));
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, EXTENT, 5 * EXTENT - 10), EXTENT);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 2 * EXTENT);
	ck_assert_int_eq(spm_pool_read(r.p, &one, got, 3 * EXTENT, 4 * EXTENT), 3 * EXTENT);
	/* what the device held before is not seen around it */
	ck_assert(all_are(got, EXTENT - 10, 0));
	ck_assert(all_are(got + EXTENT - 10, EXTENT, 7));
	ck_assert(all_are(got + 2 * EXTENT - 10, EXTENT + 10, 0));
	/* nor by another file */
	ck_assert_int_eq(spm_pool_read(r.p, &two, got, EXTENT, 5 * EXTENT), EXTENT);
	ck_assert(all_are(got, EXTENT, 0));
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, 1, UINT64_MAX / 4), 1);
	rig_again(&r, NULL);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 3 * EXTENT);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, 6 * (off_t)EXTENT, SEEK_DATA, INT64_MAX),
			 (off_t)(UINT64_MAX / 4 / EXTENT * EXTENT));
	ck_assert_int_eq(spm_pool_seek(r.p, &one, 5 * (off_t)EXTENT + 1, SEEK_HOLE, INT64_MAX), 6 * (off_t)EXTENT);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, 5, SEEK_DATA, 5), -ENXIO);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, 0, SEEK_DATA, 5), -ENXIO);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, 0, SEEK_CUR, 5), -EINVAL);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, 4 * (off_t)EXTENT + 3, SEEK_HOLE, 4 * EXTENT + 9),
			 4 * (off_t)EXTENT + 9);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

/* Whatever the device's pages are: its mapping starts and ends on one of them. */
START_TEST(content_at_each_alignment)
{
	static const uint64_t align[] = { 4 * KIB, 2 * MIB, UINT64_C(1) << 30 };
	const uint64_t bytes = (UINT64_C(2) << 30) + (align[_i] < 2 * MIB ? 8 * KIB : 0);
	uint8_t buf[EXTENT], got[EXTENT];
	struct pool_rig r;

	memset(buf, 5, sizeof(buf));
	rig_device(&r, bytes, false);
	r.dev.align = align[_i];
	ck_assert_int_eq(spm_pool_create(r.state, &r.dev, EXTENT, rig_uuid), 0);
	for (uint64_t n = 0; n < 2; n++) {
		rig_attach(&r, NULL);
		ck_assert_uint_eq((uintptr_t)r.p->base % align[_i], 0);
		ck_assert_uint_eq(r.p->map_bytes % align[_i], 0);
		for (uint64_t e = 0; e < 40; e++) {
			if (!n)
				ck_assert_int_eq(spm_pool_write(r.p, &one, buf, EXTENT, e * 1000 * EXTENT), EXTENT);
			ck_assert_int_eq(spm_pool_read(r.p, &one, got, EXTENT, e * 1000 * EXTENT), EXTENT);
			ck_assert(all_are(got, EXTENT, 5));
		}
		/* the last extent, too */
		ck_assert_int_eq(spm_pool_clear(spm_pool_address(r.p, r.p->extents - 1), EXTENT), 0);
		spm_pool_detach(r.p);
	}
	close(r.state);
	close(r.dev.fd);
}
END_TEST

/* Law 4: by zeroing in the background, and on demand. */
START_TEST(freed_memory_comes_back_as_zeros)
{
	struct spm_pool_opts o = { .clean_bytes = 8 * EXTENT, .zeroers = 2 };
	uint8_t buf[EXTENT], got[EXTENT];
	struct spm_pool_stats st;
	struct pool_rig r;

	rig_make(&r, 64 * EXTENT, EXTENT);
	rig_again(&r, _i ? &o : NULL);
	if (_i)
		ck_assert_int_eq(spm_pool_start(r.p), 0);
	memset(buf, 9, sizeof(buf));
	for (int n = 0; n < 5; n++) {
		for (uint64_t e = 0; e < 63; e++)
			ck_assert_int_eq(spm_pool_write(r.p, &one, buf, EXTENT, e * EXTENT), EXTENT);
		ck_assert_int_eq(spm_pool_write(r.p, &one, buf, EXTENT, 63 * EXTENT), -ENOSPC);
		spm_pool_remove(r.p, &one);
		for (uint64_t e = 0; e < 63; e++) {
			ck_assert_int_eq(spm_pool_write(r.p, &two, buf, 1, e * EXTENT), 1);
			ck_assert_int_eq(spm_pool_read(r.p, &two, got, EXTENT, e * EXTENT), EXTENT);
			ck_assert(got[0] == 9 && all_are(got + 1, EXTENT - 1, 0));
		}
		ck_assert_int_eq(spm_pool_punch(r.p, &two, 0, UINT64_MAX), 0);
	}
	/* all that was a file's is zeroed in the end, without being asked for */
	st = rig_stats(&r);
	for (int n = 0; _i && st.clean_bytes < 63 * EXTENT; n++) {
		ck_assert_int_lt(n, 60000);
		usleep(1000);
		st = rig_stats(&r);
	}
	spm_pool_stop(r.p);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

/* Never used memory is zeroed in advance up to a bound. */
START_TEST(zeroes_some_in_advance)
{
	struct spm_pool_opts o = { .clean_bytes = 8 * EXTENT };
	struct pool_rig r;

	rig_make(&r, 64 * EXTENT, EXTENT);
	rig_again(&r, &o);
	ck_assert_int_eq(spm_pool_start(r.p), 0);
	for (int n = 0; rig_stats(&r).clean_bytes < 8 * EXTENT; n++) {
		ck_assert_int_lt(n, 20000);
		usleep(1000);
	}
	spm_pool_stop(r.p);
	ck_assert_uint_eq(rig_stats(&r).clean_bytes, 8 * EXTENT);
	ck_assert_uint_eq(rig_stats(&r).zeroed_bytes, 8 * EXTENT);
	/* a successor need not do it again */
	rig_again(&r, &o);
	ck_assert_uint_eq(rig_stats(&r).clean_bytes, 8 * EXTENT);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

static bool after_two(void *arg)
{
	return ++*(int *)arg > 2;
}

START_TEST(commit_fits_or_makes_nothing)
{
	struct pool_rig r;
	int asked = 0;

	rig_make(&r, 17 * EXTENT, EXTENT);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 10, 4 * EXTENT + 1, NULL, NULL), 0);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 5 * EXTENT);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 0, 17 * EXTENT, NULL, NULL), -ENOSPC);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 5 * EXTENT);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 0, 16 * EXTENT, after_two, &asked), -EINTR);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 5 * EXTENT);
	ck_assert_uint_eq(rig_stats(&r).used_bytes, 5 * EXTENT);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 0, 16 * EXTENT, NULL, NULL), 0);
	ck_assert_uint_eq(rig_stats(&r).free_bytes, 0);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 3, 3, NULL, NULL), 0);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 0, UINT64_MAX, NULL, NULL), -EFBIG);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

START_TEST(damaged_records_are_set_aside)
{
	uint8_t buf[8 * EXTENT], got[EXTENT];
	struct pool_rig r;
	uint64_t what;

	memset(buf, 3, sizeof(buf));
	rig_make(&r, 32 * EXTENT, EXTENT);
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, sizeof(buf), 0), sizeof(buf));
	atomic_fetch_xor(&r.p->record[0].what, UINT64_C(1) << 20);  /* another extent of the file */
	atomic_fetch_xor(&r.p->record[1].whose, 1);                 /* another file */
	atomic_store(&r.p->record[2].what, 77);                     /* no state */
	what = spm_pool_what(0, 9, POOL_OWNED);
	atomic_store(&r.p->record[3].whose, 0);                     /* of no file */
	atomic_store(&r.p->record[3].what, what);
	atomic_fetch_or(&r.p->record[30].what, 1);                  /* a free one */
	rig_again(&r, NULL);
	ck_assert_uint_eq(rig_stats(&r).damaged, 5);
	ck_assert_uint_eq(rig_stats(&r).bytes, 26 * EXTENT);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 4 * EXTENT);
	ck_assert_int_eq(spm_pool_read(r.p, &one, got, EXTENT, 4 * EXTENT), EXTENT);
	ck_assert(all_are(got, EXTENT, 3));
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, 23 * EXTENT, NULL, NULL), -ENOSPC);
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, 22 * EXTENT, NULL, NULL), 0);
	rig_end(&r);
}
END_TEST

/* What is read of each extent of a file: letters, - for zeros, E for EIO. */
static void extents_are(struct pool_rig *r, const struct spm_pool_file *f, const char *want)
{
	char got[64] = "";
	uint8_t buf[EXTENT];

	for (size_t e = 0; e < strlen(want); e++) {
		ssize_t n = spm_pool_read(r->p, f, buf, EXTENT, e * EXTENT);

		got[e] = n == -EIO ? 'E' : n != (ssize_t)EXTENT || !all_are(buf, EXTENT, buf[0]) ? '?' : buf[0] ? (char)buf[0] : '-';
	}
	ck_assert_str_eq(got, want);
}

static void letters(struct pool_rig *r, const struct spm_pool_file *f, const char *what)
{
	uint8_t buf[EXTENT];

	for (size_t e = 0; what[e]; e++) {
		memset(buf, what[e], sizeof(buf));
		if (what[e] != '-')
			ck_assert_int_eq(spm_pool_write(r->p, f, buf, EXTENT, e * EXTENT), EXTENT);
	}
}

static uint32_t place_of(struct pool_rig *r, const struct spm_pool_file *f, uint64_t extent)
{
	uint32_t d = spm_pool_index_find(r->p, spm_pool_whose(f), extent);

	must(d != SPM_POOL_NONE);
	return d;
}

/* Some bit of each byte of a record. */
static void flip(struct pool_rig *r, uint32_t d, unsigned int byte)
{
	((uint8_t *)&r->p->record[d])[byte] ^= (uint8_t)(1 << byte % 8);
}

struct told {
	unsigned int times;
	uint64_t ino, offset;
};

static void be_told(void *ctx, const struct spm_pool_file *f, uint64_t file_offset)
{
	struct told *t = ctx;

	*t = (struct told){ .times = t->times + 1, .ino = f->ino, .offset = file_offset };
}

START_TEST(damage_in_use_is_noticed)
{
	struct told told = { .times = 0 };
	const struct spm_pool_opts o = { .damaged = be_told, .ctx = &told };
	const struct spm_pool_file three = { .ino = 13, .slice = 0 };
	char far[3];
	struct pool_rig r;

	rig_device(&r, 32 * EXTENT, true);
	ck_assert_int_eq(spm_pool_create(r.state, &r.dev, EXTENT, rig_uuid), 0);
	rig_attach(&r, &o);
	letters(&r, &one, "ab-cd");
	letters(&r, &two, "xyz");
	/* as far on as whatever tells them apart */
	ck_assert_int_eq(spm_pool_write(r.p, &three, "far", 3, (UINT64_C(1) << 40) + 3 * EXTENT), 3);
	flip(&r, place_of(&r, &three, (UINT64_C(1) << 40) / EXTENT + 3), (unsigned int)_i);
	ck_assert_int_eq(spm_pool_read(r.p, &three, far, 3, 3 * EXTENT), 3);
	ck_assert_mem_eq(far, "\0\0\0", 3);
	ck_assert_int_eq(spm_pool_read(r.p, &three, far, 3, (UINT64_C(1) << 40) + 3 * EXTENT), -EIO);
	spm_pool_remove(r.p, &three);
	ck_assert_uint_eq(told.times, 1);
	flip(&r, place_of(&r, &one, 3), (unsigned int)_i);
	if (_i % 2)
		ck_assert_int_eq(spm_pool_seek(r.p, &one, (off_t)(2 * EXTENT), SEEK_DATA, 5 * EXTENT), 3 * EXTENT);
	extents_are(&r, &one, "ab-Ed");
	rig_audit(r.p);
	extents_are(&r, &two, "xyz");
	ck_assert_uint_eq(told.times, 2);
	ck_assert_uint_eq(told.ino, one.ino);
	ck_assert_uint_eq(told.offset, 3 * EXTENT);
	ck_assert_uint_eq(rig_stats(&r).bad_bytes, EXTENT);
	ck_assert_int_eq(spm_pool_write(r.p, &one, "", 1, 3 * EXTENT + 5), -EIO);
	rig_again(&r, &o);
	ck_assert_uint_eq(spm_pool_damaged(r.p), 0);
	extents_are(&r, &one, "ab-Ed");
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 3 * EXTENT, 4 * EXTENT), 0);
	extents_are(&r, &one, "ab--d");
	letters(&r, &one, "---q");
	extents_are(&r, &one, "ab-qd");
	ck_assert_uint_eq(rig_stats(&r).bad_bytes + rig_stats(&r).retired_bytes, 0);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

START_TEST(damage_is_noticed_by_who_moves)
{
	struct spm_pool_compact c = { .bps = 0 };
	struct pool_rig r;

	rig_make(&r, 32 * EXTENT, EXTENT);
	letters(&r, &two, "xyz");
	letters(&r, &one, "abc");
	spm_pool_remove(r.p, &two);
	flip(&r, place_of(&r, &one, 2), (unsigned int)_i);
	ck_assert_int_eq(spm_pool_compact(r.p, &c), 0);
	ck_assert_uint_eq(c.moved_bytes, 2 * EXTENT);
	rig_audit(r.p);
	extents_are(&r, &one, "abE");
	rig_end(&r);
}
END_TEST

START_TEST(a_file_goes_with_damaged_records)
{
	struct pool_rig r;

	rig_make(&r, 32 * EXTENT, EXTENT);
	letters(&r, &one, "abcdef");
	letters(&r, &two, "x");
	flip(&r, place_of(&r, &one, 1), 0);
	flip(&r, place_of(&r, &one, 4), 10);
	if (_i)
		ck_assert_int_eq(spm_pool_punch(r.p, &one, 0, UINT64_MAX), 0);
	else
		spm_pool_remove(r.p, &one);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), 0);
	extents_are(&r, &one, "------");
	extents_are(&r, &two, "x");
	ck_assert_uint_eq(rig_stats(&r).free_bytes, 30 * EXTENT);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

static uint64_t slot_five(void *arg, uint64_t from)
{
	(void)arg;
	return from <= 5 ? 5 : UINT64_MAX;
}

START_TEST(damage_that_is_found_makes_doubt)
{
	struct spm_pool_doubts found;
	struct pool_rig r;
	uint64_t records = 31;

	rig_make(&r, 32 * EXTENT, EXTENT);
	letters(&r, &one, "ab-c");
	letters(&r, &two, "xyz");
	flip(&r, place_of(&r, &one, 0), (unsigned int)_i);
	rig_again(&r, NULL);
	ck_assert_uint_eq(spm_pool_damaged(r.p), 1);
	ck_assert_int_eq(spm_pool_doubt(r.p, &one, 8, slot_five, NULL, &found), 0);
	ck_assert_uint_eq(found.extents, 6 - 1);
	ck_assert_uint_eq(found.first, 0);
	/* who dies here begins again */
	rig_again(&r, NULL);
	ck_assert_uint_eq(spm_pool_damaged(r.p), 1);
	ck_assert_int_eq(spm_pool_doubt(r.p, &one, 8, slot_five, NULL, &found), 0);
	ck_assert_uint_eq(found.extents, 0);
	ck_assert_int_eq(spm_pool_doubt(r.p, &two, 3, NULL, NULL, &found), 0);
	ck_assert_uint_eq(found.extents, 0);
	spm_pool_settled(r.p);
	rig_audit(r.p);
	extents_are(&r, &one, "EbEcE-EE-");
	extents_are(&r, &two, "xyz");
	rig_again(&r, NULL);
	ck_assert_uint_eq(spm_pool_damaged(r.p), 0);
	extents_are(&r, &one, "EbEcE-EE-");
	ck_assert_uint_eq(rig_stats(&r).free_bytes, (records - 5) * EXTENT);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, (off_t)(4 * EXTENT), SEEK_HOLE, 9 * EXTENT), 5 * EXTENT);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, (off_t)(5 * EXTENT), SEEK_DATA, 9 * EXTENT), 6 * EXTENT);
	ck_assert_int_eq(spm_pool_write(r.p, &one, "", 1, 0), -EIO);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 6 * EXTENT, 7 * EXTENT, NULL, NULL), -EIO);
	/* a part of it stays what it is */
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 6 * EXTENT + 1, 7 * EXTENT - 1), -EIO);
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 0, EXTENT), 0);
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 6 * EXTENT, 7 * EXTENT), 0);
	letters(&r, &one, "A");
	extents_are(&r, &one, "AbEcE--E-");
	rig_again(&r, NULL);
	extents_are(&r, &one, "AbEcE--E-");
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 3 * EXTENT, UINT64_MAX), 0);
	extents_are(&r, &one, "AbE------");
	ck_assert(spm_pool_has(r.p, &one));
	spm_pool_remove(r.p, &one);
	ck_assert(!spm_pool_has(r.p, &one));
	extents_are(&r, &one, "---------");
	rig_again(&r, NULL);
	extents_are(&r, &one, "---------");
	ck_assert_uint_eq(r.p->doubts, 0);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

START_TEST(doubts_may_be_many_and_damaged)
{
	const struct spm_pool_file third = { .ino = 77, .slice = 5 };
	struct spm_pool_doubts found;
	struct pool_rig r;

	rig_make(&r, 600 * EXTENT, EXTENT);
	for (uint64_t e = 0; e < 500; e++)
		ck_assert_int_eq(spm_pool_write(r.p, &one, "x", 1, 2 * e * EXTENT), 1);
	flip(&r, place_of(&r, &one, 600), 3);
	rig_again(&r, NULL);
	ck_assert_int_eq(spm_pool_doubt(r.p, &one, 1000, NULL, NULL, &found), 0);
	ck_assert_uint_eq(found.extents, 501);
	ck_assert_int_eq(spm_pool_doubt(r.p, &two, 1000, NULL, NULL, &found), 0);
	ck_assert_int_eq(spm_pool_doubt(r.p, &third, 1000, NULL, NULL, &found), 0);
	spm_pool_settled(r.p);
	rig_again(&r, NULL);
	ck_assert_uint_eq(spm_pool_damaged(r.p), 0);
	extents_are(&r, &two, "EEE");
	spm_pool_remove_slice(r.p, 5);
	extents_are(&r, &two, "---");
	extents_are(&r, &third, "---");
	ck_assert_uint_eq(r.p->doubts, 499); /* three of them are one */
	r.p->doubt[7].end ^= 1;
	rig_again(&r, NULL);
	ck_assert_uint_eq(spm_pool_damaged(r.p), 1);
	ck_assert_int_eq(spm_pool_doubt(r.p, &one, 1000, NULL, NULL, &found), 0);
	spm_pool_settled(r.p);
	rig_again(&r, NULL);
	ck_assert_uint_eq(spm_pool_damaged(r.p), 0);
	for (uint64_t e = 0; e < 1000; e++)
		must(spm_pool_is_doubtful(r.p, spm_pool_whose(&one), e) == (e % 2 || e == 600));
	r.p->doubt[9].whose ^= 1;
	ck_assert(spm_pool_is_doubtful(r.p, spm_pool_whose(&two), 3));
	rig_end(&r);
}
END_TEST

/* -- compaction -- */

START_TEST(compaction_leaves_one_run)
{
	struct spm_pool_compact c = { .bps = 0 };
	uint8_t buf[EXTENT], got[EXTENT];
	unsigned int seed = 3;
	struct pool_rig r;

	rig_make(&r, 257 * EXTENT, EXTENT);
	for (uint64_t e = 0; e < 256; e++) {
		memset(buf, (int)e, sizeof(buf));
		ck_assert_int_eq(spm_pool_write(r.p, rand_r(&seed) % 2 ? &one : &two, buf, EXTENT, e * EXTENT), EXTENT);
	}
	spm_pool_remove(r.p, &two);
	ck_assert_uint_lt(spm_pool_free_run(r.p), rig_stats(&r).free_bytes);
	ck_assert_int_eq(spm_pool_compact(r.p, &c), 0);
	ck_assert_uint_gt(c.moved_bytes, 0);
	ck_assert_uint_eq(rig_stats(&r).moved_bytes, c.moved_bytes);
	ck_assert_uint_eq(spm_pool_free_run(r.p), rig_stats(&r).free_bytes);
	for (uint64_t e = 0; e < 256; e++) {
		ck_assert_int_eq(spm_pool_read(r.p, &one, got, EXTENT, e * EXTENT), EXTENT);
		ck_assert(all_are(got, EXTENT, 0) || all_are(got, EXTENT, (uint8_t)e));
	}
	ck_assert_int_eq(spm_pool_compact(r.p, &c), 0);
	ck_assert_uint_eq(c.moved_bytes, 0);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

START_TEST(compaction_obeys)
{
	int asked = 0;
	struct spm_pool_compact c = { .cancel = after_two, .arg = &asked };
	struct timespec t[2];
	struct pool_rig r;
	void *at;

	rig_make(&r, 66 * EXTENT, EXTENT);
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, 32 * EXTENT, NULL, NULL), 0);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 0, 32 * EXTENT, NULL, NULL), 0);
	spm_pool_remove(r.p, &two);
	ck_assert_int_eq(spm_pool_compact(r.p, &c), -ECANCELED);
	ck_assert_uint_eq(c.moved_bytes, 2 * EXTENT);
	/* what is in use by its address stays: the highest one that is left */
	ck_assert_int_eq(spm_pool_map_extent(r.p, &one, 29, &at), 0);
	ck_assert_int_eq(spm_pool_map_extent(r.p, &one, 29, &at), -EBUSY);
	c = (struct spm_pool_compact){ .bps = 20 * MIB };
	clock_gettime(CLOCK_MONOTONIC, &t[0]);
	ck_assert_int_eq(spm_pool_compact(r.p, &c), 0);
	clock_gettime(CLOCK_MONOTONIC, &t[1]);
	ck_assert_uint_eq(c.moved_bytes, 29 * EXTENT);
	ck_assert_int_ge((t[1].tv_sec - t[0].tv_sec) * 1000 + (t[1].tv_nsec - t[0].tv_nsec) / 1000000,
			 28 * 1000 / 16 / 20 - 5);
	ck_assert_uint_lt(spm_pool_free_run(r.p), rig_stats(&r).free_bytes);
	ck_assert_int_eq(spm_pool_unmap_extent(r.p, &one, 29, false), 0);
	ck_assert_int_eq(spm_pool_compact(r.p, &c), 0);
	ck_assert_uint_eq(c.moved_bytes, EXTENT);
	ck_assert_uint_eq(spm_pool_free_run(r.p), rig_stats(&r).free_bytes);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

/* In the background, and a call that comes meanwhile has its turn at once. */
START_TEST(compaction_in_the_background)
{
	const struct spm_pool_opts o = { .compact_bps = _i ? 64 * KIB : 64 * MIB };
	struct spm_pool_compact c = { .bps = 0 };
	struct pool_rig r;
	uint8_t byte;

	rig_make(&r, 66 * EXTENT, EXTENT);
	rig_again(&r, &o);
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, 32 * EXTENT, NULL, NULL), 0);
	ck_assert_int_eq(spm_pool_write(r.p, &one, "y", 1, 31 * EXTENT), 1);
	ck_assert_int_eq(spm_pool_commit(r.p, &one, 0, 32 * EXTENT, NULL, NULL), 0);
	spm_pool_remove(r.p, &two);
	ck_assert_uint_lt(spm_pool_free_run(r.p), rig_stats(&r).free_bytes);
	ck_assert_int_eq(spm_pool_start(r.p), 0);
	for (int n = 0; rig_stats(&r).moved_bytes < (_i ? EXTENT : 32 * EXTENT); n++) {
		ck_assert_int_lt(n, 60000);
		usleep(1000);
	}
	if (_i) {
		/* alone it would take half a minute */
		ck_assert_int_eq(spm_pool_compact(r.p, &c), 0);
		ck_assert_uint_ge(c.moved_bytes, 20 * EXTENT);
	}
	spm_pool_stop(r.p);
	ck_assert_uint_eq(spm_pool_free_run(r.p), rig_stats(&r).free_bytes);
	ck_assert_int_eq(spm_pool_read(r.p, &one, &byte, 1, 31 * EXTENT), 1);
	ck_assert_uint_eq(byte, 'y');
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

/* -- size of what is known -- */

/* 1 TiB, each extent a file of its own, which is the worst case; no memory of the device is touched but by
 * its label. */
START_TEST(metadata_of_a_large_pool)
{
	const uint64_t tib = UINT64_C(1) << 40, n = tib / (2 * MIB);
	struct spm_pool_stats st;
	struct pool_rig r;

	rig_device(&r, tib + 4096, false);
	ck_assert_int_eq(spm_pool_create(r.state, &r.dev, 2 * MIB, rig_uuid), 0);
	rig_attach(&r, NULL);
	ck_assert_uint_eq(r.p->extents, n);
	for (uint64_t i = 0; i < n; i++) {
		struct spm_pool_file f = { .ino = 1 + (_i ? i : i / 1000), .slice = (uint16_t)(i % 7) };
		uint32_t d;
		void *at;

		must(!spm_pool_take(r.p, f.slice, &d, &at) && !spm_pool_give(r.p, &f, i, d));
	}
	spm_pool_stats(r.p, &st, true);
	ck_assert_uint_eq(st.free_bytes, 0);
	ck_assert_uint_eq(st.used_bytes, tib);
	ck_assert_uint_lt(st.metadata_bytes, 32 * MIB);
	printf("# %llu KiB of metadata for 1 TiB\n", (unsigned long long)st.metadata_bytes >> 10);
	rig_again(&r, NULL);
	spm_pool_stats(r.p, &st, true);
	ck_assert_uint_eq(st.used_bytes, tib);
	ck_assert_uint_lt(st.metadata_bytes, 32 * MIB);
	for (uint16_t s = 0; s < 7; s++)
		spm_pool_remove_slice(r.p, s);
	ck_assert_uint_eq(spm_pool_free_run(r.p), tib);
	rig_end(&r);
}
END_TEST

START_TEST(sets_find_their_ends)
{
	static const uint64_t sizes[] = { 1, 63, 64, 65, 4096, 4097, 300000 };
	unsigned int seed = 5;

	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(sizes); i++) {
		bool *in = calloc(sizes[i], 1);
		struct spm_pool_set s;
		uint64_t count = 0;

		ck_assert_int_eq(spm_pool_set_init(&s, sizes[i]), 0);
		ck_assert_uint_eq(spm_pool_set_first(&s), UINT64_MAX);
		ck_assert_uint_eq(spm_pool_set_last(&s), UINT64_MAX);
		for (int n = 0; n < 2000; n++) {
			uint64_t at = (uint64_t)rand_r(&seed) % sizes[i], first = 0, last = sizes[i];
			bool put = n < 1000 ? rand_r(&seed) % 8 : !(rand_r(&seed) % 8);

			(put ? spm_pool_set_add : spm_pool_set_del)(&s, at);
			count += (uint64_t)put - in[at];
			in[at] = put;
			must(s.count == count && spm_pool_set_has(&s, at) == put);
			if (!count || (n % 50 && sizes[i] > 5000))
				continue;
			while (!in[first])
				first++;
			while (!in[last - 1])
				last--;
			must(spm_pool_set_first(&s) == first && spm_pool_set_last(&s) == last - 1);
		}
		spm_pool_set_destroy(&s);
		free(in);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, layout_of_devices, 0, SPM_ARRAY_SIZE(layouts));
	tcase_add_test(t, refuses_what_is_not_its_own);
	tcase_add_loop_test(t, asks_before_it_takes_a_device_that_was_away, 0, 2);
	tcase_add_test(t, reads_what_was_written);
	tcase_add_loop_test(t, content_at_each_alignment, 0, 3);
	tcase_add_loop_test(t, freed_memory_comes_back_as_zeros, 0, 2);
	tcase_add_test(t, zeroes_some_in_advance);
	tcase_add_test(t, commit_fits_or_makes_nothing);
	add_slices_tests(t);
	tcase_add_test(t, damaged_records_are_set_aside);
	tcase_add_loop_test(t, damage_in_use_is_noticed, 0, 16);
	tcase_add_loop_test(t, damage_is_noticed_by_who_moves, 0, 16);
	tcase_add_loop_test(t, a_file_goes_with_damaged_records, 0, 2);
	tcase_add_loop_test(t, damage_that_is_found_makes_doubt, 0, 16);
	tcase_add_test(t, doubts_may_be_many_and_damaged);
	tcase_add_test(t, compaction_leaves_one_run);
	tcase_add_test(t, compaction_obeys);
	tcase_add_loop_test(t, compaction_in_the_background, 0, 2);
	tcase_add_loop_test(t, metadata_of_a_large_pool, 0, 2);
	tcase_add_test(t, sets_find_their_ends);
	suite_add_tcase(s, t);
	add_poison_tests(s);
	add_model_tests(s);
	return spm_unit_run(s);
}
