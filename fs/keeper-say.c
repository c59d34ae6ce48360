/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keeper.h"

#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#define FACILITY (3 << 3) /* LOG_DAEMON */

void spm_keeper_say(const struct spm_keeper *k, enum spm_keeper_level level, const char *fmt, ...)
{
	char text[768], line[832];
	va_list ap;
	int n;

	if ((int)level > k->level)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (k->foreground) {
		n = k->journal ? snprintf(line, sizeof(line), "<%d>%s\n", (int)level, text)
			       : snprintf(line, sizeof(line), "spmfs: %s\n", text);
		n = (int)write(2, line, (size_t)n);
		return;
	}
	n = snprintf(line, sizeof(line), "<%d>spmfs[%d]: %s", FACILITY | (int)level, getpid(), text);
	if (k->fd[SPM_FD_LOG] >= 0)
		send(k->fd[SPM_FD_LOG], line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

const char *spm_keeper_signal(int sig)
{
	const char *name = sigabbrev_np(sig);

	return name ? name : "unknown";
}

void spm_keeper_notify(const struct spm_keeper *k, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	if (k->fd[SPM_FD_NOTIFY] < 0)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(text))
		send(k->fd[SPM_FD_NOTIFY], text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void leave_terminal(struct spm_keeper *k)
{
	for (int fd = 0; fd <= 2; fd++)
		dup2(k->fd[SPM_FD_NULL], fd);
	close(k->fd[SPM_FD_NULL]);
	close(k->fd[SPM_FD_REPORT]);
	k->fd[SPM_FD_NULL] = k->fd[SPM_FD_REPORT] = -1;
}

void spm_keeper_report(struct spm_keeper *k, bool ok, const char *text)
{
	char line[SPM_WORD_TEXT + 16];
	int n;

	if (k->fd[SPM_FD_REPORT] >= 0) {
		n = snprintf(line, sizeof(line), "%c%s", ok ? '+' : '-', text);
		n = (int)write(k->fd[SPM_FD_REPORT], line, (size_t)n);
		leave_terminal(k);
	} else if (k->foreground && *text) {
		n = snprintf(line, sizeof(line), "spmfs: %s\n", text);
		n = (int)write(2, line, (size_t)n);
	}
}
