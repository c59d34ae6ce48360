/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of slices and their grants on real tmpfs mounts. Needs root: mounts in a namespace of its own. */
#include "core/limits.h"
#include "core/region.h"
#include "core/slices.h"
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB    (UINT64_C(1) << 20)
#define DEVICE (8 * MIB)

static struct spm_slice root;
static struct spm_slices *t;
static const char *die_at;

static void point(void *ctx, const char *at)
{
	(void)ctx;
	if (die_at && !strcmp(at, die_at))
		_exit(7);
}

static void open_table(void)
{
	const struct spm_slice_opts defaults = { .huge = NULL };

	t = calloc(1, sizeof(*t));
	ck_assert_ptr_nonnull(t);
	ck_assert_int_eq(spm_slices_open(t, &root, DEVICE, &defaults, NULL), 0);
	spm_slices_settle(t);
	t->fault = point;
}

static void reopen(void)
{
	spm_slices_close(t);
	free(t);
	open_table();
}

static void set_up(void)
{
	struct spm_slice_opts o = { .size_bytes = DEVICE, .mode = 0755 };
	struct spm_error e = { "" };

	ck_assert_msg(!spm_region_enter_new(&e), "%s", e.text);
	ck_assert_msg(spm_region_create("mem:8M", DEVICE, &o, &root, &e) >= 0, "%s", e.text);
	open_table();
}

static struct spm_slice_limits limits(uint64_t min, uint64_t max)
{
	struct spm_slice_limits l;

	spm_limits_init(&l);
	l.min = min;
	l.max = max;
	return l;
}

static int make(const char *name, uint64_t min, uint64_t max, uint16_t *id)
{
	struct spm_slice_limits l = limits(min, max);
	int rc = spm_slices_create(t, name, &l, false, id);

	return rc ? rc : spm_slices_set(t, *id, &l);
}

static uint16_t must_make(const char *name, uint64_t min, uint64_t max)
{
	uint16_t id = 0;

	ck_assert_int_eq(make(name, min, max, &id), 0);
	ck_assert_uint_ne(id, 0);
	return id;
}

static int drop(const char *name, bool force)
{
	uint16_t id;
	int rc = spm_slices_remove_begin(t, name, force, &id);

	if (!rc)
		rc = spm_slices_remove_end(t, id, force);
	if (!rc)
		spm_slices_remove_done(t, id);
	return rc;
}

/* A file of that size; what the kernel says. */
static int fill(uint16_t id, const char *name, uint64_t bytes)
{
	int fd = openat(spm_slices_get(t, id)->data_fd, name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	int rc = fd < 0 || fallocate(fd, 0, 0, (off_t)bytes) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return rc;
}

static struct spm_slice_use use_of(uint16_t id)
{
	struct spm_slice_use u = { 0 };

	ck_assert_int_eq(spm_slices_use(t, id, &u), 0);
	return u;
}

/* Law 6. */
static void laws(void)
{
	uint64_t sum = t->lost;

	for (uint16_t id = 0; id < 32; id++) {
		struct spm_slice_use u;

		if (!spm_slices_get(t, id))
			continue;
		u = use_of(id);
		sum += u.grant;
		ck_assert_uint_le(u.min, u.grant);
		ck_assert_uint_le(u.grant, u.max);
		ck_assert_uint_eq(u.grant, spm_slices_get(t, id)->grant);
	}
	ck_assert_uint_eq(sum, t->granted);
	ck_assert_uint_le(sum, DEVICE);
}

static unsigned int entries_of(const char *path)
{
	DIR *d = opendir(path);
	unsigned int n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

START_TEST(refusals)
{
	struct spm_slice_limits l = limits(0, SPM_SLICE_NONE);
	struct spm_slice_record r;
	uint16_t id = must_make("a", MIB, 2 * MIB), other;

	ck_assert_int_eq(make("a", 0, MIB, &other), -EEXIST);
	ck_assert_int_eq(make(".a", 0, MIB, &other), -EINVAL);
	ck_assert_int_eq(make("b", 2 * MIB, MIB, &other), -ERANGE);
	ck_assert_int_eq(make("b", DEVICE + 1, SPM_SLICE_NONE, &other), -ERANGE);
	ck_assert_int_eq(make("b", DEVICE - MIB + 1, SPM_SLICE_NONE, &other), -ENOSPC);
	strcpy(l.nodes, "x");
	ck_assert_int_eq(spm_slices_create(t, "b", &l, false, &other), -EINVAL);
	ck_assert_int_eq(mkdirat(root.data_fd, "b", 0700), 0);
	ck_assert_int_eq(make("b", 0, MIB, &other), -EEXIST);
	ck_assert_uint_eq(entries_of(SPM_REGION_SLICE_DIR), 1);
	ck_assert_uint_eq(t->count, 1);
	/* the second try of a dead worker's request is as good as the first */
	l = limits(0, MIB);
	ck_assert_int_eq(spm_slices_create(t, "a", &l, true, &other), 0);
	ck_assert_uint_eq(other, id);
	ck_assert(spm_slices_record(t, id, &r));
	ck_assert_uint_eq(r.limits.max, 2 * MIB);
	/* a record that somebody else has changed since */
	r.limits.max = 3 * MIB;
	ck_assert_int_eq(spm_slices_set(t, id, &r.limits), 0);
	ck_assert_int_eq(spm_slices_set(t, id, &r.limits), -EAGAIN);
	laws();
}
END_TEST

START_TEST(found)
{
	uint16_t a = must_make("a", 0, MIB), b = must_make("b", 0, MIB);
	struct stat st;

	ck_assert_int_eq(fstatat(root.data_fd, "b", &st, 0), 0);
	ck_assert_ptr_eq(spm_slices_at(t, st.st_ino), spm_slices_get(t, b));
	ck_assert_ptr_eq(spm_slices_find(t, "a"), spm_slices_get(t, a));
	ck_assert_ptr_null(spm_slices_find(t, "c"));
	ck_assert_ptr_null(spm_slices_at(t, st.st_ino + 4 * SPM_SLICES_BUCKETS));
	ck_assert_int_eq(drop("b", false), 0);
	ck_assert_ptr_null(spm_slices_at(t, st.st_ino));
	ck_assert_ptr_null(spm_slices_get(t, b));
	/* numbers are not given again at once */
	ck_assert_uint_ne(must_make("b", 0, MIB), b);
	reopen();
	ck_assert_uint_eq(spm_slices_find(t, "a")->id, a);
}
END_TEST

START_TEST(grants)
{
	uint16_t a = must_make("a", 2 * MIB, 4 * MIB), b = must_make("b", 0, SPM_SLICE_NONE);
	struct statvfs sv;

	laws();
	ck_assert_int_eq(fill(a, "f", 2 * MIB), 0);
	ck_assert_int_eq(fill(a, "g", MIB), -ENOSPC);
	ck_assert_int_eq(spm_slices_grow(t, a, MIB), 0);
	ck_assert_int_eq(fill(a, "g", MIB), 0);
	ck_assert_int_eq(spm_slices_grow(t, a, 2 * MIB), 0);
	ck_assert_uint_eq(use_of(a).grant, 4 * MIB);
	ck_assert_int_eq(spm_slices_grow(t, a, 2 * MIB), -EDQUOT);
	laws();
	/* b takes what a has free beyond its min, and all of the root slice's, but for its floor */
	ck_assert_int_eq(spm_slices_grow(t, b, DEVICE), 0);
	ck_assert_uint_eq(use_of(a).grant, 3 * MIB);
	ck_assert_uint_eq(use_of(b).grant, 5 * MIB - SPM_SLICE_FLOOR);
	ck_assert_int_eq(spm_slices_grow(t, b, DEVICE), -ENOSPC);
	ck_assert_int_eq(fill(b, "f", 5 * MIB - SPM_SLICE_FLOOR), 0);
	ck_assert_uint_eq(spm_slices_spare(t, b, a), 5 * MIB - SPM_SLICE_FLOOR);
	ck_assert_uint_eq(spm_slices_spare(t, a, b), MIB);
	ck_assert_int_eq(spm_slices_statfs(t, a, &sv), 0);
	ck_assert_uint_eq(sv.f_blocks * sv.f_frsize, 4 * MIB);
	ck_assert_uint_eq(sv.f_bfree * sv.f_frsize, MIB);
	laws();
	/* what is in use cannot go */
	struct spm_slice_limits l = limits(0, 2 * MIB);

	ck_assert_int_eq(spm_slices_set(t, a, &l), -EBUSY);
	ck_assert_int_eq(unlinkat(spm_slices_get(t, a)->data_fd, "g", 0), 0);
	ck_assert_int_eq(spm_slices_set(t, a, &l), 0);
	l = limits(4 * MIB, SPM_SLICE_NONE);
	ck_assert_int_eq(unlinkat(spm_slices_get(t, b)->data_fd, "f", 0), 0);
	ck_assert_int_eq(fill(b, "f", 5 * MIB - MIB / 2), 0);
	/* not all of the new min is there, so the old max counts: nothing is granted beyond */
	ck_assert_int_eq(spm_slices_set(t, a, &l), -ENOSPC);
	laws();
	ck_assert_int_eq(drop("b", true), 0);
	ck_assert_int_eq(spm_slices_set(t, a, &l), 0);
	ck_assert_uint_eq(use_of(a).grant, 4 * MIB);
	laws();
}
END_TEST

/* The root slice gets from others as well, and what it has free itself does not count twice. */
START_TEST(root_grows)
{
	uint16_t a = must_make("a", 0, SPM_SLICE_NONE);
	uint64_t had;

	ck_assert_int_eq(spm_slices_grow(t, a, 5 * MIB), 0);
	ck_assert_int_eq(fill(a, "f", 5 * MIB), 0);
	had = use_of(0).grant;
	ck_assert_uint_gt(had, MIB);
	(void)!spm_slices_grow(t, 0, had + MIB);
	laws();
	ck_assert_uint_le(use_of(0).grant, DEVICE - 5 * MIB);
	ck_assert_int_eq(spm_slices_grow(t, 0, DEVICE), -ENOSPC);
	laws();
	ck_assert_int_eq(unlinkat(spm_slices_get(t, a)->data_fd, "f", 0), 0);
	ck_assert_int_eq(spm_slices_grow(t, 0, had + MIB), 0);
	ck_assert_uint_ge(use_of(0).grant, had + MIB);
	laws();
}
END_TEST

/* What is promised is not free, to anybody else, and what cannot be had is not promised. */
START_TEST(promises)
{
	uint16_t a = must_make("a", 0, 6 * MIB), b = must_make("b", 0, SPM_SLICE_NONE);

	ck_assert_int_eq(spm_slices_promise(t, a, 4 * MIB, false), 0);
	ck_assert_uint_eq(use_of(a).promised, 4 * MIB);
	ck_assert_uint_ge(use_of(a).grant, 4 * MIB);
	ck_assert_int_eq(spm_slices_grow(t, b, DEVICE), 0);
	ck_assert_uint_ge(use_of(a).grant, 4 * MIB);
	ck_assert_int_eq(fill(b, "f", use_of(b).grant), 0);
	/* nor to itself, while there is more */
	ck_assert_int_eq(spm_slices_grow(t, b, MIB), -ENOSPC);
	ck_assert_int_eq(spm_slices_promise(t, a, 4 * MIB, false), -ENOSPC);
	ck_assert_int_eq(spm_slices_promise(t, b, MIB, false), -ENOSPC);
	ck_assert_uint_eq(use_of(a).promised, 4 * MIB);
	ck_assert_uint_eq(use_of(b).promised, 0);
	laws();
	/* a fault */
	ck_assert_int_eq(fill(a, "hole", 4 * MIB), 0);
	spm_slices_unpromise(t, a, 4 * MIB);
	ck_assert_int_eq(unlinkat(spm_slices_get(t, a)->data_fd, "hole", 0), 0);
	ck_assert_int_eq(spm_slices_grow(t, b, 3 * MIB), 0);
	ck_assert_uint_ge(use_of(b).grant, use_of(b).used + 3 * MIB);
	/* what there is, and more is not taken from it later */
	ck_assert_int_eq(unlinkat(spm_slices_get(t, b)->data_fd, "f", 0), 0);
	ck_assert_int_eq(spm_slices_promise(t, a, 5 * MIB, true), 0);
	ck_assert_int_eq(fill(a, "f", MIB), 0);
	spm_slices_keep_promises(t, a, 0);
	ck_assert_uint_ge(use_of(a).grant, 6 * MIB);
	spm_slices_unpromise(t, a, DEVICE);
	ck_assert_uint_eq(use_of(a).promised, 0);
	laws();
}
END_TEST

START_TEST(removal)
{
	uint16_t a = must_make("a", 0, MIB), id;
	int fd;

	ck_assert_int_eq(fill(a, "f", 4096), 0);
	ck_assert_int_eq(drop("a", false), -ENOTEMPTY);
	fd = openat(spm_slices_get(t, a)->data_fd, "f", O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(drop("a", true), -EBUSY);
	ck_assert_int_eq(fill(a, "g", 4096), 0);
	close(fd);
	ck_assert_int_eq(spm_slices_remove_begin(t, "a", true, &id), 0);
	ck_assert_int_eq(spm_slices_remove_begin(t, "a", true, &id), -EBUSY);
	spm_slices_remove_not(t, id);
	laws();
	/* made after the look whether it is empty */
	ck_assert_int_eq(unlinkat(spm_slices_get(t, a)->data_fd, "f", 0), 0);
	ck_assert_int_eq(unlinkat(spm_slices_get(t, a)->data_fd, "g", 0), 0);
	ck_assert_int_eq(spm_slices_remove_begin(t, "a", false, &id), 0);
	ck_assert_int_eq(fill(a, "h", 4096), 0);
	ck_assert_int_eq(spm_slices_remove_end(t, id, false), -ENOTEMPTY);
	ck_assert_int_eq(fill(a, "i", 4096), 0);
	ck_assert_int_eq(drop("a", true), 0);
	ck_assert_int_eq(drop("a", true), -ENOENT);
	ck_assert_uint_eq(entries_of(SPM_REGION_SLICE_DIR), 0);
	laws();
	for (unsigned int i = 0; i < 3 * SPM_SLICES_RESTING; i++) {
		must_make("a", 0, MIB);
		ck_assert_int_eq(drop("a", false), 0);
	}
	ck_assert_uint_le(t->dead_count, SPM_SLICES_RESTING);
	laws();
}
END_TEST

/* In a process that dies at a point. */
static void die(const char *at, int (*fn)(void))
{
	int status;
	pid_t pid;

	/* what is open here would keep a slice from being removed there */
	spm_slices_close(t);
	free(t);
	pid = fork();
	if (!pid) {
		open_table();
		die_at = at;
		_exit(fn());
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 7, "%s is not passed: %d", at, status);
	open_table();
}

static int do_make(void)
{
	uint16_t id;

	return -make("new", MIB, 2 * MIB, &id);
}

static int do_drop(void)
{
	return -drop("old", true);
}

START_TEST(deaths)
{
	static const char *const making[] = { "slice:making", "slice:mounted", "slice:placed", "slice:shown" };
	static const char *const made[] = { "slice:live", "slice:granted" };
	static const char *const removing[] = { "slice:removing", "slice:unmounted" };

	must_make("old", MIB, 2 * MIB);
	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(making); i++) {
		die(making[i], do_make);
		ck_assert_ptr_null(spm_slices_find(t, "new"));
		ck_assert_uint_eq(entries_of(SPM_REGION_SLICE_DIR), 1);
		ck_assert_uint_eq(entries_of(SPM_REGION_DIR "/" SPM_SLICE_DATA), 1);
		ck_assert_uint_eq(entries_of(SPM_REGION_DIR "/" SPM_SLICE_ORPHANS), 0);
		/* it was shown perhaps, and written to: what it has elsewhere is to go */
		ck_assert_uint_eq(spm_slices_removed(t, 1), i + 2);
		spm_slices_remove_done(t, (uint16_t)(i + 2));
		ck_assert_uint_eq(spm_slices_removed(t, 1), 0);
		laws();
	}
	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(made); i++) {
		die(made[i], do_make);
		ck_assert_ptr_nonnull(spm_slices_find(t, "new"));
		laws();
		ck_assert_int_eq(drop("new", false), 0);
	}
	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(removing); i++) {
		uint16_t id = spm_slices_find(t, "old")->id;

		die(removing[i], do_drop);
		ck_assert_ptr_null(spm_slices_find(t, "old"));
		ck_assert_uint_eq(spm_slices_removed(t, 1), id);
		spm_slices_remove_done(t, id);
		ck_assert_uint_eq(spm_slices_removed(t, 1), 0);
		ck_assert_uint_eq(entries_of(SPM_REGION_SLICE_DIR), 0);
		laws();
		must_make("old", MIB, 2 * MIB);
	}
}
END_TEST

static void flip(off_t at, unsigned char mask)
{
	int fd = open(SPM_REGION_SLICES, O_RDWR | O_CLOEXEC);
	unsigned char c;

	ck_assert_int_eq(pread(fd, &c, 1, at), 1);
	c ^= mask;
	ck_assert_int_eq(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

/* Any one byte: all slices are there, but for what was just said of one. */
START_TEST(damage)
{
	const off_t end = (off_t)(offsetof(struct spm_slices_file, entry) + 4 * sizeof(struct spm_slices_entry));

	/* hundreds of lines */
	ck_assert_int_ge(dup2(memfd_create("log", MFD_CLOEXEC), STDERR_FILENO), 0);
	must_make("a", MIB, 2 * MIB);
	must_make("b", MIB, 2 * MIB);
	must_make("c", MIB, 2 * MIB);
	for (off_t at = 0; at < end; at += 1 + at % 7) {
		flip(at, (unsigned char)(1u << at % 8));
		reopen();
		for (const char *name = "abc"; *name; name++) {
			char text[2] = { *name, '\0' };
			struct spm_slice_record r;

			ck_assert_msg(spm_slices_find(t, text) != NULL, "%s, byte %lld", text, (long long)at);
			ck_assert(spm_slices_record(t, spm_slices_find(t, text)->id, &r));
			ck_assert_uint_eq(r.limits.max, 2 * MIB);
		}
		laws();
	}
	/* both copies of b */
	flip((off_t)(offsetof(struct spm_slices_file, entry[2].copy[0].limits)), 4);
	flip((off_t)(offsetof(struct spm_slices_file, entry[2].copy[1].limits)), 4);
	reopen();
	ck_assert_ptr_null(spm_slices_find(t, "b"));
	ck_assert_ptr_nonnull(spm_slices_find(t, "c"));
	ck_assert_uint_ge(t->lost, MIB);
	laws();
	must_make("d", MIB, 2 * MIB);
	ck_assert_uint_eq(spm_slices_find(t, "d")->id, 4);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("slices");
	TCase *tc = tcase_create("slices");

	/* each test in a process, and so a namespace, of its own */
	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, refusals);
	tcase_add_test(tc, found);
	tcase_add_test(tc, grants);
	tcase_add_test(tc, root_grows);
	tcase_add_test(tc, promises);
	tcase_add_test(tc, removal);
	tcase_add_test(tc, deaths);
	tcase_add_test(tc, damage);
	suite_add_tcase(s, tc);
	return spm_unit_run(s);
}
