/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * faults: lets the worker of a spmfs mount die at each step of each request, and compares what the client sees with
 * plain tmpfs.
 *
 *	faults [-n] [-k plain|served|mirror|full] [-a ACTION] [-o OP] [-p STEP] [-c CASE] TESTED REFERENCE
 *	faults ops | steps
 *
 * The mount must have been made with SPMFS_FAULTS=1 in the environment. -k says of which kind its files are: only the
 * cases that send their request there are run. One line of TAP for each case and step; a case is run in a process of its
 * own. -n has nobody die: the cases alone. "ops" lists the requests that have cases, "steps" the steps.
 */
#include "tests/progs/faults.h"
#include "fs/state.h"
#include "tests/progs/killrun.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { FIRE_S = 5, CASE_S = 60 };

static const char *sides[2];
static const char *only_op, *only_step, *only_case;
static const char *action = "kill";
static unsigned int kind = PLAIN;
static bool no_deaths;
static struct target target;
static pid_t stopped;

void worker_stop(void)
{
	stopped = no_deaths ? 0 : target_find(&target, SERVER_WORKER);
	if (stopped > 0)
		kill(stopped, SIGSTOP);
}

void worker_go_on(void)
{
	if (stopped > 0)
		kill(stopped, SIGCONT);
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static unsigned int restarts(void)
{
	return *(const volatile uint32_t *)&target.state->restarts;
}

/* How many points are still armed. */
static unsigned int armed(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < SPM_FAULTS; i++)
		n += *(const volatile uint32_t *)&target.state->fault[i].left != 0;
	return n;
}

/* Through the state itself: a control file would make requests of its own. */
static void arm(struct world *w, const char *op, const char *step, unsigned int pass)
{
	struct spm_fault_point p = {.times = 1};
	struct spm_fault_point *to = &target.state->fault[0];

	if (!target.state->faults_on)
		differ(w, "the mount was not made with SPMFS_FAULTS=1");
	p.action = !strcmp(action, "segv") ? 2 : !strcmp(action, "abort") ? 3 : 1;
	snprintf(p.at, sizeof(p.at), "%.14s:%.24s", op, step);
	*to = p;
	__atomic_store_n(&to->left, pass, __ATOMIC_RELEASE);
}

/* The death may come after the answer: the new worker is waited for in any case. */
static void must_have_died(struct world *w, unsigned int before)
{
	uint64_t until = stress_now() + FIRE_S * UINT64_C(1000000000);

	while ((armed() || restarts() == before) && stress_now() < until)
		pause_ms(1);
	if (armed())
		differ(w, "the point was not passed");
	if (restarts() == before)
		differ(w, "no worker was started");
}

/* A count of opens or a backing id that was lost would keep the file direct. */
static void must_become_mirror(struct world *w)
{
	struct stat st;
	char text[512];
	ssize_t n;
	int fd;

	if (fstatat(w->root[0], "f", &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return;
	fd = openat(w->root[0], "f", O_RDONLY | O_CLOEXEC);
	fsetxattr(fd, "user.spm.map", "mirror", 6, 0);
	close(fd);
	fd = openat(w->root[0], "f", O_RDONLY | O_CLOEXEC);
	n = fgetxattr(fd, "system.spm.file", text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	if (!strstr(text, "mode mirror"))
		differ(w, "after the last close the file does not become a mirror: %s", text);
	close(fd);
}

static void check(struct world *w)
{
	struct slot *slot = &w->slots[0];

	if (slot->fd[0] >= 0) {
		same_fd(w, slot);
		BOTH(w, pread(slot->fd[s], w->buf[s], MAX_SIZE, 0));
		if (w->res[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
			differ(w, "the open file reads differently");
	}
	same_tree(w, w->root, "the directory");
	if (slot->fd[0] >= 0) {
		close(slot->fd[0]);
		close(slot->fd[1]);
	}
	same_tree(w, w->root, "the directory after close");
	if (kind != MIRROR)
		must_become_mirror(w);
}

static void __attribute__((noreturn))
run_case(const struct fault_case *c, const char *step, unsigned int number)
{
	static struct world w;
	char name[24];
	const char *nth;
	unsigned int before, pass = 1;

	alarm(CASE_S);
	open_world(&w, sides, number, 4711);
	nth = strchr(step, '#');
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(step, "#"), step);
	if (nth)
		pass = (unsigned int)strtoul(nth + 1, NULL, 10);
	say(&w, "setup of %s", c->name);
	c->setup(&w);
	w.ops++;
	say(&w, "%s with a death at %s:%s", c->name, c->op, step);
	before = no_deaths ? 0 : restarts();
	if (!no_deaths)
		arm(&w, c->op, name, pass);
	c->act(&w);
	if (!no_deaths)
		must_have_died(&w, before);
	w.ops++;
	say(&w, "check");
	check(&w);
	if (!no_deaths && restarts() != before + 1)
		differ(&w, "%u workers were started", restarts() - before);
	_exit(0);
}

static bool died_well(const struct fault_case *c, const char *step, unsigned int number)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (!pid)
		run_case(c, step, number);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("# %s\n", WTERMSIG(status) == SIGALRM ? "the client waits for ever"
							     : strsignal(WTERMSIG(status)));
	if (!no_deaths)
		memset(&target.state->fault[0], 0, sizeof(target.state->fault[0]));
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* 1 when one of them failed. */
static int run_steps(const struct fault_case *c, unsigned int *number)
{
	char steps[128], *word, *rest = NULL;
	int failed = 0;

	snprintf(steps, sizeof(steps), "%s", c->steps);
	for (word = strtok_r(steps, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		bool good;

		if (only_step && strcmp(only_step, word))
			continue;
		good = died_well(c, word, ++*number);
		printf("%s %u - %s:%s, %s\n", good ? "ok" : "not ok", *number, c->op, word, c->name);
		failed |= !good;
		if (no_deaths)
			break;
	}
	return failed;
}

static int list(bool steps)
{
	char words[128], *word, *rest = NULL;

	for (unsigned int i = 0; i < fault_case_count; i++) {
		if (!steps) {
			puts(fault_cases[i].op);
			continue;
		}
		snprintf(words, sizeof(words), "%s", fault_cases[i].steps);
		for (word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
			printf("%.*s\n", (int)strcspn(word, "#"), word);
	}
	return 0;
}

static unsigned int kind_of(const char *word)
{
	static const char *const words[] = { "plain", "served", "mirror", "full" };

	for (unsigned int i = 0; i < 4; i++)
		if (!strcmp(words[i], word))
			return 1u << i;
	return 0;
}

static int usage(void)
{
	fputs("usage: faults [-n] [-k plain|served|mirror|full] [-a ACTION] [-o OP] [-p STEP] [-c CASE] TESTED "
	      "REFERENCE\n"
	      "       faults ops | steps\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	unsigned int i, number = 0;
	int c, failed = 0;

	while ((c = getopt(argc, argv, "nk:a:o:p:c:")) != -1) {
		if (c == 'k')
			kind = kind_of(optarg);
		else if (c == 'n')
			no_deaths = true;
		else if (c == 'a')
			action = optarg;
		else if (c == 'o')
			only_op = optarg;
		else if (c == 'p')
			only_step = optarg;
		else if (c == 'c')
			only_case = optarg;
		else
			return usage();
	}
	if (argc - optind == 1 && (!strcmp(argv[optind], "ops") || !strcmp(argv[optind], "steps")))
		return list(!strcmp(argv[optind], "steps"));
	if (argc - optind != 2 || !kind)
		return usage();
	sides[0] = argv[optind];
	sides[1] = argv[optind + 1];
	if (!no_deaths && target_open(&target, sides[0]))
		return 2;
	umask(022);
	for (i = 0; i < fault_case_count; i++)
		if (fault_cases[i].kinds & kind && (!only_op || !strcmp(only_op, fault_cases[i].op)) &&
		    (!only_case || !strcmp(only_case, fault_cases[i].name)))
			failed |= run_steps(&fault_cases[i], &number);
	printf("1..%u\n", number);
	return failed;
}
