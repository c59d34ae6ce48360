/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/names.h"
#include "fs/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

int spm_names_init(struct spm_fs *fs)
{
	struct spm_names *n = &fs->names;
	spm_auto_close int fd = spm_slice_probe(fs->root.mount_fd);
	struct spm_handle h;
	int rc, again;

	pthread_mutex_init(&n->lock, NULL);
	if (fd < 0)
		return fd;
	rc = spm_handle_at(fd, "", &h);
	if (rc)
		return rc;
	again = spm_handle_open(fs->root.mount_fd, &h, O_PATH);
	if (again >= 0) {
		close(again);
		return 0;
	}
	if (again != -EPERM)
		return again;
	n->bucket = calloc(SPM_NAMES_BUCKETS, sizeof(*n->bucket));
	n->on = n->bucket;
	return n->on ? 0 : -ENOMEM;
}

static bool is_dir(const struct spm_inode *rec, const void *arg)
{
	(void)arg;
	return spm_inode_is(rec, SPM_INODE_DIR);
}

static int rebuild_dir(struct spm_fs *fs, uint64_t parent)
{
	const struct spm_inode *rec = spm_itable_get(&fs->itable, parent);
	int fd = rec ? spm_inode_open(fs, rec, parent, O_RDONLY) : -1, rc = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	uint64_t nodeid;

	if (!dir) { /* removed, and so empty */
		spm_cleanup_close(&fd);
		return 0;
	}
	while (!rc && (de = readdir(dir)))
		if (de->d_type != DT_DIR && spm_itable_find(&fs->itable, rec->slice, de->d_ino, &nodeid))
			rc = spm_names_set(fs, nodeid, parent, de->d_name);
	closedir(dir);
	return rc;
}

int spm_names_rebuild(struct spm_fs *fs)
{
	spm_auto_free uint64_t *ids = NULL;
	size_t count;
	int rc;

	if (!fs->names.on)
		return 0;
	rc = spm_itable_collect(&fs->itable, is_dir, NULL, &ids, &count);
	for (size_t i = 0; i < count && !rc; i++)
		rc = rebuild_dir(fs, ids[i]);
	return rc;
}

void spm_names_destroy(struct spm_names *n)
{
	for (unsigned int i = 0; n->on && i < SPM_NAMES_BUCKETS; i++) {
		while (n->bucket[i]) {
			struct spm_name *next = n->bucket[i]->next;

			free(n->bucket[i]);
			n->bucket[i] = next;
		}
	}
	free(n->bucket);
}

/* Where the pointer to the name of @nodeid is, or would be. With the lock. */
static struct spm_name **find(struct spm_names *n, uint64_t nodeid)
{
	struct spm_name **p = &n->bucket[(uint32_t)nodeid % SPM_NAMES_BUCKETS];

	while (*p && (*p)->nodeid != nodeid)
		p = &(*p)->next;
	return p;
}

static void replace(struct spm_names *n, uint64_t nodeid, struct spm_name *fresh)
{
	struct spm_name **p, *old;

	pthread_mutex_lock(&n->lock);
	p = find(n, nodeid);
	old = *p;
	if (fresh)
		fresh->next = old ? old->next : NULL;
	if (old || fresh)
		*p = fresh ? fresh : old->next;
	pthread_mutex_unlock(&n->lock);
	free(old);
}

int spm_names_set(struct spm_fs *fs, uint64_t nodeid, uint64_t parent, const char *name)
{
	struct spm_name *e;

	if (!fs->names.on)
		return 0;
	e = malloc(sizeof(*e) + strlen(name) + 1);
	if (!e)
		return -ENOMEM;
	e->nodeid = nodeid;
	e->parent = parent;
	strcpy(e->text, name);
	replace(&fs->names, nodeid, e);
	return 0;
}

void spm_names_forget(struct spm_fs *fs, uint64_t nodeid)
{
	if (fs->names.on)
		replace(&fs->names, nodeid, NULL);
}

static bool copy_name(struct spm_names *n, uint64_t nodeid, uint64_t *parent, char name[static SPM_NAME_MAX + 1])
{
	struct spm_name *e;

	pthread_mutex_lock(&n->lock);
	e = *find(n, nodeid);
	if (e) {
		*parent = e->parent;
		snprintf(name, SPM_NAME_MAX + 1, "%s", e->text);
	}
	pthread_mutex_unlock(&n->lock);
	return e;
}

static int open_named(struct spm_fs *fs, const struct spm_inode *rec, uint64_t nodeid, int flags)
{
	struct spm_slice *s = spm_slice_of(fs, rec);
	spm_auto_close int dir = -1, fd = -1;
	char name[SPM_NAME_MAX + 1];
	const struct spm_inode *up;
	uint64_t parent;
	struct stat st;

	if (spm_inode_is(rec, SPM_INODE_ORPHAN)) {
		spm_slice_orphan_name(rec->ino, name);
		fd = openat(s->orphans_fd, name, flags | O_NOFOLLOW | O_CLOEXEC);
		return fd < 0 ? -errno : spm_steal_fd(&fd);
	}
	if (!copy_name(&fs->names, nodeid, &parent, name))
		return -ESTALE;
	up = spm_itable_get(&fs->itable, parent);
	dir = up ? spm_handle_open(s->mount_fd, &up->handle, O_PATH | O_DIRECTORY) : -ESTALE;
	if (dir < 0)
		return dir;
	fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || st.st_ino != rec->ino)
		return -ESTALE;
	return spm_steal_fd(&fd);
}

int spm_inode_open(struct spm_fs *fs, const struct spm_inode *rec, uint64_t nodeid, int flags)
{
	bool dir = spm_inode_is(rec, SPM_INODE_DIR);

	if (fs->names.on && !dir)
		return open_named(fs, rec, nodeid, flags);
	/* a directory, and said so: in a user namespace that is what makes it allowed */
	if (fs->names.on && (flags & O_ACCMODE) != O_RDONLY)
		return -EISDIR;
	return spm_handle_open(spm_slice_of(fs, rec)->mount_fd, &rec->handle, flags | (dir ? O_DIRECTORY : 0));
}
