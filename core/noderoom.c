/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/noderoom.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define BUDGET_NS    INT64_C(20000000)
#define BUDGET_SHARE 8 /* of what is there: others have budgets, too */

struct zone {
	int node; /* -1: before the first one */
	unsigned long long free, min, high, protection;
	unsigned long long at_hand; /* of processors */
};

struct sum {
	uint64_t pages, file, watermarks;
	uint64_t busy; /* of @file: dirty, or being written */
	bool any, last;
};

static void add_zone(struct sum *s, const struct zone *z, const struct spm_nodes *nodes)
{
	unsigned long long mark = s->last ? z->min : z->high, kept = mark + z->protection;
	unsigned long long free = z->free + (s->last ? z->at_hand : 0);

	if (z->node < 0 || z->node >= SPM_NUMA_MAX || !spm_nodes_test(nodes, z->node))
		return;
	s->any = true;
	s->watermarks += mark;
	s->pages += free > kept ? free - kept : 0;
}

/* "(0, 1925, 3431)": what is kept from those that could be served by a higher zone; ours could be by the highest. */
static unsigned long long last_of(const char *list)
{
	unsigned long long last = 0;

	while (*list && *list != ')') {
		list += strcspn(list, "0123456789)");
		if (*list && *list != ')')
			last = strtoull(list, (char **)&list, 10);
	}
	return last;
}

static void read_cache(const char *line, struct sum *s)
{
	unsigned long long n;

	if (sscanf(line, " nr_inactive_file %llu", &n) == 1 || sscanf(line, " nr_active_file %llu", &n) == 1)
		s->file += n;
	else if (sscanf(line, " nr_dirty %llu", &n) == 1 || sscanf(line, " nr_writeback %llu", &n) == 1)
		s->busy += n;
}

static void read_line(const char *line, struct zone *z, struct sum *s, const struct spm_nodes *nodes)
{
	unsigned long long n;
	int node;

	if (sscanf(line, "Node %d, zone", &node) == 1) {
		add_zone(s, z, nodes);
		*z = (struct zone){ .node = node };
	} else if (sscanf(line, " pages free %llu", &n) == 1) {
		z->free = n;
	} else if (sscanf(line, " min %llu", &n) == 1) {
		z->min = n;
	} else if (sscanf(line, " high %llu", &n) == 1) {
		z->high = n;
	} else if (sscanf(line, " count: %llu", &n) == 1) {
		z->at_hand += n;
	} else if (strstr(line, " protection:")) {
		z->protection = last_of(strchr(line, ':'));
	} else if (z->node >= 0 && z->node < SPM_NUMA_MAX && spm_nodes_test(nodes, z->node)) {
		read_cache(line, s);
	}
}

static int parse(FILE *f, const struct spm_nodes *nodes, bool last, uint64_t *bytes)
{
	struct zone z = { .node = -1 };
	struct sum s = { .last = last };
	char line[512];

	while (fgets(line, sizeof(line), f))
		read_line(line, &z, &s, nodes);
	add_zone(&s, &z, nodes);
	if (!s.any)
		return -EIO;
	/* (dirty cache does not go in time, and then the OOM killer comes) */
	s.file = s.file > s.busy ? s.file - s.busy : 0;
	/* as MemAvailable has it: the kernel does not take the last of what files are cached in */
	if (!last)
		s.pages += s.file - (s.file / 2 < s.watermarks ? s.file / 2 : s.watermarks);
	*bytes = s.pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int spm_node_room_parse(FILE *f, const struct spm_nodes *nodes, uint64_t *bytes)
{
	return parse(f, nodes, false, bytes);
}

int spm_node_room_parse_last(FILE *f, const struct spm_nodes *nodes, uint64_t *bytes)
{
	return parse(f, nodes, true, bytes);
}

static int room(const struct spm_nodes *nodes, bool last, uint64_t *bytes)
{
	spm_auto_fclose FILE *f = fopen("/proc/zoneinfo", "re");

	return f ? parse(f, nodes, last, bytes) : -errno;
}

int spm_node_room(const struct spm_nodes *nodes, uint64_t *bytes)
{
	return room(nodes, false, bytes);
}

int spm_node_room_last(const struct spm_nodes *nodes, uint64_t *bytes)
{
	return room(nodes, true, bytes);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int spm_node_budget_take(struct spm_node_budget *b, const struct spm_nodes *nodes, uint64_t bytes)
{
	uint64_t have = 0;

	if (bytes > INT64_MAX)
		return -ENOSPC;
	if (now_ns() < atomic_load(&b->until_ns)) {
		if (atomic_fetch_sub(&b->bytes, (int64_t)bytes) >= (int64_t)bytes)
			return 0;
		atomic_fetch_add(&b->bytes, (int64_t)bytes);
	}
	if (room(nodes, b->last, &have))
		return 0;
	if (have < bytes)
		return -ENOSPC;
	if (b->last) /* others take what is there down to the same mark, at any time */
		return 0;
	atomic_store(&b->bytes, (int64_t)((have - bytes) / BUDGET_SHARE));
	atomic_store(&b->until_ns, now_ns() + BUDGET_NS);
	return 0;
}
