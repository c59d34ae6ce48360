/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of slices: records, and the one store that makes each count. */
#include "core/slices-local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include "core/trailer.h"

#define MAGIC UINT64_C(0x31636c736d7073) /* "spmslc1" */

uint32_t spm_slice_check(const struct spm_slice_record *r)
{
	return spm_crc((const char *)r + sizeof(r->check), sizeof(*r) - sizeof(r->check));
}

const struct spm_slice_record *spm_slices_raw(const struct spm_slices *t, uint16_t id)
{
	const struct spm_slices_entry *e = &t->file->entry[id];

	return &e->copy[atomic_load_explicit(&e->which, memory_order_acquire) & 1];
}

/* On a disk both copies may be half there after a power failure, but only one at a time is changed. */
static void write_back(void *at, size_t len)
{
	uintptr_t from = (uintptr_t)at & ~(uintptr_t)4095, to = ((uintptr_t)at + len + 4095) & ~(uintptr_t)4095;

	if (msync((void *)from, to - from, MS_SYNC))
		spm_log(SPM_LOG_ERR, "the table of slices cannot be written back: %m");
}

/* One store makes it count. */
void spm_slices_commit(struct spm_slices *t, struct spm_slice_record *r)
{
	struct spm_slices_entry *e = &t->file->entry[r->id];
	uint32_t next = (atomic_load(&e->which) + 1) & 1;

	r->seq = spm_slices_raw(t, r->id)->seq + 1;
	r->limits.seq = 0;
	r->check = spm_slice_check(r);
	e->copy[next] = *r;
	atomic_store(&e->which, next);
	if (t->durable)
		write_back(e, sizeof(*e));
}

void spm_slices_commit_state(struct spm_slices *t, uint16_t id, enum spm_slice_state state)
{
	struct spm_slice_record r = *spm_slices_raw(t, id);

	r.state = (uint16_t)state;
	spm_slices_commit(t, &r);
}

#define ROOT_PAGES ((UINT64_C(1) << 48) - 1)

static uint64_t root_word(uint64_t pages)
{
	return (uint64_t)(spm_crc(&pages, sizeof(pages)) & 0xffff) << 48 | pages;
}

uint64_t spm_slices_root_max(const struct spm_slices *t)
{
	uint64_t word = atomic_load(&t->file->root_max);

	return word == root_word(word & ROOT_PAGES) ? (word & ROOT_PAGES) << 12 : t->device_bytes;
}

void spm_slices_put_root_max(struct spm_slices *t, uint64_t bytes)
{
	atomic_store(&t->file->root_max, root_word((bytes >> 12) & ROOT_PAGES));
	if (t->durable)
		write_back(t->file, offsetof(struct spm_slices_file, entry));
}

int spm_slices_map(struct spm_slices *t, int fd)
{
	void *p = mmap(NULL, sizeof(*t->file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	t->file = p;
	t->durable = spm_slices_in_dir(t);
	return 0;
}

int spm_slices_make(struct spm_slices *t)
{
	static const char next[] = SPM_REGION_SLICES ".new";
	spm_auto_close int fd = -1;
	struct statvfs sv;
	int rc;

	if (t->file)
		return 0;
	/* the region's own small filesystem has no room for a table */
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=0") ||
	    (mkdir(SPM_REGION_SLICE_DIR, 0700) && errno != EEXIST))
		return -errno;
	rc = spm_slice_statfs(spm_slices_get(t, 0), &sv);
	if (rc)
		return rc;
	fd = spm_slices_in_dir(t) ? spm_slices_dir_table() : open(next, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return spm_slices_in_dir(t) ? fd : -errno;
	if (ftruncate(fd, sizeof(*t->file)))
		return -errno;
	rc = spm_slices_map(t, fd);
	if (rc)
		return rc;
	spm_slices_put_root_max(t, t->claim ? spm_claim_max(t->claim) : (uint64_t)sv.f_blocks * sv.f_frsize);
	atomic_store(&t->file->next, 1);
	t->file->magic = MAGIC;
	if (spm_slices_in_dir(t))
		rc = spm_slices_dir_keep(fd);
	else
		rc = rename(next, SPM_REGION_SLICES) ? -errno : 0;
	if (!rc && spm_slices_in_dir(t))
		spm_slices_dir_share(t);
	if (!rc)
		return 0;
	munmap(t->file, sizeof(*t->file));
	t->file = NULL;
	return rc;
}

bool spm_slices_settle_head(struct spm_slices *t)
{
	struct spm_slices_file *f = t->file;
	uint64_t word = atomic_load(&f->root_max);
	bool mine = f->magic == MAGIC;

	if (!mine || word != root_word(word & ROOT_PAGES))
		spm_log(SPM_LOG_ERR, "the table of slices is damaged: check the limits of all");
	f->magic = MAGIC;
	spm_slices_put_root_max(t, spm_slices_root_max(t));
	return mine;
}

/* -- by place -- */

static struct spm_slice *_Atomic *bucket_of(struct spm_slices *t, uint64_t place)
{
	return &t->at_place[place % SPM_SLICES_BUCKETS];
}

void spm_slices_show(struct spm_slices *t, struct spm_slice *s)
{
	struct spm_slice *_Atomic *bucket = bucket_of(t, s->place);

	atomic_store(&s->next_at, atomic_load(bucket));
	atomic_store(bucket, s);
}

void spm_slices_hide(struct spm_slices *t, struct spm_slice *s)
{
	struct spm_slice *_Atomic *at = bucket_of(t, s->place);

	while (atomic_load(at) && atomic_load(at) != s)
		at = &atomic_load(at)->next_at;
	if (atomic_load(at))
		atomic_store(at, atomic_load(&s->next_at));
}

struct spm_slice *spm_slices_at(struct spm_slices *t, uint64_t place)
{
	struct spm_slice *s = atomic_load_explicit(bucket_of(t, place), memory_order_acquire);

	while (s && s->place != place)
		s = atomic_load_explicit(&s->next_at, memory_order_acquire);
	return s;
}
