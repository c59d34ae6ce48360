/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process is killed at any instruction: the extent map that it leaves says what it had done. */
#include "tests/unit/extmap.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define KILL_FILES   12u
#define KILL_EXTENTS 40u

/* What the worker has done: 0 nothing is recorded, 1 it is out, 2 it was at it. */
struct kills {
	uint8_t out[2][KILL_FILES][KILL_EXTENTS];
	uint8_t head[2][KILL_FILES];
	atomic_ullong rounds;
};

/* Each thread has files of its own; all three kinds of places. */
static uint64_t kill_extent(uint32_t n)
{
	return n < 24 ? n : (uint64_t)n * 400;
}

static void kill_step(struct spm_extmap *m, struct kills *k, int t, unsigned int *seed)
{
	uint32_t i = (uint32_t)rand_r(seed) % KILL_FILES, n = (uint32_t)rand_r(seed) % KILL_EXTENTS;
	uint64_t ino = 100 + i, e = kill_extent(n);
	struct spm_handle h = handle_of(ino);
	uint32_t file = spm_extmap_find(m, (uint16_t)t, ino), what = (uint32_t)rand_r(seed) % 40;
	volatile uint8_t *head = &k->head[t][i], *out = &k->out[t][i][n];
	struct spm_extent *x;

	if (!file) {
		*head = 2;
		if (!spm_extmap_intern(m, (uint16_t)t, ino, &h, 0))
			_exit(1);
		*head = 1;
	} else if (!what) {
		for (n = 0; n < KILL_EXTENTS; n++) {
			x = spm_extmap_get(m, file, kill_extent(n), false);
			k->out[t][i][n] = 2;
			spm_extmap_barrier();
			if (x)
				spm_extent_set_how(x, 0);
			spm_extmap_barrier();
			k->out[t][i][n] = 0;
		}
		*head = 2;
		spm_extmap_forget(m, file);
		*head = 0;
	} else if (what == 1) {
		spm_extmap_tidy(m, file);
	} else {
		x = spm_extmap_get(m, file, e, true);
		if (!x || (*out != 2 && *out != !!spm_extent_how(x)))
			_exit(1);
		*out = 2;
		spm_extmap_barrier();
		if (spm_extent_how(x))
			spm_extent_set_how(x, 0);
		else
			set_record(x, ino + 1000 * (uint64_t)t, e);
		spm_extmap_barrier();
		*out = !!spm_extent_how(x);
	}
	atomic_fetch_add(&k->rounds, 1);
}

struct kill_arg {
	struct spm_extmap *m;
	struct kills *k;
	int t;
};

static void *kill_for_ever(void *arg)
{
	struct kill_arg *a = arg;
	unsigned int seed = (unsigned int)(a->t + getpid());

	for (;;)
		kill_step(a->m, a->k, a->t, &seed);
	return NULL;
}

static void run_and_kill(int fd, struct kills *k, unsigned int *seed)
{
	unsigned long long until = atomic_load(&k->rounds) + 10 + (unsigned int)rand_r(seed) % 3000;
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0); /* or everybody would be killed */
	if (!pid) {
		struct spm_extmap m;
		struct kill_arg a[2] = { { &m, k, 0 }, { &m, k, 1 } };
		pthread_t id;

		if (spm_extmap_attach(&m, fd) || spm_extmap_scan(&m) || m.damaged ||
		    pthread_create(&id, NULL, kill_for_ever, &a[1]))
			_exit(1);
		kill_for_ever(&a[0]);
	}
	while (atomic_load(&k->rounds) < until)
		if (waitpid(pid, &status, WNOHANG))
			ck_abort_msg("the process ended by itself");
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

/* What the notes say is what the map says; where the worker was at it, the map says. */
static void check_kill(struct spm_extmap *m, struct kills *k, uint16_t t, uint32_t i)
{
	uint64_t ino = 100 + i;
	uint32_t file = spm_extmap_find(m, t, ino), swapped = 0;

	must(k->head[t][i] == 2 || k->head[t][i] == !!file);
	k->head[t][i] = !!file;
	for (uint32_t n = 0; n < KILL_EXTENTS; n++) {
		uint64_t e = kill_extent(n);
		struct spm_extent *x = file ? spm_extmap_get(m, file, e, false) : NULL;
		bool out = x && spm_extent_how(x);

		must(k->out[t][i][n] == 2 || k->out[t][i][n] == out);
		must(!out || x->slot == slot_of(ino + 1000 * (uint64_t)t, e));
		k->out[t][i][n] = out;
		swapped += out ? spm_extent_pages(x) : 0;
	}
	must(!file || m->head[file].swapped == swapped);
}

START_TEST(killed_at_any_instruction)
{
	struct kills *k = mmap(NULL, sizeof(*k), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int seed = 7;
	struct spm_extmap m;
	int fd = new_file();

	ck_assert_ptr_ne(k, MAP_FAILED);
	for (int n = 0; n < 300; n++) {
		run_and_kill(fd, k, &seed);
		take_over(&m, fd, 0);
		for (uint16_t t = 0; t < 2; t++)
			for (uint32_t i = 0; i < KILL_FILES; i++)
				check_kill(&m, k, t, i);
		spm_extmap_detach(&m);
	}
	munmap(k, sizeof(*k));
	close(fd);
}
END_TEST

void add_kill_test(TCase *t)
{
	tcase_add_test(t, killed_at_any_instruction);
}
