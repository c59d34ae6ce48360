/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_CONTENT_H
#define SPM_FS_CONTENT_H

#include "fs/fs.h"

/*
 * Where the content of files is. Names, sizes, times and rights are always those of the region's files; their content is
 *
 *	spm_content_in_files	in these files too, and what swap has taken of it (fs/content-file.c);
 *	spm_content_in_pool	in a pool of extents on a device (fs/content-pool.c): the region's files never have a page.
 *
 * Requests come here with a descriptor of the region's file (SPM_FD_IO), under whatever rights the client is to have: what
 * follows from a change of content (times, suid and file capabilities that go) is done by an operation on that descriptor.
 * A request may come again after a crash (fs/repeat.c): each of these can be done twice, unless it says otherwise.
 *
 * All return -errno. -EBADF, -EPERM: the file is immutable, or may only be appended to. -ENOSPC; -EIO: damaged content.
 */
struct spm_content {
	/* Reads and answers a READ; @mirror: for a page cache. 0: it is answered. */
	int (*reply)(fuse_req_t req, struct spm_inode *rec, int fd, size_t size, off_t off, bool mirror);
	/* pwrite(2): all of it, or what there was room for. */
	ssize_t (*write)(struct spm_fs *fs, const struct spm_inode *rec, int fd, const void *buf, size_t size, off_t off);
	/* Sets the size; *@was: what it was before this request, which may have come to it before. Allocates nothing. */
	int (*resize)(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t size, uint64_t *was);
	/* The same, back to what it was: the memory for the new size could not be had. */
	int (*shrink)(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t size);
	/* Allocates [from, to); the size stays. What it came to if it fails is left there: *@reached. */
	int (*fill)(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to, uint64_t *reached);
	/* fallocate(2) with a mode of 0 or FALLOC_FL_KEEP_SIZE. */
	int (*allocate)(struct spm_fs *fs, struct spm_inode *rec, int fd, int mode, off_t off, off_t len);
	/* [from, to) is a hole. */
	int (*punch)(struct spm_fs *fs, const struct spm_inode *rec, int fd, uint64_t from, uint64_t to);
	/* The other modes, which move or zero a range. */
	int (*other)(struct spm_fs *fs, const struct spm_inode *rec, int fd, int mode, off_t off, off_t len);
	/* lseek(2) with SEEK_DATA or SEEK_HOLE. */
	off_t (*seek)(struct spm_fs *fs, const struct spm_inode *rec, int fd, off_t off, int whence);
	/* copy_file_range(2), from the first to the second. */
	ssize_t (*copy)(struct spm_fs *fs, struct spm_inode *const rec[2], const int fd[2], const off_t off[2], size_t len);
	/*
	 * Makes of a file's attributes as the region has them those that users see. @fd: of it, or -1.
	 * 1: they may be a little wrong just now.
	 */
	int (*show)(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, struct stat *st);
	/* Whether a file has anything that does not go by itself with the region's file. */
	bool (*has)(struct spm_fs *fs, uint16_t slice, uint64_t ino);
	/* Of such a file, which nobody can refer to any more: lets that go. */
	void (*drop)(struct spm_fs *fs, uint16_t slice, uint64_t ino);
};

extern const struct spm_content spm_content_in_files, spm_content_in_pool;

/*
 * For who is out of room, or inodes: what is removed is free only when the client's kernel has told that nobody uses it, a moment
 * after rm(1) has ended, and to users of tmpfs it is free at once. False: nothing of that kind is to be expected. Else it has waited a
 * little: try again. *@turns counts, from 0. An inode lock may be held, the pool's not.
 */
bool spm_orphans_wait(struct spm_fs *fs, unsigned int *turns);
/* The same ahead of an open after which the kernel writes past us: where the device is short of memory, until nothing of that kind is to
 * be expected. Without locks. */
void spm_orphans_settle(struct spm_fs *fs);

#endif
