/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/bench/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/util.h"

#define MAX_MEMFDS 256

/* The memfds of a server, each once. */
struct memfds {
	ino_t ino[MAX_MEMFDS];
	int n;
	int64_t bytes;
};

/* The rest of the line of FILE (below .spm) that begins with key and a space. */
static int control_line(const struct server *srv, const char *file, const char *key, char *buf, size_t size)
{
	char path[PATH_MAX], line[1024], name[64];
	size_t len = strlen(key);
	int rc = -ENOENT;
	FILE *f;

	snprintf(name, sizeof(name), ".spm/%s", file);
	f = fopen(path_in(path, srv->root, name), "re");
	if (!f)
		return -errno;
	while (rc && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, len) || line[len] != ' ')
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(buf, size, "%s", line + len + 1);
		rc = 0;
	}
	fclose(f);
	return rc;
}

const char *server_feature(const struct server *srv, const char *key, char *buf, size_t size)
{
	if (control_line(srv, "features", key, buf, size))
		buf[0] = 0;
	return buf;
}

int64_t server_stat(const struct server *srv, const char *key)
{
	char buf[64];
	int rc = control_line(srv, "stat", key, buf, sizeof(buf));

	return rc ? rc : strtoll(buf, NULL, 10);
}

void server_find(struct server *srv, const char *dir)
{
	static const char *const keys[] = { "worker_pid", "keeper_pid" };

	memset(srv, 0, sizeof(*srv));
	snprintf(srv->root, sizeof(srv->root), "%s", dir);
	for (int i = 0; i < 2; i++) {
		char buf[64];
		pid_t pid = (pid_t)strtol(server_feature(srv, keys[i], buf, sizeof(buf)), NULL, 10);

		if (pid > 0 && (!srv->n || srv->pid[0] != pid))
			srv->pid[srv->n++] = pid;
	}
}

int64_t server_cpu_ns(const struct server *srv)
{
	int64_t sum = 0;

	for (int i = 0; i < srv->n; i++) {
		struct timespec ts;
		clockid_t clk;

		/* The process clock is exact; /proc/PID/stat counts in hundredths of a second. */
		if (clock_getcpuclockid(srv->pid[i], &clk) || clock_gettime(clk, &ts))
			continue;
		sum += ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
	}
	return sum;
}

int server_settle(const struct server *srv)
{
	int64_t until = now_ns() + INT64_C(20000000000), last, t, used, wall;
	int quiet = 0;

	if (!srv->n)
		return 0;
	last = server_cpu_ns(srv);
	t = now_ns();
	while (quiet < 3) {
		pause_ms(4);
		used = server_cpu_ns(srv) - last;
		wall = now_ns() - t;
		last += used;
		t += wall;
		quiet = used * 50 < wall ? quiet + 1 : 0;
		if (t > until)
			return -ETIMEDOUT;
	}
	return 0;
}

static bool memfd_known(const struct memfds *m, ino_t ino)
{
	for (int i = 0; i < m->n; i++)
		if (m->ino[i] == ino)
			return true;
	return false;
}

static int count_descriptors(pid_t pid, struct memfds *m)
{
	char dir[64], link[PATH_MAX];
	const struct dirent *de;
	struct stat st;
	int n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
	d = opendir(dir);
	if (!d)
		return -errno;
	while ((de = readdir(d))) {
		ssize_t len;

		if (de->d_name[0] == '.')
			continue;
		n++;
		len = readlinkat(dirfd(d), de->d_name, link, sizeof(link) - 1);
		if (!m || len < 0)
			continue;
		link[len] = 0;
		if (strncmp(link, "/memfd:", 7) || m->n == MAX_MEMFDS)
			continue;
		if (fstatat(dirfd(d), de->d_name, &st, 0) || memfd_known(m, st.st_ino))
			continue;
		m->ino[m->n++] = st.st_ino;
		m->bytes += st.st_blocks * 512;
	}
	closedir(d);
	return n;
}

int server_descriptors(const struct server *srv)
{
	int sum = 0;

	for (int i = 0; i < srv->n; i++) {
		int n = count_descriptors(srv->pid[i], NULL);

		if (n < 0)
			return n;
		sum += n;
	}
	return sum;
}

/* Resident bytes of a process without the memfds in m. */
static int64_t resident(pid_t pid, const struct memfds *m)
{
	char path[64], line[1024];
	unsigned long from, to, ino;
	int64_t sum = 0, kib;
	bool skip = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &ino) == 3)
			skip = strstr(line, "/memfd:") && memfd_known(m, ino);
		else if (!skip && sscanf(line, "Rss: %" SCNd64, &kib) == 1)
			sum += kib * 1024;
	}
	fclose(f);
	return sum;
}

int64_t server_memory(const struct server *srv)
{
	struct memfds m = { .n = 0 };
	int64_t sum = 0;

	for (int i = 0; i < srv->n; i++) {
		int n = count_descriptors(srv->pid[i], &m);

		if (n < 0)
			return n;
	}
	for (int i = 0; i < srv->n; i++) {
		int64_t n = resident(srv->pid[i], &m);

		if (n < 0)
			return n;
		sum += n;
	}
	return sum + m.bytes;
}

const char *file_told(const char *path, const char *key, char *buf, size_t size)
{
	char text[1024], *save = NULL;
	ssize_t len = getxattr(path, "system.spm.file", text, sizeof(text) - 1);
	size_t n = strlen(key);

	buf[0] = 0;
	if (len < 0)
		return buf;
	text[len] = 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, key, n) && line[n] == ' ')
			snprintf(buf, size, "%s", line + n + 1);
	return buf;
}

const char *file_mode(const char *path, char *buf, size_t size)
{
	return file_told(path, "mode", buf, size);
}
