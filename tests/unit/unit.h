/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_UNIT_H
#define SPM_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

/* Runs one suite and prints TAP; what main() returns. */
static inline int spm_unit_run(Suite *s)
{
	SRunner *r = srunner_create(s);
	int failed;

	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
