/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC32C and trailers of slots (core/trailer.h). */
#include "core/trailer.h"
#include "tests/unit/unit.h"

#include <string.h>

/* RFC 3720, B.4, and the check value of the catalogues. */
START_TEST(known_sums)
{
	unsigned char b[32];

	ck_assert_uint_eq(spm_crc("123456789", 9), 0xe3069283u);
	ck_assert_uint_eq(spm_crc("", 0), 0);
	memset(b, 0, sizeof(b));
	ck_assert_uint_eq(spm_crc(b, sizeof(b)), 0x8a9136aau);
	memset(b, 0xff, sizeof(b));
	ck_assert_uint_eq(spm_crc(b, sizeof(b)), 0x62a8ab43u);
	for (unsigned int i = 0; i < sizeof(b); i++)
		b[i] = (unsigned char)i;
	ck_assert_uint_eq(spm_crc(b, sizeof(b)), 0x46dd794eu);
}
END_TEST

static uint32_t slow_crc(const unsigned char *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

/* All lengths and alignments that the library treats apart. */
START_TEST(any_length)
{
	static unsigned char b[5000];

	for (unsigned int i = 0; i < sizeof(b); i++)
		b[i] = (unsigned char)(i * 2654435761u >> 13);
	for (unsigned int at = 0; at < 9; at++)
		for (size_t len = 0; len < sizeof(b) - at; len += len < 300 ? 1 : 173)
			ck_assert_uint_eq(spm_crc(b + at, len), slow_crc(b + at, len));
}
END_TEST

static void fill_in(struct spm_trailer *t)
{
	memset(t, 0xa5, sizeof(*t));
	t->pages = 3;
	t->slice = 7;
	t->ino = 4711;
	t->extent = 12;
	memset(t->map, 0, sizeof(t->map));
	t->map[0] = 5;
	t->map[7] = UINT64_C(1) << 63;
}

static bool ok(const struct spm_trailer *t, uint32_t check)
{
	return spm_trailer_ok(t, check, 7, 4711, 12, 3);
}

START_TEST(sealed)
{
	static struct spm_trailer t;
	uint32_t check;

	fill_in(&t);
	check = spm_trailer_seal(&t);
	ck_assert(ok(&t, check));
	ck_assert(!ok(&t, check + 1));
	ck_assert(!spm_trailer_ok(&t, check, 8, 4711, 12, 3));
	ck_assert(!spm_trailer_ok(&t, check, 7, 4712, 12, 3));
	ck_assert(!spm_trailer_ok(&t, check, 7, 4711, 13, 3));
	ck_assert(!spm_trailer_ok(&t, check, 7, 4711, 12, 2));
	/* what the caller had in the rest of the block is neither summed nor written */
	fill_in(&t);
	memset(t.zero, 1, sizeof(t.zero));
	ck_assert_uint_eq(spm_trailer_seal(&t), check);
}
END_TEST

START_TEST(each_flipped_bit)
{
	static struct spm_trailer t;
	unsigned char *p = (unsigned char *)&t;
	uint32_t check;

	fill_in(&t);
	check = spm_trailer_seal(&t);
	for (unsigned int i = 0; i < sizeof(t) * 8; i++) {
		p[i / 8] ^= (unsigned char)(1u << i % 8);
		ck_assert_msg(!ok(&t, check), "bit %u", i);
		p[i / 8] ^= (unsigned char)(1u << i % 8);
	}
	ck_assert(ok(&t, check));
}
END_TEST

/* A right sum says only that the block is what somebody wrote. */
START_TEST(sum_is_right_but)
{
	static struct spm_trailer t;

	fill_in(&t);
	t.map[3] = 1;
	ck_assert(!ok(&t, spm_trailer_seal(&t)));
	fill_in(&t);
	spm_trailer_seal(&t);
	t.magic++;
	ck_assert(!ok(&t, spm_crc(&t, sizeof(t))));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trailer");
	TCase *t = tcase_create("trailer");

	tcase_add_test(t, known_sums);
	tcase_add_test(t, any_length);
	tcase_add_test(t, sealed);
	tcase_add_test(t, each_flipped_bit);
	tcase_add_test(t, sum_is_right_but);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
