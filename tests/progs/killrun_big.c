/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A big directory, listed in small steps while names come and go. Names that stay are listed once each; names that
 * go are never used again, so no name is listed twice; a position leads back to where it was taken.
 */
#include "tests/progs/killrun.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LIVE = 40, SEEN = 1 << 14, STEP = 3000 };

struct big {
	int dir, list; /* list: -1 when no listing is under way */
	unsigned int live[LIVE], live_count, next;
	bool keep[BIG_DIR];
	unsigned int keeps, mine;
	uint64_t seen[SEEN]; /* other names of this listing, 0: free */
	off_t marked;	     /* a position, and the first name that stays behind it */
	int marked_keep;     /* -1: not known yet, -2: no position yet */
};

struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

int big_make(int common)
{
	char name[32];
	int dir, fd;

	if (mkdirat(common, "big", 0777))
		return -1;
	dir = openat(common, "big", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < BIG_DIR; i++) {
		snprintf(name, sizeof(name), "keep.%d", i);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			return -1;
		close(fd);
	}
	close(dir);
	return 0;
}

void big_begin(struct runner *r)
{
	r->big = calloc(1, sizeof(*r->big));
	if (!r->big)
		_exit(2);
	r->big->dir = openat(r->common, "big", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r->big->list = -1;
	if (r->big->dir < 0)
		differ(&r->w, "the big directory cannot be opened: %s", strerror(errno));
}

static void one(struct runner *r, int res, const char *what)
{
	if (res >= 0)
		return;
	r->w.error = true;
	differ(&r->w, "%s: %s", what, strerrorname_np(errno));
}

/* Makes, renames or removes a name of this process's own. */
static void churn(struct runner *r)
{
	struct big *b = r->big;
	unsigned int what = below(&r->w, 5), i = b->live_count ? below(&r->w, b->live_count) : 0;
	char from[32], to[32];
	int rc;

	snprintf(from, sizeof(from), "p%u.%u", r->w.id, b->live[i]);
	snprintf(to, sizeof(to), "p%u.%u", r->w.id, b->next);
	if (b->live_count < LIVE && (what < 3 || !b->live_count)) {
		say(&r->w, "create big/%s", to);
		meter_begin(&r->w, 0);
		rc = openat(b->dir, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		meter_end(&r->w, 0);
		one(r, rc, "create");
		close(rc);
		b->live[b->live_count++] = b->next++;
	} else if (what == 3) {
		say(&r->w, "rename big/%s to %s", from, to);
		meter_begin(&r->w, 0);
		rc = renameat(b->dir, from, b->dir, to);
		meter_end(&r->w, 0);
		one(r, rc, "rename");
		b->live[i] = b->next++;
	} else {
		say(&r->w, "unlink big/%s", from);
		meter_begin(&r->w, 0);
		rc = unlinkat(b->dir, from, 0);
		meter_end(&r->w, 0);
		one(r, rc, "unlink");
		b->live[i] = b->live[--b->live_count];
	}
}

static void begin_listing(struct runner *r)
{
	struct big *b = r->big;

	say(&r->w, "list big");
	memset(b->keep, 0, sizeof(b->keep));
	memset(b->seen, 0, sizeof(b->seen));
	b->keeps = b->mine = 0;
	b->marked_keep = -2;
	b->list = openat(b->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	one(r, b->list, "open of the big directory");
}

static bool is_live(const struct big *b, unsigned int number)
{
	for (unsigned int i = 0; i < b->live_count; i++)
		if (b->live[i] == number)
			return true;
	return false;
}

static void saw_other(struct runner *r, const char *name)
{
	struct big *b = r->big;
	unsigned int process, number, at;
	uint64_t key;

	if (sscanf(name, "p%u.%u", &process, &number) != 2)
		differ(&r->w, "the big directory has an entry %s", name);
	if (process == r->w.id) {
		if (!is_live(b, number))
			differ(&r->w, "%s is listed, but was removed", name);
		b->mine++;
	}
	key = (uint64_t)process << 32 | number | UINT64_C(1) << 63;
	for (at = (unsigned int)(key * 0x9e3779b97f4a7c15u >> 50); b->seen[at]; at = (at + 1) % SEEN)
		if (b->seen[at] == key)
			differ(&r->w, "%s is listed twice", name);
	b->seen[at] = key;
}

static void saw(struct runner *r, const struct linux_dirent64 *e)
{
	struct big *b = r->big;
	unsigned int number;

	if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
		return;
	if (e->d_type != DT_REG)
		differ(&r->w, "%s is listed as type %u", e->d_name, e->d_type);
	if (sscanf(e->d_name, "keep.%u", &number) != 1) {
		saw_other(r, e->d_name);
		return;
	}
	if (number >= BIG_DIR || b->keep[number])
		differ(&r->w, "%s is listed twice", e->d_name);
	b->keep[number] = true;
	b->keeps++;
	if (b->marked_keep == -1)
		b->marked_keep = (int)number;
	if (b->marked_keep == -2 && below(&r->w, 300) == 0) {
		b->marked = (off_t)e->d_off;
		b->marked_keep = -1;
	}
}

/* The first name that stays behind the position that was marked. */
static void check_mark(struct runner *r)
{
	struct big *b = r->big;
	char buf[STEP] __attribute__((aligned(8)));
	unsigned int number;
	long n, at;

	if (b->marked_keep < 0)
		return;
	say(&r->w, "back to a position of big");
	one(r, lseek(b->list, b->marked, SEEK_SET) < 0 ? -1 : 0, "lseek of a directory");
	while ((n = syscall(SYS_getdents64, b->list, buf, sizeof(buf))) > 0)
		for (at = 0; at < n;) {
			const struct linux_dirent64 *e = (const void *)(buf + at);

			if (sscanf(e->d_name, "keep.%u", &number) == 1) {
				if (number != (unsigned int)b->marked_keep)
					differ(&r->w, "at a position that was before keep.%d is now %s",
					       b->marked_keep, e->d_name);
				return;
			}
			at += e->d_reclen;
		}
	one(r, (int)n, "getdents");
	differ(&r->w, "behind a position that was before keep.%d nothing is listed", b->marked_keep);
}

static void step(struct runner *r)
{
	char buf[STEP] __attribute__((aligned(8)));
	struct big *b = r->big;
	long n, at;

	say(&r->w, "list big further");
	meter_begin(&r->w, 0);
	n = syscall(SYS_getdents64, b->list, buf, sizeof(buf));
	meter_end(&r->w, 0);
	one(r, (int)n, "getdents");
	for (at = 0; at < n; at += ((const struct linux_dirent64 *)(const void *)(buf + at))->d_reclen)
		saw(r, (const void *)(buf + at));
	if (n)
		return;
	if (b->keeps != BIG_DIR || b->mine != b->live_count)
		differ(&r->w, "%u of %u names that stay are listed, and %u of %u own ones", b->keeps, BIG_DIR,
		       b->mine, b->live_count);
	check_mark(r);
	close(b->list);
	b->list = -1;
}

void big_operation(struct runner *r)
{
	if (r->big->list >= 0)
		step(r);
	else if (below(&r->w, 6) == 0)
		begin_listing(r);
	else
		churn(r);
	r->w.ops++;
}

void big_end(struct runner *r)
{
	while (r->big->list >= 0)
		step(r);
	close(r->big->dir);
}
