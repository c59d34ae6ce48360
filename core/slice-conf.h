/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SLICE_CONF_H
#define SPM_CORE_SLICE_CONF_H

#include "core/limits.h"

/*
 * The slices of a mount as its configuration file declares them, spmfs.conf(5). What systemd's unit is told stands
 * in front, as SOURCE=, MOUNTPOINT= and OPTIONS=, and is passed over:
 *
 *	[slice NAME]
 *	min = 1G        ; keys are those of core/limits.h, owners may be names
 *
 * libinih takes the lines apart. What it would pass over in silence (a long line, a section without keys, one that
 * comes twice) is an error here: what an administrator wrote is either understood or refused, with the line.
 */
#define SPM_CONF_DIR "/etc/spmfs"

struct spm_slice_conf {
	char name[SPM_SLICE_NAME_MAX + 1];
	unsigned int line;  /* of its header, from 1 */
	unsigned int given; /* 1 << enum spm_limit */
	struct spm_slice_limits limits;
};

struct spm_slices_conf {
	struct spm_slice_conf *list; /* as they stand in the file */
	size_t n;
};

/* @path is for messages. -EINVAL with "PATH:LINE: reason" in @e; -ENOMEM. */
int spm_slices_conf_parse(const char *text, size_t len, const char *path, struct spm_slices_conf *out,
			  struct spm_error *e) SPM_MUST_CHECK;
/* -ENOENT: no such file, which is no reason for @e; other -errno with the reason. */
int spm_slices_conf_read(const char *path, struct spm_slices_conf *out, struct spm_error *e) SPM_MUST_CHECK;
void spm_slices_conf_free(struct spm_slices_conf *conf);
const struct spm_slice_conf *spm_slices_conf_find(const struct spm_slices_conf *conf, const char *name);

/*
 * What spm_limit_set() takes for a user or group (key "uid" or "gid"), a name or a number, in place of @value,
 * which is given back for all other keys. Asks the system's user database. -EINVAL with the reason; @buf is for the
 * number.
 */
#define SPM_OWNER_TEXT 16
int spm_owner_number(const char *key, const char **value, char buf[static SPM_OWNER_TEXT],
		     struct spm_error *e) SPM_MUST_CHECK;

/* ---- slice-conf-edit.c: changes of the file; all else keeps its place, its spelling and its comments ---- */

struct spm_slice_edit {
	const char *name;
	enum { SPM_EDIT_SET, SPM_EDIT_CREATE, SPM_EDIT_REMOVE } how; /* CREATE: keys that are not given go */
	const char *value[SPM_LIMITS]; /* as the user typed it; NULL: not given */
};

/* Whether a line is a section's header; its name goes to @name. -EINVAL: something like one, with the reason. */
int spm_slices_conf_header(const char *line, char name[static SPM_SLICE_NAME_MAX + 1],
			   struct spm_error *e) SPM_MUST_CHECK;
/* The text after the change, to be freed; NULL: no memory. The text must be one that can be parsed. */
char *spm_slices_conf_edited(const char *text, const struct spm_slice_edit *edit);
/*
 * Changes the file, as a whole or not at all; makes it, and its directory, if it is not there (REMOVE does not).
 * One change at a time. -errno with the reason in @e; a file that is broken, or would be, is left as it is:
 * -EINVAL.
 */
int spm_slices_conf_save(const char *path, const struct spm_slice_edit *edit, struct spm_error *e) SPM_MUST_CHECK;
/* The text of a file, to be freed; *@len is without the NUL behind it. -errno, -EFBIG: more than 4 MiB. */
int spm_slices_conf_load(const char *path, char **text, size_t *len) SPM_MUST_CHECK;

#endif
