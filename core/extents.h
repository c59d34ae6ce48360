/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_EXTENTS_H
#define SPM_CORE_EXTENTS_H

#include <stdint.h>
#include "core/util.h"

/*
 * How many bytes of the file's written data lie in huge pages. Memory that was committed but never touched
 * does not count: looking at it would have to zero it. @fd is open for reading; only data is looked at, so
 * holes stay holes. -ENOTTY: this kernel cannot tell (PAGEMAP_SCAN, Linux 6.7).
 */
int spm_extents_huge(int fd, uint64_t size, uint64_t *huge_bytes) SPM_MUST_CHECK;
/* The same for [from, to), all of which is data, and no more than 1 GiB. */
int spm_extents_huge_in(int fd, uint64_t from, uint64_t to, uint64_t *huge_bytes) SPM_MUST_CHECK;

/* How many pages are allocated in [from, to), written to or not; UINT64_MAX: the kernel does not tell (before Linux 6.5). @fd is not
 * O_PATH. */
uint64_t spm_pages_in(int fd, uint64_t from, uint64_t to);

#endif
