/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens when nothing is left. Wants a mount of its own of a few MiB and few inodes
 * (size=8M,nr_inodes=300), which these checks fill to the last byte and inode.
 */
#include "tests/namespace/ns.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { CHUNK = 65536 };

static struct statfs fs(void)
{
	struct statfs sf;

	memset(&sf, 0, sizeof(sf));
	OK(statfs(".", &sf));
	return sf;
}

static void need_small_mount(void)
{
	if (fs().f_blocks > 16384 || fs().f_files > 10000)
		ns_skip("the mount is too large to be filled");
}

/* Writes until nothing goes; returns the bytes that were acknowledged. */
static off_t fill_up(int fd)
{
	static char buf[CHUNK];
	off_t done = 0;
	ssize_t n;

	fill(buf, sizeof(buf), 9);
	while ((n = pwrite(fd, buf + done % CHUNK, CHUNK - (size_t)(done % CHUNK), done)) > 0)
		done += n;
	EQ(n, -1);
	EQ(errno, ENOSPC);
	return done;
}

static void expect_fill(int fd, off_t len)
{
	static char want[CHUNK], got[CHUNK];
	off_t at;

	fill(want, sizeof(want), 9);
	for (at = 0; at < len; at += CHUNK) {
		size_t n = len - at < CHUNK ? (size_t)(len - at) : CHUNK;

		EQ(pread(fd, got, n, at), n);
		if (memcmp(got, want, n)) {
			FAIL("acknowledged bytes at %lld are not there", (long long)at);
			return;
		}
	}
}

static void writes_until_full(void)
{
	off_t total;
	int fd, other;

	need_small_mount();
	fd = mkfd("f", O_RDWR, 0644);
	total = fill_up(fd);
	TRUE(total >= (off_t)fs().f_blocks * 4096 / 2);
	EQ(st_fd(fd).st_size, total);
	ERR(ENOSPC, pwrite(fd, "x", 1, total));
	TRUE(fs().f_bfree <= 8);
	/* what was acknowledged stays, and may be rewritten */
	expect_fill(fd, total);
	EQ(pwrite(fd, "overwritten", 11, 0), 11);
	other = mkfd("g", O_RDWR, 0644);
	ERR(ENOSPC, write(other, "x", 1));
	EQ(st_fd(other).st_size, 0);
	OK(ftruncate(fd, total - 200000));
	TRUE(NS_WITHIN(3000, write(other, "y", 1) == 1));
	close(fd);
	close(other);
	fd = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	EQ(st_fd(fd).st_size, total - 200000);
	close(fd);
}

static void unlink_gives_back(void)
{
	off_t first, again;
	int i, fd;

	need_small_mount();
	fd = mkfd("f", O_RDWR, 0644);
	first = fill_up(fd);
	close(fd);
	for (i = 0; i < 3; i++) {
		OK(unlink("f"));
		fd = mkfd("f", O_RDWR, 0644);
		TRUE(NS_WITHIN(5000, (long)(fs().f_bfree * 4096) >= first - 16384));
		again = fill_up(fd);
		TRUE(again >= first - 16384);
		close(fd);
	}
}

static void allocation_is_all_or_nothing(void)
{
	unsigned long before;
	int fd;

	need_small_mount();
	fd = mkfd("f", O_RDWR, 0644);
	before = fs().f_bfree;
	ERR(ENOSPC, fallocate(fd, 0, 0, (off_t)fs().f_blocks * 4096 + 4096));
	EQ(st_fd(fd).st_size, 0);
	TRUE(NS_WITHIN(3000, fs().f_bfree == before));
	OK(fallocate(fd, 0, 0, 1 << 20));
	ERR(ENOSPC, fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)fs().f_blocks * 4096 + 4096));
	EQ(st_fd(fd).st_size, 1 << 20);
	EQ(posix_fallocate(fd, 1 << 20, (off_t)fs().f_blocks * 4096), ENOSPC);
	/* what was allocated takes writes although nothing else is free */
	fill_up(mkfd("g", O_RDWR, 0644));
	EQ(pwrite(fd, "x", 1, 500000), 1);
	EQ(pwrite(fd, "x", 1, (1 << 20) - 1), 1);
	close(fd);
}

static void names_without_room_for_data(void)
{
	struct stat st;

	need_small_mount();
	fill_up(mkfd("f", O_RDWR, 0644));
	OK(mkdir("d", 0755));
	mkfile("d/e", 0644);
	OK(rename("d/e", "d/g"));
	OK(link("d/g", "d/h"));
	OK(stat("d/h", &st));
	EQ(st.st_nlink, 2);
	OK(unlink("d/g"));
	OK(chmod("d/h", 0600));
	OK(unlink("d/h"));
	OK(rmdir("d"));
	OK(symlink("short", "s"));
}

/* Makes empty files n0, n1 ... until no inode is left; returns how many. */
static int use_up_inodes(void)
{
	char name[16];
	int i;

	for (i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		if (mknod(name, S_IFREG | 0644, 0))
			break;
	}
	EQ(errno, ENOSPC);
	return i;
}

static void no_inode_left(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int n, s;

	need_small_mount();
	OK(mkdir("d", 0755));
	n = use_up_inodes();
	TRUE(n > 50);
	TRUE(fs().f_ffree <= 2);
	ERR(ENOSPC, mkdir("x", 0755));
	ERR(ENOSPC, mkfifo("x", 0644));
	ERR(ENOSPC, symlink("y", "x"));
	ERR(ENOSPC, open("x", O_CREAT | O_RDWR, 0644));
	ERR(ENOSPC, open(".", O_TMPFILE | O_RDWR, 0644));
	/* in tmpfs each further name costs as much as an inode */
	ERR(ENOSPC, link("n0", "x"));
	s = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ERR(ENOSPC, bind(s, (struct sockaddr *)&sa, sizeof(sa)));
	TRUE(!exists("x") && !exists("socket"));
	EQ(nlink_of("n0"), 1);
	/* what needs no new inode goes on */
	put("n1", "data");
	HAS("n1", "data");
	OK(rename("n1", "renamed"));
	OK(unlink("n2"));
	TRUE(NS_WITHIN(3000, !mkdir("x", 0755)));
	OK(unlink("n0"));
	TRUE(NS_WITHIN(3000, !link("n4", "y")));
	close(s);
}

static void replacing_without_a_free_inode(void)
{
	int fd;

	need_small_mount();
	OK(mkdir("d", 0755));
	OK(mkdir("e", 0755));
	use_up_inodes();
	fd = (int)OK(open("n1", O_RDWR | O_CLOEXEC));
	OK(rename("n0", "n1"));
	EQ(st_fd(fd).st_nlink, 0);
	OK(rename("d", "e"));
	OK(syscall(SYS_renameat2, AT_FDCWD, "n2", AT_FDCWD, "n3", 2 /* RENAME_EXCHANGE */));
	close(fd);
	TRUE(NS_WITHIN(3000, !mkdir("x", 0755)));
	TRUE(NS_WITHIN(3000, !mkdir("y", 0755)));
}

static void inodes_come_back(void)
{
	char name[16];
	int n, i;

	need_small_mount();
	n = use_up_inodes();
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		OK(unlink(name));
	}
	TRUE(NS_WITHIN(5000, (long)fs().f_ffree >= n));
	EQ(use_up_inodes(), n);
}

/* Memory that nothing has promised: a fault on it when full is a SIGBUS, and what was there stays. */
static void sparse_mapping_at_full(void)
{
	size_t len;
	int fd;

	need_small_mount();
	len = (size_t)fs().f_blocks * 4096 + (4u << 20);
	fd = mkfd("f", O_RDWR, 0644);
	OK(ftruncate(fd, (off_t)len));
	CHILD() {
		int status;
		pid_t pid = ns_fork();

		if (!pid) {
			char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

			if (p != MAP_FAILED)
				memset(p, 'x', len);
			ns_exit();
		}
		status = ns_status(pid);
		EQ(WTERMSIG(status), SIGBUS);
	}
	EQ(pread(fd, (char[1]){0}, 1, 0), 1);
	OK(ftruncate(fd, 0));
	TRUE(NS_WITHIN(3000, fs().f_bfree * 4096 >= len / 2));
	close(fd);
}

const struct ns_check checks_full[] = {
	CHECK(writes_until_full),
	CHECK(unlink_gives_back),
	CHECK(allocation_is_all_or_nothing),
	CHECK(names_without_room_for_data),
	CHECK(no_inode_left),
	CHECK(replacing_without_a_free_inode),
	CHECK(inodes_come_back),
	CHECK(sparse_mapping_at_full),
	CHECKS_END,
};
