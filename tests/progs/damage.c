/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Damages what a mount's worker left to the next one.
 *
 *	damage MOUNT record PATH FIELD	flips a bit in the inode record of a file: ino seq slice handle check
 *					flags nlookup opens backing
 *	damage MOUNT random SEED N	flips N bits of records that are in use, but the root's
 *	damage MOUNT desks SEED N	flips N bits of what threads noted of their requests, or of the requests
 *	damage MOUNT head PART		flips a bit in the head of: state, version, inodes; or in the answer to INIT: init
 *	damage MOUNT truncate NAME	shrinks, and grows, a memory: must be refused
 */
#include "core/itable.h"
#include "fs/state.h"
#include "tests/progs/killrun.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INO_MASK ((UINT64_C(1) << 48) - 1) /* the rest of st_ino is the slice */

static uint64_t rng;

static uint64_t draw(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % below;
}

static int complain(const char *what)
{
	fprintf(stderr, "damage: %s\n", what);
	return 1;
}

static int flip_field(struct spm_inode *r, const char *field)
{
	if (!strcmp(field, "ino"))
		r->ino ^= 1u << 20;
	else if (!strcmp(field, "seq"))
		r->seq ^= 1u << 29;
	else if (!strcmp(field, "slice"))
		r->slice ^= 1u << 9;
	else if (!strcmp(field, "handle"))
		((unsigned char *)&r->handle)[sizeof(r->handle) / 2] ^= 4;
	else if (!strcmp(field, "check"))
		r->check ^= 1;
	else if (!strcmp(field, "flags"))
		r->flags |= 1u << 15;
	else if (!strcmp(field, "nlookup"))
		r->nlookup |= UINT64_C(1) << 62;
	else if (!strcmp(field, "opens"))
		r->open_plain |= 1u << 31;
	else if (!strcmp(field, "backing"))
		r->backing ^= 2;
	else
		return complain("no such field");
	return 0;
}

static int damage_record(const struct target *t, const char *path, const char *field)
{
	struct spm_inode *records;
	size_t size = 0, i;
	struct stat st;

	if (stat(path, &st))
		return complain("the file cannot be found");
	records = target_map(t, "spmfs-inodes", &size);
	if (!records)
		return 1;
	for (i = 2; i < size / sizeof(*records); i++)
		if (records[i].nlookup && records[i].ino == (st.st_ino & INO_MASK))
			return flip_field(&records[i], field);
	return complain("the file has no record");
}

/* Between two bytes, if what stands there is in use. */
static void flip_bit(unsigned char *p, size_t bytes)
{
	p[draw(bytes)] ^= (unsigned char)(1u << draw(8));
}

/* The table is large, and nearly all of it was never used: to look there would allocate it. */
static size_t end_of_data(const struct target *t, const char *name)
{
	int fd = target_memfd(t, name);
	off_t data = 0, end = 0;

	while (fd >= 0 && (data = lseek(fd, end, SEEK_DATA)) >= 0)
		end = lseek(fd, data, SEEK_HOLE);
	if (fd >= 0)
		close(fd);
	return (size_t)end;
}

static int damage_random(const struct target *t, unsigned long n)
{
	size_t size = 0, used = 0, records_used, i, k;
	struct spm_inode *records;

	records = target_map(t, "spmfs-inodes", &size);
	if (!records)
		return 1;
	records_used = end_of_data(t, "spmfs-inodes") / sizeof(*records);
	for (i = 2; i < records_used; i++)
		used += records[i].nlookup != 0;
	while (used && n--) {
		k = draw(used);
		for (i = 2; i < records_used && (!records[i].nlookup || k--); i++)
			;
		if (i < records_used)
			flip_bit((unsigned char *)&records[i], sizeof(records[i]));
	}
	return used ? 0 : complain("no record is in use");
}

/* Most slots were never used: only the first ones are worth it. */
static int damage_desks(const struct target *t, unsigned long n)
{
	unsigned char *state, *buffers;
	size_t state_size = 0, buffers_size = 0, desks;

	state = target_map(t, "spmfs-state", &state_size);
	buffers = target_map(t, "spmfs-requests", &buffers_size);
	if (!state || !buffers)
		return 1;
	desks = state_size - SPM_STATE_HEAD_BYTES;
	while (n--) {
		uint64_t what = draw(8);

		if (what < 5)
			flip_bit(state + SPM_STATE_HEAD_BYTES, desks / SPM_SLOTS * 16);
		else if (what < 7)
			flip_bit(buffers + draw(16) * (buffers_size / SPM_SLOTS) + 4000, 400);
		else
			flip_bit(state + offsetof(struct spm_state, hold), 16 * sizeof(struct spm_hold));
	}
	return 0;
}

static int damage_head(const struct target *t, const char *part)
{
	size_t size;
	uint64_t *inodes;

	if (!strcmp(part, "state")) {
		t->state->magic ^= 1;
		return 0;
	}
	if (!strcmp(part, "version")) {
		t->state->version ^= 1;
		return 0;
	}
	if (!strcmp(part, "init")) {
		t->state->init_reply[sizeof(struct fuse_out_header) + offsetof(struct fuse_init_out, max_write)] ^= 1;
		return 0;
	}
	inodes = target_map(t, "spmfs-inodes", &size);
	if (!inodes)
		return 1;
	*inodes ^= 1;
	return 0;
}

static int truncate_it(const struct target *t, const char *name)
{
	int fd = target_memfd(t, name);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return 1;
	if (!ftruncate(fd, st.st_size / 2) || errno != EPERM)
		return complain("it could be shrunk");
	if (!ftruncate(fd, st.st_size * 2) || errno != EPERM)
		return complain("it could be grown");
	return 0;
}

int main(int argc, char **argv)
{
	struct target t = {0};

	if (argc < 4)
		return complain("usage: damage MOUNT record PATH FIELD | random SEED N | desks SEED N | head "
				"PART | truncate NAME");
	if (target_open(&t, argv[1]))
		return 1;
	rng = strtoull(argv[3], NULL, 0) | 1;
	if (!strcmp(argv[2], "record") && argc == 5)
		return damage_record(&t, argv[3], argv[4]);
	if (!strcmp(argv[2], "random") && argc == 5)
		return damage_random(&t, strtoul(argv[4], NULL, 0));
	if (!strcmp(argv[2], "desks") && argc == 5)
		return damage_desks(&t, strtoul(argv[4], NULL, 0));
	if (!strcmp(argv[2], "head"))
		return damage_head(&t, argv[3]);
	if (!strcmp(argv[2], "truncate"))
		return truncate_it(&t, argv[3]);
	return complain("no such damage");
}
