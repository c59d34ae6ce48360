/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker is killed at any instruction, or at a fault point, while threads change files and extents leave and come back. The
 * next one finds every byte that was acknowledged. SPM_TEST_ROUNDS says how often.
 */
#include "tests/unit/swap_model.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define MIB (UINT64_C(1) << 20)

static const char *const points[] = { "swapout:written", "swapout:recorded", "swapout:punched", "swapout:done", "swapin:marked",
				      "swapin:allocated", "swapin:read", "swapin:cleared", "compact:copied", "compact:moved",
				      "trim:truncated", "cut:written", "cut:recorded" };

static const struct {
	uint64_t memory;
	uint32_t extent, files, blocks, threads;
	bool direct, pooled;
} kinds[] = {
	{ 8 * MIB, 64 << 10, 10, 600, 4, false, false },
	{ 16 * MIB, 2 * MIB, 8, 1536, 4, true, false },
	{ 8 * MIB, 64 << 10, 10, 600, 4, false, true },
	{ 16 * MIB, 2 * MIB, 8, 1536, 4, false, true },
};

static unsigned int number(const char *name, unsigned int def)
{
	const char *v = getenv(name);

	return v ? (unsigned int)strtoul(v, NULL, 10) : def;
}

static void work(struct model *m, struct rig *r)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(1);
	rig_open(r, false);
	model_audit(r);
	model_verify(m, r);
	if (spm_swap_start(r->s))
		_exit(1);
	model_run(m, r, 60000);
	_exit(1);
}

/* One life: ends at @point, or after @ms. True: there. */
static bool live(struct model *m, struct rig *r, const char *point, int after, unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
	sigset_t chld;
	pid_t pid;
	int status;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	fflush(NULL);
	pid = fork();
	if (!pid) {
		r->fault = point;
		r->fault_after = after;
		m->o.seed += (unsigned int)getpid();
		work(m, r);
	}
	ck_assert_int_gt(pid, 0);
	bool died = sigtimedwait(&chld, NULL, &t) == SIGCHLD;

	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the worker ended by itself: %#x", (unsigned int)status);
	(void)sigtimedwait(&chld, NULL, &(struct timespec){ 0, 0 });
	return died;
}

static struct model *set_up(int kind, struct rig *r)
{
	struct rig_opts o = { .memory = kinds[kind].memory, .swap = 192 * MIB, .swap_files = 2,
			      .extent = kinds[kind].extent, .pooled = kinds[kind].pooled,
			      .swap_opts = { .low_pct = 10, .high_pct = 20, .compact_bps = 64 * MIB, .used_max = UINT64_MAX } };
	struct model_opts mo = { .files = kinds[kind].files, .blocks = kinds[kind].blocks, .threads = kinds[kind].threads,
				 .direct = kinds[kind].direct, .seed = number("SPM_TEST_SEED", 1) };

	rig_make(r, &o);
	return model_new(&mo);
}

static void tear_down(struct model *m, struct rig *r)
{
	r->fault = NULL;
	rig_open(r, false);
	model_audit(r);
	model_verify(m, r);
	model_remove(m, r);
	rig_close(r);
	printf("# %llu requests, %llu MiB written, %llu out, %llu in\n", (unsigned long long)m->ops,
	       (unsigned long long)m->bytes / MIB, (unsigned long long)r->count->swapout_bytes / MIB,
	       (unsigned long long)r->count->swapin_bytes / MIB);
	fflush(stdout);
	ck_assert_uint_gt(r->count->swapout_bytes, 0);
	ck_assert_uint_eq(r->count->swap_errors, 0);
	rig_destroy(r);
	model_free(m);
}

START_TEST(at_any_instruction)
{
	unsigned int rounds = number("SPM_TEST_ROUNDS", 20), seed = number("SPM_TEST_SEED", 1);
	struct rig r;
	struct model *m = set_up(_i, &r);

	for (unsigned int i = 0; i < rounds; i++)
		(void)live(m, &r, NULL, 0, 1 + (unsigned int)rand_r(&seed) % 700);
	tear_down(m, &r);
}
END_TEST

START_TEST(at_fault_points)
{
	unsigned int rounds = 1 + number("SPM_TEST_ROUNDS", 20) / 20, seed = number("SPM_TEST_SEED", 1);
	struct rig r;
	struct model *m = set_up(_i, &r);

	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int k = 0; k < SPM_ARRAY_SIZE(points); k++) {
			int after = points[k][0] == 's' ? rand_r(&seed) % 50 : rand_r(&seed) % 3;

			if (!live(m, &r, points[k], after, 20000))
				ck_abort_msg("nobody came to %s", points[k]);
		}
	}
	tear_down(m, &r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("swap-kill");
	TCase *t = tcase_create("swap-kill");
	int kind = (int)number("SPM_TEST_KIND", SPM_ARRAY_SIZE(kinds));
	int from = kind < (int)SPM_ARRAY_SIZE(kinds) ? kind : 0;
	int to = kind < (int)SPM_ARRAY_SIZE(kinds) ? kind + 1 : (int)SPM_ARRAY_SIZE(kinds);

	tcase_set_timeout(t, 0);
	tcase_add_loop_test(t, at_any_instruction, from, to);
	tcase_add_loop_test(t, at_fault_points, from, to);
	suite_add_tcase(s, t);
	return spm_unit_run(s);
}
