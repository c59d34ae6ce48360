/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/shared.h"
#include "core/itable.h"
#include "fs/desk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ITABLE_MAX (32u << 20) /* inodes that the kernel may remember at once; 2 GiB of address space */

static struct spm_state *map_head(int fd)
{
	void *p = mmap(NULL, SPM_STATE_HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

int spm_shared_make(const struct spm_mount *mount, int fd[static SPM_FDS], struct spm_state **state,
		    struct spm_error *e)
{
	int rc = spm_desks_create(&fd[SPM_FD_STATE], &fd[SPM_FD_BUFFERS]);

	if (!rc) {
		fd[SPM_FD_INODES] = spm_itable_create(ITABLE_MAX);
		rc = fd[SPM_FD_INODES] < 0 ? fd[SPM_FD_INODES] : 0;
	}
	if (rc)
		return spm_fail(e, rc, "cannot make shared memory: %s", strerror(-rc));
	*state = map_head(fd[SPM_FD_STATE]);
	if (!*state)
		return spm_fail(e, -errno, "cannot map the shared memory: %m");
	(*state)->mount = *mount;
	return 0;
}

int spm_shared_map(int state_fd, struct spm_state **state, uint32_t *version)
{
	struct {
		uint64_t magic;
		uint32_t version;
	} head;

	if (pread(state_fd, &head, sizeof(head), 0) != sizeof(head) || head.magic != SPM_STATE_MAGIC)
		return -EPROTO;
	*version = head.version;
	if (head.version != SPM_STATE_VERSION)
		return -ENOTSUP;
	*state = map_head(state_fd);
	return *state ? 0 : -errno;
}

int spm_shared_program(char program[static PATH_MAX])
{
	static const char gone[] = " (deleted)";
	ssize_t n = readlink("/proc/self/exe", program, PATH_MAX - 1);

	if (n < 0)
		return -errno;
	program[n] = '\0';
	/* replaced by an upgrade: what lies there now will do */
	if ((size_t)n > strlen(gone) && !strcmp(program + n - strlen(gone), gone))
		program[(size_t)n - strlen(gone)] = '\0';
	return 0;
}

int spm_shared_programs(char program[static PATH_MAX], int *keeper_fd, struct spm_error *e)
{
	static const char installed[] = SPM_LIBEXECDIR "/spmfs-keeper";
	char beside[PATH_MAX + 16];
	int rc = spm_shared_program(program);

	if (rc)
		return spm_fail(e, rc, "cannot read /proc/self/exe: %s", strerror(-rc));
	snprintf(beside, sizeof(beside), "%.*s/spmfs-keeper", (int)(strrchr(program, '/') - program), program);
	*keeper_fd = open(beside, O_RDONLY | O_CLOEXEC);
	if (*keeper_fd < 0)
		*keeper_fd = open(installed, O_RDONLY | O_CLOEXEC);
	if (*keeper_fd < 0)
		return spm_fail(e, -errno, "cannot open the keeper's program %s: %m; install spmfs again",
				installed);
	return 0;
}

int spm_shared_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	int fd;

	if (!n || n >= sizeof(addr.sun_path))
		return -1;
	memcpy(addr.sun_path, path, n);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 &&
	    connect(fd, (struct sockaddr *)&addr,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '@' ? 0 : 1)))) {
		close(fd);
		return -1;
	}
	return fd;
}

bool spm_shared_in_user_ns(void)
{
	spm_auto_fclose FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long inside, outside, count;

	return !f || fscanf(f, "%lu %lu %lu", &inside, &outside, &count) != 3 || inside || outside ||
	       count < UINT32_MAX;
}
