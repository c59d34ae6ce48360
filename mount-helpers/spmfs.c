/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmfs, mount.fuse.spmfs, mount.spmfs: the command line, and becoming a daemon. */
#include "config.h"
#include "core/caps.h"
#include "fs/device.h"
#include "fs/setup.h"
#include "fs/setup-claim.h"
#include "fs/setup-slices.h"
#include "fs/setup-swap.h"
#include "fs/standby-run.h"
#include "mount-helpers/remount.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

static const char *program;

static void usage(FILE *out)
{
	fprintf(out,
		"usage: spmfs [-f] SOURCE MOUNTPOINT [-o OPTIONS]\n"
		"       mount -t fuse.spmfs SOURCE MOUNTPOINT [-o OPTIONS]\n\n"
		"Mounts device memory as a file system whose files map the device's own pages.\n\n"
		"SOURCE: mem:SIZE            plain memory\n"
		"        node:LIST[:SIZE]    memory of NUMA nodes ('spmctl devices' lists them)\n"
		"        daxX.Y              a dax device, as a node or as it is (daxmode=)\n"
		"        dir:PATH            directory of an xfs or ext4 mounted with -o dax\n\n"
		"  -f          stay in the foreground (as mount.fuse.spmfs: check only, as mount -f)\n"
		"  -o LIST     options, separated by commas\n"
		"  -s          pass over unknown options\n"
		"  -n -v       accepted, as mount(8) passes them\n"
		"  -h, --help  -V, --version\n\noptions:\n");
	spm_options_help(out);
	fputs("  and the generic ones of mount(8): ro nodev nosuid noexec noatime nofail x-* ...\n", out);
}

static int complain(int status, const char *text)
{
	fprintf(stderr, "%s: %s\n", program, text);
	return status;
}

struct command {
	struct spm_options o;
	bool helper; /* called by mount(8) */
	int status;  /* to exit with at once; -1: go on */
};

/* mount -N: a path of a mount namespace, or a process in it. */
static int enter_namespace(const char *ns, struct spm_error *e)
{
	spm_auto_close int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", ns);
	fd = open(strspn(ns, "0123456789") == strlen(ns) ? path : ns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || spm_enter_mount_ns(fd))
		return spm_fail(e, -errno, "option -N %s: %m", ns);
	return 0;
}

#define FLAGS "fsnvhVN:o:t:"

static int parse_flags(struct command *c, int argc, char **argv, struct spm_error *e)
{
	static const struct option longs[] = { { "help", no_argument, NULL, 'h' },
					       { "version", no_argument, NULL, 'V' },
					       { NULL, 0, NULL, 0 } };
	int opt, rc = 0;

	opterr = 0;
	/* -s counts wherever it stands, also behind the options that it is about */
	while ((opt = getopt_long(argc, argv, FLAGS, longs, NULL)) != -1)
		c->o.sloppy |= opt == 's';
	optind = 1;
	while (!rc && (opt = getopt_long(argc, argv, FLAGS, longs, NULL)) != -1) {
		switch (opt) {
		case 'f':
			if (c->helper)
				c->o.fake = true;
			else
				c->o.foreground = true;
			break;
		case 'o':
			rc = spm_options_parse(&c->o, optarg, e);
			break;
		case 'h':
			usage(stdout);
			c->status = 0;
			return 0;
		case 'V':
			printf("spmfs %s\n", PACKAGE_VERSION);
			c->status = 0;
			return 0;
		case 's':
		case 'n':
		case 'v':
		case 't':
			break;
		case 'N':
			rc = enter_namespace(optarg, e);
			break;
		default:
			rc = spm_fail(e, -EINVAL, "unknown or incomplete option '%s'; 'spmfs --help' lists them",
				      argv[optind - 1]);
		}
	}
	return rc;
}

static int parse_operands(struct command *c, int argc, char **argv, struct spm_error *e)
{
	char path[PATH_MAX];
	struct statfs sf;
	struct stat st;
	int rc;

	if (argc - optind != 2)
		return spm_fail(e, -EINVAL, argc - optind < 2 ?
				"SOURCE and MOUNTPOINT are needed, as in: spmfs mem:1G /spm" :
				"too many operands (%s); options go behind -o", argv[argc - 1]);
	c->o.source_text = strdup(argv[optind]);
	if (!c->o.source_text)
		return -ENOMEM;
	rc = spm_source_parse(c->o.source_text, &c->o.source, e);
	if (rc)
		return rc;
	if (!realpath(argv[optind + 1], path))
		rc = -errno;
	else if (stat(path, &st) || statfs(path, &sf)) /* the latter asks the server, if there is one */
		rc = -errno;
	if (rc == -ENOTCONN)
		return spm_fail(e, -ENOENT,
				"mount point %s: the mount of a server that died is still there; 'umount -l %s' first",
				argv[optind + 1], argv[optind + 1]);
	if (rc)
		return spm_fail(e, -ENOENT, "mount point %s: %s; make it with mkdir", argv[optind + 1], strerror(-rc));
	if (!S_ISDIR(st.st_mode))
		return spm_fail(e, -ENOENT, "mount point %s: not a directory", argv[optind + 1]);
	c->o.mountpoint = strdup(path);
	return c->o.mountpoint ? 0 : -ENOMEM;
}

static int check_rights(struct spm_error *e)
{
	uint64_t have;

	if (!spm_caps_permitted(&have) && have & SPM_CAP(CAP_SYS_ADMIN))
		return 0;
	return spm_fail(e, -EPERM, "mounting needs root; use sudo, or try it in a user namespace: unshare -Urm");
}

/* -- becoming a daemon: the parent stays until the mount answers -- */

static int await_report(int fd)
{
	char text[1024];
	size_t at = 0;
	ssize_t n;

	while (at < sizeof(text) - 1 && (n = read(fd, text + at, sizeof(text) - 1 - at)) > 0)
		at += (size_t)n;
	text[at] = '\0';
	if (at > 1 || (at && text[0] == '-'))
		fprintf(stderr, "%s: %s\n", program, text + 1);
	if (!at)
		return complain(SPM_EXIT_FAILED, "the server died while it was starting; see the system log");
	return text[0] == '+' ? 0 : SPM_EXIT_FAILED;
}

/* Says why it failed: to the launcher, or in the foreground to the user. */
static int serve(struct spm_options *o, const struct spm_report_fds *rep)
{
	struct spm_error e = { "" };
	int rc = spm_setup_run(o, rep, &e);
	const char *why = e.text[0] ? e.text : strerror(-rc);

	if (rep->report < 0)
		return complain(SPM_EXIT_FAILED, why);
	dprintf(rep->report, "-%s", why);
	return SPM_EXIT_FAILED;
}

/*
 * A mount makes slices anew, so a file that tells containers of them (spmctl cdi) is brought up to date. It is no part of the
 * mount: what goes wrong there is told, and that is all.
 */
static void refresh_cdi(const struct spm_options *o)
{
	static const char *const dirs[] = { "/etc/cdi", "/var/run/cdi" };
	char path[PATH_MAX], *slash;
	bool any = false;
	pid_t pid;
	ssize_t n;

	for (size_t i = 0; i < SPM_ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/spmfs-%s.json", dirs[i], o->name);
		any |= !access(path, F_OK);
	}
	pid = any ? fork() : -1;
	if (pid > 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	if (pid)
		return;
	n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("spmctl"));
	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash)
		strcpy(slash + 1, "spmctl");
	/* in a build directory it lies beside, installed in a directory of its own */
	execl(slash && !access(path, X_OK) ? path : SPM_BINDIR "/spmctl", "spmctl", "cdi", "--refresh", o->mountpoint, NULL);
	fprintf(stderr, "%s: " SPM_BINDIR "/spmctl cdi --refresh: %s\n", program, strerror(errno));
	_exit(1);
}

static int run(struct spm_options *o)
{
	struct spm_report_fds rep = { .report = -1, .null = -1 };
	int p[2];
	pid_t pid;

	if (o->foreground)
		return serve(o, &rep);
	/* a daemon must not hold whatever its caller's caller waits for */
	close_range(3, ~0U, 0);
	if (pipe2(p, O_CLOEXEC))
		return complain(SPM_EXIT_FAILED, strerror(errno));
	pid = fork();
	if (pid < 0)
		return complain(SPM_EXIT_FAILED, strerror(errno));
	if (pid) {
		int status;

		close(p[1]);
		status = await_report(p[0]);
		if (!status)
			refresh_cdi(o);
		return status;
	}
	close(p[0]);
	setsid();
	spm_log_to_syslog("spmfs");
	if (chdir("/"))
		return 1;
	rep.report = p[1];
	rep.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (rep.null < 0) {
		dprintf(p[1], "-cannot open /dev/null: %m");
		return SPM_EXIT_FAILED;
	}
	return serve(o, &rep);
}

/* Before the launcher becomes a daemon, and for mount -f: the set-up reads it again. */
static int check_slices(struct spm_options *o, bool fit, struct spm_error *e)
{
	struct spm_slices_conf conf;
	int rc = spm_setup_slices_read(o, &conf, e);

	if (!rc && fit)
		rc = spm_setup_slices_fit(o, &conf, e);
	spm_slices_conf_free(&conf);
	return rc;
}

/* Everything that can be told before anything is made. */
static int check_options(struct spm_options *o, struct spm_error *e, int *status)
{
	char cwd[PATH_MAX];
	bool whole;
	int rc;

	*status = SPM_EXIT_USAGE;
	rc = spm_options_finish(o, e);
	if (!rc && !getcwd(cwd, sizeof(cwd)))
		strcpy(cwd, "/");
	if (!rc)
		rc = spm_options_resolve(o, cwd, e);
	if (rc)
		return rc;
	*status = SPM_EXIT_FAILED;
	rc = check_slices(o, false, e);
	if (rc || spm_setup_left_over(o->name))
		return rc;
	whole = !o->source.bytes;
	rc = spm_device_check(o, e);
	if (!rc)
		rc = spm_setup_claim_fit(o, whole, e);
	if (rc)
		return rc;
	*status = SPM_EXIT_USAGE;
	rc = spm_options_fit(o, e);
	if (rc || !o->fake)
		return rc;
	*status = SPM_EXIT_FAILED;
	rc = check_slices(o, true, e);
	return rc ? rc : spm_setup_swap_dry(o, e);
}

int main(int argc, char **argv)
{
	struct command c = { .status = -1 };
	struct spm_error e = { "" };
	int rc, status;

	program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	c.helper = !strncmp(program, "mount.", 6);
	spm_log_init();
	if (argc > 1 && !strncmp(argv[1], SPM_STANDBY_ARG, strlen(SPM_STANDBY_ARG)))
		return spm_standby_main(argc, argv);
	spm_options_init(&c.o);
	rc = parse_flags(&c, argc, argv, &e);
	if (c.status >= 0)
		return c.status;
	status = SPM_EXIT_USAGE;
	if (!rc)
		rc = parse_operands(&c, argc, argv, &e);
	if (rc == -ENOENT)
		status = SPM_EXIT_FAILED;
	if (!rc && c.o.remount) {
		status = SPM_EXIT_FAILED;
		rc = spm_remount(&c.o, &e);
		c.o.fake = true;
	}
	if (!rc && !c.o.remount) {
		status = SPM_EXIT_FAILED;
		rc = check_rights(&e);
		if (!rc)
			rc = check_options(&c.o, &e, &status);
	}
	if (rc)
		status = complain(status, e.text[0] ? e.text : strerror(-rc));
	else
		status = c.o.fake ? 0 : run(&c.o);
	spm_options_free(&c.o);
	return status;
}
