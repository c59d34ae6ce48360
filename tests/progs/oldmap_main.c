/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/progs/oldmap.h"

#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0) {
		perror(argc == 2 ? argv[1] : "usage: oldmap FILE");
		return 1;
	}
	oldmap_make(fd);
	return 0;
}
