/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rename, with all its flags. */
#include "tests/namespace/ns.h"

#include <linux/fs.h>

static int rename2(const char *a, const char *b, unsigned int flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}

static void rename_every_kind(void)
{
	const char *k;

	mkdirm("p", 0755);
	mkdirm("q", 0755);
	for (k = NS_KINDS; *k; k++) {
		ino_t ino;

		ns_context("kind %c", *k);
		mkkind(*k, "p/x", 0644);
		ino = ino_of("p/x");
		STAMPS("p", NS_M | NS_C, OK(rename("p/x", "p/y")));
		EQ(ino_of("p/y"), ino);
		EQ(st_of("p/y").st_mode & S_IFMT, kind_type(*k));
		STAMPS("q", NS_M | NS_C, OK(rename("p/y", "q/z")));
		EQ(ino_of("q/z"), ino);
		TRUE(!exists("p/y"));
		STAMPS("q", NS_M | NS_C, OK(rename("q/z", "p/x")));
		STAMPS(".", 0, OK(rename("p/x", "p/w")));
		OK(rmkind(*k, "p/w"));
	}
}

/* What stands at the new name, by kinds of old and new. */
static void replace_every_kind(void)
{
	const char *a, *b;

	for (a = NS_KINDS; *a; a++) {
		for (b = NS_KINDS; *b; b++) {
			ino_t ino;

			ns_context("%c onto %c", *a, *b);
			mkkind(*a, "a", 0644);
			mkkind(*b, "b", 0644);
			ino = ino_of("a");
			if (*a == 'd' && *b != 'd')
				ERR(ENOTDIR, rename("a", "b"));
			else if (*a != 'd' && *b == 'd')
				ERR(EISDIR, rename("a", "b"));
			else
				OK(rename("a", "b"));
			if ((*a == 'd') == (*b == 'd')) {
				EQ(ino_of("b"), ino);
				TRUE(!exists("a"));
			} else {
				EQ(ino_of("a"), ino);
				OK(rmkind(*a, "a"));
			}
			OK(rmkind(exists("b") && S_ISDIR(st_of("b").st_mode) ? 'd' : 'f', "b"));
		}
	}
}

static void replaced_link_counts(void)
{
	mkdata("a", 0644, "a");
	mkdata("b", 0644, "b");
	OK(link("b", "b2"));
	STAMPS("b2", NS_C, OK(rename("a", "b")));
	EQ(nlink_of("b2"), 1);
	HAS("b2", "b");
	HAS("b", "a");
}

static void same_file(void)
{
	mkdata("a", 0644, "a");
	OK(link("a", "b"));
	OK(mkdir("d", 0755));
	OK(link("a", "d/c"));
	/* two names of one inode: nothing happens, both stay */
	OK(rename("a", "b"));
	OK(rename("a", "d/c"));
	EQ(nlink_of("a"), 3);
	TRUE(exists("b") && exists("d/c"));
	OK(rename("a", "a"));
	OK(rename("d", "d"));
	TRUE(exists("a") && exists("d"));
	ERR(EEXIST, rename2("a", "b", RENAME_NOREPLACE));
}

static void directories(void)
{
	struct stat st;

	OK(mkdir("p", 0755));
	OK(mkdir("q", 0755));
	OK(mkdir("p/d", 0755));
	OK(mkdir("p/d/e", 0755));
	mkdata("p/d/e/f", 0644, "deep");
	OK(rename("p/d", "q/d"));
	EQ(nlink_of("p"), 2);
	EQ(nlink_of("q"), 3);
	HAS("q/d/e/f", "deep");
	OK(stat("q/d/..", &st));
	EQ(st.st_ino, ino_of("q"));
	OK(mkdir("p/empty", 0755));
	OK(rename("q/d", "p/empty"));
	HAS("p/empty/e/f", "deep");
	EQ(nlink_of("p"), 3);
	EQ(nlink_of("q"), 2);
	OK(mkdir("q/full", 0755));
	mkfile("q/full/x", 0644);
	STAMPS("q", 0, ERR(ENOTEMPTY, rename("p/empty", "q/full")));
	TRUE(exists("p/empty/e/f"));
}

static void directory_refusals(void)
{
	OK(mkdir("d", 0755));
	OK(mkdir("d/e", 0755));
	OK(mkdir("d/e/f", 0755));
	ERR(EINVAL, rename("d", "d/x"));
	ERR(EINVAL, rename("d", "d/e/f/x"));
	ERR(EINVAL, rename("d", "d/e"));
	ERR(ENOTEMPTY, rename("d/e/f", "d"));
	ERR(ENOTEMPTY, rename("d/e/f", "d/e"));
	ERR(EBUSY, rename("d/.", "x"));
	ERR(EBUSY, rename("d/e/..", "x"));
	OK(mkdir("x", 0755));
	ERR(EBUSY, rename("x", "d/."));
	ERR(EBUSY, rename("x", "d/.."));
	ERR(EINVAL, rename2("d", "y", 0x80));
	ERR(ENOENT, rename("none", "y"));
	ERR(ENOENT, rename("x", "none/y"));
	TRUE(exists("d/e/f"));
}

static void moving_directories_needs_write_permission(void)
{
	mkdirm("p", 0777);
	mkdirm("q", 0777);
	mkdirm("p/d", 0555);
	own("p/d", U1, G1);
	/* its ".." would have to change */
	AS(U1, G1) {
		ERR(EACCES, rename("p/d", "q/d"));
		OK(rename("p/d", "p/e"));
		OK(chmod("p/e", 0755));
		OK(rename("p/e", "q/d"));
	}
	AS(U2, G2)
		ERR(EACCES, rename("q/d", "p/d"));
}

static void no_replace(void)
{
	const char *k;

	mkdata("a", 0644, "a");
	for (k = NS_KINDS; *k; k++) {
		ns_context("kind %c", *k);
		mkkind(*k, "b", 0644);
		ERR(EEXIST, rename2("a", "b", RENAME_NOREPLACE));
		OK(rmkind(*k, "b"));
	}
	ns_context(NULL);
	OK(rename2("a", "b", RENAME_NOREPLACE));
	HAS("b", "a");
	TRUE(!exists("a"));
	OK(mkdir("d", 0755));
	OK(rename2("d", "e", RENAME_NOREPLACE));
	OK(rename2("b", "e/b", RENAME_NOREPLACE));
	ERR(EEXIST, rename2("e", "e", RENAME_NOREPLACE));
	ERR(EINVAL, rename2("e/b", "b", RENAME_NOREPLACE | RENAME_EXCHANGE));
	ERR(ENOENT, rename2("none", "x", RENAME_NOREPLACE));
}

static void exchange_every_kind(void)
{
	const char *a, *b;

	mkdirm("p", 0755);
	mkdirm("q", 0755);
	for (a = NS_KINDS; *a; a++) {
		for (b = NS_KINDS; *b; b++) {
			ino_t ia, ib;

			ns_context("%c with %c", *a, *b);
			mkkind(*a, "p/a", 0644);
			mkkind(*b, "q/b", 0644);
			ia = ino_of("p/a");
			ib = ino_of("q/b");
			OK(rename2("p/a", "q/b", RENAME_EXCHANGE));
			EQ(ino_of("p/a"), ib);
			EQ(ino_of("q/b"), ia);
			EQ(nlink_of("p"), 2 + (*b == 'd'));
			EQ(nlink_of("q"), 2 + (*a == 'd'));
			EQ(nlink_of("p/a"), *b == 'd' ? 2 : 1);
			OK(rmkind(*b, "p/a"));
			OK(rmkind(*a, "q/b"));
		}
	}
}

static void exchange_details(void)
{
	struct stat st;
	int fd;

	OK(mkdir("d", 0755));
	OK(mkdir("d/e", 0755));
	mkdata("d/e/f", 0644, "deep");
	mkdata("file", 0644, "flat");
	fd = (int)OK(open("file", O_RDONLY | O_CLOEXEC));
	STAMPS("d", NS_M | NS_C, OK(rename2("d/e", "file", RENAME_EXCHANGE)));
	HAS("d/e", "flat");
	HAS("file/f", "deep");
	EQ(st_fd(fd).st_nlink, 1);
	EQ(nlink_of("d"), 2);
	OK(stat("file/..", &st));
	EQ(st.st_ino, ino_of("."));
	OK(rename2("d/e", "file", RENAME_EXCHANGE));
	OK(link("file", "alias"));
	STAMPS("alias", NS_C, OK(rename2("d/e/f", "file", RENAME_EXCHANGE)));
	HAS("file", "deep");
	HAS("d/e/f", "flat");
	ERR(ENOENT, rename2("file", "none", RENAME_EXCHANGE));
	ERR(ENOENT, rename2("none", "file", RENAME_EXCHANGE));
	ERR(EINVAL, rename2("d", "d/e", RENAME_EXCHANGE));
	ERR(EINVAL, rename2("d/e/f", "d", RENAME_EXCHANGE));
	OK(rename2("file", "file", RENAME_EXCHANGE));
	OK(mkdir("g", 0755));
	OK(rename2("g", "d", RENAME_EXCHANGE));
	HAS("g/e/f", "flat");
	close(fd);
}

static void whiteout(void)
{
	mkdata("a", 0644, "a");
	mkdata("b", 0644, "b");
	OK(rename2("a", "b", RENAME_WHITEOUT));
	HAS("b", "a");
	TRUE(S_ISCHR(st_of("a").st_mode));
	EQ(st_of("a").st_rdev, 0);
	OK(unlink("a"));
	OK(rename2("b", "c", RENAME_WHITEOUT | RENAME_NOREPLACE));
	TRUE(S_ISCHR(st_of("b").st_mode));
	ERR(EINVAL, rename2("c", "b", RENAME_WHITEOUT | RENAME_EXCHANGE));
	/* a character device 0:0 is nobody's secret: any user may have one this way */
	mkdirm("pub", 0777);
	mkfile("pub/x", 0666);
	AS(U1, G1)
		OK(rename2("pub/x", "pub/y", RENAME_WHITEOUT));
	EQ(st_of("pub/x").st_uid, U1);
}

static void rights(void)
{
	mkdirm("rw", 0777);
	mkdirm("ro", 0755);
	mkfile("rw/a", 0644);
	mkfile("ro/b", 0666);
	AS(U1, G1) {
		OK(rename("rw/a", "rw/a2"));
		ERR(EACCES, rename("rw/a2", "ro/a"));
		ERR(EACCES, rename("ro/b", "rw/b"));
		ERR(EACCES, rename2("rw/a2", "ro/b", RENAME_EXCHANGE));
		ERR(EACCES, rename2("rw/a2", "ro/new", RENAME_NOREPLACE));
	}
	TRUE(exists("rw/a2") && exists("ro/b"));
}

static void failures_change_no_stamps(void)
{
	mkdirm("p", 0755);
	mkfile("p/f", 0644);
	OK(mkdir("p/d", 0755));
	STAMPS("p", 0, ERR(EISDIR, rename("p/f", "p/d")));
	STAMPS("p/f", 0, ERR(EISDIR, rename("p/f", "p/d")));
	STAMPS("p", 0, ERR(EEXIST, rename2("p/f", "p/d", RENAME_NOREPLACE)));
	STAMPS("p", 0, ERR(ENOENT, rename("p/none", "p/x")));
}

/* One process renames a file over a name for ever, another finds the name there at every look. */
static void replacing_is_atomic(void)
{
	struct ns_gate done;
	char name[32];
	pid_t pid;
	int i;

	ns_gate_init(&done);
	mkdata("target", 0644, "0");
	pid = ns_fork();
	if (!pid) {
		for (i = 0; i < 500; i++) {
			snprintf(name, sizeof(name), "new%d", i);
			mkdata(name, 0644, name);
			OK(rename(name, "target"));
		}
		ns_gate_open(&done);
		ns_exit();
	}
	for (i = 0; !ns_gate_try(&done, 0) && i < 1000000; i++) {
		struct stat st;
		int fd = open("target", O_RDONLY | O_CLOEXEC);

		if (fd < 0 || fstat(fd, &st) || st.st_size == 0)
			FAIL("look %d: fd %d, size %lld", i, fd, fd < 0 ? -1LL : (long long)st.st_size);
		close(fd);
		if (lstat("target", &st))
			FAIL("look %d: lstat: %s", i, strerror(errno));
	}
	ns_wait(pid);
	HAS("target", "new499");
}

/* Two processes exchange names, a third one always finds both. */
static void exchange_under_load(void)
{
	pid_t pids[2];
	int i, p;

	mkdata("a", 0644, "one");
	mkdata("b", 0644, "two");
	for (p = 0; p < 2; p++) {
		pids[p] = ns_fork();
		if (!pids[p]) {
			for (i = 0; i < 300; i++)
				OK(rename2("a", "b", RENAME_EXCHANGE));
			ns_exit();
		}
	}
	for (i = 0; i < 300; i++)
		TRUE(exists("a") && exists("b"));
	ns_wait(pids[0]);
	ns_wait(pids[1]);
	TRUE(ino_of("a") != ino_of("b"));
	HAS("a", "one");
	HAS("b", "two");
}

const struct ns_check checks_rename[] = {
	CHECK(rename_every_kind),
	CHECK(replace_every_kind),
	CHECK(replaced_link_counts),
	CHECK(same_file),
	CHECK(directories),
	CHECK(directory_refusals),
	CHECK(moving_directories_needs_write_permission),
	CHECK(no_replace),
	CHECK(exchange_every_kind),
	CHECK(exchange_details),
	CHECK(whiteout),
	CHECK(rights),
	CHECK(failures_change_no_stamps),
	CHECK(replacing_is_atomic),
	CHECK(exchange_under_load),
	CHECKS_END,
};
