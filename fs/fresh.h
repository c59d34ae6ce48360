/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_FRESH_H
#define SPM_FS_FRESH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Keeps attributes that the kernel caches for ever from being old ones.
 *
 * The kernel drops what it caches of a directory when a request of its own changes it, but a GETATTR or
 * LOOKUP that was answered a moment before may still be on its way to the cache in another thread, and then
 * puts the old attributes back. FUSE_NOTIFY_INVAL_INODE makes such an answer void (it moves the inode's
 * attribute version on). It is needed only if a thread other than the one that makes the change was shown the
 * attributes since the last change: that one has its own answers behind it.
 *
 * A slot that another directory has taken over means "not known", and a notification too many.
 */
#define SPM_FRESH_SLOTS 1024u

struct spm_fresh_slot {
	uint64_t nodeid;
	uint32_t tid;  /* the one thread that was shown it; 0: none */
	bool several;
};

struct spm_fresh {
	pthread_mutex_t lock; /* guards the slots; a leaf */
	struct spm_fresh_slot slot[SPM_FRESH_SLOTS];
};

struct spm_fs;

void spm_fresh_init(struct spm_fresh *f);
/* The request in hand shows the attributes of a directory. Called before they are read. */
void spm_fresh_shown(struct spm_fs *fs, uint64_t nodeid);
/* The request in hand has changed a directory. Called before the reply. */
void spm_fresh_changed(struct spm_fs *fs, uint64_t nodeid);
/* What the kernel caches of an inode's attributes is void: for changes that it does not expect. */
void spm_fresh_void(struct spm_fs *fs, uint64_t nodeid);

#endif
