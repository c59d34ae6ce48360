/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of a NUMA node's memory is anonymous, page tables, or cache of files on a disk: page by page, as the kernel shows them. */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/progs/spmt.h"

#ifndef KPF_PGTABLE
#define KPF_PGTABLE 26
#endif

#define FLAG(name) (UINT64_C(1) << KPF_##name)

static bool is_others(uint64_t flags)
{
	if (flags & (FLAG(ANON) | FLAG(PGTABLE)))
		return true;
	return flags & FLAG(LRU) && !(flags & FLAG(SWAPBACKED));
}

static int count(int fd, uint64_t from, uint64_t pages, uint64_t *found)
{
	uint64_t flags[4096];

	while (pages) {
		size_t want = pages < 4096 ? pages : 4096;
		ssize_t n = pread(fd, flags, want * sizeof(*flags), (off_t)(from * sizeof(*flags)));

		if (n <= 0)
			return -1;
		n /= (ssize_t)sizeof(*flags);
		for (ssize_t i = 0; i < n; i++)
			*found += is_others(flags[i]);
		from += (uint64_t)n;
		pages -= (uint64_t)n;
	}
	return 0;
}

int spmt_nodepages(int argc, char **argv)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC), node = -1, want = argc == 2 ? atoi(argv[1]) : -1;
	FILE *f = fopen("/proc/zoneinfo", "re");
	uint64_t spanned = 0, start, found = 0;
	char line[512];
	int rc = 0;

	while (f && fd >= 0 && !rc && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Node %d, zone", &node) == 1)
			spanned = 0;
		else if (sscanf(line, " spanned %" SCNu64, &spanned) != 1 && node == want &&
			 sscanf(line, " start_pfn: %" SCNu64, &start) == 1)
			rc = count(fd, start, spanned, &found);
	}
	if (!f || fd < 0 || rc || want < 0) {
		fprintf(stderr, "spmt: cannot look at the pages of node %d\n", want);
		rc = 1;
	} else {
		printf("%" PRIu64 "\n", found * (uint64_t)sysconf(_SC_PAGESIZE));
	}
	if (f)
		fclose(f);
	if (fd >= 0)
		close(fd);
	return rc;
}
