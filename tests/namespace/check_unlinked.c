/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What has no name any more and is still in use: open, mapped, O_PATH, working directory. */
#include "tests/namespace/ns.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

static int unlinked_file(const char *data)
{
	int fd;

	mkdata("gone", 0644, data);
	fd = (int)OK(open("gone", O_RDWR | O_CLOEXEC));
	OK(unlink("gone"));
	EQ(st_fd(fd).st_nlink, 0);
	TRUE(!exists("gone"));
	return fd;
}

static void open_file(void)
{
	char big[70000], back[70000], buf[16] = "";
	int fd = unlinked_file("content");
	struct stat st;

	EQ(pread(fd, buf, sizeof(buf), 0), 7);
	STR(buf, "content");
	fill(big, sizeof(big), 1);
	EQ(pwrite(fd, big, sizeof(big), 100000), sizeof(big));
	EQ(pread(fd, back, sizeof(back), 100000), sizeof(back));
	TRUE(!memcmp(big, back, sizeof(big)));
	EQ(st_fd(fd).st_size, 170000);
	OK(ftruncate(fd, 4));
	EQ(st_fd(fd).st_size, 4);
	OK(fallocate(fd, 0, 0, 8192));
	EQ(st_fd(fd).st_size, 8192);
	OK(fchmod(fd, 0600));
	OK(fchown(fd, U1, G1));
	OK(futimens(fd, (struct timespec[2]){{1000, 1}, {2000, 2}}));
	st = st_fd(fd);
	OCT(st.st_mode, S_IFREG | 0600);
	EQ(st.st_uid, U1);
	EQ(st.st_mtim.tv_sec, 2000);
	EQ(st.st_nlink, 0);
	OK(fsync(fd));
	OK(flock(fd, LOCK_EX | LOCK_NB));
	close(fd);
}

static void xattrs_of_open_file(void)
{
	char buf[64];
	int fd = unlinked_file("content");

	OK(fsetxattr(fd, "user.k", "value", 5, XATTR_CREATE));
	EQ(fgetxattr(fd, "user.k", buf, sizeof(buf)), 5);
	TRUE(flistxattr(fd, buf, sizeof(buf)) >= 7);
	OK(fremovexattr(fd, "user.k"));
	ERR(ENODATA, fgetxattr(fd, "user.k", buf, sizeof(buf)));
	close(fd);
}

static void reopen(void)
{
	char proc[64], c;
	int fd = unlinked_file("content"), again;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	again = (int)OK(open(proc, O_RDONLY | O_CLOEXEC));
	EQ(read(again, &c, 1), 1);
	EQ(c, 'c');
	close(fd);
	EQ(pread(again, &c, 1, 1), 1);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", again);
	fd = (int)OK(open(proc, O_WRONLY | O_TRUNC | O_CLOEXEC));
	EQ(write(fd, "X", 1), 1);
	EQ(pread(again, &c, 1, 0), 1);
	EQ(c, 'X');
	EQ(st_fd(again).st_size, 1);
	OK(truncate(proc, 100));
	EQ(st_fd(again).st_size, 100);
	OK(chmod(proc, 0400));
	OK(setxattr(proc, "user.k", "v", 1, 0));
	ERR(ENOENT, linkat(AT_FDCWD, proc, AT_FDCWD, "back", AT_SYMLINK_FOLLOW));
	ERR(ENOENT, linkat(again, "", AT_FDCWD, "back", AT_EMPTY_PATH));
	close(fd);
	close(again);
}

static void only_mapped(void)
{
	int fd = unlinked_file("content");
	char *p;

	OK(ftruncate(fd, 3L * 4096));
	p = mmap(NULL, 3L * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (!TRUE(p != MAP_FAILED))
		return;
	TRUE(!memcmp(p, "content", 7));
	fill(p, 3L * 4096, 7);
	CHILD() {
		char want[4096];

		fill(want, sizeof(want), 7);
		TRUE(!memcmp(p, want, 4096));
		p[1] = 'Q';
	}
	EQ(p[1], 'Q');
	OK(munmap(p, 3L * 4096));
}

static void only_o_path(void)
{
	char proc[64];
	int p, fd;

	mkdata("f", 0644, "content");
	p = (int)OK(open("f", O_PATH | O_CLOEXEC));
	OK(unlink("f"));
	EQ(st_fd(p).st_nlink, 0);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", p);
	fd = (int)OK(open(proc, O_RDWR | O_CLOEXEC));
	EQ(write(fd, "C", 1), 1);
	close(fd);
	OK(fchownat(p, "", U1, G1, AT_EMPTY_PATH));
	EQ(st_fd(p).st_uid, U1);
	OK(truncate(proc, 3));
	EQ(st_fd(p).st_size, 3);
	HAS(proc, "Con");
	ERR(ENOENT, linkat(p, "", AT_FDCWD, "back", AT_EMPTY_PATH));
	close(p);
}

static void o_path_of_other_kinds(void)
{
	char target[16] = "", proc[64];
	int l, p, fd;

	OK(symlink("target", "l"));
	l = (int)OK(open("l", O_PATH | O_NOFOLLOW | O_CLOEXEC));
	OK(unlink("l"));
	EQ(st_fd(l).st_nlink, 0);
	EQ(readlinkat(l, "", target, sizeof(target)), 6);
	STR(target, "target");
	OK(mkfifo("p", 0600));
	p = (int)OK(open("p", O_PATH | O_CLOEXEC));
	OK(unlink("p"));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", p);
	fd = (int)OK(open(proc, O_RDWR | O_CLOEXEC));
	EQ(write(fd, "x", 1), 1);
	close(fd);
	close(l);
	close(p);
}

static void replaced_while_open(void)
{
	char buf[16] = "";
	int fd, p;

	mkdata("old", 0644, "old content");
	mkdata("new", 0600, "new");
	fd = (int)OK(open("old", O_RDWR | O_CLOEXEC));
	p = (int)OK(open("old", O_PATH | O_CLOEXEC));
	OK(rename("new", "old"));
	EQ(st_fd(fd).st_nlink, 0);
	EQ(st_fd(p).st_nlink, 0);
	EQ(read(fd, buf, sizeof(buf)), 11);
	STR(buf, "old content");
	EQ(pwrite(fd, "OLD", 3, 0), 3);
	HAS("old", "new");
	EQ(nlink_of("old"), 1);
	close(fd);
	close(p);
}

static void replaced_with_links(void)
{
	int fd;

	mkdata("a", 0644, "one");
	OK(link("a", "b"));
	mkdata("c", 0644, "two");
	fd = (int)OK(open("a", O_RDONLY | O_CLOEXEC));
	OK(rename("c", "a"));
	EQ(st_fd(fd).st_nlink, 1);
	EQ(nlink_of("b"), 1);
	HAS("b", "one");
	OK(unlink("b"));
	EQ(st_fd(fd).st_nlink, 0);
	close(fd);
}

static void removed_working_directory(void)
{
	char cwd[PATH_MAX];
	struct stat st;
	int fd;

	OK(mkdir("d", 0755));
	OK(chdir("d"));
	OK(rmdir("../d"));
	OK(stat(".", &st));
	EQ(st.st_nlink, 0);
	TRUE(S_ISDIR(st.st_mode));
	ERR(ENOENT, getcwd(cwd, sizeof(cwd)) ? 0 : -1);
	ERR(ENOENT, open("x", O_CREAT | O_RDWR, 0644));
	ERR(ENOENT, mkdir("x", 0755));
	ERR(ENOENT, mkfifo("x", 0644));
	ERR(ENOENT, symlink("t", "x"));
	ERR(ENOENT, link("../none", "x"));
	ERR(ENOENT, open("x", O_RDONLY));
	OK(chmod(".", 0700));
	OK(stat(".", &st));
	OCT(st.st_mode & 07777, 0700);
	OK(setxattr(".", "user.k", "v", 1, 0));
	EQ(getxattr(".", "user.k", NULL, 0), 1);
	fd = (int)OK(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	EQ(st_fd(fd).st_ino, st.st_ino);
	OK(access("..", F_OK));
	OK(chdir(".."));
	TRUE(!exists("d"));
	close(fd);
}

static void removed_directory_descriptor(void)
{
	char buf[1024];
	int fd;

	OK(mkdir("d", 0755));
	mkdirm("d2", 0755);
	fd = (int)OK(open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	OK(rmdir("d"));
	EQ(st_fd(fd).st_nlink, 0);
	ERR(ENOENT, openat(fd, "x", O_CREAT | O_RDWR, 0644));
	ERR(ENOENT, mkdirat(fd, "x", 0755));
	ERR(ENOENT, openat(fd, "x", O_RDONLY));
	ERR(ENOENT, renameat(AT_FDCWD, "d2", fd, "x"));
	ERR(ENOENT, syscall(SYS_getdents64, fd, buf, sizeof(buf)));
	/* what needs no name needs no living directory either */
	close((int)OK(openat(fd, ".", O_TMPFILE | O_RDWR, 0600)));
	OK(fchmod(fd, 0711));
	OCT(st_fd(fd).st_mode & 07777, 0711);
	OK(fchown(fd, U1, -1));
	OK(futimens(fd, NULL));
	/* the name is free for another */
	OK(mkdir("d", 0755));
	TRUE(ino_of("d") != st_fd(fd).st_ino);
	EQ(st_fd(fd).st_nlink, 0);
	EQ(nlink_of("d"), 2);
	OK(rmdir("d"));
	close(fd);
}

static void directory_replaced_while_in_use(void)
{
	int fd, sub;

	OK(mkdir("old", 0755));
	OK(mkdir("new", 0755));
	mkfile("new/inside", 0644);
	fd = (int)OK(open("old", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	OK(rename("new", "old"));
	EQ(st_fd(fd).st_nlink, 0);
	ERR(ENOENT, openat(fd, "x", O_CREAT | O_RDWR, 0644));
	TRUE(exists("old/inside"));
	sub = (int)OK(open("old/inside", O_RDWR | O_CLOEXEC));
	OK(unlink("old/inside"));
	OK(rmdir("old"));
	EQ(write(sub, "x", 1), 1);
	close(sub);
	close(fd);
}

/* The same between processes, one with the descriptor, one that removes. */
static void passed_to_another_process(void)
{
	int sv[2], fd;
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} c = {.h = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct msghdr m = {.msg_control = &c, .msg_controllen = sizeof(c)};
	pid_t pid;

	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	m.msg_iov = &(struct iovec){(char[]){"x"}, 1};
	m.msg_iovlen = 1;
	pid = ns_fork();
	if (!pid) {
		fd = unlinked_file("content");
		memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
		OK(sendmsg(sv[0], &m, 0));
		ns_exit();
	}
	EQ(recvmsg(sv[1], &m, 0), 1);
	ns_wait(pid);
	memcpy(&fd, CMSG_DATA(&c.h), sizeof(fd));
	EQ(st_fd(fd).st_nlink, 0);
	EQ(pwrite(fd, "C", 1, 0), 1);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(read(fd, (char[8]){0}, 8), 7);
	close(fd);
}

/* Every name of an open file goes, in all ways that there are. */
static void all_ways_to_lose_a_name(void)
{
	int i;

	for (i = 0; i < 4; i++) {
		int fd;

		ns_context("way %d", i);
		mkdata("f", 0644, "content");
		fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
		if (i == 0) {
			OK(unlink("f"));
		} else if (i == 1) {
			OK(link("f", "g"));
			OK(unlink("f"));
			EQ(st_fd(fd).st_nlink, 1);
			OK(unlink("g"));
		} else if (i == 2) {
			mkfile("other", 0644);
			OK(rename("other", "f"));
			OK(unlink("f"));
		} else {
			OK(rename("f", "g"));
			OK(mkdir("d", 0755));
			OK(rename("g", "d/g"));
			OK(unlink("d/g"));
			OK(rmdir("d"));
		}
		EQ(st_fd(fd).st_nlink, 0);
		EQ(st_fd(fd).st_size, 7);
		close(fd);
	}
}

static long free_blocks(void)
{
	struct statfs sf;

	OK(statfs(".", &sf));
	return (long)sf.f_bfree * sf.f_bsize / 4096;
}

/* What was used before this check may still be coming back. */
static long settled_blocks(void)
{
	long before = free_blocks();

	for (int i = 0; i < 100; i++) {
		long now;

		usleep(20000);
		now = free_blocks();
		if (now == before)
			break;
		before = now;
	}
	return before;
}

static void memory_comes_back(void)
{
	char *buf = malloc(1 << 20);
	long start;
	int fd, i;

	memset(buf, 'x', 1 << 20);
	start = settled_blocks();
	fd = unlinked_file("");
	for (i = 0; i < 8; i++)
		EQ(write(fd, buf, 1 << 20), 1 << 20);
	TRUE(free_blocks() <= start - 2048);
	close(fd);
	TRUE(NS_WITHIN(5000, free_blocks() >= start - 16));
	free(buf);
}

static void many_at_once(void)
{
	char name[32], c;
	int fds[400], i;

	for (i = 0; i < 400; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		fds[i] = mkfd(name, O_RDWR, 0600);
		c = (char)i;
		EQ(write(fds[i], &c, 1), 1);
	}
	for (i = 0; i < 400; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		OK(unlink(name));
	}
	for (i = 399; i >= 0; i--) {
		EQ(pread(fds[i], &c, 1, 0), 1);
		EQ(c, (char)i);
		EQ(st_fd(fds[i]).st_nlink, 0);
		close(fds[i]);
	}
}

const struct ns_check checks_unlinked[] = {
	CHECK(open_file),
	CHECK(xattrs_of_open_file),
	CHECK(reopen),
	CHECK(only_mapped),
	CHECK(only_o_path),
	CHECK(o_path_of_other_kinds),
	CHECK(replaced_while_open),
	CHECK(replaced_with_links),
	CHECK(removed_working_directory),
	CHECK(removed_directory_descriptor),
	CHECK(directory_replaced_while_in_use),
	CHECK(passed_to_another_process),
	CHECK(all_ways_to_lose_a_name),
	CHECK(memory_comes_back),
	CHECK(many_at_once),
	CHECKS_END,
};
