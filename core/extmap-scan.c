/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking over an extent map: whatever is in it, nothing is followed that does not fit its checks. */
#include "core/extmap-local.h"
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>

#define LOGGED_MAX 8u
#define SMALL_MAX  16u /* pages of a slot without trailer */
#define FLAGS (SPM_EXTFILE_DIRECT | SPM_EXTFILE_TRIM | SPM_EXTFILE_TIMES | SPM_EXTFILE_SHOWN)

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

static void head_aside(struct spm_extmap *m, uint32_t file, const char *why)
{
	damage(m, "head %u (inode %llu) is damaged: %s; it was set aside, and what that file had in swap is lost",
	       file, (unsigned long long)m->head[file].ino, why);
	spm_extpool_take(m->heads, file);
}

static int scan_head(struct spm_extmap *m, uint32_t file)
{
	struct spm_extfile *f = &m->head[file];

	if (!f->ino)
		return 0;
	if (f->check != spm_extmap_head_check(f, f->ino) || f->handle.len > SPM_HANDLE_BYTES) {
		head_aside(m, file, "it does not fit its check");
		return 0;
	}
	if (spm_extindex_find(m, f->slice, f->ino)) {
		f->check = (uint16_t)~f->check;
		head_aside(m, file, "another one has the same inode");
		return 0;
	}
	if (spm_extindex_add(m, f->slice, f->ino, file))
		return -ENOMEM;
	spm_extpool_take(m->heads, file);
	if (f->flags & ~FLAGS) {
		damage(m, "head %u (inode %llu) has impossible flags, 0x%x: taken as open directly", file,
		       (unsigned long long)f->ino, f->flags);
		f->flags = (f->flags & FLAGS) | SPM_EXTFILE_DIRECT;
	}
	return 0;
}

/* -- leaves -- */

/* NULL: it is fine. */
static const char *wrong_with(const struct spm_extmap *m, const struct spm_extmap_leaf *u, uint64_t groups)
{
	if (!spm_extpool_taken(m->heads, u->file) || !spm_extindex_has(m, u->file))
		return "it names no file";
	if (u->group >= groups || u->check != spm_extmap_leaf_check(&m->head[u->file], u->file, u->group))
		return "it does not fit its check";
	return NULL;
}

static void leaf_aside(struct spm_extmap *m, const char *kind, uint32_t number,
		       const struct spm_extmap_leaf *u, const char *why)
{
	damage(m, "%s leaf %u (of head %u) is damaged: %s; it was set aside, and what it had in swap is lost",
	       kind, number, u->file, why);
}

static int scan_middle(struct spm_extmap *m, uint32_t number)
{
	struct spm_extmap_leaf *u = spm_extpool_unit(m->middles, number);
	const char *wrong;

	if (!u->file)
		return 0;
	spm_extpool_take(m->middles, number);
	wrong = wrong_with(m, u, 1);
	if (!wrong && spm_extleaves_of(m, u->file) && spm_extleaves_of(m, u->file)->middle) {
		u->check = ~u->check;
		wrong = "another one has the same place";
	}
	if (wrong) {
		leaf_aside(m, "middle", number, u, wrong);
		return 0;
	}
	return spm_extleaves_set_middle(m, u->file, number);
}

static int scan_large(struct spm_extmap *m, uint32_t number)
{
	struct spm_extmap_leaf *u = spm_extpool_unit(m->larges, number);
	const char *wrong;

	if (!u->file)
		return 0;
	spm_extpool_take(m->larges, number);
	wrong = wrong_with(m, u, EXTMAP_GROUPS);
	if (wrong) {
		leaf_aside(m, "large", number, u, wrong);
		return 0;
	}
	return spm_extleaves_append(m, u->file, u->group, number);
}

static void large_twice(struct spm_extmap *m, uint32_t number)
{
	struct spm_extmap_leaf *u = spm_extpool_unit(m->larges, number);

	u->check = ~u->check;
	leaf_aside(m, "large", number, u, "another one has the same place");
}

/* -- records -- */

static bool is_possible(const struct spm_extent *x, uint32_t pages_max)
{
	uint32_t pages = spm_extent_pages(x);
	bool small = x->how & SPM_HOW_SMALL, sparse = x->how & SPM_HOW_SPARSE;

	if (x->how == SPM_HOW_MAKE(SPM_EXTENT_SWAPPED, 0, SPM_HOW_DAMAGED))
		return !x->slot;
	return SPM_HOW_STATE_OF(x->how) != SPM_EXTENT_HERE && pages && pages <= pages_max && x->slot &&
	       !(x->how & ~(SPM_HOW_PAGES | SPM_HOW_STATE | SPM_HOW_SMALL | SPM_HOW_SPARSE)) &&
	       !(small && (sparse || pages > SMALL_MAX));
}

/* See struct spm_extmap_change. */
static void finish_change(struct spm_extmap *m, uint32_t file)
{
	struct spm_extmap_change *c = spm_extmap_change_of(m);
	const struct spm_extent to = { .slot = c->slot, .check = c->check, .how = c->how };
	struct spm_extent *x;

	if (!c->how || c->file != file || c->ino != m->head[file].ino || c->slice != m->head[file].slice)
		return;
	x = spm_extmap_get(m, file, c->extent, false);
	if (!x || !x->how || !is_possible(&to, m->setup->extent_bytes / 4096)) {
		damage(m, "a change of inode %llu, extent %llu is damaged, and was not finished", (unsigned long long)c->ino,
		       (unsigned long long)c->extent);
		return;
	}
	x->slot = to.slot;
	x->check = to.check;
	x->how = to.how;
}

static void scan_records(struct spm_extmap *m, uint32_t file)
{
	struct spm_extfile *f = &m->head[file];
	uint32_t pages_max = m->setup->extent_bytes / 4096, swapped = 0;
	struct spm_extent *x;

	for (uint64_t e = 0; (e = spm_extmap_next(m, file, e, &x)) != UINT64_MAX; e++) {
		if (!is_possible(x, pages_max)) {
			damage(m, "inode %llu: the record of extent %llu is damaged (0x%x, slot 0x%x): it reads as EIO",
			       (unsigned long long)f->ino, (unsigned long long)e, x->how, x->slot);
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
	spm_extmap_change_of(m)->how = 0;
	return 0;
}
