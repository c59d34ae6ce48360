/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmt: what the integration tests need and no common tool does. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/progs/spmt.h"

char spmt_reply[4096];

int spmt_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(spmt_reply, sizeof(spmt_reply), fmt, ap);
	va_end(ap);
	return 0;
}

uint64_t spmt_num(const char *s)
{
	char *end;
	uint64_t n = strtoull(s, &end, 0);

	switch (*end) {
	case 'G':
		n <<= 10;
		/* fallthrough */
	case 'M':
		n <<= 10;
		/* fallthrough */
	case 'K':
		n <<= 10;
		end++;
	}
	if (end == s || *end) {
		fprintf(stderr, "spmt: '%s' is not a number\n", s);
		exit(2);
	}
	return n;
}

static uint64_t pattern_word(uint64_t off, uint64_t seed)
{
	uint64_t x = (off / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed * UINT64_C(0xd6e8feb86659fd93);

	return (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

void spmt_pattern(void *buf, uint64_t off, size_t len, uint64_t seed)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i++) {
		uint64_t at = off + i;

		if (at % 8 == 0 && len - i >= 8) {
			uint64_t w = pattern_word(at, seed);

			memcpy(p + i, &w, 8);
			i += 7;
		} else {
			p[i] = (unsigned char)(pattern_word(at & ~UINT64_C(7), seed) >> 8 * (at % 8));
		}
	}
}

ssize_t spmt_pattern_check(const void *buf, uint64_t off, size_t len, uint64_t seed)
{
	const unsigned char *p = buf;

	for (size_t i = 0; i < len; i++) {
		uint64_t at = off + i;
		unsigned char want = (unsigned char)(pattern_word(at & ~UINT64_C(7), seed) >> 8 * (at % 8));

		if (p[i] != want)
			return (ssize_t)i;
	}
	return -1;
}

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *usage;
} tools[] = {
	{ "actor", spmt_actor,
	  "actor                        commands on stdin, one answer a line on stdout" },
	{ "run", spmt_run,
	  "run COMMAND...               the same commands as arguments, stops at the first error" },
	{ "handle", spmt_handle, "handle DIR NODEID            opens a FUSE node by its handle" },
	{ "idmap", spmt_idmap, "idmap SOURCE TARGET MAP       bind mount; MAP is 'INSIDE OUTSIDE COUNT' as in uid_map" },
	{ "nodepages", spmt_nodepages, "nodepages NODE               bytes of it that are anonymous, page tables, or cache of files" },
	{ "noring", spmt_noring, "noring EPERM|ENOSYS COMMAND... without io_uring" },
	{ "getxattr", spmt_getxattr, "getxattr PATH NAME           prints the value" },
	{ "setproject", spmt_setproject, "setproject PATH NUMBER        of the quota that it counts for" },
	{ "setxattr", spmt_setxattr, "setxattr PATH NAME VALUE     VALUE is text or 0x..." },
	{ "setacl", spmt_setacl,
	  "setacl PATH ENTRY...         ENTRY is u::rw u:UID:r g::r g:GID:r m::rw o::-" },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(tools) / sizeof(tools[0]); i++)
		if (!strcmp(argv[1], tools[i].name))
			return tools[i].fn(argc - 1, argv + 1);
	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		fprintf(stderr, "usage: spmt %s\n", tools[i].usage);
	return 2;
}
