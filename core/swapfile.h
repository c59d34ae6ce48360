/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SWAPFILE_H
#define SPM_CORE_SWAPFILE_H

#include "core/extmap.h"
#include "core/log.h"
#include "core/slots.h"

/*
 * Swap files as they are made, checked and removed; by the mount's set-up, in the host's namespace. The worker only ever
 * sees their descriptors.
 *
 * A swap file: a regular file, root's own, mode 0600, locked (flock) by the open file that all processes of the mount share,
 * preallocated. Its first block is a struct spm_swapfile_header; slots begin at SPM_SLOT_FIRST.
 */
#define SPM_SWAPFILE_MAGIC "SPMSWAP1"
#define SPM_SWAPFILE_MIN   (UINT64_C(4) << 20) /* the header's part, and a slot or more */

struct spm_swapfile_header {
	char magic[8];
	uint8_t uuid[16]; /* of the region whose bytes are in it */
	uint32_t index, count;
	char name[64];    /* of the mount, for people */
	uint32_t check;   /* CRC32C of what is before */
	uint8_t zero[4096 - 8 - 16 - 8 - 64 - 4];
};
_Static_assert(sizeof(struct spm_swapfile_header) == SPM_SLOT_BLOCK, "one block");

/* The swap files of a mount, opened. */
struct spm_swapfiles {
	unsigned int count;
	int fd[SPM_SWAP_FILES];     /* O_DIRECT where it can be had */
	int dir_fd[SPM_SWAP_FILES]; /* the directory that it lies in, O_PATH: to unlink it in the end */
	char *path[SPM_SWAP_FILES]; /* as the user would name it */
	char *base[SPM_SWAP_FILES]; /* its name in that directory */
	uint32_t blocks[SPM_SWAP_FILES];
	bool buffered[SPM_SWAP_FILES]; /* the filesystem has no O_DIRECT */
};
#define SPM_SWAPFILES_NONE ((struct spm_swapfiles){ .count = 0 })

/*
 * Opens what swap= names: files, or directories, in each of which NAME.swap is made (or found). @bytes: swapsize, shared out
 * evenly; 0: @device_bytes. With @uuid: only files that belong to that region (keep, recover); else files that belong to
 * nobody alive are made empty and new.
 * Refuses, with the path, the reason and the remedy in @e: what is not root's, links, other kinds of file, files in use by
 * another mount (or as the kernel's own swap), files on an spmfs mount or on a loop device over one, too little space, files
 * whose content is not ours.
 */
int spm_swapfiles_open(const char *list, const char *name, uint64_t bytes, uint64_t device_bytes, const uint8_t *uuid,
		       struct spm_swapfiles *out, struct spm_error *e) SPM_MUST_CHECK;
/* Writes the headers of a new region. */
int spm_swapfiles_stamp(struct spm_swapfiles *f, const char *name, const uint8_t uuid[16], struct spm_error *e) SPM_MUST_CHECK;
void spm_swapfiles_close(struct spm_swapfiles *f);

/* At the end of a mount that does not keep its region: unlinks (if the name still is this file), else empties. */
void spm_swapfile_remove(int fd, int dir_fd, const char *base);

#endif
