/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of killrun share. */
#ifndef SPM_TESTS_KILLRUN_H
#define SPM_TESTS_KILLRUN_H

#include "tests/namespace/stress.h"

#include <sys/types.h>

enum { PROCESSES_MAX = 24, LOCKS = 3, TOKENS = 6, KEPT = 12, GONE_DIRS = 3, BIG_DIR = 2000 };

/* What all processes know of the shared directory, in memory of their own that no server sees. */
struct shared {
	struct {
		_Atomic unsigned int owner; /* process + 1 */
		_Atomic uint64_t taken;	    /* times; the file says the same */
	} locks[LOCKS];
	struct {
		_Atomic unsigned int owner;
		_Atomic uint64_t changed_ns;
	} tokens[TOKENS];
	_Atomic uint64_t appended[PROCESSES_MAX];
	_Atomic bool stop;
	_Atomic uint64_t touches, pause_ns[2],
		long_pauses[2]; /* of the direct mapping, and of the one of tmpfs */
	_Atomic bool touch_failed;
};

/* A process of the run, with what it holds for long. */
struct runner {
	struct world w;
	struct shared *sh;
	struct meter *meter;
	const char *const *sides;
	int common; /* the directory that all change, on the tested side only */
	struct {
		int fd[2];
		char *map[2]; /* NULL: not mapped */
	} kept[KEPT];
	int gone[GONE_DIRS][2];
	int lock_fd[LOCKS];
	unsigned int lock, lock_left; /* which one is held, for how many more operations */
	bool locked, lock_is_posix;
	int append_fd;
	struct big *big;
	uint64_t blocks; /* of statfs */
};

/* killrun_kept.c: files, mappings and removed directories that stay open for long; statfs. */
void kept_begin(struct runner *r);
void kept_operation(struct runner *r);
void kept_end(struct runner *r);

/* killrun_common.c: the directory in which all work on the same names. */
int common_make(const char *tested);
void common_begin(struct runner *r);
void common_operation(struct runner *r);
void common_end(struct runner *r);
/* All runners have ended: what must be true then. */
void common_check(struct runner *r, unsigned int processes);

/* killrun_big.c: a big directory that is listed while names come and go. */
int big_make(int common);
void big_begin(struct runner *r);
void big_operation(struct runner *r);
void big_end(struct runner *r);

/* killrun_touch.c: never returns. */
void touch_run(struct shared *sh, const char *const sides[2]) __attribute__((noreturn));

/* killrun_server.c: the processes of a mount, found without asking the mount. */
enum server { SERVER_WORKER, SERVER_STANDBY, SERVER_KEEPER, SERVERS };
struct target {
	uint64_t state_dev, state_ino; /* of the shared state that all of them hold */
	struct spm_state *state;
};
/* 0, or -1 after a line on stderr. */
int target_open(struct target *t, const char *mountpoint);
/* Maps another shared memory of the mount, "spmfs-inodes"; NULL after a line on stderr. */
void *target_map(const struct target *t, const char *name, size_t *size);
/* Opens it instead; -1. */
int target_memfd(const struct target *t, const char *name);
/* 0: there is none now. */
pid_t target_find(const struct target *t, enum server which);
/* Counters of the shared state: which worker it is, what it has answered. */
unsigned int target_generation(const struct target *t);
uint64_t target_answered(const struct target *t);

#endif
