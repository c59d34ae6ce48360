/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What swap knows of slices. */
#include "core/swap-local.h"

uint64_t spm_swap_slice_bytes(struct spm_swap *s, uint16_t slice)
{
	uint64_t bytes = 0;

	for (uint32_t file = 0; (file = spm_extmap_next_file(&s->map, file + 1));)
		if (spm_extmap_file(&s->map, file)->slice == slice)
			bytes += spm_swap_bytes_of(s, file);
	return bytes;
}

void spm_swap_slice_gone(struct spm_swap *s, uint16_t slice)
{
	for (uint32_t file = 0; (file = spm_extmap_next_file(&s->map, file + 1));) {
		const struct spm_extfile *f = spm_extmap_file(&s->map, file);

		if (f->slice == slice)
			spm_swap_gone(s, slice, f->ino);
	}
}
