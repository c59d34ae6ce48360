/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories: mkdir, rmdir, link counts, working directories. */
#include "tests/namespace/ns.h"

static void mkdir_fresh_directory(void)
{
	mkdirm("p", 0755);
	STAMPS("p", NS_M | NS_C, OK(mkdir("p/d", 0751)));
	OCT(st_of("p/d").st_mode, S_IFDIR | 0751);
	EQ(nlink_of("p/d"), 2);
	EQ(nlink_of("p"), 3);
	OK(mkdir("p/e", 0755));
	EQ(nlink_of("p"), 4);
	mkfile("p/f", 0644);
	EQ(nlink_of("p"), 4);
	STAMPS("p", NS_M | NS_C, OK(rmdir("p/d")));
	EQ(nlink_of("p"), 3);
	STAMPS("p", 0, ERR(EEXIST, mkdir("p/e", 0755)));
	EQ(nlink_of("p"), 3);
	OK(rmdir("p/e"));
	EQ(nlink_of("p"), 2);
}

/* tmpfs counts 20 bytes for each entry, and programs that show it are compared with tmpfs. */
static void directory_size(void)
{
	mkdirm("d", 0755);
	EQ(size_of("d"), 40);
	mkfile("d/a", 0644);
	EQ(size_of("d"), 60);
	OK(mkdir("d/s", 0755));
	OK(symlink("x", "d/l"));
	OK(link("d/a", "d/b"));
	EQ(size_of("d"), 120);
	OK(rename("d/b", "d/s/b"));
	EQ(size_of("d"), 100);
	EQ(size_of("d/s"), 60);
	OK(unlink("d/s/b"));
	OK(rmdir("d/s"));
	EQ(size_of("d"), 80);
}

static void rmdir_refusals(void)
{
	const char *k;

	mkdirm("d", 0755);
	for (k = NS_KINDS; *k; k++) {
		ns_context("kind %c", *k);
		mkkind(*k, "d/x", 0644);
		STAMPS("d", 0, ERR(ENOTEMPTY, rmdir("d")));
		if (*k != 'd')
			ERR(ENOTDIR, rmdir("d/x"));
		OK(rmkind(*k, "d/x"));
	}
	ns_context(NULL);
	ERR(EINVAL, rmdir("d/."));
	ERR(ENOTEMPTY, rmdir("d/.."));
	ERR(ENOENT, rmdir("none"));
	OK(symlink("d", "l"));
	ERR(ENOTDIR, rmdir("l"));
	mkdirm("ro", 0755);
	mkdirm("ro/d", 0777);
	own("ro/d", U1, G1);
	AS(U1, G1)
		ERR(EACCES, rmdir("ro/d"));
	OK(rmdir("d"));
}

static void rmdir_of_hidden_leftovers(void)
{
	int fd;

	mkdirm("d", 0755);
	mkfile("d/open", 0644);
	fd = (int)OK(open("d/open", O_RDWR | O_CLOEXEC));
	OK(unlink("d/open"));
	/* a file that is open and has no name is no reason to refuse */
	OK(rmdir("d"));
	EQ(st_fd(fd).st_nlink, 0);
	EQ(write(fd, "x", 1), 1);
	close(fd);
}

static void deep_tree(void)
{
	int i;

	for (i = 0; i < 300; i++) {
		OK(mkdir("d", 0755));
		OK(chdir("d"));
	}
	mkdata("bottom", 0644, "deep");
	HAS("bottom", "deep");
	for (i = 0; i < 300; i++) {
		if (!i)
			OK(unlink("bottom"));
		OK(chdir(".."));
		OK(rmdir("d"));
	}
}

static void dot_and_dotdot(void)
{
	struct stat st;

	OK(mkdir("a", 0755));
	OK(mkdir("a/b", 0755));
	OK(stat("a/b/..", &st));
	EQ(st.st_ino, ino_of("a"));
	OK(stat("a/b/.", &st));
	EQ(st.st_ino, ino_of("a/b"));
	OK(mkdir("c", 0755));
	OK(rename("a/b", "c/b"));
	OK(stat("c/b/..", &st));
	EQ(st.st_ino, ino_of("c"));
	EQ(nlink_of("a"), 2);
	EQ(nlink_of("c"), 3);
}

static void getcwd_after_rename(void)
{
	char before[PATH_MAX], after[PATH_MAX], want[PATH_MAX + 16];

	OK(mkdir("p", 0755));
	OK(mkdir("p/q", 0755));
	OK(mkdir("r", 0755));
	TRUE(getcwd(before, sizeof(before)) != NULL);
	OK(chdir("p/q"));
	CHILD()
		OK(rename("../../p", "../../r/s"));
	TRUE(getcwd(after, sizeof(after)) != NULL);
	snprintf(want, sizeof(want), "%s/r/s/q", before);
	STR(after, want);
	OK(rename("../q", "../../../t"));
	TRUE(getcwd(after, sizeof(after)) != NULL);
	snprintf(want, sizeof(want), "%s/t", before);
	STR(after, want);
	mkdata("here", 0644, "x");
	OK(chdir(before));
	HAS("t/here", "x");
}

static void descriptor_paths(void)
{
	char before[PATH_MAX], want[PATH_MAX + 32], got[PATH_MAX] = "", proc[64];
	int fd;

	TRUE(getcwd(before, sizeof(before)) != NULL);
	mkfile("one", 0644);
	fd = (int)OK(open("one", O_RDONLY | O_CLOEXEC));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	OK(rename("one", "two"));
	OK(readlink(proc, got, sizeof(got) - 1));
	snprintf(want, sizeof(want), "%s/two", before);
	STR(got, want);
	OK(unlink("two"));
	memset(got, 0, sizeof(got));
	OK(readlink(proc, got, sizeof(got) - 1));
	snprintf(want, sizeof(want), "%s/two (deleted)", before);
	STR(got, want);
	close(fd);
}

static void directory_descriptors(void)
{
	char c;
	int d;

	OK(mkdir("d", 0755));
	d = (int)OK(open("d", O_RDONLY | O_CLOEXEC));
	ERR(EISDIR, read(d, &c, 1));
	ERR(EBADF, write(d, "x", 1));
	ERR(EINVAL, ftruncate(d, 0));
	ERR(EISDIR, open("d", O_WRONLY));
	ERR(EISDIR, open("d", O_RDWR));
	ERR(EISDIR, open("d", O_CREAT | O_RDONLY, 0644));
	ERR(EISDIR, open("d", O_RDONLY | O_TRUNC));
	ERR(EISDIR, truncate("d", 0));
	OK(fsync(d));
	OK(fdatasync(d));
	OK(fchdir(d));
	OK(mkdirat(d, "e", 0755));
	TRUE(exists("e"));
	close(d);
}

const struct ns_check checks_dir[] = {
	CHECK(mkdir_fresh_directory),
	CHECK(directory_size),
	CHECK(rmdir_refusals),
	CHECK(rmdir_of_hidden_leftovers),
	CHECK(deep_tree),
	CHECK(dot_and_dotdot),
	CHECK(getcwd_after_rename),
	CHECK(descriptor_paths),
	CHECK(directory_descriptors),
	CHECKS_END,
};
