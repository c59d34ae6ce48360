/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/caller.h"
#include "core/caps.h"

#include <signal.h>
#include <string.h>

static FILE *open_proc(uint32_t pid, const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, file);
	return fopen(path, "re");
}

/* The line of /proc/PID/status that starts with @key, behind the key; false: none. */
static bool status_line(uint32_t pid, const char *key, char *line, size_t len)
{
	spm_auto_fclose FILE *f = open_proc(pid, "status");
	size_t n = strlen(key);

	while (f && fgets(line, (int)len, f)) {
		if (!strncmp(line, key, n)) {
			memmove(line, line + n, strlen(line + n) + 1);
			return true;
		}
	}
	return false;
}

bool spm_caller_has_cap(uint32_t pid, int cap)
{
	spm_auto_fclose FILE *map = open_proc(pid, "uid_map");
	unsigned long long caps = 0, first = 1, count = 0;
	char line[256];

	if (!map || fscanf(map, "%llu %*u %llu", &first, &count) != 2 || first || count != UINT32_MAX)
		return false;
	return status_line(pid, "CapEff:", line, sizeof(line)) && sscanf(line, "%llx", &caps) == 1 &&
	       caps & SPM_CAP(cap);
}

bool spm_caller_in_group(uint32_t pid, uint32_t gid)
{
	char line[4096], *p = line, *end;
	unsigned int fsgid;

	if (status_line(pid, "Gid:", line, sizeof(line)) && sscanf(line, "%*u %*u %*u %u", &fsgid) == 1 && fsgid == gid)
		return true;
	if (!status_line(pid, "Groups:", line, sizeof(line)))
		return false;
	for (;; p = end) {
		unsigned long g = strtoul(p, &end, 10);

		if (end == p)
			return false;
		if (g == gid)
			return true;
	}
}

bool spm_caller_is_killed(uint32_t pid)
{
	unsigned long long pending = 0;
	char line[256];

	return status_line(pid, "SigPnd:", line, sizeof(line)) && sscanf(line, "%llx", &pending) == 1 &&
	       pending >> (SIGKILL - 1) & 1;
}
