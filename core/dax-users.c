/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands in the way of a dax device: other memory on its node, and processes, from /sys and /proc. */
#include "core/dax.h"
#include "core/size.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define MEMORY "/sys/devices/system/memory"
#define NODES  "/sys/devices/system/node"
#define SHOWN  3u

/* The first line of a file, "" when it cannot be read. */
static void first_line(const char *path, char *buf, size_t len)
{
	spm_auto_fclose FILE *f = fopen(path, "re");

	if (!f || !fgets(buf, (int)len, f))
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

void spm_dax_auto_online(char *buf, size_t len)
{
	first_line(MEMORY "/auto_online_blocks", buf, len);
}

static bool is_the_devices(const struct spm_dax *d, uint64_t start, uint64_t end)
{
	for (unsigned int i = 0; i < d->ranges; i++)
		if (start >= d->range[i].start && end <= d->range[i].end)
			return true;
	return false;
}

static bool is_online(const char *dir, const char *block)
{
	char path[PATH_MAX], state[32];

	snprintf(path, sizeof(path), "%s/%s/state", dir, block);
	first_line(path, state, sizeof(state));
	return strcmp(state, "offline") != 0;
}

int spm_dax_foreign_blocks(const struct spm_dax *d, unsigned int *count, char *one, size_t len)
{
	char dir[64], line[32];
	const struct dirent *e;
	uint64_t bytes;
	DIR *blocks;

	*count = 0;
	first_line(MEMORY "/block_size_bytes", line, sizeof(line));
	bytes = strtoull(line, NULL, 16);
	if (!bytes)
		return -ENOTSUP;
	snprintf(dir, sizeof(dir), NODES "/node%d", d->node);
	blocks = opendir(dir);
	/* the node is there once it has memory */
	if (!blocks)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(blocks))) {
		unsigned long long nr;
		int end = 0;

		if (sscanf(e->d_name, "memory%llu%n", &nr, &end) != 1 || e->d_name[end])
			continue;
		if (is_the_devices(d, nr * bytes, (nr + 1) * bytes) || !is_online(dir, e->d_name))
			continue;
		if (!(*count)++)
			snprintf(one, len, "%s", e->d_name);
	}
	closedir(blocks);
	return 0;
}

/* -- processes -- */

struct user {
	char pid[16];
	uint64_t bytes; /* 0: not told */
};

/* The @SHOWN largest, the largest first. */
static void add_user(struct user top[static SHOWN], const char *pid, uint64_t bytes)
{
	unsigned int at = SHOWN;

	while (at && (!top[at - 1].pid[0] || top[at - 1].bytes < bytes))
		at--;
	if (at == SHOWN)
		return;
	memmove(&top[at + 1], &top[at], (SHOWN - 1 - at) * sizeof(top[0]));
	snprintf(top[at].pid, sizeof(top[at].pid), "%.15s", pid);
	top[at].bytes = bytes;
}

static bool tell_users(const struct user top[static SHOWN], char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned int i = 0; i < SHOWN && top[i].pid[0] && at < len; i++) {
		char path[80], name[32], size[16];

		snprintf(path, sizeof(path), "/proc/%.15s/comm", top[i].pid);
		first_line(path, name, sizeof(name));
		/* a process names itself as it likes */
		for (char *c = name; *c; c++)
			if (!isprint((unsigned char)*c))
				*c = '?';
		at += (size_t)snprintf(buf + at, len - at, "%s%s (pid %s%s%s)", at ? ", " : "", name[0] ? name : "?",
				       top[i].pid, top[i].bytes ? ", " : "",
				       top[i].bytes ? spm_size_human(top[i].bytes, size, sizeof(size)) : "");
	}
	return at;
}

/* "ADDRESS POLICY ... N1=12 kernelpagesize_kB=4", a line for each mapping */
static uint64_t pages_on(const char *pid, int node)
{
	spm_auto_fclose FILE *f = NULL;
	spm_auto_free char *line = NULL;
	char path[64], key[16];
	uint64_t bytes = 0;
	size_t room = 0;

	snprintf(path, sizeof(path), "/proc/%.15s/numa_maps", pid);
	snprintf(key, sizeof(key), " N%d=", node);
	f = fopen(path, "re");
	while (f && getline(&line, &room, f) > 0) {
		const char *n = strstr(line, key), *kb = strstr(line, " kernelpagesize_kB=");

		if (n)
			bytes += strtoull(n + strlen(key), NULL, 10) * 1024 * (kb ? strtoull(kb + 19, NULL, 10) : 4);
	}
	return bytes;
}

static bool each_process(uint64_t (*fn)(const char *pid, const void *arg), const void *arg, char *buf, size_t len)
{
	struct user top[SHOWN] = { { "", 0 } };
	const struct dirent *e;
	DIR *proc = opendir("/proc");

	while (proc && (e = readdir(proc))) {
		uint64_t n = isdigit((unsigned char)e->d_name[0]) ? fn(e->d_name, arg) : 0;

		if (n)
			add_user(top, e->d_name, n == 1 ? 0 : n);
	}
	if (proc)
		closedir(proc);
	return tell_users(top, buf, len);
}

static uint64_t count_pages(const char *pid, const void *arg)
{
	return pages_on(pid, *(const int *)arg);
}

bool spm_node_users(int node, char *buf, size_t len)
{
	return each_process(count_pages, &node, buf, len);
}

int spm_dax_stays(const char *dax, int node, struct spm_error *e)
{
	char users[200];

	if (!spm_node_users(node, users, sizeof(users)))
		snprintf(users, sizeof(users), "the kernel itself, or memory that was pinned");
	return spm_fail(e, -EBUSY, "%s: its memory cannot be taken offline, since pages of node %d are in use by %s",
			dax, node, users);
}

/* 1 if it has it open, or mapped. */
static uint64_t has_device(const char *pid, const void *arg)
{
	const struct spm_dax *d = arg;
	spm_auto_fclose FILE *f = NULL;
	spm_auto_free char *line = NULL;
	char path[64], node[SPM_DAX_NAME + 8];
	const struct dirent *e;
	bool found = false;
	size_t room = 0;
	struct stat st;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%.15s/fd", pid);
	fds = opendir(path);
	while (!found && fds && (e = readdir(fds))) {
		char to[64];
		ssize_t n = readlinkat(dirfd(fds), e->d_name, to, sizeof(to));

		/* only what may be it is looked at: to stat(2) all that others have open may hang */
		found = n > 4 && n < (ssize_t)sizeof(to) && memmem(to, (size_t)n, "dax", 3) &&
			!fstatat(dirfd(fds), e->d_name, &st, 0) && S_ISCHR(st.st_mode) &&
			st.st_rdev == makedev((unsigned int)d->major_nr, (unsigned int)d->minor_nr);
	}
	if (fds)
		closedir(fds);
	snprintf(path, sizeof(path), "/proc/%.15s/maps", pid);
	snprintf(node, sizeof(node), "/%s\n", d->name);
	f = found ? NULL : fopen(path, "re");
	while (!found && f && getline(&line, &room, f) > 0) {
		size_t n = strlen(line);

		found = n > strlen(node) && !strcmp(line + n - strlen(node), node);
	}
	return found;
}

bool spm_dax_holders(const struct spm_dax *d, char *buf, size_t len)
{
	return each_process(has_device, d, buf, len);
}

/* "START-END PERMS OFFSET MAJ:MIN INO PATH", the device in hex; direct mappings show the mount's file, too. */
static uint64_t maps_dev(const char *pid, const void *arg)
{
	spm_auto_fclose FILE *f = NULL;
	spm_auto_free char *line = NULL;
	unsigned int major_nr, minor_nr;
	char path[64];
	bool found = false;
	size_t room = 0;

	snprintf(path, sizeof(path), "/proc/%.15s/maps", pid);
	f = fopen(path, "re");
	while (!found && f && getline(&line, &room, f) > 0)
		found = sscanf(line, "%*s %*s %*s %x:%x", &major_nr, &minor_nr) == 2 &&
			makedev(major_nr, minor_nr) == *(const dev_t *)arg;
	return found;
}

bool spm_mount_mappers(dev_t dev, char *buf, size_t len)
{
	return each_process(maps_dev, &dev, buf, len);
}

/* "ID PARENT DEV ROOT POINT OPTIONS [TAGS] - TYPE SOURCE SUPER-OPTIONS" */
bool spm_node_mounts(int node, char *buf, size_t len)
{
	spm_auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	spm_auto_free char *line = NULL;
	size_t room = 0, at = 0;

	buf[0] = '\0';
	while (f && getline(&line, &room, f) > 0 && at < len) {
		const char *dash = strstr(line, " - fuse.spmfs ");
		char point[128], source[128];
		struct spm_error e = { "" };
		struct spm_source s;

		if (!dash || sscanf(dash, " - fuse.spmfs %127s", source) != 1 ||
		    sscanf(line, "%*d %*d %*s %*s %127s", point) != 1 || spm_source_parse(source, &s, &e) ||
		    s.kind != SPM_SOURCE_NODE || !spm_nodes_test(&s.nodes, node))
			continue;
		at += (size_t)snprintf(buf + at, len - at, "%s%s", at ? ", " : "", point);
	}
	return at;
}
