/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that the device has lost: the file that stands in for it is cut short, which is a SIGBUS as well.
 * With SPM_TEST_POISON set the kernel also poisons a page of it (MADV_HWPOISON: SIGBUS with BUS_MCEERR_AR),
 * which this machine then misses until it boots (tests/vm/pool-poison.sh).
 */
#include "tests/unit/pool.h"

#include <signal.h>
#include <sys/wait.h>

#define EXTENT  (64 * KIB)
#define EXTENTS 32u

static const struct spm_pool_file one = { .ino = 11, .slice = 0 }, two = { .ino = 12, .slice = 5 };

struct told {
	struct spm_pool_file f;
	uint64_t file_offset, offset;
	int times;
	struct spm_pool_label label; /* of the device */
};

static void poisoned(void *ctx, const struct spm_pool_file *f, uint64_t file_offset, uint64_t offset)
{
	struct told *t = ctx;

	t->f = *f;
	t->file_offset = file_offset;
	t->offset = offset;
	t->times++;
}

/* The device loses what is from that extent on. */
static void cut(struct pool_rig *r, uint32_t d)
{
	ck_assert_int_eq(ftruncate(r->dev.fd, (off_t)(d * EXTENT + 8192)), 0);
}

/* All is there again, the label as it was. */
static void mend(struct pool_rig *r, const struct told *t)
{
	ck_assert_int_eq(ftruncate(r->dev.fd, (off_t)r->dev.bytes), 0);
	ck_assert_int_eq(pwrite(r->dev.fd, &t->label, sizeof(t->label), (off_t)r->p->header->label_at),
			 sizeof(t->label));
}

static uint32_t extent_of(struct pool_rig *r, const struct spm_pool_file *f, uint64_t e)
{
	uint32_t d;

	ck_assert_int_eq(spm_pool_find(r->p, spm_pool_whose(f), e, &d), 0);
	return d;
}

/* A pool of which one file has all; its last extent is the device's last as well. */
static void make_full(struct pool_rig *r, struct told *t)
{
	struct spm_pool_opts o = { .poisoned = poisoned, .ctx = t };
	uint8_t buf[EXTENT];

	memset(t, 0, sizeof(*t));
	rig_make(r, EXTENTS * EXTENT + 4096, EXTENT);
	rig_again(r, &o);
	ck_assert_int_eq(pread(r->dev.fd, &t->label, sizeof(t->label), (off_t)r->p->header->label_at),
			 sizeof(t->label));
	for (uint64_t e = 0; e < EXTENTS; e++) {
		memset(buf, 1 + (int)e, sizeof(buf));
		ck_assert_int_eq(spm_pool_write(r->p, &one, buf, EXTENT, e * EXTENT), EXTENT);
	}
	ck_assert_uint_eq(extent_of(r, &one, EXTENTS - 1), EXTENTS - 1);
}

START_TEST(one_extent_is_lost)
{
	const uint64_t last = (EXTENTS - 1) * EXTENT;
	struct spm_pool_held h;
	struct pool_rig r;
	struct told t;
	uint8_t buf[2 * EXTENT];

	make_full(&r, &t);
	cut(&r, EXTENTS - 1);
	/* what is whole of it is read until somebody meets the rest */
	ck_assert_int_eq(spm_pool_read(r.p, &one, buf, 4096, last), 4096);
	ck_assert_int_eq(spm_pool_read(r.p, &one, buf, 2 * EXTENT, last - EXTENT), EXTENT);
	ck_assert_int_eq(t.times, 1);
	ck_assert(t.f.ino == one.ino && t.file_offset == last && t.offset == last);
	mend(&r, &t);
	/* from then on it is lost, for good */
	ck_assert_int_eq(spm_pool_read(r.p, &one, buf, 1, last), -EIO);
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, 1, last + 9), -EIO);
	ck_assert_int_eq(spm_pool_zero(r.p, &one, last, last + 1), -EIO);
	ck_assert_int_eq(spm_pool_copy(r.p, &one, last, &two, 0, 100), -EIO);
	ck_assert_int_eq(spm_pool_punch(r.p, &one, last + 4096, UINT64_MAX), -EIO);
	ck_assert_int_eq(spm_pool_seek(r.p, &one, (off_t)last, SEEK_DATA, last + EXTENT), (off_t)last);
	ck_assert_uint_eq(spm_pool_file_bytes(r.p, &one), EXTENTS * EXTENT);
	ck_assert_uint_eq(rig_stats(&r).bad_bytes, EXTENT);
	rig_again(&r, NULL);
	ck_assert_int_eq(spm_pool_read(r.p, &one, buf, 1, last), -EIO);
	ck_assert_int_eq(spm_pool_read(r.p, &one, buf, EXTENT, last - EXTENT), EXTENT);
	ck_assert_uint_eq(buf[EXTENT - 1], EXTENTS - 1);
	/* until the file gives it up; then it is nobody's any more */
	spm_pool_lock(r.p, &one, SPM_POOL_EXCLUSIVE, &h);
	ck_assert_int_eq(spm_pool_punch(r.p, &one, last, UINT64_MAX), 0);
	spm_pool_unlock(&h);
	ck_assert_int_eq(spm_pool_read(r.p, &one, buf, 1, last), 1);
	ck_assert_uint_eq(buf[0], 0);
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, 1, last), -ENOSPC);
	ck_assert_uint_eq(rig_stats(&r).retired_bytes, EXTENT);
	ck_assert_uint_eq(rig_stats(&r).bytes, (EXTENTS - 1) * EXTENT);
	rig_again(&r, NULL);
	ck_assert_uint_eq(rig_stats(&r).retired_bytes, EXTENT);
	ck_assert_int_eq(spm_pool_write(r.p, &one, buf, 1, last), -ENOSPC);
	rig_end(&r);
}
END_TEST

/* While it is being written, zeroed, taken, or moved. */
START_TEST(lost_in_the_making)
{
	struct spm_pool_compact c = { .bps = 0 };
	struct pool_rig r;
	struct told t;
	uint8_t buf[EXTENT];

	make_full(&r, &t);
	/* free extents 0, 1, 2, 30 and 31, of which 31 is lost: zeroing meets it */
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 0, 3 * EXTENT), 0);
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 30 * EXTENT, UINT64_MAX), 0);
	cut(&r, EXTENTS - 1);
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, 4 * EXTENT, NULL, NULL), 0);
	ck_assert_int_eq(t.times, 0);
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, 5 * EXTENT, NULL, NULL), -ENOSPC);
	ck_assert_int_eq(t.times, 1);
	ck_assert_uint_eq(t.f.ino, 0);
	ck_assert_uint_eq(rig_stats(&r).retired_bytes, EXTENT);
	/* 30 cannot be read where it is to be moved from */
	ck_assert_uint_eq(extent_of(&r, &two, 3), 30);
	ck_assert_int_eq(spm_pool_punch(r.p, &two, 0, 3 * EXTENT), 0);
	cut(&r, 30);
	ck_assert_int_eq(spm_pool_compact(r.p, &c), 0);
	ck_assert_int_eq(t.times, 2);
	ck_assert_uint_eq(t.f.ino, two.ino);
	ck_assert_uint_eq(t.file_offset, 3 * EXTENT);
	ck_assert_int_eq(spm_pool_read(r.p, &two, buf, 1, 3 * EXTENT), -EIO);
	/* all others were moved, and are whole */
	mend(&r, &t);
	ck_assert_uint_eq(spm_pool_free_run(r.p), 3 * EXTENT);
	for (uint64_t e = 3; e < 30; e++) {
		ck_assert_int_eq(spm_pool_read(r.p, &one, buf, EXTENT, e * EXTENT), EXTENT);
		ck_assert(buf[0] == 1 + e && buf[EXTENT - 1] == 1 + e);
	}
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

START_TEST(real_poison)
{
	struct pool_rig r;
	struct told t;
	uint8_t buf[EXTENT];

	make_full(&r, &t);
	ck_assert_int_eq(madvise((uint8_t *)spm_pool_address(r.p, 17) + 8192, 4096, MADV_HWPOISON), 0);
	ck_assert_int_eq(spm_pool_read(r.p, &one, buf, EXTENT, 17 * EXTENT), -EIO);
	ck_assert_int_eq(t.times, 1);
	ck_assert_uint_eq(t.file_offset, 17 * EXTENT);
	for (uint64_t e = 0; e < EXTENTS; e++)
		ck_assert_int_eq(spm_pool_read(r.p, &one, buf, EXTENT, e * EXTENT), e == 17 ? -EIO : (int)EXTENT);
	spm_pool_remove(r.p, &one);
	ck_assert_uint_eq(rig_stats(&r).retired_bytes, EXTENT);
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, EXTENTS * EXTENT, NULL, NULL), -ENOSPC);
	ck_assert_int_eq(spm_pool_commit(r.p, &two, 0, (EXTENTS - 1) * EXTENT, NULL, NULL), 0);
	rig_end(&r);
}
END_TEST

/* Poison that the kernel tells of before anybody meets it here, found by itself or in a system call: the signal as it would
 * come. */
START_TEST(told_in_advance)
{
	siginfo_t info = { .si_signo = SIGBUS, .si_code = _i ? BUS_MCEERR_AR : BUS_MCEERR_AO };
	struct spm_pool_stats st;
	struct pool_rig r;
	struct told t;
	struct sigaction a;
	uint8_t byte;

	make_full(&r, &t);
	ck_assert_int_eq(spm_pool_punch(r.p, &one, 30 * EXTENT, UINT64_MAX), 0);
	ck_assert_int_eq(sigaction(SIGBUS, NULL, &a), 0);
	info.si_addr = (uint8_t *)spm_pool_address(r.p, 9) + 5000;
	a.sa_sigaction(SIGBUS, &info, NULL);
	info.si_addr = (uint8_t *)spm_pool_address(r.p, 31);
	a.sa_sigaction(SIGBUS, &info, NULL);
	ck_assert_int_eq(spm_pool_start(r.p), 0);
	st = rig_stats(&r);
	for (int n = 0; st.bad_bytes + st.retired_bytes < 2 * EXTENT; n++) {
		ck_assert_int_lt(n, 60000);
		usleep(1000);
		st = rig_stats(&r);
	}
	spm_pool_stop(r.p);
	ck_assert_int_eq(t.times, 2);
	ck_assert_uint_eq(st.bad_bytes, EXTENT);
	ck_assert_int_eq(spm_pool_read(r.p, &one, &byte, 1, 9 * EXTENT), -EIO);
	ck_assert_int_eq(spm_pool_read(r.p, &one, &byte, 1, 8 * EXTENT), 1);
	rig_audit(r.p);
	rig_end(&r);
}
END_TEST

static void mine(int sig)
{
	(void)sig;
	_exit(42);
}

/* A SIGBUS that has nothing to do with the pool ends the process, or goes to who was there before. */
START_TEST(other_faults_are_not_ours)
{
	struct sigaction a = { .sa_handler = _i ? mine : SIG_DFL };
	int fd = memfd_create("elsewhere", MFD_CLOEXEC), status;
	struct pool_rig r;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		volatile uint8_t *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

		sigaction(SIGBUS, &a, NULL);
		rig_make(&r, 8 * EXTENT, EXTENT);
		_exit(at[0]);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (_i)
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	else
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	close(fd);
}
END_TEST

void add_poison_tests(Suite *s)
{
	TCase *t = tcase_create("poison");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, one_extent_is_lost);
	tcase_add_test(t, lost_in_the_making);
	if (getenv("SPM_TEST_POISON"))
		tcase_add_test(t, real_poison);
	tcase_add_loop_test(t, told_in_advance, 0, 2);
	tcase_add_loop_test(t, other_faults_are_not_ours, 0, 2);
	suite_add_tcase(s, t);
}
