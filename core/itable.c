/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/itable.h"
#include "core/log.h"
#include "core/mix.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define ITABLE_MAGIC   UINT64_C(0x73706d6974626c31) /* "spmitbl1" */
#define ITABLE_VERSION 3
#define INDEX_MIN      1024u
#define ROOT_INDEX     1u
#define NLOOKUP_MAX    (UINT64_C(1) << 56) /* more than any kernel has counted */
#define OPENS_MAX      (1u << 30)
#define LOGGED_MAX     16u

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
	pthread_cond_init(&t->buried, NULL);
	mark_used(t, 0);
	mark_used(t, ROOT_INDEX);
	return index_resize(t, INDEX_MIN);
}

int spm_itable_create(uint32_t max)
{
	struct spm_itable_header h = { .magic = ITABLE_MAGIC, .version = ITABLE_VERSION, .next_seq = 1 };
	spm_auto_close int fd = -1;

	h.max = (max + SPM_ITABLE_CHUNK - 1) / SPM_ITABLE_CHUNK * SPM_ITABLE_CHUNK;
	fd = memfd_create("spmfs-inodes", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("spmfs-inodes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)h.max * (off_t)sizeof(struct spm_inode)) || pwrite(fd, &h, sizeof(h), 0) != sizeof(h) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return spm_steal_fd(&fd);
}

static uint16_t check_of(const struct spm_inode *r)
{
	uint64_t w[5] = { r->ino, (uint64_t)r->seq << 32 | r->slice }, x = ITABLE_MAGIC;

	_Static_assert(sizeof(r->handle) <= 3 * sizeof(w[0]), "the handle's words");
	memcpy(&w[2], &r->handle, sizeof(r->handle));
	for (size_t i = 0; i < SPM_ARRAY_SIZE(w); i++)
		x = spm_mix(x ^ w[i]);
	return (uint16_t)x;
}

static uint64_t checked_backing(const struct spm_inode *r, int id)
{
	uint64_t x = spm_mix(r->ino ^ spm_mix((uint64_t)r->seq << 32 | (uint32_t)id));

	return id ? (x & ~UINT64_C(0xffffffff)) | (uint32_t)id : 0;
}

void spm_inode_set_backing(struct spm_inode *rec, int id)
{
	__atomic_store_n(&rec->backing, checked_backing(rec, id), __ATOMIC_RELAXED);
}

static bool plausible(const struct spm_itable *t, const struct spm_inode *r)
{
	return r->check == check_of(r) && r->nlookup < NLOOKUP_MAX && r->seq <= SPM_ITABLE_SEQ_MAX &&
	       !(r->flags & ~SPM_INODE_FLAGS) && r->backing == checked_backing(r, spm_inode_backing(r)) && spm_inode_backing(r) >= 0 &&
	       r->handle.len <= SPM_HANDLE_BYTES &&
	       r->open_plain < OPENS_MAX && r->open_served < OPENS_MAX && r->open_mirror < OPENS_MAX &&
	       ((uint32_t)(r - t->records) == ROOT_INDEX) == !r->seq;
}

/* Its place stays taken, since the kernel may go on naming it; nothing finds it any more. */
static void set_aside(struct spm_itable *t, struct spm_inode *r, const char *why)
{
	uint32_t i = (uint32_t)(r - t->records);

	if (t->damaged++ < LOGGED_MAX)
		spm_log(SPM_LOG_ERR, "inode record %u (inode %llu) is damaged: %s; it was set aside: open files of it give "
			"ESTALE, its names are looked up anew", i, (unsigned long long)r->ino, why);
	spm_inode_set(r, SPM_INODE_DAMAGED);
	if (i != ROOT_INDEX)
		mark_used(t, i);
}

/* -ENOMEM */
static int index_record(struct spm_itable *t, struct spm_inode *r)
{
	uint32_t i = (uint32_t)(r - t->records), slot;

	if (spm_inode_is(r, SPM_INODE_DAMAGED) || !plausible(t, r)) {
		set_aside(t, r, "it does not fit its checksum or holds impossible numbers");
		return 0;
	}
	slot = index_slot(t, r->slice, r->ino);
	if (t->index[slot]) {
		set_aside(t, r, "another record has the same inode");
		return 0;
	}
	if (i != ROOT_INDEX)
		mark_used(t, i);
	t->index[slot] = i;
	return ++t->live * 2 > t->index_mask ? index_resize(t, (t->index_mask + 1) * 2) : 0;
}

int spm_itable_scan(struct spm_itable *t)
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
		if (r->nlookup && index_record(t, r))
			return -ENOMEM;
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
	/* (next_seq may be anything: it is looked at where it is used) */
	else if (h.magic != ITABLE_MAGIC || h.version != ITABLE_VERSION || !h.max || h.max % SPM_ITABLE_CHUNK ||
		 (uint64_t)st.st_size != (uint64_t)h.max * sizeof(struct spm_inode))
		rc = -EPROTO;
	else {
		t->max = h.max;
		rc = map_table(t);
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

/* All of a new record but its count: a record without one is free to whoever attaches. */
static void fill(struct spm_inode *r, uint32_t seq, uint16_t slice, uint64_t ino, const struct spm_handle *h,
		 unsigned int flags)
{
	r->ino = ino;
	r->slice = slice;
	__atomic_store_n(&r->flags, (uint16_t)flags, __ATOMIC_RELAXED);
	r->backing = 0;
	r->open_plain = r->open_served = r->open_mirror = 0;
	r->handle = *h;
	/* a stale id may be looked up at any time: it must see either nothing or another seq */
	__atomic_store_n(&r->seq, seq, __ATOMIC_RELEASE);
	r->check = check_of(r);
	spm_ledger_barrier();
}

static void store_count(struct spm_inode *r, uint32_t which, uint64_t value)
{
	switch (which) {
	case SPM_COUNT_LOOKUP:
		__atomic_store_n(&r->nlookup, value, __ATOMIC_RELEASE);
		break;
	case SPM_COUNT_PLAIN:
		__atomic_store_n(&r->open_plain, (uint32_t)value, __ATOMIC_RELAXED);
		break;
	case SPM_COUNT_SERVED:
		__atomic_store_n(&r->open_served, (uint32_t)value, __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n(&r->open_mirror, (uint32_t)value, __ATOMIC_RELAXED);
	}
}

static void make_change(struct spm_itable *t, struct spm_ledger *l)
{
	store_count(&t->records[l->redo.index], l->redo.count, l->redo.value);
	l->entry[l->redo.entry] = l->redo.mark;
	spm_ledger_barrier();
	l->redo.armed = 0;
	spm_ledger_barrier();
}

/* With the lock that guards the count. */
static void change(struct spm_itable *t, struct spm_inode *r, enum spm_count which, uint64_t value,
		   const struct spm_book *b, enum spm_entry entry, uint32_t mark)
{
	struct spm_ledger *l = b ? b->ledger : NULL;

	if (!l) {
		store_count(r, which, value);
		return;
	}
	l->redo.index = (uint32_t)(r - t->records);
	l->redo.count = which;
	l->redo.value = value;
	l->redo.entry = entry;
	l->redo.mark = mark;
	spm_ledger_barrier();
	l->redo.armed = 1;
	spm_ledger_barrier();
	make_change(t, l);
}

int spm_itable_settle(struct spm_itable *t, struct spm_ledger *l)
{
	bool sane = l->redo.index >= ROOT_INDEX && l->redo.index < t->max && l->redo.count < SPM_COUNTS &&
		    l->redo.entry < SPM_ENTRIES && l->redo.value < NLOOKUP_MAX;

	if (!l->redo.armed)
		return 0;
	if (sane)
		make_change(t, l);
	l->redo.armed = 0;
	return sane ? 0 : -EBADMSG;
}

void spm_itable_set_root(struct spm_itable *t, uint16_t slice, uint64_t ino, const struct spm_handle *h)
{
	pthread_mutex_lock(&t->lock);
	fill(&t->records[ROOT_INDEX], 0, slice, ino, h, SPM_INODE_DIR);
	store_count(&t->records[ROOT_INDEX], SPM_COUNT_LOOKUP, 1);
	t->index[index_slot(t, slice, ino)] = ROOT_INDEX;
	t->live++;
	pthread_mutex_unlock(&t->lock);
}

/* With the lock: one more lookup of @r, noted in the book. */
static void count_lookup(struct spm_itable *t, struct spm_inode *r, uint64_t nodeid, const struct spm_book *b)
{
	uint32_t n = b ? b->ledger->entry[SPM_ENTRY_LOOKUPS] : 0;

	if (b)
		b->ids[n] = nodeid;
	change(t, r, SPM_COUNT_LOOKUP, r->nlookup + 1, b, SPM_ENTRY_LOOKUPS, n + 1);
}

/* With the lock: a record for an inode that has none, or NULL. */
static struct spm_inode *make_record(struct spm_itable *t, uint16_t slice, uint64_t ino, const struct spm_handle *h,
				     unsigned int flags)
{
	struct spm_inode *r;
	uint32_t idx;

	if (t->live * 2 >= t->index_mask && index_resize(t, (t->index_mask + 1) * 2))
		return NULL;
	idx = alloc_index(t);
	if (!idx)
		return NULL;
	r = &t->records[idx];
	if (!t->header->next_seq || t->header->next_seq > SPM_ITABLE_SEQ_MAX)
		t->header->next_seq = 1; /* 0 is the root's */
	fill(r, t->header->next_seq++, slice, ino, h, flags);
	t->index[index_slot(t, slice, ino)] = idx;
	t->live++;
	return r;
}

static bool same_inode(const struct spm_inode *r, const struct spm_handle *h)
{
	return r->handle.type == h->type && r->handle.len == h->len && h->len <= SPM_HANDLE_BYTES &&
	       !memcmp(r->handle.bytes, h->bytes, h->len);
}

/*
 * The record's inode is gone, and its number is another's already: disk filesystems give numbers again at once, and a FORGET that
 * was damaged, or is not read yet, leaves the record behind. Nobody else refers to it by then, nor has it open.
 */
static void renew(struct spm_inode *r, const struct spm_handle *h, unsigned int flags)
{
	r->handle = *h;
	r->check = check_of(r);
	__atomic_store_n(&r->flags, (uint16_t)flags, __ATOMIC_RELAXED);
}

/* With the lock. As many as threads forget at once: seldom more than one. */
static bool is_dying(const struct spm_itable *t, uint32_t idx)
{
	for (const struct spm_dying *d = t->dying; d; d = d->next)
		if (d->index == idx)
			return true;
	return false;
}

struct spm_inode *spm_itable_intern(struct spm_itable *t, uint16_t slice, uint64_t ino, const struct spm_handle *h,
				    unsigned int flags, const struct spm_book *b, uint64_t *nodeid)
{
	struct spm_inode *r = NULL;
	bool told = false;
	uint32_t idx;

	if (b && b->ledger->entry[SPM_ENTRY_LOOKUPS] >= b->ids_max)
		return NULL;
	pthread_mutex_lock(&t->lock);
	while ((idx = t->index[index_slot(t, slice, ino)]) && is_dying(t, idx)) {
		if (t->slow && !told) {
			told = true;
			pthread_mutex_unlock(&t->lock);
			t->slow();
			pthread_mutex_lock(&t->lock);
		} else {
			pthread_cond_wait(&t->buried, &t->lock);
		}
	}
	r = idx ? &t->records[idx] : make_record(t, slice, ino, h, flags);
	if (idx && !same_inode(r, h))
		renew(r, h, flags);
	if (r) {
		*nodeid = nodeid_of(t, (uint32_t)(r - t->records));
		count_lookup(t, r, *nodeid, b);
	}
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
	if (__atomic_load_n(&r->seq, __ATOMIC_RELAXED) != seq || !__atomic_load_n(&r->nlookup, __ATOMIC_ACQUIRE) ||
	    spm_inode_is(r, SPM_INODE_DAMAGED))
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

/* With the lock: the record of a node id is free from now on. */
static void drop_record(struct spm_itable *t, uint32_t idx, const struct spm_book *b, enum spm_entry entry, uint32_t mark)
{
	struct spm_inode *r = &t->records[idx];

	index_remove(t, r->slice, r->ino);
	change(t, r, SPM_COUNT_LOOKUP, 0, b, entry, mark);
	free_index(t, idx);
	t->live--;
	if (t->index_mask + 1 > INDEX_MIN && t->live * 8 < t->index_mask)
		(void)index_resize(t, (t->index_mask + 1) / 4 > INDEX_MIN ? (t->index_mask + 1) / 4 : INDEX_MIN);
}

static void bury(struct spm_itable *t, struct spm_dying *d)
{
	struct spm_dying **p = &t->dying;

	if (!d->index)
		return;
	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	d->index = 0;
	pthread_cond_broadcast(&t->buried);
}

enum spm_forgot spm_itable_forget(struct spm_itable *t, uint64_t nodeid, uint64_t n, struct spm_dying *d,
				  const struct spm_book *b, enum spm_entry entry, uint32_t mark)
{
	enum spm_forgot rc = SPM_FORGOT_SOME;
	uint32_t idx = (uint32_t)nodeid;
	struct spm_inode *r;

	pthread_mutex_lock(&t->lock);
	r = spm_itable_get(t, nodeid);
	if (!r || idx == ROOT_INDEX) {
		if (b)
			b->ledger->entry[entry] = mark;
	} else if (r->nlookup > n) {
		change(t, r, SPM_COUNT_LOOKUP, r->nlookup - n, b, entry, mark);
	} else if (!d->index) {
		*d = (struct spm_dying){ .next = t->dying, .index = idx };
		t->dying = d;
		rc = SPM_FORGOT_LAST;
	} else {
		drop_record(t, idx, b, entry, mark);
		rc = SPM_FORGOT_ALL;
	}
	if (rc != SPM_FORGOT_LAST)
		bury(t, d);
	pthread_mutex_unlock(&t->lock);
	return rc;
}

void spm_itable_count(struct spm_itable *t, struct spm_inode *rec, enum spm_count which, int by, const struct spm_book *b,
		      enum spm_entry entry, uint32_t mark)
{
	uint32_t old = which == SPM_COUNT_PLAIN ? rec->open_plain : which == SPM_COUNT_SERVED ? rec->open_served :
		       rec->open_mirror;

	change(t, rec, which, by < 0 && old < (uint32_t)-by ? 0 : old + (uint32_t)by, b, entry, mark);
}

void spm_itable_each(struct spm_itable *t, void (*fn)(struct spm_inode *rec, void *arg), void *arg)
{
	pthread_mutex_lock(&t->lock);
	for (uint32_t i = 0; i <= t->index_mask; i++)
		if (t->index[i])
			fn(&t->records[t->index[i]], arg);
	pthread_mutex_unlock(&t->lock);
}

struct slice_count {
	uint16_t slice;
	uint32_t n;
};

static void count_slice(struct spm_inode *rec, void *arg)
{
	struct slice_count *c = arg;

	c->n += rec->slice == c->slice;
}

uint32_t spm_itable_count_slice(struct spm_itable *t, uint16_t slice)
{
	struct slice_count c = { .slice = slice };

	spm_itable_each(t, count_slice, &c);
	return c.n;
}

struct collection {
	struct spm_itable *t;
	bool (*want)(const struct spm_inode *rec, const void *arg);
	const void *arg;
	uint64_t *ids;
	size_t count, room;
	int rc;
};

static void collect(struct spm_inode *rec, void *arg)
{
	struct collection *c = arg;

	if (c->rc || !c->want(rec, c->arg))
		return;
	if (c->count == c->room) {
		size_t room = c->room ? c->room * 2 : 64;
		uint64_t *ids = realloc(c->ids, room * sizeof(*ids));

		if (!ids) {
			c->rc = -ENOMEM;
			return;
		}
		c->ids = ids;
		c->room = room;
	}
	c->ids[c->count++] = nodeid_of(c->t, (uint32_t)(rec - c->t->records));
}

int spm_itable_collect(struct spm_itable *t, bool (*want)(const struct spm_inode *rec, const void *arg), const void *arg,
		       uint64_t **ids, size_t *count)
{
	struct collection c = { .t = t, .want = want, .arg = arg };

	spm_itable_each(t, collect, &c);
	*ids = c.ids;
	*count = c.count;
	return c.rc;
}
