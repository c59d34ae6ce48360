/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What runner and harness share between the processes of one check. */
#ifndef SPM_TESTS_RUN_H
#define SPM_TESTS_RUN_H

#include <stdatomic.h>

struct ns_shared {
	atomic_ulong asserts;
	atomic_ulong failures;
	char skip[200];
};

extern struct ns_shared *ns_shared;

#endif
