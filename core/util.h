/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_UTIL_H
#define SPM_CORE_UTIL_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SPM_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define SPM_MUST_CHECK    __attribute__((warn_unused_result))
#define SPM_PRINTF(f, a)  __attribute__((format(printf, f, a)))

/* Cleanup attributes. close(2) is never retried: on Linux the descriptor is gone even after EINTR. */
static inline void spm_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void spm_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void spm_cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define spm_auto_close  __attribute__((cleanup(spm_cleanup_close)))
#define spm_auto_free   __attribute__((cleanup(spm_cleanup_free)))
#define spm_auto_fclose __attribute__((cleanup(spm_cleanup_fclose)))

/*
 * setns(2), also where there is a thread that shares the root directory, as those do that a sanitizer or a preloaded library
 * has started: it would refuse. -1 and errno.
 */
static inline int spm_enter_mount_ns(int ns)
{
	return unshare(CLONE_FS) ? -1 : setns(ns, CLONE_NEWNS);
}

/* Hands a descriptor out of a spm_auto_close variable. */
static inline int spm_steal_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

#endif
