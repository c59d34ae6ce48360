/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <time.h>
#include "core/log.h"

/*
 * An I/O is in one place at a time: on the waiting list, in the kernel (a slot of busy[]), behind the one
 * that it is linked to, or finished. What it carries beyond the header's words:
 */
enum { IO_CANCEL = 1 }; /* its end was asked for: it is not tried again, and nothing follows it */

/* How often in a row an I/O may come back without progress (-EAGAIN, -EINTR), and a batch be refused, with
 * 1 ms between. */
#define TRIES_MAX 100

/* An I/O that came back so often is not tried again at once, but after 1 ms, then twice as long each time: about 6 s
 * in all, in which memory, say, may come free. */
#define TRIES_AT_ONCE 4
#define PAUSE_MS_MAX  64

/* No slots: the answers to these requests are of no interest, but that the last one ends the reaper. */
#define DATA_NONE UINT64_MAX
#define DATA_STOP (UINT64_MAX - 1)

#define REAP_BATCH 64
#define REAPER_STACK ((size_t)256 << 10)

/* A list that remembers its end. */
struct io_list {
	struct spm_io *first, **last;
};

/* One in the kernel. */
struct busy {
	struct spm_io *io; /* NULL: the slot is free */
	bool cancelled;    /* the kernel has been asked to end it */
};

struct spm_ring {
	struct io_uring uring; /* submission side: whoever is pumping; completion side: the reaper */
	pthread_t reaper;
	unsigned int depth;

	pthread_mutex_t lock; /* guards what follows, and what the ring keeps in a spm_io; no other is taken in it */
	pthread_cond_t idle;
	struct io_list waiting;
	struct io_list later;   /* to be tried again, by the reaper, which is the only one to add to it */
	int64_t due_ns;         /* when, of CLOCK_MONOTONIC */
	struct busy *busy;      /* by slot; the slot is the user_data */
	uint16_t *slots;        /* free ones, @depth - @in_kernel */
	unsigned int in_kernel; /* in busy[]: given to the kernel, or just about to be */
	bool pumping;           /* a thread is at the submission side */
	bool cancels;           /* some of busy[] is to be cancelled */
	bool stop, stopping;    /* the reaper is to end; it has been told */
};

static void list_init(struct io_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_append(struct io_list *l, struct spm_io *io)
{
	io->next = NULL;
	*l->last = io;
	l->last = &io->next;
}

static void list_prepend(struct io_list *l, struct spm_io *io)
{
	io->next = l->first;
	if (!l->first)
		l->last = &io->next;
	l->first = io;
}

static struct spm_io *list_pop(struct io_list *l)
{
	struct spm_io *io = l->first;

	if (io) {
		l->first = io->next;
		if (!l->first)
			l->last = &l->first;
	}
	return io;
}

/* ---- the queue of finished I/O ---- */

void spm_ioq_init(struct spm_ioq *q)
{
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->wake, NULL);
	q->first = NULL;
	q->last = &q->first;
	q->in_flight = 0;
}

void spm_ioq_destroy(struct spm_ioq *q)
{
	pthread_cond_destroy(&q->wake);
	pthread_mutex_destroy(&q->lock);
}

struct spm_io *spm_ioq_next(struct spm_ioq *q, bool wait)
{
	struct spm_io *io;

	pthread_mutex_lock(&q->lock);
	while (wait && !q->first && q->in_flight)
		pthread_cond_wait(&q->wake, &q->lock);
	io = q->first;
	if (io) {
		q->first = io->next;
		if (!q->first)
			q->last = &q->first;
		q->in_flight--;
	}
	pthread_mutex_unlock(&q->lock);
	return io;
}

/* Gives finished I/O to its owners. */
static void deliver(struct io_list *done)
{
	struct spm_io *io;

	while ((io = list_pop(done))) {
		struct spm_ioq *q = io->queue;

		pthread_mutex_lock(&q->lock);
		io->next = NULL;
		*q->last = io;
		q->last = &io->next;
		/* under the lock: its owner may destroy the queue as soon as it has seen the last one */
		pthread_cond_signal(&q->wake);
		pthread_mutex_unlock(&q->lock);
	}
}

/* ---- one I/O; under r->lock ---- */

/* It has ended; so what is linked to it starts, or ends as well. */
static void finish(struct spm_ring *r, struct spm_io *io, int rc, struct io_list *done)
{
	struct spm_io *then = io->then;

	if (!rc && then && !(io->state & IO_CANCEL)) {
		list_prepend(&r->waiting, then);
		then = NULL;
	}
	io->result = rc;
	list_append(done, io);
	for (; then; then = then->then) {
		then->result = -ECANCELED;
		list_append(done, then);
	}
}

/* Leaves out the first @n bytes, which are done. */
static void advance(struct spm_io *io, uint64_t n)
{
	io->offset += n;
	io->left -= n;
	for (; n; n -= io->iov->iov_len, io->iov++, io->iovs--) {
		if (n < io->iov->iov_len) {
			io->iov->iov_base = (char *)io->iov->iov_base + n;
			io->iov->iov_len -= n;
			return;
		}
	}
	/* an empty piece at the front would read as the end of the file */
	for (; io->iovs > 1 && !io->iov->iov_len; io->iov++)
		io->iovs--;
}

/*
 * Errors that say nothing of the I/O: also -ECANCELED and -EFAULT, with which the kernel ends what a
 * thread has submitted that is gone (its helpers end with it). A bad buffer is -EFAULT again each time.
 */
static bool is_passing(int res)
{
	return res == -EAGAIN || res == -EINTR || res == -ECANCELED || res == -EFAULT || res == -ENOMEM;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* It came back with @res, or in part, and is to be submitted again: at once, or where the kernel was short, later. */
static void again(struct spm_ring *r, struct spm_io *io, int res)
{
	unsigned int doubled = io->tries > TRIES_AT_ONCE ? io->tries - TRIES_AT_ONCE - 1u : 0;
	int64_t ms = doubled < 6 ? INT64_C(1) << doubled : PAUSE_MS_MAX, due;

	/* before Linux 5.11 a wait with a timeout is a request of its own, which the restrictions do not know */
	if ((res != -EAGAIN && res != -ENOMEM) || io->tries <= TRIES_AT_ONCE || !(r->uring.features & IORING_FEAT_EXT_ARG)) {
		list_prepend(&r->waiting, io);
		return;
	}
	due = now_ns() + ms * 1000000;
	if (!r->later.first || due < r->due_ns)
		r->due_ns = due;
	list_append(&r->later, io);
}

/* What was to be tried later: the time has come for one, which will do for all. */
static void retry_due(struct spm_ring *r)
{
	struct spm_io *io;

	if (!r->later.first || now_ns() < r->due_ns)
		return;
	while ((io = list_pop(&r->later)))
		list_append(&r->waiting, io);
}

/* The kernel is done with it, which may be less than all. */
static void completed(struct spm_ring *r, struct spm_io *io, int res, struct io_list *done)
{
	if (res >= 0 && (uint64_t)res >= io->left) {
		finish(r, io, 0, done);
		return;
	}
	if (res > 0) {
		advance(io, (uint64_t)res);
		io->tries = 0;
	} else if (res == 0) {
		finish(r, io, -EIO, done);
		return;
	} else if (res == -EINVAL && io->op == SPM_IO_READ && io->offset % 512) {
		/* what O_DIRECT says where it came to the end of the file before */
		finish(r, io, -EIO, done);
		return;
	} else if (!is_passing(res) || io->tries >= TRIES_MAX) {
		finish(r, io, res, done);
		return;
	} else {
		io->tries++;
	}
	if (io->state & IO_CANCEL)
		finish(r, io, -ECANCELED, done);
	else
		again(r, io, res);
}

/* The I/O of a slot leaves the kernel. */
static struct spm_io *release(struct spm_ring *r, uint64_t slot)
{
	struct spm_io *io = r->busy[slot].io;

	r->busy[slot].io = NULL;
	r->slots[r->depth - r->in_kernel--] = (uint16_t)slot;
	return io;
}

/* ---- submission ---- */

static void prepare(struct io_uring_sqe *sqe, const struct spm_io *io)
{
	int file = (int)io->file;

	if (io->op == SPM_IO_SYNC)
		io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
	else if (io->iovs == 1 && io->iov->iov_len <= INT32_MAX && io->op == SPM_IO_READ)
		io_uring_prep_read(sqe, file, io->iov->iov_base, (unsigned int)io->iov->iov_len, io->offset);
	else if (io->iovs == 1 && io->iov->iov_len <= INT32_MAX)
		io_uring_prep_write(sqe, file, io->iov->iov_base, (unsigned int)io->iov->iov_len, io->offset);
	else if (io->op == SPM_IO_READ)
		io_uring_prep_readv(sqe, file, io->iov, io->iovs, io->offset);
	else
		io_uring_prep_writev(sqe, file, io->iov, io->iovs, io->offset);
}

static void set_up(struct io_uring_sqe *sqe, uint64_t data)
{
	/* the ring's restriction asks for it of every request */
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, data);
}

/* Asks the kernel for the end of what is in it, once each. */
static void fill_cancels(struct spm_ring *r)
{
	struct io_uring_sqe *sqe;

	for (unsigned int i = 0; r->cancels && i < r->depth; i++) {
		struct busy *b = &r->busy[i];

		if (!b->io || !(b->io->state & IO_CANCEL) || b->cancelled)
			continue;
		sqe = io_uring_get_sqe(&r->uring);
		if (!sqe)
			return;
		io_uring_prep_cancel64(sqe, i, 0);
		set_up(sqe, DATA_NONE);
		b->cancelled = true;
	}
	r->cancels = false;
}

/* Puts on the submission ring what fits; how much is on it. */
static unsigned int fill(struct spm_ring *r)
{
	struct io_uring_sqe *sqe;

	fill_cancels(r);
	while (r->waiting.first && r->in_kernel < r->depth) {
		uint16_t slot = r->slots[r->depth - r->in_kernel - 1];

		sqe = io_uring_get_sqe(&r->uring);
		if (!sqe)
			break;
		r->busy[slot] = (struct busy){ .io = list_pop(&r->waiting) };
		r->in_kernel++;
		prepare(sqe, r->busy[slot].io);
		set_up(sqe, slot);
	}
	if (r->stop && !r->stopping && (sqe = io_uring_get_sqe(&r->uring))) {
		io_uring_prep_nop(sqe);
		set_up(sqe, DATA_STOP);
		r->stopping = true;
	}
	return io_uring_sq_ready(&r->uring);
}

/*
 * The kernel does not take what is on the submission ring, and nothing is in it whose end could change
 * that: takes it back. Without a kernel thread that polls, nobody else reads the ring's tail.
 */
static void give_up(struct spm_ring *r, int rc, struct io_list *done)
{
	struct io_uring_sq *sq = &r->uring.sq;
	unsigned int head = *sq->khead;

	for (unsigned int i = head; i != sq->sqe_tail; i++) {
		uint64_t data = sq->sqes[i & sq->ring_mask].user_data;

		if (data == DATA_STOP)
			r->stopping = false;
		else if (data != DATA_NONE)
			finish(r, release(r, data), rc, done);
	}
	sq->sqe_tail = sq->sqe_head = head;
	__atomic_store_n(sq->ktail, head, __ATOMIC_RELEASE);
}

/*
 * Submits what waits, as far as there is room. One thread at a time; another one that comes meanwhile
 * leaves its I/O to that, so that nobody waits for another's system call, the reaper least of all.
 */
static void pump(struct spm_ring *r, struct io_list *done)
{
	const struct timespec ms = { 0, 1000000 };
	unsigned int tries = 0;
	int rc;

	if (r->pumping)
		return;
	r->pumping = true;
	while (fill(r) > 0) {
		pthread_mutex_unlock(&r->lock);
		rc = io_uring_submit(&r->uring);
		pthread_mutex_lock(&r->lock);
		if (rc > 0)
			tries = 0;
		if (rc > 0 || rc == -EINTR)
			continue;
		/* no room just now: the next completion brings the reaper here */
		if (r->in_kernel > io_uring_sq_ready(&r->uring))
			break;
		if (tries++ >= TRIES_MAX) {
			give_up(r, rc ? rc : -EAGAIN, done);
			tries = 0;
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		nanosleep(&ms, NULL);
		pthread_mutex_lock(&r->lock);
	}
	r->pumping = false;
	if (!r->in_kernel && !r->waiting.first && !r->later.first)
		pthread_cond_broadcast(&r->idle);
}

void spm_ring_submit(struct spm_ring *r, struct spm_ioq *q, struct spm_io *const *ios, unsigned int n)
{
	struct io_list done;

	list_init(&done);
	pthread_mutex_lock(&q->lock);
	q->in_flight += n;
	pthread_mutex_unlock(&q->lock);
	for (unsigned int i = 0; i < n; i++) {
		struct spm_io *io = ios[i];

		io->queue = q;
		io->result = 0;
		io->state = io->tries = 0;
		io->then = io->link && i + 1 < n ? ios[i + 1] : NULL;
		io->left = 0;
		for (unsigned int j = 0; io->op != SPM_IO_SYNC && j < io->iovs; j++)
			io->left += io->iov[j].iov_len;
	}
	pthread_mutex_lock(&r->lock);
	for (unsigned int i = 0; i < n; i++)
		if (!i || !ios[i - 1]->link)
			list_append(&r->waiting, ios[i]);
	pump(r, &done);
	pthread_mutex_unlock(&r->lock);
	deliver(&done);
}

/* What of @q is on that list ends. */
static void cancel_list(struct spm_ring *r, struct io_list *l, const struct spm_ioq *q, struct io_list *done)
{
	struct io_list others;
	struct spm_io *io;

	list_init(&others);
	while ((io = list_pop(l))) {
		if (io->queue == q)
			finish(r, io, -ECANCELED, done);
		else
			list_append(&others, io);
	}
	while ((io = list_pop(&others)))
		list_append(l, io);
}

void spm_ring_cancel(struct spm_ring *r, struct spm_ioq *q)
{
	struct io_list done;

	list_init(&done);
	pthread_mutex_lock(&r->lock);
	cancel_list(r, &r->waiting, q, &done);
	cancel_list(r, &r->later, q, &done);
	for (unsigned int i = 0; i < r->depth; i++) {
		if (r->busy[i].io && r->busy[i].io->queue == q) {
			r->busy[i].io->state |= IO_CANCEL;
			r->cancels = true;
		}
	}
	pump(r, &done);
	pthread_mutex_unlock(&r->lock);
	deliver(&done);
}

/* ---- completion ---- */

/* Until something has ended, or is due again. Its only errors pass: interrupted, or no memory for a moment. */
static void wait_for_end(struct spm_ring *r)
{
	struct io_uring_cqe *cqe;
	struct __kernel_timespec ts;
	int64_t left = 0;
	bool later;

	pthread_mutex_lock(&r->lock);
	later = r->later.first;
	if (later)
		left = r->due_ns - now_ns();
	pthread_mutex_unlock(&r->lock);
	if (!later) {
		(void)io_uring_wait_cqe(&r->uring, &cqe);
	} else if (left > 0) {
		ts = (struct __kernel_timespec){ .tv_sec = left / 1000000000, .tv_nsec = left % 1000000000 };
		(void)io_uring_wait_cqe_timeout(&r->uring, &cqe, &ts);
	}
}

static void *reap(void *arg)
{
	struct io_uring_cqe *cqes[REAP_BATCH];
	struct spm_ring *r = arg;
	struct io_list done;
	unsigned int n;
	bool stop = false;

	while (!stop) {
		wait_for_end(r);
		n = io_uring_peek_batch_cqe(&r->uring, cqes, REAP_BATCH);
		list_init(&done);
		pthread_mutex_lock(&r->lock);
		for (unsigned int i = 0; i < n; i++) {
			uint64_t data = cqes[i]->user_data;

			if (data == DATA_STOP)
				stop = true;
			else if (data != DATA_NONE)
				completed(r, release(r, data), cqes[i]->res, &done);
		}
		io_uring_cq_advance(&r->uring, n);
		pthread_mutex_unlock(&r->lock);
		deliver(&done);
		pthread_mutex_lock(&r->lock);
		retry_due(r);
		pump(r, &done);
		pthread_mutex_unlock(&r->lock);
		deliver(&done);
	}
	return NULL;
}

/* ---- making and unmaking ---- */

/* A ring that does what is needed here and no more, whoever gets hold of its descriptor. By the plain
 * call: liburing 2.3 has functions for restricting and enabling a ring in its header, but not in its
 * shared library. */
static int restrict_to_our_needs(struct io_uring *uring)
{
	static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ, IORING_OP_WRITE,
				       IORING_OP_FSYNC, IORING_OP_ASYNC_CANCEL, IORING_OP_NOP };
	struct io_uring_restriction res[SPM_ARRAY_SIZE(ops) + 2];
	unsigned int n = 0;

	memset(res, 0, sizeof(res));
	for (; n < SPM_ARRAY_SIZE(ops); n++) {
		res[n].opcode = IORING_RESTRICTION_SQE_OP;
		res[n].sqe_op = ops[n];
	}
	res[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	res[n++].sqe_flags = IOSQE_FIXED_FILE;
	res[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	res[n++].register_op = IORING_UNREGISTER_FILES;
	return io_uring_register((unsigned int)uring->ring_fd, IORING_REGISTER_RESTRICTIONS, res, n);
}

static int open_uring(struct io_uring *uring, const int *files, unsigned int count, unsigned int depth)
{
	struct io_uring_params p = { .flags = IORING_SETUP_R_DISABLED };
	int rc = io_uring_queue_init_params(depth, uring, &p);

	if (rc)
		return rc;
	/* a child that touched it would confuse the kernel's view of ours */
	rc = io_uring_ring_dontfork(uring);
	if (!rc && count)
		rc = io_uring_register_files(uring, files, count);
	if (!rc)
		rc = restrict_to_our_needs(uring);
	if (!rc)
		rc = io_uring_register((unsigned int)uring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (rc < 0)
		io_uring_queue_exit(uring);
	return rc < 0 ? rc : 0;
}

static int start_reaper(struct spm_ring *r)
{
	pthread_attr_t attr;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return -rc;
	rc = pthread_attr_setstacksize(&attr, REAPER_STACK);
	if (!rc)
		rc = pthread_create(&r->reaper, &attr, reap, r);
	pthread_attr_destroy(&attr);
	if (!rc)
		pthread_setname_np(r->reaper, "spmfs-ring");
	return -rc;
}

static void free_ring(struct spm_ring *r)
{
	pthread_cond_destroy(&r->idle);
	pthread_mutex_destroy(&r->lock);
	free(r->busy);
	free(r->slots);
	free(r);
}

int spm_ring_open(struct spm_ring **out, const int *files, unsigned int count, unsigned int depth)
{
	struct spm_ring *r = depth && depth <= 1024 ? calloc(1, sizeof(*r)) : NULL;
	int rc;

	if (!r)
		return depth && depth <= 1024 ? -ENOMEM : -EINVAL;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->idle, NULL);
	list_init(&r->waiting);
	list_init(&r->later);
	r->depth = depth;
	r->busy = calloc(depth, sizeof(*r->busy));
	r->slots = calloc(depth, sizeof(*r->slots));
	rc = r->busy && r->slots ? open_uring(&r->uring, files, count, depth) : -ENOMEM;
	if (rc)
		goto out;
	for (unsigned int i = 0; i < depth; i++)
		r->slots[i] = (uint16_t)i;
	rc = start_reaper(r);
	if (rc)
		io_uring_queue_exit(&r->uring);
out:
	if (rc)
		free_ring(r);
	else
		*out = r;
	return rc;
}

void spm_ring_close(struct spm_ring *r)
{
	struct io_list none;

	list_init(&none);
	pthread_mutex_lock(&r->lock);
	while (r->in_kernel || r->waiting.first || r->later.first || r->pumping)
		pthread_cond_wait(&r->idle, &r->lock);
	r->stop = true;
	pump(r, &none);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->reaper, NULL);
	/* or they stay open for some 20 ms, and their filesystem cannot be unmounted */
	io_uring_unregister_files(&r->uring);
	io_uring_queue_exit(&r->uring);
	free_ring(r);
}

/* ---- can it be had? ---- */

/* kernel.io_uring_disabled; 0 where there is no such thing. */
static int disabled(void)
{
	spm_auto_close int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
	char c = '0';

	return fd >= 0 && read(fd, &c, 1) == 1 && c > '0' && c <= '9' ? c - '0' : 0;
}

int spm_ring_probe(struct spm_error *why)
{
	struct io_uring uring;
	int rc = open_uring(&uring, NULL, 0, 2), off;

	switch (rc) {
	case 0:
		io_uring_queue_exit(&uring);
		return 0;
	case -ENOSYS:
		return spm_fail(why, rc, "swap= needs io_uring, which this kernel is built without or a container's"
				" seccomp filter hides; mount without swap=, or allow io_uring_setup, io_uring_enter and"
				" io_uring_register");
	case -EPERM:
	case -EACCES:
		off = disabled();
		if (off)
			return spm_fail(why, -EPERM, "swap= needs io_uring, which is turned off here"
					" (kernel.io_uring_disabled = %d); run 'sysctl kernel.io_uring_disabled=0',"
					" or mount without swap=", off);
		return spm_fail(why, -EPERM, "swap= needs io_uring, which a seccomp filter or a security module forbids"
				" here; allow io_uring_setup, io_uring_enter and io_uring_register in the container's"
				" profile, or mount without swap=");
	case -EINVAL:
		return spm_fail(why, rc, "swap= needs io_uring with restrictions, of Linux 5.10 or later;"
				" mount without swap=");
	case -ENOMEM:
		return spm_fail(why, rc, "swap= needs io_uring, for which there is no memory, or not enough that may be"
				" locked; raise 'ulimit -l', or mount without swap=");
	default:
		return spm_fail(why, rc, "swap= needs io_uring, which cannot be set up: %s; mount without swap=",
				strerror(-rc));
	}
}
