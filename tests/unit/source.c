/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SOURCE and node lists (core/source.h, core/numa.h). */
#include "core/source.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

static const char *const good_lists[] = { "0", "0,2", "1-3", "0-1,4,6-7", "1023" };
static const char *const bad_lists[] = { "", ",", "0,", "a", "1-", "-1", "3-1", "1024", "0-2000", "1 ,2", "0;1" };

START_TEST(list_round_trip)
{
	struct spm_nodes n;
	char buf[64];

	ck_assert_int_eq(spm_nodes_parse(good_lists[_i], &n), 0);
	ck_assert_str_eq(spm_nodes_format(&n, buf, sizeof(buf)), good_lists[_i]);
}
END_TEST

START_TEST(list_refused)
{
	struct spm_nodes n;

	ck_assert_int_lt(spm_nodes_parse(bad_lists[_i], &n), 0);
}
END_TEST

START_TEST(source_mem)
{
	struct spm_error e = { "" };
	struct spm_source s;

	ck_assert_int_eq(spm_source_parse("mem:2M", &s, &e), 0);
	ck_assert_int_eq(s.kind, SPM_SOURCE_MEM);
	ck_assert_uint_eq(s.bytes, 2u << 20);
	ck_assert_str_eq(e.text, "");
}
END_TEST

START_TEST(source_node)
{
	struct spm_error e = { "" };
	struct spm_source s;

	ck_assert_int_eq(spm_source_parse("node:0-1:1G", &s, &e), 0);
	ck_assert_int_eq(s.kind, SPM_SOURCE_NODE);
	ck_assert_uint_eq(s.bytes, 1u << 30);
	ck_assert(spm_nodes_test(&s.nodes, 1) && !spm_nodes_test(&s.nodes, 2));
	ck_assert_int_eq(spm_source_parse("node:3", &s, &e), 0);
	ck_assert_uint_eq(s.bytes, 0);
}
END_TEST

START_TEST(source_dax)
{
	struct spm_error e = { "" };
	struct spm_source s;

	ck_assert_int_eq(spm_source_parse("dax0.0", &s, &e), 0);
	ck_assert_int_eq(s.kind, SPM_SOURCE_DAX);
	ck_assert_str_eq(s.dax, "dax0.0");
	ck_assert(!spm_source_on_nodes(&s));
	s.dax_mode = SPM_DAX_SYSTEM_RAM;
	ck_assert(spm_source_on_nodes(&s));
	ck_assert_int_eq(spm_source_parse("/dev/dax12.3", &s, &e), 0);
	ck_assert_str_eq(s.dax, "dax12.3");
}
END_TEST

START_TEST(source_dir)
{
	struct spm_error e = { "" };
	struct spm_source s;

	ck_assert_int_eq(spm_source_parse("dir:/mnt/pmem/spm", &s, &e), 0);
	ck_assert_int_eq(s.kind, SPM_SOURCE_DIR);
	ck_assert_str_eq(s.path, "/mnt/pmem/spm");
	ck_assert(!spm_source_on_nodes(&s));
}
END_TEST

static const char *const bad_sources[] = { "", "mem", "mem:", "mem:x", "mem:1", "mem:-1G", "node:", "node::1G",
					   "node:0:", "node:0:1K", "disk:1G", "/dev/sda", "node:0:1G:2G",
					   "dir:", "dax", "dax0", "dax0.", "dax.0", "dax-1.0", "dax0.0x", "dax0.0.0",
					   "/dev/../dax0.0", "dax0. 0", "dax00000000000000000000000000000000001.0" };

START_TEST(source_refused)
{
	struct spm_error e = { "" };
	struct spm_source s;

	ck_assert_int_eq(spm_source_parse(bad_sources[_i], &s, &e), -EINVAL);
	/* the message quotes what was given and is one line */
	ck_assert_ptr_nonnull(strstr(e.text, bad_sources[_i]));
	ck_assert_ptr_null(strchr(e.text, '\n'));
}
END_TEST

START_TEST(check_machine)
{
	struct spm_source big = { .kind = SPM_SOURCE_MEM, .bytes = UINT64_C(1) << 60 };
	struct spm_source small = { .kind = SPM_SOURCE_MEM, .bytes = 1u << 20 };
	struct spm_source far = { .kind = SPM_SOURCE_NODE };
	struct spm_error e = { "" };

	ck_assert_int_eq(spm_source_check(&small, "mem:1M", &e), 0);
	ck_assert_int_eq(spm_source_check(&big, "mem:1048576T", &e), -ENOMEM);
	e.text[0] = '\0';
	spm_nodes_set(&far.nodes, 1000);
	ck_assert_int_eq(spm_source_check(&far, "node:1000", &e), -ENODEV);
	ck_assert_ptr_nonnull(strstr(e.text, "node:1000"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("source");
	TCase *t = tcase_create("source");

	tcase_add_loop_test(t, list_round_trip, 0, (int)SPM_ARRAY_SIZE(good_lists));
	tcase_add_loop_test(t, list_refused, 0, (int)SPM_ARRAY_SIZE(bad_lists));
	tcase_add_test(t, source_mem);
	tcase_add_test(t, source_node);
	tcase_add_test(t, source_dax);
	tcase_add_test(t, source_dir);
	tcase_add_loop_test(t, source_refused, 0, (int)SPM_ARRAY_SIZE(bad_sources));
	tcase_add_test(t, check_machine);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
