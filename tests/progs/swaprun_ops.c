/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process does to its own files; it alone changes them, so it knows every byte. */
#include "tests/progs/swaprun.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STAT_TRIES = 1000 };

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

static struct file *file_of(struct process *p, uint32_t number)
{
	return &p->m->file[number];
}

/* A call of this process that may meet a full device; true: go on, the change did not take place. */
static bool full(struct process *p, const char *what)
{
	if (errno != ENOSPC || !p->o->no_space_is_fine)
		return failed(p, what);
	atomic_fetch_add(&p->m->no_space, 1);
	return true;
}

static int open_own(struct process *p, uint32_t number, int flags)
{
	char path[PATH_MAX];
	int fd;

	path_of(p, number, file_of(p, number)->name, path, sizeof(path));
	fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		full(p, path);
	return fd;
}

/* A range of at most @most bytes below @end, in words; mostly of whole blocks. */
static void pick_range(struct process *p, uint64_t end, uint64_t most, uint64_t *from, uint64_t *to)
{
	uint64_t unit = draw(p, 5) < 3 ? BLOCK : 8, len;

	switch (draw(p, 4)) {
	case 0:
		most = smaller(most, BLOCK);
		break;
	case 1:
		most = smaller(most, 64 << 10);
		break;
	}
	len = up(1 + draw(p, most), unit);
	*from = draw(p, end / unit + 1) * unit;
	*to = smaller(*from + len, end);
	if (*from >= *to)
		*from = *to >= BLOCK ? *to - BLOCK : 0;
}

/* How many bytes were written; less than asked: errno says why. */
static size_t put_all(int fd, const char *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, buf + done, len - done, (off_t)(off + done));

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* The size that is left when something failed that would have changed it. */
static bool size_after_failure(struct process *p, uint32_t number, int fd, uint64_t most)
{
	struct file *f = file_of(p, number);
	struct stat st;

	if (fstat(fd, &st))
		return failed(p, "fstat");
	most = most > f->size ? most : f->size;
	if ((uint64_t)st.st_size < f->size || (uint64_t)st.st_size > most)
		return wrong(p, "file %u: has %llu bytes after a failure, before it had %llu", number,
			     (unsigned long long)st.st_size, (unsigned long long)f->size);
	f->size = (uint64_t)st.st_size;
	return true;
}

static bool write_range(struct process *p, uint32_t number, int fd, uint64_t from, uint64_t to)
{
	struct file *f = file_of(p, number);
	bool grows, good = true;
	uint32_t change;
	size_t done;

	widen(p, number, &from, &to);
	grows = to > f->size;
	doing(p, "pwrite of file %u, 0x%llx to 0x%llx", number, (unsigned long long)from, (unsigned long long)to);
	f->flux += grows;
	change = change_begins(p, number, from, to, CHANGE_DATA);
	fill_new(number, from, to - from, change, p->buf);
	done = put_all(fd, p->buf, to - from, from);
	atomic_fetch_add(&p->m->written, done);
	if (done == to - from) {
		change_ends(p, number, from, to, CHANGE_DATA, change, NULL);
		f->size = f->size > to ? f->size : to;
	} else {
		good = full(p, "pwrite") && size_after_failure(p, number, fd, to) &&
		       change_failed(p, number, fd, from, to, change);
	}
	f->flux += grows;
	return good;
}

bool make_file(struct process *p, uint32_t number, bool whole)
{
	struct file *f = file_of(p, number);
	uint64_t end = whole ? f->max : up(1 + draw(p, f->max), BLOCK), off;
	int fd = open_own(p, number, O_RDWR | O_CREAT | O_EXCL);
	bool good = true;

	f->flux++; /* it was odd, as there was no file */
	for (off = 0; fd >= 0 && good && off < end && !p->m->stop; off += PIECE)
		good = write_range(p, number, fd, off, smaller(off + PIECE, end));
	if (fd >= 0)
		close(fd);
	return good;
}

static void do_write(struct process *p, uint32_t number, int fd)
{
	uint64_t from, to;

	pick_range(p, file_of(p, number)->max, PIECE, &from, &to);
	write_range(p, number, fd, from, to);
}

static void read_back(struct process *p, uint32_t number, int fd)
{
	uint64_t from, to;
	ssize_t n;

	pick_range(p, file_of(p, number)->size & ~UINT64_C(7), PIECE, &from, &to);
	doing(p, "pread of file %u, 0x%llx to 0x%llx", number, (unsigned long long)from, (unsigned long long)to);
	n = pread(fd, p->buf, to - from, (off_t)from);
	if (n < 0) {
		failed(p, "pread");
		return;
	}
	atomic_fetch_add(&p->m->read, (uint64_t)n);
	if ((uint64_t)n != to - from)
		wrong(p, "file %u: %zd bytes were read", number, n);
	same_as_model(p, number, from, (size_t)n, p->buf, "pread by the owner");
}

/* What a mirror's reader finds in its own page cache has not been asked for. */
static void do_read(struct process *p, uint32_t number, int fd)
{
	int own = draw(p, 2) ? open_own(p, number, O_RDONLY | O_DIRECT) : -1;

	read_back(p, number, own < 0 ? fd : own);
	if (own >= 0)
		close(own);
}

/* Whole file, or nothing if its size is not of words. */
static bool map_file(struct process *p, uint32_t number, int fd, bool writable, struct held *h)
{
	const struct file *f = file_of(p, number);

	*h = (struct held){ .file = number, .len = f->size & ~UINT64_C(7), .writable = writable };
	if (p->o->no_maps || !h->len)
		return false;
	doing(p, "mmap of file %u, 0x%llx bytes", number, (unsigned long long)h->len);
	h->at = mmap(NULL, h->len, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	if (h->at == MAP_FAILED) {
		h->at = NULL;
		failed(p, "mmap");
	}
	return h->at;
}

static void write_mapped(struct process *p, struct held *h)
{
	uint64_t from, to;
	uint32_t change;

	pick_range(p, h->len, PIECE / 4, &from, &to);
	widen(p, h->file, &from, &to);
	/* what is behind the end is zero, before and after; behind that of the mapping there may be more */
	if (to > h->len)
		to = file_of(p, h->file)->size > h->len ? h->len - h->len % BLOCK : h->len;
	/* memory for a store into a hole of a file that is mapped directly may be missing: SIGBUS, as on tmpfs */
	for (uint64_t at = from - from % BLOCK; at < to && file_of(p, h->file)->kind != KIND_MIRROR; at += BLOCK)
		if (!has_data(p, h->file, at / BLOCK))
			to = at;
	if (from >= to)
		return;
	doing(p, "stores into the mapping of file %u, 0x%llx to 0x%llx", h->file, (unsigned long long)from,
	      (unsigned long long)to);
	change = change_begins(p, h->file, from, to, CHANGE_DATA);
	fill_new(h->file, from, to - from, change, h->at + from);
	change_ends(p, h->file, from, to, CHANGE_DATA, change, NULL);
	atomic_fetch_add(&p->m->written, to - from);
}

static void do_map(struct process *p, uint32_t number, int fd)
{
	/* a mapped store that finds the device full is lost later, and told by msync only */
	bool writable = !p->o->no_space_is_fine && draw(p, 2);
	struct held h;

	if (!map_file(p, number, fd, writable, &h))
		return;
	if (writable)
		write_mapped(p, &h);
	verify_map(p, &h);
	if (writable && draw(p, 2) && msync(h.at, h.len, MS_SYNC))
		failed(p, "msync");
	munmap(h.at, h.len);
}

static void do_truncate(struct process *p, uint32_t number, int fd)
{
	struct file *f = file_of(p, number);
	uint64_t size = draw(p, f->max / 8 + 1) * 8, old = f->size, end = up(old, BLOCK);
	uint32_t change = 0;
	char path[PATH_MAX];
	int rc;

	if (draw(p, 3))
		size -= size % BLOCK;
	if (size < old)
		widen(p, number, &size, &end);
	if (p->held.at && p->held.file == number)
		drop_held(p);
	path_of(p, number, f->name, path, sizeof(path));
	doing(p, "truncate of file %u from 0x%llx to 0x%llx", number, (unsigned long long)old, (unsigned long long)size);
	f->flux++;
	if (size < old)
		change = change_begins(p, number, size, end, CHANGE_ZERO);
	rc = fd < 0 ? truncate(path, (off_t)size) : ftruncate(fd, (off_t)size);
	if (!rc && size < old)
		change_ends(p, number, size, end, CHANGE_ZERO, change, NULL);
	if (!rc)
		f->size = size;
	else
		full(p, "truncate");
	f->flux++;
}

static void do_punch(struct process *p, uint32_t number, int fd)
{
	const struct file *f = file_of(p, number);
	uint64_t from, to;
	uint32_t change;

	pick_range(p, f->max, draw(p, 2) ? f->max : PIECE, &from, &to);
	widen(p, number, &from, &to);
	doing(p, "punch of file %u, 0x%llx to 0x%llx", number, (unsigned long long)from, (unsigned long long)to);
	change = change_begins(p, number, from, to, CHANGE_ZERO);
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)))
		change_ends(p, number, from, to, CHANGE_ZERO, change, NULL);
	else
		full(p, "fallocate to punch");
}

static void do_allocate(struct process *p, uint32_t number, int fd)
{
	struct file *f = file_of(p, number);
	bool keep = draw(p, 2);
	uint64_t from, to;

	pick_range(p, f->max, PIECE, &from, &to);
	doing(p, "fallocate of file %u, 0x%llx to 0x%llx", number, (unsigned long long)from, (unsigned long long)to);
	f->flux += !keep;
	if (fallocate(fd, keep ? FALLOC_FL_KEEP_SIZE : 0, (off_t)from, (off_t)(to - from))) {
		if (full(p, "fallocate") && !keep)
			size_after_failure(p, number, fd, to);
	} else if (!keep && to > f->size) {
		f->size = to;
	}
	f->flux += !keep;
}

/* Blocks of @from on that have one content each, up to @most; their contents. */
static uint64_t plain_blocks(struct process *p, uint32_t from, uint64_t first, uint64_t most, struct content *c)
{
	uint64_t n;

	for (n = 0; n < most && blocks_of(p->m, from)[first + n].cut == WORDS; n++)
		c[n] = blocks_of(p->m, from)[first + n].a;
	return n;
}

static ssize_t copy_all(int from, uint64_t from_off, int to, uint64_t to_off, uint64_t len)
{
	off_t in = (off_t)from_off, out = (off_t)to_off;
	ssize_t done = 0, n = 0;

	while ((uint64_t)done < len && (n = copy_file_range(from, &in, to, &out, len - (uint64_t)done, 0)) > 0)
		done += n;
	return n < 0 && !done ? -1 : done;
}

static uint32_t pick_own(struct process *p)
{
	uint32_t own = (p->m->files - p->id - 1) / p->m->processes + 1;

	if (p->o->hot && draw(p, 100) < p->o->hot)
		own = own / 10 + 1;
	return p->id + p->m->processes * (uint32_t)draw(p, own);
}

static void do_copy(struct process *p, uint32_t number, int fd)
{
	struct content c[PIECE / BLOCK];
	uint32_t source = pick_own(p), change;
	struct file *f = file_of(p, number), *s = file_of(p, source);
	uint64_t have = s->size / BLOCK, first, at, n;
	bool grows;
	ssize_t done;
	int in;

	if (source == number || !have)
		return;
	first = draw(p, have);
	at = draw(p, f->max / BLOCK);
	n = smaller(smaller(have - first, f->max / BLOCK - at), 1 + draw(p, PIECE / BLOCK));
	n = plain_blocks(p, source, first, n, c);
	in = n ? open_own(p, source, O_RDONLY) : -1;
	if (in < 0)
		return;
	doing(p, "copy_file_range of %llu blocks, of file %u at block %llu to file %u at block %llu",
	      (unsigned long long)n, source, (unsigned long long)first, number, (unsigned long long)at);
	grows = (at + n) * BLOCK > f->size;
	f->flux += grows;
	change = change_begins(p, number, at * BLOCK, (at + n) * BLOCK, CHANGE_COPY);
	done = copy_all(in, first * BLOCK, fd, at * BLOCK, n * BLOCK);
	if (done < 0)
		full(p, "copy_file_range");
	else if ((uint64_t)done < n * BLOCK && !p->o->no_space_is_fine)
		wrong(p, "file %u: %zd bytes were copied, without an error", number, done);
	done = done < 0 ? 0 : done - done % BLOCK;
	if (done)
		change_ends(p, number, at * BLOCK, at * BLOCK + (uint64_t)done, CHANGE_COPY, change, c);
	if (done < (ssize_t)(n * BLOCK))
		size_after_failure(p, number, fd, (at + n) * BLOCK);
	else if (grows)
		f->size = (at + n) * BLOCK;
	f->flux += grows;
	close(in);
}

static bool stat_own(struct process *p, int fd, struct statx *st)
{
	/* mapped stores of a mirror take their blocks when they are written back */
	if (!fdatasync(fd) && !statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, st))
		return true;
	return failed(p, "fdatasync and statx");
}

static void do_stat(struct process *p, uint32_t number, int fd)
{
	const struct file *f = file_of(p, number);
	uint64_t least = data_bytes(p, number), most = up(f->max, 2 << 20) + (2 << 20);
	struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	struct statx st;

	doing(p, "statx of file %u", number);
	if (!stat_own(p, fd, &st))
		return;
	/* of extents that move after a write both places may count, for as long as they move */
	for (unsigned int i = 0; i < STAT_TRIES && st.stx_blocks * 512 > most; i++) {
		doing(p, "statx of file %u, try %u", number, i + 2);
		nanosleep(&pause, NULL);
		if (!stat_own(p, fd, &st))
			return;
	}
	if (st.stx_size != f->size)
		wrong(p, "file %u: size %llu, wanted %llu", number, (unsigned long long)st.stx_size,
		      (unsigned long long)f->size);
	if (st.stx_blocks * 512 < least || st.stx_blocks * 512 > most)
		wrong(p, "file %u: blocks of %llu bytes, wanted %llu to %llu", number,
		      (unsigned long long)st.stx_blocks * 512, (unsigned long long)least, (unsigned long long)most);
}

/* No block with data may be in a hole. */
static void do_seek(struct process *p, uint32_t number, int fd)
{
	off_t hole = 0, data, end = (off_t)file_of(p, number)->size;

	doing(p, "lseek in file %u", number);
	if (fdatasync(fd))
		failed(p, "fdatasync");
	while (hole < end) {
		data = lseek(fd, hole, SEEK_DATA);
		if (data < 0 && errno != ENXIO) {
			failed(p, "lseek SEEK_DATA");
			return;
		}
		data = data < 0 ? end : data;
		for (off_t i = hole / BLOCK; i * BLOCK < data; i++)
			if (has_data(p, number, (uint64_t)i)) {
				wrong(p, "file %u: SEEK_DATA from 0x%llx gives 0x%llx, there is data at 0x%llx", number,
				      (unsigned long long)hole, (unsigned long long)data, (unsigned long long)i * BLOCK);
				return;
			}
		if (data >= end)
			return;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole <= data) {
			wrong(p, "file %u: SEEK_HOLE from 0x%llx gives %lld", number, (unsigned long long)data,
			      (long long)hole);
			return;
		}
	}
}

void drop_held(struct process *p)
{
	if (!p->held.at)
		return;
	doing(p, "munmap of file %u", p->held.file);
	munmap(p->held.at, p->held.len);
	p->held.at = NULL;
}

/* A mapping outlives its descriptor, and what happens to the file meanwhile is seen through it. */
static void use_held(struct process *p)
{
	uint32_t number = pick_own(p);
	bool writable = !p->o->no_space_is_fine && draw(p, 2);
	int fd;

	if (p->held.at) {
		if (p->held.writable)
			write_mapped(p, &p->held);
		verify_map(p, &p->held);
		if (!draw(p, 6))
			drop_held(p);
		return;
	}
	fd = open_own(p, number, writable ? O_RDWR : O_RDONLY);
	if (fd < 0)
		return;
	map_file(p, number, fd, writable, &p->held);
	close(fd);
}

static void do_rename(struct process *p, uint32_t number)
{
	struct file *f = file_of(p, number);
	char from[PATH_MAX], to[PATH_MAX];
	bool linked = draw(p, 2);

	path_of(p, number, f->name, from, sizeof(from));
	path_of(p, number, f->name + 1, to, sizeof(to));
	doing(p, "%s of file %u to name %u", linked ? "link and unlink" : "rename", number, f->name + 1);
	f->flux++;
	if (linked ? link(from, to) || unlink(from) : rename(from, to))
		failed(p, "rename");
	f->name++;
	f->flux++;
}

/* What has lost its name is there for who has it open. */
static void check_orphan(struct process *p, uint32_t number, int fd)
{
	if (fd < 0)
		return;
	if (file_of(p, number)->size)
		read_back(p, number, fd);
	close(fd);
}

/* By unlink, or by a rename of another file over it. */
static void do_remove(struct process *p, uint32_t number)
{
	struct file *f = file_of(p, number);
	uint64_t end = up(f->size, BLOCK);
	char path[PATH_MAX], other[PATH_MAX + 8];
	bool replace = draw(p, 2);
	int fd = draw(p, 2) ? open_own(p, number, O_RDWR) : -1, rc;
	uint32_t change;

	if (p->held.at && p->held.file == number)
		drop_held(p);
	path_of(p, number, f->name, path, sizeof(path));
	snprintf(other, sizeof(other), "%s.new", path);
	doing(p, "%s of file %u", replace ? "replacing rename" : "unlink", number);
	f->flux++;
	if (replace)
		rc = mknod(other, S_IFREG | 0644, 0) || rename(other, path);
	else
		rc = unlink(path);
	if (rc)
		failed(p, "unlink or rename");
	check_orphan(p, number, fd);
	change = change_begins(p, number, 0, end, CHANGE_ZERO);
	change_ends(p, number, 0, end, CHANGE_ZERO, change, NULL);
	f->size = 0;
	f->name += !replace;
	if (replace)
		f->flux++;
	else
		make_file(p, number, draw(p, 2));
}

static void work_on(struct process *p, uint32_t number)
{
	typedef void work_fn(struct process *p, uint32_t number, int fd);
	static work_fn *const all[] = { do_write, do_write, do_write, do_write, do_write, do_write, do_read, do_read, do_read,
					do_map, do_map, do_punch, do_truncate, do_allocate, do_copy, do_copy, do_stat, do_seek };
	static work_fn *const writes[] = { do_write, do_write, do_write, do_truncate, do_allocate, do_punch, do_copy };
	/* what a write that failed has left must be read */
	bool only = !p->o->no_space_is_fine && !draw(p, 4);
	unsigned int n = 1 + (unsigned int)draw(p, 4);
	int fd = open_own(p, number, only ? O_WRONLY : O_RDWR);

	while (fd >= 0 && n-- && !p->m->stop) {
		if (only)
			writes[draw(p, sizeof(writes) / sizeof(writes[0]))](p, number, fd);
		else
			all[draw(p, sizeof(all) / sizeof(all[0]))](p, number, fd);
		atomic_fetch_add(&p->m->operations, 1);
	}
	if (fd >= 0 && close(fd) && (errno != ENOSPC || !p->o->no_space_is_fine))
		failed(p, "close");
}

void own_operation(struct process *p)
{
	uint32_t number = pick_own(p);

	switch (draw(p, 32)) {
	case 0:
		do_rename(p, number);
		break;
	case 1:
		do_remove(p, number);
		break;
	case 2:
		do_truncate(p, number, -1);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		use_held(p);
		break;
	default:
		work_on(p, number);
	}
	atomic_fetch_add(&p->m->operations, 1);
}
