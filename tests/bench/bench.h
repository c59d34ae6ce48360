/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paired measurements of a spmfs mount against a tmpfs mount.
 *
 * A figure is one number of the table. Its probe takes samples from one side at a time; the core
 * (pair.c) interleaves the sides, so that drift of the machine hits both, and judges the median of
 * the rounds. What is to be reached stands in one place: figures.c.
 *
 * Functions return 0, SKIP, UNFIT or a negative errno; bench_fail() keeps the sentence that says why.
 * The program has one thread: a probe may keep its state in static variables between setup and teardown.
 */
#ifndef SPM_BENCH_H
#define SPM_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define MAX_ROUNDS 64
#define KIB	   ((size_t)1 << 10)
#define MIB	   ((size_t)1 << 20)
#define SKIP	   1 /* a probe's answer where its figure cannot be had here; b->why says the reason */
#define UNFIT	   2 /* what was measured is not what the figure speaks of: it fails */

enum side { SIDE_TMPFS, SIDE_SPMFS, SIDES };

enum rule {
	RATIO_AT_LEAST, /* speed of spmfs divided by speed of tmpfs */
	VALUE_AT_MOST,	/* the value of spmfs itself */
	SHOWN,		/* no target: the figure is there to be seen */
};

enum verdict { VERDICT_OK, VERDICT_MISS, VERDICT_SHOWN, VERDICT_SKIP, VERDICT_FAILED };

/* How much work a run does; --quick and --smoke do less. */
struct scale {
	int rounds;	     /* each gives one ratio; the median counts */
	int inner;	     /* samples of each side in a round, interleaved */
	size_t map_bytes;    /* file of the mmap figures */
	size_t io_bytes;     /* file of the read and write figures */
	size_t mirror_bytes; /* file of the mirror figure */
	int accesses;	     /* random accesses per sample */
	int io_ops;	     /* 4 KiB calls per sample */
	int name_ops;	     /* operations on names per sample */
	int cached_ops;	     /* stat calls of a cached name per sample */
	int inodes;	     /* files of the memory figures */
	int load_ms;	     /* window of the processor figures */
	int idle_ms;	     /* window of the idle figure */
	int open_files;	     /* open at a takeover */
	int kill_s;	     /* length of the kill run */
	int swap_rounds;     /* rounds of the figures of swap, which move gigabytes */
	int cold_reads;	     /* extents touched per sample */
	int slices;	     /* of the figures of many slices */
	int work_ms;	     /* window of the working set figures, and the lead before it */
};

/* Where the figures of swap work. */
struct swapping {
	const char *why;   /* they cannot be measured: the reason; or NULL */
	char dir[3][4096]; /* by enum where, from SWAPPING on */
	const char *mounts, *size;
	const char *disk;  /* directory on the disk of all swap files; kernel.swap in it is prepared for
			      swapon(2) */
	const char *memcg; /* groups .tmpfs and .spmfs, limited to a quarter of bytes; "": no controller */
	size_t bytes;	   /* of the file that is moved; devices: more than that, and a quarter of it */
};

/* Mounts. Of the last two the other side is a tmpfs that the kernel swaps. */
enum where { PLAIN, SERVED, SWAPPING, WORKSET, PAGED };

/* The processes that serve a mount, from its .spm/features; n is 0 where nobody does (tmpfs). */
struct server {
	pid_t pid[2];
	int n;
	char root[512]; /* mount point */
};

struct figure;

struct bench {
	const char *dir[SIDES]; /* directories on tmpfs and on a spmfs mount as large as its device */
	const char *served;	/* the same on a spmfs mount smaller than its device */
	const char *out;	/* directory for the results */
	struct swapping swap;
	struct scale scale;
	const struct figure *fig; /* being measured */
	struct server server;	  /* of the spmfs side of fig */
	char why[256];		  /* why fig failed or was skipped */
	char note[256];		  /* what a reader of its number should know */
};

/* Every member but sample may be NULL. begin and end enclose each round, setup and teardown all of them. */
struct probe {
	int (*setup)(struct bench *b);
	int (*begin)(struct bench *b, int round);
	int (*sample)(struct bench *b, enum side side, double *value);
	void (*end)(struct bench *b);
	void (*teardown)(struct bench *b);
	bool once;	   /* one sample per side and no warm-up round */
	bool spmfs_only;   /* nothing to compare with on tmpfs */
	bool needs_server; /* skipped where the spmfs side is no spmfs */
	bool heavy;	   /* one sample of each side a round, scale.swap_rounds rounds */
	bool restless;	   /* the server need not be at rest before a sample */
};

struct figure {
	const char *name, *title, *unit;
	bool more_is_better;
	enum rule rule;
	double target;
	const struct probe *probe;
	int what; /* which of the probe's figures */
	enum where where;
};

struct result {
	const struct figure *fig;
	enum verdict verdict;
	int rounds;
	double raw[SIDES][MAX_ROUNDS];
	double value[SIDES], ratio; /* medians; NAN where there is none */
	char text[256];		    /* the reason, or the note */
};

/* figures.c */
extern const struct figure bench_figures[];
extern const int bench_figure_count;

/* pair.c */
void bench_measure(struct bench *b, const struct figure *fig, struct result *res);
double bench_median(const double *v, int n);
/* Keeps the sentence, with the text of the errno rc where rc is negative, and returns rc. */
int bench_fail(struct bench *b, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void bench_note(struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 0 if spmfs has the open file at path in that mode, or no spmfs is measured; SKIP without passthrough. */
int bench_need_mode(struct bench *b, enum side side, const char *path, const char *mode);
/* Where the figure in hand works on that side. */
const char *bench_dir(const struct bench *b, enum side side);

/* report.c: prints the table, and writes it and its CSV files into b->out. */
int bench_report(const struct bench *b, const struct result *res, int n);
/* The target as text, "" without one. */
const char *bench_target(const struct figure *fig, char *buf, size_t size);
/* svg.c */
int bench_svg(const char *path, const struct result *res, int n);

/* memory.c: files "inodesD/fN", as many as the scale says, all known to the server. */
#define BENCH_FILES_PER_DIR 10000
int bench_inodes_make(struct bench *b);
int bench_inodes_remove(struct bench *b);

/* swap.c: a written file whose user.spm.map is map; all of a file out, in *ns, beside the wait for its last
 * user to be gone; bytes that are out. */
int swap_file_make(struct bench *b, const char *path, const char *map, size_t len);
int swap_evict(struct bench *b, const char *path, int64_t *ns);
int64_t swapped_bytes(const char *path);

/* probes */
extern const struct probe random_probe, touch_probe, mirror_probe;		/* map.c */
extern const struct probe io_probe;						/* io.c */
extern const struct probe name_probe, cached_probe, uncached_probe;		/* name.c */
extern const struct probe cpu_probe, server_cpu_probe, idle_probe, corun_probe; /* load.c */
extern const struct probe inode_probe, small_probe;				/* memory.c */
extern const struct probe takeover_probe, kill_probe, pause_probe;		/* takeover.c */
extern const struct probe out_probe, in_probe, swap_cpu_probe, swap_map_probe;	/* swap.c */
extern const struct probe cold_probe;						/* swap-cold.c */
extern const struct probe hot_probe, workset_probe;				/* workset.c */
extern const struct probe slices_probe, moving_probe;				/* slices.c */
extern const struct probe pool_alloc_probe, pool_zero_probe;			/* pool.c */
extern const struct probe pool_compact_probe, pool_metadata_probe;

enum { RANDOM_READ, RANDOM_WRITE };
enum { TOUCH_ONLY, TOUCH_ALL };
enum { MIRROR_SMALL, MIRROR_HUGE };
enum { IO_READ_1M, IO_WRITE_1M, IO_PREAD_4K, IO_PWRITE_4K };
enum { NAME_CREATE, NAME_OPEN, NAME_RENAME, NAME_MKDIR };
enum { CPU_SERVER, CPU_PER_OP, CPU_OPS };
enum { KILL_MEDIAN, KILL_LONGEST, KILL_PAUSE };
enum { BESIDE_FIO, BESIDE_KERNEL };
enum { COLD_AROUND, COLD_ALONE };
enum { MAP_DENSE, MAP_SPARSE };
enum { WORK_CACHED, WORK_EQUAL };
enum { SLICES_LIST, SLICES_DF, SLICES_OPEN, SLICES_MEMORY, SLICES_THREADS };
enum { POOL_LARGE, POOL_SMALL };
enum { INODE_BYTES, INODE_DESCRIPTORS, INODE_LEFT };
/* The processor figures: what of how many clients, beside co-runners on all processors or not. */
#define CPU_WHAT(kind, clients, busy) ((kind) | (clients) << 4 | (busy) << 12)
#define CPU_KIND(what)		      ((what)&15)
#define CPU_CLIENTS(what)	      ((what) >> 4 & 255)
#define CPU_BUSY(what)		      ((what) >> 12 & 1)

#endif
