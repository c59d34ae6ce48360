/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Configuration files (core/slice-conf.h): what they declare, what is said of broken ones, and how they are
 * changed. */
#include "core/slice-conf.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define G (UINT64_C(1) << 30)

static int parse(const char *text, struct spm_slices_conf *conf, struct spm_error *e)
{
	e->text[0] = '\0';
	return spm_slices_conf_parse(text, strlen(text), "x.conf", conf, e);
}

START_TEST(whole_file)
{
	struct spm_slices_conf conf;
	struct spm_error e;

	ck_assert_int_eq(parse("\xef\xbb\xbf# tenants\n\n[slice a]   ; the first\n  min = 1G ; guaranteed\n\tmax: "
			       "2g\nswap-max=max\r\n"
			       "uid = root\ngid=5\nmode = 0750\nnodes = 0-1,3\nhuge=never\nmap = "
			       "mirror\ncold=\ndelegate = yes\n"
			       "[ slice  b.c ]\n;nothing said\n[slice c]\npin-max = 0\ninodes = max",
			       &conf, &e),
			 0);
	ck_assert_str_eq(e.text, "");
	ck_assert_uint_eq(conf.n, 3);
	ck_assert_str_eq(conf.list[0].name, "a");
	ck_assert_uint_eq(conf.list[0].line, 3);
	ck_assert_uint_eq(conf.list[0].limits.min, G);
	ck_assert_uint_eq(conf.list[0].limits.max, 2 * G);
	ck_assert_uint_eq(conf.list[0].limits.swap_max, SPM_SLICE_NONE);
	ck_assert_uint_eq(conf.list[0].limits.uid, 0);
	ck_assert_uint_eq(conf.list[0].limits.gid, 5);
	ck_assert_uint_eq(conf.list[0].limits.mode, 0750);
	ck_assert_str_eq(conf.list[0].limits.nodes, "0-1,3");
	ck_assert_uint_eq(conf.list[0].limits.map, SPM_MAP_MIRROR);
	ck_assert_uint_eq(conf.list[0].limits.cold_s, UINT32_MAX);
	ck_assert_uint_eq(conf.list[0].limits.flags, SPM_SLICE_DELEGATED);
	ck_assert_uint_eq(conf.list[0].given & 1u << SPM_LIMIT_PIN_MAX, 0);
	ck_assert_uint_ne(conf.list[0].given & 1u << SPM_LIMIT_UID, 0);
	ck_assert_str_eq(conf.list[1].name, "b.c");
	ck_assert_uint_eq(conf.list[1].given, 0);
	ck_assert_uint_eq(conf.list[2].limits.pin_max, 0);
	ck_assert_ptr_eq(spm_slices_conf_find(&conf, "c"), &conf.list[2]);
	ck_assert_ptr_null(spm_slices_conf_find(&conf, "d"));
	spm_slices_conf_free(&conf);
}
END_TEST

#define LONG_NAME "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define LONG_TEXT LONG_NAME LONG_NAME LONG_NAME LONG_NAME

/* What libinih cuts off, or takes for something else, counts as it stands. */
static const struct {
	const char *text;
	size_t n;
} good[] = {
	/* the systemd unit's part, with a long line */
	{ "SOURCE=mem:4G\nMOUNTPOINT=/spm\n  OPTIONS=" LONG_TEXT "\n[slice a]\n", 1 },
	{ "", 0 },
	{ "\n\n# only\n; comments\n", 0 },
	{ "[slice " LONG_NAME "]\nmin=1M\n", 1 },
	{ "# " LONG_TEXT "\n[slice a]\n", 1 },
	{ "[slice a]\nmin=1M\n   max=2M\n", 1 },
	{ "[slice a]\n\n[slice b]", 2 },
	{ "[slice a]\r\nmin = 1M\r\n", 1 },
	{ "[slice a] # here\nmin=1\t; there", 1 },
};

START_TEST(good_files)
{
	struct spm_slices_conf conf;
	struct spm_error e;

	ck_assert_msg(!parse(good[_i].text, &conf, &e), "%s", e.text);
	ck_assert_uint_eq(conf.n, good[_i].n);
	spm_slices_conf_free(&conf);
}
END_TEST

static const struct {
	const char *text, *place, *reason;
} bad[] = {
	{ "SOURCES=mem:4G\n", "x.conf:1: ", "'SOURCES' stands before the first [slice NAME]" },
	{ "[slice a]\nSOURCE=mem:4G\n", "x.conf:2: ", "SOURCE" },
	{ "min = 1G\n", "x.conf:1: ", "'min' stands before the first [slice NAME]" },
	{ "[slice a]\nmni = 1G\n", "x.conf:2: ", "unknown key 'mni'; there are min, max, swap-max" },
	{ "[slice a]\n\nmin = 1X\n", "x.conf:3: ", "min=1X: give a size" },
	{ "[slice a]\nmin = 1G # much\n", "x.conf:2: ", "min=1G # much" },
	{ "[slice a]\nmin = 1G\nmin = 1G\n", "x.conf:3: ", "'min' is there twice" },
	{ "[slice a]\nswap-max = 1G\nswap.max = 1G\n", "x.conf:3: ", "there twice" },
	{ "[slice a]\nmin\n[slice b]\nmax = x\n", "x.conf:2: ", "neither [slice NAME] nor KEY = VALUE" },
	{ "[slice a]\nmin =\n", "x.conf:2: ", "min=: give a size" },
	{ "[slice a]\n[slice b]\n[slice a]\n", "x.conf:3: ", "slice 'a' is in line 1 already" },
	{ "[slice a]\nmax=1G\nmin = 2G\n[slice b]", "x.conf:1: ", "min=2G is above max=1G" },
	{ "\n[slice a]\nmax=1G\nmin = 2G", "x.conf:2: ", "min=2G is above max=1G" },
	{ "[slice a\nmin = 1G\n", "x.conf:1: ", "closing ']'" },
	{ "[mount]\n", "x.conf:1: ", "[mount]: sections are [slice NAME]" },
	{ "[slice]\n", "x.conf:1: ", "sections are [slice NAME]" },
	{ "[slicea]\n", "x.conf:1: ", "[slicea]" },
	{ "[slice a/b]\n", "x.conf:1: ", "slice 'a/b': give 1 to 63 letters" },
	{ "[slice .x]\n", "x.conf:1: ", "'.x'" },
	{ "[slice " LONG_NAME "x]\n", "x.conf:1: ", "1 to 63" },
	{ "[slice a] min = 1G\n", "x.conf:1: ", "'min = 1G" },
	{ "[slice a]\nuid = nobody-of-that-name\n",
	  "x.conf:2: ", "there is no such user; give a name or a number" },
	{ "[slice a]\ngid = nobody-of-that-name\n", "x.conf:2: ", "no such group" },
	{ "[slice a]\nuid = -1\n", "x.conf:2: ", "no such user" },
	{ "[slice a]\nuid = 4294967295\n", "x.conf:2: ", "uid=4294967295" },
	{ "[slice a]\nmin = \001\n", "x.conf:2: ", "byte 7 is a control character (0x01)" },
	{ "[slice a]\nnodes = " LONG_TEXT "\n", "x.conf:2: ", "longer than " },
	{ "[slice a]\nown.max = 1G\n", "x.conf:2: ", "unknown key 'own.max'" },
};

START_TEST(bad_files)
{
	struct spm_slices_conf conf;
	struct spm_error e;

	ck_assert_int_eq(parse(bad[_i].text, &conf, &e), -EINVAL);
	ck_assert_msg(!strncmp(e.text, bad[_i].place, strlen(bad[_i].place)), "%s", e.text);
	ck_assert_msg(strstr(e.text, bad[_i].reason) != NULL, "%s", e.text);
	ck_assert_ptr_null(strchr(e.text, '\n'));
	ck_assert_ptr_null(conf.list);
}
END_TEST

START_TEST(zero_bytes)
{
	static const char text[] = "[slice a]\nmin\0=1G\n";
	struct spm_slices_conf conf;
	struct spm_error e = { "" };

	ck_assert_int_eq(spm_slices_conf_parse(text, sizeof(text) - 1, "x.conf", &conf, &e), -EINVAL);
	ck_assert_str_eq(e.text, "x.conf:2: byte 4 is a control character (0x00)");
}
END_TEST

#define SET    .how = SPM_EDIT_SET
#define CREATE .how = SPM_EDIT_CREATE
#define REMOVE .how = SPM_EDIT_REMOVE
#define MIN    [SPM_LIMIT_MIN]
#define MAX    [SPM_LIMIT_MAX]

static const struct {
	const char *before;
	struct spm_slice_edit edit;
	const char *after;
} edits[] = {
	{ "",
	  { .name = "a", CREATE, .value = { MIN = "1G", MAX = "2G", [SPM_LIMIT_SWAP_MAX] = "3G" } },
	  "[slice a]\nmin = 1G\nmax = 2G\nswap-max = 3G\n" },
	{ "# top", { .name = "a", CREATE }, "# top\n\n[slice a]\n" },
	{ "[slice a]\nmin=1G\n\n",
	  { .name = "b", CREATE, .value = { MIN = "1G" } },
	  "[slice a]\nmin=1G\n\n[slice b]\nmin = 1G\n" },
	/* a value goes, its spelling and its comment stay */
	{ "[slice a]\n\tmin :  1G   ; least\n# c\nmax=4G\n[slice b]\nmin=1G",
	  { .name = "a", SET, .value = { MIN = "2G" } },
	  "[slice a]\n\tmin :  2G   ; least\n# c\nmax=4G\n[slice b]\nmin=1G\n" },
	{ "[slice a]\nmin = 1G\n\n# about b\n[slice b]\n",
	  { .name = "a", SET, .value = { MAX = "2G" } },
	  "[slice a]\nmin = 1G\nmax = 2G\n\n# about b\n[slice b]\n" },
	{ "[slice a]", { .name = "a", SET, .value = { MAX = "2G" } }, "[slice a]\nmax = 2G\n" },
	{ "[slice a] ; x\n[slice aa]\nmax=1G\n",
	  { .name = "aa", SET, .value = { MAX = "2G" } },
	  "[slice a] ; x\n[slice aa]\nmax=2G\n" },
	{ "[slice a]\ncold = 5 ; s\nswap.max=1G\n",
	  { .name = "a", SET, .value = { [SPM_LIMIT_COLD] = "", [SPM_LIMIT_SWAP_MAX] = "max" } },
	  "[slice a]\ncold =  ; s\nswap.max=max\n" },
	{ "[slice a]\ncold = ; s\n",
	  { .name = "a", SET, .value = { [SPM_LIMIT_COLD] = "9" } },
	  "[slice a]\ncold = 9 ; s\n" },
	/* made anew: only what is said now */
	{ "[slice a]\n# kept\nmin = 1G\nmax = 2G ; x\n",
	  { .name = "a", CREATE, .value = { MAX = "8G" } },
	  "[slice a]\n# kept\nmax = 8G ; x\n" },
	{ "# top\n\n# a's\n[slice a]\nmin=1G\n# too\n\n# b's\n[slice b]\n",
	  { .name = "a", REMOVE },
	  "# top\n\n# b's\n[slice b]\n" },
	{ "# top\n[slice a]\nmin=1G\n", { .name = "a", REMOVE }, "# top\n" },
	{ "[slice a]\nmin=1G\n\n[slice b]\nmax=1G", { .name = "b", REMOVE }, "[slice a]\nmin=1G\n" },
	{ "[slice a]\nmin=1G\n[slice b]\nmax=1G", { .name = "a", REMOVE }, "[slice b]\nmax=1G\n" },
	{ "[slice a]\nmin=1G\n", { .name = "b", REMOVE }, "[slice a]\nmin=1G\n" },
	{ "\xef\xbb\xbf[slice a]\nmin=1G\n", { .name = "a", SET, .value = { MIN = "2G" } }, "[slice a]\nmin=2G\n" },
};

START_TEST(edited)
{
	char *after = spm_slices_conf_edited(edits[_i].before, &edits[_i].edit);
	struct spm_slices_conf conf;
	struct spm_error e;

	ck_assert_str_eq(after, edits[_i].after);
	ck_assert_msg(!parse(after, &conf, &e), "%s", e.text);
	ck_assert_int_eq(!spm_slices_conf_find(&conf, edits[_i].edit.name), edits[_i].edit.how == SPM_EDIT_REMOVE);
	spm_slices_conf_free(&conf);
	free(after);
}
END_TEST

static void spoil(char *text, size_t len, unsigned int *seed)
{
	static const char interesting[] = "[]=;:#\n \tsliceminax019KG\xef";

	for (int i = rand_r(seed) % 8; i >= 0; i--)
		text[(size_t)rand_r(seed) % len] = interesting[(size_t)rand_r(seed) % (sizeof(interesting) - 1)];
}

/* Whatever is in a file: it is understood, or refused with a line of it; and a change that is made can be read
 * back. */
START_TEST(spoilt_files)
{
	static const char seed_text[] =
		"# top\n[slice a]\nmin = 1G ; x\nmax=2G\nuid=0\n\n# b\n[slice b.c]\nswap-max: 1G\nnodes = 0-1\n"
		"cold =\nmode=0750\n";
	const struct spm_slice_edit edit = { .name = "a",
					     SET,
					     .value = { MIN = "1M", [SPM_LIMIT_PIN_MAX] = "9M" } };
	unsigned int seed = 7, understood = 0;

	for (int i = 0; i < 20000; i++) {
		const struct spm_slice_conf *c;
		char text[sizeof(seed_text)], *after;
		struct spm_slices_conf conf;
		struct spm_error e = { "" };
		unsigned int line = 0;
		int rc;

		memcpy(text, seed_text, sizeof(text));
		spoil(text, sizeof(text) - 1, &seed);
		rc = parse(text, &conf, &e);
		if (rc) {
			ck_assert_int_eq(rc, -EINVAL);
			ck_assert_msg(sscanf(e.text, "x.conf:%u: ", &line) == 1 && line >= 1 && line <= 13,
				      "%s of:\n%s", e.text, text);
			continue;
		}
		understood++;
		spm_slices_conf_free(&conf);
		after = spm_slices_conf_edited(text, &edit);
		rc = parse(after, &conf, &e);
		c = rc ? NULL : spm_slices_conf_find(&conf, "a");
		ck_assert_msg(c && c->limits.min == 1u << 20 && c->limits.pin_max == 9u << 20, "%s: %s\nbecame %s",
			      e.text, text, after);
		spm_slices_conf_free(&conf);
		free(after);
	}
	ck_assert_uint_gt(understood, 200);
}
END_TEST

static void check_text(const char *path, const char *want)
{
	char *text;
	size_t len;

	ck_assert_int_eq(spm_slices_conf_load(path, &text, &len), 0);
	ck_assert_str_eq(text, want);
	free(text);
}

START_TEST(saved)
{
	char dir[] = "/tmp/spm-conf.XXXXXX", path[128], sub[64], link[64];
	const struct spm_slice_edit make = { .name = "a", CREATE, .value = { MIN = "1G" } };
	const struct spm_slice_edit wrong = { .name = "a", SET, .value = { MAX = "1M" } };
	const struct spm_slice_edit gone = { .name = "a", REMOVE };
	struct spm_slices_conf conf;
	struct spm_error e = { "" };
	struct stat st;
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/spmfs", dir);
	snprintf(path, sizeof(path), "%s/x.conf", sub);
	snprintf(link, sizeof(link), "%s/link", dir);
	ck_assert_int_eq(spm_slices_conf_read(path, &conf, &e), -ENOENT);
	ck_assert_str_eq(e.text, "");
	ck_assert_int_eq(spm_slices_conf_save(path, &make, &e), 0);
	check_text(path, "# Slices of the mount of this name, see spmfs.conf(5).\n\n[slice a]\nmin = 1G\n");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0644);
	/* what would be wrong together is not written, and a broken file is not touched */
	ck_assert_int_eq(spm_slices_conf_save(path, &wrong, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "min=1G is above max=1M"));
	ck_assert_int_eq(symlink(path, link) | chmod(path, 0640), 0);
	ck_assert_int_eq(spm_slices_conf_save(link, &gone, &e), 0);
	check_text(path, "# Slices of the mount of this name, see spmfs.conf(5).\n");
	ck_assert_int_eq(lstat(link, &st), 0);
	ck_assert(S_ISLNK(st.st_mode));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	f = fopen(path, "w");
	ck_assert(f && fputs("[slice b]\nbroken\n", f) >= 0 && !fclose(f));
	e.text[0] = '\0';
	ck_assert_int_eq(spm_slices_conf_save(path, &make, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "x.conf:2: neither"));
	check_text(path, "[slice b]\nbroken\n");
	ck_assert_int_eq(unlink(link) | unlink(path) | rmdir(sub) | rmdir(dir),
			 0); /* nothing else was left there */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("slice_conf");
	TCase *t = tcase_create("slice_conf");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, whole_file);
	tcase_add_loop_test(t, good_files, 0, (int)SPM_ARRAY_SIZE(good));
	tcase_add_loop_test(t, bad_files, 0, (int)SPM_ARRAY_SIZE(bad));
	tcase_add_test(t, zero_bytes);
	tcase_add_loop_test(t, edited, 0, (int)SPM_ARRAY_SIZE(edits));
	tcase_add_test(t, spoilt_files);
	tcase_add_test(t, saved);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
