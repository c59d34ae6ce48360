/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random requests on a pool against plain arrays, by several threads, with zeroing and compaction beside
 * them; and the same in processes that die at a random store or at a random instant. The arrays are in shared
 * memory: a successor knows what had been acknowledged, and what was under way.
 */
#include "tests/unit/pool.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define EXTENT  (64 * KIB)
#define DEVICE  (96 * EXTENT + 5000)
#define FILES   8u
#define EXTENTS 24u
#define BYTES   (EXTENTS * EXTENT)
#define THREADS 3u

enum what { WRITE, PUNCH, ZERO, COMMIT, TRUNCATE, REMOVE, COPY, SWAP, LOOK, WHATS };

struct one {
	uint8_t data[BYTES];
	bool has[EXTENTS];
	_Atomic uint64_t size; /* as the region would know it */
	/* under way: bytes of [from, to) may be old or new */
	bool at_it;
	enum what what;
	uint64_t from, to, seed;
};

struct model {
	struct one file[FILES];
	_Atomic uint64_t ops, made, full;
	_Atomic bool stop;
};

struct runner {
	struct model *m;
	struct spm_pool *p;
	unsigned int t, seed;
};

static uint64_t dice(struct runner *r, uint64_t n)
{
	return ((uint64_t)(unsigned int)rand_r(&r->seed) << 16 ^ (unsigned int)rand_r(&r->seed)) % n;
}

static uint8_t byte_of(uint64_t seed, uint64_t at)
{
	return (uint8_t)((spm_mix(seed) >> at % 8 * 8) + at / 4096) | 1;
}

static struct spm_pool_file name_of(unsigned int i)
{
	return (struct spm_pool_file){ .ino = 100 + i, .slice = (uint16_t)(i % 3) };
}

/* Whether what a repeated request would do is done as well: those are not told of in @at_it. */
static void begin(struct one *f, enum what what, uint64_t from, uint64_t to, uint64_t seed)
{
	f->what = what;
	f->from = from;
	f->to = to;
	f->seed = seed;
	spm_pool_barrier();
	f->at_it = true;
	spm_pool_barrier();
}

static void done(struct one *f)
{
	spm_pool_barrier();
	f->at_it = false;
}

static void read_all(struct runner *r, unsigned int i, const uint8_t *want)
{
	static __thread uint8_t got[BYTES];
	struct spm_pool_file n = name_of(i);
	struct spm_pool_held h;

	spm_pool_lock(r->p, &n, SPM_POOL_SHARED, &h);
	must(spm_pool_read(r->p, &n, got, BYTES, 0) == (ssize_t)BYTES);
	spm_pool_unlock(&h);
	must(!memcmp(got, want, BYTES));
}

static void look(struct runner *r, unsigned int i)
{
	struct one *f = &r->m->file[i];
	struct spm_pool_file n = name_of(i);
	uint64_t off = dice(r, BYTES), e, count = 0;
	struct spm_pool_held h;
	off_t data, hole;

	read_all(r, i, f->data);
	spm_pool_lock(r->p, &n, SPM_POOL_SHARED, &h);
	data = spm_pool_seek(r->p, &n, (off_t)off, SEEK_DATA, BYTES);
	hole = spm_pool_seek(r->p, &n, (off_t)off, SEEK_HOLE, BYTES);
	spm_pool_unlock(&h);
	for (e = off / EXTENT; e < EXTENTS && !f->has[e]; e++)
		;
	must(data == (e == EXTENTS ? -ENXIO : (off_t)(e * EXTENT > off ? e * EXTENT : off)));
	for (e = off / EXTENT; e < EXTENTS && f->has[e]; e++)
		;
	must(hole == (off_t)(e * EXTENT > off ? e * EXTENT : off));
	for (e = 0; e < EXTENTS; e++)
		count += f->has[e];
	must(spm_pool_file_bytes(r->p, &n) == count * EXTENT);
}

static void do_write(struct runner *r, unsigned int i, uint64_t from, uint64_t to)
{
	static __thread uint8_t buf[BYTES];
	struct one *f = &r->m->file[i];
	struct spm_pool_file n = name_of(i);
	uint64_t seed = dice(r, UINT32_MAX);
	struct spm_pool_held h;
	ssize_t done_bytes;

	for (uint64_t at = from; at < to; at++)
		buf[at] = byte_of(seed, at);
	begin(f, WRITE, from, to, seed);
	if (atomic_load(&f->size) < to)
		atomic_store(&f->size, to);
	spm_pool_lock(r->p, &n, SPM_POOL_SHARED, &h);
	done_bytes = spm_pool_write(r->p, &n, buf + from, to - from, from);
	spm_pool_unlock(&h);
	if (done_bytes < (ssize_t)(to - from)) {
		must(done_bytes >= 0 || done_bytes == -ENOSPC);
		atomic_fetch_add(&r->m->full, 1);
		done_bytes = done_bytes < 0 ? 0 : done_bytes;
	}
	memcpy(f->data + from, buf + from, (size_t)done_bytes);
	for (uint64_t at = from; at < from + (uint64_t)done_bytes; at += EXTENT - at % EXTENT)
		f->has[at / EXTENT] = true;
	done(f);
}

static void gone(struct one *f, uint64_t from, uint64_t to)
{
	memset(f->data + from, 0, to - from);
	for (uint64_t e = (from + EXTENT - 1) / EXTENT; e < to / EXTENT; e++)
		f->has[e] = false;
}

static void do_less(struct runner *r, unsigned int i, enum what what, uint64_t from, uint64_t to)
{
	struct spm_handle handle = { .type = 1, .len = 1, .bytes = { (uint8_t)i } };
	struct one *f = &r->m->file[i];
	struct spm_pool_file n = name_of(i);
	struct spm_pool_held h;
	int note;

	if (what == TRUNCATE || what == REMOVE)
		to = BYTES;
	if (what == REMOVE)
		from = 0;
	begin(f, what, from, to, 0);
	spm_pool_lock(r->p, &n, SPM_POOL_EXCLUSIVE, &h);
	if (what == TRUNCATE) {
		note = spm_pool_trim_begin(r->p, &n, &handle);
		atomic_store(&f->size, from);
		must(!spm_pool_punch(r->p, &n, from, UINT64_MAX));
		spm_pool_trim_end(r->p, note);
	} else if (what == REMOVE) {
		spm_pool_remove(r->p, &n);
		atomic_store(&f->size, 0);
	} else {
		must(!(what == PUNCH ? spm_pool_punch(r->p, &n, from, to) : spm_pool_zero(r->p, &n, from, to)));
	}
	spm_pool_unlock(&h);
	if (what == ZERO)
		memset(f->data + from, 0, to - from);
	else
		gone(f, from, to);
	done(f);
}

static void do_commit(struct runner *r, unsigned int i, uint64_t from, uint64_t to)
{
	struct one *f = &r->m->file[i];
	struct spm_pool_file n = name_of(i);
	int rc;

	begin(f, COMMIT, from, to, 0);
	if (atomic_load(&f->size) < to)
		atomic_store(&f->size, to);
	rc = spm_pool_commit(r->p, &n, from, to, NULL, NULL);
	must(!rc || rc == -ENOSPC);
	for (uint64_t e = from / EXTENT; !rc && e * EXTENT < to; e++)
		f->has[e] = true;
	done(f);
}

/* From another file, or another place of the same one, of this thread. */
static void do_copy(struct runner *r, unsigned int i)
{
	unsigned int j = r->t + THREADS * (unsigned int)dice(r, (FILES - r->t + THREADS - 1) / THREADS);
	uint64_t n = 1 + dice(r, BYTES / 3), from = dice(r, BYTES / 2 - n), to = BYTES / 2 + dice(r, BYTES / 2 - n);
	struct spm_pool_file names[2] = { name_of(j), name_of(i) };
	const enum spm_pool_how how[2] = { SPM_POOL_SHARED, SPM_POOL_SHARED };
	struct one *f = &r->m->file[i], *g = &r->m->file[j];
	struct spm_pool_held h;
	ssize_t got;

	begin(f, COPY, to, to + n, ((uint64_t)j << 32 | from) + 1);
	if (atomic_load(&f->size) < to + n)
		atomic_store(&f->size, to + n);
	spm_pool_lock_two(r->p, names, how, &h);
	got = spm_pool_copy(r->p, &names[0], from, &names[1], to, n);
	spm_pool_unlock(&h);
	must(got == (ssize_t)n || got >= 0 || got == -ENOSPC);
	for (uint64_t at = 0; got > 0 && at < (uint64_t)got; at++) {
		f->data[to + at] = g->data[from + at];
		if (g->has[(from + at) / EXTENT])
			f->has[(to + at) / EXTENT] = true;
	}
	done(f);
}

/* An extent goes to where a slot would be, and comes back. */
static void do_swap(struct runner *r, unsigned int i, uint64_t e)
{
	static __thread uint8_t slot[EXTENT];
	struct one *f = &r->m->file[i];
	struct spm_pool_file n = name_of(i);
	struct spm_pool_held h;
	void *at;
	uint32_t d;
	int rc;

	spm_pool_lock(r->p, &n, SPM_POOL_SHARED, &h);
	rc = spm_pool_map_extent(r->p, &n, e, &at);
	spm_pool_unlock(&h);
	must(rc == (f->has[e] ? 0 : -ENOENT));
	if (rc)
		return;
	memcpy(slot, at, EXTENT);
	must(!memcmp(slot, f->data + e * EXTENT, EXTENT));
	begin(f, PUNCH, e * EXTENT, (e + 1) * EXTENT, 0);
	must(!spm_pool_unmap_extent(r->p, &n, e, true));
	gone(f, e * EXTENT, (e + 1) * EXTENT);
	done(f);
	if (spm_pool_take(r->p, n.slice, &d, &at))
		return;
	memcpy(at, slot, EXTENT);
	if (dice(r, 4) == 0) {
		spm_pool_untake(r->p, n.slice, d);
		return;
	}
	begin(f, SWAP, e * EXTENT, (e + 1) * EXTENT, 0);
	must(!spm_pool_give(r->p, &n, e, d));
	memcpy(f->data + e * EXTENT, slot, EXTENT);
	f->has[e] = true;
	done(f);
}

static void step(struct runner *r)
{
	unsigned int i = r->t + THREADS * (unsigned int)dice(r, (FILES - r->t + THREADS - 1) / THREADS);
	uint64_t n = dice(r, 4) ? 1 + dice(r, 2 * EXTENT) : 1 + dice(r, BYTES / 2), from = dice(r, BYTES - n);
	enum what what = (enum what)dice(r, WHATS + 3);

	atomic_fetch_add(&r->m->ops, 1);
	switch (what) {
	case PUNCH:
	case ZERO:
	case TRUNCATE:
		do_less(r, i, what, from, from + n);
		break;
	case REMOVE:
		if (dice(r, 4) == 0)
			do_less(r, i, what, 0, BYTES);
		break;
	case COMMIT:
		do_commit(r, i, from, from + n);
		break;
	case COPY:
		do_copy(r, i);
		break;
	case SWAP:
		do_swap(r, i, from / EXTENT);
		break;
	case LOOK:
		look(r, i);
		break;
	default:
		do_write(r, i, from, from + n);
	}
}

static bool stopped(void *arg)
{
	struct runner *r = arg;

	return atomic_load(&r->m->stop);
}

static void *compactor(void *arg)
{
	struct runner *r = arg;
	struct spm_pool_compact c = { .cancel = stopped, .arg = r };

	while (!atomic_load(&r->m->stop)) {
		int rc = spm_pool_compact(r->p, &c);

		must(!rc || rc == -ECANCELED);
		sched_yield();
	}
	return NULL;
}

static void *run(void *arg)
{
	struct runner *r = arg;

	while (!atomic_load(&r->m->stop))
		step(r);
	return NULL;
}

static struct model *new_model(void)
{
	struct model *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(m != MAP_FAILED);
	return m;
}

/* The threads of one process; returns when somebody stops them. */
static void run_all(struct model *m, struct spm_pool *p, unsigned int seed, uint64_t ops)
{
	struct runner r[THREADS + 1];
	pthread_t id[THREADS + 1];
	uint64_t until = atomic_load(&m->ops) + ops;

	must(!spm_pool_start(p));
	for (unsigned int t = 0; t <= THREADS; t++) {
		r[t] = (struct runner){ .m = m, .p = p, .t = t, .seed = seed * 16 + t };
		must(!pthread_create(&id[t], NULL, t < THREADS ? run : compactor, &r[t]));
	}
	while (atomic_load(&m->ops) < until)
		usleep(1000);
	atomic_store(&m->stop, true);
	for (unsigned int t = 0; t <= THREADS; t++)
		pthread_join(id[t], NULL);
	spm_pool_stop(p);
	atomic_store(&m->stop, false);
}

/* -- after a death -- */

static bool may_be(const struct model *m, const struct one *f, uint64_t at, uint8_t got)
{
	if (got == f->data[at])
		return true;
	if (!f->at_it || at < f->from || at >= f->to)
		return false;
	switch (f->what) {
	case WRITE:
		return got == byte_of(f->seed, at) || !got; /* zeros: the extent was made, and not written yet */
	case COPY:
		return got == m->file[(f->seed - 1) >> 32].data[((f->seed - 1) & UINT32_MAX) + at - f->from] || !got;
	case SWAP:
		return true;
	default:
		return !got;
	}
}

/* Looks whether a file is what it may be, and takes over what it is. */
static void check_file(struct model *m, struct spm_pool *p, unsigned int i)
{
	static uint8_t got[BYTES];
	struct one *f = &m->file[i];
	struct spm_pool_file n = name_of(i);
	uint32_t d;

	must(spm_pool_read(p, &n, got, BYTES, 0) == (ssize_t)BYTES);
	for (uint64_t at = 0; at < BYTES; at++)
		must(may_be(m, f, at, got[at]));
	for (uint64_t at = atomic_load(&f->size); at < BYTES; at++)
		must(!got[at]);
	for (uint64_t e = 0; e < EXTENTS; e++) {
		bool has = !spm_pool_find(p, spm_pool_whose(&n), e, &d);

		must(has == f->has[e] || (f->at_it && (e + 1) * EXTENT > f->from && e * EXTENT < f->to));
		f->has[e] = has;
	}
	if (f->at_it && f->what == REMOVE && !spm_pool_file_bytes(p, &n))
		atomic_store(&f->size, 0);
}

static void take_over_file(struct model *m, struct spm_pool *p, unsigned int i)
{
	struct spm_pool_file n = name_of(i);

	must(spm_pool_read(p, &n, m->file[i].data, BYTES, 0) == (ssize_t)BYTES);
	m->file[i].at_it = false;
}

static int size_of(void *arg, const struct spm_pool_file *f, const struct spm_handle *h, uint64_t *size)
{
	struct model *m = arg;

	must(h->type == 1 && h->len == 1 && h->bytes[0] == f->ino - 100);
	*size = atomic_load(&m->file[f->ino - 100].size);
	return 0;
}

static void check_all(struct model *m, struct spm_pool *p)
{
	rig_audit(p);
	ck_assert_int_eq(spm_pool_trims(p, size_of, m), 0);
	for (unsigned int i = 0; i < FILES; i++)
		check_file(m, p, i);
	for (unsigned int i = 0; i < FILES; i++)
		take_over_file(m, p, i);
	rig_audit(p);
}

/* -- tests -- */

START_TEST(threads_against_arrays)
{
	struct model *m = new_model();
	struct pool_rig r;

	rig_make(&r, DEVICE, EXTENT);
	for (unsigned int n = 0; n < 4; n++) {
		run_all(m, r.p, n + 1, 3000);
		check_all(m, r.p);
		rig_again(&r, NULL);
		check_all(m, r.p);
	}
	ck_assert_uint_gt(atomic_load(&m->full), 0);
	for (unsigned int i = 0; i < FILES; i++) {
		struct spm_pool_file n = name_of(i);

		spm_pool_remove(r.p, &n);
	}
	ck_assert_uint_eq(rig_stats(&r).used_bytes, 0);
	ck_assert_uint_eq(spm_pool_free_run(r.p), 96 * EXTENT);
	rig_end(&r);
	munmap(m, sizeof(*m));
}
END_TEST

/* What a process that is to die knows. */
struct death {
	atomic_int left; /* fault points until it dies */
	const char *only; /* of this name; NULL: any */
};

static void die_at(void *ctx, const char *at)
{
	struct death *d = ctx;

	if ((!d->only || !strcmp(at, d->only)) && atomic_fetch_sub(&d->left, 1) == 1)
		_exit(42);
}

static const char *const points[] = {
	NULL,	       "pool:whose", "pool:owned", "pool:freed",   "pool:zeroed",
	"pool:copied", "pool:moved", "pool:noted", "pool:trimmed",
};

START_TEST(dead_at_each_store)
{
	struct model *m = new_model();
	struct pool_rig r;
	unsigned int seed = (unsigned int)_i + 1;

	rig_make(&r, DEVICE, EXTENT);
	spm_pool_detach(r.p);
	for (int n = 0; n < 12; n++) {
		struct death d = { .only = points[_i] };
		struct spm_pool_opts o = { .fault = die_at, .ctx = &d };
		pid_t pid;
		int status;

		atomic_store(&d.left, 1 + rand_r(&seed) % 20);
		fflush(NULL);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (!pid) {
			if (spm_pool_attach(&r.p, r.state, &r.dev, &o))
				_exit(1);
			run_all(m, r.p, seed, 1000000);
			_exit(2);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		must(WIFEXITED(status) && WEXITSTATUS(status) == 42);
		rig_attach(&r, NULL);
		check_all(m, r.p);
		spm_pool_detach(r.p);
	}
	rig_attach(&r, NULL);
	rig_end(&r);
	munmap(m, sizeof(*m));
}
END_TEST

START_TEST(killed_at_any_instruction)
{
	struct model *m = new_model();
	struct pool_rig r;
	unsigned int seed = 7;

	rig_make(&r, DEVICE, EXTENT);
	spm_pool_detach(r.p);
	for (int n = 0; n < 60; n++) {
		uint64_t until = atomic_load(&m->ops) + 20 + (unsigned int)rand_r(&seed) % 300;
		int status;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (!pid) {
			if (spm_pool_attach(&r.p, r.state, &r.dev, NULL))
				_exit(1);
			run_all(m, r.p, seed, 1000000);
			_exit(2);
		}
		while (atomic_load(&m->ops) < until)
			if (waitpid(pid, &status, WNOHANG))
				ck_abort_msg("the process ended by itself");
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		rig_attach(&r, NULL);
		check_all(m, r.p);
		spm_pool_detach(r.p);
	}
	rig_attach(&r, NULL);
	rig_end(&r);
	munmap(m, sizeof(*m));
}
END_TEST

void add_model_tests(Suite *s)
{
	TCase *t = tcase_create("model");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, threads_against_arrays);
	tcase_add_loop_test(t, dead_at_each_store, 0, SPM_ARRAY_SIZE(points));
	tcase_add_test(t, killed_at_any_instruction);
	suite_add_tcase(s, t);
}
