/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_SHARED_H
#define SPM_FS_SHARED_H

#include <limits.h>
#include "core/log.h"
#include "fs/handover.h"
#include "fs/state.h"

/* What set-up makes for all the processes of a mount, apart from the mount itself. */

/* The three memfds of fs/state.h, with a head that says @mount; sealed against a change of size. */
int spm_shared_make(const struct spm_mount *mount, int fd[static SPM_FDS], struct spm_state **state,
		    struct spm_error *e) SPM_MUST_CHECK;
/* Maps the head of such a state. -EPROTO: it is none; -ENOTSUP: of another version, which *@version is. */
int spm_shared_map(int state_fd, struct spm_state **state, uint32_t *version) SPM_MUST_CHECK;

/* Finds the path of this program, and opens that of the keeper: beside it, or where it is installed. */
int spm_shared_programs(char program[static PATH_MAX], int *keeper_fd, struct spm_error *e) SPM_MUST_CHECK;
/* The path of this program, as the mount namespace has it. -errno of readlink(2). */
int spm_shared_program(char program[static PATH_MAX]) SPM_MUST_CHECK;

/* A datagram socket connected to @path ("@name": an abstract one); -1: nobody listens there. */
int spm_shared_connect(const char *path);
bool spm_shared_in_user_ns(void);

#endif
