/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people write them (core/size.h). */
#include "core/size.h"
#include "tests/unit/unit.h"

#include <errno.h>

static const struct {
	const char *text;
	int rc;
	uint64_t bytes;
} sizes[] = {
	{ "0", 0, 0 }, { "1", 0, 1 }, { "64k", 0, 65536 }, { "64K", 0, 65536 }, { "3M", 0, 3145728 },
	{ "1g", 0, 1073741824 }, { "2T", 0, UINT64_C(2199023255552) },
	{ "9223372036854775807", 0, INT64_MAX }, { "9223372036854775808", -ERANGE, 0 },
	{ "99999999999999999999999", -ERANGE, 0 }, { "8388608T", -ERANGE, 0 }, { "8388607T", 0, UINT64_C(8388607) << 40 },
	{ "", -EINVAL, 0 }, { "k", -EINVAL, 0 }, { "-1", -EINVAL, 0 }, { "+1", -EINVAL, 0 }, { " 1", -EINVAL, 0 },
	{ "1 ", -EINVAL, 0 }, { "1kb", -EINVAL, 0 }, { "1P", -EINVAL, 0 }, { "0x10", -EINVAL, 0 }, { "1.5G", -EINVAL, 0 },
};

START_TEST(parse)
{
	uint64_t bytes = 77;

	ck_assert_int_eq(spm_size_parse(sizes[_i].text, &bytes), sizes[_i].rc);
	ck_assert_uint_eq(bytes, sizes[_i].rc ? 77 : sizes[_i].bytes);
}
END_TEST

START_TEST(percent)
{
	uint64_t b;

	ck_assert_int_eq(spm_size_parse_of("50%", 1001, &b), 0);
	ck_assert_uint_eq(b, 500);
	ck_assert_int_eq(spm_size_parse_of("100%", UINT64_MAX, &b), 0);
	ck_assert_uint_eq(b, UINT64_MAX);
	ck_assert_int_eq(spm_size_parse_of("101%", 1000, &b), -ERANGE);
	ck_assert_int_eq(spm_size_parse_of("%", 1000, &b), -EINVAL);
	ck_assert_int_eq(spm_size_parse_of("-5%", 1000, &b), -EINVAL);
	ck_assert_int_eq(spm_size_parse_of("000000000005%", 1000, &b), -ERANGE);
	ck_assert_int_eq(spm_size_parse_of("4k", 1000, &b), 0);
	ck_assert_uint_eq(b, 4096);
}
END_TEST

static const struct {
	uint64_t bytes;
	const char *text;
} humans[] = {
	{ 0, "0" }, { 1023, "1023" }, { 1024, "1K" }, { 1536, "1.5K" }, { 1048575, "1023K" }, { 1073741824, "1G" },
	{ UINT64_C(100) << 30, "100G" }, { (UINT64_C(99) << 30) + (UINT64_C(512) << 20), "99.5G" },
	{ UINT64_MAX, "15.9E" },
};

START_TEST(human)
{
	char buf[8];

	ck_assert_str_eq(spm_size_human(humans[_i].bytes, buf, sizeof(buf)), humans[_i].text);
}
END_TEST

START_TEST(numbers)
{
	uint64_t n;

	ck_assert_int_eq(spm_number_parse("1777", 8, 07777, &n), 0);
	ck_assert_uint_eq(n, 01777);
	ck_assert_int_eq(spm_number_parse("8", 8, 07777, &n), -EINVAL);
	ck_assert_int_eq(spm_number_parse("10000", 8, 07777, &n), -ERANGE);
	ck_assert_int_eq(spm_number_parse("-1", 10, 10, &n), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("size");
	TCase *t = tcase_create("size");

	tcase_add_loop_test(t, parse, 0, (int)SPM_ARRAY_SIZE(sizes));
	tcase_add_test(t, percent);
	tcase_add_loop_test(t, human, 0, (int)SPM_ARRAY_SIZE(humans));
	tcase_add_test(t, numbers);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
