/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test client: an actor that holds files and mappings and does one thing a line; a few single shots. */
#ifndef SPMT_H
#define SPMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SPMT_MAX_ARGS 16

/* What a command answers: 0 with an optional text in spmt_reply, or -errno. */
typedef int (*spmt_cmd_fn)(int argc, char **argv);

struct spmt_cmd {
	const char *name;
	int min_args; /* without the name */
	spmt_cmd_fn fn;
};

struct spmt_map {
	char name[16];
	char *p; /* NULL: the slot is free */
	size_t len;
};

extern char spmt_reply[4096];
extern const struct spmt_cmd spmt_file_cmds[];
extern const struct spmt_cmd spmt_map_cmds[];
extern const struct spmt_cmd spmt_page_cmds[];
extern const struct spmt_cmd spmt_proc_cmds[];

__attribute__((format(printf, 1, 2))) int spmt_say(const char *fmt, ...);
/* Decimal or 0x, with K M G; an unreadable number ends the program: it is a mistake in the test. */
uint64_t spmt_num(const char *s);
/* The descriptor of a handle, or -EBADF. */
int spmt_fd(const char *name);
int spmt_fd_add(const char *name, int fd);
/* The mapping of that name, or NULL. */
struct spmt_map *spmt_map_get(const char *name);
/* Every 8 bytes of a pattern tell the seed and their own place. */
void spmt_pattern(void *buf, uint64_t off, size_t len, uint64_t seed);
/* Index of the first byte that differs, or -1. */
ssize_t spmt_pattern_check(const void *buf, uint64_t off, size_t len, uint64_t seed);

int spmt_actor(int argc, char **argv);
int spmt_run(int argc, char **argv);
int spmt_handle(int argc, char **argv);
int spmt_idmap(int argc, char **argv);
int spmt_nodepages(int argc, char **argv);
int spmt_noring(int argc, char **argv);
int spmt_getxattr(int argc, char **argv);
int spmt_setproject(int argc, char **argv);
int spmt_setxattr(int argc, char **argv);
int spmt_setacl(int argc, char **argv);

#endif
