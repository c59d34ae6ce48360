/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_MIX_H
#define SPM_CORE_MIX_H

#include <stdint.h>

/* The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit that goes in changes about half of those that come out. */
static inline uint64_t spm_mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

#endif
