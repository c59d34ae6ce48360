/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every figure with what it is to reach. Targets are ratios of speed (spmfs over tmpfs, measured in pairs) or
 * values of spmfs itself; those in microseconds were set on a machine where tmpfs takes 10, 2.4, 4.5, 9 and
 * 1.7 us for create+close+unlink, open+close, rename, mkdir+rmdir and an uncached stat.
 */
#include "tests/bench/bench.h"

#define RATIO(min) .rule = RATIO_AT_LEAST, .target = (min)
#define MOST(max)  .rule = VALUE_AT_MOST, .target = (max)
#define SEEN	   .rule = SHOWN

const struct figure bench_figures[] = {
	/* mapped files */
	{ "mmap-read", "direct mmap, random 8-byte reads, huge pages", "ns", RATIO(0.98),
	  .probe = &random_probe, .what = RANDOM_READ },
	{ "mmap-write", "direct mmap, random 8-byte writes, huge pages", "ns", RATIO(0.98),
	  .probe = &random_probe, .what = RANDOM_WRITE },
	{ "first-touch", "first touch of a committed file", "us/MiB", RATIO(0.95), .probe = &touch_probe,
	  .what = TOUCH_ONLY },
	{ "commit-touch", "create, commit, map and touch a file", "us/MiB", SEEN, .probe = &touch_probe,
	  .what = TOUCH_ALL },
	{ "mirror-read", "mirror: sequential mmap read, nothing cached", "MiB/s", RATIO(0.5),
	  .more_is_better = true, .probe = &mirror_probe, .what = MIRROR_SMALL },
	{ "mirror-read-huge", "the same, tmpfs with huge pages", "MiB/s", SEEN, .more_is_better = true,
	  .probe = &mirror_probe, .what = MIRROR_HUGE },

	/* read and write */
	{ "plain-read-1m", "plain open: read 1 MiB", "us", RATIO(0.90), .probe = &io_probe,
	  .what = IO_READ_1M },
	{ "plain-write-1m", "plain open: write 1 MiB", "us", RATIO(0.85), .probe = &io_probe,
	  .what = IO_WRITE_1M },
	{ "plain-pread-4k", "plain open: pread 4 KiB", "us", RATIO(0.70), .probe = &io_probe,
	  .what = IO_PREAD_4K },
	{ "plain-pwrite-4k", "plain open: pwrite 4 KiB", "us", RATIO(0.70), .probe = &io_probe,
	  .what = IO_PWRITE_4K },
	{ "served-read-1m", "served open: read 1 MiB", "us", SEEN, .probe = &io_probe, .what = IO_READ_1M,
	  .where = SERVED },
	{ "served-write-1m", "served open: write 1 MiB", "us", RATIO(0.5), .probe = &io_probe,
	  .what = IO_WRITE_1M, .where = SERVED },
	{ "served-pread-4k", "served open: pread 4 KiB", "us", MOST(18), .probe = &io_probe,
	  .what = IO_PREAD_4K, .where = SERVED },
	{ "served-pwrite-4k", "served open: pwrite 4 KiB", "us", MOST(18), .probe = &io_probe,
	  .what = IO_PWRITE_4K, .where = SERVED },

	/* names */
	{ "stat-cached", "stat of a cached name", "ns", RATIO(0.8), .probe = &cached_probe },
	{ "stat-uncached", "stat of a name not cached", "us", MOST(18), .probe = &uncached_probe },
	{ "create", "create + close + unlink", "us", MOST(80), .probe = &name_probe, .what = NAME_CREATE },
	{ "open", "open + close", "us", MOST(17), .probe = &name_probe, .what = NAME_OPEN },
	{ "rename", "rename", "us", MOST(40), .probe = &name_probe, .what = NAME_RENAME },
	{ "mkdir", "mkdir + rmdir", "us", MOST(65), .probe = &name_probe, .what = NAME_MKDIR },

	/* processor: 100 % is one; an operation is a quarter of create, rename, unlink, open, mkdir, rmdir */
	{ "cpu-idle", "server, nobody asks", "% CPU", MOST(0.5), .probe = &idle_probe },
	{ "cpu-1", "server, 1 client", "% CPU", SEEN, .probe = &server_cpu_probe,
	  .what = CPU_WHAT(CPU_SERVER, 1, 0) },
	{ "cpu-8", "server, 8 clients", "% CPU", SEEN, .probe = &server_cpu_probe,
	  .what = CPU_WHAT(CPU_SERVER, 8, 0) },
	{ "cpu-op-1", "processor time per operation, 1 client", "us", SEEN, .probe = &cpu_probe,
	  .what = CPU_WHAT(CPU_PER_OP, 1, 0) },
	{ "cpu-op-8", "processor time per operation, 8 clients", "us", SEEN, .probe = &cpu_probe,
	  .what = CPU_WHAT(CPU_PER_OP, 8, 0) },
	{ "ops-1", "operations of 1 client", "op/s", .more_is_better = true, SEEN, .probe = &cpu_probe,
	  .what = CPU_WHAT(CPU_OPS, 1, 0) },
	{ "ops-8", "operations of 8 clients", "op/s", .more_is_better = true, SEEN, .probe = &cpu_probe,
	  .what = CPU_WHAT(CPU_OPS, 8, 0) },
	{ "ops-busy-1", "operations of 1 client, all processors busy", "op/s", .more_is_better = true, SEEN,
	  .probe = &cpu_probe, .what = CPU_WHAT(CPU_OPS, 1, 1) },
	{ "corun-1", "co-runners on all processors beside 1 client", "% alone", .more_is_better = true, SEEN,
	  .probe = &corun_probe, .what = CPU_WHAT(CPU_OPS, 1, 1) },
	/* Clients that compute in tmpfs take their share; polling beside them must not take more. */
	{ "corun-8", "co-runners on all processors beside 8 clients", "% alone", .more_is_better = true,
	  RATIO(0.95), .probe = &corun_probe, .what = CPU_WHAT(CPU_OPS, 8, 1) },

	/* memory */
	{ "small-files", "50 files of 4 KiB, on the device", "KiB", MOST(1023), .probe = &small_probe },
	{ "inode-memory", "server memory per remembered inode", "bytes", MOST(400), .probe = &inode_probe,
	  .what = INODE_BYTES },
	/* None for each inode; a cache of a fixed size may fill. */
	{ "inode-fds", "descriptors gained by remembering all inodes", "fds", MOST(4096),
	  .probe = &inode_probe, .what = INODE_DESCRIPTORS },
	{ "inode-left", "share of that memory left after removal", "%", MOST(10), .probe = &inode_probe,
	  .what = INODE_LEFT },

	/* death of the worker */
	{ "takeover", "from a death to the first answer, all inodes known", "ms", MOST(2000), .probe = &takeover_probe },
	{ "stall-median", "kills beside 8 clients: longest call, median", "ms", MOST(50), .probe = &kill_probe,
	  .what = KILL_MEDIAN },
	{ "stall-longest", "the same, the longest of all", "ms", SEEN, .probe = &kill_probe, .what = KILL_LONGEST },
	{ "stall-direct", "longest pause of a direct mapping meanwhile", "us", SEEN, .probe = &pause_probe,
	  .what = KILL_PAUSE },

	/* swap: in the column of tmpfs is what the title names, on the same disk */
	{ "swap-map", "extent map per extent that is out", "bytes", MOST(16), .probe = &swap_map_probe,
	  .what = MAP_DENSE, .where = SWAPPING },
	{ "swap-map-sparse", "extent map of a 1 TiB file, extents all over it", "MiB", MOST(10),
	  .probe = &swap_map_probe, .what = MAP_SPARSE, .where = SWAPPING },
	{ "swap-out", "a file leaves; fio writes as much", "MiB/s", RATIO(0.95), .more_is_better = true,
	  .probe = &out_probe, .what = BESIDE_FIO, .where = SWAPPING },
	{ "swap-out-kernel", "a file leaves; MADV_PAGEOUT of a tmpfs file", "MiB/s", RATIO(1.3),
	  .more_is_better = true, .probe = &out_probe, .what = BESIDE_KERNEL, .where = SWAPPING },
	{ "swap-in", "open(2) of a file that is out; fio reads as much", "MiB/s", RATIO(0.95),
	  .more_is_better = true, .probe = &in_probe, .what = BESIDE_FIO, .where = SWAPPING },
	{ "swap-in-kernel", "the same; touching a tmpfs file that is out", "MiB/s", RATIO(1),
	  .more_is_better = true, .probe = &in_probe, .what = BESIDE_KERNEL, .where = SWAPPING },
	{ "swap-cpu", "server, a file leaves: core-seconds per GB", "s", MOST(0.25), .probe = &swap_cpu_probe,
	  .where = SWAPPING },
	/* At most three times as long: the extent itself may have to come. */
	{ "cold-read", "cold extent touched in a mirror; disk: 4K + extent", "us", RATIO(1.0 / 3), .probe = &cold_probe,
	  .what = COLD_AROUND, .where = SWAPPING },
	{ "cold-read-alone", "the same, MADV_RANDOM: no pages around it", "us", SEEN, .probe = &cold_probe,
	  .what = COLD_ALONE, .where = SWAPPING },
	{ "cold-share", "hot tenth in use: its share of what leaves", "%", MOST(5), .probe = &hot_probe,
	  .where = WORKSET },
	/* Pages cached by clients are RAM beside the device; so there is a pair with no more memory than tmpfs has. */
	{ "workset", "twice the device, 90/10; tmpfs on swap", "op/s", RATIO(1), .more_is_better = true,
	  .probe = &workset_probe, .what = WORK_CACHED, .where = WORKSET },
	{ "workset-equal", "the same, nothing cached but on the device", "op/s", SEEN, .more_is_better = true,
	  .probe = &workset_probe, .what = WORK_EQUAL, .where = WORKSET },

	/* slices */
	{ "slices-list", "the list of 1,000 slices", "ms", MOST(1000), .probe = &slices_probe, .what = SLICES_LIST, .where = SERVED },
	{ "slices-df", "df of the mount with 1,000 slices", "us", SEEN, .probe = &slices_probe, .what = SLICES_DF, .where = SERVED },
	{ "slices-open", "from a death to the first answer, 1,000 slices", "ms", MOST(10000), .probe = &slices_probe,
	  .what = SLICES_OPEN, .where = SERVED },
	{ "slices-memory", "memory per idle slice, with descriptors", "KiB", MOST(16), .probe = &slices_probe,
	  .what = SLICES_MEMORY, .where = SERVED },
	{ "slices-threads", "threads gained by 1,000 slices", "threads", MOST(0), .probe = &slices_probe,
	  .what = SLICES_THREADS, .where = SERVED },
	/* what is asked for has to be allocated as well, beside what leaves */
	{ "slices-move", "memory from a cold slice to another; eviction", "MiB/s", RATIO(0.8), .more_is_better = true,
	  .probe = &moving_probe, .where = SWAPPING },

	/* pools of extents in a mapped device, for which a file in memory stands in */
	{ "pool-alloc-1", "extent allocated and freed, zeroing apart", "ns", MOST(1000), .probe = &pool_alloc_probe, .what = 1 },
	{ "pool-alloc-2", "the same, by 2 threads", "ns", MOST(1000), .probe = &pool_alloc_probe, .what = 2 },
	{ "pool-zero", "freed extents zeroed by 2 threads; memset", "MiB/s", RATIO(0.9), .more_is_better = true,
	  .probe = &pool_zero_probe },
	{ "pool-compact", "extents moved until free is one run; memcpy", "MiB/s", RATIO(0.8), .more_is_better = true,
	  .probe = &pool_compact_probe },
	{ "pool-meta", "what 1 TiB in 1,000 files takes elsewhere", "MiB", MOST(32), .probe = &pool_metadata_probe,
	  .what = POOL_LARGE },
	{ "pool-meta-files", "the same, a file for each extent", "MiB", MOST(32), .probe = &pool_metadata_probe,
	  .what = POOL_SMALL },
};

const int bench_figure_count = sizeof(bench_figures) / sizeof(*bench_figures);
