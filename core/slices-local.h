/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_SLICES_LOCAL_H
#define SPM_CORE_SLICES_LOCAL_H

#include "core/slices.h"

/* Between slices.c (how slices come and go) and slices-table.c. All with the lock, or before there are threads. */

uint32_t spm_slice_check(const struct spm_slice_record *r);
/* The copy that counts, whatever its state. */
const struct spm_slice_record *spm_slices_raw(const struct spm_slices *t, uint16_t id);
/* One store makes it count. */
void spm_slices_commit(struct spm_slices *t, struct spm_slice_record *r);
void spm_slices_commit_state(struct spm_slices *t, uint16_t id, enum spm_slice_state state);
int spm_slices_map(struct spm_slices *t, int fd) SPM_MUST_CHECK;
/* Makes the table if there is none. */
int spm_slices_make(struct spm_slices *t) SPM_MUST_CHECK;
/* Says what is wrong with the head of the table, and makes it right. False: it does not look like one. */
bool spm_slices_settle_head(struct spm_slices *t);

/* -- slices-pool.c: with a pool -- */

int spm_slices_pool_look(struct spm_slices *t, uint16_t id, struct spm_slice_use *u) SPM_MUST_CHECK;
void spm_slices_pool_statfs(struct spm_slices *t, uint16_t id, struct statvfs *out);
void spm_slices_pool_shared(struct spm_slices *t, uint64_t *size, uint64_t *free);
int spm_slices_pool_grow(struct spm_slices *t, uint16_t id, uint64_t bytes) SPM_MUST_CHECK;
int spm_slices_pool_set_root_max(struct spm_slices *t, uint64_t bytes) SPM_MUST_CHECK;
bool spm_slices_pool_min_fits(struct spm_slices *t, uint16_t id, uint64_t min);
/* (as spm_grants_fit) */
int spm_slices_pool_fit(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l) SPM_MUST_CHECK;
/* Limits count, whatever they come to; NULL: a slice has none any more. */
void spm_slices_pool_say(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l);
/* Whether the device still has what is guaranteed; if not, says so in the log. */
void spm_slices_pool_settle(struct spm_slices *t);

/* By place, for spm_slices_at(). */
void spm_slices_show(struct spm_slices *t, struct spm_slice *s);
void spm_slices_hide(struct spm_slices *t, struct spm_slice *s);

/* -- where the region is a directory: core/slices-dir.c -- */

static inline bool spm_slices_in_dir(struct spm_slices *t)
{
	return spm_slices_get(t, 0)->fixed;
}
/* The table's file, new, and of its whole size; it counts from spm_slices_dir_keep() on. A descriptor, or -errno. */
int spm_slices_dir_table(void) SPM_MUST_CHECK;
int spm_slices_dir_keep(int fd) SPM_MUST_CHECK;
/* Whether nobody has anything under that number. */
bool spm_slices_dir_is_free(const struct spm_slice *root, uint16_t id);
/* Makes slice @id as @o says, and mounts it on @path. */
int spm_slices_dir_make(const struct spm_slice *root, uint16_t id, const char *path, const struct spm_slice_opts *o) SPM_MUST_CHECK;
/* The same for whichever kind of region: a tmpfs, or that. */
int spm_slices_filesystem(struct spm_slices *t, uint16_t id, const char *path, const struct spm_slice_opts *o,
			  struct spm_slice *made) SPM_MUST_CHECK;
/* The root slice's names are on the disk before a record says what there is. */
int spm_slices_dir_sync(const struct spm_slice *root) SPM_MUST_CHECK;
/* Mounts one that is there, in a region that does not have it yet. */
int spm_slices_dir_mount(uint16_t id, const char *path) SPM_MUST_CHECK;
/* Removes one that is not mounted any more, with its files. May take long. */
int spm_slices_dir_remove(const struct spm_slice *root, uint16_t id) SPM_MUST_CHECK;
/* What a removed slice's files have is nobody else's before they are gone: spm_slices_remove_done() gives it back. */
void spm_slices_dir_going(struct spm_slices *t, uint16_t id);
/* Takes into account what others have on the filesystem: with all slices open. */
void spm_slices_dir_share(struct spm_slices *t);

/* A point of tests. */
static inline void spm_slices_fault(const struct spm_slices *t, const char *at)
{
	if (t->fault)
		t->fault(t->ctx, at);
}

#endif
