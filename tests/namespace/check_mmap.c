/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mappings. */
#include "tests/namespace/ns.h"

#include <signal.h>
#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static char *map(int fd, size_t len, int prot, int flags)
{
	char *p = mmap(NULL, len, prot, flags, fd, 0);

	if (p == MAP_FAILED) {
		FAIL("mmap: %s", strerror(errno));
		_exit(1);
	}
	return p;
}

static int file_of(const char *name, size_t len)
{
	char *buf = malloc(len);
	int fd = mkfd(name, O_RDWR, 0644);

	fill(buf, len, 11);
	EQ(write(fd, buf, len), len);
	free(buf);
	return fd;
}

static sigjmp_buf jump;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(jump, 1);
}

/* Does reading the byte give SIGBUS? */
static bool bus_error(const volatile char *p)
{
	signal(SIGBUS, on_bus);
	if (sigsetjmp(jump, 1))
		return true;
	(void)*p;
	return false;
}

static void shared_and_system_calls(void)
{
	char want[8 * PAGE], back[8 * PAGE];
	int fd = file_of("f", 8 * PAGE);
	char *p = map(fd, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	int i;

	fill(want, sizeof(want), 11);
	TRUE(!memcmp(p, want, sizeof(want)));
	for (i = 0; i < 8; i++) {
		p[i * PAGE + 7] = (char)(i + 1);
		EQ(pread(fd, back, 1, i * PAGE + 7), 1);
		EQ(back[0], i + 1);
		EQ(pwrite(fd, "#", 1, i * PAGE + 9), 1);
		EQ(p[i * PAGE + 9], '#');
	}
	OK(msync(p, 8 * PAGE, MS_SYNC));
	OK(msync(p, 8 * PAGE, MS_ASYNC));
	EQ(pread(fd, back, sizeof(back), 0), sizeof(back));
	TRUE(!memcmp(back, p, sizeof(back)));
	munmap(p, 8 * PAGE);
	close(fd);
}

static void shared_between_processes(void)
{
	struct ns_gate to, from;
	int fd = file_of("f", 64 * PAGE), i;
	char *p = map(fd, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	pid_t pid;

	ns_gate_init(&to);
	ns_gate_init(&from);
	pid = ns_fork();
	if (!pid) {
		int own_fd = (int)OK(open("f", O_RDWR));
		char *q = map(own_fd, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);

		for (i = 0; i < 64; i++) {
			ns_gate_pass(&to);
			EQ(q[i * PAGE], i);
			q[i * PAGE + 1] = (char)(i + 1);
			ns_gate_open(&from);
		}
		ns_exit();
	}
	for (i = 0; i < 64; i++) {
		p[i * PAGE] = (char)i;
		ns_gate_open(&to);
		ns_gate_pass(&from);
		EQ(p[i * PAGE + 1], i + 1);
	}
	ns_wait(pid);
	munmap(p, 64 * PAGE);
	close(fd);
}

static void readers_see_mapped_writes_at_once(void)
{
	int fd = file_of("f", PAGE), other = (int)OK(open("f", O_RDONLY | O_CLOEXEC)), i;
	char *p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *q = map(other, PAGE, PROT_READ, MAP_SHARED), c;

	for (i = 0; i < 100; i++) {
		p[i] = (char)~i;
		EQ(q[i], (char)~i);
		EQ(pread(other, &c, 1, i), 1);
		EQ(c, (char)~i);
	}
	munmap(p, PAGE);
	munmap(q, PAGE);
	close(fd);
	close(other);
}

static void private_mappings(void)
{
	int fd = file_of("f", 2 * PAGE), r;
	char *p = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE), c, first = p[0];

	p[0] = 'P';
	EQ(pread(fd, &c, 1, 0), 1);
	EQ(c, first);
	EQ(pwrite(fd, "W", 1, PAGE), 1);
	EQ(p[PAGE], 'W');
	EQ(pwrite(fd, "W", 1, 1), 1);
	EQ(p[0], 'P');
	r = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	/* a private mapping may be written through a read-only descriptor */
	munmap(map(r, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE), PAGE);
	munmap(p, 2 * PAGE);
	close(fd);
	close(r);
}

static void rights_of_the_descriptor(void)
{
	int r, w, d;
	char *p;

	mkdata("f", 0644, "content");
	r = (int)OK(open("f", O_RDONLY | O_CLOEXEC));
	w = (int)OK(open("f", O_WRONLY | O_CLOEXEC));
	d = (int)OK(open(".", O_RDONLY | O_CLOEXEC));
	TRUE(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0) == MAP_FAILED && errno == EACCES);
	TRUE(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, w, 0) == MAP_FAILED && errno == EACCES);
	TRUE(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, w, 0) == MAP_FAILED && errno == EACCES);
	TRUE(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, d, 0) == MAP_FAILED && errno == ENODEV);
	p = map(r, PAGE, PROT_READ, MAP_SHARED);
	ERR(EACCES, mprotect(p, PAGE, PROT_READ | PROT_WRITE));
	OK(mprotect(p, PAGE, PROT_NONE));
	OK(mprotect(p, PAGE, PROT_READ));
	EQ(p[0], 'c');
	munmap(p, PAGE);
	close(r);
	close(w);
	close(d);
}

static void end_of_file(void)
{
	int fd = mkfd("f", O_RDWR, 0644);
	char *p, c;

	EQ(write(fd, "12345", 5), 5);
	p = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	EQ(p[4], '5');
	EQ(p[5], 0);
	TRUE(bus_error(p + PAGE));
	/* what is written behind the end of the last page is no part of the file */
	p[10] = 'X';
	EQ(st_fd(fd).st_size, 5);
	EQ(pread(fd, &c, 1, 10), 0);
	OK(ftruncate(fd, 2 * PAGE));
	TRUE(!bus_error(p + PAGE));
	EQ(p[PAGE], 0);
	p[PAGE] = 'Y';
	OK(ftruncate(fd, 100));
	TRUE(bus_error(p + PAGE));
	OK(ftruncate(fd, 3 * PAGE));
	EQ(p[PAGE], 0);
	EQ(p[200], 0);
	munmap(p, 4 * PAGE);
	close(fd);
}

static void truncation_by_another_process(void)
{
	struct ns_gate ready, cut;
	int fd = file_of("f", 4 * PAGE);
	pid_t pid;

	ns_gate_init(&ready);
	ns_gate_init(&cut);
	pid = ns_fork();
	if (!pid) {
		char *p = map(fd, 4 * PAGE, PROT_READ, MAP_SHARED);

		TRUE(!bus_error(p + 3 * PAGE));
		ns_gate_open(&ready);
		ns_gate_pass(&cut);
		TRUE(bus_error(p + 3 * PAGE));
		TRUE(!bus_error(p));
		ns_exit();
	}
	ns_gate_pass(&ready);
	OK(truncate("f", 10));
	ns_gate_open(&cut);
	ns_wait(pid);
	close(fd);
}

static void mapping_outlives_descriptor(void)
{
	int fd = file_of("f", 2 * PAGE);
	char *p = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), c;

	close(fd);
	p[5] = 'A';
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	EQ(pread(fd, &c, 1, 5), 1);
	EQ(c, 'A');
	EQ(pwrite(fd, "B", 1, 6), 1);
	EQ(p[6], 'B');
	close(fd);
	OK(rename("f", "g"));
	p[7] = 'C';
	fd = (int)OK(open("g", O_RDONLY | O_CLOEXEC));
	EQ(pread(fd, &c, 1, 7), 1);
	EQ(c, 'C');
	close(fd);
	munmap(p, 2 * PAGE);
}

static void other_calls_on_mappings(void)
{
	int fd = file_of("f", 8 * PAGE);
	char *p = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), *q, want[PAGE];

	fill(want, sizeof(want), 11);
	q = mremap(p, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
	if (!TRUE(q != MAP_FAILED))
		return;
	TRUE(!memcmp(q, want, PAGE));
	q[7 * PAGE] = 'Q';
	OK(mlock(q, 2 * PAGE));
	OK(munlock(q, 2 * PAGE));
	OK(madvise(q, 8 * PAGE, MADV_WILLNEED));
	OK(madvise(q, 8 * PAGE, MADV_DONTNEED));
	EQ(q[7 * PAGE], 'Q');
	/* punches, as tmpfs does */
	OK(madvise(q, PAGE, MADV_REMOVE));
	EQ(q[0], 0);
	EQ(pread(fd, want, 1, 0), 1);
	EQ(want[0], 0);
	OK(mincore(q, 8 * PAGE, (unsigned char[8]){0}));
	munmap(q, 8 * PAGE);
	close(fd);
}

static void inherited_mapping(void)
{
	int fd = file_of("f", PAGE);
	char *p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *q = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	close(fd);
	q[0] = 'p';
	CHILD() {
		p[0] = 'S';
		q[0] = 'c';
	}
	EQ(p[0], 'S');
	EQ(q[0], 'p');
	munmap(p, PAGE);
	munmap(q, PAGE);
}

static void holes_and_punches(void)
{
	int fd = mkfd("f", O_RDWR, 0644);
	char *p;

	OK(ftruncate(fd, 512 * PAGE));
	p = map(fd, 512 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	EQ(p[100 * PAGE], 0);
	p[100 * PAGE] = 'x';
	p[200 * PAGE] = 'y';
	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 100 * PAGE, PAGE));
	EQ(p[100 * PAGE], 0);
	EQ(p[200 * PAGE], 'y');
	p[100 * PAGE] = 'z';
	EQ(p[100 * PAGE], 'z');
	munmap(p, 512 * PAGE);
	close(fd);
}

static void large_mapping(void)
{
	size_t len = 32u << 20, i;
	int fd = mkfd("f", O_RDWR, 0644);
	uint64_t *p, *q;

	OK(ftruncate(fd, (off_t)len));
	p = (uint64_t *)map(fd, len, PROT_READ | PROT_WRITE, MAP_SHARED);
	for (i = 0; i < len / 8; i += 64)
		p[i] = i * 0x9e3779b97f4a7c15u;
	q = (uint64_t *)map(fd, len, PROT_READ, MAP_SHARED);
	for (i = 0; i < len / 8; i += 64) {
		if (q[i] != i * 0x9e3779b97f4a7c15u) {
			FAIL("word %zu is wrong", i);
			break;
		}
	}
	munmap(p, len);
	munmap(q, len);
	close(fd);
}

const struct ns_check checks_mmap[] = {
	CHECK(shared_and_system_calls),
	CHECK(shared_between_processes),
	CHECK(readers_see_mapped_writes_at_once),
	CHECK(private_mappings),
	CHECK(rights_of_the_descriptor),
	CHECK(end_of_file),
	CHECK(truncation_by_another_process),
	CHECK(mapping_outlives_descriptor),
	CHECK(other_calls_on_mappings),
	CHECK(inherited_mapping),
	CHECK(holes_and_punches),
	CHECK(large_mapping),
	CHECKS_END,
};
