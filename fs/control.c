/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/control.h"
#include "core/size.h"
#include "fs/attr.h"
#include "fs/control-swap.h"
#include "fs/drain.h"
#include "fs/fault.h"
#include "fs/slices.h"
#include "fs/stats.h"

#include <errno.h>
#include <string.h>

struct control_file {
	const char *name;
	mode_t mode;
	unsigned int where;
	int (*show)(struct spm_fs *fs, uint16_t slice, FILE *out);
	int (*store)(struct spm_fs *fs, uint16_t slice, const char *value);
	/* in place of store: may last */
	int (*work)(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value);
};

enum {
	AT_TOP = 1 << 0,   /* in the mount's own directory */
	IN_SLICE = 1 << 1, /* in that of a slice */
	OWNERS = 1 << 2,   /* there it is its owner's to write, if root has said so */
};

#define RESIZE_TRIES 8 /* others write meanwhile */

/* The whole mount's: never below what is in use and cannot leave, never above the device. */
static int store_root_max(struct spm_fs *fs, uint64_t bytes)
{
	int rc;

	if (bytes == SPM_SLICE_NONE)
		bytes = fs->opts->source.bytes;
	if (bytes > fs->opts->source.bytes || bytes < 65536)
		return -ERANGE;
	rc = spm_slices_set_root_max(&fs->slices, bytes);
	for (int i = 0; rc == -EBUSY && fs->swap && i < RESIZE_TRIES; i++) {
		spm_control_shrink_to(fs, bytes);
		rc = spm_slices_set_root_max(&fs->slices, bytes);
	}
	if (!rc && bytes < fs->opts->source.bytes)
		fs->served_writes = true;
	return rc;
}

/* What a slice's directory takes is its owner's word, which can only be less than root's. */
static int store_own(struct spm_fs *fs, uint16_t slice, uint64_t bytes, bool swap)
{
	struct spm_slice_record r;
	int rc;

	do {
		if (!spm_slices_record(&fs->slices, slice, &r))
			return -ENODEV;
		if (swap)
			r.limits.own_swap_max = bytes;
		else if (bytes < r.limits.min || bytes < spm_slices_least(&fs->slices))
			return -ERANGE;
		else
			r.limits.own_max = bytes;
		rc = spm_slices_limit(fs, slice, &r.limits);
	} while (rc == -EAGAIN); /* root has changed something meanwhile */
	return rc;
}

/* "max", or a size. */
static int store_max(struct spm_fs *fs, uint16_t slice, const char *value)
{
	uint64_t bytes = SPM_SLICE_NONE;
	int rc = 0;

	if (strcmp(value, "max"))
		rc = spm_size_parse_of(value, fs->opts->source.bytes, &bytes);
	if (rc)
		return rc;
	return slice ? store_own(fs, slice, bytes, false) : store_root_max(fs, bytes);
}

static int store_swap_max(struct spm_fs *fs, uint16_t slice, const char *value)
{
	uint64_t bytes = SPM_SLICE_NONE;
	int rc = fs->swap ? 0 : -EOPNOTSUPP;

	if (!rc && strcmp(value, "max"))
		rc = spm_size_parse(value, &bytes);
	if (rc)
		return rc;
	return slice ? store_own(fs, slice, bytes, true) : spm_control_swap_max(fs, bytes);
}

static int show_slices(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	(void)slice;
	return spm_slices_list(fs, out);
}

static int run_slice(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value)
{
	(void)slice;
	(void)req;
	return spm_slices_command(fs, value);
}

/* The directory is number 0, the files count from 1. */
static const struct control_file files[] = {
	{ "stat", 0444, AT_TOP | IN_SLICE, spm_stats_stat, NULL, NULL },
	{ "features", 0444, AT_TOP, spm_stats_features, NULL, NULL },
	{ "metrics", 0444, AT_TOP, spm_stats_metrics, NULL, NULL },
	{ "current", 0444, AT_TOP | IN_SLICE, spm_stats_current, NULL, NULL },
	{ "min", 0444, IN_SLICE, spm_stats_min, NULL, NULL },
	{ "max", 0644, AT_TOP | IN_SLICE | OWNERS, spm_stats_max, store_max, NULL },
	{ "events", 0444, AT_TOP | IN_SLICE, spm_stats_events, NULL, NULL },
	{ "swap.current", 0444, AT_TOP | IN_SLICE, spm_stats_swap_current, NULL, NULL },
	{ "swap.max", 0644, AT_TOP | IN_SLICE | OWNERS, spm_stats_swap_max, store_swap_max, NULL },
	{ "pin.max", 0444, IN_SLICE, spm_stats_pin_max, NULL, NULL },
	{ "reclaim", 0200, AT_TOP | IN_SLICE | OWNERS, NULL, NULL, spm_control_reclaim },
	{ "evict", 0200, AT_TOP, NULL, NULL, spm_control_evict },
	{ "load", 0200, AT_TOP, NULL, NULL, spm_control_load },
	{ "compact", 0200, AT_TOP, NULL, NULL, spm_control_compact },
	{ "drain", 0600, AT_TOP, spm_drain_show, NULL, spm_drain_write },
	{ "slices", 0400, AT_TOP, show_slices, NULL, NULL },
	{ "slice", 0200, AT_TOP, NULL, NULL, run_slice },
	{ SPM_FAULT_FILE, 0600, AT_TOP, spm_fault_show, spm_fault_store, NULL }, /* for tests, see fault.h; the last one */
};

#define SLICE_SHIFT 16

uint16_t spm_control_slice(uint64_t nodeid)
{
	return (uint16_t)(nodeid >> SLICE_SHIFT);
}

static uint64_t node_of(uint16_t slice, size_t n)
{
	return SPM_CONTROL_BIT | (uint64_t)slice << SLICE_SHIFT | n;
}

static bool is_there(const struct spm_fs *fs, uint16_t slice, size_t i)
{
	if (i == SPM_ARRAY_SIZE(files) - 1 && !fs->desks.state->faults_on)
		return false;
	return files[i].where & (slice ? IN_SLICE : AT_TOP);
}

static const struct control_file *file_of(uint64_t nodeid)
{
	uint64_t n = nodeid & ((1u << SLICE_SHIFT) - 1);

	return n >= 1 && n <= SPM_ARRAY_SIZE(files) ? &files[n - 1] : NULL;
}

bool spm_control_names(struct spm_fs *fs, uint64_t parent, const char *name)
{
	if (spm_control_is(parent))
		return true;
	if (strcmp(name, SPM_CONTROL_DIR))
		return false;
	return parent == FUSE_ROOT_ID || spm_slices_is_top(fs, spm_itable_get(&fs->itable, parent));
}

/* Rights are owners and modes, as for any file: who is asking is not always known. */
static int attr_of(struct spm_fs *fs, uint64_t nodeid, struct stat *st)
{
	const struct control_file *f = file_of(nodeid);
	uint16_t slice = spm_control_slice(nodeid);
	const struct spm_slice *s;
	struct spm_slice_record r;
	struct stat top;

	/* slice 0xffff does not exist, so these numbers are nobody else's */
	*st = (struct stat){ .st_ino = spm_slice_ino(0xffff, (nodeid & ~SPM_CONTROL_BIT) + 1), .st_blksize = 4096 };
	st->st_mode = f ? S_IFREG | f->mode : S_IFDIR | 0555;
	st->st_nlink = f ? 1 : 2;
	if (!slice)
		return 0;
	/* (it may be removed at any moment) */
	s = spm_slices_get(&fs->slices, slice);
	if (!s || !spm_slices_record(&fs->slices, slice, &r) || fstat(s->data_fd, &top))
		return SPM_STALE;
	/* what it says is for whom the slice belongs to */
	st->st_gid = top.st_gid;
	if (f && f->where & OWNERS && r.limits.flags & SPM_SLICE_DELEGATED)
		st->st_uid = top.st_uid;
	if (f && !(st->st_mode & 0222)) {
		st->st_uid = top.st_uid;
		st->st_mode &= ~(mode_t)07;
	}
	return 0;
}

static double timeout_of(uint64_t nodeid)
{
	/* owners of a slice's change */
	return spm_control_slice(nodeid) ? 1.0 : SPM_TIMEOUT_LONG;
}

void spm_control_lookup(fuse_req_t req, uint64_t parent, const char *name)
{
	struct spm_fs *fs = spm_fs_of(req);
	const struct spm_inode *rec = spm_control_is(parent) ? NULL : spm_itable_get(&fs->itable, parent);
	uint16_t slice = rec ? rec->slice : spm_control_slice(parent);
	struct fuse_entry_param e = { .ino = rec ? node_of(slice, 0) : 0 };
	int rc = -ENOENT;

	for (size_t i = 0; !rec && i < SPM_ARRAY_SIZE(files); i++)
		if (is_there(fs, slice, i) && !strcmp(files[i].name, name))
			e.ino = node_of(slice, i + 1);
	if (e.ino)
		rc = attr_of(fs, e.ino, &e.attr);
	if (rc) {
		spm_reply_rc(req, rc);
		return;
	}
	e.entry_timeout = e.attr_timeout = timeout_of(e.ino);
	fuse_reply_entry(req, &e);
}

void spm_control_getattr(fuse_req_t req, uint64_t nodeid)
{
	struct stat st;
	int rc = attr_of(spm_fs_of(req), nodeid, &st);

	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_attr(req, &st, timeout_of(nodeid));
}

void spm_control_setattr(fuse_req_t req, uint64_t nodeid, int to_set)
{
	/* the shell's `>` empties a file before it writes: these take it without a word */
	if (to_set & ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME))
		fuse_reply_err(req, EPERM);
	else
		spm_control_getattr(req, nodeid);
}

void spm_control_open(fuse_req_t req, uint64_t nodeid, struct fuse_file_info *fi)
{
	struct spm_fs *fs = spm_fs_of(req);
	const struct control_file *f = file_of(nodeid);

	if (!f) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	/* also root, whom no mode keeps out */
	if (((fi->flags & O_ACCMODE) != O_RDONLY && !f->store && !f->work) ||
	    ((fi->flags & O_ACCMODE) != O_WRONLY && !f->show)) {
		fuse_reply_err(req, EACCES);
		return;
	}
	fi->direct_io = 1;
	fi->fh = spm_texts_handle(&fs->texts, fs->desks.generation);
	fuse_reply_open(req, fi);
}

void spm_control_release(struct spm_fs *fs, uint64_t handle)
{
	char *text;
	size_t len;

	if (spm_texts_take(&fs->texts, handle, &text, &len))
		free(text);
}

static int show(struct spm_fs *fs, uint64_t nodeid, char **text, size_t *len)
{
	const struct control_file *f = file_of(nodeid);
	FILE *out;
	int rc;

	if (!f || !f->show)
		return f ? -EACCES : -ENOENT;
	out = open_memstream(text, len);
	if (!out)
		return -ENOMEM;
	rc = f->show(fs, spm_control_slice(nodeid), out);
	return fclose(out) && !rc ? -ENOMEM : rc;
}

void spm_control_read(fuse_req_t req, uint64_t nodeid, uint64_t handle, size_t size, off_t off)
{
	struct spm_fs *fs = spm_fs_of(req);
	spm_auto_free char *text = NULL;
	size_t len = 0;
	bool kept = spm_texts_take(&fs->texts, handle, &text, &len);
	int rc = 0;

	/* from its beginning it is read as it is now */
	if (kept && !off) {
		free(text);
		text = NULL;
	}
	if (!text)
		rc = show(fs, nodeid, &text, &len);
	if (rc) {
		spm_reply_rc(req, rc);
		return;
	}
	if ((size_t)off >= len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, text + off, len - (size_t)off < size ? len - (size_t)off : size);
	spm_texts_put(&fs->texts, handle, text, len);
	text = NULL;
}

#define TEXT_MAX 2048

void spm_control_write(fuse_req_t req, uint64_t nodeid, const char *buf, size_t size)
{
	const struct control_file *f = file_of(nodeid);
	uint16_t slice = spm_control_slice(nodeid);
	bool writable = f && (f->store || f->work);
	char value[TEXT_MAX];
	size_t n = size;
	int rc;

	while (n && (buf[n - 1] == '\n' || buf[n - 1] == ' '))
		n--;
	if (!writable || n >= sizeof(value)) {
		fuse_reply_err(req, writable ? EINVAL : EACCES);
		return;
	}
	memcpy(value, buf, n);
	value[n] = '\0';
	rc = f->work ? f->work(spm_fs_of(req), slice, req, value) : f->store(spm_fs_of(req), slice, value);
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, size);
}

struct control_listing {
	fuse_req_t req;
	char *buf;
	size_t size, used;
	bool plus;
};

/* False: it does not fit. */
static bool list_one(struct control_listing *l, const char *name, uint64_t id, bool dots, off_t next)
{
	struct fuse_entry_param e = { .ino = dots ? 0 : id, .entry_timeout = timeout_of(id), .attr_timeout = timeout_of(id) };
	size_t room = l->size - l->used, need;

	if (attr_of(spm_fs_of(l->req), id, &e.attr))
		return false;
	need = l->plus ? fuse_add_direntry_plus(l->req, l->buf + l->used, room, name, &e, next) :
			 fuse_add_direntry(l->req, l->buf + l->used, room, name, &e.attr, next);
	if (need > room)
		return false;
	l->used += need;
	return true;
}

void spm_control_readdir(fuse_req_t req, uint64_t nodeid, size_t size, off_t off, bool plus)
{
	struct control_listing l = { .req = req, .buf = malloc(size), .size = size, .plus = plus };
	uint16_t slice = spm_control_slice(nodeid);
	size_t n = SPM_ARRAY_SIZE(files) + 2;

	if (!l.buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (size_t i = (size_t)off; i < n; i++) {
		if (i >= 2 && !is_there(spm_fs_of(req), slice, i - 2))
			continue;
		if (!list_one(&l, i == 0 ? "." : i == 1 ? ".." : files[i - 2].name, node_of(slice, i < 2 ? 0 : i - 1), i < 2,
			      (off_t)i + 1))
			break;
	}
	fuse_reply_buf(req, l.buf, l.used);
	free(l.buf);
}
