/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/pool.h"
#include "fs/stats.h"
#include "fs/slices.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void spm_stats_swap(struct spm_fs *fs, struct spm_swap_stats *st)
{
	memset(st, 0, sizeof(*st));
	if (fs->swap)
		spm_swap_stats(fs->swap, st);
}

uint64_t spm_stats_swap_limit(struct spm_fs *fs)
{
	return UINT64_MAX - atomic_load(&fs->desks.state->swap_max_less);
}

static int put_limit(FILE *out, uint64_t limit)
{
	if (limit == UINT64_MAX)
		fputs("max\n", out);
	else
		fprintf(out, "%llu\n", (unsigned long long)limit);
	return 0;
}

int spm_stats_swap_max(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_slice_record r;

	if (!slice)
		return put_limit(out, spm_stats_swap_limit(fs));
	return spm_slices_record(&fs->slices, slice, &r) ? put_limit(out, spm_slice_swap_max_of(&r.limits)) : -ENODEV;
}

int spm_stats_pin_max(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_slice_record r;

	return spm_slices_record(&fs->slices, slice, &r) ? put_limit(out, r.limits.pin_max) : -ENODEV;
}

int spm_stats_swap_current(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_swap_stats st;

	spm_stats_swap(fs, &st);
	if (slice)
		st.swap_used_bytes = spm_slices_swapped(fs, slice);
	fprintf(out, "%llu\n", (unsigned long long)st.swap_used_bytes);
	return 0;
}

/* What the device has lost, of files or not. */
static uint64_t lost_extents(struct spm_fs *fs)
{
	struct spm_pool_stats st;

	if (!fs->pool)
		return 0;
	spm_pool_stats(fs->pool, &st, false);
	return (st.bad_bytes + st.retired_bytes) / spm_pool_extent_bytes(fs->pool);
}

int spm_stats_events(struct spm_fs *fs, uint16_t slice, FILE *out)
{
	struct spm_swap_slice_stats own;
	struct spm_swap_stats st;

	spm_stats_swap(fs, &st);
	/* what happens to others is not a slice's business */
	if (slice && fs->swap) {
		spm_swap_stats_of(fs->swap, slice, &own);
		st = (struct spm_swap_stats){ .reclaim_runs = own.reclaim_runs, .direct_waits = own.direct_waits,
					      .refused = own.refused, .write_errors = own.write_errors, .swap_errors = own.swap_errors };
	}
	fprintf(out, "low %llu\nmax %llu\noom %llu\nswap_fail %llu\nswap_errors %llu\n",
		(unsigned long long)st.reclaim_runs, (unsigned long long)st.direct_waits, (unsigned long long)st.refused,
		(unsigned long long)st.write_errors, (unsigned long long)st.swap_errors);
	if (!slice)
		fprintf(out, "memory_errors %llu\n", (unsigned long long)lost_extents(fs));
	return 0;
}

/* How the swap files are read and written, all together. */
static const char *how_opened(const struct spm_fs *fs, unsigned int *files)
{
	unsigned int direct = 0, n = 0;

	for (unsigned int i = 0; i < SPM_SWAP_FILES; i++) {
		int flags = fs->swap_fd[i] < 0 ? -1 : fcntl(fs->swap_fd[i], F_GETFL);

		n += fs->swap_fd[i] >= 0;
		direct += flags >= 0 && flags & O_DIRECT;
	}
	*files = n;
	return direct == n ? "O_DIRECT" :
	       direct ? "some buffered: no O_DIRECT there" : "buffered: no O_DIRECT there";
}

/* Of a pool without swap; with swap these are that's as well. */
static void put_pool(struct spm_fs *fs, FILE *out)
{
	const struct spm_options *o = fs->opts;
	bool given = o->given & SPM_GIVEN_COMPACT;

	fprintf(out, "extent %u\n", spm_pool_extent_bytes(fs->pool));
	if (given && o->compact_bps)
		fprintf(out, "compact %llu\n", (unsigned long long)o->compact_bps);
	else
		fprintf(out, "compact off: option %s, so only spmctl compact does it\n", given ? "compact=off" : "compact= not given");
}

void spm_stats_swap_features(struct spm_fs *fs, FILE *out)
{
	const struct spm_options *o = fs->opts;
	struct spm_swap_stats st;
	unsigned int files;
	const char *how;

	if (!fs->swap) {
		fputs("swap off: option swap= not given\n", out);
		if (fs->pool)
			put_pool(fs, out);
		return;
	}
	/* a region that was found again keeps sizes that the options need not have named */
	spm_stats_swap(fs, &st);
	how = how_opened(fs, &files);
	fprintf(out, "swap on: %u file%s, %llu bytes, %s (%s)\n", files, files == 1 ? "" : "s",
		(unsigned long long)st.space_bytes, how, o->swap);
	fprintf(out, "extent %llu\nlow %u\nhigh %u\n", (unsigned long long)st.extent_bytes, o->low_pct, o->high_pct);
	if (o->cold_s)
		fprintf(out, "cold %u\n", o->cold_s);
	else
		fputs("cold off: option cold= not given\n", out);
	if (o->compact_bps)
		fprintf(out, "compact %llu\n", (unsigned long long)o->compact_bps);
	else
		fputs("compact off: option compact=off, so only spmctl compact does it\n", out);
}
