/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl drain: empties a mount's device, so that it can be taken away, and waits for those who hold something of it. */
#include "config.h"

#include "core/size.h"
#include "mount-helpers/spmctl-drain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAUSE_MS     50u
#define PAUSE_MAX_MS 1000u

struct drain {
	const struct ctl_mount *mount;
	const struct ctl_opts *opts;
	int fd;            /* of the control file */
	bool swap;
	uint64_t until_ms; /* UINT64_MAX: without end */
	uint64_t written;  /* to swap files, when it began */
	struct ctl_progress progress;
	char *told;        /* who was named last */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int say(int fd, const char *what)
{
	return write(fd, what, strlen(what)) == (ssize_t)strlen(what) ? 0 : errno;
}

/* Line by line, with the program's name in front. */
static void tell_lines(char *text)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		ctl_error("%s", line);
}

static const char *why(const struct drain *d, int err)
{
	if (!d->swap)
		return "which nothing but removing it takes away: swap is off";
	if (err == ENOSPC)
		return "for which the swap files have no room, or swap.max is reached";
	if (err == EDQUOT)
		return "for which its slice has no room in swap: its swap-max is reached";
	return err == EIO ? "which could not be written to a swap file: the system log says why" : NULL;
}

/* Who holds what, when that has changed. */
static void tell_waiting(struct drain *d, const struct ctl_left *l)
{
	char *text = ctl_left_text(l, false), *copy;

	if (!text || !*text || (d->told && !strcmp(d->told, text))) {
		free(text);
		return;
	}
	ctl_progress_clear(&d->progress);
	copy = strdup(text);
	if (copy) {
		ctl_error("%s: waiting until these are closed and unmapped; 'spmctl drain --cancel %s' gives up", d->mount->point,
			  d->mount->point);
		tell_lines(copy);
	}
	free(copy);
	free(d->told);
	d->told = text;
}

static void show_progress(struct drain *d)
{
	const struct ctl_opts human = { .human = true };
	struct ctl_table t;
	uint64_t resident;
	char a[CTL_SIZE_LEN];

	if (!ctl_progress_due(&d->progress) || ctl_control_table(d->mount->point, "stat", &t))
		return;
	if (ctl_table_u64(&t, "resident_bytes", &resident))
		ctl_progress_show(&d->progress, "spmctl: drain: %s left on the device", ctl_size(&human, resident, a));
	ctl_table_free(&t);
}

static uint64_t written_now(const struct drain *d)
{
	struct ctl_table t;
	uint64_t n = 0;

	if (ctl_control_table(d->mount->point, "stat", &t))
		return 0;
	(void)ctl_table_u64(&t, "swapout_bytes", &n);
	ctl_table_free(&t);
	return n;
}

static void show_json(const struct drain *d, const struct ctl_left *l, uint64_t written)
{
	struct json_object *obj = json_object_new_object();

	json_object_object_add(obj, "mountpoint", ctl_json_bytes(d->mount->point));
	json_object_object_add(obj, "state", json_object_new_string(l->state));
	ctl_json_size(d->opts, obj, "resident_bytes", l->resident);
	ctl_json_size(d->opts, obj, "swapout_bytes", written);
	ctl_left_json(l, d->opts, obj);
	ctl_json_print(obj);
}

static int finish(struct drain *d, const struct ctl_left *l)
{
	const char *point = d->mount->point;
	uint64_t written = written_now(d);
	bool done = !strcmp(l->state, "drained");
	const struct ctl_opts human = { .human = true };
	spm_auto_free char *text = NULL;
	char a[CTL_SIZE_LEN];

	written = written > d->written ? written - d->written : 0;
	ctl_progress_clear(&d->progress);
	if (d->opts->json)
		show_json(d, l, written);
	if (done && !d->opts->json) {
		ctl_print_path(point);
		printf(": drained, %s%s written to swap; files are read from there until umount hands the device back\n",
		       ctl_size(d->opts, written, a), d->opts->human ? "" : " bytes");
	}
	if (done)
		return CTL_DONE;
	text = ctl_left_text(l, true);
	if (text && (!d->told || strcmp(text, d->told)))
		tell_lines(text);
	ctl_error("%s: not empty: %s is left on the device; it is still being drained: run this again to wait, or "
		  "spmctl drain --cancel %s",
		  point, ctl_size(&human, l->resident, a), point);
	return CTL_FAILED;
}

static int refused(const struct drain *d, int err)
{
	const char *point = d->mount->point;

	if (err == EINVAL)
		ctl_error("%s: its server does not know how to drain; spmctl upgrade %s brings one that does", point, point);
	else
		ctl_path_error(point, err);
	return CTL_FAILED;
}

/* Somebody else has done so. */
static int cancelled(struct drain *d)
{
	ctl_progress_clear(&d->progress);
	ctl_error("%s: the drain was cancelled meanwhile; service is as it was", d->mount->point);
	return CTL_FAILED;
}

static void pause_ms(uint64_t ms, uint64_t until_ms)
{
	uint64_t now = now_ms(), left = until_ms > now ? until_ms - now : 0;
	struct timespec ts;

	ms = left < ms ? left : ms;
	ts = (struct timespec){ .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };
	nanosleep(&ts, NULL);
}

/* What a pass was told to have come to. */
static bool is_result(int err)
{
	return !err || err == EAGAIN || err == ENOSPC || err == EDQUOT || err == EIO;
}

/* Until nothing is left, or for as long as may be waited. */
static int wait_empty(struct drain *d)
{
	uint64_t pause = PAUSE_MS, last = UINT64_MAX;
	const char *word = "1\n";

	for (;;) {
		int err = say(d->fd, word), rc;
		bool late = now_ms() >= d->until_ms;
		struct ctl_left l;

		word = "more\n"; /* it is not begun again if somebody has cancelled it */
		if (!is_result(err))
			return err == ECANCELED ? cancelled(d) : refused(d, err);
		show_progress(d);
		if (err == EAGAIN && !late)
			continue;
		if (ctl_left_read(d->mount, &l))
			return CTL_FAILED;
		l.swap = d->swap;
		l.why = why(d, err);
		if (late || strcmp(l.state, "draining")) {
			rc = strcmp(l.state, "none") ? finish(d, &l) : cancelled(d);
			ctl_left_free(&l);
			return rc;
		}
		tell_waiting(d, &l);
		pause = l.resident < last ? PAUSE_MS : pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
		last = l.resident;
		ctl_left_free(&l);
		pause_ms(pause, d->until_ms);
	}
}

static int drain(const struct ctl_mount *m, const struct ctl_opts *opts, uint64_t timeout_s)
{
	struct drain d = { .mount = m, .opts = opts, .fd = ctl_control_open(m->point, "drain"), .until_ms = UINT64_MAX };
	struct ctl_table features;
	const char *swap;
	int rc;

	if (d.fd < 0)
		return CTL_FAILED;
	if (ctl_control_table(m->point, "features", &features)) {
		close(d.fd);
		return CTL_FAILED;
	}
	swap = ctl_table_get(&features, "swap");
	d.swap = swap && !strncmp(swap, "on", 2);
	ctl_table_free(&features);
	if (timeout_s != UINT64_MAX)
		d.until_ms = now_ms() + timeout_s * 1000;
	d.written = written_now(&d);
	ctl_progress_begin(&d.progress);
	rc = wait_empty(&d);
	free(d.told);
	close(d.fd);
	return rc;
}

static int cancel(const struct ctl_mount *m, const struct ctl_opts *opts)
{
	spm_auto_close int fd = ctl_control_open(m->point, "drain");
	struct ctl_table table;
	struct json_object *obj;
	const char *state;
	bool was;
	int err;

	if (fd < 0 || ctl_control_table(m->point, "drain", &table))
		return CTL_FAILED;
	state = ctl_table_get(&table, "state");
	was = state && strcmp(state, "none");
	ctl_table_free(&table);
	err = say(fd, "0\n");
	if (err) {
		ctl_path_error(m->point, err);
		return CTL_FAILED;
	}
	if (opts->json) {
		obj = json_object_new_object();
		json_object_object_add(obj, "mountpoint", ctl_json_bytes(m->point));
		json_object_object_add(obj, "state", json_object_new_string("none"));
		ctl_json_print(obj);
	} else {
		ctl_print_path(m->point);
		puts(was ? ": not drained any more, service is as it was" : ": it was not being drained");
	}
	return CTL_DONE;
}

#define TIMEOUT_MAX (UINT64_C(100) * 365 * 86400)

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	uint64_t timeout_s = UINT64_MAX;
	const struct ctl_mount *m;
	struct ctl_mounts mounts;
	struct ctl_opts opts;
	int first = ctl_options(cmd, argc, argv, &opts), rc = CTL_FAILED;

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (argc - first != 1) {
		ctl_error("drain: give one mount point; usage: spmctl drain %s", cmd->args);
		return CTL_USAGE;
	}
	if (opts.timeout && opts.cancel) {
		ctl_error("drain: --cancel does not wait; give it without --timeout");
		return CTL_USAGE;
	}
	if (opts.timeout && spm_number_parse(opts.timeout, 10, TIMEOUT_MAX, &timeout_s)) {
		ctl_error("drain: timeout '%s': a whole number of seconds, 0 or more", opts.timeout);
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&mounts))
		return CTL_FAILED;
	m = ctl_mount_find(&mounts, argv[first]);
	if (m)
		rc = opts.cancel ? cancel(m, &opts) : drain(m, &opts, timeout_s);
	ctl_mounts_free(&mounts);
	return rc;
}

const struct ctl_cmd ctl_drain = {
	.name = "drain",
	.args = "[--timeout SECONDS | --cancel] [--json] [-u] MOUNTPOINT",
	.help = "empty the device, so that it can be taken away",
	.options = CTL_OPT_JSON | CTL_OPT_HUMAN | CTL_OPT_TIMEOUT | CTL_OPT_CANCEL,
	.run = run,
};
