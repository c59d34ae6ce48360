/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The actor: reads a command a line, answers each with one line, "ok [TEXT]" or "err NAME". It lives as long
 * as the test wants, so a script can say step by step who holds what.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/progs/spmt.h"

static int split(char *line, char **argv)
{
	int n = 0;

	for (char *s = line; *s && n < SPMT_MAX_ARGS;) {
		while (isspace((unsigned char)*s))
			*s++ = '\0';
		if (!*s)
			break;
		argv[n++] = s;
		while (*s && !isspace((unsigned char)*s))
			s++;
	}
	return n;
}

static const struct spmt_cmd *find_in(const struct spmt_cmd *cmds, const char *name)
{
	for (; cmds->name; cmds++)
		if (!strcmp(cmds->name, name))
			return cmds;
	return NULL;
}

static const struct spmt_cmd *find(const char *name)
{
	const struct spmt_cmd *const all[] = { spmt_file_cmds, spmt_map_cmds, spmt_page_cmds,
					       spmt_proc_cmds };
	const struct spmt_cmd *c = NULL;

	for (size_t i = 0; !c && i < sizeof(all) / sizeof(all[0]); i++)
		c = find_in(all[i], name);
	return c;
}

static int run_line(char *line)
{
	char *argv[SPMT_MAX_ARGS + 1] = { NULL };
	const struct spmt_cmd *c;
	int argc = split(line, argv), rc;

	spmt_reply[0] = '\0';
	c = argc ? find(argv[0]) : NULL;
	if (!c || argc - 1 < c->min_args) {
		fprintf(stderr, "spmt: no such command or too few arguments: %s\n", argc ? argv[0] : "");
		exit(2);
	}
	rc = c->fn(argc, argv);
	printf("%s%s%s%s\n", rc < 0 ? "err " : "ok", rc < 0 ? strerrorname_np(-rc) : "",
	       *spmt_reply ? " " : "", spmt_reply);
	fflush(stdout);
	return rc;
}

int spmt_actor(int argc, char **argv)
{
	char *line = NULL;
	size_t cap = 0;

	while (getline(&line, &cap, stdin) > 0) {
		if (!strcmp(line, "quit\n"))
			break;
		run_line(line);
	}
	free(line);
	puts("ok");
	return 0;
}

int spmt_run(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *line = strdup(argv[i]);
		int rc = line ? run_line(line) : -ENOMEM;

		free(line);
		if (rc < 0)
			return 1;
	}
	return 0;
}

/* The child goes on in the parent's place: what it inherited is then held by it alone. */
static int cmd_fork(int argc, char **argv)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0)
		_exit(0);
	return spmt_say("%d", getpid());
}

static int cmd_pid(int argc, char **argv)
{
	return spmt_say("%d", getpid());
}

static int cmd_limit(int argc, char **argv)
{
	const struct {
		const char *name;
		int id;
	} limits[] = { { "nofile", RLIMIT_NOFILE },
		       { "memlock", RLIMIT_MEMLOCK },
		       { "fsize", RLIMIT_FSIZE } };

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit r = { .rlim_cur = spmt_num(argv[2]), .rlim_max = spmt_num(argv[2]) };

		if (!strcmp(argv[1], limits[i].name))
			return setrlimit(limits[i].id, &r) ? -errno : 0;
	}
	return -EINVAL;
}

static int cmd_chdir(int argc, char **argv)
{
	return chdir(argv[1]) ? -errno : 0;
}

const struct spmt_cmd spmt_proc_cmds[] = {
	{ "fork", 0, cmd_fork },   { "pid", 0, cmd_pid },
	{ "limit", 2, cmd_limit }, /* nofile|memlock|fsize N */
	{ "chdir", 1, cmd_chdir }, { NULL },
};
