/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/control.h"
#include "core/size.h"
#include "fs/attr.h"
#include "fs/control-swap.h"
#include "fs/fault.h"
#include "fs/stats.h"

#include <errno.h>
#include <string.h>

struct control_file {
	const char *name;
	mode_t mode;
	int (*show)(struct spm_fs *fs, FILE *out);
	int (*store)(struct spm_fs *fs, const char *value);
	int (*work)(struct spm_fs *fs, fuse_req_t req, const char *value); /* in place of store: may last */
};

#define RESIZE_TRIES 8 /* others write meanwhile */

/* "max", or a size: never below what is in use and cannot leave, never above the device. */
static int store_max(struct spm_fs *fs, const char *value)
{
	uint64_t bytes = fs->opts->source.bytes;
	int rc;

	if (strcmp(value, "max")) {
		rc = spm_size_parse_of(value, fs->opts->source.bytes, &bytes);
		if (rc)
			return rc;
	}
	if (bytes > fs->opts->source.bytes || bytes < 65536)
		return -ERANGE;
	rc = spm_slice_resize(&fs->root, bytes);
	for (int i = 0; rc == -EBUSY && fs->swap && i < RESIZE_TRIES; i++) {
		spm_control_shrink_to(fs, bytes);
		rc = spm_slice_resize(&fs->root, bytes);
	}
	if (!rc && bytes < fs->opts->source.bytes)
		fs->served_writes = true;
	return rc;
}

/* The directory is number 0, the files count from 1. */
static const struct control_file files[] = {
	{ "stat", 0444, spm_stats_stat, NULL, NULL },
	{ "features", 0444, spm_stats_features, NULL, NULL },
	{ "metrics", 0444, spm_stats_metrics, NULL, NULL },
	{ "current", 0444, spm_stats_current, NULL, NULL },
	{ "max", 0644, spm_stats_max, store_max, NULL },
	{ "events", 0444, spm_stats_events, NULL, NULL },
	{ "swap.current", 0444, spm_stats_swap_current, NULL, NULL },
	{ "swap.max", 0644, spm_stats_swap_max, NULL, spm_control_swap_max },
	{ "reclaim", 0200, NULL, NULL, spm_control_reclaim },
	{ "evict", 0200, NULL, NULL, spm_control_evict },
	{ "load", 0200, NULL, NULL, spm_control_load },
	{ "compact", 0200, NULL, NULL, spm_control_compact },
	{ SPM_FAULT_FILE, 0600, spm_fault_show, spm_fault_store, NULL }, /* for tests, see fault.h; the last one */
};

static size_t count_files(const struct spm_fs *fs)
{
	return SPM_ARRAY_SIZE(files) - !fs->desks.state->faults_on;
}

static const struct control_file *file_of(uint64_t nodeid)
{
	uint64_t n = nodeid & ~SPM_CONTROL_BIT;

	return n >= 1 && n <= SPM_ARRAY_SIZE(files) ? &files[n - 1] : NULL;
}

bool spm_control_names(uint64_t parent, const char *name)
{
	return spm_control_is(parent) || (parent == FUSE_ROOT_ID && !strcmp(name, SPM_CONTROL_DIR));
}

static struct stat attr_of(uint64_t nodeid)
{
	const struct control_file *f = file_of(nodeid);
	/* slice 0xffff does not exist, so these numbers are nobody else's */
	struct stat st = { .st_ino = spm_slice_ino(0xffff, (nodeid & ~SPM_CONTROL_BIT) + 1), .st_blksize = 4096 };

	st.st_mode = f ? S_IFREG | f->mode : S_IFDIR | 0555;
	st.st_nlink = f ? 1 : 2;
	return st;
}

void spm_control_lookup(fuse_req_t req, uint64_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = SPM_CONTROL_BIT, .entry_timeout = SPM_TIMEOUT_LONG,
				      .attr_timeout = SPM_TIMEOUT_LONG };

	if (spm_control_is(parent)) {
		e.ino = 0;
		for (size_t i = 0; i < count_files(spm_fs_of(req)); i++)
			if (!strcmp(files[i].name, name))
				e.ino = SPM_CONTROL_BIT | (i + 1);
	}
	if (!e.ino) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	e.attr = attr_of(e.ino);
	fuse_reply_entry(req, &e);
}

void spm_control_getattr(fuse_req_t req, uint64_t nodeid)
{
	struct stat st = attr_of(nodeid);

	fuse_reply_attr(req, &st, SPM_TIMEOUT_LONG);
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
	fuse_reply_open(req, fi);
}

void spm_control_read(fuse_req_t req, uint64_t nodeid, size_t size, off_t off)
{
	const struct control_file *f = file_of(nodeid);
	spm_auto_free char *text = NULL;
	size_t len = 0;
	FILE *out = f && f->show ? open_memstream(&text, &len) : NULL;
	int rc;

	if (!out) {
		fuse_reply_err(req, !f ? ENOENT : f->show ? ENOMEM : EACCES);
		return;
	}
	rc = f->show(spm_fs_of(req), out);
	if (fclose(out) && !rc)
		rc = -ENOMEM;
	if (rc)
		spm_reply_rc(req, rc);
	else if ((size_t)off >= len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, text + off, len - (size_t)off < size ? len - (size_t)off : size);
}

void spm_control_write(fuse_req_t req, uint64_t nodeid, const char *buf, size_t size)
{
	const struct control_file *f = file_of(nodeid);
	bool writable = f && (f->store || f->work);
	char value[80];
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
	rc = f->work ? f->work(spm_fs_of(req), req, value) : f->store(spm_fs_of(req), value);
	if (rc)
		spm_reply_rc(req, rc);
	else
		fuse_reply_write(req, size);
}

static const char *listed_name(size_t i)
{
	return i == 0 ? "." : i == 1 ? ".." : files[i - 2].name;
}

void spm_control_readdir(fuse_req_t req, size_t size, off_t off, bool plus)
{
	spm_auto_free char *buf = malloc(size);
	size_t used = 0;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (size_t i = (size_t)off; i < count_files(spm_fs_of(req)) + 2; i++) {
		uint64_t id = SPM_CONTROL_BIT | (i < 2 ? 0 : i - 1);
		struct fuse_entry_param e = { .ino = i < 2 ? 0 : id, .attr = attr_of(id),
					      .entry_timeout = SPM_TIMEOUT_LONG, .attr_timeout = SPM_TIMEOUT_LONG };
		size_t need = plus ? fuse_add_direntry_plus(req, buf + used, size - used, listed_name(i), &e, (off_t)i + 1) :
				     fuse_add_direntry(req, buf + used, size - used, listed_name(i), &e.attr, (off_t)i + 1);

		if (need > size - used)
			break;
		used += need;
	}
	fuse_reply_buf(req, buf, used);
}
