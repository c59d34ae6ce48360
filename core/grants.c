/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may use how much of the device (law 6). A grant is the size of a slice's filesystem, so the kernel enforces it, also
 * against faults that no server sees. Whoever runs into his grant asks for more (spm_slices_grow), and the others shrink first.
 * What faults may need is promised before (spm_slices_promise).
 */
#include "core/grants-local.h"
#include "core/slices-local.h"

#include <errno.h>
#include <time.h>

#define PAGE     SPM_GRANT_PAGE
#define STEP     (UINT64_C(16) << 20) /* more than was asked for, where that is nobody's loss */
#define STEP_DIV 16u                  /* but at most this part of what nobody has */
#define RETRIES  4                    /* files grow while a grant shrinks */
#define POOR_NS  INT64_C(20000000)
#define NAMES_ROOM (UINT64_C(1) << 20) /* xfs asks for hundreds of KiB before it makes a name, and uses few */

uint64_t spm_slices_unit(const struct spm_slices *t)
{
	return t->pool ? spm_pool_extent_bytes(t->pool) : PAGE;
}

uint64_t spm_slices_least(const struct spm_slices *t)
{
	return t->pool ? spm_pool_extent_bytes(t->pool) : SPM_SLICE_FLOOR;
}

uint64_t spm_grants_root_max(struct spm_slices *t, uint64_t grant)
{
	struct spm_slice_use u;

	if (t->pool)
		return spm_slices_pool_look(t, 0, &u) ? 0 : u.max;
	return t->file ? spm_slices_root_max(t) : t->claim ? spm_claim_max(t->claim) : grant;
}

int spm_grants_look(struct spm_slices *t, uint16_t id, struct spm_slice_use *u)
{
	struct spm_slice *s = spm_slices_get(t, id);
	struct spm_slice_limits l;
	struct statvfs sv;
	int rc = s && !atomic_load(&s->away) ? 0 : -ENOENT;

	if (t->pool)
		return spm_slices_pool_look(t, id, u);
	/* before what is used: what a fault takes in between is counted twice, and not never */
	u->promised = rc ? 0 : atomic_load(&s->promised);
	if (!rc)
		rc = spm_slice_statfs(s, &sv);
	if (rc)
		return rc;
	u->grant = (uint64_t)sv.f_blocks * sv.f_frsize;
	u->used = u->grant - (uint64_t)sv.f_bavail * sv.f_frsize;
	if (id) {
		const struct spm_slices_entry *e = &t->file->entry[id];

		l = e->copy[atomic_load(&e->which) & 1].limits;
		/* whole pages of what was said */
		u->min = spm_grant_pages(l.min);
		u->max = spm_slice_max_of(&l) & ~(uint64_t)(PAGE - 1);
	} else {
		u->min = 0;
		u->max = spm_grants_root_max(t, u->grant);
	}
	if (u->max > t->device_bytes)
		u->max = t->device_bytes;
	if (u->max < SPM_SLICE_FLOOR)
		u->max = SPM_SLICE_FLOOR;
	if (u->max < u->min)
		u->max = u->min;
	return 0;
}

int spm_slices_use(struct spm_slices *t, uint16_t id, struct spm_slice_use *out)
{
	return spm_grants_look(t, id, out);
}

int spm_slices_statfs(struct spm_slices *t, uint16_t id, struct statvfs *out)
{
	uint16_t used = atomic_load(&t->count) ? spm_slices_last(t) : 0;
	struct spm_slice *s = spm_slices_get(t, id);
	struct spm_slice_use u, other;
	uint64_t size;
	int rc = s ? spm_slice_statfs(s, out) : -ENOENT;

	if (!rc)
		rc = spm_grants_look(t, id, &u);
	if (!rc && t->pool)
		spm_slices_pool_statfs(t, id, out);
	if (rc || t->pool || (!t->file && !t->claim))
		return rc;
	size = u.max;
	if (!id) {
		uint64_t rest = t->device_bytes, lost = atomic_load(&t->lost);

		rest -= lost < rest ? lost : rest;
		for (uint16_t i = 1; i <= used; i++) {
			uint64_t its;

			if (!spm_slices_get(t, i) || spm_grants_look(t, i, &other))
				continue;
			its = other.used > other.min ? other.used : other.min;
			rest -= its < rest ? its : rest;
		}
		size = rest < size ? rest : size;
	}
	if (size < u.used)
		size = u.used;
	out->f_blocks = size / out->f_frsize;
	out->f_bfree = out->f_bavail = (size - u.used) / out->f_frsize;
	return 0;
}

void spm_slices_shared(struct spm_slices *t, uint64_t *size, uint64_t *free)
{
	uint16_t used = spm_slices_last(t);
	uint64_t min = 0, over = 0;
	struct spm_slice_use u = { .max = t->device_bytes };

	if (t->pool) {
		spm_slices_pool_shared(t, size, free);
		return;
	}
	for (uint32_t id = 0; id <= used; id++) {
		if (!spm_slices_get(t, (uint16_t)id) || spm_grants_look(t, (uint16_t)id, &u))
			continue;
		min += u.min;
		over += u.used > u.min ? u.used - u.min : 0;
	}
	/* without slices the root slice may have less than the device */
	*size = t->file ? t->device_bytes : u.max;
	*size = *size > min ? *size - min : 0;
	*free = *size > over ? *size - over : 0;
}

int spm_grants_resize(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	struct spm_slice *s = spm_slices_get(t, id);
	int rc = spm_slice_resize(s, bytes);

	if (!rc) {
		t->granted = t->granted - s->grant + bytes;
		s->grant = bytes;
	}
	return rc;
}

static uint64_t nobodys(const struct spm_slices *t)
{
	return t->device_bytes > t->granted ? t->device_bytes - t->granted : 0;
}

/* Takes up to @bytes of what slice @id has free beyond its min, and has not promised. */
static uint64_t take_from(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	for (int i = 0; i < RETRIES; i++) {
		struct spm_slice_use u;
		uint64_t keep, part;

		if (spm_grants_look(t, id, &u))
			return 0;
		keep = spm_grant_pages(u.used) + u.promised;
		if (keep < u.min)
			keep = u.min;
		if (keep < SPM_SLICE_FLOOR)
			keep = SPM_SLICE_FLOOR;
		if (u.grant <= keep)
			return 0;
		part = u.grant - keep < bytes ? u.grant - keep : bytes;
		if (!spm_grants_resize(t, id, u.grant - part))
			return part;
	}
	return 0;
}

uint64_t spm_grants_take(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	uint16_t used = spm_slices_last(t);
	uint64_t got = nobodys(t);

	if (t->claim)
		return spm_claimed_take(t, id, bytes);
	if (got < bytes && id)
		got += take_from(t, 0, bytes - got);
	for (uint32_t i = 0; got < bytes && i < used; i++) {
		uint16_t other = (uint16_t)(1 + (t->at + i) % used);

		if (other == id || !spm_slices_get(t, other))
			continue;
		got += take_from(t, other, bytes - got);
		if (got >= bytes)
			t->at = (t->at + i) % used;
	}
	return got < bytes ? got : bytes;
}

int spm_grants_set(struct spm_slices *t, uint16_t id, uint64_t bytes, uint64_t part)
{
	struct spm_slice_use u;
	uint64_t got;
	int rc = spm_grants_look(t, id, &u);

	bytes = spm_grant_pages(bytes);
	if (t->claim)
		return spm_claimed_set(t, id, bytes);
	if (rc || bytes == u.grant)
		return rc;
	if (bytes < u.grant)
		return spm_grants_resize(t, id, bytes);
	got = spm_grants_take(t, id, bytes - u.grant);
	if (u.grant + got < bytes && u.grant + got > part)
		got = part > u.grant ? part - u.grant : 0;
	if (got)
		rc = spm_grants_resize(t, id, u.grant + got);
	return rc ? rc : u.grant + got < bytes ? -ENOSPC : 0;
}

/* What it has is as much as it may have, before it is told to be so. Last of what may fail: what a grant has lost may be another's
 * at once, also of a min that still counts. */
int spm_grants_fit(struct spm_slices *t, uint16_t id, const struct spm_slice_limits *l)
{
	uint64_t max = spm_slice_max_of(l), want;
	struct spm_slice_use u;
	int rc;

	if (t->pool)
		return spm_slices_pool_fit(t, id, l);
	rc = spm_grants_look(t, id, &u);
	if (rc)
		return rc;
	if (max < l->min)
		max = l->min;
	if (max < SPM_SLICE_FLOOR)
		max = SPM_SLICE_FLOOR;
	want = u.grant < l->min ? l->min : u.grant;
	/* (if it is refused, the old max counts) */
	return spm_grants_set(t, id, want < max ? want : max, u.max);
}

bool spm_grants_min_fits(struct spm_slices *t, uint16_t id, uint64_t min)
{
	uint16_t used = spm_slices_last(t);
	uint64_t sum = spm_grant_pages(min) + t->lost;

	if (t->pool)
		return spm_slices_pool_min_fits(t, id, min);
	for (uint16_t other = 1; other <= used; other++) {
		const struct spm_slices_entry *e = &t->file->entry[other];

		if (other != id && spm_slices_get(t, other))
			sum += spm_grant_pages(e->copy[atomic_load(&e->which) & 1].limits.min);
	}
	return sum <= t->device_bytes;
}

/* With the lock, for who is to use @bytes more: brings a grant to @want, or as near as it goes, and a step on where that is nobody's
 * loss. */
static int grow_to(struct spm_slices *t, uint16_t id, uint64_t bytes, uint64_t want, struct spm_slice_use *u)
{
	uint64_t free = nobodys(t), step;
	int rc;

	if (t->claim)
		return spm_claimed_grow(t, id, bytes, want, u);
	if (u->grant >= want || u->grant >= u->max)
		return 0;
	if (!free && id) {
		struct spm_slice_use root;

		if (!spm_grants_look(t, 0, &root) && root.used + root.promised < root.grant)
			free = root.grant - root.used - root.promised;
	}
	step = free / STEP_DIV < STEP ? free / STEP_DIV : STEP;
	rc = spm_grants_set(t, id, want + step < u->max ? want + step : u->max, u->max);
	return !rc || rc == -ENOSPC ? spm_grants_look(t, id, u) : rc;
}

uint64_t spm_grants_wanted(const struct spm_slices *t, const struct spm_slice_use *u, uint64_t bytes, uint64_t promised)
{
	uint64_t want = u->used + (bytes < t->device_bytes ? bytes : t->device_bytes);

	return spm_grant_pages(want) + (promised < t->device_bytes ? promised : t->device_bytes);
}

/* Whether it can use @bytes and keep its promises. */
static bool has_room(const struct spm_slice *s, uint64_t bytes)
{
	uint64_t promised = atomic_load(&s->promised);
	struct statvfs sv;

	return spm_slice_statfs(s, &sv) || (uint64_t)sv.f_bavail * sv.f_frsize >= promised + spm_grant_pages(bytes);
}

/* What others have on the filesystem of a directory is not in anybody's grant. */
static bool is_full(struct spm_slices *t)
{
	struct statvfs sv;

	return !fstatvfs(spm_slices_get(t, 0)->mount_fd, &sv) && !sv.f_bavail;
}

int spm_slices_grow(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	struct spm_slice_use u;
	uint64_t want, before;
	int rc;

	if (t->pool)
		return spm_slices_pool_grow(t, id, bytes);
	if (!t->file && !t->claim) /* the root slice has it all */
		return -ENOSPC;
	pthread_mutex_lock(&t->lock);
	rc = spm_grants_look(t, id, &u);
	before = u.grant;
	want = spm_grants_wanted(t, &u, bytes, 0);
	if (!rc)
		rc = grow_to(t, id, bytes, spm_grants_wanted(t, &u, bytes, u.promised), &u);
	if (!rc && u.grant < want && u.grant <= before)
		rc = u.grant >= u.max ? -EDQUOT : -ENOSPC;
	if (!rc && spm_slices_get(t, 0)->fixed && is_full(t))
		rc = -ENOSPC;
	pthread_mutex_unlock(&t->lock);
	return rc;
}

/* Asked for more ahead of need, by who goes on all the same. Where there was none just now, it is not asked of a thousand others each
 * time. */
static void ask_ahead(struct spm_slices *t, struct spm_slice *s, uint64_t bytes)
{
	struct timespec ts;
	int64_t now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	if (now - atomic_load(&s->poor_ns) >= POOR_NS && (spm_slices_grow(t, s->id, bytes) || !has_room(s, bytes)))
		atomic_store(&s->poor_ns, now);
}

void spm_slices_keep_room(struct spm_slices *t, uint16_t id)
{
	struct spm_slice *s = spm_slices_get(t, id);

	if (s && s->fixed && t->file && !has_room(s, NAMES_ROOM))
		ask_ahead(t, s, NAMES_ROOM);
}

int spm_slices_promise(struct spm_slices *t, uint16_t id, uint64_t bytes, bool anyway)
{
	struct spm_slice_use u;
	uint64_t want;
	int rc;

	if (!t->file || t->pool)
		return 0;
	pthread_mutex_lock(&t->lock);
	rc = spm_grants_look(t, id, &u);
	if (!rc) {
		want = spm_grants_wanted(t, &u, bytes, u.promised);
		rc = grow_to(t, id, bytes, want, &u);
		if (!rc && u.grant < want)
			rc = u.grant >= u.max ? -EDQUOT : -ENOSPC;
		if (!rc || (anyway && rc != -ENOENT)) /* (of a slice that is leaving nothing is) */
			atomic_fetch_add(&spm_slices_get(t, id)->promised, spm_grant_pages(bytes));
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

void spm_slices_unpromise(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	struct spm_slice *s = spm_slices_get(t, id);
	uint64_t was = s ? atomic_load(&s->promised) : 0;

	bytes = spm_grant_pages(bytes);
	/* (of a slice that is gone, and another has its number: it has none) */
	while (s && !atomic_compare_exchange_weak(&s->promised, &was, was > bytes ? was - bytes : 0))
		;
}

void spm_slices_keep_promises(struct spm_slices *t, uint16_t id, uint64_t bytes)
{
	struct spm_slice *s = spm_slices_get(t, id);

	if (s && atomic_load_explicit(&s->promised, memory_order_relaxed) && t->file && !has_room(s, bytes))
		ask_ahead(t, s, bytes);
}

uint64_t spm_slices_spare(struct spm_slices *t, uint16_t victim, uint16_t id)
{
	struct spm_slice_use u;
	uint64_t bytes = 0;

	if (victim == id)
		return UINT64_MAX;
	pthread_mutex_lock(&t->lock);
	if (!spm_grants_look(t, id, &u) && u.used + spm_slices_unit(t) <= u.max && !spm_grants_look(t, victim, &u))
		bytes = u.used > u.min ? u.used - u.min : 0;
	pthread_mutex_unlock(&t->lock);
	return bytes;
}

int spm_slices_set_root_max(struct spm_slices *t, uint64_t bytes)
{
	struct spm_slice_use u;
	int rc;

	if (t->pool)
		return spm_slices_pool_set_root_max(t, bytes);
	pthread_mutex_lock(&t->lock);
	rc = spm_grants_look(t, 0, &u);
	if (t->claim) {
		rc = rc ? rc : bytes < u.used ? -EBUSY : spm_claim_set_max(t->claim, bytes);
		if (!rc && t->file)
			spm_slices_put_root_max(t, bytes);
		pthread_mutex_unlock(&t->lock);
		return rc;
	}
	/* it gives back at once what it may not have any more; what it may have more it gets when it asks */
	if (!rc && (bytes < u.grant || !atomic_load(&t->count)))
		rc = spm_grants_set(t, 0, bytes, bytes);
	/* what others have on the filesystem of a directory it may have when they let go of it */
	if (rc == -ENOSPC && spm_slices_in_dir(t))
		rc = 0;
	if (!rc && t->file)
		spm_slices_put_root_max(t, bytes);
	pthread_mutex_unlock(&t->lock);
	return rc;
}
