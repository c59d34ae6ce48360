/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_SWAP_RIG_H
#define SPM_TESTS_SWAP_RIG_H

/*
 * What the tests of swap run on: a small tmpfs in a mount namespace of this process, swap files on the disk of the working
 * directory (without a name, O_DIRECT where it can be had), an extent map in memory. Needs root.
 */
#include <pthread.h>
#include <stdatomic.h>
#include "core/swap-local.h"

#define RIG_FILES 64u
#define RIG_PAGE  4096u

struct rig_opts {
	uint64_t memory;        /* of the tmpfs */
	uint64_t swap;          /* of each swap file */
	unsigned int swap_files;
	uint32_t extent;
	struct spm_swap_opts swap_opts;
	bool pooled;            /* content is in a pool of that memory, and the tmpfs has names and sizes */
};

struct rig {
	struct rig_opts o;
	char dir[64];
	int mount_fd;
	int map_fd;                  /* by which workers open the map anew */
	int swap_fd[SPM_SWAP_FILES];
	/* of one worker */
	struct spm_swap *s;
	int own_map_fd;
	struct spm_pool *pool;       /* NULL: the files' pages */
	struct spm_pool_device dev;
	int pool_state;
	struct spm_swap_counters *count; /* outlives it */
	pthread_mutex_t inode[RIG_FILES]; /* what fs/ calls the inode's lock, by inode number */
	const char *fault;           /* to be killed there */
	_Atomic int fault_after;     /* when it was passed so often */
	_Atomic int read_error, write_error; /* of I/O: errors to come, -errno each, @errors of them */
	_Atomic int errors;
	_Atomic int write_after; /* writes that go well before */
	_Atomic unsigned int damaged;
	_Atomic uint64_t damaged_at; /* offset of the last one */
	void (*more_ops)(struct spm_swap_ops *ops); /* or NULL: has its own */
};

/* Everything but the worker. The program ends with a message if something is not to be had. */
void rig_make(struct rig *r, const struct rig_opts *o);
void rig_destroy(struct rig *r);
/* The worker: takes over what the last one left. @threads: starts reclaimer, loader, compactor. */
void rig_open(struct rig *r, bool threads);
void rig_close(struct rig *r);

/* A new file; its head's number, and a descriptor in *@fd if that is not NULL. */
uint32_t rig_file(struct rig *r, const char *name, bool fresh, int *fd);
/* Opens it without making it. */
int rig_fd(struct rig *r, const char *name);
pthread_mutex_t *rig_inode(struct rig *r, uint64_t ino);

/* What fs/io.c does. Bytes, or -errno. */
ssize_t rig_write(struct rig *r, uint32_t file, int fd, const void *buf, size_t size, uint64_t off);
ssize_t rig_read(struct rig *r, uint32_t file, int fd, void *buf, size_t size, uint64_t off, bool *through);
int rig_truncate(struct rig *r, uint32_t file, int fd, uint64_t size);
int rig_punch(struct rig *r, uint32_t file, int fd, uint64_t from, uint64_t to);
int rig_allocate(struct rig *r, uint32_t file, int fd, uint64_t from, uint64_t to);
/* The last name goes. */
void rig_remove(struct rig *r, const char *name);
/* All of it comes back. */
int rig_load(struct rig *r, uint32_t file);
uint64_t rig_slots_used(struct rig *r);
void *rig_pages(size_t bytes);
/* Ends the program. */
void rig_fail(const char *fmt, ...) SPM_PRINTF(1, 2) __attribute__((noreturn));

#endif
