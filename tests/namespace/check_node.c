/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fifos, sockets and device nodes. */
#include "tests/namespace/ns.h"

#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static void mknod_numbers(void)
{
	static const unsigned int numbers[][2] = {{1, 3},	   {0, 0},   {255, 255},
						  {4095, 1048575}, {8, 257}, {300, 65536}};
	size_t i;

	for (i = 0; i < NS_LEN(numbers); i++) {
		dev_t dev = makedev(numbers[i][0], numbers[i][1]);

		ns_context("%u:%u", numbers[i][0], numbers[i][1]);
		OK(mknod("c", S_IFCHR | 0640, dev));
		OK(mknod("b", S_IFBLK | 0604, dev));
		EQ(st_of("c").st_rdev, dev);
		EQ(st_of("b").st_rdev, dev);
		OCT(st_of("c").st_mode, S_IFCHR | 0640);
		OCT(st_of("b").st_mode, S_IFBLK | 0604);
		OK(rename("c", "d"));
		EQ(st_of("d").st_rdev, dev);
		OK(unlink("d"));
		OK(unlink("b"));
	}
}

static void mknod_rights_and_kinds(void)
{
	mkdirm("pub", 0777);
	AS(U1, G1) {
		ERR(EPERM, mknod("pub/c", S_IFCHR | 0644, makedev(1, 3)));
		ERR(EPERM, mknod("pub/b", S_IFBLK | 0644, makedev(7, 0)));
		OK(mknod("pub/p", S_IFIFO | 0644, 0));
		OK(mknod("pub/s", S_IFSOCK | 0644, 0));
		OK(mknod("pub/f", S_IFREG | 0644, 0));
		OK(mknod("pub/g", 0644, 0));
	}
	TRUE(S_ISREG(st_of("pub/g").st_mode));
	TRUE(S_ISSOCK(st_of("pub/s").st_mode));
	EQ(st_of("pub/p").st_uid, U1);
	ERR(EPERM, mknod("d", S_IFDIR | 0755, 0));
	ERR(EINVAL, mknod("l", S_IFLNK | 0777, 0));
	ERR(EINVAL, mknod("x", 0150000 | 0644, 0));
	put("pub/f", "usable");
	HAS("pub/f", "usable");
}

static void mknod_stamps(void)
{
	mkdirm("d", 0755);
	STAMPS("d", NS_M | NS_C, OK(mkfifo("d/p", 0644)));
	STAMPS("d", NS_M | NS_C, OK(mknod("d/c", S_IFCHR | 0644, 0)));
	STAMPS("d", 0, ERR(EEXIST, mkfifo("d/p", 0644)));
}

static void device_nodes_open(void)
{
	struct statvfs vfs;
	char buf[4] = {1, 1, 1, 1};
	int fd;

	OK(mknod("zero", S_IFCHR | 0666, makedev(1, 5)));
	OK(mknod("nothing", S_IFCHR | 0666, makedev(241, 9999)));
	OK(statvfs(".", &vfs));
	if (vfs.f_flag & ST_NODEV) {
		ERR(EACCES, open("zero", O_RDONLY));
		return;
	}
	fd = (int)OK(open("zero", O_RDWR | O_CLOEXEC));
	EQ(read(fd, buf, 4), 4);
	EQ(buf[0] | buf[1] | buf[2] | buf[3], 0);
	EQ(write(fd, buf, 4), 4);
	EQ(st_fd(fd).st_ino, ino_of("zero"));
	close(fd);
	ERR(ENXIO, open("nothing", O_RDONLY));
	OK(chmod("zero", 0600));
	AS(U1, G1)
		ERR(EACCES, open("zero", O_RDONLY));
	AS(U1, G1)
		ERR(EACCES, open("zero", O_WRONLY));
}

static void fifo_between_processes(void)
{
	char buf[16] = "";
	pid_t pid;
	int fd;

	OK(mkfifo("p", 0666));
	OK(link("p", "q"));
	pid = ns_fork();
	if (!pid) {
		ns_become(U1, G1, 0, NULL);
		fd = (int)OK(open("q", O_WRONLY));
		EQ(write(fd, "through", 7), 7);
		ns_exit();
	}
	fd = (int)OK(open("p", O_RDONLY | O_CLOEXEC));
	EQ(read(fd, buf, sizeof(buf)), 7);
	STR(buf, "through");
	EQ(read(fd, buf, sizeof(buf)), 0);
	ns_wait(pid);
	close(fd);
}

static void fifo_without_partner(void)
{
	char c;
	int r, w;

	OK(mkfifo("p", 0666));
	ERR(ENXIO, open("p", O_WRONLY | O_NONBLOCK));
	r = (int)OK(open("p", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	EQ(read(r, &c, 1), 0);
	w = (int)OK(open("p", O_WRONLY | O_NONBLOCK | O_CLOEXEC));
	ERR(EAGAIN, read(r, &c, 1));
	OK(rename("p", "p2"));
	OK(unlink("p2"));
	EQ(write(w, "x", 1), 1);
	EQ(read(r, &c, 1), 1);
	ERR(ESPIPE, lseek(r, 0, SEEK_SET));
	close(r);
	ERR(EPIPE, write(w, "x", 1));
	close(w);
}

static void fifo_stamps(void)
{
	int fd;

	OK(mkfifo("p", 0666));
	fd = (int)OK(open("p", O_RDWR | O_CLOEXEC));
	STAMPS("p", NS_M | NS_C, EQ(write(fd, "x", 1), 1));
	close(fd);
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	return sa;
}

static void sockets(void)
{
	struct sockaddr_un a = address("sock"), b = address("moved");
	int s = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), c, d, t;
	char buf[8] = "";

	umask(0027);
	OK(bind(s, (struct sockaddr *)&a, sizeof(a)));
	umask(0);
	OCT(st_of("sock").st_mode, S_IFSOCK | 0750);
	OK(listen(s, 5));
	t = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ERR(EADDRINUSE, bind(t, (struct sockaddr *)&a, sizeof(a)));
	ERR(ENXIO, open("sock", O_RDWR));
	OK(rename("sock", "moved"));
	ERR(ENOENT, connect(t, (struct sockaddr *)&a, sizeof(a)));
	OK(connect(t, (struct sockaddr *)&b, sizeof(b)));
	c = (int)OK(accept(s, NULL, NULL));
	EQ(write(t, "hello", 5), 5);
	EQ(read(c, buf, sizeof(buf)), 5);
	STR(buf, "hello");
	AS(U1, G1) {
		d = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
		ERR(EACCES, connect(d, (struct sockaddr *)&b, sizeof(b)));
	}
	close(s);
	d = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ERR(ECONNREFUSED, connect(d, (struct sockaddr *)&b, sizeof(b)));
	OK(unlink("moved"));
	close(d);
	close(c);
	close(t);
}

static void socket_through_hard_link(void)
{
	struct sockaddr_un a = address("sock"), b = address("link");
	int s = (int)OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)), c;
	char buf[8] = "";

	OK(bind(s, (struct sockaddr *)&a, sizeof(a)));
	OK(link("sock", "link"));
	OK(unlink("sock"));
	c = (int)OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	OK(connect(c, (struct sockaddr *)&b, sizeof(b)));
	EQ(write(c, "gram", 4), 4);
	EQ(read(s, buf, sizeof(buf)), 4);
	STR(buf, "gram");
	close(c);
	close(s);
}

const struct ns_check checks_node[] = {
	CHECK(mknod_numbers),
	CHECK(mknod_rights_and_kinds),
	CHECK(mknod_stamps),
	CHECK(device_nodes_open),
	CHECK(fifo_between_processes),
	CHECK(fifo_without_partner),
	CHECK(fifo_stamps),
	CHECK(sockets),
	CHECK(socket_through_hard_link),
	CHECKS_END,
};
