/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_RIGHTS_H
#define SPM_FS_RIGHTS_H

#include <linux/capability.h>
#include "core/caps.h"

/* The capabilities that each kind of process keeps, each with what needs it. */
#define SPM_RIGHTS_WORKER                                                                                     \
	(SPM_CAP(CAP_SYS_ADMIN) |       /* backing ids, trusted xattrs, resizing the region */                \
	 SPM_CAP(CAP_DAC_OVERRIDE) |    /* the client's kernel has checked the rights already */              \
	 SPM_CAP(CAP_DAC_READ_SEARCH) | /* open_by_handle_at */                                               \
	 SPM_CAP(CAP_CHOWN) | SPM_CAP(CAP_FOWNER) | /* chown; chmod, utimens, sticky, ACLs of others' files */ \
	 SPM_CAP(CAP_MKNOD) | SPM_CAP(CAP_SETFCAP) | /* device nodes; security.capability */                  \
	 SPM_CAP(CAP_SETUID) | SPM_CAP(CAP_SETGID) | /* fsuid and fsgid of new files */                       \
	 SPM_CAP(CAP_LEASE) |           /* the lease test on others' files */                                 \
	 SPM_CAP(CAP_LINUX_IMMUTABLE))  /* chattr +i, +a */
/* Permitted to the worker, and raised for a moment. */
#define SPM_RIGHTS_RAISED SPM_CAP(CAP_FSETID)

#define SPM_RIGHTS_KEEPER                                                                                     \
	(SPM_CAP(CAP_SYS_ADMIN) | SPM_CAP(CAP_SYS_CHROOT) | /* entering namespaces */                         \
	 SPM_CAP(CAP_SYS_PTRACE) | SPM_CAP(CAP_DAC_READ_SEARCH) | /* finding them in /proc */                 \
	 SPM_CAP(CAP_DAC_OVERRIDE) | SPM_CAP(CAP_KILL))           /* what it started */

/* It does what the keeper decides, and forks workers, which give up the rest: that needs SETPCAP. */
#define SPM_RIGHTS_STANDBY (SPM_RIGHTS_KEEPER | SPM_RIGHTS_WORKER | SPM_RIGHTS_RAISED | SPM_CAP(CAP_SETPCAP))

#endif
