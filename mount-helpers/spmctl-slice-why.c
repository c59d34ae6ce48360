/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why the server refused what was asked about a slice: the cause, with its numbers, and what to do. */
#include "config.h"

#include "core/size.h"
#include "mount-helpers/spmctl-slice.h"

#include <errno.h>
#include <string.h>

struct facts {
	const struct ctl_slice_call *c;
	const struct spm_slice_limits *l; /* as asked for; NULL: nothing */
	struct ctl_slices slices;
	const struct ctl_slice *s; /* the one in question, if it is there */
	uint64_t device;
	uint64_t extent; /* in what pieces a pool gives memory; 0: there is none */
};

struct text {
	char s[16];
};

static const char *human(uint64_t bytes, struct text *t)
{
	return spm_size_human(bytes, t->s, sizeof(t->s));
}

static bool gave(const struct facts *f, enum spm_limit k)
{
	return f->c->opts.limit[k] != NULL;
}

static void why_exists(const struct facts *f)
{
	const char *point = f->c->mount->point;

	if (f->s)
		ctl_error("%s: %s has a slice of that name; 'spmctl slice set' changes it", f->c->name, point);
	else
		ctl_error("%s: %s has a file or directory of that name, and it is no slice; rename it, or take "
			  "another name",
			  f->c->name, point);
}

static void why_range(const struct facts *f)
{
	uint64_t min = f->l->min, max = f->l->max;
	struct text a, b;

	if (f->s && !gave(f, SPM_LIMIT_MIN))
		min = ctl_slice_number(f->s, "min");
	if (f->s && !gave(f, SPM_LIMIT_MAX))
		max = ctl_slice_number(f->s, "max");
	if (f->device && min != SPM_SLICE_NONE && min > f->device)
		ctl_error("%s: min %s is more than the device has (%s); give less", f->c->name, human(min, &a),
			  human(f->device, &b));
	else if (min > max)
		ctl_error("%s: min %s would be above max %s; change both", f->c->name, human(min, &a),
			  human(max, &b));
	else if (max < f->extent)
		ctl_error("%s: max %s is less than an extent, in which files get memory here (%s); give that or more", f->c->name,
			  human(max, &a), human(f->extent, &b));
	else
		ctl_error("%s: a limit is out of range; the device has %s", f->c->name, human(f->device, &a));
}

/* What of the device it takes to be sure of that much. */
static uint64_t least(const struct facts *f, uint64_t min)
{
	return f->extent && min < UINT64_MAX - f->extent ? (min + f->extent - 1) / f->extent * f->extent : min;
}

/* What is guaranteed to all others. */
static uint64_t sum_of_min(const struct facts *f)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < f->slices.n; i++) {
		uint64_t min = ctl_slice_number(&f->slices.list[i], "min");

		if (&f->slices.list[i] != f->s && min != SPM_SLICE_NONE)
			sum += least(f, min);
	}
	return sum;
}

static void why_no_space(const struct facts *f)
{
	uint64_t others = sum_of_min(f);
	struct text a, b, c, d;

	if (least(f, f->l->min) > f->device || others > f->device - least(f, f->l->min))
		ctl_error("%s: min %s: of the device's %s other slices are guaranteed %s, so that %s is left; "
			  "lower another "
			  "one's min first",
			  f->c->name, human(f->l->min, &a), human(f->device, &b), human(others, &c),
			  human(f->device > others ? f->device - others : 0, &d));
	else
		ctl_error("%s: min %s: only %s of the device's %s is free, and what is there cannot leave; remove "
			  "files, or "
			  "close what is open or mapped, and try again",
			  f->c->name, human(f->l->min, &a),
			  human(ctl_mount_number(f->c->mount, "stat", "free_bytes"), &b), human(f->device, &c));
}

static void why_busy(const struct facts *f)
{
	spm_auto_free char *who = f->s ? ctl_slice_holders(f->c->mount, f->s) : NULL;
	uint64_t used = f->s ? ctl_slice_number(f->s, "current") : SPM_SLICE_NONE;
	struct text a, b;

	if (f->l && used != SPM_SLICE_NONE && gave(f, SPM_LIMIT_MAX))
		ctl_error("%s: max %s: %s is in use and cannot leave%s%s; remove files, or close what is open or "
			  "mapped",
			  f->c->name, human(f->l->max, &a), human(used, &b), who ? ", held by " : "",
			  who ? who : "");
	else if (who)
		ctl_slice_in_use(f->c, who);
	else
		ctl_error("%s: in use, and by nobody that /proc shows here: a process in a container, io_uring or "
			  "a device may "
			  "hold a file of it",
			  f->c->name);
}

static void why_not_empty(const struct facts *f)
{
	uint64_t used = f->s ? ctl_slice_number(f->s, "current") : 0;
	struct text a;

	ctl_error("%s: it is not empty (%s of memory used); --force removes it with all files in it", f->c->name,
		  human(used == SPM_SLICE_NONE ? 0 : used, &a));
}

static bool is_claimed(const char *point)
{
	struct ctl_table t;
	const char *isolation;
	bool yes;

	if (ctl_control_table(point, "features", &t))
		return false;
	isolation = ctl_table_get(&t, "isolation");
	yes = isolation && !strcmp(isolation, "claimed");
	ctl_table_free(&t);
	return yes;
}

static void why_not_in_dir(const struct facts *f)
{
	struct ctl_table t;
	const char *why = NULL;
	bool read = !ctl_control_table(f->c->mount->point, "features", &t);

	if (read)
		why = ctl_table_get(&t, "quota");
	if (f->l && (gave(f, SPM_LIMIT_NODES) || gave(f, SPM_LIMIT_HUGE)) && why && strncmp(why, "off", 3))
		ctl_error("%s: nodes and huge pages are not for slices of a directory (%s); leave --nodes and --huge out", f->c->name,
			  f->c->mount->source);
	else
		ctl_error("%s: slices of a directory (%s) need a quota, and there is none: %s", f->c->name, f->c->mount->source,
			  why && !strncmp(why, "off: ", 5) ? why + 5 : "'spmctl status' says more");
	if (read)
		ctl_table_free(&t);
}

static void why_not_possible(const struct facts *f)
{
	if (!f->s && f->l && gave(f, SPM_LIMIT_NODES) && is_claimed(f->c->mount->point))
		ctl_error("%s: nodes: with isolate=claim all slices share what is held of all nodes; leave --nodes out, or mount %s "
			  "without that option", f->c->name, f->c->mount->point);
	else if (f->l && f->s && (gave(f, SPM_LIMIT_NODES) || gave(f, SPM_LIMIT_HUGE)))
		ctl_error("%s: nodes and huge pages are chosen when a slice is made; make another one, and move "
			  "the files there",
			  f->c->name);
	else if (!f->s && !strncmp(f->c->mount->source, "dir:", 4))
		why_not_in_dir(f);
	else
		ctl_swap_off(f->c->mount->point);
}

static void why_invalid(const struct facts *f)
{
	if (f->l && f->extent && spm_limits_not_in_pool(f->l))
		ctl_error("%s: %s is not for files in a pool on a dax device, as those of %s are; leave it out, or mount the device with "
			  "-o daxmode=system-ram", f->c->name, spm_limits_not_in_pool(f->l), f->c->mount->point);
	else if (f->l && gave(f, SPM_LIMIT_NODES))
		ctl_error("%s: nodes %s: they are not all nodes of the device (%s); 'spmctl devices' shows which "
			  "there are",
			  f->c->name, f->l->nodes, f->c->mount->source);
	else
		ctl_error("%s: the server does not understand this; it may be of another version than spmctl "
			  "(spmctl status %s)",
			  f->c->name, f->c->mount->point);
}

int ctl_slice_in_use(const struct ctl_slice_call *c, const char *who)
{
	ctl_error("%s: in use by %s; end or unmount these first", c->name, who);
	return CTL_FAILED;
}

static void tell(const struct facts *f, int err)
{
	const char *name = f->c->name, *point = f->c->mount->point;

	if (err == ENOENT)
		ctl_error("%s: %s has no slice of that name; 'spmctl slice list %s' shows them", name, point,
			  point);
	else if (err == ENFILE)
		ctl_error("%s: %s has as many slices as there can be; remove one first", name, point);
	else if (err == EEXIST)
		why_exists(f);
	else if (err == ERANGE && f->l)
		why_range(f);
	else if (err == ENOSPC && f->l)
		why_no_space(f);
	else if (err == EBUSY)
		why_busy(f);
	else if (err == ENOTEMPTY)
		why_not_empty(f);
	else if (err == EROFS)
		ctl_is_draining(name, point);
	else if (err == EOPNOTSUPP)
		why_not_possible(f);
	else if (err == EINVAL)
		why_invalid(f);
	else
		ctl_path_error(ctl_is_dead(err) ? point : name, err);
}

int ctl_slice_why(const struct ctl_slice_call *c, const struct spm_slice_limits *l, int err)
{
	struct facts f = { .c = c, .l = l };

	if (!ctl_is_dead(err) && !ctl_slices_read(c->mount->point, &f.slices)) {
		f.s = ctl_slices_find(&f.slices, c->name);
		f.device = ctl_mount_number(c->mount, "stat", "device_bytes");
		if (ctl_has_pool(c->mount->point))
			f.extent = ctl_mount_number(c->mount, "features", "extent");
		/* a pool's own tables take a little of it */
		if (f.extent && f.slices.n)
			f.device = ctl_mount_number(c->mount, "stat", "limit_bytes");
	}
	tell(&f, err);
	ctl_slices_free(&f.slices);
	return CTL_FAILED;
}
