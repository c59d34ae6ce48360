/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading what stays in its slot, page by page and verified; and where data and holes are. */
#include "core/swap-local.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Waits for all: an error of any. */
static int read_by_ring(struct spm_swap *s, struct spm_io *const *ios, unsigned int n)
{
	struct spm_ioq q;
	int rc = 0;

	spm_ioq_init(&q);
	spm_ring_submit(s->ring, &q, ios, n);
	for (struct spm_io *io; (io = spm_ioq_next(&q, true));)
		if (io->result && !rc)
			rc = io->result;
	spm_ioq_destroy(&q);
	return rc;
}

/*
 * One read that is waited for at once needs no other thread: the ring's would have to wake this one. What does not come
 * at once as a whole is the ring's to deal with.
 */
static int read_one(struct spm_swap *s, struct spm_io *io)
{
	struct spm_io *const ios[1] = { io };
	ssize_t n = pread(s->files[io->file], io->iov->iov_base, io->iov->iov_len, (off_t)io->offset);

	return n == (ssize_t)io->iov->iov_len ? 0 : read_by_ring(s, ios, 1);
}

static uint32_t rank_of(const struct spm_job *j, uint32_t page)
{
	uint32_t n = 0;

	for (uint32_t w = 0; w < page / 64; w++)
		n += (uint32_t)__builtin_popcountll(j->bits[w]);
	return n + (uint32_t)__builtin_popcountll(j->bits[page / 64] & ((UINT64_C(1) << page % 64) - 1));
}

static bool has_page(const struct spm_job *j, uint32_t page)
{
	return j->bits[page / 64] >> page % 64 & 1;
}

/* Slot pages [first, first + n) into @buf, verified. */
static int read_pages(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, uint32_t first, uint32_t n, char *buf)
{
	bool whole = j->how & SPM_HOW_SMALL;
	/* that of a sparse one is here already, verified */
	bool trailer = !whole && !(j->how & SPM_HOW_SPARSE) && !spm_trailer_recall(s, j, who);
	uint64_t at = SPM_SLOT_AT(j->slot);
	struct iovec iov[2] = { { .iov_base = buf, .iov_len = (size_t)n * 4096 },
				{ .iov_base = j->trailer, .iov_len = sizeof(*j->trailer) } };
	struct spm_io io[2] = { { .op = SPM_IO_READ, .file = SPM_SLOT_FILE(j->slot), .iov = &iov[0], .iovs = 1,
				  .offset = (at + first) * SPM_SLOT_BLOCK },
				{ .op = SPM_IO_READ, .file = SPM_SLOT_FILE(j->slot), .iov = &iov[1], .iovs = 1,
				  .offset = (at + j->pages) * SPM_SLOT_BLOCK } };
	struct spm_io *const ios[2] = { &io[0], &io[1] };
	int rc = s->ops.io_fault ? s->ops.io_fault(s->ops.ctx, false) : 0;

	if (!rc)
		rc = trailer ? read_by_ring(s, ios, 2) : read_one(s, &io[0]);
	if (!rc && whole)
		return spm_crc(buf, (size_t)n * 4096) == j->x->check ? 0 : -EBADMSG;
	if (!rc && trailer && !spm_trailer_ok(j->trailer, j->x->check, who->slice, who->ino, j->extent, j->pages))
		rc = -EBADMSG;
	else if (!rc && trailer)
		spm_trailer_keep(s, j);
	for (uint32_t i = 0; i < n && !rc; i++)
		if (spm_crc(buf + (size_t)i * 4096, 4096) != j->trailer->crc[first + i])
			rc = -EBADMSG;
	return rc;
}

/* Pages [from, to) of the extent into @buf, holes as zeros. */
static int read_span(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, uint32_t from, uint32_t to, char *buf)
{
	int rc = 0;

	for (uint32_t p = from, n; p < to && !rc; p += n) {
		for (n = 1; p + n < to && has_page(j, p + n) == has_page(j, p); n++)
			;
		if (has_page(j, p))
			rc = read_pages(s, j, who, rank_of(j, p), n, buf + (size_t)(p - from) * 4096);
		else
			memset(buf + (size_t)(p - from) * 4096, 0, (size_t)n * 4096);
	}
	return rc;
}

/* [from, to) of one extent, relative to it. The slot is read in pages, so through a buffer of its own unless it fits. */
static int read_part(struct spm_swap *s, struct spm_job *j, const struct spm_whose *who, uint32_t from, uint32_t to, char *out)
{
	uint32_t first = from / 4096, end = (to + 4095) / 4096;
	bool small = j->how & SPM_HOW_SMALL; /* one checksum over all of it */
	spm_auto_free char *own = NULL;
	int rc;

	if (!small && !(from % 4096) && !(to % 4096) && !((uintptr_t)out % 4096))
		return read_span(s, j, who, first, end, out);
	if (small) {
		first = 0;
		end = end > j->pages ? end : j->pages;
	}
	own = aligned_alloc(4096, (size_t)(end - first) * 4096);
	if (!own)
		return -ENOMEM;
	rc = small ? read_pages(s, j, who, 0, j->pages, own) : read_span(s, j, who, first, end, own);
	if (!rc && small && end > j->pages)
		memset(own + (size_t)j->pages * 4096, 0, (size_t)(end - j->pages) * 4096);
	if (!rc)
		memcpy(out, own + (from - first * 4096), to - from);
	return rc;
}

static int read_extent(struct spm_swap *s, const struct spm_whose *who, uint64_t extent, int fd, uint64_t from, uint64_t to,
		       char *out)
{
	struct spm_job *j = spm_job_get(s, who->slice, true);
	int rc = spm_job_describe(s, j, who, extent);

	if (!rc)
		rc = read_part(s, j, who, (uint32_t)(from - j->off), (uint32_t)(to - j->off), out);
	spm_job_put(s, j);
	if (rc == -EALREADY) { /* it is here */
		ssize_t n = spm_memory_read(s, who->file, fd, out, (size_t)(to - from), from);

		return n == (ssize_t)(to - from) ? 0 : n < 0 ? (int)n : -ENODATA;
	}
	if (!rc)
		atomic_fetch_add(&s->count->read_through_bytes, to - from);
	return !rc || rc == -ENOMEM ? rc : spm_in_damaged(s, who, extent, rc);
}

ssize_t spm_swap_read(struct spm_pin *pin, int fd, void *buf, size_t size, off_t off)
{
	struct spm_swap *s = pin->swap;
	uint64_t at = (uint64_t)off, end;
	struct spm_whose who;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (off >= st.st_size)
		return 0;
	end = at + size < (uint64_t)st.st_size ? at + size : (uint64_t)st.st_size;
	(void)spm_whose(s, pin->file, &who);
	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	while (at < end) {
		uint64_t extent = at >> s->shift, next = (extent + 1) << s->shift;
		int rc = read_extent(s, &who, extent, fd, at, next < end ? next : end, (char *)buf + (at - (uint64_t)off));

		/* what was read before the damaged extent is told first */
		if (rc)
			return at > (uint64_t)off ? (ssize_t)(at - (uint64_t)off) : rc == -ENODATA ? 0 : rc;
		at = next < end ? next : end;
	}
	return (ssize_t)(end - (uint64_t)off);
}

/* -- lseek -- */

/* From @at within a swapped extent: where data (or no data) begins; @end if nowhere before it. */
static int seek_slot(struct spm_swap *s, const struct spm_whose *who, uint64_t extent, uint64_t at, uint64_t end, bool data,
		     uint64_t *out)
{
	struct spm_job *j = spm_job_get(s, who->slice, true);
	int rc = spm_job_describe(s, j, who, extent);

	if (!rc) {
		while (at < end && has_page(j, (uint32_t)((at - j->off) / 4096)) != data)
			at = (at & ~UINT64_C(4095)) + 4096;
		*out = at < end ? at : end;
	}
	spm_job_put(s, j);
	return rc;
}

static off_t seek(struct spm_swap *s, uint32_t file, int fd, uint64_t at, uint64_t size, int whence)
{
	bool data = whence == SEEK_DATA;
	struct spm_whose who;

	(void)spm_whose(s, file, &who);
	while (at < size) {
		struct spm_extent *x;
		uint64_t extent = spm_extmap_next(&s->map, file, at >> s->shift, &x), from = extent << s->shift, end, found;
		off_t here;
		int rc;

		if (extent == UINT64_MAX || from > size)
			from = size;
		if (at < from) { /* up to the next swapped extent the region knows */
			here = spm_memory_seek(s, file, fd, at, whence);
			if (here >= 0 && (uint64_t)here < from)
				return here;
			at = from;
			continue;
		}
		end = from + s->extent_bytes < size ? from + s->extent_bytes : size;
		rc = seek_slot(s, &who, extent, at, end, data, &found);
		if (rc == -EALREADY) /* a load has brought it back */
			continue;
		if (rc)
			found = data ? at : end; /* unreadable: data, up to its end */
		if (found < end)
			return (off_t)found;
		at = end;
	}
	if (data) {
		errno = ENXIO;
		return -ENXIO;
	}
	return (off_t)size;
}

off_t spm_swap_seek(struct spm_swap *s, uint32_t file, int fd, off_t off, int whence)
{
	struct spm_pin pin;
	struct stat st;
	off_t at;
	int rc;

	if (!file || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		at = lseek(fd, off, whence);
		return at < 0 ? -errno : at;
	}
	if (spm_swap_bytes_of(s, file) && s->ops.slow)
		s->ops.slow(s->ops.ctx);
	/* also if nothing is swapped just now: all of it could leave between that look and the next */
	rc = spm_swap_pin(s, file, 0, 0, SPM_PIN_FILE, &pin);
	if (rc)
		return rc;
	if (s->ops.slow && spm_swap_bytes_of(s, file))
		s->ops.slow(s->ops.ctx); /* what is sparse is told by the disk */
	if (fstat(fd, &st))
		at = -errno;
	else if (off < 0 || off >= st.st_size)
		at = -ENXIO;
	else
		at = seek(s, file, fd, (uint64_t)off, (uint64_t)st.st_size, whence);
	spm_swap_unpin(&pin);
	return at;
}
