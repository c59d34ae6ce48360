/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SOURCE and node lists (core/source.h, core/numa.h). */
#include "core/noderoom.h"
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

/* Of a machine with a node of three zones and one without processors; what is said of processors has words that look alike. */
static const char zoneinfo[] =
	"Node 0, zone      DMA\n  per-node stats\n      nr_inactive_file 1000\n      nr_active_file 500\n"
	"      nr_dirty     100\n      nr_writeback 20\n      nr_writeback_temp 7\n"
	"  pages free     3840\n        boost    0\n        min      56\n        low      70\n        high     84\n"
	"        protection: (0, 1925, 3431, 3431, 3431)\n  pagesets\n    cpu: 0\n              count: 7\n              high:  63\n"
	"Node 0, zone    DMA32\n  pages free     100000\n        high     2000\n        protection: (0, 0, 1506, 1506, 1506)\n"
	"Node 0, zone   Normal\n  pages free     1000\n        high     4000\n        protection: (0, 0, 0, 0, 0)\n"
	"Node 2, zone  Movable\n  per-node stats\n      nr_inactive_file 10\n      nr_active_file 0\n"
	"  pages free     5000\n        min      300\n        high     400\n        protection: (0, 0, 0, 0, 0)\n"
	"  pagesets\n    cpu: 0\n              count:    15\n              high:     63\n"
	"    cpu: 1\n              count:    5\n              high:     63\n              high_min: 63\n";

static int room_of(int node, bool last, uint64_t *bytes)
{
	spm_auto_fclose FILE *f = fmemopen((void *)zoneinfo, sizeof(zoneinfo) - 1, "r");
	struct spm_nodes n = { { 0 } };

	ck_assert_ptr_nonnull(f);
	spm_nodes_set(&n, node);
	return last ? spm_node_room_parse_last(f, &n, bytes) : spm_node_room_parse(f, &n, bytes);
}

START_TEST(node_room)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), bytes;

	/* free above the watermark, and files' clean pages but for half of them */
	ck_assert_int_eq(room_of(2, false, &bytes), 0);
	ck_assert_uint_eq(bytes, (4600 + 5) * page);
	/* less what a zone keeps for those that can have no other; nothing of one that is below its watermark */
	ck_assert_int_eq(room_of(0, false, &bytes), 0);
	ck_assert_uint_eq(bytes, (3840 - 84 - 3431 + 100000 - 2000 - 1506 + 690) * page);
	ck_assert_int_eq(room_of(1, false, &bytes), -EIO);
	/* down to the minimal watermark, with what processors have at hand, and no cache */
	ck_assert_int_eq(room_of(2, true, &bytes), 0);
	ck_assert_uint_eq(bytes, (5000 + 20 - 300) * page);
	ck_assert_int_eq(room_of(0, true, &bytes), 0);
	ck_assert_uint_eq(bytes, (3840 + 7 - 56 - 3431 + 100000 - 1506 + 1000) * page);
	ck_assert_int_eq(room_of(1, true, &bytes), -EIO);
}
END_TEST

START_TEST(node_budget)
{
	struct spm_node_budget b = { 0 };
	struct spm_nodes all;
	uint64_t room;

	ck_assert_int_eq(spm_numa_with_memory(&all), 0);
	ck_assert_int_eq(spm_node_room(&all, &room), 0);
	ck_assert_int_eq(spm_node_budget_take(&b, &all, 4096), 0);
	ck_assert_int_eq(spm_node_budget_take(&b, &all, 4096), 0);
	ck_assert_int_eq(spm_node_budget_take(&b, &all, room * 2 + (UINT64_C(1) << 40)), -ENOSPC);
	ck_assert_int_eq(spm_node_budget_take(&b, &all, UINT64_MAX), -ENOSPC);
	ck_assert_int_eq(spm_node_budget_take(&b, &all, 4096), 0);
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
	tcase_add_test(t, node_room);
	tcase_add_test(t, node_budget);
	tcase_add_test(t, source_mem);
	tcase_add_test(t, source_node);
	tcase_add_test(t, source_dax);
	tcase_add_test(t, source_dir);
	tcase_add_loop_test(t, source_refused, 0, (int)SPM_ARRAY_SIZE(bad_sources));
	tcase_add_test(t, check_machine);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
