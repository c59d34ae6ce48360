/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads and stores on device memory, which may be poisoned: the kernel then sends SIGBUS to the thread that
 * met it (BUS_MCEERR_AR), or to the process that has it mapped, if it found it by itself (BUS_MCEERR_AO).
 *
 * A signal handler has no context but the process, so this state is static: where the thread may fault, which
 * ranges are devices, and addresses that were noted.
 */
#include "core/pool-local.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#define WATCHED 16u
#define NOTED   64u
#define STREAM_MIN (UINT64_C(64) << 10) /* from here on, caches have nothing of it for whoever reads it next */

struct guard {
	sigjmp_buf out;
	const uint8_t *part[2]; /* where faults are expected */
	size_t n;
	const uint8_t *volatile at;
};

static __thread struct guard *volatile guard;
static struct {
	struct sigaction before;
	_Atomic uintptr_t from[WATCHED], to[WATCHED];
	_Atomic uintptr_t noted[NOTED];
	bool installed;
} caught;
static pthread_mutex_t catching = PTHREAD_MUTEX_INITIALIZER;

static bool is_watched(uintptr_t at)
{
	for (unsigned int i = 0; i < WATCHED; i++)
		if (at >= atomic_load(&caught.from[i]) && at < atomic_load(&caught.to[i]))
			return true;
	return false;
}

/* False: it was noted before. */
static bool note(uintptr_t at)
{
	uintptr_t none = 0;

	/* more than fit will be met when they are read */
	for (unsigned int i = 0; i < NOTED; i++, none = 0) {
		if (atomic_compare_exchange_strong(&caught.noted[i], &none, at))
			return true;
		if (none == at)
			return false;
	}
	return false;
}

/* Whether the fault lies where this thread is copying. The kernel may tell no more than the huge page that it
 * is in. */
static bool expected(struct guard *g, uintptr_t at, unsigned int lsb)
{
	uintptr_t first = lsb < 48 ? at & ~(((uintptr_t)1 << lsb) - 1) : at,
		  last = lsb < 48 ? first + ((uintptr_t)1 << lsb) : at;

	for (int i = 0; i < 2; i++) {
		uintptr_t from = (uintptr_t)g->part[i];

		if (from && from < last && first < from + g->n) {
			g->at = g->part[i];
			return true;
		}
	}
	return false;
}

static void pass_on(int sig, siginfo_t *info, void *context)
{
	if (caught.before.sa_flags & SA_SIGINFO) {
		caught.before.sa_sigaction(sig, info, context);
		return;
	}
	if (caught.before.sa_handler != SIG_DFL && caught.before.sa_handler != SIG_IGN) {
		caught.before.sa_handler(sig);
		return;
	}
	/* the instruction faults again, or the signal comes again */
	signal(sig, SIG_DFL);
	if (info->si_code <= 0 || info->si_code == BUS_MCEERR_AO)
		raise(sig);
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	struct guard *g = guard;

	if (info->si_code == BUS_MCEERR_AO && is_watched(at)) {
		(void)note(at);
		return;
	}
	if (g && info->si_code > 0 && info->si_code != BUS_MCEERR_AO &&
	    expected(g, at, info->si_code == BUS_MCEERR_AR ? (unsigned int)info->si_addr_lsb : 0)) {
		guard = NULL;
		/* as it was, whatever the handler is run with: a SIGBUS that is blocked kills */
		pthread_sigmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL);
		siglongjmp(g->out, 1);
	}
	/* the kernel met it in a system call of this thread, which need not end for that. (An instruction that meets it outside of all
	 * guards would be back at once.) */
	if (info->si_code == BUS_MCEERR_AR && is_watched(at) && note(at))
		return;
	pass_on(sig, info, context);
}

int spm_pool_catch(void)
{
	struct sigaction a = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART };
	int rc = 0;

	pthread_mutex_lock(&catching);
	if (!caught.installed) {
		sigemptyset(&a.sa_mask);
		rc = sigaction(SIGBUS, &a, &caught.before) ? -errno : 0;
		caught.installed = !rc;
	}
	pthread_mutex_unlock(&catching);
	return rc;
}

int spm_pool_watch(const void *base, uint64_t bytes)
{
	int rc = -ENOSPC;

	pthread_mutex_lock(&catching);
	for (unsigned int i = 0; i < WATCHED && rc; i++)
		if (!atomic_load(&caught.from[i])) {
			atomic_store(&caught.from[i], (uintptr_t)base);
			atomic_store(&caught.to[i], (uintptr_t)base + bytes);
			rc = 0;
		}
	pthread_mutex_unlock(&catching);
	return rc;
}

void spm_pool_unwatch(const void *base)
{
	pthread_mutex_lock(&catching);
	for (unsigned int i = 0; i < WATCHED; i++)
		if (atomic_load(&caught.from[i]) == (uintptr_t)base) {
			atomic_store(&caught.to[i], 0);
			atomic_store(&caught.from[i], 0);
		}
	pthread_mutex_unlock(&catching);
}

void *spm_pool_noted(const void *base, uint64_t bytes)
{
	uintptr_t from = (uintptr_t)base, at;

	for (unsigned int i = 0; i < NOTED; i++) {
		at = atomic_load(&caught.noted[i]);
		if (at >= from && at < from + bytes && atomic_compare_exchange_strong(&caught.noted[i], &at, 0))
			return (void *)at; /* NOLINT(performance-no-int-to-ptr): an address of the kernel's */
	}
	return NULL;
}

/* -- what runs under guard -- */

/* Past the caches: memory that is written as a whole need not be read for it first. */
static void stream(uint8_t *to, const uint8_t *from, size_t n)
{
#if defined(__x86_64__)
	if (n >= STREAM_MIN && !((uintptr_t)to % 64) && !(n % 64) && !((uintptr_t)from % 16)) {
		for (size_t i = 0; i < n; i += 64) {
			const __m128i *s = (const __m128i *)(const void *)(from + i);
			__m128i *d = (__m128i *)(void *)(to + i);
			__m128i a = _mm_load_si128(s), b = _mm_load_si128(s + 1);
			__m128i c = _mm_load_si128(s + 2), e = _mm_load_si128(s + 3);

			_mm_stream_si128(d, a);
			_mm_stream_si128(d + 1, b);
			_mm_stream_si128(d + 2, c);
			_mm_stream_si128(d + 3, e);
		}
		_mm_sfence();
		return;
	}
#endif
	memcpy(to, from, n);
}

static void stream_zeros(uint8_t *to, const uint8_t *from, size_t n)
{
	(void)from;
#if defined(__x86_64__)
	if (n >= STREAM_MIN && !((uintptr_t)to % 64) && !(n % 64)) {
		__m128i zero = _mm_setzero_si128();

		for (size_t i = 0; i < n; i += 64) {
			__m128i *d = (__m128i *)(void *)(to + i);

			_mm_stream_si128(d, zero);
			_mm_stream_si128(d + 1, zero);
			_mm_stream_si128(d + 2, zero);
			_mm_stream_si128(d + 3, zero);
		}
		_mm_sfence();
		return;
	}
#endif
	memset(to, 0, n);
}

static void plain(uint8_t *to, const uint8_t *from, size_t n)
{
	memcpy(to, from, n);
}

/* Which of @to and @from are on the device is in @g. */
static int __attribute__((noinline))
guarded(struct guard *g, void (*fn)(uint8_t *, const uint8_t *, size_t), void *to, const void *from)
{
	if (sigsetjmp(g->out, 0))
		return -EIO; /* the handler has taken the guard away */
	guard = g;
	atomic_signal_fence(memory_order_seq_cst);
	fn(to, from, g->n);
	atomic_signal_fence(memory_order_seq_cst);
	guard = NULL;
	return 0;
}

int spm_pool_copy_from(void *to, const void *device, size_t n)
{
	struct guard g = { .part = { device }, .n = n };

	return guarded(&g, plain, to, device);
}

int spm_pool_copy_to(void *device, const void *from, size_t n)
{
	struct guard g = { .part = { device }, .n = n };

	return guarded(&g, plain, device, from);
}

int spm_pool_copy_over(void *to, const void *from, size_t n, const void **lost)
{
	struct guard g = { .part = { to, from }, .n = n };
	int rc = guarded(&g, stream, to, from);

	*lost = rc ? g.at : NULL;
	return rc;
}

struct call {
	void (*fn)(void *arg);
	void *arg;
};

static void call_it(uint8_t *to, const uint8_t *from, size_t n)
{
	const struct call *c = (const void *)from;

	(void)to;
	(void)n;
	c->fn(c->arg);
}

int spm_pool_under_guard(const void *device, size_t n, void (*fn)(void *arg), void *arg)
{
	struct guard g = { .part = { device }, .n = n };
	const struct call c = { .fn = fn, .arg = arg };

	return guarded(&g, call_it, NULL, &c);
}

int spm_pool_clear(void *device, size_t n)
{
	struct guard g = { .part = { device }, .n = n };

	return guarded(&g, stream_zeros, device, NULL);
}
