/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flock, fcntl and open file description locks, and leases. */
#include "tests/namespace/ns.h"

#include <signal.h>
#include <sys/file.h>

static int lk(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock fl = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, cmd, &fl);
}

/* Who would be in the way of a write lock on that range: pid, or 0. */
static pid_t holder(int fd, int cmd, off_t start, off_t len)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	OK(fcntl(fd, cmd, &fl));
	return fl.l_type == F_UNLCK ? 0 : fl.l_pid;
}

static void flock_between_processes(void)
{
	int fd;

	mkfile("f", 0644);
	fd = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	OK(flock(fd, LOCK_SH));
	CHILD() {
		int own_fd = (int)OK(open("f", O_RDONLY));

		OK(flock(own_fd, LOCK_SH | LOCK_NB));
		ERR(EWOULDBLOCK, flock(own_fd, LOCK_EX | LOCK_NB));
	}
	OK(flock(fd, LOCK_EX | LOCK_NB));
	CHILD() {
		int own_fd = (int)OK(open("f", O_RDWR));

		ERR(EWOULDBLOCK, flock(own_fd, LOCK_SH | LOCK_NB));
		ERR(EWOULDBLOCK, flock(own_fd, LOCK_EX | LOCK_NB));
		/* the inherited description is the lock's owner, too */
		OK(flock(fd, LOCK_SH | LOCK_NB));
		OK(flock(own_fd, LOCK_SH | LOCK_NB));
	}
	OK(flock(fd, LOCK_UN));
	CHILD()
		OK(flock((int)OK(open("f", O_RDWR)), LOCK_EX | LOCK_NB));
	/* the child's end was the end of its lock */
	OK(flock(fd, LOCK_EX | LOCK_NB));
	close(fd);
}

static void flock_of_descriptions(void)
{
	int a, b, c;

	mkfile("f", 0644);
	a = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	b = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	c = (int)OK(dup(a));
	OK(flock(a, LOCK_EX));
	ERR(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	OK(flock(c, LOCK_EX | LOCK_NB));
	close(a);
	ERR(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	close(c);
	OK(flock(b, LOCK_EX | LOCK_NB));
	close(b);
}

static void flock_waits(void)
{
	struct ns_gate started, got;
	int fd;
	pid_t pid;

	ns_gate_init(&started);
	ns_gate_init(&got);
	mkfile("f", 0644);
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(flock(fd, LOCK_EX));
	pid = ns_fork();
	if (!pid) {
		int own_fd = (int)OK(open("f", O_RDWR));

		ns_gate_open(&started);
		OK(flock(own_fd, LOCK_EX));
		ns_gate_open(&got);
		ns_exit();
	}
	ns_gate_pass(&started);
	TRUE(!ns_gate_try(&got, 50));
	OK(flock(fd, LOCK_UN));
	ns_gate_pass(&got);
	ns_wait(pid);
	close(fd);
}

static void record_locks(void)
{
	pid_t me = getpid();
	int fd;

	mkdata("f", 0644, "0123456789");
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(lk(fd, F_SETLK, F_WRLCK, 2, 3));
	OK(lk(fd, F_SETLK, F_RDLCK, 7, 2));
	EQ(holder(fd, F_GETLK, 0, 0), 0);
	CHILD() {
		int own_fd = (int)OK(open("f", O_RDWR));

		ERR(EAGAIN, lk(own_fd, F_SETLK, F_WRLCK, 0, 0));
		ERR(EAGAIN, lk(own_fd, F_SETLK, F_RDLCK, 4, 1));
		ERR(EAGAIN, lk(own_fd, F_SETLK, F_WRLCK, 8, 1));
		OK(lk(own_fd, F_SETLK, F_RDLCK, 7, 2));
		OK(lk(own_fd, F_SETLK, F_WRLCK, 0, 2));
		OK(lk(own_fd, F_SETLK, F_WRLCK, 5, 2));
		EQ(holder(own_fd, F_GETLK, 0, 3), me);
		EQ(holder(own_fd, F_GETLK, 5, 1), 0);
		/* inherited descriptors do not inherit the locks */
		ERR(EAGAIN, lk(fd, F_SETLK, F_WRLCK, 2, 1));
	}
	OK(lk(fd, F_SETLK, F_UNLCK, 3, 1));
	CHILD() {
		int own_fd = (int)OK(open("f", O_RDWR));

		OK(lk(own_fd, F_SETLK, F_WRLCK, 3, 1));
		ERR(EAGAIN, lk(own_fd, F_SETLK, F_WRLCK, 2, 1));
		ERR(EAGAIN, lk(own_fd, F_SETLK, F_WRLCK, 4, 1));
	}
	close(fd);
}

static void record_locks_end_with_any_close(void)
{
	int a, b;

	mkfile("f", 0644);
	a = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	b = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(lk(a, F_SETLK, F_WRLCK, 0, 0));
	CHILD()
		ERR(EAGAIN, lk((int)OK(open("f", O_RDWR)), F_SETLK, F_WRLCK, 0, 1));
	close(b);
	CHILD()
		OK(lk((int)OK(open("f", O_RDWR)), F_SETLK, F_WRLCK, 0, 1));
	close(a);
	a = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	ERR(EBADF, lk(a, F_SETLK, F_WRLCK, 0, 0));
	OK(lk(a, F_SETLK, F_RDLCK, 0, 0));
	ERR(EINVAL, lk(a, F_SETLK, 17, 0, 0));
	close(a);
}

static void record_lock_waits_and_deadlock(void)
{
	struct ns_gate ready, got;
	int fd, rounds;
	pid_t pid;

	ns_gate_init(&ready);
	ns_gate_init(&got);
	mkfile("f", 0644);
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(lk(fd, F_SETLK, F_WRLCK, 0, 1));
	pid = ns_fork();
	if (!pid) {
		int own_fd = (int)OK(open("f", O_RDWR));

		OK(lk(own_fd, F_SETLK, F_WRLCK, 1, 1));
		ns_gate_open(&ready);
		OK(lk(own_fd, F_SETLKW, F_WRLCK, 0, 1));
		ns_gate_open(&got);
		ns_exit();
	}
	ns_gate_pass(&ready);
	TRUE(!ns_gate_try(&got, 50));
	/* the child waits for us, or will do so at once: then our wait would be for ever */
	for (rounds = 0; rounds < 3000; rounds++) {
		if (lk(fd, F_SETLK, F_WRLCK, 1, 1) == 0)
			break;
		if (lk(fd, F_SETLKW, F_WRLCK, 1, 1) < 0)
			break;
	}
	EQ(errno, EDEADLK);
	OK(lk(fd, F_SETLK, F_UNLCK, 0, 1));
	ns_gate_pass(&got);
	ns_wait(pid);
	close(fd);
}

static void description_locks(void)
{
	int a, b, c;

	mkfile("f", 0644);
	a = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	b = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(lk(a, F_OFD_SETLK, F_WRLCK, 0, 10));
	ERR(EAGAIN, lk(b, F_OFD_SETLK, F_WRLCK, 5, 10));
	OK(lk(b, F_OFD_SETLK, F_WRLCK, 10, 10));
	EQ(holder(b, F_OFD_GETLK, 0, 1), -1);
	/* they and the others see each other */
	ERR(EAGAIN, lk(b, F_SETLK, F_WRLCK, 0, 1));
	CHILD() {
		OK(lk(a, F_OFD_SETLK, F_WRLCK, 20, 1));
		ERR(EAGAIN, lk((int)OK(open("f", O_RDWR)), F_OFD_SETLK, F_RDLCK, 0, 1));
	}
	c = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	close(c);
	ERR(EAGAIN, lk(b, F_OFD_SETLK, F_WRLCK, 5, 1));
	close(a);
	OK(lk(b, F_OFD_SETLK, F_WRLCK, 5, 1));
	close(b);
}

static void both_kinds_at_once(void)
{
	int fd;

	mkfile("f", 0644);
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(flock(fd, LOCK_EX));
	CHILD() {
		int own_fd = (int)OK(open("f", O_RDWR));

		OK(lk(own_fd, F_SETLK, F_WRLCK, 0, 0));
		ERR(EWOULDBLOCK, flock(own_fd, LOCK_EX | LOCK_NB));
	}
	close(fd);
}

static void locks_stay_with_the_inode(void)
{
	int fd;

	mkfile("f", 0644);
	OK(link("f", "g"));
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(flock(fd, LOCK_EX));
	OK(lk(fd, F_SETLK, F_WRLCK, 0, 0));
	OK(rename("f", "h"));
	mkfile("f", 0644);
	CHILD() {
		int own_fd = (int)OK(open("g", O_RDWR));

		ERR(EWOULDBLOCK, flock(own_fd, LOCK_EX | LOCK_NB));
		ERR(EAGAIN, lk(own_fd, F_SETLK, F_WRLCK, 0, 0));
		OK(flock((int)OK(open("f", O_RDWR)), LOCK_EX | LOCK_NB));
	}
	OK(unlink("h"));
	CHILD()
		ERR(EWOULDBLOCK, flock((int)OK(open("g", O_RDWR)), LOCK_EX | LOCK_NB));
	OK(unlink("g"));
	close(fd);
}

static void a_killed_holder_lets_go(void)
{
	struct ns_gate ready;
	int fd;
	pid_t pid;

	ns_gate_init(&ready);
	mkfile("f", 0644);
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	pid = ns_fork();
	if (!pid) {
		int own_fd = (int)OK(open("f", O_RDWR));

		OK(flock(own_fd, LOCK_EX));
		OK(lk(own_fd, F_SETLK, F_WRLCK, 0, 0));
		ns_gate_open(&ready);
		pause();
		ns_exit();
	}
	ns_gate_pass(&ready);
	ERR(EWOULDBLOCK, flock(fd, LOCK_EX | LOCK_NB));
	kill(pid, SIGKILL);
	ns_status(pid);
	OK(flock(fd, LOCK_EX | LOCK_NB));
	OK(lk(fd, F_SETLK, F_WRLCK, 0, 0));
	close(fd);
}

static void locks_on_directories(void)
{
	int d;

	OK(mkdir("d", 0755));
	d = (int)OK(open("d", O_RDONLY | O_CLOEXEC));
	OK(flock(d, LOCK_EX));
	CHILD()
		ERR(EWOULDBLOCK, flock((int)OK(open("d", O_RDONLY)), LOCK_SH | LOCK_NB));
	OK(lk(d, F_SETLK, F_RDLCK, 0, 0));
	close(d);
}

static void leases(void)
{
	int r;

	if (sysctl_value("/proc/sys/fs/leases-enable") != 1)
		ns_skip("fs.leases-enable is off");
	signal(SIGIO, SIG_IGN);
	mkdata("f", 0644, "data");
	r = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	OK(fcntl(r, F_SETLEASE, F_RDLCK));
	EQ(fcntl(r, F_GETLEASE), F_RDLCK);
	CHILD()
		ERR(EWOULDBLOCK, open("f", O_WRONLY | O_NONBLOCK));
	OK(fcntl(r, F_SETLEASE, F_UNLCK));
	CHILD()
		close((int)OK(open("f", O_WRONLY | O_NONBLOCK)));
	OK(fcntl(r, F_SETLEASE, F_WRLCK));
	CHILD()
		ERR(EWOULDBLOCK, open("f", O_RDONLY | O_NONBLOCK));
	OK(fcntl(r, F_SETLEASE, F_UNLCK));
	CHILD() {
		int w = (int)OK(open("f", O_RDWR));

		ERR(EAGAIN, fcntl(w, F_SETLEASE, F_WRLCK));
		ERR(EAGAIN, fcntl(r, F_SETLEASE, F_RDLCK));
	}
	close(r);
}

const struct ns_check checks_lock[] = {
	CHECK(flock_between_processes),
	CHECK(flock_of_descriptions),
	CHECK(flock_waits),
	CHECK(record_locks),
	CHECK(record_locks_end_with_any_close),
	CHECK(record_lock_waits_and_deadlock),
	CHECK(description_locks),
	CHECK(both_kinds_at_once),
	CHECK(locks_stay_with_the_inode),
	CHECK(a_killed_holder_lets_go),
	CHECK(locks_on_directories),
	CHECK(leases),
	CHECKS_END,
};
