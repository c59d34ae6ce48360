/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/fdcache.h"
#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>

/* an entry whose inode was dropped while somebody used its descriptor */
#define DROPPED UINT64_MAX

void spm_fdcache_init(struct spm_fdcache *c)
{
	for (unsigned int i = 0; i < SPM_FDCACHE_SETS; i++) {
		c->set[i] = (struct spm_fd_set){ .hand = 0 };
		pthread_mutex_init(&c->set[i].lock, NULL);
	}
}

void spm_fdcache_destroy(struct spm_fdcache *c)
{
	for (unsigned int i = 0; i < SPM_FDCACHE_SETS; i++) {
		for (unsigned int w = 0; w < SPM_FDCACHE_WAYS; w++)
			if (c->set[i].way[w].nodeid)
				close(c->set[i].way[w].fd);
		pthread_mutex_destroy(&c->set[i].lock);
	}
}

static struct spm_fd_set *set_of(struct spm_fdcache *c, uint64_t nodeid)
{
	return &c->set[(uint32_t)nodeid % SPM_FDCACHE_SETS];
}

static bool take_cached(struct spm_fd_set *set, uint64_t nodeid, enum spm_fd_kind kind, struct spm_fd *out)
{
	bool found = false;

	pthread_mutex_lock(&set->lock);
	for (unsigned int w = 0; w < SPM_FDCACHE_WAYS && !found; w++) {
		struct spm_fd_entry *en = &set->way[w];

		if (en->nodeid != nodeid || en->kind != kind)
			continue;
		en->users++;
		en->used = 1;
		*out = (struct spm_fd){ .fd = en->fd, .set = set, .entry = en };
		found = true;
	}
	pthread_mutex_unlock(&set->lock);
	return found;
}

/* Caches @fd if an entry can be had; the old descriptor of that entry is returned to be closed, or -1. */
static int keep(struct spm_fd_set *set, uint64_t nodeid, enum spm_fd_kind kind, struct spm_fd *fd)
{
	int evicted = -1;

	pthread_mutex_lock(&set->lock);
	for (unsigned int turn = 0; turn < 2 * SPM_FDCACHE_WAYS; turn++) {
		struct spm_fd_entry *en = &set->way[set->hand++ % SPM_FDCACHE_WAYS];

		if (en->users)
			continue;
		if (en->nodeid && en->used) {
			en->used = 0;
			continue;
		}
		if (en->nodeid)
			evicted = en->fd;
		*en = (struct spm_fd_entry){ .nodeid = nodeid, .fd = fd->fd, .kind = (uint8_t)kind, .users = 1 };
		fd->set = set;
		fd->entry = en;
		break;
	}
	pthread_mutex_unlock(&set->lock);
	return evicted;
}

static int open_kind(struct spm_fs *fs, const struct spm_inode *rec, uint64_t nodeid, enum spm_fd_kind kind)
{
	int fd;

	if (kind == SPM_FD_PATH)
		return spm_inode_open(fs, rec, nodeid, O_PATH);
	fd = spm_inode_open(fs, rec, nodeid, O_RDWR);
	if (fd == -EPERM) /* chattr +a, or +i */
		fd = spm_inode_open(fs, rec, nodeid, O_RDWR | O_APPEND);
	if (fd == -EPERM || fd == -EACCES || fd == -EROFS || fd == -EISDIR)
		fd = spm_inode_open(fs, rec, nodeid, O_RDONLY);
	return fd;
}

int spm_fd_get(struct spm_fs *fs, const struct spm_inode *rec, uint64_t nodeid, enum spm_fd_kind kind,
	       struct spm_fd *out)
{
	struct spm_fd_set *set = set_of(&fs->fds, nodeid);
	int evicted;

	*out = SPM_FD_NONE;
	if (take_cached(set, nodeid, kind, out))
		return 0;
	out->fd = open_kind(fs, rec, nodeid, kind);
	if (out->fd < 0) {
		int rc = out->fd;

		out->fd = -1;
		return rc;
	}
	/* Two threads may both miss and cache the inode twice: spm_fd_drop() looks at every entry. */
	evicted = keep(set, nodeid, kind, out);
	spm_cleanup_close(&evicted);
	return 0;
}

void spm_fd_put(struct spm_fd *fd)
{
	int dead = -1;

	if (fd->fd < 0)
		return;
	if (fd->set) {
		pthread_mutex_lock(&fd->set->lock);
		if (!--fd->entry->users && fd->entry->nodeid == DROPPED) {
			dead = fd->entry->fd;
			fd->entry->nodeid = 0;
		}
		pthread_mutex_unlock(&fd->set->lock);
	} else {
		dead = fd->fd;
	}
	spm_cleanup_close(&dead);
	*fd = SPM_FD_NONE;
}

void spm_fd_drop(struct spm_fdcache *c, uint64_t nodeid)
{
	struct spm_fd_set *set = set_of(c, nodeid);
	int dead[SPM_FDCACHE_WAYS];
	unsigned int n = 0;

	pthread_mutex_lock(&set->lock);
	for (unsigned int w = 0; w < SPM_FDCACHE_WAYS; w++) {
		struct spm_fd_entry *en = &set->way[w];

		if (en->nodeid != nodeid)
			continue;
		if (en->users) {
			en->nodeid = DROPPED;
		} else {
			dead[n++] = en->fd;
			en->nodeid = 0;
		}
	}
	pthread_mutex_unlock(&set->lock);
	while (n)
		close(dead[--n]);
}
