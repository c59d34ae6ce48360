/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_SWAP_H
#define SPM_TESTS_SWAP_H

#include "tests/unit/swap_rig.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The other parts of the suite. */
void add_pin_tests(TCase *t);
void add_error_tests(TCase *t);
void add_cut_tests(TCase *t);
void add_drain_tests(TCase *t);
void add_damage_tests(TCase *t);

#define MIB (UINT64_C(1) << 20)

extern struct rig rig;

/* A file, and what it must hold. */
struct sample {
	int fd;
	uint32_t file;
	char *want;
	uint64_t size;
};

/* The device has 64 MiB, one swap file 64 MiB. */
void set_up(uint32_t extent);
void set_up_with(const struct rig_opts *o);
void tear_down(void);
/* An empty one, of which nothing can be mapped. */
struct sample sample_new(const char *name);
void sample_end(struct sample *s);
/* Content that says where it is; each call has another. */
void sample_write(struct sample *s, uint64_t from, uint64_t to);
/* By reads, as a user would, and without bringing anything back. */
void sample_check(struct sample *s);
/* What the region itself has. */
void sample_check_here(struct sample *s);
/* All of it leaves; how many bytes. */
int64_t evict(struct sample *s);
bool is_out(struct sample *s, uint64_t extent);
/* Reads so far are forgotten, so none brings anything back. */
void forget_reads(void);
ssize_t read_at(struct sample *s, void *buf, size_t size, uint64_t off, bool *through);

#endif
