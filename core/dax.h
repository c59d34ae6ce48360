/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_DAX_H
#define SPM_CORE_DAX_H

#include <sys/types.h>
#include "core/log.h"
#include "core/source.h"

/*
 * The dax devices of the machine, by libdaxctl: what they are, and changing their mode. Built without libdaxctl
 * all of it says -ENOTSUP. Wants the host's /sys; what the kernel keeps from ordinary users (where a device lies)
 * stays unknown to them.
 */
#define SPM_DAX_RANGES 8

struct spm_dax_range {
	uint64_t start, end; /* of physical memory; the end is not in it */
};

struct spm_dax {
	char name[SPM_DAX_NAME];
	enum spm_dax_mode mode; /* AUTO: no driver is bound to it */
	uint64_t bytes, align;
	int node;		/* that its memory belongs to; -1: none is known */
	int major_nr, minor_nr; /* of its character device in mode DEVDAX */
	/* in mode SYSTEM_RAM; -1: may not be known */
	int blocks, online, movable;
	struct spm_dax_range range[SPM_DAX_RANGES];
	unsigned int ranges; /* 0: may not be known */
};

/* Calls @fn for each, in the order of the kernel's list, until it returns other than 0, which is the result. */
int spm_dax_each(int (*fn)(const struct spm_dax *d, void *arg), void *arg) SPM_MUST_CHECK;
/* -ENODEV: there is none of that name. */
int spm_dax_find(const char *name, struct spm_dax *d) SPM_MUST_CHECK;
/* "system-ram", "devdax"; AUTO: "disabled". */
const char *spm_dax_mode_name(enum spm_dax_mode mode);

/*
 * Changes the mode of a device of which nothing is online (AUTO: leaves it without a driver). To SYSTEM_RAM: with all
 * of its memory online and movable, or else as it was. -EBUSY, -EIO with the reason.
 */
int spm_dax_switch(const struct spm_dax *d, enum spm_dax_mode to, struct spm_error *e) SPM_MUST_CHECK;
/* All memory blocks online and movable, or else as they were. */
int spm_dax_online(const struct spm_dax *d, struct spm_error *e) SPM_MUST_CHECK;
/* All of them offline, which moves whatever lies there to other nodes. May take long: the kernel tries on and on.
 * -EBUSY with the blocks that stay, and who has pages there. */
int spm_dax_offline(const struct spm_dax *d, struct spm_error *e) SPM_MUST_CHECK;

/* Why a device cannot be had, and the command that changes that, which may be empty. */
struct spm_dax_why {
	char reason[320];
	char command[120];
};

/* Whether a mount could have its memory as a node, as it is or by a switch; asks nothing of notes. -errno and @why.
 */
int spm_dax_check(const struct spm_dax *d, struct spm_dax_why *why) SPM_MUST_CHECK;

/* -EBUSY, with who has pages on its node. */
int spm_dax_stays(const char *dax, int node, struct spm_error *e);

/* What the kernel does with memory that is added: "offline", "online", "online_movable", ...; "" if it does not say.
 */
void spm_dax_auto_online(char *buf, size_t len);
/* How many online blocks of memory a node has that are not the device's, and one of them. -errno of reading sysfs. */
int spm_dax_foreign_blocks(const struct spm_dax *d, unsigned int *count, char *one, size_t len) SPM_MUST_CHECK;
/* The processes with most pages on a node, "NAME (pid N, 12M), ..."; false: none that can be seen. */
bool spm_node_users(int node, char *buf, size_t len);
/* The spmfs mounts of this namespace whose SOURCE names the node, "AT, AT ..."; false: there are none. */
bool spm_node_mounts(int node, char *buf, size_t len);
/* Who has the character device open, in the same manner. */
bool spm_dax_holders(const struct spm_dax *d, char *buf, size_t len);

/* The processes that map files of the filesystem @dev, in the same manner. */
bool spm_mount_mappers(dev_t dev, char *buf, size_t len);

#endif
