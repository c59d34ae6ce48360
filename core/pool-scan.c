/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process finds in the state file, and what was left half way in it: extents of moves, notes of
 * truncates. */
#include "core/pool-local.h"

#include <errno.h>

static void count(struct spm_pool *p, uint32_t d, int by)
{
	spm_pool_count(p, (uint16_t)(spm_pool_record_whose(p, d) >> 48), by);
}

/* Of a file. A move that was cut short has left two of them with the same content, of which one goes. */
static void add(struct spm_pool *p, uint32_t d)
{
	uint32_t other = spm_pool_index_find(p, spm_pool_record_whose(p, d), spm_pool_record_extent(p, d));
	bool bad = spm_pool_record_state(p, d) != POOL_OWNED;

	if (other != SPM_POOL_NONE && spm_pool_record_state(p, other) != POOL_OWNED) {
		count(p, other, -1);
		spm_pool_release(p, other);
		other = SPM_POOL_NONE;
	}
	if (other == SPM_POOL_NONE) {
		spm_pool_index_add(p, d);
		count(p, d, 1);
		p->bad += bad;
		if (!bad)
			spm_pool_set_add(&p->movable, d);
	} else if (spm_pool_record_state(p, d) == POOL_BAD) {
		spm_pool_set_state(p, d, POOL_RETIRED);
		p->retired++;
	} else {
		spm_pool_put(p, d, POOL_FREE);
	}
}

static void scan_one(struct spm_pool *p, uint32_t d)
{
	if (!spm_pool_is_sound(p, d)) {
		p->damaged++;
		return;
	}
	switch (spm_pool_record_state(p, d)) {
	case POOL_OWNED:
	case POOL_BAD:
	case POOL_LOST:
		add(p, d);
		break;
	case POOL_RETIRED:
		p->retired++;
		break;
	default:
		spm_pool_put(p, d, spm_pool_record_state(p, d));
	}
}

void spm_pool_scan(struct spm_pool *p)
{
	for (uint32_t d = 0; d < p->extents; d++)
		scan_one(p, d);
}

/* -- notes -- */

static uint64_t note_whose(const struct spm_pool *p, int i)
{
	return atomic_load_explicit(&p->header->notes[i].whose, memory_order_relaxed);
}

static void set_note(struct spm_pool *p, int i, uint64_t whose)
{
	spm_pool_barrier();
	atomic_store_explicit(&p->header->notes[i].whose, whose, memory_order_relaxed);
	spm_pool_barrier();
}

/* With the lock. -1: none is free. */
static int free_note(struct spm_pool *p)
{
	for (int i = 0; i < (int)POOL_NOTES; i++)
		if (!p->noted[i] && !note_whose(p, i))
			return i;
	return -1;
}

int spm_pool_trim_begin(struct spm_pool *p, const struct spm_pool_file *f, const struct spm_handle *h)
{
	int note;

	pthread_mutex_lock(&p->lock);
	while ((note = free_note(p)) < 0)
		pthread_cond_wait(&p->settled, &p->lock);
	p->noted[note] = true;
	p->header->notes[note].handle = *h;
	set_note(p, note, spm_pool_whose(f));
	pthread_mutex_unlock(&p->lock);
	spm_pool_fault(p, "pool:noted");
	return note;
}

void spm_pool_trim_end(struct spm_pool *p, int note)
{
	spm_pool_fault(p, "pool:trimmed");
	pthread_mutex_lock(&p->lock);
	set_note(p, note, 0);
	p->noted[note] = false;
	pthread_cond_broadcast(&p->settled);
	pthread_mutex_unlock(&p->lock);
}

static int finish_trim(struct spm_pool *p, const struct spm_pool_file *f, const struct spm_handle *h,
		       spm_pool_end *end, void *arg)
{
	spm_auto_pool struct spm_pool_held held;
	uint64_t size = 0;
	int rc;

	spm_pool_lock(p, f, SPM_POOL_EXCLUSIVE, &held);
	rc = end(arg, f, h, &size);
	if (rc)
		return rc;
	rc = spm_pool_punch(p, f, size, UINT64_MAX);
	/* its last extent is poisoned: nobody can read what should be zeros */
	return rc == -EIO ? 0 : rc;
}

int spm_pool_trims(struct spm_pool *p, spm_pool_end *end, void *arg)
{
	int rc, worst = 0;

	for (int i = 0; i < (int)POOL_NOTES; i++) {
		uint64_t whose = note_whose(p, i);
		struct spm_pool_file f = spm_pool_file_of(whose);

		if (!whose || p->noted[i])
			continue;
		rc = f.ino && f.slice < SPM_POOL_SLICES ? finish_trim(p, &f, &p->header->notes[i].handle, end, arg) : 0;
		if (rc)
			worst = worst ? worst : rc;
		else
			spm_pool_trim_end(p, i);
	}
	return worst;
}
