/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/bench/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/util.h"

#define PAGE	    4096
#define SETTLED_KIB 1024 /* under writeback: somebody else's */
#define FIO_FILE    "fio.data"
#define KERNEL_FILE "kernel.swap"
#define NO_FIO	    127

#ifndef SYS_cachestat /* Linux 6.5 */
#define SYS_cachestat 451
#endif
#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_PAGEOUT /* Linux 5.4 */
#define MADV_PAGEOUT 21
#endif

/* ---- fio ---- */

const char *fio_path(const struct bench *b, char *buf)
{
	return path_in(buf, b->swap.disk, FIO_FILE);
}

int fio_prepare(struct bench *b)
{
	char path[PATH_MAX];
	int fd = open(fio_path(b, path), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : -posix_fallocate(fd, 0, (off_t)b->swap.bytes);

	if (fd >= 0)
		close(fd);
	return rc ? bench_fail(b, rc, "cannot make %s", path) : 0;
}

void fio_remove(struct bench *b)
{
	char path[PATH_MAX];

	if (!b->swap.why)
		unlink(fio_path(b, path));
}

/* By a name without a directory: fio cuts names at colons. */
static int fio_exec(const struct bench *b, bool write, int out)
{
	char size[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(size, sizeof(size), "--size=%zu", b->swap.bytes);
	if (chdir(b->swap.disk) || dup2(out, STDOUT_FILENO) < 0)
		return 1;
	execlp("fio", "fio", "--name=bench", "--filename=" FIO_FILE, size, write ? "--rw=write" : "--rw=read",
	       "--ioengine=io_uring", "--bs=1M", "--iodepth=16", "--direct=1", "--output-format=json",
	       (char *)NULL);
	return errno == ENOENT ? NO_FIO : 1;
}

/* All that can be read, at most size - 1 bytes kept. */
static void read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;
	char rest[512];
	ssize_t n;

	do {
		bool full = len + 1 >= size;

		n = read(fd, full ? rest : buf + len, full ? sizeof(rest) : size - 1 - len);
		if (n > 0 && !full)
			len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	buf[len] = 0;
}

int fio_run(struct bench *b, bool write, double *rate)
{
	static char text[65536];
	const char *at;
	int out[2], status;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		return bench_fail(b, -errno, "cannot start fio");
	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(fio_exec(b, write, out[1]));
	close(out[1]);
	if (pid > 0)
		read_all(out[0], text, sizeof(text));
	close(out[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return bench_fail(b, -errno, "cannot start fio");
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FIO)
		return bench_fail(b, SKIP, "no fio to compare with");
	at = strstr(text, write ? "\"write\" :" : "\"read\" :");
	at = at ? strstr(at, "\"bw_bytes\" :") : NULL;
	*rate = at ? strtod(at + strlen("\"bw_bytes\" :"), NULL) / (double)MIB : 0;
	return status || *rate <= 0 ? bench_fail(b, -EIO, "fio in %s", b->swap.disk) : 0;
}

/* ---- the kernel's swap ---- */

static struct {
	char path[PATH_MAX];
	int fd;
	char *map;
	size_t left; /* bytes that the last paged_out() has moved */
	bool on;
} paged;

int kernel_swap_on(struct bench *b)
{
	char path[PATH_MAX];

	/* first of all, so that no other swap is measured */
	if (swapon(path_in(path, b->swap.disk, KERNEL_FILE), SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK))
		return bench_fail(b, SKIP, "cannot swapon %s: %s", path, strerror(errno));
	paged.on = true;
	return 0;
}

void kernel_swap_off(struct bench *b)
{
	char path[PATH_MAX];

	if (paged.on && swapoff(path_in(path, b->swap.disk, KERNEL_FILE)))
		fprintf(stderr, "spmbench: swapoff %s: %s\n", path, strerror(errno));
	paged.on = false;
}

int paged_prepare(struct bench *b)
{
	int rc = make_file(path_in(paged.path, bench_dir(b, SIDE_TMPFS), "paged"));

	paged.fd = rc ? rc : open(paged.path, O_RDWR | O_CLOEXEC);
	if (paged.fd < 0)
		return bench_fail(b, rc ? rc : -errno, "cannot make %s", paged.path);
	/* its size first, so that it gets huge pages */
	rc = ftruncate(paged.fd, (off_t)b->swap.bytes) ? -errno : fill_file(paged.fd, b->swap.bytes);
	if (rc)
		return bench_fail(b, rc, "cannot write %s", paged.path);
	paged.map = map_aligned(paged.fd, b->swap.bytes, true);
	return paged.map ? 0 : bench_fail(b, -errno, "cannot map %s", paged.path);
}

void paged_remove(struct bench *b)
{
	if (paged.map)
		munmap(paged.map, b->swap.bytes);
	if (paged.fd > 0) {
		close(paged.fd);
		unlink(paged.path);
	}
	paged.map = NULL;
	paged.fd = 0;
}

/* Bytes of the file in the page cache; those on their way to swap are not. */
static int64_t paged_cached(void)
{
	uint64_t all[2] = {0, 0}, count[5] = {0}; /* struct cachestat_range, struct cachestat */

	return syscall(SYS_cachestat, paged.fd, all, count, 0) ? -errno : (int64_t)count[0] * PAGE;
}

static int64_t writeback_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	long long kib = -EIO;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Writeback: %lld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static double paged_rate(int64_t start)
{
	return (double)paged.left / (double)MIB / ((double)(now_ns() - start) / 1e9);
}

int paged_out(struct bench *b, double *rate)
{
	int64_t start, until, stay;

	/* only what is mapped is paged out */
	if (madvise(paged.map, b->swap.bytes, MADV_POPULATE_READ))
		return bench_fail(b, -errno, "cannot touch %s", paged.path);
	start = now_ns();
	until = start + INT64_C(300000000000);
	if (madvise(paged.map, b->swap.bytes, MADV_PAGEOUT))
		return bench_fail(b, -errno, "MADV_PAGEOUT");
	while (writeback_kib() > SETTLED_KIB && now_ns() < until)
		pause_ms(1);
	stay = paged_cached();
	if (stay < 0)
		return bench_fail(b, SKIP, "cannot see what is cached: %s", strerror((int)-stay));
	if ((size_t)stay > b->swap.bytes / 2)
		return bench_fail(b, UNFIT, "%lld MiB stay after MADV_PAGEOUT",
				  (long long)(stay / (int64_t)MIB));
	paged.left = b->swap.bytes - (size_t)stay;
	*rate = paged_rate(start);
	bench_note(b, "%.1f %% of the tmpfs file left", 100.0 * (double)paged.left / (double)b->swap.bytes);
	return 0;
}

void paged_in(struct bench *b, double *rate)
{
	volatile const char *p = paged.map;
	int64_t start = now_ns();
	uint64_t sum = 0;

	for (size_t at = 0; at < b->swap.bytes; at += PAGE)
		sum += (unsigned char)p[at];
	(void)sum;
	*rate = paged_rate(start);
}
