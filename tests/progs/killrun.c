/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * killrun: the operations of treestress and more, by several processes at once, while the server of the tested side
 * is killed at random moments. Every result is compared with plain tmpfs; how long calls took is measured.
 *
 *	killrun [-S] [-n PROCESSES] [-s SECONDS] [-k KILLS] [-r SEED] [--whom worker|standby|keeper] [--signal NAME]
 *	        [--burst] [--upgrade COMMAND] [--no-touch] [--clean] TESTED REFERENCE
 *
 * TESTED is a spmfs mount, REFERENCE a tmpfs; both are empty. -k KILLS are spread over the time (0: none),
 * which a slow machine gets up to three times of.
 * --burst kills some new servers before they have answered anything. --upgrade runs the command instead of a
 * kill, with the mount in $KILLRUN_MOUNT. -S leaves out suid and sgid bits of regular files, -D what is a disk's
 * own affair, --clean removes everything in the end. Status 0: nothing went wrong; 1: something did; 2: it could not be tried.
 */
#include "tests/progs/killrun.h"

#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
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

enum { NS_PER_S = 1000000000, HANG_S = 60, BACK_S = 30, GAP_MS = 3 };

struct options {
	unsigned int processes, kills;
	unsigned long seconds;
	uint64_t seed;
	enum server whom;
	int signal;
	bool burst, no_suid, disk, touch, clean;
	const char *upgrade;
	const char *sides[2];
};

struct run {
	struct options o;
	struct meter *meter;
	struct shared *sh;
	struct runner *runners; /* one more than processes, for the checks of the end */
	pid_t pids[PROCESSES_MAX + 1];
	struct target target;
	unsigned int bursts, wrong, restarts;
	uint64_t rng, calls, calls_ns; /* calls seen at that time, to find out that nothing goes on */
};

static void pause_us(unsigned int us)
{
	nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}, NULL);
}

static uint64_t draw(struct run *run, uint64_t below)
{
	run->rng ^= run->rng << 13;
	run->rng ^= run->rng >> 7;
	run->rng ^= run->rng << 17;
	return run->rng % below;
}

static void complain(struct run *run, const char *what)
{
	printf("# %s, at %.3f s after %u events\n", what, (double)(stress_now() - run->meter->begun_ns) / 1e9,
	       atomic_load(&run->meter->begun));
	fflush(stdout);
	run->wrong++;
}

/* ---- a process of the load ---- */

static void run_process(struct run *run, unsigned int id)
{
	struct runner *r = &run->runners[id];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (setgroups(1, (gid_t[]){40002}))
		_exit(2);
	umask(022);
	r->w.no_suid = run->o.no_suid;
	r->w.disk = run->o.disk;
	r->w.meter = run->meter;
	open_world(&r->w, run->o.sides, id, run->o.seed);
	common_begin(r);
	kept_begin(r);
	big_begin(r);
	while (!atomic_load(&run->sh->stop)) {
		unsigned int what = below(&r->w, 100);

		if (what < 66)
			one_operation(&r->w);
		else if (what < 80)
			kept_operation(r);
		else if (what < 90)
			common_operation(r);
		else
			big_operation(r);
		if (r->w.ops % 3000 == 0)
			same_tree(&r->w, r->w.root, "the own tree");
	}
	common_end(r);
	big_end(r);
	kept_end(r);
	same_tree(&r->w, r->w.root, "the own tree");
	close_all(&r->w);
	same_tree(&r->w, r->w.root, "the own tree after close");
	_exit(0);
}

static int start_all(struct run *run)
{
	unsigned int i;

	fflush(stdout);
	for (i = 0; i <= run->o.processes; i++) {
		if (i == run->o.processes && !run->o.touch)
			break;
		run->runners[i].w.id = i;
		run->runners[i].sh = run->sh;
		run->runners[i].sides = run->o.sides;
		run->pids[i] = fork();
		if (!run->pids[i] && i < run->o.processes)
			run_process(run, i);
		if (!run->pids[i])
			touch_run(run->sh, run->o.sides);
		if (run->pids[i] < 0) {
			perror("killrun: fork");
			return -1;
		}
	}
	return 0;
}

/* Takes the status of those that have ended; returns how many still run. */
static unsigned int reap(struct run *run)
{
	unsigned int i, left = 0;
	int status;

	for (i = 0; i <= run->o.processes; i++) {
		if (run->pids[i] <= 0)
			continue;
		if (waitpid(run->pids[i], &status, WNOHANG) != run->pids[i]) {
			left++;
			continue;
		}
		run->pids[i] = 0;
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			continue;
		if (WIFSIGNALED(status)) {
			printf("# process %u was ended by signal %d: %s\n", i, WTERMSIG(status),
			       run->runners[i].w.log[run->runners[i].w.ops % LOG_LINES]);
			complain(run, "a process was ended by a signal");
		}
		run->wrong++;
		atomic_store(&run->sh->stop, true);
	}
	return left;
}

/* Says what everybody waits in. They cannot be ended by a signal then: the mount must be aborted. */
static bool hangs(struct run *run)
{
	uint64_t calls = atomic_load(&run->meter->calls), now = stress_now();
	unsigned int i;

	if (calls != run->calls || !run->calls_ns) {
		run->calls = calls;
		run->calls_ns = now;
		return false;
	}
	if (now - run->calls_ns < HANG_S * (uint64_t)NS_PER_S)
		return false;
	complain(run, "nothing goes on any more");
	for (i = 0; i < run->o.processes; i++)
		if (run->pids[i] > 0)
			printf("# process %u waits in %s\n", i,
			       run->runners[i].w.log[run->runners[i].w.ops % LOG_LINES]);
	fflush(stdout);
	return true;
}

/* ---- kills ---- */

/* True when a new one is there, and has answered something if it is a worker. */
static bool is_back(struct run *run, pid_t old, unsigned int generation, uint64_t answered)
{
	pid_t pid;

	if (run->o.whom == SERVER_WORKER)
		return target_generation(&run->target) != generation &&
		       target_answered(&run->target) > answered;
	pid = target_find(&run->target, run->o.whom);
	return pid && pid != old;
}

/* A worker that has just begun, killed at once; only those that the keeper has seen die count. */
static pid_t kill_early(struct run *run, pid_t old)
{
	uint64_t until = stress_now() + BACK_S * (uint64_t)NS_PER_S;
	pid_t pid;

	do {
		pid = target_find(&run->target, run->o.whom);
	} while ((!pid || pid == old) && stress_now() < until);
	if (!pid || pid == old)
		return old;
	pause_us((unsigned int)draw(run, 4000));
	if (kill(pid, run->o.signal))
		return old;
	run->restarts++;
	run->bursts++;
	return pid;
}

static void kill_one(struct run *run, pid_t pid)
{
	unsigned int generation = target_generation(&run->target),
		     extra = run->o.burst ? (unsigned int)draw(run, 3) : 0;
	uint64_t until = stress_now() + BACK_S * (uint64_t)NS_PER_S, answered;

	atomic_fetch_add(&run->meter->begun, 1);
	answered = target_answered(&run->target);
	if (kill(pid, run->o.signal)) {
		complain(run, "the server was gone before it was killed");
		atomic_fetch_add(&run->meter->over, 1);
		return;
	}
	run->restarts++;
	while (extra--)
		pid = kill_early(run, pid);
	/* what was answered between the reading and the death does not count */
	while (target_generation(&run->target) == generation && run->o.whom == SERVER_WORKER &&
	       stress_now() < until)
		pause_us(300);
	if (run->o.whom == SERVER_WORKER)
		answered = target_answered(&run->target);
	while (!is_back(run, pid, generation, answered) && reap(run) && stress_now() < until)
		pause_us(300);
	if (stress_now() >= until)
		complain(run, "no new server answers");
	atomic_fetch_add(&run->meter->over, 1);
}

static void upgrade(struct run *run)
{
	atomic_fetch_add(&run->meter->begun, 1);
	/* the command is the tester's own */
	if (system(run->o.upgrade)) /* NOLINT(cert-env33-c) */
		complain(run, "the upgrade failed");
	atomic_fetch_add(&run->meter->over, 1);
}

static void one_event(struct run *run, pid_t *pid)
{
	if (run->o.upgrade) {
		upgrade(run);
		return;
	}
	if (*pid)
		kill_one(run, *pid);
	else
		complain(run, "there is no server to kill");
	/* looked for now, so that the next kill comes at its moment */
	*pid = target_find(&run->target, run->o.whom);
}

static void kill_until_the_end(struct run *run)
{
	uint64_t length = run->o.seconds * (uint64_t)NS_PER_S, end = run->meter->begun_ns + length,
		 next = run->meter->begun_ns, now;
	pid_t pid = run->o.kills && !run->o.upgrade ? target_find(&run->target, run->o.whom) : 0;
	unsigned int left = run->o.kills;

	/* a machine that is slow has more time for what was not done, but not for ever */
	for (now = stress_now(); now < (left ? end + 2 * length : end) && !atomic_load(&run->sh->stop) && !run->wrong;
	     now = stress_now()) {
		reap(run);
		if (hangs(run))
			return;
		if (left && now >= next) {
			if (now > run->meter->begun_ns + NS_PER_S / 10) {
				one_event(run, &pid);
				left--;
			}
			now = stress_now();
			next = now + GAP_MS * 1000000;
			if (left && now < end)
				next += draw(run, 2 * (end - now) / (left + 1));
		}
		pause_us(500);
	}
	if (left && !run->wrong)
		printf("# %u kills were not done in the time\n", left);
}

/* ---- the end ---- */

static bool check_end(struct run *run)
{
	struct runner *r = &run->runners[run->o.processes];
	pid_t pid = fork();
	int s, status;

	if (!pid) {
		const struct shared *sh = run->sh;
		int dirs[2];

		memset(r, 0, sizeof(*r));
		r->sh = run->sh;
		r->sides = run->o.sides;
		r->w.id = run->o.processes;
		r->w.disk = run->o.disk;
		for (s = 0; s < 2; s++) {
			int top = open(run->o.sides[s], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			dirs[s] = openat(top, "shared", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			r->w.buf[s] = malloc(MAX_SIZE);
			if (dirs[s] < 0)
				differ(&r->w, "%s/shared cannot be opened: %s", run->o.sides[s],
				       strerror(errno));
		}
		same_tree(&r->w, dirs, "the shared directory");
		common_check(r, run->o.processes);
		_exit(sh->touch_failed ? 1 : 0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static bool finish(struct run *run)
{
	atomic_store(&run->sh->stop, true);
	run->calls_ns = 0;
	while (reap(run)) {
		if (hangs(run))
			return false;
		pause_us(2000);
	}
	return !run->wrong && check_end(run);
}

static int remove_it(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static bool clean(const struct options *o)
{
	char path[PATH_MAX];
	bool good = true;

	for (int s = 0; s < 2; s++) {
		static const char *const names[] = {"shared", "common", "touched"};

		for (unsigned int i = 0; i < o->processes + 3; i++) {
			if (i < 3)
				snprintf(path, sizeof(path), "%s/%s", o->sides[s], names[i]);
			else
				snprintf(path, sizeof(path), "%s/p%u", o->sides[s], i - 3);
			if (!access(path, F_OK) && nftw(path, remove_it, 32, FTW_DEPTH | FTW_PHYS)) {
				printf("# %s cannot be removed: %s\n", path, strerror(errno));
				good = false;
			}
		}
	}
	return good;
}

static double bucket_us(unsigned int b)
{
	return b < 8 ? b / 1e3 : (double)((uint64_t)(8 + b % 8) << (b / 8 - 1)) / 1e3;
}

/* Of all calls, the time below which that part of them stays. */
static double part_us(const struct meter *m, double part)
{
	uint64_t sum = 0, want = (uint64_t)(part * (double)atomic_load(&m->calls));
	unsigned int b;

	for (b = 0; b < METER_BUCKETS - 1 && sum < want; b++)
		sum += atomic_load(&m->histogram[b]);
	return bucket_us(b);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void report_stalls(const struct run *run)
{
	unsigned int n = atomic_load(&run->meter->begun), i, longest = 0;
	uint64_t *ns = calloc(n + 1, sizeof(*ns));

	n = n < METER_EVENTS ? n : METER_EVENTS;
	for (i = 0; ns && i < n; i++) {
		ns[i] = atomic_load(&run->meter->stalls[i].ns);
		if (ns[i] > ns[longest])
			longest = i;
	}
	if (ns && n) {
		printf("# stall_longest_ms %.1f (%s)\n", (double)ns[longest] / 1e6,
		       run->meter->stalls[longest].what);
		qsort(ns, n, sizeof(*ns), by_value);
		printf("# stall_median_ms %.1f\n", (double)ns[n / 2] / 1e6);
		printf("# stall_95_ms %.1f\n", (double)ns[n * 95 / 100] / 1e6);
	}
	free(ns);
}

static void report(const struct run *run)
{
	const struct meter *m = run->meter;
	const struct shared *sh = run->sh;
	unsigned long ops = 0;
	unsigned int i;

	for (i = 0; i < run->o.processes; i++)
		ops += run->runners[i].w.ops;
	printf("# seconds %.1f\n# processes %u\n# events %u\n", (double)(stress_now() - m->begun_ns) / 1e9,
	       run->o.processes, atomic_load(&m->begun));
	if (run->o.burst)
		printf("# events_early %u\n", run->bursts);
	printf("# deaths %u\n# operations %lu\n# calls %" PRIu64 "\n# errors %u\n# differences %u\n",
	       run->restarts, ops, atomic_load(&m->calls), atomic_load(&m->errors),
	       atomic_load(&m->differences));
	printf("# call_median_us %.0f\n# call_99_us %.0f\n# call_longest_calm_ms %.1f\n", part_us(m, 0.5),
	       part_us(m, 0.99), (double)atomic_load(&m->longest_calm) / 1e6);
	report_stalls(run);
	if (run->o.touch)
		printf("# touches %" PRIu64 "\n# pause_direct_us %.0f\n# pause_tmpfs_us %.0f\n"
		       "# pauses_direct_over_1ms %" PRIu64 "\n# pauses_tmpfs_over_1ms %" PRIu64 "\n",
		       atomic_load(&sh->touches), (double)atomic_load(&sh->pause_ns[0]) / 1e3,
		       (double)atomic_load(&sh->pause_ns[1]) / 1e3, atomic_load(&sh->long_pauses[0]),
		       atomic_load(&sh->long_pauses[1]));
}

/* ---- options ---- */

static int signal_of(const char *name)
{
	for (int i = 1; i < 32; i++)
		if (sigabbrev_np(i) && !strcmp(sigabbrev_np(i), name))
			return i;
	return 0;
}

static int usage(void)
{
	fputs("usage: killrun [-SD] [-n PROCESSES] [-s SECONDS] [-k KILLS] [-r SEED] [--whom "
	      "worker|standby|keeper]\n"
	      "               [--signal NAME] [--burst] [--upgrade COMMAND] [--no-touch] [--clean] TESTED "
	      "REFERENCE\n",
	      stderr);
	return -1;
}

static int parse_long(struct options *o, int c)
{
	static const char *const whom[SERVERS] = {"worker", "standby", "keeper"};

	switch (c) {
	case 'w':
		for (o->whom = 0; o->whom < SERVERS && strcmp(whom[o->whom], optarg); o->whom++)
			;
		return o->whom < SERVERS ? 0 : usage();
	case 'g':
		o->signal = signal_of(optarg);
		return o->signal ? 0 : usage();
	case 'b':
		o->burst = true;
		return 0;
	case 'u':
		o->upgrade = optarg;
		return 0;
	case 't':
		o->touch = false;
		return 0;
	case 'c':
		o->clean = true;
		return 0;
	default:
		return usage();
	}
}

static int parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"whom", 1, NULL, 'w'},
		{"signal", 1, NULL, 'g'},
		{"burst", 0, NULL, 'b'},
		{"upgrade", 1, NULL, 'u'},
		{"no-touch", 0, NULL, 't'},
		{"clean", 0, NULL, 'c'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "SDn:s:k:r:", longs, NULL)) != -1) {
		if (c == 'S')
			o->no_suid = true;
		else if (c == 'D')
			o->disk = true;
		else if (c == 'n')
			o->processes = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 's')
			o->seconds = strtoul(optarg, NULL, 10);
		else if (c == 'k')
			o->kills = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'r')
			o->seed = strtoull(optarg, NULL, 0);
		else if (parse_long(o, c))
			return -1;
	}
	if (argc - optind != 2 || !o->processes || o->processes > PROCESSES_MAX || !o->seconds)
		return usage();
	o->sides[0] = argv[optind];
	o->sides[1] = argv[optind + 1];
	return 0;
}

static void *share(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int prepare(struct run *run)
{
	run->rng = run->o.seed | 1;
	run->meter = share(sizeof(*run->meter));
	run->sh = share(sizeof(*run->sh));
	run->runners = share((run->o.processes + 1) * sizeof(*run->runners));
	if (!run->meter || !run->sh || !run->runners)
		return -1;
	/* none is stuck yet, however long this machine has been up */
	for (size_t k = 0; k < sizeof(run->sh->tokens) / sizeof(run->sh->tokens[0]); k++)
		atomic_store(&run->sh->tokens[k].changed_ns, stress_now());
	if (run->o.kills && !run->o.upgrade && target_open(&run->target, run->o.sides[0]))
		return -1;
	umask(0);
	setenv("KILLRUN_MOUNT", run->o.sides[0], 1);
	if (make_shared(run->o.sides) || common_make(run->o.sides[0])) {
		perror("killrun: cannot prepare");
		return -1;
	}
	run->meter->begun_ns = stress_now();
	return 0;
}

int main(int argc, char **argv)
{
	static struct run run = {.o = {.processes = 8, .seconds = 60, .signal = SIGKILL, .touch = true}};
	bool good;

	if (getrandom(&run.o.seed, sizeof(run.o.seed), 0) != sizeof(run.o.seed) ||
	    parse(&run.o, argc, argv) || prepare(&run))
		return 2;
	printf("# seed 0x%" PRIx64 "\n", run.o.seed);
	if (start_all(&run))
		return 2;
	kill_until_the_end(&run);
	good = finish(&run);
	if (run.o.clean && good)
		good = clean(&run.o);
	report(&run);
	fflush(stdout);
	/* processes that cannot be ended would be waited for */
	_exit(good ? 0 : 1);
}
