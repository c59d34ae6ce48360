/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The extent map is damaged, at each of its bytes: whatever is read is right, or EIO; and what is not hit is right. */
#include "tests/unit/swap.h"

#include "core/extmap-local.h"
#include "tests/progs/oldmap.h"

#define EXTENT (128u << 10) /* 32 pages: slots with a trailer */
#define FILES 3u
#define PAGES_HIT_MAX 32u /* of one extent */

struct file {
	struct sample s;
	struct spm_handle handle;
	uint64_t ino;
};

/* A map, as it was left: the parts of it that have memory. */
#define PARTS 8u
struct saved {
	struct {
		off_t at;
		size_t size;
		char *bytes;
	} part[PARTS];
	unsigned int parts;
};

static struct file files[FILES];
static struct saved saved;

static void save(void)
{
	off_t at = 0, end;

	for (saved.parts = 0; (at = lseek(rig.map_fd, at, SEEK_DATA)) >= 0; at = end) {
		end = lseek(rig.map_fd, at, SEEK_HOLE);
		ck_assert_uint_lt(saved.parts, PARTS);
		saved.part[saved.parts].at = at;
		saved.part[saved.parts].size = (size_t)(end - at);
		saved.part[saved.parts].bytes = rig_pages((size_t)(end - at));
		ck_assert_int_eq(pread(rig.map_fd, saved.part[saved.parts].bytes, (size_t)(end - at), at), end - at);
		saved.parts++;
	}
}

static void restore(void)
{
	ck_assert_int_eq(fallocate(rig.map_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)EXTMAP_BYTES), 0);
	for (unsigned int i = 0; i < saved.parts; i++)
		ck_assert_int_eq(pwrite(rig.map_fd, saved.part[i].bytes, saved.part[i].size, saved.part[i].at),
				 (ssize_t)saved.part[i].size);
}

static struct spm_extent *record(unsigned int i, uint64_t extent)
{
	struct spm_extent *x = spm_extmap_get(&rig.s->map, files[i].s.file, extent, false);

	ck_assert_ptr_nonnull(x);
	return x;
}

/* As a worker leaves it that dies at a move: pages that do not count. */
static void leave_half(unsigned int i, uint64_t extent, enum spm_extent_state state)
{
	struct spm_extent *x = record(i, extent);

	spm_flag_set(spm_extmap_file(&rig.s->map, files[i].s.file), SPM_EXTFILE_MOVING);
	spm_extent_set_how(x, SPM_HOW_MAKE(state, spm_extent_how(x) & ~SPM_HOW_STATE, 0));
}

static void put_junk(unsigned int i, uint64_t extent)
{
	char junk[4096];

	memset(junk, 0x77, sizeof(junk));
	for (uint64_t at = extent * EXTENT; at < (extent + 1) * EXTENT; at += 2 * 4096)
		ck_assert_int_eq(pwrite(files[i].s.fd, junk, sizeof(junk), (off_t)at), sizeof(junk));
}

static void write_extents(struct sample *s, uint64_t from, uint64_t to)
{
	sample_write(s, from * EXTENT, to * EXTENT);
}

/* Slots of all kinds, states of all kinds, in heads and leaves of all kinds; holes, and what has never left. */
static void make_all(void)
{
	struct spm_extmap_change *c;
	struct stat st;

	for (unsigned int i = 0; i < FILES; i++) {
		static const char *const names[FILES] = { "a", "b", "c" };
		struct file *f = &files[i];

		f->s = sample_new(names[i]);
		ck_assert_int_eq(fstat(f->s.fd, &st), 0);
		ck_assert_int_eq(spm_handle_at(f->s.fd, "", &f->handle), 0);
		f->ino = st.st_ino;
	}
	write_extents(&files[0].s, 0, 1);
	sample_write(&files[0].s, EXTENT, EXTENT + 3 * 4096);
	for (uint64_t p = 1; p < 32; p += 2)
		sample_write(&files[1].s, p * 4096, (p + 1) * 4096);
	write_extents(&files[1].s, 2, 3);
	write_extents(&files[1].s, 5, 6);
	write_extents(&files[2].s, 0, 1);
	write_extents(&files[2].s, 3, 5);
	write_extents(&files[2].s, 22, 25);
	for (unsigned int i = 0; i < FILES; i++)
		ck_assert_int_gt(evict(&files[i].s), 0);
	/* one comes back: its record remembers the slot, whose content is on the disk still */
	sample_write(&files[2].s, 4 * EXTENT, 4 * EXTENT + 4096);
	sample_write(&files[2].s, 24 * EXTENT, 24 * EXTENT + 4096);
	write_extents(&files[2].s, 10, 11);
	leave_half(1, 2, SPM_EXTENT_IN);
	leave_half(2, 22, SPM_EXTENT_OUT);
	c = spm_extmap_change_of(&rig.s->map);
	*c = (struct spm_extmap_change){ .ino = files[1].ino, .extent = 5, .file = files[1].s.file, .slot = record(1, 5)->slot,
					 .check = record(1, 5)->check, .how = spm_extent_how(record(1, 5)) };
	c->sum = spm_extmap_change_sum(c);
	rig_close(&rig);
	save();
}

/* How many pages are EIO. */
static unsigned int check_all(const char *what, uint64_t at)
{
	static char buf[4096] __attribute__((aligned(4096)));
	unsigned int lost = 0;

	for (unsigned int i = 0; i < FILES; i++) {
		struct file *f = &files[i];

		/* whoever uses a file sees to it that it has a head */
		f->s.file = spm_swap_file(rig.s, 0, f->ino, &f->handle, false);
		ck_assert_uint_ne(f->s.file, 0);
		for (uint64_t p = 0; p < f->s.size; p += 4096) {
			ssize_t n;

			forget_reads();
			n = read_at(&f->s, buf, 4096, p, NULL);
			if (n == -EIO)
				lost++;
			else if (n != 4096 || memcmp(buf, f->s.want + p, 4096))
				ck_abort_msg("%s, byte %llu: file %u, page %llu: %zd, not what was written", what,
					     (unsigned long long)at, i, (unsigned long long)p / 4096, n);
		}
	}
	return lost;
}

static unsigned int try_it(const char *what, uint64_t at, const unsigned char *bytes, size_t n)
{
	unsigned int lost;

	restore();
	put_junk(1, 2);
	put_junk(2, 22);
	ck_assert_int_eq(pwrite(rig.map_fd, bytes, n, (off_t)at), (ssize_t)n);
	rig_open(&rig, false);
	lost = check_all(what, at);
	rig_close(&rig);
	return lost;
}

static const struct area {
	const char *what;
	uint64_t at;
	uint32_t bytes;
} areas[] = {
	{ "the note of a change", EXTMAP_CHANGE_AT, sizeof(struct spm_extmap_change) },
	{ "heads", EXTMAP_HEADS_AT, (FILES + 1) * sizeof(struct spm_extfile) },
	{ "times", EXTMAP_TIMES_AT, FILES * sizeof(struct spm_exttimes) },
	{ "middle leaves", EXTMAP_MIDDLES_AT, 2 * EXTMAP_MIDDLE_BYTES + 32 },
	{ "large leaves", EXTMAP_LARGES_AT, sizeof(struct spm_extmap_leaf) + 5 * sizeof(struct spm_extent) },
};

static void end_all(void)
{
	for (unsigned int i = 0; i < FILES; i++)
		sample_end(&files[i].s);
	for (unsigned int i = 0; i < saved.parts; i++)
		munmap(saved.part[i].bytes, saved.part[i].size);
	rig_destroy(&rig);
}

/* Thousands of lines in the log say that something is damaged. */
static void quiet(void)
{
	int fd = getenv("SPM_TEST_VERBOSE") ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
		close(fd);
	}
}

/* One bit, all bits, or no bit: nothing but the extent whose record it is can be EIO. */
START_TEST(each_byte)
{
	const struct area *a = &areas[_i];
	unsigned int all = 0;

	quiet();
	set_up(EXTENT);
	make_all();
	ck_assert_uint_eq(try_it("nothing", 0, (unsigned char *)saved.part[0].bytes, 1), 0);
	for (uint64_t at = a->at; at < a->at + a->bytes; at++) {
		unsigned char was = 0, now;

		restore();
		ck_assert_int_eq(pread(rig.map_fd, &was, 1, (off_t)at), 1);
		for (int how = 0; how < 2; how++) {
			unsigned int lost;

			now = how == 0 ? (unsigned char)(was ^ 1u << at % 8) : at % 3 ? 0 : (unsigned char)~was;
			if (now == was)
				continue;
			lost = try_it(a->what, at, &now, 1);
			if (lost > PAGES_HIT_MAX)
				ck_abort_msg("%s, byte %llu: %u pages are EIO", a->what, (unsigned long long)at, lost);
			all += lost;
		}
	}
	/* a head's or leaf's name is put right, and times lead to no content */
	ck_assert(_i == 0 || _i == 2 ? all <= PAGES_HIT_MAX : all > PAGES_HIT_MAX);
	end_all();
}
END_TEST

/* More than can be put right: holes go along, and in a file of which extents were moving all; what is in a head or leaf of its own
 * does not. */
START_TEST(beyond_repair)
{
	static const struct {
		uint64_t at;
		unsigned int lost; /* pages */
	} cases[] = {
		/* all of "b"; the others have leaves for all that they have */
		{ EXTMAP_HEADS_AT + sizeof(struct spm_extfile), 6 * 32 },
		/* the leaf of "b" */
		{ EXTMAP_MIDDLES_AT, 4 * 32 },
		/* 22 to 24 of "c" */
		{ EXTMAP_LARGES_AT, 3 * 32 },
	};
	const unsigned char junk[] = { 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11, 0x22, 0x33, 0x44 };
	unsigned int lost;

	quiet();
	set_up(EXTENT);
	make_all();
	lost = try_it("junk", cases[_i % 3].at, junk, sizeof(junk));
	ck_assert_uint_eq(lost, cases[_i % 3].lost);
	ck_assert_uint_ge(rig.damaged, lost);
	/* the same for another worker, also if the one before had begun; and it is still so when other files are made */
	rig_open(&rig, false);
	if (_i >= 3) {
		const uint64_t began[3][2] = { { 1, 0 }, { 1, 3 }, { 2, 23 } };
		const uint64_t *at = began[_i % 3];

		for (uint64_t e = at[1] + 1; e < files[at[0]].s.size / EXTENT; e++)
			spm_extent_set_how(record((unsigned int)at[0], e), 0);
		spm_flag_set(spm_extmap_file(&rig.s->map, files[at[0]].s.file), SPM_EXTFILE_UNSURE | SPM_EXTFILE_MOVING);
		rig_close(&rig);
		/* the lost one is there still */
		ck_assert_int_eq(pwrite(rig.map_fd, junk, sizeof(junk), (off_t)cases[_i % 3].at), sizeof(junk));
		rig_open(&rig, false);
	}
	files[0].s.file = rig_file(&rig, "new", true, NULL);
	ck_assert_uint_eq(check_all("another", 0), cases[_i % 3].lost);
	/* what is given up can be had anew */
	for (unsigned int i = 0; i < FILES; i++) {
		ck_assert_int_eq(rig_truncate(&rig, files[i].s.file, files[i].s.fd, 0), 0);
		files[i].s.size = 0;
		sample_write(&files[i].s, 0, 3 * MIB);
	}
	ck_assert_uint_eq(check_all("anew", 0), 0);
	rig_close(&rig);
	rig_open(&rig, false);
	ck_assert_uint_eq(check_all("anew, of another", 0), 0);
	rig_close(&rig);
	end_all();
}
END_TEST

/* The same, left by an older program. */
START_TEST(old_version)
{
	int fd = memfd_create("extents", MFD_CLOEXEC);

	set_up(EXTENT);
	make_all();
	put_junk(1, 2);
	put_junk(2, 22);
	oldmap_make(rig.map_fd);
	ck_assert_int_eq(spm_extmap_renew(rig.map_fd, fd), 0);
	ck_assert_int_eq(dup3(fd, rig.map_fd, O_CLOEXEC), rig.map_fd);
	close(fd);
	rig_open(&rig, false);
	ck_assert_uint_eq(rig.s->map.damaged, 0);
	ck_assert_uint_eq(check_all("nothing", 0), 0);
	ck_assert_uint_eq(rig.damaged, 0);
	rig_close(&rig);
	end_all();
}
END_TEST

void add_damage_tests(TCase *t)
{
	tcase_add_test(t, old_version);
	tcase_add_loop_test(t, beyond_repair, 0, 6);
	tcase_add_loop_test(t, each_byte, 0, SPM_ARRAY_SIZE(areas));
}
