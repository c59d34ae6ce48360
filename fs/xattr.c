/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/caller.h"
#include "fs/control.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/ops.h"
#include "fs/stats.h"
#include "fs/swap.h"
#include "fs/thread.h"
#include "fs/worker.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/xattr.h>

/* A path of the inode for the calls that take no descriptor with O_PATH; follows no symbolic link of the region. */
struct inode_path {
	struct spm_inode *rec;
	struct spm_fd fd;
	char path[64];
};

static void path_put(struct inode_path *p)
{
	spm_fd_put(&p->fd);
}
#define auto_path __attribute__((cleanup(path_put)))

static int path_get(struct spm_fs *fs, uint64_t nodeid, struct inode_path *p)
{
	int rc;

	*p = (struct inode_path){ .fd = SPM_FD_NONE };
	if (spm_control_is(nodeid))
		return -EOPNOTSUPP;
	p->rec = spm_itable_get(&fs->itable, nodeid);
	rc = p->rec ? spm_fd_get(fs, p->rec, nodeid, SPM_FD_PATH, &p->fd) : SPM_STALE;
	if (!rc)
		snprintf(p->path, sizeof(p->path), "/proc/self/fd/%d", p->fd.fd);
	return rc;
}

static void reply_value(fuse_req_t req, const char *value, size_t len, size_t size)
{
	if (!size)
		fuse_reply_xattr(req, len);
	else if (len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

static void reply_file_state(fuse_req_t req, struct inode_path *p, uint64_t nodeid, size_t size)
{
	spm_auto_free char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc = out ? spm_stats_file(spm_fs_of(req), p->rec, nodeid, out) : -ENOMEM;

	if (out && fclose(out) && !rc)
		rc = -ENOMEM;
	if (rc)
		spm_reply_rc(req, rc);
	else
		reply_value(req, text, len, size);
}

void spm_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	auto_path struct inode_path p;
	spm_auto_free char *value = NULL;
	ssize_t n = -1;
	int rc = path_get(spm_fs_of(req), ino, &p);

	/* the kernel looks for ACLs before it lets anyone in: there are none, which is not "not supported" */
	if (spm_control_is(ino))
		rc = -ENODATA;
	if (!rc && !strcmp(name, SPM_XATTR_FILE)) {
		reply_file_state(req, &p, ino, size);
		return;
	}
	if (!rc && size) {
		value = malloc(size);
		rc = value ? 0 : -ENOMEM;
	}
	if (!rc) {
		n = getxattr(p.path, name, value, size);
		rc = n < 0 ? -errno : 0;
	}
	if (rc)
		spm_reply_rc(req, rc);
	else
		reply_value(req, value, (size_t)n, size);
}

static bool is_acl(const char *name)
{
	return !strncmp(name, "system.posix_acl_", 17);
}

static bool caller_keeps_sgid(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_mode & S_ISGID &&
	       (spm_caller_has_cap(spm_self->wire.pid, CAP_FSETID) || spm_caller_in_group(spm_self->wire.pid, st.st_gid));
}

/*
 * Whether an earlier worker began this request when there was, or was not, such an attribute: what is otherwise now
 * is its doing. Names of files need no such look, the client's kernel has looked itself.
 */
static bool began_with(const struct inode_path *p, const char *name, bool present)
{
	uint64_t was;
	bool again = spm_again(&was, NULL);

	if (!again)
		spm_begin(getxattr(p->path, name, NULL, 0) >= 0, 0, 0);
	return again && was == present;
}

struct value {
	const char *path, *name, *data;
	size_t size;
	int flags;
};

static int set_value(void *arg)
{
	const struct value *v = arg;

	return setxattr(v->path, v->name, v->data, v->size, v->flags) ? -errno : 0;
}

/* What a move would take away keeps the file here. */
static int set_here(struct spm_fs *fs, const struct inode_path *p, struct value *v)
{
	struct stat st;

	if (!fs->swap || fs->pool || strcmp(v->name, SPM_XATTR_CAPABILITY) || fstat(p->fd.fd, &st) || !S_ISREG(st.st_mode))
		return set_value(v);
	return spm_content_fix(fs, p->rec, set_value, v);
}

void spm_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct spm_fs *fs = spm_fs_of(req);
	auto_path struct inode_path p;
	enum spm_map m;
	bool again;
	int rc = path_get(fs, ino, &p);

	if (!rc && !strcmp(name, SPM_XATTR_MAP)) {
		if (!spm_map_parse(value, size, &m))
			rc = -EINVAL;
		else /* before the value is there, so that no open misses it */
			rc = spm_worker_note_map_xattr(fs);
	}
	if (!rc && !strcmp(name, SPM_XATTR_FILE))
		rc = -EPERM;
	if (!rc) {
		/* an ACL set by somebody outside of the file's group takes sgid away; the kernel says when */
		bool acl = is_acl(name);
		spm_keep_suid bool keep = spm_fsetid(acl && !spm_self->wire.acl_kill_sgid);

		(void)keep;
		if (acl)
			spm_as_self();
		again = began_with(&p, name, false);
		spm_slices_keep_room(&fs->slices, p.rec->slice);
		rc = set_here(fs, &p, &(struct value){ p.path, name, value, size, flags });
		spm_fault("effect");
		if (rc == -EEXIST && again)
			rc = 0;
		if (!rc) { /* ctime has changed, and with an ACL perhaps the mode */
			spm_content_touched(fs, p.rec->slice, p.rec->ino);
			spm_fresh_void(fs, ino);
		}
	}
	spm_reply_rc(req, rc);
}

void spm_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	auto_path struct inode_path p;
	int rc = path_get(spm_fs_of(req), ino, &p);
	bool again;

	if (!rc) {
		/* here the kernel does not say whether sgid goes */
		spm_keep_suid bool keep = spm_fsetid(is_acl(name) && caller_keeps_sgid(p.fd.fd));

		(void)keep;
		if (is_acl(name))
			spm_as_self();
		again = began_with(&p, name, true);
		rc = removexattr(p.path, name) ? -errno : 0;
		spm_fault("effect");
		if (rc == -ENODATA && again)
			rc = 0;
		if (!rc) {
			spm_content_touched(spm_fs_of(req), p.rec->slice, p.rec->ino);
			spm_fresh_void(spm_fs_of(req), ino);
		}
	}
	spm_reply_rc(req, rc);
}

static size_t drop_trusted(char *list, size_t len)
{
	size_t kept = 0;

	for (size_t at = 0; at < len;) {
		size_t n = strlen(list + at) + 1;

		if (strncmp(list + at, "trusted.", 8)) {
			memmove(list + kept, list + at, n);
			kept += n;
		}
		at += n;
	}
	return kept;
}

void spm_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	auto_path struct inode_path p;
	spm_auto_free char *list = NULL;
	ssize_t n = 0;
	int rc = path_get(spm_fs_of(req), ino, &p);

	/* the whole list is needed, also to tell its length */
	for (int tries = 0; !rc && tries < 8; tries++) {
		n = listxattr(p.path, NULL, 0);
		if (n <= 0)
			break;
		free(list);
		list = malloc((size_t)n);
		if (!list) {
			rc = -ENOMEM;
			break;
		}
		n = listxattr(p.path, list, (size_t)n);
		if (n >= 0 || errno != ERANGE)
			break;
	}
	if (!rc && n < 0)
		rc = -errno;
	/* as tmpfs does; the kernel itself checks access to the values */
	if (!rc && n && memmem(list, (size_t)n, "trusted.", 8) && !spm_caller_has_cap(spm_self->wire.pid, CAP_SYS_ADMIN))
		n = (ssize_t)drop_trusted(list, (size_t)n);
	if (rc)
		spm_reply_rc(req, rc);
	else
		reply_value(req, list, (size_t)n, size);
}
