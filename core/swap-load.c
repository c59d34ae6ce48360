/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many extents come back, several at a time and in order: whole files at open, and what a sequential reader comes to next. */
#include "core/swap-local.h"

#include <errno.h>
#include <string.h>

#define AHEAD_MAX   16u /* ranges that wait; more are dropped */
#define STACK_BYTES (256u << 10)

struct load {
	struct spm_swap *s;
	struct spm_whose who;
	int fd;
	struct spm_ioq q;
	unsigned int in_flight;
	bool patient; /* holds a pin FILE, and waits for room */
	unsigned int tries;
	uint64_t missed; /* the first extent whose memory the device had lost, and there was no other */
};

static int finish_one(struct load *l)
{
	struct spm_io *io = spm_ioq_next(&l->q, true);
	struct spm_job *j = io->arg;
	int rc = spm_in_finish(l->s, j, l->fd, &l->who);
	uint64_t extent = j->extent;

	spm_move_end(l->s, l->who.file, extent);
	spm_job_put(l->s, j);
	l->in_flight--;
	if (rc != -ENOSPC)
		return rc;
	l->missed = extent < l->missed ? extent : l->missed;
	return 0;
}

/* -EALREADY: it is here; -EAGAIN: not now. */
static int start_one(struct load *l, uint64_t extent)
{
	struct spm_swap *s = l->s;
	struct spm_whose now;
	struct spm_job *j;
	/* the reader who is waited for may wait for a job, and ours come free only by us: so not with any in flight */
	int rc = l->patient ? spm_move_claim(s, l->who.file, extent, !l->in_flight) :
			      spm_move_claim_now(s, l->who.file, extent);

	if (rc)
		return rc;
	j = spm_job_get(s, l->who.slice, false);
	if (!j)
		rc = -EAGAIN;
	else if (!spm_whose(s, l->who.file, &now) || now.ino != l->who.ino)
		rc = -ESTALE; /* without a pin the number may have become another file's; now it cannot */
	else
		rc = spm_in_prepare(s, j, l->fd, &l->who, extent);
	if (!rc) {
		spm_job_submit(s, &l->q, j, SPM_IO_READ);
		l->in_flight++;
		return 0;
	}
	spm_move_end(s, l->who.file, extent);
	if (j)
		spm_job_put(s, j);
	return rc;
}

/* What to do when an extent cannot be started: 0: try it again. */
static int make_way(struct load *l, int rc)
{
	/* one's own extents in flight are memory and jobs, too */
	if ((rc == -EAGAIN || rc == -ENOSPC) && l->in_flight)
		return finish_one(l);
	if (!l->patient)
		return rc;
	if (rc == -ENOSPC)
		return spm_room_wait(l->s, l->who.slice, SPM_ROOM_LOAD, l->s->extent_bytes, &l->tries);
	if (rc == -EAGAIN) { /* all jobs are others', and theirs end */
		spm_job_put(l->s, spm_job_get(l->s, l->who.slice, true));
		return 0;
	}
	return rc;
}

static int load_extents(struct load *l, uint64_t extent, uint64_t last)
{
	struct spm_extent *x;
	int rc = 0;

	while (!rc) {
		struct spm_bucket *b = spm_bucket_lock(l->s, l->who.file);

		extent = spm_extmap_next(&l->s->map, l->who.file, extent, &x);
		spm_bucket_unlock(b);
		if (extent > last || extent == UINT64_MAX)
			break;
		rc = l->in_flight < SPM_DEPTH ? start_one(l, extent) : -EAGAIN;
		if (!rc || rc == -EALREADY) {
			extent++;
			rc = 0;
		} else {
			rc = make_way(l, rc);
		}
	}
	while (l->in_flight) {
		int end = finish_one(l);

		rc = rc ? rc : end;
	}
	return rc;
}

static int load_range(struct load *l, uint64_t from, uint64_t to)
{
	uint64_t extent = from >> l->s->shift, last = to ? (to - 1) >> l->s->shift : 0;
	int rc;

	for (;;) {
		l->missed = UINT64_MAX;
		rc = load_extents(l, extent, last);
		if (rc || l->missed == UINT64_MAX)
			return rc;
		extent = l->missed;
		rc = make_way(l, -ENOSPC);
		if (rc)
			return rc;
	}
}

static int load(struct spm_swap *s, const struct spm_whose *who, uint64_t from, uint64_t to, bool patient)
{
	struct load l = { .s = s, .who = *who, .patient = patient };
	int rc;

	if (to <= from)
		return 0;
	l.fd = spm_file_open(s, who->slice, &who->handle, patient);
	if (l.fd < 0)
		return l.fd;
	spm_ioq_init(&l.q);
	rc = load_range(&l, from, to);
	spm_ioq_destroy(&l.q);
	spm_file_close(s, who->slice, &l.fd);
	return rc;
}

int spm_swap_load(struct spm_pin *pin, uint64_t from, uint64_t to)
{
	struct spm_swap *s = pin->swap;
	struct spm_whose who;

	if (!pin->file || !spm_swap_bytes_of(s, pin->file))
		return 0;
	(void)spm_whose(s, pin->file, &who);
	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	return load(s, &who, from, to, true);
}

/* -- ahead -- */

struct ahead {
	uint32_t file;
	uint64_t from, to;
};

struct spm_loader {
	pthread_mutex_t lock; /* guards what follows; a leaf */
	pthread_cond_t wake;
	pthread_t thread;
	bool stop;
	unsigned int first, count;
	struct ahead range[AHEAD_MAX];
};

void spm_loader_ahead(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to)
{
	struct spm_loader *l = s->loader;

	if (!l || spm_is_draining(s) || pthread_mutex_trylock(&l->lock))
		return;
	if (l->count < AHEAD_MAX) {
		l->range[(l->first + l->count++) % AHEAD_MAX] = (struct ahead){ .file = file, .from = from, .to = to };
		pthread_cond_signal(&l->wake);
	}
	pthread_mutex_unlock(&l->lock);
}

/* Reading ahead must not push out what is in use. */
static bool is_ample(struct spm_swap *s, const struct spm_memory *m)
{
	return m->free > m->size / 100 * s->opts.low_pct && m->free > 4 * (uint64_t)s->extent_bytes;
}

static bool has_room(struct spm_swap *s, uint16_t slice)
{
	struct spm_memory m;

	return !spm_is_draining(s) && !spm_memory_of(s, slice, &m) && is_ample(s, &m) && !spm_memory_shared(s, &m) && is_ample(s, &m);
}

static void *serve(void *arg)
{
	struct spm_swap *s = arg;
	struct spm_loader *l = s->loader;
	struct spm_whose who;

	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		struct ahead a;
		bool known;

		if (!l->count) {
			pthread_cond_wait(&l->wake, &l->lock);
			continue;
		}
		a = l->range[l->first];
		l->first = (l->first + 1) % AHEAD_MAX;
		l->count--;
		pthread_mutex_unlock(&l->lock);
		struct spm_bucket *b = spm_bucket_lock(s, a.file);

		known = spm_whose(s, a.file, &who);
		spm_bucket_unlock(b);
		if (known && has_room(s, who.slice))
			(void)load(s, &who, a.from, a.to, false); /* whoever needs it is told what is wrong with it */
		pthread_mutex_lock(&l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

int spm_loader_start(struct spm_swap *s)
{
	struct spm_loader *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->wake, NULL);
	s->loader = l;
	rc = pthread_create(&l->thread, NULL, serve, s);
	if (rc) {
		s->loader = NULL;
		free(l);
	}
	return -rc;
}

void spm_loader_stop(struct spm_swap *s)
{
	struct spm_loader *l = s->loader;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	s->loader = NULL;
	free(l);
}
