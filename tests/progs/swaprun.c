/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * swaprun: writers and readers of more data than the device holds, who know every byte. Each process changes files of
 * its own in all ways there are, and reads those of the others meanwhile; in the end everything is read and compared.
 *
 *	swaprun [-n PROCESSES] [-s SECONDS] [-b BYTES] [-f MEAN] [-r SEED] [-k KILLS] [--points "POINT..." [--gap MS]]
 *	        [--kinds auto,direct,mirror] [--hot PERCENT] [--no-maps] [--no-space] [-m MODEL [--verify]] DIR
 *
 * -b is the sum of the files' sizes, -f their mean; one has a sixteenth of all, every fourth a few blocks. -k kills the
 * worker so often, at random moments; --points arms these fault points in turn, every MS or when the last one was passed.
 * Where the machine is slow both go on until all is done: for 90 s more than -s, or as long again.
 * --hot has so many of a hundred accesses go to a tenth of the files. --no-space: ENOSPC is no error (nothing may be lost
 * nevertheless). -m leaves what the files hold in a file, with which --verify compares them later, and does nothing else.
 * -s 0 only fills. Status 0: all was well; 1: it was not; 2: it could not be tried.
 */
#include "tests/progs/swaprun.h"
#include "fs/state.h"
#include "tests/progs/killrun.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000, HANG_S = 90, BACK_S = 30, ALL_S = 5, LATE_S = 90, POINTS = 32 };

static const char *const kinds[KINDS] = { "auto", "direct", "mirror" };

struct run {
	struct options o;
	struct model *m;
	struct process self; /* for what the first process does itself */
	pid_t pids[MAX_PROCESSES];
	struct target target;
	uint64_t begun_ns, seen, seen_ns;
	unsigned int deaths;
	struct {
		char at[40];
		unsigned int hits;
	} points[POINTS];
	unsigned int point_count, point;
	uint64_t armed_ns, next_ns;
	unsigned int armed_generation;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void pause_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

uint64_t draw(struct process *p, uint64_t below)
{
	p->rng ^= p->rng << 13;
	p->rng ^= p->rng >> 7;
	p->rng ^= p->rng << 17;
	return p->rng * UINT64_C(0x2545f4914f6cdd1d) % below;
}

void path_of(const struct process *p, uint32_t number, uint32_t name, char *path, size_t room)
{
	snprintf(path, room, "%s/%s/f%u.%u", p->o->dir, kinds[p->m->file[number].kind], number, name);
}

void doing(struct process *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->m->doing[p->id], sizeof(p->m->doing[0]), fmt, ap);
	va_end(ap);
	atomic_fetch_add(&p->m->calls[p->id], 1);
}

bool wrong(struct process *p, const char *fmt, ...)
{
	char text[PATH_MAX + 200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	atomic_fetch_add(&p->m->errors, 1);
	if (atomic_fetch_add(&p->m->shown, 1) < 24) {
		printf("# process %u: %s (%s)\n", p->id, text, p->m->doing[p->id]);
		fflush(stdout);
	}
	atomic_store(&p->m->stop, 1);
	return false;
}

bool failed(struct process *p, const char *what)
{
	return wrong(p, "%s: %s", what, strerrorname_np(errno));
}

/* ---- a process of the load ---- */

static int process_init(struct process *p, struct run *run, unsigned int id)
{
	*p = (struct process){ .m = run->m, .o = &run->o, .id = id };
	p->rng = (run->m->seed ^ (id + 1) * UINT64_C(0x9e3779b97f4a7c15)) | 1;
	p->buf = aligned_alloc(BLOCK, ROOM);
	p->copy_of_map = memfd_create("swaprun", MFD_CLOEXEC);
	return p->buf && p->copy_of_map >= 0 ? 0 : -1;
}

static void run_process(struct run *run, unsigned int id)
{
	struct process p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	umask(022);
	if (process_init(&p, run, id))
		_exit(2);
	for (uint32_t i = id; i < run->m->files && !run->m->stop; i += run->m->processes)
		make_file(&p, i, true);
	atomic_fetch_add(&run->m->filled, 1);
	doing(&p, "wait for the others");
	while (!run->m->until_ns && !run->m->stop)
		pause_us(1000);
	while (now_ns() < run->m->until_ns && !run->m->stop) {
		if (draw(&p, 5) < 3)
			own_operation(&p);
		else
			read_other(&p);
	}
	drop_held(&p);
	doing(&p, "done");
	_exit(0);
}

static int start_all(struct run *run)
{
	fflush(stdout);
	for (unsigned int i = 0; i < run->m->processes; i++) {
		run->pids[i] = fork();
		if (!run->pids[i])
			run_process(run, i);
		if (run->pids[i] < 0)
			return -1;
	}
	return 0;
}

/* How many still run. */
static unsigned int reap(struct run *run)
{
	unsigned int left = 0;
	int status;

	for (unsigned int i = 0; i < run->m->processes; i++) {
		if (run->pids[i] <= 0)
			continue;
		if (waitpid(run->pids[i], &status, WNOHANG) != run->pids[i]) {
			left++;
			continue;
		}
		run->pids[i] = 0;
		if (WIFSIGNALED(status))
			wrong(&run->self, "process %u was ended by signal %d in: %s", i, WTERMSIG(status),
			      run->m->doing[i]);
	}
	return left;
}

static bool hangs(struct run *run)
{
	uint64_t done = run->m->operations + run->m->read + run->m->written, now = now_ns();

	if (done != run->seen || !run->seen_ns) {
		run->seen = done;
		run->seen_ns = now;
	}
	if (now - run->seen_ns < HANG_S * (uint64_t)NS_PER_S)
		return false;
	for (unsigned int i = 0; i < run->m->processes; i++)
		if (run->pids[i] > 0)
			wrong(&run->self, "process %u waits in: %s", i, run->m->doing[i]);
	return true;
}

/* ---- kills and fault points ---- */

/* A request that is in hand at every death is given up in the end, so all get on before the next one. */
static void wait_for_all(struct run *run)
{
	uint64_t until = now_ns() + ALL_S * (uint64_t)NS_PER_S;
	uint32_t calls[MAX_PROCESSES];

	for (unsigned int i = 0; i < run->m->processes; i++)
		calls[i] = run->m->calls[i];
	for (unsigned int i = 0; i < run->m->processes; i++)
		while (run->pids[i] > 0 && run->m->calls[i] - calls[i] < 2 && reap(run) && now_ns() < until)
			pause_us(300);
}

/* A worker has died: waits for the next one to answer. */
static void wait_for_next(struct run *run, unsigned int generation)
{
	uint64_t until = now_ns() + BACK_S * (uint64_t)NS_PER_S, answered = UINT64_MAX;

	run->deaths++;
	while (now_ns() < until) {
		if (target_generation(&run->target) != generation && answered == UINT64_MAX)
			answered = target_answered(&run->target);
		if (answered != UINT64_MAX && (target_answered(&run->target) > answered || !reap(run))) {
			wait_for_all(run);
			return;
		}
		pause_us(300);
	}
	wrong(&run->self, "no new worker answers");
}

static void kill_worker(struct run *run)
{
	unsigned int generation = target_generation(&run->target);
	pid_t pid = target_find(&run->target, SERVER_WORKER);

	if (pid <= 0 || kill(pid, SIGKILL))
		return;
	wait_for_next(run, generation);
}

static struct spm_fault_point *armed_point(struct run *run)
{
	return &run->target.state->fault[0];
}

/* Arms the next point, or sees whether the armed one was passed. */
static void serve_points(struct run *run)
{
	struct spm_fault_point *to = armed_point(run), p = { .times = 1, .action = 1 /* kill */ };
	uint64_t now = now_ns();

	if (run->armed_ns) {
		if (!__atomic_load_n(&to->left, __ATOMIC_ACQUIRE)) {
			run->points[run->point].hits++;
			wait_for_next(run, run->armed_generation);
		} else if (now - run->armed_ns < NS_PER_S / 1000 * run->o.gap_ms * 8) {
			return;
		}
		__atomic_store_n(&to->left, 0, __ATOMIC_RELEASE);
		run->armed_ns = 0;
		run->point = (run->point + 1) % run->point_count;
		run->next_ns = now_ns() + draw(&run->self, NS_PER_S / 1000 * run->o.gap_ms);
		return;
	}
	if (now < run->next_ns)
		return;
	snprintf(p.at, sizeof(p.at), "%s", run->points[run->point].at);
	*to = p;
	run->armed_ns = now;
	run->armed_generation = target_generation(&run->target);
	__atomic_store_n(&to->left, (uint32_t)(1 + draw(&run->self, 4)), __ATOMIC_RELEASE);
}

static bool all_points_passed(const struct run *run)
{
	for (unsigned int i = 0; i < run->point_count; i++)
		if (!run->points[i].hits)
			return false;
	return true;
}

static void trouble_until_the_end(struct run *run)
{
	uint64_t end, last, next, now;
	unsigned int left = run->o.kills;

	while (reap(run) && run->m->filled < run->m->processes && !run->m->stop && !hangs(run))
		pause_us(1000);
	next = run->begun_ns = now_ns();
	end = last = run->begun_ns + run->o.seconds * (uint64_t)NS_PER_S;
	if (run->point_count || left)
		last += (run->o.seconds > LATE_S ? run->o.seconds : LATE_S) * (uint64_t)NS_PER_S;
	run->m->until_ns = last;
	while (reap(run) && (now = now_ns()) < last && !run->m->stop && !hangs(run)) {
		if (now >= end && !left && all_points_passed(run))
			break;
		if (run->point_count)
			serve_points(run);
		if (left && now >= next) {
			if (now > run->begun_ns + NS_PER_S / 10) {
				kill_worker(run);
				left--;
			}
			now = now_ns();
			next = now + (left && now < end ? draw(&run->self, 2 * (end - now) / (left + 1) + 1) : 0);
		}
		pause_us(500);
	}
	run->m->until_ns = 1;
	if (run->point_count)
		__atomic_store_n(&armed_point(run)->left, 0, __ATOMIC_RELEASE);
}

/* ---- beginning and end ---- */

static uint64_t up_to_block(uint64_t n)
{
	return (n + BLOCK - 1) / BLOCK * BLOCK;
}

/* Sizes and kinds of all files, as the seed has it; how many blocks that are. */
static uint64_t plan(struct run *run, struct file *file, uint32_t *files)
{
	uint64_t sum = 0, blocks = 0, seed = run->self.rng;
	uint32_t n = 0;

	for (; sum < run->self.m->bytes && n < MAX_FILES; n++) {
		uint64_t size = up_to_block(run->o.mean / 4 + draw(&run->self, run->o.mean * 3 / 2));

		if (!n)
			size = up_to_block(run->self.m->bytes / 16);
		else if (n % 4 == 3)
			size = BLOCK * (1 + draw(&run->self, 20));
		if (file) {
			file[n] = (struct file){ .first = blocks, .max = size, .flux = 1, .kind = n ? n % KINDS : KIND_MIRROR };
			while (!run->o.kinds[file[n].kind])
				file[n].kind = (file[n].kind + 1) % KINDS;
		}
		sum += size;
		blocks += size / BLOCK;
	}
	run->self.rng = seed;
	*files = n;
	return blocks;
}

static int make_model(struct run *run, struct model *plain)
{
	uint64_t blocks, bytes;
	uint32_t files;
	int fd = -1;

	run->self = (struct process){ .m = plain, .rng = plain->seed | 1 };
	blocks = plan(run, NULL, &files);
	bytes = sizeof(struct model) + blocks * sizeof(struct block);
	if (run->o.model) {
		fd = open(run->o.model, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)bytes))
			return -1;
	}
	run->m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	if (run->m == MAP_FAILED)
		return -1;
	*run->m = *plain;
	plan(run, run->m->file, &run->m->files);
	for (uint64_t i = 0; i < blocks; i++)
		run->m->blocks[i].cut = WORDS;
	run->m->magic = MODEL_MAGIC;
	return 0;
}

static int load_model(struct run *run)
{
	int fd = open(run->o.model ? run->o.model : "", O_RDWR | O_CLOEXEC);
	off_t bytes = lseek(fd, 0, SEEK_END);

	if (bytes < (off_t)sizeof(struct model))
		return -1;
	run->m = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run->m == MAP_FAILED || run->m->magic != MODEL_MAGIC)
		return -1;
	run->m->stop = run->m->errors = run->m->differences = run->m->shown = 0;
	run->m->read = run->m->written = run->m->operations = 0;
	return 0;
}

static int make_dirs(const struct options *o)
{
	char path[PATH_MAX];

	for (unsigned int i = 0; i < KINDS; i++) {
		snprintf(path, sizeof(path), "%s/%s", o->dir, kinds[i]);
		if (!o->kinds[i])
			continue;
		if (mkdir(path, 0755))
			return -1;
		/* elsewhere than on spmfs the kinds are all alike */
		if (setxattr(path, "user.spm.map", kinds[i], strlen(kinds[i]), 0) && errno != ENOTSUP)
			return -1;
	}
	return 0;
}

static void verify_all(struct run *run)
{
	unsigned int before = run->m->differences + run->m->errors;

	run->m->shown = 0;
	for (uint32_t i = 0; i < run->m->files && run->m->differences + run->m->errors - before < 8; i++)
		verify_file(&run->self, i);
}

static int report(const struct run *run)
{
	const struct model *m = run->m;
	double s = (double)(now_ns() - run->begun_ns) / 1e9;

	printf("# seconds %.1f\n# processes %u\n# files %u\n# operations %llu\n# written_mib %llu\n# read_mib %llu\n", s,
	       m->processes, m->files, (unsigned long long)m->operations, (unsigned long long)m->written >> 20,
	       (unsigned long long)m->read >> 20);
	printf("# errors %u\n# differences %u\n# no_space %u\n# deaths %u\n", m->errors, m->differences, m->no_space,
	       run->deaths);
	for (unsigned int i = 0; i < run->point_count; i++)
		printf("# point %s %u\n", run->points[i].at, run->points[i].hits);
	fflush(stdout);
	return m->errors || m->differences ? 1 : 0;
}

/* ---- options ---- */

static int usage(void)
{
	fputs("usage: swaprun [-n PROCESSES] [-s SECONDS] [-b BYTES] [-f MEAN] [-r SEED] [-k KILLS] [--points \"POINT...\"]\n"
	      "               [--gap MS] [--kinds auto,direct,mirror] [--hot PERCENT] [--no-maps] [--no-space]\n"
	      "               [-m MODEL [--verify]] DIR\n",
	      stderr);
	return -1;
}

static uint64_t bytes_of(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	return n << (*end == 'G' ? 30 : *end == 'M' ? 20 : *end == 'K' ? 10 : 0);
}

static int parse_points(struct run *run, const char *text)
{
	char words[1024], *word, *rest = NULL;

	snprintf(words, sizeof(words), "%s", text);
	for (word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (run->point_count == POINTS)
			return -1;
		snprintf(run->points[run->point_count++].at, sizeof(run->points[0].at), "%s", word);
	}
	return run->point_count ? 0 : -1;
}

static int parse_kinds(struct options *o, const char *text)
{
	bool any = false;

	for (unsigned int i = 0; i < KINDS; i++) {
		o->kinds[i] = strstr(text, kinds[i]);
		any |= o->kinds[i];
	}
	return any ? 0 : -1;
}

static int parse_long(struct run *run, int c)
{
	switch (c) {
	case 'P':
		return parse_points(run, optarg);
	case 'G':
		run->o.gap_ms = strtoul(optarg, NULL, 10);
		return 0;
	case 'K':
		return parse_kinds(&run->o, optarg);
	case 'H':
		run->o.hot = (unsigned int)strtoul(optarg, NULL, 10);
		return 0;
	case 'M':
		run->o.no_maps = true;
		return 0;
	case 'S':
		/* touching a hole through a mapping of a full tmpfs is SIGBUS */
		run->o.no_space_is_fine = run->o.no_maps = true;
		return 0;
	case 'V':
		run->o.verify = true;
		return 0;
	default:
		return usage();
	}
}

static int parse(struct run *run, struct model *m, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "points", 1, NULL, 'P' }, { "gap", 1, NULL, 'G' },	  { "kinds", 1, NULL, 'K' },
		{ "hot", 1, NULL, 'H' },    { "no-maps", 0, NULL, 'M' },  { "no-space", 0, NULL, 'S' },
		{ "verify", 0, NULL, 'V' }, { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "n:s:b:f:r:k:m:", longs, NULL)) != -1) {
		if (c == 'n')
			m->processes = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 's')
			run->o.seconds = strtoul(optarg, NULL, 10);
		else if (c == 'b')
			m->bytes = bytes_of(optarg);
		else if (c == 'f')
			run->o.mean = bytes_of(optarg);
		else if (c == 'r')
			m->seed = strtoull(optarg, NULL, 0);
		else if (c == 'k')
			run->o.kills = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'm')
			run->o.model = optarg;
		else if (parse_long(run, c))
			return -1;
	}
	if (argc - optind != 1 || !m->processes || m->processes > MAX_PROCESSES || !m->bytes || run->o.mean < 8 * BLOCK)
		return usage();
	run->o.dir = argv[optind];
	return 0;
}

static int prepare(struct run *run, struct model *plain)
{
	if (run->o.verify ? load_model(run) : make_model(run, plain)) {
		fprintf(stderr, "swaprun: the model: %s\n", strerror(errno));
		return -1;
	}
	if (process_init(&run->self, run, MAX_PROCESSES))
		return -1;
	if (!run->o.verify && make_dirs(&run->o)) {
		fprintf(stderr, "swaprun: %s must be empty: %s\n", run->o.dir, strerror(errno));
		return -1;
	}
	/* the mount's root has no mount of its own if DIR is below */
	return (run->o.kills || run->point_count) && target_open(&run->target, run->o.dir) ? -1 : 0;
}

int main(int argc, char **argv)
{
	static struct run run = { .o = { .seconds = 10, .gap_ms = 50, .mean = PIECE, .kinds = { true, true, true } } };
	static struct model plain = { .processes = 8, .bytes = UINT64_C(512) << 20 };

	model_init();
	if (getrandom(&plain.seed, sizeof(plain.seed), 0) != sizeof(plain.seed) || parse(&run, &plain, argc, argv) ||
	    prepare(&run, &plain))
		return 2;
	printf("# seed 0x%llx\n", (unsigned long long)run.m->seed);
	run.begun_ns = now_ns();
	if (!run.o.verify) {
		if (start_all(&run))
			return 2;
		trouble_until_the_end(&run);
		while (reap(&run)) {
			if (hangs(&run))
				_exit(report(&run) | 1); /* they may be beyond the reach of signals */
			pause_us(2000);
		}
	}
	run.self.id = MAX_PROCESSES;
	verify_all(&run);
	return report(&run);
}
