/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table on stdout and in table.txt, medians in figures.csv, every round in rounds.csv. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"
#include "tests/bench/util.h"

static const char *const verdicts[] = {
	[VERDICT_OK] = "ok",	 [VERDICT_MISS] = "MISS",     [VERDICT_SHOWN] = "-",
	[VERDICT_SKIP] = "skip", [VERDICT_FAILED] = "FAILED",
};

const char *bench_target(const struct figure *fig, char *buf, size_t size)
{
	if (fig->rule == RATIO_AT_LEAST)
		snprintf(buf, size, ">= %.2fx", fig->target);
	else if (fig->rule == VALUE_AT_MOST)
		snprintf(buf, size, "<= %g", fig->target);
	else
		buf[0] = 0;
	return buf;
}

/* Three to four digits, or nothing. */
static const char *number(double v, char buf[static 32])
{
	int decimals = 3;

	for (double size = fabs(v); decimals && size >= 10; size /= 10)
		decimals--;
	if (isnan(v))
		buf[0] = 0;
	else
		snprintf(buf, 32, "%.*f", decimals, v);
	return buf;
}

static void print_machine(FILE *f, const struct bench *b)
{
	static const char *const keys[] = { "passthrough", "huge", "map", "commit", "libfuse", NULL };
	char line[600], model[256] = "";
	FILE *cpu = fopen("/proc/cpuinfo", "re");
	struct server srv;
	struct utsname un;

	while (cpu && !*model && fgets(line, sizeof(line), cpu))
		sscanf(line, "model name : %255[^\n]", model);
	if (cpu)
		fclose(cpu);
	uname(&un);
	server_find(&srv, b->dir[SIDE_SPMFS]);
	fprintf(f, "machine: %s, %ld processors, Linux %s\n", *model ? model : un.machine,
		sysconf(_SC_NPROCESSORS_ONLN), un.release);
	if (!srv.n) {
		fprintf(f, "spmfs: none: both sides are what is mounted there\n");
		return;
	}
	fprintf(f, "spmfs: version %s", server_feature(&srv, "version", line, sizeof(line)));
	for (const char *const *key = keys; *key; key++)
		fprintf(f, ", %s %s", *key, server_feature(&srv, *key, line, sizeof(line)));
	fputc('\n', f);
}

static void print_table(FILE *f, const struct bench *b, const struct result *res, int n)
{
	char tmpfs[32], spmfs[32], ratio[32], target[64];
	int count[VERDICT_FAILED + 1] = { 0 };

	print_machine(f, b);
	fprintf(f, "medians of %d rounds, each the median of %d samples of either side; ", b->scale.rounds,
		b->scale.inner);
	fprintf(f, "ratio: speed of spmfs / tmpfs\n\n");
	fprintf(f, "%-16s %-46s %-7s %8s %8s %7s %9s  %s\n", "figure", "", "unit", "tmpfs", "spmfs", "ratio",
		"target", "verdict");
	for (int i = 0; i < n; i++) {
		const struct figure *fig = res[i].fig;
		const double *value = res[i].value;

		count[res[i].verdict]++;
		if (isnan(res[i].ratio))
			ratio[0] = 0;
		else
			snprintf(ratio, sizeof(ratio), "%.3fx", res[i].ratio);
		fprintf(f, "%-16s %-46s %-7s %8s %8s %7s %9s  %s\n", fig->name, fig->title, fig->unit,
			number(value[SIDE_TMPFS], tmpfs), number(value[SIDE_SPMFS], spmfs), ratio,
			bench_target(fig, target, sizeof(target)), verdicts[res[i].verdict]);
	}
	fprintf(f, "\n%d ok, %d missed, %d without target, %d skipped, %d failed\n", count[VERDICT_OK],
		count[VERDICT_MISS], count[VERDICT_SHOWN], count[VERDICT_SKIP], count[VERDICT_FAILED]);
	for (int i = 0; i < n; i++)
		if (*res[i].text)
			fprintf(f, "%s: %s\n", res[i].fig->name, res[i].text);
}

static void print_figures(FILE *f, const struct result *res, int n)
{
	static const char *const rules[] = { "ratio_at_least", "value_at_most", "shown" };

	fprintf(f, "figure,unit,tmpfs,spmfs,ratio,rule,target,verdict\n");
	for (int i = 0; i < n; i++) {
		const struct figure *fig = res[i].fig;

		fprintf(f, "%s,%s,%.6g,%.6g,%.6g,%s,%g,%s\n", fig->name, fig->unit, res[i].value[SIDE_TMPFS],
			res[i].value[SIDE_SPMFS], res[i].ratio, rules[fig->rule],
			fig->rule == SHOWN ? NAN : fig->target, verdicts[res[i].verdict]);
	}
}

static void print_rounds(FILE *f, const struct result *res, int n)
{
	fprintf(f, "figure,round,tmpfs,spmfs\n");
	for (int i = 0; i < n; i++)
		for (int r = 0; r < res[i].rounds; r++)
			fprintf(f, "%s,%d,%.6g,%.6g\n", res[i].fig->name, r + 1, res[i].raw[SIDE_TMPFS][r],
				res[i].raw[SIDE_SPMFS][r]);
}

static FILE *result_file(const struct bench *b, const char *name)
{
	char path[PATH_MAX];

	return fopen(path_in(path, b->out, name), "we");
}

static int result_close(FILE *f)
{
	int bad = ferror(f);

	return fclose(f) || bad ? -EIO : 0;
}

int bench_report(const struct bench *b, const struct result *res, int n)
{
	FILE *table = result_file(b, "table.txt"), *figures = result_file(b, "figures.csv");
	FILE *rounds = result_file(b, "rounds.csv");
	int rc = table && figures && rounds ? 0 : -errno;

	print_table(stdout, b, res, n);
	if (table) {
		print_table(table, b, res, n);
		rc = result_close(table) ? -EIO : rc;
	}
	if (figures) {
		print_figures(figures, res, n);
		rc = result_close(figures) ? -EIO : rc;
	}
	if (rounds) {
		print_rounds(rounds, res, n);
		rc = result_close(rounds) ? -EIO : rc;
	}
	return rc;
}
