/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/fresh.h"
#include "fs/fs.h"
#include "fs/thread.h"

#include <string.h>

void spm_fresh_init(struct spm_fresh *f)
{
	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
}

static struct spm_fresh_slot *slot_of(struct spm_fresh *f, uint64_t nodeid)
{
	return &f->slot[(uint32_t)nodeid % SPM_FRESH_SLOTS];
}

void spm_fresh_shown(struct spm_fs *fs, uint64_t nodeid)
{
	struct spm_fresh_slot *s = slot_of(&fs->fresh, nodeid);
	uint32_t tid = spm_self->wire.pid;

	pthread_mutex_lock(&fs->fresh.lock);
	if (s->nodeid != nodeid || !tid) /* no id: a client outside of this pid namespace */
		*s = (struct spm_fresh_slot){ .nodeid = nodeid, .tid = tid, .several = true };
	else if (!s->tid)
		s->tid = tid;
	else if (s->tid != tid)
		s->several = true;
	pthread_mutex_unlock(&fs->fresh.lock);
}

void spm_fresh_changed(struct spm_fs *fs, uint64_t nodeid)
{
	struct spm_fresh_slot *s = slot_of(&fs->fresh, nodeid);
	bool notify;

	pthread_mutex_lock(&fs->fresh.lock);
	notify = s->nodeid != nodeid || s->several || (s->tid && s->tid != spm_self->wire.pid);
	*s = (struct spm_fresh_slot){ .nodeid = nodeid };
	pthread_mutex_unlock(&fs->fresh.lock);
	if (notify)
		spm_fresh_void(fs, nodeid);
}

void spm_fresh_void(struct spm_fs *fs, uint64_t nodeid)
{
	/* a negative offset: attributes only. The kernel may not know the inode any more, which is as good. */
	(void)fuse_lowlevel_notify_inval_inode(fs->se, nodeid, -1, 0);
}
