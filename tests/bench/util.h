/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clock, files and mappings: what every probe needs. Functions return 0 (or a value) or a negative errno. */
#ifndef SPM_BENCH_UTIL_H
#define SPM_BENCH_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Monotonic, in nanoseconds. */
int64_t now_ns(void);
void pause_ms(int ms);

static inline uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* "DIR/NAME" in buf of PATH_MAX bytes. */
const char *path_in(char *buf, const char *dir, const char *name);

/* Makes PATH without opening it, so that no open decides its mode. An old file there is removed. */
int make_file(const char *path);

/* Allocates len bytes; -EIO if st_blocks does not show them. */
int commit_file(int fd, size_t len);

/* Writes len bytes that are not zeros from the start. */
int fill_file(int fd, size_t len);

/* A shared mapping aligned to 2 MiB, so that huge pages can be mapped on either side. NULL: see errno. */
void *map_aligned(int fd, size_t len, bool writable);

/* Bytes of the mapping at addr that huge pages map, -errno if smaps does not know it. */
int64_t huge_mapped(const void *addr);

/*
 * Uses len bytes of ordinary memory and frees them at once. A hypervisor that takes back free pages makes the
 * next use of a page cost some microseconds: what is allocated right after this call does not pay that.
 */
void heat_memory(size_t len);

/* Free bytes of the filesystem of dir. */
int64_t free_bytes(const char *dir);

/* Waits, at most 10 s, until dir has want free bytes: the space of a removed file may come back late. */
int wait_free(const char *dir, int64_t want);

/* Drops what the kernel caches of names and inodes. */
int drop_names(void);

#endif
