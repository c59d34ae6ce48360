/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/swap_model.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define WORDS     (RIG_PAGE / 8)
#define PIECE     (UINT64_C(1) << 20)
#define HANG_MS   60000u
#define MIXED     UINT32_MAX
#define STEP      UINT64_C(0x9e3779b97f4a7c15) /* odd: no two words of a block are alike */

/* What one process has of it. */
struct run {
	struct model *m;
	struct rig *r;
	pthread_rwlock_t lock[MODEL_FILES]; /* what truncates changes what all others may expect */
	uint32_t file[MODEL_FILES];
};

struct user {
	struct run *run;
	uint32_t id;
	unsigned int seed;
	char *buf;
};

static struct model_block *block_of(struct model *m, uint32_t f, uint64_t block)
{
	return &m->block[(uint64_t)f * m->o.blocks + block];
}

struct model *model_new(const struct model_opts *o)
{
	size_t bytes = sizeof(struct model) + (size_t)o->files * o->blocks * sizeof(struct model_block);
	struct model *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED)
		rig_fail("%zu bytes: %m", bytes);
	m->o = *o;
	return m;
}

void model_free(struct model *m)
{
	munmap(m, sizeof(*m) + (size_t)m->o.files * m->o.blocks * sizeof(struct model_block));
}

static void name_of(uint32_t f, char name[16])
{
	snprintf(name, 16, "f%u", f);
}

/* -- content -- */

static uint64_t first_word(uint32_t f, uint64_t block, uint32_t version)
{
	return (uint64_t)f << 56 | block << 32 | version;
}

static void fill(void *buf, uint32_t f, uint64_t block, uint32_t version)
{
	uint64_t first = first_word(f, block, version), *w = buf;

	for (uint64_t i = 0; i < WORDS; i++)
		w[i] = version & 1 ? first + i * STEP : 0;
}

static bool is_zero(const uint64_t *w)
{
	for (unsigned int i = 0; i < WORDS; i++)
		if (w[i])
			return false;
	return true;
}

/* Of which version a word is; zeros are of 0. */
static uint32_t version_in(uint64_t word, uint64_t i)
{
	return word ? (uint32_t)(word - i * STEP) : 0;
}

static void complain(uint32_t f, uint64_t block, const uint64_t *w, uint32_t low, uint32_t high, const char *what)
{
	for (unsigned int i = 0, told = 0; i < WORDS && told < 16; i++) {
		uint64_t first = w[i] ? w[i] - i * STEP : 0, before = i && w[i - 1] ? w[i - 1] - (i - 1) * STEP : 0;

		if (i && first == before)
			continue;
		fprintf(stderr, "# from word %u on: file %llu block %llu version %llu\n", i, (unsigned long long)(first >> 56),
			(unsigned long long)(first >> 32 & 0xffffff), (unsigned long long)(uint32_t)first);
		told++;
	}
	rig_fail("%s: file %u block %llu: expected version %u to %u", what, f, (unsigned long long)block, low, high);
}

/* Whether a word is that of some version from @low to @high; zeros are. */
static bool is_word(uint32_t f, uint64_t block, uint64_t word, uint64_t i, uint32_t low, uint32_t high)
{
	uint32_t version = version_in(word, i);

	return !word || (version & 1 && version >= low && version <= high && word == first_word(f, block, version) + i * STEP);
}

/* memcpy may go by bytes, so where two versions meet a word may be of both. */
static bool is_seam(const uint64_t w[WORDS], uint64_t i, uint32_t f, uint64_t block)
{
	uint32_t left = i ? version_in(w[i - 1], i - 1) : 0, right = i + 1 < WORDS ? version_in(w[i + 1], i + 1) : 0;
	uint64_t a = left ? first_word(f, block, left) + i * STEP : 0, b = right ? first_word(f, block, right) + i * STEP : 0;

	for (unsigned int at = 0; at < 64; at += 8) {
		uint8_t byte = (uint8_t)(w[i] >> at);

		if (byte != (uint8_t)(a >> at) && byte != (uint8_t)(b >> at))
			return false;
	}
	return true;
}

/*
 * The version that a block has; any between @low and @high is right. Zeros: @low or @high, if one of them is even. While it is
 * written it may be MIXED.
 */
static uint32_t check(uint32_t f, uint64_t block, const void *data, uint32_t low, uint32_t high, const char *what)
{
	uint64_t w[WORDS];
	bool same = true;

	memcpy(w, data, sizeof(w)); /* from a read at any offset */
	if (is_zero(w)) {
		if (low & 1 && low == high)
			complain(f, block, w, low, high, what);
		return high & 1 ? low & ~1u : high;
	}
	for (uint64_t i = 0; i < WORDS; i++) {
		if (!is_word(f, block, w[i], i, low, high) && (low == high || !is_seam(w, i, f, block)))
			complain(f, block, w, low, high, what);
		same = same && w[i] == w[0] + i * STEP;
	}
	if (!same && low == high)
		complain(f, block, w, low, high, what);
	return same ? (uint32_t)w[0] : MIXED;
}

/* The oldest version that it may show. */
static uint32_t oldest(const struct model_block *x)
{
	uint32_t torn = atomic_load(&x->torn);

	return torn ? torn : atomic_load(&x->acked);
}

static uint32_t next_version(struct model *m, bool data)
{
	return (atomic_fetch_add(&m->version, 1) + 1) * 2 + data;
}

static void begin(struct model *m, uint32_t f, uint64_t from, uint64_t to, uint32_t version)
{
	for (uint64_t b = from; b < to; b++)
		atomic_store(&block_of(m, f, b)->pending, version);
}

/* Blocks up to @done have the new version. */
static void end(struct model *m, uint32_t f, uint64_t from, uint64_t done, uint64_t to)
{
	for (uint64_t b = from; b < to; b++) {
		struct model_block *x = block_of(m, f, b);

		if (b >= done) {
			atomic_store(&x->pending, atomic_load(&x->acked));
			continue;
		}
		atomic_store(&x->acked, atomic_load(&x->pending));
		atomic_store(&x->torn, 0);
	}
}

/* -- what users do -- */

static uint32_t dice(struct user *u, uint32_t sides)
{
	return (uint32_t)rand_r(&u->seed) % sides;
}

/* Blocks that a user alone writes to: in some files small pieces, several per extent; in others several extents. */
static bool own_range(struct user *u, uint32_t f, uint64_t *from, uint64_t *to)
{
	const struct model *m = u->run->m;
	uint32_t extent = u->run->r->o.extent / RIG_PAGE;
	uint32_t chunk = f % 2 ? (extent > 64 ? extent : 3 * extent) + 5 : 8;
	uint32_t chunks = m->o.blocks / chunk, k = dice(u, chunks);

	k = k - (k + f) % m->o.threads + u->id;
	if (k >= chunks)
		return false;
	*from = (uint64_t)k * chunk;
	*to = *from + chunk;
	switch (dice(u, 4)) {
	case 0: /* all of it */
		break;
	case 1:
		*from += dice(u, chunk);
		*to -= dice(u, (uint32_t)(*to - *from));
		break;
	default:
		*from += dice(u, chunk);
		*to = *from + 1;
	}
	return true;
}

static int open_file(struct user *u, uint32_t f)
{
	char name[16];

	name_of(f, name);
	return rig_fd(u->run->r, name);
}

static void no_space(struct user *u, ssize_t rc, const char *what)
{
	if (rc != -ENOSPC)
		rig_fail("%s: %s", what, strerror((int)-rc));
	atomic_fetch_add(&u->run->m->nospace, 1);
}

static void do_write(struct user *u, uint32_t f, int fd)
{
	struct model *m = u->run->m;
	uint32_t version = next_version(m, true);
	uint64_t from, to;
	ssize_t n;

	if (!own_range(u, f, &from, &to))
		return;
	for (uint64_t b = from; b < to; b++)
		fill(u->buf + (b - from) * RIG_PAGE, f, b, version);
	begin(m, f, from, to, version);
	n = rig_write(u->run->r, u->run->file[f], fd, u->buf, (to - from) * RIG_PAGE, from * RIG_PAGE);
	if (n < 0)
		no_space(u, n, "write");
	end(m, f, from, from + (n > 0 ? (uint64_t)n / RIG_PAGE : 0), to);
	atomic_fetch_add(&m->bytes, n > 0 ? (uint64_t)n : 0);
}

static void do_punch(struct user *u, uint32_t f, int fd)
{
	struct model *m = u->run->m;
	uint64_t from, to;
	int rc;

	if (!own_range(u, f, &from, &to))
		return;
	begin(m, f, from, to, next_version(m, false));
	rc = rig_punch(u->run->r, u->run->file[f], fd, from * RIG_PAGE, to * RIG_PAGE);
	if (rc)
		no_space(u, rc, "punch");
	end(m, f, from, rc ? from : to, to);
}

/* With the file for itself, or @loose: only foreign and impossible content is told. */
static void do_read(struct user *u, uint32_t f, int fd, bool loose)
{
	struct model *m = u->run->m;
	uint64_t max = (uint64_t)m->o.blocks * RIG_PAGE, off = (uint64_t)dice(u, m->o.blocks) * RIG_PAGE + dice(u, 2) * dice(u, RIG_PAGE);
	size_t size = dice(u, 3) ? 1 + dice(u, 3 * RIG_PAGE) : 1 + dice(u, PIECE);
	uint32_t low[PIECE / RIG_PAGE + 2];
	uint64_t first = off / RIG_PAGE, last;
	ssize_t n;

	if (off + size > max)
		size = max - off;
	last = (off + size - 1) / RIG_PAGE;
	for (uint64_t b = first; b <= last; b++)
		low[b - first] = oldest(block_of(m, f, b));
	memset(u->buf, 0, size);
	n = rig_read(u->run->r, u->run->file[f], fd, u->buf, size, off, NULL);
	if (n < 0)
		rig_fail("read: file %u: %s", f, strerror((int)-n));
	for (uint64_t b = first; b <= last; b++) {
		uint32_t high = atomic_load(&block_of(m, f, b)->pending), was = atomic_load(&block_of(m, f, b)->acked);

		high = high > was ? high : was;
		if (b * RIG_PAGE >= off && (b + 1) * RIG_PAGE <= off + size)
			(void)check(f, b, u->buf + (b * RIG_PAGE - off), loose ? 0 : low[b - first], loose ? UINT32_MAX : high,
				    "read");
	}
}

static void do_truncate(struct user *u, uint32_t f, int fd)
{
	struct model *m = u->run->m;
	uint64_t size = dice(u, m->o.blocks + 1);
	int rc;

	begin(m, f, size, m->o.blocks, next_version(m, false));
	rc = rig_truncate(u->run->r, u->run->file[f], fd, size * RIG_PAGE);
	if (rc)
		no_space(u, rc, "truncate");
	end(m, f, size, rc ? size : m->o.blocks, m->o.blocks);
}

static void do_evict(struct user *u, uint32_t f)
{
	struct spm_swap *s = u->run->r->s;
	uint64_t from = (uint64_t)dice(u, u->run->m->o.blocks) * RIG_PAGE;
	int64_t n = spm_swap_evict(s, u->run->file[f], from, dice(u, 2) ? UINT64_MAX : from + dice(u, 16 * RIG_PAGE));

	if (n < 0 && n != -EBUSY)
		no_space(u, n, "evict");
}

static void do_load(struct user *u, uint32_t f)
{
	int rc = rig_load(u->run->r, u->run->file[f]);

	if (rc)
		no_space(u, rc, "load");
}

/* Reads what the mapping has, and writes to blocks of its own that have memory; nothing of it may be taken away meanwhile. */
static void use_mapping(struct user *u, uint32_t f, char *map, uint64_t blocks)
{
	struct model *m = u->run->m;

	for (unsigned int round = 0; round < 20; round++) {
		uint64_t from, to;

		if (!own_range(u, f, &from, &to))
			continue;
		for (uint64_t b = from; b < to && b < blocks; b++) {
			uint32_t version = atomic_load(&block_of(m, f, b)->acked);

			if (!(version & 1))
				continue;
			(void)check(f, b, map + b * RIG_PAGE, oldest(block_of(m, f, b)), version, "mapping");
			if (round % 2)
				continue;
			version = next_version(m, true);
			begin(m, f, b, b + 1, version);
			fill(map + b * RIG_PAGE, f, b, version);
			end(m, f, b, b + 1, b + 1);
		}
	}
}

static void do_direct(struct user *u, uint32_t f, int fd)
{
	struct spm_swap *s = u->run->r->s;
	struct spm_pin pin;
	struct stat st;
	char *map;
	int rc = spm_swap_pin(s, u->run->file[f], 0, UINT64_MAX, SPM_PIN_FILE, &pin);

	if (!rc)
		rc = spm_swap_load(&pin, 0, UINT64_MAX);
	if (rc) {
		spm_swap_unpin(&pin);
		no_space(u, rc, "load");
		return;
	}
	if (fstat(fd, &st))
		rig_fail("fstat: %m");
	pthread_mutex_t *lock = rig_inode(u->run->r, st.st_ino);

	pthread_mutex_lock(lock);
	rc = spm_swap_direct(&pin);
	pthread_mutex_unlock(lock);
	spm_swap_unpin(&pin);
	if (rc)
		rig_fail("direct: %s", strerror(-rc));
	map = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (map == MAP_FAILED)
		return;
	use_mapping(u, f, map, (uint64_t)st.st_size / RIG_PAGE);
	munmap(map, (size_t)st.st_size);
}

static void do_look(struct user *u, uint32_t f, int fd)
{
	struct stat st;
	off_t at = spm_swap_seek(u->run->r->s, u->run->file[f], fd, (off_t)dice(u, u->run->m->o.blocks) * RIG_PAGE,
				 dice(u, 2) ? SEEK_DATA : SEEK_HOLE);

	if (at < 0 && at != -ENXIO)
		rig_fail("seek: %s", strerror((int)-at));
	if (spm_swap_stat(u->run->r->s, u->run->file[f], fd, &st) < 0)
		rig_fail("stat");
}

enum { WRITE, PUNCH, READ, LOOSE, TRUNCATE, EVICT, LOAD, DIRECT, LOOK, COMPACT };
static const char *const names[] = { "write", "punch", "read", "read loosely", "truncate", "evict", "load", "direct", "look",
				     "compact" };

static unsigned int choose(struct user *u)
{
	/* in thousandths, up to and including */
	static const unsigned int share[] = { 380, 430, 760, 850, 857, 920, 940, 960, 998, 999 };
	unsigned int n = dice(u, 1000), what = 0;

	while (share[what] < n)
		what++;
	if (what == DIRECT && !u->run->m->o.direct)
		what = READ;
	return what;
}

static void one_op(struct user *u)
{
	struct model *m = u->run->m;
	uint32_t f = dice(u, m->o.files);
	unsigned int what = choose(u);
	bool locked = what <= READ || what == TRUNCATE || what == DIRECT, opens = locked || what == LOOSE || what == LOOK;
	int fd = opens ? open_file(u, f) : -1;

	atomic_store(&m->doing[u->id], names[what]);
	if (locked && what == TRUNCATE)
		pthread_rwlock_wrlock(&u->run->lock[f]);
	else if (locked)
		pthread_rwlock_rdlock(&u->run->lock[f]);
	switch (what) {
	case WRITE:
		do_write(u, f, fd);
		break;
	case PUNCH:
		do_punch(u, f, fd);
		break;
	case READ:
	case LOOSE:
		do_read(u, f, fd, what == LOOSE);
		break;
	case TRUNCATE:
		do_truncate(u, f, fd);
		break;
	case EVICT:
		do_evict(u, f);
		break;
	case LOAD:
		do_load(u, f);
		break;
	case DIRECT:
		do_direct(u, f, fd);
		break;
	case LOOK:
		do_look(u, f, fd);
		break;
	default:
		(void)!spm_swap_compact(u->run->r->s);
		if (u->run->r->pool)
			(void)!spm_pool_compact(u->run->r->pool, &(struct spm_pool_compact){ .bps = 0 });
	}
	if (locked)
		pthread_rwlock_unlock(&u->run->lock[f]);
	spm_cleanup_close(&fd);
	atomic_fetch_add(&m->ops, 1);
	atomic_fetch_add(&m->done[u->id], 1);
}

static void *use(void *arg)
{
	struct user *u = arg;

	while (!atomic_load(&u->run->m->stop))
		one_op(u);
	return NULL;
}

/* -- all of it -- */

static void run_init(struct run *run, struct model *m, struct rig *r)
{
	char name[16];

	run->m = m;
	run->r = r;
	for (uint32_t f = 0; f < m->o.files; f++) {
		pthread_rwlock_init(&run->lock[f], NULL);
		name_of(f, name);
		run->file[f] = rig_file(r, name, false, NULL);
	}
}

static void tell_hang(struct model *m)
{
	for (uint32_t t = 0; t < m->o.threads; t++)
		fprintf(stderr, "# thread %u: %s, after %llu requests\n", t, atomic_load(&m->doing[t]),
			(unsigned long long)atomic_load(&m->done[t]));
	if (getenv("SPM_TEST_HOLD")) {
		fprintf(stderr, "# process %d waits for a debugger\n", (int)getpid());
		pause();
	}
	rig_fail("the threads hang");
}

static bool came_on(struct model *m, uint64_t seen[MODEL_THREADS])
{
	bool all = true;

	for (uint32_t t = 0; t < m->o.threads; t++) {
		all = all && seen[t] != atomic_load(&m->done[t]);
		seen[t] = atomic_load(&m->done[t]);
	}
	return all;
}

static unsigned int now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned int)(t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

void model_run(struct model *m, struct rig *r, unsigned int ms)
{
	static const struct timespec tick = { .tv_nsec = 10000000 };
	unsigned int from = now_ms(), looked = from;
	uint64_t seen[MODEL_THREADS] = { 0 };
	struct run run;
	struct user u[MODEL_THREADS];
	pthread_t thread[MODEL_THREADS];

	run_init(&run, m, r);
	atomic_store(&m->stop, false);
	for (uint32_t t = 0; t < m->o.threads; t++) {
		u[t] = (struct user){ .run = &run, .id = t, .seed = m->o.seed * 131 + t, .buf = rig_pages(8 << 20) };
		atomic_store(&m->doing[t], "nothing yet");
		if (pthread_create(&thread[t], NULL, use, &u[t]))
			rig_fail("no thread");
	}
	while (now_ms() - from < ms) {
		nanosleep(&tick, NULL);
		if (now_ms() - looked < HANG_MS)
			continue;
		if (!came_on(m, seen))
			tell_hang(m);
		looked = now_ms();
	}
	atomic_store(&m->stop, true);
	for (uint32_t t = 0; t < m->o.threads; t++) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += HANG_MS / 1000;
		if (pthread_timedjoin_np(thread[t], NULL, &until))
			tell_hang(m);
		munmap(u[t].buf, 8 << 20);
	}
}

static void verify_block(struct model *m, uint32_t f, uint64_t b, const void *data)
{
	struct model_block *x = block_of(m, f, b);
	uint32_t acked = atomic_load(&x->acked), pending = atomic_load(&x->pending), old = oldest(x), found;
	uint32_t low = old < pending ? old : pending, high = acked < pending ? pending : acked;

	found = check(f, b, data, low, high, "at the end");
	if (found != acked && found != pending && found != MIXED)
		complain(f, b, data, acked, pending, "at the end");
	atomic_store(&x->torn, found != MIXED ? 0 : low ? low : 1);
	atomic_store(&x->acked, found == MIXED ? high : found);
	atomic_store(&x->pending, found == MIXED ? high : found);
}

void model_verify(struct model *m, struct rig *r)
{
	char *buf = rig_pages(PIECE);
	struct run run;
	char name[16];

	run_init(&run, m, r);
	for (uint32_t f = 0; f < m->o.files; f++) {
		int fd;

		name_of(f, name);
		fd = rig_fd(r, name);
		for (uint64_t at = 0, size = (uint64_t)m->o.blocks * RIG_PAGE; at < size; at += PIECE) {
			ssize_t n;

			memset(buf, 0, PIECE);
			n = rig_read(r, run.file[f], fd, buf, PIECE, at, NULL);
			if (n < 0)
				rig_fail("file %u cannot be read at %llu: %s", f, (unsigned long long)at, strerror((int)-n));
			for (uint64_t b = at / RIG_PAGE; b < (at + PIECE) / RIG_PAGE && b < m->o.blocks; b++)
				verify_block(m, f, b, buf + (b * RIG_PAGE - at));
		}
		close(fd);
	}
	munmap(buf, PIECE);
}

struct sum {
	uint64_t blocks;
	uint32_t pages;
};

static int add_up(void *arg, uint64_t extent, struct spm_extent *x)
{
	struct sum *sum = arg;

	if (SPM_HOW_STATE_OF(spm_extent_how(x)) != SPM_EXTENT_SWAPPED)
		rig_fail("extent %llu is left in state %d", (unsigned long long)extent, (int)SPM_HOW_STATE_OF(spm_extent_how(x)));
	if (!spm_extent_ok(x))
		rig_fail("extent %llu has a record that is damaged", (unsigned long long)extent);
	sum->blocks += spm_extent_blocks(x);
	sum->pages += spm_extent_pages(x);
	return 0;
}

void model_audit(struct rig *r)
{
	struct spm_extmap *map = &r->s->map;
	struct sum all = { 0, 0 };

	for (uint32_t file = 0; (file = spm_extmap_next_file(map, file + 1));) {
		struct sum one = { 0, 0 };

		(void)spm_extmap_each(map, file, 0, add_up, &one);
		if (one.pages != map->head[file].swapped)
			rig_fail("file %u counts %u pages, and has %u", file, map->head[file].swapped, one.pages);
		all.blocks += one.blocks;
	}
	if (all.blocks * SPM_SLOT_BLOCK != rig_slots_used(r))
		rig_fail("%llu bytes of slots are taken, and records name %llu", (unsigned long long)rig_slots_used(r),
			 (unsigned long long)all.blocks * SPM_SLOT_BLOCK);
	for (unsigned int i = 0; i < SPM_BUCKETS; i++)
		if (r->s->bucket[i].first)
			rig_fail("file %u is still in use", r->s->bucket[i].first->file);
}

void model_remove(struct model *m, struct rig *r)
{
	struct spm_pool_stats st;
	char name[16];

	for (uint32_t f = 0; f < m->o.files; f++) {
		name_of(f, name);
		rig_remove(r, name);
		for (uint64_t b = 0; b < m->o.blocks; b++) {
			atomic_store(&block_of(m, f, b)->acked, 0);
			atomic_store(&block_of(m, f, b)->pending, 0);
			atomic_store(&block_of(m, f, b)->torn, 0);
		}
	}
	if (rig_slots_used(r))
		rig_fail("%llu bytes of slots are left", (unsigned long long)rig_slots_used(r));
	if (r->pool) {
		spm_pool_stats(r->pool, &st, false);
		if (st.used_bytes || st.damaged)
			rig_fail("%llu bytes of the pool are left", (unsigned long long)st.used_bytes);
	}
}
