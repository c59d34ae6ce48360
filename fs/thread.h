/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_THREAD_H
#define SPM_FS_THREAD_H

#include <stdlib.h>
#include <sys/types.h>
#include "fs/desk.h"
#include "fs/wire.h"

/*
 * What one serving thread carries: the request in hand, and the identity that new files get.
 *
 * New files are made under the client's fsuid, fsgid and umask, so that the region's filesystem applies
 * ownership, setgid directories and default ACLs itself. The capabilities do not follow the fsuid
 * (SECBIT_NO_SETUID_FIXUP), so nothing of the server's own rights depends on it. The umask needs a
 * fs_struct per thread (CLONE_FS).
 *
 * CAP_FSETID is permitted but not effective: whatever a thread writes clears suid and sgid as for a user,
 * and so does the kernel with the credentials that a backing id captures. It is raised for the few
 * operations in which the client's kernel has decided already that the bits stay.
 */
struct spm_thread {
	struct spm_wire_request wire;
	uid_t fsuid;
	gid_t fsgid;
	mode_t umask;
	/* its desk (spm_desk_take): shared memory that stays behind if the worker dies */
	struct spm_desks *desks;
	uint32_t slot;
	struct spm_hold *hold;
	struct spm_desk *desk;
	struct spm_book book;
	void *buf;      /* SPM_WIRE_BUFSIZE: the request */
	bool pooled;    /* one of the session's threads */
	bool was_parked; /* the request at hand: it has stood in line (fs/parked.h) */
	void *io_buf;   /* SPM_WIRE_MAX_WRITE: data of a READ, on first use */
	int pipe[2];    /* for replies that are spliced, empty between requests; -1: none */
};

/* The calling thread's; set up by spm_thread_init(), NULL in threads that serve no requests. */
extern __thread struct spm_thread *spm_self;

/* Sets the thread up at a desk and drops every right that serving does not need. -EMFILE: no desk is free;
 * -errno of unshare(2), capset(2), prctl(2). */
int spm_thread_init(struct spm_thread *t, struct spm_desks *d) SPM_MUST_CHECK;
/* The latter alone, for threads that serve nothing. */
int spm_thread_confine(void) SPM_MUST_CHECK;
void spm_thread_destroy(struct spm_thread *t, struct spm_desks *d);

/* Room for SPM_WIRE_MAX_WRITE bytes, the thread's own; NULL: no memory. */
static inline void *spm_thread_io_buf(struct spm_thread *t)
{
	if (!t->io_buf)
		t->io_buf = aligned_alloc(4096, SPM_WIRE_MAX_WRITE);
	return t->io_buf;
}

/* Empties the pipe of @len bytes of a reply that did not come about; closes it if that fails. */
void spm_thread_pipe_drain(struct spm_thread *t, size_t len);

/* Takes on the client's identity for making a file. Cheap if it is the last one's. */
void spm_as_client(uid_t uid, gid_t gid, mode_t umask_);
/* Back to the server's own identity, root in no group: before anything that captures credentials, or that
 * takes suid or sgid away from those who are not in a file's group. */
void spm_as_self(void);

/* Raises CAP_FSETID if @on until the end of the scope: `spm_keep_suid bool k = spm_fsetid(cond);` */
bool spm_fsetid(bool on);
void spm_fsetid_end(bool *raised);
#define spm_keep_suid __attribute__((cleanup(spm_fsetid_end)))

#endif
