/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An extent comes back. From the mark IN on its pages are of no account until the record is cleared: whoever dies in between
 * leaves them to be punched, and the slot counts.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define RECENT 4u /* quarter minutes */

static uint16_t *left_of(struct spm_swap *s, const struct spm_job *j)
{
	return &s->left[(uint16_t)((j->file * 2654435761u >> 13) + j->extent * 40503u)];
}

static uint16_t quarter_minutes(struct spm_swap *s)
{
	return (uint16_t)(spm_swap_ticks(s) / 60 % UINT16_MAX + 1);
}

void spm_left_now(struct spm_swap *s, const struct spm_job *j)
{
	__atomic_store_n(left_of(s, j), quarter_minutes(s), __ATOMIC_RELAXED);
}

static bool left_lately(struct spm_swap *s, const struct spm_job *j)
{
	uint16_t at = __atomic_load_n(left_of(s, j), __ATOMIC_RELAXED);

	return at && (uint16_t)(quarter_minutes(s) - at) < RECENT;
}

static int damaged(struct spm_swap *s, const struct spm_whose *who, uint64_t extent, const char *why)
{
	spm_count(s, who->slice, swap_errors, 1);
	if (s->ops.damaged)
		s->ops.damaged(s->ops.ctx, who->slice, who->ino, &who->handle, extent << s->shift, why);
	return -EIO;
}

int spm_in_damaged(struct spm_swap *s, const struct spm_whose *who, uint64_t extent, int rc)
{
	return damaged(s, who, extent, rc == -EBADMSG ? "its checksum is wrong" :
		       rc == -EPROTO ? "its place in the swap file is not known any more" : strerror(-rc));
}

int spm_job_trailer(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who)
{
	struct iovec iov = { .iov_base = j->trailer, .iov_len = sizeof(*j->trailer) };
	struct spm_io io = { .op = SPM_IO_READ, .file = SPM_SLOT_FILE(j->slot), .iov = &iov, .iovs = 1,
			     .offset = (uint64_t)(SPM_SLOT_AT(j->slot) + j->pages) * SPM_SLOT_BLOCK }, *ios = &io;
	struct spm_ioq q;

	if (!spm_trailer_recall(s, j, who)) {
		spm_ioq_init(&q);
		spm_ring_submit(s->ring, &q, &ios, 1);
		(void)spm_ioq_next(&q, true);
		spm_ioq_destroy(&q);
		if (io.result)
			return io.result;
		if (!spm_trailer_ok(j->trailer, j->x->check, who->slice, who->ino, j->extent, j->pages))
			return -EBADMSG;
		spm_trailer_keep(s, j);
	}
	return 0;
}

int spm_job_describe(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, uint64_t extent)
{
	struct spm_extent *x = spm_extmap_get(&s->map, who->file, extent, false);
	/* once: lseek(2) looks at it while a load may clear it */
	uint16_t how = x ? spm_extent_how(x) : 0;
	int rc;

	if (!how)
		return -EALREADY;
	/* also if it was whole when this worker looked at it first */
	if (x->slot == SPM_SLOT_NONE || how & SPM_HOW_DAMAGED || !spm_extent_ok(x))
		return -EPROTO;
	j->x = x;
	j->file = who->file;
	j->extent = extent;
	j->off = extent << s->shift;
	j->len = s->extent_bytes;
	j->slot = x->slot;
	j->pages = how & SPM_HOW_PAGES;
	j->how = (uint16_t)(how & ~SPM_HOW_STATE);
	j->map = NULL;
	memset(j->bits, 0, sizeof(j->bits));
	for (uint32_t p = 0; p < j->pages; p++)
		j->bits[p / 64] |= UINT64_C(1) << p % 64;
	if (!(j->how & SPM_HOW_SPARSE))
		return 0;
	rc = spm_job_trailer(s, j, who);
	if (!rc)
		memcpy(j->bits, j->trailer->map, sizeof(j->bits));
	return rc;
}

/* Its pages do not count, and go; the slot counts as before. */
static void take_back(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, int fd)
{
	if (spm_memory_unmake(s, j, who, fd)) /* they stay allocated, and are overwritten by the next attempt */
		spm_log(SPM_LOG_WARNING, "inode %llu: cannot punch", (unsigned long long)spm_extmap_file(&s->map, j->file)->ino);
	spm_record_set(s, j->file, j->x, j->slot, j->x->check, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, j->how, 0));
	spm_times_end(s, j->file, fd);
}

int spm_in_prepare(struct spm_swap *s, struct spm_job *j, int fd, const struct spm_whose *who, uint64_t extent)
{
	int rc = spm_job_describe(s, j, who, extent);

	if (rc)
		return rc == -EALREADY ? rc : spm_in_damaged(s, who, extent, rc);
	spm_times_begin(s, who->file, fd);
	spm_record_set(s, who->file, j->x, j->slot, j->x->check, SPM_HOW_MAKE(SPM_EXTENT_IN, j->how, 0));
	spm_swap_fault(s, "swapin:marked");
	rc = spm_memory_make(s, j, who, fd);
	if (rc) {
		take_back(s, j, who, fd);
		return rc;
	}
	spm_swap_fault(s, "swapin:allocated");
	return 0;
}

/* 0, or -EBADMSG. */
static int verify(const struct spm_job *j, const struct spm_whose *who)
{
	uint32_t n = 0;

	if (j->how & SPM_HOW_SMALL)
		return spm_crc(j->map, (size_t)j->pages * 4096) == j->x->check ? 0 : -EBADMSG;
	if (!spm_trailer_ok(j->trailer, j->x->check, who->slice, who->ino, j->extent, j->pages) ||
	    memcmp(j->bits, j->trailer->map, sizeof(j->bits)))
		return -EBADMSG;
	for (uint32_t p = 0; p < SPM_EXTENT_PAGES; p++) {
		if (!(j->bits[p / 64] >> p % 64 & 1))
			continue;
		if (spm_crc(j->map + (size_t)p * 4096, 4096) != j->trailer->crc[n++])
			return -EBADMSG;
	}
	return 0;
}

struct verifying {
	const struct spm_job *j;
	const struct spm_whose *who;
	int rc;
};

static void verify_it(void *arg)
{
	struct verifying *v = arg;

	v->rc = verify(v->j, v->who);
}

/* What was read, or why not. */
static int look_at(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who)
{
	struct verifying v = { .j = j, .who = who };
	int rc = s->ops.io_fault ? s->ops.io_fault(s->ops.ctx, false) : 0;

	spm_swap_fault(s, "swapin:read");
	if (!rc)
		rc = j->io.result;
	if (!rc)
		rc = spm_memory_look(s, j, verify_it, &v);
	return rc ? rc : v.rc;
}

static void read_it(struct spm_swap *s, struct spm_job *j)
{
	struct spm_ioq q;

	spm_ioq_init(&q);
	spm_job_submit(s, &q, j, SPM_IO_READ);
	(void)spm_ioq_next(&q, true);
	spm_ioq_destroy(&q);
}

int spm_in_finish(struct spm_swap *s, struct spm_job *j, int fd, const struct spm_whose *who)
{
	int rc = look_at(s, j, who);
	uint16_t now = spm_swap_clock(s);

	/* of a pool: what is in the slot is whole, and goes to another extent */
	while (rc && rc != -EBADMSG && spm_memory_is_lost(s, j, who->slice)) {
		rc = spm_memory_make(s, j, who, fd);
		if (rc)
			break;
		read_it(s, j);
		rc = look_at(s, j, who);
	}
	if (!rc)
		rc = spm_memory_keep(s, j);
	if (rc) {
		bool none = rc == -ENOSPC && !j->map;

		take_back(s, j, who, fd);
		return none ? rc : spm_in_damaged(s, who, j->extent, rc);
	}
	if (left_lately(s, j))
		spm_count(s, who->slice, evicted_hot, 1);
	spm_count(s, who->slice, swapin_bytes, (uint64_t)j->pages * 4096);
	spm_record_clear(s, j->file, j->x);
	spm_extent_touch(j->x, now);
	spm_swap_fault(s, "swapin:cleared");
	spm_slots_free(&s->slots, j->slot, j->pages + !(j->how & SPM_HOW_SMALL));
	spm_times_end(s, j->file, fd);
	return 0;
}

int spm_in_one(struct spm_swap *s, const struct spm_whose *who, uint64_t extent)
{
	int rc, fd = spm_file_open(s, who->slice, &who->handle, true);
	struct spm_job *j;

	if (fd < 0)
		return fd;
	j = spm_job_get(s, who->slice, true);
	rc = spm_in_prepare(s, j, fd, who, extent);
	if (!rc) {
		read_it(s, j);
		rc = spm_in_finish(s, j, fd, who);
	}
	spm_job_put(s, j);
	spm_file_close(s, who->slice, &fd);
	return rc == -EALREADY ? 0 : rc;
}
