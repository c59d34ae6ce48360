/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mount options (fs/options.h): what they set, and what the user reads when they are wrong. */
#include "fs/options.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

static int parse(struct spm_options *o, const char *list, struct spm_error *e)
{
	e->text[0] = '\0';
	spm_options_init(o);
	return spm_options_parse(o, list, e);
}

START_TEST(all_options)
{
	struct spm_options o;
	struct spm_error e;

	ck_assert_int_eq(parse(&o, "size=64M,mode=0750,uid=7,gid=8,nr_inodes=1k,huge=never,mpol=bind:0,1,map=mirror,"
			       "commit=lazy,name=a-b_c.9,keep,nopassthrough,noidmap,nodev,noexec,x-systemd.automount,_netdev", &e), 0);
	ck_assert_uint_eq(o.size_bytes, 64u << 20);
	ck_assert_uint_eq(o.mode, 0750);
	ck_assert_uint_eq(o.uid, 7);
	ck_assert_uint_eq(o.gid, 8);
	ck_assert_uint_eq(o.nr_inodes, 1024);
	ck_assert_str_eq(o.huge, "never");
	ck_assert_str_eq(o.mpol, "bind:0,1");
	ck_assert_int_eq(o.map, SPM_MAP_MIRROR);
	ck_assert(o.commit_lazy && o.keep && o.no_passthrough && o.no_idmap);
	ck_assert_str_eq(o.name, "a-b_c.9");
	ck_assert_uint_eq(o.mount_flags, MS_NODEV | MS_NOEXEC);
	spm_options_free(&o);
}
END_TEST

static const struct {
	const char *list, *quoted;
} bad[] = {
	{ "siz=1G", "siz=1G" }, { "size", "size" }, { "size=", "size=" }, { "size=1X", "1X" }, { "size=0%", "0%" },
	{ "size=1", "size=1" }, { "size=101%", "101%" }, { "mode=9", "mode=9" }, { "mode=77777", "77777" },
	{ "uid=root", "root" }, { "uid=-1", "-1" }, { "uid=4294967295", "4294967295" }, { "gid=x", "gid=x" },
	{ "nr_inodes=many", "many" }, { "huge=yes", "yes" }, { "mpol=bind:x", "bind:x" }, { "mpol=weird", "weird" },
	{ "map=both", "both" }, { "commit=now", "now" }, { "name=a/b", "a/b" }, { "name=", "name=" },
	{ "name=..", ".." }, { "conf=", "conf=" }, { "keep=1", "keep=1" },
	{ "swap=", "swap=" }, { "swap=/x:", "/x:" }, { "swap=:/x", ":/x" }, { "swap=/a::/b", "/a::/b" },
	{ "swap=1:2:3:4:5:6:7:8:9", "1 to 8" }, { "swapsize=4095K", "4M or more" }, { "swapsize=50%", "50%" },
	{ "extent=4M", "4M" }, { "extent=32K", "32K" }, { "extent=96K", "96K" }, { "low=100", "low=100" },
	{ "high=-1", "-1" }, { "low=5%", "5%" }, { "cold=14401", "14401" }, { "cold=1h", "1h" },
	{ "compact=1K", "1K" }, { "compact=on", "on" }, { "compact=", "compact=" },
	{ "nodev,bogus,ro", "bogus" },
};

START_TEST(bad_options)
{
	struct spm_options o;
	struct spm_error e;

	ck_assert_int_eq(parse(&o, bad[_i].list, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, bad[_i].quoted));
	ck_assert_ptr_null(strchr(e.text, '\n'));
	spm_options_free(&o);
}
END_TEST

START_TEST(later_wins_and_escapes)
{
	struct spm_options o;
	struct spm_error e;

	ck_assert_int_eq(parse(&o, "ro,rw,,map=mirror,map=direct,comment=a\\,b,size=1G,size=50%", &e), 0);
	ck_assert_uint_eq(o.mount_flags, 0);
	ck_assert_int_eq(o.map, SPM_MAP_DIRECT);
	ck_assert_uint_eq(o.size_bytes, 0);
	ck_assert_uint_eq(o.size_pct, 50);
	spm_options_free(&o);
}
END_TEST

static const struct {
	const char *mountpoint, *name;
} names[] = { { "/spm", "spm" }, { "/", "root" }, { "/srv/my dir", "srv-my_20dir" }, { "/a-b", "a_2db" },
	      { "/a/b", "a-b" }, { "/.x", "_2ex" } };

START_TEST(default_names)
{
	struct spm_options o;
	struct spm_error e = { "" };

	spm_options_init(&o);
	o.mountpoint = strdup(names[_i].mountpoint);
	o.source.bytes = 1u << 20;
	ck_assert_int_eq(spm_options_finish(&o, &e), 0);
	ck_assert_str_eq(o.name, names[_i].name);
	spm_options_free(&o);
}
END_TEST

static char *name_of(const char *mountpoint)
{
	struct spm_options o;
	struct spm_error e = { "" };
	char *name;

	spm_options_init(&o);
	o.mountpoint = strdup(mountpoint);
	ck_assert_int_eq(spm_options_finish(&o, &e), 0);
	name = strdup(o.name);
	spm_options_free(&o);
	return name;
}

/* A name that is cut off must not be another mount point's: kept files would be found by the wrong one. */
START_TEST(long_names_differ)
{
	char a[256], b[256], *na, *nb;

	memset(a, 'x', sizeof(a));
	a[0] = '/';
	a[200] = '\0';
	strcpy(b, a);
	b[199] = 'y';
	na = name_of(a);
	nb = name_of(b);
	ck_assert_str_ne(na, nb);
	ck_assert_uint_le(strlen(na), 64);
	free(na);
	free(nb);
}
END_TEST

START_TEST(size_against_device)
{
	struct spm_options o;
	struct spm_error e;

	ck_assert_int_eq(parse(&o, "size=2G", &e), 0);
	o.mountpoint = strdup("/spm");
	o.source_text = strdup("mem:1G");
	o.source.bytes = 1u << 30;
	ck_assert_int_eq(spm_options_fit(&o, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "mem:1G"));
	spm_options_free(&o);
}
END_TEST

static int finish(struct spm_options *o, const char *list, struct spm_error *e)
{
	int rc = parse(o, list, e);

	ck_assert_int_eq(rc, 0);
	o->mountpoint = strdup("/spm");
	o->source_text = strdup("mem:1G");
	return spm_options_finish(o, e);
}

START_TEST(swap_options)
{
	struct spm_options o;
	struct spm_error e;

	ck_assert_int_eq(finish(&o, "swap=/a:/b,swapsize=8G,extent=256k,low=3,high=30,cold=600,compact=1G", &e), 0);
	ck_assert_str_eq(o.swap, "/a:/b");
	ck_assert_uint_eq(o.swap_bytes, UINT64_C(8) << 30);
	ck_assert_uint_eq(o.extent_bytes, 256u << 10);
	ck_assert_uint_eq(o.low_pct, 3);
	ck_assert_uint_eq(o.high_pct, 30);
	ck_assert_uint_eq(o.cold_s, 600);
	ck_assert_uint_eq(o.compact_bps, 1u << 30);
	spm_options_free(&o);
	ck_assert_int_eq(finish(&o, "swap=/a", &e), 0);
	ck_assert_uint_eq(o.extent_bytes, 2u << 20);
	ck_assert_uint_eq(o.low_pct, 5);
	ck_assert_uint_eq(o.high_pct, 10);
	ck_assert_uint_eq(o.cold_s, 0);
	ck_assert_uint_eq(o.compact_bps, 64u << 20);
	ck_assert_uint_eq(o.swap_bytes, 0);
	spm_options_free(&o);
}
END_TEST

static const struct {
	const char *list;
	unsigned int low, high;
	const char *quoted; /* refused */
} marks[] = {
	{ "swap=/a,low=20", 20, 25, NULL }, { "swap=/a,low=97", 97, 99, NULL }, { "swap=/a,high=3", 3, 3, NULL },
	{ "high=40,swap=/a,low=40", 40, 40, NULL }, { "swap=/a,low=0,high=0,compact=off", 0, 0, NULL },
	{ "swap=/a,low=20,high=10", 0, 0, "low=20: above high=10" },
	{ "low=5", 0, 0, "low=" }, { "swapsize=1G", 0, 0, "swapsize=" }, { "extent=2M", 0, 0, "extent=" },
	{ "high=7", 0, 0, "high=" }, { "cold=0", 0, 0, "cold=" }, { "compact=off", 0, 0, "compact=" },
	{ "low=5,compact=1M", 0, 0, "low=" },
	{ "swap=/a:/b:/c,swapsize=8M", 0, 0, "3 files" },
};

START_TEST(swap_together)
{
	struct spm_options o;
	struct spm_error e;
	int rc = finish(&o, marks[_i].list, &e);

	ck_assert_int_eq(rc, marks[_i].quoted ? -EINVAL : 0);
	if (rc) {
		ck_assert_ptr_nonnull(strstr(e.text, marks[_i].quoted));
	} else {
		ck_assert_uint_eq(o.low_pct, marks[_i].low);
		ck_assert_uint_eq(o.high_pct, marks[_i].high);
	}
	spm_options_free(&o);
}
END_TEST

static const struct {
	const char *list, *cwd, *swap;
} paths[] = {
	{ "swap=a", "/srv", "/srv/a" }, { "swap=/a", "/srv", "/a" }, { "swap=a", "/", "/a" },
	{ "swap=/a:b:../c", "/x/y", "/a:/x/y/b:/x/y/../c" }, { "swap=a\\,b:c", "/d,e\\f", "/d,e\\f/a,b:/d,e\\f/c" },
	{ "swap=/a:/b", "/has:colon", "/a:/b" }, { "swap=/a:b", "/has:colon", NULL },
	{ "swap=b", "/has:colon", NULL },
};

/* Relative paths are the launcher's; what the list says afterwards is the same anywhere. */
START_TEST(swap_paths)
{
	struct spm_options o, later;
	struct spm_error e;
	int rc;

	ck_assert_int_eq(finish(&o, paths[_i].list, &e), 0);
	rc = spm_options_resolve(&o, paths[_i].cwd, &e);
	ck_assert_int_eq(rc, paths[_i].swap ? 0 : -EINVAL);
	if (!rc) {
		ck_assert_str_eq(o.swap, paths[_i].swap);
		ck_assert_int_eq(parse(&later, o.list, &e), 0);
		ck_assert_str_eq(later.swap, paths[_i].swap);
		spm_options_free(&later);
	} else {
		ck_assert_ptr_nonnull(strstr(e.text, paths[_i].cwd));
	}
	spm_options_free(&o);
}
END_TEST

static const struct {
	const char *list, *cwd, *conf;
} confs[] = {
	{ "conf=a", "/srv", "/srv/a" }, { "conf=/a", "/srv", "/a" }, { "conf=a", "/", "/a" }, { "conf=none", "/srv", "none" },
	{ "conf=a\\,b", "/d,e\\f", "/d,e\\f/a,b" }, { "conf=../c,ro", "/has:colon", "/has:colon/../c" },
	{ "ro", "/srv", NULL },
};

START_TEST(conf_paths)
{
	struct spm_options o, later;
	struct spm_error e;

	ck_assert_int_eq(finish(&o, confs[_i].list, &e), 0);
	ck_assert_int_eq(spm_options_resolve(&o, confs[_i].cwd, &e), 0);
	ck_assert_pstr_eq(o.conf, confs[_i].conf);
	ck_assert_int_eq(parse(&later, o.list, &e), 0);
	ck_assert_pstr_eq(later.conf, confs[_i].conf);
	spm_options_free(&later);
	spm_options_free(&o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("options");
	TCase *t = tcase_create("options");

	tcase_add_test(t, all_options);
	tcase_add_loop_test(t, bad_options, 0, (int)SPM_ARRAY_SIZE(bad));
	tcase_add_test(t, later_wins_and_escapes);
	tcase_add_loop_test(t, default_names, 0, (int)SPM_ARRAY_SIZE(names));
	tcase_add_test(t, long_names_differ);
	tcase_add_test(t, size_against_device);
	tcase_add_test(t, swap_options);
	tcase_add_loop_test(t, swap_together, 0, (int)SPM_ARRAY_SIZE(marks));
	tcase_add_loop_test(t, conf_paths, 0, (int)SPM_ARRAY_SIZE(confs));
	tcase_add_loop_test(t, swap_paths, 0, (int)SPM_ARRAY_SIZE(paths));
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
