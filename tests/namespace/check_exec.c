/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Programs that lie on the filesystem. */
#include "tests/namespace/ns.h"

#include <sys/sendfile.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

/* Copies this very program. */
static void copy_program(const char *to, mode_t mode)
{
	int in = (int)OK(open(ns_self, O_RDONLY | O_CLOEXEC)), out = mkfd(to, O_WRONLY, mode);
	struct stat st = st_fd(in);
	off_t done = 0;

	while (done < st.st_size)
		if (OK(sendfile(out, in, &done, (size_t)(st.st_size - done))) <= 0)
			break;
	close(in);
	close(out);
}

static int run(const char *path, const char *arg)
{
	pid_t pid = ns_fork();
	int status;

	if (!pid) {
		execl(path, path, arg, NULL);
		_exit(errno == EACCES ? 13 : 99);
	}
	status = ns_status(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void programs_run(void)
{
	copy_program("prog", 0755);
	EQ(run("./prog", "--exit-42"), 42);
	OK(chmod("prog", 0644));
	EQ(run("./prog", "--exit-42"), 13);
	OK(chmod("prog", 0744));
	AS(U1, G1)
		EQ(run("./prog", "--exit-42"), 13);
	/* running takes no right to read */
	OK(chmod("prog", 0711));
	AS(U1, G1)
		EQ(run("./prog", "--exit-42"), 42);
	mkdata("script", 0755, "#!/bin/sh\nexit 7\n");
	EQ(run("./script", ""), 7);
}

static void suid_programs(void)
{
	struct statvfs vfs;
	pid_t pid;
	int status;

	copy_program("prog", 0755);
	own("prog", U2, G2);
	OK(chmod("prog", 06755));
	OK(statvfs(".", &vfs));
	pid = ns_fork();
	if (!pid) {
		ns_become(U1, G1, 0, NULL);
		execl("./prog", "./prog", "--euid", vfs.f_flag & ST_NOSUID ? "30001" : "30002", NULL);
		_exit(99);
	}
	status = ns_status(pid);
	TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
}

/* A running program's file is not written, a file that is being written does not run. */
static void text_busy(void)
{
	int in[2], running[2], fd;
	pid_t pid;
	char c;

	copy_program("prog", 0755);
	fd = (int)OK(open("prog", O_RDWR | O_CLOEXEC));
	ERR(ETXTBSY, execl("./prog", "./prog", "--exit-42", NULL));
	close(fd);
	OK(pipe2(in, O_CLOEXEC));
	OK(pipe2(running, O_CLOEXEC));
	pid = ns_fork();
	if (!pid) {
		dup2(in[0], STDIN_FILENO);
		execl("./prog", "./prog", "--wait", NULL);
		_exit(99);
	}
	/* execve closes the other end */
	close(running[1]);
	EQ(read(running[0], &c, 1), 0);
	ERR(ETXTBSY, open("prog", O_WRONLY));
	ERR(ETXTBSY, truncate("prog", 0));
	ERR(ETXTBSY, open("prog", O_RDWR | O_TRUNC));
	close((int)OK(open("prog", O_RDONLY)));
	OK(chmod("prog", 0700));
	OK(rename("prog", "prog2"));
	OK(link("prog2", "prog3"));
	ERR(ETXTBSY, open("prog3", O_WRONLY));
	OK(unlink("prog2"));
	OK(unlink("prog3"));
	EQ(write(in[1], "x", 1), 1);
	ns_wait(pid);
}

static void written_right_after_it_ran(void)
{
	int i, fd;

	copy_program("prog", 0755);
	for (i = 0; i < 10; i++) {
		EQ(run("./prog", "--exit-42"), 42);
		fd = (int)OK(open("prog", O_RDWR | O_CLOEXEC));
		EQ(lseek(fd, 0, SEEK_END) > 0, 1);
		EQ(write(fd, "pad", 3), 3);
		close(fd);
	}
}

const struct ns_check checks_exec[] = {
	CHECK(programs_run),  CHECK(text_busy), CHECK(written_right_after_it_ran),
	CHECK(suid_programs), CHECKS_END,
};
