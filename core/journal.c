/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/journal.h"

#include <sys/stat.h>

bool spm_journal_reads(int fd)
{
	/* DEVICE:INODE; set by systemd, and inherited by processes that write somewhere else */
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	char *end;

	if (!stream || fstat(fd, &st))
		return false;
	dev = strtoull(stream, &end, 10);
	if (*end != ':')
		return false;
	ino = strtoull(end + 1, &end, 10);
	return !*end && dev == st.st_dev && ino == st.st_ino;
}
