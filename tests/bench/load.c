/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of the processor: what the server uses, and what clients leave to others. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

#define MAX_CHILDREN 96

/* Shared with the children; each counter has a cache line for itself. */
struct shared {
	_Atomic int ready, go, stop, err;
	struct {
		_Alignas(64) _Atomic uint64_t n;
	} count[MAX_CHILDREN];
};

/* Clients come first among the children, then the co-runners. */
struct load {
	struct shared *sh;
	pid_t pid[MAX_CHILDREN];
	int clients, children;
};

/* What one window of a load gave. */
struct window {
	double ops, spins; /* per second, all clients; per second and co-runner */
	double client_ns, server_ns, wall_ns;
};

static double alone; /* spins per second of a co-runner without clients, in this round */

/* Four operations in a directory of the client's own, which has a file "f". */
static int client_cycle(int dir, unsigned int i)
{
	char name[32], to[32];
	int fd;

	snprintf(name, sizeof(name), "c%u", i);
	snprintf(to, sizeof(to), "r%u", i);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || close(fd) || renameat(dir, name, dir, to) || unlinkat(dir, to, 0))
		return -errno;
	fd = openat(dir, "f", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || close(fd) || mkdirat(dir, name, 0755) || unlinkat(dir, name, AT_REMOVEDIR))
		return -errno;
	return 0;
}

static int client_prepare(const char *path)
{
	int dir, fd;

	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = openat(dir, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0) {
		int err = errno;

		close(dir);
		return -err;
	}
	close(fd);
	return dir;
}

static int client_main(struct shared *sh, int me, const char *path)
{
	int dir = client_prepare(path), rc = dir < 0 ? dir : 0;

	atomic_fetch_add(&sh->ready, 1);
	while (!rc && !atomic_load_explicit(&sh->go, memory_order_relaxed))
		pause_ms(1);
	for (unsigned int i = 0; !rc && !atomic_load_explicit(&sh->stop, memory_order_relaxed); i++) {
		rc = client_cycle(dir, i);
		atomic_fetch_add_explicit(&sh->count[me].n, 4, memory_order_relaxed);
	}
	if (dir >= 0) {
		unlinkat(dir, "f", 0);
		rmdir(path);
	}
	return rc;
}

/* Computes on one processor, touching no file. */
static int corunner_main(struct shared *sh, int me, int cpu)
{
	uint64_t seed = 88172645463325252;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return -errno;
	atomic_fetch_add(&sh->ready, 1);
	while (!atomic_load_explicit(&sh->stop, memory_order_relaxed)) {
		for (int i = 0; i < 1000; i++)
			next_random(&seed);
		atomic_store_explicit(&sh->count[me].n, seed ? atomic_load(&sh->count[me].n) + 1 : 0,
				      memory_order_relaxed);
	}
	return 0;
}

static int load_child(struct load *l, pid_t parent, int me, const char *path, int cpu)
{
	int rc;

	/* No child outlives a bench that was killed. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return 1;
	rc = path ? client_main(l->sh, me, path) : corunner_main(l->sh, me, cpu);
	if (rc)
		atomic_store(&l->sh->err, -rc);
	return rc ? 1 : 0;
}

static int load_fork(struct load *l, const char *path, int cpu)
{
	pid_t parent = getpid(), pid;

	if (l->children == MAX_CHILDREN)
		return -E2BIG;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(load_child(l, parent, l->children, path, cpu));
	l->pid[l->children++] = pid;
	return 0;
}

static int load_stop(struct load *l)
{
	int rc = 0;

	if (!l->sh)
		return 0;
	atomic_store(&l->sh->go, 1);
	atomic_store(&l->sh->stop, 1);
	for (int i = 0; i < l->children; i++) {
		int status;

		if (waitpid(l->pid[i], &status, 0) == l->pid[i] && status && !rc)
			rc = -EIO;
	}
	if (rc && atomic_load(&l->sh->err))
		rc = -atomic_load(&l->sh->err);
	munmap(l->sh, sizeof(*l->sh));
	l->sh = NULL;
	return rc;
}

static int load_start(struct load *l, const char *dir, int clients, bool busy)
{
	char name[32], path[PATH_MAX];
	int64_t until = now_ns() + INT64_C(20000000000);
	cpu_set_t set;
	int rc = 0;

	memset(l, 0, sizeof(*l));
	l->sh = mmap(NULL, sizeof(*l->sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (l->sh == MAP_FAILED) {
		l->sh = NULL;
		return -errno;
	}
	for (int i = 0; i < clients && !rc; i++) {
		snprintf(name, sizeof(name), "load%d", i);
		rc = load_fork(l, path_in(path, dir, name), 0);
	}
	l->clients = l->children;
	if (busy && sched_getaffinity(0, sizeof(set), &set))
		rc = -errno;
	for (int cpu = 0; busy && cpu < CPU_SETSIZE && !rc; cpu++)
		if (CPU_ISSET(cpu, &set))
			rc = load_fork(l, NULL, cpu);
	while (!rc && atomic_load(&l->sh->ready) < l->children) {
		if (atomic_load(&l->sh->err))
			rc = -atomic_load(&l->sh->err);
		if (now_ns() > until)
			rc = -ETIMEDOUT;
		pause_ms(1);
	}
	atomic_store(&l->sh->go, 1);
	return rc;
}

static void load_read(const struct load *l, const struct server *srv, struct window *w)
{
	*w = (struct window){ .wall_ns = (double)now_ns(), .server_ns = (double)server_cpu_ns(srv) };
	for (int i = 0; i < l->children; i++) {
		double n = (double)atomic_load(&l->sh->count[i].n);
		struct timespec ts;
		clockid_t clk;

		if (i >= l->clients) {
			w->spins += n / (l->children - l->clients);
			continue;
		}
		w->ops += n;
		if (!clock_getcpuclockid(l->pid[i], &clk) && !clock_gettime(clk, &ts))
			w->client_ns += (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
	}
}

static bool load_went_on(const struct load *l, const struct window *from, const struct window *to)
{
	return (!l->clients || to->ops > from->ops) && (l->clients == l->children || to->spins > from->spins);
}

/* A window as long as the scale says, or until there is something to count on a machine that is too busy. */
static void load_window(const struct bench *b, const struct load *l, const struct server *srv,
			const struct window *from, struct window *to)
{
	int64_t until = now_ns() + INT64_C(30000000000);

	do {
		pause_ms(b->scale.load_ms);
		load_read(l, srv, to);
	} while (!load_went_on(l, from, to) && now_ns() < until);
}

static int load_measure(struct bench *b, enum side side, int clients, bool busy, struct window *w)
{
	static const struct server nobody;
	const struct server *srv = side == SIDE_SPMFS ? &b->server : &nobody;
	struct window from, to;
	struct load l;
	double seconds;
	int rc, rc2;

	rc = load_start(&l, bench_dir(b, side), clients, busy);
	if (!rc) {
		/* What starts is not yet what runs: a lead of a tenth of the window is not counted. */
		pause_ms(b->scale.load_ms / 10 + 1);
		load_read(&l, srv, &from);
		load_window(b, &l, srv, &from, &to);
		seconds = (to.wall_ns - from.wall_ns) / 1e9;
		w->ops = (to.ops - from.ops) / seconds;
		w->spins = (to.spins - from.spins) / seconds;
		w->client_ns = to.client_ns - from.client_ns;
		w->server_ns = to.server_ns - from.server_ns;
		w->wall_ns = to.wall_ns - from.wall_ns;
	}
	rc2 = load_stop(&l);
	rc = rc ? rc : rc2;
	if (!rc && !load_went_on(&l, &from, &to))
		return bench_fail(b, -ETIMEDOUT, "nobody in %s got anything done", bench_dir(b, side));
	return rc ? bench_fail(b, rc, "a client in %s", bench_dir(b, side)) : 0;
}

static int cpu_sample(struct bench *b, enum side side, double *value)
{
	int what = b->fig->what;
	struct window w;
	int rc = load_measure(b, side, CPU_CLIENTS(what), CPU_BUSY(what), &w);

	if (rc)
		return rc;
	switch (CPU_KIND(what)) {
	case CPU_SERVER:
		*value = 100 * w.server_ns / w.wall_ns;
		break;
	case CPU_PER_OP:
		*value = (w.client_ns + w.server_ns) / 1e3 / (w.ops * w.wall_ns / 1e9);
		break;
	default:
		*value = w.ops;
	}
	return 0;
}

const struct probe cpu_probe = {
	.sample = cpu_sample,
};

const struct probe server_cpu_probe = {
	.sample = cpu_sample,
	.spmfs_only = true,
	.needs_server = true,
};

static int idle_sample(struct bench *b, enum side side, double *value)
{
	int64_t used = server_cpu_ns(&b->server), t = now_ns();

	pause_ms(b->scale.idle_ms);
	*value = 100 * (double)(server_cpu_ns(&b->server) - used) / (double)(now_ns() - t);
	return 0;
}

const struct probe idle_probe = {
	.sample = idle_sample,
	.once = true,
	.spmfs_only = true,
	.needs_server = true,
};

static int corun_begin(struct bench *b, int round)
{
	struct window w;
	int rc = load_measure(b, SIDE_TMPFS, 0, true, &w);

	alone = w.spins;
	return rc;
}

static int corun_sample(struct bench *b, enum side side, double *value)
{
	struct window w;
	int rc = load_measure(b, side, CPU_CLIENTS(b->fig->what), true, &w);

	if (!rc)
		*value = 100 * w.spins / alone;
	return rc;
}

const struct probe corun_probe = {
	.begin = corun_begin,
	.sample = corun_sample,
};
