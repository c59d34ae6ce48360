/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl: shows what spmfs mounts hold and what could back one, moves that, upgrades them. One file a subject. */
#include "config.h"

#include "mount-helpers/spmctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct ctl_cmd *const commands[] = { &ctl_status, &ctl_files, &ctl_evict, &ctl_load, &ctl_compact,
						  &ctl_drain,
						  &ctl_slice, &ctl_cdi, &ctl_devices, &ctl_metrics, &ctl_upgrade };
#define N_COMMANDS SPM_ARRAY_SIZE(commands)

void ctl_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("spmctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

#define FIRST_LIMIT 256 /* behind all letters */
#define LIMIT(name, k) { name, required_argument, NULL, FIRST_LIMIT + (k) }, CTL_OPT_LIMITS

static const struct {
	struct option o;
	enum ctl_option bit;
	const char *help;
} options[] = {
	{ { "json", no_argument, NULL, 'j' }, CTL_OPT_JSON,
	  "  --json           print JSON (sizes are numbers of bytes)" },
	{ { "human", no_argument, NULL, 'u' }, CTL_OPT_HUMAN,
	  "  -u, --human      print sizes in units instead of bytes" },
	{ { "recursive", no_argument, NULL, 'r' }, CTL_OPT_RECURSIVE,
	  "  -r, --recursive  take directories, too: all files below them" },
	{ { "binary", required_argument, NULL, 'b' }, CTL_OPT_BINARY,
	  "  --binary PATH    the program (default: " SPM_SBINDIR "/spmfs)" },
	{ { "force", no_argument, NULL, 'f' }, CTL_OPT_FORCE,
	  "  --force          also with files in it, which are lost" },
	{ { "timeout", required_argument, NULL, 't' }, CTL_OPT_TIMEOUT,
	  "  --timeout SECONDS  wait no longer, and say what is left (no limit)" },
	{ { "cancel", no_argument, NULL, 'x' }, CTL_OPT_CANCEL,
	  "  --cancel         give up draining: service is as it was" },
	{ LIMIT("min", SPM_LIMIT_MIN), "  --min SIZE       memory that is its own, whatever others need (0)" },
	{ LIMIT("max", SPM_LIMIT_MAX), "  --max SIZE       most memory, or max (max: the device)" },
	{ LIMIT("swap-max", SPM_LIMIT_SWAP_MAX), "  --swap-max SIZE  most in swap files, or max (max)" },
	{ LIMIT("pin-max", SPM_LIMIT_PIN_MAX),
	  "  --pin-max SIZE   most memory of files that are open or mapped directly, or max (max)" },
	{ LIMIT("inodes", SPM_LIMIT_INODES), "  --inodes N       most files and directories, or max (max)" },
	{ LIMIT("uid", SPM_LIMIT_UID), "  --uid USER       its owner, a name or a number (0)" },
	{ LIMIT("gid", SPM_LIMIT_GID), "  --gid GROUP      its group (0)" },
	{ LIMIT("mode", SPM_LIMIT_MODE), "  --mode OCTAL     mode of its directory (0755)" },
	{ LIMIT("nodes", SPM_LIMIT_NODES), "  --nodes LIST     NUMA nodes that its memory comes from (as the mount)" },
	{ LIMIT("huge", SPM_LIMIT_HUGE), "  --huge HOW       never, always, within_size or advise (as the mount)" },
	{ LIMIT("map", SPM_LIMIT_MAP), "  --map HOW        auto, direct or mirror (as the mount)" },
	{ LIMIT("cold", SPM_LIMIT_COLD),
	  "  --cold SECONDS   what was not used for so long leaves, 0: never (as the mount)" },
	{ { "delegate", optional_argument, NULL, FIRST_LIMIT + SPM_LIMIT_DELEGATE }, CTL_OPT_LIMITS,
	  "  --delegate[=no]  its owner may lower max and swap-max (no)" },
	{ { "save", no_argument, NULL, 's' }, CTL_OPT_SAVE,
	  "  --save           in the mount's configuration file, too: for later mounts" },
	{ { "cdi", no_argument, NULL, 'c' }, CTL_OPT_CDI,
	  "  --cdi            make the mount's CDI file if there is none, as spmctl cdi does" },
	{ { "output", required_argument, NULL, 'o' }, CTL_OPT_OUTPUT,
	  "  --output WHAT    slice list: k8s-pv, in place of a table; cdi: a file, or - for standard output" },
	{ { "refresh", no_argument, NULL, 'R' }, CTL_OPT_REFRESH,
	  "  --refresh        only if there is such a file already, as a mount does" },
	{ { "restore", required_argument, NULL, 'g' }, CTL_OPT_RESTORE,
	  "  --restore DEVICE gives a dax device back the mode that it had before a mount that could not" },
	{ { "node", required_argument, NULL, 'n' }, CTL_OPT_NODE,
	  "  --node NAME      with --output k8s-pv: this machine in the cluster (its host name)" },
};

static void command_help(const struct ctl_cmd *cmd)
{
	int any = 0;

	printf("Usage: spmctl %s %s\n%s.\n", cmd->name, cmd->args, cmd->help);
	for (size_t i = 0; i < SPM_ARRAY_SIZE(options); i++)
		if (cmd->options & options[i].bit)
			printf("%s%s\n", any++ ? "" : "\n", options[i].help);
	puts("\nSee spmctl(1).");
}

static void help(void)
{
	puts("Usage: spmctl COMMAND [OPTION...] [ARGUMENT...]\n"
	     "Shows what spmfs mounts hold and what could back one, moves files out to swap and back,\n"
	     "and has live mounts upgraded.\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-8s %-36s %s\n", commands[i]->name, commands[i]->args, commands[i]->help);
	puts("\n  --help       this text, or with a command that command's\n"
	     "  --version    the version\n"
	     "\nExit status: 0 done, 1 failed, 2 wrong usage. See spmctl(1).");
}

static void take(struct ctl_opts *opts, int c)
{
	switch (c) {
	case 'R':
		opts->refresh = true;
		break;
	case 'j':
		opts->json = true;
		break;
	case 'u':
		opts->human = true;
		break;
	case 'r':
		opts->recursive = true;
		break;
	case 'f':
		opts->force = true;
		break;
	case 's':
		opts->save = true;
		break;
	case 'c':
		opts->cdi = true;
		break;
	case 'b':
		opts->binary = optarg;
		break;
	case 'o':
		opts->output = optarg;
		break;
	case 'g':
		opts->restore = optarg;
		break;
	case 'n':
		opts->node = optarg;
		break;
	case 't':
		opts->timeout = optarg;
		break;
	case 'x':
		opts->cancel = true;
		break;
	default:
		opts->limit[c - FIRST_LIMIT] = optarg ? optarg : "yes";
	}
}

int ctl_options(const struct ctl_cmd *cmd, int argc, char **argv, struct ctl_opts *opts)
{
	struct option known[SPM_ARRAY_SIZE(options) + 2] = { { "help", no_argument, NULL, 'h' } };
	char letters[8];
	int c, n = 1;

	for (size_t i = 0; i < SPM_ARRAY_SIZE(options); i++)
		if (cmd->options & options[i].bit)
			known[n++] = options[i].o;
	memset(opts, 0, sizeof(*opts));
	opterr = 0;
	optind = 0;
	snprintf(letters, sizeof(letters), ":h%s%s", cmd->options & CTL_OPT_HUMAN ? "u" : "",
		 cmd->options & CTL_OPT_RECURSIVE ? "r" : "");
	while ((c = getopt_long(argc, argv, letters, known, NULL)) != -1) {
		switch (c) {
		case 'h':
			command_help(cmd);
			return -2;
		case ':':
			ctl_error("%s: option '%s' needs a value; usage: spmctl %s %s", cmd->name,
				  argv[optind - 1], cmd->name, cmd->args);
			return -1;
		case '?':
			ctl_error("%s: unknown option '%s'; usage: spmctl %s %s", cmd->name, argv[optind - 1],
				  cmd->name, cmd->args);
			return -1;
		default:
			take(opts, c);
		}
	}
	return optind;
}

static int unknown_command(const char *name)
{
	char known[128] = "";

	for (size_t i = 0; i < N_COMMANDS; i++) {
		strncat(known, i ? ", " : "", sizeof(known) - strlen(known) - 1);
		strncat(known, commands[i]->name, sizeof(known) - strlen(known) - 1);
	}
	if (name)
		ctl_error("unknown command '%s'; the commands are %s (see spmctl --help)", name, known);
	else
		ctl_error("no command given; the commands are %s (see spmctl --help)", known);
	return CTL_USAGE;
}

/* A full disk or a closed pipe behind stdout must not look like success. */
static int finish(int rc)
{
	if ((fflush(stdout) || ferror(stdout)) && rc == CTL_DONE) {
		ctl_error("cannot write the result: %s", strerror(errno));
		return CTL_FAILED;
	}
	return rc;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return unknown_command(NULL);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		help();
		return finish(CTL_DONE);
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("spmctl " PACKAGE_VERSION);
		return finish(CTL_DONE);
	}
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(argv[1], commands[i]->name))
			return finish(commands[i]->run(commands[i], argc - 1, argv + 1));
	return unknown_command(argv[1]);
}
