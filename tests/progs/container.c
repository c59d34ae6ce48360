/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What container runtimes and those in containers do: idmap, a bind mount with other owners (mount(8) of util-linux 2.38 cannot
 * make one); handle, an attempt to get out of a bind mount. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/progs/spmt.h"

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int failed(const char *what)
{
	fprintf(stderr, "spmt idmap: %s: %s\n", what, strerror(errno));
	return 1;
}

static int write_map(pid_t pid, const char *file, const char *map)
{
	char path[64];
	int fd, rc;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	rc = fd < 0 || write(fd, map, strlen(map)) < 0 ? -1 : 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

/* A user namespace with that map, which lives on by its descriptor. */
static int user_namespace(const char *map)
{
	char path[64], byte;
	int made[2], fd = -1;
	pid_t pid;

	if (pipe(made))
		return -1;
	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWUSER) || write(made[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(made[1]);
	if (pid > 0 && read(made[0], &byte, 1) == 1 && !write_map(pid, "uid_map", map) && !write_map(pid, "gid_map", map)) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	close(made[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return fd;
}

int spmt_idmap(int argc, char **argv)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP };
	int tree, ns;

	if (argc != 4) {
		fprintf(stderr, "spmt: idmap SOURCE TARGET 'INSIDE OUTSIDE COUNT'\n");
		return 2;
	}
	ns = user_namespace(argv[3]);
	if (ns < 0)
		return failed("a user namespace");
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, argv[1], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return failed(argv[1]);
	attr.userns_fd = (uint64_t)ns;
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)))
		return failed("mount_setattr");
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, argv[2], MOVE_MOUNT_F_EMPTY_PATH))
		return failed(argv[2]);
	return 0;
}

/* What FUSE's file handles look like: the node id, and a generation that is 0 for the root. */
int spmt_handle(int argc, char **argv)
{
	struct {
		struct file_handle h;
		uint32_t fid[3];
	} handle = { .h = { .handle_bytes = sizeof(handle.fid), .handle_type = 0x81 } };
	int dir, fd;

	if (argc != 3) {
		fprintf(stderr, "spmt: handle DIRECTORY NODEID\n");
		return 2;
	}
	handle.fid[1] = (uint32_t)spmt_num(argv[2]);
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir < 0 ? -1 : open_by_handle_at(dir, &handle.h, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		printf("err %s\n", strerrorname_np(errno));
	else
		printf("ok\n");
	return fd < 0;
}
