/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_RING_H
#define SPM_TESTS_RING_H

/* What both tests of the ring use. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include "core/ring.h"
#include "tests/unit/unit.h"

#define BLOCK 4096u

enum kind { DISK, MEMORY, KINDS };

/* A new file without a name, O_DIRECT if it is on a disk that has it. */
static inline int new_file(enum kind kind, off_t size)
{
	char path[] = "ring-XXXXXX";
	int fd = kind == MEMORY ? memfd_create("ring", MFD_CLOEXEC) : mkstemp(path);

	ck_assert_int_ge(fd, 0);
	if (kind == DISK) {
		unlink(path);
		(void)!fcntl(fd, F_SETFL, O_DIRECT);
	}
	ck_assert_int_eq(ftruncate(fd, size), 0);
	return fd;
}

static inline struct spm_ring *new_ring(const int *files, unsigned int count, unsigned int depth)
{
	struct spm_ring *r = NULL;

	ck_assert_int_eq(spm_ring_open(&r, files, count, depth), 0);
	return r;
}

static inline void *new_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

/* Each 8 bytes say what and where they are. */
static inline void stamp(uint64_t *p, size_t bytes, uint64_t what, uint64_t offset)
{
	for (size_t i = 0; i < bytes / 8; i++)
		p[i] = (what << 40) ^ (offset + i * 8);
}

static inline bool is_stamped(const uint64_t *p, size_t bytes, uint64_t what, uint64_t offset)
{
	for (size_t i = 0; i < bytes / 8; i++)
		if (p[i] != ((what << 40) ^ (offset + i * 8)))
			return false;
	return true;
}

struct one {
	struct spm_io io;
	struct iovec iov;
};

static inline struct spm_io *make(struct one *o, enum spm_io_op op, unsigned int file, void *buf, size_t len,
			   uint64_t offset)
{
	o->iov = (struct iovec){ buf, len };
	o->io = (struct spm_io){ .op = op, .file = file, .offset = offset, .iov = &o->iov, .iovs = 1, .arg = o };
	return &o->io;
}

/* Does one and waits; its result. */
static inline int run(struct spm_ring *r, struct spm_io *io)
{
	struct spm_ioq q;

	spm_ioq_init(&q);
	spm_ring_submit(r, &q, &io, 1);
	ck_assert_ptr_eq(spm_ioq_next(&q, true), io);
	ck_assert_ptr_null(spm_ioq_next(&q, true));
	spm_ioq_destroy(&q);
	return io->result;
}

/* Takes all of a queue; how many ended with @rc. */
static inline unsigned int ended(struct spm_ioq *q, int rc)
{
	unsigned int n = 0;
	struct spm_io *io;

	while ((io = spm_ioq_next(q, true)))
		n += io->result == rc;
	return n;
}

#endif
