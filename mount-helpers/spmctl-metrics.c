/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl metrics: the mount's OpenMetrics text, as it is, for a collector. */
#include "config.h"

#include "mount-helpers/spmctl.h"

#include <stdio.h>

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	spm_auto_free char *text = NULL;
	const struct ctl_mount *m;
	struct ctl_mounts mounts;
	struct ctl_opts opts;
	int first = ctl_options(cmd, argc, argv, &opts);

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (argc - first != 1) {
		ctl_error("metrics: give one mount point; usage: spmctl metrics %s", cmd->args);
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&mounts))
		return CTL_FAILED;
	m = ctl_mount_find(&mounts, argv[first]);
	if (m)
		text = ctl_control_read(m->point, "metrics");
	ctl_mounts_free(&mounts);
	if (!text)
		return CTL_FAILED;
	fputs(text, stdout);
	return CTL_DONE;
}

const struct ctl_cmd ctl_metrics = {
	.name = "metrics",
	.args = "MOUNTPOINT",
	.help = "the figures of a mount as OpenMetrics",
	.run = run,
};
