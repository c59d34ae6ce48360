/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SLICE_H
#define SPM_CORE_SLICE_H

#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "core/handle.h"
#include "core/log.h"
#include "core/noderoom.h"
#include "core/source.h"

/*
 * A slice: one filesystem of its own inside the region, with its own size, inodes, placement and huge pages.
 * It holds two directories: `data` (what users see) and `orphans` (what users removed but still refer to).
 * Both lie on one mount, so that moving a file between them is one atomic rename.
 */
#define SPM_SLICE_DATA    "data"
#define SPM_SLICE_ORPHANS "orphans"
#define SPM_SLICE_PROBE   "probe" /* a file to try on what the kernel can do, at hand also where no inode is left */

struct spm_slice_opts {
	uint64_t size_bytes; /* limit of memory; never above the device */
	uint64_t nr_inodes;  /* 0: the kernel's default */
	bool nr_inodes_set;
	unsigned int mode; /* of the top directory */
	uint32_t uid, gid;
	const char *huge; /* as tmpfs(5); NULL: within_size */
	bool small_pages; /* no huge page at all: what leaves is less than one, and a part of one may have to stay */
	const char *mpol; /* as tmpfs(5); NULL: none */
	unsigned long mount_flags; /* of MS_*, those about access times count: passed-through reads obey them */
};

/* What the kernel could not do when the slice was mounted. */
struct spm_slice_features {
	bool noswap; /* false: the kernel may swap the device's pages out */
	bool huge;   /* false: no transparent huge pages in tmpfs */
	bool dax;    /* of a fixed one: its files are mapped from the device itself */
};

struct spm_slice {
	uint16_t id; /* 0: the root slice */
	int mount_fd;   /* on the filesystem's own top; also the handle of open_by_handle_at(2) */
	int data_fd;    /* O_PATH */
	int orphans_fd; /* O_PATH */
	dev_t dev;      /* st_dev of its files */
	struct spm_slice_features features;
	bool fixed;     /* not a tmpfs of its own, but in a directory (core/dir.h) */
	uint32_t project; /* of a fixed one: its size is the quota of this (core/quota.h); 0: is not ours to change */
	const struct spm_nodes *bind; /* memory must come from these nodes; NULL: any */
	struct spm_node_budget *budget; /* of these; NULL where bind is */
	/* of one that an administrator made (core/slices.h) */
	struct spm_nodes own_nodes;
	struct spm_node_budget own_budget;
	uint64_t place, top;  /* inodes: of the directory that holds its place, and of its data */
	uint64_t grant;       /* its size; guarded by the lock of struct spm_slices */
	uint64_t rested;      /* what it used when core/grants-claim.c last looked; the same */
	_Atomic uint64_t promised; /* bytes that faults may still take without asking (core/grants.c) */
	_Atomic int64_t poor_ns;   /* when it could last not be given more for these */
	_Atomic uint32_t map, cold_s; /* as its limits have them; UINT32_MAX: as the mount */
	_Atomic uint64_t min, pin_max; /* the same, for who looks at many slices; UINT64_MAX: no limit */
	_Atomic bool leaving; /* it is being removed: not found by its place any more */
	_Atomic bool away;    /* its descriptors lead nowhere */
	struct spm_slice *_Atomic next_at; /* of the same bucket, see spm_slices_at() */
	struct spm_slice *next_dead;
};

/* Makes the directories of a slice below its top. -errno. */
int spm_slice_make_dirs(int mount_fd, const struct spm_slice_opts *o) SPM_MUST_CHECK;
/* Mounts a new slice on the directory @path and makes its two directories. */
int spm_slice_create(const char *path, const struct spm_slice_opts *o, struct spm_slice *out, struct spm_error *e)
	SPM_MUST_CHECK;
/* Opens a slice that is mounted on @path already, without its features. */
int spm_slice_open(const char *path, struct spm_slice *out, struct spm_error *e) SPM_MUST_CHECK;
/* What it was mounted with. This reads the list of all mounts: for one slice, not for each of a thousand. */
void spm_slice_read_features(const char *path, struct spm_slice *s);
/* The same without what it was mounted with, which takes longer the more mounts there are. */
int spm_slice_open_bare(const char *path, struct spm_slice *out) SPM_MUST_CHECK;
void spm_slice_close(struct spm_slice *s);
/* Opens it again by the same numbers, which lead nowhere now. -errno. */
int spm_slice_reopen(const char *path, struct spm_slice *s) SPM_MUST_CHECK;

/* The slice's probe file, open for both; whoever is first makes it. -errno. */
int spm_slice_probe(int mount_fd) SPM_MUST_CHECK;

/* Changes the size in place. -EBUSY: more than @bytes are in use; -EOPNOTSUPP: it is not ours to change. 0: no limit, for the root
 * slice in a directory. */
int spm_slice_resize(struct spm_slice *s, uint64_t bytes) SPM_MUST_CHECK;
/* Changes how many files and directories it may have; 0: no limit. -EBUSY: it has more. */
int spm_slice_set_inodes(struct spm_slice *s, uint64_t inodes) SPM_MUST_CHECK;
/* The same for a project of a filesystem, which is a slice's in a directory or is to be one's. */
int spm_slice_inode_quota(int mount_fd, uint32_t project, uint64_t inodes) SPM_MUST_CHECK;
int spm_slice_statfs(const struct spm_slice *s, struct statvfs *out) SPM_MUST_CHECK;

/* The name in the orphan directory of inode @ino. */
#define SPM_ORPHAN_NAME_LEN 17
void spm_slice_orphan_name(uint64_t ino, char name[static SPM_ORPHAN_NAME_LEN]);
/* Removes one orphan that nobody refers to any more (a file, or an empty directory). */
int spm_slice_orphan_remove(struct spm_slice *s, uint64_t ino, bool dir);
/* Removes all orphans: for a region whose last mount is gone. @gone (or NULL) is told of each file right before that. */
int spm_slice_orphans_clear(struct spm_slice *s, void (*gone)(void *arg, uint64_t ino), void *arg);

/*
 * Inode numbers as users see them: the slice in the top 16 bits, or tools that look at (st_dev, st_ino)
 * would take files of two slices for hard links of one.
 */
static inline uint64_t spm_slice_ino(uint16_t slice, uint64_t ino)
{
	return (uint64_t)slice << 48 | (ino & ((UINT64_C(1) << 48) - 1));
}

#endif
