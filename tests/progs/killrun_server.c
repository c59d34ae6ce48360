/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The processes of a mount are those that hold its shared state; their names say which is which. */
#include "tests/progs/killrun.h"
#include "fs/state.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const names[SERVERS] = {"spmfs-worker", "spmfs-standby", "spmfs-keeper"};
#define STATE "spmfs-state"

static pid_t keeper_of(const char *mountpoint)
{
	char path[PATH_MAX], line[256];
	long pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/.spm/features", mountpoint);
	f = fopen(path, "re");
	if (!f) { /* a slice of the mount above */
		snprintf(path, sizeof(path), "%s/../.spm/features", mountpoint);
		f = fopen(path, "re");
	}
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "keeper_pid ", 11))
			pid = strtol(line + 11, NULL, 10);
	if (f)
		fclose(f);
	return (pid_t)pid;
}

/* Calls fn with the path of each descriptor of a process that is a memfd of that name, until it returns true. */
static bool each_memfd(pid_t pid, const char *name, bool (*fn)(const char *path, void *arg), void *arg)
{
	char dir[64], path[PATH_MAX], to[64], want[64];
	size_t len = (size_t)snprintf(want, sizeof(want), "/memfd:%s", name);
	bool found = false;
	struct dirent *e;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
	d = opendir(dir);
	while (d && !found && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (readlink(path, to, sizeof(to)) >= (ssize_t)len && !memcmp(to, want, len))
			found = fn(path, arg);
	}
	if (d)
		closedir(d);
	return found;
}

static bool take_state(const char *path, void *arg)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct target *t = arg;
	struct stat st;
	void *p;

	if (fd < 0)
		return false;
	p = mmap(NULL, sizeof(struct spm_state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED && !fstat(fd, &st)) {
		t->state = p;
		t->state_dev = st.st_dev;
		t->state_ino = st.st_ino;
	}
	close(fd);
	return t->state;
}

static bool same_state(const char *path, void *arg)
{
	const struct target *t = arg;
	struct stat st;

	return !stat(path, &st) && st.st_dev == t->state_dev && st.st_ino == t->state_ino;
}

int target_open(struct target *t, const char *mountpoint)
{
	pid_t keeper = keeper_of(mountpoint);

	if (keeper <= 0) {
		fprintf(stderr, "killrun: %s/.spm/features names no keeper\n", mountpoint);
		return -1;
	}
	if (!each_memfd(keeper, STATE, take_state, t)) {
		fprintf(stderr, "killrun: keeper %d of %s holds no memory called " STATE "\n", (int)keeper,
			mountpoint);
		return -1;
	}
	if (t->state->magic != SPM_STATE_MAGIC || t->state->version != SPM_STATE_VERSION) {
		fprintf(stderr, "killrun: the state of %s is of another version than this program\n",
			mountpoint);
		return -1;
	}
	return 0;
}

static bool is_named(pid_t pid, const char *name)
{
	char path[64], comm[32];
	bool same = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(comm, sizeof(comm), f)) {
		comm[strcspn(comm, "\n")] = '\0';
		/* the kernel keeps 15 characters */
		same = !strncmp(comm, name, 15);
	}
	fclose(f);
	return same;
}

pid_t target_find(const struct target *t, enum server which)
{
	struct dirent *e;
	pid_t found = 0;
	DIR *d = opendir("/proc");

	while (d && !found && (e = readdir(d))) {
		pid_t pid = isdigit((unsigned char)e->d_name[0]) ? (pid_t)strtol(e->d_name, NULL, 10) : 0;

		if (pid > 0 && is_named(pid, names[which]) && each_memfd(pid, STATE, same_state, (void *)t))
			found = pid;
	}
	if (d)
		closedir(d);
	return found;
}

static bool open_it(const char *path, void *arg)
{
	int *fd = arg;

	*fd = open(path, O_RDWR | O_CLOEXEC);
	return *fd >= 0;
}

int target_memfd(const struct target *t, const char *name)
{
	int fd = -1;

	each_memfd((pid_t)t->state->keeper_pid, name, open_it, &fd);
	if (fd < 0)
		fprintf(stderr, "the keeper holds no memory called %s\n", name);
	return fd;
}

void *target_map(const struct target *t, const char *name, size_t *size)
{
	int fd = target_memfd(t, name);
	void *p = MAP_FAILED;
	struct stat st;

	if (fd >= 0 && !fstat(fd, &st)) {
		*size = (size_t)st.st_size;
		p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (fd >= 0)
		close(fd);
	return p == MAP_FAILED ? NULL : p;
}

unsigned int target_generation(const struct target *t)
{
	return *(const volatile uint32_t *)&t->state->generation;
}

uint64_t target_answered(const struct target *t)
{
	return atomic_load(&t->state->answered);
}
