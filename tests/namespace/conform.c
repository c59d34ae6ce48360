/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nsconform: is the filesystem at DIR what tmpfs is? Runs as root, prints TAP.
 *
 *	nsconform [-l] [-g GROUP[,GROUP]] [-o GLOB]... [-x GLOB]... [-b ENTRIES] [-t SECONDS] DIR
 */
#include "tests/namespace/ns.h"
#include "tests/namespace/run.h"

#include <dirent.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static const struct ns_group groups[] = {
	{"path", checks_path, false},	      {"mode", checks_mode, false},
	{"owner", checks_owner, false},	      {"suid", checks_suid, false},
	{"link", checks_link, false},	      {"dir", checks_dir, false},
	{"node", checks_node, false},	      {"open", checks_open, false},
	{"unlinked", checks_unlinked, false}, {"rename", checks_rename, false},
	{"time", checks_time, false},	      {"xattr", checks_xattr, false},
	{"acl", checks_acl, false},	      {"data", checks_data, false},
	{"space", checks_space, false},	      {"mmap", checks_mmap, false},
	{"exec", checks_exec, false},	      {"lock", checks_lock, false},
	{"list", checks_list, false},	      {"notify", checks_notify, false},
	{"flags", checks_flags, false},	      {"full", checks_full, true},
};

enum { MAX_GLOBS = 64 };

struct ns_shared *ns_shared;
unsigned int ns_entries = 20000;
const char *ns_self;

static const char *only[MAX_GLOBS], *skipped[MAX_GLOBS];
static unsigned int n_only, n_skipped, check_seconds = 120;
static const char *wanted_groups;

static bool group_wanted(const struct ns_group *g)
{
	const char *p = wanted_groups;
	size_t n = strlen(g->name);

	if (!p)
		return !g->by_request;
	while (p) {
		if (!strncmp(p, g->name, n) && (p[n] == ',' || !p[n]))
			return true;
		p = strchr(p, ',');
		if (p)
			p++;
	}
	return false;
}

static bool matches(const char *name, const char *const *globs, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (!fnmatch(globs[i], name, 0))
			return true;
	return false;
}

/* Removes a tree below a directory; false when something of it stays. */
static bool remove_tree(int dirfd, const char *name)
{
	struct dirent *e;
	int fd;
	DIR *d;

	if (!unlinkat(dirfd, name, 0))
		return true;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return false;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			remove_tree(fd, e->d_name);
	closedir(d);
	return !unlinkat(dirfd, name, AT_REMOVEDIR);
}

static void run_check(int dirfd, const char *dir, void (*fn)(void))
{
	setpgid(0, 0);
	umask(0);
	if (mkdirat(dirfd, dir, 0755) || fchdir(dirfd) || chdir(dir)) {
		FAIL("no directory %s for the check: %s", dir, strerror(errno));
		_exit(1);
	}
	fn();
	_exit(0);
}

/* Waits for the check, not for ever; false when even SIGKILL does not end it. */
static bool wait_check(pid_t pid, int *status)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	bool ended;

	if (poll(&p, 1, (int)check_seconds * 1000) != 1) {
		printf("# no end within %u s\n", check_seconds);
		atomic_fetch_add(&ns_shared->failures, 1);
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	ended = poll(&p, 1, 20000) == 1 && waitpid(pid, status, 0) == pid;
	kill(-pid, SIGKILL);
	close(pidfd);
	return ended;
}

/* One check; true when it passed (or was skipped). */
static bool run_one(int dirfd, unsigned int number, const char *name, void (*fn)(void))
{
	unsigned long before = atomic_load(&ns_shared->failures);
	char dir[32];
	int status = 0;
	pid_t pid;

	snprintf(dir, sizeof(dir), "check-%u", number);
	ns_shared->skip[0] = '\0';
	fflush(stdout);
	pid = fork();
	if (!pid)
		run_check(dirfd, dir, fn);
	if (pid < 0 || !wait_check(pid, &status)) {
		printf("not ok %u - %s\nBail out! a check cannot be ended\n", number, name);
		exit(1);
	}
	if (WIFSIGNALED(status)) {
		printf("# ended by signal %d\n", WTERMSIG(status));
		atomic_fetch_add(&ns_shared->failures, 1);
	} else if (WEXITSTATUS(status)) {
		atomic_fetch_add(&ns_shared->failures, 1);
	}
	if (!remove_tree(dirfd, dir) && errno != ENOENT) {
		printf("# its directory %s cannot be removed: %s\n", dir, strerror(errno));
		atomic_fetch_add(&ns_shared->failures, 1);
	}
	if (atomic_load(&ns_shared->failures) != before) {
		printf("not ok %u - %s\n", number, name);
		return false;
	}
	printf("ok %u - %s%s%s\n", number, name, ns_shared->skip[0] ? " # SKIP " : "", ns_shared->skip);
	return true;
}

/* Calls run_one for every chosen check, or only counts or lists them. */
static unsigned int each_check(int dirfd, bool list, unsigned int *failed)
{
	unsigned int n = 0;
	size_t g, i;

	for (g = 0; g < NS_LEN(groups); g++) {
		if (!group_wanted(&groups[g]))
			continue;
		for (i = 0; groups[g].checks[i].name; i++) {
			char name[128];

			snprintf(name, sizeof(name), "%s/%s", groups[g].name, groups[g].checks[i].name);
			if ((n_only && !matches(name, only, n_only)) || matches(name, skipped, n_skipped))
				continue;
			n++;
			if (list)
				puts(name);
			else if (failed && !run_one(dirfd, n, name, groups[g].checks[i].fn))
				(*failed)++;
		}
	}
	return n;
}

static bool group_names_valid(void)
{
	char *copy = strdup(wanted_groups ? wanted_groups : ""), *save = NULL, *p;
	bool good = true;
	size_t g;

	for (p = strtok_r(copy, ",", &save); p && good; p = strtok_r(NULL, ",", &save)) {
		for (g = 0; g < NS_LEN(groups) && strcmp(groups[g].name, p); g++)
			;
		good = g < NS_LEN(groups);
		if (!good)
			fprintf(stderr, "nsconform: no group \"%s\"\n", p);
	}
	free(copy);
	return good;
}

static int usage(void)
{
	fputs("usage: nsconform [-l] [-g GROUP[,GROUP]] [-o GLOB]... [-x GLOB]... [-b ENTRIES] [-t SECONDS] "
	      "DIR\n"
	      "-l lists the checks, -o runs only those that match, -x leaves out those that match\n",
	      stderr);
	return 2;
}

static int parse(int argc, char **argv, bool *list)
{
	int c;

	while ((c = getopt(argc, argv, "lg:o:x:b:t:")) != -1) {
		if (c == 'l')
			*list = true;
		else if (c == 'g')
			wanted_groups = optarg;
		else if (c == 'o' && n_only < MAX_GLOBS)
			only[n_only++] = optarg;
		else if (c == 'x' && n_skipped < MAX_GLOBS)
			skipped[n_skipped++] = optarg;
		else if (c == 'b')
			ns_entries = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 't')
			check_seconds = (unsigned int)strtoul(optarg, NULL, 10);
		else
			return usage();
	}
	if (argc - optind != !*list || ns_entries < 100 || !check_seconds || !group_names_valid())
		return usage();
	return 0;
}

/* Exec checks run this program once more, from the tested filesystem; -1 when this is not such a run. */
static int as_program(int argc, char **argv)
{
	char c;

	if (argc < 2)
		return -1;
	if (!strcmp(argv[1], "--exit-42"))
		return 42;
	if (!strcmp(argv[1], "--wait"))
		return read(STDIN_FILENO, &c, 1) == 1 ? 0 : 1;
	if (argc == 3 && !strcmp(argv[1], "--euid"))
		return geteuid() == strtoul(argv[2], NULL, 10) ? 0 : 1;
	return -1;
}

int main(int argc, char **argv)
{
	unsigned int n, failed = 0;
	bool list = false;
	int dirfd, rc;

	rc = as_program(argc, argv);
	if (rc >= 0)
		_exit(rc); /* as a suid program, no place for a leak checker */
	rc = parse(argc, argv, &list);
	if (rc)
		return rc;
	if (list)
		return each_check(-1, true, NULL) ? 0 : 2;
	if (geteuid()) {
		puts("1..0 # SKIP needs root");
		return 77;
	}
	ns_self = realpath("/proc/self/exe", NULL);
	ns_shared = mmap(NULL, sizeof(*ns_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dirfd = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ns_shared == MAP_FAILED || dirfd < 0 || !ns_self) {
		fprintf(stderr, "nsconform: %s: %s\n", argv[optind], strerror(errno));
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	n = each_check(dirfd, false, NULL);
	if (!n) {
		fputs("nsconform: no check matches\n", stderr);
		return 2;
	}
	printf("1..%u\n", n);
	each_check(dirfd, false, &failed);
	printf("# %u checks, %u failed; %lu expectations, %lu not met\n", n, failed, ns_shared->asserts,
	       ns_shared->failures);
	return failed ? 1 : 0;
}
