/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/size.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

int spm_number_parse(const char *s, int base, uint64_t max, uint64_t *out)
{
	char *end;
	unsigned long long v;

	/* strtoull would take a sign and leading blanks */
	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, base);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

int spm_size_parse(const char *s, uint64_t *bytes)
{
	static const char suffixes[] = "kmgt";
	unsigned long long v;
	unsigned int shift = 0;
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno == ERANGE)
		return -ERANGE;
	if (*end) {
		const char *p = strchr(suffixes, tolower((unsigned char)*end));

		if (!p || end[1])
			return -EINVAL;
		shift = 10 * (unsigned int)(p - suffixes + 1);
	}
	if (v > (unsigned long long)INT64_MAX >> shift)
		return -ERANGE;
	*bytes = (uint64_t)v << shift;
	return 0;
}

int spm_size_parse_of(const char *s, uint64_t whole, uint64_t *bytes)
{
	size_t n = strlen(s);
	uint64_t pct;
	char digits[8];
	int rc;

	if (!n || s[n - 1] != '%')
		return spm_size_parse(s, bytes);
	if (n > sizeof(digits))
		return -ERANGE;
	memcpy(digits, s, n - 1);
	digits[n - 1] = '\0';
	rc = spm_number_parse(digits, 10, 100, &pct);
	if (rc)
		return rc;
	*bytes = whole / 100 * pct + whole % 100 * pct / 100;
	return 0;
}

char *spm_size_human(uint64_t bytes, char *buf, size_t len)
{
	static const char suffixes[] = "KMGTPE";
	uint64_t whole = bytes, tenth = 0;
	int i = -1;

	while (whole >= 1024) {
		tenth = whole % 1024 * 10 / 1024;
		whole /= 1024;
		i++;
	}
	if (i < 0)
		snprintf(buf, len, "%u", (unsigned int)whole);
	else if (tenth && whole < 100)
		snprintf(buf, len, "%u.%u%c", (unsigned int)whole, (unsigned int)tenth, suffixes[i]);
	else
		snprintf(buf, len, "%u%c", (unsigned int)whole, suffixes[i]);
	return buf;
}
