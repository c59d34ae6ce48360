/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device is to be emptied: whatever can go goes. What still comes back, for requests that cannot do without, leaves
 * again at once: the reclaimer's watermarks are at everything meanwhile, and nothing comes back for speed alone.
 */
#include "core/swap-evict.h"
#include "core/swap-room.h"

#include <errno.h>

int spm_drain_init(struct spm_swap *s)
{
	pthread_mutex_init(&s->drain.lock, NULL);
	return 0;
}

void spm_swap_drain(struct spm_swap *s, bool on)
{
	pthread_mutex_lock(&s->drain.lock);
	atomic_store(&s->drain.on, on);
	s->drain.cursor = 0;
	s->drain.error = 0;
	pthread_mutex_unlock(&s->drain.lock);
}

struct part {
	int64_t until;
	bool late;
};

static uint64_t may_leave(void *arg, uint16_t slice)
{
	struct part *p = arg;

	(void)slice;
	p->late = p->late || spm_room_clock() >= p->until;
	return p->late ? 0 : UINT64_MAX;
}

/* What the pass is told to have come to: the disk's fault first, then what the user can change. */
static int worse(int a, int b)
{
	static const int order[] = { -EIO, -ENOSPC, -EDQUOT };

	for (size_t i = 0; i < SPM_ARRAY_SIZE(order); i++)
		if (a == order[i] || b == order[i])
			return order[i];
	return 0; /* in use, fixed to the device, or gone: whoever asks what is left sees that */
}

/* With the lock. True: the pass is over. */
static bool pass_on(struct spm_swap *s, struct spm_evictor *ev, const struct part *p)
{
	while (!ev->full) {
		uint32_t file = spm_extmap_next_file(&s->map, s->drain.cursor + 1);
		int rc;

		if (!file)
			return true;
		if (spm_room_clock() >= p->until)
			return false;
		ev->holder = spm_slice_of(s, file);
		rc = spm_evict_file(ev, file, 0, UINT64_MAX, 0, UINT64_MAX, false);
		if (p->late)
			return false; /* it begins with this file again: what has left of it is passed over */
		s->drain.error = worse(s->drain.error, rc);
		s->drain.cursor = file;
	}
	return true;
}

/* There may be no room since one of the disks has failed: that is what is to be told. */
static bool any_retired(struct spm_swap *s)
{
	for (unsigned int i = 0; i < s->n_files; i++)
		if (spm_slots_is_retired(&s->slots, i))
			return true;
	return false;
}

int spm_swap_drain_some(struct spm_swap *s, int64_t ns)
{
	struct part p = { .until = spm_room_clock() + ns };
	struct spm_evictor *ev = malloc(sizeof(*ev));
	int rc = -EAGAIN;

	if (!ev)
		return -ENOMEM;
	spm_evictor_init(ev, s);
	ev->keep = s->reserve;
	ev->may_leave = may_leave;
	ev->arg = &p;
	pthread_mutex_lock(&s->drain.lock);
	if (pass_on(s, ev, &p)) {
		spm_evictor_drain(ev);
		rc = worse(s->drain.error, ev->full ? -ENOSPC : 0);
		s->drain.cursor = 0;
		s->drain.error = 0;
	}
	spm_evictor_drain(ev);
	if (rc == -EAGAIN)
		s->drain.error = worse(s->drain.error, ev->error);
	else
		rc = worse(rc, ev->error);
	if (rc == -ENOSPC && any_retired(s))
		rc = -EIO;
	pthread_mutex_unlock(&s->drain.lock);
	spm_evictor_destroy(ev);
	free(ev);
	return rc;
}

uint32_t spm_swap_next(struct spm_swap *s, uint32_t after, struct spm_swap_whose *out)
{
	for (uint32_t file = after; (file = spm_extmap_next_file(&s->map, file + 1));) {
		struct spm_bucket *b = spm_bucket_lock(s, file);
		struct spm_whose who;
		bool known = spm_whose(s, file, &who);

		spm_bucket_unlock(b);
		if (!known)
			continue;
		*out = (struct spm_swap_whose){ .slice = who.slice, .ino = who.ino, .handle = who.handle };
		return file;
	}
	return 0;
}
