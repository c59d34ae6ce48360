/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time stamps: setting them, and what sets them. */
#include "tests/namespace/ns.h"

#include <sys/mman.h>
#include <sys/xattr.h>

static int set(const char *path, long asec, long ansec, long msec, long mnsec)
{
	struct timespec ts[2] = {{asec, ansec}, {msec, mnsec}};

	return utimensat(AT_FDCWD, path, ts, AT_SYMLINK_NOFOLLOW);
}

static void explicit_stamps(void)
{
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		struct stat st;

		ns_context("kind %c", *k);
		mkkind(*k, "x", 0644);
		STAMPS("x", NS_A | NS_M | NS_C, OK(set("x", 1000000000, 1, 1234567890, 999999999)));
		st = st_of("x");
		EQ(st.st_atim.tv_sec, 1000000000);
		EQ(st.st_atim.tv_nsec, 1);
		EQ(st.st_mtim.tv_sec, 1234567890);
		EQ(st.st_mtim.tv_nsec, 999999999);
		OK(rmkind(*k, "x"));
	}
}

static void extreme_stamps(void)
{
	static const long seconds[] = {0,	  1,	    -1,	      -1000000000, INT32_MAX,
				       INT32_MIN, 1L << 32, 1L << 33, 1L << 40};
	struct stat st;
	size_t i;

	mkfile("x", 0644);
	for (i = 0; i < NS_LEN(seconds); i++) {
		ns_context("%ld", seconds[i]);
		OK(set("x", seconds[i], 123456789, seconds[i], 987654321));
		st = st_of("x");
		EQ(st.st_atim.tv_sec, seconds[i]);
		EQ(st.st_atim.tv_nsec, 123456789);
		EQ(st.st_mtim.tv_sec, seconds[i]);
		EQ(st.st_mtim.tv_nsec, 987654321);
	}
}

static void now_and_omit(void)
{
	struct timespec before, after;
	struct stat st;

	mkfile("x", 0644);
	OK(set("x", 100, 0, 200, 0));
	STAMPS("x", NS_A | NS_C, OK(set("x", 150, 5, 0, UTIME_OMIT)));
	EQ(st_of("x").st_atim.tv_sec, 150);
	EQ(st_of("x").st_mtim.tv_sec, 200);
	STAMPS("x", NS_M | NS_C, OK(set("x", 0, UTIME_OMIT, 250, 5)));
	EQ(st_of("x").st_atim.tv_sec, 150);
	EQ(st_of("x").st_mtim.tv_nsec, 5);
	STAMPS("x", 0, OK(set("x", 0, UTIME_OMIT, 0, UTIME_OMIT)));
	clock_gettime(CLOCK_REALTIME, &before);
	OK(set("x", 0, UTIME_NOW, 0, UTIME_OMIT));
	tick();
	clock_gettime(CLOCK_REALTIME, &after);
	st = st_of("x");
	TRUE(st.st_atim.tv_sec >= before.tv_sec - 1 && ts_cmp(st.st_atim, after) <= 0);
	EQ(st.st_mtim.tv_sec, 250);
	OK(set("x", 100, 0, 0, UTIME_NOW));
	TRUE(st_of("x").st_mtim.tv_sec >= before.tv_sec - 1);
	EQ(st_of("x").st_atim.tv_sec, 100);
	OK(utimensat(AT_FDCWD, "x", NULL, 0));
	st = st_of("x");
	EQ(ts_cmp(st.st_atim, st.st_mtim), 0);
	ERR(EINVAL, set("x", 0, 1000000000, 0, 0));
	ERR(EINVAL, set("x", 0, 0, 0, -1));
}

static void stamps_through_symlink(void)
{
	struct timespec ts[2] = {{111, 0}, {222, 0}};

	mkfile("f", 0644);
	OK(symlink("f", "l"));
	OK(utimensat(AT_FDCWD, "l", ts, 0));
	EQ(st_of("f").st_mtim.tv_sec, 222);
	TRUE(st_of("l").st_mtim.tv_sec != 222);
	OK(set("l", 333, 0, 444, 0));
	EQ(st_of("l").st_mtim.tv_sec, 444);
	EQ(st_of("f").st_mtim.tv_sec, 222);
}

static void who_may_set_stamps(void)
{
	mkfile("x", 0664);
	own("x", U1, G1);
	AS(U1, G2) {
		OK(set("x", 100, 0, 200, 0));
		OK(utimensat(AT_FDCWD, "x", NULL, 0));
	}
	OK(set("x", 100, 0, 200, 0));
	/* with the right to write: only "now", and both */
	AS(U2, G1) {
		STAMPS("x", 0, ERR(EPERM, set("x", 1, 0, 2, 0)));
		ERR(EPERM, set("x", 0, UTIME_NOW, 0, UTIME_OMIT));
		ERR(EPERM, set("x", 0, UTIME_OMIT, 0, UTIME_NOW));
		OK(set("x", 0, UTIME_NOW, 0, UTIME_NOW));
		OK(utimensat(AT_FDCWD, "x", NULL, 0));
	}
	AS(U2, G2) {
		ERR(EPERM, set("x", 1, 0, 2, 0));
		ERR(EACCES, set("x", 0, UTIME_NOW, 0, UTIME_NOW));
		ERR(EACCES, utimensat(AT_FDCWD, "x", NULL, 0));
		OK(set("x", 0, UTIME_OMIT, 0, UTIME_OMIT));
	}
	OK(chmod("x", 0));
	OK(set("x", 5, 6, 7, 8));
	EQ(st_of("x").st_mtim.tv_sec, 7);
}

static void descriptor_stamps(void)
{
	struct timespec ts[2] = {{-5, 500}, {12345, 6789}};
	int fd;

	mkfile("x", 0644);
	fd = (int)OK(open("x", O_RDONLY | O_CLOEXEC));
	OK(futimens(fd, ts));
	EQ(st_of("x").st_atim.tv_sec, -5);
	EQ(st_fd(fd).st_mtim.tv_nsec, 6789);
	OK(futimens(fd, NULL));
	TRUE(st_of("x").st_mtim.tv_sec > 1000000);
	close(fd);
	fd = (int)OK(open("x", O_PATH | O_CLOEXEC));
	ERR(EBADF, futimens(fd, ts));
	OK(syscall(SYS_utimensat, fd, "", ts, AT_EMPTY_PATH));
	EQ(st_of("x").st_mtim.tv_sec, 12345);
	close(fd);
}

static void what_writes_stamp(void)
{
	char buf[100] = "";
	int fd;

	fd = mkfd("x", O_RDWR, 0644);
	STAMPS("x", NS_M | NS_C, EQ(write(fd, buf, 100), 100));
	STAMPS("x", NS_M | NS_C, EQ(pwrite(fd, buf, 10, 0), 10));
	STAMPS("x", NS_M | NS_C, EQ(pwrite(fd, buf, 10, 100000), 10));
	STAMPS("x", 0, EQ(write(fd, buf, 0), 0));
	STAMPS("x", NS_M | NS_C, OK(ftruncate(fd, 50)));
	STAMPS("x", NS_M | NS_C, OK(ftruncate(fd, 5000)));
	STAMPS("x", NS_M | NS_C, OK(ftruncate(fd, 5000)));
	STAMPS("x", NS_M | NS_C, OK(truncate("x", 60)));
	STAMPS("x", 0, OK(fsync(fd)));
	STAMPS("x", 0, ERR(EINVAL, ftruncate(fd, -1)));
	/* stat through the descriptor tells the same */
	EQ(pwrite(fd, buf, 1, 0), 1);
	EQ(ts_cmp(st_fd(fd).st_mtim, st_of("x").st_mtim), 0);
	close(fd);
}

static void what_fallocate_stamps(void)
{
	int fd = mkfd("x", O_RDWR, 0644);

	STAMPS("x", NS_M | NS_C, OK(fallocate(fd, 0, 0, 10000)));
	STAMPS("x", NS_M | NS_C, OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20000)));
	STAMPS("x", NS_M | NS_C, OK(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 4096)));
	close(fd);
}

static void what_metadata_changes_stamp(void)
{
	mkdata("x", 0644, "content");
	STAMPS("x", NS_C, OK(chmod("x", 0600)));
	STAMPS("x", NS_C, OK(chmod("x", 0600)));
	STAMPS("x", NS_C, OK(chown("x", U1, G1)));
	STAMPS("x", NS_C, OK(link("x", "y")));
	STAMPS("x", NS_C, OK(rename("x", "z")); OK(rename("z", "x")));
	STAMPS("x", NS_C, OK(unlink("y")));
	STAMPS("x", NS_C, OK(setxattr("x", "user.k", "v", 1, 0)));
	STAMPS("x", NS_C, OK(removexattr("x", "user.k")));
	STAMPS("x", 0, OK(getxattr("x", "user.k", NULL, 0) < 0 ? 0 : -1));
	STAMPS("x", 0, OK(access("x", R_OK)));
}

static void what_file_reads_stamp(void)
{
	char buf[16];
	int fd;

	mkdata("x", 0644, "content");
	fd = (int)OK(open("x", O_RDONLY | O_CLOEXEC));
	STAMPS("x", NS_A, EQ(read(fd, buf, 4), 4));
	close(fd);
	/* relatime: not again, unless the file was written since */
	fd = (int)OK(open("x", O_RDWR | O_CLOEXEC));
	STAMPS("x", 0, EQ(read(fd, buf, 4), 4));
	EQ(write(fd, "x", 1), 1);
	STAMPS("x", NS_A, EQ(pread(fd, buf, 4, 0), 4));
	close(fd);
}

static void what_reads_of_names_stamp(void)
{
	char buf[16];
	int fd;

	OK(symlink("x", "l"));
	STAMPS("l", NS_A, EQ(readlink("l", buf, sizeof(buf)), 1));
	OK(mkdir("d", 0755));
	mkfile("d/e", 0644);
	fd = (int)OK(open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	STAMPS("d", NS_A, TRUE(syscall(SYS_getdents64, fd, (char[1024]){0}, 1024) > 0));
	close(fd);
}

static void mapped_writes_stamp(void)
{
	int fd = mkfd("x", O_RDWR, 0644);
	volatile char *p;

	OK(ftruncate(fd, 8192));
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!TRUE(p != MAP_FAILED))
		return;
	/* the first write to a page is seen; with large pages the next one is often no first write any more
	 */
	STAMPS("x", NS_M | NS_C, p[0] = 'x');
	munmap((void *)p, 8192);
	close(fd);
}

static void synced_mapped_writes_stamp(void)
{
	int fd = mkfd("x", O_RDWR, 0644);
	char *p;

	OK(ftruncate(fd, 8192));
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!TRUE(p != MAP_FAILED))
		return;
	/* so that the fault is no reason for a new access time where it is a read */
	tick();
	EQ(pread(fd, (char[1]){0}, 1, 0), 1);
	STAMPS("x", NS_M | NS_C, p[0] = 'x'; OK(msync(p, 8192, MS_SYNC)));
	munmap(p, 8192);
	close(fd);
}

static void mapped_reads_stamp(void)
{
	volatile char *p;
	char c;
	int fd;

	mkdata("x", 0644, "content");
	fd = (int)OK(open("x", O_RDONLY | O_CLOEXEC));
	STAMPS("x", NS_A, p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0));
	if (!TRUE(p != MAP_FAILED))
		return;
	c = p[0];
	EQ(c, 'c');
	munmap((void *)p, 4096);
	close(fd);
}

static void birth_time(void)
{
	struct statx a, b;
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		struct timespec start, end, birth;

		ns_context("kind %c", *k);
		clock_gettime(CLOCK_REALTIME_COARSE, &start);
		mkkind(*k, "x", 0644);
		tick();
		clock_gettime(CLOCK_REALTIME, &end);
		OK(statx(AT_FDCWD, "x", AT_SYMLINK_NOFOLLOW, STATX_ALL, &a));
		TRUE(a.stx_mask & STATX_BTIME);
		birth = (struct timespec){a.stx_btime.tv_sec, a.stx_btime.tv_nsec};
		TRUE(ts_cmp(birth, start) >= 0 && ts_cmp(birth, end) <= 0);
		OK(set("x", 10, 0, 20, 0));
		OK(rename("x", "y"));
		OK(lchown("y", U1, G1));
		OK(statx(AT_FDCWD, "y", AT_SYMLINK_NOFOLLOW, STATX_BTIME, &b));
		TRUE(b.stx_mask & STATX_BTIME);
		EQ(a.stx_btime.tv_sec, b.stx_btime.tv_sec);
		EQ(a.stx_btime.tv_nsec, b.stx_btime.tv_nsec);
		OK(rmkind(*k, "y"));
	}
}

static void statx_tells_what_stat_tells(void)
{
	struct statx sx;
	struct stat st;

	mkdata("x", 0640, "content");
	own("x", U1, G2);
	OK(statx(AT_FDCWD, "x", 0, STATX_BASIC_STATS, &sx));
	st = st_of("x");
	EQ(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	EQ(sx.stx_ino, st.st_ino);
	EQ(sx.stx_size, 7);
	EQ(sx.stx_mode, st.st_mode);
	EQ(sx.stx_uid, U1);
	EQ(sx.stx_gid, G2);
	EQ(sx.stx_nlink, 1);
	EQ(sx.stx_blocks, st.st_blocks);
	EQ(sx.stx_blksize, st.st_blksize);
	EQ(sx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
	OK(statx(AT_FDCWD, "x", AT_STATX_FORCE_SYNC, STATX_ALL, &sx));
	OK(statx(AT_FDCWD, "x", AT_STATX_DONT_SYNC, STATX_ALL, &sx));
	EQ(sx.stx_size, 7);
	ERR(EINVAL, statx(AT_FDCWD, "x", 0, STATX__RESERVED, &sx));
}

/* Nanoseconds are kept: two writes a moment apart get different stamps once somebody looked. */
static void stamps_are_fine(void)
{
	struct stat st;
	int i, fine = 0;

	for (i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		mkfile(name, 0644);
		tick();
		put(name, "x");
		st = st_of(name);
		fine += st.st_mtim.tv_nsec % 1000 != 0;
	}
	TRUE(fine > 0);
}

const struct ns_check checks_time[] = {
	CHECK(explicit_stamps),
	CHECK(extreme_stamps),
	CHECK(now_and_omit),
	CHECK(stamps_through_symlink),
	CHECK(who_may_set_stamps),
	CHECK(descriptor_stamps),
	CHECK(what_writes_stamp),
	CHECK(what_fallocate_stamps),
	CHECK(what_metadata_changes_stamp),
	CHECK(what_file_reads_stamp),
	CHECK(what_reads_of_names_stamp),
	CHECK(mapped_writes_stamp),
	CHECK(synced_mapped_writes_stamp),
	CHECK(mapped_reads_stamp),
	CHECK(birth_time),
	CHECK(statx_tells_what_stat_tells),
	CHECK(stamps_are_fine),
	CHECKS_END,
};
