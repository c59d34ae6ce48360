/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An extent leaves: which pages it has, the write, the record, the punch. */
#include "core/extents.h"
#include "core/swap-local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static void set_bits(struct spm_job *j, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += 4096) {
		uint32_t p = (uint32_t)((at - j->off) / 4096);

		j->bits[p / 64] |= UINT64_C(1) << p % 64;
		j->pages++;
	}
}

/*
 * What lseek(2) calls a hole may be allocated, and never written to (fallocate, commit=eager). It leaves as zeros, so that
 * it comes back allocated. A kernel that cannot tell (before 6.5) lets such memory go: what is opened directly later is
 * committed anew.
 */
static void find_committed(struct spm_job *j, int fd, uint64_t from, uint64_t to)
{
	uint64_t middle = (from + (to - from) / 2) & ~UINT64_C(4095), pages = from < to ? spm_pages_in(fd, from, to) : 0;

	if (!pages || pages == UINT64_MAX)
		return;
	if (pages * 4096 >= to - from) {
		set_bits(j, from, to);
		return;
	}
	find_committed(j, fd, from, middle);
	find_committed(j, fd, middle, to);
}

static void find_pages(struct spm_swap *s, struct spm_job *j, int fd, uint64_t end)
{
	uint64_t at = j->off;

	if (s->ops.pool) { /* all or nothing */
		if (spm_memory_seek(s, j->file, fd, at, SEEK_DATA) == (off_t)at)
			set_bits(j, at, end);
		return;
	}
	while (at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;
		uint64_t from = data < 0 ? end : (uint64_t)data & ~UINT64_C(4095), to;

		find_committed(j, fd, at, from < end ? from : end);
		if (from >= end)
			break;
		hole = lseek(fd, (off_t)from, SEEK_HOLE);
		to = hole < 0 ? end : ((uint64_t)hole + 4095) & ~UINT64_C(4095);
		set_bits(j, from, to < end ? to : end);
		at = to;
	}
}

uint64_t spm_out_next(struct spm_swap *s, uint32_t file, int fd, uint64_t extent, uint64_t end)
{
	off_t from = (off_t)(extent << s->shift), data = spm_memory_seek(s, file, fd, (uint64_t)from, SEEK_DATA);
	uint64_t to = data < 0 ? end : (uint64_t)data >> s->shift, pages;

	if (to <= extent || s->ops.pool)
		return to;
	pages = spm_pages_in(fd, (uint64_t)from, (to < end ? to : end) << s->shift);
	/* allocated though nothing was written */
	if (pages && pages != UINT64_MAX)
		return extent;
	return to;
}

static bool is_contiguous(const struct spm_job *j)
{
	uint32_t whole = j->pages / 64, rest = j->pages % 64;

	for (uint32_t i = 0; i < whole; i++)
		if (j->bits[i] != UINT64_MAX)
			return false;
	return !rest || j->bits[whole] == (UINT64_C(1) << rest) - 1;
}

/* What the record will say of the slot. */
static uint32_t check_of(struct spm_swap *s, struct spm_job *j)
{
	const struct spm_extfile *f = spm_extmap_file(&s->map, j->file);
	struct spm_trailer *t = j->trailer;
	uint32_t n = 0;

	if (j->how & SPM_HOW_SMALL)
		return spm_crc(j->map, (size_t)j->pages * 4096);
	*t = (struct spm_trailer){ .pages = (uint16_t)j->pages, .slice = f->slice, .ino = f->ino,
				   .extent = j->extent };
	memcpy(t->map, j->bits, sizeof(t->map));
	for (uint32_t p = 0; p < SPM_EXTENT_PAGES; p++)
		if (j->bits[p / 64] >> p % 64 & 1)
			t->crc[n++] = spm_crc(j->map + (size_t)p * 4096, 4096);
	return spm_trailer_seal(t);
}

struct sealing {
	struct spm_swap *s;
	struct spm_job *j;
};

static void seal_it(void *arg)
{
	struct sealing *x = arg;

	x->j->check = check_of(x->s, x->j);
}

static int seal(struct spm_swap *s, struct spm_job *j)
{
	struct sealing x = { .s = s, .j = j };

	return spm_memory_look(s, j, seal_it, &x);
}

static uint32_t blocks_of(const struct spm_job *j)
{
	return j->pages + !(j->how & SPM_HOW_SMALL);
}

static int take_slot(struct spm_swap *s, struct spm_job *j, const struct spm_out_limits *l)
{
	uint16_t slice = spm_slice_of(s, j->file);
	int rc;

	if (j->pages > l->pages)
		return -E2BIG;
	if (!spm_quota_take(s, slice, j->pages, l->exchange))
		return -EDQUOT;
	rc = spm_slot_alloc(s, blocks_of(j), l->keep, &j->slot);
	if (rc)
		spm_quota_done(s, slice, j->pages);
	return rc;
}

static void give_slot_back(struct spm_swap *s, const struct spm_job *j)
{
	spm_slots_free(&s->slots, j->slot, blocks_of(j));
	spm_quota_done(s, spm_slice_of(s, j->file), j->pages);
}

int spm_out_prepare(struct spm_swap *s, struct spm_job *j, int fd, uint32_t file, uint64_t extent, const struct spm_out_limits *l)
{
	uint64_t off = extent << s->shift, end;
	struct stat st;
	int rc;

	/* not before: as long as it was not taken, a write could make the file longer */
	if (fstat(fd, &st))
		return -errno;
	end = ((uint64_t)st.st_size + 4095) & ~UINT64_C(4095);

	j->file = file;
	j->extent = extent;
	j->off = off;
	j->pages = 0;
	j->map = NULL;
	memset(j->bits, 0, sizeof(j->bits));
	if (end > off + s->extent_bytes)
		end = off + s->extent_bytes;
	if (end <= off)
		return -ENODATA;
	j->len = (size_t)(end - off);
	j->x = spm_extmap_get(&s->map, file, extent, false);
	if (j->x && spm_extent_how(j->x))
		return -ENODATA;
	find_pages(s, j, fd, end);
	if (!j->pages)
		return -ENODATA;
	if (!j->x)
		j->x = spm_extmap_get(&s->map, file, extent, true);
	if (!j->x)
		return -ENOMEM;
	j->how = (uint16_t)(j->pages | (is_contiguous(j) ? 0 : SPM_HOW_SPARSE));
	if (!(j->how & SPM_HOW_SPARSE) && j->pages <= SPM_SMALL_PAGES)
		j->how |= SPM_HOW_SMALL;
	rc = take_slot(s, j, l);
	if (rc)
		return rc;
	rc = spm_memory_map(s, j, fd);
	if (rc) {
		give_slot_back(s, j);
		return s->ops.pool ? -ENODATA : rc;
	}
	rc = seal(s, j);
	if (rc) { /* the device has lost it: it stays, and whoever reads it is told */
		(void)spm_memory_unmap(s, j);
		give_slot_back(s, j);
		return -ENODATA;
	}
	return 0;
}

/* Whether an error says something of the disk, and not of us: memory was short, or a page of the device is broken. */
static bool is_of_disk(int rc)
{
	return rc != -ENOMEM && rc != -EAGAIN && rc != -EINTR && rc != -EFAULT && rc != -EHWPOISON;
}

void spm_write_failed(struct spm_swap *s, uint32_t slot, int rc)
{
	unsigned int file = SPM_SLOT_FILE(slot);

	atomic_fetch_add(&s->count->write_errors, 1);
	if (!is_of_disk(rc) || !spm_slots_retire(&s->slots, file))
		return;
	__atomic_or_fetch(&s->map.setup->retired, UINT32_C(1) << file, __ATOMIC_RELAXED);
	s->ops.file_failed(s->ops.ctx, file, "a write failed", -rc, "nothing more is written there, what is there can be read");
}

int spm_out_finish(struct spm_swap *s, struct spm_job *j, int fd, const struct spm_whose *who, uint64_t *bytes)
{
	int rc = s->ops.io_fault ? s->ops.io_fault(s->ops.ctx, true) : 0;
	uint16_t now = spm_swap_clock(s);

	*bytes = 0;
	if (!rc)
		rc = j->io.result;
	if (rc && rc != -ECANCELED) {
		spm_write_failed(s, j->slot, rc);
		atomic_fetch_add(&s->slice_count[who->slice].write_errors, 1);
	}
	spm_swap_fault(s, "swapout:written");
	if (!rc && spm_move_unwanted(s, who->file, j->extent))
		rc = -ECANCELED;
	if (rc) {
		(void)spm_memory_unmap(s, j);
		give_slot_back(s, j);
		return rc;
	}
	spm_times_begin(s, who->file, fd);
	__atomic_store_n(&s->left_at, now, __ATOMIC_RELAXED);
	spm_left_now(s, j);
	spm_record_set(s, who->file, j->x, j->slot, j->check, SPM_HOW_MAKE(SPM_EXTENT_OUT, j->how, 0));
	spm_quota_done(s, who->slice, j->pages);
	spm_swap_fault(s, "swapout:recorded");
	if (spm_memory_drop(s, j, fd))
		spm_log(SPM_LOG_WARNING, "inode %llu: cannot punch", (unsigned long long)who->ino);
	spm_swap_fault(s, "swapout:punched");
	spm_record_set(s, who->file, j->x, j->slot, j->check, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, j->how, 0));
	spm_times_end(s, who->file, fd);
	spm_swap_fault(s, "swapout:done");
	*bytes = spm_memory_freed(s, j);
	spm_count(s, who->slice, swapout_bytes, (uint64_t)j->pages * 4096);
	return 0;
}
