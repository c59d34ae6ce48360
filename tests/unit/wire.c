/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wire (fs/wire.h): INIT is the same whatever libfuse says, and new requests arrive as old ones. */
#include "fs/wire.h"
#include "tests/unit/unit.h"

#include <string.h>

struct request {
	struct fuse_in_header h;
	unsigned char arg[256];
};

static size_t feed(struct request *r, uint32_t opcode, size_t arg, struct spm_wire_init *i, struct spm_wire_request *w)
{
	r->h.opcode = opcode;
	r->h.len = (uint32_t)(sizeof(r->h) + arg);
	r->h.unique = 42;
	return spm_wire_request(r, r->h.len, i, w);
}

static void offer(struct spm_wire_init *i, uint64_t flags)
{
	struct request r = { .h = { .len = 0 } };
	uint32_t in[16] = { 7, 45, 131072, (uint32_t)(flags | SPM_FUSE_INIT_EXT), (uint32_t)(flags >> 32) };
	struct spm_wire_request w;

	memcpy(r.arg, in, sizeof(in));
	feed(&r, FUSE_INIT, sizeof(in), i, &w);
	memcpy(in, r.arg, sizeof(in));
	/* libfuse sees no offer that it might take by itself */
	ck_assert_uint_eq(in[4], 0);
	ck_assert(!(in[3] & FUSE_WRITEBACK_CACHE) && !(in[3] & SPM_FUSE_SETXATTR_EXT));
}

static uint64_t agreed_of(const unsigned char out[64])
{
	unsigned char reply[sizeof(struct fuse_out_header) + 64] = { 0 };

	memcpy(reply + sizeof(struct fuse_out_header), out, 64);
	ck_assert_uint_eq(spm_wire_agreed(reply, sizeof(reply) - 1), 0);
	return spm_wire_agreed(reply, sizeof(reply));
}

static void answer(struct spm_wire_init *i, unsigned char fill, uint64_t without, unsigned char out[64])
{
	struct fuse_out_header h = { .len = sizeof(h) + 64 };
	struct iovec iov[2] = { { &h, sizeof(h) }, { out, 64 } };

	memset(out, fill, 64); /* whatever the library's version put there */
	spm_wire_reply(iov, 2, i, without);
	if (i->done)
		ck_assert_uint_eq(agreed_of(out), i->agreed);
}

START_TEST(init_is_ours)
{
	unsigned char a[64], b[64];
	struct spm_wire_init x = { 0 }, y = { 0 };

	offer(&x, UINT64_MAX);
	offer(&y, UINT64_MAX);
	answer(&x, 0x55, 0, a);
	answer(&y, 0x22, 0, b);
	ck_assert_mem_eq(a, b, 64);
	ck_assert(x.done && x.agreed & SPM_FUSE_PASSTHROUGH && x.agreed & SPM_FUSE_HANDLE_KILLPRIV_V2);
	ck_assert(x.agreed & SPM_FUSE_ALLOW_IDMAP);
	ck_assert(!(x.agreed & FUSE_WRITEBACK_CACHE));
}
END_TEST

START_TEST(init_takes_what_is_offered)
{
	unsigned char out[64];
	struct spm_wire_init old = { 0 }, off = { 0 };
	uint32_t depth;

	offer(&old, FUSE_ASYNC_READ | FUSE_WRITEBACK_CACHE);
	answer(&old, 0, 0, out);
	ck_assert_uint_eq(old.agreed, FUSE_ASYNC_READ | SPM_FUSE_INIT_EXT);
	memcpy(&depth, out + 40, sizeof(depth));
	ck_assert_uint_eq(depth, 0);
	offer(&off, UINT64_MAX);
	answer(&off, 0, SPM_FUSE_PASSTHROUGH, out);
	ck_assert(!(off.agreed & SPM_FUSE_PASSTHROUGH) && off.agreed & SPM_FUSE_ALLOW_IDMAP);
	memcpy(&depth, out + 40, sizeof(depth));
	ck_assert_uint_eq(depth, 0);
}
END_TEST

START_TEST(statx_becomes_getattr)
{
	struct request r = { .h = { .len = 0 } };
	struct spm_wire_init i = { 0 };
	struct spm_wire_request w;
	struct fuse_getattr_in in;
	size_t n;

	n = feed(&r, 52, 24, &i, &w);
	memcpy(&in, r.arg, sizeof(in));
	ck_assert(w.statx);
	ck_assert_uint_eq(w.unique, 42);
	ck_assert_uint_eq(r.h.opcode, FUSE_GETATTR);
	ck_assert_uint_eq(n, sizeof(r.h) + sizeof(in));
	ck_assert_uint_eq(r.h.len, n);
}
END_TEST

START_TEST(tmpfile_becomes_create)
{
	struct request r = { .h = { .len = 0 } };
	struct spm_wire_init i = { 0 };
	struct spm_wire_request w;

	feed(&r, 51, 16, &i, &w);
	ck_assert(w.tmpfile);
	ck_assert_uint_eq(r.h.opcode, FUSE_CREATE);
	feed(&r, FUSE_CREATE, 16, &i, &w);
	ck_assert(!w.tmpfile);
}
END_TEST

START_TEST(setxattr_gets_short)
{
	struct request r = { .h = { .len = 0 } };
	struct spm_wire_init i = { .agreed = SPM_FUSE_SETXATTR_EXT };
	struct spm_wire_request w;
	uint32_t in[4] = { 3, 1, 1, 0 };
	size_t n;

	memcpy(r.arg, in, sizeof(in));
	memcpy(r.arg + 16, "user.a\0val", 10);
	n = feed(&r, FUSE_SETXATTR, 26, &i, &w);
	ck_assert_uint_eq(n, sizeof(r.h) + 18);
	ck_assert_mem_eq(r.arg, in, 8);
	ck_assert_mem_eq(r.arg + 8, "user.a\0val", 10);
	ck_assert(w.acl_kill_sgid);
	i.agreed = 0; /* an old kernel sends the short one */
	n = feed(&r, FUSE_SETXATTR, 18, &i, &w);
	ck_assert_uint_eq(n, sizeof(r.h) + 18);
	ck_assert(!w.acl_kill_sgid);
}
END_TEST

START_TEST(short_requests_are_left_alone)
{
	static const uint32_t ops[] = { FUSE_INIT, 51, 52, FUSE_SETXATTR, FUSE_WRITE, FUSE_OPEN, FUSE_CREATE, FUSE_SETATTR };
	struct spm_wire_init i = { .agreed = SPM_FUSE_SETXATTR_EXT };
	struct spm_wire_request w;

	for (size_t arg = 0; arg < 8; arg++) {
		struct request r = { .h = { .len = 0 } };

		ck_assert_uint_eq(feed(&r, ops[_i], arg, &i, &w), sizeof(r.h) + arg);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wire");
	TCase *t = tcase_create("wire");

	tcase_add_test(t, init_is_ours);
	tcase_add_test(t, init_takes_what_is_offered);
	tcase_add_test(t, statx_becomes_getattr);
	tcase_add_test(t, tmpfile_becomes_create);
	tcase_add_test(t, setxattr_gets_short);
	tcase_add_loop_test(t, short_requests_are_left_alone, 0, 8);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
