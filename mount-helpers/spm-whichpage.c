/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shows what a mapping of a file really maps: the device's own pages or copies in the page cache of FUSE.
 * Used by quickstart.sh and the tests, not installed. Runs as root, since only root may see page frames.
 *
 *	spm-whichpage [-u UID] FILE [BACKING]
 *
 * A child drops to UID, opens FILE and maps all of it, so that what is shown is what an ordinary user gets.
 * Then root reads the child's page frames (/proc/PID/pagemap) and the kernel's word on each
 * (/proc/kpageflags): tmpfs pages, which the device consists of, are "swap backed" and not anonymous; pages
 * of the cache of a FUSE file are not swap backed. There are two more witnesses. BACKING, the same file as the
 * server sees it in the device's own filesystem (/proc/WORKER/root/region/data/...), must have the very same
 * page frames. And cachestat(2), where the kernel has it, counts the pages in the cache of the FUSE file.
 *
 * Exit status: 0 all pages are the device's, 3 some are copies, 1 the file could not be mapped.
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

#define ROUNDS_MAX 50

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

/* The page frames behind a process's mapping. */
struct frames {
	int pagemap;
	uint64_t first; /* number of the first page */
};

struct counts {
	uint64_t device, copies, absent;
	uint64_t same; /* as in BACKING */
	uint64_t first_frame, huge_kb;
};

static int64_t cached_pages(int fd)
{
	struct { uint64_t off, len; } range = { 0, 0 };
	struct { uint64_t cache, dirty, writeback, evicted, recently_evicted; } stat = { 0, 0, 0, 0, 0 };

	return syscall(SYS_cachestat, fd, &range, &stat, 0) ? -1 : (int64_t)stat.cache;
}

static void touch(const struct mapping *m)
{
	const volatile unsigned char *map = (const volatile unsigned char *)(uintptr_t)m->start;
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (uint64_t i = 0; i < m->pages; i++)
		(void)map[i * page];
}

static int map_and_touch(const char *path, struct mapping *m)
{
	spm_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
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
	touch(m);
	first = map;
	if (syscall(SYS_move_pages, 0, 1UL, &first, NULL, &m->node, 0))
		m->node = -1;
	m->cached = cached_pages(fd);
	return 0;
}

/*
 * Maps, tells, and stays until the parent has looked; for each byte from the parent it touches all pages once
 * more. Groups go first: without root they could not.
 */
static void child(uid_t uid, const char *path, int out, int in)
{
	struct mapping m = { .node = -1, .cached = -1 };
	char again;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
		m.error = errno;
	else
		m.error = -map_and_touch(path, &m);
	while (write(out, &m, sizeof(m)) == (ssize_t)sizeof(m) && read(in, &again, 1) == 1)
		touch(&m);
	_exit(0);
}

/* How much of the mapping is mapped by huge pages, from the entry of /proc/PID/smaps that begins at start. */
static uint64_t huge_kb(pid_t pid, uint64_t start)
{
	spm_auto_fclose FILE *f = NULL;
	char line[512], path[64];
	uint64_t from, kb = 0;
	bool ours = false;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-", &from) == 1 && strchr(line, '-'))
			ours = from == start;
		else if (ours && (sscanf(line, "ShmemPmdMapped: %" SCNu64, &kb) == 1) && kb)
			break;
	}
	return kb;
}

/* 0: the page is not there, or the caller is not root. */
static uint64_t frame_of(const struct frames *f, uint64_t page)
{
	uint64_t entry;

	if (pread(f->pagemap, &entry, 8, (off_t)((f->first + page) * 8)) != 8)
		return 0;
	return entry & PM_PRESENT ? entry & PM_FRAME : 0;
}

static int frames_open(const char *pid, uint64_t start, struct frames *f)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/pagemap", pid);
	f->first = start / (uint64_t)sysconf(_SC_PAGESIZE);
	f->pagemap = open(path, O_RDONLY | O_CLOEXEC);
	return f->pagemap < 0 ? -errno : 0;
}

static int count_pages(const struct frames *client, const struct frames *backing, uint64_t pages,
		       struct counts *c)
{
	spm_auto_close int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	if (flags < 0)
		return -errno;
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t bits, frame = frame_of(client, i);

		if (!frame) {
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
		c->same += backing && frame_of(backing, i) == frame;
	}
	return 0;
}

/* What is looked at: a child's mapping, and perhaps the same file's mapping of our own. */
struct view {
	pid_t pid;
	int tell, told; /* pipes to and from the child */
	struct mapping m, backing;
	const char *backing_path;
};

/*
 * The kernel may take page table entries away at any time, above all when it makes huge pages out of small
 * ones: pages that are not there are touched again.
 */
static int count_until_there(struct view *v, const struct frames *client, const struct frames *backing,
			     struct counts *c)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		int rc;

		memset(c, 0, sizeof(*c));
		rc = count_pages(client, backing, v->m.pages, c);
		if (rc || !(c->absent || (backing && c->same < c->device)))
			return rc;
		if (write(v->tell, "", 1) != 1 || read(v->told, &v->m, sizeof(v->m)) != (ssize_t)sizeof(v->m))
			return -EIO;
		if (backing)
			touch(&v->backing);
	}
	return 0;
}

static int look(struct view *v, struct counts *c)
{
	struct frames client = { .pagemap = -1 }, backing = { .pagemap = -1 };
	char text[16];
	int rc;

	memset(c, 0, sizeof(*c));
	snprintf(text, sizeof(text), "%d", (int)v->pid);
	rc = frames_open(text, v->m.start, &client);
	if (!rc && v->backing_path) {
		rc = map_and_touch(v->backing_path, &v->backing);
		if (!rc && v->backing.pages != v->m.pages)
			rc = -ESTALE;
		if (!rc)
			rc = frames_open("self", v->backing.start, &backing);
	}
	if (!rc)
		rc = count_until_there(v, &client, v->backing_path ? &backing : NULL, c);
	c->huge_kb = huge_kb(v->pid, v->m.start);
	spm_cleanup_close(&client.pagemap);
	spm_cleanup_close(&backing.pagemap);
	return rc;
}

static int show(const struct mapping *m, const struct counts *c, bool with_backing)
{
	const bool direct = c->device == m->pages && (!with_backing || c->same == m->pages);

	printf("%" PRIu64 " of %" PRIu64 " mapped pages are the device's own", c->device, m->pages);
	if (with_backing)
		printf(", %" PRIu64 " of them the page frames of its file there", c->same);
	if (c->copies)
		printf(", %" PRIu64 " are copies in the page cache", c->copies);
	if (c->absent)
		printf(", %" PRIu64 " are not there", c->absent);
	printf("; the first is frame 0x%" PRIx64, c->first_frame);
	if (m->node >= 0)
		printf(" on node %d", m->node);
	if (c->huge_kb)
		printf("; %" PRIu64 " KiB are mapped by huge pages", c->huge_kb);
	if (m->cached >= 0)
		printf("; page cache of the FUSE file: %" PRId64 " pages", m->cached);
	putchar('\n');
	return direct ? 0 : 3;
}

static int inspect(uid_t uid, const char *path, const char *backing)
{
	struct view v = { .m = { .error = EIO }, .backing_path = backing };
	int told[2], end[2], rc, status;
	struct counts c;

	if (pipe2(told, O_CLOEXEC) || pipe2(end, O_CLOEXEC) || (v.pid = fork()) < 0) {
		fprintf(stderr, "spm-whichpage: %s\n", strerror(errno));
		return 1;
	}
	if (!v.pid) {
		close(told[0]);
		close(end[1]);
		child(uid, path, told[1], end[0]);
	}
	close(told[1]);
	close(end[0]);
	v.told = told[0];
	v.tell = end[1];
	rc = read(v.told, &v.m, sizeof(v.m)) == (ssize_t)sizeof(v.m) ? -v.m.error : -EIO;
	if (rc) {
		fprintf(stderr, "spm-whichpage: user %d cannot map %s: %s\n", (int)uid, path, strerror(-rc));
	} else {
		rc = look(&v, &c);
		if (rc)
			fprintf(stderr, "spm-whichpage: cannot look at page frames: %s; run it as root\n",
				strerror(-rc));
	}
	close(v.tell);
	waitpid(v.pid, &status, 0);
	return rc ? 1 : show(&v.m, &c, backing != NULL);
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
	if (argc - optind < 1 || argc - optind > 2) {
		fprintf(stderr, "usage: spm-whichpage [-u UID] FILE [BACKING]\n");
		return 2;
	}
	return inspect(uid, argv[optind], argv[optind + 1]);
}
