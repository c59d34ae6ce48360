/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inode table (core/itable.h): against a plain model, under threads, taken over, and its memory. */
#include "core/itable.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct spm_handle handle_of(uint64_t ino)
{
	struct spm_handle h = { .type = 1, .len = 8 };

	memcpy(h.bytes, &ino, sizeof(ino));
	return h;
}

static uint64_t intern(struct spm_itable *t, uint16_t slice, uint64_t ino)
{
	struct spm_handle h = handle_of(ino);
	uint64_t id = 0;

	ck_assert_ptr_nonnull(spm_itable_intern(t, slice, ino, &h, 0, NULL, &id));
	return id;
}

/* True: that was the last lookup, the record is free. */
static bool forget(struct spm_itable *t, uint64_t id, uint64_t n)
{
	struct spm_dying d = { .index = 0 };
	enum spm_forgot rc = spm_itable_forget(t, id, n, &d, NULL, SPM_ENTRY_NONE, 0);

	if (rc != SPM_FORGOT_LAST)
		return false;
	return spm_itable_forget(t, id, n, &d, NULL, SPM_ENTRY_NONE, 0) == SPM_FORGOT_ALL;
}

static void new_table(struct spm_itable *t, uint32_t max)
{
	struct spm_handle h = handle_of(2);

	ck_assert_int_eq(spm_itable_attach(t, spm_itable_create(max)), 0);
	spm_itable_set_root(t, 0, 2, &h);
}

START_TEST(root_is_node_1)
{
	struct spm_itable t;
	uint64_t id;

	new_table(&t, 1024);
	ck_assert_ptr_nonnull(spm_itable_get(&t, 1));
	ck_assert_ptr_nonnull(spm_itable_find(&t, 0, 2, &id));
	ck_assert_uint_eq(id, 1);
	ck_assert(!forget(&t, 1, 100));
	ck_assert_ptr_nonnull(spm_itable_get(&t, 1));
	spm_itable_destroy(&t);
}
END_TEST

START_TEST(stale_ids_are_found_out)
{
	struct spm_itable t;
	uint64_t a, b;

	new_table(&t, 1024);
	a = intern(&t, 0, 100);
	ck_assert(forget(&t, a, 1));
	ck_assert_ptr_null(spm_itable_get(&t, a));
	b = intern(&t, 0, 101);
	ck_assert_uint_eq((uint32_t)a, (uint32_t)b);
	ck_assert_uint_ne(a, b);
	ck_assert_ptr_null(spm_itable_get(&t, a));
	ck_assert(!forget(&t, a, 1));
	ck_assert_ptr_nonnull(spm_itable_get(&t, b));
	ck_assert_ptr_null(spm_itable_get(&t, 0));
	ck_assert_ptr_null(spm_itable_get(&t, UINT64_MAX));
	ck_assert_ptr_null(spm_itable_get(&t, 1024));
	spm_itable_destroy(&t);
}
END_TEST

/* Disk filesystems give an inode's number to the next one at once; a record may have been left behind. */
START_TEST(number_of_another_inode)
{
	struct spm_handle h = handle_of(100);
	struct spm_itable t, next;
	struct spm_inode *r;
	uint64_t a, b = 0;

	new_table(&t, 1024);
	a = intern(&t, 0, 100);
	spm_inode_set(spm_itable_get(&t, a), SPM_INODE_ORPHAN | SPM_INODE_MAPPED);
	h.bytes[7] = 1;
	r = spm_itable_intern(&t, 0, 100, &h, SPM_INODE_DIR, NULL, &b);
	ck_assert_ptr_nonnull(r);
	ck_assert_mem_eq(&r->handle, &h, sizeof(h));
	ck_assert(spm_inode_is(r, SPM_INODE_DIR) && !spm_inode_is(r, SPM_INODE_ORPHAN | SPM_INODE_MAPPED));
	ck_assert(!forget(&t, a, 1));
	ck_assert_ptr_eq(spm_itable_get(&t, b), r);
	/* the same inode again is the same record as ever */
	spm_inode_set(r, SPM_INODE_MAPPED);
	ck_assert_ptr_eq(spm_itable_intern(&t, 0, 100, &h, SPM_INODE_DIR, NULL, &b), r);
	ck_assert(spm_inode_is(r, SPM_INODE_MAPPED));
	ck_assert_int_eq(spm_itable_attach(&next, dup(t.fd)), 0);
	ck_assert_int_eq(spm_itable_scan(&next), 0);
	ck_assert_uint_eq(next.damaged, 0);
	spm_itable_destroy(&next);
	spm_itable_destroy(&t);
}
END_TEST

/* The upper two bits of a node id belong to ids that are not the table's (the control files'). */
START_TEST(seq_wraps_in_time)
{
	struct spm_itable t;
	uint32_t start = SPM_ITABLE_SEQ_MAX - 1;
	uint64_t id = 0;

	new_table(&t, 1024);
	ck_assert_int_eq(pwrite(t.fd, &start, sizeof(start), 16), sizeof(start));
	for (uint64_t i = 0; i < 4; i++) {
		id = intern(&t, 0, 100 + i);
		ck_assert_uint_eq(id >> 62, 0);
		ck_assert_uint_ne(id >> 32, 0);
	}
	ck_assert_uint_eq(id >> 32, 2);
	spm_itable_destroy(&t);
}
END_TEST

START_TEST(lookups_are_counted)
{
	struct spm_itable t;
	uint64_t a, b;

	new_table(&t, 1024);
	a = intern(&t, 0, 7);
	ck_assert_uint_eq(intern(&t, 0, 7), a);
	b = intern(&t, 1, 7);
	ck_assert_uint_ne(a, b);
	ck_assert(!forget(&t, a, 1));
	ck_assert(forget(&t, a, 5));
	ck_assert_ptr_nonnull(spm_itable_get(&t, b));
	spm_itable_destroy(&t);
}
END_TEST

static bool is_of(const struct spm_inode *rec, const void *slice)
{
	return rec->slice == *(const uint16_t *)slice;
}

START_TEST(collected)
{
	const uint16_t slice = 7, none = 9;
	struct spm_itable t;
	uint64_t *ids, sum = 0, want = 0;
	size_t count;

	new_table(&t, 4096);
	for (uint64_t ino = 10; ino < 310; ino++) {
		uint64_t id = intern(&t, ino % 2 ? slice : 1, ino);

		want += ino % 2 ? id : 0;
	}
	ck_assert_int_eq(spm_itable_collect(&t, is_of, &slice, &ids, &count), 0);
	ck_assert_uint_eq(count, 150);
	for (size_t i = 0; i < count; i++)
		sum += ids[i];
	ck_assert_uint_eq(sum, want);
	free(ids);
	ck_assert_int_eq(spm_itable_collect(&t, is_of, &none, &ids, &count), 0);
	ck_assert_uint_eq(count, 0);
	free(ids);
	spm_itable_destroy(&t);
}
END_TEST

START_TEST(full_table)
{
	struct spm_itable t;
	struct spm_handle h = handle_of(1);
	uint64_t id, some = 0;

	new_table(&t, 1024);
	for (uint64_t i = 0; i < 1022; i++)
		some = intern(&t, 0, 1000 + i);
	ck_assert_ptr_null(spm_itable_intern(&t, 0, 5000, &h, 0, NULL, &id));
	ck_assert(forget(&t, some, 1));
	ck_assert_ptr_nonnull(spm_itable_intern(&t, 0, 5000, &h, 0, NULL, &id));
	spm_itable_destroy(&t);
}
END_TEST

#define MODEL 4096
START_TEST(against_a_model)
{
	static uint64_t ids[MODEL], counts[MODEL];
	struct spm_itable t;
	unsigned int seed = (unsigned int)_i + 1;

	memset(counts, 0, sizeof(counts));
	new_table(&t, 2 * MODEL);
	for (int n = 0; n < 200000; n++) {
		uint32_t i = (uint32_t)rand_r(&seed) % MODEL;
		/* clustered and scattered numbers alike */
		uint64_t ino = 10 + (i & 1 ? i : (uint64_t)i << 33), id;

		if (rand_r(&seed) % 2) {
			id = intern(&t, (uint16_t)(i % 3), ino);
			ck_assert(!counts[i] || id == ids[i]);
			ids[i] = id;
			counts[i]++;
		} else if (counts[i]) {
			bool gone = forget(&t, ids[i], 1);

			ck_assert_int_eq(gone, !--counts[i]);
		} else {
			ck_assert_ptr_null(spm_itable_find(&t, (uint16_t)(i % 3), ino, &id));
		}
	}
	for (uint32_t i = 0; i < MODEL; i++) {
		uint64_t id = 0;
		struct spm_inode *r = spm_itable_find(&t, (uint16_t)(i % 3), 10 + (i & 1 ? i : (uint64_t)i << 33), &id);

		ck_assert_int_eq(!!r, !!counts[i]);
		if (r) {
			ck_assert_uint_eq(id, ids[i]);
			ck_assert_uint_eq(r->nlookup, counts[i]);
		}
	}
	spm_itable_destroy(&t);
}
END_TEST

/* Another process finds every record under the same id, with its state, and allocates around them. */
START_TEST(taken_over)
{
	struct spm_itable a, b;
	uint64_t ids[3000], extra;
	struct spm_inode *r;

	new_table(&a, 8192);
	for (unsigned int i = 0; i < 3000; i++)
		ids[i] = intern(&a, 0, 50 + i);
	for (unsigned int i = 512; i < 2000; i++)
		ck_assert(forget(&a, ids[i], 1));
	r = spm_itable_get(&a, ids[2500]);
	r->open_plain = 3;
	r->flags = SPM_INODE_ORPHAN;

	ck_assert_int_eq(spm_itable_attach(&b, dup(a.fd)), 0);
	ck_assert_int_eq(spm_itable_scan(&b), 0);
	ck_assert_uint_eq(b.damaged, 0);
	ck_assert_uint_eq(b.live, a.live);
	for (unsigned int i = 0; i < 3000; i++)
		ck_assert_int_eq(!!spm_itable_get(&b, ids[i]), i < 512 || i >= 2000);
	r = spm_itable_get(&b, ids[2500]);
	ck_assert_uint_eq(r->open_plain, 3);
	ck_assert_uint_eq(r->flags, SPM_INODE_ORPHAN);
	extra = intern(&b, 0, 99999);
	for (unsigned int i = 0; i < 3000; i++)
		ck_assert_uint_ne(extra, ids[i]);
	ck_assert_uint_eq(intern(&b, 0, 50), ids[0]);
	spm_itable_destroy(&b);
	spm_itable_destroy(&a);
}
END_TEST

/* A record that contradicts itself or another is set aside: its id is stale, its inode can be had anew, and all
 * others are as they were. */
START_TEST(damage_is_set_aside)
{
	static const size_t spots[] = { offsetof(struct spm_inode, ino), offsetof(struct spm_inode, seq),
					offsetof(struct spm_inode, slice), offsetof(struct spm_inode, handle) + 3,
					offsetof(struct spm_inode, nlookup) + 7, offsetof(struct spm_inode, flags) + 1,
					offsetof(struct spm_inode, open_mirror) + 3,
					offsetof(struct spm_inode, backing) + 1, offsetof(struct spm_inode, check) };
	struct spm_itable a, b;
	uint64_t ids[100], again;
	char *victim;

	new_table(&a, 1024);
	for (unsigned int i = 0; i < 100; i++) {
		ids[i] = intern(&a, 0, 50 + i);
		spm_inode_set_backing(spm_itable_get(&a, ids[i]), (int)i + 1);
	}
	victim = (char *)spm_itable_get(&a, ids[40]);
	victim[spots[_i]] = (char)(victim[spots[_i]] ^ 0x80);
	ck_assert_int_eq(spm_itable_attach(&b, dup(a.fd)), 0);
	ck_assert_int_eq(spm_itable_scan(&b), 0);
	ck_assert_uint_eq(b.damaged, 1);
	for (unsigned int i = 0; i < 100; i++)
		ck_assert_int_eq(!!spm_itable_get(&b, ids[i]), i != 40);
	again = intern(&b, 0, 90);
	ck_assert_uint_ne(again, ids[40]);
	ck_assert_uint_ne((uint32_t)again, (uint32_t)ids[40]);
	ck_assert_ptr_null(spm_itable_get(&b, ids[40]));
	spm_itable_destroy(&b);
	spm_itable_destroy(&a);
}
END_TEST

START_TEST(two_records_of_one_inode)
{
	struct spm_itable a, b;
	struct spm_inode *r;
	uint64_t id1, id2;

	new_table(&a, 1024);
	id1 = intern(&a, 0, 50);
	id2 = intern(&a, 0, 51);
	/* a copy with the other's id would fail its checksum: give it what the other's would be */
	r = spm_itable_get(&a, id2);
	r->nlookup = 0;
	ck_assert_uint_eq(intern(&a, 0, 50), id1);
	memcpy(r, spm_itable_get(&a, id1), sizeof(*r));
	ck_assert_int_eq(spm_itable_attach(&b, dup(a.fd)), 0);
	ck_assert_int_eq(spm_itable_scan(&b), 0);
	ck_assert_uint_eq(b.damaged, 1);
	ck_assert_ptr_nonnull(spm_itable_get(&b, id1));
	spm_itable_destroy(&b);
	spm_itable_destroy(&a);
}
END_TEST

START_TEST(other_tables_are_refused)
{
	struct spm_itable a, b;
	uint32_t other = 1;
	uint64_t x = 0;
	int fd;

	new_table(&a, 1024);
	fd = dup(a.fd);
	ck_assert_int_eq(pwrite(fd, &other, sizeof(other), 8), sizeof(other)); /* the version */
	ck_assert_int_eq(spm_itable_attach(&b, fd), -EPROTO);
	fd = dup(a.fd);
	ck_assert_int_eq(pwrite(fd, &x, sizeof(x), 0), sizeof(x)); /* the magic number */
	ck_assert_int_eq(spm_itable_attach(&b, fd), -EPROTO);
	ck_assert_int_ne(ftruncate(a.fd, 4096), 0);
	fd = memfd_create("short", 0);
	ck_assert_int_eq(pwrite(fd, a.records, 4096, 0), 4096);
	ck_assert_int_eq(spm_itable_attach(&b, fd), -EPROTO);
	spm_itable_destroy(&a);
}
END_TEST

/* -- the ledger: a process is killed at any instruction, and what it wrote down is what the records say -- */

struct shared {
	struct spm_ledger ledger[2];
	uint64_t ids[2][64];
	uint64_t root;      /* the inode that opens are counted on */
	atomic_ullong rounds;
};

/* Does what requests do, for ever: counts lookups and opens, takes them back. */
static void count_for_ever(struct spm_itable *t, struct shared *sh, int n)
{
	struct spm_book b = { .ledger = &sh->ledger[n], .ids = sh->ids[n], .ids_max = 64 };
	struct spm_inode *r = spm_itable_get(t, sh->root);
	unsigned int seed = (unsigned int)(n + getpid());

	for (;;) {
		uint32_t k = b.ledger->entry[SPM_ENTRY_LOOKUPS];
		uint64_t ino = 1000 + (uint64_t)rand_r(&seed) % 40, id;
		struct spm_handle h = handle_of(ino);

		if (k < 60 && rand_r(&seed) % 2) {
			if (!spm_itable_intern(t, 0, ino, &h, 0, &b, &id))
				_exit(1);
		} else if (k) {
			struct spm_dying d = { .index = 0 };

			if (spm_itable_forget(t, b.ids[k - 1], 1, &d, &b, SPM_ENTRY_LOOKUPS, k - 1) == SPM_FORGOT_LAST)
				spm_itable_forget(t, b.ids[k - 1], 1, &d, &b, SPM_ENTRY_LOOKUPS, k - 1);
		}
		if (!n && b.ledger->entry[SPM_ENTRY_OPENED])
			spm_itable_count(t, r, SPM_COUNT_PLAIN, -1, &b, SPM_ENTRY_OPENED, 0);
		else if (!n)
			spm_itable_count(t, r, SPM_COUNT_PLAIN, 1, &b, SPM_ENTRY_OPENED, 1 + SPM_COUNT_PLAIN);
		atomic_fetch_add(&sh->rounds, 1);
	}
}

static void *second_thread(void *arg)
{
	void **a = arg;

	count_for_ever(a[0], a[1], 1);
	return NULL;
}

static void run_and_kill(int fd, struct shared *sh, unsigned int *seed)
{
	unsigned long long before = atomic_load(&sh->rounds);
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0); /* or everybody would be killed */
	if (!pid) {
		struct spm_itable t;
		void *arg[2] = { &t, sh };
		pthread_t id;

		if (spm_itable_attach(&t, dup(fd)) || spm_itable_settle(&t, &sh->ledger[0]) ||
		    spm_itable_settle(&t, &sh->ledger[1]) || spm_itable_scan(&t) || t.damaged ||
		    pthread_create(&id, NULL, second_thread, arg))
			_exit(1);
		count_for_ever(&t, sh, 0);
	}
	while (atomic_load(&sh->rounds) < before + 10 + (unsigned int)rand_r(seed) % 2000)
		if (waitpid(pid, &status, WNOHANG))
			ck_abort_msg("the process ended by itself");
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

START_TEST(killed_at_any_instruction)
{
	int fd = spm_itable_create(4096);
	struct shared *sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct spm_handle h = handle_of(2);
	struct spm_itable t;
	unsigned int seed = 7;

	ck_assert_ptr_ne(sh, MAP_FAILED);
	ck_assert_int_eq(spm_itable_attach(&t, dup(fd)), 0);
	spm_itable_set_root(&t, 0, 2, &h);
	sh->root = intern(&t, 0, 5);
	spm_itable_destroy(&t);
	for (int n = 0; n < 300; n++) {
		uint64_t counts[40] = { 0 };

		run_and_kill(fd, sh, &seed);
		ck_assert_int_eq(spm_itable_attach(&t, dup(fd)), 0);
		for (int l = 0; l < 2; l++)
			ck_assert_int_eq(spm_itable_settle(&t, &sh->ledger[l]), 0);
		ck_assert_int_eq(spm_itable_scan(&t), 0);
		ck_assert_uint_eq(t.damaged, 0);
		for (int l = 0; l < 2; l++)
			for (uint32_t i = 0; i < sh->ledger[l].entry[SPM_ENTRY_LOOKUPS]; i++) {
				struct spm_inode *r = spm_itable_get(&t, sh->ids[l][i]);

				ck_assert_ptr_nonnull(r);
				counts[r->ino - 1000]++;
			}
		for (uint64_t i = 0; i < 40; i++) {
			uint64_t id;
			struct spm_inode *r = spm_itable_find(&t, 0, 1000 + i, &id);

			ck_assert_uint_eq(r ? r->nlookup : 0, counts[i]);
		}
		ck_assert_uint_eq(spm_itable_get(&t, sh->root)->open_plain, !!sh->ledger[0].entry[SPM_ENTRY_OPENED]);
		spm_itable_destroy(&t);
	}
	munmap(sh, sizeof(*sh));
	close(fd);
}
END_TEST

struct finder {
	struct spm_itable *t;
	struct spm_inode *found;
	uint64_t id;
	atomic_bool begun, done;
};

/* The next one with its number, which a disk filesystem has given again. */
static void *find_next(void *arg)
{
	struct finder *f = arg;
	struct spm_handle h = handle_of(100);

	h.bytes[7] = 1;
	atomic_store(&f->begun, true);
	f->found = spm_itable_intern(f->t, 0, 100, &h, 0, NULL, &f->id);
	atomic_store(&f->done, true);
	return NULL;
}

static struct spm_itable *waited_on;
static atomic_uint told;

/* What is done here may take long, and others need the table for it. */
static void tell(void)
{
	pthread_mutex_lock(&waited_on->lock);
	atomic_fetch_add(&told, 1);
	pthread_mutex_unlock(&waited_on->lock);
}

/* Who forgets the last lookup has the record to himself until he is done: nobody counts it, whatever becomes of its number. */
START_TEST(last_forget_is_undisturbed)
{
	struct spm_dying d = { .index = 0 }, other = { .index = 0 };
	struct spm_itable t;
	struct finder f = { .t = &t };
	pthread_t thread;
	uint64_t a, b;

	new_table(&t, 1024);
	a = intern(&t, 0, 100);
	b = intern(&t, 0, 200);
	waited_on = &t;
	t.slow = tell;
	ck_assert_int_eq(spm_itable_forget(&t, a, 1, &d, NULL, SPM_ENTRY_NONE, 0), SPM_FORGOT_LAST);
	ck_assert_int_eq(spm_itable_forget(&t, b, 1, &other, NULL, SPM_ENTRY_NONE, 0), SPM_FORGOT_LAST);
	ck_assert_int_eq(pthread_create(&thread, NULL, find_next, &f), 0);
	while (!atomic_load(&f.begun))
		sched_yield();
	/* the end of another one is no reason to go on */
	ck_assert_int_eq(spm_itable_forget(&t, b, 1, &other, NULL, SPM_ENTRY_NONE, 0), SPM_FORGOT_ALL);
	usleep(20000);
	ck_assert(!atomic_load(&f.done));
	/* once, and before it waited */
	ck_assert_uint_eq(atomic_load(&told), 1);
	ck_assert_uint_eq(spm_itable_get(&t, a)->nlookup, 1);
	spm_inode_set(spm_itable_get(&t, a), SPM_INODE_ORPHAN);
	ck_assert_int_eq(spm_itable_forget(&t, a, 1, &d, NULL, SPM_ENTRY_NONE, 0), SPM_FORGOT_ALL);
	pthread_join(thread, NULL);
	ck_assert_ptr_null(spm_itable_get(&t, a));
	ck_assert_ptr_eq(spm_itable_get(&t, f.id), f.found);
	ck_assert_uint_ne(f.id, a);
	ck_assert(!spm_inode_is(f.found, SPM_INODE_ORPHAN));
	ck_assert_uint_eq(f.found->nlookup, 1);
	ck_assert_uint_eq(atomic_load(&told), 1);
	ck_assert(forget(&t, f.id, 1));
	spm_itable_destroy(&t);
}
END_TEST

static uint64_t used_bytes(struct spm_itable *t)
{
	struct stat st;

	ck_assert_int_eq(fstat(t->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* At most 400 bytes per known inode are allowed to the whole server; the table itself takes under 100. */
START_TEST(memory_comes_back)
{
	enum { N = 200000 };
	static uint64_t ids[N];
	struct spm_itable t;
	uint64_t before;

	new_table(&t, 1u << 20);
	before = used_bytes(&t);
	for (unsigned int i = 0; i < N; i++)
		ids[i] = intern(&t, 0, 100 + i);
	ck_assert_uint_le(used_bytes(&t) + (t.index_mask + 1) * sizeof(*t.index), UINT64_C(100) * N);
	for (unsigned int i = 0; i < N; i++)
		ck_assert(forget(&t, ids[i], 1));
	ck_assert_uint_le(used_bytes(&t), before + 65536);
	ck_assert_uint_le(t.index_mask + 1, 4096);
	spm_itable_destroy(&t);
}
END_TEST

struct racer {
	struct spm_itable *t;
	unsigned int seed;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (int n = 0; n < 50000; n++) {
		uint64_t ino = 10 + (uint64_t)rand_r(&r->seed) % 64, id = 0;
		struct spm_handle h = handle_of(ino);

		if (!spm_itable_intern(r->t, 0, ino, &h, 0, NULL, &id) || spm_itable_get(r->t, id)->ino != ino)
			return arg;
		forget(r->t, id, 1);
	}
	return NULL;
}

START_TEST(threads)
{
	struct spm_itable t;
	struct racer r[4];
	pthread_t id[4];
	void *bad;

	new_table(&t, 1024);
	for (unsigned int i = 0; i < 4; i++) {
		r[i] = (struct racer){ .t = &t, .seed = i };
		ck_assert_int_eq(pthread_create(&id[i], NULL, race, &r[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(id[i], &bad);
		ck_assert_ptr_null(bad);
	}
	ck_assert_uint_eq(t.live, 1);
	spm_itable_destroy(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("itable");
	TCase *t = tcase_create("itable");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, root_is_node_1);
	tcase_add_test(t, stale_ids_are_found_out);
	tcase_add_test(t, number_of_another_inode);
	tcase_add_test(t, last_forget_is_undisturbed);
	tcase_add_test(t, seq_wraps_in_time);
	tcase_add_test(t, lookups_are_counted);
	tcase_add_test(t, collected);
	tcase_add_test(t, full_table);
	tcase_add_loop_test(t, against_a_model, 0, 3);
	tcase_add_test(t, taken_over);
	tcase_add_loop_test(t, damage_is_set_aside, 0, 9);
	tcase_add_test(t, two_records_of_one_inode);
	tcase_add_test(t, other_tables_are_refused);
	tcase_add_test(t, killed_at_any_instruction);
	tcase_add_test(t, memory_comes_back);
	tcase_add_test(t, threads);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
