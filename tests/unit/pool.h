/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_POOL_H
#define SPM_TESTS_POOL_H

#include "core/pool-local.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* For what is asked a million times: Check writes down each assertion that holds, too. */
#define must(holds)                                         \
	do {                                                \
		if (!(holds))                               \
			ck_abort_msg("failed: %s", #holds); \
	} while (0)

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)

/* A pool on a memfd that stands in for the device, with whatever the one before has left there. */
struct pool_rig {
	struct spm_pool *p;
	struct spm_pool_device dev;
	int state;
};

static const uint8_t rig_uuid[16] = "a pool for tests";

static inline void rig_device(struct pool_rig *r, uint64_t bytes, bool dirty)
{
	uint8_t *at;

	r->dev = (struct spm_pool_device){ .fd = memfd_create("device", MFD_CLOEXEC), .bytes = bytes, .align = 4096 };
	r->state = memfd_create("state", MFD_CLOEXEC);
	must(r->dev.fd >= 0 && r->state >= 0 && !ftruncate(r->dev.fd, (off_t)bytes));
	if (!dirty)
		return;
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->dev.fd, 0);
	must(at != MAP_FAILED);
	memset(at, 0xaa, bytes);
	munmap(at, bytes);
}

static inline void rig_attach(struct pool_rig *r, const struct spm_pool_opts *o)
{
	ck_assert_int_eq(spm_pool_attach(&r->p, r->state, &r->dev, o), 0);
}

static inline void rig_make(struct pool_rig *r, uint64_t bytes, uint32_t extent)
{
	rig_device(r, bytes, true);
	ck_assert_int_eq(spm_pool_create(r->state, &r->dev, extent, rig_uuid), 0);
	rig_attach(r, NULL);
}

/* As the next process would. */
static inline void rig_again(struct pool_rig *r, const struct spm_pool_opts *o)
{
	spm_pool_detach(r->p);
	rig_attach(r, o);
}

static inline void rig_end(struct pool_rig *r)
{
	spm_pool_detach(r->p);
	close(r->state);
	close(r->dev.fd);
}

static inline struct spm_pool_stats rig_stats(struct pool_rig *r)
{
	struct spm_pool_stats st;

	spm_pool_stats(r->p, &st, false);
	return st;
}

/* What index, sets, records and counts say of each other. */
void rig_audit(struct spm_pool *p);

/* The other parts of the suite. */
void add_poison_tests(Suite *s);
void add_slices_tests(TCase *t);
void add_model_tests(Suite *s);

#endif
