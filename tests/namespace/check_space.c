/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What statfs and st_blocks tell. The numbers are the whole mount's: nobody else may use it meanwhile. */
#include "tests/namespace/ns.h"

#include <sys/statfs.h>
#include <sys/statvfs.h>

static struct statfs fs_of(const char *path)
{
	struct statfs sf;

	memset(&sf, 0, sizeof(sf));
	OK(statfs(path, &sf));
	return sf;
}

/* Earlier checks' closed files may still be on their way out. */
static struct statfs settled(void)
{
	struct statfs a = fs_of("."), b;
	int i;

	for (i = 0; i < 50; i++) {
		ns_millisecond();
		ns_millisecond();
		b = fs_of(".");
		if (a.f_bfree == b.f_bfree && a.f_ffree == b.f_ffree && i > 10)
			break;
		a = b;
	}
	return b;
}

static void write_bytes(int fd, size_t len)
{
	char buf[65536];
	size_t done, n;

	fill(buf, sizeof(buf), 5);
	for (done = 0; done < len; done += n) {
		n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		EQ(write(fd, buf, n), n);
	}
}

static void statfs_fields(void)
{
	struct statfs a = fs_of("."), b;
	struct statvfs v;
	int fd;

	mkfile("f", 0644);
	fd = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	OK(fstatfs(fd, &b));
	EQ(a.f_bsize, 4096);
	EQ(a.f_frsize, 4096);
	EQ(a.f_namelen, 255);
	EQ(a.f_blocks, b.f_blocks);
	EQ(a.f_files, b.f_files);
	TRUE(a.f_blocks > 0 && a.f_bfree <= a.f_blocks);
	EQ(a.f_bavail, a.f_bfree);
	TRUE(a.f_files > 0 && a.f_ffree > 0 && a.f_ffree < a.f_files);
	OK(statvfs(".", &v));
	EQ(v.f_frsize, 4096);
	EQ(v.f_namemax, 255);
	AS(U1, G1)
		EQ(fs_of(".").f_blocks, a.f_blocks);
	close(fd);
}

static void free_blocks_follow_data(void)
{
	struct statfs start = settled();
	int fd = mkfd("f", O_RDWR, 0644);

	write_bytes(fd, 4 << 20);
	/* where the kernel gives huge pages it may round up, never down */
	TRUE(start.f_bfree - fs_of(".").f_bfree >= 1024);
	TRUE(start.f_bfree - fs_of(".").f_bfree <= 1024 + 512 + 16);
	OK(ftruncate(fd, 0));
	TRUE(NS_WITHIN(2000, start.f_bfree - fs_of(".").f_bfree <= 4));
	write_bytes(fd, 1 << 20);
	close(fd);
	OK(unlink("f"));
	TRUE(NS_WITHIN(5000, fs_of(".").f_bfree == start.f_bfree));
}

static void free_inodes_follow_names(void)
{
	struct statfs start = settled();

	mkfile("a", 0644);
	OK(mkdir("b", 0755));
	OK(symlink("x", "c"));
	OK(mkfifo("d", 0644));
	EQ(start.f_ffree - fs_of(".").f_ffree, 4);
	EQ(fs_of(".").f_files, start.f_files);
	OK(unlink("a"));
	OK(rmdir("b"));
	OK(unlink("c"));
	OK(unlink("d"));
	TRUE(NS_WITHIN(5000, fs_of(".").f_ffree == start.f_ffree));
}

static void blocks_of_a_file(void)
{
	int fd = mkfd("f", O_RDWR, 0644);

	EQ(st_fd(fd).st_blocks, 0);
	EQ(write(fd, "x", 1), 1);
	EQ(st_fd(fd).st_blocks, 8);
	EQ(st_of("f").st_blocks, 8);
	write_bytes(fd, 40960 - 1);
	EQ(st_of("f").st_size, 40960);
	EQ(st_fd(fd).st_blocks, 80);
	OK(ftruncate(fd, 4097));
	EQ(st_of("f").st_blocks, 16);
	OK(ftruncate(fd, 0));
	EQ(st_of("f").st_blocks, 0);
	OK(fallocate(fd, 0, 0, 81920));
	EQ(st_of("f").st_blocks, 160);
	close(fd);
	EQ(st_of("f").st_blocks, 160);
}

static void sparse_blocks(void)
{
	int fd = mkfd("f", O_RDWR, 0644);

	/* with huge pages a byte may cost 2 MiB */
	EQ(pwrite(fd, "x", 1, 64 << 20), 1);
	EQ(pwrite(fd, "x", 1, 0), 1);
	TRUE(st_fd(fd).st_blocks >= 16 && st_fd(fd).st_blocks <= 2 * 4096);
	EQ(st_fd(fd).st_size, (64 << 20) + 1);
	OK(ftruncate(fd, 100 << 20));
	TRUE(st_fd(fd).st_blocks <= 2 * 4096);
	close(fd);
}

static void small_files_are_small(void)
{
	struct statfs start = settled();
	long blocks = 0;
	char name[16];
	int i;

	for (i = 0; i < 50; i++) {
		int fd;

		snprintf(name, sizeof(name), "f%d", i);
		fd = mkfd(name, O_RDWR, 0644);
		write_bytes(fd, 4096);
		close(fd);
		/* opened once more, as a program that reads or maps it would */
		close((int)OK(open(name, O_RDWR)));
		close((int)OK(open(name, O_RDONLY)));
		blocks += st_of(name).st_blocks;
	}
	EQ(blocks, 50 * 8);
	TRUE(start.f_bfree - fs_of(".").f_bfree < 256);
}

const struct ns_check checks_space[] = {
	CHECK(statfs_fields),
	CHECK(free_blocks_follow_data),
	CHECK(free_inodes_follow_names),
	CHECK(blocks_of_a_file),
	CHECK(sparse_blocks),
	CHECK(small_files_are_small),
	CHECKS_END,
};
