/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_CORE_DAX_NOTE_H
#define SPM_CORE_DAX_NOTE_H

#include "core/log.h"
#include "core/source.h"

/*
 * The note on a dax device that a mount has, /run/spmfs/daxX.Y.dax on the host: whose it is, and how the device was
 * before. All processes of a mount share one open file of it, whose lock says that the device is in use. A note that
 * is not locked was left by a mount whose processes were all killed, or that kept its region, or could not give the
 * device back: whoever comes next knows by it what the device was.
 */
#define SPM_RUN_DIR "/run/spmfs"

struct spm_dax_note {
	char mount[72];		  /* its name= */
	enum spm_dax_mode mode;	  /* that the mount uses it in */
	enum spm_dax_mode before; /* AUTO: no driver was bound to it */
	bool offline;		  /* before: SYSTEM_RAM, with its memory offline */
	bool ends;		  /* the mount is over, the device about to be what it was */
	int node;		  /* of the memory; -1: none */
};

/*
 * Opens the note of a device, makes an empty one if there is none, and takes the lock. Waits for a mount that ends.
 * Wants SPM_RUN_DIR. Returns a descriptor; -EBUSY: a mount has the device.
 */
int spm_dax_note_lock(const char *dax, struct spm_error *e) SPM_MUST_CHECK;
/* Reads it by a descriptor. -ENODATA: it is empty; -EPROTO: not a note. */
int spm_dax_note_read(int fd, struct spm_dax_note *n) SPM_MUST_CHECK;
int spm_dax_note_write(int fd, const struct spm_dax_note *n) SPM_MUST_CHECK;
/* Looks at it from outside: 1: in use, 0: not so, with what it says; -ENOENT: there is none. -EACCES, -EPROTO. */
int spm_dax_note_look(const char *dax, struct spm_dax_note *n) SPM_MUST_CHECK;
/* Removes it, with the lock if there is no other process that holds it. */
void spm_dax_note_remove(const char *dax, int fd);
/* Whether the region of the mount that it names is there: kept, or left. */
bool spm_dax_note_has_region(const struct spm_dax_note *n);

/*
 * Gives a device back as it was before; the note is the caller's. Fails as spm_dax_offline() does, after half a minute at the
 * latest: the kernel itself would try to move pages for as long as it is let, so it is asked in a child that can be killed.
 */
int spm_dax_restore(const char *dax, const struct spm_dax_note *n, struct spm_error *e) SPM_MUST_CHECK;

#endif
