/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Actor commands on open files. H is a name that the test gives to a descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/progs/spmt.h"

#define MAX_HANDLES 64
#define CHUNK	    (1U << 20)

static struct {
	char name[16];
	int fd;
} handles[MAX_HANDLES];

int spmt_fd(const char *name)
{
	for (int i = 0; i < MAX_HANDLES; i++)
		if (!strcmp(handles[i].name, name))
			return handles[i].fd;
	return -EBADF;
}

int spmt_fd_add(const char *name, int fd)
{
	for (int i = 0; i < MAX_HANDLES; i++) {
		if (handles[i].name[0])
			continue;
		snprintf(handles[i].name, sizeof(handles[i].name), "%s", name);
		handles[i].fd = fd;
		return 0;
	}
	close(fd);
	return -EMFILE;
}

static int open_flags(char *list)
{
	const struct {
		const char *name;
		int flag;
	} names[] = {
		{ "r", O_RDONLY },	  { "w", O_WRONLY },	  { "rw", O_RDWR },
		{ "creat", O_CREAT },	  { "excl", O_EXCL },	  { "trunc", O_TRUNC },
		{ "append", O_APPEND },	  { "direct", O_DIRECT }, { "path", O_PATH },
		{ "tmpfile", O_TMPFILE }, { "dir", O_DIRECTORY }, { "nofollow", O_NOFOLLOW },
	};
	int flags = O_CLOEXEC;

	for (char *s = strtok(list, ","); s; s = strtok(NULL, ",")) {
		size_t i;

		for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (!strcmp(s, names[i].name))
				break;
		if (i == sizeof(names) / sizeof(names[0])) {
			fprintf(stderr, "spmt: no open flag '%s'\n", s);
			exit(2);
		}
		flags |= names[i].flag;
	}
	return flags;
}

static int cmd_open(int argc, char **argv)
{
	int fd = open(argv[3], open_flags(argv[2]), 0644);

	return fd < 0 ? -errno : spmt_fd_add(argv[1], fd);
}

static int cmd_close(int argc, char **argv)
{
	int fd = spmt_fd(argv[1]);

	for (int i = 0; i < MAX_HANDLES; i++)
		if (!strcmp(handles[i].name, argv[1]))
			handles[i].name[0] = '\0';
	return close(fd) ? -errno : 0;
}

static int cmd_write(int argc, char **argv)
{
	ssize_t n = pwrite(spmt_fd(argv[1]), argv[3], strlen(argv[3]), (off_t)spmt_num(argv[2]));

	return n < 0 ? -errno : spmt_say("%zd", n);
}

static int cmd_append(int argc, char **argv)
{
	ssize_t n = write(spmt_fd(argv[1]), argv[2], strlen(argv[2]));

	return n < 0 ? -errno : spmt_say("%zd", n);
}

static int cmd_read(int argc, char **argv)
{
	char buf[1024];
	size_t len = spmt_num(argv[3]);
	ssize_t n =
		pread(spmt_fd(argv[1]), buf, len < sizeof(buf) ? len : sizeof(buf), (off_t)spmt_num(argv[2]));

	return n < 0 ? -errno : spmt_say("%.*s", (int)strnlen(buf, (size_t)n), buf);
}

/* Answers how many bytes the file took before the first error, and that error. */
static int cmd_fill(int argc, char **argv)
{
	uint64_t off = spmt_num(argv[2]), len = spmt_num(argv[3]), seed = spmt_num(argv[4]), done = 0;
	char *buf = malloc(CHUNK);
	ssize_t n = 0;

	while (buf && done < len) {
		size_t want = len - done < CHUNK ? (size_t)(len - done) : CHUNK;

		spmt_pattern(buf, off + done, want, seed);
		n = pwrite(spmt_fd(argv[1]), buf, want, (off_t)(off + done));
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	spmt_say("%llu%s%s", (unsigned long long)done, n < 0 ? " " : "", n < 0 ? strerrorname_np(errno) : "");
	free(buf);
	return buf ? 0 : -ENOMEM;
}

/* EBADMSG and the place of the first wrong byte, or ENODATA and where the file ended too early. */
static int cmd_verify(int argc, char **argv)
{
	uint64_t off = spmt_num(argv[2]), len = spmt_num(argv[3]), seed = spmt_num(argv[4]), done = 0;
	char *buf = malloc(CHUNK);
	int rc = buf ? 0 : -ENOMEM;

	while (!rc && done < len) {
		size_t want = len - done < CHUNK ? (size_t)(len - done) : CHUNK;
		ssize_t n = pread(spmt_fd(argv[1]), buf, want, (off_t)(off + done)), bad;

		if (n <= 0) {
			rc = n < 0 ? -errno : -ENODATA;
			spmt_say("at %llu", (unsigned long long)(off + done));
			break;
		}
		bad = spmt_pattern_check(buf, off + done, (size_t)n, seed);
		if (bad >= 0) {
			spmt_say("wrong byte at %llu",
				 (unsigned long long)(off + done) + (unsigned long long)bad);
			rc = -EBADMSG;
		}
		done += (uint64_t)n;
	}
	free(buf);
	return rc;
}

static int cmd_trunc(int argc, char **argv)
{
	return ftruncate(spmt_fd(argv[1]), (off_t)spmt_num(argv[2])) ? -errno : 0;
}

static int cmd_falloc(int argc, char **argv)
{
	int mode = 0;

	if (!strcmp(argv[2], "keep"))
		mode = FALLOC_FL_KEEP_SIZE;
	else if (!strcmp(argv[2], "punch"))
		mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
	return fallocate(spmt_fd(argv[1]), mode, (off_t)spmt_num(argv[3]), (off_t)spmt_num(argv[4])) ? -errno
												     : 0;
}

static int cmd_seek(int argc, char **argv)
{
	off_t at = lseek(spmt_fd(argv[1]), (off_t)spmt_num(argv[3]), strcmp(argv[2], "data") ? SEEK_HOLE : SEEK_DATA);

	return at < 0 ? -errno : spmt_say("%lld", (long long)at);
}

static int cmd_copy(int argc, char **argv)
{
	loff_t in = (loff_t)spmt_num(argv[2]), out = (loff_t)spmt_num(argv[4]);
	uint64_t len = spmt_num(argv[5]), done = 0;
	ssize_t n = 1;

	while (done < len && (n = copy_file_range(spmt_fd(argv[1]), &in, spmt_fd(argv[3]), &out, len - done, 0)) > 0)
		done += (uint64_t)n;
	return n < 0 ? -errno : spmt_say("%llu", (unsigned long long)done);
}

static int cmd_stat(int argc, char **argv)
{
	struct stat st;

	if (fstat(spmt_fd(argv[1]), &st))
		return -errno;
	return spmt_say("mode=%04o size=%lld bytes=%lld nlink=%lu", (unsigned int)st.st_mode & 07777,
			(long long)st.st_size, (long long)st.st_blocks * 512, (unsigned long)st.st_nlink);
}

static int cmd_fsync(int argc, char **argv)
{
	return fsync(spmt_fd(argv[1])) ? -errno : 0;
}

static int cmd_dontneed(int argc, char **argv)
{
	return -posix_fadvise(spmt_fd(argv[1]), 0, 0, POSIX_FADV_DONTNEED);
}

static int cmd_chmod(int argc, char **argv)
{
	return fchmod(spmt_fd(argv[1]), (mode_t)strtoul(argv[2], NULL, 8)) ? -errno : 0;
}

/* Pages that the page cache of the file itself holds; a passthrough file has none, whatever is mapped. */
static int cmd_cached(int argc, char **argv)
{
	uint64_t range[2] = { 0, 0 }, stat[5];

	if (syscall(451 /* cachestat, Linux 6.5 */, spmt_fd(argv[1]), range, stat, 0))
		return -errno;
	return spmt_say("%llu", (unsigned long long)stat[0]);
}

/* Opens, and makes where needed, DIR/0 to DIR/N-1, and keeps them open to the end. */
static int cmd_openmany(int argc, char **argv)
{
	int n = (int)spmt_num(argv[2]), flags = open_flags(argv[3]), i;

	for (i = 0; i < n; i++) {
		char path[512];

		snprintf(path, sizeof(path), "%s/%d", argv[1], i);
		if (open(path, flags, 0644) < 0)
			break;
	}
	return i == n ? spmt_say("%d", i) : spmt_say("%d %s", i, strerrorname_np(errno));
}

static struct sockaddr_un abstract(const char *name, socklen_t *len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%s", name);
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	return a;
}

static int cmd_sock(int argc, char **argv)
{
	socklen_t len;
	struct sockaddr_un a = abstract(argv[2], &len);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&a, len)) {
		close(fd);
		return -errno;
	}
	return spmt_fd_add(argv[1], fd);
}

union fd_msg {
	struct cmsghdr h;
	char room[CMSG_SPACE(sizeof(int))];
};

static int cmd_send(int argc, char **argv)
{
	socklen_t len;
	struct sockaddr_un a = abstract(argv[2], &len);
	union fd_msg m = { .h = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { (void *)"", 1 };
	struct msghdr msg = { &a, len, &iov, 1, &m, sizeof(m), 0 };
	int fd = spmt_fd(argv[1]), s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t n;

	if (s < 0)
		return -errno;
	memcpy(CMSG_DATA(&m.h), &fd, sizeof(fd));
	n = sendmsg(s, &msg, 0);
	close(s);
	return n < 0 ? -errno : 0;
}

static int cmd_recv(int argc, char **argv)
{
	union fd_msg m;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { NULL, 0, &iov, 1, &m, sizeof(m), 0 };
	int fd;

	if (recvmsg(spmt_fd(argv[2]), &msg, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	if (msg.msg_controllen < CMSG_LEN(sizeof(int)))
		return -ENOMSG;
	memcpy(&fd, CMSG_DATA(&m.h), sizeof(fd));
	return spmt_fd_add(argv[1], fd);
}

const struct spmt_cmd spmt_file_cmds[] = {
	{ "open", 3, cmd_open },   /* H FLAG,FLAG... PATH */
	{ "close", 1, cmd_close }, /* H */
	{ "write", 3, cmd_write }, /* H OFF TEXT */
	{ "append", 2, cmd_append },
	{ "read", 3, cmd_read },     /* H OFF LEN */
	{ "fill", 4, cmd_fill },     /* H OFF LEN SEED */
	{ "verify", 4, cmd_verify }, /* H OFF LEN SEED */
	{ "trunc", 2, cmd_trunc },   /* H LEN */
	{ "falloc", 4, cmd_falloc }, /* H plain|keep|punch OFF LEN */
	{ "seek", 3, cmd_seek },     /* H data|hole OFF */
	{ "copy", 5, cmd_copy },     /* FROM OFF TO OFF LEN, by copy_file_range */
	{ "stat", 1, cmd_stat },
	{ "fsync", 1, cmd_fsync },
	{ "dontneed", 1, cmd_dontneed },
	{ "chmod", 2, cmd_chmod }, /* H OCTAL */
	{ "cached", 1, cmd_cached },
	{ "openmany", 3, cmd_openmany }, /* DIR N FLAG,FLAG... */
	{ "sock", 2, cmd_sock },	 /* H NAME: where descriptors arrive */
	{ "send", 2, cmd_send },	 /* H NAME */
	{ "recv", 2, cmd_recv },	 /* NEWH SOCKH */
	{ NULL },
};
