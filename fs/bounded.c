/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/bounded.h"
#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>

#define WAIT_S   5
#define AGAIN_NS 50000000 /* a signal that comes before the call begins to wait does not interrupt it */

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct bound {
	timer_t timer;
	bool on;
};

static int wake_signal(void)
{
	return SIGRTMIN + 4;
}

static void nothing(int sig)
{
	(void)sig;
}

static void change_mask(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, wake_signal());
	pthread_sigmask(how, &set, NULL);
}

/* From here on calls of this thread that wait are interrupted, at last. */
static int bound_begin(const struct spm_fs *fs, struct bound *b)
{
	const struct sigaction act = { .sa_handler = nothing }; /* without SA_RESTART */
	const struct itimerspec when = { .it_value = { .tv_sec = WAIT_S }, .it_interval = { .tv_nsec = AGAIN_NS } };
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = wake_signal() };

	b->on = false;
	if (!fs->root.features.dax)
		return 0;
	spm_session_blocking();
	ev.sigev_notify_thread_id = gettid();
	if (sigaction(wake_signal(), &act, NULL) || timer_create(CLOCK_MONOTONIC, &ev, &b->timer))
		return -errno;
	change_mask(SIG_UNBLOCK);
	b->on = true;
	if (timer_settime(b->timer, 0, &when, NULL)) {
		int rc = -errno;

		timer_delete(b->timer);
		change_mask(SIG_BLOCK);
		return rc;
	}
	return 0;
}

static int bound_end(struct bound *b, int rc)
{
	if (!b->on)
		return rc;
	timer_delete(b->timer);
	/* one that is pending by then meets the handler the next time */
	change_mask(SIG_BLOCK);
	return rc == -EINTR ? -EBUSY : rc;
}

int spm_bounded_fallocate(struct spm_fs *fs, int fd, int mode, off_t off, off_t len)
{
	struct bound b;
	int rc = bound_begin(fs, &b);

	if (rc)
		return rc;
	return bound_end(&b, fallocate(fd, mode, off, len) ? -errno : 0);
}

int spm_bounded_truncate(struct spm_fs *fs, int fd, off_t size)
{
	struct bound b;
	int rc = bound_begin(fs, &b);

	if (rc)
		return rc;
	return bound_end(&b, ftruncate(fd, size) ? -errno : 0);
}
