/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of swaprun share. */
#ifndef SPM_TESTS_SWAPRUN_H
#define SPM_TESTS_SWAPRUN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { BLOCK = 4096, WORDS = 512, MAX_PROCESSES = 24, MAX_FILES = 8000, PIECE = 1 << 20, ROOM = 3 * PIECE };

/*
 * Every 8 bytes that swaprun writes tell file, place and version, so that a wrong, stale or foreign one is recognised.
 * What a file must hold is known block by block. A change of a block has a number, that of the last one is @begun before
 * the call and counts for @low when it has returned: whoever reads meanwhile must see something in between.
 */
struct content {
	uint32_t change;  /* which brought it here; numbers are a file's own */
	uint32_t version; /* 0: zeros */
	uint32_t block;   /* where the words were written, and in which file: elsewhere if it was copied here */
	uint32_t file;
};

struct block {
	struct content a, b; /* the words below @cut, and those from there on; its file's owner's */
	uint32_t cut;
	_Atomic uint32_t low, begun;     /* changes: nothing older is there any more; nothing newer can be there */
	_Atomic uint32_t zeroed, copied; /* the last change that brought zeros, or words from elsewhere */
};

enum kind { KIND_AUTO, KIND_DIRECT, KIND_MIRROR, KINDS };

struct file {
	_Atomic uint32_t flux; /* odd while its name or size changes */
	_Atomic uint32_t name; /* the file is KIND/fNUMBER.NAME */
	_Atomic uint64_t size;
	uint32_t kind, changes;
	uint64_t first; /* block of the model */
	uint64_t max;   /* bytes, a multiple of BLOCK */
};

/* The model; in a file, so that another run can verify what this one left. */
struct model {
	uint64_t magic;
	uint64_t bytes, seed;
	uint32_t files, processes;
	_Atomic uint32_t stop, filled;
	_Atomic uint64_t until_ns; /* 0: not everything is filled yet */
	_Atomic uint32_t errors, differences, shown, no_space;
	_Atomic uint64_t operations, written, read;
	struct file file[MAX_FILES];
	char doing[MAX_PROCESSES + 1][160]; /* for people, if it hangs or fails */
	_Atomic uint32_t calls[MAX_PROCESSES + 1];
	struct block blocks[];
};
#define MODEL_MAGIC UINT64_C(0x31306e7572706d73)

/* A mapping that is kept while other things happen. */
struct held {
	uint32_t file;
	char *at; /* NULL: none */
	uint64_t from, len;
	bool writable;
};

struct options {
	unsigned long seconds, gap_ms;
	unsigned int kills, hot;
	bool no_space_is_fine, no_maps, verify;
	bool kinds[KINDS];
	uint64_t mean;
	const char *points, *model, *dir;
};

struct process {
	struct model *m;
	const struct options *o;
	unsigned int id;
	uint64_t rng;
	char *buf; /* ROOM bytes, aligned */
	struct held held;
	int copy_of_map; /* a memfd: mapped memory is read by a system call, which a truncate does not end with SIGBUS */
};

/* swaprun_model.c */
void model_init(void);
uint64_t word_of(const struct content *c, uint32_t in_block);
void fill_new(uint32_t number, uint64_t off, size_t len, uint32_t version, void *buf);
/* Whether the bytes are what the file must hold; its owner's to ask, and that of the end. */
bool same_as_model(struct process *p, uint32_t number, uint64_t off, size_t len, const void *buf, const char *how);
/* What others can say while its owner goes on: @low is what the blocks said before, @sure: no name or size has changed. */
bool plausible(struct process *p, uint32_t number, uint64_t off, size_t len, const void *buf, const uint32_t *low,
	       bool sure, const char *how);
enum change { CHANGE_DATA, CHANGE_ZERO, CHANGE_COPY };
/* No more than two contents a block: makes the range whole at its ends where that would be three. */
void widen(const struct process *p, uint32_t number, uint64_t *from, uint64_t *to);
uint32_t change_begins(struct process *p, uint32_t number, uint64_t from, uint64_t to, enum change how);
/* @copied: for a copy, the contents of the source's blocks, one for each. */
void change_ends(struct process *p, uint32_t number, uint64_t from, uint64_t to, enum change how, uint32_t change,
		 const struct content *copied);
/* A call failed: finds out which blocks have what. */
bool change_failed(struct process *p, uint32_t number, int fd, uint64_t from, uint64_t to, uint32_t change);
bool has_data(const struct process *p, uint32_t number, uint64_t block);
uint64_t data_bytes(const struct process *p, uint32_t number);
static inline struct block *blocks_of(struct model *m, uint32_t number)
{
	return &m->blocks[m->file[number].first];
}

/* swaprun_ops.c */
void own_operation(struct process *p);
bool make_file(struct process *p, uint32_t number, bool whole);
void drop_held(struct process *p);

/* swaprun_read.c */
void read_other(struct process *p);
bool verify_file(struct process *p, uint32_t number);
bool verify_map(struct process *p, const struct held *h);

/* swaprun.c */
uint64_t draw(struct process *p, uint64_t below);
void path_of(const struct process *p, uint32_t number, uint32_t name, char *path, size_t room);
void doing(struct process *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Counts, says, and has everybody stop. Returns false. */
bool wrong(struct process *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool failed(struct process *p, const char *what); /* the same, with errno */

#endif
