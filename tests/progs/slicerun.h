/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_SLICERUN_H
#define SPM_TESTS_SLICERUN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Slices of a mount against a model of their accounting. Several processes make, change, fill, evict and remove slices of
 * their own at random. After each step one of them holds all others up and looks whether list, df and stat say what the model
 * says; and the laws that hold for all slices: min <= grant <= max, and the sum of all grants is not above the device.
 */
#define PAGE   4096u
#define SLICES 3 /* of each process */
#define FILES  6 /* of each slice */
#define PROCS  16

struct file {
	uint64_t bytes; /* 0: there is none; a multiple of PAGE */
	uint64_t seed;
};

struct slice {
	bool there;
	char name[32];
	uint64_t min, max;
	struct file file[FILES];
};

/* What all processes share. */
struct shared {
	pthread_rwlock_t lock; /* a step holds it for reading, a look for writing */
	_Atomic bool stop;
	_Atomic uint64_t steps, errors, refused;
};

struct run {
	const char *mnt;
	struct shared *all;
	bool swap;
	uint64_t unit; /* what a file gets at least: a page, or an extent of a pool */
	uint64_t device;
	unsigned int who;
	uint64_t random;
	char did[128]; /* the last step */
	struct slice slice[SLICES];
};

/* What the server says of a slice. */
struct said {
	uint64_t min, max, current, grant, swapped;
};

uint64_t pick(struct run *r, uint64_t n);
void wrong(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t units(const struct run *r, uint64_t bytes);
uint64_t used_by(const struct run *r, const struct slice *s);
void path_of(const struct run *r, const struct slice *s, int file, char *out, size_t size);

/* -- slicerun_ops.c -- */

/* One step at random. */
void step(struct run *r);
/* Whether a file holds what was written. */
void verify(struct run *r, struct slice *s, int file);

/* -- slicerun_look.c -- */

/* All that is to be so after a step; waits a moment for what the kernel tells the server late. */
void look(struct run *r);

#endif
