/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trailers that were read lately, so that the next page of their slots is one read, and not two. Of fixed size, found by slot.
 *
 * Nothing has to be told when a slot gets another owner: what is kept counts, like what is on the disk, only if it is the trailer
 * that the record speaks of.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define ENTRIES 1024u /* 4 MiB, if so many slots are read */

struct spm_trailers {
	pthread_mutex_t lock; /* a leaf */
	uint32_t slot[ENTRIES], check[ENTRIES]; /* slot 0: none */
	struct spm_trailer *kept;
};

static size_t place_of(uint32_t slot)
{
	return slot * 2654435761u >> 22;
}
_Static_assert(ENTRIES == 1u << (32 - 22), "place_of() has as many values");

int spm_trailers_init(struct spm_swap *s)
{
	struct spm_trailers *c = calloc(1, sizeof(*c));
	void *p;

	if (!c)
		return -ENOMEM;
	/* memory only for what is kept */
	p = mmap(NULL, ENTRIES * sizeof(*c->kept), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		free(c);
		return -ENOMEM;
	}
	pthread_mutex_init(&c->lock, NULL);
	c->kept = p;
	s->trailers = c;
	return 0;
}

void spm_trailers_destroy(struct spm_swap *s)
{
	if (s->trailers)
		munmap(s->trailers->kept, ENTRIES * sizeof(*s->trailers->kept));
	free(s->trailers);
	s->trailers = NULL;
}

bool spm_trailer_recall(struct spm_swap *s, const struct spm_job *j, const struct spm_whose *who)
{
	struct spm_trailers *c = s->trailers;
	size_t i = place_of(j->slot);
	bool found;

	pthread_mutex_lock(&c->lock);
	found = c->slot[i] == j->slot && c->check[i] == j->x->check;
	if (found)
		memcpy(j->trailer, &c->kept[i], sizeof(*j->trailer));
	pthread_mutex_unlock(&c->lock);
	return found && spm_trailer_ok(j->trailer, j->x->check, who->slice, who->ino, j->extent, j->pages);
}

void spm_trailer_keep(struct spm_swap *s, const struct spm_job *j)
{
	struct spm_trailers *c = s->trailers;
	size_t i = place_of(j->slot);

	pthread_mutex_lock(&c->lock);
	memcpy(&c->kept[i], j->trailer, sizeof(*j->trailer));
	c->slot[i] = j->slot;
	c->check[i] = j->x->check;
	pthread_mutex_unlock(&c->lock);
}
