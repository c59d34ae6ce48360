/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The measuring core: warm-up, interleaved rounds, medians. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"

const char *bench_dir(const struct bench *b, enum side side)
{
	enum where where = b->fig->where;

	if (where >= SWAPPING)
		return b->swap.dir[(side == SIDE_SPMFS ? where : PAGED) - SWAPPING];
	return side == SIDE_SPMFS && where == SERVED ? b->served : b->dir[side];
}

int bench_fail(struct bench *b, int rc, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	vsnprintf(b->why, sizeof(b->why), fmt, ap);
	va_end(ap);
	len = strlen(b->why);
	if (rc < 0)
		snprintf(b->why + len, sizeof(b->why) - len, ": %s", strerror(-rc));
	return rc;
}

void bench_note(struct bench *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b->note, sizeof(b->note), fmt, ap);
	va_end(ap);
}

int bench_need_mode(struct bench *b, enum side side, const char *path, const char *mode)
{
	char have[32], passthrough[200];

	if (side != SIDE_SPMFS || !b->server.n || !strcmp(file_mode(path, have, sizeof(have)), mode))
		return 0;
	server_feature(&b->server, "passthrough", passthrough, sizeof(passthrough));
	if (!strncmp(passthrough, "off", 3))
		return bench_fail(b, SKIP, "no direct files: passthrough %s", passthrough);
	return bench_fail(b, UNFIT, "%s is %s, not %s", path, *have ? have : "without system.spm.file", mode);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(const double *v, int n)
{
	double sorted[MAX_ROUNDS];

	if (n <= 0 || n > MAX_ROUNDS)
		return NAN;
	memcpy(sorted, v, (size_t)n * sizeof(*v));
	qsort(sorted, (size_t)n, sizeof(*sorted), by_value);
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* One round: the medians of its samples of each side, taken in the order ABBA ABBA, or BAAB BAAB. */
static int measure_round(struct bench *b, const struct probe *p, int round, double value[SIDES])
{
	int inner = p->once || p->heavy ? 1 : b->scale.inner, taken[SIDES] = { 0 }, rc = 0;
	double sample[SIDES][MAX_ROUNDS] = { { 0 } };

	for (int i = 0; i < 2 * inner && !rc; i++) {
		enum side side = (enum side)(((i + 1) / 2 + round) & 1);

		if (side == SIDE_TMPFS && p->spmfs_only)
			continue;
		rc = p->restless ? 0 : server_settle(&b->server);
		if (rc)
			return bench_fail(b, rc, "the server does not come to rest");
		rc = p->sample(b, side, &sample[side][taken[side]++]);
	}
	for (int side = 0; side < SIDES && !rc; side++)
		value[side] = bench_median(sample[side], taken[side]);
	return rc;
}

static int measure_rounds(struct bench *b, const struct probe *p, struct result *res)
{
	int rounds = p->once ? 1 : p->heavy ? b->scale.swap_rounds : b->scale.rounds, rc = 0;
	double value[SIDES];

	/* The round before the first is the warm-up: it runs as all others and is thrown away. */
	for (int round = p->once ? 0 : -1; round < rounds && !rc; round++) {
		if (p->begin)
			rc = p->begin(b, round);
		if (!rc)
			rc = measure_round(b, p, round & 1, value);
		if (p->end)
			p->end(b);
		if (rc || round < 0)
			continue;
		for (int side = 0; side < SIDES; side++)
			res->raw[side][round] = value[side];
		res->rounds = round + 1;
	}
	return rc;
}

static void judge(struct result *res)
{
	const struct figure *fig = res->fig;
	double ratio[MAX_ROUNDS];

	for (int i = 0; i < res->rounds; i++) {
		double a = res->raw[SIDE_TMPFS][i], b = res->raw[SIDE_SPMFS][i];

		ratio[i] = fig->more_is_better ? b / a : a / b;
	}
	for (int side = 0; side < SIDES; side++)
		res->value[side] = bench_median(res->raw[side], res->rounds);
	res->ratio = isnan(res->value[SIDE_TMPFS]) ? NAN : bench_median(ratio, res->rounds);
	if (fig->rule == RATIO_AT_LEAST)
		res->verdict = res->ratio >= fig->target ? VERDICT_OK : VERDICT_MISS;
	else if (fig->rule == VALUE_AT_MOST)
		res->verdict = res->value[SIDE_SPMFS] <= fig->target ? VERDICT_OK : VERDICT_MISS;
	else
		res->verdict = VERDICT_SHOWN;
}

void bench_measure(struct bench *b, const struct figure *fig, struct result *res)
{
	const struct probe *p = fig->probe;
	int rc = 0;

	*res = (struct result){ .fig = fig, .value = { NAN, NAN }, .ratio = NAN };
	b->fig = fig;
	b->why[0] = b->note[0] = 0;
	server_find(&b->server, bench_dir(b, SIDE_SPMFS));
	if (fig->where >= SWAPPING && b->swap.why)
		rc = bench_fail(b, SKIP, "no swap: %s", b->swap.why);
	else if (p->needs_server && !b->server.n)
		rc = bench_fail(b, SKIP, "no spmfs on %s", b->server.root);
	if (!rc && p->setup)
		rc = p->setup(b);
	if (!rc)
		rc = measure_rounds(b, p, res);
	if (p->teardown)
		p->teardown(b);
	if (!rc) {
		judge(res);
		snprintf(res->text, sizeof(res->text), "%s", b->note);
		return;
	}
	res->verdict = rc == SKIP ? VERDICT_SKIP : VERDICT_FAILED;
	snprintf(res->text, sizeof(res->text), "%s", *b->why ? b->why : strerror(-rc));
}
