/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/pool-local.h"

static int stripe_of(const struct spm_pool_file *f)
{
	return (int)(spm_mix(spm_pool_whose(f)) % POOL_STRIPES);
}

static void take(struct spm_pool *p, int stripe, enum spm_pool_how how)
{
	pthread_rwlock_t *l = &p->stripe[stripe];

	if (!(how == SPM_POOL_EXCLUSIVE ? pthread_rwlock_trywrlock(l) : pthread_rwlock_tryrdlock(l)))
		return;
	if (p->o.slow)
		p->o.slow(p->o.ctx);
	if (how == SPM_POOL_EXCLUSIVE)
		pthread_rwlock_wrlock(l);
	else
		pthread_rwlock_rdlock(l);
}

void spm_pool_lock(struct spm_pool *p, const struct spm_pool_file *f, enum spm_pool_how how,
		   struct spm_pool_held *h)
{
	*h = (struct spm_pool_held){ .pool = p, .stripe = { stripe_of(f), -1 } };
	take(p, h->stripe[0], how);
}

void spm_pool_lock_two(struct spm_pool *p, const struct spm_pool_file f[2], const enum spm_pool_how how[2],
		       struct spm_pool_held *h)
{
	int at[2] = { stripe_of(&f[0]), stripe_of(&f[1]) };
	int first = at[1] < at[0];

	if (at[0] == at[1]) {
		*h = (struct spm_pool_held){ .pool = p, .stripe = { at[0], -1 } };
		take(p, at[0], how[0] == SPM_POOL_EXCLUSIVE ? how[0] : how[1]);
		return;
	}
	*h = (struct spm_pool_held){ .pool = p, .stripe = { at[0], at[1] } };
	take(p, at[first], how[first]);
	take(p, at[!first], how[!first]);
}

void spm_pool_unlock(struct spm_pool_held *h)
{
	if (!h->pool)
		return;
	for (int i = 0; i < 2; i++)
		if (h->stripe[i] >= 0)
			pthread_rwlock_unlock(&h->pool->stripe[h->stripe[i]]);
	h->pool = NULL;
}
