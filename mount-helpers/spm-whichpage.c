/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shows what a mapping of a file really maps: the device's own pages or copies in the page cache of FUSE.
 * Used by quickstart.sh and the tests, not installed. Runs as root, since only root may see page frames.
 *
 *	spm-whichpage [-u UID] FILE
 *
 * A child drops to UID, opens FILE and maps all of it, so that what is shown is what an ordinary user gets.
 * Then root reads the child's page frames (/proc/PID/pagemap) and the kernel's word on each (/proc/kpageflags):
 * tmpfs pages, which the device consists of, are "swap backed" and not anonymous; pages of the cache of a FUSE
 * file are not swap backed. cachestat(2), where the kernel has it, counts the FUSE file's cache as a second
 * witness. Exit status: 0 all pages are the device's, 3 some are copies, 1 the file could not be mapped.
 */
#include "config.h"

#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/kernel-page-flags.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define PM_PRESENT (1ULL << 63)
#define PM_FRAME   ((1ULL << 55) - 1)

/* What the child tells its parent. */
struct mapping {
	uint64_t start;
	uint64_t pages;
	int64_t cached; /* pages in the cache of the file as opened, -1: this kernel does not tell */
	int32_t node;   /* where the first page is */
	int32_t error;  /* errno of the step that failed, 0: mapped */
};

struct counts {
	uint64_t device, copies, huge, absent, first_frame;
};

static int64_t cached_pages(int fd)
{
	struct { uint64_t off, len; } range = { 0, 0 };
	struct { uint64_t cache, dirty, writeback, evicted, recently_evicted; } stat = { 0, 0, 0, 0, 0 };

	return syscall(SYS_cachestat, fd, &range, &stat, 0) ? -1 : (int64_t)stat.cache;
}

static int map_and_touch(const char *path, struct mapping *m)
{
	spm_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	volatile unsigned char sum = 0;
	struct stat st;
	void *first;
	char *map;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (!st.st_size)
		return -ENODATA;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	m->pages = ((uint64_t)st.st_size + page - 1) / page;
	m->start = (uint64_t)(uintptr_t)map;
	for (uint64_t i = 0; i < m->pages; i++)
		sum = (unsigned char)(sum + map[i * page]);
	first = map;
	if (syscall(SYS_move_pages, 0, 1UL, &first, NULL, &m->node, 0))
		m->node = -1;
	m->cached = cached_pages(fd);
	return 0;
}

/* Maps, tells, and stays until the parent has looked. Groups go first: without root they could not. */
static void child(uid_t uid, const char *path, int out, int in)
{
	struct mapping m = { .node = -1, .cached = -1 };
	char wait_for_end;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
		m.error = errno;
	else
		m.error = -map_and_touch(path, &m);
	if (write(out, &m, sizeof(m)) == (ssize_t)sizeof(m) && read(in, &wait_for_end, 1) != 0)
		_exit(1);
	_exit(0);
}

static int count_pages(pid_t pid, const struct mapping *m, struct counts *c)
{
	spm_auto_close int maps = -1, flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	char path[64];

	memset(c, 0, sizeof(*c));
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	maps = open(path, O_RDONLY | O_CLOEXEC);
	if (maps < 0 || flags < 0)
		return -errno;
	for (uint64_t i = 0; i < m->pages; i++) {
		uint64_t entry, bits, frame;

		if (pread(maps, &entry, 8, (off_t)((m->start / page + i) * 8)) != 8)
			return -EIO;
		frame = entry & PM_FRAME;
		if (!(entry & PM_PRESENT) || !frame) {
			c->absent++;
			continue;
		}
		if (pread(flags, &bits, 8, (off_t)(frame * 8)) != 8)
			return -EIO;
		if (!c->first_frame)
			c->first_frame = frame;
		if ((bits & 1ULL << KPF_SWAPBACKED) && !(bits & 1ULL << KPF_ANON))
			c->device++;
		else
			c->copies++;
		c->huge += !!(bits & 1ULL << KPF_THP);
	}
	return 0;
}

static int show(const char *path, const struct mapping *m, const struct counts *c)
{
	const bool direct = c->device == m->pages;

	printf("%s: %" PRIu64 " of %" PRIu64 " mapped pages are the device's own", path, c->device, m->pages);
	if (c->copies)
		printf(", %" PRIu64 " are copies in the page cache", c->copies);
	if (c->absent)
		printf(", %" PRIu64 " are not there", c->absent);
	if (c->huge)
		printf(", %" PRIu64 " of them in huge pages", c->huge);
	printf("; first page frame 0x%" PRIx64 ", node %d", c->first_frame, m->node);
	if (m->cached >= 0)
		printf("; cache of the FUSE file: %" PRId64 " pages", m->cached);
	putchar('\n');
	return direct ? 0 : 3;
}

static int inspect(uid_t uid, const char *path)
{
	int told[2], end[2], rc, status;
	struct mapping m = { .error = EIO };
	struct counts c;
	pid_t pid;

	if (pipe2(told, O_CLOEXEC) || pipe2(end, O_CLOEXEC) || (pid = fork()) < 0) {
		fprintf(stderr, "spm-whichpage: %s\n", strerror(errno));
		return 1;
	}
	if (!pid) {
		close(told[0]);
		close(end[1]);
		child(uid, path, told[1], end[0]);
	}
	close(told[1]);
	close(end[0]);
	rc = read(told[0], &m, sizeof(m)) == (ssize_t)sizeof(m) ? -m.error : -EIO;
	if (rc) {
		fprintf(stderr, "spm-whichpage: user %d cannot map %s: %s\n", (int)uid, path, strerror(-rc));
	} else {
		rc = count_pages(pid, &m, &c);
		if (rc)
			fprintf(stderr, "spm-whichpage: cannot look at page frames: %s; run it as root\n",
				strerror(-rc));
	}
	close(end[1]);
	waitpid(pid, &status, 0);
	return rc ? 1 : show(path, &m, &c);
}

int main(int argc, char **argv)
{
	uid_t uid = 0;
	int c;

	while ((c = getopt(argc, argv, "u:")) != -1) {
		if (c != 'u')
			return 2;
		uid = (uid_t)strtoul(optarg, NULL, 10);
	}
	if (argc - optind != 1) {
		fprintf(stderr, "usage: spm-whichpage [-u UID] FILE\n");
		return 2;
	}
	return inspect(uid, argv[optind]);
}
