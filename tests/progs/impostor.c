/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program that is given to spmctl upgrade, and is not what it should be. The name under which it is called says
 * how:
 *
 *	silent		says nothing
 *	dies		ends at once
 *	refuses		says that it cannot take over
 *	other-state	speaks another version of the state
 *	says-hello	speaks the right one, and ends
 *	no-worker	says hello, and ends when it is asked for a worker
 *	idle-worker	says hello, and has a worker that never serves
 *	failing-worker	says hello, and has one that says why it cannot serve
 *
 *	impostor listen PATH	listens there instead of a keeper, and answers nobody, until it is killed
 *	impostor connect PATH	connects to a keeper, and says nothing, until it is killed
 */
#include "fs/handover.h"
#include "fs/state.h"

#include <libgen.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define STANDBY "--standby="

static void say(int sock, enum spm_word_kind kind, uint32_t value, const char *text)
{
	struct spm_word w = { .kind = kind, .value = value, .pid = getpid() };

	snprintf(w.text, sizeof(w.text), "%s", text);
	if (spm_word_send(sock, &w, -1))
		_exit(2);
}

static _Noreturn void wait_for_ever(void)
{
	for (;;)
		pause();
}

static int be_at(const char *path, bool listens)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || (listens ? bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 8) :
				 connect(fd, (struct sockaddr *)&addr, sizeof(addr)))) {
		perror(path);
		return 1;
	}
	wait_for_ever();
}

/* A worker that is there, and no more. */
static void start_worker(const int fd[static SPM_FDS], const char *how)
{
	struct spm_word w = { .kind = SPM_WORD_STARTED };
	pid_t pid = fork();
	int pidfd;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!strcmp(how, "failing-worker")) {
			say(fd[SPM_FD_WORKER], SPM_WORD_FAILED, 0, "the impostor cannot serve");
			_exit(1);
		}
		wait_for_ever();
	}
	w.pid = pid;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || spm_word_send(fd[SPM_FD_TALK], &w, pidfd))
		_exit(2);
	close(pidfd);
}

int main(int argc, char **argv)
{
	const char *how = basename(argv[0]);
	int fd[SPM_FDS];
	struct spm_word w;

	if (argc == 3 && (!strcmp(argv[1], "listen") || !strcmp(argv[1], "connect")))
		return be_at(argv[2], argv[1][0] == 'l');
	if (!strcmp(how, "silent"))
		wait_for_ever();
	if (!strcmp(how, "dies"))
		return 7;
	if (argc < 2 || strncmp(argv[1], STANDBY, strlen(STANDBY)) ||
	    !spm_fds_parse(argv[1] + strlen(STANDBY), fd)) {
		fprintf(stderr, "impostor: called in another way than a keeper calls its standby\n");
		return 2;
	}
	if (!strcmp(how, "refuses")) {
		say(fd[SPM_FD_TALK], SPM_WORD_REFUSED, 0, "the impostor does not want to");
		return 0;
	}
	say(fd[SPM_FD_TALK], SPM_WORD_HELLO, SPM_STATE_VERSION + !strcmp(how, "other-state"), "9.9.9");
	if (!strcmp(how, "says-hello"))
		return 0;
	while (!spm_word_take(fd[SPM_FD_TALK], &w, NULL)) {
		if (w.kind != SPM_WORD_START)
			continue;
		if (!strcmp(how, "no-worker"))
			return 0;
		start_worker(fd, how);
	}
	return 0;
}
