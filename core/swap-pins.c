/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who keeps whom out. Everything here is about one file at a time, under the lock of its bucket.
 *
 *	                 waits for, or is refused by
 *	READ, WRITE      a trim; then, extent by extent: whoever moves it. If it has to be brought back (WRITE always, READ
 *	                 only where that costs no wait): its other pins
 *	FILE, DROP       a trim, a visit, every move; a DROP every other of both, which might bring back what it drops
 *	TRIM             everybody
 *	visit            FILE, DROP, TRIM (refused, also if they only wait: they come first)
 *	move out         pins of the extent (refused)
 *	store            as a WRITE, and the extent's other pins: it is a move that ends where it began
 *	move in          pins of the extent; FILE and DROP of others (READ goes through instead of waiting for these)
 *
 * No deadlock: whoever waits for an extent holds pins of lower ones only, and of a lower file. A WRITE waits for a FILE, whose
 * holder waits for swapped extents only, and those a WRITE does not pin; a READ, which does, waits for no FILE, nor for a
 * WRITE that does. A trim that waits for a WRITE is not waited for by it. Moves end by themselves; visits end when unwanted.
 * Whoever changes what others wait for, be it only that they wait, wakes them.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <string.h>

/*
 * Small reads of one swapped extent in about a second, of so many pages one: then it comes back. While others leave all the time,
 * one of these has to leave for it, and be read from its slot in its stead.
 */
#define PROMOTE_PAGES 32u
#define PROMOTE_SHORT 8u
#define PROMOTE_LEAST 2u
#define SHORT_TICKS   16u /* of the clock of last uses, since something has left */
/* A reader of so many bytes in a row goes on; less is what the kernel reads around a page of a mapping (4 MiB). */
#define SEQ_BYTES (UINT64_C(8) << 20)
#define SEQ_STORE (UINT64_C(64) << 10) /* of one who writes page after page */

static struct spm_bucket *bucket_of(struct spm_swap *s, uint32_t file)
{
	return &s->bucket[file * 2654435761u >> 24];
}

struct spm_bucket *spm_bucket_lock(struct spm_swap *s, uint32_t file)
{
	struct spm_bucket *b = bucket_of(s, file);

	pthread_mutex_lock(&b->lock);
	return b;
}

int spm_pins_init(struct spm_swap *s)
{
	for (unsigned int i = 0; i < SPM_BUCKETS; i++) {
		pthread_mutex_init(&s->bucket[i].lock, NULL);
		pthread_cond_init(&s->bucket[i].wake, NULL);
	}
	return 0;
}

static struct spm_active *enter(struct spm_bucket *b, uint32_t file)
{
	struct spm_active *a = spm_active_look(b, file);

	if (!a) {
		a = calloc(1, sizeof(*a));
		if (!a)
			return NULL;
		a->file = file;
		a->next = b->first;
		b->first = a;
	}
	a->users++;
	return a;
}

static void leave(struct spm_bucket *b, struct spm_active *a)
{
	struct spm_active **p = &b->first;

	pthread_cond_broadcast(&b->wake);
	if (--a->users)
		return;
	while (*p != a)
		p = &(*p)->next;
	*p = a->next;
	free(a);
}

/* With the lock: whoever leads must not sleep with the lead, since the one who is waited for may need an answer of ours. */
static void wait_on(const struct spm_swap *s, struct spm_bucket *b)
{
	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	pthread_cond_wait(&b->wake, &b->lock);
}

static struct spm_hot *hot_of(const struct spm_active *a, uint64_t extent)
{
	struct spm_hot *h = a->hot;

	while (h && h->extent != extent)
		h = h->next;
	return h;
}

static struct spm_hot *hot_get(struct spm_active *a, uint64_t extent)
{
	struct spm_hot *h = hot_of(a, extent);

	if (h)
		return h;
	h = calloc(1, sizeof(*h));
	if (h) {
		h->extent = extent;
		h->next = a->hot;
		a->hot = h;
	}
	return h;
}

static void hot_put(struct spm_active *a, struct spm_hot *h)
{
	struct spm_hot **p = &a->hot;

	if (h->pins || h->waiting || h->moving)
		return;
	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
	free(h);
}

bool spm_whose(struct spm_swap *s, uint32_t file, struct spm_whose *who)
{
	const struct spm_extfile *f = spm_extmap_file(&s->map, file);

	*who = (struct spm_whose){ .file = file, .slice = f->slice % SPM_SWAP_SLICES, .ino = f->ino, .handle = f->handle };
	return who->ino;
}

static bool is_swapped(struct spm_swap *s, uint32_t file, uint64_t extent)
{
	const struct spm_extent *x = spm_extmap_get(&s->map, file, extent, false);

	return x && spm_extent_how(x);
}

/* -- moves -- */

static void move_start(struct spm_active *a, struct spm_hot *h)
{
	h->moving = true;
	a->moving++;
	a->users++;
}

void spm_move_end(struct spm_swap *s, uint32_t file, uint64_t extent)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_active *a = spm_active_look(b, file);
	struct spm_hot *h = hot_of(a, extent);

	h->moving = false;
	a->moving--;
	hot_put(a, h);
	leave(b, a);
	spm_bucket_unlock(b);
}

int spm_move_try(struct spm_swap *s, uint32_t file, uint64_t extent)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_active *a = spm_active_look(b, file);
	struct spm_hot *h = hot_of(a, extent);
	int rc = h ? -EBUSY : 0;

	if (!rc) {
		h = hot_get(a, extent);
		rc = h ? 0 : -ENOMEM;
	}
	if (!rc)
		move_start(a, h);
	spm_bucket_unlock(b);
	return rc;
}

bool spm_move_unwanted(struct spm_swap *s, uint32_t file, uint64_t extent)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_active *a = spm_active_look(b, file);
	struct spm_hot *h = hot_of(a, extent);
	bool yes = h->waiting || a->want || a->trim_waits;

	spm_bucket_unlock(b);
	return yes;
}

/* Whether requests may bring extents back, as far as those go that want the whole file. */
static bool may_claim(const struct spm_active *a)
{
	return !(a->whole || (a->want && !a->trim_waits));
}

/* Whether a pin has to wait for the extent: those who want to take it come first, once they only wait for pins to go. */
static bool is_taken(const struct spm_active *a, const struct spm_hot *h)
{
	return h->moving || h->holders || (h->claims && may_claim(a));
}

/*
 * With the lock: waits until the extent is nobody's, and takes it. @holder: has FILE, DROP or TRIM. -EALREADY: it is here;
 * -EAGAIN: that would take a wait which @patient says not to make.
 */
static int claim(struct spm_swap *s, struct spm_bucket *b, struct spm_active *a, uint64_t extent, bool holder, bool patient)
{
	struct spm_hot *h = hot_get(a, extent);
	int rc = 0;

	if (!h)
		return -ENOMEM;
	h->waiting++;
	*(holder ? &h->holders : &h->claims) += 1;
	while (!rc) {
		if (!is_swapped(s, a->file, extent) && !h->moving)
			rc = -EALREADY;
		else if (!h->moving && !h->pins && (holder || may_claim(a)))
			break;
		else if (!patient)
			rc = -EAGAIN;
		else
			wait_on(s, b);
	}
	*(holder ? &h->holders : &h->claims) -= 1;
	h->waiting--;
	if (!rc)
		move_start(a, h);
	else
		hot_put(a, h);
	if (rc)
		pthread_cond_broadcast(&b->wake);
	return rc;
}

int spm_move_claim(struct spm_swap *s, uint32_t file, uint64_t extent, bool patient)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	int rc = claim(s, b, spm_active_look(b, file), extent, true, patient);

	spm_bucket_unlock(b);
	return rc;
}

int spm_move_claim_now(struct spm_swap *s, uint32_t file, uint64_t extent)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_active *a = spm_extmap_file(&s->map, file)->ino ? enter(b, file) : NULL;
	int rc = -EBUSY;

	if (a && !a->trimming && !a->trim_waits && !a->visited)
		rc = claim(s, b, a, extent, false, false);
	if (a)
		leave(b, a);
	spm_bucket_unlock(b);
	return rc;
}

/* -- visits -- */

int spm_visit_begin(struct spm_swap *s, uint32_t file, bool wait, struct spm_whose *who)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_active *a = NULL;
	int rc = -EAGAIN;

	while (rc == -EAGAIN) {
		a = spm_active_look(b, file);
		if (!spm_whose(s, file, who))
			rc = -ESTALE;
		else if (spm_flag_is(spm_extmap_file(&s->map, file), SPM_EXTFILE_DIRECT))
			rc = -EBUSY;
		else if (!a || !(a->whole || a->want || a->trimming || a->trim_waits || a->visited))
			rc = 0;
		else if (wait)
			wait_on(s, b);
		else
			rc = -EBUSY;
	}
	if (!rc) {
		a = enter(b, file);
		rc = a ? 0 : -ENOMEM;
	}
	if (!rc)
		a->visited = true;
	spm_bucket_unlock(b);
	return rc;
}

bool spm_visit_unwanted(struct spm_swap *s, uint32_t file)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	const struct spm_active *a = spm_active_look(b, file);
	bool yes = a->want || a->trim_waits;

	spm_bucket_unlock(b);
	return yes;
}

void spm_visit_end(struct spm_swap *s, uint32_t file)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_active *a = spm_active_look(b, file);

	a->visited = false;
	leave(b, a);
	spm_bucket_unlock(b);
}

/* -- pins -- */

/* With the lock: into the file as a whole. @nested: the thread has a pin of it already. */
static void admit(const struct spm_swap *s, struct spm_bucket *b, struct spm_active *a, enum spm_pin_how how, bool nested)
{
	switch (how) {
	case SPM_PIN_READ:
	case SPM_PIN_WRITE:
		while (!nested && (a->trimming || a->trim_waits))
			wait_on(s, b);
		a->ranged++;
		break;
	case SPM_PIN_FILE:
	case SPM_PIN_DROP:
		a->want++;
		a->drop_waits += how == SPM_PIN_DROP;
		pthread_cond_broadcast(&b->wake);
		while (a->trimming || a->trim_waits || a->visited || a->moving ||
		       (how == SPM_PIN_DROP ? a->whole : a->dropping || a->drop_waits))
			wait_on(s, b);
		a->want--;
		a->drop_waits -= how == SPM_PIN_DROP;
		a->dropping = how == SPM_PIN_DROP;
		a->whole++;
		pthread_cond_broadcast(&b->wake);
		break;
	case SPM_PIN_TRIM:
		a->trim_waits++;
		pthread_cond_broadcast(&b->wake);
		while (a->trimming || a->ranged || a->whole || a->visited || a->moving)
			wait_on(s, b);
		a->trim_waits--;
		a->trimming = true;
		break;
	}
}

static void dismiss(struct spm_active *a, enum spm_pin_how how)
{
	if (how == SPM_PIN_READ || how == SPM_PIN_WRITE)
		a->ranged--;
	else if (how == SPM_PIN_TRIM)
		a->trimming = false;
	else
		a->whole--;
	if (how == SPM_PIN_DROP)
		a->dropping = false;
}

/* With the lock, given up meanwhile: brings one extent back. */
static int bring(struct spm_swap *s, struct spm_bucket *b, struct spm_active *a, uint64_t extent, bool holder, bool patient)
{
	struct spm_whose who;
	int rc = claim(s, b, a, extent, holder, patient);

	if (rc)
		return rc == -EALREADY ? 0 : rc;
	(void)spm_whose(s, a->file, &who);
	pthread_mutex_unlock(&b->lock);
	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	rc = spm_in_one(s, &who, extent);
	spm_move_end(s, who.file, extent);
	pthread_mutex_lock(&b->lock);
	return rc;
}

/* Whether [from, to) is read after what lies before it, by one who has done so for a while. */
static bool is_sequential(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to, uint64_t least)
{
	unsigned int h = file * 2654435761u >> 24;
	uint64_t next = __atomic_load_n(&s->seq_next[h], __ATOMIC_RELAXED);
	/* or asked again, of the request's next extent */
	bool on = __atomic_load_n(&s->seq_file[h], __ATOMIC_RELAXED) == file && (next == from || next == to) && from;

	__atomic_store_n(&s->seq_file[h], file, __ATOMIC_RELAXED);
	__atomic_store_n(&s->seq_next[h], to, __ATOMIC_RELAXED);
	if (!on)
		__atomic_store_n(&s->seq_first[h], from, __ATOMIC_RELAXED);
	return on && to - __atomic_load_n(&s->seq_first[h], __ATOMIC_RELAXED) > least;
}

/* Whether a read of [from, to), or a store, should bring a swapped extent back; else it is served from the slot. @seq: bytes in a row. */
static bool worth_it(struct spm_swap *s, uint32_t file, uint64_t extent, uint64_t from, uint64_t to, uint64_t seq)
{
	uint8_t *touched = &s->touched[(uint16_t)((file * 2654435761u >> 13) + extent * 40503u)];
	uint64_t start = extent << s->shift, end = start + s->extent_bytes;
	uint64_t part = (to < end ? to : end) - (from > start ? from : start);
	bool sequential = is_sequential(s, file, from, to, seq);
	uint16_t now = spm_swap_clock(s);
	uint32_t second = now / 4u;
	bool is_short = spm_extmap_age(now, __atomic_load_n(&s->left_at, __ATOMIC_RELAXED)) < SHORT_TICKS;
	unsigned int need = PROMOTE_LEAST + s->extent_bytes / 4096 / (is_short ? PROMOTE_SHORT : PROMOTE_PAGES);
	/* all of it, in large pieces, is not yet a reason; twice is, where there is room */
	unsigned int n, weight = 1 + (unsigned int)(part / 4096 / PROMOTE_PAGES);

	if (spm_is_draining(s))
		return false;
	if (__atomic_exchange_n(&s->touched_at, second, __ATOMIC_RELAXED) != second)
		for (size_t i = 0; i < sizeof(s->touched); i++)
			__atomic_store_n(&s->touched[i], __atomic_load_n(&s->touched[i], __ATOMIC_RELAXED) / 2, __ATOMIC_RELAXED);
	n = __atomic_load_n(touched, __ATOMIC_RELAXED);
	__atomic_store_n(touched, (uint8_t)(n + weight < UINT8_MAX ? n + weight : UINT8_MAX), __ATOMIC_RELAXED);
	if (sequential && seq >= SEQ_BYTES) {
		uint64_t next = (extent + 1) << s->shift;

		spm_loader_ahead(s, file, next, next + 4 * (uint64_t)s->extent_bytes);
	}
	return sequential || n >= need;
}

/*
 * Extents far out in a file have no record until one near them has left: a reader of holes could have the map fill the host's
 * memory. Until then they look as old as the file.
 */
static void note_use(struct spm_swap *s, uint32_t file, uint64_t extent, uint16_t now)
{
	struct spm_extent *x = spm_extmap_get(&s->map, file, extent, extent < SPM_EXTMAP_NEAR);

	if (x)
		spm_extent_touch(x, now);
	else
		spm_swap_used(s, file);
}

/* With the lock: pins extent by extent. What it has pinned by the time it fails is *@done. */
static int pin_extents(struct spm_swap *s, struct spm_bucket *b, struct spm_active *a, struct spm_pin *pin, uint64_t from,
		       uint64_t to, uint64_t *done)
{
	uint16_t now = spm_swap_clock(s);
	int rc = 0;

	for (*done = pin->first; *done <= pin->last && !rc;) {
		struct spm_hot *h = hot_get(a, *done);
		bool here = h && !h->moving && !is_swapped(s, a->file, *done), read = pin->how == SPM_PIN_READ;

		if (!h)
			return -ENOMEM;
		if (is_taken(a, h)) {
			h->waiting++; /* keeps it, and tells who moves it out */
			wait_on(s, b);
			h->waiting--;
			hot_put(a, h);
			continue;
		}
		if (!here && (!read || worth_it(s, a->file, *done, from, to, SEQ_BYTES))) {
			hot_put(a, h);
			rc = bring(s, b, a, *done, false, !read);
			if (!rc)
				continue;
			/* a read has the slot itself, and what is wrong with that it finds out there */
			if (!read || rc == -ENOMEM)
				return rc;
			rc = 0;
			h = hot_get(a, *done);
			if (!h)
				return -ENOMEM;
			if (is_taken(a, h)) {
				hot_put(a, h);
				continue;
			}
			here = !is_swapped(s, a->file, *done);
		}
		pin->through |= !here;
		h->pins++;
		note_use(s, a->file, *done, now);
		(*done)++;
	}
	return rc;
}

int spm_store_begin(struct spm_swap *s, uint32_t file, uint64_t extent, uint64_t off, struct spm_whose *who)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_active *a = enter(b, file);
	int rc = -EALREADY;

	if (!a) {
		spm_bucket_unlock(b);
		return -ENOMEM;
	}
	admit(s, b, a, SPM_PIN_WRITE, false);
	if (is_swapped(s, file, extent) && !worth_it(s, file, extent, off, off + 4096, SEQ_STORE))
		rc = claim(s, b, a, extent, false, true);
	if (rc) {
		dismiss(a, SPM_PIN_WRITE);
		leave(b, a);
	} else {
		spm_times_write(s, a, 1);
		(void)spm_whose(s, file, who);
	}
	spm_bucket_unlock(b);
	if (!rc && s->ops.slow)
		s->ops.slow(s->ops.ctx);
	return rc;
}

void spm_store_end(struct spm_swap *s, uint32_t file, uint64_t extent)
{
	struct spm_bucket *b;
	struct spm_active *a;

	spm_move_end(s, file, extent);
	b = spm_bucket_lock(s, file);
	a = spm_active_look(b, file);
	spm_times_write(s, a, -1);
	dismiss(a, SPM_PIN_WRITE);
	leave(b, a);
	spm_bucket_unlock(b);
}

static void unpin_extents(struct spm_active *a, uint64_t first, uint64_t end)
{
	for (uint64_t e = first; e < end; e++) {
		struct spm_hot *h = hot_of(a, e);

		h->pins--;
		hot_put(a, h);
	}
}

/* Whether the slot of an extent holds anything of it from byte @at on. */
static bool holds_beyond(struct spm_swap *s, uint32_t file, uint64_t extent, uint32_t at)
{
	const struct spm_extent *x = spm_extmap_get(&s->map, file, extent, false);

	uint16_t how = x ? spm_extent_how(x) : 0;

	return how && (!at || how & (SPM_HOW_SPARSE | SPM_HOW_DAMAGED) || (how & SPM_HOW_PAGES) * 4096u > at);
}

/*
 * With the lock, given up meanwhile: the extents that are partly in [from, to) are here. Those for which there is no memory
 * lose that part in their slots, and so do those that cannot be read, if it is only that part.
 */
static int settle_edges(struct spm_swap *s, struct spm_bucket *b, struct spm_active *a, uint64_t from, uint64_t to)
{
	unsigned int left = 0, n;
	struct spm_cut cut[2];
	struct spm_whose who;
	int rc = 0;

	n = spm_cut_edges(s, from, to, cut);
	(void)spm_whose(s, a->file, &who);
	for (unsigned int i = 0; i < n && !rc; i++) {
		if (!holds_beyond(s, a->file, cut[i].extent, cut[i].from))
			continue;
		rc = claim(s, b, a, cut[i].extent, true, true);
		if (rc) {
			rc = rc == -EALREADY ? 0 : rc;
			continue;
		}
		pthread_mutex_unlock(&b->lock);
		if (s->ops.slow)
			s->ops.slow(s->ops.ctx);
		rc = spm_in_one(s, &who, cut[i].extent);
		if (rc == -ENOSPC || rc == -EIO) {
			cut[left++] = cut[i];
			rc = 0;
		} else {
			spm_move_end(s, who.file, cut[i].extent);
		}
		pthread_mutex_lock(&b->lock);
	}
	pthread_mutex_unlock(&b->lock);
	if (left && !rc)
		rc = spm_cut(s, &who, cut, left);
	for (unsigned int i = 0; i < left; i++)
		spm_move_end(s, who.file, cut[i].extent);
	pthread_mutex_lock(&b->lock);
	return rc;
}

static int try_pin(struct spm_swap *s, uint64_t from, uint64_t to, bool nested, struct spm_pin *pin)
{
	struct spm_bucket *b = spm_bucket_lock(s, pin->file);
	struct spm_active *a = enter(b, pin->file);
	uint64_t done = pin->first;
	int rc = 0;

	if (!a) {
		spm_bucket_unlock(b);
		return -ENOMEM;
	}
	pin->through = false;
	admit(s, b, a, pin->how, nested);
	if (pin->how == SPM_PIN_READ || pin->how == SPM_PIN_WRITE)
		rc = pin_extents(s, b, a, pin, from, to, &done);
	else if (pin->how != SPM_PIN_FILE)
		rc = settle_edges(s, b, a, from, to);
	if (!rc && pin->how == SPM_PIN_TRIM)
		spm_flag_set(spm_extmap_file(&s->map, pin->file), SPM_EXTFILE_TRIM);
	if (!rc && pin->how != SPM_PIN_READ && pin->how != SPM_PIN_FILE)
		spm_times_write(s, a, 1);
	if (rc) {
		unpin_extents(a, pin->first, done);
		dismiss(a, pin->how);
		leave(b, a);
	}
	spm_bucket_unlock(b);
	return rc;
}

static void describe(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to, enum spm_pin_how how, struct spm_pin *pin)
{
	uint64_t first = from >> s->shift, end = to ? ((to - 1) >> s->shift) + 1 : 0;

	/* of what is dropped, whole extents only */
	if (how == SPM_PIN_DROP || how == SPM_PIN_TRIM) {
		first = (from >> s->shift) + !!(from & (s->extent_bytes - 1));
		end = to == UINT64_MAX ? UINT64_MAX : to >> s->shift;
	}
	*pin = (struct spm_pin){ .swap = s, .file = file, .how = how, .first = first, .last = end - 1 };
	if (end <= first) {
		pin->first = 1;
		pin->last = 0;
	}
}

int spm_swap_pin(struct spm_swap *s, uint32_t file, uint64_t from, uint64_t to, enum spm_pin_how how, struct spm_pin *pin)
{
	unsigned int tries = 0;
	int rc;

	*pin = SPM_PIN_NONE;
	if (!file)
		return 0;
	describe(s, file, from, to, how, pin);
	while ((rc = try_pin(s, from, to, false, pin)) == -ENOSPC) {
		rc = spm_room_wait(s, spm_slice_of(s, file), SPM_ROOM_BACK, s->extent_bytes, &tries);
		if (rc)
			break;
	}
	if (rc)
		pin->file = 0;
	return rc;
}

static int try_two(struct spm_swap *s, const uint32_t file[2], const uint64_t from[2], const uint64_t to[2], struct spm_pin pin[2],
		   unsigned int *failed)
{
	unsigned int low = file[1] < file[0] || (file[1] == file[0] && from[1] < from[0]);
	int rc = 0;

	pin[0] = pin[1] = SPM_PIN_NONE;
	for (unsigned int i = 0; i < 2 && !rc; i++) {
		unsigned int k = i ? !low : low;

		if (!file[k])
			continue;
		describe(s, file[k], from[k], to[k], SPM_PIN_WRITE, &pin[k]);
		rc = try_pin(s, from[k], to[k], i && file[0] == file[1], &pin[k]);
		if (rc) {
			pin[k].file = 0;
			*failed = k;
		}
	}
	if (rc) {
		spm_swap_unpin(&pin[0]);
		spm_swap_unpin(&pin[1]);
	}
	return rc;
}

int spm_swap_pin_two(struct spm_swap *s, const uint32_t file[2], const uint64_t from[2], const uint64_t to[2],
		     struct spm_pin pin[2])
{
	unsigned int tries = 0, failed = 0;
	int rc;

	while ((rc = try_two(s, file, from, to, pin, &failed)) == -ENOSPC) {
		rc = spm_room_wait(s, spm_slice_of(s, file[failed]), SPM_ROOM_BACK, 2 * (uint64_t)s->extent_bytes, &tries);
		if (rc)
			return rc;
	}
	return rc;
}

void spm_swap_unpin(struct spm_pin *pin)
{
	struct spm_swap *s = pin->swap;
	struct spm_bucket *b;
	struct spm_active *a;

	if (!pin->file)
		return;
	b = spm_bucket_lock(s, pin->file);
	a = spm_active_look(b, pin->file);
	if (pin->how == SPM_PIN_READ || pin->how == SPM_PIN_WRITE)
		unpin_extents(a, pin->first, pin->last + 1);
	if (pin->how == SPM_PIN_TRIM)
		spm_flag_clear(spm_extmap_file(&s->map, pin->file), SPM_EXTFILE_TRIM);
	if (pin->how != SPM_PIN_READ && pin->how != SPM_PIN_FILE)
		spm_times_write(s, a, -1);
	dismiss(a, pin->how);
	leave(b, a);
	spm_bucket_unlock(b);
	pin->file = 0;
}

void spm_swap_dropped(struct spm_pin *pin)
{
	struct spm_swap *s = pin->swap;
	struct spm_extent *x;
	struct spm_bucket *b;
	uint64_t at = pin->first;

	if (!pin->file || pin->last < pin->first)
		return;
	b = spm_bucket_lock(s, pin->file);
	while ((at = spm_extmap_next(&s->map, pin->file, at, &x)) <= pin->last && at != UINT64_MAX) {
		const struct spm_hot *h = hot_of(spm_active_look(b, pin->file), at);
		uint32_t slot = x->slot, blocks = spm_extent_blocks(x);

		if (h && (h->pins || h->moving)) { /* READs that began before; their data is as old */
			wait_on(s, b);
			continue;
		}
		spm_record_clear(s, pin->file, x);
		if (slot)
			spm_slots_free(&s->slots, slot, blocks);
		at++;
	}
	if (pin->how == SPM_PIN_TRIM) /* nobody else has a record of it at hand */
		spm_extmap_tidy(&s->map, pin->file);
	spm_bucket_unlock(b);
}

void spm_swap_gone(struct spm_swap *s, uint16_t slice, uint64_t ino)
{
	struct spm_pin pin = { .swap = s, .file = spm_swap_find(s, slice, ino), .how = SPM_PIN_TRIM, .last = UINT64_MAX - 1 };
	struct spm_whose who;
	struct spm_bucket *b;
	struct spm_active *a;
	bool same;

	if (!pin.file)
		return;
	b = spm_bucket_lock(s, pin.file);
	a = enter(b, pin.file);
	if (!a) {
		/* no memory: its slots stay taken until the mount is made again */
		spm_bucket_unlock(b);
		return;
	}
	admit(s, b, a, SPM_PIN_TRIM, false);
	/* another one may have done it meanwhile, and the number be another file's */
	same = spm_whose(s, pin.file, &who) && who.slice == slice && who.ino == ino;
	spm_bucket_unlock(b);
	if (same)
		spm_swap_dropped(&pin);
	b = spm_bucket_lock(s, pin.file);
	dismiss(a, SPM_PIN_TRIM);
	if (same)
		spm_extmap_forget(&s->map, pin.file);
	leave(b, a);
	spm_bucket_unlock(b);
}
