/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/parked.h"
#include "fs/caller.h"
#include "fs/control.h"
#include "fs/fs.h"
#include "fs/thread.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

struct spm_parked_request {
	struct spm_parked_request *next;
	size_t len;
	uint32_t blame; /* of its desk, if it has been in hand before */
	char data[] __attribute__((aligned(8))); /* as read: a header of FUSE first */
};

struct spm_parked_line {
	struct spm_parked_line *next;
	uint16_t slice;
	size_t bytes;
	struct spm_parked_request *first, **last;
};

/* Whether a request may have to wait for room. One that gives memory back must not stand behind those who wait for it. */
static bool asks_for_memory(const struct fuse_in_header *h, size_t len)
{
	const struct fuse_fallocate_in *in = (const void *)(h + 1);

	return h->opcode == FUSE_WRITE ||
	       (h->opcode == FUSE_FALLOCATE && len >= sizeof(*h) + sizeof(*in) && !(in->mode & FALLOC_FL_PUNCH_HOLE));
}

/* With the lock. NULL: no memory. */
static struct spm_parked_line *line_of(struct spm_parked *p, uint16_t slice, bool make)
{
	struct spm_parked_line *l = p->lines;

	while (l && l->slice != slice)
		l = l->next;
	if (l || !make)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->slice = slice;
	l->last = &l->first;
	l->next = p->lines;
	p->lines = l;
	return l;
}

/* With the lock: whether one more of that slice stands in line. Behind others, though there may be room for it. */
static bool stands_in_line(struct spm_fs *fs, uint16_t slice)
{
	const struct spm_parked_line *l = atomic_load(&fs->parked.count) ? line_of(&fs->parked, slice, false) : NULL;

	return (l && l->first) || spm_swap_waiting(fs->swap, slice) >= SPM_WAITERS;
}

bool spm_park(struct spm_fs *fs, struct spm_thread *t, size_t len)
{
	const struct fuse_in_header *h = t->buf;
	struct spm_parked *p = &fs->parked;
	struct spm_parked_request *r;
	const struct spm_inode *rec;
	struct spm_parked_line *l;
	bool parked = false, again = t->was_parked;

	t->was_parked = false;
	if (again || !fs->swap || !asks_for_memory(h, len) || spm_control_is(h->nodeid))
		return false;
	rec = spm_itable_get(&fs->itable, h->nodeid);
	if (!rec || (!atomic_load(&p->count) && spm_swap_waiting(fs->swap, rec->slice) < SPM_WAITERS))
		return false;
	if (!fs->desks.state->resend || t->desk->begun || t->desk->done)
		return false;
	pthread_mutex_lock(&p->lock);
	l = stands_in_line(fs, rec->slice) ? line_of(p, rec->slice, true) : NULL;
	r = l && l->bytes + len <= SPM_PARKED_BYTES ? malloc(sizeof(*r) + len) : NULL;
	if (r) {
		*r = (struct spm_parked_request){ .len = len, .blame = t->desk->blame };
		memcpy(r->data, t->buf, len);
		*l->last = r;
		l->last = &r->next;
		l->bytes += len;
		/* (who ends a wait looks at this afterwards, and whoever has parked one at the number of those who wait) */
		atomic_fetch_add(&p->count, 1);
		parked = true;
	}
	pthread_mutex_unlock(&p->lock);
	if (parked)
		spm_desk_end(t);
	return parked;
}

/* With the lock: takes one out of its line; *@at is it. */
static void take_out(struct spm_fs *fs, struct spm_parked_line *l, struct spm_parked_request **at)
{
	struct spm_parked_request *r = *at;

	*at = r->next;
	if (!*at)
		l->last = at;
	l->bytes -= r->len;
	atomic_fetch_sub(&fs->parked.count, 1);
}

/* With the lock: takes the first one of a slice in which one more may wait. The lines take turns. */
static struct spm_parked_request *take(struct spm_fs *fs)
{
	struct spm_parked_line **p = &fs->parked.lines, **end = p, *l;
	struct spm_parked_request *r;

	while ((l = *p) && (!l->first || spm_swap_waiting(fs->swap, l->slice) >= SPM_WAITERS))
		p = &l->next;
	if (!l)
		return NULL;
	r = l->first;
	take_out(fs, l, &l->first);
	*p = l->next;
	while (l->first && *end)
		end = &(*end)->next;
	l->next = NULL;
	if (l->first)
		*end = l;
	else
		free(l);
	return r;
}

/* With the lock: the one of that number, whose client is killed, out of its line. */
static struct spm_parked_request *take_killed(struct spm_fs *fs, uint64_t unique)
{
	for (struct spm_parked_line *l = fs->parked.lines; l; l = l->next) {
		for (struct spm_parked_request **p = &l->first; *p; p = &(*p)->next) {
			struct spm_parked_request *r = *p;
			const struct fuse_in_header *h = (const void *)r->data;

			if (h->unique != unique)
				continue;
			if (!spm_caller_is_killed(h->pid))
				return NULL;
			take_out(fs, l, p);
			return r;
		}
	}
	return NULL;
}

bool spm_parked_interrupt(struct spm_fs *fs, struct spm_thread *t, size_t len)
{
	const struct fuse_in_header *h = t->buf;
	const struct fuse_interrupt_in *in = (const void *)(h + 1);
	struct fuse_out_header out = { .len = sizeof(out), .error = -EINTR };
	struct spm_parked_request *r;

	if (h->opcode != FUSE_INTERRUPT || !atomic_load(&fs->parked.count) || len < sizeof(*h) + sizeof(*in))
		return false;
	pthread_mutex_lock(&fs->parked.lock);
	r = take_killed(fs, in->unique);
	pthread_mutex_unlock(&fs->parked.lock);
	if (!r)
		return false;
	free(r);
	out.unique = in->unique;
	if (write(fs->dev_fd, &out, sizeof(out)) != sizeof(out)) /* (ENOENT: the connection was aborted) */
		spm_log(SPM_LOG_DEBUG, "%s: an answer was not taken: %m", fs->opts->mountpoint);
	spm_desk_end(t);
	atomic_fetch_add(&fs->desks.state->answered, 1);
	return true;
}

ssize_t spm_parked_next(struct spm_fs *fs, struct spm_thread *t)
{
	struct spm_parked_request *r;
	ssize_t n;

	if (!atomic_load(&fs->parked.count))
		return 0;
	pthread_mutex_lock(&fs->parked.lock);
	r = take(fs);
	pthread_mutex_unlock(&fs->parked.lock);
	if (!r)
		return 0;
	spm_desk_reading(t);
	memcpy(t->buf, r->data, r->len);
	t->desk->blame = r->blame;
	spm_desk_begin(t);
	t->was_parked = true;
	n = (ssize_t)r->len;
	free(r);
	return n;
}

void spm_parked_init(struct spm_fs *fs)
{
	pthread_mutex_init(&fs->parked.lock, NULL);
}

void spm_parked_destroy(struct spm_fs *fs)
{
	while (fs->parked.lines) {
		struct spm_parked_line *l = fs->parked.lines;

		fs->parked.lines = l->next;
		while (l->first) {
			struct spm_parked_request *r = l->first;

			l->first = r->next;
			free(r);
		}
		free(l);
	}
}
