/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operations of treestress: each draws its arguments, then does the same on both sides and compares. */
#include "tests/namespace/stress.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NAMES = 6, USER = 30001, GROUP = 40001 };

/* ---- arguments ---- */

/* A path below the own directory, or a name in the directory that all processes share. */
static void any_path(struct world *w, char path[PATH_ROOM])
{
	unsigned int depth = 1 + below(w, 10) / 5 + (below(w, 10) == 0), i;
	char letter = (char)('a' + w->id);
	size_t used = 0;

	if (below(w, 12) == 0)
		used = (size_t)snprintf(path, PATH_ROOM, "../shared/");
	for (i = 0; i < depth; i++)
		used += (size_t)snprintf(path + used, PATH_ROOM - used, "%s%c%u", i ? "/" : "", letter,
					 below(w, NAMES));
	if (below(w, 150) == 0)
		snprintf(path + used, PATH_ROOM - used, "/");
}

/* Mostly one of which the name is there, or is free and its directory there, as the caller wishes. */
static void some_path(struct world *w, char path[PATH_ROOM], bool there)
{
	unsigned int tries = below(w, 8) ? 12 : 1;
	struct stat st;
	int r;

	do {
		any_path(w, path);
		r = fstatat(w->root[1], path, &st, AT_SYMLINK_NOFOLLOW);
	} while (--tries && (there ? r != 0 : r == 0 || errno != ENOENT));
}

static mode_t some_mode(struct world *w)
{
	static const mode_t modes[] = {0644, 0666,  0600,  0755,  0777,	 0700, 0444,
				       0,    01777, 02775, 04755, 06777, 0640};

	return modes[below(w, sizeof(modes) / sizeof(modes[0]))];
}

/* The same for what is, or will be, a regular file. */
static mode_t file_mode(struct world *w)
{
	mode_t mode = some_mode(w);

	return w->no_suid ? mode & 01777 : mode;
}

static off_t some_offset(struct world *w)
{
	switch (below(w, 4)) {
	case 0:
		return below(w, 100);
	case 1:
		return below(w, 40) * 4096;
	default:
		return below(w, MAX_SIZE / 2);
	}
}

static size_t some_length(struct world *w)
{
	return below(w, 3) ? 1 + below(w, 6000) : 1 + below(w, MAX_SIZE / 2);
}

static unsigned int some_slot(struct world *w)
{
	unsigned int i = below(w, SLOTS), tries = below(w, 10) ? SLOTS : 0;

	while (tries-- && w->slots[i].fd[1] < 0)
		i = (i + 1) % SLOTS;
	return i;
}

static void close_slot(struct world *w, unsigned int i)
{
	int s;

	for (s = 0; s < 2; s++) {
		if (w->slots[i].fd[s] >= 0)
			close(w->slots[i].fd[s]);
		w->slots[i].fd[s] = -1;
	}
}

static void keep(struct world *w, unsigned int i, const int fds[2])
{
	if (fds[0] < 0)
		return;
	close_slot(w, i);
	memcpy(w->slots[i].fd, fds, sizeof(w->slots[i].fd));
}

/* ---- opening ---- */

static void op_open(struct world *w)
{
	static const int ways[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR};
	static const int extras[] = {0, 0, 0, O_APPEND, O_TRUNC, O_NOFOLLOW, O_PATH, O_DIRECTORY, O_DIRECT};
	unsigned int i = below(w, SLOTS);
	char path[PATH_ROOM];
	int flags, fds[2];
	mode_t mode = file_mode(w);

	/* on a disk O_DIRECT wants whole blocks */
	flags = ways[below(w, 5)] | extras[below(w, w->disk ? 8 : 9)] | O_NONBLOCK | O_CLOEXEC;
	if (below(w, 2) && !(flags & O_DIRECTORY))
		flags |= O_CREAT | (below(w, 3) ? 0 : O_EXCL);
	some_path(w, path, !(flags & O_CREAT) || below(w, 2));
	say(w, "open %s 0%o mode 0%o slot %u", path, (unsigned int)flags, mode, i);
	BOTH_FD(w, openat(w->root[s], path, flags, mode));
	keep(w, i, fds);
	same_path(w, path);
}

static void op_tmpfile(struct world *w)
{
	unsigned int i = below(w, SLOTS);
	int flags = O_TMPFILE | O_RDWR | O_CLOEXEC | (below(w, 4) ? 0 : O_EXCL), fds[2];
	mode_t mode = file_mode(w);
	char path[PATH_ROOM];

	if (below(w, 2))
		strcpy(path, ".");
	else
		some_path(w, path, true);
	say(w, "tmpfile in %s mode 0%o slot %u%s", path, mode, i, flags & O_EXCL ? " O_EXCL" : "");
	BOTH_FD(w, openat(w->root[s], path, flags, mode));
	keep(w, i, fds);
	same_fd(w, &w->slots[i]);
}

static void op_reopen(struct world *w)
{
	static const int ways[] = {O_RDONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_TRUNC};
	unsigned int from = some_slot(w), to = below(w, SLOTS);
	int flags = ways[below(w, 4)] | O_NONBLOCK | O_CLOEXEC, fds[2];
	char proc[2][64];
	int k;

	for (k = 0; k < 2; k++)
		snprintf(proc[k], sizeof(proc[k]), "/proc/self/fd/%d", w->slots[from].fd[k]);
	say(w, "reopen slot %u 0%o as slot %u", from, (unsigned int)flags, to);
	BOTH_FD(w, open(proc[s], flags));
	keep(w, to, fds);
	same_fd(w, &w->slots[to]);
}

static void op_close(struct world *w)
{
	unsigned int i = some_slot(w);

	say(w, "close slot %u", i);
	close_slot(w, i);
}

/* ---- contents ---- */

static void op_write(struct world *w)
{
	unsigned int i = some_slot(w);
	size_t len = some_length(w);
	off_t at = some_offset(w);
	bool positioned = below(w, 3);

	random_bytes(w, w->data, len);
	say(w, "%s slot %u %zu at %lld", positioned ? "pwrite" : "write", i, len, (long long)at);
	BOTH(w, positioned ? pwrite(w->slots[i].fd[s], w->data, len, at)
			   : write(w->slots[i].fd[s], w->data, len));
	/* repeated writes at the moving offset would never end to grow */
	if (!positioned && lseek(w->slots[i].fd[1], 0, SEEK_CUR) > MAX_SIZE)
		BOTH(w, lseek(w->slots[i].fd[s], 0, SEEK_SET));
	same_fd(w, &w->slots[i]);
}

static void op_read(struct world *w)
{
	unsigned int i = some_slot(w);
	size_t len = some_length(w);
	off_t at = some_offset(w);

	say(w, "pread slot %u %zu at %lld", i, len, (long long)at);
	BOTH(w, pread(w->slots[i].fd[s], w->buf[s], len, at));
	if (w->res[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
		differ(w, "different bytes were read");
	same_fd(w, &w->slots[i]);
}

static void op_ftruncate(struct world *w)
{
	unsigned int i = some_slot(w);
	off_t len = below(w, 4) ? some_offset(w) : 0;

	say(w, "ftruncate slot %u %lld", i, (long long)len);
	BOTH(w, ftruncate(w->slots[i].fd[s], len));
	same_fd(w, &w->slots[i]);
}

static void op_truncate(struct world *w)
{
	char path[PATH_ROOM];
	off_t len = some_offset(w);
	int fds[2];

	/* the call has no form with a directory descriptor */
	some_path(w, path, true);
	say(w, "truncate %s %lld", path, (long long)len);
	BOTH_FD(w, openat(w->root[s], path, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
	if (fds[0] >= 0)
		BOTH(w, ftruncate(fds[s], len) + 0 * close(fds[s]));
	same_path(w, path);
}

static void op_fallocate(struct world *w)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
				    FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};
	unsigned int i = some_slot(w);
	off_t at = some_offset(w), len = (off_t)some_length(w);
	int mode = modes[below(w, w->disk ? 4 : 5)]; /* tmpfs does not zero ranges */

	say(w, "fallocate slot %u mode %d %lld+%lld", i, mode, (long long)at, (long long)len);
	BOTH(w, fallocate(w->slots[i].fd[s], mode, at, len));
	same_fd(w, &w->slots[i]);
}

static void op_copy(struct world *w)
{
	unsigned int from = some_slot(w), to = some_slot(w);
	loff_t in = some_offset(w), out = some_offset(w);
	size_t len = some_length(w);

	say(w, "copy_file_range slot %u %lld to slot %u %lld, %zu", from, (long long)in, to, (long long)out,
	    len);
	for (int s = 0; s < 2; s++) {
		loff_t a = in, b = out;

		meter_begin(w, s);
		w->res[s] = copy_file_range(w->slots[from].fd[s], &a, w->slots[to].fd[s], &b, len, 0);
		w->err[s] = w->res[s] < 0 ? errno : 0;
		meter_end(w, s);
	}
	same_result(w);
	same_fd(w, &w->slots[to]);
}

static void unmap(struct mapping *m)
{
	int s;

	for (s = 0; s < 2; s++) {
		if (m->len) {
			munmap(m->at[s], m->len);
			close(m->fd[s]);
		}
	}
	m->len = 0;
}

static void op_map(struct world *w)
{
	struct mapping *m = &w->maps[below(w, MAPS)];
	const struct slot *slot = &w->slots[some_slot(w)];
	size_t len = some_length(w);
	int prot = below(w, 3) ? PROT_READ | PROT_WRITE : PROT_READ, k;

	unmap(m);
	say(w, "mmap slot %u %zu prot %d", (unsigned int)(slot - w->slots), len, prot);
	BOTH(w, (m->at[s] = mmap(NULL, len, prot, MAP_SHARED, slot->fd[s], 0)) == MAP_FAILED ? -1 : 0);
	if (w->res[0])
		return;
	m->len = len;
	m->writable = prot & PROT_WRITE;
	for (k = 0; k < 2; k++)
		m->fd[k] = fcntl(slot->fd[k], F_DUPFD_CLOEXEC, 0);
}

/* Only bytes of the file: what lies behind its end in the last page is nobody's, and further is SIGBUS. */
static void op_use_map(struct world *w)
{
	const struct mapping *m = &w->maps[below(w, MAPS)];
	unsigned int n, k;
	struct stat st;
	size_t len;

	if (!m->len || fstat(m->fd[1], &st))
		return;
	len = (size_t)st.st_size < m->len ? (size_t)st.st_size : m->len;
	say(w, "use map of %zu bytes", len);
	if (!len)
		return;
	n = m->writable ? below(w, 20) : 0;
	for (k = 0; k < n; k++) {
		size_t at = below(w, (unsigned int)len);

		m->at[0][at] = m->at[1][at] = (char)rnd(w);
	}
	if (memcmp(m->at[0], m->at[1], len))
		differ(w, "mappings differ");
}

/* ---- names ---- */

static void op_mkdir(struct world *w)
{
	char path[PATH_ROOM];
	mode_t mode = some_mode(w);

	some_path(w, path, false);
	say(w, "mkdir %s 0%o", path, mode);
	BOTH(w, mkdirat(w->root[s], path, mode));
	same_path(w, path);
}

static void op_mknod(struct world *w)
{
	static const mode_t kinds[] = {S_IFREG, S_IFIFO, S_IFCHR, S_IFSOCK};
	char path[PATH_ROOM];
	mode_t mode = kinds[below(w, 4)] | file_mode(w);

	some_path(w, path, false);
	say(w, "mknod %s 0%o", path, mode);
	BOTH(w, mknodat(w->root[s], path, mode, 0));
	same_path(w, path);
}

static void op_symlink(struct world *w)
{
	char path[PATH_ROOM], target[PATH_ROOM];

	do
		any_path(w, target);
	while (target[0] == '.');
	some_path(w, path, false);
	say(w, "symlink %s -> %s", path, target);
	BOTH(w, symlinkat(target, w->root[s], path));
	same_path(w, path);
}

static void op_readlink(struct world *w)
{
	char path[PATH_ROOM];

	some_path(w, path, true);
	say(w, "readlink %s", path);
	BOTH(w, readlinkat(w->root[s], path, w->buf[s], PATH_ROOM));
	if (w->res[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
		differ(w, "different targets");
}

static void op_link(struct world *w)
{
	char from[PATH_ROOM], to[PATH_ROOM];
	int flags = below(w, 3) ? 0 : AT_SYMLINK_FOLLOW;

	some_path(w, from, true);
	some_path(w, to, false);
	say(w, "link %s %s 0x%x", from, to, (unsigned int)flags);
	BOTH(w, linkat(w->root[s], from, w->root[s], to, flags));
	same_path(w, from);
	same_path(w, to);
}

static void op_link_slot(struct world *w)
{
	unsigned int i = some_slot(w);
	char to[PATH_ROOM];

	some_path(w, to, false);
	say(w, "link slot %u as %s", i, to);
	BOTH(w, linkat(w->slots[i].fd[s], "", w->root[s], to, AT_EMPTY_PATH));
	same_path(w, to);
	same_fd(w, &w->slots[i]);
}

static void op_rename(struct world *w)
{
	static const unsigned int kinds[] = {
		0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT};
	unsigned int flags = kinds[below(w, w->disk ? 6 : 7)];
	char from[PATH_ROOM], to[PATH_ROOM];

	some_path(w, from, true);
	some_path(w, to, flags == RENAME_EXCHANGE || below(w, 2));
	say(w, "rename %s %s flags %u", from, to, flags);
	BOTH(w, syscall(SYS_renameat2, w->root[s], from, w->root[s], to, flags));
	same_path(w, from);
	same_path(w, to);
}

static void op_unlink(struct world *w)
{
	char path[PATH_ROOM];

	some_path(w, path, true);
	say(w, "unlink %s", path);
	BOTH(w, unlinkat(w->root[s], path, 0));
	same_path(w, path);
}

static void op_rmdir(struct world *w)
{
	char path[PATH_ROOM];

	some_path(w, path, true);
	say(w, "rmdir %s", path);
	BOTH(w, unlinkat(w->root[s], path, AT_REMOVEDIR));
	same_path(w, path);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names with types, sorted; of the shared directory only the own ones, others come and go. */
static long listing(struct world *w, int dirfd, const char *path, bool own_only, char *text, size_t room)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *names[600];
	size_t n = 0, used = 0, i;
	struct dirent *e;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int error;

	text[0] = '\0';
	if (!d)
		return -1;
	errno = 0;
	while ((e = readdir(d)) && n < 600)
		if (!own_only || e->d_name[0] == (char)('a' + w->id))
			if (asprintf(&names[n], "%s:%d ", e->d_name, e->d_type) > 0)
				n++;
	error = e ? 0 : errno;
	closedir(d);
	qsort(names, n, sizeof(names[0]), by_name);
	for (i = 0; i < n; i++) {
		used += (size_t)snprintf(text + used, room - used, "%s", names[i]);
		free(names[i]);
	}
	errno = error;
	return error ? -1 : (long)n;
}

static void op_list(struct world *w)
{
	bool shared = below(w, 4) == 0;
	char path[PATH_ROOM];

	if (shared)
		strcpy(path, "../shared");
	else if (below(w, 3) == 0)
		strcpy(path, ".");
	else
		some_path(w, path, true);
	say(w, "list %s", path);
	BOTH(w, listing(w, w->root[s], path, shared, w->buf[s], MAX_SIZE));
	if (strcmp(w->buf[0], w->buf[1]))
		differ(w, "listings differ:\n  %s\n  %s", w->buf[0], w->buf[1]);
}

/* ---- attributes ---- */

static void op_chmod(struct world *w)
{
	unsigned int i = some_slot(w);
	mode_t mode = some_mode(w);
	char path[PATH_ROOM];
	struct stat st;

	some_path(w, path, true);
	if (w->no_suid && (fstatat(w->root[1], path, &st, 0) || !S_ISDIR(st.st_mode)))
		mode &= 01777;
	if (below(w, 3) == 0) {
		mode &= w->no_suid ? 01777 : 07777;
		say(w, "fchmod slot %u 0%o", i, mode);
		BOTH(w, fchmod(w->slots[i].fd[s], mode));
		same_fd(w, &w->slots[i]);
		return;
	}
	say(w, "chmod %s 0%o", path, mode);
	BOTH(w, fchmodat(w->root[s], path, mode, 0));
	same_path(w, path);
}

static void op_chown(struct world *w)
{
	static const unsigned int ids[] = {0, USER, USER + 1, GROUP, (unsigned int)-1};
	uid_t uid = ids[below(w, 5)];
	gid_t gid = ids[below(w, 5)];
	unsigned int i = some_slot(w);
	char path[PATH_ROOM];

	some_path(w, path, true);
	if (below(w, 3) == 0) {
		say(w, "fchown slot %u %d:%d", i, (int)uid, (int)gid);
		BOTH(w, fchown(w->slots[i].fd[s], uid, gid));
		same_fd(w, &w->slots[i]);
		return;
	}
	say(w, "lchown %s %d:%d", path, (int)uid, (int)gid);
	BOTH(w, fchownat(w->root[s], path, uid, gid, AT_SYMLINK_NOFOLLOW));
	same_path(w, path);
}

static void op_utimens(struct world *w)
{
	struct timespec ts[2];
	struct stat st[2];
	char path[PATH_ROOM];
	int fds[2], k;

	for (k = 0; k < 2; k++) {
		ts[k].tv_sec = below(w, 2000000000);
		ts[k].tv_nsec = below(w, 1000000000);
	}
	some_path(w, path, true);
	say(w, "utimensat %s %lld %lld", path, (long long)ts[0].tv_sec, (long long)ts[1].tv_sec);
	/* looked at through a descriptor: the way there may lead over another name of a symlink, and that is
	 * a read of it */
	BOTH_FD(w, openat(w->root[s], path, O_PATH | O_NOFOLLOW | O_CLOEXEC));
	if (fds[0] < 0)
		return;
	BOTH(w, utimensat(w->root[s], path, ts, AT_SYMLINK_NOFOLLOW));
	for (k = 0; k < 2 && !w->res[0] && !fstat(fds[k], &st[k]); k++)
		if (memcmp(&st[k].st_atim, &ts[0], sizeof(ts[0])) ||
		    memcmp(&st[k].st_mtim, &ts[1], sizeof(ts[1])))
			differ(w, "side %d, mode 0%o: time stamps are %lld.%09ld and %lld.%09ld", k,
			       st[k].st_mode, (long long)st[k].st_atim.tv_sec, st[k].st_atim.tv_nsec,
			       (long long)st[k].st_mtim.tv_sec, st[k].st_mtim.tv_nsec);
	close(fds[0]);
	close(fds[1]);
}

static void op_access(struct world *w)
{
	char path[PATH_ROOM];
	int how = (int)below(w, 8);

	some_path(w, path, true);
	say(w, "access %s %d", path, how);
	BOTH(w, syscall(SYS_faccessat2, w->root[s], path, how, AT_EACCESS));
}

static void op_xattr(struct world *w)
{
	static const char *const names[] = {"user.one", "user.two", "user.three", "trusted.four",
					    "security.five"};
	const char *name = names[below(w, 5)];
	unsigned int i = some_slot(w), what = below(w, 5);
	size_t len = below(w, 4) ? below(w, 40) : below(w, w->disk ? 1000 : 5000);
	int flags = below(w, 3) ? 0 : below(w, 2) ? XATTR_CREATE : XATTR_REPLACE;
	int fds[2];
	char path[PATH_ROOM];

	some_path(w, path, true);
	random_bytes(w, w->data, len);
	say(w, "xattr %s of %s: %s, %zu bytes, flags %d", name, what == 4 ? "slot" : path,
	    what < 2 || what == 4 ? "set"
	    : what == 2		  ? "get"
				  : "remove",
	    len, flags);
	if (what == 4) {
		BOTH(w, fsetxattr(w->slots[i].fd[s], name, w->data, len, flags));
		return;
	}
	BOTH_FD(w, openat(w->root[s], path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	if (fds[0] < 0)
		return;
	if (what < 2)
		BOTH(w, fsetxattr(fds[s], name, w->data, len, flags));
	else if (what == 2)
		BOTH(w, fgetxattr(fds[s], name, w->buf[s], len));
	else
		BOTH(w, fremovexattr(fds[s], name));
	if (what == 2 && w->res[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
		differ(w, "values differ");
	close(fds[0]);
	close(fds[1]);
}

/* An access or default list with a named user and a mask, or its removal. */
static void op_acl(struct world *w)
{
	struct {
		struct posix_acl_xattr_header h;
		struct posix_acl_xattr_entry e[5];
	} acl = {.h.a_version = htole32(POSIX_ACL_XATTR_VERSION)};
	static const uint16_t tags[] = {1, 2, 4, 16, 32};
	const char *name = below(w, 2) ? "system.posix_acl_access" : "system.posix_acl_default";
	bool removal = below(w, 4) == 0 && !w->disk; /* a directory may keep sgid then */
	char path[PATH_ROOM];
	int fds[2];
	unsigned int k;

	for (k = 0; k < 5; k++) {
		acl.e[k].e_tag = htole16(tags[k]);
		acl.e[k].e_perm = htole16((uint16_t)below(w, 8));
		acl.e[k].e_id = htole32(tags[k] == 2 ? USER : UINT32_MAX);
	}
	some_path(w, path, true);
	say(w, "%s %s of %s", removal ? "remove" : "set", name, path);
	BOTH_FD(w, openat(w->root[s], path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	if (fds[0] < 0)
		return;
	if (removal)
		BOTH(w, fremovexattr(fds[s], name));
	else
		BOTH(w, fsetxattr(fds[s], name, &acl, sizeof(acl), 0));
	close(fds[0]);
	close(fds[1]);
	same_path(w, path);
}

/* ---- the shared files, which nobody writes ---- */

static void op_shared(struct world *w)
{
	char path[PATH_ROOM];
	size_t len = some_length(w);
	off_t at = some_offset(w);
	bool mapped = below(w, 2);
	int fds[2], k;

	snprintf(path, sizeof(path), "../shared/base%u", below(w, 8));
	say(w, "%s of %s, %zu at %lld", mapped ? "map" : "read", path, len, (long long)at);
	BOTH_FD(w, openat(w->root[s], path, O_RDONLY | O_CLOEXEC));
	if (fds[0] < 0)
		return;
	BOTH(w, pread(fds[s], w->buf[s], len, at));
	for (k = 0; k < 2 && mapped && w->res[0] > 0; k++) {
		char *p = mmap(NULL, MAX_SIZE, PROT_READ, MAP_SHARED, fds[k], 0);

		if (p == MAP_FAILED)
			differ(w, "mmap on side %d: %s", k, strerror(errno));
		if (memcmp(p + at, w->buf[1], (size_t)w->res[1]))
			differ(w, "side %d: mapping and reference differ", k);
		munmap(p, MAX_SIZE);
	}
	if (w->res[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)w->res[0]))
		differ(w, "shared file reads differently");
	close(fds[0]);
	close(fds[1]);
	same_path(w, path);
}

static const struct {
	void (*fn)(struct world *w);
	unsigned int weight;
} ops[] = {
	{op_open, 14},	  {op_tmpfile, 2},   {op_reopen, 3},	{op_close, 4},	   {op_write, 14},
	{op_read, 10},	  {op_ftruncate, 4}, {op_truncate, 3},	{op_fallocate, 4}, {op_copy, 3},
	{op_map, 4},	  {op_use_map, 8},   {op_mkdir, 7},	{op_mknod, 3},	   {op_symlink, 4},
	{op_readlink, 2}, {op_link, 5},	     {op_link_slot, 3}, {op_rename, 10},   {op_unlink, 9},
	{op_rmdir, 5},	  {op_list, 4},	     {op_chmod, 5},	{op_chown, 4},	   {op_utimens, 3},
	{op_access, 3},	  {op_xattr, 6},     {op_acl, 4},	{op_shared, 5},
};

/* Most as root, some as a user, so that permissions are asked; file system ids belong to the thread alone. */
void one_operation(struct world *w)
{
	unsigned int total = 0, pick, i;
	bool user = below(w, 5) == 0;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].weight;
	pick = below(w, total);
	for (i = 0; pick >= ops[i].weight; i++)
		pick -= ops[i].weight;
	if (below(w, 200) == 0)
		umask(below(w, 2) ? 022 : below(w, 0100));
	if (user) {
		setfsgid(GROUP);
		setfsuid(USER);
	}
	ops[i].fn(w);
	if (user) {
		setfsuid(0);
		setfsgid(0);
	}
	w->ops++;
}

void close_all(struct world *w)
{
	unsigned int i;

	for (i = 0; i < MAPS; i++)
		unmap(&w->maps[i]);
	for (i = 0; i < SLOTS; i++)
		close_slot(w, i);
}
