/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * treestress: random operations on a tested directory and on a reference (plain tmpfs), by several processes
 *at once. Results, errno, data and attributes are compared after each operation, the trees at the end. Each
 *process has a directory of its own, and all share one where each uses names of its own, so that every result
 *is determined.
 *
 *	treestress [-S] [-n PROCESSES] [-s SECONDS] [-o OPERATIONS] [-r SEED] TESTED REFERENCE
 *
 * -S leaves out suid and sgid bits of regular files. With the seed and -o instead of -s a run can be
 *repeated.
 */
#include "tests/namespace/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PROCESSES = 26 };

static unsigned int processes = 8;
static unsigned long seconds = 60, operations;
static uint64_t seed;
static bool no_suid;
static const char *sides[2];
static atomic_ulong *total_ops;

static void run_process(unsigned int id)
{
	static struct world w;
	time_t end = time(NULL) + (time_t)seconds;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (setgroups(1, (gid_t[]){40002}))
		_exit(2);
	umask(022);
	w.no_suid = no_suid;
	open_world(&w, sides, id, seed);
	while (operations ? w.ops < operations : time(NULL) < end) {
		one_operation(&w);
		if (w.ops % 3000 == 0)
			same_tree(&w, w.root, "the own tree");
	}
	same_tree(&w, w.root, "the own tree");
	close_all(&w);
	same_tree(&w, w.root, "the own tree after close");
	atomic_fetch_add(total_ops, w.ops);
	_exit(0);
}

/* Lets all processes run to their end, or ends the others when one found a difference; true when all was
 * well. */
static bool run_all(void)
{
	pid_t pids[MAX_PROCESSES];
	unsigned int i, left = processes;
	bool good = true;
	int status;

	for (i = 0; i < processes; i++) {
		pids[i] = fork();
		if (!pids[i])
			run_process(i);
		if (pids[i] < 0) {
			perror("treestress: fork");
			good = false;
			left = i;
			break;
		}
	}
	while (left) {
		pid_t pid = waitpid(-1, &status, 0);

		if (pid < 0)
			break;
		left--;
		for (i = 0; i < processes; i++)
			if (pids[i] == pid)
				pids[i] = 0;
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			continue;
		if (WIFSIGNALED(status) && good)
			printf("# a process was ended by signal %d\n", WTERMSIG(status));
		for (i = 0; i < processes && good; i++)
			if (pids[i])
				kill(pids[i], SIGKILL);
		good = false;
	}
	return good;
}

static bool same_shared(void)
{
	static struct world w;
	int dirs[2], s, status;
	pid_t pid = fork();

	if (!pid) {
		for (s = 0; s < 2; s++) {
			int top = open(sides[s], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			dirs[s] = openat(top, "shared", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (dirs[s] < 0)
				differ(&w, "%s/shared cannot be opened: %s", sides[s], strerror(errno));
			w.buf[s] = malloc(MAX_SIZE);
		}
		same_tree(&w, dirs, "the shared directory");
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static int usage(void)
{
	fputs("usage: treestress [-S] [-n PROCESSES] [-s SECONDS] [-o OPERATIONS] [-r SEED] TESTED "
	      "REFERENCE\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	bool good;
	int c;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return 2;
	while ((c = getopt(argc, argv, "Sn:s:o:r:")) != -1) {
		if (c == 'S')
			no_suid = true;
		else if (c == 'n')
			processes = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 's')
			seconds = strtoul(optarg, NULL, 10);
		else if (c == 'o')
			operations = strtoul(optarg, NULL, 10);
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else
			return usage();
	}
	if (argc - optind != 2 || !processes || processes > MAX_PROCESSES || !(seconds + operations))
		return usage();
	sides[0] = argv[optind];
	sides[1] = argv[optind + 1];
	total_ops = mmap(NULL, sizeof(*total_ops), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	umask(0);
	if (total_ops == MAP_FAILED || make_shared(sides)) {
		perror("treestress: cannot prepare");
		return 2;
	}
	printf("# seed 0x%llx, %u processes\n", (unsigned long long)seed, processes);
	fflush(stdout);
	good = run_all() && same_shared();
	if (good)
		printf("# %lu operations on both sides, no difference\n", atomic_load(total_ops));
	else
		printf("# to repeat: treestress %s-n %u -r 0x%llx %s%lu TESTED REFERENCE\n",
		       no_suid ? "-S " : "", processes, (unsigned long long)seed, operations ? "-o " : "-s ",
		       operations ? operations : seconds);
	return good ? 0 : 1;
}
