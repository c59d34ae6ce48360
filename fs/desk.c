/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/desk.h"
#include "fs/fault.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define PAGE 4096u
/* What precedes the data of a WRITE. Data that begins in the middle of a page is copied in two parts, and out of step:
 * twice the time. */
#define WRITE_HEADER (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define IDS_OFFSET   (SPM_BUFFER_STRIDE - SPM_BUFFER_IDS * sizeof(uint64_t))
_Static_assert(PAGE + SPM_WIRE_BUFSIZE <= IDS_OFFSET, "request and ids share a buffer");

static size_t desks_offset(void)
{
	return SPM_STATE_HEAD_BYTES;
}

size_t spm_state_bytes(void)
{
	return (desks_offset() + SPM_SLOTS * sizeof(struct spm_desk) + PAGE - 1) & ~(size_t)(PAGE - 1);
}

size_t spm_buffers_bytes(void)
{
	return (size_t)SPM_SLOTS * SPM_BUFFER_STRIDE;
}

static int make_memfd(const char *name, size_t bytes)
{
	spm_auto_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return spm_steal_fd(&fd);
}

int spm_desks_create(int *state_fd, int *buffers_fd)
{
	const char *faults = getenv("SPMFS_FAULTS");
	const struct {
		uint64_t magic;
		uint32_t version, bytes;
	} head = { SPM_STATE_MAGIC, SPM_STATE_VERSION, (uint32_t)spm_state_bytes() };
	const uint32_t on = faults && !strcmp(faults, "1");
	spm_auto_close int state = make_memfd("spmfs-state", spm_state_bytes());
	int buffers;

	_Static_assert(offsetof(struct spm_state, bytes) == 12, "the head as it is written here");
	if (state < 0)
		return state;
	if (pwrite(state, &head, sizeof(head), 0) != sizeof(head) ||
	    pwrite(state, &on, sizeof(on), offsetof(struct spm_state, faults_on)) != sizeof(on))
		return -errno;
	buffers = make_memfd("spmfs-requests", spm_buffers_bytes());
	if (buffers < 0)
		return buffers;
	*buffers_fd = buffers;
	*state_fd = spm_steal_fd(&state);
	return 0;
}

static bool has_size(int fd, size_t bytes)
{
	struct stat st;

	return !fstat(fd, &st) && (uint64_t)st.st_size == bytes;
}

int spm_desks_attach(struct spm_desks *d, int state_fd, int buffers_fd)
{
	char *p;

	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
	if (!has_size(state_fd, spm_state_bytes()) || !has_size(buffers_fd, spm_buffers_bytes()))
		return -EPROTO;
	p = mmap(NULL, spm_state_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	d->state = (void *)p;
	d->desk = (void *)(p + desks_offset());
	p = mmap(NULL, spm_buffers_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, buffers_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	d->buffers = p;
	d->generation = d->state->generation;
	return d->state->magic == SPM_STATE_MAGIC && d->state->version == SPM_STATE_VERSION &&
	       d->state->bytes == spm_state_bytes() ? 0 : -EPROTO;
}

void spm_desks_detach(struct spm_desks *d)
{
	if (d->state)
		munmap(d->state, spm_state_bytes());
	if (d->buffers)
		munmap(d->buffers, spm_buffers_bytes());
	d->state = NULL;
	d->buffers = NULL;
}

void *spm_desk_buffer(const struct spm_desks *d, uint32_t slot)
{
	return d->buffers + (size_t)slot * SPM_BUFFER_STRIDE + PAGE - WRITE_HEADER;
}

uint64_t *spm_desk_ids(const struct spm_desks *d, uint32_t slot)
{
	return (void *)(d->buffers + (size_t)slot * SPM_BUFFER_STRIDE + IDS_OFFSET);
}

static void give_back(struct spm_desks *d, uint32_t slot)
{
	pthread_mutex_lock(&d->lock);
	d->taken[slot / 64] &= ~(UINT64_C(1) << slot % 64);
	pthread_mutex_unlock(&d->lock);
}

/*
 * A read(2) of a request that has to fault its buffer in fails when SIGKILL comes at that moment, and the kernel answers
 * the request with EIO then: so all of the buffer is there before.
 */
static int populate(struct spm_desks *d, uint32_t slot)
{
	char *p = d->buffers + (size_t)slot * SPM_BUFFER_STRIDE;

	if (!madvise(p, IDS_OFFSET, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL)
		return -errno;
	/* before Linux 5.14 */
	for (size_t at = 0; at < IDS_OFFSET; at += PAGE)
		__atomic_or_fetch(p + at, 0, __ATOMIC_RELAXED);
	return 0;
}

int spm_desk_take(struct spm_desks *d, struct spm_thread *t)
{
	uint32_t i;
	int rc;

	pthread_mutex_lock(&d->lock);
	for (i = 0; i < SPM_SLOTS; i++)
		/* of a slot that nobody took, it may be cleared at this moment: see spm_desk_clear() */
		if (!(d->taken[i / 64] >> i % 64 & 1) &&
		    __atomic_load_n(&d->state->hold[i].stage, __ATOMIC_ACQUIRE) == SPM_STAGE_FREE)
			break;
	if (i < SPM_SLOTS)
		d->taken[i / 64] |= UINT64_C(1) << i % 64;
	pthread_mutex_unlock(&d->lock);
	if (i == SPM_SLOTS)
		return -EMFILE;
	rc = populate(d, i);
	if (rc) {
		give_back(d, i);
		return rc;
	}
	t->slot = i;
	t->hold = &d->state->hold[i];
	t->desk = &d->desk[i];
	t->desks = d;
	t->buf = spm_desk_buffer(d, i);
	t->book = (struct spm_book){ .ledger = &t->desk->ledger, .ids = spm_desk_ids(d, i), .ids_max = SPM_BUFFER_IDS };
	/* before the generation: what the last owner was doing is no more */
	t->hold->flags = 0;
	spm_state_barrier();
	t->hold->generation = d->generation;
	return 0;
}

void spm_desk_leave(struct spm_desks *d, struct spm_thread *t)
{
	if (!t->desk)
		return;
	t->hold->stage = SPM_STAGE_FREE;
	/* a large request has left its pages here */
	madvise(d->buffers + (size_t)t->slot * SPM_BUFFER_STRIDE, SPM_BUFFER_STRIDE, MADV_REMOVE);
	give_back(d, t->slot);
	t->desk = NULL;
}

void spm_desk_reading(struct spm_thread *t)
{
	struct fuse_in_header *h = t->buf;

	if (t->hold->stage == SPM_STAGE_READING && !h->len)
		return;
	t->hold->stage = SPM_STAGE_FREE;
	spm_state_barrier();
	memset(t->desk, 0, sizeof(*t->desk));
	/* a crash finds out by this whether a request has come */
	h->len = 0;
	h->opcode = 0;
	spm_state_barrier();
	t->hold->stage = SPM_STAGE_READING;
}

void spm_desk_begin(struct spm_thread *t)
{
	const struct fuse_in_header *h = t->buf;
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	t->desk->unique = h->unique & ~SPM_FUSE_UNIQUE_RESEND;
	t->hold->opcode = h->opcode;
	t->hold->since_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	spm_fault("taken");
	spm_state_barrier();
	t->hold->stage = SPM_STAGE_HELD;
	spm_state_barrier();
	/* not before: it is in hand at every moment for one reason or the other */
	t->hold->flags = 0;
}

void spm_desk_end(struct spm_thread *t)
{
	spm_state_barrier();
	t->hold->stage = SPM_STAGE_FREE;
}

void spm_desk_answering(bool yes)
{
	spm_state_barrier();
	spm_self->hold->stage = yes ? SPM_STAGE_ANSWERING : SPM_STAGE_HELD;
	spm_state_barrier();
}

void spm_desk_clear(struct spm_desks *d, uint32_t slot)
{
	/* more threads may have been at work then than ever will be again */
	madvise(d->buffers + (size_t)slot * SPM_BUFFER_STRIDE, SPM_BUFFER_STRIDE, MADV_REMOVE);
	/* last: a thread that finds the slot free reads a request into its buffer at once */
	__atomic_store_n(&d->state->hold[slot].stage, SPM_STAGE_FREE, __ATOMIC_RELEASE);
}

void spm_begin(uint64_t a, uint64_t b, uint64_t other)
{
	struct spm_desk *d = spm_self->desk;

	if (d->begun) /* what was there before is what the first worker saw */
		return;
	d->a = a;
	d->b = b;
	d->other = other;
	spm_state_barrier();
	d->begun = 1;
	spm_state_barrier();
}

bool spm_again(uint64_t *a, uint64_t *b)
{
	const struct spm_desk *d = spm_self->desk;

	if (a)
		*a = d->a;
	if (b)
		*b = d->b;
	return d->begun;
}

void spm_done(int rc, uint64_t result)
{
	struct spm_desk *d = spm_self->desk;

	d->rc = rc;
	d->result = result;
	spm_state_barrier();
	d->done = 1;
	spm_state_barrier();
}

bool spm_was_done(int *rc, uint64_t *result)
{
	const struct spm_desk *d = spm_self->desk;

	if (!d->done)
		return false;
	*rc = d->rc;
	if (result)
		*result = d->result;
	return true;
}

const struct spm_book *spm_my_book(void)
{
	return spm_self && spm_self->desk ? &spm_self->book : NULL;
}
