/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SIZE_H
#define SPM_CORE_SIZE_H

#include <stddef.h>
#include <stdint.h>
#include "core/util.h"

/*
 * Sizes as people write them: a decimal number and an optional suffix k K m M g G t T (powers of 1024).
 * *bytes is set on success only. -EINVAL: not a number, a sign, an unknown suffix, an empty string;
 * -ERANGE: does not fit in 63 bits.
 */
int spm_size_parse(const char *s, uint64_t *bytes) SPM_MUST_CHECK;

/* As spm_size_parse, but also "N%" of @whole (0 to 100; @whole is in bytes). */
int spm_size_parse_of(const char *s, uint64_t whole, uint64_t *bytes) SPM_MUST_CHECK;

/* "512", "1.5K", "16G": at most one decimal, always shorter than 8 bytes. Returns @buf. */
char *spm_size_human(uint64_t bytes, char *buf, size_t len);

/* A whole decimal or (with @base 8) octal number and nothing after it. -EINVAL, -ERANGE (> @max). */
int spm_number_parse(const char *s, int base, uint64_t max, uint64_t *out) SPM_MUST_CHECK;

#endif
