/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stays open over many deaths of the server: files, most of them without a name, mappings, removed
 * directories. Each has a twin on plain tmpfs. */
#include "tests/progs/killrun.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAPPED = 64 << 10 };

static void drop_kept(struct runner *r, unsigned int i)
{
	int s;

	for (s = 0; s < 2; s++) {
		if (r->kept[i].map[s])
			munmap(r->kept[i].map[s], MAPPED);
		if (r->kept[i].fd[s] >= 0)
			close(r->kept[i].fd[s]);
		r->kept[i].map[s] = NULL;
		r->kept[i].fd[s] = -1;
	}
}

static void map_kept(struct runner *r, unsigned int i)
{
	struct world *w = &r->w;

	BOTH(w, (r->kept[i].map[s] = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED, r->kept[i].fd[s],
					  0)) == MAP_FAILED
			? -1
			: 0);
	if (w->res[0])
		r->kept[i].map[0] = r->kept[i].map[1] = NULL;
}

/* Without a name from the start, without one since a moment, or with two of which one goes. */
static void make_kept(struct runner *r, unsigned int i)
{
	size_t len = MAPPED + below(&r->w, 100000);
	unsigned int kind = below(&r->w, 3);
	char name[32], second[32];
	struct world *w = &r->w;
	int fds[2];

	snprintf(name, sizeof(name), "kept%u", i);
	snprintf(second, sizeof(second), "kept%u.link", i);
	say(w, "keep file %u of %zu bytes, %s", i, len,
	    kind == 0	? "a tmpfile"
	    : kind == 1 ? "unlinked"
			: "with a second name");
	if (kind == 0)
		BOTH_FD(w, openat(w->root[s], ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640));
	else
		BOTH_FD(w, openat(w->root[s], name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
	if (fds[0] < 0)
		return;
	memcpy(r->kept[i].fd, fds, sizeof(fds));
	random_bytes(w, w->data, len);
	BOTH(w, write(fds[s], w->data, len));
	if (kind == 2)
		BOTH(w, linkat(w->root[s], name, w->root[s], second, 0));
	if (kind)
		BOTH(w, unlinkat(w->root[s], name, 0));
	if (below(w, 2))
		map_kept(r, i);
}

static void compare_kept(struct runner *r, unsigned int i)
{
	struct world *w = &r->w;
	const struct slot slot = {{r->kept[i].fd[0], r->kept[i].fd[1]}};

	say(w, "compare kept file %u", i);
	same_fd(w, &slot);
	BOTH(w, pread(slot.fd[s], w->buf[s], MAX_SIZE, 0));
	if (memcmp(w->buf[0], w->buf[1], (size_t)w->res[1]))
		differ(w, "a file that was kept open reads differently");
	if (r->kept[i].map[0] && memcmp(r->kept[i].map[0], r->kept[i].map[1], MAPPED))
		differ(w, "a mapping that was kept differs from the reference");
	/* the same bytes, whichever way they are looked at */
	if (r->kept[i].map[0] && memcmp(r->kept[i].map[0], w->buf[0], MAPPED))
		differ(w, "a kept mapping and its file differ");
}

static void write_kept(struct runner *r, unsigned int i)
{
	size_t at = below(&r->w, MAPPED), len = 1 + below(&r->w, 20000);
	const int *fd = r->kept[i].fd;
	struct world *w = &r->w;

	random_bytes(w, w->data, len);
	if (r->kept[i].map[0] && below(w, 2)) {
		len = len < MAPPED - at ? len : MAPPED - at;
		say(w, "write %zu at %zu into the mapping of kept file %u", len, at, i);
		memcpy(r->kept[i].map[0] + at, w->data, len);
		memcpy(r->kept[i].map[1] + at, w->data, len);
		return;
	}
	say(w, "write %zu at %zu into kept file %u", len, at, i);
	BOTH(w, pwrite(fd[s], w->data, len, (off_t)at));
}

/* Sizes, mode, an attribute. The mapping never loses its bytes: they would be SIGBUS. */
static void change_kept(struct runner *r, unsigned int i)
{
	off_t size = MAPPED + (off_t)below(&r->w, 200000);
	const int *fd = r->kept[i].fd;
	struct world *w = &r->w;
	mode_t mode = 0600 | (below(w, 2) ? 0040 : 0);

	switch (below(w, 4)) {
	case 0:
		say(w, "truncate kept file %u to %lld", i, (long long)size);
		BOTH(w, ftruncate(fd[s], size));
		break;
	case 1:
		say(w, "punch kept file %u at %lld", i, (long long)size / 2);
		BOTH(w, fallocate(fd[s], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size / 2, 9000));
		break;
	case 2:
		say(w, "mode 0%o of kept file %u", mode, i);
		BOTH(w, fchmod(fd[s], mode));
		break;
	default:
		say(w, "attribute of kept file %u", i);
		BOTH(w, fsetxattr(fd[s], "user.kept", &size, sizeof(size), size & 1 ? XATTR_CREATE : 0));
	}
}

static void end_kept(struct runner *r, unsigned int i)
{
	struct world *w = &r->w;
	char second[32];

	compare_kept(r, i);
	say(w, "close kept file %u", i);
	drop_kept(r, i);
	snprintf(second, sizeof(second), "kept%u.link", i);
	if (!faccessat(w->root[1], second, F_OK, 0))
		BOTH(w, unlinkat(w->root[s], second, 0));
}

static void make_gone(struct runner *r, unsigned int i)
{
	struct world *w = &r->w;
	char name[16];
	int fds[2];

	snprintf(name, sizeof(name), "gone%u", i);
	say(w, "keep directory %s and remove it", name);
	BOTH(w, mkdirat(w->root[s], name, 0755));
	BOTH_FD(w, openat(w->root[s], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	memcpy(r->gone[i], fds, sizeof(fds));
	BOTH(w, mkdirat(fds[s], "below", 0700));
	BOTH(w, unlinkat(fds[s], "below", AT_REMOVEDIR));
	BOTH(w, unlinkat(w->root[s], name, AT_REMOVEDIR));
}

/* As the working directory of a process that did not notice. */
static void use_gone(struct runner *r, unsigned int i)
{
	const struct slot slot = {{r->gone[i][0], r->gone[i][1]}};
	struct world *w = &r->w;
	int fds[2];

	say(w, "use removed directory %u", i);
	same_fd(w, &slot);
	BOTH(w, mkdirat(slot.fd[s], "new", 0700));
	BOTH_FD(w, openat(slot.fd[s], "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	BOTH(w, syscall(SYS_getdents64, slot.fd[s], w->buf[s], 4096));
	BOTH(w, fchdir(slot.fd[s]) ? -1 : syscall(SYS_getcwd, w->buf[s], 4096));
	BOTH_FD(w, fchdir(slot.fd[s]) ? -1 : open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fds[0] >= 0) {
		close(fds[0]);
		close(fds[1]);
	}
	if (chdir("/"))
		_exit(2);
	if (below(w, 10))
		return;
	close(r->gone[i][0]);
	close(r->gone[i][1]);
	r->gone[i][0] = r->gone[i][1] = -1;
}

static void ask_statfs(struct runner *r)
{
	struct world *w = &r->w;
	struct statfs fs[2];

	say(w, "statfs");
	BOTH(w, fstatfs(w->root[s], &fs[s]));
	if ((r->blocks && fs[0].f_blocks != r->blocks) || fs[0].f_bfree > fs[0].f_blocks ||
	    fs[0].f_ffree > fs[0].f_files)
		differ(w, "statfs: %llu blocks of %llu are free, it had %llu",
		       (unsigned long long)fs[0].f_bfree, (unsigned long long)fs[0].f_blocks,
		       (unsigned long long)r->blocks);
	r->blocks = fs[0].f_blocks;
}

void kept_operation(struct runner *r)
{
	unsigned int i = below(&r->w, KEPT), d = below(&r->w, GONE_DIRS), what = below(&r->w, 20);

	if (what == 0)
		ask_statfs(r);
	else if (what < 4 && r->gone[d][0] < 0)
		make_gone(r, d);
	else if (what < 4)
		use_gone(r, d);
	else if (r->kept[i].fd[0] < 0)
		make_kept(r, i);
	else if (what == 4)
		end_kept(r, i);
	else if (what < 10)
		write_kept(r, i);
	else if (what < 14)
		change_kept(r, i);
	else
		compare_kept(r, i);
	r->w.ops++;
}

void kept_begin(struct runner *r)
{
	unsigned int i;

	for (i = 0; i < KEPT; i++)
		r->kept[i].fd[0] = r->kept[i].fd[1] = -1;
	for (i = 0; i < GONE_DIRS; i++)
		r->gone[i][0] = r->gone[i][1] = -1;
}

void kept_end(struct runner *r)
{
	unsigned int i;

	for (i = 0; i < KEPT; i++)
		if (r->kept[i].fd[0] >= 0)
			end_kept(r, i);
	for (i = 0; i < GONE_DIRS; i++)
		if (r->gone[i][0] >= 0) {
			close(r->gone[i][0]);
			close(r->gone[i][1]);
		}
}
