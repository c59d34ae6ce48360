/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/setup-slices.h"
#include "core/size.h"
#include "fs/shared.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

const char *spm_setup_slices_path(const struct spm_options *o, char *buf, size_t len, const char **why)
{
	bool none = o->conf && !strcmp(o->conf, "none");

	if (o->conf && !none)
		return o->conf;
	/* files of the host are about its own mounts, not about one that happens to have a name like theirs */
	if (none || spm_shared_in_user_ns()) {
		if (why)
			*why = none ? "option conf=none" : "in a user namespace, without option conf=";
		return NULL;
	}
	snprintf(buf, len, SPM_CONF_DIR "/%s.conf", o->name);
	return buf;
}

int spm_setup_slices_read(struct spm_options *o, struct spm_slices_conf *conf, struct spm_error *e)
{
	char buf[128];
	const char *path = spm_setup_slices_path(o, buf, sizeof(buf), NULL);
	int rc;

	memset(conf, 0, sizeof(*conf));
	rc = path ? spm_slices_conf_read(path, conf, e) : 0;
	if (rc == -ENOENT && !o->conf)
		return 0;
	if (!rc && conf->n && o->source.kind == SPM_SOURCE_DIR)
		o->source.wants_quota = true;
	if (rc != -ENOENT)
		return rc;
	return spm_fail(e, rc, "option conf=%s: there is no such file; make it, or leave the option out", o->conf);
}

int spm_setup_slices_fit(const struct spm_options *o, const struct spm_slices_conf *conf, struct spm_error *e)
{
	char buf[128], sum_text[16], have[16];
	const char *path = spm_setup_slices_path(o, buf, sizeof(buf), NULL);
	uint64_t sum = 0, device = o->source.bytes;
	bool pool = o->source.kind == SPM_SOURCE_DAX && o->source.dax_mode == SPM_DAX_DEVDAX;

	spm_size_human(device, have, sizeof(have));
	if (conf->n >= SPM_SLICES_MAX)
		return spm_fail(e, -ENFILE, "%s: %zu slices, and there can be %u; take some out", path, conf->n,
				SPM_SLICES_MAX - 1);
	for (size_t i = 0; i < conf->n; i++) {
		const struct spm_slice_conf *c = &conf->list[i];

		if (pool && spm_limits_not_in_pool(&c->limits))
			return spm_fail(e, -EINVAL, "%s:%u: slice '%s': %s is not for files in a pool on a dax device; leave it out, or use %s "
					"with daxmode=system-ram", path, c->line, c->name, spm_limits_not_in_pool(&c->limits),
					o->source_text);
		/* after each: so the sum cannot wrap */
		sum += c->limits.min;
		if (o->claim && c->limits.nodes[0])
			return spm_fail(e, -EINVAL, "%s:%u: slice '%s': with isolate=claim all slices share what is held of all nodes; "
					"leave nodes out, or mount without isolate=claim", path, c->line, c->name);
		if (c->limits.min > device)
			return spm_fail(e, -ERANGE,
					"%s:%u: slice '%s': min is %s, and the device has %s; give less", path,
					c->line, c->name, spm_size_human(c->limits.min, sum_text, sizeof(sum_text)),
					have);
		if (sum > device)
			return spm_fail(e, -ENOSPC,
					"%s:%u: up to slice '%s' the slices are guaranteed %s together, and the "
					"device has %s; lower the min of some",
					path, c->line, c->name, spm_size_human(sum, sum_text, sizeof(sum_text)),
					have);
	}
	return 0;
}

/* -- in the region -- */

struct making {
	const struct spm_slices_conf *conf;
	struct spm_slices *t;
	const char *mountpoint, *path;
	struct spm_error *err;
	struct undo {
		uint16_t id;
		bool made;
		struct spm_slice_limits before;
	} *undo;
	size_t n, made;
};

static int explain(struct making *m, const struct spm_slice_conf *c, int rc)
{
	const char *why = strerror(-rc);

	if (rc == -EEXIST)
		why = "a file or directory of that name is in its place; rename that, or the slice";
	else if (rc == -ENOSPC)
		why = "its min is not free, or not left by the min of other slices that are there; lower min, or "
		      "remove files";
	else if (rc == -EBUSY)
		why = "more than its max is in use; raise max, or remove files";
	else if (rc == -ERANGE)
		why = "its max is less than a slice can have, 16K, or an extent of a pool; raise it";
	else if (rc == -ENFILE)
		why = "there are as many slices as there can be; remove one";
	else if (rc == -EOPNOTSUPP)
		why = "nodes and huge pages are not for slices of a directory; leave them out";
	else if (rc == -EINVAL)
		why = "its nodes are not all nodes of the device; 'spmctl devices' shows which there are";
	return spm_fail(m->err, rc, "%s:%u: slice '%s': %s", m->path, c->line, c->name, why);
}

/* What the owner lowered stays so, and so does what can be chosen only once. */
static int set_old(struct making *m, const struct spm_slice_conf *c, struct undo *u)
{
	struct spm_slice_limits l = c->limits;
	struct spm_slice_record r;

	if (!spm_slices_record(m->t, u->id, &r))
		return -ENOENT;
	if (strcmp(l.nodes, r.limits.nodes) || strcmp(l.huge, r.limits.huge))
		spm_log(SPM_LOG_WARNING, "%s: slices: %s:%u: nodes and huge pages of '%s' stay as when it was made",
			m->mountpoint, m->path, c->line, c->name);
	u->before = r.limits;
	u->before.seq = 0; /* it is put back whatever it is by then */
	l.own_max = r.limits.own_max;
	l.own_swap_max = r.limits.own_swap_max;
	memcpy(l.nodes, r.limits.nodes, sizeof(l.nodes));
	memcpy(l.huge, r.limits.huge, sizeof(l.huge));
	return spm_slices_set(m->t, u->id, &l);
}

static int make_one(struct making *m, const struct spm_slice_conf *c)
{
	const struct spm_slice *s = spm_slices_find(m->t, c->name);
	struct undo u = { .id = s ? s->id : 0, .made = !s };
	int rc;

	if (s) {
		rc = set_old(m, c, &u);
	} else {
		rc = spm_slices_create(m->t, c->name, &c->limits, false, &u.id);
		if (rc)
			return explain(m, c, rc);
		m->made++;
		rc = spm_slices_set(m->t, u.id, &c->limits);
	}
	if (!rc || u.made)
		m->undo[m->n++] = u;
	return rc ? explain(m, c, rc) : 0;
}

static void take_back(struct making *m)
{
	while (m->n) {
		const struct undo *u = &m->undo[--m->n];
		struct spm_slice_record r;
		uint16_t id;
		int rc = 0;

		if (!u->made) {
			rc = spm_slices_set(m->t, u->id, &u->before);
		} else if (spm_slices_record(m->t, u->id, &r)) {
			rc = spm_slices_remove_begin(m->t, r.name, true, &id);
			if (!rc)
				rc = spm_slices_remove_end(m->t, id, true);
			if (!rc)
				spm_slices_remove_done(m->t, id);
		}
		if (rc)
			spm_log(SPM_LOG_WARNING, "%s: slices: number %u cannot be put back as it was: %s",
				m->mountpoint, u->id, strerror(-rc));
	}
}

int spm_setup_slices_make(const struct spm_options *o, const struct spm_slices_conf *conf, struct spm_slices *t,
			  struct spm_error *e)
{
	char buf[128];
	struct making m = { .conf = conf,
			    .t = t,
			    .mountpoint = o->mountpoint,
			    .err = e,
			    .path = spm_setup_slices_path(o, buf, sizeof(buf), NULL),
			    .undo = calloc(conf->n + 1, sizeof(*m.undo)) };
	unsigned int others = atomic_load(&t->count);
	int rc = m.undo ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < conf->n; i++)
		rc = make_one(&m, &conf->list[i]);
	others -= (unsigned int)(m.n - m.made);
	if (rc)
		take_back(&m);
	else if (conf->n || others)
		spm_log(SPM_LOG_INFO, "%s: slices: %zu made and %zu set as %s says; %u others are as they were",
			m.mountpoint, m.made, m.n - m.made, m.path ? m.path : "no file", others);
	free(m.undo);
	return rc;
}
