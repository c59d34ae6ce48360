/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands of spmctl share. Nothing here talks to libfuse: spmctl reads the control files of a
 * mount (spmfs-control(5)), one extended attribute, and sysfs.
 *
 * Messages go to stderr, one line each; results go to stdout. All functions are for one thread.
 */
#ifndef SPMCTL_H
#define SPMCTL_H

#include "core/limits.h"
#include "core/util.h"

#include <fts.h>
#include <json-c/json.h>
#include <stddef.h>
#include <sys/types.h>

enum ctl_exit { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

enum ctl_option {
	CTL_OPT_JSON = 1 << 0,
	CTL_OPT_HUMAN = 1 << 1,
	CTL_OPT_BINARY = 1 << 2,
	CTL_OPT_RECURSIVE = 1 << 3,
	CTL_OPT_FORCE = 1 << 4,
	CTL_OPT_SAVE = 1 << 5,
	CTL_OPT_CDI = 1 << 6,
	CTL_OPT_OUTPUT = 1 << 7,
	CTL_OPT_NODE = 1 << 8,
	CTL_OPT_LIMITS = 1 << 9, /* one for each enum spm_limit */
	CTL_OPT_REFRESH = 1 << 10,
	CTL_OPT_RESTORE = 1 << 11,
	CTL_OPT_TIMEOUT = 1 << 12,
	CTL_OPT_CANCEL = 1 << 13,
};

struct ctl_opts {
	bool json;
	bool human;
	bool recursive;
	bool force;
	bool save;
	bool cdi;
	bool cancel;
	/* NULL: not given */
	const char *binary;
	bool refresh;
	const char *output;
	const char *node;
	const char *timeout;
	const char *restore;
	const char *limit[SPM_LIMITS];
};

struct ctl_cmd {
	const char *name;
	const char *args;  /* what follows the name in the usage line */
	const char *help;  /* one line for the list of subcommands */
	unsigned int options; /* that it knows: enum ctl_option */
	int (*run)(const struct ctl_cmd *cmd, int argc, char **argv); /* returns an enum ctl_exit */
};

extern const struct ctl_cmd ctl_status, ctl_files, ctl_evict, ctl_load, ctl_compact, ctl_devices, ctl_metrics,
	ctl_upgrade, ctl_slice, ctl_cdi, ctl_drain;

/* One line on stderr, "spmctl: " in front. */
void ctl_error(const char *fmt, ...) SPM_PRINTF(1, 2);

/*
 * Reads the options of a subcommand. Returns the index of the first operand in argv, -1 after wrong usage
 * (already told), or -2 when --help was asked for and answered.
 */
int ctl_options(const struct ctl_cmd *cmd, int argc, char **argv, struct ctl_opts *opts);

/* ---- spmctl-mounts.c: which mounts there are, and their control files ---- */

struct ctl_mount {
	char *point;
	char *source;
	char *root;        /* what of the filesystem is mounted there: "/" for all of it */
	char dev[32];      /* MAJOR:MINOR as in mountinfo */
};

struct ctl_mounts {
	struct ctl_mount *list;
	size_t n;
};

/* All spmfs mounts of this mount namespace, in mount order. Returns 0 or a negative errno (told). */
int ctl_mounts_read(struct ctl_mounts *mounts);
void ctl_mounts_free(struct ctl_mounts *mounts);

/*
 * The mount whose root is path (relative and symbolic paths are resolved); NULL after an error, which is
 * told. The result points into mounts.
 */
const struct ctl_mount *ctl_mount_find(const struct ctl_mounts *mounts, const char *path);

/* Whether that error says that nothing serves the mount any more. */
bool ctl_is_dead(int err);

/* A mount of that filesystem, all of it (@whole) or any part; NULL: there is none here, which is not told. */
const struct ctl_mount *ctl_mount_of(const struct ctl_mounts *mounts, dev_t dev, bool whole);

/* Whether it is all of a filesystem, for the first time: a bind mount shows it once more, or a part without the
 * control files. */
bool ctl_mount_first(const struct ctl_mounts *mounts, size_t i);

/* Why what was named on the command line (not what is below it) has no data to look at; NULL: it has, or was not named. */
const char *ctl_refusal(const struct ctl_mounts *mounts, const FTSENT *e);

/* What went wrong with a path on a mount: one line, with what to do if nothing serves it. */
void ctl_path_error(const char *path, int err);

/* The text of MOUNT/.spm/NAME, to be freed; NULL after an error, which is told. */
char *ctl_control_read(const char *mount, const char *name);
/* MOUNT/.spm/NAME, open for writing; -1 after an error, which is told. */
int ctl_control_open(const char *mount, const char *name);
/* The mount is being drained: says so, and how to end that. */
void ctl_is_draining(const char *what, const char *mount);
/* Whether its files are in a pool on a dax device. */
bool ctl_has_pool(const char *mount);
/* Swap is off there: says so, and how to get it. */
void ctl_swap_off(const char *mount);

/* Flat-keyed text ("key rest of the line"); the strings live in text, which the table owns. */
struct ctl_table {
	char *text;
	struct ctl_pair {
		const char *key, *value;
	} *pairs;
	size_t n;
};

/* Takes text, also when it fails. Returns 0 or -ENOMEM. */
int ctl_table_parse(struct ctl_table *table, char *text);
void ctl_table_free(struct ctl_table *table);
/* NULL when there is no such key */
const char *ctl_table_get(const struct ctl_table *table, const char *key);
bool ctl_table_u64(const struct ctl_table *table, const char *key, uint64_t *value);
/* What MOUNT/.spm/NAME says now. CTL_DONE, or CTL_FAILED (told). */
int ctl_control_table(const char *mount, const char *name, struct ctl_table *table);

/* One file's state, flat-keyed, by lgetxattr(2). */
#define CTL_XATTR_FILE "system.spm.file"

/* ---- spmctl-holders.c ---- */

#define CTL_HOLDERS_SHOWN 4u

/* Who has a file open or mapped, "NAME (pid N, mapped), ...", to be freed; NULL: nobody that can be seen. */
char *ctl_holders(dev_t dev, ino_t ino);

/* A process that has one of several files open or mapped. */
struct ctl_holder {
	long pid;
	ino_t ino;
	char command[64];
	bool open, mapped;
};
/* By one look at all processes; those of a process follow each other. @inos are put in order. *@list is to be freed, also
 * after -ENOMEM. */
int ctl_holders_of(dev_t dev, ino_t *inos, size_t n_inos, struct ctl_holder **list, size_t *n) SPM_MUST_CHECK;

/* ---- spmctl-out.c: text and JSON ---- */

enum { CTL_SIZE_LEN = 32 };

/* bytes as digits, or in units with -u. Returns buf. */
const char *ctl_size(const struct ctl_opts *opts, uint64_t bytes, char buf[static CTL_SIZE_LEN]);

/*
 * A line on a terminal that says how far it is, written over by the next one. Nothing without a terminal on
 * stderr, nor sooner than some tenths of a second after the last; clear: before anything else is written.
 */
struct ctl_progress {
	bool on, shown;
	uint64_t last_ms;
};

void ctl_progress_begin(struct ctl_progress *p);
bool ctl_progress_due(struct ctl_progress *p);
void ctl_progress_show(struct ctl_progress *p, const char *fmt, ...) SPM_PRINTF(2, 3);
void ctl_progress_clear(struct ctl_progress *p);

/* Adds a size: a number, or with -u a string. */
void ctl_json_size(const struct ctl_opts *opts, struct json_object *obj, const char *key, uint64_t bytes);

/*
 * A string that may hold any bytes, as a file's name does. Bytes that are not UTF-8 become the escapes \udc80
 * to \udcff, which Python's json and os.fsencode() turn into the same bytes again.
 */
struct json_object *ctl_json_bytes(const char *bytes);

/* A path for a terminal: control bytes become octal escapes. Prints to stdout. */
void ctl_print_path(const char *path);

/* A JSON array that is written as it grows: a walk over a million files needs no memory for the result. */
struct ctl_list {
	bool any;
};

void ctl_list_begin(struct ctl_list *list);
void ctl_list_add(struct ctl_list *list, struct json_object *obj); /* prints and frees obj */
void ctl_list_end(struct ctl_list *list);
void ctl_json_print(struct json_object *obj); /* one object with its line end; frees obj */

#endif
