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
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PROCESSES = 26, BASES = 8 };

static unsigned int processes = 8;
static unsigned long seconds = 60, operations;
static uint64_t seed;
static bool no_suid;
static const char *sides[2];
static atomic_ulong *total_ops;

uint64_t rnd(struct world *w)
{
	uint64_t z = w->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void random_bytes(struct world *w, char *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 8) {
		uint64_t v = rnd(w);

		memcpy(buf + i, &v, len - i < 8 ? len - i : 8);
	}
}

void say(struct world *w, const char *fmt, ...)
{
	char *line = w->log[w->ops % LOG_LINES];
	va_list ap;
	int n = snprintf(line, LOG_WIDTH, "%lu: ", w->ops);

	va_start(ap, fmt);
	vsnprintf(line + n, LOG_WIDTH - (size_t)n, fmt, ap);
	va_end(ap);
}

void differ(struct world *w, const char *fmt, ...)
{
	unsigned long i, first = w->ops >= LOG_LINES ? w->ops - LOG_LINES + 1 : 0;
	static char text[65536];
	size_t used = 0;
	va_list ap;

	used += (size_t)snprintf(text, sizeof(text), "# process %u, the last operations:\n", w->id);
	for (i = first; i <= w->ops && used < sizeof(text) - LOG_WIDTH - 8; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "#   %s\n", w->log[i % LOG_LINES]);
	used += (size_t)snprintf(text + used, sizeof(text) - used, "# process %u: DIFFERENCE: ", w->id);
	va_start(ap, fmt);
	if (used < sizeof(text))
		used += (size_t)vsnprintf(text + used, sizeof(text) - used, fmt, ap);
	va_end(ap);
	if (used > sizeof(text) - 2)
		used = sizeof(text) - 2;
	text[used++] = '\n';
	if (write(STDOUT_FILENO, text, used) < 0)
		_exit(2);
	_exit(1);
}

static void open_world(struct world *w, unsigned int id)
{
	char name[16];
	unsigned int i;
	int s;

	memset(w, 0, sizeof(*w));
	w->id = id;
	w->no_suid = no_suid;
	w->rng = seed + id * 1000003u;
	for (i = 0; i < SLOTS; i++)
		w->slots[i].fd[0] = w->slots[i].fd[1] = -1;
	snprintf(name, sizeof(name), "p%u", id);
	for (s = 0; s < 2; s++) {
		int top = open(sides[s], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		/* everybody may work in it, or the user of the operations had nothing to do */
		if (mkdirat(top, name, 0755) || fchmodat(top, name, 0777, 0))
			differ(w, "mkdir %s/%s: %s", sides[s], name, strerror(errno));
		w->root[s] = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		w->buf[s] = malloc(MAX_SIZE);
		close(top);
	}
	w->data = malloc(MAX_SIZE + 8);
}

static void run_process(unsigned int id)
{
	static struct world w;
	time_t end = time(NULL) + (time_t)seconds;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (setgroups(1, (gid_t[]){40002}))
		_exit(2);
	umask(022);
	open_world(&w, id);
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

/* The directory that all share, with files that stay as they are. */
static int make_shared(void)
{
	static struct world w = {.rng = 42};
	static char data[MAX_SIZE];
	char path[PATH_MAX];
	unsigned int i;
	int s, fd;

	for (i = 0; i < BASES; i++) {
		random_bytes(&w, data, sizeof(data));
		for (s = 0; s < 2; s++) {
			snprintf(path, sizeof(path), "%s/shared", sides[s]);
			if (!i && (mkdir(path, 0777) || chmod(path, 0777)))
				return -1;
			snprintf(path, sizeof(path), "%s/shared/base%u", sides[s], i);
			fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
			if (fd < 0 || write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
				return -1;
			close(fd);
		}
	}
	return 0;
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
	if (total_ops == MAP_FAILED || make_shared()) {
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
