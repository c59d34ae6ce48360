/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/itable.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define ITABLE_MAGIC   UINT64_C(0x73706d6974626c31) /* "spmitbl1" */
#define ITABLE_VERSION 1
#define INDEX_MIN      1024u
#define ROOT_INDEX     1u

struct spm_itable_header {
	uint64_t magic;
	uint32_t version;
	uint32_t max;
	uint32_t next_seq;
	uint32_t reserved[11];
};
_Static_assert(sizeof(struct spm_itable_header) == sizeof(struct spm_inode), "the header stands in record 0");

static uint32_t hash_of(const struct spm_itable *t, uint16_t slice, uint64_t ino)
{
	/* Fibonacci hashing: 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4) */
	return (uint32_t)((ino + ((uint64_t)slice << 48)) * UINT64_C(0x9e3779b97f4a7c15) >> 32) & t->index_mask;
}

static uint32_t index_slot(const struct spm_itable *t, uint16_t slice, uint64_t ino)
{
	uint32_t i = hash_of(t, slice, ino);

	while (t->index[i]) {
		const struct spm_inode *r = &t->records[t->index[i]];

		if (r->ino == ino && r->slice == slice)
			break;
		i = (i + 1) & t->index_mask;
	}
	return i;
}

static int index_resize(struct spm_itable *t, uint32_t size)
{
	uint32_t *old = t->index, old_size = old ? t->index_mask + 1 : 0;
	/* by mmap, since malloc would keep what a shrinking table gives back */
	uint32_t *fresh = mmap(NULL, size * sizeof(*fresh), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fresh == MAP_FAILED)
		return -ENOMEM;
	t->index = fresh;
	t->index_mask = size - 1;
	for (uint32_t i = 0; i < old_size; i++) {
		const struct spm_inode *r = &t->records[old[i]];

		if (old[i])
			fresh[index_slot(t, r->slice, r->ino)] = old[i];
	}
	if (old)
		munmap(old, old_size * sizeof(*old));
	return 0;
}

/* Linear probing without tombstones: pull back whatever the hole would hide. */
static void index_remove(struct spm_itable *t, uint16_t slice, uint64_t ino)
{
	uint32_t hole = index_slot(t, slice, ino), i = hole;

	if (!t->index[hole])
		return;
	for (;;) {
		uint32_t home;

		t->index[hole] = 0;
		do {
			i = (i + 1) & t->index_mask;
			if (!t->index[i])
				return;
			home = hash_of(t, t->records[t->index[i]].slice, t->records[t->index[i]].ino);
		} while (((i - home) & t->index_mask) < ((i - hole) & t->index_mask));
		t->index[hole] = t->index[i];
		hole = i;
	}
}

static void mark_used(struct spm_itable *t, uint32_t idx)
{
	struct spm_itable_chunk *c = &t->chunks[idx / SPM_ITABLE_CHUNK];

	c->used[idx % SPM_ITABLE_CHUNK / 64] |= UINT64_C(1) << idx % 64;
	c->count++;
}

/* 0: full */
static uint32_t alloc_index(struct spm_itable *t)
{
	for (uint32_t n = t->low_chunk; n < t->max / SPM_ITABLE_CHUNK; n++) {
		struct spm_itable_chunk *c = &t->chunks[n];

		if (c->count == SPM_ITABLE_CHUNK)
			continue;
		t->low_chunk = n;
		for (uint32_t w = 0; w < SPM_ARRAY_SIZE(c->used); w++) {
			if (~c->used[w]) {
				uint32_t idx = n * SPM_ITABLE_CHUNK + w * 64 +
					       (uint32_t)__builtin_ctzll(~c->used[w]);
				mark_used(t, idx);
				return idx;
			}
		}
	}
	return 0;
}

static void free_index(struct spm_itable *t, uint32_t idx)
{
	uint32_t n = idx / SPM_ITABLE_CHUNK;
	struct spm_itable_chunk *c = &t->chunks[n];

	c->used[idx % SPM_ITABLE_CHUNK / 64] &= ~(UINT64_C(1) << idx % 64);
	c->count--;
	if (n < t->low_chunk)
		t->low_chunk = n;
	if (!c->count)
		madvise(&t->records[n * SPM_ITABLE_CHUNK], SPM_ITABLE_CHUNK * sizeof(*t->records), MADV_REMOVE);
}

static int map_table(struct spm_itable *t)
{
	void *p = mmap(NULL, (size_t)t->max * sizeof(struct spm_inode), PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	t->records = p;
	t->header = p;
	p = mmap(NULL, t->max / SPM_ITABLE_CHUNK * sizeof(*t->chunks), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	t->chunks = p;
	pthread_mutex_init(&t->lock, NULL);
	mark_used(t, 0);
	mark_used(t, ROOT_INDEX);
	return index_resize(t, INDEX_MIN);
}

int spm_itable_init(struct spm_itable *t, uint32_t max)
{
	int rc;

	memset(t, 0, sizeof(*t));
	t->max = (max + SPM_ITABLE_CHUNK - 1) / SPM_ITABLE_CHUNK * SPM_ITABLE_CHUNK;
	t->fd = memfd_create("spmfs-inodes", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
	if (t->fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		t->fd = memfd_create("spmfs-inodes", MFD_CLOEXEC);
	if (t->fd < 0)
		return -errno;
	rc = ftruncate(t->fd, (off_t)t->max * (off_t)sizeof(struct spm_inode)) ? -errno : map_table(t);
	if (rc) {
		spm_itable_destroy(t);
		return rc;
	}
	*t->header = (struct spm_itable_header){
		.magic = ITABLE_MAGIC, .version = ITABLE_VERSION, .max = t->max, .next_seq = 1
	};
	return 0;
}

static int reindex(struct spm_itable *t)
{
	for (uint32_t i = ROOT_INDEX; i < t->max;) {
		struct spm_inode *r = &t->records[i];
		off_t next;

		if (i % SPM_ITABLE_CHUNK == 0) {
			/* skip what was never used or given back, without faulting it in */
			next = lseek(t->fd, (off_t)i * (off_t)sizeof(*r), SEEK_DATA);
			if (next < 0)
				break;
			if ((uint64_t)next / sizeof(*r) / SPM_ITABLE_CHUNK > i / SPM_ITABLE_CHUNK) {
				i = (uint32_t)((uint64_t)next / sizeof(*r) / SPM_ITABLE_CHUNK * SPM_ITABLE_CHUNK);
				continue;
			}
		}
		if (r->nlookup) {
			uint32_t slot = index_slot(t, r->slice, r->ino);

			if (t->index[slot])
				return -EBADMSG;
			if (i != ROOT_INDEX)
				mark_used(t, i);
			t->index[slot] = i;
			if (++t->live * 2 > t->index_mask && index_resize(t, (t->index_mask + 1) * 2))
				return -ENOMEM;
		}
		i++;
	}
	return 0;
}

int spm_itable_attach(struct spm_itable *t, int fd)
{
	struct spm_itable_header h;
	struct stat st;
	int rc;

	memset(t, 0, sizeof(*t));
	t->fd = fd;
	if (pread(fd, &h, sizeof(h), 0) != sizeof(h) || fstat(fd, &st))
		rc = -EPROTO;
	else if (h.magic != ITABLE_MAGIC || h.version != ITABLE_VERSION || !h.max || h.max % SPM_ITABLE_CHUNK ||
		 (uint64_t)st.st_size != (uint64_t)h.max * sizeof(struct spm_inode))
		rc = -EPROTO;
	else {
		t->max = h.max;
		rc = map_table(t);
		if (!rc)
			rc = reindex(t);
	}
	if (rc)
		spm_itable_destroy(t);
	return rc;
}

void spm_itable_destroy(struct spm_itable *t)
{
	if (t->records)
		munmap(t->records, (size_t)t->max * sizeof(struct spm_inode));
	if (t->chunks)
		munmap(t->chunks, t->max / SPM_ITABLE_CHUNK * sizeof(*t->chunks));
	if (t->index)
		munmap(t->index, (t->index_mask + 1) * sizeof(*t->index));
	if (t->fd >= 0)
		close(t->fd);
	memset(t, 0, sizeof(*t));
	t->fd = -1;
}

static uint64_t nodeid_of(const struct spm_itable *t, uint32_t idx)
{
	return (uint64_t)t->records[idx].seq << 32 | idx;
}

static void fill(struct spm_inode *r, uint32_t seq, uint16_t slice, uint64_t ino, const struct spm_handle *h,
		 unsigned int flags)
{
	r->ino = ino;
	r->slice = slice;
	__atomic_store_n(&r->flags, (uint16_t)flags, __ATOMIC_RELAXED);
	r->backing_id = 0;
	r->open_plain = r->open_served = r->open_mirror = 0;
	r->handle = *h;
	/* a stale id may be looked up at any time: it must see either nothing or another seq */
	__atomic_store_n(&r->seq, seq, __ATOMIC_RELEASE);
	/* the count goes last: a record without one is free to whoever attaches */
	__atomic_store_n(&r->nlookup, 1, __ATOMIC_RELEASE);
}

void spm_itable_set_root(struct spm_itable *t, uint16_t slice, uint64_t ino, const struct spm_handle *h)
{
	pthread_mutex_lock(&t->lock);
	fill(&t->records[ROOT_INDEX], 0, slice, ino, h, SPM_INODE_DIR);
	t->index[index_slot(t, slice, ino)] = ROOT_INDEX;
	t->live++;
	pthread_mutex_unlock(&t->lock);
}

struct spm_inode *spm_itable_intern(struct spm_itable *t, uint16_t slice, uint64_t ino, const struct spm_handle *h,
				    unsigned int flags, uint64_t *nodeid)
{
	struct spm_inode *r = NULL;
	uint32_t slot, idx;

	pthread_mutex_lock(&t->lock);
	slot = index_slot(t, slice, ino);
	idx = t->index[slot];
	if (idx) {
		r = &t->records[idx];
		__atomic_add_fetch(&r->nlookup, 1, __ATOMIC_RELAXED);
		goto out;
	}
	if (t->live * 2 >= t->index_mask) {
		if (index_resize(t, (t->index_mask + 1) * 2))
			goto unlock;
		slot = index_slot(t, slice, ino);
	}
	idx = alloc_index(t);
	if (!idx)
		goto unlock;
	r = &t->records[idx];
	if (!t->header->next_seq || t->header->next_seq > SPM_ITABLE_SEQ_MAX)
		t->header->next_seq = 1; /* 0 is the root's */
	fill(r, t->header->next_seq++, slice, ino, h, flags);
	t->index[slot] = idx;
	t->live++;
out:
	*nodeid = nodeid_of(t, idx);
unlock:
	pthread_mutex_unlock(&t->lock);
	return r;
}

struct spm_inode *spm_itable_get(struct spm_itable *t, uint64_t nodeid)
{
	uint32_t idx = (uint32_t)nodeid, seq = (uint32_t)(nodeid >> 32);
	struct spm_inode *r;

	if (idx < ROOT_INDEX || idx >= t->max)
		return NULL;
	r = &t->records[idx];
	if (__atomic_load_n(&r->seq, __ATOMIC_RELAXED) != seq || !__atomic_load_n(&r->nlookup, __ATOMIC_ACQUIRE))
		return NULL;
	return r;
}

struct spm_inode *spm_itable_find(struct spm_itable *t, uint16_t slice, uint64_t ino, uint64_t *nodeid)
{
	struct spm_inode *r = NULL;
	uint32_t idx;

	pthread_mutex_lock(&t->lock);
	idx = t->index[index_slot(t, slice, ino)];
	if (idx) {
		r = &t->records[idx];
		*nodeid = nodeid_of(t, idx);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

bool spm_itable_forget(struct spm_itable *t, uint64_t nodeid, uint64_t n, struct spm_inode *last)
{
	uint32_t idx = (uint32_t)nodeid;
	struct spm_inode *r;
	bool dead = false;

	pthread_mutex_lock(&t->lock);
	r = spm_itable_get(t, nodeid);
	if (!r || idx == ROOT_INDEX)
		goto out;
	if (r->nlookup > n) {
		__atomic_sub_fetch(&r->nlookup, n, __ATOMIC_RELAXED);
		goto out;
	}
	*last = *r;
	index_remove(t, r->slice, r->ino);
	__atomic_store_n(&r->nlookup, 0, __ATOMIC_RELEASE);
	free_index(t, idx);
	t->live--;
	if (t->index_mask + 1 > INDEX_MIN && t->live * 8 < t->index_mask)
		(void)index_resize(t, (t->index_mask + 1) / 4 > INDEX_MIN ? (t->index_mask + 1) / 4 : INDEX_MIN);
	dead = true;
out:
	pthread_mutex_unlock(&t->lock);
	return dead;
}

void spm_itable_each(struct spm_itable *t, void (*fn)(struct spm_inode *rec, void *arg), void *arg)
{
	pthread_mutex_lock(&t->lock);
	for (uint32_t i = 0; i <= t->index_mask; i++)
		if (t->index[i])
			fn(&t->records[t->index[i]], arg);
	pthread_mutex_unlock(&t->lock);
}
