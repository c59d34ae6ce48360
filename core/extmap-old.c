/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extent maps of version 1, which a worker of an older program has left: copied, unit by unit, into a map of today's version. Areas
 * and sizes are the same; heads, checks and the last word of a record are not.
 */
#include "core/extmap-local.h"
#include "core/mix.h"
#include "core/trailer.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct old_extent {
	uint32_t slot, check;
	uint16_t used, how;
};

struct old_head {
	uint64_t ino; /* 0: free */
	uint16_t slice, check;
	struct spm_handle handle;
	uint16_t flags;
	uint32_t swapped;
	uint16_t used, times;
	struct old_extent first[SPM_EXTFILE_INLINE];
};
_Static_assert(sizeof(struct old_head) == sizeof(struct spm_extfile), "the same place");

struct old_leaf {
	uint32_t file; /* 0: free */
	uint32_t check;
	uint64_t group;
	struct old_extent x[];
};
_Static_assert(sizeof(struct old_extent) == sizeof(struct spm_extent), "the same place");

struct old_change {
	uint64_t ino, extent;
	uint32_t file, slot, check;
	uint16_t slice, how;
};

#define OLD_FLAGS (SPM_EXTFILE_DIRECT | SPM_EXTFILE_TRIM | SPM_EXTFILE_TIMES | SPM_EXTFILE_SHOWN)

/* -- the checks that it had -- */

static uint64_t inode_of(const struct old_head *f)
{
	const char *at = (const char *)&f->handle;
	uint64_t x = spm_mix(EXTMAP_MAGIC ^ f->ino) ^ f->slice;

	for (size_t done = 0; done < sizeof(f->handle); done += sizeof(x)) {
		size_t n = sizeof(f->handle) - done;
		uint64_t word = 0;

		memcpy(&word, at + done, n < sizeof(word) ? n : sizeof(word));
		x = spm_mix(x ^ word);
	}
	return x;
}

static bool head_ok(const struct old_head *f)
{
	return f->ino && f->handle.len <= SPM_HANDLE_BYTES && f->check == (uint16_t)inode_of(f);
}

struct renewal {
	const char *from;
	char *to;
	uint32_t pages_max;
};

static const struct old_head *old_head(const struct renewal *r, uint32_t file)
{
	return (const struct old_head *)(r->from + EXTMAP_HEADS_AT) + (file - 1);
}

static bool leaf_ok(const struct renewal *r, const struct old_leaf *u)
{
	const struct old_head *f = u->file && u->file <= EXTMAP_HEADS ? old_head(r, u->file) : NULL;

	return f && head_ok(f) && u->check == (uint32_t)(spm_mix(spm_mix(inode_of(f) ^ u->file) ^ u->group) >> 32);
}

/* -- unit by unit -- */

static void renew_record(const struct renewal *r, const struct old_extent *x, struct spm_extent *to)
{
	*to = (struct spm_extent){ .slot = x->slot, .check = x->check, .word = SPM_EXTENT_HERE_WORD | x->used };
	if (!x->how)
		return;
	if (spm_extent_possible(x->slot, x->how, r->pages_max))
		spm_extent_set_how(to, x->how);
	else
		spm_extent_damage(to);
}

/* One that was damaged stays so. */
static void renew_head(const struct renewal *r, const char *from, char *to)
{
	const struct old_head *f = (const struct old_head *)from;
	struct spm_extfile *n = (struct spm_extfile *)to;

	*n = (struct spm_extfile){ .ino = f->ino, .slice = f->slice, .handle = f->handle, .used = f->used };
	if (!f->ino)
		return;
	/* unknown ones are noticed by their complement */
	spm_flags_change(n, (f->flags & OLD_FLAGS) | (f->times ? SPM_EXTFILE_DATED : 0u) |
			 (f->flags & SPM_EXTFILE_TIMES ? SPM_EXTFILE_MOVING : 0u), 0);
	n->flags |= f->flags & ~(unsigned int)OLD_FLAGS;
	for (unsigned int i = 0; i < SPM_EXTFILE_INLINE; i++)
		renew_record(r, &f->first[i], &n->first[i]);
	n->check = spm_extmap_head_check(n);
	if (!head_ok(f))
		n->check = ~n->check;
}

static void renew_leaf(const struct renewal *r, const char *from, char *to, uint32_t unit)
{
	const struct old_leaf *u = (const struct old_leaf *)from;
	struct spm_extmap_leaf *n = (struct spm_extmap_leaf *)to;

	*n = (struct spm_extmap_leaf){ .file = u->file, .group = u->group };
	if (!u->file)
		return;
	for (uint32_t i = 0; i < EXTMAP_RECORDS(unit); i++)
		renew_record(r, &u->x[i], &n->x[i]);
	if (leaf_ok(r, u))
		n->check = spm_extmap_leaf_check((struct spm_extfile *)(r->to + EXTMAP_HEADS_AT) + (u->file - 1), n);
	else
		n->check = ~UINT32_C(0) >> 1; /* never right */
}

/* With what was under way, if anything. */
static void renew_header(const struct renewal *r)
{
	struct spm_extmap_header *h = (struct spm_extmap_header *)r->to;
	struct spm_extmap_change *c = (struct spm_extmap_change *)(r->to + EXTMAP_CHANGE_AT);
	const struct old_change *was = (const struct old_change *)(r->from + EXTMAP_CHANGE_AT);

	memcpy(h, r->from, sizeof(*h));
	h->version = SPM_EXTMAP_VERSION;
	h->check = spm_extmap_header_check(h);
	*c = (struct spm_extmap_change){ .ino = was->ino, .extent = was->extent, .file = was->file, .slot = was->slot,
					 .check = was->check, .slice = was->slice, .how = was->how };
	c->sum = spm_extmap_change_sum(c);
}

static void renew_page(const struct renewal *r, uint64_t at)
{
	const char *from = r->from + at;
	char *to = r->to + at;

	if (at < EXTMAP_HEADS_AT) {
		renew_header(r);
	} else if (at < EXTMAP_TIMES_AT) {
		for (size_t i = 0; i < EXTMAP_PAGE; i += sizeof(struct spm_extfile))
			renew_head(r, from + i, to + i);
	} else if (at < EXTMAP_MIDDLES_AT) {
		memcpy(to, from, EXTMAP_PAGE);
	} else if (at < EXTMAP_LARGES_AT) {
		for (size_t i = 0; i < EXTMAP_PAGE; i += EXTMAP_MIDDLE_BYTES)
			renew_leaf(r, from + i, to + i, EXTMAP_MIDDLE_BYTES);
	} else {
		renew_leaf(r, from, to, EXTMAP_LARGE_BYTES);
	}
}

static int renew_all(const struct renewal *r, int from, int to)
{
	off_t data = 0, hole;
	int rc = 0;

	while (!rc && (data = lseek(from, data, SEEK_DATA)) >= 0) {
		hole = lseek(from, data, SEEK_HOLE);
		/* memory now, or a store there might have none */
		rc = spm_extmap_populate(to, (uint64_t)data, (uint64_t)(hole - data));
		for (; !rc && data < hole; data += EXTMAP_PAGE)
			renew_page(r, (uint64_t)data);
	}
	return rc ? rc : data < 0 && errno != ENXIO ? -errno : 0;
}

int spm_extmap_renew(int from, int to)
{
	struct spm_extmap_setup setup;
	struct renewal r;
	int rc = spm_extmap_setup_of(from, &setup);
	void *old, *new;

	if (rc != 1)
		return rc < 0 ? rc : -EPROTO;
	if (ftruncate(to, (off_t)EXTMAP_BYTES))
		return -errno;
	old = mmap(NULL, EXTMAP_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, from, 0);
	if (old == MAP_FAILED)
		return -errno;
	new = mmap(NULL, EXTMAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, to, 0);
	if (new == MAP_FAILED) {
		rc = -errno;
		munmap(old, EXTMAP_BYTES);
		return rc;
	}
	(void)madvise(new, EXTMAP_BYTES, MADV_NOHUGEPAGE);
	r = (struct renewal){ .from = old, .to = new, .pages_max = setup.extent_bytes / 4096 };
	rc = renew_all(&r, from, to);
	munmap(old, EXTMAP_BYTES);
	munmap(new, EXTMAP_BYTES);
	return rc;
}
