/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_CLAIM_H
#define SPM_CORE_CLAIM_H

#include "core/slice.h"

/*
 * isolate=claim: all of the device that files do not use is held in reserve, so that nobody else gets it. The reserve is files on
 * a tmpfs of its own in the region, placed as the root slice is; their sizes are what is held. Memory goes from there to a
 * slice right before it is used, and comes back when files have let go of it:
 *
 *	give	the reserve is made smaller, then the slice's filesystem larger
 *	take	the filesystem is made smaller, then the reserve larger
 *
 * so sizes of filesystems + reserve <= device at any time, and what a worker that dies leaves free in between is claimed by
 * the next one. Between the two steps others can take the pages: for each CPU the kernel has the pages that were freed there at
 * hand for whom it serves next, so steps are small, and follow each other in one thread.
 *
 * What is held in huge pages is given in huge pages; a second file holds the rest of one that was broken up.
 */
#define SPM_REGION_RESERVE "/region.reserve"
#define SPM_CLAIM_HUGE  (UINT64_C(2) << 20)
#define SPM_CLAIM_FLOAT (UINT64_C(256) << 10) /* of a slice: free for faults, and for small writes */
#define SPM_CLAIM_MIN   (UINT64_C(4) << 20)   /* of the device */

struct spm_claim {
	int huge_fd, small_fd;
	int max_fd; /* its size is the root slice's limit */
	uint64_t device_bytes;
	const struct spm_nodes *nodes; /* NULL: any */
	/* of core/grants-claim.c: what others had when it last looked, and when it is to look again for no more than that */
	uint64_t missing;
	int64_t look_ns;
};

/* In the region's namespace: makes a reserve that holds nothing; @max: the root slice's limit. */
int spm_claim_create(struct spm_claim *c, const struct spm_slice_opts *o, uint64_t max, struct spm_error *e) SPM_MUST_CHECK;
/* Opens it. -ENOENT: the region has none. */
int spm_claim_open(struct spm_claim *c) SPM_MUST_CHECK;
void spm_claim_close(struct spm_claim *c);
/* Lets go of everything, and closes it. */
void spm_claim_drop(struct spm_claim *c);

/* What follows is guarded by the lock of struct spm_slices. */

uint64_t spm_claim_held(const struct spm_claim *c);
uint64_t spm_claim_max(const struct spm_claim *c);
int spm_claim_set_max(struct spm_claim *c, uint64_t bytes) SPM_MUST_CHECK;
/* Whether others have got what was given for @bytes, so that the nodes have not so much; never so where any node will do. */
bool spm_claim_is_short(const struct spm_claim *c, uint64_t bytes);
/* Lets go of @bytes (whole pages), or of what there is: what it came to. */
uint64_t spm_claim_give(struct spm_claim *c, uint64_t bytes);
/* Holds @bytes more: what it came to. Less where others have the memory, however little is asked for: nobody is killed for it. */
uint64_t spm_claim_take(struct spm_claim *c, uint64_t bytes);

#endif
