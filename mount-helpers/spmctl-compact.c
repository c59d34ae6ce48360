/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl compact: one pass over a mount's memory, pool and swap files, now. Ctrl-C ends it early. */
#include "config.h"

#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TICK_NS 300000000

/*
 * The write that lasts as long as the pass, by a thread of its own. To interrupt it is what ends the pass: a second
 * write to the same file would only wait for the first.
 */
struct pass {
	int fd;
	int err;
	atomic_bool over;
	pthread_t waiter;
};

struct figures {
	uint64_t moved, collapsed, swap, huge, scanned;
	uint64_t pool_moved, run, free; /* of a pool */
};

static bool read_figures(const char *point, struct figures *f)
{
	struct ctl_table t;
	bool whole;

	if (ctl_control_table(point, "stat", &t))
		return false;
	whole = ctl_table_u64(&t, "compact_moved_bytes", &f->moved) &&
		ctl_table_u64(&t, "compact_collapsed_bytes", &f->collapsed) &&
		ctl_table_u64(&t, "swap_bytes", &f->swap) && ctl_table_u64(&t, "huge_bytes", &f->huge) &&
		ctl_table_u64(&t, "huge_scanned_bytes", &f->scanned) &&
		ctl_table_u64(&t, "pool_moved_bytes", &f->pool_moved) &&
		ctl_table_u64(&t, "free_run_bytes", &f->run) && ctl_table_u64(&t, "free_bytes", &f->free);
	ctl_table_free(&t);
	if (!whole)
		ctl_error("%s: its server tells nothing of compaction; it is another version", point);
	return whole;
}

static void nothing(int sig)
{
	(void)sig;
}

static void *compact(void *arg)
{
	struct pass *p = arg;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	p->err = write(p->fd, "1\n", 2) == 2 ? 0 : errno;
	atomic_store(&p->over, true);
	pthread_kill(p->waiter, SIGUSR1); /* it waits for signals */
	return NULL;
}

static void show_progress(struct ctl_progress *pr, const char *point, const struct figures *before)
{
	const struct ctl_opts human = { .human = true };
	char a[CTL_SIZE_LEN], b[CTL_SIZE_LEN], c[CTL_SIZE_LEN];
	struct figures now;

	if (!ctl_progress_due(pr) || !read_figures(point, &now))
		return;
	if (now.pool_moved > before->pool_moved && now.moved == before->moved) {
		ctl_progress_show(pr, "spmctl: compact: %s moved in the pool", ctl_size(&human, now.pool_moved - before->pool_moved, a));
		return;
	}
	ctl_progress_show(pr, "spmctl: compact: %s put into huge pages, %s moved in swap files of %s",
			  ctl_size(&human, now.collapsed - before->collapsed, a),
			  ctl_size(&human, now.moved - before->moved, b), ctl_size(&human, now.swap, c));
}

/* Until the pass is over. */
static void attend(struct pass *p, pthread_t writer, const char *point, const struct figures *before,
		   const sigset_t *set)
{
	static const struct timespec tick = { .tv_nsec = TICK_NS };
	struct ctl_progress progress;
	bool cancelled = false;

	ctl_progress_begin(&progress);
	while (!atomic_load(&p->over)) {
		int sig = sigtimedwait(set, NULL, &tick);

		cancelled |= sig > 0 && sig != SIGUSR1;
		/* again and again: the first may come before the write has begun */
		if (cancelled)
			pthread_kill(writer, SIGUSR2);
		show_progress(&progress, point, before);
	}
	ctl_progress_clear(&progress);
}

static int one_pass(const char *point, const struct figures *before)
{
	struct pass p = { .fd = ctl_control_open(point, "compact"), .waiter = pthread_self() };
	const struct sigaction interrupts = { .sa_handler = nothing }; /* no SA_RESTART */
	spm_auto_close int fd = p.fd;
	pthread_t thread;
	sigset_t set;
	int rc;

	if (fd < 0)
		return CTL_FAILED;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaction(SIGUSR2, &interrupts, NULL);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	rc = pthread_create(&thread, NULL, compact, &p);
	if (!rc) {
		attend(&p, thread, point, before, &set);
		pthread_join(thread, NULL);
	} else {
		p.err = rc;
	}
	if (!p.err)
		return CTL_DONE;
	if (p.err == EOPNOTSUPP)
		ctl_swap_off(point);
	else if (p.err == ECANCELED || p.err == EINTR)
		ctl_error("%s: compaction was ended early; what was done stays, and the next pass goes on from there",
			  point);
	else if (p.err == EIO)
		ctl_error("%s: a swap file could not be read or written (input/output error); the system log says "
			  "which",
			  point);
	else
		ctl_error("%s: %s", point, strerror(p.err));
	return CTL_FAILED;
}

/* A worker that was started meanwhile counts from 0. */
static uint64_t since(uint64_t was, uint64_t is)
{
	return is < was ? is : is - was;
}

static void show_json(const char *point, const struct figures *was, const struct figures *is,
		      const struct ctl_opts *opts)
{
	struct json_object *obj = json_object_new_object();

	json_object_object_add(obj, "mountpoint", ctl_json_bytes(point));
	ctl_json_size(opts, obj, "collapsed_bytes", is->collapsed - was->collapsed);
	ctl_json_size(opts, obj, "free_run_bytes", is->run);
	ctl_json_size(opts, obj, "huge_bytes", is->huge);
	ctl_json_size(opts, obj, "huge_scanned_bytes", is->scanned);
	ctl_json_size(opts, obj, "moved_bytes", is->moved - was->moved);
	ctl_json_size(opts, obj, "pool_moved_bytes", since(was->pool_moved, is->pool_moved));
	ctl_json_size(opts, obj, "swap_bytes_before", was->swap);
	ctl_json_size(opts, obj, "swap_bytes", is->swap);
	ctl_json_print(obj);
}

static void show_text(const char *point, const struct figures *was, const struct figures *is,
		      const struct ctl_opts *opts)
{
	char a[CTL_SIZE_LEN], b[CTL_SIZE_LEN], c[CTL_SIZE_LEN], d[CTL_SIZE_LEN];
	bool has_pool = ctl_has_pool(point);

	ctl_print_path(point);
	if (has_pool) {
		printf(": %s moved in the pool, whose longest free run is %s, of %s free", ctl_size(opts, since(was->pool_moved, is->pool_moved), a),
		       ctl_size(opts, is->run, b), ctl_size(opts, is->free, c));
		if (is->swap)
			printf("; %s moved in swap files, which had %s and have %s", ctl_size(opts, is->moved - was->moved, a),
			       ctl_size(opts, was->swap, b), ctl_size(opts, is->swap, c));
		putchar('\n');
		return;
	}
	printf(": %s put into huge pages, %s of %s are huge", ctl_size(opts, is->collapsed - was->collapsed, a),
	       ctl_size(opts, is->huge, b), ctl_size(opts, is->scanned, c));
	printf("; %s moved in swap files, which had %s and have %s\n", ctl_size(opts, is->moved - was->moved, a),
	       ctl_size(opts, was->swap, b), ctl_size(opts, is->swap, d));
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	const struct ctl_mount *m;
	struct ctl_mounts mounts;
	struct figures was, is;
	struct ctl_opts opts;
	int first = ctl_options(cmd, argc, argv, &opts), rc = CTL_FAILED;

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (argc - first != 1) {
		ctl_error("compact: give one mount point; usage: spmctl compact %s", cmd->args);
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&mounts))
		return CTL_FAILED;
	m = ctl_mount_find(&mounts, argv[first]);
	if (m && read_figures(m->point, &was))
		rc = one_pass(m->point, &was);
	if (rc == CTL_DONE && !read_figures(m->point, &is))
		rc = CTL_FAILED;
	if (rc == CTL_DONE)
		(opts.json ? show_json : show_text)(m->point, &was, &is, &opts);
	ctl_mounts_free(&mounts);
	return rc;
}

const struct ctl_cmd ctl_compact = {
	.name = "compact",
	.args = "[--json] [-u] MOUNTPOINT",
	.help = "make huge pages and free space whole again, swap files small",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN,
	.run = run,
};
