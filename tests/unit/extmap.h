/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_EXTMAP_H
#define SPM_TESTS_EXTMAP_H

#include "core/extmap-local.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* For what is asked a million times: Check writes down each assertion that holds, too. */
#define must(holds)                                       \
	do {                                              \
		if (!(holds))                             \
			ck_abort_msg("failed: %s", #holds); \
	} while (0)

/* The other parts of the suite. */
void add_damage_tests(TCase *t);
void add_kill_test(TCase *t);
void add_old_tests(TCase *t);

static inline struct spm_handle handle_of(uint64_t ino)
{
	struct spm_handle h = { .type = 1, .len = 8 };

	memcpy(h.bytes, &ino, sizeof(ino));
	return h;
}

static inline int new_file(void)
{
	struct spm_extmap_setup setup = { .uuid = "a region", .extent_bytes = SPM_EXTENT_MAX, .files = 2 };
	int fd = memfd_create("extents", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(spm_extmap_create(fd, &setup), 0);
	return fd;
}

static inline void new_map(struct spm_extmap *m)
{
	ck_assert_int_eq(spm_extmap_attach(m, new_file()), 0);
}

static inline void end_map(struct spm_extmap *m)
{
	int fd = m->fd;

	spm_extmap_detach(m);
	close(fd);
}

/* Attaches and scans as the next process would. */
static inline void take_over(struct spm_extmap *m, int fd, uint32_t damaged)
{
	ck_assert_int_eq(spm_extmap_attach(m, fd), 0);
	ck_assert_int_eq(spm_extmap_scan(m), 0);
	ck_assert_uint_eq(m->damaged, damaged);
}

static inline uint32_t intern(struct spm_extmap *m, uint16_t slice, uint64_t ino)
{
	struct spm_handle h = handle_of(ino);
	uint32_t file = spm_extmap_intern(m, slice, ino, &h, SPM_EXTFILE_DIRECT);

	must(file);
	return file;
}

/* A slot that is this extent's and no other's: what is found must be what was put there. */
static inline uint32_t slot_of(uint64_t ino, uint64_t extent)
{
	uint64_t x = ino * UINT64_C(0x9e3779b97f4a7c15) ^ extent * UINT64_C(0xd6e8feb86659fd93);

	return (uint32_t)(x >> 33) | 1;
}

static inline void set_record(struct spm_extent *x, uint64_t ino, uint64_t extent)
{
	x->slot = slot_of(ino, extent);
	x->check = ~x->slot;
	spm_extent_touch(x, spm_extmap_clock());
	spm_extent_set_how(x, SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 512, 0));
}

static inline void swap_out(struct spm_extmap *m, uint32_t file, uint64_t extent)
{
	struct spm_extent *x = spm_extmap_get(m, file, extent, true);

	must(x);
	set_record(x, m->head[file].ino, extent);
}

static inline bool is_out(struct spm_extmap *m, uint32_t file, uint64_t extent)
{
	struct spm_extent *x = spm_extmap_get(m, file, extent, false);

	if (!x || !spm_extent_how(x))
		return false;
	must(x->slot == slot_of(m->head[file].ino, extent));
	must(x->check == ~x->slot);
	return true;
}

/* As a wild store would do it. */
static inline void flip(void *at, uint8_t with)
{
	*(uint8_t *)at ^= with;
}

static inline int clear_step(void *arg, uint64_t extent, struct spm_extent *x)
{
	(void)arg, (void)extent;
	spm_extent_set_how(x, 0);
	return 0;
}

static inline void drop_file(struct spm_extmap *m, uint32_t file)
{
	ck_assert_int_eq(spm_extmap_each(m, file, 0, clear_step, NULL), 0);
	spm_extmap_forget(m, file);
}

#endif
