/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_LEDGER_H
#define SPM_CORE_LEDGER_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * What one request in hand has counted in the inode table, in shared memory, so that whoever goes on after a
 * crash neither counts twice nor forgets a count.
 *
 * A count changes in three steps: the change is written down in @redo and armed; it is made, in the record and
 * in the ledger; it is disarmed. A process that dies in between leaves it armed, and making it again is harmless,
 * since both stores are absolute values and the lock that guards the record kept everybody else away from it
 * (spm_itable_settle()). So record and ledger always agree: what the ledger says was counted was, exactly once.
 *
 * A request that its process did not live to answer comes again, and starts with an empty ledger: what it had
 * counted is taken back first.
 */
enum spm_count { SPM_COUNT_LOOKUP, SPM_COUNT_PLAIN, SPM_COUNT_SERVED, SPM_COUNT_MIRROR, SPM_COUNTS };

/* Which word of the ledger changes together with a count. */
enum spm_entry {
	SPM_ENTRY_NONE,
	SPM_ENTRY_LOOKUPS, /* so many node ids of spm_book.ids are counted */
	SPM_ENTRY_OPENED,  /* 1 + enum spm_count of the open of @opened_id that is counted; 0: none */
	SPM_ENTRY_SETTLED, /* so many forgets of a batch are done; 1: a release is */
	SPM_ENTRIES
};

struct spm_ledger {
	uint64_t opened_id;
	uint32_t entry[SPM_ENTRIES];
	struct {
		uint32_t armed;
		uint32_t index; /* of the record */
		uint32_t count; /* enum spm_count */
		uint32_t entry; /* enum spm_entry */
		uint64_t value;
		uint32_t mark;
		uint32_t reserved;
	} redo;
};

/* A process's view of one ledger. */
struct spm_book {
	struct spm_ledger *ledger;
	uint64_t *ids;    /* shared as well: the node ids that SPM_ENTRY_LOOKUPS counts */
	uint32_t ids_max;
};

#define spm_ledger_barrier() atomic_signal_fence(memory_order_seq_cst)

#endif
