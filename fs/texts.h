/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_TEXTS_H
#define SPM_FS_TEXTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What was shown of a control file at an open descriptor's first read, until it is closed: the reads after it go on in the same
 * text, so that no line is torn, however the numbers in it change. The oldest one goes when there are too many, or the worker
 * dies: then the rest is made anew.
 */
#define SPM_TEXTS 64

struct spm_texts {
	pthread_mutex_t lock; /* a leaf */
	uint32_t next;
	unsigned int oldest;
	struct spm_text {
		uint64_t handle; /* 0: none */
		char *text;
		size_t len;
	} kept[SPM_TEXTS];
};

void spm_texts_init(struct spm_texts *t);
void spm_texts_destroy(struct spm_texts *t);
/* A handle that no worker has given, @generation counting workers. Never 0. */
uint64_t spm_texts_handle(struct spm_texts *t, uint32_t generation);
/* Gives back what was put; it is the caller's. false: there is none. */
bool spm_texts_take(struct spm_texts *t, uint64_t handle, char **text, size_t *len);
/* @text is @t's from now on. */
void spm_texts_put(struct spm_texts *t, uint64_t handle, char *text, size_t len);

#endif
