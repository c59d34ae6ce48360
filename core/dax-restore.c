/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving a dax device back, in bounded time. */
#include "core/dax-note.h"
#include "core/dax.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_MS 30000

static int restore(const char *dax, const struct spm_dax_note *n, struct spm_error *e)
{
	char mounts[200];
	struct spm_dax d;
	int rc;

	/* nothing was changed, and it need not be a device that libdaxctl knows */
	if (n->mode == SPM_DAX_DEVDAX && n->before == SPM_DAX_DEVDAX)
		return 0;
	rc = spm_dax_find(dax, &d);
	if (rc)
		return spm_fail(e, rc, "%s: %s", dax, rc == -ENODEV ? "the device has gone" : strerror(-rc));
	if (d.mode == SPM_DAX_SYSTEM_RAM && d.online && (n->before != SPM_DAX_SYSTEM_RAM || n->offline)) {
		/* their files would be moved to other memory, without a word */
		if (spm_node_mounts(d.node, mounts, sizeof(mounts)))
			return spm_fail(e, -EBUSY, "%s: its memory is that of node %d, which the mount at %s uses as well",
					dax, d.node, mounts);
		rc = spm_dax_offline(&d, e);
	}
	if (!rc && d.mode != n->before) {
		rc = spm_dax_switch(&d, n->before, e);
		if (!rc && n->offline)
			rc = spm_dax_offline(&d, e);
	}
	return rc;
}

/* What the child says; -ETIMEDOUT: nothing so far. */
static int hear(int fd, char *text, size_t len)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int rc;

	if (poll(&pfd, 1, LIMIT_MS) != 1)
		return -ETIMEDOUT;
	if (read(fd, &rc, sizeof(rc)) != sizeof(rc) || (rc && read(fd, text, len) < 0))
		return -EIO;
	return rc;
}

int spm_dax_restore(const char *dax, const struct spm_dax_note *n, struct spm_error *e)
{
	struct spm_error why = { "" };
	int p[2], rc;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC))
		return spm_fail(e, -errno, "%s: %m", dax);
	pid = fork();
	if (!pid) {
		rc = restore(dax, n, &why);
		_exit(write(p[1], &rc, sizeof(rc)) < 0 || write(p[1], why.text, sizeof(why.text)) < 0);
	}
	close(p[1]);
	rc = pid < 0 ? -EAGAIN : hear(p[0], why.text, sizeof(why.text));
	close(p[0]);
	if (pid > 0 && rc == -ETIMEDOUT)
		kill(pid, SIGKILL);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	why.text[sizeof(why.text) - 1] = '\0';
	if (rc == -ETIMEDOUT)
		return spm_dax_stays(dax, n->node, e);
	return rc ? spm_fail(e, rc, "%s", why.text[0] ? why.text : strerror(-rc)) : 0;
}
