/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define PAGE       4096u
#define LOOK_BYTES (UINT64_C(4) << 20)  /* of no node, so much or more is taken only after a look whether it is there */
#define STEP       (UINT64_C(64) << 20)
#define MARGIN     (UINT64_C(64) << 20) /* of free memory, which the machine needs to find more */

static uint64_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (uint64_t)st.st_size;
}

uint64_t spm_claim_held(const struct spm_claim *c)
{
	return size_of(c->huge_fd) + size_of(c->small_fd);
}

uint64_t spm_claim_max(const struct spm_claim *c)
{
	return size_of(c->max_fd);
}

int spm_claim_set_max(struct spm_claim *c, uint64_t bytes)
{
	return ftruncate(c->max_fd, (off_t)bytes) ? -errno : 0;
}

/* What others do not need, and would give: without that the kernel would look for whom to kill. */
static uint64_t available(const struct spm_claim *c, uint64_t bytes)
{
	struct spm_numa_mem m = { 0, 0 };
	uint64_t room = 0, last = 0;

	if (c->nodes && (spm_node_room(c->nodes, &room) || spm_node_room_last(c->nodes, &last)))
		return bytes;
	if (c->nodes)
		return room > last ? room : last;
	if (bytes < LOOK_BYTES)
		return bytes;
	(void)!spm_mem_available(&m);
	return m.free_bytes > MARGIN ? m.free_bytes - MARGIN : 0;
}

bool spm_claim_is_short(const struct spm_claim *c, uint64_t bytes)
{
	return c->nodes && available(c, bytes) < bytes;
}

/* The file's size is set when all of it is there. */
static uint64_t grow(int fd, uint64_t bytes)
{
	return bytes && !fallocate(fd, 0, (off_t)size_of(fd), (off_t)bytes) ? bytes : 0;
}

static uint64_t shrink(int fd, uint64_t bytes)
{
	uint64_t size = size_of(fd);

	if (bytes > size)
		bytes = size;
	return bytes && !ftruncate(fd, (off_t)(size - bytes)) ? bytes : 0;
}

uint64_t spm_claim_give(struct spm_claim *c, uint64_t bytes)
{
	uint64_t huge = bytes & ~(SPM_CLAIM_HUGE - 1), rest = bytes - huge, got = shrink(c->huge_fd, huge);

	rest += huge - got;
	/* a huge page is broken up; where that fails, what is left of it is free for a moment */
	if (rest > size_of(c->small_fd) && shrink(c->huge_fd, SPM_CLAIM_HUGE))
		(void)grow(c->small_fd, SPM_CLAIM_HUGE);
	return got + shrink(c->small_fd, rest);
}

uint64_t spm_claim_take(struct spm_claim *c, uint64_t bytes)
{
	uint64_t done = 0, got;

	while (done < bytes) {
		uint64_t n = bytes - done < STEP ? bytes - done : STEP, room = available(c, n), huge;

		if (room < n)
			n = room & ~(uint64_t)(PAGE - 1);
		huge = n & ~(SPM_CLAIM_HUGE - 1);
		got = grow(c->huge_fd, huge);
		if (got == huge)
			got += grow(c->small_fd, n - huge);
		done += got;
		if (got < n || !got)
			break;
	}
	/* what has come together makes huge pages again, if the kernel has one */
	if (size_of(c->small_fd) >= 2 * SPM_CLAIM_HUGE && shrink(c->small_fd, SPM_CLAIM_HUGE))
		(void)grow(c->huge_fd, SPM_CLAIM_HUGE);
	return done;
}

static int open_file(int dir, const char *name, int flags)
{
	return openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
}

static int open_files(struct spm_claim *c, int dir, int flags)
{
	c->huge_fd = open_file(dir, "huge", flags);
	c->small_fd = open_file(dir, "small", flags);
	c->max_fd = open_file(dir, "max", flags);
	return c->huge_fd < 0 || c->small_fd < 0 || c->max_fd < 0 ? -errno : 0;
}

static void init(struct spm_claim *c)
{
	c->huge_fd = c->small_fd = c->max_fd = -1;
}

int spm_claim_create(struct spm_claim *c, const struct spm_slice_opts *o, uint64_t max, struct spm_error *e)
{
	/* no huge page is made of what was asked for within the size, since that comes last */
	const char *const huge[] = { o->huge && strcmp(o->huge, "within_size") ? o->huge : "always", NULL };
	struct spm_slice_opts so = *o;
	struct spm_slice s;
	int rc = -EINVAL;

	init(c);
	/* what is given and taken is for a moment in neither of the files, or in both */
	so.size_bytes = c->device_bytes + 2 * SPM_CLAIM_HUGE;
	so.nr_inodes_set = false;
	so.mode = 0700;
	so.uid = so.gid = 0;
	if (mkdir(SPM_REGION_RESERVE, 0700))
		return spm_fail(e, -errno, "cannot make %s: %s", SPM_REGION_RESERVE, strerror(errno));
	for (size_t i = 0; i < SPM_ARRAY_SIZE(huge) && rc == -EINVAL; i++) {
		so.huge = huge[i];
		e->text[0] = '\0';
		rc = spm_slice_create(SPM_REGION_RESERVE, &so, &s, e);
	}
	if (rc)
		return rc;
	rc = open_files(c, s.mount_fd, O_CREAT | O_EXCL);
	if (!rc)
		rc = spm_claim_set_max(c, max);
	if (rc)
		spm_claim_close(c);
	spm_slice_close(&s);
	return rc ? spm_fail(e, rc, "cannot make the reserve: %s", strerror(-rc)) : 0;
}

int spm_claim_open(struct spm_claim *c)
{
	spm_auto_close int dir = open(SPM_REGION_RESERVE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	init(c);
	if (dir < 0)
		return -errno;
	rc = open_files(c, dir, 0);
	if (rc)
		spm_claim_close(c);
	return rc;
}

void spm_claim_close(struct spm_claim *c)
{
	spm_cleanup_close(&c->huge_fd);
	spm_cleanup_close(&c->small_fd);
	spm_cleanup_close(&c->max_fd);
	init(c);
}

void spm_claim_drop(struct spm_claim *c)
{
	(void)spm_claim_give(c, spm_claim_held(c));
	spm_claim_close(c);
}
