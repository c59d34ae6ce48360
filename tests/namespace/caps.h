/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File capabilities as the extended attribute that they are. */
#ifndef SPM_TESTS_CAPS_H
#define SPM_TESTS_CAPS_H

#include "tests/namespace/ns.h"

#include <endian.h>
#include <linux/capability.h>
#include <sys/xattr.h>

/* Gives the file cap_net_raw, as setcap(8) would. */
static inline void cap_set(const char *path)
{
	struct vfs_cap_data data = {
		.magic_etc = htole32(VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE),
		.data = {{.permitted = htole32(1u << CAP_NET_RAW)}},
	};

	OK(setxattr(path, "security.capability", &data, XATTR_CAPS_SZ_2, 0));
}

static inline bool cap_there(const char *path)
{
	return getxattr(path, "security.capability", NULL, 0) > 0;
}

#endif
