/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inode flags, as chattr(1) sets them. */
#include "tests/namespace/ns.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static int flags_of(const char *path, bool *good)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), v = 0;

	*good = fd >= 0 && !ioctl(fd, FS_IOC_GETFLAGS, &v);
	if (fd >= 0)
		close(fd);
	return v;
}

static int set_flags(const char *path, int v)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc;

	if (fd < 0)
		return -1;
	rc = ioctl(fd, FS_IOC_SETFLAGS, &v);
	close(fd);
	return rc;
}

static void need_flags(void)
{
	bool good;

	mkfile("probe", 0644);
	flags_of("probe", &good);
	if (!good && (errno == ENOTTY || errno == EOPNOTSUPP))
		ns_skip("tmpfs of this kernel has no inode flags");
}

static void set_and_get(void)
{
	bool good;

	need_flags();
	mkfile("f", 0644);
	OK(mkdir("d", 0755));
	EQ(flags_of("f", &good), 0);
	TRUE(good);
	STAMPS("f", NS_C, OK(set_flags("f", FS_NODUMP_FL)));
	EQ(flags_of("f", &good), FS_NODUMP_FL);
	OK(set_flags("d", FS_NOATIME_FL | FS_NODUMP_FL));
	EQ(flags_of("d", &good), FS_NOATIME_FL | FS_NODUMP_FL);
	ERR(EOPNOTSUPP, set_flags("f", FS_COMPR_FL));
	OK(set_flags("f", 0));
	own("f", U1, G1);
	AS(U1, G1) {
		OK(set_flags("f", FS_NODUMP_FL));
		ERR(EPERM, set_flags("f", FS_IMMUTABLE_FL));
	}
	OK(chmod("f", 0666));
	AS(U2, G2)
		ERR(EPERM, set_flags("f", 0));
	EQ(flags_of("f", &good), FS_NODUMP_FL);
}

static void immutable(void)
{
	int fd;

	need_flags();
	mkdata("f", 0644, "data");
	mkdirm("d", 0755);
	mkfile("d/x", 0644);
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(set_flags("f", FS_IMMUTABLE_FL));
	OK(set_flags("d", FS_IMMUTABLE_FL));
	ERR(EPERM, open("f", O_WRONLY));
	ERR(EPERM, truncate("f", 0));
	ERR(EPERM, unlink("f"));
	ERR(EPERM, rename("f", "g"));
	ERR(EPERM, link("f", "g"));
	ERR(EPERM, chmod("f", 0600));
	ERR(EPERM, chown("f", U1, G1));
	ERR(EPERM, utimensat(AT_FDCWD, "f", (struct timespec[2]){{1, 0}, {2, 0}}, 0));
	ERR(EPERM, setxattr("f", "user.k", "v", 1, 0));
	ERR(EPERM, fchmod(fd, 0600));
	HAS("f", "data");
	ERR(EPERM, open("d/new", O_CREAT | O_RDWR, 0644));
	ERR(EPERM, mkdir("d/new", 0755));
	ERR(EPERM, unlink("d/x"));
	ERR(EPERM, rename("d/x", "y"));
	put("d/x", "still writable");
	OK(set_flags("f", 0));
	OK(set_flags("d", 0));
	OK(unlink("d/x"));
	OK(chmod("f", 0600));
	OK(unlink("f"));
	close(fd);
}

static void append_only(void)
{
	int fd;

	need_flags();
	mkdata("f", 0644, "data");
	mkdirm("d", 0755);
	mkfile("d/x", 0644);
	OK(set_flags("f", FS_APPEND_FL));
	OK(set_flags("d", FS_APPEND_FL));
	ERR(EPERM, open("f", O_WRONLY));
	ERR(EPERM, open("f", O_WRONLY | O_APPEND | O_TRUNC));
	ERR(EPERM, truncate("f", 0));
	ERR(EPERM, unlink("f"));
	fd = (int)OK(open("f", O_WRONLY | O_APPEND | O_CLOEXEC));
	EQ(write(fd, "more", 4), 4);
	close(fd);
	HAS("f", "datamore");
	mkfile("d/new", 0644);
	ERR(EPERM, unlink("d/new"));
	ERR(EPERM, rename("d/new", "d/newer"));
	OK(set_flags("f", 0));
	OK(set_flags("d", 0));
	OK(unlink("d/new"));
}

static void append_only_descriptors_stay_so(void)
{
	int fd;

	need_flags();
	mkdata("f", 0644, "data");
	OK(set_flags("f", FS_APPEND_FL));
	fd = (int)OK(open("f", O_WRONLY | O_APPEND | O_CLOEXEC));
	ERR(EPERM, fcntl(fd, F_SETFL, 0));
	close(fd);
	OK(set_flags("f", 0));
}

const struct ns_check checks_flags[] = {
	CHECK(set_and_get), CHECK(immutable), CHECK(append_only), CHECK(append_only_descriptors_stay_so),
	CHECKS_END,
};
