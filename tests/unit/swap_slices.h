/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_SWAP_SLICES_H
#define SPM_TESTS_SWAP_SLICES_H

/* Two slices with a tmpfs each, over the rig: memory moves between them as core/grants.c has it. Needs root. */
#include "core/swap-room.h"
#include "tests/unit/swap_rig.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define MIB     (UINT64_C(1) << 20)
#define EXTENT  (256u << 10)
#define PARTS   3u  /* the rig's own, which is slice 0, and two more */
#define FOREVER 240 /* seconds: nothing takes so long, but on a machine that is stuck */

extern struct rig rig;

/* A slice: a tmpfs, whose size is its grant. */
struct part {
	int fd;
	uint64_t min, max;
	_Atomic uint64_t grant, swap_max;
	_Atomic uint32_t cold;
};
extern struct part part[PARTS];
extern atomic_bool below_min; /* somebody took what a slice is guaranteed */
extern unsigned int lease_ms;    /* for which a lease test of slice 1 takes */
extern _Atomic unsigned int leases; /* so many were made */
/* A disk that is slow enough for those who write to be waiting for it; and who got how much of it. */
extern unsigned int delay_ms;
extern _Atomic unsigned int moved[PARTS], moved_both[PARTS]; /* extents; of these, while another slice waited */

/* Bytes in use. */
uint64_t used(uint16_t slice);
struct spm_swap_slice_stats stats_of(uint16_t slice);

extern const struct spm_swap_opts plain;
/* Two slices, with these limits, and nothing outside them. */
void set_up(const uint64_t min[2], const uint64_t max[2], const uint64_t grant[2], struct spm_swap_opts o);
/* Each has so much, always. */
void set_up_equal(uint64_t each, struct spm_swap_opts o);
void tear_down(void);

/* A file, whose content says where it is. */
struct doc {
	int fd;
	uint32_t file;
	uint16_t slice;
	unsigned int id;
};

struct doc doc_new(uint16_t slice);
/* 0, or -errno. */
int doc_write(const struct doc *d, uint64_t from, uint64_t to);
void doc_check(const struct doc *d, uint64_t from, uint64_t to);

/* Bounded: until @cond. */
#define wait_until(cond) do { \
	struct timespec ms_ = { .tv_nsec = 1000000 }; \
	int n_ = 0; \
	while (!(cond)) { \
		nanosleep(&ms_, NULL); \
		ck_assert_int_lt(n_++, FOREVER * 1000); \
	} \
} while (0)

/* A thread that writes on and on. */
struct writer {
	pthread_t thread;
	struct doc doc;
	uint64_t window; /* what is further behind is punched */
	atomic_bool *stop;
	_Atomic unsigned int refused;
};

/* In two steps: their files, which are empty, and their threads. */
void writers_make(struct writer *w, unsigned int n, uint16_t slice, uint64_t window, atomic_bool *stop);
void writers_run(struct writer *w, unsigned int n);
void writers_start(struct writer *w, unsigned int n, uint16_t slice, uint64_t window, atomic_bool *stop);
void writers_end(struct writer *w, unsigned int n);

#endif
