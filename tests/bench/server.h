/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be learned from outside about the processes that serve a mount. */
#ifndef SPM_BENCH_SERVER_H
#define SPM_BENCH_SERVER_H

#include "tests/bench/bench.h"

/* Reads DIR/.spm/features. srv->n is 0 where dir is no spmfs mount; that is no error. */
void server_find(struct server *srv, const char *dir);

/* Processor time used since their start, in nanoseconds; threads that ended are counted. */
int64_t server_cpu_ns(const struct server *srv);

/* Waits, at most 20 s, until the server has stopped working off what was sent to it. -ETIMEDOUT otherwise. */
int server_settle(const struct server *srv);

/*
 * Memory that the server keeps, in bytes: resident memory of its processes, with memfds counted once and
 * whole (mapped or not, in whichever process).
 */
int64_t server_memory(const struct server *srv);

int server_descriptors(const struct server *srv);

/* The value of a key of .spm/stat; -ENOENT without such a key. */
int64_t server_stat(const struct server *srv, const char *key);

/* The rest of the line that begins with key in .spm/features, "" where there is none. */
const char *server_feature(const struct server *srv, const char *key, char *buf, size_t size);

/* The rest of the line that begins with key in what the server tells of path, "" on other filesystems. */
const char *file_told(const char *path, const char *key, char *buf, size_t size);

/* The mode (direct, mirror, idle) that the server gives for path, "" on other filesystems. */
const char *file_mode(const char *path, char *buf, size_t size);

#endif
