/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of treestress share. Side 0 is the tested filesystem, side 1 the reference. */
#ifndef SPM_TESTS_STRESS_H
#define SPM_TESTS_STRESS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { SLOTS = 8, MAPS = 3, LOG_LINES = 48, LOG_WIDTH = 240, PATH_ROOM = 128, MAX_SIZE = 300000 };

/* An open file, once on each side; -1 when the slot is empty. */
struct slot {
	int fd[2];
};

struct mapping {
	char *at[2];
	size_t len;
	int fd[2]; /* to ask for the size: nothing beyond it may be touched */
	bool writable;
};

/*
 * How long calls on the tested side take, and which of them met an event (tests/progs/killrun.c). Shared memory
 * of all processes. A call met event n when it ended after the event began, and began before it was over.
 */
enum { METER_EVENTS = 20000, METER_BUCKETS = 256 };
struct meter {
	uint64_t begun_ns;
	_Atomic unsigned int begun, over; /* events, counted when they begin and when their effect is over */
	_Atomic uint64_t calls, longest_calm; /* the latter of calls that met none */
	_Atomic uint64_t histogram[METER_BUCKETS]; /* 8 for each power of two of nanoseconds */
	_Atomic unsigned int errors, differences;
	struct stall {
		_Atomic uint64_t ns; /* the longest call that met the event */
		char what[48];
	} stalls[METER_EVENTS];
};

struct world {
	int root[2];	 /* the process's own directory */
	unsigned int id; /* of the process; every name that it makes begins with its letter */
	bool no_suid;	 /* regular files get no suid and sgid bits */
	bool disk;	 /* what is tested lies on a disk, which differs from the reference in what is its own affair */
	uint64_t rng;
	unsigned long ops;
	struct slot slots[SLOTS];
	struct mapping maps[MAPS];
	long res[2];
	int err[2];
	struct meter *meter; /* NULL: nothing is measured */
	uint64_t call_ns;
	unsigned int call_over;
	bool error; /* the difference that was found is one of errno */
	char *buf[2]; /* MAX_SIZE each, for what is read */
	char *data;   /* MAX_SIZE, for what is written */
	char log[LOG_LINES][LOG_WIDTH];
};

/* Prints the difference and the last operations, and ends the process. */
void differ(struct world *w, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* Begins the log line of the next operation. */
void say(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t rnd(struct world *w);
static inline unsigned int below(struct world *w, unsigned int n)
{
	return (unsigned int)(rnd(w) % n);
}
void random_bytes(struct world *w, char *buf, size_t len);
uint64_t stress_now(void); /* CLOCK_MONOTONIC, ns */

/* Around a call on side s. */
void meter_call(struct world *w);
static inline void meter_begin(struct world *w, int s)
{
	if (!s && w->meter) {
		w->call_over = atomic_load(&w->meter->over);
		w->call_ns = stress_now();
	}
	errno = 0;
}

static inline void meter_end(struct world *w, int s)
{
	if (!s && w->meter)
		meter_call(w);
}

/* The same call on both sides; s is the side. Results and errno must agree; of descriptors only that there is
 * one. */
#define BOTH(w, call)                                                                                        \
	do {                                                                                                 \
		for (int s = 0; s < 2; s++) {                                                                \
			meter_begin(w, s);                                                                   \
			(w)->res[s] = (long)(call);                                                          \
			(w)->err[s] = (w)->res[s] < 0 ? errno : 0;                                           \
			meter_end(w, s);                                                                     \
		}                                                                                            \
		same_result(w);                                                                              \
	} while (0)
#define BOTH_FD(w, call)                                                                                     \
	do {                                                                                                 \
		for (int s = 0; s < 2; s++) {                                                                \
			meter_begin(w, s);                                                                   \
			fds[s] = (int)(call);                                                                \
			(w)->res[s] = fds[s] < 0 ? -1 : 0;                                                   \
			(w)->err[s] = fds[s] < 0 ? errno : 0;                                                \
			meter_end(w, s);                                                                     \
		}                                                                                            \
		same_result(w);                                                                              \
	} while (0)

void same_result(struct world *w);
void same_stat(struct world *w, const struct stat st[2], const char *what);
void same_path(struct world *w, const char *path);
void same_fd(struct world *w, const struct slot *slot);
/* Compares two whole trees, names, attributes, contents, links. Errors end the process through differ(). */
void same_tree(struct world *w, const int dirs[2], const char *what);

/* Makes the process's own directory on both sides, and rewinds its random numbers. */
void open_world(struct world *w, const char *const sides[2], unsigned int id, uint64_t seed);
/* The directory that all share, with files that stay as they are. */
int make_shared(const char *const sides[2]);
void one_operation(struct world *w);
void close_all(struct world *w);

#endif
