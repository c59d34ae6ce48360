/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of faults share. */
#ifndef SPM_TESTS_FAULTS_H
#define SPM_TESTS_FAULTS_H

#include "tests/namespace/stress.h"

/* On which mounts a case sends its request: where files are plain direct, where writes are served, where files are
 * mirrors; with few inodes (nr_inodes=). */
enum { PLAIN = 1, SERVED = 2, MIRROR = 4, FULL = 8 };

/* A request, what makes it, and where its worker is to die. */
struct fault_case {
	const char *op; /* as fault points name it */
	const char *name;
	unsigned int kinds;
	const char *steps; /* words; "counted#2" is the second pass of that step */
	void (*setup)(struct world *w);
	void (*act)(struct world *w);
};

#define READS	"request reply replied"
#define CHANGES "request effect reply replied"

extern const struct fault_case fault_cases[];
extern const unsigned int fault_case_count;

/* For cases that need the worker to do nothing for a while. */
void worker_stop(void);
void worker_go_on(void);

#endif
