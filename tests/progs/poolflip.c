/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * poolflip STATE INO EXTENT BYTE
 *
 * Flips a bit of a byte (0 to 15) of the record that says where a file's extent is; INO as stat(2) shows it.
 */
#include "core/pool-local.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int complain(const char *what)
{
	fprintf(stderr, "poolflip: %s\n", what);
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t whose = argc > 2 ? strtoull(argv[2], NULL, 0) : 0, extent = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	unsigned long byte = argc > 4 ? strtoul(argv[4], NULL, 0) : 16;
	spm_auto_close int fd = argc == 5 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	const struct spm_pool_header *h;
	struct spm_pool_record *r;
	struct stat st;
	uint8_t *at;

	if (fd < 0 || fstat(fd, &st) || byte > 15)
		return complain("usage: poolflip STATE INO EXTENT BYTE");
	at = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return complain("the state cannot be mapped");
	h = (const void *)at;
	r = (void *)(at + POOL_RECORDS_AT);
	for (uint64_t d = 0; d < h->extents; d++, r++) {
		if (r->whose != whose || r->what != spm_pool_what(whose, extent, POOL_OWNED))
			continue;
		((uint8_t *)r)[byte] ^= (uint8_t)(1 << byte % 8);
		return 0;
	}
	return complain("the file does not have that extent");
}
