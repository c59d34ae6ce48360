/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names: hard links, symbolic links, unlink. */
#include "tests/namespace/ns.h"

#include <sys/mount.h>

static void link_every_kind(void)
{
	const char *k;

	mkdirm("sub", 0755);
	for (k = NS_KINDS; *k; k++) {
		struct stat a, b;

		if (*k == 'd')
			continue;
		ns_context("kind %c", *k);
		mkkind(*k, "a", 0644);
		EQ(nlink_of("a"), 1);
		STAMPS("a", NS_C, OK(link("a", "b")));
		EQ(nlink_of("a"), 2);
		STAMPS("sub", NS_M | NS_C, OK(link("b", "sub/c")));
		EQ(nlink_of("a"), 3);
		a = st_of("a");
		b = st_of("sub/c");
		EQ(a.st_ino, b.st_ino);
		EQ(a.st_mode, b.st_mode);
		EQ(a.st_rdev, b.st_rdev);
		EQ(b.st_nlink, 3);
		OK(lchown("b", U1, G1));
		EQ(st_of("sub/c").st_uid, U1);
		STAMPS("b", NS_C, OK(unlink("a")));
		EQ(nlink_of("b"), 2);
		STAMPS("sub", NS_M | NS_C, OK(unlink("sub/c")));
		EQ(nlink_of("b"), 1);
		OK(unlink("b"));
		ERR(ENOENT, unlink("b"));
	}
}

static void links_share_all(void)
{
	char buf[16] = "";
	int fd;

	mkdata("a", 0644, "one");
	OK(link("a", "b"));
	put("b", "ONE");
	HAS("a", "ONE");
	OK(chmod("a", 0600));
	OCT(mode_of("b"), 0600);
	OK(truncate("b", 2));
	EQ(size_of("a"), 2);
	fd = (int)OK(open("a", O_RDWR | O_CLOEXEC));
	OK(unlink("a"));
	EQ(st_fd(fd).st_nlink, 1);
	EQ(pwrite(fd, "two", 3, 0), 3);
	HAS("b", "two");
	OK(link("b", "c"));
	EQ(st_fd(fd).st_nlink, 2);
	OK(unlink("b"));
	OK(unlink("c"));
	EQ(st_fd(fd).st_nlink, 0);
	EQ(pread(fd, buf, 3, 0), 3);
	STR(buf, "two");
	close(fd);
}

static void link_refusals(void)
{
	const char *k;

	mkdirm("dir", 0755);
	mkfile("a", 0644);
	ERR(EPERM, link("dir", "dir2"));
	ERR(EPERM, link("dir/.", "dir2"));
	ERR(EPERM, link(".", "dir2"));
	for (k = NS_KINDS; *k; k++) {
		mkkind(*k, "b", 0644);
		ns_context("kind %c", *k);
		STAMPS("a", 0, ERR(EEXIST, link("a", "b")));
		OK(rmkind(*k, "b"));
	}
	ns_context(NULL);
	ERR(EEXIST, link("a", "a"));
	ERR(ENOENT, link("none", "b"));
	ERR(EEXIST, link("a", "dir/."));
	ERR(EINVAL, linkat(AT_FDCWD, "a", AT_FDCWD, "b", 0x4000));
	EQ(nlink_of("a"), 1);
	mkdirm("closed", 0755);
	own("a", U1, G1);
	AS(U1, G1)
		ERR(EACCES, link("a", "closed/a"));
	AS(U1, G1)
		ERR(EPERM, link("dir", "dir2"));
}

static void link_to_symlinks(void)
{
	mkfile("file", 0644);
	OK(symlink("file", "sym"));
	OK(symlink("none", "dangling"));
	OK(link("sym", "hard"));
	TRUE(S_ISLNK(st_of("hard").st_mode));
	EQ(ino_of("hard"), ino_of("sym"));
	OK(link("dangling", "hard2"));
	EQ(nlink_of("dangling"), 2);
	OK(linkat(AT_FDCWD, "sym", AT_FDCWD, "real", AT_SYMLINK_FOLLOW));
	EQ(ino_of("real"), ino_of("file"));
	ERR(ENOENT, linkat(AT_FDCWD, "dangling", AT_FDCWD, "x", AT_SYMLINK_FOLLOW));
}

static void link_by_other_users(void)
{
	long protected = sysctl_value("/proc/sys/fs/protected_hardlinks");

	mkdirm("pub", 0777);
	mkfile("pub/open", 0666);
	mkfile("pub/closed", 0600);
	mkfile("pub/suid", 04666);
	OK(mkfifo("pub/fifo", 0666));
	AS(U1, G1) {
		OK(link("pub/open", "pub/l1"));
		if (protected == 1) {
			ERR(EPERM, link("pub/closed", "pub/l2"));
			ERR(EPERM, link("pub/suid", "pub/l3"));
			ERR(EPERM, link("pub/fifo", "pub/l4"));
		} else {
			OK(link("pub/closed", "pub/l2"));
		}
	}
}

static void thousand_links(void)
{
	char name[32];
	int i;

	mkfile("a", 0644);
	for (i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		OK(link("a", name));
	}
	EQ(nlink_of("a"), 1001);
	EQ(ino_of("l999"), ino_of("a"));
	for (i = 0; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "l%d", i);
		OK(unlink(name));
	}
	EQ(nlink_of("l1"), 501);
}

static void link_across_mounts(void)
{
	ns_private_mounts();
	mkfile("a", 0644);
	mkdirm("other", 0755);
	mkdirm("bind", 0755);
	OK(mount("none", "other", "tmpfs", 0, NULL));
	OK(mount(".", "bind", NULL, MS_BIND, NULL));
	ERR(EXDEV, link("a", "other/a"));
	ERR(EXDEV, link("a", "bind/b"));
	ERR(EXDEV, rename("a", "other/a"));
	ERR(EXDEV, rename("a", "bind/b"));
	TRUE(exists("bind/a"));
	ERR(EBUSY, rmdir("other"));
	ERR(EBUSY, rename("other", "renamed"));
	mkdirm("empty", 0755);
	ERR(EBUSY, rename("empty", "other"));
}

static void symlink_content(void)
{
	static const int lengths[] = {1, 2, 59, 60, 126, 127, 128, 129, 255, 1000, 4094, 4095};
	char got[5000];
	size_t i;

	for (i = 0; i < NS_LEN(lengths); i++) {
		char *target = repeat('t', (size_t)lengths[i]);

		ns_context("length %d", lengths[i]);
		OK(symlink(target, "sym"));
		EQ(size_of("sym"), lengths[i]);
		OCT(st_of("sym").st_mode, S_IFLNK | 0777);
		memset(got, 0, sizeof(got));
		EQ(readlink("sym", got, sizeof(got)), lengths[i]);
		STR(got, target);
		memset(got, 0, sizeof(got));
		EQ(readlink("sym", got, 1), 1);
		STR(got, "t");
		OK(unlink("sym"));
		free(target);
	}
}

static void symlink_refusals(void)
{
	char *long_target = repeat('t', 4096), buf[8];

	ERR(ENAMETOOLONG, symlink(long_target, "sym"));
	ERR(ENOENT, symlink("", "sym"));
	mkfile("file", 0644);
	ERR(EINVAL, readlink("file", buf, sizeof(buf)));
	ERR(EINVAL, readlink(".", buf, sizeof(buf)));
	OK(symlink("x", "sym"));
	ERR(EINVAL, syscall(SYS_readlinkat, AT_FDCWD, "sym", buf, 0));
	ERR(EFAULT, syscall(SYS_readlinkat, AT_FDCWD, "sym", (char *)-1L, 8));
	ERR(EFAULT, syscall(SYS_symlinkat, (char *)-1L, AT_FDCWD, "sym2"));
	free(long_target);
}

static void symlink_resolution(void)
{
	char cwd[PATH_MAX], target[PATH_MAX + 16];

	mkdirm("dir", 0755);
	mkdata("dir/file", 0644, "content");
	OK(symlink("dir", "d"));
	OK(symlink("d/file", "f"));
	OK(symlink("../dir/./file", "dir/up"));
	HAS("f", "content");
	HAS("d/up", "content");
	TRUE(getcwd(cwd, sizeof(cwd)) != NULL);
	snprintf(target, sizeof(target), "%s/f", cwd);
	OK(symlink(target, "abs"));
	HAS("abs", "content");
	OK(rename("dir", "dir2"));
	ERR(ENOENT, open("f", O_RDONLY));
	OK(unlink("d"));
	OK(symlink("dir2", "d"));
	HAS("f", "content");
}

static void symlink_stamps(void)
{
	mkdirm("dir", 0755);
	STAMPS("dir", NS_M | NS_C, OK(symlink("x", "dir/sym")));
	STAMPS("dir", 0, ERR(EEXIST, symlink("x", "dir/sym")));
	STAMPS("dir", NS_M | NS_C, OK(unlink("dir/sym")));
}

static void unlink_refusals(void)
{
	mkdirm("dir", 0755);
	ERR(EISDIR, unlink("dir"));
	ERR(EISDIR, unlink("."));
	mkdirm("pub", 0777);
	mkdirm("pub/dir", 0777);
	AS(U1, G1) {
		ERR(EISDIR, unlink("pub/dir"));
		ERR(EACCES, unlink("dir"));
	}
	mkdirm("keep", 0755);
	STAMPS("keep", 0, ERR(ENOENT, unlink("keep/none")));
	EQ(nlink_of("dir"), 2);
}

static void unlink_every_kind(void)
{
	const char *k;

	mkdirm("dir", 0755);
	for (k = NS_KINDS; *k; k++) {
		if (*k == 'd')
			continue;
		ns_context("kind %c", *k);
		mkkind(*k, "dir/x", 0644);
		STAMPS("dir", NS_M | NS_C, OK(unlink("dir/x")));
		ERR(ENOENT, unlink("dir/x"));
		TRUE(!exists("dir/x"));
	}
}

static void name_used_again(void)
{
	ino_t first;
	int fd, i;

	for (i = 0; i < 50; i++) {
		mkdata("a", 0644, "old");
		first = ino_of("a");
		fd = (int)OK(open("a", O_RDONLY | O_CLOEXEC));
		OK(unlink("a"));
		mkdata("a", 0600, "new!");
		TRUE(ino_of("a") != first);
		EQ(st_fd(fd).st_ino, first);
		EQ(st_fd(fd).st_size, 3);
		HAS("a", "new!");
		close(fd);
		OK(unlink("a"));
		mkdirm("a", 0700);
		OK(rmdir("a"));
	}
}

const struct ns_check checks_link[] = {
	CHECK(link_every_kind),	   CHECK(links_share_all),     CHECK(link_refusals),
	CHECK(link_to_symlinks),   CHECK(link_by_other_users), CHECK(thousand_links),
	CHECK(link_across_mounts), CHECK(symlink_content),     CHECK(symlink_refusals),
	CHECK(symlink_resolution), CHECK(symlink_stamps),      CHECK(unlink_refusals),
	CHECK(unlink_every_kind),  CHECK(name_used_again),     CHECKS_END,
};
