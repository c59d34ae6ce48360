/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_OPNAME_H
#define SPM_FS_OPNAME_H

#include <stdint.h>

/* The name of a FUSE request (FUSE_MKDIR: "mkdir"), for messages and fault points. Used by the keeper, too. */
const char *spm_opname(uint32_t opcode);

#endif
