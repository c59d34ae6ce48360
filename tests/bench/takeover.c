/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of death: how long the next worker takes to answer, what a killed one costs its clients. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define KILLS_PER_S 8

/* ---- a worker that has much to take over ---- */

/* Opens as many files as the scale says; their descriptors begin at *fds, which the caller frees. */
static int open_files(struct bench *b, int **fds, int *opened)
{
	rlim_t want = (rlim_t)b->scale.open_files + 100;
	struct rlimit rl = {.rlim_cur = want, .rlim_max = want};
	char path[PATH_MAX], name[64];

	*opened = 0;
	*fds = calloc((size_t)b->scale.open_files, sizeof(**fds));
	if (!*fds || setrlimit(RLIMIT_NOFILE, &rl))
		return bench_fail(b, -errno, "cannot have %d descriptors", b->scale.open_files);
	for (int i = 0; i < b->scale.open_files; i++) {
		snprintf(name, sizeof(name), "inodes%d/f%d", i / BENCH_FILES_PER_DIR,
			 i % BENCH_FILES_PER_DIR);
		(*fds)[i] = open(path_in(path, bench_dir(b, SIDE_SPMFS), name), O_RDWR | O_CLOEXEC);
		if ((*fds)[i] < 0)
			return bench_fail(b, -errno, "cannot open %s", path);
		(*opened)++;
	}
	return 0;
}

/* From the signal to the answer to a question that only a worker can answer, in ms. */
static int time_takeover(struct bench *b, double *value)
{
	char path[PATH_MAX], buf[64];
	pid_t pid = (pid_t)strtol(server_feature(&b->server, "worker_pid", buf, sizeof(buf)), NULL, 10);
	struct stat st;
	int64_t t;

	if (pid <= 0)
		return bench_fail(b, -ESRCH, "no worker is named in %s/.spm/features", b->server.root);
	path_in(path, bench_dir(b, SIDE_SPMFS), "never-made");
	t = now_ns();
	if (kill(pid, SIGKILL))
		return bench_fail(b, -errno, "cannot kill the worker");
	if (!stat(path, &st) || errno != ENOENT)
		return bench_fail(b, -EIO, "the first answer after the death is %s", strerror(errno));
	*value = (double)(now_ns() - t) / 1e6;
	return 0;
}

/* All that was open is still open, and works. */
static int files_work(struct bench *b, const int *fds, int n)
{
	int64_t open_now = server_stat(&b->server, "open_direct") + server_stat(&b->server, "open_mirror");
	uint64_t word = 4711, back = 0;

	if (open_now != n)
		return bench_fail(b, UNFIT, "%d files are open, the new worker knows of %lld", n,
				  (long long)open_now);
	for (int i = 0; i < n; i += n / 100 + 1)
		if (pwrite(fds[i], &word, sizeof(word), 0) != sizeof(word) ||
		    pread(fds[i], &back, sizeof(back), 0) != sizeof(back) || back != word)
			return bench_fail(b, UNFIT, "an open file does not work after the takeover: %s",
					  strerror(errno));
	return 0;
}

static int takeover_sample(struct bench *b, enum side side, double *value)
{
	int rc, rc2, *fds = NULL, n = 0;
	int64_t known = 0;

	(void)side;
	rc = bench_inodes_make(b);
	if (!rc)
		rc = open_files(b, &fds, &n);
	if (!rc) {
		known = server_stat(&b->server, "inodes_known");
		rc = time_takeover(b, value);
	}
	server_find(&b->server, bench_dir(b, SIDE_SPMFS));
	if (!rc)
		rc = files_work(b, fds, n);
	for (int i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
	if (!rc && known < b->scale.inodes / 2)
		rc = bench_fail(b, UNFIT, "only %lld of %d inodes remembered: did somebody drop caches?",
				(long long)known, b->scale.inodes);
	bench_note(b, "%lld inodes known, %d files open", (long long)known, n);
	rc2 = bench_inodes_remove(b);
	return rc ? rc : rc2;
}

const struct probe takeover_probe = {
	.sample = takeover_sample,
	.once = true,
	.spmfs_only = true,
	.needs_server = true,
};

/* ---- the kill run ---- */

/* One run answers all its figures. */
static struct {
	bool done;
	int rc;
	double median, longest, pause[SIDES];
	char note[256];
} run;

/* killrun lies in the build directory as this program does. */
static int killrun_path(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	char *end;

	if (n <= 0)
		return -errno;
	path[n] = '\0';
	for (int up = 0; up < 2; up++) {
		end = strrchr(path, '/');
		if (!end)
			return -ENOENT;
		*end = '\0';
	}
	n = (ssize_t)strlen(path);
	return (size_t)snprintf(path + n, size - (size_t)n, "/progs/killrun") < size - (size_t)n
		       ? 0
		       : -ENAMETOOLONG;
}

static void killrun_line(const char *line)
{
	static const struct {
		const char *key;
		double *value;
	} keys[] = {
		{"# stall_median_ms ", &run.median},
		{"# stall_longest_ms ", &run.longest},
		{"# pause_direct_us ", &run.pause[SIDE_SPMFS]},
		{"# pause_tmpfs_us ", &run.pause[SIDE_TMPFS]},
	};
	unsigned int n;

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (!strncmp(line, keys[i].key, strlen(keys[i].key)))
			*keys[i].value = strtod(line + strlen(keys[i].key), NULL);
	if (sscanf(line, "# deaths %u", &n) == 1)
		snprintf(run.note, sizeof(run.note), "%u kills", n);
}

static int killrun_start(struct bench *b, const char *path, int *out)
{
	char seconds[16], kills[16];
	int pipe_fds[2];
	pid_t pid;

	snprintf(seconds, sizeof(seconds), "%d", b->scale.kill_s);
	snprintf(kills, sizeof(kills), "%d", b->scale.kill_s * KILLS_PER_S);
	if (pipe2(pipe_fds, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		dup2(pipe_fds[1], STDOUT_FILENO);
		execl(path, path, "-S", "--clean", "-s", seconds, "-k", kills, b->dir[SIDE_SPMFS],
		      b->dir[SIDE_TMPFS], NULL);
		_exit(127);
	}
	close(pipe_fds[1]);
	*out = pipe_fds[0];
	if (pid < 0)
		close(pipe_fds[0]);
	return pid < 0 ? -errno : pid;
}

static int killrun(struct bench *b)
{
	char path[PATH_MAX], line[512];
	int out = -1, pid, status, rc = killrun_path(path, sizeof(path));
	FILE *f;

	if (rc)
		return bench_fail(b, rc, "cannot find killrun");
	pid = killrun_start(b, path, &out);
	if (pid < 0)
		return bench_fail(b, pid, "cannot start %s", path);
	f = fdopen(out, "r");
	while (f && fgets(line, sizeof(line), f))
		killrun_line(line);
	if (f)
		fclose(f);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) == 127)
		return bench_fail(b, -EIO, "%s did not run", path);
	server_find(&b->server, bench_dir(b, SIDE_SPMFS));
	return WEXITSTATUS(status) ? bench_fail(b, UNFIT, "clients noticed the kills: run %s by hand", path)
				   : 0;
}

static int kill_sample(struct bench *b, enum side side, double *value)
{
	if (!run.done) {
		run.rc = killrun(b);
		run.done = true;
		if (run.rc)
			snprintf(run.note, sizeof(run.note), "%s", b->why);
	}
	if (run.rc) {
		snprintf(b->why, sizeof(b->why), "%s", run.note);
		return run.rc;
	}
	bench_note(b, "%s", run.note);
	if (b->fig->what == KILL_PAUSE)
		*value = run.pause[side];
	else
		*value = b->fig->what == KILL_MEDIAN ? run.median : run.longest;
	return 0;
}

const struct probe kill_probe = {
	.sample = kill_sample,
	.once = true,
	.spmfs_only = true,
	.needs_server = true,
};

const struct probe pause_probe = {
	.sample = kill_sample,
	.once = true,
	.needs_server = true,
};
