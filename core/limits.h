/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_LIMITS_H
#define SPM_CORE_LIMITS_H

#include "core/log.h"
#include "core/slices.h"

/*
 * What is said of a slice, as text: in control files ("swap.max=1G"), as options of spmctl (--swap-max 1G) and in
 * configuration files ("swap-max = 1G"). One table for all three.
 */

/* How files are opened; the names that map= and the xattr user.spm.map take. */
enum spm_map { SPM_MAP_AUTO, SPM_MAP_DIRECT, SPM_MAP_MIRROR };
/* false: not one of the names (@len bytes of @s) */
bool spm_map_parse(const char *s, size_t len, enum spm_map *out);
const char *spm_map_name(enum spm_map m);

/* Whether tmpfs knows this setting for huge pages. */
bool spm_huge_ok(const char *value);

#define SPM_COLD_MAX_S 14400 /* the clock of last uses wraps after 4.5 hours (core/extmap.h) */

enum spm_limit {
	SPM_LIMIT_MIN,
	SPM_LIMIT_MAX,
	SPM_LIMIT_SWAP_MAX,
	SPM_LIMIT_PIN_MAX,
	SPM_LIMIT_INODES,
	SPM_LIMIT_UID,
	SPM_LIMIT_GID,
	SPM_LIMIT_MODE,
	SPM_LIMIT_NODES,
	SPM_LIMIT_HUGE,
	SPM_LIMIT_MAP,
	SPM_LIMIT_COLD,
	SPM_LIMIT_DELEGATE,
	SPM_LIMITS
};

/* Its key in control files, "swap.max". */
const char *spm_limit_key(enum spm_limit k);
/* An enum spm_limit, or -ENOENT. A '-' stands for a '.', so that "swap-max" is found, too. */
int spm_limit_find(const char *key);

/* Nothing guaranteed and nothing limited, of root, 0755, the rest as the mount. */
void spm_limits_init(struct spm_slice_limits *l);
/*
 * Sizes: a number with K, M, G or T, or "max"; nodes, huge, map and cold may be empty: as the mount. Ids are
 * numbers. Returns which one it was, or -ENOENT (no such key), -EINVAL (the value), with what is legal in @e.
 */
int spm_limit_set(struct spm_slice_limits *l, const char *key, const char *value,
		  struct spm_error *e) SPM_MUST_CHECK;
/* -ERANGE: min is above max. */
int spm_limits_check(const struct spm_slice_limits *l, struct spm_error *e) SPM_MUST_CHECK;
/* What of it a slice in a pool cannot have, as "huge"; NULL: it can have all of it. */
const char *spm_limits_not_in_pool(const struct spm_slice_limits *l);
/* As spm_limit_set() takes it: bytes or "max", octal, "" for as the mount. Returns @buf. */
#define SPM_LIMIT_TEXT 128
char *spm_limit_text(const struct spm_slice_limits *l, enum spm_limit k, char buf[static SPM_LIMIT_TEXT]);

/*
 * "KEY=VALUE KEY=VALUE ...", which is changed; @given (or NULL) gets a bit 1 << enum spm_limit for each. -EINVAL
 * with the reason in @e, also for a key that is there twice; @l is of no use then.
 */
int spm_limits_words(struct spm_slice_limits *l, char *words, unsigned int *given,
		     struct spm_error *e) SPM_MUST_CHECK;

#endif
