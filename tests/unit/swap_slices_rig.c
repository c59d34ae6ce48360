/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/swap_slices.h"
#include "core/lease.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

struct rig rig;

struct part part[PARTS];
static uint64_t device;
static pthread_mutex_t grants = PTHREAD_MUTEX_INITIALIZER;
atomic_bool below_min;

/* -- what core asks for -- */

uint64_t used(uint16_t slice)
{
	struct statvfs sv;

	if (fstatvfs(part[slice].fd, &sv))
		rig_fail("statvfs: %m");
	return (uint64_t)(sv.f_blocks - sv.f_bfree) * sv.f_frsize;
}

static bool resize(uint16_t slice, uint64_t bytes)
{
	spm_auto_close int fs = fspick(part[slice].fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
	char size[32];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) || fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0))
		return false;
	part[slice].grant = bytes;
	return true;
}

static int op_open(void *ctx, uint16_t slice, const struct spm_handle *h)
{
	(void)ctx;
	return slice < PARTS ? spm_handle_open(part[slice].fd, h, O_RDWR | O_NOATIME) : -ESTALE;
}

unsigned int lease_ms;
_Atomic unsigned int leases;

static int op_release(void *ctx, uint32_t file, uint16_t slice, uint64_t ino, const struct spm_handle *h)
{
	spm_auto_close int fd = op_open(ctx, slice, h);
	struct timespec ms = { .tv_nsec = lease_ms * 1000000 };

	(void)ino;
	if (fd < 0)
		return fd;
	if (slice == 1 && lease_ms) {
		leases++;
		nanosleep(&ms, NULL);
	}
	if (spm_lease_test(fd) != SPM_LEASE_FREE)
		return -EBUSY;
	spm_swap_idle(rig.s, file);
	return 0;
}

static int op_statfs(void *ctx, uint16_t slice, struct statvfs *sv)
{
	(void)ctx;
	if (fstatvfs(part[slice].fd, sv))
		return -errno;
	sv->f_bavail = (part[slice].max - used(slice)) / sv->f_frsize;
	sv->f_blocks = part[slice].max / sv->f_frsize;
	return 0;
}

static int op_shared(void *ctx, uint64_t *bytes, uint64_t *left)
{
	uint64_t over = 0;

	(void)ctx;
	*bytes = device;
	for (uint16_t i = 0; i < PARTS; i++) {
		*bytes -= part[i].min;
		over += used(i) > part[i].min ? used(i) - part[i].min : 0;
	}
	*left = *bytes > over ? *bytes - over : 0;
	return 0;
}

static uint64_t op_spare(void *ctx, uint16_t victim, uint16_t slice)
{
	uint64_t has = used(victim);

	(void)ctx;
	return used(slice) + 4096 > part[slice].max || has <= part[victim].min ? 0 : has - part[victim].min;
}

static int op_grow(void *ctx, uint16_t slice, uint64_t bytes)
{
	uint64_t want, sum = 0, got;
	int rc = 0;

	(void)ctx;
	pthread_mutex_lock(&grants);
	want = used(slice) + bytes;
	want = want < part[slice].max ? want : part[slice].max;
	for (uint16_t i = 0; i < PARTS; i++)
		sum += part[i].grant;
	got = device - sum;
	for (uint16_t i = 0; i < PARTS && part[slice].grant + got < want; i++) {
		uint64_t keep = used(i) > part[i].min ? used(i) : part[i].min, more = want - part[slice].grant - got;

		if (i == slice || keep >= part[i].grant)
			continue;
		more = more < part[i].grant - keep ? more : part[i].grant - keep;
		if (resize(i, part[i].grant - more))
			got += more;
	}
	if (want > part[slice].grant && got)
		resize(slice, part[slice].grant + got < want ? part[slice].grant + got : want);
	else if (want > part[slice].grant)
		rc = -ENOSPC;
	else if (want < used(slice) + bytes)
		rc = -EDQUOT;
	pthread_mutex_unlock(&grants);
	return rc;
}

static uint64_t op_swap_max(void *ctx, uint16_t slice)
{
	(void)ctx;
	return part[slice].swap_max;
}

static uint32_t op_cold(void *ctx, uint16_t slice)
{
	(void)ctx;
	return part[slice].cold;
}

/* After each step of a move. */
static void op_fault(void *ctx, const char *at)
{
	const struct spm_reclaimer *r = rig.s->reclaim;

	(void)ctx;
	if (strcmp(at, "swapout:punched") || !pthread_equal(pthread_self(), r->thread))
		return;
	for (uint16_t i = 1; i < PARTS; i++)
		if (i != r->slice && part[i].min && rig.s->slice[i].leaving && used(i) < part[i].min)
			below_min = true;
}

unsigned int delay_ms;
_Atomic unsigned int moved[PARTS], moved_both[PARTS];

static int op_io_fault(void *ctx, bool write)
{
	struct spm_reclaimer *r = rig.s->reclaim;
	struct timespec ms = { .tv_nsec = delay_ms * 1000000 };
	bool both;

	(void)ctx;
	if (!write || !delay_ms || !pthread_equal(pthread_self(), r->thread))
		return 0;
	nanosleep(&ms, NULL);
	pthread_mutex_lock(&r->lock);
	both = rig.s->slice[PARTS - r->slice].room.in_line;
	pthread_mutex_unlock(&r->lock);
	moved[r->slice]++;
	moved_both[r->slice] += both;
	return 0;
}

static void more_ops(struct spm_swap_ops *ops)
{
	ops->open = op_open;
	ops->release = op_release;
	ops->statfs = op_statfs;
	ops->shared = op_shared;
	ops->spare = op_spare;
	ops->grow = op_grow;
	ops->swap_max = op_swap_max;
	ops->cold = op_cold;
	ops->fault = op_fault;
	ops->io_fault = op_io_fault;
}

/* -- making it -- */

static void make_part(uint16_t slice, uint64_t min, uint64_t max, uint64_t grant)
{
	char dir[] = "swap-slice-XXXXXX", how[64];

	snprintf(how, sizeof(how), "size=%llu", (unsigned long long)grant);
	if (!mkdtemp(dir) || mount("slice", dir, "tmpfs", 0, how))
		rig_fail("tmpfs: %m");
	part[slice] = (struct part){ .fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .min = min, .max = max, .grant = grant,
				     .swap_max = UINT64_MAX };
	if (part[slice].fd < 0 || umount2(dir, MNT_DETACH) || rmdir(dir))
		rig_fail("%s: %m", dir);
}

void set_up(const uint64_t min[2], const uint64_t max[2], const uint64_t grant[2], struct spm_swap_opts o)
{
	const struct rig_opts ro = { .memory = MIB, .swap = 256 * MIB, .swap_files = 1, .extent = EXTENT, .swap_opts = o };

	rig_make(&rig, &ro);
	rig.more_ops = more_ops;
	part[0] = (struct part){ .fd = rig.mount_fd, .max = MIB, .grant = MIB, .swap_max = UINT64_MAX };
	for (uint16_t i = 1; i < PARTS; i++)
		make_part(i, min[i - 1], max[i - 1], grant[i - 1]);
	device = MIB + grant[0] + grant[1];
	rig_open(&rig, true);
}

void set_up_equal(uint64_t each, struct spm_swap_opts o)
{
	const uint64_t a[2] = { each, each };

	set_up(a, a, a, o);
}

void tear_down(void)
{
	rig_close(&rig);
	rig_destroy(&rig);
	for (uint16_t i = 1; i < PARTS; i++)
		close(part[i].fd);
}

static struct spm_swap_slice_counters counters[SPM_SWAP_SLICES];
const struct spm_swap_opts plain = { .used_max = UINT64_MAX, .slice_counters = counters };

/* -- files -- */

struct doc doc_new(uint16_t slice)
{
	static unsigned int count;
	struct doc d = { .slice = slice, .id = count++ };
	struct spm_handle h;
	struct stat st;
	char name[16];

	snprintf(name, sizeof(name), "%u", d.id);
	d.fd = openat(part[slice].fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (d.fd < 0 || fstat(d.fd, &st) || spm_handle_at(d.fd, "", &h))
		rig_fail("%s: %m", name);
	d.file = spm_swap_file(rig.s, slice, st.st_ino, &h, true);
	if (!d.file)
		rig_fail("no head");
	return d;
}

static void fill(char *page, const struct doc *d, uint64_t at)
{
	for (uint64_t *p = (uint64_t *)page; (char *)p < page + RIG_PAGE; p++)
		*p = (at / RIG_PAGE) << 20 ^ (uint64_t)d->slice << 48 ^ (uint64_t)d->id << 56 ^ (uint64_t)((char *)p - page);
}

int doc_write(const struct doc *d, uint64_t from, uint64_t to)
{
	char *buf = rig_pages(EXTENT);
	ssize_t n = 0;

	for (uint64_t at = from; at < to && n >= 0; at += EXTENT) {
		size_t size = to - at < EXTENT ? (size_t)(to - at) : EXTENT;

		for (uint64_t p = 0; p < size; p += RIG_PAGE)
			fill(buf + p, d, at + p);
		n = rig_write(&rig, d->file, d->fd, buf, size, at);
		if (n >= 0 && n != (ssize_t)size)
			n = -ENOSPC;
	}
	munmap(buf, EXTENT);
	return n < 0 ? (int)n : 0;
}

void doc_check(const struct doc *d, uint64_t from, uint64_t to)
{
	char *buf = rig_pages(RIG_PAGE), *want = rig_pages(RIG_PAGE);

	for (uint64_t at = from; at < to; at += RIG_PAGE) {
		fill(want, d, at);
		memset(rig.s->touched, 0, sizeof(rig.s->touched));
		ck_assert_int_eq(rig_read(&rig, d->file, d->fd, buf, RIG_PAGE, at, NULL), RIG_PAGE);
		ck_assert_msg(!memcmp(buf, want, RIG_PAGE), "slice %u, file %u, at %llu", d->slice, d->id, (unsigned long long)at);
	}
	munmap(buf, RIG_PAGE);
	munmap(want, RIG_PAGE);
}

struct spm_swap_slice_stats stats_of(uint16_t slice)
{
	struct spm_swap_slice_stats st;

	spm_swap_stats_of(rig.s, slice, &st);
	return st;
}

/* -- threads that write -- */

static void *write_on(void *arg)
{
	struct writer *w = arg;
	uint64_t at = 0;
	int rc;

	while (!*w->stop) {
		rc = doc_write(&w->doc, at, at + EXTENT);
		if (rc == -ENOSPC)
			w->refused++;
		else if (rc)
			rig_fail("write: %s", strerror(-rc));
		at += rc ? 0 : EXTENT;
		if (at > w->window && rig_punch(&rig, w->doc.file, w->doc.fd, at - w->window - EXTENT, at - w->window))
			rig_fail("punch");
	}
	return NULL;
}

void writers_make(struct writer *w, unsigned int n, uint16_t slice, uint64_t window, atomic_bool *stop)
{
	for (unsigned int i = 0; i < n; i++) {
		w[i].doc = doc_new(slice);
		w[i].window = window;
		w[i].stop = stop;
		w[i].refused = 0;
	}
}

void writers_run(struct writer *w, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (pthread_create(&w[i].thread, NULL, write_on, &w[i]))
			rig_fail("thread: %m");
}

void writers_start(struct writer *w, unsigned int n, uint16_t slice, uint64_t window, atomic_bool *stop)
{
	writers_make(w, n, slice, window, stop);
	writers_run(w, n);
}

void writers_end(struct writer *w, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		close(w[i].doc.fd);
	}
}
