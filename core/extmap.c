/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/extmap-local.h"
#include "core/mix.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

/* -- checks -- */

static uint64_t mix_bytes(uint64_t x, const void *bytes, size_t len)
{
	const char *at = bytes;

	for (size_t done = 0; done < len; done += sizeof(x)) {
		uint64_t word = 0;

		memcpy(&word, at + done, len - done < sizeof(word) ? len - done : sizeof(word));
		x = spm_mix(x ^ word);
	}
	return x;
}

uint64_t spm_extmap_header_check(const struct spm_extmap_header *h)
{
	struct spm_extmap_header copy = *h;

	copy.check = 0;
	copy.setup.retired = 0;
	return mix_bytes(EXTMAP_MAGIC, &copy, sizeof(copy));
}

/* -- the file -- */

static bool sane(const struct spm_extmap_setup *s)
{
	return s->extent_bytes >= SPM_EXTENT_MIN && s->extent_bytes <= SPM_EXTENT_MAX &&
	       !(s->extent_bytes & (s->extent_bytes - 1)) && s->files >= 1 && s->files <= SPM_EXTMAP_FILES;
}

int spm_extmap_create(int fd, const struct spm_extmap_setup *setup)
{
	struct spm_extmap_header h = { .magic = EXTMAP_MAGIC, .version = SPM_EXTMAP_VERSION, .setup = *setup,
				       .heads = EXTMAP_HEADS, .middles = EXTMAP_MIDDLES, .larges = EXTMAP_LARGES };
	ssize_t n;

	if (!sane(setup))
		return -EINVAL;
	h.check = spm_extmap_header_check(&h);
	if (ftruncate(fd, (off_t)EXTMAP_BYTES))
		return -errno;
	n = pwrite(fd, &h, sizeof(h), 0);
	return n == sizeof(h) ? 0 : n < 0 ? -errno : -EIO;
}

static int map_all(struct spm_extmap *m)
{
	char *p = mmap(NULL, EXTMAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	m->bytes = EXTMAP_BYTES;
	/* one huge page would be more than all that most maps need */
	(void)madvise(p, EXTMAP_BYTES, MADV_NOHUGEPAGE);
	m->header = (struct spm_extmap_header *)p;
	m->setup = &m->header->setup;
	m->head = (struct spm_extfile *)(p + EXTMAP_HEADS_AT) - 1;
	m->times = (struct spm_exttimes *)(p + EXTMAP_TIMES_AT);
	m->heads = spm_extpool_new(p, EXTMAP_HEADS_AT, m->fd, sizeof(struct spm_extfile), EXTMAP_HEADS);
	m->middles = spm_extpool_new(p, EXTMAP_MIDDLES_AT, m->fd, EXTMAP_MIDDLE_BYTES, EXTMAP_MIDDLES);
	m->larges = spm_extpool_new(p, EXTMAP_LARGES_AT, m->fd, EXTMAP_LARGE_BYTES, EXTMAP_LARGES);
	m->leaves_of = spm_extmap_reserve(EXTMAP_HEADS * sizeof(void *));
	if (!m->heads || !m->middles || !m->larges || !m->leaves_of)
		return -ENOMEM;
	return spm_extindex_init(m);
}

/* The version of a map with its header whole; 0: it is none. */
static uint32_t version_of(int fd, struct spm_extmap_header *h)
{
	struct stat st;

	if (pread(fd, h, sizeof(*h), 0) != sizeof(*h) || fstat(fd, &st))
		return 0;
	/* in all versions so far these are the same */
	if (h->magic != EXTMAP_MAGIC || h->check != spm_extmap_header_check(h) || h->heads != EXTMAP_HEADS ||
	    h->middles != EXTMAP_MIDDLES || h->larges != EXTMAP_LARGES || !sane(&h->setup) ||
	    (uint64_t)st.st_size != EXTMAP_BYTES)
		return 0;
	return h->version;
}

int spm_extmap_setup_of(int fd, struct spm_extmap_setup *setup)
{
	struct spm_extmap_header h;
	uint32_t version = version_of(fd, &h);

	if (!version)
		return -EPROTO;
	if (version > SPM_EXTMAP_VERSION)
		return -EPROTONOSUPPORT;
	*setup = h.setup;
	return version < SPM_EXTMAP_VERSION;
}

int spm_extmap_attach(struct spm_extmap *m, int fd)
{
	struct spm_extmap_header h;
	int rc;

	memset(m, 0, sizeof(*m));
	m->fd = fd;
	pthread_mutex_init(&m->lock, NULL);
	rc = version_of(fd, &h) == SPM_EXTMAP_VERSION ? map_all(m) : -EPROTO;
	if (rc)
		spm_extmap_detach(m);
	return rc;
}

void spm_extmap_detach(struct spm_extmap *m)
{
	if (m->leaves_of) {
		for (uint32_t file = 0; m->chains;) {
			file = spm_extpool_next(m->heads, file + 1);
			spm_extleaves_drop(m, file);
		}
		munmap(m->leaves_of, EXTMAP_HEADS * sizeof(void *));
	}
	spm_extindex_destroy(m);
	spm_extpool_destroy(m->heads);
	spm_extpool_destroy(m->middles);
	spm_extpool_destroy(m->larges);
	if (m->header)
		munmap(m->header, m->bytes);
	pthread_mutex_destroy(&m->lock);
	memset(m, 0, sizeof(*m));
	m->fd = -1;
}

/* -- files -- */

uint32_t spm_extmap_find(struct spm_extmap *m, uint16_t slice, uint64_t ino)
{
	uint32_t file;

	pthread_mutex_lock(&m->lock);
	file = spm_extindex_find(m, slice, ino);
	pthread_mutex_unlock(&m->lock);
	return file;
}

uint32_t spm_extmap_next_file(struct spm_extmap *m, uint32_t from)
{
	uint32_t file;

	pthread_mutex_lock(&m->lock);
	file = spm_extpool_next(m->heads, from);
	while (file && !spm_extindex_has(m, file))
		file = spm_extpool_next(m->heads, file + 1);
	pthread_mutex_unlock(&m->lock);
	return file;
}

/* With the lock: a head for a file that has none. 0: no memory. */
static uint32_t make_head(struct spm_extmap *m, uint16_t slice, uint64_t ino, const struct spm_handle *h,
			  unsigned int flags)
{
	uint32_t file = spm_extpool_alloc(m->heads);
	struct spm_extfile *f = &m->head[file];

	if (!file)
		return 0;
	/* its check is 0: whoever looks at it after a crash finds it free */
	__atomic_store_n(&f->check, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&f->ino, 0, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	f->slice = slice;
	f->handle = *h;
	spm_flags_change(f, flags, ~flags);
	__atomic_store_n(&f->swapped, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&f->used, spm_extmap_clock(), __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < SPM_EXTFILE_INLINE; i++)
		spm_extent_set_how(&f->first[i], 0);
	if (spm_extindex_add(m, slice, ino, file)) {
		spm_extpool_free(m->heads, file);
		return 0;
	}
	__atomic_store_n(&f->ino, ino, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	__atomic_store_n(&f->check, spm_extmap_head_check(f), __ATOMIC_RELAXED);
	spm_extmap_barrier();
	if (m->heads_top < m->heads->top + 1)
		__atomic_store_n(&m->heads_top, m->heads->top + 1, __ATOMIC_RELAXED);
	return file;
}

uint32_t spm_extmap_intern(struct spm_extmap *m, uint16_t slice, uint64_t ino, const struct spm_handle *h,
			   unsigned int flags)
{
	uint32_t file;

	pthread_mutex_lock(&m->lock);
	file = spm_extindex_find(m, slice, ino);
	if (!file)
		file = make_head(m, slice, ino, h, flags);
	pthread_mutex_unlock(&m->lock);
	return file;
}

/* Times and leaf pointers of heads around this one, none of which is taken. */
static void give_back_group(struct spm_extmap *m, uint32_t file)
{
	uint32_t first = (file - 1) / EXTMAP_GROUP * EXTMAP_GROUP;

	(void)madvise(&m->leaves_of[first], EXTMAP_GROUP * sizeof(void *), MADV_DONTNEED);
	(void)madvise(&m->times[first], EXTMAP_GROUP * sizeof(m->times[0]), MADV_REMOVE);
}

void spm_extmap_forget(struct spm_extmap *m, uint32_t file)
{
	struct spm_extfile *f = &m->head[file];

	pthread_mutex_lock(&m->lock);
	spm_extleaves_free(m, file, true);
	if (spm_flag_is(f, SPM_EXTFILE_DATED)) {
		/* in this order: a file that says so relies on its times */
		spm_flag_clear(f, SPM_EXTFILE_FLAGS & ~(unsigned int)SPM_EXTFILE_DATED);
		spm_extmap_barrier();
		memset(&m->times[file - 1], 0, sizeof(m->times[0]));
	}
	spm_extindex_remove(m, f->slice, f->ino);
	spm_extmap_barrier();
	__atomic_store_n(&f->check, 0, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	__atomic_store_n(&f->ino, 0, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	spm_extpool_free(m->heads, file);
	if (spm_extpool_idle(m->heads, file))
		give_back_group(m, file);
	pthread_mutex_unlock(&m->lock);
}

struct spm_exttimes *spm_extmap_times(struct spm_extmap *m, uint32_t file)
{
	struct spm_extfile *f = &m->head[file];
	uint64_t at = EXTMAP_TIMES_AT + (uint64_t)(file - 1) * sizeof(struct spm_exttimes);

	if (!spm_flag_is(f, SPM_EXTFILE_DATED)) {
		if (spm_extmap_populate(m->fd, at, sizeof(struct spm_exttimes)))
			return NULL;
		spm_flag_set(f, SPM_EXTFILE_DATED);
		spm_extmap_barrier();
	}
	return &m->times[file - 1];
}

/* -- records -- */

struct spm_extent *spm_extmap_get(struct spm_extmap *m, uint32_t file, uint64_t extent, bool make)
{
	struct spm_extent *x;
	uint64_t n = extent - SPM_EXTFILE_INLINE;

	if (extent < SPM_EXTFILE_INLINE)
		return &m->head[file].first[extent];
	if (extent >= EXTMAP_EXTENTS)
		return NULL;
	pthread_mutex_lock(&m->lock);
	if (n < EXTMAP_MIDDLE_RECORDS) {
		x = spm_extleaves_middle(m, file, make);
	} else {
		n -= EXTMAP_MIDDLE_RECORDS;
		x = spm_extleaves_large(m, file, n / EXTMAP_LARGE_RECORDS, make);
		n %= EXTMAP_LARGE_RECORDS;
	}
	pthread_mutex_unlock(&m->lock);
	return x ? x + n : NULL;
}

void spm_extmap_change(struct spm_extmap *m, uint32_t file, uint64_t extent, struct spm_extent *x, uint32_t slot,
		       uint32_t check, uint16_t how)
{
	struct spm_extmap_change *c = spm_extmap_change_of(m), with_how;

	pthread_mutex_lock(&m->lock);
	*c = (struct spm_extmap_change){ .file = file, .slice = m->head[file].slice, .ino = m->head[file].ino,
					 .extent = extent, .slot = slot, .check = check };
	spm_extmap_barrier();
	with_how = *c;
	with_how.how = how;
	c->sum = spm_extmap_change_sum(&with_how);
	spm_extmap_barrier();
	__atomic_store_n(&c->how, how, __ATOMIC_RELAXED);
	spm_extmap_barrier();
	__atomic_store_n(&x->slot, slot, __ATOMIC_RELAXED);
	x->check = check;
	spm_extent_set_how(x, how);
	spm_extmap_change_end(c);
	pthread_mutex_unlock(&m->lock);
}

bool spm_extmap_leaf_around(struct spm_extmap *m, uint32_t file, uint64_t extent, uint64_t *first, uint64_t *end)
{
	uint64_t n = extent - EXTMAP_LARGE_FIRST;

	if (extent < SPM_EXTFILE_INLINE) {
		*first = 0;
		*end = SPM_EXTFILE_INLINE;
	} else if (extent < EXTMAP_LARGE_FIRST) {
		*first = SPM_EXTFILE_INLINE;
		*end = EXTMAP_LARGE_FIRST;
	} else {
		*first = extent - n % EXTMAP_LARGE_RECORDS;
		*end = *first + EXTMAP_LARGE_RECORDS;
	}
	return spm_extmap_get(m, file, extent, false);
}

void spm_extmap_tidy(struct spm_extmap *m, uint32_t file)
{
	pthread_mutex_lock(&m->lock);
	spm_extleaves_free(m, file, false);
	pthread_mutex_unlock(&m->lock);
}

/* What a walk stops at. */
enum wanted { WANT_SLOT, WANT_USE };

/* The first of @count records, from @from on, that says something; @count: none. */
static uint64_t search(const struct spm_extent *x, uint64_t from, uint32_t count, enum wanted what)
{
	while (from < count && !spm_extent_how(&x[from]) && (what == WANT_SLOT || !spm_extent_used(&x[from])))
		from++;
	return from;
}

/* The same in the large leaves, of extents counted from the first that is in one. The lock is held to find a
 * leaf, not while it is looked through: it stays where it is as long as the file is in use. */
static uint64_t next_large(struct spm_extmap *m, uint32_t file, uint64_t from, enum wanted what,
			   struct spm_extent **x)
{
	uint64_t first = from / EXTMAP_LARGE_RECORDS, group, n;
	struct spm_extent *at;

	for (group = first;; group++) {
		pthread_mutex_lock(&m->lock);
		at = spm_extleaves_next(m, file, &group);
		pthread_mutex_unlock(&m->lock);
		if (!at)
			return UINT64_MAX;
		n = search(at, group == first ? from % EXTMAP_LARGE_RECORDS : 0, EXTMAP_LARGE_RECORDS, what);
		if (n < EXTMAP_LARGE_RECORDS) {
			*x = &at[n];
			return EXTMAP_LARGE_FIRST + group * EXTMAP_LARGE_RECORDS + n;
		}
	}
}

static uint64_t next(struct spm_extmap *m, uint32_t file, uint64_t from, enum wanted what,
		     struct spm_extent **x)
{
	struct spm_extent *at = m->head[file].first;
	uint64_t n;

	n = search(at, from, SPM_EXTFILE_INLINE, what);
	if (n < SPM_EXTFILE_INLINE) {
		*x = &at[n];
		return n;
	}
	if (from < EXTMAP_LARGE_FIRST && (at = spm_extmap_get(m, file, SPM_EXTFILE_INLINE, false))) {
		n = from > SPM_EXTFILE_INLINE ? from - SPM_EXTFILE_INLINE : 0;
		n = search(at, n, EXTMAP_MIDDLE_RECORDS, what);
		if (n < EXTMAP_MIDDLE_RECORDS) {
			*x = &at[n];
			return SPM_EXTFILE_INLINE + n;
		}
	}
	return next_large(m, file, from > EXTMAP_LARGE_FIRST ? from - EXTMAP_LARGE_FIRST : 0, what, x);
}

static int walk(struct spm_extmap *m, uint32_t file, uint64_t from, enum wanted what,
		int (*fn)(void *arg, uint64_t extent, struct spm_extent *x), void *arg)
{
	struct spm_extent *x;
	int rc = 0;

	for (; !rc && (from = next(m, file, from, what, &x)) != UINT64_MAX; from++)
		rc = fn(arg, from, x);
	return rc;
}

uint64_t spm_extmap_next(struct spm_extmap *m, uint32_t file, uint64_t from, struct spm_extent **x)
{
	return next(m, file, from, WANT_SLOT, x);
}

int spm_extmap_each(struct spm_extmap *m, uint32_t file, uint64_t from,
		    int (*fn)(void *arg, uint64_t extent, struct spm_extent *x), void *arg)
{
	return walk(m, file, from, WANT_SLOT, fn, arg);
}

int spm_extmap_ages(struct spm_extmap *m, uint32_t file,
		    int (*fn)(void *arg, uint64_t extent, struct spm_extent *x), void *arg)
{
	return walk(m, file, 0, WANT_USE, fn, arg);
}

/* -- the rest -- */

uint64_t spm_extmap_bytes(struct spm_extmap *m)
{
	uint64_t bytes, pages;
	struct stat st;

	pthread_mutex_lock(&m->lock);
	bytes = spm_extpool_bytes(m->heads) + spm_extpool_bytes(m->middles) + spm_extpool_bytes(m->larges);
	/* leaves_of is touched where a file has leaves */
	pages = (m->heads->top + EXTMAP_GROUP - 1) / EXTMAP_GROUP;
	bytes += (pages < m->chains ? pages : m->chains) * EXTMAP_PAGE + m->chain_bytes;
	bytes += (m->index_mask + 1) * sizeof(*m->index);
	pthread_mutex_unlock(&m->lock);
	return fstat(m->fd, &st) ? bytes : bytes + (uint64_t)st.st_blocks * 512;
}

uint64_t spm_extmap_ticks(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 4 + (uint64_t)t.tv_nsec / 250000000;
}

uint16_t spm_extmap_clock(void)
{
	return (uint16_t)spm_extmap_ticks();
}
