/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading what others are changing, and everything when nobody is. */
#include "tests/progs/swaprun.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* By a mapping: what was cut off meanwhile is an error of the system call, and no signal. */
static ssize_t read_mapped(struct process *p, int fd, uint64_t off, size_t len)
{
	char *at = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)off);
	ssize_t n;

	if (at == MAP_FAILED)
		return -1;
	n = pwrite(p->copy_of_map, at, len, 0);
	if (n < 0 && errno == EFAULT)
		n = 0;
	if (n > 0)
		n = pread(p->copy_of_map, p->buf, (size_t)n, 0);
	munmap(at, len);
	return n;
}

static bool read_once(struct process *p, uint32_t number, int fd, uint32_t flux, bool mapped)
{
	const struct file *f = &p->m->file[number];
	const struct block *b = blocks_of(p->m, number);
	uint64_t blocks = (f->size + BLOCK - 1) / BLOCK, first, n;
	uint32_t low[PIECE / BLOCK];
	ssize_t got;
	bool sure;

	if (!blocks)
		return true;
	first = draw(p, blocks);
	n = 1 + draw(p, draw(p, 2) ? PIECE / BLOCK : 8);
	n = n < blocks - first ? n : blocks - first;
	for (uint64_t i = 0; i < n; i++)
		low[i] = atomic_load(&b[first + i].low);
	doing(p, "%s of another's file %u, blocks %llu to %llu", mapped ? "mmap and read" : "pread", number,
	      (unsigned long long)first, (unsigned long long)(first + n));
	if (mapped)
		got = read_mapped(p, fd, first * BLOCK, n * BLOCK);
	else
		got = pread(fd, p->buf, n * BLOCK, (off_t)(first * BLOCK));
	if (got < 0)
		return failed(p, "read of another's file");
	sure = atomic_load(&f->flux) == flux;
	/* a hole that was punched into a file that is mapped directly has no memory, and there may be none now: SIGBUS */
	if (mapped && (uint64_t)got < n * BLOCK && atomic_load(&b[first + (uint64_t)got / BLOCK].zeroed) >= low[got / BLOCK])
		sure = false;
	if (sure && first * BLOCK + (uint64_t)got < f->size && (uint64_t)got < n * BLOCK)
		return wrong(p, "file %u: %zd bytes were read at block %llu of %llu", number, got,
			     (unsigned long long)first, (unsigned long long)blocks);
	atomic_fetch_add(&p->m->read, (uint64_t)got);
	return plausible(p, number, first * BLOCK, (size_t)got & ~(size_t)7, p->buf, low, sure, "read by another");
}

void read_other(struct process *p)
{
	uint32_t files = p->m->files, number, flux;
	unsigned int n = 1 + (unsigned int)draw(p, 4);
	int flags = O_RDONLY | O_CLOEXEC, fd;
	const struct file *f;
	char path[PATH_MAX];

	if (p->o->hot && draw(p, 100) < p->o->hot)
		files = files / 10 + 1;
	number = (uint32_t)draw(p, files);
	f = &p->m->file[number];
	flux = atomic_load(&f->flux);
	if (flux & 1 || number % p->m->processes == p->id)
		return;
	path_of(p, number, f->name, path, sizeof(path));
	doing(p, "open of another's file %u", number);
	if (draw(p, 2))
		flags |= O_DIRECT;
	fd = open(path, flags);
	if (fd < 0) {
		if (errno == ENOSPC && p->o->no_space_is_fine)
			atomic_fetch_add(&p->m->no_space, 1);
		else if (errno != ENOENT || atomic_load(&f->flux) == flux)
			failed(p, path);
		return;
	}
	while (n-- && read_once(p, number, fd, flux, !p->o->no_maps && !draw(p, 4)) && !p->m->stop)
		atomic_fetch_add(&p->m->operations, 1);
	close(fd);
}

bool verify_map(struct process *p, const struct held *h)
{
	const struct file *f = &p->m->file[h->file];

	if (f->size < h->len)
		return wrong(p, "file %u: smaller than its mapping", h->file);
	doing(p, "the mapping of file %u", h->file);
	for (uint64_t at = 0; at < h->len; at += BLOCK) {
		/* see above; a mirror's holes are the client's own memory */
		if (!has_data(p, h->file, at / BLOCK) && f->kind != KIND_MIRROR)
			continue;
		if (!same_as_model(p, h->file, at, h->len - at < BLOCK ? h->len - at : BLOCK, h->at + at,
				   "mapping of the owner"))
			return false;
	}
	return true;
}

bool verify_file(struct process *p, uint32_t number)
{
	const struct file *f = &p->m->file[number];
	char path[PATH_MAX];
	bool good = true;
	struct stat st;
	uint64_t off;
	ssize_t n;
	int fd;

	path_of(p, number, f->name, path, sizeof(path));
	doing(p, "verify file %u", number);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	/* to be opened directly it needs room; to be read it does not */
	if (fd < 0 && errno == ENOSPC && p->o->no_space_is_fine && !setxattr(path, "user.spm.map", "mirror", 6, 0))
		fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		if (fd >= 0)
			close(fd);
		return failed(p, path);
	}
	if ((uint64_t)st.st_size != f->size)
		good = wrong(p, "%s has %llu bytes, wanted %llu", path, (unsigned long long)st.st_size,
			     (unsigned long long)f->size);
	for (off = 0; off < f->size && good; off += (uint64_t)n) {
		n = pread(fd, p->buf, PIECE, (off_t)off);
		if (n <= 0) {
			good = n < 0 ? failed(p, path) : wrong(p, "%s ends at %llu", path, (unsigned long long)off);
			break;
		}
		good = same_as_model(p, number, off, (size_t)n, p->buf, "pread at the end");
		atomic_fetch_add(&p->m->read, (uint64_t)n);
	}
	close(fd);
	return good;
}
