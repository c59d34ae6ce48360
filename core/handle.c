/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

union raw_handle {
	struct file_handle fh;
	char room[sizeof(struct file_handle) + SPM_HANDLE_BYTES];
};

int spm_handle_at(int dirfd, const char *name, struct spm_handle *out)
{
	union raw_handle raw = { .fh = { .handle_bytes = SPM_HANDLE_BYTES } };
	int mount_id;

	if (name_to_handle_at(dirfd, name, &raw.fh, &mount_id, *name ? 0 : AT_EMPTY_PATH))
		return -errno;
	out->type = (uint8_t)raw.fh.handle_type;
	out->len = (uint8_t)raw.fh.handle_bytes;
	memcpy(out->bytes, raw.fh.f_handle, SPM_HANDLE_BYTES);
	return 0;
}

int spm_handle_open(int mount_fd, const struct spm_handle *h, int flags)
{
	union raw_handle raw = { .fh = { .handle_bytes = h->len, .handle_type = h->type } };
	int fd;

	memcpy(raw.fh.f_handle, h->bytes, SPM_HANDLE_BYTES);
	fd = open_by_handle_at(mount_fd, &raw.fh, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
