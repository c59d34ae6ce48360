/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The extent map is damaged, and of a head or a leaf nobody knows whose it was. What it said is that some extents are in slots; and
 * these have no page. So whatever has neither record nor page may have been among them: it is given up, and reads as EIO, until
 * it is overwritten as a whole, punched, or cut off. That takes holes along, but never shows zeros where there was something.
 */
#include "core/swap-local.h"

#include <errno.h>
#include <sys/stat.h>

struct look {
	struct spm_swap *s;
	struct spm_whose who;
	int fd;
	uint64_t given_up; /* extents */
};

/* Extents [from, to), none of which has a record. */
static int give_up_range(struct look *l, uint64_t from, uint64_t to)
{
	struct spm_swap *s = l->s;

	while (from < to) {
		/* the first one that has a page, or memory */
		uint64_t here = spm_out_next(s, l->who.file, l->fd, from, to);

		for (; from < to && from < here; from++) {
			struct spm_extent *x = spm_extmap_get(&s->map, l->who.file, from, true);

			if (!x)
				return -ENOMEM;
			spm_extent_damage(x);
			l->given_up++;
		}
		from++;
	}
	return 0;
}

/* What of the file is covered by no leaf; with @all also what is recorded in the head. */
static int give_up(struct spm_swap *s, uint32_t file, bool all)
{
	struct look l = { .s = s };
	uint64_t first, next, end;
	struct stat st;
	int rc = 0;

	if (!spm_whose(s, file, &l.who))
		return 0;
	l.fd = s->ops.open(s->ops.ctx, l.who.slice, &l.who.handle);
	if (l.fd < 0)
		return l.fd == -ESTALE ? 0 : l.fd; /* nobody can read it */
	if (fstat(l.fd, &st))
		rc = -errno;
	end = rc ? 0 : ((uint64_t)st.st_size + s->extent_bytes - 1) >> s->shift;
	for (uint64_t e = 0; e < end && !rc; e = next) {
		bool known = spm_extmap_leaf_around(&s->map, file, e, &first, &next);

		if (!known || (all && !first))
			rc = give_up_range(&l, e, next < end ? next : end);
	}
	spm_cleanup_close(&l.fd);
	if (l.given_up)
		spm_log(SPM_LOG_ERR, "inode %llu: %llu extents without memory may have been in swap, and read as EIO",
			(unsigned long long)l.who.ino, (unsigned long long)l.given_up);
	return rc;
}

int spm_lost_leaves(struct spm_swap *s)
{
	int rc = 0;

	for (uint32_t file = 0; !rc && (file = spm_extmap_next_file(&s->map, file + 1));)
		rc = give_up(s, file, false);
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
		file = spm_extmap_intern(&s->map, slice, ino, h, SPM_EXTFILE_DIRECT);
	else
		h = NULL; /* another thread has done it */
	if (file && h && give_up(s, file, true)) {
		spm_extmap_forget(&s->map, file);
		file = 0;
	}
	pthread_mutex_unlock(&s->lost_lock);
	return file;
}
