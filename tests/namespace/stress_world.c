/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each process of a random run has: its numbers, its log, its directories; and how it tells a difference. */
#include "tests/namespace/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BASES = 8 };

uint64_t rnd(struct world *w)
{
	uint64_t z = w->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void random_bytes(struct world *w, char *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 8) {
		uint64_t v = rnd(w);

		memcpy(buf + i, &v, len - i < 8 ? len - i : 8);
	}
}

void say(struct world *w, const char *fmt, ...)
{
	char *line = w->log[w->ops % LOG_LINES];
	va_list ap;
	int n = snprintf(line, LOG_WIDTH, "%lu: ", w->ops);

	va_start(ap, fmt);
	vsnprintf(line + n, LOG_WIDTH - (size_t)n, fmt, ap);
	va_end(ap);
}

uint64_t stress_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Eight to each power of two; the first ones are single nanoseconds. */
static unsigned int bucket_of(uint64_t ns)
{
	unsigned int top = ns < 8 ? 3 : 63u - (unsigned int)__builtin_clzll(ns);
	unsigned int n = ns < 8 ? (unsigned int)ns : (top - 2) * 8 + ((unsigned int)(ns >> (top - 3)) & 7);

	return n < METER_BUCKETS ? n : METER_BUCKETS - 1;
}

/* True: this call is the longest so far. */
static bool raise_to(_Atomic uint64_t *most, uint64_t ns)
{
	uint64_t seen = atomic_load_explicit(most, memory_order_relaxed);

	while (seen < ns)
		if (atomic_compare_exchange_weak(most, &seen, ns))
			return true;
	return false;
}

void meter_call(struct world *w)
{
	struct meter *m = w->meter;
	uint64_t ns = stress_now() - w->call_ns;
	unsigned int begun = atomic_load(&m->begun), n = w->call_over;

	atomic_fetch_add_explicit(&m->calls, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&m->histogram[bucket_of(ns)], 1, memory_order_relaxed);
	if (begun == n)
		raise_to(&m->longest_calm, ns);
	for (; n < begun && n < METER_EVENTS; n++)
		if (raise_to(&m->stalls[n].ns, ns))
			snprintf(m->stalls[n].what, sizeof(m->stalls[n].what), "%s",
				 strchr(w->log[w->ops % LOG_LINES], ' ')
					 ? strchr(w->log[w->ops % LOG_LINES], ' ') + 1
					 : "");
}

void differ(struct world *w, const char *fmt, ...)
{
	unsigned long i, first = w->ops >= LOG_LINES ? w->ops - LOG_LINES + 1 : 0;
	static char text[65536];
	size_t used = 0;
	va_list ap;

	used += (size_t)snprintf(text, sizeof(text), "# process %u, the last operations:\n", w->id);
	for (i = first; i <= w->ops && used < sizeof(text) - LOG_WIDTH - 8; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "#   %s\n", w->log[i % LOG_LINES]);
	used += (size_t)snprintf(text + used, sizeof(text) - used, "# process %u: DIFFERENCE", w->id);
	if (w->meter)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 " at %.3f s, the call began at %.3f s, after %u events",
					 (double)(stress_now() - w->meter->begun_ns) / 1e9,
					 (double)(w->call_ns - w->meter->begun_ns) / 1e9,
					 atomic_load(&w->meter->begun));
	used += (size_t)snprintf(text + used, sizeof(text) - used, ": ");
	va_start(ap, fmt);
	if (used < sizeof(text))
		used += (size_t)vsnprintf(text + used, sizeof(text) - used, fmt, ap);
	va_end(ap);
	if (used > sizeof(text) - 2)
		used = sizeof(text) - 2;
	text[used++] = '\n';
	if (w->meter)
		atomic_fetch_add(w->error ? &w->meter->errors : &w->meter->differences, 1);
	if (write(STDOUT_FILENO, text, used) < 0)
		_exit(2);
	_exit(1);
}

void open_world(struct world *w, const char *const sides[2], unsigned int id, uint64_t seed)
{
	char name[16];
	unsigned int i;
	int s;

	w->id = id;
	w->rng = seed + id * 1000003u;
	for (i = 0; i < SLOTS; i++)
		w->slots[i].fd[0] = w->slots[i].fd[1] = -1;
	snprintf(name, sizeof(name), "p%u", id);
	for (s = 0; s < 2; s++) {
		int top = open(sides[s], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		/* everybody may work in it, or the user of the operations had nothing to do */
		if (mkdirat(top, name, 0755) || fchmodat(top, name, 0777, 0))
			differ(w, "mkdir %s/%s: %s", sides[s], name, strerror(errno));
		w->root[s] = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		w->buf[s] = malloc(MAX_SIZE);
		close(top);
	}
	w->data = malloc(MAX_SIZE + 8);
}

/* The directory that all share, with files that stay as they are. */
int make_shared(const char *const sides[2])
{
	static struct world w = {.rng = 42};
	static char data[MAX_SIZE];
	char path[PATH_MAX];
	unsigned int i;
	int s, fd;

	for (i = 0; i < BASES; i++) {
		random_bytes(&w, data, sizeof(data));
		for (s = 0; s < 2; s++) {
			snprintf(path, sizeof(path), "%s/shared", sides[s]);
			if (!i && (mkdir(path, 0777) || chmod(path, 0777)))
				return -1;
			snprintf(path, sizeof(path), "%s/shared/base%u", sides[s], i);
			fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
			if (fd < 0 || write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
				return -1;
			close(fd);
		}
	}
	return 0;
}
