/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_FDCACHE_H
#define SPM_FS_FDCACHE_H

#include <pthread.h>
#include "core/itable.h"

/*
 * A bounded cache of descriptors of region inodes, so that requests on the same inode need not go through
 * open_by_handle_at(2) each time, without a descriptor per inode.
 *
 * Two kinds: PATH (O_PATH: names, attributes) and IO (O_RDWR, or what the file allows: data).
 * A descriptor that is in use is not closed; one that was dropped while in use is closed by its last user.
 * An IO descriptor makes the lease test fail, so spm_fd_drop() comes before any such test.
 */
struct spm_fs;

enum spm_fd_kind { SPM_FD_PATH, SPM_FD_IO };

#define SPM_FDCACHE_SETS 256u
#define SPM_FDCACHE_WAYS 4u

struct spm_fd_entry {
	uint64_t nodeid; /* 0: empty */
	int fd;
	uint16_t users;
	uint8_t kind;
	uint8_t used; /* second chance */
};

struct spm_fd_set {
	pthread_mutex_t lock; /* guards the entries of this set */
	struct spm_fd_entry way[SPM_FDCACHE_WAYS];
	unsigned int hand;
};

struct spm_fdcache {
	struct spm_fd_set set[SPM_FDCACHE_SETS];
};

/* A descriptor on loan; -1: none. Goes back by spm_fd_put(), or at the end of the scope with spm_auto_fd. */
struct spm_fd {
	int fd;
	struct spm_fd_set *set; /* NULL: not cached, closed when put */
	struct spm_fd_entry *entry;
};
#define SPM_FD_NONE ((struct spm_fd){ .fd = -1 })

void spm_fdcache_init(struct spm_fdcache *c);
void spm_fdcache_destroy(struct spm_fdcache *c);

/* Opens or finds a descriptor. -ESTALE: the inode is gone; -EMFILE; -errno of opening it.
 * IO on a directory, or a file that is immutable, gives a descriptor that only reads; on one that is
 * append-only, one that appends. */
int spm_fd_get(struct spm_fs *fs, const struct spm_inode *rec, uint64_t nodeid, enum spm_fd_kind kind,
	       struct spm_fd *out) SPM_MUST_CHECK;
void spm_fd_put(struct spm_fd *fd);
#define spm_auto_fd __attribute__((cleanup(spm_fd_put)))

/* Closes what is cached for an inode. */
void spm_fd_drop(struct spm_fdcache *c, uint64_t nodeid);

#endif
