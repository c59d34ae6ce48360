/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How spmctl prints sizes, paths and JSON. */
#include "config.h"

#include "core/size.h"
#include "mount-helpers/spmctl.h"

#include <inttypes.h>
#include <json-c/printbuf.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

const char *ctl_size(const struct ctl_opts *opts, uint64_t bytes, char buf[static CTL_SIZE_LEN])
{
	if (opts->human)
		return spm_size_human(bytes, buf, CTL_SIZE_LEN);
	snprintf(buf, CTL_SIZE_LEN, "%" PRIu64, bytes);
	return buf;
}

void ctl_json_size(const struct ctl_opts *opts, struct json_object *obj, const char *key, uint64_t bytes)
{
	char buf[CTL_SIZE_LEN];

	if (opts->human)
		json_object_object_add(obj, key, json_object_new_string(ctl_size(opts, bytes, buf)));
	else
		json_object_object_add(obj, key, json_object_new_uint64(bytes));
}

/*
 * Length of the UTF-8 sequence at s, 0 when it is none. Overlong forms, surrogates and what lies above
 * U+10FFFF are none: the second byte's range tells them all.
 */
static size_t utf8_len(const unsigned char *s)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static int bytes_to_json(struct json_object *obj, struct printbuf *out, int level, int flags)
{
	const unsigned char *s = (const unsigned char *)json_object_get_string(obj);

	(void)level;
	(void)flags;
	printbuf_memappend(out, "\"", 1);
	while (*s) {
		size_t len = utf8_len(s);

		if (!len) {
			sprintbuf(out, "\\udc%02x", *s++);
		} else if (len == 1 && (*s < 0x20 || *s == 0x7f)) {
			sprintbuf(out, "\\u%04x", *s++);
		} else if (*s == '"' || *s == '\\') {
			sprintbuf(out, "\\%c", *s++);
		} else {
			printbuf_memappend(out, (const char *)s, (int)len);
			s += len;
		}
	}
	printbuf_memappend(out, "\"", 1);
	return 0;
}

struct json_object *ctl_json_bytes(const char *bytes)
{
	struct json_object *obj = json_object_new_string(bytes);

	if (obj)
		json_object_set_serializer(obj, bytes_to_json, NULL, NULL);
	return obj;
}

void ctl_print_path(const char *path)
{
	for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
		if (*s < 0x20 || *s == 0x7f)
			printf("\\%03o", *s);
		else
			putchar(*s);
	}
}

static void put(struct json_object *obj)
{
	const int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE;

	fputs(json_object_to_json_string_ext(obj, flags), stdout);
	json_object_put(obj);
}

void ctl_list_begin(struct ctl_list *list)
{
	list->any = false;
	putchar('[');
}

void ctl_list_add(struct ctl_list *list, struct json_object *obj)
{
	fputs(list->any ? ",\n" : "\n", stdout);
	list->any = true;
	put(obj);
}

void ctl_list_end(struct ctl_list *list)
{
	puts(list->any ? "\n]" : "]");
}

void ctl_json_print(struct json_object *obj)
{
	put(obj);
	putchar('\n');
}

#define PROGRESS_MS 300

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void ctl_progress_begin(struct ctl_progress *p)
{
	*p = (struct ctl_progress){ .on = isatty(STDERR_FILENO), .last_ms = now_ms() };
}

bool ctl_progress_due(struct ctl_progress *p)
{
	return p->on && now_ms() - p->last_ms >= PROGRESS_MS;
}

void ctl_progress_show(struct ctl_progress *p, const char *fmt, ...)
{
	va_list ap;

	if (!ctl_progress_due(p))
		return;
	fputs("\r\033[K", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fflush(stderr);
	p->shown = true;
	p->last_ms = now_ms();
}

void ctl_progress_clear(struct ctl_progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
