/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/texts.h"

#include <stdlib.h>
#include <string.h>

void spm_texts_init(struct spm_texts *t)
{
	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
}

void spm_texts_destroy(struct spm_texts *t)
{
	for (unsigned int i = 0; i < SPM_TEXTS; i++)
		free(t->kept[i].text);
	memset(t->kept, 0, sizeof(t->kept));
}

uint64_t spm_texts_handle(struct spm_texts *t, uint32_t generation)
{
	uint64_t handle;

	pthread_mutex_lock(&t->lock);
	handle = (uint64_t)generation << 32 | ++t->next;
	pthread_mutex_unlock(&t->lock);
	return handle;
}

bool spm_texts_take(struct spm_texts *t, uint64_t handle, char **text, size_t *len)
{
	bool found = false;

	pthread_mutex_lock(&t->lock);
	for (unsigned int i = 0; i < SPM_TEXTS && !found; i++) {
		struct spm_text *k = &t->kept[i];

		if (!k->text || k->handle != handle)
			continue;
		*text = k->text;
		*len = k->len;
		*k = (struct spm_text){ .handle = 0 };
		found = true;
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

void spm_texts_put(struct spm_texts *t, uint64_t handle, char *text, size_t len)
{
	struct spm_text *k = NULL;
	char *old;

	pthread_mutex_lock(&t->lock);
	for (unsigned int i = 0; i < SPM_TEXTS && !k; i++)
		if (!t->kept[i].text)
			k = &t->kept[i];
	if (!k) {
		k = &t->kept[t->oldest];
		t->oldest = (t->oldest + 1) % SPM_TEXTS;
	}
	old = k->text;
	*k = (struct spm_text){ .handle = handle, .text = text, .len = len };
	pthread_mutex_unlock(&t->lock);
	free(old);
}
