/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: so many moves and reads may be under way at once, over all threads and slices. When all are taken, the next one goes to the
 * slice that holds the fewest, so that who loads gigabytes does not keep the others' faults waiting.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <string.h>

/* Who waits for one. */
struct spm_job_waiter {
	struct spm_job_waiter *next;
	pthread_cond_t wake;
	uint16_t slice;
	struct spm_job *job; /* given */
};

int spm_jobs_init(struct spm_swap *s)
{
	pthread_mutex_init(&s->jobs.lock, NULL);
	s->jobs.all = calloc(SPM_JOBS, sizeof(*s->jobs.all));
	s->jobs.trailers = aligned_alloc(4096, SPM_JOBS * sizeof(struct spm_trailer));
	if (!s->jobs.all || !s->jobs.trailers)
		return -ENOMEM;
	memset(s->jobs.trailers, 0, SPM_JOBS * sizeof(struct spm_trailer));
	for (unsigned int i = 0; i < SPM_JOBS; i++) {
		s->jobs.all[i].trailer = (struct spm_trailer *)s->jobs.trailers + i;
		s->jobs.all[i].next = s->jobs.first;
		s->jobs.first = &s->jobs.all[i];
	}
	return 0;
}

void spm_jobs_destroy(struct spm_swap *s)
{
	free(s->jobs.all);
	free(s->jobs.trailers);
}

/* With the lock. */
static void give(struct spm_swap *s, struct spm_job *j, uint16_t slice)
{
	j->holder = slice;
	s->slice[slice].jobs++;
}

struct spm_job *spm_job_get(struct spm_swap *s, uint16_t slice, bool wait)
{
	struct spm_job_waiter me = { .slice = slice }, **p;
	struct spm_job *j;

	pthread_mutex_lock(&s->jobs.lock);
	j = s->jobs.first; /* while one is here nobody waits */
	if (j) {
		s->jobs.first = j->next;
		give(s, j, slice);
	} else if (wait) {
		pthread_cond_init(&me.wake, NULL);
		for (p = &s->jobs.waiting; *p; p = &(*p)->next)
			;
		*p = &me;
		while (!me.job)
			pthread_cond_wait(&me.wake, &s->jobs.lock);
		pthread_cond_destroy(&me.wake);
		j = me.job;
	}
	pthread_mutex_unlock(&s->jobs.lock);
	return j;
}

void spm_job_put(struct spm_swap *s, struct spm_job *j)
{
	struct spm_job_waiter **next = NULL, *w;

	pthread_mutex_lock(&s->jobs.lock);
	s->slice[j->holder].jobs--;
	for (struct spm_job_waiter **p = &s->jobs.waiting; *p; p = &(*p)->next)
		if (!next || s->slice[(*p)->slice].jobs < s->slice[(*next)->slice].jobs)
			next = p;
	if (next) {
		w = *next;
		*next = w->next;
		w->job = j;
		give(s, j, w->slice);
		pthread_cond_signal(&w->wake);
	} else {
		j->next = s->jobs.first;
		s->jobs.first = j;
	}
	pthread_mutex_unlock(&s->jobs.lock);
}

/* The pages of the job's bits, run by run. */
static unsigned int gather(struct spm_job *j)
{
	unsigned int n = 0;
	char *end = NULL;

	for (uint32_t p = 0; p < SPM_EXTENT_PAGES; p++) {
		char *at = j->map + (size_t)p * 4096;

		if (!(j->bits[p / 64] >> p % 64 & 1))
			continue;
		if (n && at == end)
			j->iov[n - 1].iov_len += 4096;
		else
			j->iov[n++] = (struct iovec){ .iov_base = at, .iov_len = 4096 };
		end = at + 4096;
	}
	return n;
}

void spm_job_submit(struct spm_swap *s, struct spm_ioq *q, struct spm_job *j, enum spm_io_op op)
{
	struct spm_io *io = &j->io;

	*io = (struct spm_io){ .op = op, .file = SPM_SLOT_FILE(j->slot), .iov = j->iov, .arg = j,
			       .offset = (uint64_t)SPM_SLOT_AT(j->slot) * SPM_SLOT_BLOCK };
	io->iovs = gather(j);
	if (!(j->how & SPM_HOW_SMALL))
		j->iov[io->iovs++] = (struct iovec){ .iov_base = j->trailer, .iov_len = sizeof(*j->trailer) };
	spm_ring_submit(s->ring, q, &io, 1);
}
