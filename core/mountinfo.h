/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_MOUNTINFO_H
#define SPM_CORE_MOUNTINFO_H

/* /proc/PID/mountinfo writes blanks, newlines and backslashes as \ooo, see proc_pid_mountinfo(5). In place; gives @text. */
char *spm_mountinfo_unescape(char *text);

#endif
