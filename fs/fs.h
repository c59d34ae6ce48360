/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_FS_H
#define SPM_FS_FS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include "core/itable.h"
#include "core/slices.h"
#include "core/swap.h"
#include "fs/budget.h"
#include "fs/desk.h"
#include "fs/fdcache.h"
#include "fs/fresh.h"
#include "fs/names.h"
#include "fs/nohalt.h"
#include "fs/options.h"
#include "fs/parked.h"
#include "fs/promise.h"
#include "fs/takeover.h"
#include "fs/texts.h"
#include "fs/wire.h"

#define SPM_INODE_LOCKS 256u
#define SPM_SIZE_LOCKS  64u
#define SPM_NAME_MAX    255

/* What the records add up to; counters that only grow are in the shared state. */
struct spm_counters {
	atomic_llong open_direct;
	atomic_llong open_mirror;
};

/* A thing that may be off, and why. */
struct spm_feature {
	bool on;
	char why[120];
};

struct spm_content;
struct spm_pool;

/*
 * The one context of a worker.
 *
 * Lock order: a pin of swap (core/swap.h), then an inode lock, then a pool's lock of a file (core/pool.h), then direct_lock,
 * size_locks, backing_lock, fds' locks, that of promises (which is held over a change of grants) or the itable's lock (all leaves).
 * Two inode locks are never held at once, nor two pins but those of spm_swap_pin_two(). Over a wait for room
 * (fs/swap.h) no lock is held, since it tests leases and so takes inode locks, and no pin but FILE. No lock over a reply.
 */
#define SPM_IDLE_BACKINGS 256u

struct spm_fs {
	const struct spm_options *opts;
	struct spm_slice root;
	struct spm_slice gone;            /* stands for slices that were removed: its descriptors lead nowhere */
	struct spm_slices slices;
	struct spm_desks desks;
	struct spm_takeover takeover;
	struct spm_itable itable;
	struct spm_fdcache fds;
	struct spm_fresh fresh;
	struct spm_texts texts;
	struct spm_names names;
	const struct spm_content *content; /* where content is: fs/content.h */
	struct spm_pool *pool;            /* NULL: content is in the region's files */
	int pool_fd, pool_state_fd;       /* the device; the pool's state file */
	pthread_mutex_t size_locks[SPM_SIZE_LOCKS]; /* with a pool: over looking at a file's size and setting it; leaves */
	struct spm_swap *swap;            /* NULL: off */
	int swap_fd[SPM_SWAP_FILES];      /* -1: unused */
	int map_fd;                       /* of the extent map */
	bool map_renewed;                 /* that is a copy, which is to take its place, see fs/swap-map.h */
	struct spm_swap_slice_counters *slice_counters; /* SPM_SWAP_SLICES, in a file of the region; NULL: they are the worker's own */
	/* guards the open state and flags of the inodes whose index hashes to it */
	pthread_mutex_t inode_locks[SPM_INODE_LOCKS];

	struct fuse_session *se;
	int dev_fd;
	int signal_fd; /* SIGTERM */
	struct spm_wire_init init;
	bool init_differs; /* replayed for the second worker, it came out unlike the first time */
	struct spm_feature passthrough;
	struct spm_feature leases;
	struct spm_nohalt nohalt; /* used by the thread with the lead, see session.c */
	/*
	 * Inodes whose last close left the backing id open for the next open, newest last. Whoever wants an
	 * inode to itself (lease test, mirror, forget) closes its id, so an entry only means "look whether
	 * there is something to close".
	 */
	/* over making a backing id and recording it, so that after a crash at most one is unknown */
	pthread_mutex_t backing_lock;
	struct {
		pthread_mutex_t lock; /* guards the ring; a leaf */
		uint64_t nodeid[SPM_IDLE_BACKINGS];
		unsigned int at;
	} idle_backings;
	/* over the lease test of an inode that the kernel does not know, and over the moment from which one may be mapped */
	pthread_mutex_t direct_lock;
	struct spm_budget budget;        /* what direct files take of the device */
	struct spm_parked parked;        /* requests that wait for memory, and have no thread */
	struct spm_promises promises;    /* what they may still take of it */
	struct spm_swap_walk *walk;      /* NULL: none is needed */
	atomic_bool served_writes;       /* opens for writing are served (design: limits below the device, node sources) */
	atomic_bool map_xattrs;   /* some file or directory may carry user.spm.map */
	atomic_uint foreign_pages;
	struct {
		pthread_mutex_t lock; /* guards stop; a leaf */
		pthread_cond_t wake;
		pthread_t thread;
		bool running, stop;
	} sampler;
	struct {
		struct spm_claim c;      /* slices.claim points here if the region has one */
		_Atomic uint64_t missing; /* bytes that are in nobody's hands here */
		pthread_mutex_t lock;    /* guards stop; a leaf */
		pthread_cond_t wake;
		pthread_t thread;
		bool running, stop;
	} claim;
	bool reopened;            /* the region is a kept one */
	int ready_fd;             /* told once INIT is done; -1 afterwards */
	/* see spm_orphans_wait() */
	_Atomic int64_t orphaned_ns;     /* when the last name of something was taken (CLOCK_MONOTONIC_COARSE) */
	atomic_int orphans_known;        /* less those that were there before this worker */
	atomic_uint orphans_going;       /* how many of these are being removed just now */
	struct spm_counters count;
};

static inline struct spm_fs *spm_fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* What a request is answered with when the node id is not one of ours any more. */
#define SPM_STALE (-ESTALE)

/* The sign of an error is turned here and nowhere else. */
static inline void spm_reply_rc(fuse_req_t req, int rc)
{
	fuse_reply_err(req, -rc);
}

static inline pthread_mutex_t *spm_inode_lock(struct spm_fs *fs, uint64_t nodeid)
{
	return &fs->inode_locks[(uint32_t)nodeid % SPM_INODE_LOCKS];
}

/* The slice that a record lives in. */
static inline struct spm_slice *spm_slice_of(struct spm_fs *fs, const struct spm_inode *rec)
{
	struct spm_slice *s = rec->slice ? spm_slices_get(&fs->slices, rec->slice) : &fs->root;

	return s ? s : &fs->gone;
}

#define spm_locked __attribute__((cleanup(spm_cleanup_unlock)))
static inline void spm_cleanup_unlock(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

void spm_session_blocking(void);

/* Whoever must wait for the lock lets another thread lead: the holder may be allocating gigabytes. */
static inline pthread_mutex_t *spm_lock_inode(struct spm_fs *fs, uint64_t nodeid)
{
	pthread_mutex_t *m = spm_inode_lock(fs, nodeid);

	if (pthread_mutex_trylock(m)) {
		spm_session_blocking();
		pthread_mutex_lock(m);
	}
	return m;
}

#endif
