/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The extent map (core/extmap.h): against a plain model, its memory, taken over, killed, damaged, under threads. */
#include "core/extmap-local.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TIB_EXTENTS (UINT64_C(1) << 40 >> 21)

static struct spm_handle handle_of(uint64_t ino)
{
	struct spm_handle h = { .type = 1, .len = 8 };

	memcpy(h.bytes, &ino, sizeof(ino));
	return h;
}

static int new_file(void)
{
	struct spm_extmap_setup setup = { .uuid = "a region", .extent_bytes = SPM_EXTENT_MAX, .files = 2 };
	int fd = memfd_create("extents", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(spm_extmap_create(fd, &setup), 0);
	return fd;
}

static void new_map(struct spm_extmap *m)
{
	ck_assert_int_eq(spm_extmap_attach(m, new_file()), 0);
}

static void end_map(struct spm_extmap *m)
{
	int fd = m->fd;

	spm_extmap_detach(m);
	close(fd);
}

/* Attaches and scans as the next process would. */
static void take_over(struct spm_extmap *m, int fd, uint32_t damaged)
{
	ck_assert_int_eq(spm_extmap_attach(m, fd), 0);
	ck_assert_int_eq(spm_extmap_scan(m), 0);
	ck_assert_uint_eq(m->damaged, damaged);
}

static uint32_t intern(struct spm_extmap *m, uint16_t slice, uint64_t ino)
{
	struct spm_handle h = handle_of(ino);
	uint32_t file = spm_extmap_intern(m, slice, ino, &h, SPM_EXTFILE_DIRECT);

	ck_assert_uint_ne(file, 0);
	return file;
}

/* A slot that is this extent's and no other's: what is found must be what was put there. */
static uint32_t slot_of(uint64_t ino, uint64_t extent)
{
	return (uint32_t)((ino * UINT64_C(0x9e3779b97f4a7c15) ^ extent * UINT64_C(0xd6e8feb86659fd93)) >> 33) | 1;
}

static void set_record(struct spm_extent *x, uint64_t ino, uint64_t extent)
{
	x->slot = slot_of(ino, extent);
	x->check = ~x->slot;
	spm_extent_touch(x, spm_extmap_clock());
	spm_extent_set_how(x, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 512, 0));
}

static void swap_out(struct spm_extmap *m, uint32_t file, uint64_t extent)
{
	struct spm_extent *x = spm_extmap_get(m, file, extent, true);

	ck_assert_ptr_nonnull(x);
	set_record(x, m->head[file].ino, extent);
}

static bool is_out(struct spm_extmap *m, uint32_t file, uint64_t extent)
{
	struct spm_extent *x = spm_extmap_get(m, file, extent, false);

	if (!x || !x->how)
		return false;
	ck_assert_uint_eq(x->slot, slot_of(m->head[file].ino, extent));
	ck_assert_uint_eq(x->check, ~x->slot);
	return true;
}

static uint64_t shared_bytes(struct spm_extmap *m)
{
	struct stat st;

	ck_assert_int_eq(fstat(m->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(one_head_per_inode)
{
	struct spm_extmap m;
	struct spm_handle h = handle_of(7);
	uint32_t a, b;

	new_map(&m);
	ck_assert_uint_eq(spm_extmap_find(&m, 0, 7), 0);
	a = intern(&m, 0, 7);
	ck_assert_uint_eq(spm_extmap_intern(&m, 0, 7, &h, 0), a);
	ck_assert_uint_eq(spm_extmap_find(&m, 0, 7), a);
	b = intern(&m, 1, 7);
	ck_assert_uint_ne(a, b);
	ck_assert_uint_eq(spm_extmap_file(&m, a)->flags, SPM_EXTFILE_DIRECT);
	ck_assert_uint_eq(spm_extmap_file(&m, b)->slice, 1);
	ck_assert_int_eq(memcmp(&spm_extmap_file(&m, b)->handle, &h, sizeof(h)), 0);
	ck_assert_uint_eq(spm_extmap_next_file(&m, 1), a);
	ck_assert_uint_eq(spm_extmap_next_file(&m, a + 1), b);
	ck_assert_uint_eq(spm_extmap_next_file(&m, b + 1), 0);
	ck_assert_uint_gt(m.heads_top, b);
	spm_extmap_forget(&m, a);
	ck_assert_uint_eq(spm_extmap_find(&m, 0, 7), 0);
	ck_assert_uint_eq(spm_extmap_find(&m, 1, 7), b);
	end_map(&m);
}
END_TEST

/* Every place where one kind of leaf ends and the next begins, and where no file can reach. */
START_TEST(places)
{
	static const uint64_t at[] = { 0, 1, 2, 3, 21, 22, 23, 361, 362, 702, 1u << 20, UINT64_C(1) << 42, EXTMAP_EXTENTS - 1 };
	struct spm_extent *seen[SPM_ARRAY_SIZE(at)], *x;
	struct spm_extmap m;
	uint32_t file, other;
	uint64_t e = 0;

	new_map(&m);
	file = intern(&m, 0, 7);
	other = intern(&m, 0, 8);
	for (size_t i = 2; i < SPM_ARRAY_SIZE(at); i++)
		ck_assert_ptr_null(spm_extmap_get(&m, file, at[i], false));
	for (size_t i = SPM_ARRAY_SIZE(at); i--;) {
		seen[i] = spm_extmap_get(&m, file, at[i], true);
		ck_assert_ptr_nonnull(seen[i]);
		ck_assert_uint_eq(spm_extent_how(seen[i]), 0);
		set_record(seen[i], 7, at[i]);
	}
	for (size_t i = 0; i < SPM_ARRAY_SIZE(at); i++, e++) {
		ck_assert(is_out(&m, file, at[i]));
		ck_assert_ptr_eq(spm_extmap_get(&m, file, at[i], false), seen[i]);
		e = spm_extmap_next(&m, file, e, &x);
		ck_assert_uint_eq(e, at[i]);
		ck_assert_ptr_eq(x, seen[i]);
		ck_assert(!is_out(&m, other, at[i]));
	}
	ck_assert_uint_eq(spm_extmap_next(&m, file, e, &x), UINT64_MAX);
	ck_assert_uint_eq(spm_extmap_next(&m, file, UINT64_MAX, &x), UINT64_MAX);
	ck_assert_uint_eq(spm_extmap_next(&m, other, 0, &x), UINT64_MAX);
	ck_assert_ptr_null(spm_extmap_get(&m, file, EXTMAP_EXTENTS, true));
	ck_assert_ptr_null(spm_extmap_get(&m, file, UINT64_MAX, true));
	end_map(&m);
}
END_TEST

/* -- a model: for each file, which extents are out -- */

#define FILES 60u
#define SPAN  1500u

struct model {
	uint32_t file[FILES]; /* 0: it has no head */
	uint8_t out[FILES][SPAN];
};

static uint64_t ino_of(uint32_t i)
{
	return 10 + (i & 1 ? i : (uint64_t)i << 33);
}

/* Files are of three kinds: a few extents, some hundred, and scattered ones of a huge file. */
static uint64_t extent_of(uint32_t i, uint32_t n)
{
	return i % 3 == 0 ? n % 25 : i % 3 == 1 ? n : (uint64_t)n * 1000003;
}

static uint32_t slot_index(uint32_t i, uint32_t n)
{
	return i % 3 == 0 ? n % 25 : n;
}

struct walk {
	const struct model *mo;
	uint32_t i, count;
	uint64_t last;
};

static int check_step(void *arg, uint64_t extent, struct spm_extent *x)
{
	struct walk *w = arg;
	uint64_t n = w->i % 3 == 2 ? extent / 1000003 : extent;

	ck_assert(!w->count || extent > w->last);
	ck_assert(n < SPAN && extent == extent_of(w->i, (uint32_t)n) && w->mo->out[w->i][n]);
	ck_assert_uint_eq(x->slot, slot_of(ino_of(w->i), extent));
	w->last = extent;
	w->count++;
	return 0;
}

static void check_model(struct spm_extmap *m, const struct model *mo)
{
	uint32_t live = 0;

	for (uint32_t i = 0; i < FILES; i++) {
		struct walk w = { .mo = mo, .i = i };
		uint32_t out = 0;

		ck_assert_uint_eq(spm_extmap_find(m, (uint16_t)(i % 5), ino_of(i)), mo->file[i]);
		if (!mo->file[i])
			continue;
		live++;
		for (uint32_t n = 0; n < SPAN; n++)
			out += mo->out[i][n];
		ck_assert_int_eq(spm_extmap_each(m, mo->file[i], 0, check_step, &w), 0);
		ck_assert_uint_eq(w.count, out);
	}
	ck_assert_uint_eq(m->live, live);
	for (uint32_t f = spm_extmap_next_file(m, 0); f; f = spm_extmap_next_file(m, f + 1))
		live--;
	ck_assert_uint_eq(live, 0);
}

static int clear_step(void *arg, uint64_t extent, struct spm_extent *x)
{
	(void)arg, (void)extent;
	spm_extent_set_how(x, 0);
	return 0;
}

static void drop_file(struct spm_extmap *m, uint32_t file)
{
	ck_assert_int_eq(spm_extmap_each(m, file, 0, clear_step, NULL), 0);
	spm_extmap_forget(m, file);
}

static void model_step(struct spm_extmap *m, struct model *mo, unsigned int *seed)
{
	uint32_t i = (uint32_t)rand_r(seed) % FILES, n = (uint32_t)rand_r(seed) % SPAN, what = (uint32_t)rand_r(seed) % 200;
	uint64_t e = extent_of(i, n);

	if (!mo->file[i]) {
		mo->file[i] = intern(m, (uint16_t)(i % 5), ino_of(i));
	} else if (what == 0) {
		drop_file(m, mo->file[i]);
		mo->file[i] = 0;
		memset(mo->out[i], 0, sizeof(mo->out[i]));
	} else if (what == 1) {
		spm_extmap_tidy(m, mo->file[i]);
	} else if (what < 110) {
		swap_out(m, mo->file[i], e);
		mo->out[i][slot_index(i, n)] = 1;
	} else {
		ck_assert_int_eq(is_out(m, mo->file[i], e), mo->out[i][slot_index(i, n)]);
		if (mo->out[i][slot_index(i, n)])
			spm_extent_set_how(spm_extmap_get(m, mo->file[i], e, false), 0);
		mo->out[i][slot_index(i, n)] = 0;
	}
}

START_TEST(against_a_model)
{
	static struct model mo;
	struct spm_extmap m, again;
	unsigned int seed = (unsigned int)_i + 1;

	memset(&mo, 0, sizeof(mo));
	new_map(&m);
	for (int round = 0; round < 5; round++) {
		for (int n = 0; n < 40000; n++)
			model_step(&m, &mo, &seed);
		check_model(&m, &mo);
		/* another process finds the same, and goes on */
		take_over(&again, m.fd, 0);
		check_model(&again, &mo);
		ck_assert_uint_eq(again.heads->count, m.heads->count);
		ck_assert_uint_eq(again.middles->count, m.middles->count);
		ck_assert_uint_eq(again.larges->count, m.larges->count);
		spm_extmap_detach(&m);
		m = again;
	}
	for (uint32_t i = 0; i < FILES; i++)
		if (mo.file[i])
			drop_file(&m, mo.file[i]);
	ck_assert_uint_eq(m.live + m.heads->count + m.middles->count + m.larges->count + m.chains, 0);
	ck_assert_uint_eq(m.chain_bytes, 0);
	ck_assert_uint_le(shared_bytes(&m), EXTMAP_PAGE);
	end_map(&m);
}
END_TEST

/* What the last scan found of each file counts the pages in slots, and only these. */
START_TEST(sums)
{
	struct spm_extmap m, b;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	for (uint64_t e = 0; e < 1000; e += 3)
		swap_out(&m, file, e);
	spm_extmap_get(&m, file, 0, false)->how = SPM_HOW_MAKE(SPM_EXTENT_OUT, 16, SPM_HOW_SMALL);
	spm_extmap_get(&m, file, 3, false)->how = SPM_HOW_MAKE(SPM_EXTENT_IN, 3, SPM_HOW_SPARSE);
	spm_extmap_get(&m, file, 6, false)->how = 0;
	m.head[file].swapped = 12345;
	take_over(&b, m.fd, 0);
	ck_assert_uint_eq(b.head[file].swapped, 331 * 512 + 16 + 3);
	ck_assert_uint_eq(spm_extent_blocks(spm_extmap_get(&b, file, 0, false)), 16);
	ck_assert_uint_eq(spm_extent_blocks(spm_extmap_get(&b, file, 3, false)), 4);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

START_TEST(times)
{
	struct spm_extmap m;
	struct spm_exttimes *t;
	uint32_t file, other;
	uint64_t before;

	new_map(&m);
	file = intern(&m, 0, 7);
	other = intern(&m, 0, 8);
	before = shared_bytes(&m);
	t = spm_extmap_times(&m, file);
	ck_assert_ptr_nonnull(t);
	ck_assert_int_eq(t->mtime | t->ctime | t->ours, 0);
	*t = (struct spm_exttimes){ 1, 2, 3 };
	ck_assert_int_eq(spm_extmap_times(&m, other)->mtime, 0);
	ck_assert_ptr_eq(spm_extmap_times(&m, file), t);
	ck_assert_uint_eq(shared_bytes(&m), before + EXTMAP_PAGE);
	spm_extmap_forget(&m, file);
	ck_assert_uint_eq(intern(&m, 0, 9), file);
	ck_assert_ptr_eq(spm_extmap_times(&m, file), t);
	ck_assert_int_eq(t->mtime | t->ctime | t->ours, 0);
	spm_extmap_forget(&m, file);
	spm_extmap_forget(&m, other);
	ck_assert_uint_le(shared_bytes(&m), EXTMAP_PAGE);
	end_map(&m);
}
END_TEST

START_TEST(clock_and_age)
{
	struct timespec t;
	uint16_t now;

	clock_gettime(CLOCK_BOOTTIME, &t);
	now = spm_extmap_clock();
	ck_assert_uint_le(spm_extmap_age(now, (uint16_t)((uint64_t)t.tv_sec * 4)), 8);
	ck_assert_uint_eq(spm_extmap_age(3, 65535), 4);
}
END_TEST

/* -- memory -- */

/* The whole of what a map costs, as spm_extmap_bytes() tells it: never less than what the file really has. */
static uint64_t all_bytes(struct spm_extmap *m)
{
	uint64_t bytes = spm_extmap_bytes(m);

	ck_assert_uint_ge(bytes, shared_bytes(m) + (m->index_mask + 1) * sizeof(*m->index) + m->chain_bytes);
	return bytes;
}

START_TEST(dense_file_is_small)
{
	/* upwards, downwards, scattered */
	static const uint64_t step[] = { 1, TIB_EXTENTS - 1, 340 * 611 };
	uint64_t e = 0, before;
	struct spm_extmap m;
	uint32_t file;

	new_map(&m);
	before = shared_bytes(&m);
	file = intern(&m, 0, 7);
	for (uint64_t n = 0; n < TIB_EXTENTS; n++, e = (e + step[_i] + (_i == 2 && n % 3 == 0)) % TIB_EXTENTS)
		swap_out(&m, file, e);
	if (_i == 2)
		for (e = 0; e < TIB_EXTENTS; e++)
			swap_out(&m, file, e);
	for (e = 0; e < TIB_EXTENTS; e += 97)
		ck_assert(is_out(&m, file, e));
	ck_assert_uint_le(all_bytes(&m), 16 * TIB_EXTENTS);
	drop_file(&m, file);
	ck_assert_uint_le(shared_bytes(&m), before);
	ck_assert_uint_le(all_bytes(&m), 65536);
	end_map(&m);
}
END_TEST

START_TEST(sparse_file_is_small)
{
	struct spm_extmap m;
	struct spm_extent *x;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	swap_out(&m, file, TIB_EXTENTS - 1);
	ck_assert_uint_lt(all_bytes(&m), 65536);
	/* looking costs nothing */
	for (uint64_t e = 0; e < TIB_EXTENTS - 1; e++)
		x = spm_extmap_get(&m, file, e, false);
	ck_assert_uint_eq(spm_extmap_next(&m, file, 0, &x), TIB_EXTENTS - 1);
	for (uint32_t f = spm_extmap_next_file(&m, 1); f; f = spm_extmap_next_file(&m, f + 1))
		ck_assert_uint_eq(f, file);
	ck_assert_uint_lt(all_bytes(&m), 65536);
	end_map(&m);
}
END_TEST

START_TEST(leaves_that_say_nothing_go)
{
	struct spm_extmap m;
	uint64_t before, used;
	uint32_t file;

	new_map(&m);
	file = intern(&m, 0, 7);
	before = shared_bytes(&m);
	for (uint64_t e = 0; e < 100000; e++)
		ck_assert_ptr_nonnull(spm_extmap_get(&m, file, e, true));
	swap_out(&m, file, 5);
	swap_out(&m, file, 50000);
	used = shared_bytes(&m);
	spm_extmap_tidy(&m, file);
	ck_assert_uint_lt(shared_bytes(&m), used);
	ck_assert_uint_le(shared_bytes(&m), before + 2 * EXTMAP_PAGE + EXTMAP_LOOSE * EXTMAP_PAGE);
	ck_assert_uint_eq(m.middles->count + m.larges->count, 2);
	ck_assert(is_out(&m, file, 5));
	ck_assert(is_out(&m, file, 50000));
	ck_assert_ptr_null(spm_extmap_get(&m, file, 49000, false));
	spm_extent_set_how(spm_extmap_get(&m, file, 5, false), 0);
	spm_extent_set_how(spm_extmap_get(&m, file, 50000, false), 0);
	spm_extmap_tidy(&m, file);
	ck_assert_uint_eq(m.middles->count + m.larges->count + m.chains, 0);
	ck_assert_uint_eq(shared_bytes(&m), before);
	end_map(&m);
}
END_TEST

START_TEST(many_files_come_and_go)
{
	enum { N = 200000 };
	struct spm_extmap m;
	uint64_t before;

	new_map(&m);
	before = shared_bytes(&m);
	for (uint64_t i = 0; i < N; i++)
		ck_assert_uint_eq(intern(&m, (uint16_t)(i % 3), 100 + i), i + 1);
	ck_assert_uint_le(all_bytes(&m), UINT64_C(100) * N);
	for (uint32_t i = 1; i <= N; i += 2)
		spm_extmap_forget(&m, i);
	for (uint64_t i = 0; i < N; i++)
		ck_assert_uint_eq(spm_extmap_find(&m, (uint16_t)(i % 3), 100 + i), i % 2 ? i + 1 : 0);
	for (uint32_t i = 2; i <= N; i += 2)
		spm_extmap_forget(&m, i);
	ck_assert_uint_le(shared_bytes(&m), before);
	ck_assert_uint_le(all_bytes(&m), 65536 + 32768);
	end_map(&m);
}
END_TEST

/* A filesystem that is full: "no memory", not a SIGBUS. */
START_TEST(no_memory)
{
	struct spm_extmap_setup setup = { .extent_bytes = SPM_EXTENT_MIN, .files = 1 };
	char dir[] = "/tmp/extmap.XXXXXX", path[64];
	struct spm_handle h = handle_of(1);
	struct spm_extmap m;
	uint64_t files = 0, extents = 0;
	int fd;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return; /* not root */
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(mount("none", dir, "tmpfs", 0, "size=64k"), 0);
	snprintf(path, sizeof(path), "%s/map", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_eq(spm_extmap_create(fd, &setup), 0);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	ck_assert_uint_ne(spm_extmap_intern(&m, 0, 1, &h, 0), 0);
	while (spm_extmap_get(&m, 1, extents, true))
		extents++;
	ck_assert_uint_eq(extents, 22 + 13 * 340);
	ck_assert_ptr_null(spm_extmap_times(&m, 1));
	while (spm_extmap_intern(&m, 1, files + 1, &h, 0))
		files++;
	ck_assert_uint_eq(files, 63);
	ck_assert_uint_eq(spm_extmap_find(&m, 1, 64), 0);
	spm_extmap_tidy(&m, 1);
	ck_assert_ptr_nonnull(spm_extmap_times(&m, 1));
	ck_assert_ptr_nonnull(spm_extmap_get(&m, 1, 1u << 30, true));
	end_map(&m);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}
END_TEST

/* -- refused, damaged -- */

START_TEST(other_files_are_refused)
{
	static const off_t spots[] = { 0, 8, 12, 16, 20, 24, 32, 48, 52, 60 };
	struct spm_extmap_setup setup = { .extent_bytes = 12345, .files = 1 };
	struct spm_extmap m;
	uint8_t byte;
	int fd = new_file();

	for (size_t i = 0; i < SPM_ARRAY_SIZE(spots); i++) {
		ck_assert_int_eq(pread(fd, &byte, 1, spots[i]), 1);
		byte ^= 4;
		ck_assert_int_eq(pwrite(fd, &byte, 1, spots[i]), 1);
		ck_assert_int_eq(spm_extmap_attach(&m, fd), -EPROTO);
		byte ^= 4;
		ck_assert_int_eq(pwrite(fd, &byte, 1, spots[i]), 1);
	}
	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	m.setup->retired = 3; /* is not part of what the header vouches for */
	spm_extmap_detach(&m);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	ck_assert_uint_eq(m.setup->retired, 3);
	spm_extmap_detach(&m);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), -EPROTO);
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	ck_assert_int_eq(spm_extmap_attach(&m, fd), -EPROTO);
	ck_assert_int_eq(spm_extmap_create(fd, &setup), -EINVAL);
	setup = (struct spm_extmap_setup){ .extent_bytes = SPM_EXTENT_MIN, .files = 9 };
	ck_assert_int_eq(spm_extmap_create(fd, &setup), -EINVAL);
	close(fd);
}
END_TEST

/* 20 files of 800 extents, all out. */
static void fill(struct spm_extmap *m)
{
	for (uint64_t i = 0; i < 20; i++) {
		uint32_t file = intern(m, 0, 50 + i);

		for (uint64_t e = 0; e < 800; e++)
			swap_out(m, file, e);
	}
}

static uint32_t count_out(struct spm_extmap *m, uint64_t ino)
{
	uint32_t file = spm_extmap_find(m, 0, ino), out = 0;

	for (uint64_t e = 0; file && e < 800; e++)
		out += is_out(m, file, e);
	return out;
}

/* A head is set aside with its leaves, and stays so when another process looks at it, or the inode comes again. */
START_TEST(damaged_head)
{
	static const size_t spots[] = { offsetof(struct spm_extfile, ino) + 2, offsetof(struct spm_extfile, slice),
					offsetof(struct spm_extfile, check), offsetof(struct spm_extfile, handle) + 1,
					offsetof(struct spm_extfile, handle) + 4 };
	struct spm_extmap m, b;
	char *victim;

	new_map(&m);
	fill(&m);
	victim = (char *)spm_extmap_file(&m, spm_extmap_find(&m, 0, 60));
	victim[spots[_i]] = (char)(victim[spots[_i]] ^ 0x10);
	take_over(&b, m.fd, 1 + 1 + 3);
	for (uint64_t i = 0; i < 20; i++)
		ck_assert_uint_eq(count_out(&b, 50 + i), i == 10 ? 0 : 800);
	ck_assert_uint_eq(b.live, 19);
	ck_assert_uint_eq(intern(&b, 0, 60), 21);
	spm_extmap_detach(&b);
	take_over(&b, m.fd, 5);
	ck_assert_uint_eq(spm_extmap_find(&b, 0, 60), 21);
	ck_assert_uint_eq(count_out(&b, 60), 0);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

START_TEST(damaged_flags)
{
	struct spm_extmap m, b;

	new_map(&m);
	fill(&m);
	m.head[3].flags = 0x4000 | SPM_EXTFILE_TRIM;
	take_over(&b, m.fd, 1);
	ck_assert_uint_eq(b.head[3].flags, SPM_EXTFILE_DIRECT | SPM_EXTFILE_TRIM);
	ck_assert_uint_eq(count_out(&b, 52), 800);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

START_TEST(damaged_leaf)
{
	struct spm_extmap m, b;
	char *victim;

	new_map(&m);
	fill(&m);
	victim = spm_extpool_unit(_i < 4 ? m.middles : m.larges, 5);
	victim[_i % 4 * 4] = (char)(victim[_i % 4 * 4] ^ 0x40);
	take_over(&b, m.fd, 1);
	for (uint64_t i = 0; i < 20; i++) {
		bool hit = _i < 4 ? i == 4 : i == 1;

		ck_assert_uint_eq(count_out(&b, 50 + i), !hit ? 800 : _i < 4 ? 780 : 460);
	}
	/* its place can be had anew, in another leaf */
	swap_out(&b, spm_extmap_find(&b, 0, 54), 10);
	swap_out(&b, spm_extmap_find(&b, 0, 51), 400);
	spm_extmap_detach(&b);
	take_over(&b, m.fd, 1);
	ck_assert(is_out(&b, spm_extmap_find(&b, 0, 54), 10));
	ck_assert(is_out(&b, spm_extmap_find(&b, 0, 51), 400));
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

/* A second head or leaf for the same place is not taken when the first is gone, either. */
START_TEST(two_for_one)
{
	struct spm_extmap m, b;
	uint32_t a, c;

	new_map(&m);
	fill(&m);
	m.head[30] = m.head[7];
	memcpy(spm_extpool_unit(m.middles, 40), spm_extpool_unit(m.middles, 2), EXTMAP_MIDDLE_BYTES);
	memcpy(spm_extpool_unit(m.larges, 100), spm_extpool_unit(m.larges, 9), EXTMAP_LARGE_BYTES);
	take_over(&b, m.fd, 3);
	a = spm_extmap_find(&b, 0, 56);
	c = spm_extmap_find(&b, 0, 51);
	ck_assert_uint_eq(a, 7);
	for (uint64_t i = 0; i < 20; i++)
		ck_assert_uint_eq(count_out(&b, 50 + i), 800);
	drop_file(&b, a);
	ck_assert_int_eq(spm_extmap_each(&b, c, 0, clear_step, NULL), 0);
	ck_assert_int_eq(spm_extmap_each(&b, spm_extmap_find(&b, 0, 52), 0, clear_step, NULL), 0);
	spm_extmap_tidy(&b, c);
	spm_extmap_tidy(&b, spm_extmap_find(&b, 0, 52));
	spm_extmap_detach(&b);
	take_over(&b, m.fd, 3);
	ck_assert_uint_eq(spm_extmap_find(&b, 0, 56), 0);
	ck_assert_uint_eq(count_out(&b, 51) + count_out(&b, 52), 0);
	spm_extmap_detach(&b);
	end_map(&m);
}
END_TEST

/* Exactly that extent is lost. */
START_TEST(damaged_record)
{
	static const uint16_t hows[] = {
		SPM_HOW_MAKE(SPM_EXTENT_HERE, 5, 0), SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 0, 0),
		SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 513, 0), SPM_HOW_MAKE(SPM_EXTENT_OUT, 17, SPM_HOW_SMALL),
		SPM_HOW_MAKE(SPM_EXTENT_IN, 3, SPM_HOW_SMALL | SPM_HOW_SPARSE), SPM_HOW_MAKE(SPM_EXTENT_OUT, 5, 0x8000),
		SPM_HOW_MAKE(SPM_EXTENT_OUT, 5, SPM_HOW_DAMAGED), SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 0, SPM_HOW_DAMAGED),
	};
	static const uint64_t at[] = { 1, 9, 500 };
	struct spm_extmap m, b;
	struct spm_extent *x;

	new_map(&m);
	fill(&m);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(at); i++) {
		x = spm_extmap_get(&m, 3, at[i], false);
		if ((size_t)_i < SPM_ARRAY_SIZE(hows))
			x->how = hows[_i];
		else
			x->slot = 0;
	}
	for (int again = 0; again < 2; again++) {
		take_over(&b, m.fd, again ? 0 : 3);
		ck_assert_uint_eq(b.head[3].swapped, 797 * 512);
		for (uint64_t e = 0; e < 800; e++) {
			bool hit = e == 1 || e == 9 || e == 500;

			x = spm_extmap_get(&b, 3, e, false);
			ck_assert_uint_eq(spm_extmap_next(&b, 3, e, &x), e);
			ck_assert_uint_eq(x->how, hit ? SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 0, SPM_HOW_DAMAGED) :
						  SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 512, 0));
			ck_assert(hit ? !x->slot && !spm_extent_blocks(x) : x->slot == slot_of(52, e));
		}
		spm_extmap_detach(&b);
	}
	end_map(&m);
}
END_TEST

/* Flipped bits wherever something is: the scan survives, and what it shows is whole. */
START_TEST(flipped_bits)
{
	struct spm_extmap m;
	unsigned int seed = (unsigned int)_i + 1;
	int fd = new_file();
	uint32_t damaged = 0;

	ck_assert_int_eq(spm_extmap_attach(&m, fd), 0);
	fill(&m);
	for (int n = 0; n < 300; n++) {
		struct spm_extmap_pool *p = n % 3 == 0 ? m.heads : n % 3 == 1 ? m.middles : m.larges;
		uint32_t unit = 1 + (uint32_t)rand_r(&seed) % p->top;
		char *byte = (char *)spm_extpool_unit(p, unit) + (uint32_t)rand_r(&seed) % p->unit;
		struct spm_extmap b;
		uint32_t live = 0;

		*byte = (char)(*byte ^ 1 << rand_r(&seed) % 8);
		ck_assert_int_eq(spm_extmap_attach(&b, fd), 0);
		ck_assert_int_eq(spm_extmap_scan(&b), 0);
		damaged += b.damaged;
		for (uint32_t f = spm_extmap_next_file(&b, 1); f; f = spm_extmap_next_file(&b, f + 1)) {
			struct spm_extent *x;

			live++;
			ck_assert_uint_eq(spm_extmap_find(&b, b.head[f].slice, b.head[f].ino), f);
			for (uint64_t e = 0; (e = spm_extmap_next(&b, f, e, &x)) != UINT64_MAX; e++)
				ck_assert(x->how & SPM_HOW_DAMAGED ? !x->slot : x->slot && e < 800);
		}
		ck_assert_uint_eq(live, b.live);
		ck_assert_uint_le(live, 20);
		spm_extmap_detach(&b);
	}
	ck_assert_uint_gt(damaged, 300);
	end_map(&m);
}
END_TEST

/* -- killed -- */

#define KILL_FILES   12u
#define KILL_EXTENTS 40u

/* What the worker has done: 0 nothing is recorded, 1 it is out, 2 it was at it. */
struct kills {
	uint8_t out[2][KILL_FILES][KILL_EXTENTS];
	uint8_t head[2][KILL_FILES];
	atomic_ullong rounds;
};

/* Each thread has files of its own; all three kinds of places. */
static uint64_t kill_extent(uint32_t n)
{
	return n < 24 ? n : (uint64_t)n * 400;
}

static void kill_step(struct spm_extmap *m, struct kills *k, int t, unsigned int *seed)
{
	uint32_t i = (uint32_t)rand_r(seed) % KILL_FILES, n = (uint32_t)rand_r(seed) % KILL_EXTENTS;
	uint64_t ino = 100 + i, e = kill_extent(n);
	struct spm_handle h = handle_of(ino);
	uint32_t file = spm_extmap_find(m, (uint16_t)t, ino), what = (uint32_t)rand_r(seed) % 40;
	volatile uint8_t *head = &k->head[t][i], *out = &k->out[t][i][n];
	struct spm_extent *x;

	if (!file) {
		*head = 2;
		if (!spm_extmap_intern(m, (uint16_t)t, ino, &h, 0))
			_exit(1);
		*head = 1;
	} else if (!what) {
		for (n = 0; n < KILL_EXTENTS; n++) {
			x = spm_extmap_get(m, file, kill_extent(n), false);
			k->out[t][i][n] = 2;
			spm_extmap_barrier();
			if (x)
				spm_extent_set_how(x, 0);
			spm_extmap_barrier();
			k->out[t][i][n] = 0;
		}
		*head = 2;
		spm_extmap_forget(m, file);
		*head = 0;
	} else if (what == 1) {
		spm_extmap_tidy(m, file);
	} else {
		x = spm_extmap_get(m, file, e, true);
		if (!x || (*out != 2 && *out != !!x->how))
			_exit(1);
		*out = 2;
		spm_extmap_barrier();
		if (x->how)
			spm_extent_set_how(x, 0);
		else
			set_record(x, ino + 1000 * (uint64_t)t, e);
		spm_extmap_barrier();
		*out = !!x->how;
	}
	atomic_fetch_add(&k->rounds, 1);
}

struct kill_arg {
	struct spm_extmap *m;
	struct kills *k;
	int t;
};

static void *kill_for_ever(void *arg)
{
	struct kill_arg *a = arg;
	unsigned int seed = (unsigned int)(a->t + getpid());

	for (;;)
		kill_step(a->m, a->k, a->t, &seed);
	return NULL;
}

static void run_and_kill(int fd, struct kills *k, unsigned int *seed)
{
	unsigned long long until = atomic_load(&k->rounds) + 10 + (unsigned int)rand_r(seed) % 3000;
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct spm_extmap m;
		struct kill_arg a[2] = { { &m, k, 0 }, { &m, k, 1 } };
		pthread_t id;

		if (spm_extmap_attach(&m, fd) || spm_extmap_scan(&m) || m.damaged ||
		    pthread_create(&id, NULL, kill_for_ever, &a[1]))
			_exit(1);
		kill_for_ever(&a[0]);
	}
	while (atomic_load(&k->rounds) < until)
		if (waitpid(pid, &status, WNOHANG))
			ck_abort_msg("the process ended by itself");
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

/* What the notes say is what the map says; where the worker was at it, the map says. */
static void check_kill(struct spm_extmap *m, struct kills *k, uint16_t t, uint32_t i)
{
	uint64_t ino = 100 + i;
	uint32_t file = spm_extmap_find(m, t, ino), swapped = 0;

	ck_assert(k->head[t][i] == 2 || k->head[t][i] == !!file);
	k->head[t][i] = !!file;
	for (uint32_t n = 0; n < KILL_EXTENTS; n++) {
		uint64_t e = kill_extent(n);
		struct spm_extent *x = file ? spm_extmap_get(m, file, e, false) : NULL;
		bool out = x && x->how;

		ck_assert(k->out[t][i][n] == 2 || k->out[t][i][n] == out);
		ck_assert(!out || x->slot == slot_of(ino + 1000 * (uint64_t)t, e));
		k->out[t][i][n] = out;
		swapped += out ? spm_extent_pages(x) : 0;
	}
	ck_assert(!file || m->head[file].swapped == swapped);
}

START_TEST(killed_at_any_instruction)
{
	struct kills *k = mmap(NULL, sizeof(*k), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int seed = 7;
	struct spm_extmap m;
	int fd = new_file();

	ck_assert_ptr_ne(k, MAP_FAILED);
	for (int n = 0; n < 300; n++) {
		run_and_kill(fd, k, &seed);
		take_over(&m, fd, 0);
		for (uint16_t t = 0; t < 2; t++)
			for (uint32_t i = 0; i < KILL_FILES; i++)
				check_kill(&m, k, t, i);
		spm_extmap_detach(&m);
	}
	munmap(k, sizeof(*k));
	close(fd);
}
END_TEST

/* -- threads -- */

struct racer {
	struct spm_extmap *m;
	unsigned int seed;
	uint16_t slice;
	uint32_t shared;  /* a file that all work on, at extents of their own */
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (uint64_t n = 0; n < 20000; n++) {
		uint64_t ino = 10 + (uint64_t)rand_r(&r->seed) % 64, e = (uint64_t)rand_r(&r->seed) % 2000;
		struct spm_handle h = handle_of(ino);
		uint32_t file = spm_extmap_intern(r->m, r->slice, ino, &h, 0);
		struct spm_extent *x = file ? spm_extmap_get(r->m, file, e, true) : NULL;

		if (!x || spm_extmap_find(r->m, r->slice, ino) != file || spm_extmap_next(r->m, file, 0, &x) != UINT64_MAX)
			return arg;
		if (n % 3 == 0)
			spm_extmap_tidy(r->m, file);
		if (n % 5 == 0)
			spm_extmap_forget(r->m, file);
		e = n * 4 + r->slice;
		x = spm_extmap_get(r->m, r->shared, e, true);
		if (!x)
			return arg;
		set_record(x, 1, e);
		spm_extent_touch(spm_extmap_get(r->m, r->shared, (uint64_t)rand_r(&r->seed) % 2, false), 1);
		if (spm_extmap_next(r->m, r->shared, e, &x) != e || !spm_extmap_bytes(r->m))
			return arg;
	}
	return NULL;
}

START_TEST(threads)
{
	struct spm_extmap m;
	struct racer r[4];
	pthread_t id[4];
	uint32_t shared;
	void *bad;

	new_map(&m);
	shared = intern(&m, 9, 1);
	for (uint16_t i = 0; i < 4; i++) {
		r[i] = (struct racer){ .m = &m, .seed = i, .slice = i, .shared = shared };
		ck_assert_int_eq(pthread_create(&id[i], NULL, race, &r[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(id[i], &bad);
		ck_assert_ptr_null(bad);
	}
	for (uint64_t e = 0; e < 80000; e++)
		ck_assert(is_out(&m, shared, e));
	end_map(&m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("extmap");
	TCase *t = tcase_create("extmap");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, one_head_per_inode);
	tcase_add_test(t, places);
	tcase_add_loop_test(t, against_a_model, 0, 3);
	tcase_add_test(t, sums);
	tcase_add_test(t, times);
	tcase_add_test(t, clock_and_age);
	tcase_add_loop_test(t, dense_file_is_small, 0, 3);
	tcase_add_test(t, sparse_file_is_small);
	tcase_add_test(t, leaves_that_say_nothing_go);
	tcase_add_test(t, many_files_come_and_go);
	tcase_add_test(t, no_memory);
	tcase_add_test(t, other_files_are_refused);
	tcase_add_loop_test(t, damaged_head, 0, 5);
	tcase_add_test(t, damaged_flags);
	tcase_add_loop_test(t, damaged_leaf, 0, 8);
	tcase_add_test(t, two_for_one);
	tcase_add_loop_test(t, damaged_record, 0, 9);
	tcase_add_loop_test(t, flipped_bits, 0, 3);
	tcase_add_test(t, killed_at_any_instruction);
	tcase_add_test(t, threads);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
