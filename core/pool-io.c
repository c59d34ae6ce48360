/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Content of files: ranges of bytes, extent by extent. */
#include "core/pool-local.h"

#include <errno.h>
#include <string.h>

#define COMMIT_SLOW (UINT64_C(64) << 20) /* zeroing so much takes a while */

/* What of [from, to) lies in the extent that @from is in. */
struct piece {
	uint64_t extent;
	uint32_t at;
	size_t n;
};

static struct piece piece_of(const struct spm_pool *p, uint64_t from, uint64_t to)
{
	struct piece x = { .extent = from / p->extent_bytes, .at = (uint32_t)(from % p->extent_bytes) };

	x.n = p->extent_bytes - x.at;
	if (to - from < x.n)
		x.n = to - from;
	return x;
}

static uint8_t *address_of(const struct spm_pool *p, uint32_t d, uint32_t at)
{
	return (uint8_t *)spm_pool_address(p, d) + at;
}

static int lost(struct spm_pool *p, uint32_t d, int rc)
{
	if (rc)
		spm_pool_lost(p, d);
	return rc;
}

/* What a call that moves bytes says: what was moved counts more than the error behind it. */
static ssize_t so_far(size_t done, int rc)
{
	return done || !rc ? (ssize_t)done : rc;
}

ssize_t spm_pool_read(struct spm_pool *p, const struct spm_pool_file *f, void *buf, size_t n, uint64_t off)
{
	uint64_t whose = spm_pool_whose(f);
	size_t done = 0;
	int rc = 0;
	uint32_t d;

	while (done < n && !rc) {
		struct piece x = piece_of(p, off + done, off + n);

		rc = spm_pool_find(p, whose, x.extent, &d);
		if (!rc)
			rc = lost(p, d, spm_pool_copy_from((uint8_t *)buf + done, address_of(p, d, x.at), x.n));
		if (rc == -ENOENT) {
			memset((uint8_t *)buf + done, 0, x.n);
			rc = 0;
		}
		if (!rc)
			done += x.n;
	}
	return so_far(done, rc);
}

ssize_t spm_pool_write(struct spm_pool *p, const struct spm_pool_file *f, const void *buf, size_t n,
		       uint64_t off)
{
	uint64_t whose = spm_pool_whose(f);
	size_t done = 0;
	bool made;
	int rc = 0;
	uint32_t d;

	while (done < n && !rc) {
		struct piece x = piece_of(p, off + done, off + n);

		rc = spm_pool_make(p, whose, x.extent, false, &d, &made);
		if (!rc)
			rc = lost(p, d, spm_pool_copy_to(address_of(p, d, x.at), (const uint8_t *)buf + done, x.n));
		if (!rc)
			done += x.n;
	}
	return so_far(done, rc);
}

/* -- allocating ahead -- */

/* How many extents of [first, end) the file has: looks at the range or at the file, whichever is less. */
static uint64_t count_in(struct spm_pool *p, uint64_t whose, uint64_t first, uint64_t end)
{
	const struct spm_pool_head *h = spm_pool_index_head(p, whose);
	uint64_t count = 0;

	if (!h)
		return 0;
	if (end - first < h->count) {
		for (uint64_t e = first; e < end; e++)
			count += spm_pool_index_find(p, whose, e) != SPM_POOL_NONE;
		return count;
	}
	for (uint32_t at = h->first; at; at = p->link[at - 1].next) {
		uint64_t e = spm_pool_extent_of(p, at - 1);

		count += e >= first && e < end;
	}
	return count;
}

/* One extent of those that were reserved; @left of them are, of which one goes. */
static int commit_one(struct spm_pool *p, const struct spm_pool_file *f, uint64_t extent, uint64_t *left)
{
	spm_auto_pool struct spm_pool_held held;
	uint64_t whose = spm_pool_whose(f);
	uint32_t d;
	bool made;
	int rc;

	spm_pool_lock(p, f, SPM_POOL_SHARED, &held);
	rc = spm_pool_find(p, whose, extent, &d);
	if (rc != -ENOENT)
		return rc;
	/* others may have punched meanwhile: then there is more to make than was reserved */
	rc = spm_pool_make(p, whose, extent, *left > 0, &d, &made);
	*left -= *left > 0;
	return rc;
}

int spm_pool_commit(struct spm_pool *p, const struct spm_pool_file *f, uint64_t from, uint64_t to,
		    bool (*cancel)(void *arg), void *arg)
{
	uint64_t first = from / p->extent_bytes, end = to / p->extent_bytes + !!(to % p->extent_bytes), left;
	int rc;

	if (from >= to)
		return 0;
	if (end > POOL_EXTENT_MAX)
		return -EFBIG;
	pthread_mutex_lock(&p->lock);
	left = end - first - count_in(p, spm_pool_whose(f), first, end);
	rc = spm_pool_charge(p, f->slice, left);
	pthread_mutex_unlock(&p->lock);
	if (rc)
		return rc;
	if (left * p->extent_bytes >= COMMIT_SLOW && p->o.slow)
		p->o.slow(p->o.ctx);
	for (uint64_t e = first; e < end && !rc; e++)
		rc = cancel && cancel(arg) ? -EINTR : commit_one(p, f, e, &left);
	pthread_mutex_lock(&p->lock);
	spm_pool_unreserve(p, f->slice, left);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* -- giving up -- */

int spm_pool_zero(struct spm_pool *p, const struct spm_pool_file *f, uint64_t from, uint64_t to)
{
	uint64_t whose = spm_pool_whose(f), next;
	int rc, worst = 0;
	uint32_t d;

	while (from < to) {
		struct piece x = piece_of(p, from, to);

		rc = spm_pool_find(p, whose, x.extent, &d);
		if (!rc)
			rc = lost(p, d, spm_pool_clear(address_of(p, d, x.at), x.n));
		if (rc && rc != -ENOENT)
			worst = rc;
		from += x.n;
		next = rc == -ENOENT ? spm_pool_next_extent(p, whose, x.extent) : 0;
		if (next == UINT64_MAX)
			break;
		if (next * p->extent_bytes > from)
			from = next * p->extent_bytes;
	}
	return worst;
}

/* Extents [first, end) of the file become free. Few extents of a large range are found by the list of the
 * file. */
static void drop(struct spm_pool *p, const struct spm_pool_file *f, uint64_t first, uint64_t end)
{
	uint64_t whose = spm_pool_whose(f), e = first, at_file;
	struct spm_pool_head *h;
	uint32_t at, d, n;
	bool by_list;

	pthread_mutex_lock(&p->lock);
	spm_pool_doubt_drop(p, whose, first, end);
	h = spm_pool_index_head(p, whose);
	by_list = h && h->count < end - first;
	at = h ? h->first : 0;
	/* nobody else is at this file: the list does not change while the lock is let go */
	while (h && (by_list ? at != 0 : e < end)) {
		for (n = 0; n < POOL_STEP && (by_list ? at != 0 : e < end); n++) {
			d = by_list ? at - 1 : spm_pool_index_find(p, whose, e++);
			if (by_list)
				at = p->link[d].next;
			at_file = d == SPM_POOL_NONE ? UINT64_MAX : spm_pool_extent_of(p, d);
			if (d == SPM_POOL_NONE || at_file < first || at_file >= end)
				continue;
			spm_pool_release(p, d);
			spm_pool_uncharge(p, f->slice, 1);
		}
		pthread_mutex_unlock(&p->lock);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
}

int spm_pool_punch(struct spm_pool *p, const struct spm_pool_file *f, uint64_t from, uint64_t to)
{
	uint64_t size = p->extent_bytes, first = from / size + !!(from % size);
	uint64_t end = to == UINT64_MAX ? UINT64_MAX : to / size;
	int rc = 0, rc2 = 0;

	if (from >= to)
		return 0;
	if (from % size)
		rc = spm_pool_zero(p, f, from, to < first * size ? to : first * size);
	if (first < end)
		drop(p, f, first, end);
	if (to != UINT64_MAX && to % size && end >= first)
		rc2 = spm_pool_zero(p, f, end * size, to);
	return rc ? rc : rc2;
}

void spm_pool_remove(struct spm_pool *p, const struct spm_pool_file *f)
{
	drop(p, f, 0, UINT64_MAX);
}

void spm_pool_remove_slice(struct spm_pool *p, uint16_t slice)
{
	struct spm_pool_held held;
	struct spm_pool_file f;
	uint32_t at = 0;

	while (spm_pool_next_file(p, &at, &f)) {
		if (f.slice != slice)
			continue;
		spm_pool_lock(p, &f, SPM_POOL_EXCLUSIVE, &held);
		spm_pool_remove(p, &f);
		spm_pool_unlock(&held);
	}
	pthread_mutex_lock(&p->lock);
	spm_pool_doubt_drop_slice(p, slice);
	pthread_mutex_unlock(&p->lock);
}

/* -- seeking and copying -- */

uint64_t spm_pool_next_extent(struct spm_pool *p, uint64_t whose, uint64_t from)
{
	uint64_t next = UINT64_MAX, e = from, doubt;
	struct spm_pool_head *h;
	uint32_t at, n;

	pthread_mutex_lock(&p->lock);
	doubt = spm_pool_next_doubt(p, whose, from);
	h = spm_pool_index_head(p, whose);
	for (n = 0; h && n < h->count && next == UINT64_MAX && n < POOL_STEP; n++, e++)
		if (spm_pool_index_find(p, whose, e) != SPM_POOL_NONE)
			next = e;
	/* nobody removes from the list while the file's lock is held; what is added comes before its head */
	at = h && next == UINT64_MAX ? h->first : 0;
	while (at) {
		for (n = 0; at && n < POOL_STEP; n++, at = p->link[at - 1].next) {
			e = spm_pool_extent_of(p, at - 1);
			next = e >= from && e < next ? e : next;
		}
		pthread_mutex_unlock(&p->lock);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return next < doubt ? next : doubt;
}

static uint64_t next_hole(struct spm_pool *p, uint64_t whose, uint64_t e, uint64_t end)
{
	bool is_hole = false;

	while (e < end && !is_hole) {
		pthread_mutex_lock(&p->lock);
		for (uint32_t n = 0; n < POOL_STEP && e < end && !is_hole; n++, e++)
			is_hole = spm_pool_index_find(p, whose, e) == SPM_POOL_NONE && !spm_pool_is_doubtful(p, whose, e);
		pthread_mutex_unlock(&p->lock);
	}
	return is_hole ? e - 1 : end;
}

off_t spm_pool_seek(struct spm_pool *p, const struct spm_pool_file *f, off_t off, int whence, uint64_t size)
{
	const uint64_t end = size / p->extent_bytes + !!(size % p->extent_bytes);
	uint64_t e, at;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (off < 0 || (uint64_t)off >= size)
		return -ENXIO;
	e = (uint64_t)off / p->extent_bytes;
	e = whence == SEEK_DATA ? spm_pool_next_extent(p, spm_pool_whose(f), e) : next_hole(p, spm_pool_whose(f), e, end);
	if (e >= end)
		return whence == SEEK_DATA ? -ENXIO : (off_t)size;
	at = e * p->extent_bytes;
	return at > (uint64_t)off ? (off_t)at : off;
}

/* A piece that lies in one extent of each file. */
static int copy_piece(struct spm_pool *p, uint64_t in, struct piece a, uint64_t out, struct piece b)
{
	const void *where;
	uint32_t s, d;
	bool made;
	int rc;

	rc = spm_pool_find(p, in, a.extent, &s);
	if (rc == -ENOENT) {
		rc = spm_pool_find(p, out, b.extent, &d);
		if (rc == -ENOENT)
			return 0;
		return rc ? rc : lost(p, d, spm_pool_clear(address_of(p, d, b.at), a.n));
	}
	if (!rc)
		rc = spm_pool_make(p, out, b.extent, false, &d, &made);
	if (rc)
		return rc;
	rc = spm_pool_copy_over(address_of(p, d, b.at), address_of(p, s, a.at), a.n, &where);
	return rc ? lost(p, where == address_of(p, d, b.at) ? d : s, rc) : 0;
}

ssize_t spm_pool_copy(struct spm_pool *p, const struct spm_pool_file *in, uint64_t from,
		      const struct spm_pool_file *out, uint64_t to, size_t n)
{
	size_t done = 0;
	int rc = 0;

	while (done < n && !rc) {
		struct piece a = piece_of(p, from + done, from + n), b = piece_of(p, to + done, to + n);

		a.n = b.n < a.n ? b.n : a.n;
		rc = copy_piece(p, spm_pool_whose(in), a, spm_pool_whose(out), b);
		if (!rc)
			done += a.n;
	}
	return so_far(done, rc);
}
