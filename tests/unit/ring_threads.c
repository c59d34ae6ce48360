/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The I/O engine (core/ring.h) with many threads, with threads that leave, and killed. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include "tests/unit/ring.h"

struct worker {
	struct spm_ring *r;
	unsigned int id;
	bool ok;
};

#define WORKERS   4
#define WORKER_IO 10000u
#define WORKER_AT 64u /* in flight at once */

/* Writes and reads back blocks of its own, in batches of 1 to 7, some linked. */
static void *work(void *arg)
{
	struct worker *w = arg;
	struct one o[WORKER_AT];
	char *buf = new_pages(WORKER_AT * BLOCK);
	struct spm_io *batch[WORKER_AT];
	struct spm_ioq q;
	unsigned int n = 0, done = 0;

	spm_ioq_init(&q);
	w->ok = true;
	for (unsigned int round = 0; n < WORKER_IO; round++) {
		enum spm_io_op op = round % 2 ? SPM_IO_READ : SPM_IO_WRITE;

		for (unsigned int i = 0; i < WORKER_AT; i++) {
			uint64_t at = (uint64_t)(w->id * WORKER_AT + i) * BLOCK;

			if (op == SPM_IO_WRITE)
				stamp((uint64_t *)(buf + i * BLOCK), BLOCK, round + 1, at);
			batch[i] = make(&o[i], op, (w->id + i) % 2, buf + i * BLOCK, BLOCK, at);
			batch[i]->link = i % 5 == 2;
		}
		for (unsigned int i = 0, k; i < WORKER_AT; i += k) {
			k = 1 + (round + i) % 7 < WORKER_AT - i ? 1 + (round + i) % 7 : WORKER_AT - i;
			spm_ring_submit(w->r, &q, batch + i, k);
		}
		n += WORKER_AT;
		done += ended(&q, 0);
		for (unsigned int i = 0; op == SPM_IO_READ && i < WORKER_AT; i++)
			w->ok = w->ok && is_stamped((uint64_t *)(buf + i * BLOCK), BLOCK, round,
						    (uint64_t)(w->id * WORKER_AT + i) * BLOCK);
		if (op == SPM_IO_WRITE)
			memset(buf, 0, WORKER_AT * BLOCK);
	}
	w->ok = w->ok && n == done;
	spm_ioq_destroy(&q);
	munmap(buf, WORKER_AT * BLOCK);
	return NULL;
}

START_TEST(threads)
{
	int fds[2] = { new_file((enum kind)_i, 0), new_file((enum kind)_i, 0) };
	struct spm_ring *r = new_ring(fds, 2, 16);
	struct worker w[WORKERS];
	pthread_t t[WORKERS];

	for (unsigned int i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){ .r = r, .id = i };
		ck_assert_int_eq(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	for (unsigned int i = 0; i < WORKERS; i++) {
		pthread_join(t[i], NULL);
		ck_assert(w[i].ok);
	}
	spm_ring_close(r);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

struct leaver {
	struct spm_ring *r;
	struct spm_ioq *q;
	struct spm_io **ios;
	unsigned int n;
};

static void *submit_and_leave(void *arg)
{
	const struct leaver *l = arg;

	spm_ring_submit(l->r, l->q, l->ios, l->n);
	return NULL;
}

/* A thread that ends takes nothing with it: without O_DIRECT the kernel works by helpers of that thread. */
START_TEST(submitter_leaves)
{
	enum { N = 64, LEN = 64 * BLOCK };
	int fd = new_file(DISK, 0);
	struct spm_ring *r = new_ring(&fd, 1, 64);
	struct one o[N];
	struct spm_io *ios[N];
	char *buf = new_pages((size_t)N * LEN);
	struct spm_ioq q;
	struct leaver l = { r, &q, ios, N };
	pthread_t t;

	spm_ioq_init(&q);
	if (_i % 2)
		ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
	for (unsigned int pass = 0; pass < 2; pass++) {
		for (unsigned int i = 0; i < N; i++)
			make(&o[i], pass ? SPM_IO_READ : SPM_IO_WRITE, 0, buf + (size_t)i * LEN, LEN, (uint64_t)i * LEN);
		for (unsigned int i = 0; i < N; i++)
			ios[i] = &o[i].io;
		stamp((uint64_t *)buf, (size_t)N * LEN, pass ? 9 : 3, 0);
		ck_assert_int_eq(pthread_create(&t, NULL, submit_and_leave, &l), 0);
		pthread_join(t, NULL);
		ck_assert_uint_eq(ended(&q, 0), N);
		ck_assert_int_eq(fsync(fd), 0);
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	ck_assert(is_stamped((uint64_t *)buf, (size_t)N * LEN, 3, 0));
	spm_ioq_destroy(&q);
	spm_ring_close(r);
	munmap(buf, (size_t)N * LEN);
	close(fd);
}
END_TEST

/* ---- killed ---- */

enum { KILLED_IOS = 128, KILLED_LEN = 1 << 17 };

static bool write_to(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Where it can be had, a cgroup whose writes to the disk of @fd are slow: the dead's come late for sure. */
static bool slow_group(int fd, char *dir, size_t len)
{
	char limit[64];
	struct stat st;
	int at;

	snprintf(dir, len, "/sys/fs/cgroup/blkio/spmfs-ring-%d", getpid());
	if (fstat(fd, &st) || mkdir(dir, 0700))
		return false;
	snprintf(limit, sizeof(limit), "%u:%u %u", major(st.st_dev), minor(st.st_dev), 32u << 20);
	at = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (at >= 0 && write_to(at, "blkio.throttle.write_bps_device", limit))
		return close(at) == 0;
	if (at >= 0)
		close(at);
	rmdir(dir);
	return false;
}

/* Locks, fills the kernel with writes, says so, and waits for the end. */
static void be_killed(int file, const char *lock_path, const char *group, int ready)
{
	static struct one o[KILLED_IOS];
	struct spm_io *ios[KILLED_IOS];
	int fds[2] = { file, open(lock_path, O_RDWR | O_CLOEXEC) };
	char *buf = new_pages(KILLED_LEN);
	struct spm_ioq q;
	struct spm_ring *r;

	if (group && !write_to(AT_FDCWD, group, "0"))
		_exit(1);
	if (fds[1] < 0 || flock(fds[1], LOCK_EX) || spm_ring_open(&r, fds, 2, KILLED_IOS))
		_exit(1);
	spm_ioq_init(&q);
	memset(buf, 'o', KILLED_LEN);
	for (unsigned int i = 0; i < KILLED_IOS; i++)
		ios[i] = make(&o[i], SPM_IO_WRITE, 0, buf, KILLED_LEN, (uint64_t)i * KILLED_LEN);
	spm_ring_submit(r, &q, ios, KILLED_IOS);
	(void)!write(ready, "x", 1);
	for (;;)
		pause();
}

static void write_all(int file, char *buf, char c)
{
	memset(buf, c, KILLED_LEN);
	for (unsigned int i = 0; i < KILLED_IOS; i++)
		ck_assert_int_eq(pwrite(file, buf, KILLED_LEN, (off_t)i * KILLED_LEN), KILLED_LEN);
}

static void check_all(int file, char *buf, char c)
{
	for (unsigned int i = 0; i < KILLED_IOS; i++) {
		ck_assert_int_eq(pread(file, buf, KILLED_LEN, (off_t)i * KILLED_LEN), KILLED_LEN);
		ck_assert_msg(buf[0] == c && !memcmp(buf, buf + 1, KILLED_LEN - 1), "write %u of the dead", i);
	}
}

/* A lock on a file that only the dead had open says when its last write has ended: none comes after that. */
START_TEST(lock_outlives_io)
{
	char path[] = "ring-XXXXXX", c, *buf = new_pages(KILLED_LEN), group[64], procs[80];
	int file = new_file(DISK, (off_t)KILLED_IOS * KILLED_LEN), lock = mkstemp(path), ready[2];
	bool slow = slow_group(file, group, sizeof(group));
	pid_t pid;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", group);
	/* written before, as a slot is that was in use: the first write to a block is ordered by the filesystem */
	write_all(file, buf, '-');
	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (!pid)
		be_killed(file, path, slow ? procs : NULL, ready[1]);
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	unlink(path);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(flock(lock, LOCK_EX), 0);
	write_all(file, buf, 'n');
	/* twice the time that the slow ones need */
	for (unsigned int i = 0; i < (slow ? 10 : 1); i++) {
		check_all(file, buf, 'n');
		usleep(100000);
	}
	check_all(file, buf, 'n');
	if (slow)
		rmdir(group);
	close(lock);
	close(file);
	munmap(buf, KILLED_LEN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring-threads");
	TCase *t = tcase_create("ring-threads");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, threads, 0, KINDS);
	tcase_add_loop_test(t, submitter_leaves, 0, 10);
	tcase_add_test(t, lock_outlives_io);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
