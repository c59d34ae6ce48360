/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plot: one bar for each figure that has a target, from the target's line to what was measured, on a
 * logarithmic scale. To the right is better than the target, whatever the unit.
 */
#include <errno.h>
#include <math.h>

#include "tests/bench/bench.h"

#define ROW	 22
#define TOP	 58
#define LEFT	 340 /* where the axis begins; the titles are to its left */
#define AXIS	 480
#define RIGHT	 220 /* for the numbers */
#define OCTAVES	 2   /* to either side of the target; a bar that would be longer ends there */
#define GOOD	 "#0072b2"
#define BAD	 "#d55e00"

/* How many times better than its target a figure is. */
static double score(const struct result *res)
{
	double value = res->value[SIDE_SPMFS], target = res->fig->target;

	if (res->fig->rule == RATIO_AT_LEAST)
		return res->ratio / target;
	return value > 0 ? target / value : HUGE_VAL;
}

static bool plotted(const struct result *res)
{
	return res->verdict == VERDICT_OK || res->verdict == VERDICT_MISS;
}

static double x_of(double factor)
{
	return LEFT + AXIS * (fmin(fmax(log2(factor), -OCTAVES), OCTAVES) + OCTAVES) / (2 * OCTAVES);
}

static void axis(FILE *f, int height)
{
	for (int o = -OCTAVES; o <= OCTAVES; o++) {
		const char *colour = o ? "#ddd" : "#000";
		double x = x_of(exp2(o));

		fprintf(f, "<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' stroke='%s'/>\n", x, x, TOP - 6,
			height - 8, colour);
		fprintf(f, "<text x='%.1f' y='%d' text-anchor='middle'>", x, TOP - 12);
		if (o < 0)
			fprintf(f, "1/%d</text>\n", 1 << -o);
		else
			fprintf(f, o ? "%dx</text>\n" : "target</text>\n", 1 << o);
	}
}

static void bar(FILE *f, const struct result *res, int y)
{
	double from = x_of(1), to = x_of(score(res)), x = fmin(from, to);
	const struct figure *fig = res->fig;
	char target[64];

	fprintf(f, "<text x='%d' y='%d' text-anchor='end'>%s</text>\n", LEFT - 10, y + 14, fig->title);
	fprintf(f, "<rect x='%.1f' y='%d' width='%.1f' height='%d' fill='%s'/>\n", x, y + 3,
		fmax(fabs(to - from), 2), ROW - 7, res->verdict == VERDICT_OK ? GOOD : BAD);
	fprintf(f, "<text x='%d' y='%d'>", LEFT + AXIS + 10, y + 14);
	bench_target(fig, target, sizeof(target));
	/* A target begins with an angle bracket. */
	fprintf(f, fig->rule == RATIO_AT_LEAST ? "%.3fx" : "%.4g", fig->rule == RATIO_AT_LEAST ?
		res->ratio : res->value[SIDE_SPMFS]);
	fprintf(f, " (&%s;%s%s%s)%s</text>\n", *target == '<' ? "lt" : "gt", target + 1,
		fig->rule == VALUE_AT_MOST ? " " : "", fig->rule == VALUE_AT_MOST ? fig->unit : "",
		res->verdict == VERDICT_OK ? "" : " missed");
}

int bench_svg(const char *path, const struct result *res, int n)
{
	FILE *f = fopen(path, "we");
	int rows = 0, height, bad;

	if (!f)
		return -errno;
	for (int i = 0; i < n; i++)
		rows += plotted(&res[i]);
	height = TOP + rows * ROW + 16;
	fprintf(f, "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' "
		   "font-size='12'>\n", LEFT + AXIS + RIGHT, height);
	fprintf(f, "<rect width='100%%' height='100%%' fill='#fff'/>\n");
	fprintf(f, "<text x='16' y='22' font-size='15'>spmfs: what was measured, against its target "
		   "(right is better)</text>\n");
	axis(f, height);
	for (int i = 0, row = 0; i < n; i++)
		if (plotted(&res[i]))
			bar(f, &res[i], TOP + ROW * row++);
	fprintf(f, "</svg>\n");
	bad = ferror(f);
	return fclose(f) || bad ? -EIO : 0;
}
