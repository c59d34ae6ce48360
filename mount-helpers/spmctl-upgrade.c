/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl upgrade: has a live mount served by another spmfs program. The keeper does it (fs/keeper-upgrade.c). */
#include "config.h"

#include "fs/handover.h"
#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#define ANSWER_SECONDS 60 /* the keeper's own limits are shorter */

/* The program to change to: as given, else beside this one (a build tree), else where it is installed. */
static bool find_program(const char *given, char path[static PATH_MAX])
{
	static const char installed[] = SPM_SBINDIR "/spmfs";
	char beside[PATH_MAX], own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (given)
		return realpath(given, path);
	if (n > 0) {
		own[n] = '\0';
		*strrchr(own, '/') = '\0';
		if ((size_t)snprintf(beside, sizeof(beside), "%s/spmfs", own) < sizeof(beside) &&
		    realpath(beside, path))
			return true;
	}
	return realpath(installed, path);
}

static int reach_keeper(const char *name)
{
	const struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/run/spmfs/%.64s.sock", name);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
	    !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		return fd;
	ctl_error("cannot reach the mount's keeper at %s: %s; it takes root, in the mount namespace that it was "
		  "mounted from",
		  addr.sun_path, strerror(errno));
	spm_cleanup_close(&fd);
	return -1;
}

static int ask(const char *point, const char *name, const char *program)
{
	struct spm_word w = { .kind = SPM_WORD_UPGRADE };
	spm_auto_close int sock = -1, ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int rc;

	if (strlen(program) >= sizeof(w.text)) {
		ctl_error("%s: the path is too long (at most %zu bytes)", program, sizeof(w.text) - 1);
		return CTL_FAILED;
	}
	strcpy(w.text, program);
	sock = reach_keeper(name);
	if (sock < 0)
		return CTL_FAILED;
	rc = spm_word_send(sock, &w, ns);
	if (!rc)
		rc = spm_word_take(sock, &w, NULL);
	if (rc || (w.kind != SPM_WORD_DONE && w.kind != SPM_WORD_REFUSED)) {
		ctl_error("%s: no answer from the keeper (%s); the system log says what became of it", point,
			  strerror(rc ? -rc : EPROTO));
		return CTL_FAILED;
	}
	if (w.kind == SPM_WORD_REFUSED) {
		ctl_error("%s: not upgraded: %s", point, w.text);
		return CTL_FAILED;
	}
	printf("%s: %s\n", point, w.text);
	return CTL_DONE;
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_mounts mounts = { 0 };
	struct ctl_table features = { 0 };
	const struct ctl_mount *m;
	struct ctl_opts opts;
	int at = ctl_options(cmd, argc, argv, &opts), rc = CTL_FAILED;
	char program[PATH_MAX];
	const char *name, *given;
	char *text;

	if (at < 0)
		return at == -2 ? CTL_DONE : CTL_USAGE;
	if (argc - at < 1 || argc - at > 2) {
		ctl_error(
			"upgrade: give a mount point, and the program if it is not the installed one; usage: spmctl %s %s",
			cmd->name, cmd->args);
		return CTL_USAGE;
	}
	given = argc - at == 2 ? argv[at + 1] : NULL;
	if (!find_program(given, program)) {
		ctl_error("%s: %s", given ? given : SPM_SBINDIR "/spmfs", strerror(errno));
		return CTL_FAILED;
	}
	if (ctl_mounts_read(&mounts))
		return CTL_FAILED;
	m = ctl_mount_find(&mounts, argv[at]);
	text = m ? ctl_control_read(m->point, "features") : NULL;
	if (text && !ctl_table_parse(&features, text)) {
		name = ctl_table_get(&features, "name");
		rc = ask(m->point, name ? name : "", program);
		ctl_table_free(&features);
	}
	ctl_mounts_free(&mounts);
	return rc;
}

const struct ctl_cmd ctl_upgrade = {
	.name = "upgrade",
	.args = "MOUNTPOINT [PROGRAM]",
	.help = "Has a live mount served by the installed spmfs, or by PROGRAM",
	.run = run,
};
