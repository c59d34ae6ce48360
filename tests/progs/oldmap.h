/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_TESTS_OLDMAP_H
#define SPM_TESTS_OLDMAP_H

/* Makes of the extent map in @fd, at which nobody may be, one of version 1, as earlier programs made them. Ends the program
 * with a message if it cannot. */
void oldmap_make(int fd);

#endif
