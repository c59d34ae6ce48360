/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Harness of nsconform. A check is a function that runs in a child process of its own: root, umask 0, the
 * working directory a fresh directory of mode 0755 in the tested filesystem, which the runner removes
 * afterwards. A failed expectation is printed as a TAP comment and counted; the check goes on.
 *
 * The reference is tmpfs: a check that tmpfs does not pass is wrong, whatever a standard says.
 */
#ifndef SPM_TESTS_NS_H
#define SPM_TESTS_NS_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define NS_LEN(a)	(sizeof(a) / sizeof((a)[0]))
#define NS_PRINTF(f, a) __attribute__((format(printf, f, a)))

struct ns_check {
	const char *name;
	void (*fn)(void);
};

/* by_request: needs a mount of a certain kind, runs only when the group is named with -g. */
struct ns_group {
	const char *name;
	const struct ns_check *checks;
	bool by_request;
};

/* clang-format off */
#define CHECK(f) { #f, f }
#define CHECKS_END { NULL, NULL }
/* clang-format on */

extern const struct ns_check checks_path[], checks_mode[], checks_owner[], checks_suid[], checks_link[],
	checks_dir[], checks_node[], checks_open[], checks_unlinked[], checks_rename[], checks_time[],
	checks_xattr[], checks_acl[], checks_data[], checks_space[], checks_mmap[], checks_exec[],
	checks_lock[], checks_list[], checks_notify[], checks_full[], checks_flags[];

/* Users and groups that need no account. */
enum { U1 = 30001, U2 = 30002, U3 = 30003, G1 = 40001, G2 = 40002, G3 = 40003 };

/* Settings from the command line. */
extern unsigned int ns_entries; /* size of the large directory */
extern const char *ns_self;	/* path of this program */

/* ---- expectations; e is a system call that gives -1 and errno ---- */

#define OK(e)	     ns_ok((errno = 0, (long)(e)), #e, __FILE__, __LINE__)
#define ERR(want, e) ns_err((want), #want, (errno = 0, (long)(e)), #e, __FILE__, __LINE__)
#define EQ(a, b)     ns_eq((long long)(a), (long long)(b), #a, #b, __FILE__, __LINE__)
#define OCT(a, b)    ns_oct((unsigned long)(a), (unsigned long)(b), #a, #b, __FILE__, __LINE__)
#define TRUE(c)	     ns_true((c), #c, __FILE__, __LINE__)
#define STR(a, b)    ns_str((a), (b), #a, __FILE__, __LINE__)
#define FAIL(...)    ns_fail(__FILE__, __LINE__, __VA_ARGS__)

long ns_ok(long r, const char *expr, const char *file, int line);
void ns_err(int want, const char *name, long r, const char *expr, const char *file, int line);
void ns_eq(long long a, long long b, const char *as, const char *bs, const char *file, int line);
void ns_oct(unsigned long a, unsigned long b, const char *as, const char *bs, const char *file, int line);
bool ns_true(bool c, const char *expr, const char *file, int line);
void ns_str(const char *got, const char *want, const char *expr, const char *file, int line);
void ns_fail(const char *file, int line, const char *fmt, ...) NS_PRINTF(3, 4);
void ns_skip(const char *fmt, ...) __attribute__((noreturn)) NS_PRINTF(1, 2);
/* Added to every failure line until changed; NULL for none. */
void ns_context(const char *fmt, ...) NS_PRINTF(1, 2);

/* ---- processes ---- */

/*
 * AS(user, group) { ... } runs the block in a child process with these credentials and no capabilities, and
 * waits for it. Variables that it changes are the child's own; descriptors are shared.
 */
#define AS(u, g) for (bool in_ = ns_as((u), (g), 0, NULL); in_; in_ = false, ns_exit())
#define AS_GROUPS(u, g, ...)                                                                                 \
	for (bool in_ = ns_as((u), (g), sizeof((gid_t[]){__VA_ARGS__}) / sizeof(gid_t),                      \
			      (gid_t[]){__VA_ARGS__});                                                       \
	     in_; in_ = false, ns_exit())
/* The same as root, for what must not touch the check's own process. */
#define CHILD() for (bool in_ = ns_as(0, 0, 0, NULL); in_; in_ = false, ns_exit())

bool ns_as(uid_t uid, gid_t gid, size_t ngroups, const gid_t *groups);
void ns_become(uid_t uid, gid_t gid, size_t ngroups, const gid_t *groups);
void ns_exit(void) __attribute__((noreturn));
pid_t ns_fork(void);
void ns_wait(pid_t pid);  /* expects a clean end */
int ns_status(pid_t pid); /* status as waitpid gives it, whatever it is */

/* A gate lets one process wait for another: each open() lets one pass() through. Bounded wait. */
struct ns_gate {
	int fd[2];
};

void ns_gate_init(struct ns_gate *g);
void ns_gate_open(struct ns_gate *g);
void ns_gate_pass(struct ns_gate *g);
bool ns_gate_try(struct ns_gate *g, int ms); /* false when nobody opened within the time */

/* Gives this process mounts of its own; what it mounts is gone when it ends. */
void ns_private_mounts(void);
/* Tries cond until it is true, at most about ms milliseconds. */
#define NS_WITHIN(ms, cond)                                                                                  \
	({                                                                                                   \
		int left_ = (ms);                                                                            \
		bool ok_ = (cond);                                                                           \
		while (!ok_ && left_-- > 0) {                                                                \
			ns_millisecond();                                                                    \
			ok_ = (cond);                                                                        \
		}                                                                                            \
		ok_;                                                                                         \
	})
void ns_millisecond(void);

/* ---- files; all of these count a failure themselves ---- */

int mkfd(const char *path, int flags, mode_t mode);	      /* open; mode exactly as given */
void mkfile(const char *path, mode_t mode);		      /* empty */
void mkdata(const char *path, mode_t mode, const char *data); /* with content */
void mkdirm(const char *path, mode_t mode);		      /* mode exactly as given */
/* One letter a kind: f file, d directory, p fifo, b block, c character, s socket, l symbolic link. */
#define NS_KINDS "fdpbcsl"
void mkkind(char kind, const char *path, mode_t mode);
int rmkind(char kind, const char *path);
mode_t kind_type(char kind);
void own(const char *path, uid_t uid, gid_t gid); /* lchown */
/* content of a small file equals text */
#define HAS(path, text) ns_has((path), (text), __FILE__, __LINE__)
void ns_has(const char *path, const char *text, const char *file, int line);
void put(const char *path, const char *text);	     /* writes over the beginning */
void fill(char *buf, size_t len, unsigned int seed); /* bytes that differ by seed */

struct stat st_of(const char *path); /* lstat; zeroes when it fails */
struct stat st_fd(int fd);
static inline mode_t mode_of(const char *path)
{
	return st_of(path).st_mode & 07777;
}

static inline nlink_t nlink_of(const char *path)
{
	return st_of(path).st_nlink;
}

static inline ino_t ino_of(const char *path)
{
	return st_of(path).st_ino;
}

static inline off_t size_of(const char *path)
{
	return st_of(path).st_size;
}

static inline bool exists(const char *path)
{
	struct stat st;
	return !lstat(path, &st);
}

/* A path of exactly len bytes to a name in a chain of directories that is made for it; free() it. */
char *deep_path(size_t len);
/* A string of n times c; free() it. */
char *repeat(char c, size_t n);
long sysctl_value(const char *path); /* -1 when it cannot be read */

/* ---- time stamps ---- */

enum { NS_A = 1, NS_M = 2, NS_C = 4 };

/* Afterwards every new stamp is later than every one given before. */
void tick(void);
int ts_cmp(struct timespec a, struct timespec b);
/* Which of a, m, c of path does the statement change? The parentheses hold the expected ones. */
#define STAMPS(path, want, stmt)                                                                             \
	do {                                                                                                 \
		struct stat was_ = st_of(path);                                                              \
		tick();                                                                                      \
		stmt;                                                                                        \
		ns_stamps(&was_, (path), (want), #stmt, __FILE__, __LINE__);                                 \
	} while (0)
void ns_stamps(const struct stat *was, const char *path, int want, const char *stmt, const char *file,
	       int line);

#endif
