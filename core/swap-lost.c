/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The extent map is damaged, and of a head or a leaf nobody knows whose it was. What it said is that some extents are in slots; and
 * these have no page, or if they were moving, pages that do not count. So whatever has neither record nor page may have been among
 * them, and of a file that was moving whatever has no record: it is given up, and reads as EIO, until it is punched, or cut off.
 * That takes holes along, but never shows zeros where there was something.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <sys/stat.h>

struct look {
	struct spm_swap *s;
	struct spm_whose who;
	int fd;
	bool moving;
	bool again; /* who died at it has given up some of a leaf */
	uint64_t given_up; /* extents */
	uint64_t first;
};

/* Those of extents [from, to) that have no record. */
static int give_up_range(struct look *l, uint64_t from, uint64_t to)
{
	struct spm_swap *s = l->s;

	while (from < to) {
		/* the first one that has a page, or memory */
		uint64_t here = l->moving ? to : spm_out_next(s, l->who.file, l->fd, from, to);

		for (; from < to && from < here; from++) {
			struct spm_extent *x = spm_extmap_get(&s->map, l->who.file, from, true);

			if (!x)
				return -ENOMEM;
			if (spm_extent_how(x))
				continue;
			spm_extent_damage(x);
			if (!l->given_up++)
				l->first = from;
		}
		from++;
	}
	return 0;
}

/* Whether the leaf with extents [first, end) may have been made here, by who died at it: something is given up, or nothing is said. */
static bool is_ours(const struct look *l, uint64_t first, uint64_t end)
{
	struct spm_extent *x;
	bool says = false;

	if (!l->again)
		return false;
	for (; (first = spm_extmap_next(&l->s->map, l->who.file, first, &x)) < end; first++) {
		if (spm_extent_how(x) & SPM_HOW_DAMAGED)
			return true;
		says = true;
	}
	return !says;
}

/* What of the file is covered by no leaf; with @all also what is recorded in the head. */
static int give_up(struct spm_swap *s, uint32_t file, bool all)
{
	struct spm_extfile *f = spm_extmap_file(&s->map, file);
	struct look l = { .s = s, .moving = all ? s->map.lost_moving : spm_flag_is(f, SPM_EXTFILE_MOVING),
			  .again = spm_flag_is(f, SPM_EXTFILE_UNSURE) };
	uint64_t first, next, end;
	struct stat st;
	char why[128];
	int rc = 0;

	if (!spm_whose(s, file, &l.who))
		return 0;
	l.fd = s->ops.open(s->ops.ctx, l.who.slice, &l.who.handle);
	if (l.fd < 0)
		return l.fd == -ESTALE ? 0 : l.fd; /* nobody can read it */
	if (fstat(l.fd, &st))
		rc = -errno;
	spm_flag_set(f, SPM_EXTFILE_UNSURE);
	spm_extmap_barrier();
	end = rc ? 0 : ((uint64_t)st.st_size + s->extent_bytes - 1) >> s->shift;
	for (uint64_t e = 0; e < end && !rc; e = next) {
		bool known = spm_extmap_leaf_around(&s->map, file, e, &first, &next);

		if (!known || (all && !first) || is_ours(&l, first, next))
			rc = give_up_range(&l, e, next < end ? next : end);
	}
	spm_cleanup_close(&l.fd);
	spm_extmap_barrier();
	if (!rc)
		spm_flag_clear(f, SPM_EXTFILE_UNSURE);
	if (l.given_up) {
		snprintf(why, sizeof(why), "the extent map is damaged, and what is here may not be all (%llu extents)",
			 (unsigned long long)l.given_up);
		if (s->ops.damaged)
			s->ops.damaged(s->ops.ctx, l.who.slice, l.who.ino, &l.who.handle, l.first << s->shift, why);
	}
	return rc;
}

int spm_lost_settle(struct spm_swap *s)
{
	int rc = 0;

	for (uint32_t file = 0; !rc && (file = spm_extmap_next_file(&s->map, file + 1));) {
		bool unsure = spm_flag_is(spm_extmap_file(&s->map, file), SPM_EXTFILE_UNSURE);

		if (s->map.lost_leaves || unsure)
			rc = give_up(s, file, unsure && s->map.lost_heads);
	}
	/* only now: who dies before does it once more */
	if (!rc)
		spm_extmap_settled(&s->map);
	return rc;
}

uint32_t spm_lost_find(struct spm_swap *s, uint16_t slice, uint64_t ino)
{
	uint32_t file;

	/* not before all of it is given up */
	pthread_mutex_lock(&s->lost_lock);
	file = spm_extmap_find(&s->map, slice, ino);
	pthread_mutex_unlock(&s->lost_lock);
	return file;
}

uint32_t spm_lost_head(struct spm_swap *s, uint16_t slice, uint64_t ino, const struct spm_handle *h)
{
	uint32_t file;

	if (s->ops.slow)
		s->ops.slow(s->ops.ctx);
	pthread_mutex_lock(&s->lost_lock);
	file = spm_extmap_find(&s->map, slice, ino);
	if (!file)
		file = spm_extmap_intern(&s->map, slice, ino, h, SPM_EXTFILE_DIRECT | SPM_EXTFILE_UNSURE);
	else
		h = NULL; /* another thread has done it */
	if (file && h && give_up(s, file, true)) {
		spm_extmap_forget(&s->map, file);
		file = 0;
	}
	pthread_mutex_unlock(&s->lost_lock);
	return file;
}
