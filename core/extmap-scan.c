/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking over an extent map: whatever is in it, nothing is followed that does not fit its checks. */
#include "core/extmap-local.h"
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>

#define LOGGED_MAX 8u

static void SPM_PRINTF(2, 3) damage(struct spm_extmap *m, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (m->damaged++ >= LOGGED_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	spm_log(SPM_LOG_ERR, "extent map: %s", text);
}

/* -- heads -- */

static int head_aside(struct spm_extmap *m, uint32_t file, const char *why)
{
	damage(m, "head %u (inode %llu) is damaged: %s; it was set aside, and what that file had in swap reads as EIO",
	       file, (unsigned long long)m->head[file].ino, why);
	spm_extpool_take(m->heads, file);
	m->lost_heads++;
	m->lost_moving |= !spm_flags_ok(&m->head[file]) || spm_flag_is(&m->head[file], SPM_EXTFILE_MOVING);
	return 0;
}

static void scan_flags(struct spm_extmap *m, uint32_t file)
{
	struct spm_extfile *f = &m->head[file];

	if (spm_flags_ok(f))
		return;
	damage(m, "head %u (inode %llu) has impossible flags, 0x%x: taken as open directly, being truncated, and moving", file,
	       (unsigned long long)f->ino, f->flags);
	/* whether there are times is not known, so these are none from here on */
	spm_flags_change(f, SPM_EXTFILE_DIRECT | SPM_EXTFILE_TRIM | SPM_EXTFILE_MOVING,
			 SPM_EXTFILE_TIMES | SPM_EXTFILE_SHOWN | SPM_EXTFILE_DATED | SPM_EXTFILE_UNSURE | ~SPM_EXTFILE_FLAGS);
	if (spm_extmap_times(m, file))
		m->times[file - 1] = (struct spm_exttimes){ 0 };
}

static int scan_head(struct spm_extmap *m, uint32_t file)
{
	struct spm_extfile *f = &m->head[file];

	if (!f->check)
		return 0;
	if (!f->ino || f->handle.len > SPM_HANDLE_BYTES || f->check != spm_extmap_head_check(f)) {
		if (!spm_extmap_mend_head(f))
			return head_aside(m, file, "it does not fit its check");
		damage(m, "head %u (inode %llu) had a wrong byte, which was put right", file, (unsigned long long)f->ino);
	}
	if (spm_extindex_find(m, f->slice, f->ino)) {
		f->check = ~f->check;
		return head_aside(m, file, "another one has the same inode");
	}
	if (spm_extindex_add(m, f->slice, f->ino, file))
		return -ENOMEM;
	spm_extpool_take(m->heads, file);
	scan_flags(m, file);
	return 0;
}

/* -- leaves -- */

static int leaf_aside(struct spm_extmap *m, const char *kind, uint32_t number,
		      const struct spm_extmap_leaf *u, const char *why)
{
	damage(m, "%s leaf %u (of head %u) is damaged: %s; it was set aside, and what it had in swap reads as EIO",
	       kind, number, u->file, why);
	m->lost_leaves++;
	return 0;
}

/* Whether it is some file's, whose it is said to be. */
static bool is_whole(struct spm_extmap *m, const char *kind, uint32_t number, struct spm_extmap_leaf *u, uint64_t groups)
{
	if (spm_extmap_leaf_fits(m, u, groups))
		return true;
	if (!spm_extmap_mend_leaf(m, u, groups)) {
		(void)leaf_aside(m, kind, number, u, spm_extpool_taken(m->heads, u->file) && spm_extindex_has(m, u->file) ?
				 "it does not fit its check" : "it names no file");
		return false;
	}
	damage(m, "%s leaf %u (of head %u, inode %llu) had a wrong byte, which was put right", kind, number, u->file,
	       (unsigned long long)m->head[u->file].ino);
	return true;
}

static int scan_middle(struct spm_extmap *m, uint32_t number)
{
	struct spm_extmap_leaf *u = spm_extpool_unit(m->middles, number);

	if (!u->check)
		return 0;
	spm_extpool_take(m->middles, number);
	if (!is_whole(m, "middle", number, u, 1))
		return 0;
	if (spm_extleaves_of(m, u->file) && spm_extleaves_of(m, u->file)->middle) {
		u->check = ~u->check;
		return leaf_aside(m, "middle", number, u, "another one has the same place");
	}
	return spm_extleaves_set_middle(m, u->file, number);
}

static int scan_large(struct spm_extmap *m, uint32_t number)
{
	struct spm_extmap_leaf *u = spm_extpool_unit(m->larges, number);

	if (!u->check)
		return 0;
	spm_extpool_take(m->larges, number);
	if (!is_whole(m, "large", number, u, EXTMAP_GROUPS))
		return 0;
	return spm_extleaves_append(m, u->file, u->group, number);
}

static void large_twice(struct spm_extmap *m, uint32_t number)
{
	struct spm_extmap_leaf *u = spm_extpool_unit(m->larges, number);

	u->check = ~u->check;
	(void)leaf_aside(m, "large", number, u, "another one has the same place");
}

/* A leaf is live, and no file's. */
static void drop_aside(struct spm_extmap *m, struct spm_extmap_pool *p, uint64_t groups)
{
	for (uint32_t n = spm_extpool_next(p, 1); n; n = spm_extpool_next(p, n + 1)) {
		struct spm_extmap_leaf *u = spm_extpool_unit(p, n);

		if (spm_extmap_leaf_fits(m, u, groups))
			continue;
		__atomic_store_n(&u->check, 0, __ATOMIC_RELAXED);
		spm_extmap_barrier();
		spm_extpool_free(p, n);
	}
}

void spm_extmap_settled(struct spm_extmap *m)
{
	pthread_mutex_lock(&m->lock);
	drop_aside(m, m->middles, 1);
	drop_aside(m, m->larges, EXTMAP_GROUPS);
	m->lost_leaves = 0;
	pthread_mutex_unlock(&m->lock);
}

/* -- records -- */

/* See struct spm_extmap_change. */
static void finish_change(struct spm_extmap *m, uint32_t file)
{
	struct spm_extmap_change *c = spm_extmap_change_of(m);
	struct spm_extent *x;

	if (!c->how || c->file != file || c->ino != m->head[file].ino || c->slice != m->head[file].slice)
		return;
	x = spm_extmap_get(m, file, c->extent, false);
	if (!x || !spm_extent_how(x) || c->sum != spm_extmap_change_sum(c) ||
	    !spm_extent_possible(c->slot, c->how, m->setup->extent_bytes / 4096)) {
		damage(m, "a change of inode %llu, extent %llu is damaged, and was not finished", (unsigned long long)c->ino,
		       (unsigned long long)c->extent);
		return;
	}
	x->slot = c->slot;
	x->check = c->check;
	spm_extent_set_how(x, c->how);
}

static void scan_records(struct spm_extmap *m, uint32_t file)
{
	struct spm_extfile *f = &m->head[file];
	uint32_t pages_max = m->setup->extent_bytes / 4096, swapped = 0;
	struct spm_extent *x;

	for (uint64_t e = 0; (e = spm_extmap_next(m, file, e, &x)) != UINT64_MAX; e++) {
		if (!spm_extent_ok(x) || !spm_extent_possible(x->slot, spm_extent_how(x), pages_max)) {
			damage(m, "inode %llu: the record of extent %llu is damaged (0x%x, slot 0x%x): it reads as EIO",
			       (unsigned long long)f->ino, (unsigned long long)e, x->word, x->slot);
			spm_extent_damage(x);
		}
		swapped += spm_extent_pages(x);
	}
	f->swapped = swapped;
}

int spm_extmap_scan(struct spm_extmap *m)
{
	int rc = spm_extpool_scan(m->heads, scan_head, m);

	if (!rc)
		rc = spm_extpool_scan(m->middles, scan_middle, m);
	if (!rc)
		rc = spm_extpool_scan(m->larges, scan_large, m);
	if (rc)
		return rc;
	m->heads_top = m->heads->top + 1;
	for (uint32_t file = spm_extmap_next_file(m, 1); file; file = spm_extmap_next_file(m, file + 1)) {
		spm_extleaves_sort(m, file, large_twice);
		finish_change(m, file);
		scan_records(m, file);
	}
	spm_extmap_barrier();
	spm_extmap_change_end(spm_extmap_change_of(m));
	return 0;
}
