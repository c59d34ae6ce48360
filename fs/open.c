/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/open.h"
#include "core/commit.h"
#include "core/lease.h"
#include "core/region.h"
#include "fs/attr.h"
#include "fs/control.h"
#include "fs/fault.h"
#include "fs/ops.h"
#include "fs/session.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>

/* A client's close queues RELEASE a moment before the kernel lets the backing file go. */
#define LEASE_RETRIES   10
#define LEASE_RETRY_NS  100000

static bool opened_direct(const struct spm_inode *rec)
{
	return rec->open_plain || rec->open_served;
}

static bool wish_at(const char *path, enum spm_map *out)
{
	char value[16];
	ssize_t n = getxattr(path, SPM_XATTR_MAP, value, sizeof(value));

	return n > 0 && spm_map_parse(value, (size_t)n, out);
}

enum spm_map spm_open_preference(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	static const char top[] = SPM_REGION_DIR "/" SPM_SLICE_DATA;
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	char link[64], path[PATH_MAX];
	enum spm_map m;
	ssize_t n;

	if (!atomic_load_explicit(&fs->map_xattrs, memory_order_relaxed) ||
	    spm_fd_get(fs, rec, nodeid, SPM_FD_PATH, &fd))
		return fs->opts->map;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd.fd);
	if (wish_at(link, &m))
		return m;
	/* the region's dentries are always connected, so the kernel knows a path of every inode */
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return fs->opts->map;
	path[n] = '\0';
	for (char *slash; !strncmp(path, top, sizeof(top) - 1) && (slash = strrchr(path, '/'));) {
		*slash = '\0';
		if (strlen(path) < sizeof(top) - 1)
			break;
		if (wish_at(path, &m))
			return m;
	}
	return fs->opts->map;
}

int spm_open_backing(struct spm_fs *fs, uint64_t nodeid, struct spm_inode *rec, int fd)
{
	struct spm_state *s = fs->desks.state;
	int id;

	pthread_mutex_lock(&fs->backing_lock);
	s->backing_opening = nodeid;
	spm_state_barrier();
	id = spm_wire_backing_open(fs->dev_fd, fd);
	if (id > 0) {
		spm_fault("backing");
		if (rec)
			spm_inode_set_backing(rec, id);
		spm_state_barrier();
		s->backing_last = id;
	}
	spm_state_barrier();
	s->backing_opening = 0;
	pthread_mutex_unlock(&fs->backing_lock);
	return id;
}

void spm_open_close_backing(struct spm_fs *fs, struct spm_inode *rec)
{
	struct spm_desk *desk = spm_self ? spm_self->desk : NULL;
	int id = spm_inode_backing(rec);

	if (!id)
		return;
	/* the record must never name an id that is closed, nor an id be open that nobody names */
	if (desk)
		desk->closing_id = id;
	spm_state_barrier();
	spm_inode_set_backing(rec, 0);
	spm_state_barrier();
	spm_wire_backing_close(fs->dev_fd, id);
	if (desk)
		desk->closing_id = 0;
}

/* With the inode's lock, and no live opens: does anyone map it? Forgets the question once it is answered no. */
static bool still_mapped(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int retries)
{
	static const struct timespec pause = { .tv_nsec = LEASE_RETRY_NS };
	spm_auto_close int fd = -1;
	enum spm_lease l;

	if (!spm_inode_is(rec, SPM_INODE_MAPPED))
		return false;
	if (!fs->leases.on)
		return true;
	spm_open_close_backing(fs, rec);
	spm_fd_drop(&fs->fds, nodeid);
	fd = spm_inode_open(fs, rec, nodeid, O_RDWR | O_NONBLOCK);
	if (fd < 0)
		return true;
	while ((l = spm_lease_test(fd)) == SPM_LEASE_BUSY && retries-- > 0) {
		spm_session_blocking();
		nanosleep(&pause, NULL);
	}
	if (l != SPM_LEASE_FREE)
		return true;
	spm_inode_clear(rec, SPM_INODE_MAPPED | SPM_INODE_WRMAPPED);
	return false;
}

void spm_open_recheck_mapped(struct spm_fs *fs, uint64_t nodeid)
{
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);

	if (!rec || !spm_inode_is(rec, SPM_INODE_MAPPED))
		return;
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);
	(void)lock;
	if (!opened_direct(rec))
		(void)still_mapped(fs, rec, nodeid, 0);
}

const char *spm_open_mode(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);

	(void)lock;
	if (rec->open_mirror)
		return "mirror";
	return opened_direct(rec) || still_mapped(fs, rec, nodeid, 0) ? "direct" : "idle";
}

/* Whether the next open is direct; *@must: it cannot be anything else. */
static bool choose_direct(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, bool *must)
{
	enum spm_map wish;

	*must = true;
	if (opened_direct(rec))
		return true;
	if (rec->open_mirror)
		return false;
	if (!fs->passthrough.on) /* a mapping from before, if there is one, must not be joined by a mirror */
		return still_mapped(fs, rec, nodeid, LEASE_RETRIES);
	wish = spm_open_preference(fs, rec, nodeid);
	if (wish == SPM_MAP_MIRROR) {
		if (!still_mapped(fs, rec, nodeid, LEASE_RETRIES))
			return false;
		atomic_fetch_add_explicit(&fs->desks.state->mode_held, 1, memory_order_relaxed);
		return true;
	}
	*must = wish == SPM_MAP_DIRECT;
	return true;
}

/*
 * commit=eager: what is mapped writable must not be able to run out of memory later.
 * Without the inode's lock, since it may take long: a client that writes to the file holds up any allocation
 * in it for as long as it likes, and the lock is shared with other inodes. What is punched afterwards is the
 * puncher's doing, before or after the open.
 */
static int commit_file(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd)
{
	spm_auto_fd struct spm_fd cached = SPM_FD_NONE;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct stat st;
	int rc;

	if (fs->opts->commit_lazy || !fs->passthrough.on || __atomic_load_n(&rec->open_mirror, __ATOMIC_RELAXED))
		return 0;
	if (fd < 0) {
		rc = spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &cached);
		if (rc)
			return rc;
		fd = cached.fd;
	}
	if (fstat(fd, &st))
		return -errno;
	/* more than the size needs: blocks behind its end, which may stand for holes before it */
	if ((uint64_t)st.st_blocks * 512 == (((uint64_t)st.st_size + page - 1) & ~(page - 1)))
		return 0;
	if (!spm_inode_is(rec, SPM_INODE_MAPPED) && spm_open_preference(fs, rec, nodeid) == SPM_MAP_MIRROR)
		return 0;
	spm_session_blocking();
	return spm_commit_range(spm_slice_of(fs, rec), fd, 0, (uint64_t)st.st_size);
}

/* What the client's kernel does not know of a FUSE inode: chattr +i and +a. */
static int check_writable(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int flags)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	int rc = spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &fd), how;

	if (rc)
		return rc;
	how = fcntl(fd.fd, F_GETFL);
	if ((how & O_ACCMODE) == O_RDONLY)
		return -EPERM;
	return how & O_APPEND && (flags & (O_APPEND | O_TRUNC)) != O_APPEND ? -EPERM : 0;
}

static int ensure_backing(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd)
{
	int id;

	if (spm_inode_backing(rec))
		return 0;
	spm_as_self(); /* the kernel keeps these credentials for the file's reads and writes */
	id = spm_open_backing(fs, nodeid, rec, fd);
	return id < 0 ? id : 0;
}

/* With the inode's lock: one more open, in the ledger of the request as well. */
static void count_open(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, enum spm_count which)
{
	spm_self->desk->ledger.opened_id = nodeid;
	spm_itable_count(&fs->itable, rec, which, 1, spm_my_book(), SPM_ENTRY_OPENED, which + 1);
	spm_fault("counted");
}

static int open_direct(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, int flags,
		       struct spm_wire_open_out *out)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY, served;
	spm_auto_fd struct spm_fd cached = SPM_FD_NONE;
	int rc = 0;

	if (fd < 0 && !spm_inode_backing(rec)) {
		rc = spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &cached);
		fd = cached.fd;
	}
	if (!rc)
		rc = ensure_backing(fs, rec, nodeid, fd);
	if (rc)
		return rc;
	/* a plain write takes suid away whoever writes; served, root's writes leave it as on tmpfs */
	served = writes && (fs->served_writes || spm_inode_is(rec, SPM_INODE_PRIV));
	count_open(fs, rec, nodeid, served ? SPM_COUNT_SERVED : SPM_COUNT_PLAIN);
	if ((flags & O_ACCMODE) != O_WRONLY) /* without reading there is no mapping */
		spm_inode_set(rec, SPM_INODE_MAPPED | (writes ? SPM_INODE_WRMAPPED : 0));
	atomic_fetch_add_explicit(&fs->count.open_direct, 1, memory_order_relaxed);
	*out = (struct spm_wire_open_out){ .fh = served ? SPM_OPEN_SERVED : SPM_OPEN_PLAIN,
					   .open_flags = SPM_FOPEN_PASSTHROUGH, .backing_id = spm_inode_backing(rec) };
	if (served)
		out->open_flags |= FOPEN_DIRECT_IO | SPM_FOPEN_PARALLEL_DIRECT_WRITES;
	if (writes)
		out->fh |= SPM_FH_WRITES;
	return 0;
}

static void open_mirror(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int flags,
			struct spm_wire_open_out *out)
{
	/*
	 * Always: the cache holds what the region holds. Each direct open has the kernel drop it before the
	 * opener can write, and nothing fills it while the mode is direct. Without the flag the kernel would
	 * drop it some time after this reply, under the writes of whoever opened the file meanwhile.
	 */
	*out = (struct spm_wire_open_out){ .fh = SPM_OPEN_MIRROR, .open_flags = FOPEN_KEEP_CACHE };
	if ((flags & O_ACCMODE) != O_RDONLY)
		out->fh |= SPM_FH_WRITES;
	if ((flags & O_ACCMODE) == O_RDWR) /* what a mapping writes sets times when it is written back */
		spm_inode_set(rec, SPM_INODE_WRMAPPED);
	count_open(fs, rec, nodeid, SPM_COUNT_MIRROR);
	atomic_fetch_add_explicit(&fs->count.open_mirror, 1, memory_order_relaxed);
}

static int change_size(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, uint64_t size)
{
	/* the client's kernel says whether its caller may keep the bits; by itself a thread here may not */
	spm_keep_suid bool keep = spm_fsetid(!spm_self->wire.kill_suidgid && spm_inode_is(rec, SPM_INODE_PRIV));
	spm_auto_fd struct spm_fd cached = SPM_FD_NONE;
	bool commit = !fs->opts->commit_lazy && !rec->open_mirror && fs->passthrough.on;
	struct stat st = { .st_size = 0 };
	uint64_t was, truncated = 0;
	int rc;

	(void)keep;
	if (spm_inode_is(rec, SPM_INODE_PRIV))
		spm_as_self();
	if (fd < 0) {
		rc = spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &cached);
		if (rc)
			return rc;
		fd = cached.fd;
	}
	if (fstat(fd, &st))
		return -errno;
	/* a request that comes again finds the new size, but perhaps not all of its memory */
	if (!spm_again(&was, &truncated))
		was = (uint64_t)st.st_size;
	spm_begin(was, 0, 0);
	if (size < (uint64_t)st.st_size && (uint64_t)st.st_size - size > SPM_LARGE)
		spm_session_blocking();
	if (!truncated && ftruncate(fd, (off_t)size))
		return errno == EINVAL || errno == EBADF ? -EPERM : -errno; /* immutable: open for reading only */
	spm_fault("truncated");
	spm_self->desk->b = 1;
	if (!commit || size <= was ||
	    (!opened_direct(rec) && spm_open_preference(fs, rec, nodeid) == SPM_MAP_MIRROR))
		return 0;
	spm_session_blocking();
	rc = spm_commit_range(spm_slice_of(fs, rec), fd, was, size);
	if (rc && ftruncate(fd, (off_t)was))
		spm_log(SPM_LOG_ERR, "inode %llu: cannot take back a truncate: %m", (unsigned long long)rec->ino);
	return rc;
}

/*
 * O_TRUNC. Unlike for truncate(2) the client's kernel holds no lock of the inode, so a plain write may be under way, which
 * holds the region's for as long as its writer likes: not with a lock of ours, and not with the lead.
 */
static int empty(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd)
{
	int rc;

	if (__atomic_load_n(&rec->open_plain, __ATOMIC_RELAXED))
		spm_session_blocking();
	rc = change_size(fs, rec, nodeid, fd, 0);
	spm_fault("effect");
	return rc;
}

int spm_open_truncate(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, uint64_t size)
{
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);

	(void)lock;
	return change_size(fs, rec, nodeid, -1, size);
}

int spm_open_file(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, int flags,
		  struct spm_wire_open_out *out)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY, must;
	/* what O_TRUNC is about to drop needs no memory */
	int committed = writes && !(flags & O_TRUNC) ? commit_file(fs, rec, nodeid, fd) : 0, rc = 0;

	if (writes && fd < 0)
		rc = check_writable(fs, rec, nodeid, flags);
	if (!rc && flags & O_TRUNC)
		rc = empty(fs, rec, nodeid, fd);
	if (rc)
		return rc;
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);
	(void)lock;
	if (!choose_direct(fs, rec, nodeid, &must)) {
		open_mirror(fs, rec, nodeid, flags, out);
		return 0;
	}
	rc = committed ? committed : open_direct(fs, rec, nodeid, fd, flags, out);
	if (!rc || opened_direct(rec) || (must && rc == -ENOSPC))
		return rc;
	/* auto, or a file that cannot be passed through: the mirror serves it, unless somebody may map it */
	if (still_mapped(fs, rec, nodeid, LEASE_RETRIES))
		return rc;
	spm_open_close_backing(fs, rec);
	open_mirror(fs, rec, nodeid, flags, out);
	return 0;
}

/* Remembers an inode whose backing id stays open, and closes that of the one that has waited longest. */
static void leave_idle(struct spm_fs *fs, uint64_t nodeid)
{
	unsigned int at;
	uint64_t oldest;
	struct spm_inode *rec;

	pthread_mutex_lock(&fs->idle_backings.lock);
	at = fs->idle_backings.at++ % SPM_IDLE_BACKINGS;
	oldest = fs->idle_backings.nodeid[at];
	fs->idle_backings.nodeid[at] = nodeid;
	pthread_mutex_unlock(&fs->idle_backings.lock);
	if (oldest == nodeid)
		return;
	rec = oldest ? spm_itable_get(&fs->itable, oldest) : NULL;
	if (!rec)
		return;
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, oldest);
	(void)lock;
	/* looked up again: it may have been forgotten, and its record given to another inode */
	if (spm_itable_get(&fs->itable, oldest) == rec && !opened_direct(rec))
		spm_open_close_backing(fs, rec);
}

/* True: that was the last direct open, and its backing id is still there. */
static bool count_release(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, uint64_t fh, enum spm_entry entry,
			  uint32_t mark)
{
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);
	enum spm_count which = (fh & SPM_FH_KIND_MASK) == SPM_OPEN_PLAIN ? SPM_COUNT_PLAIN :
			       (fh & SPM_FH_KIND_MASK) == SPM_OPEN_SERVED ? SPM_COUNT_SERVED : SPM_COUNT_MIRROR;

	(void)lock;
	spm_itable_count(&fs->itable, rec, which, -1, spm_my_book(), entry, mark);
	spm_fault("counted");
	if (which == SPM_COUNT_MIRROR) {
		/* a mirror's RELEASE comes after its last mapping, and its pages have been written */
		if (!rec->open_mirror && !spm_inode_is(rec, SPM_INODE_MAPPED))
			spm_inode_clear(rec, SPM_INODE_WRMAPPED);
		atomic_fetch_sub_explicit(&fs->count.open_mirror, 1, memory_order_relaxed);
		return false;
	}
	atomic_fetch_sub_explicit(&fs->count.open_direct, 1, memory_order_relaxed);
	return !opened_direct(rec) && spm_inode_backing(rec);
}

static void release(struct spm_fs *fs, uint64_t nodeid, uint64_t fh, enum spm_entry entry, uint32_t mark)
{
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);

	if (rec && count_release(fs, rec, nodeid, fh, entry, mark))
		leave_idle(fs, nodeid);
}

void spm_open_undo(struct spm_fs *fs, uint64_t nodeid, uint64_t fh)
{
	release(fs, nodeid, fh, SPM_ENTRY_OPENED, 0);
}

int spm_open_reply(fuse_req_t req, const struct fuse_entry_param *e, const struct spm_wire_open_out *out)
{
	struct {
		struct fuse_entry_out entry;
		struct spm_wire_open_out open;
	} both;

	if (!e)
		return fuse_reply_buf(req, (const char *)out, sizeof(*out));
	spm_wire_entry(e, &both.entry);
	both.open = *out;
	return fuse_reply_buf(req, (const char *)&both, sizeof(both));
}

void spm_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct spm_fs *fs = spm_fs_of(req);
	struct spm_wire_open_out out;
	struct spm_inode *rec;
	int rc;

	if (spm_control_is(ino)) {
		spm_control_open(req, ino, fi);
		return;
	}
	rec = spm_itable_get(&fs->itable, ino);
	rc = rec ? spm_open_file(fs, rec, ino, -1, fi->flags, &out) : SPM_STALE;
	if (rc)
		spm_reply_rc(req, rc);
	else if (spm_open_reply(req, NULL, &out) == -ENOENT)
		spm_open_undo(fs, ino, out.fh);
}

void spm_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	/* in a request that comes again it may have been counted */
	if (!spm_control_is(ino) && !spm_self->desk->ledger.entry[SPM_ENTRY_SETTLED])
		release(spm_fs_of(req), ino, fi->fh, SPM_ENTRY_SETTLED, 1);
	fuse_reply_err(req, 0);
}
