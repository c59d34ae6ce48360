/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_ITABLE_H
#define SPM_CORE_ITABLE_H

#include <pthread.h>
#include <stdint.h>
#include "core/handle.h"
#include "core/ledger.h"

/*
 * The inode table: what the kernel remembers of a mount, one 64-byte record per inode.
 *
 * The records are shared memory (a memfd) that outlives the process: node ids, lookup counts and open state
 * mean the same to whichever process maps it next. Everything else here (the index by inode number, the
 * free map) is derived from the records and rebuilt by spm_itable_scan(). Counts change through the ledger of
 * the request at hand (core/ledger.h).
 *
 * A node id is `seq << 32 | index`: seq differs each time an index is used again, so a stale id is found out.
 * Index 0 is the header, index 1 is the root (seq 0: node id 1, as FUSE fixes it).
 *
 * Invariants:
 *  - a record with nlookup > 0 is live, and its backing inode exists (an unlinked one in the orphan directory);
 *  - (slice, ino) of live records are unique;
 *  - whoever forgets the last lookup has the record to himself from then on: the inode is let go of, and perhaps removed, with the
 *    record still there for whoever goes on after a crash, and a disk filesystem gives its number to another one at once;
 *  - a chunk of records that holds no live one gives its memory back.
 *
 * Locks: t->lock guards nlookup, allocation and the index, and is a leaf: nothing else is taken under it.
 * The open state of a record is guarded by the inode lock of whoever uses the table (fs/inode.h).
 */
enum spm_inode_flags {
	SPM_INODE_ORPHAN = 1 << 0,  /* lives in the orphan directory: show nlink one lower, remove at forget */
	SPM_INODE_MAPPED = 1 << 1,  /* was open directly, so somebody may still map it: only a lease test tells */
	SPM_INODE_WRMAPPED = 1 << 2,/* somebody may have a mapping of it, in either mode, and write */
	SPM_INODE_PRIV = 1 << 3,    /* had suid or sgid when last looked at */
	SPM_INODE_LARGE = 1 << 5,   /* had more than SPM_LARGE bytes when last looked at */
	SPM_INODE_DIR = 1 << 4,
	SPM_INODE_DAMAGED = 1 << 6, /* contradicts itself: never followed, its node id is stale for ever */
	SPM_INODE_FLAGS = (1 << 7) - 1,
};

struct spm_inode {
	uint64_t ino; /* in its slice's filesystem */
	uint64_t nlookup;
	uint64_t backing; /* spm_inode_backing(): a FUSE backing id, checked, since a wrong one is another's file */
	uint32_t seq;
	uint16_t slice;
	uint16_t flags;
	uint32_t open_plain;
	uint32_t open_served;
	uint32_t open_mirror;
	struct spm_handle handle;
	uint16_t check; /* of what does not change as long as the record lives: ino, seq, slice, handle */
};
_Static_assert(sizeof(struct spm_inode) == 64, "a record is one cache line");

/* seq stays below 2^30, so the upper two bits of a node id are the caller's, for ids of its own. */
#define SPM_ITABLE_SEQ_MAX ((UINT32_C(1) << 30) - 1)

#define SPM_LARGE (32 << 20)

#define SPM_ITABLE_CHUNK 512u /* records that are given back together: 32 KiB */

struct spm_itable_chunk {
	uint64_t used[SPM_ITABLE_CHUNK / 64];
	uint32_t count;
};

/* The flags are read without the inode's lock as well, hence always by these. */
static inline bool spm_inode_is(const struct spm_inode *rec, unsigned int flags)
{
	return __atomic_load_n(&rec->flags, __ATOMIC_RELAXED) & flags;
}

static inline void spm_inode_set(struct spm_inode *rec, unsigned int flags)
{
	__atomic_or_fetch(&rec->flags, (uint16_t)flags, __ATOMIC_RELAXED);
}

static inline void spm_inode_clear(struct spm_inode *rec, unsigned int flags)
{
	__atomic_and_fetch(&rec->flags, (uint16_t)~flags, __ATOMIC_RELAXED);
}

/* The FUSE backing id of a record, 0: none. With the inode's lock. One store, so that a crash leaves id and check
 * together. */
static inline int spm_inode_backing(const struct spm_inode *rec)
{
	return (int)(uint32_t)rec->backing;
}
void spm_inode_set_backing(struct spm_inode *rec, int id);

struct spm_itable_header;

/* A record that is about to be free: whose thread lets go of what hangs on it. All zero at first, and his own. */
struct spm_dying {
	struct spm_dying *next;
	uint32_t index; /* 0: none yet */
};

struct spm_itable {
	pthread_mutex_t lock;
	pthread_cond_t buried;   /* a record of @dying is free, or lives on */
	struct spm_dying *dying; /* nobody finds these by inode and counts them meanwhile: spm_itable_intern() waits */
	void (*slow)(void);      /* before it does, without the lock; NULL: nothing */
	int fd;
	uint32_t max;
	struct spm_itable_header *header;
	struct spm_inode *records;
	struct spm_itable_chunk *chunks;
	uint32_t low_chunk; /* no free record below it */
	uint32_t *index;    /* open addressing by (slice, ino), 0: empty */
	uint32_t index_mask;
	uint32_t live;
	uint32_t damaged;   /* records set aside by spm_itable_scan() */
};

/* Makes an empty table for at most @max inodes (rounded up to chunks); memory is used as it fills. Its size cannot be
 * changed any more. The descriptor of the memfd, -ENOMEM, or -errno of memfd_create(2). */
int spm_itable_create(uint32_t max) SPM_MUST_CHECK;
/*
 * Takes over the table in @fd (owned by @t from then on), just made or left by another process, in three steps:
 *  attach  maps it. -EPROTO: not a table of this version.
 *  settle  for each ledger that a process has left: makes its armed change. -EBADMSG: it makes no sense, and was
 *          dropped.
 *  scan    finds the records. One that contradicts itself or another is set aside: t->damaged counts them, the first
 *          are logged. -ENOMEM.
 */
int spm_itable_attach(struct spm_itable *t, int fd) SPM_MUST_CHECK;
int spm_itable_settle(struct spm_itable *t, struct spm_ledger *l);
int spm_itable_scan(struct spm_itable *t) SPM_MUST_CHECK;
void spm_itable_destroy(struct spm_itable *t);

/* Finds or makes the record of an inode and counts one lookup, in @b as well (NULL: nobody else's request). A record
 * that is made has @flags from the start, so that nobody finds it without. Waits for the end of one that is being let go of, so no
 * lock is held. Returns the record and its @nodeid; NULL: table or book full. */
struct spm_inode *spm_itable_intern(struct spm_itable *t, uint16_t slice, uint64_t ino, const struct spm_handle *h,
				    unsigned int flags, const struct spm_book *b, uint64_t *nodeid) SPM_MUST_CHECK;
/* Sets up the root's record (node id 1), which is never forgotten. */
void spm_itable_set_root(struct spm_itable *t, uint16_t slice, uint64_t ino, const struct spm_handle *h);
/* The record of a node id, or NULL if it is stale. Stable while the caller knows that nlookup > 0. */
struct spm_inode *spm_itable_get(struct spm_itable *t, uint64_t nodeid);
/* The record of an inode if the kernel knows it, else NULL; counts nothing. */
struct spm_inode *spm_itable_find(struct spm_itable *t, uint16_t slice, uint64_t ino, uint64_t *nodeid);
/* What spm_itable_forget() came to. */
enum spm_forgot {
	SPM_FORGOT_SOME, /* the record lives on, or there was none */
	SPM_FORGOT_LAST, /* it would be gone: no count was changed yet. Let go of what hangs on it, then call again with the same @d */
	SPM_FORGOT_ALL,  /* the record is free */
};
/* Takes back @n lookups, and sets @entry of the ledger to @mark in the same step. */
enum spm_forgot spm_itable_forget(struct spm_itable *t, uint64_t nodeid, uint64_t n, struct spm_dying *d,
				  const struct spm_book *b, enum spm_entry entry, uint32_t mark);
/* Changes a count of opens by @by (never below 0), and @entry of the ledger to @mark in the same step. With the
 * inode's lock. */
void spm_itable_count(struct spm_itable *t, struct spm_inode *rec, enum spm_count which, int by, const struct spm_book *b,
		      enum spm_entry entry, uint32_t mark);
/* How many live records are of a slice. */
uint32_t spm_itable_count_slice(struct spm_itable *t, uint16_t slice);
/* Calls @fn for each live record under the table's lock. */
void spm_itable_each(struct spm_itable *t, void (*fn)(struct spm_inode *rec, void *arg), void *arg);
/* The node ids of the live records that @want says yes to, under the table's lock, for whoever takes locks himself. *@ids is the
 * caller's to free, whatever is returned. -ENOMEM: not all of them. */
int spm_itable_collect(struct spm_itable *t, bool (*want)(const struct spm_inode *rec, const void *arg), const void *arg,
		       uint64_t **ids, size_t *count) SPM_MUST_CHECK;

#endif
