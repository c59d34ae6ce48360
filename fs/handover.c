/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define KEEPER_BYTE    1 /* of the state; a worker's is the one before */
#define KEEPER_GONE_NS UINT64_C(1000000000)

void spm_fds_format(const int fd[static SPM_FDS], char text[static SPM_FDS_TEXT])
{
	size_t at = 0;

	for (int i = 0; i < SPM_FDS; i++)
		at += (size_t)snprintf(text + at, SPM_FDS_TEXT - at, i ? ",%d" : "%d", fd[i]);
}

bool spm_fds_parse(const char *text, int fd[static SPM_FDS])
{
	int n = 0;

	for (int i = 0; i < SPM_FDS; i++)
		fd[i] = -1;
	while (n < SPM_FDS) {
		char *end;
		long v = strtol(text, &end, 10);

		if (end == text || v < -1 || v > 1 << 20 || (*end && *end != ','))
			return false;
		fd[n++] = (int)v;
		if (!*end)
			return n == SPM_FDS;
		text = end + 1;
	}
	return false;
}

void spm_fds_inherit(const int fd[static SPM_FDS], bool inherit)
{
	for (int i = 0; i < SPM_FDS; i++)
		if (fd[i] >= 0)
			fcntl(fd[i], F_SETFD, inherit ? 0 : FD_CLOEXEC);
}

int spm_word_send(int sock, const struct spm_word *w, int pass)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { .buf = "" };
	struct iovec iov = { .iov_base = (void *)w, .iov_len = sizeof(*w) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (pass >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof(pass));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* The first descriptor that came; whatever else came is closed. */
static int take_fd(struct msghdr *msg)
{
	int taken = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (taken < 0)
				taken = fd;
			else
				close(fd);
		}
	}
	return taken;
}

int spm_word_take(int sock, struct spm_word *w, int *passed)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = w, .iov_len = sizeof(*w) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	ssize_t n;
	int fd;

	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	fd = take_fd(&msg);
	if (n != sizeof(*w)) {
		spm_cleanup_close(&fd);
		return n ? -EBADMSG : -EPIPE;
	}
	w->text[sizeof(w->text) - 1] = '\0';
	if (passed)
		*passed = fd;
	else
		spm_cleanup_close(&fd);
	return 0;
}

int spm_worker_lock(int state_fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	pid_t other;

	while (fcntl(state_fd, F_SETLK, &l)) {
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		other = spm_worker_locked(state_fd);
		if (other > 0)
			kill(other, SIGKILL);
		sched_yield();
	}
	return 0;
}

pid_t spm_worker_locked(int state_fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	return fcntl(state_fd, F_GETLK, &l) || l.l_type == F_UNLCK ? 0 : l.l_pid;
}

int spm_keeper_lock(int state_fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = KEEPER_BYTE, .l_len = 1 };
	uint64_t end = spm_clock_ns() + KEEPER_GONE_NS;

	while (fcntl(state_fd, F_SETLK, &l)) {
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		/* of one that dies, the sockets may be closed a moment before this descriptor is */
		if (spm_clock_ns() > end)
			return -EBUSY;
		poll(NULL, 0, 1);
	}
	return 0;
}

uint64_t spm_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
