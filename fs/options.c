/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/options.h"
#include "core/size.h"
#include "core/swapfile.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>

#ifndef MS_LAZYTIME
#define MS_LAZYTIME (1 << 25)
#endif

#define COMPACT_MIN  65536
#define LOW_PCT      5
#define HIGH_OVER_LOW 5

typedef int (*set_fn)(struct spm_options *o, const char *value, struct spm_error *e);

static int replace(char **where, const char *value)
{
	char *s = strdup(value);

	if (!s)
		return -ENOMEM;
	free(*where);
	*where = s;
	return 0;
}

static int bad(struct spm_error *e, const char *name, const char *value, const char *legal)
{
	return spm_fail(e, -EINVAL, "option %s=%s: give %s", name, value, legal);
}

static int set_size(struct spm_options *o, const char *v, struct spm_error *e)
{
	static const char legal[] = "a number with K, M, G or T, or a share of the device as in 50%";
	size_t n = strlen(v);

	o->size_bytes = o->size_pct = 0;
	if (n && v[n - 1] == '%') {
		/* of 100: the number itself; the device's size is known only later */
		if (spm_size_parse_of(v, 100, &o->size_pct) || !o->size_pct)
			return bad(e, "size", v, legal);
		return 0;
	}
	if (spm_size_parse(v, &o->size_bytes))
		return bad(e, "size", v, legal);
	if (o->size_bytes < 65536)
		return bad(e, "size", v, "64K or more");
	return 0;
}

static int set_number(uint64_t *out, const char *name, const char *v, int base, uint64_t max, const char *legal,
		      struct spm_error *e)
{
	return spm_number_parse(v, base, max, out) ? bad(e, name, v, legal) : 0;
}

static int set_mode(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;
	int rc = set_number(&n, "mode", v, 8, 07777, "an octal mode as in 1777", e);

	if (!rc)
		o->mode = (unsigned int)n;
	return rc;
}

static int set_uid(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;
	int rc = set_number(&n, "uid", v, 10, UINT32_MAX - 1, "a numeric user id", e);

	if (!rc)
		o->uid = (uint32_t)n;
	return rc;
}

static int set_gid(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;
	int rc = set_number(&n, "gid", v, 10, UINT32_MAX - 1, "a numeric group id", e);

	if (!rc)
		o->gid = (uint32_t)n;
	return rc;
}

static int set_nr_inodes(struct spm_options *o, const char *v, struct spm_error *e)
{
	if (spm_size_parse(v, &o->nr_inodes))
		return bad(e, "nr_inodes", v, "a number with K, M or G, or 0 for no limit");
	o->nr_inodes_set = true;
	return 0;
}

static int set_huge(struct spm_options *o, const char *v, struct spm_error *e)
{
	if (spm_huge_ok(v))
		return replace(&o->huge, v);
	return bad(e, "huge", v, "never, always, within_size or advise");
}

static int set_mpol(struct spm_options *o, const char *v, struct spm_error *e)
{
	static const char *const modes[] = { "default", "local", "prefer", "bind", "interleave", "weighted interleave" };
	size_t n = strcspn(v, ":=");
	struct spm_nodes nodes;

	for (size_t i = 0; i < SPM_ARRAY_SIZE(modes); i++) {
		const char *list = strchr(v, ':');

		if (strlen(modes[i]) != n || memcmp(v, modes[i], n))
			continue;
		if (list && spm_nodes_parse(list + 1, &nodes))
			break;
		return replace(&o->mpol, v);
	}
	return bad(e, "mpol", v, "a policy of tmpfs(5): default, local, prefer:N, bind:LIST or interleave:LIST");
}

static int set_map(struct spm_options *o, const char *v, struct spm_error *e)
{
	return spm_map_parse(v, strlen(v), &o->map) ? 0 : bad(e, "map", v, "auto, direct or mirror");
}

static int set_commit(struct spm_options *o, const char *v, struct spm_error *e)
{
	o->commit_lazy = !strcmp(v, "lazy");
	return o->commit_lazy || !strcmp(v, "eager") ? 0 : bad(e, "commit", v, "eager or lazy");
}

static int set_isolate(struct spm_options *o, const char *v, struct spm_error *e)
{
	o->claim = !strcmp(v, "claim");
	return o->claim || !strcmp(v, "none") ? 0 : bad(e, "isolate", v, "claim or none");
}

static int set_name(struct spm_options *o, const char *v, struct spm_error *e)
{
	for (const char *p = v; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return bad(e, "name", v, "letters, digits and . _ - only");
	if (!*v || *v == '.' || *v == '-' || strlen(v) > 64)
		return bad(e, "name", v, "1 to 64 characters, the first a letter, a digit or _");
	return replace(&o->name, v);
}

static int set_conf(struct spm_options *o, const char *v, struct spm_error *e)
{
	if (!*v || strlen(v) >= PATH_MAX / 2 || strchr(v, '\n'))
		return bad(e, "conf", v, "a file, or none");
	return replace(&o->conf, v);
}

static int set_nohalt(struct spm_options *o, const char *v, struct spm_error *e)
{
	static const char *const values[] = { [SPM_NOHALT_AUTO] = "auto", [SPM_NOHALT_ON] = "on", [SPM_NOHALT_OFF] = "off" };

	for (size_t i = 0; i < SPM_ARRAY_SIZE(values); i++) {
		if (!strcmp(v, values[i])) {
			o->nohalt = (enum spm_nohalt_when)i;
			return 0;
		}
	}
	return bad(e, "nohalt", v, "auto, on or off");
}

static int set_daxmode(struct spm_options *o, const char *v, struct spm_error *e)
{
	static const char *const values[] = { [SPM_DAX_AUTO] = "auto", [SPM_DAX_SYSTEM_RAM] = "system-ram",
					      [SPM_DAX_DEVDAX] = "devdax" };

	for (size_t i = 0; i < SPM_ARRAY_SIZE(values); i++) {
		if (!strcmp(v, values[i])) {
			o->dax_mode = (enum spm_dax_mode)i;
			o->given |= SPM_GIVEN_DAXMODE;
			return 0;
		}
	}
	return bad(e, "daxmode", v, "auto, system-ram or devdax");
}

static int set_keep(struct spm_options *o, const char *v, struct spm_error *e)
{
	(void)v;
	(void)e;
	o->keep = true;
	return 0;
}

static int set_recover(struct spm_options *o, const char *v, struct spm_error *e)
{
	(void)v;
	(void)e;
	o->recover = true;
	return 0;
}

static int set_force(struct spm_options *o, const char *v, struct spm_error *e)
{
	(void)v;
	(void)e;
	o->force = true;
	return 0;
}

static int set_watchdog(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;
	int rc = set_number(&n, "watchdog", v, 10, 86400, "seconds, at most 86400, or 0 to switch it off", e);

	if (!rc)
		o->watchdog = (unsigned int)n;
	o->given |= SPM_GIVEN_WATCHDOG;
	return rc;
}

static int set_swap(struct spm_options *o, const char *v, struct spm_error *e)
{
	unsigned int paths = 1;
	size_t n;

	for (const char *p = v;; p += n + 1, paths++) {
		n = strcspn(p, ":");
		if (!n || n >= PATH_MAX / 2 || paths > SPM_SWAP_FILES || strchr(v, '\n'))
			return bad(e, "swap", v, "1 to 8 files or directories with ':' between, as in swap=/var/lib/spmfs");
		if (!p[n])
			break;
	}
	return replace(&o->swap, v);
}

static int set_swapsize(struct spm_options *o, const char *v, struct spm_error *e)
{
	static const char legal[] = "a size of 4M or more per file, with K, M, G or T";

	o->needs_swap = "swapsize";
	if (spm_size_parse(v, &o->swap_bytes))
		return bad(e, "swapsize", v, legal);
	return o->swap_bytes < SPM_SWAPFILE_MIN ? bad(e, "swapsize", v, legal) : 0;
}

static int set_extent(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;

	if (spm_size_parse(v, &n) || n < SPM_EXTENT_MIN || n > SPM_EXTENT_MAX || n & (n - 1))
		return bad(e, "extent", v, "64K, 128K, 256K, 512K, 1M or 2M");
	o->extent_bytes = (uint32_t)n;
	o->given |= SPM_GIVEN_EXTENT;
	return 0;
}

static int set_low(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;
	int rc = set_number(&n, "low", v, 10, 99, "percent of the memory, 0 to 99", e);

	o->needs_swap = "low";
	if (!rc)
		o->low_pct = (unsigned int)n;
	o->given |= SPM_GIVEN_LOW;
	return rc;
}

static int set_high(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;
	int rc = set_number(&n, "high", v, 10, 99, "percent of the memory, 0 to 99", e);

	o->needs_swap = "high";
	if (!rc)
		o->high_pct = (unsigned int)n;
	o->given |= SPM_GIVEN_HIGH;
	return rc;
}

static int set_cold(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n;
	int rc = set_number(&n, "cold", v, 10, SPM_COLD_MAX_S, "seconds, at most 14400, or 0 to switch it off", e);

	o->needs_swap = "cold";
	o->given |= SPM_GIVEN_COLD;
	if (!rc)
		o->cold_s = (unsigned int)n;
	return rc;
}

static int set_compact(struct spm_options *o, const char *v, struct spm_error *e)
{
	uint64_t n = 0;

	o->given |= SPM_GIVEN_COMPACT;
	if (strcmp(v, "off") && (spm_size_parse(v, &n) || (n && n < COMPACT_MIN)))
		return bad(e, "compact", v, "bytes a second, 64K or more, with K, M or G; or off");
	o->compact_bps = n;
	return 0;
}

static int set_nopassthrough(struct spm_options *o, const char *v, struct spm_error *e)
{
	(void)v;
	(void)e;
	o->no_passthrough = true;
	return 0;
}

static int set_noidmap(struct spm_options *o, const char *v, struct spm_error *e)
{
	(void)v;
	(void)e;
	o->no_idmap = true;
	return 0;
}

static int set_noresend(struct spm_options *o, const char *v, struct spm_error *e)
{
	(void)v;
	(void)e;
	o->no_resend = true;
	return 0;
}

static int set_remount(struct spm_options *o, const char *v, struct spm_error *e)
{
	(void)v;
	(void)e;
	o->remount = true;
	return 0;
}

static const struct option_row {
	const char *name;
	bool has_value;
	set_fn set;
	const char *help;
} rows[] = {
	{ "size", true, set_size, "limit of memory, at most the device: 512M, 50% (default: the device)" },
	{ "mode", true, set_mode, "mode of the top directory (default: 1777)" },
	{ "uid", true, set_uid, "owner of the top directory (default: 0)" },
	{ "gid", true, set_gid, "group of the top directory (default: 0)" },
	{ "nr_inodes", true, set_nr_inodes, "most inodes, 0: no limit (default: as tmpfs)" },
	{ "huge", true, set_huge, "never, always, within_size or advise (default: within_size)" },
	{ "mpol", true, set_mpol, "memory policy as in tmpfs(5); not with node: sources" },
	{ "map", true, set_map, "auto, direct or mirror (default: auto)" },
	{ "commit", true, set_commit, "eager or lazy (default: eager)" },
	{ "isolate", true, set_isolate, "claim: free memory of the device is held, so that nobody else gets it (default: none)" },
	{ "name", true, set_name, "name of the mount (default: from the mount point)" },
	{ "conf", true, set_conf, "file that declares slices, or none (default: /etc/spmfs/NAME.conf, if it is there)" },
	{ "daxmode", true, set_daxmode, "of a dax device: auto, system-ram or devdax (default: auto, as it is)" },
	{ "keep", false, set_keep, "umount leaves the region for the next mount of this name" },
	{ "recover", false, set_recover, "take over the region of a server that died" },
	{ "force", false, set_force, "use dir: also where it is not DAX; recover a pool though its device was let go" },
	{ "watchdog", true, set_watchdog, "seconds after which a server that answers nothing is replaced (default: 30, with dir: 0, never)" },
	{ "nohalt", true, set_nohalt, "idle processors poll while requests come: auto, on or off (default: auto)" },
	{ "swap", true, set_swap, "files or directories for cold data, with ':' between (default: none)" },
	{ "swapsize", true, set_swapsize, "size of all swap files together (default: as the device)" },
	{ "extent", true, set_extent, "unit of swapping, or of a pool, 64K to 2M (default: 2M); less means no huge pages" },
	{ "low", true, set_low, "percent of free memory below which data is swapped out (default: 5)" },
	{ "high", true, set_high, "percent of free memory at which that ends (default: low + 5)" },
	{ "cold", true, set_cold, "seconds after which unused data is swapped out anyway (default: 0, never)" },
	{ "compact", true, set_compact, "bytes a second that compaction may move, or off (default: 64M)" },
	{ "nopassthrough", false, set_nopassthrough, "act as on a kernel without passthrough" },
	{ "noidmap", false, set_noidmap, "act as on a kernel that cannot map owners of FUSE mounts (before 6.12)" },
	{ "noresend", false, set_noresend, "act as on a kernel that cannot send requests again (before 6.9)" },
	{ "remount", false, set_remount, "with size=: change the size of a live mount" },
};

void spm_options_help(FILE *out)
{
	for (size_t i = 0; i < SPM_ARRAY_SIZE(rows); i++)
		fprintf(out, "  %s%-*s %s\n", rows[i].name, (int)(16 - strlen(rows[i].name)),
			rows[i].has_value ? "=" : "", rows[i].help);
}

/* The generic options of mount(8). */
static const struct {
	const char *name;
	unsigned long set, clear;
} generic[] = {
	{ "ro", MS_RDONLY, 0 }, { "rw", 0, MS_RDONLY },
	{ "nosuid", MS_NOSUID, 0 }, { "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 }, { "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 }, { "exec", 0, MS_NOEXEC },
	{ "sync", MS_SYNCHRONOUS, 0 }, { "async", 0, MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "noatime", MS_NOATIME, 0 }, { "atime", 0, MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME, 0 }, { "diratime", 0, MS_NODIRATIME },
	{ "relatime", MS_RELATIME, 0 }, { "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, 0 }, { "nostrictatime", 0, MS_STRICTATIME },
	{ "lazytime", MS_LAZYTIME, 0 }, { "nolazytime", 0, MS_LAZYTIME },
	{ "nosymfollow", 256 /* MS_NOSYMFOLLOW */, 0 },
	{ "user", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 }, { "users", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 },
	{ "owner", MS_NOSUID | MS_NODEV, 0 }, { "group", MS_NOSUID | MS_NODEV, 0 },
	{ "defaults", 0, 0 }, { "auto", 0, 0 }, { "noauto", 0, 0 }, { "nouser", 0, 0 }, { "nofail", 0, 0 },
	{ "_netdev", 0, 0 }, { "iversion", 0, 0 }, { "noiversion", 0, 0 }, { "silent", 0, 0 }, { "loud", 0, 0 },
};

static bool set_generic(struct spm_options *o, const char *opt)
{
	/* what mount(8) reads from a live mount and hands back on remount */
	static const char *const own[] = { "user_id=", "group_id=", "max_read=", "default_permissions", "allow_other" };

	for (size_t i = 0; o->remount_seen && i < SPM_ARRAY_SIZE(own); i++)
		if (!strncmp(opt, own[i], strlen(own[i])))
			return true;
	if (!strncmp(opt, "x-", 2) || !strncmp(opt, "X-", 2) || !strncmp(opt, "comment=", 8) ||
	    !strncmp(opt, "user=", 5))
		return true;
	for (size_t i = 0; i < SPM_ARRAY_SIZE(generic); i++) {
		if (!strcmp(opt, generic[i].name)) {
			o->mount_flags = (o->mount_flags & ~generic[i].clear) | generic[i].set;
			o->flags_cleared = (o->flags_cleared & ~generic[i].set) | generic[i].clear;
			return true;
		}
	}
	return false;
}

static int set_one(struct spm_options *o, const char *opt, struct spm_error *e)
{
	size_t n = strcspn(opt, "=");
	bool valued = opt[n] == '=';

	if (!*opt || set_generic(o, opt))
		return 0;
	for (size_t i = 0; i < SPM_ARRAY_SIZE(rows); i++) {
		if (strlen(rows[i].name) != n || memcmp(rows[i].name, opt, n))
			continue;
		if (valued != rows[i].has_value)
			return spm_fail(e, -EINVAL, rows[i].has_value ? "option %s needs a value: %s=..." :
					"option %s takes no value (given: %s)", rows[i].name,
					rows[i].has_value ? rows[i].name : opt);
		return rows[i].set(o, valued ? opt + n + 1 : "", e);
	}
	if (o->sloppy)
		return 0;
	return spm_fail(e, -EINVAL, "unknown option '%s'; 'spmfs --help' lists the options", opt);
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ',') && (!p[n] || p[n] == ','))
			return true;
	return false;
}

/* The end of the option at @p: a comma, unless a digit follows it inside of mpol=, whose node lists have
 * commas of their own (tmpfs reads them the same way); "\," stands for a comma. */
static size_t option_length(const char *p)
{
	bool mpol = !strncmp(p, "mpol=", 5);
	size_t n = 0;

	while (p[n]) {
		if (p[n] == '\\' && p[n + 1])
			n++;
		else if (p[n] == ',' && !(mpol && isdigit((unsigned char)p[n + 1])))
			break;
		n++;
	}
	return n;
}

/* A later standby reads the list anew. */
static int remember(struct spm_options *o, const char *list)
{
	size_t had = o->list ? strlen(o->list) + 1 : 0, n = strlen(list), slashes = 0;
	char *all = realloc(o->list, had + n + 2);

	if (!all)
		return -ENOMEM;
	if (had)
		all[had - 1] = ',';
	strcpy(all + had, list);
	/* one at the very end stands for itself, and must not escape the next list's comma */
	while (slashes < n && list[n - 1 - slashes] == '\\')
		slashes++;
	if (slashes % 2)
		strcpy(all + had + n, "\\");
	o->list = all;
	return 0;
}

int spm_options_parse(struct spm_options *o, const char *list, struct spm_error *e)
{
	int rc = remember(o, list);

	if (rc)
		return rc;
	o->remount_seen |= has_word(list, "remount");
	while (*list) {
		size_t n = option_length(list), at = 0;
		char *opt = malloc(n + 1);

		if (!opt)
			return -ENOMEM;
		for (size_t i = 0; i < n; i++) {
			if (list[i] == '\\' && i + 1 < n && (list[i + 1] == ',' || list[i + 1] == '\\'))
				i++;
			opt[at++] = list[i];
		}
		opt[at] = '\0';
		rc = set_one(o, opt, e);
		free(opt);
		if (rc)
			return rc;
		list += n + (list[n] == ',');
	}
	return 0;
}

void spm_options_init(struct spm_options *o)
{
	*o = (struct spm_options){ .mode = 01777,
				   .watchdog = 30,
				   .extent_bytes = SPM_EXTENT_MAX,
				   .low_pct = LOW_PCT,
				   .high_pct = LOW_PCT + HIGH_OVER_LOW,
				   .compact_bps = UINT64_C(64) << 20 };
}

void spm_options_free(struct spm_options *o)
{
	free(o->source_text);
	free(o->mountpoint);
	free(o->name);
	free(o->huge);
	free(o->mpol);
	free(o->conf);
	free(o->swap);
	free(o->list);
	spm_options_init(o);
}

/* "/srv/my dir" becomes "srv-my_20dir": safe as a file name, and two mount points never share one. */
static int default_name(struct spm_options *o)
{
	const char *p = o->mountpoint;
	char name[65];
	size_t at = 0;

	while (*p == '/')
		p++;
	for (; *p && at + 4 < sizeof(name); p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '/')
			name[at++] = '-';
		else if (isalnum(c) || (c == '.' && at))
			name[at++] = (char)c;
		else
			at += (size_t)snprintf(name + at, sizeof(name) - at, "_%02x", c);
	}
	name[at] = '\0';
	if (*p) {
		/* cut off: the whole path's hash (FNV-1a) keeps the names of two mount points apart */
		uint64_t h = UINT64_C(0xcbf29ce484222325);

		for (p = o->mountpoint; *p; p++)
			h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
		snprintf(name + 40, sizeof(name) - 40, "-%016llx", (unsigned long long)h);
	}
	return replace(&o->name, at ? name : "root");
}

static bool all_absolute(const char *paths)
{
	for (const char *p = paths; p; p = strchr(p, ':')) {
		p += *p == ':';
		if (*p != '/')
			return false;
	}
	return true;
}

static char *emit(char *to, const char *from, size_t n, bool escaped)
{
	for (size_t i = 0; i < n; i++) {
		if (escaped && (from[i] == ',' || from[i] == '\\'))
			*to++ = '\\';
		*to++ = from[i];
	}
	return to;
}

/* The paths of swap=, absolute; @escaped: as in an option list. */
static char *resolved(const char *swap, const char *cwd, bool escaped)
{
	char *out = malloc(2 * (strlen(swap) + SPM_SWAP_FILES * (strlen(cwd) + 1)) + 1), *to = out;

	while (out) {
		size_t n = strcspn(swap, ":");

		if (*swap != '/') {
			to = emit(to, cwd, strlen(cwd), escaped);
			*to++ = '/';
		}
		to = emit(to, swap, n, escaped);
		swap += n;
		if (!*swap)
			break;
		*to++ = *swap++;
	}
	if (out)
		*to = '\0';
	return out;
}

static int resolve_conf(struct spm_options *o, const char *cwd)
{
	spm_auto_free char *list = NULL, *path = NULL;
	char *to;
	size_t n;
	int rc;

	if (!o->conf || *o->conf == '/' || !strcmp(o->conf, "none"))
		return 0;
	if (asprintf(&path, "%s/%s", strcmp(cwd, "/") ? cwd : "", o->conf) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	n = strlen(path);
	list = malloc(2 * n + sizeof("conf="));
	if (!list)
		return -ENOMEM;
	to = emit(stpcpy(list, "conf="), path, n, true);
	*to = '\0';
	rc = remember(o, list);
	return rc ? rc : replace(&o->conf, path);
}

int spm_options_resolve(struct spm_options *o, const char *cwd, struct spm_error *e)
{
	spm_auto_free char *list = NULL, *text = NULL, *paths = NULL;
	int rc = resolve_conf(o, cwd);

	if (rc || !o->swap)
		return rc;
	if (strchr(cwd, ':') && !all_absolute(o->swap))
		return spm_fail(e, -EINVAL, "option swap=%s: the working directory %s has a ':' in its name; "
				"give absolute paths", o->swap, cwd);
	if (!strcmp(cwd, "/"))
		cwd = "";
	paths = resolved(o->swap, cwd, false);
	text = resolved(o->swap, cwd, true);
	if (!paths || !text || asprintf(&list, "swap=%s", text) < 0)
		return -ENOMEM;
	rc = remember(o, list);
	return rc ? rc : replace(&o->swap, paths);
}

static int about_swap(const char *option, struct spm_error *e)
{
	return spm_fail(e, -EINVAL, "option %s= is about swap files; add swap=PATH, or leave it out", option);
}

/* Of the options about swap files those that are about a pool on a dax device as well; NULL: none was given. */
static const char *about_extents(const struct spm_options *o)
{
	return o->given & SPM_GIVEN_EXTENT ? "extent" : o->given & SPM_GIVEN_COMPACT ? "compact" : NULL;
}

/* Options about swap, which depend on each other. */
static int finish_swap(struct spm_options *o, struct spm_error *e)
{
	unsigned int files = 1;

	if (!o->swap) {
		const char *needs = o->needs_swap;

		/* see spm_options_fit() */
		if (!needs && o->source.kind != SPM_SOURCE_DAX)
			needs = about_extents(o);
		return needs ? about_swap(needs, e) : 0;
	}
	for (const char *p = o->swap; *p; p++)
		files += *p == ':';
	if (o->swap_bytes && o->swap_bytes / files < SPM_SWAPFILE_MIN)
		return spm_fail(e, -EINVAL, "option swapsize=: less than 4M for each of %u files; give more, or "
				"fewer files", files);
	if (o->extent_bytes < SPM_EXTENT_MAX && o->huge && strcmp(o->huge, "never"))
		return spm_fail(e, -EINVAL, "option extent=: less than 2M cannot leave a huge page; leave out huge=%s, or extent=",
				o->huge);
	if (!(o->given & SPM_GIVEN_HIGH))
		o->high_pct = o->low_pct + HIGH_OVER_LOW < 99 ? o->low_pct + HIGH_OVER_LOW : 99;
	else if (!(o->given & SPM_GIVEN_LOW) && o->low_pct > o->high_pct)
		o->low_pct = o->high_pct;
	if (o->low_pct > o->high_pct)
		return spm_fail(e, -EINVAL, "option low=%u: above high=%u; give a low= that is not above high=", o->low_pct,
				o->high_pct);
	return 0;
}

static int about_force(const struct spm_options *o, struct spm_error *e)
{
	return spm_fail(e, -EINVAL, "option force: is about dir: sources, and dax devices in mode devdax, and means nothing for %s; "
			"leave it out", o->source_text);
}

/* A directory's filesystem was made by somebody else, who has decided about these. */
static int finish_dir(struct spm_options *o, struct spm_error *e)
{
	const struct {
		const char *name, *why;
		bool given;
	} row[] = { { "nr_inodes", "the limit is that of the filesystem", o->nr_inodes_set },
		    { "huge", "the filesystem places its files", o->huge },
		    { "mpol", "its files are on a disk or on persistent memory", o->mpol },
		    { "swap", "what is in swap would be lost with the machine, and its files are not", o->swap } };

	o->source.force = o->force;
	if (o->source.kind != SPM_SOURCE_DIR)
		return !o->force || o->source.kind == SPM_SOURCE_DAX ? 0 : about_force(o, e);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(row); i++)
		if (row[i].given)
			return spm_fail(e, -EINVAL, "option %s=: not with %s, %s; leave it out", row[i].name, o->source_text,
					row[i].why);
	o->source.wants_quota = o->size_bytes || o->size_pct;
	/* a filesystem may be frozen for as long as its administrator likes: who waits for it is not stuck */
	if (!(o->given & SPM_GIVEN_WATCHDOG))
		o->watchdog = 0;
	return 0;
}

int spm_options_finish(struct spm_options *o, struct spm_error *e)
{
	int rc = finish_swap(o, e);

	if (!rc)
		rc = finish_dir(o, e);
	if (rc)
		return rc;
	if (o->given & SPM_GIVEN_DAXMODE && o->source.kind != SPM_SOURCE_DAX)
		return spm_fail(e, -EINVAL, "option daxmode=: %s is no dax device; leave it out", o->source_text);
	o->source.dax_mode = o->dax_mode;
	if (o->mpol && (o->source.kind == SPM_SOURCE_DAX || spm_source_on_nodes(&o->source)))
		return spm_fail(e, -EINVAL, "option mpol=%s: %s binds the memory to its nodes already; leave mpol= out, or use "
				"mem:SIZE with it, which takes memory of other nodes where these have none", o->mpol, o->source_text);
	if (o->claim && o->source.kind == SPM_SOURCE_DIR)
		return spm_fail(e, -EINVAL, "option isolate=claim: holds free memory, and %s has files of a disk or of persistent memory; "
				"leave it out", o->source_text);
	if (o->claim && o->commit_lazy)
		return spm_fail(e, -EINVAL, "option isolate=claim: not with commit=lazy, since faults cannot ask for "
				"memory that is held; leave one of them out");
	return o->name ? 0 : default_name(o);
}

/* What a pool on a dax device does not have. */
static int fit_pool(const struct spm_options *o, struct spm_error *e)
{
	static const char remedy[] = "leave it out, or use the device with daxmode=system-ram";

	if (o->source.kind != SPM_SOURCE_DAX)
		return 0;
	if (o->source.dax_mode == SPM_DAX_SYSTEM_RAM && o->force)
		return about_force(o, e);
	if (o->source.dax_mode == SPM_DAX_SYSTEM_RAM && about_extents(o) && !o->swap)
		return about_swap(about_extents(o), e);
	if (o->source.dax_mode != SPM_DAX_DEVDAX)
		return 0;
	if (o->claim)
		return spm_fail(e, -EINVAL, "option isolate=claim: the kernel never allocates from %s in mode devdax, so there is nothing to "
				"hold; %s", o->source_text, remedy);
	if (o->map == SPM_MAP_DIRECT)
		return spm_fail(e, -EINVAL, "option map=direct: the kernel maps no character device through FUSE, so files on %s are "
				"mirrors; %s", o->source_text, remedy);
	if (o->huge || o->mpol)
		return spm_fail(e, -EINVAL, "option %s: it is about pages of a tmpfs, and files on %s have none; %s",
				o->huge ? "huge=" : "mpol=", o->source_text, remedy);
	return 0;
}

int spm_options_fit(struct spm_options *o, struct spm_error *e)
{
	char want[16], have[16];
	int rc = fit_pool(o, e);

	if (rc)
		return rc;
	if (o->size_pct)
		o->size_bytes = o->source.bytes / 100 * o->size_pct + o->source.bytes % 100 * o->size_pct / 100;
	if (o->size_bytes <= o->source.bytes)
		return 0;
	return spm_fail(e, -EINVAL, "option size=%s: more than the device (%s of %s)",
			spm_size_human(o->size_bytes, want, sizeof(want)), o->source_text,
			spm_size_human(o->source.bytes, have, sizeof(have)));
}
