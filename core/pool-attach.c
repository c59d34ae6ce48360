/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State file and device, made and mapped. */
#include "core/pool-local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define CLEAN_MAX (UINT64_C(1) << 30)

static uint64_t header_check(const struct spm_pool_header *h)
{
	return spm_pool_check_of(h, offsetof(struct spm_pool_header, check));
}

static uint64_t label_check(const struct spm_pool_label *l)
{
	return spm_pool_check_of(l, offsetof(struct spm_pool_label, check));
}

static bool is_power(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* What of a device is used: mappings of a character device must be multiples of its alignment. */
static uint64_t map_bytes(const struct spm_pool_device *d)
{
	return d->bytes / d->align * d->align;
}

/* At an address as aligned as the device, so that its largest pages can be used. -errno. */
static int map_device(const struct spm_pool_device *d, uint8_t **base)
{
	uint64_t bytes = map_bytes(d), room = bytes + d->align, before, behind;
	uint8_t *at = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int rc;

	if (at == MAP_FAILED)
		return -errno;
	before = -(uintptr_t)at & (d->align - 1);
	behind = room - before - bytes;
	*base = at + before;
	rc = mmap(*base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, d->fd, 0) == MAP_FAILED ? -errno : 0;
	if (rc) {
		munmap(at, room);
		return rc;
	}
	if (before)
		munmap(at, before);
	if (behind)
		munmap(*base + bytes, behind);
	(void)madvise(*base, bytes, MADV_DONTDUMP);
	return 0;
}

/* -- making -- */

static int lay_out(const struct spm_pool_device *d, uint32_t extent_bytes, struct spm_pool_header *h)
{
	uint64_t bytes;

	if (!is_power(d->align) || d->align < 4096 || !is_power(extent_bytes) || extent_bytes < SPM_POOL_EXTENT_MIN ||
	    extent_bytes > SPM_POOL_EXTENT_MAX)
		return -EINVAL;
	bytes = map_bytes(d);
	h->extents = bytes / extent_bytes;
	if (h->extents && bytes % extent_bytes < POOL_LABEL_SIZE)
		h->extents--;
	if (!h->extents)
		return -ENOSPC;
	if (h->extents >= SPM_POOL_NONE)
		return -EINVAL;
	h->magic = POOL_MAGIC;
	h->version = POOL_VERSION;
	h->extent_bytes = extent_bytes;
	h->device_bytes = d->bytes;
	/* the same place whatever the extents are: a pool of others must not miss it */
	h->label_at = bytes - POOL_LABEL_SIZE;
	return spm_pool_ident_of(d, &h->ident);
}

static int write_label(const struct spm_pool_device *d, const struct spm_pool_header *h)
{
	struct spm_pool_label l = { .magic = POOL_LABEL };
	uint8_t *base = NULL;
	int rc;

	memcpy(l.uuid, h->uuid, sizeof(l.uuid));
	l.check = label_check(&l);
	rc = map_device(d, &base);
	if (rc)
		return rc;
	rc = spm_pool_copy_to(base + h->label_at, &l, sizeof(l));
	munmap(base, map_bytes(d));
	return rc;
}

int spm_pool_create(int state, const struct spm_pool_device *d, uint32_t extent_bytes,
		    const uint8_t uuid[static 16])
{
	struct spm_pool_header h = { .magic = 0 };
	uint64_t bytes;
	int rc;

	memcpy(h.uuid, uuid, sizeof(h.uuid));
	rc = lay_out(d, extent_bytes, &h);
	if (rc)
		return rc;
	h.check = header_check(&h);
	bytes = POOL_RECORDS_AT + h.extents * sizeof(struct spm_pool_record);
	rc = -posix_fallocate(state, 0, (off_t)bytes);
	if (rc)
		return rc;
	rc = spm_pool_catch();
	if (!rc)
		rc = write_label(d, &h);
	if (rc)
		return rc;
	return pwrite(state, &h, sizeof(h), 0) == sizeof(h) ? 0 : -EIO;
}

/* -- attaching -- */

static int read_header(int state, const struct spm_pool_device *d, struct spm_pool_header *h)
{
	struct stat st;

	if (fstat(state, &st))
		return -errno;
	if (pread(state, h, sizeof(*h), 0) != sizeof(*h) || h->magic != POOL_MAGIC || h->version != POOL_VERSION ||
	    h->check != header_check(h) ||
	    (uint64_t)st.st_size < POOL_RECORDS_AT + h->extents * sizeof(struct spm_pool_record))
		return -EPROTO;
	return d->bytes != h->device_bytes || !is_power(d->align) ||
			       h->label_at + sizeof(struct spm_pool_label) > map_bytes(d) ?
		       -ENODEV :
		       0;
}

/* -ESTALE: it is another pool's, or nobody's; 1: the device has lost it. */
static int check_label(const struct spm_pool *p)
{
	struct spm_pool_label l;
	int rc = spm_pool_copy_from(&l, p->base + p->header->label_at, sizeof(l));

	if (rc)
		return rc == -EIO ? 1 : rc;
	return l.magic != POOL_LABEL || l.check != label_check(&l) || memcmp(l.uuid, p->header->uuid, sizeof(l.uuid)) ?
		       -ESTALE : 0;
}

/* Whether the device is the pool's, and nobody else has written to it. */
static int check_device(const struct spm_pool *p, const struct spm_pool_ident *now)
{
	bool same = spm_pool_ident_same(&p->header->ident, now);
	int rc = check_label(p);

	/* whoever had written another one to the device would have written to what it has lost */
	if (same)
		return rc == 1 ? 0 : rc;
	if (rc)
		return rc == 1 || rc == -ESTALE ? -ENODEV : rc;
	if (!p->o.moved)
		return -EREMCHG;
	spm_pool_ident_note(&p->header->ident, now);
	return 0;
}

static int init_locks(struct spm_pool *p)
{
	pthread_rwlockattr_t how;
	pthread_condattr_t clock;

	if (pthread_rwlockattr_init(&how) || pthread_condattr_init(&clock))
		return -ENOMEM;
	/* or readers that come all the time would keep a truncate waiting for ever */
	pthread_rwlockattr_setkind_np(&how, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, &clock);
	pthread_cond_init(&p->settled, &clock);
	pthread_cond_init(&p->compact_wake, &clock);
	for (unsigned int i = 0; i < POOL_STRIPES; i++)
		pthread_rwlock_init(&p->stripe[i], &how);
	pthread_rwlockattr_destroy(&how);
	pthread_condattr_destroy(&clock);
	return 0;
}

static int map_all(struct spm_pool *p, int state, const struct spm_pool_device *d,
		   const struct spm_pool_header *h)
{
	struct spm_pool_ident now;
	void *at;
	int rc;

	p->extents = (uint32_t)h->extents;
	p->extent_bytes = h->extent_bytes;
	p->state_bytes = POOL_RECORDS_AT + h->extents * sizeof(struct spm_pool_record);
	at = mmap(NULL, p->state_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, state, 0);
	if (at == MAP_FAILED)
		return -errno;
	p->header = at;
	p->state_fd = state;
	p->record = (struct spm_pool_record *)(void *)((uint8_t *)at + POOL_RECORDS_AT);
	rc = map_device(d, &p->base);
	if (rc)
		return rc;
	p->map_bytes = map_bytes(d);
	rc = spm_pool_catch();
	if (!rc)
		rc = spm_pool_watch(p->base, p->map_bytes);
	if (rc || p->o.kept)
		return rc;
	rc = spm_pool_ident_of(d, &now);
	return rc ? rc : check_device(p, &now);
}

static void set_limits(struct spm_pool *p)
{
	uint64_t clean = (uint64_t)p->extents * p->extent_bytes / 8;

	for (unsigned int i = 0; i < SPM_POOL_SLICES; i++)
		p->slice_limit[i] = UINT64_MAX;
	spm_pool_limit(p, p->o.bytes_max ? p->o.bytes_max : atomic_load(&p->header->limit) ? : UINT64_MAX);
	clean = clean < CLEAN_MAX ? clean : CLEAN_MAX;
	p->clean_max = (p->o.clean_bytes ? p->o.clean_bytes : clean) / p->extent_bytes;
}

static int make_sets(struct spm_pool *p)
{
	struct spm_pool_set *sets[] = { &p->unused, &p->free, &p->clean, &p->movable };
	int rc = 0;

	for (unsigned int i = 0; i < SPM_ARRAY_SIZE(sets) && !rc; i++)
		rc = spm_pool_set_init(sets[i], p->extents);
	return rc ? rc : spm_pool_index_init(p);
}

int spm_pool_attach(struct spm_pool **out, int state, const struct spm_pool_device *d,
		    const struct spm_pool_opts *o)
{
	struct spm_pool_header h = { .magic = 0 };
	struct spm_pool *p;
	int rc = read_header(state, d, &h);

	if (rc)
		return rc;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	if (o)
		p->o = *o;
	rc = init_locks(p);
	if (rc) {
		free(p);
		return rc;
	}
	rc = map_all(p, state, d, &h);
	if (!rc)
		rc = spm_pool_doubts_map(p);
	if (!rc)
		rc = make_sets(p);
	if (!rc) {
		set_limits(p);
		spm_pool_scan(p);
		*out = p;
		return 0;
	}
	spm_pool_detach(p);
	return rc;
}

void spm_pool_detach(struct spm_pool *p)
{
	spm_pool_stop(p);
	spm_pool_index_destroy(p);
	spm_pool_set_destroy(&p->unused);
	spm_pool_set_destroy(&p->free);
	spm_pool_set_destroy(&p->clean);
	spm_pool_set_destroy(&p->movable);
	if (p->map_bytes) {
		spm_pool_unwatch(p->base);
		munmap(p->base, p->map_bytes);
	}
	spm_pool_doubts_unmap(p);
	if (p->header)
		munmap(p->header, p->state_bytes);
	for (unsigned int i = 0; i < POOL_STRIPES; i++)
		pthread_rwlock_destroy(&p->stripe[i]);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->settled);
	pthread_cond_destroy(&p->compact_wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
