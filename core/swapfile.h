/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SWAPFILE_H
#define SPM_CORE_SWAPFILE_H

#include "core/extmap.h"
#include "core/log.h"
#include "core/slots.h"

/*
 * Swap files as they are made, checked and removed; by the mount's set-up, in the host's namespace. The worker only
 * ever sees their descriptors.
 *
 * A swap file: a regular file, root's own, mode 0600, locked (flock) by the open file that all processes of the mount
 * share, preallocated. Its first block is a struct spm_swapfile_header; slots begin at SPM_SLOT_FIRST.
 *
 * Its directory is root's, and nobody else may write to it unless it has the sticky bit: or else the file could be
 * taken away, and with it, after a crash of all processes, the only copy of what is in it.
 */
#define SPM_SWAPFILE_MAGIC "SPMSWAP1"
#define SPM_SWAPFILE_MIN   (UINT64_C(4) << 20) /* the header's part, and a slot or more */
#define SPM_SWAPFILE_MAX   ((uint64_t)SPM_SLOT_BLOCKS_MAX * SPM_SLOT_BLOCK)

struct spm_swapfile_header {
	char magic[8];
	uint8_t uuid[16]; /* of the region whose bytes are in it; all 0 until there is one */
	uint32_t index, count;
	char name[64];    /* of the mount, for people; not always with a NUL */
	uint32_t prepared; /* 1: the file was there already, made by the user; emptied at the end, not unlinked */
	uint32_t check;   /* CRC32C of what is before */
	uint8_t zero[4096 - 8 - 16 - 8 - 64 - 8];
};
_Static_assert(sizeof(struct spm_swapfile_header) == SPM_SLOT_BLOCK, "one block");

/* The swap files of a mount, opened. */
struct spm_swapfiles {
	unsigned int count;
	int fd[SPM_SWAP_FILES];     /* O_DIRECT where it can be had */
	int dir_fd[SPM_SWAP_FILES]; /* the directory that it lies in, O_PATH: to unlink it in the end */
	char *path[SPM_SWAP_FILES]; /* as the user would name it */
	char *base[SPM_SWAP_FILES]; /* its name in that directory */
	uint32_t blocks[SPM_SWAP_FILES]; /* what it may have (new ones have it), or has (those of a region) */
	bool made[SPM_SWAP_FILES];     /* is this mount's to take back: new, or somebody's who is gone */
	bool prepared[SPM_SWAP_FILES]; /* as in the header */
	bool buffered[SPM_SWAP_FILES]; /* the filesystem has no O_DIRECT */
	bool memory[SPM_SWAP_FILES];   /* it is a tmpfs: swapping to it frees nothing */
	bool sparse[SPM_SWAP_FILES];   /* the filesystem cannot preallocate */
};
#define SPM_SWAPFILES_NONE ((struct spm_swapfiles){ .count = 0 })

struct spm_swapfiles_want {
	const char *list;      /* as in swap=: files, or directories, each of which has (or gets) NAME.swap */
	const char *name;      /* of the mount */
	uint64_t bytes;        /* of all together, shared out evenly */
	const uint8_t *uuid;   /* only files of that region (keep, recover); NULL: they are made empty and new */
	bool dry;              /* only look: nothing is made, locked or changed, and nothing stays open */
	/* May a file of another region be taken? 0, or -errno with the reason: that region still needs it. */
	int (*taken)(void *ctx, const char *path, const struct spm_swapfile_header *h, struct spm_error *e);
	void *ctx;
};

/*
 * Opens swap files. Those of a region come back in its own order, whatever the list's.
 * Refuses, with the path, the reason and the remedy in @e: what is not root's, links, other kinds of file, files in use
 * by another mount (or as the kernel's own swap), files on an spmfs mount or on a loop device over one, too little
 * space, files whose content is not ours. What it had made is removed then.
 */
int spm_swapfiles_open(const struct spm_swapfiles_want *want, struct spm_swapfiles *out, struct spm_error *e)
	SPM_MUST_CHECK;
/* Writes the headers of a new region. */
int spm_swapfiles_stamp(struct spm_swapfiles *f, const char *name, const uint8_t uuid[16], struct spm_error *e)
	SPM_MUST_CHECK;
/* What the user should know of them, in one line; empty: nothing. */
void spm_swapfiles_note(const struct spm_swapfiles *f, char *buf, size_t len);
void spm_swapfiles_close(struct spm_swapfiles *f);
/* Removes those that are new, and closes all. */
void spm_swapfiles_undo(struct spm_swapfiles *f);

/* At the end of a mount that does not keep its region: unlinks (if the name still is this file, and the user had
 * not prepared it), else empties. */
void spm_swapfile_remove(int fd, int dir_fd, const char *base);

#endif
