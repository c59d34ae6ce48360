/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which device a pool is on. Its label says what was written there last, and nothing of the rest of it: memory that the kernel
 * has had in between may still end in our label. So it counts as well that no driver but ours has had the device: each time
 * that one takes it, it has another binding, and often another number.
 */
#include "core/pool-local.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

uint64_t spm_pool_check_of(const void *from, size_t bytes)
{
	uint64_t check = POOL_MAGIC, word;

	for (size_t at = 0; at < bytes; at += sizeof(word)) {
		memcpy(&word, (const uint8_t *)from + at, sizeof(word));
		check = spm_mix(check ^ word);
	}
	return check;
}

int spm_pool_ident_of(const struct spm_pool_device *d, struct spm_pool_ident *i)
{
	struct stat st;

	if (fstat(d->fd, &st))
		return -errno;
	*i = (struct spm_pool_ident){ .binding = d->binding };
	i->id[0] = S_ISREG(st.st_mode) ? st.st_dev : st.st_rdev;
	i->id[1] = S_ISREG(st.st_mode) ? st.st_ino : 0;
	i->check = spm_pool_check_of(i, offsetof(struct spm_pool_ident, check));
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size < d->bytes ? -ENODEV : 0;
}

bool spm_pool_ident_same(const struct spm_pool_ident *noted, const struct spm_pool_ident *now)
{
	return noted->check == spm_pool_check_of(noted, offsetof(struct spm_pool_ident, check)) && noted->id[0] == now->id[0] &&
	       noted->id[1] == now->id[1] && noted->binding == now->binding;
}

void spm_pool_ident_note(struct spm_pool_ident *to, const struct spm_pool_ident *now)
{
	to->check = ~to->check;
	spm_pool_barrier();
	memcpy(to->id, now->id, sizeof(to->id));
	to->binding = now->binding;
	spm_pool_barrier();
	to->check = now->check;
}
