/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Touches a direct mapping and one of plain tmpfs in turn, and notes the longest time that either took. */
#include "tests/progs/killrun.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { TOUCHED = 8 << 20, LONG_NS = 1000000 };

static char *map_file(const char *dir)
{
	char path[PATH_MAX];
	void *p;
	int fd;

	snprintf(path, sizeof(path), "%s/touched", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, TOUCHED) || posix_fallocate(fd, 0, TOUCHED))
		return NULL;
	p = mmap(NULL, TOUCHED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* first uses are no pauses; the descriptor stays open: the server must keep the file for it */
	memset(p, 1, TOUCHED);
	return p;
}

/* Writes and reads back a word in each of some pages; one of them loses its page table entry first. */
static bool touch(char *p, uint64_t value)
{
	unsigned int k;

	madvise(p + value % (TOUCHED / 4096) * 4096, 4096, MADV_DONTNEED);
	for (k = 0; k < 16; k++) {
		volatile uint64_t *word =
			(volatile uint64_t *)(void *)(p + (value + k * 97) % (TOUCHED / 4096) * 4096);

		*word = value + k;
		if (*word != value + k)
			return false;
	}
	return true;
}

static void note(struct shared *sh, int s, uint64_t ns)
{
	if (ns > atomic_load(&sh->pause_ns[s]))
		atomic_store(&sh->pause_ns[s], ns);
	if (ns > LONG_NS)
		atomic_fetch_add(&sh->long_pauses[s], 1);
}

void touch_run(struct shared *sh, const char *const sides[2])
{
	char *map[2] = {map_file(sides[0]), map_file(sides[1])};
	/* ahead of everybody, so that only the mapping itself can make it wait */
	struct sched_param rt = {.sched_priority = 1};
	uint64_t i;
	int s;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sched_setscheduler(0, SCHED_FIFO, &rt))
		setpriority(PRIO_PROCESS, 0, -20);
	for (i = 1; map[0] && map[1] && !atomic_load(&sh->stop); i++) {
		for (s = 0; s < 2; s++) {
			/* the side that goes first changes: it alone pays for a wake-up on a cold processor */
			int side = (int)((i + (unsigned int)s) & 1);
			uint64_t t = stress_now();

			if (!touch(map[side], i)) {
				atomic_store(&sh->touch_failed, true);
				_exit(1);
			}
			if (i > 2)
				note(sh, side, stress_now() - t);
		}
		atomic_store(&sh->touches, i);
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	if (!map[0] || !map[1]) {
		perror("killrun: cannot map a file to touch");
		atomic_store(&sh->touch_failed, true);
		_exit(1);
	}
	_exit(0);
}
