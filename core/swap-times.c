/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What users see of a file's times and blocks: nothing of the moves. Guarded by the bucket's lock. */
#include "core/swap-local.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct timespec of_ns(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	if (t.tv_nsec < 0) {
		t.tv_nsec += 1000000000;
		t.tv_sec--;
	}
	return t;
}

/* An extent that is in a pool is there as a whole, so that it counts as one in its slot, too: no move shows. */
static int64_t blocks_out(const struct spm_swap *s, const struct spm_extfile *f)
{
	uint64_t pages = __atomic_load_n(&f->swapped, __ATOMIC_RELAXED), whole = s->ops.pool ? s->extent_bytes / 4096 : 1;

	return (int64_t)((pages + whole - 1) / whole * whole * 8);
}

/* In a pool a move changes no time of the region's file: nothing is kept, or put back. */
void spm_times_begin(struct spm_swap *s, uint32_t file, int fd)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_extfile *f = spm_extmap_file(&s->map, file);
	struct spm_exttimes *t = s->ops.pool ? NULL : spm_extmap_times(&s->map, file);
	struct spm_active *a = spm_active_look(b, file);
	struct stat st;

	if (a && !a->times_busy++) {
		/* before a record says so */
		spm_flag_set(f, SPM_EXTFILE_MOVING);
		spm_extmap_barrier();
		a->times_kept = t && !fstat(fd, &st);
		/* who writes just now may do so before the end of the move or after it, and unpins after it */
		a->writes_before = a->writes - !!a->writers;
		a->changes_before = a->changes;
	}
	if (a && a->times_busy == 1 && a->times_kept) {
		if (!spm_flag_is(f, SPM_EXTFILE_SHOWN) || t->ours != ns_of(st.st_ctim))
			t->ctime = ns_of(st.st_ctim);
		t->mtime = ns_of(st.st_mtim);
		spm_extmap_barrier();
		spm_flag_set(f, SPM_EXTFILE_SHOWN | (a->writers ? 0 : SPM_EXTFILE_TIMES));
		a->blocks_before = st.st_blocks + blocks_out(s, f);
	}
	if (a && a->times_busy == 1 && s->ops.pool)
		a->blocks_before = (int64_t)spm_memory_blocks(s, file, NULL) + blocks_out(s, f);
	spm_bucket_unlock(b);
}

void spm_times_end(struct spm_swap *s, uint32_t file, int fd)
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_extfile *f = spm_extmap_file(&s->map, file);
	struct spm_exttimes *t = spm_extmap_times(&s->map, file);
	struct spm_active *a = spm_active_look(b, file);
	struct stat st;

	if (a && !--a->times_busy) {
		spm_extmap_barrier();
		spm_flag_clear(f, SPM_EXTFILE_MOVING);
	}
	if (a && !a->times_busy && a->times_kept) { /* without memory for it a move does show */
		struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, of_ns(t->mtime) };

		if (a->writes == a->writes_before && futimens(fd, ts))
			spm_log(SPM_LOG_DEBUG, "inode %llu: mtime: %m", (unsigned long long)f->ino);
		if (a->writes != a->writes_before || a->changes != a->changes_before || fstat(fd, &st))
			spm_flag_clear(f, SPM_EXTFILE_SHOWN);
		else
			t->ours = ns_of(st.st_ctim);
		spm_flag_clear(f, SPM_EXTFILE_TIMES);
	}
	spm_bucket_unlock(b);
}

void spm_times_write(struct spm_swap *s, struct spm_active *a, int pins)
{
	struct spm_extfile *f = spm_extmap_file(&s->map, a->file);

	a->writers += (uint32_t)pins;
	a->writes++;
	atomic_fetch_add_explicit(&s->writes, 1, memory_order_relaxed);
	spm_reclaim_nudge(s, spm_slice_of(s, a->file));
	/* after a death, too, the request's mtime is the right one */
	spm_flag_clear(f, a->times_busy ? SPM_EXTFILE_TIMES : SPM_EXTFILE_SHOWN);
}

void spm_swap_touched(struct spm_swap *s, uint32_t file)
{
	struct spm_bucket *b;
	struct spm_active *a;

	if (!file)
		return;
	b = spm_bucket_lock(s, file);
	a = spm_active_look(b, file);
	if (a)
		a->changes++;
	if (!a || !a->times_busy)
		spm_flag_clear(spm_extmap_file(&s->map, file), SPM_EXTFILE_SHOWN);
	spm_bucket_unlock(b);
}

int spm_swap_set_times(struct spm_swap *s, uint32_t file, int fd, const struct timespec ts[2])
{
	struct spm_bucket *b = spm_bucket_lock(s, file);
	struct spm_extfile *f = spm_extmap_file(&s->map, file);
	struct spm_active *a = spm_active_look(b, file);
	struct stat st;
	int rc = utimensat(fd, "", ts, AT_EMPTY_PATH) ? -errno : 0;

	if (!rc && a && a->times_busy && a->times_kept && !fstat(fd, &st)) {
		struct spm_exttimes *t = spm_extmap_times(&s->map, file);

		/* as if the moves began now: these are the times that they leave behind */
		t->mtime = ns_of(st.st_mtim);
		t->ctime = ns_of(st.st_ctim);
		a->writes_before = a->writes - !!a->writers;
		a->changes_before = a->changes;
		spm_extmap_barrier();
		spm_flag_set(f, SPM_EXTFILE_SHOWN | (a->writers ? 0 : SPM_EXTFILE_TIMES));
	} else if (!rc) {
		spm_flag_clear(f, SPM_EXTFILE_SHOWN);
	}
	spm_bucket_unlock(b);
	return rc;
}

/* What a move under way would show. 1: may be a little wrong. */
static int show_busy(const struct spm_active *a, const struct spm_exttimes *t, struct stat *st, int64_t blocks)
{
	st->st_blocks = a->writes == a->writes_before ? a->blocks_before : blocks;
	if (a->writes == a->writes_before)
		st->st_mtim = of_ns(t->mtime);
	if (a->writes == a->writes_before && a->changes == a->changes_before)
		st->st_ctim = of_ns(t->ctime);
	return a->writes != a->writes_before || a->changes != a->changes_before;
}

int spm_swap_stat(struct spm_swap *s, uint32_t file, int fd, struct stat *st)
{
	struct spm_bucket *b;
	int rc = 0;

	if (!file)
		return fstat(fd, st) ? -errno : 0;
	b = spm_bucket_lock(s, file);
	if (fstat(fd, st)) {
		rc = -errno;
	} else {
		const struct spm_extfile *f = spm_extmap_file(&s->map, file);
		const struct spm_exttimes *t = spm_flag_is(f, SPM_EXTFILE_SHOWN) ? spm_extmap_times(&s->map, file) : NULL;
		const struct spm_active *a = spm_active_look(b, file);
		int64_t blocks = (int64_t)spm_memory_blocks(s, file, st) + blocks_out(s, f);

		st->st_blocks = blocks;
		if (a && a->times_busy && a->times_kept && t) {
			rc = show_busy(a, t, st, blocks);
		} else if (a && a->times_busy && s->ops.pool) {
			/* what moves is in both places for a moment */
			rc = a->writes != a->writes_before;
			st->st_blocks = rc ? blocks : a->blocks_before;
		}
		if (!(a && a->times_busy) && t && t->ours == ns_of(st->st_ctim))
			st->st_ctim = of_ns(t->ctime);
	}
	spm_bucket_unlock(b);
	return rc;
}
