/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dax devices among the rows of spmctl devices. A mount uses one once daxctl has made it a memory node. */
#include "config.h"

#include "mount-helpers/spmctl-devices.h"
#include "mount-helpers/spmctl.h"

#ifdef HAVE_LIBDAXCTL
#include <daxctl/libdaxctl.h>
#include <errno.h>
#include <string.h>

/* Online as memory: its node has a row of its own, and that row's SOURCE is the one to type. */
static void describe_ram(struct dev_row *row, struct daxctl_dev *dev, struct daxctl_memory *mem)
{
	const char *name = daxctl_dev_get_devname(dev);
	int online = daxctl_memory_is_online(mem), all = daxctl_memory_num_sections(mem);

	snprintf(row->state, sizeof(row->state), "system-ram, %d of %d blocks online, %s",
		 online > 0 ? online : 0, all > 0 ? all : 0, daxctl_memory_is_movable(mem) == 1 ? "movable" : "not movable");
	if (row->node < 0) {
		snprintf(row->reason, sizeof(row->reason), "it has no NUMA node of its own");
	} else if (online > 0) {
		snprintf(row->source, sizeof(row->source), "node:%d", row->node);
	} else {
		snprintf(row->reason, sizeof(row->reason), "its memory is offline");
		snprintf(row->command, sizeof(row->command), "daxctl online-memory %s", name);
	}
}

static void describe(struct dev_row *row, struct daxctl_dev *dev)
{
	const char *name = daxctl_dev_get_devname(dev);
	struct daxctl_memory *mem = daxctl_dev_get_memory(dev);

	snprintf(row->name, sizeof(row->name), "%s", name);
	snprintf(row->kind, sizeof(row->kind), "dax");
	row->size_bytes = daxctl_dev_get_size(dev);
	row->node = daxctl_dev_get_target_node(dev);
	if (!daxctl_dev_is_enabled(dev)) {
		snprintf(row->state, sizeof(row->state), "disabled");
		snprintf(row->reason, sizeof(row->reason), "no driver is bound to it");
		snprintf(row->command, sizeof(row->command), "daxctl enable-device %s", name);
	} else if (mem) {
		describe_ram(row, dev, mem);
	} else {
		snprintf(row->state, sizeof(row->state), "devdax");
		snprintf(row->reason, sizeof(row->reason),
			 "it is in devdax mode; a mount takes it as a memory node");
		snprintf(row->command, sizeof(row->command),
			 "daxctl reconfigure-device --mode=system-ram %s", name);
	}
}

int dev_rows_dax(struct dev_table *table)
{
	struct daxctl_region *region;
	struct daxctl_dev *dev;
	struct daxctl_ctx *ctx;
	struct dev_row *row;
	int rc = daxctl_new(&ctx);

	if (rc) {
		ctl_error("devices: cannot list dax devices: %s", strerror(-rc));
		return rc;
	}
	daxctl_region_foreach(ctx, region) {
		daxctl_dev_foreach(region, dev) {
			/* The seed that every region keeps for the next device. */
			if (!daxctl_dev_get_size(dev))
				continue;
			row = dev_row_add(table);
			if (!row) {
				daxctl_unref(ctx);
				return -ENOMEM;
			}
			describe(row, dev);
		}
	}
	daxctl_unref(ctx);
	return 0;
}
#else
int dev_rows_dax(struct dev_table *table)
{
	(void)table;
	return 0;
}
#endif
