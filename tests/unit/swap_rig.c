/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/swap_rig.h"
#include "core/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

void rig_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "# ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	abort();
}

void *rig_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		rig_fail("%zu bytes: %m", bytes);
	return p;
}

/* -- what core asks for -- */

static int op_open(void *ctx, uint16_t slice, const struct spm_handle *h)
{
	const struct rig *r = ctx;

	return slice ? -ESTALE : spm_handle_open(r->mount_fd, h, O_RDWR | O_NOATIME);
}

static int op_commit(void *ctx, uint16_t slice, int fd, uint64_t from, uint64_t to)
{
	(void)ctx;
	(void)slice;
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) ? -errno : 0;
}

static int op_bind(void *ctx, uint16_t slice, int fd, uint64_t from, uint64_t to)
{
	(void)ctx;
	(void)slice;
	(void)fd;
	(void)from;
	(void)to;
	return 0;
}

static int op_punch(void *ctx, int fd, uint64_t from, uint64_t to)
{
	(void)ctx;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) ? -errno : 0;
}

static int op_release(void *ctx, uint32_t file, uint16_t slice, uint64_t ino, const struct spm_handle *h)
{
	struct rig *r = ctx;
	pthread_mutex_t *lock = rig_inode(r, ino);
	int fd, rc = -EBUSY;

	pthread_mutex_lock(lock);
	fd = op_open(ctx, slice, h);
	if (fd < 0) {
		rc = fd;
	} else if (spm_lease_test(fd) == SPM_LEASE_FREE) {
		spm_swap_idle(r->s, file);
		rc = 0;
	}
	spm_cleanup_close(&fd);
	pthread_mutex_unlock(lock);
	return rc;
}

static int op_statfs(void *ctx, uint16_t slice, struct statvfs *sv)
{
	const struct rig *r = ctx;
	struct spm_pool_stats st;

	(void)slice;
	if (fstatvfs(r->mount_fd, sv))
		return -errno;
	if (r->pool) {
		spm_pool_stats(r->pool, &st, false);
		sv->f_blocks = st.bytes / sv->f_frsize;
		sv->f_bfree = sv->f_bavail = st.free_bytes / sv->f_frsize;
	}
	return 0;
}

static void op_fault(void *ctx, const char *at)
{
	struct rig *r = ctx;

	if (r->fault && !strcmp(r->fault, at) && atomic_fetch_sub(&r->fault_after, 1) <= 0) {
		raise(SIGKILL);
		abort();
	}
}

static int op_io_fault(void *ctx, bool write)
{
	struct rig *r = ctx;
	int rc = atomic_load(write ? &r->write_error : &r->read_error);

	if (write && rc && atomic_load(&r->write_after) > 0 && atomic_fetch_sub(&r->write_after, 1) > 0)
		return 0;
	return rc && atomic_fetch_sub(&r->errors, 1) > 0 ? rc : 0;
}

static void op_damaged(void *ctx, uint16_t slice, uint64_t ino, const struct spm_handle *h, uint64_t offset, const char *why)
{
	struct rig *r = ctx;

	(void)slice;

	(void)h;
	if (getenv("SPM_TEST_VERBOSE"))
		fprintf(stderr, "# inode %llu, %llu: %s\n", (unsigned long long)ino, (unsigned long long)offset, why);
	atomic_store(&r->damaged_at, offset);
	atomic_fetch_add(&r->damaged, 1);
}

/* -- making it -- */

static void make_mount(struct rig *r)
{
	char how[64];

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		rig_fail("a mount namespace: %m");
	snprintf(r->dir, sizeof(r->dir), "swap-rig-XXXXXX");
	if (!mkdtemp(r->dir))
		rig_fail("mkdtemp: %m");
	/* as core/slice.c does: what leaves must not be a part of a page */
	snprintf(how, sizeof(how), "size=%llu%s", (unsigned long long)r->o.memory,
		 r->o.extent < SPM_EXTENT_MAX ? "" : ",huge=within_size");
	if (mount("rig", r->dir, "tmpfs", 0, how))
		rig_fail("tmpfs %s: %m", how);
	r->mount_fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->mount_fd < 0)
		rig_fail("%s: %m", r->dir);
	/* nothing is left behind by whoever is killed */
	if (umount2(r->dir, MNT_DETACH) || rmdir(r->dir))
		rig_fail("%s: %m", r->dir);
}

static int make_swap_file(uint64_t size)
{
	char path[] = "swap-rig-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0 || unlink(path) || fallocate(fd, 0, 0, (off_t)size))
		rig_fail("swap file: %m");
	(void)!fcntl(fd, F_SETFL, O_DIRECT);
	return fd;
}

static void make_pool(struct rig *r)
{
	static const uint8_t uuid[16] = "a rig's pool";

	r->dev = (struct spm_pool_device){ .fd = memfd_create("device", MFD_CLOEXEC), .bytes = r->o.memory + 4096,
					   .align = 4096 };
	r->pool_state = memfd_create("state", MFD_CLOEXEC);
	if (r->dev.fd < 0 || r->pool_state < 0 || ftruncate(r->dev.fd, (off_t)r->dev.bytes) ||
	    spm_pool_create(r->pool_state, &r->dev, r->o.extent, uuid))
		rig_fail("a pool");
}

void rig_make(struct rig *r, const struct rig_opts *o)
{
	struct spm_extmap_setup setup = { .uuid = "rig", .extent_bytes = o->extent, .files = o->swap_files };

	*r = (struct rig){ .o = *o, .own_map_fd = -1 };
	signal(SIGIO, SIG_IGN);
	make_mount(r);
	for (unsigned int i = 0; i < SPM_SWAP_FILES; i++)
		r->swap_fd[i] = i < o->swap_files ? make_swap_file(o->swap) : -1;
	for (unsigned int i = 0; i < o->swap_files; i++)
		setup.blocks_limit[i] = (uint32_t)(o->swap / SPM_SLOT_BLOCK);
	r->map_fd = memfd_create("extents", MFD_CLOEXEC);
	if (r->map_fd < 0 || spm_extmap_create(r->map_fd, &setup))
		rig_fail("extent map");
	r->count = mmap(NULL, sizeof(*r->count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r->count == MAP_FAILED)
		rig_fail("counters: %m");
	if (o->pooled)
		make_pool(r);
}

void rig_destroy(struct rig *r)
{
	for (unsigned int i = 0; i < SPM_SWAP_FILES; i++)
		spm_cleanup_close(&r->swap_fd[i]);
	close(r->map_fd);
	close(r->mount_fd);
	munmap(r->count, sizeof(*r->count));
	if (r->o.pooled) {
		close(r->dev.fd);
		close(r->pool_state);
	}
}

static void op_file_failed(void *ctx, unsigned int file, const char *what, int error, const char *then)
{
	(void)ctx;
	spm_log(SPM_LOG_DEBUG, "swap file %u: %s: %s; %s", file, what, strerror(error), then);
}

static int op_end(void *ctx, const struct spm_pool_file *f, const struct spm_handle *h, uint64_t *size)
{
	spm_auto_close int fd = op_open(ctx, f->slice, h);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return fd == -ESTALE ? 0 : fd < 0 ? fd : -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

static int settle_trims(struct rig *r)
{
	return spm_pool_trims(r->pool, op_end, r);
}

void rig_open(struct rig *r, bool threads)
{
	struct spm_swap_ops ops = { .ctx = r, .open = op_open, .commit = op_commit, .bind = op_bind, .punch = op_punch,
					  .release = op_release, .statfs = op_statfs, .fault = op_fault,
					  .io_fault = op_io_fault, .damaged = op_damaged, .file_failed = op_file_failed };
	char path[64];
	int rc;

	if (r->more_ops)
		r->more_ops(&ops);
	for (unsigned int i = 0; i < RIG_FILES; i++)
		pthread_mutex_init(&r->inode[i], NULL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->map_fd);
	r->own_map_fd = open(path, O_RDWR | O_CLOEXEC);
	if (r->own_map_fd < 0)
		rig_fail("the map again: %m");
	if (r->o.pooled && spm_pool_attach(&r->pool, r->pool_state, &r->dev, NULL))
		rig_fail("the pool again");
	ops.pool = r->pool;
	rc = spm_swap_open(&r->s, &r->o.swap_opts, &ops, r->count, r->own_map_fd, r->swap_fd);
	if (!rc && threads)
		rc = spm_swap_start(r->s);
	if (!rc && r->pool)
		rc = settle_trims(r);
	if (!rc && r->pool && threads)
		rc = spm_pool_start(r->pool);
	if (rc)
		rig_fail("swap: %s", strerror(-rc));
}

void rig_close(struct rig *r)
{
	spm_swap_stop(r->s);
	spm_swap_close(r->s);
	if (r->pool)
		spm_pool_detach(r->pool);
	r->pool = NULL;
	close(r->own_map_fd);
	r->own_map_fd = -1;
	r->s = NULL;
}

/* -- files -- */

pthread_mutex_t *rig_inode(struct rig *r, uint64_t ino)
{
	return &r->inode[ino % RIG_FILES];
}

int rig_fd(struct rig *r, const char *name)
{
	int fd = openat(r->mount_fd, name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		rig_fail("%s: %m", name);
	return fd;
}

uint32_t rig_file(struct rig *r, const char *name, bool fresh, int *out)
{
	int fd = openat(r->mount_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct spm_handle h;
	struct stat st;
	uint32_t file;

	if (fd < 0 || fstat(fd, &st) || spm_handle_at(fd, "", &h))
		rig_fail("%s: %m", name);
	file = spm_swap_file(r->s, 0, st.st_ino, &h, fresh);
	if (!file)
		rig_fail("%s: no head", name);
	if (out)
		*out = fd;
	else
		close(fd);
	return file;
}

void rig_remove(struct rig *r, const char *name)
{
	struct spm_pool_file f = { .slice = 0 };
	struct spm_pool_held held;
	struct stat st;

	if (fstatat(r->mount_fd, name, &st, 0))
		rig_fail("%s: %m", name);
	spm_swap_gone(r->s, 0, st.st_ino);
	f.ino = st.st_ino;
	if (r->pool) {
		spm_pool_lock(r->pool, &f, SPM_POOL_EXCLUSIVE, &held);
		spm_pool_remove(r->pool, &f);
		spm_pool_unlock(&held);
	}
	if (unlinkat(r->mount_fd, name, 0))
		rig_fail("%s: %m", name);
}

/* -- content, with its pin -- */

static struct spm_pool_file pooled(struct rig *r, uint32_t file)
{
	return (struct spm_pool_file){ .ino = spm_extmap_file(&r->s->map, file)->ino, .slice = spm_slice_of(r->s, file) };
}

/* Only grows; by one thread at a time. */
static int reach(struct rig *r, uint32_t file, int fd, uint64_t end)
{
	pthread_mutex_t *lock = rig_inode(r, pooled(r, file).ino);
	struct stat st;
	int rc;

	pthread_mutex_lock(lock);
	rc = fstat(fd, &st) || ((uint64_t)st.st_size < end && ftruncate(fd, (off_t)end)) ? -errno : 0;
	pthread_mutex_unlock(lock);
	return rc;
}

static ssize_t put(struct rig *r, uint32_t file, int fd, const void *buf, size_t size, uint64_t off)
{
	struct spm_pool_file f = pooled(r, file);
	uint64_t extent = r->o.extent;
	struct spm_pool_held held;
	ssize_t n;

	if (!r->pool) {
		n = pwrite(fd, buf, size, (off_t)off);
		return n < 0 ? -errno : n;
	}
	/* extent by extent, so that the size is never far ahead of what there is */
	if (size > extent - off % extent)
		size = extent - off % extent;
	n = spm_pool_commit(r->pool, &f, off, off + size, NULL, NULL);
	if (n)
		return n;
	spm_pool_lock(r->pool, &f, SPM_POOL_SHARED, &held);
	n = reach(r, file, fd, off + size);
	if (!n)
		n = spm_pool_write(r->pool, &f, buf, size, off);
	spm_pool_unlock(&held);
	return n;
}

static ssize_t get(struct rig *r, uint32_t file, int fd, void *buf, size_t size, uint64_t off)
{
	struct spm_pool_file f = pooled(r, file);
	struct spm_pool_held held;
	struct stat st;
	ssize_t n;

	if (!r->pool) {
		n = pread(fd, buf, size, (off_t)off);
		return n < 0 ? -errno : n;
	}
	spm_pool_lock(r->pool, &f, SPM_POOL_SHARED, &held);
	n = fstat(fd, &st) ? -errno : 0;
	if (!n && off < (uint64_t)st.st_size)
		n = spm_pool_read(r->pool, &f, buf, size < (uint64_t)st.st_size - off ? size : (uint64_t)st.st_size - off, off);
	spm_pool_unlock(&held);
	return n;
}

static int cut_off(struct rig *r, uint32_t file, int fd, uint64_t size)
{
	struct spm_pool_file f = pooled(r, file);
	struct spm_pool_held held;
	int note, rc;

	if (!r->pool)
		return ftruncate(fd, (off_t)size) ? -errno : 0;
	spm_pool_lock(r->pool, &f, SPM_POOL_EXCLUSIVE, &held);
	note = spm_pool_trim_begin(r->pool, &f, &spm_extmap_file(&r->s->map, file)->handle);
	rc = ftruncate(fd, (off_t)size) ? -errno : 0;
	op_fault(r, "trim:sized");
	if (!rc)
		rc = spm_pool_punch(r->pool, &f, size, UINT64_MAX);
	spm_pool_trim_end(r->pool, note);
	spm_pool_unlock(&held);
	return rc;
}

static int take_away(struct rig *r, uint32_t file, int fd, uint64_t from, uint64_t to)
{
	struct spm_pool_file f = pooled(r, file);
	struct spm_pool_held held;
	int rc;

	if (!r->pool)
		return op_punch(r, fd, from, to);
	spm_pool_lock(r->pool, &f, SPM_POOL_EXCLUSIVE, &held);
	rc = spm_pool_punch(r->pool, &f, from, to);
	spm_pool_unlock(&held);
	return rc;
}

static int fill(struct rig *r, uint32_t file, int fd, uint64_t from, uint64_t to)
{
	struct spm_pool_file f = pooled(r, file);
	int rc;

	if (!r->pool)
		return fallocate(fd, 0, (off_t)from, (off_t)(to - from)) ? -errno : 0;
	rc = spm_pool_commit(r->pool, &f, from, to, NULL, NULL);
	return rc ? rc : reach(r, file, fd, to);
}

/* -- requests -- */

ssize_t rig_write(struct rig *r, uint32_t file, int fd, const void *buf, size_t size, uint64_t off)
{
	unsigned int tries = 0;
	size_t done = 0;
	ssize_t n = 0;

	while (done < size) {
		struct spm_pin pin;

		n = spm_swap_pin(r->s, file, off + done, off + size, SPM_PIN_WRITE, &pin);
		if (n)
			break;
		n = put(r, file, fd, (const char *)buf + done, size - done, off + done);
		spm_swap_unpin(&pin);
		if (n > 0) {
			done += (size_t)n;
			tries = 0;
		} else if (n != -ENOSPC || (n = spm_swap_room(r->s, spm_slice_of(r->s, file), size - done, &tries))) {
			break;
		}
	}
	return done ? (ssize_t)done : n;
}

ssize_t rig_read(struct rig *r, uint32_t file, int fd, void *buf, size_t size, uint64_t off, bool *through)
{
	struct spm_pin pin;
	ssize_t n = spm_swap_pin(r->s, file, off, off + size, SPM_PIN_READ, &pin);

	if (n)
		return n;
	if (through)
		*through = pin.through;
	if (pin.through) {
		n = spm_swap_read(&pin, fd, buf, size, (off_t)off);
	} else {
		n = get(r, file, fd, buf, size, off);
	}
	spm_swap_unpin(&pin);
	return n;
}

int rig_truncate(struct rig *r, uint32_t file, int fd, uint64_t size)
{
	struct spm_pin pin;
	int rc = spm_swap_pin(r->s, file, size, UINT64_MAX, SPM_PIN_TRIM, &pin);

	if (rc)
		return rc;
	rc = cut_off(r, file, fd, size);
	op_fault(r, "trim:truncated");
	if (!rc)
		spm_swap_dropped(&pin);
	spm_swap_unpin(&pin);
	return rc;
}

int rig_punch(struct rig *r, uint32_t file, int fd, uint64_t from, uint64_t to)
{
	struct spm_pin pin;
	int rc = spm_swap_pin(r->s, file, from, to, SPM_PIN_DROP, &pin);

	if (rc)
		return rc;
	rc = take_away(r, file, fd, from, to);
	if (!rc)
		spm_swap_dropped(&pin);
	spm_swap_unpin(&pin);
	return rc;
}

int rig_allocate(struct rig *r, uint32_t file, int fd, uint64_t from, uint64_t to)
{
	unsigned int tries = 0;
	struct spm_pin pin;
	int rc;

	do {
		rc = spm_swap_pin(r->s, file, from, to, SPM_PIN_WRITE, &pin);
		if (rc)
			return rc;
		rc = fill(r, file, fd, from, to);
		spm_swap_unpin(&pin);
	} while (rc == -ENOSPC && !spm_swap_room(r->s, spm_slice_of(r->s, file), to - from, &tries));
	return rc;
}

int rig_load(struct rig *r, uint32_t file)
{
	struct spm_pin pin;
	int rc = spm_swap_pin(r->s, file, 0, UINT64_MAX, SPM_PIN_FILE, &pin);

	if (!rc)
		rc = spm_swap_load(&pin, 0, UINT64_MAX);
	spm_swap_unpin(&pin);
	return rc;
}

uint64_t rig_slots_used(struct rig *r)
{
	struct spm_swap_stats st;

	spm_swap_stats(r->s, &st);
	return st.swap_used_bytes;
}
