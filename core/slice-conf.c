/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/slice-conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <ini.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (4u << 20)

struct reading {
	const char *at, *end;
	unsigned int line;
	struct spm_slices_conf *conf;
	struct spm_error why; /* the first reason, without the place */
	unsigned int why_line;
	int rc;
};

static struct spm_slice_conf *current(struct reading *r)
{
	return r->conf->n ? &r->conf->list[r->conf->n - 1] : NULL;
}

static int stop(struct reading *r, unsigned int line, int rc)
{
	if (!r->rc) {
		r->rc = rc;
		r->why_line = line;
	}
	return rc;
}

int spm_slices_conf_header(const char *line, char name[static SPM_SLICE_NAME_MAX + 1], struct spm_error *e)
{
	const char *p = line + strspn(line, " \t"), *end;
	size_t n;

	if (*p != '[')
		return 0;
	p++;
	end = strchr(p, ']');
	if (!end)
		return spm_fail(e, -EINVAL, "the section's closing ']' is missing");
	p += strspn(p, " \t");
	if (strncmp(p, "slice", 5) || !strspn(p + 5, " \t"))
		return spm_fail(e, -EINVAL, "[%.*s]: sections are [slice NAME]", (int)(end - p < 80 ? end - p : 80),
				p);
	p += 5 + strspn(p + 5, " \t");
	n = (size_t)(end - p);
	while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	snprintf(name, SPM_SLICE_NAME_MAX + 1, "%.*s", n <= SPM_SLICE_NAME_MAX ? (int)n : 0, p);
	if (!spm_slice_name_ok(name))
		return spm_fail(e, -EINVAL,
				"slice '%.*s': give 1 to 63 letters, digits and . _ - with no . or - in front",
				(int)(n < 80 ? n : 80), p);
	end += 1 + strspn(end + 1, " \t\r\n");
	if (!*end || *end == ';' || *end == '#')
		return 1;
	n = strcspn(end, "\r\n");
	return spm_fail(e, -EINVAL, "'%.*s' behind the section's name", (int)(n < 40 ? n : 40), end);
}

/* What holds for a slice as a whole, once all of it was read. */
static int end_section(struct reading *r)
{
	struct spm_slice_conf *c = current(r);
	int rc = c ? spm_limits_check(&c->limits, &r->why) : 0;

	return rc ? stop(r, c->line, -EINVAL) : 0;
}

static int begin_section(struct reading *r, const char *name)
{
	const struct spm_slice_conf *had;
	struct spm_slice_conf *list;
	int rc = end_section(r);

	if (rc)
		return rc;
	had = spm_slices_conf_find(r->conf, name);
	if (had) {
		rc = spm_fail(&r->why, -EINVAL, "slice '%s' is in line %u already", name, had->line);
		return stop(r, r->line, rc);
	}
	list = realloc(r->conf->list, (r->conf->n + 1) * sizeof(*list));
	if (!list)
		return stop(r, r->line, -ENOMEM);
	r->conf->list = list;
	list += r->conf->n++;
	memset(list, 0, sizeof(*list));
	snprintf(list->name, sizeof(list->name), "%s", name);
	list->line = r->line;
	spm_limits_init(&list->limits);
	return 0;
}

/* Settings of spmfs@NAME.service, for which the same file is a list of variables (EnvironmentFile). */
static bool is_the_units(const char *p, size_t n)
{
	static const char *const keys[] = { "SOURCE=", "MOUNTPOINT=", "OPTIONS=" };

	for (size_t i = 0; i < SPM_ARRAY_SIZE(keys); i++)
		if (n >= strlen(keys[i]) && !memcmp(p, keys[i], strlen(keys[i])))
			return true;
	return false;
}

/* Copies one line; what libinih would misread ends it here. */
static int check_line(struct reading *r, const char *p, size_t n, char *buf, size_t room)
{
	char name[SPM_SLICE_NAME_MAX + 1];
	int rc;

	for (size_t i = 0; i < n; i++)
		if (((unsigned char)p[i] < 0x20 && p[i] != '\t' && p[i] != '\r') || p[i] == 0x7f)
			return spm_fail(&r->why, -EINVAL, "byte %zu is a control character (0x%02x)", i + 1,
					(unsigned char)p[i]);
	/* as it is here, white space in front never makes a line the last one's continuation */
	while (n && isspace((unsigned char)*p)) {
		p++;
		n--;
	}
	if (!n || *p == '#' || *p == ';' || (!r->conf->n && is_the_units(p, n))) {
		snprintf(buf, room, "\n");
		return 0;
	}
	if (n + 2 > room)
		return spm_fail(&r->why, -EINVAL, "longer than %zu characters", room - 2);
	snprintf(buf, room, "%.*s\n", (int)n, p);
	rc = spm_slices_conf_header(buf, name, &r->why);
	return rc > 0 ? begin_section(r, name) : rc;
}

/* An ini_reader, in the manner of fgets(3). */
static char *next_line(char *buf, int room, void *arg)
{
	struct reading *r = arg;
	const char *p = r->at, *end;
	int rc;

	if (r->rc || p == r->end)
		return NULL;
	end = memchr(p, '\n', (size_t)(r->end - p));
	if (!end)
		end = r->end;
	r->at = end < r->end ? end + 1 : end;
	r->line++;
	if (r->line == 1 && end - p >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3;
	rc = check_line(r, p, (size_t)(end - p), buf, (size_t)room);
	if (!rc)
		return buf;
	stop(r, r->line, rc);
	return NULL;
}

/* An ini_handler: 0 is an error. The section is known already; libinih cuts long ones off. */
static int take_key(void *arg, const char *section, const char *key, const char *value)
{
	char number[SPM_OWNER_TEXT];
	struct reading *r = arg;
	struct spm_slice_conf *c = current(r);
	int k;

	(void)section;
	if (!key)
		return 1; /* a libinih that tells sections, too */
	if (r->rc)
		return 0;
	if (!c || !value) {
		if (!c)
			spm_fail(&r->why, -EINVAL, "'%.40s' stands before the first [slice NAME]", key);
		else
			spm_fail(&r->why, -EINVAL, "'%.40s' has no value; write %.40s = VALUE", key, key);
		stop(r, r->line, -EINVAL);
		return 0;
	}
	k = spm_owner_number(key, &value, number, &r->why);
	if (!k)
		k = spm_limit_set(&c->limits, key, value, &r->why);
	if (k >= 0 && c->given & 1u << k)
		k = spm_fail(&r->why, -EINVAL, "'%s' is there twice", key);
	if (k < 0)
		stop(r, r->line, -EINVAL);
	else
		c->given |= 1u << k;
	return k >= 0;
}

int spm_slices_conf_parse(const char *text, size_t len, const char *path, struct spm_slices_conf *out,
			  struct spm_error *e)
{
	struct reading r = { .at = text, .end = text + len, .conf = out };
	int bad;

	memset(out, 0, sizeof(*out));
	bad = ini_parse_stream(next_line, &r, take_key, &r);
	if (bad > 0 && (!r.rc || (unsigned int)bad < r.why_line)) {
		/* it goes on behind what it does not understand: whatever came then is no matter */
		r.rc = 0;
		snprintf(r.why.text, sizeof(r.why.text), "neither [slice NAME] nor KEY = VALUE nor a comment");
		stop(&r, (unsigned int)bad, -EINVAL);
	}
	if (!r.rc && !bad)
		end_section(&r);
	if (!r.rc && bad)
		r.rc = -ENOMEM;
	if (!r.rc)
		return 0;
	spm_slices_conf_free(out);
	return r.rc == -ENOMEM ? r.rc : spm_fail(e, r.rc, "%s:%u: %s", path, r.why_line, r.why.text);
}

int spm_slices_conf_load(const char *path, char **text, size_t *len)
{
	spm_auto_fclose FILE *f = fopen(path, "re");
	struct stat st;

	if (!f || fstat(fileno(f), &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (st.st_size > FILE_MAX)
		return -EFBIG;
	*text = malloc((size_t)st.st_size + 1);
	if (!*text)
		return -ENOMEM;
	*len = fread(*text, 1, (size_t)st.st_size, f);
	(*text)[*len] = '\0';
	if (!ferror(f))
		return 0;
	free(*text);
	return -EIO;
}

int spm_slices_conf_read(const char *path, struct spm_slices_conf *out, struct spm_error *e)
{
	spm_auto_free char *text = NULL;
	size_t len = 0;
	int rc = spm_slices_conf_load(path, &text, &len);

	memset(out, 0, sizeof(*out));
	if (rc)
		return rc == -ENOENT ? rc : spm_fail(e, rc, "cannot read %s: %s", path, strerror(-rc));
	return spm_slices_conf_parse(text, len, path, out, e);
}

void spm_slices_conf_free(struct spm_slices_conf *conf)
{
	free(conf->list);
	memset(conf, 0, sizeof(*conf));
}

const struct spm_slice_conf *spm_slices_conf_find(const struct spm_slices_conf *conf, const char *name)
{
	for (size_t i = 0; i < conf->n; i++)
		if (!strcmp(conf->list[i].name, name))
			return &conf->list[i];
	return NULL;
}

int spm_owner_number(const char *key, const char **value, char buf[static SPM_OWNER_TEXT], struct spm_error *e)
{
	bool user = !strcmp(key, "uid");
	char room[16384];
	struct passwd pw, *p = NULL;
	struct group gr, *g = NULL;

	if ((!user && strcmp(key, "gid")) || !**value || strspn(*value, "0123456789") == strlen(*value))
		return 0;
	if (user)
		getpwnam_r(*value, &pw, room, sizeof(room), &p);
	else
		getgrnam_r(*value, &gr, room, sizeof(room), &g);
	if (!p && !g)
		return spm_fail(e, -EINVAL, "%s=%.80s: there is no such %s; give a name or a number", key, *value,
				user ? "user" : "group");
	snprintf(buf, SPM_OWNER_TEXT, "%u", p ? (unsigned int)p->pw_uid : (unsigned int)g->gr_gid);
	*value = buf;
	return 0;
}
