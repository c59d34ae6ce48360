/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the checks are written with: expectations, processes, files, time stamps. */
#include "tests/namespace/ns.h"
#include "tests/namespace/run.h"

#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

static char context[160];

/* ---- expectations ---- */

static void report(const char *file, int line, const char *text)
{
	const char *base = strrchr(file, '/');
	char msg[1200];
	int n;

	atomic_fetch_add(&ns_shared->failures, 1);
	n = snprintf(msg, sizeof(msg), "# %s:%d: %s%s%s%s\n", base ? base + 1 : file, line,
		     context[0] ? "[" : "", context, context[0] ? "] " : "", text);
	if (n >= (int)sizeof(msg)) {
		n = sizeof(msg) - 1;
		msg[n - 1] = '\n';
	}
	if (write(STDOUT_FILENO, msg, (size_t)n) != n)
		_exit(99);
}

void ns_fail(const char *file, int line, const char *fmt, ...)
{
	char text[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report(file, line, text);
}

void ns_context(const char *fmt, ...)
{
	va_list ap;

	context[0] = '\0';
	if (!fmt)
		return;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
}

void ns_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(ns_shared->skip, sizeof(ns_shared->skip), fmt, ap);
	va_end(ap);
	_exit(0);
}

long ns_ok(long r, const char *expr, const char *file, int line)
{
	int e = errno;

	atomic_fetch_add(&ns_shared->asserts, 1);
	if (r < 0)
		ns_fail(file, line, "%s: %s", expr, strerror(e));
	return r;
}

void ns_err(int want, const char *name, long r, const char *expr, const char *file, int line)
{
	int e = errno;

	atomic_fetch_add(&ns_shared->asserts, 1);
	if (r >= 0)
		ns_fail(file, line, "%s: gave %ld, expected %s", expr, r, name);
	else if (e != want)
		ns_fail(file, line, "%s: %s (%d), expected %s", expr, strerror(e), e, name);
}

void ns_eq(long long a, long long b, const char *as, const char *bs, const char *file, int line)
{
	atomic_fetch_add(&ns_shared->asserts, 1);
	if (a != b)
		ns_fail(file, line, "%s is %lld, expected %s = %lld", as, a, bs, b);
}

void ns_oct(unsigned long a, unsigned long b, const char *as, const char *bs, const char *file, int line)
{
	atomic_fetch_add(&ns_shared->asserts, 1);
	if (a != b)
		ns_fail(file, line, "%s is 0%lo, expected %s = 0%lo", as, a, bs, b);
}

bool ns_true(bool c, const char *expr, const char *file, int line)
{
	atomic_fetch_add(&ns_shared->asserts, 1);
	if (!c)
		ns_fail(file, line, "not so: %s", expr);
	return c;
}

void ns_str(const char *got, const char *want, const char *expr, const char *file, int line)
{
	atomic_fetch_add(&ns_shared->asserts, 1);
	if (strcmp(got, want))
		ns_fail(file, line, "%s is \"%.200s\", expected \"%.200s\"", expr, got, want);
}

/* ---- processes ---- */

pid_t ns_fork(void)
{
	pid_t pid = fork();

	if (pid < 0) {
		FAIL("fork: %s", strerror(errno));
		_exit(99);
	}
	/* no actor may outlive its check */
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

void ns_exit(void)
{
	_exit(0);
}

void ns_become(uid_t uid, gid_t gid, size_t ngroups, const gid_t *groups)
{
	if (setgroups(ngroups, groups) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) {
		FAIL("cannot become %u:%u: %s", uid, gid, strerror(errno));
		_exit(99);
	}
	/* a change of user id makes /proc/self root's, which checks need for their own descriptors */
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

bool ns_as(uid_t uid, gid_t gid, size_t ngroups, const gid_t *groups)
{
	pid_t pid = ns_fork();

	if (!pid) {
		ns_become(uid, gid, ngroups, groups);
		return true;
	}
	ns_wait(pid);
	return false;
}

int ns_status(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) != pid) {
		if (errno != EINTR) {
			FAIL("waitpid: %s", strerror(errno));
			return -1;
		}
	}
	return status;
}

void ns_wait(pid_t pid)
{
	int status = ns_status(pid);

	if (WIFSIGNALED(status))
		FAIL("child ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		FAIL("child ended with status %d", WEXITSTATUS(status));
}

void ns_gate_init(struct ns_gate *g)
{
	OK(pipe2(g->fd, O_CLOEXEC));
}

void ns_gate_open(struct ns_gate *g)
{
	EQ(write(g->fd[1], "x", 1), 1);
}

bool ns_gate_try(struct ns_gate *g, int ms)
{
	struct pollfd p = {.fd = g->fd[0], .events = POLLIN};
	char c;

	return poll(&p, 1, ms) == 1 && read(g->fd[0], &c, 1) == 1;
}

void ns_gate_pass(struct ns_gate *g)
{
	TRUE(ns_gate_try(g, 20000));
}

void ns_private_mounts(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		ns_skip("no mount namespace: %s", strerror(errno));
}

void ns_millisecond(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* ---- files ---- */

int mkfd(const char *path, int flags, mode_t mode)
{
	int fd = (int)OK(open(path, flags | O_CREAT | O_CLOEXEC, mode));

	if (fd >= 0)
		OK(fchmod(fd, mode));
	return fd;
}

void mkfile(const char *path, mode_t mode)
{
	int fd = mkfd(path, O_WRONLY | O_EXCL, mode);

	if (fd >= 0)
		close(fd);
}

void mkdata(const char *path, mode_t mode, const char *data)
{
	int fd = mkfd(path, O_WRONLY | O_EXCL, 0600);

	EQ(write(fd, data, strlen(data)), strlen(data));
	OK(fchmod(fd, mode));
	close(fd);
}

void mkdirm(const char *path, mode_t mode)
{
	OK(mkdir(path, 0700));
	OK(chmod(path, mode));
}

static void mksocket(const char *path, mode_t mode)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int s = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	OK(bind(s, (struct sockaddr *)&sa, sizeof(sa)));
	close(s);
	OK(chmod(path, mode));
}

void mkkind(char kind, const char *path, mode_t mode)
{
	switch (kind) {
	case 'f':
		mkfile(path, mode);
		break;
	case 'd':
		mkdirm(path, mode);
		break;
	case 's':
		mksocket(path, mode);
		break;
	case 'l':
		OK(symlink("symlink-target", path));
		break;
	default:
		OK(mknod(path, kind_type(kind) | 0600, kind == 'p' ? 0 : makedev(1, 3)));
		OK(chmod(path, mode));
	}
}

mode_t kind_type(char kind)
{
	static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFIFO, S_IFBLK, S_IFCHR, S_IFSOCK, S_IFLNK};

	return types[strchr(NS_KINDS, kind) - NS_KINDS];
}

int rmkind(char kind, const char *path)
{
	return kind == 'd' ? rmdir(path) : unlink(path);
}

void own(const char *path, uid_t uid, gid_t gid)
{
	OK(lchown(path, uid, gid));
}

void ns_has(const char *path, const char *text, const char *file, int line)
{
	char buf[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0) {
		ns_fail(file, line, "open %s: %s", path, strerror(errno));
		return;
	}
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	ns_str(buf, text, path, file, line);
}

void put(const char *path, const char *text)
{
	int fd = (int)OK(open(path, O_WRONLY | O_CLOEXEC));

	EQ(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

void fill(char *buf, size_t len, unsigned int seed)
{
	uint32_t x = seed * 2654435761u + 1;
	size_t i;

	for (i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		buf[i] = (char)(x >> 24);
	}
}

struct stat st_of(const char *path)
{
	struct stat st;

	memset(&st, 0, sizeof(st));
	OK(lstat(path, &st));
	return st;
}

struct stat st_fd(int fd)
{
	struct stat st;

	memset(&st, 0, sizeof(st));
	OK(fstat(fd, &st));
	return st;
}

char *repeat(char c, size_t n)
{
	char *s = malloc(n + 1);

	memset(s, c, n);
	s[n] = '\0';
	return s;
}

char *deep_path(size_t len)
{
	char *p = repeat('d', len);
	size_t i;

	for (i = 200; i + 2 < len; i += 201) {
		p[i] = '\0';
		OK(mkdir(p, 0755));
		p[i] = '/';
	}
	return p;
}

long sysctl_value(const char *path)
{
	char buf[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? strtol(buf, NULL, 10) : -1;
}

/* ---- time stamps ---- */

int ts_cmp(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

/*
 * Stamps come from the coarse clock, or from the fine one when someone looked at the old stamp; so they are
 * later than the fine clock of now once the coarse clock has passed it.
 */
void tick(void)
{
	struct timespec start, now;
	int i;

	clock_gettime(CLOCK_REALTIME, &start);
	for (i = 0; i < 1000; i++) {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
		if (ts_cmp(now, start) > 0)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	FAIL("the coarse clock stands still");
}

void ns_stamps(const struct stat *was, const char *path, int want, const char *stmt, const char *file,
	       int line)
{
	struct stat now = st_of(path);
	const struct timespec *before[] = {&was->st_atim, &was->st_mtim, &was->st_ctim};
	const struct timespec *after[] = {&now.st_atim, &now.st_mtim, &now.st_ctim};
	int i;

	for (i = 0; i < 3; i++) {
		bool changed = ts_cmp(*before[i], *after[i]) != 0;

		atomic_fetch_add(&ns_shared->asserts, 1);
		if (changed != !!(want & 1 << i))
			ns_fail(file, line, "%s: %ctime of %s %s", stmt, "amc"[i], path,
				changed ? "changed" : "did not change");
	}
}
