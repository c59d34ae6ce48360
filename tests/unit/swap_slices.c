/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slices that share a device, swap files, and the one thread that moves out: who gets what, and who is left alone. Needs root. */
#include "core/lease.h"
#include "core/swap-room.h"
#include "tests/unit/swap_rig.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define MIB     (UINT64_C(1) << 20)
#define EXTENT  (256u << 10)
#define PARTS   3u /* the rig's own, which is slice 0, and two more */
#define DOCS    16u
#define FOREVER 240 /* seconds: nothing takes so long, but on a machine that is stuck */

static struct rig rig;

/* A slice: a tmpfs, whose size is its grant. */
static struct part {
	int fd;
	uint64_t min, max;
	_Atomic uint64_t grant, swap_max;
	_Atomic uint32_t cold;
} part[PARTS];
static uint64_t device;
static pthread_mutex_t grants = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool below_min; /* somebody took what a slice is guaranteed */

/* -- what core asks for -- */

static uint64_t used(uint16_t slice)
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

static unsigned int lease_ms;    /* for which a lease test of slice 1 takes */
static _Atomic unsigned int leases; /* so many were made */

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

/* A disk that is slow enough for those who write to be waiting for it; and who got how much of it. */
static unsigned int delay_ms;
static _Atomic unsigned int moved[PARTS], moved_both[PARTS]; /* extents; of these, while another slice waited */

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

/* Two slices, with these limits, and nothing outside them. */
static void set_up(const uint64_t min[2], const uint64_t max[2], const uint64_t grant[2], struct spm_swap_opts o)
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

/* Each has so much, always. */
static void set_up_equal(uint64_t each, struct spm_swap_opts o)
{
	const uint64_t a[2] = { each, each };

	set_up(a, a, a, o);
}

static void tear_down(void)
{
	rig_close(&rig);
	rig_destroy(&rig);
	for (uint16_t i = 1; i < PARTS; i++)
		close(part[i].fd);
}

static struct spm_swap_slice_counters counters[SPM_SWAP_SLICES];
static const struct spm_swap_opts plain = { .used_max = UINT64_MAX, .slice_counters = counters };

/* -- files -- */

struct doc {
	int fd;
	uint32_t file;
	uint16_t slice;
	unsigned int id;
};

static struct doc doc_new(uint16_t slice)
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

/* 0, or -errno. */
static int doc_write(const struct doc *d, uint64_t from, uint64_t to)
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

static void doc_check(const struct doc *d, uint64_t from, uint64_t to)
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

static struct spm_swap_slice_stats stats_of(uint16_t slice)
{
	struct spm_swap_slice_stats st;

	spm_swap_stats_of(rig.s, slice, &st);
	return st;
}

/* Bounded: until @cond. */
#define wait_until(cond) do { \
	struct timespec ms_ = { .tv_nsec = 1000000 }; \
	int n_ = 0; \
	while (!(cond)) { \
		nanosleep(&ms_, NULL); \
		ck_assert_int_lt(n_++, FOREVER * 1000); \
	} \
} while (0)

/* -- threads that write -- */

struct writer {
	pthread_t thread;
	struct doc doc;
	uint64_t window; /* what is further behind is punched */
	atomic_bool *stop;
	_Atomic unsigned int refused;
};

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

static void writers_start(struct writer *w, unsigned int n, uint16_t slice, uint64_t window, atomic_bool *stop)
{
	for (unsigned int i = 0; i < n; i++) {
		w[i].doc = doc_new(slice);
		w[i].window = window;
		w[i].stop = stop;
		w[i].refused = 0;
		if (pthread_create(&w[i].thread, NULL, write_on, &w[i]))
			rig_fail("thread: %m");
	}
}

static void writers_end(struct writer *w, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		close(w[i].doc.fd);
	}
}

/* -- tests -- */

/* Many threads in one slice, one thread in the other: they get as much of the disk. */
START_TEST(equal_shares)
{
	struct writer w[9];
	atomic_bool stop = false;
	const unsigned int enough = 300, slack = 16; /* the end of a turn each */

	delay_ms = 1;
	set_up_equal(16 * MIB, plain);
	writers_start(w, 8, 1, 4 * MIB, &stop);
	writers_start(w + 8, 1, 2, 32 * MIB, &stop);
	wait_until(moved_both[1] > enough && moved_both[2] > enough);
	stop = true;
	writers_end(w, 9);
	printf("# %u and %u extents, of these %u and %u while both waited\n", moved[1], moved[2], moved_both[1], moved_both[2]);
	fflush(stdout);
	/* a machine that is busy may keep the one from asking in time, but then the other's are not counted */
	ck_assert_uint_le(moved_both[1], moved[2] * 12 / 10 + slack);
	ck_assert_uint_le(moved_both[2], moved[1] * 12 / 10 + slack);
	for (unsigned int i = 0; i < 9; i++)
		ck_assert_uint_eq(w[i].refused, 0);
	tear_down();
}
END_TEST

/* Nothing of one slice can leave: those who write there are told so, those in the other notice nothing. */
START_TEST(full_slice_is_alone)
{
	struct doc held, free;
	struct writer w[4];
	atomic_bool stop = false;
	struct spm_pin pin;

	set_up_equal(8 * MIB, plain);
	held = doc_new(1);
	ck_assert_int_eq(doc_write(&held, 0, 7 * MIB), 0);
	writers_start(w, 4, 1, 64 * MIB, &stop);
	for (unsigned int i = 0; i <= 4; i++) {
		ck_assert_int_eq(spm_swap_pin(rig.s, i ? w[i - 1].doc.file : held.file, 0, UINT64_MAX, SPM_PIN_FILE, &pin), 0);
		ck_assert_int_eq(spm_swap_load(&pin, 0, UINT64_MAX), 0);
		while (spm_swap_direct(&pin)) /* it is open, so it cannot leave from now on */
			ck_assert_int_eq(spm_swap_load(&pin, 0, UINT64_MAX), 0);
		spm_swap_unpin(&pin);
	}
	for (unsigned int i = 0; i < 4; i++)
		wait_until(w[i].refused > 1);
	free = doc_new(2);
	ck_assert_int_eq(doc_write(&free, 0, 48 * MIB), 0);
	doc_check(&free, 0, 48 * MIB);
	ck_assert_uint_gt(stats_of(1).refused, 4);
	ck_assert_uint_eq(stats_of(2).refused, 0);
	ck_assert_uint_gt(stats_of(2).direct_waits, 0);
	ck_assert_uint_ge(stats_of(2).swapped_bytes, 40 * MIB);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	stop = true;
	writers_end(w, 4);
	close(held.fd);
	close(free.fd);
	tear_down();
}
END_TEST

/* The same with many files, at which it takes long to find out that nothing can leave. */
START_TEST(full_slice_takes_no_time)
{
	struct doc held[100], free;
	struct writer w;
	atomic_bool stop = false;
	struct spm_pin pin;
	unsigned int before;

	set_up_equal(8 * MIB, plain);
	for (unsigned int i = 0; i < 100; i++) {
		held[i] = doc_new(1);
		ck_assert_int_eq(doc_write(&held[i], 0, 80 << 10), 0);
		ck_assert_int_eq(spm_swap_pin(rig.s, held[i].file, 0, UINT64_MAX, SPM_PIN_FILE, &pin), 0);
		ck_assert_int_eq(spm_swap_load(&pin, 0, UINT64_MAX), 0);
		ck_assert_int_eq(spm_swap_direct(&pin), 0);
		spm_swap_unpin(&pin);
	}
	lease_ms = 2;
	part[1].swap_max = 0; /* what it writes itself cannot leave either */
	writers_start(&w, 1, 1, 64 * MIB, &stop);
	wait_until(w.refused);
	free = doc_new(2);
	ck_assert_int_eq(doc_write(&free, 0, 8 * MIB), 0);
	before = leases;
	/* in 24 turns or so: of 25 tests, and not 400 */
	ck_assert_int_eq(doc_write(&free, 8 * MIB, 32 * MIB), 0);
	printf("# %u lease tests\n", leases - before);
	fflush(stdout);
	ck_assert_uint_lt(leases - before, 2400);
	ck_assert_uint_eq(stats_of(2).refused, 0);
	/* and its own writers are still told */
	before = w.refused;
	wait_until(w.refused > before);
	stop = true;
	writers_end(&w, 1);
	for (unsigned int i = 0; i < 100; i++)
		close(held[i].fd);
	close(free.fd);
	tear_down();
}
END_TEST

/* Memory goes where it is asked for, from who has more than he is guaranteed, and no further. */
START_TEST(nobody_below_min)
{
	static const uint64_t min[2] = { 24 * MIB, 8 * MIB }, max[2] = { 44 * MIB, 44 * MIB }, grant[2] = { 40 * MIB, 8 * MIB };
	struct doc a, b;

	set_up(min, max, grant, plain);
	a = doc_new(1);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&a, 0, 40 * MIB), 0);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	ck_assert_int_eq(doc_write(&b, 0, 64 * MIB), 0);
	/* it took what there was to be had, and the rest of its own */
	ck_assert_uint_ge(used(1), min[0]);
	ck_assert_uint_lt(used(1), min[0] + 2 * MIB);
	ck_assert_uint_ge(stats_of(1).swapped_bytes, 14 * MIB);
	ck_assert_uint_ge(stats_of(2).swapped_bytes, 38 * MIB);
	/* and back */
	ck_assert_int_eq(doc_write(&a, 40 * MIB, 80 * MIB), 0);
	ck_assert_uint_ge(used(2), min[1]);
	ck_assert_uint_lt(used(2), min[1] + 2 * MIB);
	ck_assert(!below_min);
	doc_check(&a, 0, 80 * MIB);
	doc_check(&b, 0, 64 * MIB);
	ck_assert_uint_eq(stats_of(1).refused + stats_of(2).refused, 0);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* The same with both at once. */
START_TEST(both_over_min)
{
	static const uint64_t min[2] = { 8 * MIB, 8 * MIB }, max[2] = { 24 * MIB, 24 * MIB }, grant[2] = { 16 * MIB, 16 * MIB };
	struct writer w[5];
	atomic_bool stop = false;

	set_up(min, max, grant, plain);
	writers_start(w, 4, 1, 12 * MIB, &stop);
	writers_start(w + 4, 1, 2, 48 * MIB, &stop);
	wait_until(stats_of(1).swapout_bytes > 64 * MIB && stats_of(2).swapout_bytes > 64 * MIB);
	stop = true;
	writers_end(w, 5);
	ck_assert(!below_min);
	ck_assert_uint_eq(stats_of(1).refused + stats_of(2).refused, 0);
	tear_down();
}
END_TEST

/* A slice has so much in swap and no more, also after a restart. The other does not notice. */
START_TEST(limit_of_swap)
{
	struct doc a, b;

	set_up_equal(32 * MIB, plain);
	a = doc_new(1);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&a, 0, 16 * MIB), 0);
	ck_assert_int_eq(doc_write(&b, 0, 16 * MIB), 0);
	part[1].swap_max = 4 * MIB + 100;
	ck_assert_int_eq(spm_swap_evict(rig.s, a.file, 0, UINT64_MAX), -EDQUOT);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 4 * MIB);
	ck_assert_int_eq(spm_swap_evict(rig.s, b.file, 0, UINT64_MAX), 16 * MIB);
	rig_close(&rig);
	rig_open(&rig, true);
	close(a.fd); /* nobody knows that it is not mapped */
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 4 * MIB);
	ck_assert_uint_eq(stats_of(2).swapped_bytes, 16 * MIB);
	/* these are counted on */
	ck_assert_uint_eq(stats_of(1).swapout_bytes, 4 * MIB);
	ck_assert_uint_eq(stats_of(2).swapout_bytes, 16 * MIB);
	ck_assert_int_eq(spm_swap_evict(rig.s, a.file, 0, UINT64_MAX), -EDQUOT);
	part[1].swap_max = 6 * MIB;
	ck_assert_int_eq(spm_swap_evict(rig.s, a.file, 0, UINT64_MAX), -EDQUOT);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 6 * MIB);
	a.fd = openat(part[1].fd, "0", O_RDWR | O_CLOEXEC);
	doc_check(&a, 0, 16 * MIB);
	doc_check(&b, 0, 16 * MIB);
	ck_assert_int_eq(rig_load(&rig, a.file), 0);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* Memory and swap of a slice are full: more is refused, soon; what is there can be changed, also in slots. */
START_TEST(full_to_the_limit)
{
	struct doc a, b;
	uint64_t at = 0;

	set_up_equal(8 * MIB, plain);
	part[1].swap_max = 8 * MIB;
	a = doc_new(1);
	while (!doc_write(&a, at, at + EXTENT))
		ck_assert_uint_le(at += EXTENT, 16 * MIB);
	ck_assert_uint_ge(at, 15 * MIB);
	ck_assert_uint_gt(stats_of(1).refused, 0);
	for (int i = 0; i < 2; i++)
		for (uint64_t o = 0; o < at; o += EXTENT)
			ck_assert_int_eq(doc_write(&a, o + 4096, o + 8192), 0);
	ck_assert_uint_le(stats_of(1).swapped_bytes, 8 * MIB + 4 * EXTENT);
	doc_check(&a, 0, at);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 24 * MIB), 0);
	doc_check(&b, 0, 24 * MIB);
	ck_assert_uint_eq(stats_of(2).refused, 0);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* One slice's files are forgotten, as often as one likes; the other's stay. */
START_TEST(gone)
{
	struct spm_swap_stats st;
	struct doc a[3], b;

	set_up_equal(16 * MIB, plain);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 12 * MIB), 0);
	for (unsigned int i = 0; i < 3; i++) {
		a[i] = doc_new(1);
		ck_assert_int_eq(doc_write(&a[i], 0, 12 * MIB), 0);
	}
	ck_assert_int_eq(spm_swap_evict(rig.s, b.file, 0, UINT64_MAX), 12 * MIB);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(spm_swap_slice_hold(rig.s, 1), 0);
		ck_assert_int_eq(spm_swap_slice_gone(rig.s, 1), 0);
		spm_swap_slice_let_go(rig.s, 1);
		if (i == 1) {
			rig_close(&rig);
			rig_open(&rig, true);
		}
		spm_swap_stats(rig.s, &st);
		ck_assert_uint_eq(stats_of(1).swapped_bytes + stats_of(1).swapout_bytes + stats_of(1).direct_waits, 0);
		ck_assert_uint_eq(stats_of(2).swapout_bytes, 12 * MIB);
		ck_assert_uint_eq(st.swapped_bytes, 12 * MIB);
	}
	doc_check(&b, 0, 12 * MIB);
	for (unsigned int i = 0; i < 3; i++)
		close(a[i].fd);
	close(b.fd);
	tear_down();
}
END_TEST

static void *write_once(void *arg)
{
	struct writer *w = arg;

	if (doc_write(&w->doc, 0, EXTENT))
		rig_fail("write");
	w->refused = 1; /* done */
	return NULL;
}

/* While a slice is held nothing of it is opened, and who needs that waits. */
START_TEST(held)
{
	struct writer w = { .refused = 0 };
	struct timespec ms = { .tv_nsec = 20000000 };
	struct doc other;

	set_up_equal(16 * MIB, plain);
	w.doc = doc_new(1);
	other = doc_new(2);
	ck_assert_int_eq(doc_write(&w.doc, 0, 2 * EXTENT), 0);
	ck_assert_int_eq(doc_write(&other, 0, 2 * EXTENT), 0);
	ck_assert_int_eq(spm_swap_evict(rig.s, w.doc.file, 0, EXTENT), EXTENT);
	ck_assert_int_eq(spm_swap_slice_hold(rig.s, 1), 0);
	ck_assert_int_eq(spm_swap_evict(rig.s, w.doc.file, 0, UINT64_MAX), -EBUSY);
	ck_assert_int_eq(spm_swap_evict(rig.s, other.file, 0, UINT64_MAX), 2 * EXTENT);
	ck_assert_int_eq(rig_load(&rig, other.file), 0);
	ck_assert(!pthread_create(&w.thread, NULL, write_once, &w));
	nanosleep(&ms, NULL);
	ck_assert_uint_eq(w.refused, 0);
	spm_swap_slice_let_go(rig.s, 1);
	wait_until(w.refused);
	pthread_join(w.thread, NULL);
	doc_check(&w.doc, 0, 2 * EXTENT);
	close(w.doc.fd);
	close(other.fd);
	tear_down();
}
END_TEST

/* -- jobs -- */

struct asker {
	pthread_t thread;
	uint16_t slice;
	_Atomic(struct spm_job *) job;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	a->job = spm_job_get(rig.s, a->slice, true);
	return NULL;
}

static unsigned int waiting_for_jobs(void)
{
	struct spm_job_waiter { struct spm_job_waiter *next; } *w;
	unsigned int n = 0;

	pthread_mutex_lock(&rig.s->jobs.lock);
	for (w = (struct spm_job_waiter *)rig.s->jobs.waiting; w; w = w->next)
		n++;
	pthread_mutex_unlock(&rig.s->jobs.lock);
	return n;
}

/* All jobs are one slice's, which wants more: the other one's, who comes later, gets the next. */
START_TEST(fewest_first)
{
	struct asker a[3] = { { .slice = 1 }, { .slice = 1 }, { .slice = 2 } };
	struct spm_job *j[SPM_JOBS];

	set_up_equal(16 * MIB, plain);
	for (unsigned int i = 0; i < SPM_JOBS; i++) {
		j[i] = spm_job_get(rig.s, 1, false);
		ck_assert_ptr_nonnull(j[i]);
	}
	ck_assert_ptr_null(spm_job_get(rig.s, 2, false));
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert(!pthread_create(&a[i].thread, NULL, ask, &a[i]));
		wait_until(waiting_for_jobs() == i + 1);
	}
	spm_job_put(rig.s, j[0]);
	wait_until(a[2].job);
	ck_assert(!a[0].job && !a[1].job);
	/* of one slice, who came first */
	spm_job_put(rig.s, j[1]);
	wait_until(a[0].job);
	ck_assert(!a[1].job);
	spm_job_put(rig.s, j[2]);
	wait_until(a[1].job);
	for (unsigned int i = 0; i < 3; i++) {
		pthread_join(a[i].thread, NULL);
		spm_job_put(rig.s, a[i].job);
	}
	for (unsigned int i = 3; i < SPM_JOBS; i++)
		spm_job_put(rig.s, j[i]);
	for (unsigned int i = 0; i < PARTS; i++)
		ck_assert_uint_eq(rig.s->slice[i].jobs, 0);
	tear_down();
}
END_TEST

/* -- in the background -- */

/* A slice that has little left of its max; the other has a lot, and loses nothing. */
START_TEST(watermarks)
{
	struct doc a, b;

	set_up_equal(32 * MIB, (struct spm_swap_opts){ .low_pct = 25, .high_pct = 50, .used_max = UINT64_MAX });
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 20 * MIB), 0);
	a = doc_new(1);
	ck_assert_int_eq(doc_write(&a, 0, 28 * MIB), 0);
	wait_until(used(1) <= 16 * MIB + EXTENT);
	ck_assert_uint_gt(used(1), 12 * MIB);
	ck_assert_uint_eq(stats_of(2).swapped_bytes, 0);
	ck_assert_uint_gt(stats_of(1).reclaim_runs, 0);
	ck_assert_uint_eq(stats_of(2).reclaim_runs, 0);
	doc_check(&a, 0, 28 * MIB);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

/* What all share comes to its end, while no slice is near its max: those who have more than their min give. */
START_TEST(watermark_of_all)
{
	static const uint64_t min[2] = { 16 * MIB, 0 }, max[2] = { 64 * MIB, 64 * MIB }, grant[2] = { 24 * MIB, 40 * MIB };
	struct doc a, b;

	set_up(min, max, grant, (struct spm_swap_opts){ .low_pct = 20, .high_pct = 40, .used_max = UINT64_MAX });
	a = doc_new(1);
	ck_assert_int_eq(doc_write(&a, 0, 16 * MIB), 0);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&b, 0, 40 * MIB), 0);
	/* 49 MiB are shared: 10 of them are to be free, and then 19 */
	wait_until(used(2) <= 30 * MIB);
	ck_assert_uint_eq(stats_of(1).swapped_bytes, 0);
	ck_assert_uint_ge(used(1), 16 * MIB);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

START_TEST(cold_by_slice)
{
	struct doc a, b;

	set_up_equal(16 * MIB, plain);
	a = doc_new(1);
	b = doc_new(2);
	ck_assert_int_eq(doc_write(&a, 0, 4 * MIB), 0);
	ck_assert_int_eq(doc_write(&b, 0, 4 * MIB), 0);
	part[1].cold = 1;
	spm_swap_slice_changed(rig.s, 1);
	wait_until(stats_of(1).swapped_bytes == 4 * MIB);
	ck_assert_uint_eq(stats_of(2).swapped_bytes, 0);
	/* by hand, too */
	ck_assert_uint_ge(spm_swap_reclaim(rig.s, 2, 2 * MIB), 2 * MIB);
	ck_assert_uint_ge(stats_of(2).swapped_bytes, 2 * MIB);
	ck_assert_uint_le(spm_swap_reclaim(rig.s, 2, 64 * MIB), 2 * MIB);
	doc_check(&a, 0, 4 * MIB);
	doc_check(&b, 0, 4 * MIB);
	close(a.fd);
	close(b.fd);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("swap-slices");
	TCase *t = tcase_create("swap-slices");

	tcase_set_timeout(t, FOREVER + 60);
	tcase_add_test(t, equal_shares);
	tcase_add_test(t, full_slice_is_alone);
	tcase_add_test(t, full_slice_takes_no_time);
	tcase_add_test(t, nobody_below_min);
	tcase_add_test(t, both_over_min);
	tcase_add_test(t, limit_of_swap);
	tcase_add_test(t, full_to_the_limit);
	tcase_add_test(t, gone);
	tcase_add_test(t, held);
	tcase_add_test(t, fewest_first);
	tcase_add_test(t, watermarks);
	tcase_add_test(t, watermark_of_all);
	tcase_add_test(t, cold_by_slice);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
