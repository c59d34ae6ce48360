/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The directory in which all processes work on the same names. No reference can say what comes out of a race, but
 * this must hold whatever happens to the server:
 *
 *	locks     one holder at a time, and what he wrote is there for the next one
 *	tokens    a name that is made exclusively has one maker, who can remove it; no maker is told that it failed
 *	log       each record that was appended is there once, in the order of its writer
 *	current   a name that is only ever replaced always leads to a whole file
 *	swap.N    names that are only ever exchanged keep their contents, each once
 */
#include "tests/progs/killrun.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SWAPS = 8, STUCK_S = 20 };

struct record {
	uint32_t process, check;
	uint64_t number;
};

/* A call on the tested side alone. */
#define ONE(r, call)                                                                                         \
	do {                                                                                                 \
		meter_begin(&(r)->w, 0);                                                                     \
		(r)->w.res[0] = (long)(call);                                                                \
		(r)->w.err[0] = (r)->w.res[0] < 0 ? errno : 0;                                               \
		meter_end(&(r)->w, 0);                                                                       \
	} while (0)

/* And it cannot fail. */
#define MUST(r, call, what)                                                                                  \
	do {                                                                                                 \
		ONE(r, call);                                                                                \
		if ((r)->w.res[0] < 0)                                                                       \
			refused(r, what);                                                                    \
	} while (0)

static void __attribute__((noreturn)) refused(struct runner *r, const char *what)
{
	r->w.error = true;
	differ(&r->w, "%s: %s", what, strerrorname_np(r->w.err[0]));
}

static uint32_t check_of(uint64_t process, uint64_t number)
{
	return (uint32_t)((process * 0x9e3779b97f4a7c15u ^ number) * 0xbf58476d1ce4e5b9u >> 32);
}

/* ---- locks: 0 flock, 1 POSIX, 2 of the open file description ---- */

static int lock_call(int fd, unsigned int k, short type, bool wait)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET};

	if (k == 0)
		return flock(fd, (type == F_UNLCK ? LOCK_UN : LOCK_EX) | (wait ? 0 : LOCK_NB));
	if (k == 1)
		return fcntl(fd, wait ? F_SETLKW : F_SETLK, &fl);
	return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &fl);
}

static void take_lock(struct runner *r)
{
	unsigned int k = below(&r->w, LOCKS), nobody = 0;
	bool wait = below(&r->w, 3) == 0;
	uint64_t count = 0;

	say(&r->w, "lock %u%s", k, wait ? " and wait" : "");
	/* how long it takes is the holder's affair: not measured when it waits */
	if (wait)
		r->w.res[0] = lock_call(r->lock_fd[k], k, F_WRLCK, true), r->w.err[0] = errno;
	else
		ONE(r, lock_call(r->lock_fd[k], k, F_WRLCK, false));
	if (r->w.res[0] && !wait && (r->w.err[0] == EAGAIN || r->w.err[0] == EACCES))
		return;
	if (r->w.res[0])
		refused(r, "lock");
	if (!atomic_compare_exchange_strong(&r->sh->locks[k].owner, &nobody, r->w.id + 1)) {
		/* of a process that has failed, the kernel gives back what it held: that is what went wrong */
		if (atomic_load(&r->meter->errors) || atomic_load(&r->meter->differences))
			_exit(1);
		differ(&r->w, "lock %u was given while process %u holds it", k, nobody - 1);
	}
	r->locked = true;
	r->lock = k;
	r->lock_left = below(&r->w, 10);
	MUST(r, pread(r->lock_fd[k], &count, sizeof(count), 0), "pread of the counter");
	if (count != atomic_load(&r->sh->locks[k].taken))
		differ(&r->w, "the counter under lock %u is %" PRIu64 ", it was left at %" PRIu64, k, count,
		       atomic_load(&r->sh->locks[k].taken));
}

static void leave_lock(struct runner *r)
{
	unsigned int k = r->lock, me = r->w.id + 1;
	uint64_t count = atomic_load(&r->sh->locks[k].taken) + 1;

	say(&r->w, "unlock %u", k);
	MUST(r, pwrite(r->lock_fd[k], &count, sizeof(count), 0), "pwrite of the counter");
	atomic_store(&r->sh->locks[k].taken, count);
	if (!atomic_compare_exchange_strong(&r->sh->locks[k].owner, &me, 0))
		differ(&r->w, "lock %u is held, but process %u got it", k, me - 1);
	r->locked = false;
	MUST(r, lock_call(r->lock_fd[k], k, F_UNLCK, false), "unlock");
}

/* ---- tokens ---- */

static int take_call(struct runner *r, unsigned int k, const char *name, const char *mine)
{
	int fd;

	switch (k) {
	case 0:
		fd = openat(r->common, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		return fd < 0 ? -1 : close(fd);
	case 1:
		return mkdirat(r->common, name, 0700);
	case 2:
		return linkat(r->common, "source", r->common, name, 0);
	case 3:
		return (int)syscall(SYS_renameat2, r->common, mine, r->common, name, RENAME_NOREPLACE);
	case 4:
		return symlinkat(mine, r->common, name);
	default:
		return mknodat(r->common, name, S_IFIFO | 0600, 0);
	}
}

static void use_token(struct runner *r)
{
	unsigned int k = below(&r->w, TOKENS), nobody = 0;
	char name[32], mine[32];
	uint64_t changed = atomic_load(&r->sh->tokens[k].changed_ns);
	struct stat st;

	snprintf(name, sizeof(name), "token%u", k);
	snprintf(mine, sizeof(mine), "mine%u", r->w.id);
	say(&r->w, "make %s", name);
	ONE(r, take_call(r, k, name, mine));
	if (r->w.res[0] && r->w.err[0] == EEXIST) {
		if (!atomic_load(&r->sh->tokens[k].owner) &&
		    changed == atomic_load(&r->sh->tokens[k].changed_ns) &&
		    stress_now() - changed > STUCK_S * UINT64_C(1000000000))
			differ(&r->w, "%s is there, but nobody was told that he made it", name);
		return;
	}
	if (r->w.res[0])
		refused(r, name);
	if (!atomic_compare_exchange_strong(&r->sh->tokens[k].owner, &nobody, r->w.id + 1))
		differ(&r->w, "%s was made while process %u had it", name, nobody - 1);
	atomic_store(&r->sh->tokens[k].changed_ns, stress_now());
	MUST(r, fstatat(r->common, name, &st, AT_SYMLINK_NOFOLLOW), "stat of a name just made");
	say(&r->w, "remove %s", name);
	atomic_store(&r->sh->tokens[k].owner, 0);
	if (k == 3)
		MUST(r, syscall(SYS_renameat2, r->common, name, r->common, mine, RENAME_NOREPLACE),
		     "rename back");
	else
		MUST(r, unlinkat(r->common, name, k == 1 ? AT_REMOVEDIR : 0), "removal of a name just made");
	atomic_store(&r->sh->tokens[k].changed_ns, stress_now());
}

/* ---- names that are replaced or exchanged, records that are appended ---- */

static void replace_current(struct runner *r)
{
	struct record rec = {.process = r->w.id, .number = r->w.ops};
	char name[32];
	int fd;

	rec.check = check_of(rec.process, rec.number);
	snprintf(name, sizeof(name), "next%u", r->w.id);
	say(&r->w, "replace current by %s", name);
	MUST(r, openat(r->common, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "create");
	fd = (int)r->w.res[0];
	MUST(r, write(fd, &rec, sizeof(rec)), "write");
	close(fd);
	MUST(r, renameat(r->common, name, r->common, "current"), "replacing rename");
}

static void read_current(struct runner *r)
{
	struct record rec = {0};
	int fd;

	say(&r->w, "read current");
	MUST(r, openat(r->common, "current", O_RDONLY | O_CLOEXEC), "open of a name that is always there");
	fd = (int)r->w.res[0];
	MUST(r, read(fd, &rec, sizeof(rec)), "read");
	if (r->w.res[0] != sizeof(rec) || rec.check != check_of(rec.process, rec.number))
		differ(&r->w, "current has %ld bytes or wrong ones", r->w.res[0]);
	close(fd);
}

static void exchange(struct runner *r)
{
	unsigned int a = below(&r->w, SWAPS), b = (a + 1 + below(&r->w, SWAPS - 1)) % SWAPS;
	char from[16], to[16];

	snprintf(from, sizeof(from), "swap.%u", a);
	snprintf(to, sizeof(to), "swap.%u", b);
	say(&r->w, "exchange %s and %s", from, to);
	MUST(r, syscall(SYS_renameat2, r->common, from, r->common, to, RENAME_EXCHANGE), "exchange");
}

static void append(struct runner *r)
{
	struct record rec = {.process = r->w.id, .number = atomic_load(&r->sh->appended[r->w.id])};

	rec.check = check_of(rec.process, rec.number);
	say(&r->w, "append record %" PRIu64, rec.number);
	MUST(r, write(r->append_fd, &rec, sizeof(rec)), "append");
	if (r->w.res[0] != sizeof(rec))
		differ(&r->w, "%ld bytes were appended", r->w.res[0]);
	atomic_fetch_add(&r->sh->appended[r->w.id], 1);
}

void common_operation(struct runner *r)
{
	unsigned int what = below(&r->w, 20);

	if (r->locked && !r->lock_left--)
		leave_lock(r);
	else if (!r->locked && what < 5)
		take_lock(r);
	else if (what < 11)
		use_token(r);
	else if (what < 14)
		append(r);
	else if (what < 16)
		replace_current(r);
	else if (what < 18)
		read_current(r);
	else
		exchange(r);
	r->w.ops++;
}

/* ---- beginning and end ---- */

static int put_file(int dir, const char *name, const void *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), rc;

	if (fd < 0)
		return -1;
	rc = write(fd, data, len) == (ssize_t)len ? 0 : -1;
	close(fd);
	return rc;
}

/* Before there is any process. */
int common_make(const char *tested)
{
	const struct record first = {.check = check_of(0, 0)};
	const uint64_t zero = 0;
	char path[PATH_MAX], name[32];
	unsigned int i;
	int dir, rc;

	snprintf(path, sizeof(path), "%s/common", tested);
	if (mkdir(path, 0777))
		return -1;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	rc = put_file(dir, "source", "", 0) | put_file(dir, "log", "", 0) |
	     put_file(dir, "current", &first, sizeof(first));
	for (i = 0; i < LOCKS; i++) {
		snprintf(name, sizeof(name), "lock%u", i);
		rc |= put_file(dir, name, &zero, sizeof(zero));
	}
	for (i = 0; i < SWAPS; i++) {
		snprintf(name, sizeof(name), "swap.%u", i);
		rc |= put_file(dir, name, &i, sizeof(i));
	}
	for (i = 0; i < PROCESSES_MAX; i++) {
		snprintf(name, sizeof(name), "mine%u", i);
		rc |= put_file(dir, name, "", 0);
	}
	rc |= big_make(dir);
	close(dir);
	return rc;
}

void common_begin(struct runner *r)
{
	char name[PATH_MAX];
	unsigned int i;

	snprintf(name, sizeof(name), "%s/common", r->sides[0]);
	r->common = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r->append_fd = openat(r->common, "log", O_WRONLY | O_APPEND | O_CLOEXEC);
	for (i = 0; i < LOCKS; i++) {
		snprintf(name, sizeof(name), "lock%u", i);
		r->lock_fd[i] = openat(r->common, name, O_RDWR | O_CLOEXEC);
		if (r->lock_fd[i] < 0)
			differ(&r->w, "cannot open %s: %s", name, strerror(errno));
	}
	if (r->append_fd < 0)
		differ(&r->w, "cannot open the log: %s", strerror(errno));
}

void common_end(struct runner *r)
{
	if (r->locked)
		leave_lock(r);
}

static void check_log(struct runner *r, unsigned int processes)
{
	int fd = openat(r->common, "log", O_RDONLY | O_CLOEXEC);
	uint64_t next[PROCESSES_MAX] = {0}, at = 0;
	struct record rec;
	ssize_t n;

	while ((n = read(fd, &rec, sizeof(rec))) == (ssize_t)sizeof(rec)) {
		if (rec.process >= processes || rec.check != check_of(rec.process, rec.number))
			differ(&r->w, "the log has garbage at record %" PRIu64, at);
		if (rec.number != next[rec.process]++)
			differ(&r->w,
			       "the log has record %" PRIu64 " of process %u where %" PRIu64 " is next",
			       rec.number, rec.process, next[rec.process] - 1);
		at++;
	}
	if (n)
		differ(&r->w, "the log ends with %zd bytes: %s", n,
		       n < 0 ? strerror(errno) : "no whole record");
	for (unsigned int i = 0; i < processes; i++)
		if (next[i] != atomic_load(&r->sh->appended[i]))
			differ(&r->w, "process %u appended %" PRIu64 " records, the log has %" PRIu64, i,
			       atomic_load(&r->sh->appended[i]), next[i]);
	close(fd);
}

static void check_swaps(struct runner *r)
{
	unsigned int seen = 0, i, v;
	char name[32];
	int fd;

	for (i = 0; i < SWAPS; i++) {
		snprintf(name, sizeof(name), "swap.%u", i);
		fd = openat(r->common, name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, &v, sizeof(v)) != sizeof(v) || v >= SWAPS)
			differ(&r->w, "%s cannot be read", name);
		seen |= 1u << v;
		close(fd);
	}
	if (seen != (1u << SWAPS) - 1)
		differ(&r->w, "of the names that were exchanged 0x%x are left", seen);
}

void common_check(struct runner *r, unsigned int processes)
{
	struct stat st;
	char name[32];
	unsigned int i;

	common_begin(r);
	say(&r->w, "check of the common directory");
	check_log(r, processes);
	check_swaps(r);
	for (i = 0; i < TOKENS; i++) {
		snprintf(name, sizeof(name), "token%u", i);
		if (!fstatat(r->common, name, &st, AT_SYMLINK_NOFOLLOW) || errno != ENOENT)
			differ(&r->w, "%s is still there", name);
	}
	if (fstatat(r->common, "source", &st, 0) || st.st_nlink != 1)
		differ(&r->w, "source has %lu links", (unsigned long)st.st_nlink);
	for (i = 0; i < LOCKS; i++) {
		uint64_t count = 0;

		if (pread(r->lock_fd[i], &count, sizeof(count), 0) != sizeof(count) ||
		    count != atomic_load(&r->sh->locks[i].taken))
			differ(&r->w,
			       "the counter under lock %u is %" PRIu64 ", it was taken %" PRIu64 " times", i,
			       count, atomic_load(&r->sh->locks[i].taken));
	}
}
