/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"
#include "core/dax.h"

#include <errno.h>
#include <string.h>
#include <time.h>

const char *spm_dax_mode_name(enum spm_dax_mode mode)
{
	return mode == SPM_DAX_SYSTEM_RAM ? "system-ram" : mode == SPM_DAX_DEVDAX ? "devdax" : "disabled";
}

#ifdef HAVE_LIBDAXCTL
#include <daxctl/libdaxctl.h>

#define BLOCK_TRIES   100 /* until the kernel shows the blocks of memory that was added */
#define OFFLINE_TRIES 3
#define PAUSE_NS      50000000

#ifdef __SANITIZE_ADDRESS__
/* libdaxctl 76 (Debian 12) loses 48 bytes that it allocates for the memory of a device, and nothing of its callers is in there. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libdaxctl";
}
#endif

/* The library's last complaint: it comes with the reason, and not on stderr. */
struct complaint {
	char text[160];
};

static void note_complaint(struct daxctl_ctx *ctx, int priority, const char *file, int line, const char *fn,
			   const char *format, va_list args) __attribute__((format(printf, 6, 0)));

static void note_complaint(struct daxctl_ctx *ctx, int priority, const char *file, int line, const char *fn,
			   const char *format, va_list args)
{
	struct complaint *c = daxctl_get_userdata(ctx);

	if (!c)
		return;
	vsnprintf(c->text, sizeof(c->text), format, args);
	c->text[strcspn(c->text, "\n")] = '\0';
}

static int open_ctx(struct daxctl_ctx **ctx, struct complaint *c)
{
	int rc = daxctl_new(ctx);

	if (rc)
		return rc;
	daxctl_set_log_fn(*ctx, note_complaint);
	daxctl_set_userdata(*ctx, c);
	return 0;
}

static void add_range(struct spm_dax *d, uint64_t start, uint64_t end)
{
	if (d->ranges < SPM_DAX_RANGES)
		d->range[d->ranges++] = (struct spm_dax_range){ start, end };
}

static void read_ranges(struct spm_dax *d, struct daxctl_dev *dev)
{
	unsigned long long start = daxctl_dev_get_resource(dev);
	struct daxctl_mapping *m;

	daxctl_mapping_foreach(dev, m) {
		add_range(d, daxctl_mapping_get_start(m), daxctl_mapping_get_end(m) + 1);
	}
	if (!d->ranges && start && start + 1)
		add_range(d, start, start + d->bytes);
}

static void read_dev(struct spm_dax *d, struct daxctl_dev *dev)
{
	struct daxctl_memory *mem = daxctl_dev_get_memory(dev);

	*d = (struct spm_dax){ .blocks = -1, .online = -1, .movable = -1 };
	snprintf(d->name, sizeof(d->name), "%s", daxctl_dev_get_devname(dev));
	d->bytes = daxctl_dev_get_size(dev);
	d->align = daxctl_dev_get_align(dev);
	d->node = daxctl_dev_get_target_node(dev);
	d->major_nr = daxctl_dev_get_major(dev);
	d->minor_nr = daxctl_dev_get_minor(dev);
	read_ranges(d, dev);
	if (!daxctl_dev_is_enabled(dev)) {
		d->mode = SPM_DAX_AUTO;
	} else if (!mem) {
		d->mode = SPM_DAX_DEVDAX;
	} else {
		d->mode = SPM_DAX_SYSTEM_RAM;
		d->blocks = daxctl_memory_num_sections(mem);
		d->online = daxctl_memory_is_online(mem);
		if (d->online > 0)
			d->movable = daxctl_memory_is_movable(mem);
	}
}

static int each_dev(int (*fn)(struct daxctl_dev *dev, void *arg), void *arg, struct complaint *c)
{
	struct daxctl_region *region;
	struct daxctl_dev *dev;
	struct daxctl_ctx *ctx;
	int rc = open_ctx(&ctx, c);

	if (rc)
		return rc;
	daxctl_region_foreach(ctx, region) {
		daxctl_dev_foreach(region, dev) {
			/* without a size it is the seed that every region keeps for the next device */
			if (!rc && daxctl_dev_get_size(dev))
				rc = fn(dev, arg);
		}
	}
	daxctl_unref(ctx);
	return rc;
}

struct each {
	int (*fn)(const struct spm_dax *d, void *arg);
	void *arg;
};

static int one_of_each(struct daxctl_dev *dev, void *arg)
{
	const struct each *each = arg;
	struct spm_dax d;

	read_dev(&d, dev);
	return each->fn(&d, each->arg);
}

int spm_dax_each(int (*fn)(const struct spm_dax *d, void *arg), void *arg)
{
	struct each each = { fn, arg };

	return each_dev(one_of_each, &each, NULL);
}

struct find {
	const char *name;
	struct spm_dax *d;
};

static int is_it(struct daxctl_dev *dev, void *arg)
{
	const struct find *f = arg;

	if (strcmp(daxctl_dev_get_devname(dev), f->name) != 0)
		return 0;
	read_dev(f->d, dev);
	return 1;
}

int spm_dax_find(const char *name, struct spm_dax *d)
{
	struct find f = { name, d };
	int rc;

	*d = (struct spm_dax){ .node = -1 };
	rc = each_dev(is_it, &f, NULL);

	return rc < 0 ? rc : rc ? 0 : -ENODEV;
}

/* -- changing things: each step with a context of its own, since the library remembers what it has read -- */

struct change {
	const char *name;
	int (*fn)(struct daxctl_dev *dev);
	int result;
};

static int change_it(struct daxctl_dev *dev, void *arg)
{
	struct change *c = arg;

	if (strcmp(daxctl_dev_get_devname(dev), c->name) != 0)
		return 0;
	c->result = c->fn(dev);
	return 1;
}

static int change(const char *name, const char *what, int (*fn)(struct daxctl_dev *dev), struct spm_error *e)
{
	struct change c = { .name = name, .fn = fn };
	struct complaint why = { "" };
	int rc = each_dev(change_it, &c, &why);

	if (!rc)
		return spm_fail(e, -ENODEV, "%s: the device has gone", name);
	rc = rc < 0 ? rc : c.result;
	if (rc < 0)
		return spm_fail(e, rc, "%s: cannot %s: %s%s%s", name, what, strerror(-rc),
				why.text[0] ? "; libdaxctl says: " : "", why.text);
	return 0;
}

static int online_blocks(struct daxctl_dev *dev)
{
	struct daxctl_memory *mem = daxctl_dev_get_memory(dev);

	return mem ? daxctl_memory_online(mem) : -ENODEV;
}

static int offline_blocks(struct daxctl_dev *dev)
{
	struct daxctl_memory *mem = daxctl_dev_get_memory(dev);

	return mem ? daxctl_memory_offline(mem) : -ENODEV;
}

static void pause_a_moment(void)
{
	static const struct timespec moment = { .tv_nsec = PAUSE_NS };

	nanosleep(&moment, NULL);
}

int spm_dax_offline(const struct spm_dax *d, struct spm_error *e)
{
	struct spm_dax now;
	int rc;

	for (int tries = 0; tries < OFFLINE_TRIES; tries++) {
		struct spm_error ignored = { "" };

		(void)change(d->name, "take its memory offline", offline_blocks, &ignored);
		rc = spm_dax_find(d->name, &now);
		if (rc)
			return spm_fail(e, rc, "%s: the device has gone", d->name);
		if (now.mode != SPM_DAX_SYSTEM_RAM || now.online <= 0)
			return 0;
		pause_a_moment();
	}
	return spm_dax_stays(d->name, now.node, e);
}

int spm_dax_online(const struct spm_dax *d, struct spm_error *e)
{
	struct spm_error ignored = { "" };
	struct spm_dax now;
	int rc;

	/* the driver adds them before the bind returns; what is shown may come a moment later */
	for (int tries = 0;; tries++) {
		rc = spm_dax_find(d->name, &now);
		if (rc || now.mode != SPM_DAX_SYSTEM_RAM)
			return spm_fail(e, rc ? rc : -EIO, "%s: the device did not become memory", d->name);
		if (now.blocks > 0)
			break;
		if (tries >= BLOCK_TRIES)
			return spm_fail(
				e, -EIO,
				"%s: the device became memory, of which the kernel shows no block: it may hold "
				"no whole one, 'cat /sys/devices/system/memory/block_size_bytes' says how large that is",
				d->name);
		pause_a_moment();
	}
	if (now.online < now.blocks)
		rc = change(d->name, "bring its memory online", online_blocks, e);
	if (!rc)
		rc = spm_dax_find(d->name, &now);
	if (!rc && (now.online < now.blocks || now.movable != 1))
		rc = spm_fail(e, -EIO, "%s: %d of %d blocks of its memory came online%s", d->name, now.online,
			      now.blocks, now.movable == 1 ? "" : ", and not as movable");
	if (rc && !d->online)
		(void)!spm_dax_offline(d, &ignored);
	return rc ? spm_fail(e, rc, "%s: %s", d->name, strerror(-rc)) : 0;
}

static int set_mode(const struct spm_dax *d, enum spm_dax_mode to, struct spm_error *e)
{
	struct spm_dax now;
	int rc = spm_dax_find(d->name, &now);

	if (rc)
		return spm_fail(e, rc, "%s: the device has gone", d->name);
	/* the driver of memory that is online would go without it: nothing but a reboot brings that back */
	if (now.mode == SPM_DAX_SYSTEM_RAM && now.online)
		return spm_fail(e, -EBUSY, "%s: its memory is online", d->name);
	if (now.mode == to)
		return 0;
	if (now.mode != SPM_DAX_AUTO)
		rc = change(d->name, "unbind its driver", daxctl_dev_disable, e);
	if (!rc && to == SPM_DAX_SYSTEM_RAM)
		rc = change(d->name, "bind the driver kmem to it", daxctl_dev_enable_ram, e);
	else if (!rc && to == SPM_DAX_DEVDAX)
		rc = change(d->name, "bind the driver device_dax to it", daxctl_dev_enable_devdax, e);
	return rc;
}

int spm_dax_switch(const struct spm_dax *d, enum spm_dax_mode to, struct spm_error *e)
{
	struct spm_error ignored = { "" };
	int rc = set_mode(d, to, e);

	if (!rc && to == SPM_DAX_SYSTEM_RAM) {
		struct spm_dax now = *d;

		now.online = 0;
		rc = spm_dax_online(&now, e);
	}
	if (rc && d->mode != to)
		(void)set_mode(d, d->mode, &ignored);
	return rc;
}
#else
int spm_dax_each(int (*fn)(const struct spm_dax *d, void *arg), void *arg)
{
	return 0;
}

int spm_dax_find(const char *name, struct spm_dax *d)
{
	return -ENOTSUP;
}

int spm_dax_switch(const struct spm_dax *d, enum spm_dax_mode to, struct spm_error *e)
{
	return spm_fail(e, -ENOTSUP, "%s: this spmfs was built without libdaxctl", d->name);
}

int spm_dax_online(const struct spm_dax *d, struct spm_error *e)
{
	return spm_dax_switch(d, SPM_DAX_SYSTEM_RAM, e);
}

int spm_dax_offline(const struct spm_dax *d, struct spm_error *e)
{
	return spm_dax_switch(d, SPM_DAX_DEVDAX, e);
}
#endif
