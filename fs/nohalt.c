/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/nohalt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysinfo.h>

#define DEVICE         "/dev/cpu_dma_latency"
#define CPUIDLE_DRIVER "/sys/devices/system/cpu/cpuidle/current_driver"
#define HALT_POLL_NS   "/sys/module/haltpoll/parameters/guest_halt_poll_ns"
#define CPUS_MAX       8      /* auto: all idle ones poll, so on a large machine that is the admin's to decide */
#define POLLS_NS       50000  /* a guest that polls for so long by itself needs no help */
#define ANY_LATENCY_US 2000000000 /* the kernel's PM_QOS_CPU_LATENCY_DEFAULT_VALUE */

static bool read_line(const char *path, char *buf, size_t size)
{
	spm_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

/* Why auto leaves it off; NULL: it does not. */
static const char *not_needed(void)
{
	char text[64];

	if (!read_line(CPUIDLE_DRIVER, text, sizeof(text)) || strcmp(text, "haltpoll"))
		return "not a virtual machine whose idle processors halt";
	if (read_line(HALT_POLL_NS, text, sizeof(text)) && strtoull(text, NULL, 10) >= POLLS_NS)
		return "not needed: the kernel polls before it halts (guest_halt_poll_ns)";
	if (get_nprocs() > CPUS_MAX)
		return "more than 8 processors; option nohalt=on for all of them, or set guest_halt_poll_ns";
	return NULL;
}

void spm_nohalt_open(struct spm_nohalt *n, enum spm_nohalt_when when)
{
	const char *why = when == SPM_NOHALT_OFF ? "option nohalt=off" : when == SPM_NOHALT_AUTO ? not_needed() : NULL;

	*n = (struct spm_nohalt){ .fd = -1 };
	if (!why)
		n->fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	if (why)
		snprintf(n->why, sizeof(n->why), "%s", why);
	else if (n->fd < 0)
		snprintf(n->why, sizeof(n->why), "%s: %s", DEVICE, strerror(errno));
}

void spm_nohalt_close(struct spm_nohalt *n)
{
	spm_cleanup_close(&n->fd);
	n->fd = -1;
	n->held = false;
}

static void ask(struct spm_nohalt *n, int32_t latency_us, bool held)
{
	if (n->fd < 0 || n->held == held)
		return;
	if (write(n->fd, &latency_us, sizeof(latency_us)) == sizeof(latency_us)) {
		n->held = held;
		return;
	}
	snprintf(n->why, sizeof(n->why), "%s: %s", DEVICE, strerror(errno));
	spm_nohalt_close(n); /* which takes the request back, whatever it was */
}

void spm_nohalt_hold(struct spm_nohalt *n)
{
	ask(n, 0, true);
}

void spm_nohalt_release(struct spm_nohalt *n)
{
	ask(n, ANY_LATENCY_US, false);
}

void spm_nohalt_reset(struct spm_nohalt *n)
{
	n->held = true;
	spm_nohalt_release(n);
}
