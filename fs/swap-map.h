/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SWAP_MAP_H
#define SPM_FS_SWAP_MAP_H

#include "core/util.h"

/*
 * The extent map's file of a region (core/extmap.h), which may be of an older version: that of the program that served before an
 * upgrade, or that left the region behind. It is copied into a new one then. The old one stays until the new program has taken over
 * for good, since the old one goes on with it otherwise. To be called in the region's mount namespace.
 */

/* A worker's own open file of it (it is to be locked): the map, or its copy, made now; *@renewed. -EPROTO: it is no map; -errno. */
int spm_swap_map_open(bool *renewed) SPM_MUST_CHECK;
/* The copy takes the place of the map. Before anything is moved. -errno. */
int spm_swap_map_commit(void) SPM_MUST_CHECK;
/* Both, while nobody serves the region: 0 also if there is no map. */
int spm_swap_map_settle(void) SPM_MUST_CHECK;

#endif
