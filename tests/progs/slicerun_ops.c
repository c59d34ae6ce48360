/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The steps: each does one thing to one slice, and knows which results it may have. */
#include "tests/progs/slicerun.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK	 65536u
#define MIB	 (UINT64_C(1) << 20)
#define FILE_MAX (4 * MIB)

static void pattern(uint64_t *buf, uint64_t at, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes / 8; i++)
		buf[i] = (at / 8 + i + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed;
}

/* Writes @text to a control file; 0 or -errno. */
static int control(const struct run *r, const char *file, const char *text)
{
	char path[512];
	int fd, rc = 0;

	snprintf(path, sizeof(path), "%s/%s", r->mnt, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static void limits_at_random(struct run *r, uint64_t *min, uint64_t *max)
{
	*min = pick(r, 2) ? 0 : pick(r, r->device / 16 / r->unit) * r->unit;
	*max = MIB + pick(r, r->device / 3 / r->unit) * r->unit;
	if (!pick(r, 5))
		*max = UINT64_MAX;
}

static void words(char *out, size_t size, const char *verb, const struct slice *s, uint64_t min, uint64_t max)
{
	if (max == UINT64_MAX)
		snprintf(out, size, "%s %s min=%llu max=max", verb, s->name, (unsigned long long)min);
	else
		snprintf(out, size, "%s %s min=%llu max=%llu", verb, s->name, (unsigned long long)min,
			 (unsigned long long)max);
}

static void create(struct run *r, struct slice *s)
{
	uint64_t min, max;
	int rc;

	limits_at_random(r, &min, &max);
	words(r->did, sizeof(r->did), "create", s, min, max);
	rc = control(r, ".spm/slice", r->did);
	if (s->there) {
		if (rc != -EEXIST)
			wrong(r, "%s, and it is there", strerror(-rc));
	} else if (!rc && min > max) {
		wrong(r, "min above max is taken");
	} else if (!rc) {
		*s = (struct slice){.there = true, .min = min, .max = max};
		snprintf(s->name, sizeof(s->name), "p%u.%d", r->who, (int)(s - r->slice));
	} else if (rc == -ERANGE ? min <= max : rc != -ENOSPC) {
		wrong(r, "%s", strerror(-rc));
	} else {
		r->all->refused++;
	}
}

static void set(struct run *r, struct slice *s)
{
	uint64_t min, max, used = used_by(r, s);
	int rc;

	limits_at_random(r, &min, &max);
	words(r->did, sizeof(r->did), "set", s, min, max);
	rc = control(r, ".spm/slice", r->did);
	if (!s->there) {
		if (rc != -ENOENT)
			wrong(r, "%s, and there is none", strerror(-rc));
		return;
	}
	if (!rc && (min > max || (!r->swap && used > max)))
		wrong(r, "taken, and %llu are in use", (unsigned long long)used);
	if (!rc) {
		s->min = min;
		s->max = max;
		return;
	}
	r->all->refused++;
	if (rc == -ERANGE ? min <= max : rc == -EBUSY ? used <= max : rc == -ENOSPC ? min <= s->min : true)
		wrong(r, "%s, with %llu in use and a min of %llu before", strerror(-rc),
		      (unsigned long long)used, (unsigned long long)s->min);
}

static void drop(struct run *r, struct slice *s, bool force)
{
	bool empty = !used_by(r, s);
	int rc;

	snprintf(r->did, sizeof(r->did), "remove %s%s", s->name, force ? " force" : "");
	rc = control(r, ".spm/slice", r->did);
	if (!s->there ? rc != -ENOENT : !empty && !force ? rc != -ENOTEMPTY : rc)
		wrong(r, "%s, with %llu in use", strerror(-rc), (unsigned long long)used_by(r, s));
	if (!rc) {
		s->there = false;
		memset(s->file, 0, sizeof(s->file));
	}
}

/* How much of it could be written. */
static uint64_t write_all(int fd, uint64_t bytes, uint64_t seed)
{
	static uint64_t buf[CHUNK / 8];
	uint64_t at = 0;

	while (at < bytes) {
		size_t part = bytes - at < CHUNK ? bytes - at : CHUNK;
		ssize_t n;

		pattern(buf, at, part, seed);
		n = pwrite(fd, buf, part, (off_t)at);
		if (n <= 0)
			break;
		at += (uint64_t)n;
	}
	return at;
}

static uint64_t map_all(int fd, uint64_t bytes, uint64_t seed)
{
	void *p;

	if (ftruncate(fd, (off_t)bytes))
		return 0;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return 0;
	pattern(p, 0, bytes, seed);
	munmap(p, bytes);
	return bytes;
}

/* A new file; what is refused of it is cut off. */
static void fill(struct run *r, struct slice *s, int f)
{
	uint64_t bytes = (1 + pick(r, FILE_MAX / PAGE)) * PAGE, seed = pick(r, UINT64_MAX), got = 0,
		 before = used_by(r, s);
	bool mapped = pick(r, 3) == 0;
	char path[512];
	int fd, rc;

	path_of(r, s, f, path, sizeof(path));
	snprintf(r->did, sizeof(r->did), "%s %s/f%d %llu", mapped ? "map" : "write", s->name, f,
		 (unsigned long long)bytes);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		wrong(r, "open: %s", strerror(errno));
		return;
	}
	got = mapped ? map_all(fd, bytes, seed) : write_all(fd, bytes, seed);
	rc = errno;
	if (got < bytes && rc != ENOSPC && rc != EDQUOT)
		wrong(r, "%s", strerror(rc));
	if (got < bytes && before + units(r, bytes) <= s->min)
		wrong(r, "refused within min");
	if (!r->swap && before + got > s->max)
		wrong(r, "taken beyond max");
	if (got < bytes)
		r->all->refused++;
	got &= ~(uint64_t)(PAGE - 1);
	if (ftruncate(fd, (off_t)got))
		wrong(r, "ftruncate to %llu: %s", (unsigned long long)got, strerror(errno));
	/* memory for a mirror's pages is found when they are written back: here at the latest one is told that there was none */
	if (close(fd)) {
		if (!mapped || (errno != ENOSPC && errno != EDQUOT))
			wrong(r, "close: %s", strerror(errno));
		if (before + units(r, bytes) <= s->min)
			wrong(r, "refused within min");
		r->all->refused++;
		got = 0;
	}
	if (!got && unlink(path))
		wrong(r, "unlink: %s", strerror(errno));
	s->file[f] = (struct file){.bytes = got, .seed = seed};
}

void verify(struct run *r, struct slice *s, int f)
{
	static uint64_t buf[CHUNK / 8], want[CHUNK / 8];
	uint64_t at = 0, bytes = s->file[f].bytes;
	char path[512];
	int fd;

	if (!s->there || !bytes)
		return;
	path_of(r, s, f, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		wrong(r, "open %s: %s", path, strerror(errno));
	while (fd >= 0 && at < bytes) {
		ssize_t n = pread(fd, buf, CHUNK, (off_t)at);

		if (n <= 0 || n % 8) {
			wrong(r, "%s: read at %llu: %s", path, (unsigned long long)at,
			      n < 0 ? strerror(errno) : "short");
			break;
		}
		pattern(want, at, (size_t)n, s->file[f].seed);
		if (memcmp(buf, want, (size_t)n)) {
			wrong(r, "%s: other bytes at %llu", path, (unsigned long long)at);
			break;
		}
		at += (uint64_t)n;
	}
	if (fd >= 0)
		close(fd);
}

/* An old file: shorter, removed, or looked at. */
static void change(struct run *r, struct slice *s, int f)
{
	char path[512];
	uint64_t to = pick(r, s->file[f].bytes / PAGE) * PAGE;

	path_of(r, s, f, path, sizeof(path));
	if (pick(r, 3) == 0) {
		snprintf(r->did, sizeof(r->did), "verify %s/f%d", s->name, f);
		verify(r, s, f);
	} else if (to && pick(r, 2)) {
		snprintf(r->did, sizeof(r->did), "truncate %s/f%d %llu", s->name, f, (unsigned long long)to);
		if (truncate(path, (off_t)to))
			wrong(r, "%s", strerror(errno));
		s->file[f].bytes = to;
	} else {
		snprintf(r->did, sizeof(r->did), "unlink %s/f%d", s->name, f);
		if (unlink(path))
			wrong(r, "%s", strerror(errno));
		s->file[f].bytes = 0;
	}
}

static void evict(struct run *r, struct slice *s)
{
	char file[64];
	int rc;

	snprintf(r->did, sizeof(r->did), "reclaim %s", s->name);
	snprintf(file, sizeof(file), "%s/.spm/reclaim", s->name);
	rc = control(r, file, pick(r, 2) ? "1M" : "1G");
	if (rc && rc != -EAGAIN)
		wrong(r, "%s", strerror(-rc));
}

void step(struct run *r)
{
	struct slice *s = &r->slice[pick(r, SLICES)];
	int what = (int)pick(r, 20), f = (int)pick(r, FILES);

	if (!s->there || what == 0)
		what < 17 ? create(r, s) : what < 19 ? set(r, s) : drop(r, s, pick(r, 2));
	else if (what < 4)
		set(r, s);
	else if (what == 4)
		drop(r, s, pick(r, 2));
	else if (what == 5 && r->swap)
		evict(r, s);
	else if (!s->file[f].bytes)
		fill(r, s, f);
	else
		change(r, s, f);
}
