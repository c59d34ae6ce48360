/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/setup-pool.h"
#include "core/pool.h"
#include "core/region.h"
#include "core/size.h"
#include "fs/mounts.h"
#include "fs/pool.h"
#include "fs/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>

#define NAMES_MIN  (UINT64_C(64) << 20)
#define NAMES_PART 64 /* of the device */

uint64_t spm_setup_pool_names(const struct spm_options *o)
{
	uint64_t bytes = o->source.bytes / NAMES_PART & ~UINT64_C(4095);

	return bytes < NAMES_MIN ? NAMES_MIN : bytes;
}

static struct spm_pool_device device_of(const struct spm_setup_pool *p)
{
	return (struct spm_pool_device){ .fd = p->dev.fd, .bytes = p->dev.bytes, .align = p->dev.align,
					.binding = p->dev.binding };
}

int spm_setup_pool_device(struct spm_setup_pool *p)
{
	if (!spm_setup_has_pool(p->o) || p->dev.fd >= 0)
		return 0;
	if (spm_shared_in_user_ns())
		return spm_fail(p->err, -EPERM, "%s: not in a user namespace; mount as root, or use mem:SIZE", p->o->source_text);
	return spm_devdax_open(&p->o->source, p->o->source_text, &p->dev, p->err);
}

static int fail_make(struct spm_setup_pool *p, int rc)
{
	char bytes[16], extent[16], align[16];

	if (rc != -ENOSPC)
		return spm_fail(p->err, rc, "%s: cannot make a pool on the device: %s", p->o->source_text, strerror(-rc));
	return spm_fail(p->err, rc, "%s: a pool needs more than one extent of %s and a label, and the device has %s, which is mapped in "
			"pieces of %s; give a smaller extent=, or change its size or alignment (daxctl-create-device(1))",
			p->o->source_text, spm_size_human(p->o->extent_bytes, extent, sizeof(extent)),
			spm_size_human(p->dev.bytes, bytes, sizeof(bytes)), spm_size_human(p->dev.align, align, sizeof(align)));
}

int spm_setup_pool_make(struct spm_setup_pool *p)
{
	const struct spm_pool_device d = device_of(p);
	uint8_t uuid[16];
	spm_auto_close int fd = -1;
	int rc;

	if (p->dev.fd < 0)
		return 0;
	if (getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid))
		return spm_fail(p->err, -EIO, "cannot get random numbers: %m");
	/* a record for each extent; the region's own small filesystem has no room for that */
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=0"))
		return spm_fail(p->err, -errno, "cannot make room for the pool's state: %m");
	fd = open(SPM_REGION_POOL, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return spm_fail(p->err, -errno, "cannot make %s: %m", SPM_REGION_POOL);
	rc = spm_pool_create(fd, &d, p->o->extent_bytes, uuid);
	if (!rc)
		return 0;
	unlink(SPM_REGION_POOL);
	return fail_make(p, rc);
}

/* As the worker does, which would say it less well. */
static int try_pool(struct spm_setup_pool *p, struct spm_pool **pool, int *state)
{
	const struct spm_pool_device d = device_of(p);
	const struct spm_pool_opts o = { .moved = p->o->force };
	char pin[128], names[240];
	int rc;

	*state = open(SPM_REGION_POOL, O_RDWR | O_CLOEXEC);
	rc = *state < 0 ? -errno : spm_pool_attach(pool, *state, &d, &o);
	if (!rc)
		return 0;
	spm_mounts_pin_path(p->o->name, pin, sizeof(pin));
	spm_setup_swap_names(names, sizeof(names));
	return spm_fail(p->err, rc, "the region '%s' cannot be used: the pool on %s: %s%sgive the memory back with 'umount %s && rm %s%s'",
			p->o->name, p->o->source_text, spm_pooled_why_not(rc), rc == -EREMCHG ? "; add -o force to take it as it is, or " : "; ",
			pin, pin, names);
}

/* Swap files that are new must have the same. */
static int take_extent(struct spm_setup_pool *p)
{
	spm_auto_close int state = -1;
	struct spm_pool *pool = NULL;
	char had[16], given[16];
	uint32_t has;
	int rc = try_pool(p, &pool, &state);

	if (rc)
		return rc;
	has = spm_pool_extent_bytes(pool);
	spm_pool_detach(pool);
	if (!(p->o->given & SPM_GIVEN_EXTENT))
		p->o->extent_bytes = has;
	if (p->o->extent_bytes == has)
		return 0;
	return spm_fail(p->err, -EINVAL, "option extent=%s: the region '%s' has extents of %s; leave it out",
			spm_size_human(p->o->extent_bytes, given, sizeof(given)), p->o->name,
			spm_size_human(has, had, sizeof(had)));
}

int spm_setup_pool_reopen(struct spm_setup_pool *p, int host_ns, int region_ns)
{
	struct spm_source *s = &p->o->source;
	int rc;

	if (access(SPM_REGION_POOL, F_OK))
		return 0;
	if (spm_enter_mount_ns(host_ns))
		return spm_fail(p->err, -errno, "cannot change the mount namespace: %m");
	rc = spm_devdax_check(s, p->o->source_text, p->err);
	if (!rc)
		rc = spm_setup_pool_device(p);
	if (spm_enter_mount_ns(region_ns) && !rc)
		rc = spm_fail(p->err, -errno, "cannot change the mount namespace: %m");
	return rc ? rc : take_extent(p);
}

int spm_setup_pool_for_slices(struct spm_setup_pool *p, struct spm_slices *slices)
{
	int rc = p->dev.fd < 0 ? 0 : try_pool(p, &p->pool, &p->state_fd);

	if (p->pool)
		spm_slices_in_pool(slices, p->pool);
	return rc;
}

void spm_setup_pool_done(struct spm_setup_pool *p, struct spm_slices *slices)
{
	if (p->pool) {
		spm_slices_in_pool(slices, NULL);
		spm_pool_detach(p->pool);
	}
	p->pool = NULL;
	spm_cleanup_close(&p->state_fd);
	p->state_fd = -1;
}

static void forget_orphan(void *arg, uint16_t slice, uint64_t ino)
{
	struct spm_pool *pool = arg;
	const struct spm_pool_file f = { .ino = ino, .slice = slice };
	spm_auto_pool struct spm_pool_held held = { .pool = NULL };

	spm_pool_lock(pool, &f, SPM_POOL_EXCLUSIVE, &held);
	spm_pool_remove(pool, &f);
}

int spm_setup_pool_orphans(struct spm_setup_pool *p, struct spm_setup_swap *swap, struct spm_slices *slices)
{
	spm_auto_close int state = -1;
	struct spm_pool *pool = NULL;
	uint64_t used;
	int rc = try_pool(p, &pool, &state);

	if (rc)
		return rc;
	rc = spm_setup_swap_orphans(swap, slices, forget_orphan, pool);
	used = spm_pool_slice_bytes(pool, 0);
	spm_pool_detach(pool);
	if (rc)
		return rc;
	if (p->o->size_bytes && used > p->o->size_bytes)
		return spm_fail(p->err, -EBUSY, "option size=: the kept region '%s' holds more than that", p->o->name);
	return 0;
}

void spm_setup_pool_hand_over(struct spm_setup_pool *p, int fd[static SPM_FDS], struct spm_mount *m)
{
	fd[SPM_FD_POOL] = p->dev.fd;
	m->device_bytes = p->dev.bytes;
	m->device_align = p->dev.align;
	p->dev.fd = -1;
}
