/* SPDX-License-Identifier: GPL-2.0-or-later */
/* open: its flags, O_TMPFILE, O_PATH, file handles. */
#include "tests/namespace/ns.h"

#include <sys/xattr.h>

static void linked_path(char *buf, size_t len, int fd)
{
	snprintf(buf, len, "/proc/self/fd/%d", fd);
}

static void create_flags(void)
{
	int fd;

	mkdirm("d", 0755);
	STAMPS("d", NS_M | NS_C, close((int)OK(open("d/f", O_CREAT | O_RDWR, 0640))));
	OCT(st_of("d/f").st_mode, S_IFREG | 0640);
	EQ(size_of("d/f"), 0);
	EQ(nlink_of("d/f"), 1);
	STAMPS("d", 0, close((int)OK(open("d/f", O_CREAT | O_RDWR, 0777))));
	OCT(mode_of("d/f"), 0640);
	ERR(EEXIST, open("d/f", O_CREAT | O_EXCL | O_RDWR, 0644));
	ERR(EEXIST, open("d", O_CREAT | O_EXCL | O_RDWR, 0644));
	/* the new descriptor may do what its flags say, whatever the mode */
	AS(U1, G1) {
		OK(umask(0));
		ERR(EACCES, open("d/x", O_CREAT | O_RDWR, 0));
	}
	OK(chmod("d", 0777));
	AS(U1, G1) {
		fd = (int)OK(open("d/x", O_CREAT | O_RDWR, 0));
		EQ(write(fd, "abc", 3), 3);
		ERR(EACCES, open("d/x", O_RDONLY));
	}
	EQ(size_of("d/x"), 3);
	/* no right on the directory is needed for a file that is there */
	OK(chmod("d", 0755));
	OK(chmod("d/x", 0666));
	AS(U2, G2)
		close((int)OK(open("d/x", O_CREAT | O_RDWR, 0600)));
}

static void create_through_symlinks(void)
{
	mkdirm("d", 0755);
	OK(symlink("d/target", "dangling"));
	ERR(EEXIST, open("dangling", O_CREAT | O_EXCL | O_RDWR, 0644));
	TRUE(!exists("d/target"));
	ERR(ELOOP, open("dangling", O_CREAT | O_NOFOLLOW | O_RDWR, 0644));
	close((int)OK(open("dangling", O_CREAT | O_RDWR, 0644)));
	TRUE(S_ISREG(st_of("d/target").st_mode));
	OK(symlink("d/target", "l"));
	ERR(ELOOP, open("l", O_NOFOLLOW | O_RDONLY));
	ERR(ENOTDIR, open("l", O_NOFOLLOW | O_DIRECTORY | O_RDONLY));
	OK(symlink("d", "dl"));
	ERR(ENOTDIR, open("dl", O_NOFOLLOW | O_DIRECTORY | O_RDONLY));
	close((int)OK(open("dl", O_DIRECTORY | O_RDONLY)));
	ERR(ENOTDIR, open("d/target", O_DIRECTORY | O_RDONLY));
	ERR(EISDIR, open("dl", O_CREAT | O_RDWR, 0644));
}

static void truncating_open(void)
{
	mkdata("f", 0644, "content");
	STAMPS("f", NS_M | NS_C, close((int)OK(open("f", O_WRONLY | O_TRUNC))));
	EQ(size_of("f"), 0);
	STAMPS("f", NS_M | NS_C, close((int)OK(open("f", O_WRONLY | O_TRUNC))));
	put("f", "again");
	close((int)OK(open("f", O_RDONLY | O_TRUNC)));
	EQ(size_of("f"), 0);
	put("f", "again");
	close((int)OK(open("f", O_CREAT | O_TRUNC | O_RDWR, 0600)));
	EQ(size_of("f"), 0);
	OCT(mode_of("f"), 0644);
	put("f", "again");
	ERR(EEXIST, open("f", O_CREAT | O_EXCL | O_TRUNC | O_RDWR, 0600));
	AS(U1, G1) {
		ERR(EACCES, open("f", O_RDONLY | O_TRUNC));
		ERR(EACCES, open("f", O_WRONLY | O_TRUNC));
	}
	HAS("f", "again");
}

static void truncation_seen_by_other_descriptors(void)
{
	char buf[8];
	int fd;

	mkdata("f", 0644, "content");
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	close((int)OK(open("f", O_WRONLY | O_TRUNC)));
	EQ(st_fd(fd).st_size, 0);
	EQ(read(fd, buf, 8), 0);
	put("f", "new");
	EQ(pread(fd, buf, 8, 0), 3);
	EQ(buf[0], 'n');
	close(fd);
}

static void access_modes(void)
{
	char c;
	int r, w;

	mkdata("f", 0644, "content");
	r = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	w = (int)OK(open("f", O_WRONLY | O_CLOEXEC));
	ERR(EBADF, write(r, "x", 1));
	ERR(EBADF, read(w, &c, 1));
	ERR(EINVAL, ftruncate(r, 0));
	EQ(pwrite(w, "C", 1, 0), 1);
	EQ(read(r, &c, 1), 1);
	EQ(c, 'C');
	EQ(fcntl(r, F_GETFL) & O_ACCMODE, O_RDONLY);
	OK(fcntl(w, F_SETFL, O_APPEND));
	EQ(write(w, "!", 1), 1);
	HAS("f", "Content!");
	close(r);
	close(w);
}

static void noatime(void)
{
	int fd;

	mkdata("f", 0666, "content");
	own("f", U1, G1);
	AS(U2, G2)
		ERR(EPERM, open("f", O_RDONLY | O_NOATIME));
	AS(U1, G1) {
		char c;

		fd = (int)OK(open("f", O_RDONLY | O_NOATIME));
		STAMPS("f", 0, EQ(read(fd, &c, 1), 1));
	}
}

static void unwritable_kinds(void)
{
	OK(mkfifo("p", 0644));
	ERR(ENOTDIR, open("p", O_DIRECTORY | O_RDONLY));
	mkfile("f", 0444);
	AS(U1, G1)
		ERR(EACCES, open("f", O_WRONLY));
	ERR(EINVAL, open("f", O_CREAT | O_DIRECTORY | O_RDWR, 0644));
	/* flags that no kernel knows are ignored by open, not by openat2 */
	close((int)OK(open("f", O_RDONLY | 020)));
}

static void tmpfile_life(void)
{
	char buf[8] = "", proc[64];
	int fd = (int)OK(open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640));
	struct stat st = st_fd(fd);

	EQ(st.st_nlink, 0);
	OCT(st.st_mode, S_IFREG | 0640);
	EQ(st.st_size, 0);
	EQ(st.st_dev, st_of(".").st_dev);
	EQ(write(fd, "hidden", 6), 6);
	EQ(pread(fd, buf, 8, 0), 6);
	STR(buf, "hidden");
	linked_path(proc, sizeof(proc), fd);
	OK(linkat(AT_FDCWD, proc, AT_FDCWD, "shown", AT_SYMLINK_FOLLOW));
	EQ(st_fd(fd).st_nlink, 1);
	EQ(ino_of("shown"), st.st_ino);
	OCT(mode_of("shown"), 0640);
	HAS("shown", "hidden");
	OK(link("shown", "second"));
	EQ(st_fd(fd).st_nlink, 2);
	OK(unlink("shown"));
	OK(unlink("second"));
	EQ(st_fd(fd).st_nlink, 0);
	EQ(pread(fd, buf, 8, 0), 6);
	/* once it had a name and lost it, it gets no other */
	ERR(ENOENT, linkat(AT_FDCWD, proc, AT_FDCWD, "third", AT_SYMLINK_FOLLOW));
	close(fd);
}

static void tmpfile_by_empty_path(void)
{
	int fd = (int)OK(open(".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));

	EQ(write(fd, "data", 4), 4);
	OK(linkat(fd, "", AT_FDCWD, "name", AT_EMPTY_PATH));
	ERR(EEXIST, linkat(fd, "", AT_FDCWD, "name", AT_EMPTY_PATH));
	close(fd);
	HAS("name", "data");
	EQ(nlink_of("name"), 1);
}

static void tmpfile_that_stays_hidden(void)
{
	char proc[64];
	int fd = (int)OK(open(".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600));

	linked_path(proc, sizeof(proc), fd);
	ERR(ENOENT, linkat(AT_FDCWD, proc, AT_FDCWD, "x", AT_SYMLINK_FOLLOW));
	ERR(ENOENT, linkat(fd, "", AT_FDCWD, "x", AT_EMPTY_PATH));
	TRUE(!exists("x"));
	close(fd);
}

static void tmpfile_refusals(void)
{
	mkfile("f", 0644);
	mkdirm("ro", 0755);
	ERR(EINVAL, open(".", O_TMPFILE | O_RDONLY, 0600));
	ERR(ENOTDIR, open("f", O_TMPFILE | O_RDWR, 0600));
	ERR(ENOENT, open("none", O_TMPFILE | O_RDWR, 0600));
	AS(U1, G1)
		ERR(EACCES, open("ro", O_TMPFILE | O_RDWR, 0600));
}

static void tmpfile_owner_and_mode(void)
{
	mkdirm("pub", 0777);
	mkdirm("sg", 0777);
	own("sg", 0, G3);
	OK(chmod("sg", 02777));
	AS(U1, G1) {
		char proc[64];
		int fd;

		umask(027);
		fd = (int)OK(open("pub", O_TMPFILE | O_RDWR, 0666));
		OCT(st_fd(fd).st_mode & 07777, 0640);
		EQ(st_fd(fd).st_uid, U1);
		EQ(st_fd(fd).st_gid, G1);
		OK(fchmod(fd, 0600));
		OK(fsetxattr(fd, "user.k", "v", 1, 0));
		linked_path(proc, sizeof(proc), fd);
		OK(linkat(AT_FDCWD, proc, AT_FDCWD, "pub/mine", AT_SYMLINK_FOLLOW));
		EQ(st_of("pub/mine").st_uid, U1);
		EQ(getxattr("pub/mine", "user.k", NULL, 0), 1);
		fd = (int)OK(open("sg", O_TMPFILE | O_RDWR, 0660));
		EQ(st_fd(fd).st_gid, G3);
	}
}

static void tmpfile_needs_no_name(void)
{
	int fds[64], i;

	mkdirm("d", 0755);
	STAMPS("d", 0, fds[0] = (int)OK(open("d", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)));
	for (i = 1; i < 64; i++)
		fds[i] = (int)OK(open("d", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	for (i = 0; i < 64; i++)
		EQ(pwrite(fds[i], &i, sizeof(i), 4096L * i), sizeof(i));
	for (i = 0; i < 64; i++) {
		int got = -1;

		EQ(pread(fds[i], &got, sizeof(got), 4096L * i), sizeof(got));
		EQ(got, i);
		EQ(st_fd(fds[i]).st_nlink, 0);
	}
	/* nothing of them is in the way of removal */
	OK(rmdir("d"));
	EQ(pwrite(fds[5], "x", 1, 0), 1);
	ERR(ENOENT, linkat(fds[5], "", AT_FDCWD, "d/x", AT_EMPTY_PATH));
	OK(linkat(fds[5], "", AT_FDCWD, "late", AT_EMPTY_PATH));
	EQ(nlink_of("late"), 1);
}

static void o_path(void)
{
	char c, proc[64];
	int p, fd;

	mkdata("f", 0000, "content");
	own("f", U1, G1);
	AS(U2, G2) {
		/* needs no right on the file, gives none */
		p = (int)OK(open("f", O_PATH));
		OCT(st_fd(p).st_mode, S_IFREG);
		ERR(EBADF, read(p, &c, 1));
		ERR(EBADF, ftruncate(p, 0));
		ERR(EBADF, fsetxattr(p, "user.x", "", 0, 0));
		linked_path(proc, sizeof(proc), p);
		ERR(EACCES, open(proc, O_RDONLY));
	}
	p = (int)OK(open("f", O_PATH | O_CLOEXEC));
	linked_path(proc, sizeof(proc), p);
	OK(rename("f", "g"));
	fd = (int)OK(open(proc, O_RDWR | O_CLOEXEC));
	EQ(write(fd, "C", 1), 1);
	close(fd);
	OK(chmod(proc, 0644));
	HAS("g", "Content");
	OK(linkat(p, "", AT_FDCWD, "h", AT_EMPTY_PATH));
	EQ(st_fd(p).st_nlink, 2);
	OK(symlink("g", "l"));
	fd = (int)OK(open("l", O_PATH | O_NOFOLLOW | O_CLOEXEC));
	TRUE(S_ISLNK(st_fd(fd).st_mode));
	EQ(readlinkat(fd, "", proc, sizeof(proc)), 1);
	close(fd);
	close(p);
}

static void reopen_with_other_modes(void)
{
	char proc[64], c;
	int fd, again;

	mkdata("f", 0644, "content");
	fd = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	linked_path(proc, sizeof(proc), fd);
	again = (int)OK(open(proc, O_RDWR | O_CLOEXEC));
	EQ(pwrite(again, "C", 1, 0), 1);
	EQ(pread(fd, &c, 1, 0), 1);
	EQ(c, 'C');
	AS(U1, G1)
		ERR(EACCES, open(proc, O_RDWR));
	close(again);
	again = (int)OK(open(proc, O_WRONLY | O_TRUNC | O_CLOEXEC));
	EQ(st_fd(fd).st_size, 0);
	close(again);
	close(fd);
}

union handle {
	struct file_handle h;
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static void file_handles(void)
{
	union handle f = {.h.handle_bytes = MAX_HANDLE_SZ}, d = {.h.handle_bytes = MAX_HANDLE_SZ};
	int mnt, here, fd, id;

	here = (int)OK(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	mkdata("f", 0644, "content");
	OK(mkdir("d", 0755));
	OK(name_to_handle_at(AT_FDCWD, "f", &f.h, &mnt, 0));
	OK(name_to_handle_at(AT_FDCWD, "d", &d.h, &mnt, 0));
	fd = (int)OK(open_by_handle_at(here, &f.h, O_RDWR | O_CLOEXEC));
	EQ(st_fd(fd).st_ino, ino_of("f"));
	EQ(write(fd, "C", 1), 1);
	HAS("f", "Content");
	OK(rename("f", "d/g"));
	id = (int)OK(open_by_handle_at(here, &f.h, O_RDONLY | O_CLOEXEC));
	EQ(st_fd(id).st_ino, ino_of("d/g"));
	close(id);
	id = (int)OK(open_by_handle_at(here, &d.h, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	OK(faccessat(id, "g", F_OK, 0));
	close(id);
	AS(U1, G1)
		ERR(EPERM, open_by_handle_at(here, &f.h, O_RDONLY));
	OK(unlink("d/g"));
	close(fd);
	/* a server hears of the last close a moment later */
	TRUE(NS_WITHIN(2000,
		       (id = open_by_handle_at(here, &f.h, O_RDONLY | O_CLOEXEC)) < 0 || (close(id), 0)));
	EQ(errno, ESTALE);
}

static void many_descriptors_of_one_file(void)
{
	int fds[500], i;
	char c;

	mkdata("f", 0644, "0123456789");
	for (i = 0; i < 500; i++)
		fds[i] = (int)OK(open("f", i % 3 == 0 ? O_RDONLY : i % 3 == 1 ? O_RDWR : O_RDWR | O_APPEND));
	for (i = 0; i < 500; i++) {
		EQ(pread(fds[i], &c, 1, i % 10), 1);
		EQ(c, '0' + i % 10);
	}
	for (i = 1; i < 500; i += 3)
		EQ(pwrite(fds[i], "x", 1, 9), 1);
	for (i = 0; i < 500; i++)
		close(fds[i]);
	HAS("f", "012345678x");
}

const struct ns_check checks_open[] = {
	CHECK(create_flags),
	CHECK(create_through_symlinks),
	CHECK(truncating_open),
	CHECK(truncation_seen_by_other_descriptors),
	CHECK(access_modes),
	CHECK(noatime),
	CHECK(unwritable_kinds),
	CHECK(tmpfile_life),
	CHECK(tmpfile_by_empty_path),
	CHECK(tmpfile_that_stays_hidden),
	CHECK(tmpfile_refusals),
	CHECK(tmpfile_owner_and_mode),
	CHECK(tmpfile_needs_no_name),
	CHECK(o_path),
	CHECK(reopen_with_other_modes),
	CHECK(file_handles),
	CHECK(many_descriptors_of_one_file),
	CHECKS_END,
};
