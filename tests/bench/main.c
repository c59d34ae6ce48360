/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmbench: measures the figures of figures.c on mounts that run.sh made. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/util.h"

static const struct scale full = {
	.rounds = 9, .inner = 4, .map_bytes = 256 * MIB, .io_bytes = 256 * MIB, .mirror_bytes = 1024 * MIB,
	.accesses = 4000000, .io_ops = 10000, .name_ops = 1000, .cached_ops = 100000, .inodes = 1000000,
	.load_ms = 400, .idle_ms = 5000, .open_files = 100000, .kill_s = 30, .swap_rounds = 5,
	.cold_reads = 200, .work_ms = 10000, .slices = 1000,
};

static const struct scale quick = {
	.rounds = 3, .inner = 2, .map_bytes = 128 * MIB, .io_bytes = 64 * MIB, .mirror_bytes = 256 * MIB,
	.accesses = 2000000, .io_ops = 5000, .name_ops = 500, .cached_ops = 50000, .inodes = 100000,
	.load_ms = 300, .idle_ms = 2000, .open_files = 10000, .kill_s = 10, .swap_rounds = 2,
	.cold_reads = 50, .work_ms = 3000, .slices = 1000,
};

/* Only shows that every probe works; the numbers say nothing. */
static const struct scale smoke = {
	.rounds = 1, .inner = 1, .map_bytes = 8 * MIB, .io_bytes = 8 * MIB, .mirror_bytes = 8 * MIB,
	.accesses = 10000, .io_ops = 300, .name_ops = 100, .cached_ops = 1000, .inodes = 2000,
	.load_ms = 50, .idle_ms = 50, .open_files = 500, .kill_s = 1, .swap_rounds = 1,
	.cold_reads = 10, .work_ms = 200, .slices = 20,
};

static const char usage[] =
	"usage: spmbench --tmpfs DIR --spmfs DIR --served DIR --out DIR\n"
	"                --swap DIR --disk DIR --memcg GROUP --swap-size BYTES | --no-swap WHY\n"
	"                [--quick | --smoke] [--rounds N] [FIGURE...]\n"
	"       spmbench --list\n";

/* Touches as much of the device as the figures will use, once: the first use of memory can cost far more. */
static int warm_up(const struct bench *b)
{
	size_t len = b->scale.mirror_bytes + 2 * b->scale.map_bytes;
	int64_t before = free_bytes(b->dir[SIDE_SPMFS]);
	char path[PATH_MAX];
	int rc, fd;

	rc = make_file(path_in(path, b->dir[SIDE_SPMFS], "warm"));
	if (rc)
		return rc;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fill_file(fd, len);
	close(fd);
	unlink(path);
	return rc ? rc : wait_free(b->dir[SIDE_SPMFS], before - (int64_t)MIB);
}

static bool chosen(const struct figure *fig, char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(names[i], fig->name))
			return true;
	return n == 0;
}

static int check_names(char *const *names, int n)
{
	for (int i = 0; i < n; i++) {
		int k = 0;

		while (k < bench_figure_count && strcmp(names[i], bench_figures[k].name))
			k++;
		if (k == bench_figure_count) {
			fprintf(stderr, "spmbench: no figure is called %s; --list shows all\n", names[i]);
			return -EINVAL;
		}
	}
	return 0;
}

/* Returns the exit status: 1 if a figure could not be measured, 0 even where a target was missed. */
static int run(struct bench *b, char *const *names, int n)
{
	struct result *res = calloc((size_t)bench_figure_count, sizeof(*res));
	char path[PATH_MAX];
	int done = 0, rc, status = 0;

	if (!res)
		return 1;
	rc = warm_up(b);
	if (rc) {
		fprintf(stderr, "spmbench: warm-up of %s: %s\n", b->dir[SIDE_SPMFS], strerror(-rc));
		free(res);
		return 1;
	}
	for (int i = 0; i < bench_figure_count; i++) {
		if (!chosen(&bench_figures[i], names, n))
			continue;
		fprintf(stderr, "%-16s %s\n", bench_figures[i].name, bench_figures[i].title);
		bench_measure(b, &bench_figures[i], &res[done]);
		status |= res[done++].verdict == VERDICT_FAILED;
	}
	rc = bench_report(b, res, done);
	if (!rc)
		rc = bench_svg(path_in(path, b->out, "figures.svg"), res, done);
	if (rc)
		fprintf(stderr, "spmbench: cannot write the results to %s: %s\n", b->out, strerror(-rc));
	free(res);
	return rc ? 1 : status;
}

static int list(void)
{
	char target[64];

	for (int i = 0; i < bench_figure_count; i++) {
		const struct figure *fig = &bench_figures[i];

		printf("%-16s %-46s %-7s %s\n", fig->name, fig->title, fig->unit,
		       bench_target(fig, target, sizeof(target)));
	}
	return 0;
}

/* Where the option's word goes, NULL for one that takes none. */
static const char **option_place(struct bench *b, int opt, const char **rounds)
{
	switch (opt) {
	case 't':
		return &b->dir[SIDE_TMPFS];
	case 's':
		return &b->dir[SIDE_SPMFS];
	case 'S':
		return &b->served;
	case 'o':
		return &b->out;
	case 'r':
		return rounds;
	case 'w':
		return &b->swap.mounts;
	case 'd':
		return &b->swap.disk;
	case 'm':
		return &b->swap.memcg;
	case 'z':
		return &b->swap.size;
	case 'n':
		return &b->swap.why;
	default:
		return NULL;
	}
}

static void swap_places(struct swapping *w)
{
	static const char *const names[] = { "swap", "workset", "paged" };

	if (!w->mounts || !w->disk || !w->memcg || !w->size) {
		w->why = w->why ? w->why : "none is mounted";
		return;
	}
	w->bytes = strtoull(w->size, NULL, 10);
	for (int i = 0; i < 3; i++)
		path_in(w->dir[i], w->mounts, names[i]);
}

/* 0, or -EINVAL after a line on stderr. */
static int parse(struct bench *b, int argc, char **argv, bool *only_list)
{
	static const struct option options[] = {
		{ "tmpfs", 1, NULL, 't' },  { "spmfs", 1, NULL, 's' }, { "served", 1, NULL, 'S' },
		{ "out", 1, NULL, 'o' },    { "quick", 0, NULL, 'q' }, { "smoke", 0, NULL, 'k' },
		{ "rounds", 1, NULL, 'r' }, { "list", 0, NULL, 'l' },  { "swap", 1, NULL, 'w' },
		{ "disk", 1, NULL, 'd' },   { "memcg", 1, NULL, 'm' }, { "swap-size", 1, NULL, 'z' },
		{ "no-swap", 1, NULL, 'n' }, { 0 },
	};
	const char *rounds = NULL, **place;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		place = option_place(b, opt, &rounds);
		if (place)
			*place = optarg;
		else if (opt == 'l')
			*only_list = true;
		else if (opt == '?')
			return -EINVAL;
		else
			b->scale = opt == 'q' ? quick : smoke;
	}
	if (rounds) {
		b->scale.rounds = atoi(rounds);
		if (b->scale.rounds < 1 || b->scale.rounds > MAX_ROUNDS) {
			fprintf(stderr, "spmbench: --rounds takes 1 to %d, not %s\n", MAX_ROUNDS, rounds);
			return -EINVAL;
		}
	}
	if (!*only_list && (!b->dir[SIDE_TMPFS] || !b->dir[SIDE_SPMFS] || !b->served || !b->out)) {
		fputs(usage, stderr);
		return -EINVAL;
	}
	swap_places(&b->swap);
	return check_names(argv + optind, argc - optind);
}

int main(int argc, char **argv)
{
	struct bench b = { .scale = full };
	bool only_list = false;

	if (parse(&b, argc, argv, &only_list))
		return 2;
	return only_list ? list() : run(&b, argv + optind, argc - optind);
}
