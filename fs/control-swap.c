/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/control-swap.h"
#include "core/size.h"
#include "fs/attr.h"
#include "fs/drain.h"
#include "fs/pool.h"
#include "fs/stats.h"

#include <errno.h>
#include <string.h>

#define PIECE (UINT64_C(32) << 20) /* between two looks whether the client still waits */

int spm_control_swap_max(struct spm_fs *fs, uint64_t limit)
{
	/* the next worker finds it there */
	atomic_store(&fs->desks.state->swap_max_less, UINT64_MAX - limit);
	spm_swap_set_max(fs->swap, limit);
	return 0;
}

int spm_control_reclaim(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value)
{
	uint64_t bytes = 0, done = 0;
	int rc = fs->swap ? spm_size_parse(value, &bytes) : -EOPNOTSUPP;

	if (rc)
		return rc;
	spm_session_blocking();
	while (done < bytes) {
		uint64_t piece = bytes - done < PIECE ? bytes - done : PIECE;
		uint64_t n = spm_swap_reclaim(fs->swap, slice, piece);

		done += n;
		if (n < piece)
			break;
		if (done < bytes && fuse_req_interrupted(req))
			return -EINTR;
	}
	return done < bytes ? -EAGAIN : 0;
}

void spm_control_shrink_to(struct spm_fs *fs, uint64_t bytes)
{
	struct spm_slice_use u;

	spm_session_blocking();
	if (!spm_slices_use(&fs->slices, fs->root.id, &u) && u.used > bytes)
		spm_swap_reclaim(fs->swap, fs->root.id, u.used - bytes);
}

/* A part of a file, as evict and load get it. */
struct part {
	struct spm_inode *rec;
	uint32_t file;
	uint64_t from, to;
};

/* Decimal numbers with a blank between. */
static int parse_numbers(const char *value, uint64_t *n, size_t count)
{
	char text[80], *save = NULL, *word;

	if (strlen(value) >= sizeof(text))
		return -EINVAL;
	strcpy(text, value);
	word = strtok_r(text, " ", &save);
	for (size_t i = 0; i < count; i++, word = strtok_r(NULL, " ", &save))
		if (!word || spm_number_parse(word, 10, UINT64_MAX, &n[i]))
			return -EINVAL;
	return word ? -EINVAL : 0;
}

/* Whoever writes this holds the inode (O_PATH will do), so it stays known meanwhile. */
static int find_part(struct spm_fs *fs, const char *value, struct part *p)
{
	uint64_t n[3], nodeid;
	struct stat st;
	int rc = parse_numbers(value, n, SPM_ARRAY_SIZE(n));

	if (rc)
		return rc;
	if (n[1] > INT64_MAX || n[2] > INT64_MAX - n[1])
		return -EINVAL;
	p->rec = spm_itable_find(&fs->itable, (uint16_t)(n[0] >> 48), n[0] & ((UINT64_C(1) << 48) - 1), &nodeid);
	rc = p->rec ? spm_attr_get(fs, nodeid, &st, NULL) : -ENOENT;
	if (rc)
		return rc == SPM_STALE ? -ENOENT : rc;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	p->from = n[1];
	p->to = n[1] + n[2];
	/* a file that came with a region from before swap, and was not used since, has no head yet */
	p->file = spm_swap_find(fs->swap, p->rec->slice, p->rec->ino);
	if (!p->file)
		p->file = spm_swap_file(fs->swap, p->rec->slice, p->rec->ino, &p->rec->handle, false);
	return p->file ? 0 : -ENOMEM;
}

int spm_control_evict(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value)
{
	struct part p;
	int rc = fs->swap ? find_part(fs, value, &p) : -EOPNOTSUPP;
	int64_t n;

	(void)slice; /* (only at the top) */
	while (!rc && p.from < p.to) {
		uint64_t to = p.to - p.from > PIECE ? p.from + PIECE : p.to;

		spm_session_blocking();
		n = spm_swap_evict(fs->swap, p.file, p.from, to);
		rc = n < 0 ? (int)n : fuse_req_interrupted(req) ? -EINTR : 0;
		p.from = to;
	}
	return rc == SPM_STALE ? -ENOENT : rc;
}

static int load_piece(struct spm_fs *fs, const struct part *p, uint64_t to)
{
	spm_auto_pin struct spm_pin pin = SPM_PIN_NONE;
	int rc = spm_swap_pin(fs->swap, p->file, p->from, to, SPM_PIN_FILE, &pin);

	return rc ? rc : spm_swap_load(&pin, p->from, to);
}

int spm_control_load(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value)
{
	struct part p;
	int rc = fs->swap ? find_part(fs, value, &p) : -EOPNOTSUPP;

	(void)slice;
	if (!rc && spm_draining(fs))
		rc = -EROFS;
	while (!rc && p.from < p.to) {
		uint64_t to = p.to - p.from > PIECE ? p.from + PIECE : p.to;

		spm_session_blocking();
		rc = load_piece(fs, &p, to);
		if (!rc && fuse_req_interrupted(req))
			rc = -EINTR;
		p.from = to;
	}
	return rc == SPM_STALE ? -ENOENT : rc;
}

static void cancel_compaction(fuse_req_t req, void *arg)
{
	struct spm_fs *fs = arg;

	(void)req;
	spm_swap_compact_cancel(fs->swap);
}

int spm_control_compact(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value)
{
	int rc = 0;

	(void)slice;
	if (!fs->swap && !fs->pool)
		return -EOPNOTSUPP;
	if (strcmp(value, "1"))
		return -EINVAL;
	rc = fs->pool ? spm_pooled_compact(fs, req) : 0;
	if (rc || !fs->swap)
		return rc;
	spm_session_blocking();
	fuse_req_interrupt_func(req, cancel_compaction, fs);
	rc = spm_swap_compact(fs->swap);
	fuse_req_interrupt_func(req, NULL, NULL);
	return rc;
}
