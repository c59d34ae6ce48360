/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O engine (core/ring.h). Its source is taken in here, so that the kernel can be made to refuse
 * batches and to come back with less than all: with files alone neither can be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>

static int test_submit(struct io_uring *uring);
static unsigned int test_peek(struct io_uring *uring, struct io_uring_cqe **cqes, unsigned int n);
#define io_uring_submit         test_submit
#define io_uring_peek_batch_cqe test_peek
#include "core/ring.c"
#undef io_uring_submit
#undef io_uring_peek_batch_cqe

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "tests/unit/ring.h"

/* Answers to the next calls: an errno, so many times; and whether completions are tampered with. */
static _Atomic int refuse_with, refusals;
static _Atomic bool tamper;
static _Atomic int forced[8]; /* answers to the next I/Os, 0: as it went */
static _Atomic int always;    /* the answer to all, 0: as it went */
static _Atomic unsigned int next_forced = SPM_ARRAY_SIZE(forced);
static _Atomic unsigned int submits, tampered;

static int test_submit(struct io_uring *uring)
{
	submits++;
	if (refusals > 0) {
		refusals--;
		return -refuse_with;
	}
	return io_uring_submit(uring);
}

/* What is done again has the same effect, so any answer may be made a smaller one. */
static unsigned int test_peek(struct io_uring *uring, struct io_uring_cqe **cqes, unsigned int n)
{
	static const int passing[] = { -EAGAIN, -EINTR, -ECANCELED, -EFAULT, -ENOMEM };
	static unsigned int turn;
	unsigned int got = io_uring_peek_batch_cqe(uring, cqes, n);

	for (unsigned int i = 0; i < got && next_forced < SPM_ARRAY_SIZE(forced); i++, next_forced++)
		if (forced[next_forced])
			cqes[i]->res = forced[next_forced];
	for (unsigned int i = 0; always && i < got; i++)
		cqes[i]->res = always;
	for (unsigned int i = 0; tamper && i < got; i++) {
		if (cqes[i]->user_data >= DATA_STOP || ++turn % 3 == 0)
			continue;
		tampered++;
		if (turn % 3 == 1)
			cqes[i]->res = passing[turn / 3 % SPM_ARRAY_SIZE(passing)];
		else if (cqes[i]->res > (int)BLOCK)
			cqes[i]->res = (int)((unsigned int)cqes[i]->res / 2 / 512 * 512);
	}
	return got;
}

/* ---- transfers ---- */

/* Many pieces of odd lengths, in one request. */
START_TEST(vectors)
{
	enum { N = 200 };
	int fd = new_file((enum kind)_i, 0);
	struct spm_ring *r = new_ring(&fd, 1, 8);
	struct iovec w[N], rd[N];
	struct spm_io io = { .op = SPM_IO_WRITE, .iov = w, .iovs = N, .offset = BLOCK };
	size_t bytes = 0;
	char *a, *b;

	for (unsigned int i = 0; i < N; i++)
		bytes += BLOCK * (1 + i % 3);
	a = new_pages(bytes);
	b = new_pages(bytes);
	stamp((uint64_t *)a, bytes, 1, 0);
	for (unsigned int i = 0, at = 0; i < N; at += (unsigned int)w[i++].iov_len)
		rd[i].iov_len = w[i].iov_len = BLOCK * (1 + i % 3), w[i].iov_base = a + at, rd[i].iov_base = b + at;
	tamper = true;
	ck_assert_int_eq(run(r, &io), 0);
	io = (struct spm_io){ .op = SPM_IO_SYNC };
	ck_assert_int_eq(run(r, &io), 0);
	io = (struct spm_io){ .op = SPM_IO_READ, .iov = rd, .iovs = N, .offset = BLOCK };
	ck_assert_int_eq(run(r, &io), 0);
	tamper = false;
	ck_assert_uint_gt(tampered, 0);
	ck_assert(is_stamped((uint64_t *)b, bytes, 1, 0));
	spm_ring_close(r);
	munmap(a, bytes);
	munmap(b, bytes);
	close(fd);
}
END_TEST

START_TEST(ends_of_files)
{
	int fd = new_file((enum kind)_i, 3 * BLOCK + 512);
	struct spm_ring *r = new_ring(&fd, 1, 4);
	char *buf = new_pages(8 * BLOCK);
	struct one o;

	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, 3 * BLOCK, 0)), 0);
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, 4 * BLOCK, 0)), -EIO);
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, BLOCK, 100 * BLOCK)), -EIO);
	ck_assert_int_eq(ftruncate(fd, 3 * BLOCK + 100), 0);
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, 4 * BLOCK, 0)), -EIO);
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, 0, 0)), 0);
	spm_ring_close(r);
	munmap(buf, 8 * BLOCK);
	close(fd);
}
END_TEST

/* After an odd end some filesystems call the rest misaligned; what is so from the start is no end of a file. */
START_TEST(odd_end)
{
	int fd = new_file(MEMORY, 4 * BLOCK);
	struct spm_ring *r = new_ring(&fd, 1, 4);
	char *buf = new_pages(4 * BLOCK);
	struct one o;

	forced[0] = 3 * BLOCK + 100;
	forced[1] = -EINVAL;
	next_forced = 0;
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, 4 * BLOCK, 0)), -EIO);
	ck_assert_uint_eq(next_forced, 2);
	next_forced = 1;
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, 4 * BLOCK, 0)), -EINVAL);
	next_forced = SPM_ARRAY_SIZE(forced);
	spm_ring_close(r);
	munmap(buf, 4 * BLOCK);
	close(fd);
}
END_TEST

START_TEST(bad_requests)
{
	int fds[2] = { new_file(MEMORY, 8 * BLOCK), open("/dev/null", O_RDONLY | O_CLOEXEC) };
	struct spm_ring *r = new_ring(fds, 2, 4), *none = NULL;
	char *buf = new_pages(BLOCK);
	struct one o;

	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 2, buf, BLOCK, 0)), -EBADF);
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 1000000, buf, BLOCK, 0)), -EBADF);
	ck_assert_int_eq(run(r, make(&o, SPM_IO_WRITE, 1, buf, BLOCK, 0)), -EBADF);
	munmap(buf, BLOCK);
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, BLOCK, 0)), -EFAULT);
	spm_ring_close(r);
	ck_assert_int_eq(spm_ring_open(&none, fds, 2, 0), -EINVAL);
	ck_assert_int_eq(spm_ring_open(&none, fds, 2, 1025), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	ck_assert_int_eq(spm_ring_open(&none, fds, 2, 4), -EBADF);
	ck_assert_ptr_null(none);
}
END_TEST

/* 300 at once where 4 fit; what is submitted comes back once each, and in order of submission it went. */
START_TEST(more_than_depth)
{
	enum { N = 300 };
	int fd = new_file((enum kind)_i, 0);
	struct spm_ring *r = new_ring(&fd, 1, 4);
	struct one *o = calloc(N, sizeof(*o));
	struct spm_io *ios[N];
	uint64_t *buf = new_pages(N * BLOCK);
	struct spm_ioq q;

	spm_ioq_init(&q);
	for (unsigned int pass = 0; pass < 2; pass++) {
		for (unsigned int i = 0; i < N; i++) {
			char *p = (char *)buf + i * BLOCK;

			if (!pass)
				stamp((uint64_t *)p, BLOCK, 5, i * BLOCK);
			ios[i] = make(&o[i], pass ? SPM_IO_READ : SPM_IO_WRITE, 0, p, BLOCK, i * BLOCK);
		}
		spm_ring_submit(r, &q, ios, N);
		ck_assert_uint_eq(ended(&q, 0), N);
		ck_assert(is_stamped(buf, N * BLOCK, 5, 0));
		memset(buf, 0, N * BLOCK);
	}
	spm_ioq_destroy(&q);
	spm_ring_close(r);
	munmap(buf, N * BLOCK);
	free(o);
	close(fd);
}
END_TEST

/* ---- order ---- */

/* Each link reads what the one before has written, with every answer made smaller; the next batch is no
 * part of the chain. */
START_TEST(links_wait)
{
	enum { N = 40, LEN = 8 * BLOCK };
	int fd = new_file((enum kind)_i, (N + 1) * LEN);
	struct spm_ring *r = new_ring(&fd, 1, _i ? 1 : 16);
	struct one o[2 * N];
	struct spm_io *ios[2 * N];
	char *buf = new_pages((N + 1) * LEN);
	struct spm_ioq q;

	spm_ioq_init(&q);
	stamp((uint64_t *)buf, LEN, 9, 0);
	for (unsigned int i = 0; i < N; i++) {
		ios[2 * i] = make(&o[2 * i], SPM_IO_WRITE, 0, buf + i * LEN, LEN, i * LEN);
		ios[2 * i + 1] = make(&o[2 * i + 1], SPM_IO_READ, 0, buf + (i + 1) * LEN, LEN, i * LEN);
		ios[2 * i]->link = ios[2 * i + 1]->link = true;
	}
	tamper = true;
	spm_ring_submit(r, &q, ios, 2 * N);
	for (unsigned int i = 0; i < 2 * N; i++) {
		struct spm_io *io = spm_ioq_next(&q, true);

		ck_assert_ptr_eq(io, ios[i]);
		ck_assert_int_eq(io->result, 0);
	}
	tamper = false;
	ck_assert(is_stamped((uint64_t *)(buf + N * LEN), LEN, 9, 0));
	spm_ioq_destroy(&q);
	spm_ring_close(r);
	munmap(buf, (N + 1) * LEN);
	close(fd);
}
END_TEST

START_TEST(links_break)
{
	int fd = new_file(MEMORY, 2 * BLOCK);
	struct spm_ring *r = new_ring(&fd, 1, 2);
	char *buf = new_pages(BLOCK);
	struct spm_io *ios[7];
	struct one o[7];
	struct spm_ioq q;

	spm_ioq_init(&q);
	for (unsigned int i = 0; i < 7; i++)
		ios[i] = make(&o[i], SPM_IO_READ, 0, buf, BLOCK, 0);
	/* 0 - 1 (fails) - 2 - 3, then 4 alone, then 5 (fails) - 6 */
	ios[0]->link = ios[1]->link = ios[2]->link = ios[5]->link = true;
	ios[6]->link = true; /* nothing comes after it */
	ios[1]->offset = 2 * BLOCK;
	ios[5]->file = 3;
	spm_ring_submit(r, &q, ios, 7);
	ck_assert_uint_eq(ended(&q, -12345), 0);
	ck_assert_int_eq(ios[0]->result, 0);
	ck_assert_int_eq(ios[1]->result, -EIO);
	ck_assert_int_eq(ios[2]->result, -ECANCELED);
	ck_assert_int_eq(ios[3]->result, -ECANCELED);
	ck_assert_int_eq(ios[4]->result, 0);
	ck_assert_int_eq(ios[5]->result, -EBADF);
	ck_assert_int_eq(ios[6]->result, -ECANCELED);
	spm_ioq_destroy(&q);
	spm_ring_close(r);
	munmap(buf, BLOCK);
	close(fd);
}
END_TEST

/* ---- a pipe holds I/O in the kernel for as long as one likes ---- */

struct held {
	int pipe[2];
	struct spm_ring *r;
	struct spm_ioq q;
	char *buf;
	struct one o[8];
	struct spm_io *ios[8];
};

static void hold(struct held *h, unsigned int depth, unsigned int n)
{
	ck_assert_int_eq(pipe2(h->pipe, O_CLOEXEC), 0);
	h->r = new_ring(h->pipe, 1, depth);
	h->buf = new_pages(8 * BLOCK);
	spm_ioq_init(&h->q);
	for (unsigned int i = 0; i < n; i++)
		h->ios[i] = make(&h->o[i], SPM_IO_READ, 0, h->buf + i * BLOCK, BLOCK, 0);
}

static void let_go(struct held *h)
{
	spm_ioq_destroy(&h->q);
	munmap(h->buf, 8 * BLOCK);
	close(h->pipe[0]);
	close(h->pipe[1]);
}

START_TEST(short_reads_go_on)
{
	struct held h;

	hold(&h, 2, 2);
	h.ios[0]->link = true;
	spm_ring_submit(h.r, &h.q, h.ios, 2);
	for (unsigned int i = 0; i < 2 * BLOCK; i += 64) {
		char part[64];

		memset(part, (int)(i / 64 + 1), sizeof(part));
		ck_assert_int_eq(write(h.pipe[1], part, sizeof(part)), sizeof(part));
	}
	ck_assert_ptr_eq(spm_ioq_next(&h.q, true), h.ios[0]);
	ck_assert_ptr_eq(spm_ioq_next(&h.q, true), h.ios[1]);
	ck_assert_int_eq(h.ios[0]->result | h.ios[1]->result, 0);
	for (unsigned int i = 0; i < 2 * BLOCK; i++)
		ck_assert_msg((unsigned char)h.buf[i] == (unsigned char)(i / 64 + 1), "byte %u", i);
	spm_ring_close(h.r);
	let_go(&h);
}
END_TEST

/* In the kernel, waiting for room, linked: all end, and what others have submitted does not. */
START_TEST(cancel)
{
	char *text = new_pages(BLOCK);
	struct spm_ioq other;
	struct held h;

	hold(&h, 3, 8);
	spm_ioq_init(&other);
	h.ios[1]->link = h.ios[4]->link = true;
	spm_ring_submit(h.r, &other, h.ios, 1);
	spm_ring_submit(h.r, &h.q, h.ios + 1, 6);
	spm_ring_submit(h.r, &other, h.ios + 7, 1);
	ck_assert_ptr_null(spm_ioq_next(&h.q, false));
	spm_ring_cancel(h.r, &h.q);
	ck_assert_uint_eq(ended(&h.q, -ECANCELED), 6);
	ck_assert_ptr_null(spm_ioq_next(&other, false));
	memset(text, 'x', BLOCK);
	for (unsigned int i = 0; i < 2; i++)
		ck_assert_int_eq(write(h.pipe[1], text, BLOCK), BLOCK);
	ck_assert_uint_eq(ended(&other, 0), 2);
	/* nothing there to cancel, and new requests are not meant */
	spm_ring_cancel(h.r, &h.q);
	spm_ring_submit(h.r, &h.q, h.ios + 1, 1);
	ck_assert_int_eq(write(h.pipe[1], text, BLOCK), BLOCK);
	ck_assert_uint_eq(ended(&h.q, 0), 1);
	spm_ring_close(h.r);
	spm_ioq_destroy(&other);
	munmap(text, BLOCK);
	let_go(&h);
}
END_TEST

/* It ended well before the kernel was asked: so it stays, but what is linked to it does not start. */
START_TEST(cancel_late)
{
	struct held h;

	hold(&h, 2, 2);
	h.ios[0]->link = true;
	spm_ring_submit(h.r, &h.q, h.ios, 2);
	pthread_mutex_lock(&h.r->lock);
	h.ios[0]->state |= IO_CANCEL;
	pthread_mutex_unlock(&h.r->lock);
	ck_assert_int_eq(write(h.pipe[1], h.buf, BLOCK), BLOCK);
	ck_assert_uint_eq(ended(&h.q, -ECANCELED), 1);
	ck_assert_int_eq(h.ios[0]->result, 0);
	spm_ring_close(h.r);
	let_go(&h);
}
END_TEST

/* A part that has arrived makes nothing of it. */
START_TEST(cancel_half)
{
	struct held h;
	int left = 1;

	hold(&h, 1, 1);
	spm_ring_submit(h.r, &h.q, h.ios, 1);
	ck_assert_int_eq(write(h.pipe[1], h.buf, 100), 100);
	while (left) {
		ck_assert_int_eq(ioctl(h.pipe[0], FIONREAD, &left), 0);
		sched_yield();
	}
	spm_ring_cancel(h.r, &h.q);
	ck_assert_uint_eq(ended(&h.q, -ECANCELED), 1);
	spm_ring_close(h.r);
	let_go(&h);
}
END_TEST

static void *feed(void *arg)
{
	const struct held *h = arg;
	char b[BLOCK] = { 1 };

	usleep(50000);
	for (unsigned int i = 0; i < 8; i++)
		if (write(h->pipe[1], b, sizeof(b)) != sizeof(b))
			return (void *)h;
	return NULL;
}

START_TEST(close_waits)
{
	struct spm_io *io;
	unsigned int n = 0;
	pthread_t feeder;
	struct held h;
	void *bad;

	hold(&h, 2, 8);
	spm_ring_submit(h.r, &h.q, h.ios, 8);
	ck_assert_int_eq(pthread_create(&feeder, NULL, feed, &h), 0);
	spm_ring_close(h.r);
	while ((io = spm_ioq_next(&h.q, false)))
		n += !io->result;
	ck_assert_uint_eq(n, 8);
	pthread_join(feeder, &bad);
	ck_assert_ptr_null(bad);
	let_go(&h);
}
END_TEST

/* Closed is closed: their filesystem can be unmounted right away, and a lock of theirs is free. */
START_TEST(close_lets_go_of_files)
{
	char path[] = "ring-XXXXXX";
	int fd = mkstemp(path), again = open(path, O_RDWR | O_CLOEXEC);
	struct spm_ring *r = new_ring(&fd, 1, 4);

	unlink(path);
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	close(fd);
	ck_assert_int_eq(flock(again, LOCK_EX | LOCK_NB), -1);
	spm_ring_close(r);
	ck_assert_int_eq(flock(again, LOCK_EX | LOCK_NB), 0);
	close(again);
}
END_TEST

/* ---- a kernel that has no room ---- */

START_TEST(refused_for_a_while)
{
	int fd = new_file(MEMORY, 64 * BLOCK);
	struct spm_ring *r = new_ring(&fd, 1, 4);
	struct one o[20];
	struct spm_io *ios[20];
	char *buf = new_pages(BLOCK);
	struct spm_ioq q;

	spm_ioq_init(&q);
	for (unsigned int i = 0; i < 20; i++)
		ios[i] = make(&o[i], SPM_IO_READ, 0, buf, BLOCK, i * BLOCK);
	refuse_with = _i % 2 ? EAGAIN : EINTR;
	refusals = 50;
	spm_ring_submit(r, &q, ios, 20);
	ck_assert_uint_eq(ended(&q, 0), 20);
	ck_assert_int_eq(refusals, 0);
	spm_ioq_destroy(&q);
	spm_ring_close(r);
	munmap(buf, BLOCK);
	close(fd);
}
END_TEST

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Taken, and then no memory for it: tried again after longer and longer pauses, while others go on. */
START_TEST(short_of_memory)
{
	int fd = new_file(MEMORY, 64 * BLOCK);
	struct spm_ring *r = new_ring(&fd, 1, 4);
	char *buf = new_pages(BLOCK);
	uint64_t from = now_ms();
	struct one o;

	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(forced); i++)
		forced[i] = _i ? -EAGAIN : -ENOMEM;
	submits = 0;
	next_forced = 0;
	ck_assert_int_eq(run(r, make(&o, SPM_IO_READ, 0, buf, BLOCK, 0)), 0);
	ck_assert_uint_eq(submits, 1 + SPM_ARRAY_SIZE(forced));
	/* four at once, then 1, 2, 4 and 8 ms */
	ck_assert_uint_ge(now_ms() - from, 14);
	spm_ring_close(r);
	munmap(buf, BLOCK);
	close(fd);
}
END_TEST

/* For good: an error after about 6 s; or it is cancelled meanwhile, and ends at once. */
START_TEST(short_of_memory_for_good)
{
	static const struct timespec ms = { .tv_nsec = 1000000 };
	int fd = new_file(MEMORY, 64 * BLOCK);
	struct spm_ring *r = new_ring(&fd, 1, 4);
	char *buf = new_pages(BLOCK);
	struct one o[6];
	struct spm_io *ios[6];
	struct spm_ioq q;

	spm_ioq_init(&q);
	for (unsigned int i = 0; i < 6; i++)
		ios[i] = make(&o[i], SPM_IO_READ, 0, buf, BLOCK, i * BLOCK);
	ios[0]->link = true;
	always = -ENOMEM;
	submits = 0;
	spm_ring_submit(r, &q, ios, 6);
	while (_i && submits < 12)
		nanosleep(&ms, NULL);
	if (_i)
		spm_ring_cancel(r, &q);
	if (_i)
		ck_assert_uint_eq(ended(&q, -ECANCELED), 6);
	else
		ck_assert_uint_eq(ended(&q, -ENOMEM), 5);
	ck_assert_int_eq(ios[1]->result, -ECANCELED);
	always = 0;
	ck_assert_int_eq(run(r, make(&o[0], SPM_IO_READ, 0, buf, BLOCK, 0)), 0);
	spm_ioq_destroy(&q);
	spm_ring_close(r);
	munmap(buf, BLOCK);
	close(fd);
}
END_TEST

/* It never gives in: the I/O ends with that error, once each, and the ring works again afterwards. */
START_TEST(refused_for_good)
{
	int fd = new_file(MEMORY, 64 * BLOCK);
	struct spm_ring *r = new_ring(&fd, 1, 8);
	struct one o[12];
	struct spm_io *ios[12];
	char *buf = new_pages(BLOCK);
	struct spm_ioq q;

	spm_ioq_init(&q);
	for (unsigned int i = 0; i < 12; i++)
		ios[i] = make(&o[i], SPM_IO_READ, 0, buf, BLOCK, i * BLOCK);
	ios[0]->link = ios[11]->link = true;
	refuse_with = ENOMEM;
	refusals = 1 << 20;
	spm_ring_submit(r, &q, ios, 12);
	/* 12 chains less one link: 8 and 3 in the ring, each tried 100 times with 1 ms between */
	refusals = 0;
	ck_assert_uint_eq(ended(&q, -ENOMEM), 11);
	ck_assert_int_eq(ios[1]->result, -ECANCELED);
	for (unsigned int i = 0; i < 12; i++)
		ios[i] = make(&o[i], SPM_IO_READ, 0, buf, BLOCK, i * BLOCK);
	spm_ring_submit(r, &q, ios, 12);
	ck_assert_uint_eq(ended(&q, 0), 12);
	spm_ioq_destroy(&q);
	spm_ring_close(r);
	munmap(buf, BLOCK);
	close(fd);
}
END_TEST

/* While something is in the kernel nothing is given up: its end tries again. */
START_TEST(refused_while_busy)
{
	char b[BLOCK] = { 0 };
	struct held h;

	hold(&h, 4, 3);
	spm_ring_submit(h.r, &h.q, h.ios, 1);
	refuse_with = EBUSY;
	refusals = 1;
	submits = 0;
	spm_ring_submit(h.r, &h.q, h.ios + 1, 2);
	ck_assert_uint_eq(submits, 1);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(write(h.pipe[1], b, BLOCK), BLOCK);
	ck_assert_uint_eq(ended(&h.q, 0), 3);
	spm_ring_close(h.r);
	let_go(&h);
}
END_TEST

/* ---- what the ring is for, and what not ---- */

/* Past the engine: a request of another kind, and one on a file that is not registered. */
START_TEST(restricted)
{
	int fd = new_file(MEMORY, BLOCK), rc[2] = { 0, 0 };
	struct io_uring uring;
	struct io_uring_cqe *cqe;
	char b[BLOCK];

	ck_assert_int_eq(open_uring(&uring, &fd, 1, 4), 0);
	io_uring_prep_openat(io_uring_get_sqe(&uring), AT_FDCWD, "/", O_RDONLY | O_CLOEXEC, 0);
	io_uring_prep_read(io_uring_get_sqe(&uring), fd, b, sizeof(b), 0);
	for (unsigned int i = 0; i < 2; i++) {
		io_uring_submit(&uring);
		ck_assert_int_eq(io_uring_wait_cqe(&uring, &cqe), 0);
		rc[i] = cqe->res;
		io_uring_cqe_seen(&uring, cqe);
	}
	ck_assert_int_eq(rc[0], -EACCES);
	ck_assert_int_eq(rc[1], -EACCES);
	ck_assert_int_eq(io_uring_register_buffers(&uring, &(struct iovec){ b, sizeof(b) }, 1), -EACCES);
	io_uring_queue_exit(&uring);
	close(fd);
}
END_TEST

/* From here on the calling process gets @err from io_uring_setup(2). */
static void without_io_uring(unsigned int err)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { SPM_ARRAY_SIZE(f), f };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

START_TEST(probe)
{
	static const struct {
		int err;
		const char *says;
	} why[] = { { EPERM, "seccomp" }, { ENOSYS, "kernel is built without" }, { EINVAL, "Linux 5.10" },
		    { ENOMEM, "ulimit -l" }, { EMFILE, "Too many open files" } };
	struct spm_error e = { "" };

	if (!_i) {
		ck_assert_int_eq(spm_ring_probe(&e), 0);
		ck_assert_str_eq(e.text, "");
		return;
	}
	without_io_uring((unsigned int)why[_i - 1].err);
	ck_assert_int_eq(spm_ring_probe(&e), -why[_i - 1].err);
	ck_assert_msg(strstr(e.text, why[_i - 1].says) && strstr(e.text, "swap="), "%s", e.text);
	ck_assert_ptr_null(strchr(e.text, '\n'));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring");
	TCase *t = tcase_create("ring");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, vectors, 0, KINDS);
	tcase_add_loop_test(t, ends_of_files, 0, KINDS);
	tcase_add_test(t, odd_end);
	tcase_add_test(t, bad_requests);
	tcase_add_loop_test(t, more_than_depth, 0, KINDS);
	tcase_add_loop_test(t, links_wait, 0, KINDS);
	tcase_add_test(t, links_break);
	tcase_add_test(t, short_reads_go_on);
	tcase_add_test(t, cancel);
	tcase_add_test(t, cancel_late);
	tcase_add_test(t, cancel_half);
	tcase_add_test(t, close_waits);
	tcase_add_test(t, close_lets_go_of_files);
	tcase_add_loop_test(t, refused_for_a_while, 0, 2);
	tcase_add_loop_test(t, short_of_memory, 0, 2);
	tcase_add_loop_test(t, short_of_memory_for_good, 0, 2);
	tcase_add_test(t, refused_for_good);
	tcase_add_test(t, refused_while_busy);
	tcase_add_test(t, restricted);
	tcase_add_loop_test(t, probe, 0, 6);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
