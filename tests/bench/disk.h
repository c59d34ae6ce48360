/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What swap is compared with, on the same disk: fio, and the kernel's own swap of a tmpfs file. Functions
 * return 0, SKIP or a negative errno, and have b->why say the reason.
 */
#ifndef SPM_BENCH_DISK_H
#define SPM_BENCH_DISK_H

#include "tests/bench/bench.h"

/* A file for fio, as large as what is moved, allocated; and gone again. */
int fio_prepare(struct bench *b);
void fio_remove(struct bench *b);
/* Writes or reads all of it, in order, 16 times 1 MiB at a time past the page cache: MiB/s. */
int fio_run(struct bench *b, bool write, double *rate);
/* Its path, in buf of PATH_MAX bytes. */
const char *fio_path(const struct bench *b, char *buf);

/* A written tmpfs file that the kernel can swap, mapped; and gone again. */
int paged_prepare(struct bench *b);
void paged_remove(struct bench *b);
/* MiB/s at which it leaves memory. The kernel leaves some pages where they are: of those that do leave. */
int paged_out(struct bench *b, double *rate);
/* The same for what comes back, touched in order; after paged_out(). */
void paged_in(struct bench *b, double *rate);

/* The kernel's swap file in use, or not. */
int kernel_swap_on(struct bench *b);
void kernel_swap_off(struct bench *b);

#endif
