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

/* Processes that hold open files, since one may not have so many. */
struct holders {
	pid_t pid[64];
	int count, files;
	int go[2];   /* the holders end when the writing end is closed */
	int told[2]; /* each sends one byte: 0, or an errno */
};

/* Opens files @from to @to, says so, and waits. Each is written and read then, to see that it still works. */
static int hold_files(const struct bench *b, const struct holders *h, int from, int to)
{
	uint64_t word = 4711, back = 0;
	char path[PATH_MAX], name[64], c = 0;
	int fd, last = -1;

	close(h->go[1]);
	for (int i = from; i < to; i++) {
		snprintf(name, sizeof(name), "inodes%d/f%d", i / BENCH_FILES_PER_DIR,
			 i % BENCH_FILES_PER_DIR);
		fd = open(path_in(path, bench_dir(b, SIDE_SPMFS), name), O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			c = (char)errno;
			break;
		}
		last = fd;
	}
	if (write(h->told[1], &c, 1) != 1 || c)
		return 1;
	while (read(h->go[0], &c, 1) < 0 && errno == EINTR)
		;
	return pwrite(last, &word, sizeof(word), 0) != sizeof(word) ||
	       pread(last, &back, sizeof(back), 0) != sizeof(back) || back != word;
}

/* As many files as the scale says, or as processes of this one's limit can hold. */
static int open_files(struct bench *b, struct holders *h)
{
	struct rlimit rl;
	int each, rc = 0;
	char c = 0;

	if (getrlimit(RLIMIT_NOFILE, &rl) || pipe2(h->go, O_CLOEXEC) || pipe2(h->told, O_CLOEXEC))
		return bench_fail(b, -errno, "cannot prepare processes");
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	each = rl.rlim_max > 20000 ? 19900 : (int)rl.rlim_max - 100;
	fflush(NULL);
	while (h->files < b->scale.open_files && h->count < 64 && !rc) {
		int to = h->files + each < b->scale.open_files ? h->files + each : b->scale.open_files;
		pid_t pid = fork();

		if (!pid)
			_exit(hold_files(b, h, h->files, to));
		if (pid < 0)
			return bench_fail(b, -errno, "cannot start a process that holds files");
		h->pid[h->count++] = pid;
		if (read(h->told[0], &c, 1) != 1 || c)
			rc = bench_fail(b, -c, "cannot open %d files", b->scale.open_files);
		h->files = to;
	}
	return rc;
}

/* Lets them look at a file each, and end. */
static int end_holders(struct bench *b, struct holders *h)
{
	int rc = 0, status;

	close(h->go[1]);
	for (int i = 0; i < h->count; i++)
		if (waitpid(h->pid[i], &status, 0) != h->pid[i] || status)
			rc = bench_fail(b, UNFIT, "an open file does not work after the takeover");
	close(h->go[0]);
	close(h->told[0]);
	close(h->told[1]);
	return rc;
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

static int takeover_sample(struct bench *b, enum side side, double *value)
{
	struct holders h = {.go = {-1, -1}, .told = {-1, -1}};
	int64_t known = 0, still = 0;
	int rc, rc2;

	(void)side;
	rc = bench_inodes_make(b);
	if (!rc)
		rc = open_files(b, &h);
	if (!rc) {
		known = server_stat(&b->server, "inodes_known");
		rc = time_takeover(b, value);
	}
	server_find(&b->server, bench_dir(b, SIDE_SPMFS));
	if (!rc)
		still = server_stat(&b->server, "open_direct") + server_stat(&b->server, "open_mirror");
	rc2 = end_holders(b, &h);
	rc = rc ? rc : rc2;
	if (!rc && still < h.files)
		rc = bench_fail(b, UNFIT, "%d files are open, the new worker knows of %lld", h.files,
				(long long)still);
	if (!rc && known < b->scale.inodes / 2)
		rc = bench_fail(b, UNFIT, "only %lld of %d inodes remembered: did somebody drop caches?",
				(long long)known, b->scale.inodes);
	bench_note(b, "%lld inodes known, %lld files open", (long long)known, (long long)still);
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
