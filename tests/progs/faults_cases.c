/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The requests of faults, each on a directory of its own (w->root) on both sides. */
#include "tests/progs/faults.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { BYTES = 10000, MANY = 1000, PATHS = 60 };

/* ---- what is there before ---- */

static void put(struct world *w, const char *name)
{
	int fds[2];

	random_bytes(w, w->data, BYTES);
	BOTH_FD(w, openat(w->root[s], name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
	BOTH(w, write(fds[s], w->data, BYTES));
	BOTH(w, close(fds[s]));
}

/* Into slot 0. */
static void hold(struct world *w, const char *name, int flags)
{
	int *fds = w->slots[0].fd;

	BOTH_FD(w, openat(w->root[s], name, flags | O_CLOEXEC, 0644));
}

static void nothing(struct world *w)
{
	(void)w;
}

static void file(struct world *w)
{
	put(w, "f");
}

static void two_files(struct world *w)
{
	put(w, "f");
	put(w, "g");
}

static void two_links(struct world *w)
{
	put(w, "f");
	BOTH(w, linkat(w->root[s], "f", w->root[s], "g", 0));
}

static void open_file(struct world *w)
{
	put(w, "f");
	hold(w, "f", O_RDWR);
}

static void open_for_reading(struct world *w)
{
	put(w, "f");
	hold(w, "f", O_RDONLY);
}

static void open_for_append(struct world *w)
{
	put(w, "f");
	hold(w, "f", O_WRONLY | O_APPEND);
}

static void victim_open(struct world *w)
{
	two_files(w);
	hold(w, "g", O_RDWR);
}

static void victim_linked(struct world *w)
{
	two_files(w);
	BOTH(w, linkat(w->root[s], "g", w->root[s], "h", 0));
}

/* Beside the directory that is compared, and on the tested side alone, until there is no more room. */
static void no_inodes(struct world *w)
{
	char name[32];

	two_files(w);
	for (int i = 0, fd = 0; fd >= 0; i++) {
		snprintf(name, sizeof(name), "../fill%d", i);
		fd = openat(w->root[0], name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 && errno != ENOSPC)
			differ(w, "filling: %s", strerror(errno));
		close(fd);
	}
}

static void directory(struct world *w)
{
	BOTH(w, mkdirat(w->root[s], "d", 0750));
}

static void open_directory(struct world *w)
{
	directory(w);
	hold(w, "d", O_RDONLY | O_DIRECTORY);
}

static void two_directories(struct world *w)
{
	directory(w);
	BOTH(w, mkdirat(w->root[s], "e", 0700));
}

static void directory_and_file(struct world *w)
{
	put(w, "f");
	directory(w);
}

static void symbolic_link(struct world *w)
{
	BOTH(w, symlinkat("some/target", w->root[s], "l"));
}

static void attribute(struct world *w)
{
	put(w, "f");
	hold(w, "f", O_RDWR);
	BOTH(w, fsetxattr(w->slots[0].fd[s], "user.one", "1", 1, 0));
}

static void tmpfile_held(struct world *w)
{
	hold(w, ".", O_TMPFILE | O_RDWR);
	BOTH(w, write(w->slots[0].fd[s], "without a name", 14));
}

/* No name is remembered by the kernel, so that the next use asks. */
static void forgotten(struct world *w)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	put(w, "f");
	BOTH(w, mkdirat(w->root[s], "d", 0700));
	if (fd < 0 || write(fd, "2", 1) != 1)
		differ(w, "drop_caches: %s", strerror(errno));
	close(fd);
}

/* Inodes without a name that the kernel gives up all at once, while the worker does not look. */
static void paths_held(struct world *w)
{
	char name[16];
	int i, fds[2];

	for (i = 0; i < PATHS; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		put(w, name);
		BOTH_FD(w, openat(w->root[s], name, O_PATH | O_CLOEXEC));
		/* at known numbers */
		if (dup3(fds[0], 400 + i, O_CLOEXEC) < 0 || close(fds[0]) || close(fds[1]))
			differ(w, "dup3: %s", strerror(errno));
		BOTH(w, unlinkat(w->root[s], name, 0));
	}
}

static void many_names(struct world *w)
{
	char name[32];
	int fds[2], i;

	directory(w);
	for (i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "d/a-name-that-is-not-short-%d", i);
		BOTH_FD(w, openat(w->root[s], name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		BOTH(w, close(fds[s]));
	}
	hold(w, "d", O_RDONLY | O_DIRECTORY);
}

static void listing_begun(struct world *w)
{
	many_names(w);
	for (int s = 0; s < 2; s++)
		if (syscall(SYS_getdents64, w->slots[0].fd[s], w->buf[s], 4096) <= 0)
			differ(w, "getdents on side %d: %s", s, strerror(errno));
}

/* ---- the requests ---- */

static void do_stat(struct world *w)
{
	same_path(w, "f");
}

static void do_stat_absent(struct world *w)
{
	same_path(w, "absent");
}

static void do_getattr(struct world *w)
{
	struct statx stx[2];

	BOTH(w, statx(w->root[s], "f", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx[s]));
	if (stx[0].stx_size != stx[1].stx_size || stx[0].stx_mode != stx[1].stx_mode ||
	    stx[0].stx_nlink != stx[1].stx_nlink)
		differ(w, "statx differs");
}

static void do_statx(struct world *w)
{
	struct statx stx[2];

	BOTH(w, statx(w->root[s], "f", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS | STATX_BTIME, &stx[s]));
	if (stx[0].stx_size != stx[1].stx_size || (stx[0].stx_mask & STATX_BTIME) != (stx[1].stx_mask & STATX_BTIME))
		differ(w, "statx differs");
}

static void do_chmod(struct world *w)
{
	BOTH(w, fchmodat(w->root[s], "f", 0600, 0));
}

static void do_chown(struct world *w)
{
	BOTH(w, fchownat(w->root[s], "f", 1234, 5678, 0));
}

static void do_utimens(struct world *w)
{
	const struct timespec ts[2] = { { 1000, 1 }, { 2000, 2 } };

	BOTH(w, utimensat(w->root[s], "f", ts, 0));
}

static void do_shrink(struct world *w)
{
	BOTH(w, ftruncate(w->slots[0].fd[s], 100));
}

static void do_grow(struct world *w)
{
	BOTH(w, ftruncate(w->slots[0].fd[s], 100000));
}

static void do_readlink(struct world *w)
{
	BOTH(w, readlinkat(w->root[s], "l", w->buf[s], 100));
	if (w->res[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
		differ(w, "targets differ");
}

static void do_symlink(struct world *w)
{
	BOTH(w, symlinkat("target", w->root[s], "l"));
}

static void do_mknod(struct world *w)
{
	BOTH(w, mknodat(w->root[s], "fifo", S_IFIFO | 0640, 0));
}

static void do_mknod_file(struct world *w)
{
	BOTH(w, mknodat(w->root[s], "file", S_IFREG | 0640, 0));
}

static void do_mkdir(struct world *w)
{
	BOTH(w, mkdirat(w->root[s], "d", 02770));
}

static void do_unlink(struct world *w)
{
	BOTH(w, unlinkat(w->root[s], "f", 0));
}

static void do_unlink_symlink(struct world *w)
{
	BOTH(w, unlinkat(w->root[s], "l", 0));
}

static void do_rmdir(struct world *w)
{
	BOTH(w, unlinkat(w->root[s], "d", AT_REMOVEDIR));
}

static void do_rmdir_full(struct world *w)
{
	BOTH(w, renameat(w->root[s], "f", w->root[s], "d/f"));
	BOTH(w, unlinkat(w->root[s], "d", AT_REMOVEDIR));
}

static void ren(struct world *w, const char *from, const char *to, unsigned int flags)
{
	BOTH(w, syscall(SYS_renameat2, w->root[s], from, w->root[s], to, flags));
}

static void do_rename(struct world *w)
{
	ren(w, "f", "new", 0);
}

static void do_rename_into(struct world *w)
{
	ren(w, "f", "d/new", 0);
}

static void do_rename_noreplace(struct world *w)
{
	ren(w, "f", "new", RENAME_NOREPLACE);
}

static void do_rename_exchange(struct world *w)
{
	ren(w, "f", "g", RENAME_EXCHANGE);
}

static void do_rename_exchange_kinds(struct world *w)
{
	ren(w, "f", "d", RENAME_EXCHANGE);
}

static void do_rename_replace(struct world *w)
{
	ren(w, "f", "g", 0);
}

static void do_rename_replace_full(struct world *w)
{
	char name[32];
	int rc = 0;

	ren(w, "f", "g", 0);
	for (int i = 0; !rc; i++) {
		snprintf(name, sizeof(name), "../fill%d", i);
		rc = unlinkat(w->root[0], name, 0);
	}
}

static void do_rename_directory(struct world *w)
{
	ren(w, "d", "new", 0);
}

static void do_rename_replace_directory(struct world *w)
{
	ren(w, "d", "e", 0);
}

static void do_rename_whiteout(struct world *w)
{
	ren(w, "f", "new", RENAME_WHITEOUT);
}

static void do_link(struct world *w)
{
	BOTH(w, linkat(w->root[s], "f", w->root[s], "new", 0));
}

static void do_link_tmpfile(struct world *w)
{
	BOTH(w, linkat(w->slots[0].fd[s], "", w->root[s], "new", AT_EMPTY_PATH));
}

static void do_open_reading(struct world *w)
{
	hold(w, "f", O_RDONLY);
}

static void do_open_writing(struct world *w)
{
	hold(w, "f", O_RDWR);
}

static void do_open_trunc(struct world *w)
{
	hold(w, "f", O_RDWR | O_TRUNC);
}

static void do_open_again(struct world *w)
{
	int fds[2];

	BOTH_FD(w, openat(w->root[s], "f", O_RDONLY | O_CLOEXEC));
	BOTH(w, close(fds[s]));
}

static void do_opendir(struct world *w)
{
	hold(w, "d", O_RDONLY | O_DIRECTORY);
}

static void do_read(struct world *w)
{
	BOTH(w, pread(w->slots[0].fd[s], w->buf[s], BYTES, 50));
	if (memcmp(w->buf[0], w->buf[1], BYTES - 50))
		differ(w, "different bytes were read");
}

static void do_write(struct world *w)
{
	random_bytes(w, w->data, 5000);
	BOTH(w, pwrite(w->slots[0].fd[s], w->data, 5000, 7000));
}

static void do_append(struct world *w)
{
	random_bytes(w, w->data, 5000);
	BOTH(w, write(w->slots[0].fd[s], w->data, 5000));
}

static void do_statfs(struct world *w)
{
	struct statvfs sv[2];

	BOTH(w, fstatvfs(w->root[s], &sv[s]));
	if (sv[0].f_namemax != sv[1].f_namemax)
		differ(w, "statvfs differs");
}

static void do_close(struct world *w)
{
	BOTH(w, close(w->slots[0].fd[s]));
	w->slots[0].fd[0] = w->slots[0].fd[1] = -1;
}

static void do_unlink_close(struct world *w)
{
	do_unlink(w);
	do_close(w);
}

static void xset(struct world *w, const char *name, const char *value, int flags)
{
	BOTH(w, fsetxattr(w->slots[0].fd[s], name, value, strlen(value), flags));
}

static void do_setxattr(struct world *w)
{
	xset(w, "user.two", "two", 0);
}

static void do_setxattr_create(struct world *w)
{
	xset(w, "user.two", "two", XATTR_CREATE);
}

static void do_setxattr_create_exists(struct world *w)
{
	xset(w, "user.one", "two", XATTR_CREATE);
}

static void do_setxattr_replace(struct world *w)
{
	xset(w, "user.one", "other", XATTR_REPLACE);
}

static void do_setxattr_replace_absent(struct world *w)
{
	xset(w, "user.two", "other", XATTR_REPLACE);
}

static void do_getxattr(struct world *w)
{
	BOTH(w, fgetxattr(w->slots[0].fd[s], "user.one", w->buf[s], 10));
}

static void do_listxattr(struct world *w)
{
	BOTH(w, flistxattr(w->slots[0].fd[s], w->buf[s], 100));
}

static void do_removexattr(struct world *w)
{
	BOTH(w, fremovexattr(w->slots[0].fd[s], "user.one"));
}

static void do_removexattr_absent(struct world *w)
{
	BOTH(w, fremovexattr(w->slots[0].fd[s], "user.none"));
}

/* The order is the filesystem's own, so names are only counted here; the trees are compared in the end. */
static void do_list(struct world *w)
{
	long n[2] = { 0, 0 };

	for (int s = 0; s < 2; s++) {
		long got, at;

		while ((got = syscall(SYS_getdents64, w->slots[0].fd[s], w->buf[s], 4096)) > 0)
			for (at = 0; at < got; n[s]++)
				at += *(unsigned short *)(void *)(w->buf[s] + at + 16);
		w->res[s] = got;
		w->err[s] = got ? errno : 0;
	}
	same_result(w);
	/* "." and ".." and how many of the names the first request gave */
	if (n[0] < MANY / 4 || n[0] > MANY + 2 || n[1] > MANY + 2)
		differ(w, "%ld names are listed", n[0]);
}

static void do_list_all(struct world *w)
{
	do_list(w);
	BOTH(w, lseek(w->slots[0].fd[s], 0, SEEK_SET));
}

static void do_create(struct world *w)
{
	hold(w, "new", O_RDWR | O_CREAT | O_EXCL);
	BOTH(w, write(w->slots[0].fd[s], "new", 3));
}

static void do_create_any(struct world *w)
{
	hold(w, "new", O_RDWR | O_CREAT | O_TRUNC);
	BOTH(w, write(w->slots[0].fd[s], "new", 3));
}

static void do_tmpfile(struct world *w)
{
	hold(w, ".", O_TMPFILE | O_RDWR);
	BOTH(w, write(w->slots[0].fd[s], "new", 3));
}

static void do_ioctl_get(struct world *w)
{
	unsigned int flags[2] = { 0, 0 };

	BOTH(w, ioctl(w->slots[0].fd[s], FS_IOC_GETFLAGS, &flags[s]));
	if (flags[0] != flags[1])
		differ(w, "flags 0x%x, reference 0x%x", flags[0], flags[1]);
}

static void do_ioctl_set(struct world *w)
{
	unsigned int flags = FS_NODUMP_FL;

	BOTH(w, ioctl(w->slots[0].fd[s], FS_IOC_SETFLAGS, &flags));
}

static void do_fallocate(struct world *w)
{
	BOTH(w, fallocate(w->slots[0].fd[s], 0, 5000, 30000));
}

static void do_punch(struct world *w)
{
	BOTH(w, fallocate(w->slots[0].fd[s], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 6000));
}

static void do_lseek(struct world *w)
{
	BOTH(w, lseek(w->slots[0].fd[s], 0, SEEK_HOLE));
}

static void do_copy(struct world *w)
{
	for (int s = 0; s < 2; s++) {
		loff_t in = 0, out = 20000;

		w->res[s] = copy_file_range(w->slots[0].fd[s], &in, w->slots[0].fd[s], &out, 8000, 0);
		w->err[s] = w->res[s] < 0 ? errno : 0;
	}
	same_result(w);
}

static void do_close_paths(struct world *w)
{
	(void)w;
	worker_stop();
	for (int i = 0; i < PATHS; i++)
		close(400 + i);
	worker_go_on();
}

#define ENTRY	CHANGES " counted"
#define ANYKIND (PLAIN | SERVED | MIRROR)

const struct fault_case fault_cases[] = {
	{ "lookup", "there", PLAIN, READS " counted", forgotten, do_stat },
	{ "lookup", "absent", PLAIN, READS, nothing, do_stat_absent },
	{ "forget", "the last use of a removed file", PLAIN, "request removing removed replied", file, do_unlink },
	{ "batchforget", "sixty removed files", PLAIN, "request removing removed removed#30 replied", paths_held, do_close_paths },
	{ "getattr", "stat", PLAIN, READS, file, do_getattr },
	{ "statx", "with the time of birth", PLAIN, READS, file, do_statx },
	{ "setattr", "chmod", PLAIN, CHANGES, file, do_chmod },
	{ "setattr", "chown", PLAIN, CHANGES, file, do_chown },
	{ "setattr", "utimens", PLAIN, CHANGES, file, do_utimens },
	{ "setattr", "truncate down", ANYKIND, CHANGES " truncated", open_file, do_shrink },
	{ "setattr", "truncate up", ANYKIND, CHANGES " truncated", open_file, do_grow },
	{ "setattr", "truncate up, committed", PLAIN | SERVED, "unled", open_file, do_grow },
	{ "readlink", "a symlink", PLAIN, READS, symbolic_link, do_readlink },
	{ "symlink", "new", PLAIN, ENTRY, nothing, do_symlink },
	{ "mknod", "a fifo", PLAIN, ENTRY, nothing, do_mknod },
	{ "mknod", "a file", PLAIN, ENTRY, nothing, do_mknod_file },
	{ "mkdir", "new", PLAIN, ENTRY, nothing, do_mkdir },
	{ "mkdir", "just read", PLAIN, "taken", nothing, do_mkdir },
	{ "unlink", "the last name", PLAIN, CHANGES, file, do_unlink },
	{ "unlink", "the last name of an open file", ANYKIND, CHANGES, open_file, do_unlink },
	{ "unlink", "one of two names", PLAIN, CHANGES, two_links, do_unlink },
	{ "unlink", "a symlink", PLAIN, CHANGES, symbolic_link, do_unlink_symlink },
	{ "rmdir", "empty", PLAIN, CHANGES, directory, do_rmdir },
	{ "rmdir", "empty and open", PLAIN, CHANGES, open_directory, do_rmdir },
	{ "rmdir", "not empty", PLAIN, READS, directory_and_file, do_rmdir_full },
	{ "rename", "to a new name", PLAIN, CHANGES, file, do_rename },
	{ "rename", "into a directory", PLAIN, CHANGES, directory_and_file, do_rename_into },
	{ "rename", "NOREPLACE", PLAIN, CHANGES, file, do_rename_noreplace },
	{ "rename", "EXCHANGE", PLAIN, CHANGES, two_files, do_rename_exchange },
	{ "rename", "EXCHANGE of a file and a directory", PLAIN, CHANGES, directory_and_file,
	  do_rename_exchange_kinds },
	{ "rename", "over a file", PLAIN, CHANGES " linked", two_files, do_rename_replace },
	{ "rename", "over an open file", ANYKIND, CHANGES " linked", victim_open, do_rename_replace },
	{ "rename", "over a file with another name", PLAIN, CHANGES " linked", victim_linked,
	  do_rename_replace },
	{ "rename", "a directory", PLAIN, CHANGES, directory, do_rename_directory },
	{ "rename", "over an empty directory", PLAIN, READS " exchanged", two_directories,
	  do_rename_replace_directory },
	{ "rename", "over a file, no inode is left", FULL, READS " exchanged", no_inodes, do_rename_replace_full },
	{ "rename", "WHITEOUT", PLAIN, CHANGES, file, do_rename_whiteout },
	{ "link", "new", PLAIN, ENTRY, file, do_link },
	{ "link", "a file made without a name", PLAIN, ENTRY, tmpfile_held, do_link_tmpfile },
	{ "open", "for reading", ANYKIND, READS " counted", file, do_open_reading },
	{ "open", "for writing", ANYKIND, READS " counted", file, do_open_writing },
	{ "open", "for writing, a backing id is made", PLAIN | SERVED, "backing", forgotten, do_open_writing },
	{ "open", "with O_TRUNC", ANYKIND, CHANGES " counted truncated", file, do_open_trunc },
	{ "open", "a second time", ANYKIND, READS " counted", open_file, do_open_again },
	{ "opendir", "a directory", PLAIN, READS, directory, do_opendir },
	{ "read", "of a mirror", MIRROR, READS, open_for_reading, do_read },
	{ "read", "served", SERVED, READS, open_file, do_read },
	{ "write", "in the middle", SERVED | MIRROR, CHANGES, open_file, do_write },
	{ "write", "with O_APPEND", SERVED | MIRROR, CHANGES, open_for_append, do_append },
	{ "statfs", "of a mount", PLAIN, READS, nothing, do_statfs },
	{ "release", "of a file", ANYKIND, READS " counted", open_file, do_close },
	{ "release", "of a removed file", ANYKIND, READS " counted", open_file, do_unlink_close },
	{ "setxattr", "new", PLAIN, CHANGES, open_file, do_setxattr },
	{ "setxattr", "XATTR_CREATE", PLAIN, CHANGES, open_file, do_setxattr_create },
	{ "setxattr", "XATTR_CREATE of one that is there", PLAIN, READS, attribute, do_setxattr_create_exists },
	{ "setxattr", "XATTR_REPLACE", PLAIN, CHANGES, attribute, do_setxattr_replace },
	{ "setxattr", "XATTR_REPLACE of one that is not there", PLAIN, READS, open_file,
	  do_setxattr_replace_absent },
	{ "getxattr", "there", PLAIN, READS, attribute, do_getxattr },
	{ "listxattr", "one", PLAIN, READS, attribute, do_listxattr },
	{ "removexattr", "there", PLAIN, CHANGES, attribute, do_removexattr },
	{ "removexattr", "not there", PLAIN, READS, attribute, do_removexattr_absent },
	{ "readdir", "further in a big directory", PLAIN, READS, listing_begun, do_list },
	{ "readdirplus", "the first of a thousand", PLAIN, READS " counted counted#20", many_names, do_list_all },
	{ "create", "with O_EXCL", ANYKIND, ENTRY " counted#2", nothing, do_create },
	{ "create", "or open", ANYKIND, ENTRY " counted#2", nothing, do_create_any },
	{ "tmpfile", "without a name", ANYKIND, CHANGES " linked counted counted#2", nothing, do_tmpfile },
	{ "ioctl", "FS_IOC_GETFLAGS", PLAIN, READS, open_file, do_ioctl_get },
	{ "ioctl", "FS_IOC_SETFLAGS", PLAIN, CHANGES, open_file, do_ioctl_set },
	{ "fallocate", "allocate", ANYKIND, CHANGES, open_file, do_fallocate },
	{ "fallocate", "punch", ANYKIND, CHANGES, open_file, do_punch },
	{ "lseek", "SEEK_HOLE", PLAIN, READS, open_file, do_lseek },
	{ "copyfilerange", "in one file", SERVED, CHANGES, open_file, do_copy },
};
const unsigned int fault_case_count = sizeof(fault_cases) / sizeof(fault_cases[0]);
