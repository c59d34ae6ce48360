/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dax devices among the rows of spmctl devices, and giving one back. */
#include "config.h"

#include "core/dax-note.h"
#include "core/dax.h"
#include "mount-helpers/spmctl-devices.h"
#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <string.h>

/* What the note of a mount says. True: that decides it. */
static bool describe_note(struct dev_row *row)
{
	struct spm_dax_note n;
	int busy = spm_dax_note_look(row->name, &n);

	if (busy < 0 || !n.mount[0])
		return false;
	snprintf(row->used_by, sizeof(row->used_by), "the mount '%s'", n.mount);
	if (busy) {
		snprintf(row->reason, sizeof(row->reason), "the mount '%s' has it%s", n.mount,
			 n.ends ? ", and is about to give it back" : "");
		return true;
	}
	if (spm_dax_note_has_region(&n)) {
		snprintf(row->source, sizeof(row->source), "%s", row->name);
		snprintf(row->options, sizeof(row->options), "name=%.26s", n.mount);
		snprintf(row->reason, sizeof(row->reason),
			 "it holds the files of '%s', which were kept or left: another mount "
			 "could have it once they are given up",
			 n.mount);
		snprintf(row->command, sizeof(row->command),
			 "umount " SPM_RUN_DIR "/%s.ns && rm " SPM_RUN_DIR "/%s.ns", n.mount, n.mount);
		return true;
	}
	row->used_by[0] = '\0';
	snprintf(row->reason, sizeof(row->reason),
		 "a mount has left it so: it was in mode %s, and the next mount that ends, or "
		 "the command, makes it that again",
		 spm_dax_mode_name(n.before));
	snprintf(row->command, sizeof(row->command), "spmctl devices --restore %s", row->name);
	return false;
}

static void describe_mode(struct dev_row *row, const struct spm_dax *d)
{
	snprintf(row->mode, sizeof(row->mode), "%s", spm_dax_mode_name(d->mode));
	row->online = d->online;
	row->blocks = d->blocks;
	row->movable = d->movable;
	if (d->mode == SPM_DAX_SYSTEM_RAM && d->blocks >= 0)
		snprintf(row->state, sizeof(row->state), "system-ram, %d of %d blocks online%s", d->online, d->blocks,
			 d->online <= 0	   ? ""
			 : d->movable == 1 ? ", movable"
					   : ", not movable");
	else
		snprintf(row->state, sizeof(row->state), "%s", row->mode);
}

static int add(const struct spm_dax *d, void *arg)
{
	struct dev_row *row = dev_row_add(arg);
	struct spm_dax_why why;
	bool as_memory;

	if (!row)
		return -ENOMEM;
	snprintf(row->name, sizeof(row->name), "%s", d->name);
	snprintf(row->kind, sizeof(row->kind), "dax");
	row->size_bytes = d->bytes;
	row->align = d->align;
	row->node = d->node;
	describe_mode(row, d);
	if (describe_note(row))
		return 0;
	as_memory = !spm_dax_check(d, &why);
	row->as_memory = as_memory;
	if (d->mode == SPM_DAX_DEVDAX && !spm_dax_holders(d, row->used_by, sizeof(row->used_by))) {
		/* as a pool it can be had in any case */
		snprintf(row->source, sizeof(row->source), "%s", d->name);
		if (!as_memory && !row->reason[0])
			snprintf(row->reason, sizeof(row->reason), "daxmode=system-ram is refused: %s", why.reason);
	} else if (as_memory) {
		snprintf(row->source, sizeof(row->source), "%s", d->name);
		if (d->mode != SPM_DAX_SYSTEM_RAM)
			snprintf(row->options, sizeof(row->options), "daxmode=system-ram");
	} else {
		snprintf(row->reason, sizeof(row->reason), "%s", why.reason);
	}
	if (!as_memory && !row->command[0])
		snprintf(row->command, sizeof(row->command), "%s", why.command);
	return 0;
}

/* A node whose memory is a device's: it is the device that a mount takes, and gives back. */
static void mark_node(struct dev_row *node, const struct dev_row *dax)
{
	snprintf(node->state, sizeof(node->state), "the memory of %s", dax->name);
	memcpy(node->used_by, dax->used_by, sizeof(node->used_by));
	if (!dax->used_by[0])
		return;
	node->source[0] = '\0';
	node->command[0] = '\0';
	snprintf(node->reason, sizeof(node->reason), "%s has its memory, as %s", dax->used_by, dax->name);
}

int dev_rows_dax(struct dev_table *table)
{
	size_t nodes = table->n;
	int rc = spm_dax_each(add, table);

	if (rc && rc != -ENOMEM)
		ctl_error("devices: cannot list dax devices: %s", strerror(-rc));
	for (size_t i = nodes; i < table->n; i++)
		for (size_t j = 0; j < nodes; j++)
			if (table->rows[i].node >= 0 && table->rows[j].node == table->rows[i].node &&
			    table->rows[j].memory_only && !strcmp(table->rows[i].mode, "system-ram"))
				mark_node(&table->rows[j], &table->rows[i]);
	return rc;
}

int dev_restore(const char *name)
{
	const char *dax = strncmp(name, "/dev/", 5) ? name : name + 5;
	struct spm_error e = { "" };
	struct spm_source s;
	struct spm_dax_note n;
	int busy, rc = spm_source_parse(dax, &s, &e);
	spm_auto_close int fd = -1;

	if (rc || s.kind != SPM_SOURCE_DAX) {
		ctl_error("devices: --restore %s: not a dax device; give it as in dax0.0", name);
		return CTL_USAGE;
	}
	busy = spm_dax_note_look(dax, &n);
	if (busy < 0) {
		ctl_error("devices: %s: %s", dax,
			  busy == -ENOENT ? "no mount has left it in another mode" : strerror(-busy));
		return CTL_FAILED;
	}
	fd = spm_dax_note_lock(dax, &e);
	rc = fd < 0 ? fd : spm_dax_note_read(fd, &n);
	if (!rc && spm_dax_note_has_region(&n))
		rc = spm_fail(
			&e, -EBUSY,
			"%s holds the files of '%s'; mount it with name=%s, or give them up with 'umount " SPM_RUN_DIR
			"/%s.ns && rm " SPM_RUN_DIR "/%s.ns'",
			dax, n.mount, n.mount, n.mount, n.mount);
	if (!rc)
		rc = spm_dax_restore(dax, &n, &e);
	if (!rc || rc == -ENODATA)
		spm_dax_note_remove(dax, fd);
	if (rc && rc != -ENODATA) {
		ctl_error("devices: %s", e.text[0] ? e.text : strerror(-rc));
		return CTL_FAILED;
	}
	return CTL_DONE;
}
