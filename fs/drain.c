/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/drain.h"
#include "core/handle.h"
#include "fs/open.h"
#include "fs/pool.h"
#include "fs/slices.h"
#include "fs/stats.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/xattr.h>

#define PART_NS   INT64_C(250000000) /* of a pass, for which one write lasts: nobody can cancel meanwhile */
#define LIST_MAX  256u

bool spm_drain_refuses(const struct spm_fs *fs)
{
	return spm_draining(fs) && !spm_again(NULL, NULL);
}

int spm_drain_growth(const struct spm_fs *fs, int fd, uint64_t end)
{
	struct stat st;

	if (!spm_draining(fs))
		return 0;
	if (fstat(fd, &st))
		return -errno;
	return end > (uint64_t)st.st_size ? -EROFS : 0;
}

const char *spm_drain_name(enum spm_drain d)
{
	return d == SPM_DRAIN_OFF ? "none" : d == SPM_DRAIN_ON ? "draining" : "drained";
}

enum spm_drain spm_drain_state(struct spm_fs *fs)
{
	uint64_t pinned;
	size_t files;

	if (!spm_draining(fs))
		return SPM_DRAIN_OFF;
	/* by a direct open or mapping memory comes into holes, which nobody here hears of */
	if (spm_stats_resident(fs) || atomic_load(&fs->count.open_direct) > 0 || spm_stats_pinned(fs, &pinned, &files) || files)
		return SPM_DRAIN_ON;
	return SPM_DRAIN_DONE;
}

/* -- what is left -- */

struct listing {
	struct spm_fs *fs;
	FILE *out;
	uint64_t files, bytes; /* those that were left out */
	unsigned int shown;
};

/* One line, whatever the name: newline and backslash as three octal digits. */
static void put_path(FILE *out, const char *path)
{
	for (const char *c = path; *c; c++) {
		if (*c == '\n' || *c == '\\')
			fprintf(out, "\\%03o", (unsigned int)*c);
		else
			fputc(*c, out);
	}
	fputc('\n', out);
}

/* chattr +i and +a, and file capabilities, which a punch would take away: such a file has no other place (fs/swap.h). */
static bool is_fixed(const struct spm_fs *fs, int fd, const char *link)
{
	struct statx sx;

	if (!fs->pool && getxattr(link, "security.capability", NULL, 0) > 0)
		return true;
	return !statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) &&
	       sx.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND);
}

static const char *mode_of(struct spm_fs *fs, const struct spm_swap_whose *w, uint32_t file)
{
	uint64_t nodeid;
	struct spm_inode *rec = spm_itable_find(&fs->itable, w->slice, w->ino, &nodeid);

	if (rec)
		return spm_open_mode(fs, rec, nodeid);
	return file && spm_swap_is_direct(fs->swap, file) ? "direct" : "idle";
}

/* What it has of the device; in a pool the region's file has no page. */
static blkcnt_t blocks_of(struct spm_fs *fs, const struct spm_swap_whose *w, const struct stat *st)
{
	const struct spm_pool_file f = spm_pooled_file(w->slice, w->ino);

	return fs->pool ? (blkcnt_t)(spm_pool_file_bytes(fs->pool, &f) / 512) : st->st_blocks;
}

static void list_file(struct listing *l, const struct spm_swap_whose *w, uint32_t file)
{
	struct spm_slice *s = spm_slices_get(&l->fs->slices, w->slice);
	const char *mode = mode_of(l->fs, w, file);
	char link[64], path[PATH_MAX];
	spm_auto_close int fd = s ? spm_handle_open(s->mount_fd, &w->handle, O_PATH) : -ESTALE;
	bool direct = !strcmp(mode, "direct");
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return;
	st.st_blocks = blocks_of(l->fs, w, &st);
	if (!st.st_blocks && !direct)
		return;
	if (l->shown == LIST_MAX) {
		l->files++;
		l->bytes += (uint64_t)st.st_blocks * 512;
		return;
	}
	l->shown++;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (!spm_slices_user_path(l->fs, w->slice, path, sizeof(path)))
		snprintf(path, sizeof(path), "(deleted)");
	fprintf(l->out, "file %llu %llu %s ", (unsigned long long)spm_slice_ino(w->slice, w->ino),
		(unsigned long long)st.st_blocks * 512, is_fixed(l->fs, fd, link) ? "fixed" : mode);
	put_path(l->out, path);
}

/* Without swap only files that the kernel knows are worth naming: somebody may hold these. */
struct known {
	struct spm_fs *fs;
	struct spm_swap_whose *list;
	size_t count, room;
	int rc;
};

static void collect(struct spm_inode *rec, void *arg)
{
	struct known *k = arg;

	if (k->rc || spm_inode_is(rec, SPM_INODE_DIR))
		return;
	if (k->count == k->room) {
		size_t room = k->room ? k->room * 2 : 64;
		struct spm_swap_whose *list = realloc(k->list, room * sizeof(*list));

		if (!list) {
			k->rc = -ENOMEM;
			return;
		}
		k->list = list;
		k->room = room;
	}
	k->list[k->count++] = (struct spm_swap_whose){ .slice = rec->slice, .ino = rec->ino, .handle = rec->handle };
}

static int list_known(struct listing *l)
{
	struct known k = { .fs = l->fs };

	spm_itable_each(&l->fs->itable, collect, &k);
	for (size_t i = 0; i < k.count && !k.rc; i++)
		list_file(l, &k.list[i], 0);
	free(k.list);
	return k.rc;
}

int spm_drain_show(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct listing l = { .fs = fs, .out = out };
	enum spm_drain d = spm_drain_state(fs);
	struct spm_swap_whose w;
	int rc = 0;

	(void)slice;
	fprintf(out, "state %s\nresident_bytes %llu\n", spm_drain_name(d), (unsigned long long)spm_stats_resident(fs));
	if (d != SPM_DRAIN_ON)
		return 0;
	spm_session_blocking();
	if (!fs->swap)
		rc = list_known(&l);
	else
		for (uint32_t file = 0; (file = spm_swap_next(fs->swap, file, &w));)
			list_file(&l, &w, file);
	if (l.files)
		fprintf(out, "more_files %llu\nmore_bytes %llu\n", (unsigned long long)l.files, (unsigned long long)l.bytes);
	return rc;
}

/* -- on and off -- */

static void set(struct spm_fs *fs, bool on)
{
	if (atomic_exchange(&fs->desks.state->draining, on) == on)
		return;
	/* a worker that dies here has a successor that does it */
	if (fs->swap)
		spm_swap_drain(fs->swap, on);
	spm_log(SPM_LOG_INFO, "%s: drain: %s", fs->opts->mountpoint,
		on ? "nothing new is taken, and everything is to leave" : "cancelled: service is as it was");
}

int spm_drain_write(struct spm_fs *fs, uint16_t slice, fuse_req_t req, const char *value)
{
	bool on = strcmp(value, "0") != 0, more = !strcmp(value, "more");

	(void)slice;
	(void)req;
	if (on && !more && strcmp(value, "1"))
		return -EINVAL;
	spm_session_blocking();
	if (more && !spm_draining(fs))
		return -ECANCELED;
	if (!more)
		set(fs, on);
	return fs->swap && on ? spm_swap_drain_some(fs->swap, PART_NS) : 0;
}
