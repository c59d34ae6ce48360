/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/thread.h"
#include "fs/rights.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

__thread struct spm_thread *spm_self;

/* No file's group, so that nothing is kept or allowed because the server happens to be a member. */
#define NO_GROUP ((gid_t)-2)

int spm_thread_confine(void)
{
	uint64_t have, keep = SPM_RIGHTS_WORKER | SPM_RIGHTS_RAISED;
	int rc = spm_caps_permitted(&have);

	if (!rc)
		rc = spm_caps_confine(keep);
	return rc ? rc : spm_caps_set(have & SPM_RIGHTS_WORKER, have & keep);
}

static void close_pipe(struct spm_thread *t)
{
	spm_cleanup_close(&t->pipe[0]);
	spm_cleanup_close(&t->pipe[1]);
	t->pipe[0] = t->pipe[1] = -1;
}

/* Room for the largest READ and its header; without it data is copied. */
static void make_pipe(struct spm_thread *t)
{
	t->pipe[0] = t->pipe[1] = -1;
	if (pipe2(t->pipe, O_CLOEXEC | O_NONBLOCK))
		return;
	if (fcntl(t->pipe[1], F_SETPIPE_SZ, 2 * (int)SPM_WIRE_MAX_READ) < 0)
		close_pipe(t);
}

void spm_thread_pipe_drain(struct spm_thread *t, size_t len)
{
	char scratch[4096];

	while (len) {
		ssize_t n = read(t->pipe[0], scratch, len < sizeof(scratch) ? len : sizeof(scratch));

		if (n <= 0) {
			close_pipe(t);
			return;
		}
		len -= (size_t)n;
	}
}

int spm_thread_init(struct spm_thread *t, struct spm_desks *d)
{
	int rc;

	memset(t, 0, sizeof(*t));
	t->pipe[0] = t->pipe[1] = -1;
	if (unshare(CLONE_FS))
		return -errno;
	rc = spm_desk_take(d, t);
	if (rc)
		return rc;
	/* whatever the thread that made this one was acting as */
	t->umask = (mode_t)-1;
	t->fsuid = (uid_t)-1;
	make_pipe(t);
	spm_self = t;
	spm_as_self();
	/* per thread, as the system call is; refused in some user namespaces, where there are no groups either */
	if (syscall(SYS_setgroups, 0, NULL) && errno != EPERM)
		return -errno;
	return spm_thread_confine();
}

void spm_thread_destroy(struct spm_thread *t, struct spm_desks *d)
{
	spm_desk_leave(d, t);
	free(t->io_buf);
	close_pipe(t);
	spm_self = NULL;
}

void spm_as_client(uid_t uid, gid_t gid, mode_t umask_)
{
	struct spm_thread *t = spm_self;

	if (t->fsuid != uid) {
		syscall(SYS_setfsuid, uid);
		t->fsuid = uid;
	}
	if (t->fsgid != gid) {
		syscall(SYS_setfsgid, gid);
		t->fsgid = gid;
	}
	if (t->umask != umask_) {
		umask(umask_);
		t->umask = umask_;
	}
}

void spm_as_self(void)
{
	struct spm_thread *t = spm_self;

	if (t->fsuid)
		syscall(SYS_setfsuid, 0);
	if (t->fsgid != NO_GROUP)
		syscall(SYS_setfsgid, NO_GROUP);
	t->fsuid = 0;
	t->fsgid = NO_GROUP;
}

static void set_fsetid(bool on)
{
	uint64_t have;

	/* without CAP_FSETID among the permitted ones (a user namespace may lack it) there is nothing to raise */
	if (spm_caps_permitted(&have))
		return;
	(void)!spm_caps_set((have & SPM_RIGHTS_WORKER) | (on ? have & SPM_RIGHTS_RAISED : 0), have);
}

/* The outermost of those who want it decides when that is over. */
static __thread bool fsetid_raised;

bool spm_fsetid(bool on)
{
	if (!on || fsetid_raised)
		return false;
	set_fsetid(true);
	fsetid_raised = true;
	return true;
}

void spm_fsetid_end(bool *raised)
{
	if (!*raised)
		return;
	set_fsetid(false);
	fsetid_raised = false;
}
