/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/extents.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SYS_cachestat /* Linux 6.5 */
#define SYS_cachestat 451
#endif

struct range_arg { /* struct cachestat_range */
	uint64_t off, len;
};

struct range_count { /* struct cachestat */
	uint64_t cache, dirty, writeback, evicted, recently_evicted;
};

/* PAGEMAP_SCAN as in the kernel's Documentation/admin-guide/mm/pagemap.rst (Debian 12's headers are older) */
struct scan_region {
	__u64 start, end, categories;
};
struct scan_arg {
	__u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	__u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_HUGE    (1u << 6)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define WINDOW (UINT64_C(1) << 30) /* mapped at a time, to bound address space and page tables */
#define HUGE   (UINT64_C(2) << 20)

static int scan(int pagemap, void *p, size_t len, uint64_t *huge)
{
	struct scan_region vec[64];
	struct scan_arg a = { .size = sizeof(a), .start = (uintptr_t)p, .end = (uintptr_t)p + len,
			      .vec = (uintptr_t)vec, .vec_len = SPM_ARRAY_SIZE(vec),
			      .category_mask = SCAN_HUGE, .return_mask = SCAN_HUGE };

	while (a.start < a.end) {
		int n = ioctl(pagemap, SCAN_IOCTL, &a);

		if (n < 0)
			return -errno;
		for (int i = 0; i < n; i++)
			*huge += vec[i].end - vec[i].start;
		if (a.walk_end <= a.start)
			break;
		a.start = a.walk_end;
	}
	return 0;
}

static int scan_data(int pagemap, int fd, uint64_t from, uint64_t to, uint64_t *huge)
{
	/* an aligned start, or the kernel cannot map huge pages as such */
	uint64_t lo = from & ~(HUGE - 1);
	size_t len = (size_t)(to - lo), room = len + HUGE;
	char *area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *p;
	int rc = 0;

	if (area == MAP_FAILED)
		return -errno;
	p = (char *)(((uintptr_t)area + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
	if (mmap(p, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)lo) == MAP_FAILED)
		rc = -errno;
	/* the data may be gone by now (a punch): what is not there is not counted */
	else if (!madvise(p + (from - lo), (size_t)(to - from), MADV_POPULATE_READ))
		rc = scan(pagemap, p, len, huge);
	munmap(area, room);
	return rc;
}

int spm_extents_huge(int fd, uint64_t size, uint64_t *huge_bytes)
{
	spm_auto_close int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	off_t at = 0, data, hole;

	*huge_bytes = 0;
	if (pagemap < 0)
		return -errno;
	while ((uint64_t)at < size) {
		int rc;

		data = lseek(fd, at, SEEK_DATA);
		if (data < 0)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			break;
		if ((uint64_t)(hole - data) > WINDOW)
			hole = (off_t)(((uint64_t)data + WINDOW) & ~(HUGE - 1));
		rc = scan_data(pagemap, fd, (uint64_t)data, (uint64_t)hole, huge_bytes);
		if (rc)
			return rc;
		at = hole;
	}
	return 0;
}

int spm_extents_huge_in(int fd, uint64_t from, uint64_t to, uint64_t *huge_bytes)
{
	spm_auto_close int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	*huge_bytes = 0;
	return pagemap < 0 ? -errno : scan_data(pagemap, fd, from, to, huge_bytes);
}

uint64_t spm_pages_in(int fd, uint64_t from, uint64_t to)
{
	struct range_arg r = { .off = from, .len = to - from };
	struct range_count c = { .cache = 0 };

	return syscall(SYS_cachestat, fd, &r, &c, 0) ? UINT64_MAX : c.cache;
}
