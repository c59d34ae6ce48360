/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Path resolution: the errors that every call with a path has in common, one table of calls. */
#include "tests/namespace/ns.h"

#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

enum {
	MAKES = 1,    /* makes the name */
	TAKES = 2,    /* takes the name away */
	FOLLOWS = 4,  /* follows a symbolic link in the last place */
	WRITES = 8,   /* refused on a read-only filesystem, with the name there (or absent if MAKES) */
	DIRONLY = 16, /* wants a directory */
};

/* System calls themselves and not the C library: sanitizers look at the strings that they are given. */
static long c_chmod(const char *p)
{
	return syscall(SYS_fchmodat, AT_FDCWD, p, 0755);
}

static long c_chown(const char *p)
{
	return syscall(SYS_fchownat, AT_FDCWD, p, -1, -1, 0);
}

static long c_lchown(const char *p)
{
	return syscall(SYS_fchownat, AT_FDCWD, p, -1, -1, AT_SYMLINK_NOFOLLOW);
}

static long c_link_old(const char *p)
{
	return syscall(SYS_linkat, AT_FDCWD, p, AT_FDCWD, "new-link", 0);
}

static long c_link_new(const char *p)
{
	return syscall(SYS_linkat, AT_FDCWD, "source", AT_FDCWD, p, 0);
}

static long c_mkdir(const char *p)
{
	return syscall(SYS_mkdirat, AT_FDCWD, p, 0755);
}

static long c_mkfifo(const char *p)
{
	return syscall(SYS_mknodat, AT_FDCWD, p, S_IFIFO | 0644, 0);
}

static long c_mknod(const char *p)
{
	return syscall(SYS_mknodat, AT_FDCWD, p, S_IFREG | 0644, 0);
}

static long c_rename_old(const char *p)
{
	return syscall(SYS_renameat2, AT_FDCWD, p, AT_FDCWD, "new-name", 0);
}

static long c_rename_new(const char *p)
{
	return syscall(SYS_renameat2, AT_FDCWD, "source", AT_FDCWD, p, 0);
}

static long c_rmdir(const char *p)
{
	return syscall(SYS_unlinkat, AT_FDCWD, p, AT_REMOVEDIR);
}

static long c_unlink(const char *p)
{
	return syscall(SYS_unlinkat, AT_FDCWD, p, 0);
}

static long c_symlink(const char *p)
{
	return syscall(SYS_symlinkat, "x", AT_FDCWD, p);
}

static long c_truncate(const char *p)
{
	return syscall(SYS_truncate, p, 10L);
}

static long c_utimes(const char *p)
{
	return syscall(SYS_utimensat, AT_FDCWD, p, NULL, 0);
}

static long c_setxattr(const char *p)
{
	return syscall(SYS_setxattr, p, "user.x", "v", 1, 0);
}

static long c_getxattr(const char *p)
{
	return syscall(SYS_getxattr, p, "user.there", NULL, 0);
}

static long c_listxattr(const char *p)
{
	return syscall(SYS_listxattr, p, NULL, 0);
}

static long c_rmxattr(const char *p)
{
	return syscall(SYS_removexattr, p, "user.there");
}

static long c_access(const char *p)
{
	return syscall(SYS_faccessat, AT_FDCWD, p, F_OK);
}

static long c_chdir(const char *p)
{
	return syscall(SYS_chdir, p);
}

static long c_readlink(const char *p)
{
	char buf[16];

	return syscall(SYS_readlinkat, AT_FDCWD, p, buf, sizeof(buf));
}

static long c_stat(const char *p)
{
	struct statx sx;

	return syscall(SYS_statx, AT_FDCWD, p, 0, STATX_BASIC_STATS, &sx);
}

static long c_lstat(const char *p)
{
	struct statx sx;

	return syscall(SYS_statx, AT_FDCWD, p, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &sx);
}

static long c_statfs(const char *p)
{
	struct statfs sf;

	return syscall(SYS_statfs, p, &sf);
}

static long opened(long fd)
{
	if (fd >= 0)
		close((int)fd);
	return fd;
}

static long c_open_r(const char *p)
{
	return opened(syscall(SYS_openat, AT_FDCWD, p, O_RDONLY | O_NONBLOCK));
}

static long c_open_w(const char *p)
{
	return opened(syscall(SYS_openat, AT_FDCWD, p, O_WRONLY | O_NONBLOCK));
}

static long c_open_c(const char *p)
{
	return opened(syscall(SYS_openat, AT_FDCWD, p, O_CREAT | O_EXCL | O_WRONLY, 0644));
}

static long c_tmpfile(const char *p)
{
	return opened(syscall(SYS_openat, AT_FDCWD, p, O_TMPFILE | O_RDWR, 0644));
}

static const struct call {
	const char *name;
	long (*fn)(const char *path);
	int flags;
} calls[] = {
	{"chmod", c_chmod, FOLLOWS | WRITES},
	{"chown", c_chown, FOLLOWS | WRITES},
	{"lchown", c_lchown, WRITES},
	{"link, old", c_link_old, WRITES},
	{"link, new", c_link_new, MAKES | WRITES},
	{"mkdir", c_mkdir, MAKES | WRITES},
	{"mkfifo", c_mkfifo, MAKES | WRITES},
	{"mknod", c_mknod, MAKES | WRITES},
	{"symlink", c_symlink, MAKES | WRITES},
	{"open for creation", c_open_c, MAKES | WRITES},
	{"rename, old", c_rename_old, TAKES | WRITES},
	{"rename, new", c_rename_new, MAKES | WRITES},
	{"unlink", c_unlink, TAKES | WRITES},
	{"rmdir", c_rmdir, TAKES | WRITES | DIRONLY},
	{"truncate", c_truncate, FOLLOWS | WRITES},
	{"utimensat", c_utimes, FOLLOWS | WRITES},
	{"setxattr", c_setxattr, FOLLOWS | WRITES},
	{"getxattr", c_getxattr, FOLLOWS},
	{"listxattr", c_listxattr, FOLLOWS},
	{"removexattr", c_rmxattr, FOLLOWS | WRITES},
	{"access", c_access, FOLLOWS},
	{"stat", c_stat, FOLLOWS},
	{"lstat", c_lstat, 0},
	{"readlink", c_readlink, 0},
	{"statfs", c_statfs, FOLLOWS},
	{"open for reading", c_open_r, FOLLOWS},
	{"open for writing", c_open_w, FOLLOWS | WRITES},
	{"O_TMPFILE", c_tmpfile, FOLLOWS | WRITES | DIRONLY},
	{"chdir", c_chdir, FOLLOWS | DIRONLY},
};

#define EACH(c)                                                                                              \
	for (const struct call *c = calls; c < calls + NS_LEN(calls) && (ns_context("%s", c->name), 1); c++)

/* What c may be called on with success at path (or the absence of it). */
static void prepare(const struct call *c, const char *path)
{
	if (c->flags & MAKES)
		return;
	if (c->fn == c_readlink) {
		OK(symlink("x", path));
	} else if (c->flags & DIRONLY) {
		mkdirm(path, 0755);
	} else {
		mkfile(path, 0644);
		OK(syscall(SYS_setxattr, path, "user.there", "v", 1, 0));
	}
}

/* Afterwards neither path nor what the call made is there. */
static void clear(const char *path)
{
	if (unlink(path))
		rmdir(path);
	unlink("new-link");
	unlink("new-name");
	rmdir("new-name");
}

static void refill(const char *name)
{
	if (!exists(name))
		mkfile(name, 0666);
}

static void prefix_not_a_directory(void)
{
	mkfile("file", 0777);
	mkfile("source", 0644);
	OK(symlink("file", "link"));
	OK(mknod("fifo", S_IFIFO | 0777, 0));
	EACH(c) {
		ERR(ENOTDIR, c->fn("file/x"));
		ERR(ENOTDIR, c->fn("link/x"));
		ERR(ENOTDIR, c->fn("fifo/x"));
		ERR(ENOTDIR, c->fn("file/."));
		ERR(ENOTDIR, c->fn("file/.."));
	}
}

static void missing_names(void)
{
	mkfile("source", 0644);
	OK(symlink("none", "dangling"));
	EACH(c) {
		ERR(ENOENT, c->fn("none/x"));
		ERR(ENOENT, c->fn("dangling/x"));
		ERR(ENOENT, c->fn(""));
		if (!(c->flags & MAKES))
			ERR(ENOENT, c->fn("none"));
		if (c->flags & FOLLOWS)
			ERR(ENOENT, c->fn("dangling"));
	}
}

static void existing_names(void)
{
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		char name[] = {*k, '\0'};

		mkkind(*k, name, 0755);
		mkfile("source", 0644);
		EACH(c)
			if ((c->flags & MAKES) && c->fn != c_rename_new)
				ERR(EEXIST, c->fn(name));
		OK(unlink("source"));
	}
}

static void names_of_255_bytes(void)
{
	char *n255 = repeat('n', 255), *n256 = repeat('n', 256);
	char path[600];

	EACH(c) {
		refill("source");
		prepare(c, n255);
		OK(c->fn(n255));
		OK(chdir(c->fn == c_chdir ? ".." : "."));
		clear(n255);
		refill("source");
		ERR(ENAMETOOLONG, c->fn(n256));
		snprintf(path, sizeof(path), "%s/x", n256);
		ERR(ENAMETOOLONG, c->fn(path));
	}
	free(n255);
	free(n256);
}

static void paths_of_4095_bytes(void)
{
	char *p4095 = deep_path(4095), *p4096 = malloc(4097);
	int home = (int)OK(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	snprintf(p4096, 4097, "%sd", p4095);
	EACH(c) {
		refill("source");
		prepare(c, p4095);
		OK(c->fn(p4095));
		OK(fchdir(home));
		clear(p4095);
		refill("source");
		ERR(ENAMETOOLONG, c->fn(p4096));
	}
	free(p4095);
	free(p4096);
}

static void no_search_permission(void)
{
	mkdirm("dir", 0755);
	mkfile("source", 0644);
	own("dir", U1, G1);
	own(".", U1, G1);
	own("source", U1, G1);
	EACH(c) {
		refill("source");
		own("source", U1, G1);
		prepare(c, "dir/x");
		if (!(c->flags & MAKES))
			own("dir/x", U1, G1);
		OK(chmod("dir", 0666));
		AS(U1, G1) {
			ERR(EACCES, c->fn("dir/x"));
			ERR(EACCES, c->fn("dir/none"));
		}
		OK(chmod("dir", 0755));
		AS(U1, G1)
			OK(c->fn("dir/x"));
		clear("dir/x");
	}
}

static void no_write_permission_in_parent(void)
{
	mkdirm("dir", 0555);
	own("dir", U1, G1);
	own(".", U1, G1);
	EACH(c) {
		if (!(c->flags & (MAKES | TAKES)))
			continue;
		refill("source");
		own("source", U1, G1);
		prepare(c, "dir/x");
		if (c->flags & TAKES)
			own("dir/x", U1, G1);
		AS(U1, G1)
			ERR(EACCES, c->fn("dir/x"));
		/* group and others have nothing to write with either */
		OK(chmod("dir", 0755));
		AS(U2, G1)
			ERR(EACCES, c->fn("dir/x"));
		AS(U2, G2)
			ERR(EACCES, c->fn("dir/x"));
		clear("dir/x");
		OK(chmod("dir", 0555));
	}
}

static void symlink_loops(void)
{
	char name[32], target[32];
	int i;

	mkfile("source", 0644);
	OK(symlink("b", "a"));
	OK(symlink("a", "b"));
	OK(symlink("self", "self"));
	EACH(c) {
		ERR(ELOOP, c->fn("a/x"));
		ERR(ELOOP, c->fn("self/x"));
		if (c->flags & FOLLOWS)
			ERR(ELOOP, c->fn("a"));
	}
	ns_context(NULL);
	mkfile("chain0", 0644);
	for (i = 1; i <= 41; i++) {
		snprintf(name, sizeof(name), "chain%d", i);
		snprintf(target, sizeof(target), "chain%d", i - 1);
		OK(symlink(target, name));
	}
	OK(c_stat("chain40"));
	ERR(ELOOP, c_stat("chain41"));
}

static void bad_addresses(void)
{
	mkfile("source", 0644);
	EACH(c) {
		ERR(EFAULT, c->fn((const char *)-1L));
		ERR(EFAULT, c->fn(NULL));
	}
}

static void read_only_bind_mount(void)
{
	ns_private_mounts();
	mkdirm("ro", 0777);
	OK(mount("ro", "ro", NULL, MS_BIND, NULL));
	mkfile("source", 0644);
	EACH(c) {
		if (!(c->flags & WRITES))
			continue;
		OK(chdir("ro"));
		prepare(c, "x");
		if (c->fn == c_link_new || c->fn == c_rename_new)
			mkfile("source", 0644);
		OK(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
		ERR(EROFS, c->fn("x"));
		OK(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND, NULL));
		clear("x");
		clear("source");
		OK(chdir(".."));
	}
}

static void trailing_slashes(void)
{
	mkfile("file", 0644);
	mkdirm("dir", 0755);
	OK(symlink("dir", "link"));
	OK(symlink("file", "flink"));
	ERR(ENOTDIR, c_stat("file/"));
	ERR(ENOTDIR, c_lstat("flink/"));
	ERR(ENOTDIR, c_unlink("file/"));
	ERR(ENOTDIR, c_open_r("file/"));
	ERR(ENOTDIR, rename("file", "other/"));
	ERR(ENOTDIR, c_rmdir("link/"));
	ERR(ENOTDIR, c_chmod("file/"));
	ERR(ENOENT, c_mknod("new/"));
	ERR(ENOENT, c_symlink("new/"));
	ERR(ENOENT, link("file", "new/"));
	ERR(EISDIR, c_open_c("new/"));
	OK(c_mkdir("new/"));
	OK(c_rmdir("new//"));
	OK(c_mkdir("new///"));
	OK(rename("new/", "newer/"));
	OK(c_stat("link/"));
	OK(c_stat("dir/././../dir"));
	ERR(EEXIST, c_mkdir("link/"));
	ERR(EEXIST, c_mkdir("dir/."));
	ERR(EISDIR, c_unlink("dir/"));
	ERR(ENOTDIR, c_unlink("link/"));
}

static void descriptors_as_start(void)
{
	int d = 0, f = 0;

	mkdirm("dir", 0755);
	mkfile("file", 0644);
	d = (int)OK(open("dir", O_PATH | O_CLOEXEC));
	f = (int)OK(open("file", O_RDONLY | O_CLOEXEC));
	OK(mkdirat(d, "sub", 0755));
	OK(mknodat(d, "fifo", S_IFIFO | 0644, 0));
	OK(linkat(f, "", d, "hard", AT_EMPTY_PATH));
	OK(renameat(d, "hard", d, "moved"));
	OK(faccessat(d, "moved", F_OK, 0));
	EQ(nlink_of("file"), 2);
	OK(unlinkat(d, "moved", 0));
	OK(unlinkat(d, "sub", AT_REMOVEDIR));
	ERR(ENOTDIR, openat(f, "x", O_RDONLY));
	ERR(ENOTDIR, mkdirat(f, "x", 0755));
	ERR(EBADF, openat(1000, "x", O_RDONLY));
	ERR(ENOENT, openat(d, "", O_RDONLY));
	ERR(EINVAL, unlinkat(d, "fifo", 0x4000));
	close(d);
	close(f);
}

const struct ns_check checks_path[] = {
	CHECK(prefix_not_a_directory),
	CHECK(missing_names),
	CHECK(existing_names),
	CHECK(names_of_255_bytes),
	CHECK(paths_of_4095_bytes),
	CHECK(no_search_permission),
	CHECK(no_write_permission_in_parent),
	CHECK(symlink_loops),
	CHECK(bad_addresses),
	CHECK(read_only_bind_mount),
	CHECK(trailing_slashes),
	CHECK(descriptors_as_start),
	CHECKS_END,
};
