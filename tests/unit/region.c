/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File handles, leases, commit and placement on a real tmpfs (core/). Needs root: mounts in a namespace of its own. */
#include "core/commit.h"
#include "core/extents.h"
#include "core/lease.h"
#include "core/placement.h"
#include "core/region.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MIB (1u << 20)

static struct spm_slice slice;

static void set_up(void)
{
	struct spm_slice_opts o = { .size_bytes = 8 * MIB, .mode = 0751, .uid = 11, .gid = 12 };
	struct spm_error e = { "" };

	signal(SIGIO, SIG_IGN);
	ck_assert_msg(!spm_region_enter_new(&e), "%s", e.text);
	ck_assert_msg(spm_region_create("mem:8M", 8 * MIB, &o, &slice, &e) >= 0, "%s", e.text);
}

static int make(const char *name)
{
	int fd = openat(slice.data_fd, name, O_CREAT | O_RDWR | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(top_directory)
{
	struct stat st;

	ck_assert_int_eq(fstat(slice.data_fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0751);
	ck_assert_uint_eq(st.st_uid, 11);
	ck_assert_uint_eq(st.st_gid, 12);
}
END_TEST

/* The namespace holds the region and /proc, nothing of the host's. */
START_TEST(nothing_of_the_host)
{
	FILE *f = fopen("/proc/self/mountinfo", "r");
	char line[1024];

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		char where[256];

		ck_assert_int_eq(sscanf(line, "%*d %*d %*s %*s %255s", where), 1);
		ck_assert(!strcmp(where, "/") || !strcmp(where, SPM_REGION_DIR) || !strncmp(where, "/proc", 5));
	}
	fclose(f);
}
END_TEST

START_TEST(handles)
{
	struct spm_handle h, of_fd;
	int fd = make("f"), again;

	ck_assert_int_eq(spm_handle_at(slice.data_fd, "f", &h), 0);
	ck_assert_int_eq(spm_handle_at(fd, "", &of_fd), 0);
	ck_assert_mem_eq(&h, &of_fd, sizeof(h));
	ck_assert_int_eq(write(fd, "x", 1), 1);
	close(fd);
	again = spm_handle_open(slice.mount_fd, &h, O_RDWR);
	ck_assert_int_ge(again, 0);
	close(again);
	ck_assert_int_eq(unlinkat(slice.data_fd, "f", 0), 0);
	ck_assert_int_eq(spm_handle_open(slice.mount_fd, &h, O_RDWR), -ESTALE);
	ck_assert_int_eq(spm_handle_at(slice.data_fd, "none", &h), -ENOENT);
}
END_TEST

START_TEST(lease_sees_mappings)
{
	int fd = make("f"), other;
	void *p;

	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	ck_assert_int_eq(spm_lease_probe(slice.mount_fd), 0);
	ck_assert_int_eq(spm_lease_test(fd), SPM_LEASE_FREE);
	other = openat(slice.data_fd, "f", O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(spm_lease_test(fd), SPM_LEASE_BUSY);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	close(other);
	ck_assert_int_eq(spm_lease_test(fd), SPM_LEASE_BUSY);
	munmap(p, 4096);
	ck_assert_int_eq(spm_lease_test(fd), SPM_LEASE_FREE);
}
END_TEST

START_TEST(commit)
{
	int fd = make("f");
	struct stat st;

	ck_assert_int_eq(ftruncate(fd, 4 * MIB), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(spm_commit_missing(&st), 4 * MIB);
	ck_assert_int_eq(spm_commit_range(&slice, fd, 0, 4 * MIB), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(spm_commit_missing(&st), 0);
	/* all or nothing, and the size is not touched */
	ck_assert_int_eq(spm_commit_range(&slice, fd, 4 * MIB, 12 * MIB), -ENOSPC);
	ck_assert_int_eq(spm_commit_range(&slice, fd, 0, UINT64_MAX), -EFBIG);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, 4 * MIB);
	ck_assert_uint_eq((uint64_t)st.st_blocks * 512, 4 * MIB);
}
END_TEST

START_TEST(huge_pages_are_counted)
{
	int fd = make("f");
	uint64_t huge = 1;
	int rc;

	ck_assert_int_eq(ftruncate(fd, 6 * MIB), 0);
	rc = spm_extents_huge(fd, 6 * MIB, &huge);
	if (rc == -ENOTTY)
		return; /* before Linux 6.7 */
	ck_assert_int_eq(rc, 0);
	ck_assert_uint_eq(huge, 0);
	ck_assert_int_eq(spm_commit_range(&slice, fd, 2 * MIB, 4 * MIB), 0);
	ck_assert_int_eq(pwrite(fd, "x", 1, 2 * MIB), 1);
	ck_assert_int_eq(spm_extents_huge(fd, 6 * MIB, &huge), 0);
	/* huge or not is the kernel's to say; holes stay holes whatever it says */
	ck_assert(huge == 0 || huge == 2 * MIB);
	struct stat st;
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_blocks * 512, 2 * MIB);
}
END_TEST

START_TEST(placement)
{
	struct spm_nodes here = { { 0 } }, elsewhere = { { 0 } };
	uint64_t at = 0, foreign = 0;
	int fd = make("f");

	spm_nodes_set(&here, 0);
	spm_nodes_set(&elsewhere, 700);
	ck_assert_int_eq(ftruncate(fd, 3 * MIB), 0);
	ck_assert_int_eq(pwrite(fd, "x", 1, 1 * MIB), 1);
	ck_assert_int_eq(spm_placement_check(fd, 3 * MIB, &elsewhere, &at, &foreign), 0);
	ck_assert_uint_ge(foreign, 1);
	ck_assert_uint_gt(at, 1 * MIB);
	while (at < 3 * MIB)
		ck_assert_int_eq(spm_placement_check(fd, 3 * MIB, &here, &at, &foreign), 0);
	ck_assert_uint_eq(at, 3 * MIB);
}
END_TEST

START_TEST(resize)
{
	struct statvfs sv;
	int fd = make("f");

	ck_assert_int_eq(spm_commit_range(&slice, fd, 0, 4 * MIB), 0);
	ck_assert_int_eq(spm_slice_resize(&slice, 2 * MIB), -EBUSY);
	ck_assert_int_eq(spm_slice_resize(&slice, 6 * MIB), 0);
	ck_assert_int_eq(spm_slice_statfs(&slice, &sv), 0);
	ck_assert_uint_eq((uint64_t)sv.f_blocks * sv.f_frsize, 6 * MIB);
}
END_TEST

START_TEST(orphans)
{
	char name[SPM_ORPHAN_NAME_LEN];

	spm_slice_orphan_name(UINT64_MAX, name);
	ck_assert_str_eq(name, "ffffffffffffffff");
	spm_slice_orphan_name(255, name);
	close(openat(slice.orphans_fd, name, O_CREAT | O_RDWR, 0600));
	ck_assert_int_eq(mkdirat(slice.orphans_fd, "d", 0700), 0);
	ck_assert_int_eq(spm_slice_orphan_remove(&slice, 255, true), -ENOTDIR);
	ck_assert_int_eq(spm_slice_orphan_remove(&slice, 255, false), 0);
	ck_assert_int_eq(spm_slice_orphan_remove(&slice, 255, false), -ENOENT);
	ck_assert_int_eq(spm_slice_orphans_clear(&slice, NULL, NULL), 0);
	ck_assert_int_eq(unlinkat(slice.orphans_fd, "d", AT_REMOVEDIR), -1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("region");
	TCase *t = tcase_create("region");

	/* each test in a process, and so a namespace, of its own */
	tcase_add_unchecked_fixture(t, NULL, NULL);
	tcase_add_checked_fixture(t, set_up, NULL);
	tcase_add_test(t, top_directory);
	tcase_add_test(t, nothing_of_the_host);
	tcase_add_test(t, handles);
	tcase_add_test(t, lease_sees_mappings);
	tcase_add_test(t, commit);
	tcase_add_test(t, huge_pages_are_counted);
	tcase_add_test(t, placement);
	tcase_add_test(t, resize);
	tcase_add_test(t, orphans);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
