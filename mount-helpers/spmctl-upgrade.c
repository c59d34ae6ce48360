/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl upgrade: another program serves a live mount from now on. fs/keeper-upgrade.c does it. */
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

#define RUN_DIR        "/run/spmfs"
#define INSTALLED      SPM_SBINDIR "/spmfs"
#define ANSWER_SECONDS 60 /* more than the keeper allows for all of its steps */

/* Beside this program, which is so in a build tree, or else where it is installed. */
static const char *usual_program(char path[static PATH_MAX])
{
	static const char name[] = "/spmfs";
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof(name));

	if (n > 0) {
		path[n] = '\0';
		memcpy(strrchr(path, '/'), name, sizeof(name));
		if (!access(path, X_OK))
			return path;
	}
	return INSTALLED;
}

/*
 * The program's absolute path, not resolved any further: through a link that the next package moves, the
 * keeper finds whatever is installed then. The keeper tells what cannot be told from outside.
 */
static bool find_program(const char *given, char path[static PATH_MAX])
{
	char usual[PATH_MAX];
	const char *what = given ? given : usual_program(usual);
	struct stat st;

	if (what[0] == '/' ? snprintf(path, PATH_MAX, "%s", what) >= PATH_MAX : !realpath(what, path)) {
		ctl_error("%s: %s", what, strerror(what[0] == '/' ? ENAMETOOLONG : errno));
		return false;
	}
	if (stat(path, &st)) {
		ctl_error("%s: %s; %s", path, strerror(errno),
			  given ? "give the path of an spmfs program"
				: "spmfs is not installed there: name the program with --binary");
		return false;
	}
	if (!S_ISREG(st.st_mode)) {
		ctl_error("%s: not a program file", path);
		return false;
	}
	if (access(path, X_OK)) {
		ctl_error("%s: cannot be executed (%s); chmod +x it, or move it off a noexec mount", path,
			  strerror(errno));
		return false;
	}
	return true;
}

/* The name goes into a path, and comes from a mount that need not be one of root's. */
static bool is_name(const char *name)
{
	static const char known[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = name ? strspn(name, known) : 0;

	return n && !name[n] && n <= 64 && name[0] != '.';
}

static void unreachable(const char *point, const char *path)
{
	if (errno == ENOENT)
		ctl_error("%s: there is no %s: a mount made in a user namespace cannot be upgraded, and one "
			  "made in another mount namespace only there",
			  point, path);
	else if (errno == ECONNREFUSED)
		ctl_error("%s: its keeper is gone, so nothing can be upgraded or restarted; umount it and "
			  "mount it with -o recover",
			  point);
	else if (errno == EAGAIN)
		ctl_error("%s: its keeper did not answer in %d s; the system log may say why", point,
			  ANSWER_SECONDS);
	else
		ctl_error("%s: cannot reach the keeper at %s: %s", point, path, strerror(errno));
}

/* A connection to the keeper, which must be root's: it gets a descriptor of our namespace. */
static int reach_keeper(const char *point, const char *name)
{
	const struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);
	spm_auto_close int fd = -1;

	if (!is_name(name)) {
		ctl_error("%s: its name is not one that spmfs gives; this is no mount made by spmfs(8)",
			  point);
		return -1;
	}
	snprintf(addr.sun_path, sizeof(addr.sun_path), RUN_DIR "/%s.sock", name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len)) {
		unreachable(point, addr.sun_path);
		return -1;
	}
	if (peer.uid) {
		ctl_error("%s: who listens at %s is not root (uid %u), so it is not asked", point,
			  addr.sun_path, (unsigned int)peer.uid);
		return -1;
	}
	return spm_steal_fd(&fd);
}

static void no_answer(const char *point, int rc)
{
	if (rc == -EAGAIN)
		ctl_error("%s: no answer within %d s; spmctl status shows what serves, the system log what "
			  "happened",
			  point, ANSWER_SECONDS);
	else
		ctl_error("%s: its keeper ended the connection without an answer; spmctl status shows what "
			  "serves, the system log what happened",
			  point);
}

/* Asks the keeper and waits. CTL_DONE with the answer in @w; else it is told. */
static int ask(const char *point, const char *name, const char *program, struct spm_word *w)
{
	spm_auto_close int ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), sock = -1;
	size_t len = strlen(program);
	int rc;

	if (ns < 0) {
		ctl_error("/proc/self/ns/mnt: %s; is /proc mounted?", strerror(errno));
		return CTL_FAILED;
	}
	*w = (struct spm_word){ .kind = SPM_WORD_UPGRADE };
	if (len >= sizeof(w->text)) {
		ctl_error("%s: a path of more than %zu bytes cannot be passed on", program,
			  sizeof(w->text) - 1);
		return CTL_FAILED;
	}
	memcpy(w->text, program, len + 1);
	sock = reach_keeper(point, name);
	if (sock < 0)
		return CTL_FAILED;
	rc = spm_word_send(sock, w, ns);
	if (!rc)
		rc = spm_word_take(sock, w, NULL);
	if (rc || (w->kind != SPM_WORD_DONE && w->kind != SPM_WORD_REFUSED)) {
		no_answer(point, rc);
		return CTL_FAILED;
	}
	if (w->kind == SPM_WORD_REFUSED) {
		ctl_error("%s: not upgraded: %s", point, w->text);
		return CTL_FAILED;
	}
	return CTL_DONE;
}

/* "OLD -> NEW, takeover N ms" */
static void show_json(const char *point, const char *program, const char *text)
{
	struct json_object *obj = json_object_new_object();
	char from[32], to[32];
	unsigned long long ms;
	bool whole = sscanf(text, "%31s -> %31[^,], takeover %llu ms", from, to, &ms) == 3;

	json_object_object_add(obj, "mountpoint", ctl_json_bytes(point));
	json_object_object_add(obj, "program", ctl_json_bytes(program));
	json_object_object_add(obj, "from", whole ? ctl_json_bytes(from) : NULL);
	json_object_object_add(obj, "to", whole ? ctl_json_bytes(to) : NULL);
	json_object_object_add(obj, "takeover_ms", whole ? json_object_new_uint64(ms) : NULL);
	ctl_json_print(obj);
}

static int upgrade(const char *point, const char *program, const struct ctl_opts *opts)
{
	char *text = ctl_control_read(point, "features");
	struct ctl_table features;
	struct spm_word w;
	int rc;

	if (!text)
		return CTL_FAILED;
	if (ctl_table_parse(&features, text)) {
		ctl_error("%s: out of memory", point);
		return CTL_FAILED;
	}
	rc = ask(point, ctl_table_get(&features, "name"), program, &w);
	ctl_table_free(&features);
	if (rc != CTL_DONE)
		return rc;
	if (opts->json) {
		show_json(point, program, w.text);
	} else {
		ctl_print_path(point);
		printf(": %s\n", w.text);
	}
	return CTL_DONE;
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	const struct ctl_mount *m;
	struct ctl_mounts mounts;
	char program[PATH_MAX];
	struct ctl_opts opts;
	int first = ctl_options(cmd, argc, argv, &opts), rc = CTL_FAILED;

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (argc - first != 1) {
		ctl_error("upgrade: give one mount point; usage: spmctl upgrade %s", cmd->args);
		return CTL_USAGE;
	}
	if (geteuid()) {
		ctl_error("upgrade: only root decides what serves a mount; run it as root");
		return CTL_FAILED;
	}
	if (!find_program(opts.binary, program) || ctl_mounts_read(&mounts))
		return CTL_FAILED;
	m = ctl_mount_find(&mounts, argv[first]);
	if (m)
		rc = upgrade(m->point, program, &opts);
	ctl_mounts_free(&mounts);
	return rc;
}

const struct ctl_cmd ctl_upgrade = {
	.name = "upgrade",
	.args = "[--json] [--binary PATH] MOUNTPOINT",
	.help = "have another program serve a live mount",
	.options = CTL_OPT_JSON | CTL_OPT_BINARY,
	.run = run,
};
