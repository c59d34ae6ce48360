/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/session.h"
#include "fs/fault.h"
#include "fs/ops.h"
#include "fs/thread.h"
#include "fs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>

#define SPIN_NS        50000  /* about three round trips of a client that has nothing else to do */
#define CONTENDED_NS   150000 /* a sched_yield that takes longer gave the processor to somebody */
#define COOL_DOWN_MIN_NS 1000000 /* one such may be the hypervisor's doing; */
#define COOL_DOWN_MAX_NS 32000000 /* again and again is a busy machine */
#define TRUST_MAX      8      /* failed looks halve it, good ones add one; at 0 every 16th request tries again */
#define PROBE_EVERY    16
#define BACKLOG_RUN    32     /* requests found waiting in a row before a helper is called */
#define SIGNAL_EVERY   64     /* requests between two looks for SIGTERM while they come without a pause */
#define THREADS_MIN    8 /* slow requests (commit of many gigabytes) must not take all of them */
#define THREADS_MAX    32
#define THREADS_LIMIT  512 /* as many as ever wait for slow things at once */
#define LINGER_MAX     64  /* so many stay for a while longer, */
#define LINGER_NS      500000000 /* since a thread is dear to make and slow requests come in bursts */

struct pool {
	struct spm_fs *fs;
	atomic_bool exiting;
	atomic_bool yields; /* to another worker */
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	bool has_leader;
	pthread_cond_t gone;
	unsigned int threads;     /* all that live */
	unsigned int base;        /* so many stay, however idle */
	unsigned int parked;
	unsigned int helpers;     /* awake without the lead, reading */
	unsigned int helpers_max;
	unsigned int calls;       /* for helpers, not yet answered */
};

enum role { ROLE_NONE, ROLE_LEADER, ROLE_HELPER };

/* What a thread has learnt about waiting. */
struct patience {
	unsigned int trust;
	unsigned int since_probe;
	uint64_t cold_until_ns;
	uint64_t cool_down_ns; /* how long that was */
};

struct serving {
	struct spm_thread thread; /* first: spm_self points here */
	struct pool *pool;
	enum role role;
	unsigned int run; /* requests in a row that were waiting already */
	bool parked_first;
	unsigned int since_signal; /* requests since SIGTERM was last looked for */
	struct patience patience;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct serving *serving_self(void)
{
	return (struct serving *)spm_self;
}

static void *serve(void *arg);

/* With the lock: one more thread. -errno of pthread_create(3), -ENOMEM. */
static int add_thread(struct pool *p)
{
	struct serving *s = calloc(1, sizeof(*s));
	pthread_attr_t attr;
	pthread_t id;
	int rc;

	if (!s)
		return -ENOMEM;
	s->pool = p;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&id, &attr, serve, s);
	pthread_attr_destroy(&attr);
	if (rc) {
		free(s);
		return -rc;
	}
	p->threads++;
	return 0;
}

/*
 * With the lock, when nobody leads. Somebody must read on: what a thread is about to wait for may be a client that waits
 * for an answer of ours (a write whose buffer is a mapping of another file of the mount).
 */
static void find_leader(struct pool *p)
{
	spm_fault("unled");
	if (p->parked)
		pthread_cond_signal(&p->wake);
	else if (p->threads >= THREADS_LIMIT || add_thread(p))
		p->fs->desks.state->all_slow = p->fs->desks.generation;
}

static void leave_role(struct serving *s)
{
	struct pool *p = s->pool;

	if (s->role == ROLE_NONE)
		return;
	pthread_mutex_lock(&p->lock);
	if (s->role == ROLE_LEADER) {
		p->has_leader = false;
		find_leader(p);
	} else {
		p->helpers--;
	}
	s->role = ROLE_NONE;
	pthread_mutex_unlock(&p->lock);
}

void spm_session_blocking(void)
{
	/* the worker's other threads (sampler) have no role to give away */
	if (!spm_self)
		return;
	spm_self->hold->flags |= SPM_HOLD_SLOW;
	/* the thread that takes a mount over serves before there is a pool */
	if (spm_self->pooled)
		leave_role(serving_self());
}

/* With the lock. False: nothing has come for a while. */
static bool park(struct pool *p, bool for_good)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LINGER_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	p->parked++;
	if (for_good)
		pthread_cond_wait(&p->wake, &p->lock);
	else
		rc = pthread_cond_timedwait(&p->wake, &p->lock, &until);
	p->parked--;
	return rc != ETIMEDOUT;
}

/* Ends in the lead, or as a helper, or with false: no more work. */
static bool find_role(struct serving *s)
{
	struct pool *p = s->pool;
	bool wanted = true;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		if (atomic_load_explicit(&p->exiting, memory_order_relaxed))
			break;
		if (!p->has_leader) {
			p->has_leader = true;
			p->fs->desks.state->all_slow = 0;
			s->role = ROLE_LEADER;
			break;
		}
		if (p->calls) {
			p->calls--;
			p->helpers++;
			s->role = ROLE_HELPER;
			break;
		}
		/* enough of them wait. Whoever is called as its time is up has seen it above */
		if (p->parked >= LINGER_MAX || (!wanted && p->parked >= p->base))
			break;
		wanted = park(p, p->parked < p->base);
	}
	pthread_mutex_unlock(&p->lock);
	return s->role != ROLE_NONE;
}

static void call_helper(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	if (p->parked && p->helpers + p->calls < p->helpers_max) {
		p->calls++;
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
}

static void stop_all(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	atomic_store(&p->exiting, true);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

ssize_t spm_session_read(struct spm_fs *fs, struct spm_thread *t)
{
	ssize_t n;

	spm_desk_reading(t);
	do {
		n = read(fs->dev_fd, t->buf, SPM_WIRE_BUFSIZE);
		/* ENOENT: the request was interrupted before it was read */
	} while (n < 0 && (errno == ENOENT || errno == EINTR));
	if (n < 0)
		return -errno;
	spm_desk_begin(t);
	atomic_fetch_add_explicit(&fs->desks.state->received, 1, memory_order_relaxed);
	return n;
}

/* One request, or -EAGAIN: none waits; -ENODEV: the mount is gone. */
static ssize_t receive(struct serving *s)
{
	ssize_t n;

	s->thread.hold->flags = SPM_HOLD_TAKES;
	spm_state_barrier();
	n = spm_takeover_next(s->pool->fs, &s->thread);
	/* what is parked takes turns with what is new: neither may keep the other waiting */
	s->parked_first = !s->parked_first;
	if (!n && s->parked_first)
		n = spm_parked_next(s->pool->fs, &s->thread);
	if (!n)
		n = spm_session_read(s->pool->fs, &s->thread);
	if (n == -EAGAIN && !s->parked_first) {
		n = spm_parked_next(s->pool->fs, &s->thread);
		n = n ? n : -EAGAIN;
	}
	if (n <= 0)
		s->thread.hold->flags = 0;
	return n;
}

/* Others want this processor. Twice as long as last time, unless that was long ago. */
static void cool_down(struct patience *pt, uint64_t now)
{
	if (now > pt->cold_until_ns + 8 * pt->cool_down_ns)
		pt->cool_down_ns = COOL_DOWN_MIN_NS;
	else if (pt->cool_down_ns < COOL_DOWN_MAX_NS)
		pt->cool_down_ns *= 2;
	pt->cold_until_ns = now + pt->cool_down_ns;
}

/* Looks for a request without sleeping; -EAGAIN when it is time to sleep. */
static ssize_t look(struct serving *s)
{
	struct patience *pt = &s->patience;
	uint64_t start = now_ns(), last = start, now;
	ssize_t n;

	if (start < pt->cold_until_ns || (!pt->trust && ++pt->since_probe < PROBE_EVERY))
		return -EAGAIN;
	pt->since_probe = 0;
	do {
		sched_yield();
		now = now_ns();
		n = receive(s);
		if (n != -EAGAIN) {
			if (pt->trust < TRUST_MAX)
				pt->trust++;
			break;
		}
		if (now - last > CONTENDED_NS) {
			cool_down(pt, now);
			break;
		}
		last = now;
	} while (now - start < SPIN_NS);
	if (n == -EAGAIN)
		pt->trust /= 2;
	return n;
}

/* Sleeps until there is a request or SIGTERM; or, with no time to wait, only looks for the latter. */
static void sleep_or_yield(struct serving *s, int timeout)
{
	struct pollfd pfd[2] = { { .fd = s->pool->fs->signal_fd, .events = POLLIN },
				 { .fd = s->pool->fs->dev_fd, .events = POLLIN } };

	s->since_signal = 0;
	poll(pfd, timeout ? 2 : 1, timeout);
	if (!(pfd[0].revents & POLLIN))
		return;
	atomic_store(&s->pool->yields, true);
	stop_all(s->pool);
}

/* The leader's wait for the next request. */
static ssize_t await_request(struct serving *s)
{
	ssize_t n;

	if (++s->since_signal >= SIGNAL_EVERY) {
		sleep_or_yield(s, 0);
		if (atomic_load_explicit(&s->pool->exiting, memory_order_relaxed))
			return -EAGAIN;
	}
	n = receive(s);
	if (n != -EAGAIN) {
		if (++s->run >= BACKLOG_RUN) {
			s->run = 0;
			call_helper(s->pool);
		}
		return n;
	}
	s->run = 0;
	n = look(s);
	if (n > 0 && s->patience.trust == TRUST_MAX)
		spm_nohalt_hold(&s->pool->fs->nohalt);
	if (n == -EAGAIN)
		spm_nohalt_release(&s->pool->fs->nohalt);
	while (n == -EAGAIN && !atomic_load_explicit(&s->pool->exiting, memory_order_relaxed)) {
		sleep_or_yield(s, -1);
		if (atomic_load_explicit(&s->pool->exiting, memory_order_relaxed))
			break;
		n = receive(s);
		atomic_fetch_add_explicit(&s->pool->fs->desks.state->wakeups, 1, memory_order_relaxed);
	}
	return n;
}

void spm_session_answer(struct spm_fs *fs, struct spm_thread *t, size_t len)
{
	struct fuse_buf buf = { .mem = t->buf };

	spm_fault("request");
	if (spm_park(fs, t, len) || spm_parked_interrupt(fs, t, len))
		return;
	if (!fs->init.done)
		spm_worker_keep_init(fs, t->buf, len);
	buf.size = spm_wire_request(t->buf, len, &fs->init, &t->wire);
	fuse_session_process_buf(fs->se, &buf);
	spm_fault("replied");
	spm_desk_end(t);
	atomic_fetch_add_explicit(&fs->desks.state->answered, 1, memory_order_relaxed);
	if (fs->ready_fd >= 0 && fs->init.done)
		spm_worker_ready(fs);
}

/* Whoever has waited himself makes room for one of those that have no thread, and another one has the lead. */
static void serve_parked(struct serving *s)
{
	ssize_t n;

	while (!atomic_load_explicit(&s->pool->exiting, memory_order_relaxed) &&
	       (n = spm_parked_next(s->pool->fs, &s->thread)) > 0)
		spm_session_answer(s->pool->fs, &s->thread, (size_t)n);
}

/* Requests until the role is over; -EAGAIN then, or why there will be no more. */
static ssize_t serve_role(struct serving *s)
{
	ssize_t n = -EAGAIN;

	while (s->role != ROLE_NONE) {
		n = s->role == ROLE_LEADER ? await_request(s) : receive(s);
		if (n <= 0)
			break;
		spm_session_answer(s->pool->fs, &s->thread, (size_t)n);
		n = -EAGAIN;
	}
	return n;
}

static void end_thread(struct serving *s)
{
	struct pool *p = s->pool;

	spm_thread_destroy(&s->thread, &p->fs->desks);
	free(s);
	pthread_mutex_lock(&p->lock);
	p->threads--;
	/* one that was made to lead, and cannot: another one tries when it is done with its request */
	if (!p->has_leader && !p->parked && p->threads)
		p->fs->desks.state->all_slow = p->fs->desks.generation;
	pthread_cond_signal(&p->gone);
	pthread_mutex_unlock(&p->lock);
}

static void *serve(void *arg)
{
	struct serving *s = arg;
	struct pool *p = s->pool;
	int rc = spm_thread_init(&s->thread, &p->fs->desks);

	if (rc)
		spm_log(SPM_LOG_ERR, "a serving thread cannot start: %s", strerror(-rc));
	s->thread.pooled = true;
	while (!rc && find_role(s)) {
		ssize_t n = serve_role(s);

		leave_role(s);
		serve_parked(s);
		if (n != -EAGAIN || fuse_session_exited(p->fs->se)) {
			if (n != -EAGAIN && n != -ENODEV)
				spm_log(SPM_LOG_ERR, "cannot read requests: %s", strerror((int)-n));
			stop_all(p);
		}
	}
	end_thread(s);
	return NULL;
}

int spm_session_run(struct spm_fs *fs)
{
	struct pool p = { .fs = fs };
	pthread_condattr_t attr;
	int cpus = get_nprocs(), rc = 0;

	p.base = cpus < THREADS_MIN ? THREADS_MIN : cpus > THREADS_MAX ? THREADS_MAX : (unsigned int)cpus;
	p.helpers_max = cpus > 3 ? (unsigned int)cpus / 2 : 1;
	pthread_mutex_init(&p.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p.wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&p.gone, NULL);
	pthread_mutex_lock(&p.lock);
	while (p.threads < p.base && !rc)
		rc = add_thread(&p);
	pthread_mutex_unlock(&p.lock);
	if (p.threads) /* fewer will do */
		rc = spm_thread_confine();
	spm_takeover_tell(fs);
	pthread_mutex_lock(&p.lock);
	while (p.threads)
		pthread_cond_wait(&p.gone, &p.lock);
	pthread_mutex_unlock(&p.lock);
	pthread_cond_destroy(&p.gone);
	pthread_cond_destroy(&p.wake);
	pthread_mutex_destroy(&p.lock);
	return rc ? rc : atomic_load(&p.yields);
}
