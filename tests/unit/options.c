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
			       "commit=lazy,name=a-b_c.9,keep,nopassthrough,nodev,noexec,x-systemd.automount,_netdev", &e), 0);
	ck_assert_uint_eq(o.size_bytes, 64u << 20);
	ck_assert_uint_eq(o.mode, 0750);
	ck_assert_uint_eq(o.uid, 7);
	ck_assert_uint_eq(o.gid, 8);
	ck_assert_uint_eq(o.nr_inodes, 1024);
	ck_assert_str_eq(o.huge, "never");
	ck_assert_str_eq(o.mpol, "bind:0,1");
	ck_assert_int_eq(o.map, SPM_MAP_MIRROR);
	ck_assert(o.commit_lazy && o.keep && o.no_passthrough);
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
	{ "name=..", ".." }, { "keep=1", "keep=1" }, { "swap=/x", "swap=/x" }, { "nodev,bogus,ro", "bogus" },
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
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
