/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether the memory of a dax device can become a node that is its own; one text for mount(8) and spmctl devices. */
#include "core/dax.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static int because(struct spm_dax_why *why, int rc, const char *fmt, ...) SPM_PRINTF(3, 4);

static int because(struct spm_dax_why *why, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->reason, sizeof(why->reason), fmt, ap);
	va_end(ap);
	return rc;
}

static void remedy(struct spm_dax_why *why, const char *fmt, ...) SPM_PRINTF(2, 3);

static void remedy(struct spm_dax_why *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->command, sizeof(why->command), fmt, ap);
	va_end(ap);
}

/* Memory that is online already, by whoever wanted that. */
static int check_ram(const struct spm_dax *d, struct spm_dax_why *why)
{
	if (d->blocks < 1) {
		remedy(why, "daxctl reconfigure-device --mode=devdax %s", d->name);
		return because(why, -ENODEV, "it is in mode system-ram, and the kernel shows no block of its memory");
	}
	if (d->online && d->online < d->blocks) {
		remedy(why, "daxctl online-memory %s", d->name);
		return because(
			why, -EBUSY,
			"%d of its %d blocks of memory are online, and a mount wants to find all or none of them so",
			d->online, d->blocks);
	}
	if (d->online && d->movable != 1) {
		remedy(why, "daxctl offline-memory %s", d->name);
		return because(
			why, -EBUSY,
			"its memory is online, and not as movable, so that the kernel may have data of its own there "
			"for good (booting with memhp_default_state=offline prevents that; node:%d takes it as it is)",
			d->node);
	}
	return 0;
}

/* What would make the memory come online as the kernel likes, or take what others use. */
static int check_switch(const struct spm_dax *d, struct spm_dax_why *why)
{
	char text[200];

	spm_dax_auto_online(text, sizeof(text));
	if (text[0] && strcmp(text, "offline") && strcmp(text, "online_movable")) {
		remedy(why, "echo offline >/sys/devices/system/memory/auto_online_blocks");
		return because(
			why, -EBUSY,
			"the kernel brings new memory online by itself, and not as movable (auto_online_blocks is "
			"'%s'), so that its own data would lie there",
			text);
	}
	if (spm_dax_holders(d, text, sizeof(text)))
		return because(why, -EBUSY, "the device is in use by %s", text);
	return 0;
}

int spm_dax_check(const struct spm_dax *d, struct spm_dax_why *why)
{
	unsigned int foreign = 0;
	char one[64] = "";
	int rc;

	*why = (struct spm_dax_why){ "", "" };
	if (d->node < 0)
		return because(why, -ENODEV, "the firmware gave its memory no NUMA node");
	rc = d->mode == SPM_DAX_SYSTEM_RAM ? check_ram(d, why) : check_switch(d, why);
	if (!rc && d->ranges && spm_dax_foreign_blocks(d, &foreign, one, sizeof(one)))
		return because(why, -EIO, "cannot read what memory node %d has", d->node);
	if (!rc && foreign)
		return because(
			why, -EBUSY,
			"its node %d has other memory as well (%u blocks, such as %s), and the memory of a node is "
			"taken as a whole",
			d->node, foreign, one);
	return rc;
}
