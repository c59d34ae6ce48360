/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/device.h"
#include "core/dax.h"
#include "core/devdax.h"
#include "core/region.h"
#include "core/size.h"
#include "fs/mounts.h"
#include "fs/shared.h"
#include "fs/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#define ALLOWED_TRIES  250 /* of 20 ms: until the cpusets know of a node that has just come */
#define ENDING_TRIES   150 /* of 20 ms: until a mount that was just unmounted says that it ends */
#define BACKING_BEYOND 64 /* ids that may have been made and not recorded, one for each thread that opens */

static void pause_a_moment(void)
{
	static const struct timespec moment = { .tv_nsec = 20000000 };

	nanosleep(&moment, NULL);
}

/* What can be had without libdaxctl: a device in mode devdax, or what stands in for one. */
static bool find_devdax(const struct spm_options *o, struct spm_dax *d)
{
	struct spm_source s = o->source;
	struct spm_error why = { "" };

	if (spm_devdax_check(&s, s.dax, &why))
		return false;
	*d = (struct spm_dax){ .mode = SPM_DAX_DEVDAX, .bytes = s.bytes, .node = -1, .blocks = -1, .online = -1, .movable = -1 };
	memcpy(d->name, s.dax, sizeof(d->name));
	return true;
}

static int find(const struct spm_options *o, struct spm_dax *d, struct spm_error *e)
{
	const char *name = o->source.dax;
	int rc;

	if (spm_shared_in_user_ns())
		return spm_fail(e, -EPERM, "%s: a dax device is mounted by root, not in a user namespace; try mem:SIZE there", name);
	rc = spm_devdax_stand_in() ? -ENOTSUP : spm_dax_find(name, d);
	if (rc == -ENOTSUP && find_devdax(o, d))
		return 0;
	if (rc == -ENOTSUP)
		return spm_fail(e, rc, "%s: this spmfs was built without libdaxctl; make its memory a node with 'daxctl "
				"reconfigure-device --mode=system-ram %s', and mount node:N", name, name);
	if (rc)
		return spm_fail(e, rc, "%s: %s; 'spmctl devices' lists what this machine has", name,
				rc == -ENODEV ? "there is no such device" : strerror(-rc));
	return 0;
}

/* What daxmode= comes to with the device as it is. */
static int resolve(const struct spm_options *o, const struct spm_dax *d, enum spm_dax_mode *mode, struct spm_error *e)
{
	*mode = o->source.dax_mode == SPM_DAX_AUTO ? d->mode : o->source.dax_mode;
	if (*mode == SPM_DAX_AUTO)
		return spm_fail(e, -ENODEV, "%s: no driver is bound to it, so it has no mode; mount it with daxmode=system-ram",
				d->name);
	return 0;
}

static int check_devdax(const struct spm_dax *d, struct spm_error *e)
{
	char users[200];

	if (!spm_devdax_stand_in() && d->mode == SPM_DAX_DEVDAX && spm_dax_holders(d, users, sizeof(users)))
		return spm_fail(e, -EBUSY, "%s: the device is in use by %s", d->name, users);
	return 0;
}

/* *@mode: that it will be used in. */
static int check_device(const struct spm_options *o, struct spm_dax *d, enum spm_dax_mode *mode, struct spm_error *e)
{
	struct spm_dax_why why;
	int rc = find(o, d, e);

	if (!rc)
		rc = resolve(o, d, mode, e);
	if (rc)
		return rc;
	if (*mode == SPM_DAX_DEVDAX)
		return check_devdax(d, e);
	rc = spm_dax_check(d, &why);
	return rc ? spm_fail(e, rc, "%s: %s%s%s%s", d->name, why.reason, why.command[0] ? "; run '" : "", why.command,
			     why.command[0] ? "'" : "") : 0;
}

static bool is_anothers(const struct spm_options *o, const struct spm_dax_note *n)
{
	return !n->ends && n->mount[0] && strcmp(n->mount, o->name) != 0;
}

int spm_device_check(struct spm_options *o, struct spm_error *e)
{
	enum spm_dax_mode mode = SPM_DAX_AUTO;
	struct spm_dax_note n;
	struct spm_dax d;
	bool busy;
	int rc;

	if (o->source.kind != SPM_SOURCE_DAX)
		return spm_source_check(&o->source, o->source_text, e);
	busy = spm_dax_note_look(o->source.dax, &n) == 1;
	for (int i = 0; i < ENDING_TRIES && busy && is_anothers(o, &n); i++) {
		pause_a_moment();
		busy = spm_dax_note_look(o->source.dax, &n) == 1;
	}
	if (busy && is_anothers(o, &n))
		return spm_fail(e, -EBUSY, "%s is in use by the mount '%s'; unmount that, or take another device", o->source.dax,
				n.mount);
	/* whoever has it may be about to give it back: what it is in between says nothing */
	rc = busy ? find(o, &d, e) : check_device(o, &d, &mode, e);
	if (rc)
		return rc;
	o->source.bytes = d.bytes;
	/* what the options come to depends on it; what AUTO is will be seen again when the device is taken */
	if (mode == SPM_DAX_DEVDAX)
		o->source.dax_mode = mode;
	return 0;
}

/* Files were kept or left there, and somebody may have changed the device since. */
static int check_kept(const struct spm_options *o, struct spm_error *e)
{
	struct spm_dax d;
	int rc = find(o, &d, e);

	if (!rc && (d.mode != SPM_DAX_SYSTEM_RAM || d.online < d.blocks))
		rc = spm_fail(e, -ENODEV,
			      "%s: its memory went offline while it held the files of '%s', which lie elsewhere now; "
			      "run 'daxctl %s %s', then mount it again",
			      d.name, o->name,
			      d.mode == SPM_DAX_SYSTEM_RAM ? "online-memory" : "reconfigure-device --mode=system-ram",
			      d.name);
	return rc;
}

int spm_device_lock(const struct spm_options *o, int *fd, struct spm_error *e)
{
	struct spm_dax_note n;
	int rc;

	*fd = -1;
	if (o->source.kind != SPM_SOURCE_DAX)
		return 0;
	rc = spm_mounts_run_dir(e);
	if (rc)
		return rc;
	*fd = spm_dax_note_lock(o->source.dax, e);
	if (*fd < 0)
		return *fd;
	rc = spm_dax_note_read(*fd, &n);
	if (!rc && strcmp(n.mount, o->name) != 0 && spm_dax_note_has_region(&n))
		return spm_fail(
			e, -EBUSY,
			"%s holds the files of '%s', which were kept or left; mount it with name=%s, or give them "
			"up with 'umount " SPM_RUN_DIR "/%s.ns && rm " SPM_RUN_DIR "/%s.ns'",
			o->source.dax, n.mount, n.mount, n.mount, n.mount);
	if (!rc && n.mode == SPM_DAX_SYSTEM_RAM && spm_dax_note_has_region(&n))
		return check_kept(o, e);
	return 0;
}

static void use_node(struct spm_options *o, int node)
{
	o->source.nodes = (struct spm_nodes){ { 0 } };
	spm_nodes_set(&o->source.nodes, node);
	o->source.dax_mode = SPM_DAX_SYSTEM_RAM;
}

/* The rules of node: sources, which are about the node as it is now. */
static int check_node(struct spm_options *o, int node, struct spm_error *e)
{
	struct spm_source s = { .kind = SPM_SOURCE_NODE };
	struct spm_nodes allowed;
	int rc;

	spm_nodes_set(&s.nodes, node);
	for (int i = 0; i < ALLOWED_TRIES && !spm_numa_allowed(&allowed) && !spm_nodes_test(&allowed, node); i++)
		pause_a_moment();
	rc = spm_source_check(&s, o->source_text, e);
	if (!rc) {
		use_node(o, node);
		o->source.bytes = s.bytes;
	}
	return rc;
}

static int take_node(struct spm_options *o, const struct spm_dax *d, struct spm_error *e)
{
	int rc = 0;

	if (d->mode != SPM_DAX_SYSTEM_RAM)
		rc = spm_dax_switch(d, SPM_DAX_SYSTEM_RAM, e);
	else if (!d->online)
		rc = spm_dax_online(d, e);
	return rc ? rc : check_node(o, d->node, e);
}

/* The device as it is; a pool is made in it (fs/setup-pool.h). */
static int take_devdax(struct spm_options *o, const struct spm_dax *d, struct spm_error *e)
{
	int rc = 0;

	if (d->mode == SPM_DAX_SYSTEM_RAM && d->online)
		rc = spm_dax_offline(d, e);
	if (!rc && d->mode != SPM_DAX_DEVDAX)
		rc = spm_dax_switch(d, SPM_DAX_DEVDAX, e);
	o->source.dax_mode = SPM_DAX_DEVDAX;
	o->source.bytes = d->bytes;
	return rc;
}

int spm_device_take(struct spm_options *o, int fd, struct spm_error *e)
{
	struct spm_error back = { "" };
	struct spm_dax_note n, left;
	enum spm_dax_mode mode;
	struct spm_dax d;
	int rc;

	if (o->source.kind != SPM_SOURCE_DAX)
		return spm_source_check(&o->source, o->source_text, e);
	rc = check_device(o, &d, &mode, e);
	if (rc)
		return rc;
	n = (struct spm_dax_note){ .mode = mode, .before = d.mode, .node = mode == SPM_DAX_SYSTEM_RAM ? d.node : -1 };
	n.offline = d.mode == SPM_DAX_SYSTEM_RAM && !d.online;
	snprintf(n.mount, sizeof(n.mount), "%s", o->name);
	/* left by a mount that could not give it back: it goes back to what it was before that one */
	if (!spm_dax_note_read(fd, &left)) {
		n.before = left.before;
		n.offline = left.offline;
	}
	rc = spm_dax_note_write(fd, &n);
	if (rc)
		return spm_fail(e, rc, "%s: cannot note how the device was: %s", d.name, strerror(-rc));
	rc = mode == SPM_DAX_DEVDAX ? take_devdax(o, &d, e) : take_node(o, &d, e);
	if (rc && spm_device_give_back(o, fd, &back))
		spm_log(SPM_LOG_ERR, "%s: %s", o->mountpoint, back.text);
	return rc;
}

int spm_device_read(struct spm_options *o, int fd, struct spm_error *e)
{
	struct spm_dax_note n;
	int rc;

	if (o->source.kind != SPM_SOURCE_DAX)
		return 0;
	rc = fd < 0 ? -EBADF : spm_dax_note_read(fd, &n);
	if (!rc && n.mode == SPM_DAX_DEVDAX) {
		o->source.dax_mode = n.mode;
		return 0;
	}
	if (rc || n.node < 0)
		return spm_fail(e, rc ? rc : -EPROTO, "%s: the note on the device in " SPM_RUN_DIR " is lost", o->source.dax);
	use_node(o, n.node);
	return 0;
}

/* -- the end -- */

void spm_device_leave(const struct spm_options *o, int fd)
{
	struct spm_dax_note n;

	if (fd >= 0 && spm_dax_note_read(fd, &n) == -ENODATA)
		spm_dax_note_remove(o->source.dax, fd);
}

int spm_device_give_back(const struct spm_options *o, int fd, struct spm_error *e)
{
	const char *dax = o->source.dax;
	struct spm_error why = { "" };
	struct spm_dax_note n;
	int rc = spm_dax_note_read(fd, &n);

	if (rc)
		return spm_fail(e, rc, "%s: the note on the device is lost, so it stays as it is", dax);
	n.ends = true;
	if (!spm_dax_note_write(fd, &n))
		rc = spm_dax_restore(dax, &n, &why);
	if (!rc) {
		spm_dax_note_remove(dax, fd);
		return 0;
	}
	n.ends = false;
	(void)!spm_dax_note_write(fd, &n);
	flock(fd, LOCK_UN);
	return spm_fail(e, rc, "%.*s; it stays in mode %s until 'spmctl devices --restore %s'", 380, why.text,
			spm_dax_mode_name(n.mode), dax);
}

bool spm_device_end(const struct spm_options *o, int fd, dev_t dev, int fuse_fd, int32_t last_id)
{
	char users[200];
	struct spm_dax_note n;
	int rc;

	if (o->source.kind != SPM_SOURCE_DAX || fd < 0 || spm_dax_note_read(fd, &n))
		return false;
	n.ends = true;
	(void)!spm_dax_note_write(fd, &n);
	rc = spm_region_unmount(false);
	if (rc == -EBUSY) {
		/* what a killed worker did not close holds the files for as long as anybody holds /dev/fuse */
		for (int32_t id = 1; fuse_fd >= 0 && id <= last_id + BACKING_BEYOND; id++)
			(void)spm_wire_backing_close(fuse_fd, id);
		rc = spm_region_unmount(true);
	}
	if (!rc)
		return true;
	n.ends = false;
	(void)!spm_dax_note_write(fd, &n);
	if (!spm_mount_mappers(dev, users, sizeof(users)))
		snprintf(users, sizeof(users), "a process that has them open");
	spm_log(SPM_LOG_ERR, "%s: %s stays memory of node %d, since files of it are still used by %s; when they are gone: "
		"spmctl devices --restore %s", o->mountpoint, o->source.dax, n.node, users, o->source.dax);
	return false;
}
