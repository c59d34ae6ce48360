/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/swapfile.h"
#include "core/beneath.h"
#include "core/size.h"
#include "core/trailer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <time.h>

#define LOCK_TRIES    150
#define LOCK_PAUSE_NS 20000000

/* The one at work of the files that are being opened. */
struct job {
	const struct spm_swapfiles_want *want;
	struct spm_swapfiles *f;
	struct spm_error *e;
	unsigned int i;
	uint64_t bytes; /* of each */
	struct stat st;
	uint64_t more[SPM_SWAP_FILES];  /* what each would take of its disk */
	uint32_t index[SPM_SWAP_FILES]; /* what the headers of a region say */
};

/* -- where it lies -- */

static int split_list(struct job *j)
{
	for (const char *p = j->want->list; *p;) {
		size_t n = strcspn(p, ":"), len = n;

		/* a slash behind the name of a link would stand for what it points to */
		while (len > 1 && p[len - 1] == '/')
			len--;
		if (j->f->count == SPM_SWAP_FILES)
			return spm_fail(j->e, -EINVAL, "swap=%s: more than %u files", j->want->list, SPM_SWAP_FILES);
		j->f->path[j->f->count] = strndup(p, len);
		if (!j->f->path[j->f->count++])
			return -ENOMEM;
		p += n + (p[n] == ':');
	}
	return j->f->count ? 0 : spm_fail(j->e, -EINVAL, "swap=: names no file");
}

/* The path is a directory's: a file of the mount's name is meant. */
static int use_directory(struct job *j, int dir)
{
	struct spm_swapfiles *f = j->f;
	char *path;

	f->dir_fd[j->i] = dir;
	if (asprintf(&f->base[j->i], "%s.swap", j->want->name) < 0) {
		f->base[j->i] = NULL;
		return -ENOMEM;
	}
	if (asprintf(&path, "%s/%s", strcmp(f->path[j->i], "/") ? f->path[j->i] : "", f->base[j->i]) < 0)
		return -ENOMEM;
	free(f->path[j->i]);
	f->path[j->i] = path;
	return 0;
}

static int check_directory(struct job *j, const char *dir)
{
	const char *path = j->f->path[j->i];
	struct stat st;

	if (fstat(j->f->dir_fd[j->i], &st))
		return spm_fail(j->e, -errno, "swap=%s: %m", path);
	if (st.st_uid)
		return spm_fail(j->e, -EPERM, "swap=%s: the directory %s belongs to user %u, who could take the file away; "
				"name a directory of root's", path, dir, st.st_uid);
	if (st.st_mode & 022 && !(st.st_mode & S_ISVTX))
		return spm_fail(j->e, -EPERM, "swap=%s: others may write to the directory %s, and so take the file away; "
				"'chmod go-w %s', or name another one", path, dir, dir);
	return 0;
}

static int find_directory(struct job *j)
{
	struct spm_swapfiles *f = j->f;
	spm_auto_close int fd = open(f->path[j->i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char dir[PATH_MAX], *slash;
	struct stat st;
	int rc;

	if (fd >= 0 && !fstat(fd, &st) && S_ISDIR(st.st_mode)) {
		rc = use_directory(j, spm_steal_fd(&fd));
		if (rc)
			return rc;
	} else if (fd < 0 && errno != ENOENT) {
		return spm_fail(j->e, -errno, "swap=%s: %m; name a file or a directory", f->path[j->i]);
	}
	if (!strchr(f->path[j->i], '/'))
		return spm_fail(j->e, -EINVAL, "swap=%s: give an absolute path", f->path[j->i]);
	if ((size_t)snprintf(dir, sizeof(dir), "%s", f->path[j->i]) >= sizeof(dir))
		return spm_fail(j->e, -ENAMETOOLONG, "swap=%s: the path is too long", f->path[j->i]);
	slash = strrchr(dir, '/');
	if (!f->base[j->i])
		f->base[j->i] = strdup(slash + 1);
	if (!f->base[j->i])
		return -ENOMEM;
	slash[slash == dir] = '\0';
	if (f->dir_fd[j->i] < 0)
		f->dir_fd[j->i] = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (f->dir_fd[j->i] < 0)
		return spm_fail(j->e, -errno, "swap=%s: the directory %s: %m; make it with 'mkdir -p %s'", f->path[j->i],
				dir, dir);
	return check_directory(j, dir);
}

/* -- what it is -- */

static int check_inode(struct job *j)
{
	const char *path = j->f->path[j->i];
	const struct stat *st = &j->st;
	struct stat other;

	if (S_ISLNK(st->st_mode))
		return spm_fail(j->e, -ELOOP, "swap=%s: a symbolic link; name the file itself", path);
	if (!S_ISREG(st->st_mode))
		return spm_fail(j->e, -EINVAL, "swap=%s: not a regular file; name a file or a directory", path);
	for (unsigned int i = 0; i < j->i; i++)
		if (!fstat(j->f->fd[i], &other) && other.st_ino == st->st_ino && other.st_dev == st->st_dev)
			return spm_fail(j->e, -EINVAL, "swap=%s: named twice; once is enough", path);
	if (st->st_uid)
		return spm_fail(j->e, -EPERM, "swap=%s: belongs to user %u, not to root; 'chown root %s', or name "
				"another file", path, st->st_uid, path);
	if (st->st_nlink != 1)
		return spm_fail(j->e, -EMLINK, "swap=%s: has %u names (hard links); name a file that has only one", path,
				(unsigned int)st->st_nlink);
	if (st->st_mode & 077)
		return spm_fail(j->e, -EPERM, "swap=%s: others than root may open it (mode %04o); 'chmod 600 %s' "
				"first", path, st->st_mode & 07777, path);
	return 0;
}

static bool kernel_swaps_to(const struct stat *st)
{
	spm_auto_fclose FILE *f = fopen("/proc/swaps", "re");
	spm_auto_free char *line = NULL;
	size_t room = 0;

	while (f && getline(&line, &room, f) > 0) {
		struct stat other;

		line[strcspn(line, " \t")] = '\0';
		if (line[0] == '/' && !stat(line, &other) && other.st_ino == st->st_ino && other.st_dev == st->st_dev)
			return true;
	}
	return false;
}

static int check_ground(struct job *j, int fd)
{
	const char *path = j->f->path[j->i];
	char where[PATH_MAX];
	struct statfs sf;
	int rc = spm_beneath_spmfs(fd, where);

	if (rc > 0)
		return spm_fail(j->e, -ELOOP, "swap=%s: lies on the spmfs mount %s, which would have to wait for itself; "
				"name a file on a disk", path, where);
	if (rc)
		return spm_fail(j->e, rc, "swap=%s: too many block devices on top of each other; name a file on "
				"a disk", path);
	if (fstatfs(fd, &sf))
		return spm_fail(j->e, -errno, "swap=%s: %m", path);
	j->f->memory[j->i] = sf.f_type == TMPFS_MAGIC || sf.f_type == RAMFS_MAGIC;
	return 0;
}

/* -- its content -- */

/* False: not a header of ours. */
static bool read_header(int fd, struct spm_swapfile_header *h)
{
	_Alignas(4096) struct spm_swapfile_header block;

	if (pread(fd, &block, sizeof(block), 0) != sizeof(block) ||
	    memcmp(block.magic, SPM_SWAPFILE_MAGIC, sizeof(block.magic)) ||
	    block.check != spm_crc(&block, offsetof(struct spm_swapfile_header, check)))
		return false;
	*h = block;
	return true;
}

static int write_header(struct job *j, unsigned int i, const uint8_t uuid[16])
{
	_Alignas(4096) struct spm_swapfile_header h = {
		.magic = SPM_SWAPFILE_MAGIC, .index = i, .count = j->f->count, .prepared = j->f->prepared[i]
	};
	ssize_t n;

	if (uuid)
		memcpy(h.uuid, uuid, sizeof(h.uuid));
	memcpy(h.name, j->want->name, strnlen(j->want->name, sizeof(h.name)));
	h.check = spm_crc(&h, offsetof(struct spm_swapfile_header, check));
	n = pwrite(j->f->fd[i], &h, sizeof(h), 0);
	if (n != sizeof(h))
		return spm_fail(j->e, n < 0 ? -errno : -EIO, "swap=%s: cannot write: %s", j->f->path[i],
				strerror(n < 0 ? errno : EIO));
	return 0;
}

/* A file of a region that is somebody's mount now is locked; but a kept one may have no process. */
static int check_content(struct job *j)
{
	static const uint8_t none[16];
	const char *path = j->f->path[j->i];
	struct spm_swapfile_header h;

	if (!j->st.st_size && !j->want->uuid) {
		j->f->prepared[j->i] = true;
		return 0;
	}
	if (!read_header(j->f->fd[j->i], &h))
		return j->want->uuid ? spm_fail(j->e, -EINVAL, "%s is no swap file, or its header is damaged", path) :
			spm_fail(j->e, -EEXIST, "swap=%s: has content that is not spmfs's; 'truncate -s 0 %s' empties it, or "
				"name another file", path, path);
	j->f->prepared[j->i] = h.prepared;
	j->index[j->i] = h.index;
	if (!j->want->uuid)
		return memcmp(h.uuid, none, sizeof(none)) && j->want->taken ?
			j->want->taken(j->want->ctx, path, &h, j->e) : 0;
	if (memcmp(h.uuid, j->want->uuid, sizeof(h.uuid)))
		return spm_fail(j->e, -EINVAL, "%s is not a swap file of this region", path);
	if (h.count != j->f->count)
		return spm_fail(j->e, -EINVAL, "%s is one of %u swap files, and all are needed", path, h.count);
	if (h.index >= h.count)
		return spm_fail(j->e, -EINVAL, "swap=%s: its header is damaged", path);
	for (unsigned int i = 0; i < j->i; i++)
		if (j->index[i] == h.index)
			return spm_fail(j->e, -EINVAL, "swap=%s: is a copy of %s", path, j->f->path[i]);
	return 0;
}

/* -- opening it -- */

static int lock_file(struct job *j)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	int fd = j->f->fd[j->i], rc = flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
	struct spm_swapfile_header h;

	/* a mount that has just ended may take a moment to let go */
	for (int tries = 0; rc == -EWOULDBLOCK && tries < LOCK_TRIES; tries++) {
		nanosleep(&pause, NULL);
		rc = flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
	}
	if (!rc)
		return 0;
	if (rc != -EWOULDBLOCK)
		return spm_fail(j->e, rc, "swap=%s: cannot lock it: %s", j->f->path[j->i], strerror(-rc));
	if (!read_header(fd, &h))
		h.name[0] = '\0';
	return spm_fail(j->e, -EBUSY, "swap=%s: in use by %s %.64s; name another file", j->f->path[j->i],
			h.name[0] ? "the mount" : "another program", h.name);
}

/* One that is there, by its O_PATH descriptor: no device is opened, and what was checked is what is used. */
static int open_there(struct job *j, int path_fd)
{
	char proc[64];
	int rc = fstat(path_fd, &j->st) ? -errno : j->st.st_nlink ? 0 : -ESTALE;

	if (!rc)
		rc = check_inode(j);
	if (rc)
		return rc;
	if (kernel_swaps_to(&j->st))
		return spm_fail(j->e, -EBUSY, "swap=%s: the kernel swaps to it; 'swapoff %s' first, or name another file",
				j->f->path[j->i], j->f->path[j->i]);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", path_fd);
	j->f->fd[j->i] = open(proc, (j->want->dry ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (j->f->fd[j->i] < 0)
		return spm_fail(j->e, -errno, "swap=%s: cannot open it: %m", j->f->path[j->i]);
	rc = lock_file(j);
	/* the last user may have emptied it while this one waited for the lock, or removed it */
	if (!rc && fstat(j->f->fd[j->i], &j->st))
		rc = -errno;
	if (!rc && !j->st.st_nlink) {
		spm_cleanup_close(&j->f->fd[j->i]);
		j->f->fd[j->i] = -1;
		return -ESTALE;
	}
	return rc ? rc : check_content(j);
}

static int create(struct job *j)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	struct spm_swapfiles *f = j->f;

	if (j->want->uuid)
		return spm_fail(j->e, -ENOENT, "swap=%s: does not exist, and the region '%s' needs it", f->path[j->i],
				j->want->name);
	if (j->want->dry)
		return 0;
	f->fd[j->i] = openat(f->dir_fd[j->i], f->base[j->i], flags, 0600);
	if (f->fd[j->i] < 0)
		return spm_fail(j->e, -errno, "swap=%s: cannot make it: %m; name a file where root may write",
				f->path[j->i]);
	f->made[j->i] = true;
	if (fstat(f->fd[j->i], &j->st))
		return -errno;
	/* where root is not root: an exported filesystem */
	return check_inode(j) ?: lock_file(j);
}

static int no_space(struct job *j, uint64_t have)
{
	char want[16], is[16], missing[16];

	return spm_fail(j->e, -ENOSPC, "swap=%s: too little space for %s: %s are free there, %s are missing; "
			"free some, or give a smaller swapsize=", j->f->path[j->i],
			spm_size_human(j->bytes, want, sizeof(want)), spm_size_human(have, is, sizeof(is)),
			spm_size_human(j->bytes > have ? j->bytes - have : SPM_SLOT_BLOCK, missing, sizeof(missing)));
}

static int make_new(struct job *j)
{
	struct spm_swapfiles *f = j->f;
	int fd = f->fd[j->i], rc;
	struct statvfs sv;

	f->made[j->i] = true;
	if (ftruncate(fd, 0))
		return spm_fail(j->e, -errno, "swap=%s: cannot empty it: %m", f->path[j->i]);
	/* first: if this process is killed now, the next one knows the file for one of ours */
	rc = write_header(j, j->i, NULL);
	if (rc)
		return rc;
	do {
		rc = fallocate(fd, 0, 0, (off_t)j->bytes) ? -errno : 0;
	} while (rc == -EINTR);
	if (rc == -EOPNOTSUPP) {
		f->sparse[j->i] = true;
		rc = ftruncate(fd, (off_t)j->bytes) ? -errno : 0;
	}
	if (rc == -ENOSPC && !ftruncate(fd, 0) && !fstatvfs(fd, &sv))
		return no_space(j, (uint64_t)sv.f_bavail * sv.f_frsize);
	if (rc)
		return spm_fail(j->e, rc, "swap=%s: cannot make it %llu bytes large: %s", f->path[j->i],
				(unsigned long long)j->bytes, strerror(-rc));
	return 0;
}

/* What make_new() would come to. */
static int check_space(struct job *j)
{
	uint64_t has = j->f->fd[j->i] < 0 ? 0 : (uint64_t)j->st.st_blocks * 512, have;
	struct stat dir, other;
	struct statvfs sv;

	if (fstatvfs(j->f->dir_fd[j->i], &sv) || fstat(j->f->dir_fd[j->i], &dir))
		return -errno;
	have = (uint64_t)sv.f_bavail * sv.f_frsize + has;
	for (unsigned int i = 0; i < j->i; i++)
		if (!fstat(j->f->dir_fd[i], &other) && other.st_dev == dir.st_dev)
			have -= have < j->more[i] ? have : j->more[i];
	j->more[j->i] = j->bytes > has ? j->bytes - has : 0;
	return have < j->bytes ? no_space(j, have) : 0;
}

/* Whether a transfer works, not only the flag. On tmpfs it means nothing. */
static void try_direct(struct job *j)
{
	_Alignas(4096) char block[SPM_SLOT_BLOCK];
	int fd = j->f->fd[j->i];

	j->f->buffered[j->i] = true;
	if (j->f->memory[j->i] || fcntl(fd, F_SETFL, O_DIRECT))
		return;
	if (pread(fd, block, sizeof(block), 0) == (ssize_t)sizeof(block))
		j->f->buffered[j->i] = false;
	else
		fcntl(fd, F_SETFL, 0);
}

/* -ESTALE: it was there, and is not any more. */
static int open_named(struct job *j)
{
	spm_auto_close int path_fd = openat(j->f->dir_fd[j->i], j->f->base[j->i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int rc;

	if (path_fd < 0)
		return errno == ENOENT ? create(j) : spm_fail(j->e, -errno, "swap=%s: %m", j->f->path[j->i]);
	rc = open_there(j, path_fd);
	/* the file itself may be a mount point */
	return rc ? rc : check_ground(j, path_fd);
}

static int open_one(struct job *j)
{
	struct spm_swapfiles *f = j->f;
	int rc = find_directory(j);

	if (!rc)
		rc = check_ground(j, f->dir_fd[j->i]);
	if (rc)
		return rc;
	do {
		rc = open_named(j);
	} while (rc == -ESTALE);
	if (!rc && j->want->dry)
		return check_space(j);
	if (!rc && !j->want->uuid)
		rc = make_new(j);
	if (rc)
		return rc;
	try_direct(j);
	if (fstat(f->fd[j->i], &j->st))
		return -errno;
	f->blocks[j->i] = (uint32_t)(j->st.st_size / SPM_SLOT_BLOCK);
	return 0;
}

/* In the order of a region. */
static void sort(struct job *j)
{
	struct spm_swapfiles from = *j->f, *to = j->f;

	for (unsigned int i = 0; i < from.count; i++) {
		uint32_t at = j->index[i];

		to->fd[at] = from.fd[i];
		to->dir_fd[at] = from.dir_fd[i];
		to->path[at] = from.path[i];
		to->base[at] = from.base[i];
		to->blocks[at] = from.blocks[i];
		to->prepared[at] = from.prepared[i];
		to->buffered[at] = from.buffered[i];
		to->memory[at] = from.memory[i];
	}
}

int spm_swapfiles_open(const struct spm_swapfiles_want *want, struct spm_swapfiles *out, struct spm_error *e)
{
	struct job j = { .want = want, .f = out, .e = e };
	int rc;

	*out = SPM_SWAPFILES_NONE;
	for (unsigned int i = 0; i < SPM_SWAP_FILES; i++)
		out->fd[i] = out->dir_fd[i] = -1;
	rc = split_list(&j);
	if (!rc) {
		j.bytes = want->bytes / out->count & ~(uint64_t)(SPM_SLOT_BLOCK - 1);
		if (!want->uuid && (j.bytes < SPM_SWAPFILE_MIN || j.bytes > SPM_SWAPFILE_MAX))
			rc = spm_fail(e, -EINVAL, "swap=%s: %s for each of %u files; give a swapsize= of 4M to 1T per file",
				      want->list, spm_size_human(j.bytes, (char[16]){ "" }, 16), out->count);
	}
	for (j.i = 0; !rc && j.i < out->count; j.i++)
		rc = open_one(&j);
	if (!rc && want->uuid)
		sort(&j);
	if (rc)
		spm_swapfiles_undo(out);
	else if (want->dry)
		spm_swapfiles_close(out);
	return rc ? spm_fail(e, rc, "swap=%s: %s", want->list, strerror(-rc)) : 0;
}

int spm_swapfiles_stamp(struct spm_swapfiles *f, const char *name, const uint8_t uuid[16],
			struct spm_error *e)
{
	struct spm_swapfiles_want want = { .name = name };
	struct job j = { .want = &want, .f = f, .e = e };
	int rc = 0;

	for (unsigned int i = 0; !rc && i < f->count; i++)
		rc = write_header(&j, i, uuid);
	return rc;
}

void spm_swapfiles_note(const struct spm_swapfiles *f, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned int i = 0; i < f->count && at < len; i++) {
		const char *what = f->memory[i] ? "lies on tmpfs, so what is swapped out stays in RAM" :
			f->buffered[i] && f->sparse[i] ? "has no O_DIRECT and no preallocation there: slower, and may fill up" :
			f->buffered[i] ? "has no O_DIRECT there, so what is swapped out goes through the page cache" :
			f->sparse[i] ? "cannot be preallocated there, so the disk may be full when it is needed" : NULL;

		if (what)
			at += (size_t)snprintf(buf + at, len - at, "%sswap=%s %s", at ? "; " : "", f->path[i], what);
	}
}

void spm_swapfiles_close(struct spm_swapfiles *f)
{
	for (unsigned int i = 0; i < f->count; i++) {
		spm_cleanup_close(&f->fd[i]);
		spm_cleanup_close(&f->dir_fd[i]);
		free(f->path[i]);
		free(f->base[i]);
	}
	*f = SPM_SWAPFILES_NONE;
}

void spm_swapfiles_undo(struct spm_swapfiles *f)
{
	for (unsigned int i = 0; i < f->count; i++)
		if (f->made[i])
			spm_swapfile_remove(f->fd[i], f->dir_fd[i], f->base[i]);
	spm_swapfiles_close(f);
}

void spm_swapfile_remove(int fd, int dir_fd, const char *base)
{
	struct spm_swapfile_header h = { .prepared = 0 };
	struct stat st, named;

	read_header(fd, &h);
	if (!h.prepared && base && !fstat(fd, &st) && !fstatat(dir_fd, base, &named, AT_SYMLINK_NOFOLLOW) &&
	    named.st_ino == st.st_ino && named.st_dev == st.st_dev && unlinkat(dir_fd, base, 0))
		spm_log(SPM_LOG_WARNING, "cannot remove the swap file %s: %m", base);
	/* other processes may hold it for a moment more */
	if (ftruncate(fd, 0))
		spm_log(SPM_LOG_WARNING, "cannot empty the swap file %s: %m", base ? base : "");
}
