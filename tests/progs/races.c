/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients that get in each other's way, as found by a review.
 *
 *	races modes DIR SECONDS		processes write and read back their own words of shared files, through all
 *					kinds of opens, while user.spm.map changes: no acknowledged write may be lost
 *	races fault DIR SECONDS		writes whose buffer is a mapping of a mirror file, so that a write to the region
 *					waits for a READ of the server, beside requests that wait for that write:
 *					the mount must go on answering
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define FILES   4
#define WRITERS 6
#define PAGE    4096
#define MIB     (1u << 20)

static const char *const wishes[] = { "mirror", "direct", "auto" };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Writes one word at @off, through a write or a mapping that may outlive its descriptor. */
static void put(const char *path, off_t off, uint64_t value)
{
	int how = (int)(random() % 4), fd = open(path, how ? O_RDWR : O_WRONLY);
	char *p;

	if (fd < 0)
		die(path);
	if (how <= 1) {
		if (pwrite(fd, &value, sizeof(value), off) != sizeof(value))
			die("pwrite");
		close(fd);
		return;
	}
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	if (how == 2)
		close(fd);
	*(volatile uint64_t *)(void *)(p + off) = value;
	if (how == 3)
		close(fd);
	munmap(p, PAGE);
}

static uint64_t get(const char *path, off_t off)
{
	int fd = open(path, O_RDONLY);
	uint64_t value = 0;

	if (fd < 0)
		die(path);
	if (random() % 2) {
		if (pread(fd, &value, sizeof(value), off) != sizeof(value))
			die("pread");
	} else {
		char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED)
			die("mmap");
		value = *(volatile uint64_t *)(void *)(p + off);
		munmap(p, PAGE);
	}
	close(fd);
	return value;
}

static void write_and_check(const char *dir, int me, time_t end)
{
	uint64_t count[FILES] = { 0 };
	char path[512];

	srandom((unsigned int)me + 1);
	while (time(NULL) < end) {
		int k = (int)(random() % FILES);
		const char *wish = wishes[random() % 3];
		uint64_t got;

		snprintf(path, sizeof(path), "%s/shared%d", dir, k);
		if (random() % 3 == 0 && setxattr(path, "user.spm.map", wish, strlen(wish), 0))
			die("setxattr");
		put(path, 64 * me, ++count[k]);
		got = get(path, 64 * me);
		if (got != count[k]) {
			printf("lost: process %d wrote %llu to file %d and reads %llu\n", me,
			       (unsigned long long)count[k], k, (unsigned long long)got);
			exit(1);
		}
	}
	exit(0);
}

static int race_modes(const char *dir, int seconds)
{
	time_t end = time(NULL) + seconds;
	int status, rc = 0;
	char path[512];

	for (int k = 0; k < FILES; k++) {
		int fd;

		snprintf(path, sizeof(path), "%s/shared%d", dir, k);
		fd = open(path, O_RDWR | O_CREAT, 0666);
		if (fd < 0 || ftruncate(fd, PAGE))
			die(path);
		close(fd);
	}
	for (int i = 0; i < WRITERS; i++)
		if (!fork())
			write_and_check(dir, i, end);
	while (wait(&status) > 0)
		rc |= status;
	return rc ? 1 : 0;
}

#define FAULT_BYTES (16 * MIB)

/* Never ends: its parent ends it. */
static void write_from_mirror(int from, int to)
{
	char *p = mmap(NULL, FAULT_BYTES, PROT_READ, MAP_SHARED, from, 0);

	while (p != MAP_FAILED) {
		madvise(p, FAULT_BYTES, MADV_DONTNEED);
		posix_fadvise(from, 0, FAULT_BYTES, POSIX_FADV_DONTNEED);
		fallocate(to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, FAULT_BYTES);
		if (pwrite(to, p, FAULT_BYTES, 0) < 0)
			die("pwrite");
	}
	die("mmap");
}

static void wait_for_writer(const char *path, int how)
{
	char text[4096];

	for (;;) {
		int fd = how ? open(path, O_RDWR) : -1;

		if (how && fd >= 0)
			close(fd);
		else if (getxattr(path, "system.spm.file", text, sizeof(text)) < 0)
			die("getxattr");
	}
}

static int race_fault(const char *dir, int seconds)
{
	char mirror[512], region[512], other[512];
	pid_t pids[8];
	int n = 0, rc = 0, from, to;

	snprintf(mirror, sizeof(mirror), "%s/mirror", dir);
	snprintf(region, sizeof(region), "%s/region", dir);
	from = open(mirror, O_RDWR | O_CREAT, 0666);
	to = open(region, O_RDWR | O_CREAT, 0666);
	if (from < 0 || to < 0)
		die(dir);
	close(from);
	if (setxattr(mirror, "user.spm.map", "mirror", 6, 0))
		die("setxattr");
	from = open(mirror, O_RDWR);
	if (from < 0 || ftruncate(from, FAULT_BYTES))
		die(mirror);
	for (; n < 8; n++) {
		pids[n] = fork();
		if (!pids[n]) {
			if (!n)
				write_from_mirror(from, to);
			wait_for_writer(region, n % 2);
		}
	}
	for (time_t end = time(NULL) + seconds; !rc && time(NULL) < end; usleep(50000)) {
		struct stat st;

		/* by the alarm, if nobody answers */
		alarm(20);
		snprintf(other, sizeof(other), "%s/none%ld", dir, random());
		if (!stat(other, &st) || errno != ENOENT)
			rc = 1;
		alarm(0);
	}
	while (n)
		kill(pids[--n], SIGKILL);
	while (wait(NULL) > 0)
		;
	return rc;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "modes"))
		return race_modes(argv[2], atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "fault"))
		return race_fault(argv[2], atoi(argv[3]));
	fprintf(stderr, "usage: %s modes|fault DIR SECONDS\n", argv[0]);
	return 2;
}
