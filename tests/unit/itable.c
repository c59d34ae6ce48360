/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inode table (core/itable.h): against a plain model, under threads, taken over, and its memory. */
#include "core/itable.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

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

	ck_assert_ptr_nonnull(spm_itable_intern(t, slice, ino, &h, 0, &id));
	return id;
}

static void new_table(struct spm_itable *t, uint32_t max)
{
	struct spm_handle h = handle_of(2);

	ck_assert_int_eq(spm_itable_init(t, max), 0);
	spm_itable_set_root(t, 0, 2, &h);
}

START_TEST(root_is_node_1)
{
	struct spm_itable t;
	struct spm_inode last;
	uint64_t id;

	new_table(&t, 1024);
	ck_assert_ptr_nonnull(spm_itable_get(&t, 1));
	ck_assert_ptr_nonnull(spm_itable_find(&t, 0, 2, &id));
	ck_assert_uint_eq(id, 1);
	ck_assert(!spm_itable_forget(&t, 1, 100, &last));
	ck_assert_ptr_nonnull(spm_itable_get(&t, 1));
	spm_itable_destroy(&t);
}
END_TEST

START_TEST(stale_ids_are_found_out)
{
	struct spm_itable t;
	struct spm_inode last;
	uint64_t a, b;

	new_table(&t, 1024);
	a = intern(&t, 0, 100);
	ck_assert(spm_itable_forget(&t, a, 1, &last));
	ck_assert_uint_eq(last.ino, 100);
	ck_assert_ptr_null(spm_itable_get(&t, a));
	b = intern(&t, 0, 101);
	ck_assert_uint_eq((uint32_t)a, (uint32_t)b);
	ck_assert_uint_ne(a, b);
	ck_assert_ptr_null(spm_itable_get(&t, a));
	ck_assert(!spm_itable_forget(&t, a, 1, &last));
	ck_assert_ptr_nonnull(spm_itable_get(&t, b));
	ck_assert_ptr_null(spm_itable_get(&t, 0));
	ck_assert_ptr_null(spm_itable_get(&t, UINT64_MAX));
	ck_assert_ptr_null(spm_itable_get(&t, 1024));
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
	struct spm_inode last;
	uint64_t a, b;

	new_table(&t, 1024);
	a = intern(&t, 0, 7);
	ck_assert_uint_eq(intern(&t, 0, 7), a);
	b = intern(&t, 1, 7);
	ck_assert_uint_ne(a, b);
	ck_assert(!spm_itable_forget(&t, a, 1, &last));
	ck_assert(spm_itable_forget(&t, a, 5, &last));
	ck_assert_ptr_nonnull(spm_itable_get(&t, b));
	spm_itable_destroy(&t);
}
END_TEST

START_TEST(full_table)
{
	struct spm_itable t;
	struct spm_handle h = handle_of(1);
	struct spm_inode last;
	uint64_t id, some = 0;

	new_table(&t, 1024);
	for (uint64_t i = 0; i < 1022; i++)
		some = intern(&t, 0, 1000 + i);
	ck_assert_ptr_null(spm_itable_intern(&t, 0, 5000, &h, 0, &id));
	ck_assert(spm_itable_forget(&t, some, 1, &last));
	ck_assert_ptr_nonnull(spm_itable_intern(&t, 0, 5000, &h, 0, &id));
	spm_itable_destroy(&t);
}
END_TEST

#define MODEL 4096
START_TEST(against_a_model)
{
	static uint64_t ids[MODEL], counts[MODEL];
	struct spm_itable t;
	struct spm_inode last;
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
			bool gone = spm_itable_forget(&t, ids[i], 1, &last);

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
	struct spm_inode last;
	uint64_t ids[3000], extra;
	struct spm_inode *r;

	new_table(&a, 8192);
	for (unsigned int i = 0; i < 3000; i++)
		ids[i] = intern(&a, 0, 50 + i);
	for (unsigned int i = 512; i < 2000; i++)
		ck_assert(spm_itable_forget(&a, ids[i], 1, &last));
	r = spm_itable_get(&a, ids[2500]);
	r->open_plain = 3;
	r->flags = SPM_INODE_ORPHAN;

	ck_assert_int_eq(spm_itable_attach(&b, dup(a.fd)), 0);
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

START_TEST(damage_is_refused)
{
	struct spm_itable a, b;
	uint64_t id, x = 0;
	int fd;

	new_table(&a, 1024);
	id = intern(&a, 0, 50);
	(void)intern(&a, 0, 51);
	spm_itable_get(&a, id)->ino = 51; /* two records of one inode */
	ck_assert_int_eq(spm_itable_attach(&b, dup(a.fd)), -EBADMSG);
	fd = dup(a.fd);
	ck_assert_int_eq(pwrite(fd, &x, sizeof(x), 0), sizeof(x)); /* the magic number */
	ck_assert_int_eq(spm_itable_attach(&b, fd), -EPROTO);
	spm_itable_destroy(&a);
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
	struct spm_inode last;
	uint64_t before;

	new_table(&t, 1u << 20);
	before = used_bytes(&t);
	for (unsigned int i = 0; i < N; i++)
		ids[i] = intern(&t, 0, 100 + i);
	ck_assert_uint_le(used_bytes(&t) + (t.index_mask + 1) * sizeof(*t.index), UINT64_C(100) * N);
	for (unsigned int i = 0; i < N; i++)
		ck_assert(spm_itable_forget(&t, ids[i], 1, &last));
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
	struct spm_inode last;

	for (int n = 0; n < 50000; n++) {
		uint64_t ino = 10 + (uint64_t)rand_r(&r->seed) % 64, id = 0;
		struct spm_handle h = handle_of(ino);

		if (!spm_itable_intern(r->t, 0, ino, &h, 0, &id) || spm_itable_get(r->t, id)->ino != ino)
			return arg;
		spm_itable_forget(r->t, id, 1, &last);
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
	tcase_add_test(t, seq_wraps_in_time);
	tcase_add_test(t, lookups_are_counted);
	tcase_add_test(t, full_table);
	tcase_add_loop_test(t, against_a_model, 0, 3);
	tcase_add_test(t, taken_over);
	tcase_add_test(t, damage_is_refused);
	tcase_add_test(t, memory_comes_back);
	tcase_add_test(t, threads);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
