/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/setup-dir.h"
#include "core/dir.h"
#include "fs/state.h"

#include <errno.h>
#include <string.h>

/* The files of a directory are there already, and stay. */
int spm_setup_dir_attach(const struct spm_options *o, int tree_fd, const struct spm_slice_opts *so, struct spm_slice *root,
			 int *meta_fd, uint32_t *flags, struct spm_error *e)
{
	struct spm_dir_state d = { .had = false };
	int rc = spm_dir_attach(tree_fd, &o->source, o->source_text, so, root, &d, e);

	if (rc < 0)
		return rc;
	*meta_fd = rc;
	/* once: in another namespace it is attached again, and is as it was left here */
	if (!(*flags & SPM_MOUNT_DIR) && d.had && !d.clean)
		spm_log(SPM_LOG_INFO, "%s: recover: %s was left by servers that died, or by a machine that went down, and is taken over",
			o->mountpoint, o->source_text);
	if (!(*flags & SPM_MOUNT_DIR))
		*flags |= SPM_MOUNT_DIR | SPM_MOUNT_KEEP | (d.had ? SPM_MOUNT_REOPENED : 0) | (d.clean ? SPM_MOUNT_CLEAN : 0);
	rc = spm_slices_dir_find();
	if (rc)
		return spm_fail(e, rc, "%s: cannot look for its slices: %s", o->source_text, strerror(-rc));
	rc = spm_slice_orphans_clear(root, NULL, NULL);
	return !rc ? 0 : spm_fail(e, rc, "%s: cannot remove what was unlinked and open when the last server died: %s",
				  o->source_text, strerror(-rc));
}

bool spm_setup_dir_has_slices(void)
{
	return !access(SPM_REGION_SLICES, F_OK);
}

int spm_setup_dir_check(const struct spm_options *o, const struct spm_slice *root, struct spm_error *e)
{
	char buf[128];
	const char *why;

	if (root->project || (!o->source.wants_quota && !spm_setup_dir_has_slices()))
		return 0;
	why = spm_dir_no_quota(root->mount_fd, buf, sizeof(buf));
	return spm_fail(e, -EOPNOTSUPP, "%s: %s a quota, and there is none: %s", o->source_text,
			o->source.wants_quota ? "size= and slices need" : "it has slices, whose limits need",
			why ? why : "all of the numbers that spmfs may use are taken");
}

int spm_setup_dir_size(const struct spm_options *o, struct spm_slice *root, struct spm_slices *t, struct spm_error *e)
{
	int rc = 0;

	if (spm_slices_get(t, 0))
		rc = spm_slices_set_root_max(t, o->size_bytes ? o->size_bytes : t->device_bytes);
	else if (root->project)
		rc = spm_slice_resize(root, o->size_bytes);
	if (rc == -EBUSY && o->size_bytes)
		return spm_fail(e, rc, "option size=: %s holds more than that; give more, or remove files", o->source_text);
	return rc ? spm_fail(e, rc, "%s: cannot set its quota: %s", o->source_text, strerror(-rc)) : 0;
}
