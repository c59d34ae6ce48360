/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SETUP_SWAP_H
#define SPM_FS_SETUP_SWAP_H

#include "core/slices.h"
#include "core/swapfile.h"
#include "fs/handover.h"
#include "fs/options.h"

/*
 * The part of a mount's set-up (fs/setup.c) that is about swap: the files on the host, the extent map in the region, and
 * that each has the other's uuid. A region that has a map needs its swap files, all of them, at every mount.
 */
struct spm_setup_swap {
	struct spm_options *o; /* sizes that were not given become those of the region */
	struct spm_error *err;
	struct spm_swapfiles files;
	bool map_made; /* by this process */
};

/* Removes what an orphan has elsewhere. */
typedef void spm_setup_orphan(void *arg, uint16_t slice, uint64_t ino);

/* Whether this process could have swap at all, said before anything is made. */
int spm_setup_swap_possible(const struct spm_options *o, struct spm_error *e) SPM_MUST_CHECK;
/* For mount -f: as spm_setup_swap_files(), but nothing is changed. */
int spm_setup_swap_dry(const struct spm_options *o, struct spm_error *e) SPM_MUST_CHECK;

/* In the host's namespace: makes the files, if swap= was given. */
int spm_setup_swap_files(struct spm_setup_swap *s) SPM_MUST_CHECK;
/* In the region's: makes the map, and stamps the files. */
int spm_setup_swap_map(struct spm_setup_swap *s, const struct spm_slice *root) SPM_MUST_CHECK;
/* In the namespace of a region that is there already, and back in it in the end: finds what it has, or makes it. */
int spm_setup_swap_reopen(struct spm_setup_swap *s, const struct spm_slice *root, int host_ns, int region_ns)
	SPM_MUST_CHECK;
/* Removes the orphans of all slices, with what the map knows of them; @also, unless it is NULL, before each. */
int spm_setup_swap_orphans(struct spm_setup_swap *s, struct spm_slices *slices, spm_setup_orphan *also, void *arg) SPM_MUST_CHECK;

/* In the region's namespace: " PATH PATH...", the swap files that it has; cut off if it does not fit. */
void spm_setup_swap_names(char *buf, size_t len);

/* The descriptors, which are the caller's from then on; and a line for the user, or "". */
void spm_setup_swap_hand_over(struct spm_setup_swap *s, int fd[static SPM_FDS], char *note, size_t len);
/* Takes back what was made. */
void spm_setup_swap_undo(struct spm_setup_swap *s, int region_ns);
/* Leaves all to others. */
void spm_setup_swap_forget(struct spm_setup_swap *s);

#endif
