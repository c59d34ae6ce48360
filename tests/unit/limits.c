/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said of slices, as text (core/limits.h). */
#include "core/limits.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *key, *value, *text; /* NULL: refused */
} values[] = {
	{ "min", "64K", "65536" },
	{ "min", "0", "0" },
	{ "min", "max", NULL },
	{ "min", "", NULL },
	{ "min", "1.5G", NULL },
	{ "max", "1g", "1073741824" },
	{ "max", "max", "max" },
	{ "max", "65535", NULL },
	{ "max", "-1", NULL },
	{ "max", "9223372036854775808", NULL },
	{ "swap.max", "0", "0" },
	{ "swap-max", "4G", "4294967296" },
	{ "swap.max", "4 G", NULL },
	{ "pin-max", "max", "max" },
	{ "pin.max", "50%", NULL },
	{ "inodes", "10k", "10240" },
	{ "inodes", "max", "max" },
	{ "inodes", "0", "max" },
	{ "inodes", "x", NULL },
	{ "uid", "1000", "1000" },
	{ "uid", "4294967295", NULL },
	{ "uid", "root", NULL },
	{ "gid", "0", "0" },
	{ "mode", "2770", "2770" },
	{ "mode", "0", "0000" },
	{ "mode", "10000", NULL },
	{ "mode", "9", NULL },
	{ "nodes", "0-3,5", "0-3,5" },
	{ "nodes", "", "" },
	{ "nodes", "x", NULL },
	{ "nodes", "4096", NULL },
	{ "huge", "never", "never" },
	{ "huge", "", "" },
	{ "huge", "sometimes", NULL },
	{ "map", "mirror", "mirror" },
	{ "map", "", "" },
	{ "map", "mirro", NULL },
	{ "cold", "0", "0" },
	{ "cold", "", "" },
	{ "cold", "14401", NULL },
	{ "cold", "1m", NULL },
	{ "delegate", "1", "1" },
	{ "delegate", "no", "0" },
	{ "delegate", "yes", "1" },
	{ "delegate", "2", NULL },
};

START_TEST(set_and_text)
{
	struct spm_slice_limits l, before;
	struct spm_error e = { "" };
	char buf[SPM_LIMIT_TEXT];
	int k;

	spm_limits_init(&l);
	before = l;
	k = spm_limit_set(&l, values[_i].key, values[_i].value, &e);
	if (!values[_i].text) {
		ck_assert_int_eq(k, -EINVAL);
		ck_assert_ptr_nonnull(strstr(e.text, values[_i].key));
		ck_assert_ptr_nonnull(strstr(e.text, ": give "));
		ck_assert_mem_eq(&l, &before, sizeof(l));
		return;
	}
	ck_assert_int_ge(k, 0);
	ck_assert_str_eq(e.text, "");
	ck_assert_str_eq(spm_limit_text(&l, (enum spm_limit)k, buf), values[_i].text);
}
END_TEST

START_TEST(keys)
{
	struct spm_slice_limits l;
	struct spm_error e = { "" };

	for (int k = 0; k < SPM_LIMITS; k++)
		ck_assert_int_eq(spm_limit_find(spm_limit_key((enum spm_limit)k)), k);
	ck_assert_int_eq(spm_limit_find("swap-max"), SPM_LIMIT_SWAP_MAX);
	ck_assert_int_eq(spm_limit_find("swap"), -ENOENT);
	ck_assert_int_eq(spm_limit_find("swap.max2"), -ENOENT);
	ck_assert_int_eq(spm_limit_find("own.max"), -ENOENT);
	ck_assert_int_eq(spm_limit_find(""), -ENOENT);
	spm_limits_init(&l);
	ck_assert_int_eq(spm_limit_set(&l, "mx", "1G", &e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(e.text, "'mx'"));
	ck_assert_ptr_nonnull(strstr(e.text, "swap-max"));
	ck_assert_ptr_nonnull(strstr(e.text, "delegate"));
}
END_TEST

/* What a slice has by default survives being written down, and so does everything else. */
START_TEST(round_trip)
{
	char words[] = "min=1M max=2M swap.max=3M pin.max=4M inodes=5 uid=6 gid=7 mode=0700 nodes=0-1 huge=always "
		       "map=direct "
		       "cold=8 delegate=1";
	struct spm_slice_limits l, again;
	struct spm_error e = { "" };
	char buf[SPM_LIMIT_TEXT];
	unsigned int given = 0;

	for (int pass = 0; pass < 2; pass++) {
		spm_limits_init(&l);
		if (pass)
			ck_assert_int_eq(spm_limits_words(&l, words, &given, &e), 0);
		spm_limits_init(&again);
		for (int k = 0; k < SPM_LIMITS; k++)
			ck_assert_int_eq(spm_limit_set(&again, spm_limit_key((enum spm_limit)k),
						       spm_limit_text(&l, (enum spm_limit)k, buf), &e),
					 k);
		ck_assert_mem_eq(&l, &again, sizeof(l));
	}
	ck_assert_uint_eq(given, (1u << SPM_LIMITS) - 1);
	ck_assert_str_eq(e.text, "");
}
END_TEST

static const char *const bad_words[] = { "min", "min=1G max", "=1G", "min=1G min=1G", "min=1G bogus=1", "max=1K" };

START_TEST(words)
{
	struct spm_slice_limits l;
	struct spm_error e = { "" };
	char text[80];

	spm_limits_init(&l);
	snprintf(text, sizeof(text), "%s", bad_words[_i]);
	ck_assert_int_eq(spm_limits_words(&l, text, NULL, &e), -EINVAL);
	ck_assert_str_ne(e.text, "");
	ck_assert_ptr_null(strchr(e.text, '\n'));
}
END_TEST

START_TEST(together)
{
	struct spm_slice_limits l;
	struct spm_error e = { "" };

	spm_limits_init(&l);
	ck_assert_int_eq(spm_limits_check(&l, &e), 0);
	l.min = 3u << 20;
	l.max = 3u << 20;
	ck_assert_int_eq(spm_limits_check(&l, &e), 0);
	l.max = 2u << 20;
	ck_assert_int_eq(spm_limits_check(&l, &e), -ERANGE);
	ck_assert_ptr_nonnull(strstr(e.text, "min=3M"));
	ck_assert_ptr_nonnull(strstr(e.text, "max=2M"));
}
END_TEST

static const struct {
	const char *name;
	bool ok;
} names[] = {
	{ "a", true },
	{ "A-b_c.9", true },
	{ "_x", true },
	{ "9", true },
	{ "a..", true },
	{ "", false },
	{ ".spm", false },
	{ "..", false },
	{ "-x", false },
	{ "a/b", false },
	{ "a b", false },
	{ "a=b", false },
	{ "a\n", false },
	{ "\xc3\xa4", false },
	{ "a:b", false },
	{ "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", true },
	{ "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", false },
};

START_TEST(slice_names)
{
	ck_assert_int_eq(spm_slice_name_ok(names[_i].name), names[_i].ok);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("limits");
	TCase *t = tcase_create("limits");

	tcase_add_loop_test(t, set_and_text, 0, (int)SPM_ARRAY_SIZE(values));
	tcase_add_test(t, keys);
	tcase_add_test(t, round_trip);
	tcase_add_loop_test(t, words, 0, (int)SPM_ARRAY_SIZE(bad_words));
	tcase_add_test(t, together);
	tcase_add_loop_test(t, slice_names, 0, (int)SPM_ARRAY_SIZE(names));
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
