/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A write by another user clears suid, sgid and file capabilities, whichever way the write goes. */
#include "tests/namespace/ns.h"
#include "tests/namespace/caps.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static void w_write(int fd)
{
	EQ(write(fd, "x", 1), 1);
}

static void w_pwrite(int fd)
{
	EQ(pwrite(fd, "x", 1, 100), 1);
}

static void w_truncate(int fd)
{
	OK(ftruncate(fd, 3));
}

static void w_same_size(int fd)
{
	OK(ftruncate(fd, st_fd(fd).st_size));
}

static void w_pwritev(int fd)
{
	struct iovec iov[2] = {{(char[]){"ab"}, 2}, {(char[]){"c"}, 1}};

	EQ(pwritev(fd, iov, 2, 0), 3);
}

static void w_sendfile(int fd)
{
	int in = (int)OK(open("input", O_RDONLY | O_CLOEXEC));

	EQ(sendfile(fd, in, NULL, 5), 5);
	close(in);
}

static void w_splice(int fd)
{
	int p[2];

	OK(pipe(p));
	EQ(write(p[1], "spliced", 7), 7);
	EQ(splice(p[0], NULL, fd, NULL, 7, 0), 7);
	close(p[0]);
	close(p[1]);
}

static void w_copy_range(int fd)
{
	int in = (int)OK(open("input", O_RDONLY | O_CLOEXEC));

	EQ(copy_file_range(in, NULL, fd, NULL, 5, 0), 5);
	close(in);
}

static void w_open_trunc(int fd)
{
	(void)fd;
	close((int)OK(open("file", O_WRONLY | O_TRUNC | O_CLOEXEC)));
}

static void w_truncate_path(int fd)
{
	(void)fd;
	OK(truncate("file", 2));
}

static void w_nothing(int fd)
{
	EQ(write(fd, "", 0), 0);
}

static void w_read(int fd)
{
	char c;

	EQ(pread(fd, &c, 1, 0), 1);
}

static const struct way {
	const char *name;
	void (*fn)(int fd);
	bool clears;
} ways[] = {
	{"write", w_write, true},
	{"pwrite", w_pwrite, true},
	{"pwritev", w_pwritev, true},
	{"ftruncate", w_truncate, true},
	{"sendfile", w_sendfile, true},
	{"splice", w_splice, true},
	{"copy_file_range", w_copy_range, true},
	{"O_TRUNC", w_open_trunc, true},
	{"truncate", w_truncate_path, true},
	{"ftruncate to the same size", w_same_size, true},
	{"write of nothing", w_nothing, false},
	{"read", w_read, false},
};

#define EACH(w)                                                                                              \
	for (const struct way *w = ways; w < ways + NS_LEN(ways) && (ns_context("%s", w->name), 1); w++)

static void start(mode_t mode)
{
	unlink("file");
	mkdata("file", mode, "old data of the file");
	if (!exists("input"))
		mkdata("input", 0444, "input");
}

static void writer_opens_afterwards(void)
{
	EACH(w) {
		start(06777);
		AS(U1, G1) {
			int fd = (int)OK(open("file", O_RDWR | O_CLOEXEC));

			OCT(mode_of("file"), 06777);
			w->fn(fd);
			OCT(mode_of("file"), w->clears ? 0777 : 06777);
			OCT(st_fd(fd).st_mode & 07777, w->clears ? 0777 : 06777);
		}
		OCT(mode_of("file"), w->clears ? 0777 : 06777);
	}
}

/* The descriptor was open, and written to, before the mode got its suid bit. */
static void long_lived_writer(const struct way *w)
{
	struct ns_gate ready, go, done;
	pid_t pid;
	int i;

	ns_gate_init(&ready);
	ns_gate_init(&go);
	ns_gate_init(&done);
	start(0777);
	pid = ns_fork();
	if (!pid) {
		int fd;

		ns_become(U1, G1, 0, NULL);
		fd = (int)OK(open("file", O_RDWR | O_CLOEXEC));
		EQ(write(fd, "first", 5), 5);
		ns_gate_open(&ready);
		for (i = 0; i < 2; i++) {
			ns_gate_pass(&go);
			w->fn(fd);
			ns_gate_open(&done);
		}
		ns_exit();
	}
	ns_gate_pass(&ready);
	for (i = 0; i < 2; i++) {
		OK(chmod("file", 06777));
		ns_gate_open(&go);
		ns_gate_pass(&done);
		OCT(mode_of("file"), w->clears ? 0777 : 06777);
	}
	ns_wait(pid);
	for (i = 0; i < 2; i++) {
		close(ready.fd[i]);
		close(go.fd[i]);
		close(done.fd[i]);
	}
}

static void writer_that_stays_open(void)
{
	EACH(w)
		long_lived_writer(w);
}

/* Another process keeps the file open while the writer comes and goes. */
static void writer_beside_an_open_reader(void)
{
	EACH(w) {
		int r;

		start(06777);
		r = (int)OK(open("file", O_RDONLY | O_CLOEXEC));
		AS(U1, G1)
			w->fn((int)OK(open("file", O_RDWR | O_CLOEXEC)));
		OCT(st_fd(r).st_mode & 07777, w->clears ? 0777 : 06777);
		close(r);
	}
}

static void root_keeps_suid(void)
{
	EACH(w) {
		int fd;

		start(06777);
		fd = (int)OK(open("file", O_RDWR | O_CLOEXEC));
		w->fn(fd);
		OCT(mode_of("file"), 06777);
		close(fd);
	}
}

/* It is the writer that counts, not who opened the file. */
static void descriptor_handed_on(void)
{
	int fd;

	start(06777);
	fd = (int)OK(open("file", O_RDWR | O_CLOEXEC));
	AS(U1, G1)
		w_write(fd);
	OCT(mode_of("file"), 0777);
	OK(chmod("file", 06777));
	w_write(fd);
	OCT(mode_of("file"), 06777);
	close(fd);
}

/* The writer may be the owner himself, or of the file's group. */
static void which_bits(void)
{
	static const struct {
		mode_t before, stranger, member;
	} rows[] = {
		{04777, 0777, 0777}, {02777, 0777, 0777},   {06777, 0777, 0777},
		{04666, 0666, 0666}, {05777, 01777, 01777}, {0777, 0777, 0777},
	};
	size_t i;

	mkdata("file", 0666, "data");
	own("file", U1, G1);
	for (i = 0; i < NS_LEN(rows); i++) {
		ns_context("mode 0%o", rows[i].before);
		OK(chmod("file", rows[i].before));
		AS(U2, G2)
			put("file", "x");
		OCT(mode_of("file"), rows[i].stranger);
		OK(chmod("file", rows[i].before));
		AS_GROUPS(U2, G2, G1)
			put("file", "x");
		OCT(mode_of("file"), rows[i].member);
		OK(chmod("file", rows[i].before));
		AS(U1, G1)
			put("file", "x");
		OCT(mode_of("file"), rows[i].member);
	}
}

/* sgid without group execution goes only where the writer is not of the group. */
static void setgid_without_group_execution(void)
{
	static const mode_t modes[] = {02766, 06766, 02666};
	size_t i;

	mkdata("file", 0666, "data");
	own("file", U1, G1);
	for (i = 0; i < NS_LEN(modes); i++) {
		ns_context("mode 0%o", modes[i]);
		OK(chmod("file", modes[i]));
		AS(U2, G2)
			put("file", "x");
		OCT(mode_of("file"), modes[i] & 01777);
		OK(chmod("file", modes[i]));
		AS_GROUPS(U2, G2, G1)
			put("file", "x");
		OCT(mode_of("file"), modes[i] & 03777);
		OK(chmod("file", modes[i]));
		AS(U1, G1)
			put("file", "x");
		OCT(mode_of("file"), modes[i] & 03777);
	}
}

/* As root_keeps_suid, but the file was open before it got the bit. */
static void root_with_open_file_keeps_suid(void)
{
	EACH(w) {
		int fd;

		start(0777);
		fd = (int)OK(open("file", O_RDWR | O_CLOEXEC));
		w_write(fd);
		OK(chmod("file", 06777));
		w->fn(fd);
		OCT(mode_of("file"), 06777);
		close(fd);
	}
}

static void mapped_writes_keep_suid(void)
{
	start(06777);
	AS(U1, G1) {
		int fd = (int)OK(open("file", O_RDWR | O_CLOEXEC));
		char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (TRUE(p != MAP_FAILED))
			p[0] = 'X';
	}
	OCT(mode_of("file"), 06777);
	HAS("file", "Xld data of the file");
}

static void fallocate_and_suid(void)
{
	start(06777);
	AS(U1, G1) {
		int fd = (int)OK(open("file", O_RDWR | O_CLOEXEC));

		OK(fallocate(fd, 0, 0, 100000));
	}
	OCT(mode_of("file"), 0777);
}

static void capabilities(void)
{
	EACH(w) {
		start(0777);
		cap_set("file");
		AS(U1, G1)
			w->fn((int)OK(open("file", O_RDWR | O_CLOEXEC)));
		EQ(cap_there("file"), !w->clears);
		/* root's writes clear these too */
		start(0777);
		cap_set("file");
		w->fn((int)OK(open("file", O_RDWR)));
		EQ(cap_there("file"), !w->clears);
	}
}

static void capabilities_of_a_file_open_before(void)
{
	EACH(w) {
		int fd;

		start(0777);
		fd = (int)OK(open("file", O_RDWR));
		cap_set("file");
		w->fn(fd);
		EQ(cap_there("file"), !w->clears);
		close(fd);
	}
}

const struct ns_check checks_suid[] = {
	CHECK(writer_opens_afterwards),
	CHECK(writer_that_stays_open),
	CHECK(writer_beside_an_open_reader),
	CHECK(root_keeps_suid),
	CHECK(descriptor_handed_on),
	CHECK(root_with_open_file_keeps_suid),
	CHECK(which_bits),
	CHECK(setgid_without_group_execution),
	CHECK(mapped_writes_keep_suid),
	CHECK(fallocate_and_suid),
	CHECK(capabilities),
	CHECK(capabilities_of_a_file_open_before),
	CHECKS_END,
};
