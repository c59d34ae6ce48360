/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File content through system calls. */
#include "tests/namespace/ns.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static void expect_bytes(int fd, off_t at, size_t len, char byte)
{
	char *buf = malloc(len);
	size_t i;

	memset(buf, ~byte, len);
	EQ(pread(fd, buf, len, at), len);
	for (i = 0; i < len; i++) {
		if (buf[i] != byte) {
			FAIL("byte at %lld is 0x%02x, expected 0x%02x", (long long)at + (long long)i,
			     (unsigned char)buf[i], (unsigned char)byte);
			break;
		}
	}
	free(buf);
}

static void write_and_read(void)
{
	static const struct {
		off_t at;
		size_t len;
	} parts[] = {
		{0, 1}, {1, 4095}, {4096, 4096}, {8191, 2}, {100000, 70000}, {5, 200000}, {1 << 20, 3 << 20},
	};
	char *buf = malloc(4 << 20), *model = calloc(1, 5 << 20), *back = malloc(5 << 20);
	int fd = mkfd("f", O_RDWR, 0644);
	off_t end = 0;
	size_t i;

	for (i = 0; i < NS_LEN(parts); i++) {
		fill(buf, parts[i].len, (unsigned int)i);
		EQ(pwrite(fd, buf, parts[i].len, parts[i].at), parts[i].len);
		memcpy(model + parts[i].at, buf, parts[i].len);
		if (parts[i].at + (off_t)parts[i].len > end)
			end = parts[i].at + (off_t)parts[i].len;
		EQ(st_fd(fd).st_size, end);
		EQ(pread(fd, back, 5 << 20, 0), end);
		TRUE(!memcmp(back, model, (size_t)end));
	}
	EQ(pread(fd, back, 10, end), 0);
	EQ(pread(fd, back, 10, end + 100000), 0);
	EQ(pread(fd, back, 10, end - 3), 3);
	EQ(lseek(fd, 0, SEEK_END), end);
	EQ(read(fd, back, 10), 0);
	EQ(lseek(fd, -10, SEEK_CUR), end - 10);
	EQ(read(fd, back, 100), 10);
	ERR(EINVAL, lseek(fd, -1, SEEK_SET));
	ERR(EINVAL, lseek(fd, 0, 99));
	ERR(EINVAL, pread(fd, back, 1, -1));
	ERR(EFAULT, syscall(SYS_pwrite64, fd, (char *)-4096L, 10L, 0L));
	ERR(EFAULT, syscall(SYS_pread64, fd, (char *)-4096L, 10L, 0L));
	close(fd);
	free(buf);
	free(model);
	free(back);
}

static void write_in_small_steps(void)
{
	char buf[997], back[997];
	int fd = mkfd("f", O_RDWR, 0644), i;

	for (i = 0; i < 300; i++) {
		fill(buf, sizeof(buf), (unsigned int)i);
		EQ(write(fd, buf, sizeof(buf)), sizeof(buf));
	}
	EQ(st_of("f").st_size, 300 * 997);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	for (i = 0; i < 300; i++) {
		fill(buf, sizeof(buf), (unsigned int)i);
		EQ(read(fd, back, sizeof(back)), sizeof(back));
		TRUE(!memcmp(buf, back, sizeof(buf)));
	}
	close(fd);
}

static void truncate_down_and_up(void)
{
	char *buf = malloc(100000);
	int fd = mkfd("f", O_RDWR, 0644);

	memset(buf, 'x', 100000);
	EQ(write(fd, buf, 100000), 100000);
	OK(ftruncate(fd, 5000));
	EQ(st_fd(fd).st_size, 5000);
	EQ(pread(fd, buf, 100000, 0), 5000);
	OK(truncate("f", 50000));
	expect_bytes(fd, 0, 5000, 'x');
	expect_bytes(fd, 5000, 45000, 0);
	EQ(pwrite(fd, "end", 3, 60000), 3);
	expect_bytes(fd, 50000, 10000, 0);
	OK(ftruncate(fd, 0));
	EQ(st_fd(fd).st_blocks, 0);
	OK(ftruncate(fd, 10000));
	expect_bytes(fd, 0, 10000, 0);
	close(fd);
	free(buf);
}

static void truncate_refusals(void)
{
	int fd;

	mkdata("f", 0444, "data");
	mkdirm("d", 0755);
	OK(mkfifo("p", 0644));
	ERR(EINVAL, truncate("f", -1));
	ERR(EISDIR, truncate("d", 0));
	ERR(EINVAL, truncate("p", 0));
	AS(U1, G1)
		ERR(EACCES, truncate("f", 0));
	fd = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	ERR(EINVAL, ftruncate(fd, 0));
	close(fd);
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	ERR(EINVAL, ftruncate(fd, -1));
	close(fd);
	HAS("f", "data");
}

static void sparse_large_offsets(void)
{
	char c;
	int fd = mkfd("f", O_RDWR, 0644);

	EQ(pwrite(fd, "x", 1, (1LL << 40)), 1);
	EQ(st_fd(fd).st_size, (1LL << 40) + 1);
	TRUE(st_fd(fd).st_blocks <= 4096);
	EQ(pread(fd, &c, 1, 1LL << 40), 1);
	EQ(c, 'x');
	EQ(pread(fd, &c, 1, 1LL << 39), 1);
	EQ(c, 0);
	OK(ftruncate(fd, 1LL << 45));
	EQ(st_of("f").st_size, 1LL << 45);
	OK(ftruncate(fd, 10));
	close(fd);
}

static void sparse_truncate_costs_nothing(void)
{
	int fd = mkfd("f", O_RDWR, 0644);

	OK(ftruncate(fd, 1LL << 33));
	EQ(st_fd(fd).st_blocks, 0);
	close(fd);
	/* nor does looking at it */
	fd = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	expect_bytes(fd, 1LL << 32, 4096, 0);
	EQ(st_fd(fd).st_blocks, 0);
	close(fd);
}

/* Holes end where memory begins, and with huge pages memory comes in pieces of up to 2 MiB. */
static void expect_between(off_t got, off_t least, off_t most)
{
	TRUE(got >= least && got <= most && got % 4096 == 0);
}

static void sparse_seek_data_and_hole(void)
{
	enum { M = 1 << 20 };
	int fd = mkfd("f", O_RDWR, 0644);

	OK(ftruncate(fd, 64 * M));
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
	EQ(pwrite(fd, "a", 1, 8 * M), 1);
	EQ(pwrite(fd, "b", 1, 16 * M + 100), 1);
	EQ(lseek(fd, 0, SEEK_DATA), 8 * M);
	EQ(lseek(fd, 8 * M + 1, SEEK_DATA), 8 * M + 1);
	expect_between(lseek(fd, 8 * M, SEEK_HOLE), 8 * M + 4096, 10 * M);
	EQ(lseek(fd, 12 * M, SEEK_DATA), 16 * M);
	expect_between(lseek(fd, 16 * M, SEEK_HOLE), 16 * M + 4096, 18 * M);
	EQ(lseek(fd, 1000, SEEK_HOLE), 1000);
	ERR(ENXIO, lseek(fd, 20 * M, SEEK_DATA));
	EQ(lseek(fd, 20 * M, SEEK_HOLE), 20 * M);
	ERR(ENXIO, lseek(fd, 64 * M, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, 64 * M, SEEK_DATA));
	ERR(ENXIO, lseek(fd, -1, SEEK_DATA));
	close(fd);
}

static void seek_in_full_file(void)
{
	char *buf = repeat('x', 20000);
	int fd = mkfd("f", O_RDWR, 0644);

	EQ(write(fd, buf, 20000), 20000);
	EQ(lseek(fd, 0, SEEK_DATA), 0);
	EQ(lseek(fd, 19999, SEEK_DATA), 19999);
	EQ(lseek(fd, 0, SEEK_HOLE), 20000);
	ERR(ENXIO, lseek(fd, 20000, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 20000, SEEK_HOLE));
	close(fd);
	free(buf);
}

static void allocate(void)
{
	int fd = mkfd("f", O_RDWR, 0644);

	OK(fallocate(fd, 0, 0, 100000));
	EQ(st_fd(fd).st_size, 100000);
	TRUE(st_fd(fd).st_blocks >= 200);
	expect_bytes(fd, 0, 100000, 0);
	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 200000));
	EQ(st_fd(fd).st_size, 100000);
	TRUE(st_fd(fd).st_blocks >= 392);
	OK(posix_fallocate(fd, 50000, 250000));
	EQ(st_of("f").st_size, 300000);
	OK(posix_fallocate(fd, 0, 10));
	EQ(st_of("f").st_size, 300000);
	EQ(pwrite(fd, "x", 1, 99999), 1);
	OK(fallocate(fd, 0, 99000, 2000));
	expect_bytes(fd, 99999, 1, 'x');
	close(fd);
}

static void allocate_refusals(void)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE,
		FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_INSERT_RANGE,
		FALLOC_FL_UNSHARE_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		0x1000,
	};
	int fd = mkfd("f", O_RDWR, 0644), d, r, p;
	size_t i;

	OK(ftruncate(fd, 65536));
	for (i = 0; i < NS_LEN(modes); i++) {
		ns_context("mode 0x%x", modes[i]);
		ERR(EOPNOTSUPP, fallocate(fd, modes[i], 0, 4096));
	}
	ns_context(NULL);
	ERR(EINVAL, fallocate(fd, 0, 0, 0));
	ERR(EINVAL, fallocate(fd, 0, -1, 10));
	ERR(EINVAL, fallocate(fd, 0, 0, -1));
	ERR(EFBIG, fallocate(fd, 0, LLONG_MAX - 10, 100));
	ERR(ENOSPC, fallocate(fd, 0, 0, 1LL << 44));
	EQ(st_fd(fd).st_size, 65536);
	r = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	ERR(EBADF, fallocate(r, 0, 0, 10));
	d = (int)OK(open(".", O_RDONLY | O_CLOEXEC));
	ERR(EBADF, fallocate(d, 0, 0, 10));
	OK(mkfifo("p", 0644));
	p = (int)OK(open("p", O_RDWR | O_CLOEXEC));
	ERR(ESPIPE, fallocate(p, 0, 0, 10));
	close(fd);
	close(r);
	close(d);
	close(p);
}

static void punch(void)
{
	char *buf = repeat('x', 1 << 20);
	int fd = mkfd("f", O_RDWR, 0644), keep = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
	long before;

	EQ(write(fd, buf, 1 << 20), 1 << 20);
	before = st_fd(fd).st_blocks;
	TRUE(before >= 2048);
	OK(fallocate(fd, keep, 65536, 131072));
	expect_bytes(fd, 65536, 131072, 0);
	expect_bytes(fd, 0, 65536, 'x');
	expect_bytes(fd, 65536 + 131072, 100000, 'x');
	TRUE(st_fd(fd).st_blocks <= before - 200);
	/* parts of pages */
	OK(fallocate(fd, keep, 500001, 10));
	expect_bytes(fd, 500001, 10, 0);
	expect_bytes(fd, 500000, 1, 'x');
	expect_bytes(fd, 500011, 1, 'x');
	OK(fallocate(fd, keep, 600001, 10000));
	expect_bytes(fd, 600001, 10000, 0);
	expect_bytes(fd, 590000, 10001, 'x');
	expect_bytes(fd, 610001, 10000, 'x');
	OK(fallocate(fd, keep, 1 << 20, 1 << 20));
	OK(fallocate(fd, keep, (1 << 20) - 100, 1 << 20));
	EQ(st_fd(fd).st_size, 1 << 20);
	expect_bytes(fd, (1 << 20) - 100, 100, 0);
	EQ(pwrite(fd, buf, 1000, 70000), 1000);
	expect_bytes(fd, 70000, 1000, 'x');
	expect_bytes(fd, 71000, 1000, 0);
	close(fd);
	free(buf);
}

static void sparse_punch_all(void)
{
	char *buf = repeat('x', 1 << 20);
	int fd = mkfd("f", O_RDWR, 0644), keep = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;

	EQ(write(fd, buf, 1 << 20), 1 << 20);
	OK(fallocate(fd, keep, 0, 1 << 20));
	EQ(st_fd(fd).st_blocks, 0);
	EQ(st_fd(fd).st_size, 1 << 20);
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
	close(fd);
	free(buf);
}

static void append(void)
{
	int a, b, i, lost = 0, counts[2] = {0, 0};
	char rec[100], buf[100];
	pid_t pids[2];

	mkfile("f", 0644);
	for (i = 0; i < 2; i++) {
		pids[i] = ns_fork();
		if (!pids[i]) {
			a = (int)OK(open("f", O_WRONLY | O_APPEND));
			memset(rec, 'A' + i, sizeof(rec));
			for (b = 0; b < 500; b++)
				EQ(write(a, rec, sizeof(rec)), sizeof(rec));
			ns_exit();
		}
	}
	ns_wait(pids[0]);
	ns_wait(pids[1]);
	EQ(size_of("f"), 100000);
	a = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	for (i = 0; i < 1000; i++) {
		EQ(read(a, buf, sizeof(buf)), sizeof(buf));
		memset(rec, buf[0], sizeof(rec));
		lost += memcmp(rec, buf, sizeof(rec)) != 0;
		if (buf[0] == 'A' || buf[0] == 'B')
			counts[buf[0] - 'A']++;
	}
	EQ(lost, 0);
	EQ(counts[0], 500);
	EQ(counts[1], 500);
	close(a);
}

static void append_details(void)
{
	struct iovec iov = {(char[]){"ZZ"}, 2};
	int a, w;

	mkdata("f", 0644, "start");
	a = (int)OK(open("f", O_RDWR | O_APPEND | O_CLOEXEC));
	w = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	EQ(write(a, "1", 1), 1);
	EQ(lseek(a, 0, SEEK_CUR), 6);
	OK(lseek(a, 0, SEEK_SET));
	EQ(write(a, "2", 1), 1);
	/* Linux: O_APPEND wins over the offset of pwrite */
	EQ(pwrite(a, "3", 1, 0), 1);
	HAS("f", "start123");
	EQ(write(w, "S", 1), 1);
	EQ(write(a, "4", 1), 1);
	EQ(pwritev2(w, &iov, 1, 0, RWF_APPEND), 2);
	HAS("f", "Start1234ZZ");
	OK(ftruncate(w, 2));
	EQ(write(a, "!", 1), 1);
	HAS("f", "St!");
	close(a);
	close(w);
}

static void append_switched_later(void)
{
	int a, w;

	mkdata("f", 0644, "start");
	a = (int)OK(open("f", O_RDWR | O_APPEND | O_CLOEXEC));
	w = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(fcntl(w, F_SETFL, O_APPEND));
	EQ(pwrite(w, "1", 1, 0), 1);
	HAS("f", "start1");
	OK(fcntl(a, F_SETFL, 0));
	EQ(pwrite(a, "S", 1, 0), 1);
	HAS("f", "Start1");
	close(a);
	close(w);
}

static void direct_io(void)
{
	char *buf = aligned_alloc(4096, 65536), *back = aligned_alloc(4096, 65536);
	int d, fd;

	mkfile("f", 0644);
	d = (int)OK(open("f", O_RDWR | O_DIRECT | O_CLOEXEC));
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	fill(buf, 65536, 1);
	EQ(write(d, buf, 65536), 65536);
	EQ(pread(fd, back, 65536, 0), 65536);
	TRUE(!memcmp(buf, back, 65536));
	fill(buf, 65536, 2);
	EQ(pwrite(fd, buf, 65536, 0), 65536);
	memset(back, 0, 65536);
	EQ(pread(d, back, 65536, 0), 65536);
	TRUE(!memcmp(buf, back, 65536));
	EQ(pread(d, back, 4096, 65536), 0);
	OK(fcntl(fd, F_SETFL, O_DIRECT));
	EQ(pwrite(fd, buf, 4096, 4096), 4096);
	EQ(pread(d, back, 4096, 4096), 4096);
	TRUE(!memcmp(buf, back, 4096));
	close(d);
	close(fd);
	free(buf);
	free(back);
}

static void vectors(void)
{
	char a[5] = "", b[10] = "";
	struct iovec out[3] = {{(char[]){"one"}, 3}, {NULL, 0}, {(char[]){"two!"}, 4}},
		     in[2] = {{a, 4}, {b, 9}};
	int fd = mkfd("f", O_RDWR, 0644);

	EQ(writev(fd, out, 3), 7);
	EQ(pwritev(fd, out, 3, 7), 7);
	EQ(preadv(fd, in, 2, 0), 13);
	STR(a, "onet");
	STR(b, "wo!onetwo");
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(readv(fd, in, 2), 13);
	EQ(preadv2(fd, in, 1, 3, 0), 4);
	STR(a, "two!");
	EQ(pwritev2(fd, out, 1, 0, RWF_SYNC | RWF_DSYNC), 3);
	ERR(EINVAL, syscall(SYS_writev, fd, out, -1L));
	ERR(EINVAL, syscall(SYS_writev, fd, out, IOV_MAX + 1L));
	EQ(writev(fd, out, 0), 0);
	close(fd);
}

static void send_and_splice(void)
{
	char buf[8192], back[8192];
	int fd = mkfd("f", O_RDWR, 0644), out = mkfd("g", O_RDWR, 0644), p[2];
	off_t at = 100;
	loff_t where = 50;

	fill(buf, sizeof(buf), 3);
	EQ(write(fd, buf, sizeof(buf)), sizeof(buf));
	EQ(sendfile(out, fd, &at, 5000), 5000);
	EQ(at, 5100);
	EQ(pread(out, back, sizeof(back), 0), 5000);
	TRUE(!memcmp(back, buf + 100, 5000));
	OK(pipe2(p, O_CLOEXEC));
	EQ(splice(fd, &where, p[1], NULL, 4000, 0), 4000);
	EQ(where, 4050);
	where = 6000;
	EQ(splice(p[0], NULL, out, &where, 3000, 0), 3000);
	EQ(read(p[0], back, sizeof(back)), 1000);
	TRUE(!memcmp(back, buf + 3050, 1000));
	EQ(pread(out, back, 3000, 6000), 3000);
	TRUE(!memcmp(back, buf + 50, 3000));
	EQ(st_fd(out).st_size, 9000);
	close(p[0]);
	close(p[1]);
	close(fd);
	close(out);
}

static void copy_range(void)
{
	char *buf = malloc(300000), *back = malloc(300000);
	int a = mkfd("a", O_RDWR, 0644), b = mkfd("b", O_RDWR, 0644), fd;
	loff_t in = 10, out = 20;

	fill(buf, 300000, 4);
	EQ(write(a, buf, 300000), 300000);
	EQ(copy_file_range(a, &in, b, &out, 200000, 0), 200000);
	EQ(in, 200010);
	EQ(out, 200020);
	EQ(pread(b, back, 300000, 0), 200020);
	TRUE(!memcmp(back + 20, buf + 10, 200000));
	in = 299990;
	EQ(copy_file_range(a, &in, b, &out, 1000, 0), 10);
	EQ(copy_file_range(a, &in, b, &out, 1000, 0), 0);
	in = 0;
	out = 100000;
	EQ(copy_file_range(a, &in, a, &out, 50000, 0), 50000);
	in = 0;
	out = 1000;
	ERR(EINVAL, copy_file_range(a, &in, a, &out, 50000, 0));
	ERR(EINVAL, copy_file_range(a, &in, b, &out, 10, 1));
	fd = (int)OK(open("b", O_RDONLY | O_CLOEXEC));
	ERR(EBADF, copy_file_range(a, NULL, fd, NULL, 10, 0));
	close(fd);
	fd = (int)OK(open("b", O_WRONLY | O_APPEND | O_CLOEXEC));
	ERR(EBADF, copy_file_range(a, NULL, fd, NULL, 10, 0));
	ERR(EBADF, copy_file_range(fd, NULL, a, NULL, 10, 0));
	close(fd);
	fd = (int)OK(open(".", O_RDONLY | O_CLOEXEC));
	ERR(EISDIR, copy_file_range(fd, NULL, b, NULL, 10, 0));
	close(fd);
	close(a);
	close(b);
	free(buf);
	free(back);
}

static void syncs(void)
{
	int fd = mkfd("f", O_RDWR, 0644);

	EQ(write(fd, "x", 1), 1);
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(syncfs(fd));
	OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
	EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED), 0);
	OK(readahead(fd, 0, 4096));
	close(fd);
	fd = (int)OK(open("f", O_RDWR | O_SYNC | O_CLOEXEC));
	EQ(write(fd, "y", 1), 1);
	close(fd);
	HAS("f", "y");
}

static volatile sig_atomic_t xfsz;

static void on_xfsz(int sig)
{
	(void)sig;
	xfsz++;
}

static void file_size_limit(void)
{
	struct rlimit rl = {10000, 10000};
	char buf[8192] = "";
	int fd = mkfd("f", O_RDWR, 0644), big = mkfd("g", O_RDWR, 0644);

	OK(ftruncate(big, 20000));
	signal(SIGXFSZ, on_xfsz);
	OK(setrlimit(RLIMIT_FSIZE, &rl));
	EQ(write(fd, buf, 8192), 8192);
	EQ(write(fd, buf, 8192), 10000 - 8192);
	EQ(xfsz, 0);
	ERR(EFBIG, write(fd, buf, 1));
	EQ(xfsz, 1);
	ERR(EFBIG, pwrite(fd, buf, 1, 10000));
	EQ(xfsz, 2);
	ERR(EFBIG, ftruncate(fd, 10001));
	EQ(xfsz, 3);
	ERR(EFBIG, truncate("f", 20000));
	EQ(xfsz, 4);
	ERR(EFBIG, fallocate(fd, 0, 0, 20000));
	OK(ftruncate(fd, 10000));
	EQ(st_fd(fd).st_size, 10000);
	/* what is beyond already may be rewritten up to the limit only, and cut */
	ERR(EFBIG, pwrite(big, buf, 1, 15000));
	OK(ftruncate(big, 15000));
	EQ(pwrite(big, buf, 100, 9950), 50);
	close(fd);
	close(big);
}

const struct ns_check checks_data[] = {
	CHECK(write_and_read),
	CHECK(write_in_small_steps),
	CHECK(truncate_down_and_up),
	CHECK(truncate_refusals),
	CHECK(sparse_large_offsets),
	CHECK(sparse_truncate_costs_nothing),
	CHECK(sparse_seek_data_and_hole),
	CHECK(seek_in_full_file),
	CHECK(allocate),
	CHECK(allocate_refusals),
	CHECK(punch),
	CHECK(sparse_punch_all),
	CHECK(append),
	CHECK(append_details),
	CHECK(append_switched_later),
	CHECK(direct_io),
	CHECK(vectors),
	CHECK(send_and_splice),
	CHECK(copy_range),
	CHECK(syncs),
	CHECK(file_size_limit),
	CHECKS_END,
};
