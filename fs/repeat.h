/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_REPEAT_H
#define SPM_FS_REPEAT_H

#include <stdint.h>

/* How a request that comes again is made safe; the table is in repeat.c. */
enum spm_repeat {
	SPM_REPEAT_UNDO_LOOKUPS = 1 << 0, /* what it had counted is taken back first */
	SPM_REPEAT_UNDO_OPEN = 1 << 1,
	SPM_REPEAT_ORPHANS = 1 << 2,      /* desk's @a, @b may lie among the orphans without being marked so */
	SPM_REPEAT_NAME = 1 << 4,         /* if nobody waits for it any more, the kernel forgets what it knew of the name */
	SPM_REPEAT_FINISH = 1 << 5,       /* even then it is finished */
	SPM_REPEAT_LOST = 1 << 3,         /* the kernel does not send it again: it is finished from its buffer */
};

struct spm_repeat_row {
	uint32_t opcode;
	unsigned int how;
	const char *why; /* a second time does no harm */
};

/* NULL: a request that this server does not implement (it answers ENOSYS, as often as it is asked). */
const struct spm_repeat_row *spm_repeat_row(uint32_t opcode);

#endif
