/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPMCTL_DRAIN_H
#define SPMCTL_DRAIN_H

#include "mount-helpers/spmctl.h"

/* What is left of a mount that is being drained, as its control file says it, and who holds it, as /proc does. */
struct ctl_left_file {
	ino_t ino;
	uint64_t resident;
	const char *mode; /* direct, mirror, idle, or fixed: nothing of it can leave */
	char *path;       /* below the mount point, or "(deleted)" */
};

struct ctl_left {
	const char *point;
	struct ctl_table table;
	const char *state; /* none, draining, drained */
	uint64_t resident;
	uint64_t more_files, more_bytes; /* that are not listed */
	struct ctl_left_file *files;
	size_t n_files;
	struct ctl_holder *holders;
	size_t n_holders;
	bool swap;         /* the caller's to set, and this: */
	const char *why;   /* why what nobody holds does not leave; NULL: it is not known */
};

/* CTL_DONE, or CTL_FAILED (told). @m outlives @l. */
int ctl_left_read(const struct ctl_mount *m, struct ctl_left *l);
void ctl_left_free(struct ctl_left *l);

/* A line for each file, to be freed; all of them, or those only that do not leave by themselves. */
char *ctl_left_text(const struct ctl_left *l, bool all);
/* The keys "files" and, if there are more, "more_files" and "more_bytes". */
void ctl_left_json(const struct ctl_left *l, const struct ctl_opts *opts, struct json_object *obj);

#endif
