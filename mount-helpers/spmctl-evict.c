/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl evict and load: files out to swap, and back, by hand. The server does it, piece by piece. */
#include "config.h"

#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#define PIECE       (UINT64_C(64) << 20)
#define BUSY_TRIES  20 /* a close takes a moment to arrive at the server */
#define BUSY_NS     20000000

struct walk {
	const struct ctl_cmd *cmd;
	const struct ctl_opts *opts;
	const char *control; /* "evict" or "load" */
	bool load;
	struct ctl_mounts mounts;
	const struct ctl_mount *mount; /* whose control file is open */
	int fd;
	FTS *fts;
	struct ctl_list list;
	struct ctl_progress progress;
	uint64_t files, moved;
	bool stop; /* what comes next would fail in the same way */
	int rc;
};

/* A file while it is at work on. */
struct file {
	const char *path;
	int fd; /* O_PATH: it stays known to the server, and is not opened */
	struct stat st;
	uint64_t resident, swapped;
};

static void failed(struct walk *w, bool stop)
{
	ctl_progress_clear(&w->progress);
	w->rc = CTL_FAILED;
	w->stop |= stop;
}

static int read_state(struct file *f)
{
	char link[64], text[1024];
	struct ctl_table t;
	char *copy;
	ssize_t n;
	bool whole;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", f->fd);
	n = getxattr(link, CTL_XATTR_FILE, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	copy = strdup(text);
	if (!copy || ctl_table_parse(&t, copy))
		return -ENOMEM;
	whole = ctl_table_u64(&t, "resident_bytes", &f->resident) &&
		ctl_table_u64(&t, "swapped_bytes", &f->swapped);
	ctl_table_free(&t);
	return whole ? 0 : -EPROTO;
}

static void tell_busy(const struct file *f)
{
	spm_auto_free char *who = ctl_holders(f->st.st_dev, f->st.st_ino);

	if (who)
		ctl_error("%s: it is pinned, held by %s; a file that is open or mapped directly does not leave",
			  f->path, who);
	else
		ctl_error("%s: it is pinned, and by nobody that /proc shows here: a process in a container, io_uring "
			  "or a device may hold it",
			  f->path);
}

static void tell_full(struct walk *w, const struct file *f)
{
	if (w->load)
		ctl_error("%s: not all of it fits: the device is full, and what is there cannot leave; spmctl status %s "
			  "shows what is pinned",
			  f->path, w->mount->point);
	else
		ctl_error("%s: the swap files are full, or swap.max is reached; spmctl status %s shows it", f->path,
			  w->mount->point);
}

static void tell(struct walk *w, const struct file *f, int err)
{
	failed(w, err == EOPNOTSUPP || err == EROFS || err == EINTR || ctl_is_dead(err) || (err == ENOSPC && !w->load));
	if (err == EBUSY)
		tell_busy(f);
	else if (err == ENOSPC)
		tell_full(w, f);
	else if (err == EIO)
		ctl_error("%s: a swap file could not be %s (input/output error); the system log says which, and "
			  "where",
			  f->path, w->load ? "read" : "written");
	else if (err == EOPNOTSUPP)
		ctl_swap_off(w->mount->point);
	else if (err == EROFS)
		ctl_is_draining(w->mount->point, w->mount->point);
	else
		ctl_path_error(f->path, err);
}

/* Whoever has just closed the file may still be seen by the server: only without a holder is it asked again. */
static int ask(struct walk *w, const struct file *f, uint64_t from, uint64_t len)
{
	static const struct timespec pause = { .tv_nsec = BUSY_NS };
	char text[80];
	int n = snprintf(text, sizeof(text), "%ju %ju %ju\n", (uintmax_t)f->st.st_ino, (uintmax_t)from,
			 (uintmax_t)len);

	for (int i = 0; write(w->fd, text, (size_t)n) != n; i++) {
		spm_auto_free char *who = NULL;
		int err = errno;

		if (err != EBUSY || i == BUSY_TRIES)
			return err;
		who = ctl_holders(f->st.st_dev, f->st.st_ino);
		if (who)
			return err;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static void show_progress(struct walk *w, const struct file *f, uint64_t done)
{
	char a[CTL_SIZE_LEN], b[CTL_SIZE_LEN];
	const struct ctl_opts human = { .human = true };

	ctl_progress_show(&w->progress, "spmctl: %s: file %" PRIu64 ", %s of %s", w->cmd->name, w->files + 1,
			  ctl_size(&human, done, a), ctl_size(&human, (uint64_t)f->st.st_size, b));
}

static bool move_pieces(struct walk *w, const struct file *f)
{
	uint64_t size = (uint64_t)f->st.st_size;

	for (uint64_t at = 0; at < size; at += PIECE) {
		int err = ask(w, f, at, size - at < PIECE ? size - at : PIECE);

		if (err) {
			tell(w, f, err);
			return false;
		}
		show_progress(w, f, at + PIECE < size ? at + PIECE : size);
	}
	return true;
}

/* A file that is larger than what is free of the device pushes its own head out again. */
static void tell_left_again(struct walk *w, const struct file *f)
{
	char a[CTL_SIZE_LEN];
	const struct ctl_opts human = { .human = true };

	failed(w, false);
	ctl_error("%s: %s of it left again while the rest came: the device has no room for all of it at once", f->path,
		  ctl_size(&human, f->swapped, a));
}

static void row_json(struct walk *w, const struct file *f, uint64_t moved)
{
	struct json_object *obj = json_object_new_object();

	json_object_object_add(obj, "path", ctl_json_bytes(f->path));
	ctl_json_size(w->opts, obj, "moved_bytes", moved);
	ctl_json_size(w->opts, obj, "swapped_bytes", f->swapped);
	ctl_progress_clear(&w->progress);
	ctl_list_add(&w->list, obj);
}

/* Its mount's control file, in w->fd. */
static bool reach_server(struct walk *w, const struct file *f)
{
	const struct ctl_mount *m = ctl_mount_of(&w->mounts, f->st.st_dev, true);

	if (m && m == w->mount)
		return true;
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	w->mount = m;
	if (m) {
		w->fd = ctl_control_open(m->point, w->control);
	} else {
		ctl_progress_clear(&w->progress);
		ctl_error("%s: only a part of its filesystem is mounted here (a bind mount), without the control "
			  "files; name it where all of it is mounted",
			  f->path);
	}
	if (w->fd < 0)
		failed(w, true);
	return w->fd >= 0;
}

static void move_file(struct walk *w, struct file *f)
{
	int rc = read_state(f);
	uint64_t before = rc ? 0 : f->swapped, high, low, moved;

	if (!rc && (w->load ? f->swapped : f->resident)) {
		bool whole = move_pieces(w, f);

		if (w->stop)
			return;
		rc = read_state(f);
		if (!rc && whole && w->load && f->swapped)
			tell_left_again(w, f);
	}
	if (rc) {
		tell(w, f, -rc);
		return;
	}
	high = w->load ? before : f->swapped;
	low = w->load ? f->swapped : before;
	moved = high > low ? high - low : 0; /* others may have been at it, in the other direction */
	w->files++;
	w->moved += moved;
	if (w->opts->json)
		row_json(w, f, moved);
}

static void one_file(struct walk *w, const FTSENT *e)
{
	struct file f = { .path = e->fts_path, .fd = open(e->fts_accpath, O_PATH | O_NOFOLLOW | O_CLOEXEC) };

	/* deleted while the walk was on its way, or another file by now: neither is what was meant */
	if (f.fd >= 0 && !fstat(f.fd, &f.st) && S_ISREG(f.st.st_mode) && reach_server(w, &f))
		move_file(w, &f);
	if (f.fd >= 0)
		close(f.fd);
}

/* One line for what was named, not one for each file below it. */
static bool refuse_root(struct walk *w, FTSENT *e)
{
	const char *why = ctl_refusal(&w->mounts, e);

	if (!why && e->fts_level == FTS_ROOTLEVEL && e->fts_info == FTS_D && !w->opts->recursive)
		why = "a directory; -r means all files below it";
	if (!why)
		return false;
	failed(w, false);
	ctl_error("%s: %s", e->fts_path, why);
	fts_set(w->fts, e, FTS_SKIP);
	return true;
}

static void visit(struct walk *w, FTSENT *e)
{
	if (refuse_root(w, e))
		return;
	if (e->fts_info == FTS_F) {
		one_file(w, e);
	} else if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS) {
		/* what vanished below a directory that is being walked is no failure */
		if (e->fts_errno == ENOENT && e->fts_level != FTS_ROOTLEVEL)
			return;
		failed(w, ctl_is_dead(e->fts_errno));
		ctl_path_error(e->fts_path, e->fts_errno);
	}
}

static void walk(struct walk *w)
{
	char a[CTL_SIZE_LEN];
	FTSENT *e;

	if (w->opts->json)
		ctl_list_begin(&w->list);
	while (!w->stop && (errno = 0, e = fts_read(w->fts)))
		visit(w, e);
	if (!w->stop && errno) {
		failed(w, true);
		ctl_error("%s: %s", w->cmd->name, strerror(errno));
	}
	ctl_progress_clear(&w->progress);
	if (w->opts->json)
		ctl_list_end(&w->list);
	else if (w->files)
		printf("%s%s moved %s, files: %" PRIu64 "\n", ctl_size(w->opts, w->moved, a),
		       w->opts->human ? "" : " bytes", w->load ? "in" : "out", w->files);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_opts opts;
	struct walk w = { .cmd = cmd, .opts = &opts, .control = cmd->name, .load = cmd == &ctl_load, .fd = -1,
			  .rc = CTL_DONE };
	int first = ctl_options(cmd, argc, argv, &opts);

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (first == argc) {
		ctl_error("%s: give a file, or -r and a directory; usage: spmctl %s %s", cmd->name, cmd->name,
			  cmd->args);
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&w.mounts))
		return CTL_FAILED;
	ctl_progress_begin(&w.progress);
	w.fts = fts_open(argv + first, FTS_PHYSICAL | FTS_XDEV, by_name);
	if (w.fts) {
		walk(&w);
		fts_close(w.fts);
	} else {
		failed(&w, true);
		ctl_error("%s: %s", cmd->name, strerror(errno));
	}
	if (w.fd >= 0)
		close(w.fd);
	ctl_mounts_free(&w.mounts);
	return w.rc;
}

const struct ctl_cmd ctl_evict = {
	.name = "evict",
	.args = "[--json] [-u] [-r] PATH...",
	.help = "move files out to swap",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN | CTL_OPT_RECURSIVE,
	.run = run,
};

const struct ctl_cmd ctl_load = {
	.name = "load",
	.args = "[--json] [-u] [-r] PATH...",
	.help = "move files back from swap",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN | CTL_OPT_RECURSIVE,
	.run = run,
};
