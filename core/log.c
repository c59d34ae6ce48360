/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/log.h"
#include "core/journal.h"

#include <stdarg.h>
#include <string.h>
#include <syslog.h>

static struct {
	int level;
	bool syslog, journal;
} sink = { .level = SPM_LOG_INFO };

void spm_log_init(void)
{
	static const struct {
		const char *name;
		int level;
	} names[] = { { "debug", SPM_LOG_DEBUG },
		      { "info", SPM_LOG_INFO },
		      { "warning", SPM_LOG_WARNING },
		      { "err", SPM_LOG_ERR } };
	const char *want = getenv("SPMFS_LOG");

	for (size_t i = 0; want && i < SPM_ARRAY_SIZE(names); i++)
		if (!strcmp(want, names[i].name))
			sink.level = names[i].level;
	sink.journal = spm_journal_reads(2);
}

void spm_log_to_syslog(const char *ident)
{
	/* LOG_NDELAY: the socket must be open before the process leaves the host's mount namespace. */
	openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	sink.syslog = true;
}

void spm_log(enum spm_log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if ((int)level > sink.level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (sink.syslog)
		syslog(level, "%s", line);
	else if (sink.journal)
		fprintf(stderr, "<%d>%s\n", (int)level, line);
	else
		fprintf(stderr, "spmfs: %s\n", line);
}

int spm_fail(struct spm_error *e, int rc, const char *fmt, ...)
{
	va_list ap;

	if (!e || e->text[0])
		return rc;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return rc;
}
