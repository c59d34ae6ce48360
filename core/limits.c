/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/limits.h"
#include "core/size.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MAX_LEAST 65536 /* of a slice's memory: below it tmpfs cannot even hold its directories' parts */

static const char *const map_names[] = {
	[SPM_MAP_AUTO] = "auto", [SPM_MAP_DIRECT] = "direct", [SPM_MAP_MIRROR] = "mirror"
};

bool spm_map_parse(const char *s, size_t len, enum spm_map *out)
{
	for (size_t i = 0; i < SPM_ARRAY_SIZE(map_names); i++) {
		if (strlen(map_names[i]) == len && !memcmp(s, map_names[i], len)) {
			*out = (enum spm_map)i;
			return true;
		}
	}
	return false;
}

const char *spm_map_name(enum spm_map m)
{
	return map_names[m];
}

bool spm_huge_ok(const char *value)
{
	static const char *const legal[] = { "never", "always", "within_size", "advise" };

	for (size_t i = 0; i < SPM_ARRAY_SIZE(legal); i++)
		if (!strcmp(value, legal[i]))
			return true;
	return false;
}

bool spm_slice_name_ok(const char *name)
{
	/* ASCII, whatever the locale says */
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t n = strspn(name, legal);

	return n && n <= SPM_SLICE_NAME_MAX && !name[n] && name[0] != '.' && name[0] != '-';
}

static bool set_bytes(uint64_t *out, const char *v)
{
	if (!strcmp(v, "max"))
		*out = SPM_SLICE_NONE;
	else if (spm_size_parse(v, out))
		return false;
	return true;
}

static bool set_min(struct spm_slice_limits *l, const char *v)
{
	return !spm_size_parse(v, &l->min);
}

static bool set_max(struct spm_slice_limits *l, const char *v)
{
	uint64_t n;

	if (!set_bytes(&n, v) || n < MAX_LEAST)
		return false;
	l->max = n;
	return true;
}

static bool set_swap_max(struct spm_slice_limits *l, const char *v)
{
	return set_bytes(&l->swap_max, v);
}

static bool set_pin_max(struct spm_slice_limits *l, const char *v)
{
	return set_bytes(&l->pin_max, v);
}

static bool set_inodes(struct spm_slice_limits *l, const char *v)
{
	if (strcmp(v, "max"))
		return !spm_size_parse(v, &l->inodes);
	l->inodes = 0;
	return true;
}

static bool set_u32(uint32_t *out, const char *v, int base, uint64_t max)
{
	uint64_t n;

	if (spm_number_parse(v, base, max, &n))
		return false;
	*out = (uint32_t)n;
	return true;
}

static bool set_uid(struct spm_slice_limits *l, const char *v)
{
	return set_u32(&l->uid, v, 10, UINT32_MAX - 1);
}

static bool set_gid(struct spm_slice_limits *l, const char *v)
{
	return set_u32(&l->gid, v, 10, UINT32_MAX - 1);
}

static bool set_mode(struct spm_slice_limits *l, const char *v)
{
	return set_u32(&l->mode, v, 8, 07777);
}

static bool set_nodes(struct spm_slice_limits *l, const char *v)
{
	struct spm_nodes nodes;

	if (strlen(v) >= sizeof(l->nodes) || (*v && spm_nodes_parse(v, &nodes)))
		return false;
	snprintf(l->nodes, sizeof(l->nodes), "%s", v);
	return true;
}

static bool set_huge(struct spm_slice_limits *l, const char *v)
{
	if (*v && !spm_huge_ok(v))
		return false;
	snprintf(l->huge, sizeof(l->huge), "%s", v);
	return true;
}

static bool set_map(struct spm_slice_limits *l, const char *v)
{
	enum spm_map m;

	l->map = UINT32_MAX;
	if (!*v)
		return true;
	if (!spm_map_parse(v, strlen(v), &m))
		return false;
	l->map = m;
	return true;
}

static bool set_cold(struct spm_slice_limits *l, const char *v)
{
	l->cold_s = UINT32_MAX;
	return !*v || set_u32(&l->cold_s, v, 10, SPM_COLD_MAX_S);
}

static bool set_delegate(struct spm_slice_limits *l, const char *v)
{
	bool on = !strcmp(v, "1") || !strcmp(v, "yes");

	if (!on && strcmp(v, "0") && strcmp(v, "no"))
		return false;
	l->flags = (l->flags & ~(uint32_t)SPM_SLICE_DELEGATED) | (on ? SPM_SLICE_DELEGATED : 0);
	return true;
}

static const struct {
	const char *key;
	bool (*set)(struct spm_slice_limits *l, const char *v);
	const char *legal;
} rows[SPM_LIMITS] = {
	[SPM_LIMIT_MIN] = { "min", set_min, "a size such as 512M (K, M, G, T)" },
	[SPM_LIMIT_MAX] = { "max", set_max, "a size of 64K or more (K, M, G, T), or max" },
	[SPM_LIMIT_SWAP_MAX] = { "swap.max", set_swap_max, "a size such as 8G (K, M, G, T), or max" },
	[SPM_LIMIT_PIN_MAX] = { "pin.max", set_pin_max, "a size such as 512M (K, M, G, T), or max" },
	[SPM_LIMIT_INODES] = { "inodes", set_inodes, "a number (K, M, G), or max" },
	[SPM_LIMIT_UID] = { "uid", set_uid, "a numeric user id" },
	[SPM_LIMIT_GID] = { "gid", set_gid, "a numeric group id" },
	[SPM_LIMIT_MODE] = { "mode", set_mode, "an octal mode as in 0750" },
	[SPM_LIMIT_NODES] = { "nodes", set_nodes, "a list of NUMA nodes as in 1-2,4, or nothing: as the mount" },
	[SPM_LIMIT_HUGE] = { "huge", set_huge, "never, always, within_size or advise, or nothing: as the mount" },
	[SPM_LIMIT_MAP] = { "map", set_map, "auto, direct or mirror, or nothing: as the mount" },
	[SPM_LIMIT_COLD] = { "cold", set_cold, "seconds, at most 14400, 0 for never, or nothing: as the mount" },
	[SPM_LIMIT_DELEGATE] = { "delegate", set_delegate, "yes or no" },
};

const char *spm_limit_key(enum spm_limit k)
{
	return rows[k].key;
}

int spm_limit_find(const char *key)
{
	for (int k = 0; k < SPM_LIMITS; k++) {
		const char *a = rows[k].key, *b = key;

		while (*a && (*a == *b || (*a == '.' && *b == '-'))) {
			a++;
			b++;
		}
		if (!*a && !*b)
			return k;
	}
	return -ENOENT;
}

void spm_limits_init(struct spm_slice_limits *l)
{
	*l = (struct spm_slice_limits){ .max = SPM_SLICE_NONE,
					.swap_max = SPM_SLICE_NONE,
					.pin_max = SPM_SLICE_NONE,
					.own_max = SPM_SLICE_NONE,
					.own_swap_max = SPM_SLICE_NONE,
					.cold_s = UINT32_MAX,
					.map = UINT32_MAX,
					.mode = 0755 };
}

static int unknown_key(const char *key, struct spm_error *e)
{
	char known[160] = "";

	for (int k = 0; k < SPM_LIMITS; k++)
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", k ? ", " : "", rows[k].key);
	/* for people it is written as in their files and options */
	for (char *p = known; (p = strchr(p, '.'));)
		*p = '-';
	return spm_fail(e, -ENOENT, "unknown key '%s'; there are %s", key, known);
}

int spm_limit_set(struct spm_slice_limits *l, const char *key, const char *value, struct spm_error *e)
{
	int k = spm_limit_find(key);
	struct spm_slice_limits next = *l;

	if (k < 0)
		return unknown_key(key, e);
	if (!rows[k].set(&next, value))
		return spm_fail(e, -EINVAL, "%s=%s: give %s", key, value, rows[k].legal);
	*l = next;
	return k;
}

int spm_limits_check(const struct spm_slice_limits *l, struct spm_error *e)
{
	char min[16], max[16];

	if (l->min <= l->max)
		return 0;
	return spm_fail(e, -ERANGE, "min=%s is above max=%s; give a min that is not",
			spm_size_human(l->min, min, sizeof(min)), spm_size_human(l->max, max, sizeof(max)));
}

static void bytes_text(uint64_t bytes, char buf[static SPM_LIMIT_TEXT])
{
	if (bytes == SPM_SLICE_NONE)
		snprintf(buf, SPM_LIMIT_TEXT, "max");
	else
		snprintf(buf, SPM_LIMIT_TEXT, "%" PRIu64, bytes);
}

const char *spm_limits_not_in_pool(const struct spm_slice_limits *l)
{
	/* the first two are about pages of a filesystem, the last one about mappings of these */
	return l->nodes[0] ? "nodes" : l->huge[0] ? "huge" : l->map == SPM_MAP_DIRECT ? "map=direct" : NULL;
}

char *spm_limit_text(const struct spm_slice_limits *l, enum spm_limit k, char buf[static SPM_LIMIT_TEXT])
{
	const uint64_t bytes[] = { [SPM_LIMIT_MIN] = l->min,
				   [SPM_LIMIT_MAX] = l->max,
				   [SPM_LIMIT_SWAP_MAX] = l->swap_max,
				   [SPM_LIMIT_PIN_MAX] = l->pin_max,
				   [SPM_LIMIT_INODES] = l->inodes ? l->inodes : SPM_SLICE_NONE };

	buf[0] = '\0';
	if (k < SPM_ARRAY_SIZE(bytes))
		bytes_text(bytes[k], buf);
	else if (k == SPM_LIMIT_UID || k == SPM_LIMIT_GID)
		snprintf(buf, SPM_LIMIT_TEXT, "%" PRIu32, k == SPM_LIMIT_UID ? l->uid : l->gid);
	else if (k == SPM_LIMIT_MODE)
		snprintf(buf, SPM_LIMIT_TEXT, "%04o", (unsigned int)l->mode);
	else if (k == SPM_LIMIT_NODES)
		snprintf(buf, SPM_LIMIT_TEXT, "%s", l->nodes);
	else if (k == SPM_LIMIT_HUGE)
		snprintf(buf, SPM_LIMIT_TEXT, "%s", l->huge);
	else if (k == SPM_LIMIT_MAP && l->map < SPM_ARRAY_SIZE(map_names))
		snprintf(buf, SPM_LIMIT_TEXT, "%s", map_names[l->map]);
	else if (k == SPM_LIMIT_COLD && l->cold_s != UINT32_MAX)
		snprintf(buf, SPM_LIMIT_TEXT, "%" PRIu32, l->cold_s);
	else if (k == SPM_LIMIT_DELEGATE)
		snprintf(buf, SPM_LIMIT_TEXT, "%d", !!(l->flags & SPM_SLICE_DELEGATED));
	return buf;
}

int spm_limits_words(struct spm_slice_limits *l, char *words, unsigned int *given, struct spm_error *e)
{
	char *save = NULL;
	unsigned int seen = 0;

	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		char *eq = strchr(w, '=');
		int k;

		if (!eq)
			return spm_fail(e, -EINVAL, "'%s' is not KEY=VALUE", w);
		*eq = '\0';
		k = spm_limit_set(l, w, eq + 1, e);
		if (k < 0)
			return -EINVAL;
		if (seen & 1u << k)
			return spm_fail(e, -EINVAL, "'%s' is given twice", w);
		seen |= 1u << k;
	}
	if (given)
		*given = seen;
	return 0;
}
