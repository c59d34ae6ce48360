/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The look after each step. */
#include "tests/progs/slicerun.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#define PATIENCE_S 20
#define PAUSE_NS   2000000
#define FLOOR	   16384u /* a grant is never less */

static uint64_t number(const char *line, const char *key)
{
	char want[32];
	const char *p;

	snprintf(want, sizeof(want), " %s=", key);
	p = strstr(line, want);
	if (!p)
		return 0;
	p += strlen(want);
	return !strncmp(p, "max", 3) ? UINT64_MAX : strtoull(p, NULL, 10);
}

static uint64_t keyed(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	char line[256];
	uint64_t n = UINT64_MAX;
	size_t len = strlen(key);

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ' ')
			n = strtoull(line + len, NULL, 10);
	if (f)
		fclose(f);
	return n;
}

static uint64_t at_most(const struct run *r, uint64_t bytes)
{
	return bytes < r->device ? bytes : r->device;
}

/* The laws for one line of the list, whoever's slice it is. */
static void law(const struct run *r, const char *line, uint64_t *sum, char *why, size_t size)
{
	uint64_t min = number(line, "min"), max = at_most(r, number(line, "max")),
		 grant = number(line, "grant");
	uint64_t current = number(line, "current");

	*sum += grant;
	if (grant < min || grant > (max > FLOOR ? max : FLOOR) || current > grant)
		snprintf(why, size, "min <= grant <= max does not hold: %.300s", line);
}

/* In a slot the last extent of a file takes as many pages as it has. */
static bool agrees(const struct run *r, const struct slice *s, uint64_t shown)
{
	uint64_t bytes = 0, used = used_by(r, s);

	for (int f = 0; f < FILES; f++)
		bytes += s->file[f].bytes;
	return r->swap && r->unit > PAGE ? shown <= used && shown >= bytes : shown == used;
}

static void compare(const struct run *r, const struct slice *s, const struct said *is, char *why, size_t size)
{
	uint64_t used = used_by(r, s), limit, shown;
	char path[512];
	struct statvfs sv;

	if (is->min != s->min || is->max != s->max || !agrees(r, s, is->current + is->swapped)) {
		snprintf(why, size,
			 "%s: list: min %llu, max %llu, current %llu, swapped %llu; model: min %llu, max "
			 "%llu, used %llu",
			 s->name, (unsigned long long)is->min, (unsigned long long)is->max,
			 (unsigned long long)is->current, (unsigned long long)is->swapped,
			 (unsigned long long)s->min, (unsigned long long)s->max, (unsigned long long)used);
		return;
	}
	path_of(r, s, -1, path, sizeof(path));
	if (statvfs(path, &sv)) {
		snprintf(why, size, "%s: statfs: %s", s->name, strerror(errno));
		return;
	}
	shown = (uint64_t)(sv.f_blocks - sv.f_bfree) * sv.f_frsize;
	limit = at_most(r, s->max);
	if (!agrees(r, s, shown) || (!r->swap && (uint64_t)sv.f_blocks * sv.f_frsize != limit))
		snprintf(why, size, "%s: df: %llu of %llu used; model: %llu of %llu", s->name,
			 (unsigned long long)shown, (unsigned long long)sv.f_blocks * sv.f_frsize,
			 (unsigned long long)used, (unsigned long long)limit);
	strcat(path, "/.spm/stat");
	shown = keyed(path, "resident_bytes") + keyed(path, "swapped_bytes");
	if (!agrees(r, s, shown) || keyed(path, "limit_bytes") != limit || keyed(path, "min_bytes") != s->min)
		snprintf(why, size, "%s: stat: %llu used; model: %llu", s->name, (unsigned long long)shown,
			 (unsigned long long)used);
}

static void look_once(struct run *r, char *why, size_t size)
{
	struct said is[SLICES];
	bool seen[SLICES] = {false};
	char path[512], line[1024];
	uint64_t sum = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/.spm/slices", r->mnt);
	f = fopen(path, "re");
	if (!f) {
		snprintf(why, size, "the list: %s", strerror(errno));
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		law(r, line, &sum, why, size);
		for (int i = 0; i < SLICES; i++) {
			size_t n = strlen(r->slice[i].name);

			if (strncmp(line, r->slice[i].name, n) || line[n] != ' ')
				continue;
			seen[i] = true;
			is[i] = (struct said){.min = number(line, "min"),
					      .max = number(line, "max"),
					      .current = number(line, "current"),
					      .grant = number(line, "grant"),
					      .swapped = number(line, "swap.current")};
		}
	}
	fclose(f);
	if (sum > r->device)
		snprintf(why, size, "grants come to %llu, and the device has %llu", (unsigned long long)sum,
			 (unsigned long long)r->device);
	for (int i = 0; i < SLICES && !*why; i++) {
		if (seen[i] != r->slice[i].there)
			snprintf(why, size, "%s is %s the list", r->slice[i].name, seen[i] ? "in" : "not in");
		else if (seen[i])
			compare(r, &r->slice[i], &is[i], why, size);
	}
}

void look(struct run *r)
{
	static const struct timespec pause = {.tv_nsec = PAUSE_NS};
	const char *factor = getenv("SPM_FACTOR");
	struct timespec now, end;
	char why[512], path[512];

	if (!r->device) {
		snprintf(path, sizeof(path), "%s/.spm/stat", r->mnt);
		/* a pool's tables take some of it */
		r->device = keyed(path, r->unit > PAGE ? "limit_bytes" : "device_bytes");
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += PATIENCE_S * (factor ? atoi(factor) : 1);
	do {
		*why = '\0';
		look_once(r, why, sizeof(why));
		if (!*why)
			return;
		nanosleep(&pause, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	wrong(r, "%s", why);
}
