/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/progs/slicerun.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t pick(struct run *r, uint64_t n)
{
	/* xorshift64* */
	r->random ^= r->random >> 12;
	r->random ^= r->random << 25;
	r->random ^= r->random >> 27;
	return (r->random * UINT64_C(0x2545f4914f6cdd1d) >> 11) % n;
}

void wrong(struct run *r, const char *fmt, ...)
{
	va_list ap;
	char text[512];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("# WRONG: process %u, after '%s': %s\n", r->who, r->did, text);
	fflush(stdout);
	r->all->errors++;
	r->all->stop = true;
}

uint64_t units(const struct run *r, uint64_t bytes)
{
	return (bytes + r->unit - 1) / r->unit * r->unit;
}

uint64_t used_by(const struct run *r, const struct slice *s)
{
	uint64_t bytes = 0;

	for (int f = 0; f < FILES; f++)
		bytes += units(r, s->file[f].bytes);
	return bytes;
}

void path_of(const struct run *r, const struct slice *s, int file, char *out, size_t size)
{
	if (file < 0)
		snprintf(out, size, "%s/%s", r->mnt, s->name);
	else
		snprintf(out, size, "%s/%s/f%d", r->mnt, s->name, file);
}

static void work(struct run *r, int seconds)
{
	struct timespec now, end;

	for (int i = 0; i < SLICES; i++)
		snprintf(r->slice[i].name, sizeof(r->slice[i].name), "p%u.%d", r->who, i);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	do {
		pthread_rwlock_rdlock(&r->all->lock);
		step(r);
		pthread_rwlock_unlock(&r->all->lock);
		pthread_rwlock_wrlock(&r->all->lock);
		if (!r->all->stop)
			look(r);
		pthread_rwlock_unlock(&r->all->lock);
		r->all->steps++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (!r->all->stop && now.tv_sec < end.tv_sec);
	for (int i = 0; i < SLICES; i++)
		for (int f = 0; f < FILES && !r->all->stop; f++)
			verify(r, &r->slice[i], f);
}

static struct shared *share(void)
{
	struct shared *all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_rwlockattr_t attr;

	if (all == MAP_FAILED)
		return NULL;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&all->lock, &attr);
	return all;
}

static int usage(void)
{
	fputs("usage: slicerun [-s SECONDS] [-j PROCESSES] [-r SEED] [-e EXTENT] [--swap] MOUNTPOINT\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "swap", no_argument, NULL, 'w' }, { NULL, 0, NULL, 0 } };
	struct run r = { .unit = PAGE };
	int c, seconds = 10, processes = 1, status;
	uint64_t seed = 0;

	while ((c = getopt_long(argc, argv, "s:j:r:e:", longs, NULL)) != -1) {
		if (c == 's')
			seconds = atoi(optarg);
		else if (c == 'j')
			processes = atoi(optarg);
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'e')
			r.unit = strtoull(optarg, NULL, 0);
		else if (c == 'w')
			r.swap = true;
		else
			return usage();
	}
	if (optind != argc - 1 || processes < 1 || processes > PROCS || r.unit < PAGE || r.unit % PAGE)
		return usage();
	if (!seed && getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return 2;
	r.mnt = argv[optind];
	r.all = share();
	if (!r.all)
		return 2;
	look(&r); /* also says how large the device is */
	printf("# seed 0x%llx\n", (unsigned long long)seed);
	fflush(stdout);
	for (int i = 0; i < processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 2;
		if (pid)
			continue;
		r.who = (unsigned int)i;
		r.random = (seed + (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15)) | 1;
		work(&r, seconds);
		exit(0);
	}
	while (wait(&status) > 0)
		if (status)
			r.all->errors++;
	printf("# steps %llu\n# refused %llu\n# errors %llu\n", (unsigned long long)r.all->steps,
	       (unsigned long long)r.all->refused, (unsigned long long)r.all->errors);
	return r.all->errors > 0;
}
