/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spmctl slice create, set and remove: one line for the server's control file slice, and what is written down for
 * later. */
#include "config.h"

#include "core/slice-conf.h"
#include "mount-helpers/spmctl-slice.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#define REQUEST_MAX 1024
#define BUSY_TRIES  50 /* a close takes a moment to arrive at the server */
#define BUSY_NS	    20000000

int ctl_slice_begin(struct ctl_slice_call *c, const struct ctl_cmd *cmd, int argc, char **argv)
{
	int first;

	memset(c, 0, sizeof(*c));
	c->cmd = cmd;
	first = ctl_options(cmd, argc, argv, &c->opts);
	if (first < 0)
		return first == -2 ? -1 : CTL_USAGE;
	if (argc - first != 2) {
		ctl_error("%s: give a name and a mount point; usage: spmctl %s %s", cmd->name, cmd->name,
			  cmd->args);
		return CTL_USAGE;
	}
	c->name = argv[first];
	if (!spm_slice_name_ok(c->name)) {
		ctl_error("%s: '%s': a slice's name has 1 to 63 letters, digits and . _ - with no . or - in front",
			  cmd->name, c->name);
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&c->mounts))
		return CTL_FAILED;
	c->mount = ctl_mount_find(&c->mounts, argv[first + 1]);
	if (c->mount)
		return CTL_DONE;
	ctl_mounts_free(&c->mounts);
	return CTL_FAILED;
}

void ctl_slice_end(struct ctl_slice_call *c)
{
	free(c->conf);
	ctl_mounts_free(&c->mounts);
}

/* ---- the server ---- */

/* Returns 0 or an errno, which is not told but for an unreachable control file: -1. */
static int send_request(const struct ctl_slice_call *c, const char *text)
{
	spm_auto_close int fd = ctl_control_open(c->mount->point, "slice");

	if (fd < 0)
		return -1;
	return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno;
}

/* The limits that were given on the command line, and the words for the server. CTL_DONE or CTL_USAGE. */
static int parse_limits(const struct ctl_slice_call *c, struct spm_slice_limits *l, char *words, size_t size)
{
	struct spm_error e = { "" };
	size_t at = 0;
	int rc = 0;

	spm_limits_init(l);
	words[0] = '\0';
	for (int k = 0; !rc && k < SPM_LIMITS; k++) {
		char number[SPM_OWNER_TEXT], canonical[SPM_LIMIT_TEXT], name[32];
		const char *value = c->opts.limit[k];

		if (!value)
			continue;
		snprintf(name, sizeof(name), "%s", spm_limit_key((enum spm_limit)k));
		for (char *p = name; (p = strchr(p, '.'));)
			*p = '-';
		rc = spm_owner_number(name, &value, number, &e);
		if (!rc && spm_limit_set(l, name, value, &e) < 0)
			rc = -EINVAL;
		if (!rc)
			at += (size_t)snprintf(words + at, size - at, " %s=%s", spm_limit_key((enum spm_limit)k),
					       spm_limit_text(l, (enum spm_limit)k, canonical));
	}
	if (!rc)
		rc = spm_limits_check(l, &e);
	if (!rc)
		return CTL_DONE;
	ctl_error("%s: option --%s", c->cmd->name, e.text);
	return CTL_USAGE;
}

/* ---- the configuration file ---- */

/* With --save: which file it is, and that it is whole. What could not be saved is not done. CTL_DONE or CTL_FAILED
 * (told). */
static int find_conf(struct ctl_slice_call *c)
{
	struct spm_slices_conf conf;
	struct spm_error e = { "" };
	int rc;

	if (!c->opts.save)
		return CTL_DONE;
	c->conf = ctl_mount_word(c->mount, "features", "conf");
	if (!c->conf || *c->conf != '/') {
		ctl_error("%s: the mount has no configuration file (%s): mount it without conf=none, or leave "
			  "--save out",
			  c->mount->point, c->conf ? c->conf : "its server does not say");
		return CTL_FAILED;
	}
	rc = spm_slices_conf_read(c->conf, &conf, &e);
	if (!rc)
		spm_slices_conf_free(&conf);
	if (!rc || rc == -ENOENT)
		return CTL_DONE;
	ctl_error("%s", e.text[0] ? e.text : strerror(-rc));
	return CTL_FAILED;
}

/* Whether the file has it. */
static bool is_declared(const char *conf, const char *name)
{
	struct spm_slices_conf list;
	struct spm_error e = { "" };
	bool found;

	if (!conf || spm_slices_conf_read(conf, &list, &e))
		return false;
	found = spm_slices_conf_find(&list, name) != NULL;
	spm_slices_conf_free(&list);
	return found;
}

/* A slice that the file does not have gets there with all that was ever said of it, not only what was said now. */
static void add_the_rest(struct spm_slice_edit *edit, const struct ctl_slice *s)
{
	struct spm_slice_limits l;
	char buf[SPM_LIMIT_TEXT];

	spm_limits_init(&l);
	for (int k = 0; s && k < SPM_LIMITS; k++) {
		const char *value = ctl_slice_get(s, spm_limit_key((enum spm_limit)k));

		if (!edit->value[k] && value && strcmp(value, spm_limit_text(&l, (enum spm_limit)k, buf)))
			edit->value[k] = value;
	}
}

static int save(const struct ctl_slice_call *c, struct spm_slice_edit *edit)
{
	struct ctl_slices slices = { .n = 0 };
	struct spm_error e = { "" };
	int rc = 0;

	edit->name = c->name;
	memcpy(edit->value, c->opts.limit, sizeof(edit->value));
	if (edit->how == SPM_EDIT_SET && !is_declared(c->conf, c->name)) {
		rc = ctl_slices_read(c->mount->point, &slices) ? -EIO : 0;
		add_the_rest(edit, ctl_slices_find(&slices, c->name));
	}
	if (!rc)
		rc = spm_slices_conf_save(c->conf, edit, &e);
	ctl_slices_free(&slices);
	if (!rc)
		return CTL_DONE;
	ctl_error("%s: done, but not saved: %s", c->name, e.text[0] ? e.text : strerror(-rc));
	return CTL_FAILED;
}

/* ---- the commands ---- */

static int change(struct ctl_slice_call *c, const char *verb, int how)
{
	struct spm_slice_edit edit = { .how = how };
	char words[REQUEST_MAX - 128], text[REQUEST_MAX];
	struct spm_slice_limits l;
	int rc = parse_limits(c, &l, words, sizeof(words));

	if (rc)
		return rc;
	if (!words[0] && how == SPM_EDIT_SET) {
		ctl_error("%s: nothing to change is given; usage: spmctl %s %s", c->cmd->name, c->cmd->name,
			  c->cmd->args);
		return CTL_USAGE;
	}
	if (find_conf(c))
		return CTL_FAILED;
	snprintf(text, sizeof(text), "%s %s%s\n", verb, c->name, words);
	rc = send_request(c, text);
	if (rc)
		return rc < 0 ? CTL_FAILED : ctl_slice_why(c, &l, rc);
	c->changed = true;
	return c->conf ? save(c, &edit) : CTL_DONE;
}

static int run_create(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_slice_call c;
	int rc = ctl_slice_begin(&c, cmd, argc, argv);

	if (rc)
		return rc < 0 ? CTL_DONE : rc;
	rc = change(&c, "create", SPM_EDIT_CREATE);
	if (c.changed && ctl_cdi_refresh(c.mount, c.opts.cdi))
		rc = CTL_FAILED;
	if (!rc)
		printf("%s/%s\n", strcmp(c.mount->point, "/") ? c.mount->point : "", c.name);
	ctl_slice_end(&c);
	return rc;
}

static int run_set(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_slice_call c;
	int rc = ctl_slice_begin(&c, cmd, argc, argv);

	if (rc)
		return rc < 0 ? CTL_DONE : rc;
	rc = change(&c, "set", SPM_EDIT_SET);
	ctl_slice_end(&c);
	return rc;
}

/* Who uses it is asked first: those that only stand in it, or have it mounted elsewhere, are not known to the
 * server. */
static int remove_live(struct ctl_slice_call *c, const struct ctl_slice *s)
{
	static const struct timespec pause = { .tv_nsec = BUSY_NS };
	char text[REQUEST_MAX];

	snprintf(text, sizeof(text), "remove %s%s\n", c->name, c->opts.force ? " force" : "");
	for (int i = 0;; i++) {
		spm_auto_free char *who = ctl_slice_holders(c->mount, s);
		int rc;

		if (who)
			return ctl_slice_in_use(c, who);
		rc = send_request(c, text);
		c->changed = !rc;
		if (rc <= 0)
			return rc ? CTL_FAILED : CTL_DONE;
		if (rc != EBUSY || i == BUSY_TRIES)
			return ctl_slice_why(c, NULL, rc);
		nanosleep(&pause, NULL);
	}
}

static int remove_slice(struct ctl_slice_call *c)
{
	struct spm_slice_edit edit = { .how = SPM_EDIT_REMOVE };
	const struct ctl_slice *s;
	struct ctl_slices slices;
	int rc;

	if (find_conf(c))
		return CTL_FAILED;
	if (ctl_slices_read(c->mount->point, &slices))
		return CTL_FAILED;
	s = ctl_slices_find(&slices, c->name);
	if (s)
		rc = remove_live(c, s);
	else /* only written down: then only that goes */
		rc = is_declared(c->conf, c->name) ? CTL_DONE : ctl_slice_why(c, NULL, ENOENT);
	ctl_slices_free(&slices);
	return rc || !c->conf ? rc : save(c, &edit);
}

static int run_remove(const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct ctl_slice_call c;
	int rc = ctl_slice_begin(&c, cmd, argc, argv);

	if (rc)
		return rc < 0 ? CTL_DONE : rc;
	rc = remove_slice(&c);
	if (c.changed && ctl_cdi_refresh(c.mount, false))
		rc = CTL_FAILED;
	ctl_slice_end(&c);
	return rc;
}

static const struct ctl_cmd create_cmd = {
	.name = "slice create",
	.args = "NAME [LIMIT...] [--save] [--cdi] MOUNTPOINT",
	.help = "make a slice: a directory of the mount with limits of its own",
	.options = CTL_OPT_LIMITS | CTL_OPT_SAVE | CTL_OPT_CDI,
	.run = run_create,
};

static const struct ctl_cmd set_cmd = {
	.name = "slice set",
	.args = "NAME LIMIT... [--save] MOUNTPOINT",
	.help = "change limits of a slice, at once",
	.options = CTL_OPT_LIMITS | CTL_OPT_SAVE,
	.run = run_set,
};

static const struct ctl_cmd remove_cmd = {
	.name = "slice remove",
	.args = "[--force] [--save] NAME MOUNTPOINT",
	.help = "remove a slice that nobody uses",
	.options = CTL_OPT_FORCE | CTL_OPT_SAVE,
	.run = run_remove,
};

static const struct ctl_cmd *const commands[] = { &create_cmd, &set_cmd, &ctl_slice_show, &ctl_slice_list,
						  &remove_cmd };

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	if (argc < 2) {
		ctl_error("slice: give one of create, set, show, list and remove (see spmctl slice --help)");
		return CTL_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		printf("Usage: spmctl %s %s\n%s.\n\n", cmd->name, cmd->args, cmd->help);
		for (size_t i = 0; i < SPM_ARRAY_SIZE(commands); i++)
			printf("spmctl %s %s\n      %s\n", commands[i]->name, commands[i]->args, commands[i]->help);
		puts("\n'spmctl slice COMMAND --help' lists the options. See spmctl(1).");
		return CTL_DONE;
	}
	for (size_t i = 0; i < SPM_ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], strchr(commands[i]->name, ' ') + 1))
			return commands[i]->run(commands[i], argc - 1, argv + 1);
	ctl_error("slice: unknown command '%s'; there are create, set, show, list and remove", argv[1]);
	return CTL_USAGE;
}

const struct ctl_cmd ctl_slice = {
	.name = "slice",
	.args = "create|set|show|list|remove ...",
	.help = "parts of a mount with limits of their own",
	.run = run,
};
