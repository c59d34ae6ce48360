/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/open.h"
#include "core/commit.h"
#include "core/lease.h"
#include "core/region.h"
#include "fs/attr.h"
#include "fs/claim.h"
#include "fs/content.h"
#include "fs/control.h"
#include "fs/drain.h"
#include "fs/fault.h"
#include "fs/ops.h"
#include "fs/session.h"
#include "fs/slices.h"
#include "fs/swap.h"
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

/* What was said for the slice, or for the mount. */
static enum spm_map map_of(struct spm_fs *fs, const struct spm_inode *rec)
{
	uint32_t own = atomic_load_explicit(&spm_slice_of(fs, rec)->map, memory_order_relaxed);
	enum spm_map m;

	if (own <= SPM_MAP_MIRROR && rec->slice)
		return (enum spm_map)own;
	/* the top directory of the mount is above all slices */
	return rec->slice && wish_at(SPM_REGION_DIR "/" SPM_SLICE_DATA, &m) ? m : fs->opts->map;
}

enum spm_map spm_open_preference(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	char link[64], path[PATH_MAX], top[64];
	size_t top_len;
	enum spm_map m;
	ssize_t n;

	if (!atomic_load_explicit(&fs->map_xattrs, memory_order_relaxed) ||
	    spm_fd_get(fs, rec, nodeid, SPM_FD_PATH, &fd))
		return map_of(fs, rec);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd.fd);
	if (wish_at(link, &m))
		return m;
	/* the region's dentries are always connected, so the kernel knows a path of every inode */
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return map_of(fs, rec);
	path[n] = '\0';
	top_len = spm_slices_top(rec->slice, top, sizeof(top));
	for (char *slash; !strncmp(path, top, top_len) && (slash = strrchr(path, '/'));) {
		*slash = '\0';
		if (strlen(path) < top_len)
			break;
		if (wish_at(path, &m))
			return m;
	}
	return map_of(fs, rec);
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

/* Nobody maps it, and nobody has it open to do so. */
static void not_mapped(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	uint32_t file = spm_content_find(fs, rec);

	spm_inode_clear(rec, SPM_INODE_MAPPED | SPM_INODE_WRMAPPED);
	spm_budget_drop(fs, nodeid);
	spm_promise_drop(fs, nodeid);
	if (file)
		spm_swap_idle(fs->swap, file);
}

/* With the inode's lock, and no live opens: does anyone map it? Forgets the question once it is answered no. */
static bool still_mapped(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int retries)
{
	static const struct timespec pause = { .tv_nsec = LEASE_RETRY_NS };
	uint32_t file = spm_content_find(fs, rec);
	enum spm_lease l = SPM_LEASE_BUSY;
	spm_auto_close int fd = -1;

	if (!spm_inode_is(rec, SPM_INODE_MAPPED))
		return false;
	if (file && !spm_swap_is_direct(fs->swap, file)) {
		/* in a kept region, whose inodes may all be mapped; of this one a test has told otherwise */
		not_mapped(fs, rec, nodeid);
		return false;
	}
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
	if (l == SPM_LEASE_FREE)
		not_mapped(fs, rec, nodeid);
	return l != SPM_LEASE_FREE;
}

int spm_open_release(struct spm_fs *fs, uint64_t nodeid, uint32_t file)
{
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);

	(void)lock;
	if (!rec) /* forgotten meanwhile */
		return -ESTALE;
	/* opens that only write do not count: they are served here, where what has left comes back */
	if (spm_inode_is(rec, SPM_INODE_MAPPED) && (opened_direct(rec) || still_mapped(fs, rec, nodeid, 0)))
		return -EBUSY;
	spm_swap_idle(fs->swap, file);
	return 0;
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

void spm_open_try_recheck_mapped(struct spm_fs *fs, uint64_t nodeid)
{
	struct spm_inode *rec = spm_itable_get(&fs->itable, nodeid);

	if (!rec || !spm_inode_is(rec, SPM_INODE_MAPPED) || pthread_mutex_trylock(spm_inode_lock(fs, nodeid)))
		return;
	if (spm_itable_get(&fs->itable, nodeid) == rec && !opened_direct(rec))
		(void)still_mapped(fs, rec, nodeid, 0);
	pthread_mutex_unlock(spm_inode_lock(fs, nodeid));
}

const char *spm_open_mode(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid)
{
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);

	(void)lock;
	if (rec->open_mirror)
		return "mirror";
	return opened_direct(rec) || still_mapped(fs, rec, nodeid, 0) ? "direct" : "idle";
}

/* An open under way. */
struct opening {
	struct spm_fs *fs;
	struct spm_inode *rec;
	uint64_t nodeid;
	int fd;
	bool writes, maps;  /* what can be done by it; without reading there is no mapping */
	bool fits;          /* with swap: into what direct files may take of the device */
	int memory;         /* what bringing the file here and commit=eager came to, if it is to be direct */
	struct spm_pin pin;
};

/* The wish that counts. */
static enum spm_map wish_of(const struct opening *o)
{
	enum spm_map wish;

	/* what is opened now must not hold up a drain */
	if (spm_draining(o->fs))
		return SPM_MAP_MIRROR;
	wish = spm_open_preference(o->fs, o->rec, o->nodeid);
	return wish == SPM_MAP_AUTO && o->fs->swap && !(o->maps && o->fits) ? SPM_MAP_MIRROR : wish;
}

/* Whether the open is direct; *@must: it cannot be anything else. With the inode's lock. */
static bool choose_direct(const struct opening *o, bool *must)
{
	struct spm_fs *fs = o->fs;
	enum spm_map wish;

	*must = true;
	if (opened_direct(o->rec))
		return true;
	if (o->rec->open_mirror)
		return false;
	if (!fs->passthrough.on) /* a mapping from before, if there is one, must not be joined by a mirror */
		return still_mapped(fs, o->rec, o->nodeid, LEASE_RETRIES);
	/* what is only written to now may have been mapped before: if not, it can leave meanwhile */
	if (fs->swap && !o->maps)
		(void)still_mapped(fs, o->rec, o->nodeid, 0);
	wish = wish_of(o);
	if (wish == SPM_MAP_MIRROR) {
		if (!still_mapped(fs, o->rec, o->nodeid, LEASE_RETRIES))
			return false;
		atomic_fetch_add_explicit(&fs->desks.state->mode_held, 1, memory_order_relaxed);
		return true;
	}
	*must = wish == SPM_MAP_DIRECT;
	return true;
}

/* The same without the lock, as a guess: a wrong one is found out with the lock. */
static bool expect_direct(const struct opening *o)
{
	const struct spm_inode *rec = o->rec;

	if (__atomic_load_n(&rec->open_plain, __ATOMIC_RELAXED) || __atomic_load_n(&rec->open_served, __ATOMIC_RELAXED) ||
	    spm_inode_is(rec, SPM_INODE_MAPPED))
		return true;
	return o->fs->passthrough.on && !__atomic_load_n(&rec->open_mirror, __ATOMIC_RELAXED) && wish_of(o) != SPM_MAP_MIRROR;
}

/*
 * commit=eager: what is mapped writable must not be able to run out of memory later.
 * Without the inode's lock, since it may take long: a client that writes to the file holds up any allocation
 * in it for as long as it likes, and the lock is shared with other inodes. What is punched afterwards is the
 * puncher's doing, before or after the open.
 */
static int commit_file(const struct opening *o)
{
	spm_auto_fd struct spm_fd cached = SPM_FD_NONE;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct spm_fs *fs = o->fs;
	int fd = o->fd, rc;
	struct stat st;

	if (fs->opts->commit_lazy || !fs->passthrough.on ||
	    __atomic_load_n(&o->rec->open_mirror, __ATOMIC_RELAXED))
		return 0;
	if (fd < 0) {
		rc = spm_fd_get(fs, o->rec, o->nodeid, SPM_FD_IO, &cached);
		if (rc)
			return rc;
		fd = cached.fd;
	}
	if (fstat(fd, &st))
		return -errno;
	/* more than the size needs: blocks behind its end, which may stand for holes before it */
	if ((uint64_t)st.st_blocks * 512 == (((uint64_t)st.st_size + page - 1) & ~(page - 1)))
		return 0;
	if (!spm_inode_is(o->rec, SPM_INODE_MAPPED) && spm_open_preference(fs, o->rec, o->nodeid) == SPM_MAP_MIRROR)
		return 0;
	/* fallocate(2) takes capabilities away, and nothing has been written */
	if (fgetxattr(fd, SPM_XATTR_CAPABILITY, NULL, 0) > 0)
		return 0;
	spm_session_blocking();
	return spm_content_commit(fs, spm_slice_of(fs, o->rec), fd, 0, (uint64_t)st.st_size);
}

/* What a mapping may fill behind the server's back is the slice's before there is one. With commit=lazy as far as it goes. */
static int promise(const struct opening *o)
{
	return spm_promise_make(o->fs, o->rec, o->nodeid, o->fd, o->fs->opts->commit_lazy);
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

static int open_direct(const struct opening *o, struct spm_wire_open_out *out)
{
	spm_auto_fd struct spm_fd cached = SPM_FD_NONE;
	struct spm_inode *rec = o->rec;
	struct spm_fs *fs = o->fs;
	uint64_t nodeid = o->nodeid;
	int fd = o->fd, rc = 0;
	bool served;

	if (fd < 0 && !spm_inode_backing(rec)) {
		rc = spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &cached);
		fd = cached.fd;
	}
	if (!rc)
		rc = ensure_backing(fs, rec, nodeid, fd);
	if (rc)
		return rc;
	/* a plain write takes suid away whoever writes; served, root's writes leave it as on tmpfs */
	served = o->writes && (fs->served_writes || spm_inode_is(rec, SPM_INODE_PRIV));
	count_open(fs, rec, nodeid, served ? SPM_COUNT_SERVED : SPM_COUNT_PLAIN);
	if (o->maps)
		spm_inode_set(rec, SPM_INODE_MAPPED | (o->writes ? SPM_INODE_WRMAPPED : 0));
	atomic_fetch_add_explicit(&fs->count.open_direct, 1, memory_order_relaxed);
	*out = (struct spm_wire_open_out){ .fh = served ? SPM_OPEN_SERVED : SPM_OPEN_PLAIN,
					   .open_flags = SPM_FOPEN_PASSTHROUGH, .backing_id = spm_inode_backing(rec) };
	if (served)
		out->open_flags |= FOPEN_DIRECT_IO | SPM_FOPEN_PARALLEL_DIRECT_WRITES;
	if (o->writes)
		out->fh |= SPM_FH_WRITES;
	return 0;
}

static void open_mirror(const struct opening *o, struct spm_wire_open_out *out)
{
	/*
	 * Always: the cache holds what the region holds. Each direct open has the kernel drop it before the
	 * opener can write, and nothing fills it while the mode is direct. Without the flag the kernel would
	 * drop it some time after this reply, under the writes of whoever opened the file meanwhile.
	 */
	*out = (struct spm_wire_open_out){ .fh = SPM_OPEN_MIRROR, .open_flags = FOPEN_KEEP_CACHE };
	if (o->writes)
		out->fh |= SPM_FH_WRITES;
	if (o->writes && o->maps) /* what a mapping writes sets times when it is written back */
		spm_inode_set(o->rec, SPM_INODE_WRMAPPED);
	count_open(o->fs, o->rec, o->nodeid, SPM_COUNT_MIRROR);
	atomic_fetch_add_explicit(&o->fs->count.open_mirror, 1, memory_order_relaxed);
}

/* Whether a file that grows is given its memory at once. */
static bool commits(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, uint64_t size)
{
	if (fs->pool)
		return !fs->opts->commit_lazy;
	if (fs->opts->commit_lazy || !fs->passthrough.on || __atomic_load_n(&rec->open_mirror, __ATOMIC_RELAXED))
		return false;
	if (__atomic_load_n(&rec->open_plain, __ATOMIC_RELAXED) || __atomic_load_n(&rec->open_served, __ATOMIC_RELAXED))
		return true;
	return spm_open_preference(fs, rec, nodeid) != SPM_MAP_MIRROR && (!fs->swap || spm_budget_fits(fs, nodeid, size, false));
}

/* Without swap, with the inode's lock or as empty() does; else without, since it may wait for room. */
static int change_size(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, uint64_t size)
{
	/* the client's kernel says whether its caller may keep the bits; by itself a thread here may not */
	spm_keep_suid bool keep = spm_fsetid(!spm_self->wire.kill_suidgid && spm_inode_is(rec, SPM_INODE_PRIV));
	spm_auto_fd struct spm_fd cached = SPM_FD_NONE;
	uint64_t was, reached;
	int rc = 0, back;

	(void)keep;
	if (spm_inode_is(rec, SPM_INODE_PRIV))
		spm_as_self();
	if (fd < 0) {
		rc = spm_fd_get(fs, rec, nodeid, SPM_FD_IO, &cached);
		fd = cached.fd;
	}
	if (!rc && !spm_again(NULL, NULL))
		rc = spm_drain_growth(fs, fd, size);
	if (!rc)
		rc = fs->content->resize(fs, rec, fd, size, &was);
	spm_claim_settle(fs, rec->slice);
	if (rc || size <= was || !commits(fs, rec, nodeid, size)) {
		if (!rc && size != was)
			spm_promise_changed(fs, rec, nodeid, fd);
		return rc;
	}
	spm_session_blocking();
	rc = fs->content->fill(fs, rec, fd, was, size, &reached);
	if (!rc)
		return 0; /* (what was missing before was promised then) */
	back = fs->content->shrink(fs, rec, fd, was);
	if (back)
		spm_log(SPM_LOG_ERR, "inode %llu: cannot take back a truncate: %s", (unsigned long long)rec->ino, strerror(-back));
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
	/* with swap the pin keeps opens away (which pin the file as well) */
	spm_locked pthread_mutex_t *lock = fs->swap ? NULL : spm_lock_inode(fs, nodeid);

	(void)lock;
	/* (a file that is found not to be mapped can leave while it grows; later this request has it open) */
	if (fs->swap)
		spm_open_recheck_mapped(fs, nodeid);
	return change_size(fs, rec, nodeid, -1, size);
}

/* With the inode's lock. -EAGAIN: it turns out to be direct, but not all of it is here. */
static int open_locked(const struct opening *o, struct spm_wire_open_out *out)
{
	struct spm_fs *fs = o->fs;
	struct spm_pin pin = o->pin;
	bool must;
	int rc;

	if (!choose_direct(o, &must)) {
		open_mirror(o, out);
		return 0;
	}
	rc = o->memory;
	if (!rc && fs->swap && o->maps) {
		/* see op_release() in fs/swap.c */
		pthread_mutex_lock(&fs->direct_lock);
		rc = pin.file ? spm_swap_direct(&pin) : -EAGAIN;
		pthread_mutex_unlock(&fs->direct_lock);
	}
	if (rc == -EAGAIN)
		return rc;
	if (!rc && o->maps)
		rc = promise(o);
	if (!rc)
		rc = open_direct(o, out);
	if (!spm_inode_is(o->rec, SPM_INODE_MAPPED))
		spm_promise_drop(fs, o->nodeid);
	if (!rc || opened_direct(o->rec) || (must && (rc == -ENOSPC || rc == -EIO)))
		return rc;
	/* auto, or a file that cannot be passed through: the mirror serves it, unless somebody may map it */
	if (still_mapped(fs, o->rec, o->nodeid, LEASE_RETRIES))
		return rc;
	spm_open_close_backing(fs, o->rec);
	open_mirror(o, out);
	return 0;
}

/* How much of the device a file has, and how much it takes if it is opened so. */
static int needs(const struct opening *o, uint64_t *has, uint64_t *takes)
{
	spm_auto_fd struct spm_fd fd = SPM_FD_NONE;
	uint32_t file = spm_content_find(o->fs, o->rec);
	struct stat st;
	int rc = spm_fd_get(o->fs, o->rec, o->nodeid, SPM_FD_PATH, &fd);

	if (rc)
		return rc;
	if (fstat(fd.fd, &st))
		return -errno;
	*has = (uint64_t)st.st_blocks * 512;
	*takes = *has + (file ? spm_swap_bytes_of(o->fs->swap, file) : 0);
	if (o->writes && !o->fs->opts->commit_lazy && (uint64_t)st.st_size > *takes)
		*takes = (uint64_t)st.st_size;
	return 0;
}

/* With swap: all of the file here, with memory for its holes if it is written to. The pin FILE is held then, which may be
 * held over waits for room too: what is here stays while the rest is waited for. */
static int bring_here(struct opening *o, uint64_t takes)
{
	struct spm_fs *fs = o->fs;
	unsigned int tries = 0;
	pthread_mutex_t *lock;
	uint64_t has;
	int rc;

	/* no use in clearing the device for what cannot fit, whatever leaves */
	if (!spm_budget_fits(fs, o->nodeid, takes, true))
		return -ENOSPC;
	/* from now on, so that others who come meanwhile do not count on the same memory */
	lock = spm_lock_inode(fs, o->nodeid);
	spm_budget_grow(fs, o->nodeid, takes);
	pthread_mutex_unlock(lock);
	spm_fault("bring");
	rc = spm_content_pin(fs, o->rec, 0, UINT64_MAX, SPM_PIN_FILE, &o->pin);
	if (!rc)
		rc = spm_swap_load(&o->pin, 0, UINT64_MAX);
	while (!rc) {
		rc = o->writes ? commit_file(o) : 0;
		if (!rc)
			rc = promise(o);
		if (rc != -ENOSPC || (!o->writes && wish_of(o) == SPM_MAP_AUTO) || needs(o, &has, &takes))
			break;
		/* (it may have blocks behind its end) */
		if (!spm_content_room(fs, o->rec->slice, rc, takes > has ? takes - has : fs->opts->extent_bytes, &tries))
			break;
		rc = 0;
	}
	if (rc)
		spm_swap_unpin(&o->pin);
	return rc;
}

/* The second time it is known to be direct. */
#define OPEN_TURNS 3

static int open_with_swap(struct opening *o, struct spm_wire_open_out *out)
{
	uint64_t has, takes;
	int rc = -EAGAIN;

	/* a file that is not mapped any more is not brought here in vain */
	if (spm_draining(o->fs))
		spm_open_recheck_mapped(o->fs, o->nodeid);
	for (int turn = 0; turn < OPEN_TURNS && rc == -EAGAIN; turn++) {
		pthread_mutex_t *lock;

		rc = needs(o, &has, &takes);
		if (rc)
			return rc;
		o->fits = spm_budget_fits(o->fs, o->nodeid, takes, false);
		o->memory = o->maps && (turn || expect_direct(o)) ? bring_here(o, takes) : 0;
		lock = spm_lock_inode(o->fs, o->nodeid);
		rc = open_locked(o, out);
		if (!rc && o->maps && (out->fh & SPM_FH_KIND_MASK) != SPM_OPEN_MIRROR) {
			spm_budget_grow(o->fs, o->nodeid, takes);
			spm_swap_used(o->fs->swap, o->pin.file);
		} else if (!opened_direct(o->rec) && !spm_inode_is(o->rec, SPM_INODE_MAPPED)) {
			/* what it was given before it came here */
			spm_budget_drop(o->fs, o->nodeid);
			spm_promise_drop(o->fs, o->nodeid);
		}
		pthread_mutex_unlock(lock);
		spm_swap_unpin(&o->pin);
	}
	return rc;
}

int spm_open_file(struct spm_fs *fs, struct spm_inode *rec, uint64_t nodeid, int fd, int flags,
		  struct spm_wire_open_out *out)
{
	struct opening o = { .fs = fs, .rec = rec, .nodeid = nodeid, .fd = fd, .pin = SPM_PIN_NONE,
			     .writes = (flags & O_ACCMODE) != O_RDONLY, .maps = (flags & O_ACCMODE) != O_WRONLY };
	int rc = 0;

	/* (else writes come to us) */
	if (o.writes && fs->passthrough.on && !fs->served_writes && !fs->swap)
		spm_orphans_settle(fs);
	/* what O_TRUNC is about to drop needs no memory */
	if (o.writes && !(flags & O_TRUNC) && !fs->swap)
		o.memory = commit_file(&o);
	if (o.writes && fd < 0)
		rc = check_writable(fs, rec, nodeid, flags);
	if (!rc && flags & O_TRUNC)
		rc = empty(fs, rec, nodeid, fd);
	if (rc)
		return rc;
	/* (of a pool nothing is opened directly: what is in slots may stay there) */
	if (fs->swap && !fs->pool)
		return open_with_swap(&o, out);
	spm_locked pthread_mutex_t *lock = spm_lock_inode(fs, nodeid);
	(void)lock;
	return open_locked(&o, out);
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
	/* what clients did to a direct file nobody has seen */
	uint32_t file = rec && (fh & SPM_FH_KIND_MASK) != SPM_OPEN_MIRROR ? spm_content_find(fs, rec) : 0;

	if (rec && count_release(fs, rec, nodeid, fh, entry, mark))
		leave_idle(fs, nodeid);
	if (file)
		spm_swap_used(fs->swap, file);
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
	if (((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) && spm_drain_refuses(fs))
		rc = -EROFS;
	else
		rc = rec ? spm_open_file(fs, rec, ino, -1, fi->flags, &out) : SPM_STALE;
	if (rc)
		spm_reply_rc(req, rc);
	else if (spm_open_reply(req, NULL, &out) == -ENOENT)
		spm_open_undo(fs, ino, out.fh);
}

void spm_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	/* in a request that comes again it may have been counted */
	if (spm_control_is(ino))
		spm_control_release(spm_fs_of(req), fi->fh);
	else if (!spm_self->desk->ledger.entry[SPM_ENTRY_SETTLED])
		release(spm_fs_of(req), ino, fi->fh, SPM_ENTRY_SETTLED, 1);
	fuse_reply_err(req, 0);
}
