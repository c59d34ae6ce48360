/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What spmctl slice and spmctl cdi share. */
#ifndef SPMCTL_SLICE_H
#define SPMCTL_SLICE_H

#include "mount-helpers/spmctl.h"

/* ---- spmctl-slice-list.c: the slices of a mount, from its control file ---- */

#define CTL_SLICE_KEYS 40

struct ctl_slice {
	const char *name;
	struct ctl_pair pairs[CTL_SLICE_KEYS];
	size_t n;
};

struct ctl_slices {
	char *text;
	struct ctl_slice *list;
	size_t n;
};

/* CTL_DONE, or CTL_FAILED (told). */
int ctl_slices_read(const char *mount, struct ctl_slices *slices);
void ctl_slices_free(struct ctl_slices *slices);
const struct ctl_slice *ctl_slices_find(const struct ctl_slices *slices,
					const char *name); /* NULL: there is none */
/* As the server says it; NULL: it does not. */
const char *ctl_slice_get(const struct ctl_slice *s, const char *key);
/* A number; SPM_SLICE_NONE: "max", or not said. */
uint64_t ctl_slice_number(const struct ctl_slice *s, const char *key);
/* The lower one of what root and the owner say; SPM_SLICE_NONE: no limit. */
uint64_t ctl_slice_max(const struct ctl_slice *s);

/* What the mount says of itself in its control file @file, to be freed; NULL: it does not, which is not told. */
char *ctl_mount_word(const struct ctl_mount *m, const char *file, const char *key);
/* As a number; 0: it is not said. */
uint64_t ctl_mount_number(const struct ctl_mount *m, const char *file, const char *key);

/* ---- spmctl-slice.c ---- */

/* A command about one slice, "NAME MOUNTPOINT". */
struct ctl_slice_call {
	const struct ctl_cmd *cmd;
	struct ctl_opts opts;
	struct ctl_mounts mounts;
	const struct ctl_mount *mount;
	const char *name;
	bool changed; /* the server did it */
	char *conf;   /* with --save: the mount's configuration file */
};

/* CTL_DONE: go on, and ctl_slice_end() in the end; or an exit status (told), or -1: done already (--help). */
int ctl_slice_begin(struct ctl_slice_call *c, const struct ctl_cmd *cmd, int argc, char **argv);
void ctl_slice_end(struct ctl_slice_call *c);

extern const struct ctl_cmd ctl_slice_list, ctl_slice_show;

/* ---- spmctl-slice-why.c: why the server refused, with the numbers. Always CTL_FAILED. ---- */

int ctl_slice_why(const struct ctl_slice_call *c, const struct spm_slice_limits *l, int err);
int ctl_slice_in_use(const struct ctl_slice_call *c, const char *who);

/* ---- spmctl-holders.c ---- */

/* Who uses a slice: has a file of it open or mapped, works in it, or has a part of it mounted elsewhere; as
 * ctl_holders(). */
char *ctl_slice_holders(const struct ctl_mount *m, const struct ctl_slice *s);

/* ---- spmctl-k8s.c, spmctl-cdi.c ---- */

/* The slices of a mount as PersistentVolumes, in YAML. */
int ctl_k8s_print(const struct ctl_mount *m, const struct ctl_slices *slices, const char *node, bool *any);
/* The mount's CDI file, if there is one, or @make: as its slices are now. CTL_DONE or CTL_FAILED (told). */
int ctl_cdi_refresh(const struct ctl_mount *m, bool make);

#endif
