/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int open_base(void)
{
	static const struct {
		const char *dir, *proof;
	} bases[] = {
		{ "/sys/fs/cgroup", "cgroup.controllers" },     /* v2 */
		{ "/sys/fs/cgroup/memory", "cgroup.procs" },    /* v1 */
	};
	int rc = -ENOENT;

	for (size_t i = 0; i < SPM_ARRAY_SIZE(bases); i++) {
		int fd = open(bases[i].dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0) {
			rc = -errno;
			continue;
		}
		if (!faccessat(fd, bases[i].proof, F_OK, 0))
			return fd;
		close(fd);
	}
	return rc;
}

int spm_cgroup_make(struct spm_cgroup *c, const char *name)
{
	int rc;

	c->base_fd = open_base();
	if (c->base_fd < 0) {
		rc = c->base_fd;
		c->base_fd = -1;
		return rc;
	}
	/* with the keeper's id: the last mount of this name may not have cleaned up yet */
	snprintf(c->name, sizeof(c->name), "spmfs.%s.%d", name, getpid());
	if (!mkdirat(c->base_fd, c->name, 0755) || errno == EEXIST)
		return 0;
	rc = -errno;
	close(c->base_fd);
	c->base_fd = -1;
	return rc;
}

int spm_cgroup_join(const struct spm_cgroup *c)
{
	spm_auto_close int fd = -1;
	char path[128];

	if (c->base_fd < 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "%s/cgroup.procs", c->name);
	fd = openat(c->base_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		return -errno;
	return 0;
}

void spm_cgroup_remove(struct spm_cgroup *c)
{
	if (c->base_fd < 0)
		return;
	unlinkat(c->base_fd, c->name, AT_REMOVEDIR);
	close(c->base_fd);
	c->base_fd = -1;
}
