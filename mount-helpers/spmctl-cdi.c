/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spmctl cdi: the slices of a mount as devices of the Container Device Interface, so that a container gets one by
 * --device spmfs.io/slice=NAME. One file a mount; a mount without slices has none, since a specification without
 * devices is not valid.
 */
#include "config.h"

#include "core/slice-conf.h"
#include "mount-helpers/spmctl-slice.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define CDI_VERSION "0.5.0"
#define CDI_KIND    "spmfs.io/slice"

/* Where container runtimes look; the second one is empty after a boot. */
static const char *const dirs[] = { "/etc/cdi", "/var/run/cdi" };

/* Names of devices are narrower than those of slices: CDI wants a letter or digit at both ends. */
static bool can_be_named(const char *name)
{
	return isalnum((unsigned char)name[0]) && isalnum((unsigned char)name[strlen(name) - 1]);
}

static struct json_object *device_json(const struct ctl_mount *m, const struct ctl_slice *s)
{
	struct json_object *dev = json_object_new_object(), *edits = json_object_new_object(),
			   *mount = json_object_new_object(), *env = json_object_new_array(),
			   *mounts = json_object_new_array(), *options = json_object_new_array();
	char host[PATH_MAX], inside[128], word[160];

	snprintf(host, sizeof(host), "%s/%s", strcmp(m->point, "/") ? m->point : "", s->name);
	snprintf(inside, sizeof(inside), "/spm/%s", s->name);
	snprintf(word, sizeof(word), "SPM_PATH=%s", inside);
	json_object_array_add(env, ctl_json_bytes(word));
	for (const char *const *o = (const char *const[]){ "bind", "rw", "nosuid", "nodev", NULL }; *o; o++)
		json_object_array_add(options, json_object_new_string(*o));
	json_object_object_add(mount, "hostPath", ctl_json_bytes(host));
	json_object_object_add(mount, "containerPath", ctl_json_bytes(inside));
	json_object_object_add(mount, "options", options);
	json_object_array_add(mounts, mount);
	json_object_object_add(edits, "env", env);
	json_object_object_add(edits, "mounts", mounts);
	json_object_object_add(dev, "name", ctl_json_bytes(s->name));
	json_object_object_add(dev, "containerEdits", edits);
	return dev;
}

/* NULL: there is nothing that could be in it. */
static struct json_object *spec_json(const struct ctl_mount *m, const struct ctl_slices *slices)
{
	struct json_object *spec = json_object_new_object(), *devices = json_object_new_array();

	for (size_t i = 0; i < slices->n; i++) {
		if (can_be_named(slices->list[i].name))
			json_object_array_add(devices, device_json(m, &slices->list[i]));
		else
			ctl_error("%s: not in the CDI file: names of devices begin and end with a letter or a "
				  "digit",
				  slices->list[i].name);
	}
	json_object_object_add(spec, "cdiVersion", json_object_new_string(CDI_VERSION));
	json_object_object_add(spec, "kind", json_object_new_string(CDI_KIND));
	json_object_object_add(spec, "devices", devices);
	if (json_object_array_length(devices))
		return spec;
	json_object_put(spec);
	return NULL;
}

/* A device that two files of the same directory name is one that no runtime takes. */
static bool is_taken_in(const char *file, const struct json_object *spec)
{
	struct json_object *devices, *had = json_object_from_file(file), *kind, *list, *a, *b;
	bool taken = false;

	if (!json_object_object_get_ex(spec, "devices", &devices) ||
	    !json_object_object_get_ex(had, "kind", &kind) || strcmp(json_object_get_string(kind), CDI_KIND) ||
	    !json_object_object_get_ex(had, "devices", &list) || !json_object_is_type(list, json_type_array)) {
		json_object_put(had);
		return false;
	}
	for (size_t i = 0; !taken && i < json_object_array_length(devices); i++) {
		for (size_t j = 0; !taken && j < json_object_array_length(list); j++) {
			taken = json_object_object_get_ex(json_object_array_get_idx(devices, i), "name", &a) &&
				json_object_object_get_ex(json_object_array_get_idx(list, j), "name", &b) &&
				!strcmp(json_object_get_string(a), json_object_get_string(b));
			if (taken)
				ctl_error("%s: %s has a device of that name, too, and container runtimes would "
					  "take neither; "
					  "rename one of the slices, or write this file elsewhere with --output",
					  json_object_get_string(a), file);
		}
	}
	json_object_put(had);
	return taken;
}

static bool is_taken(const char *path, const struct json_object *spec)
{
	char dir[PATH_MAX], other[2 * PATH_MAX];
	char *slash;
	const struct dirent *e;
	bool taken = false;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (!slash)
		return false;
	*slash = '\0';
	d = opendir(dir);
	while (!taken && d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n < 5 || strcmp(e->d_name + n - 5, ".json") || !strcmp(e->d_name, slash + 1))
			continue;
		snprintf(other, sizeof(other), "%s/%s", dir, e->d_name);
		taken = is_taken_in(other, spec);
	}
	if (d)
		closedir(d);
	return taken;
}

/* Runtimes read it at any time, so it is replaced as a whole. */
static int write_file(const char *path, struct json_object *spec)
{
	const int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE;
	char next[PATH_MAX];
	FILE *f;
	int fd;

	if (is_taken(path, spec))
		return CTL_FAILED;
	/* not .json: nobody is to read it before it is whole */
	if (snprintf(next, sizeof(next), "%s.XXXXXX", path) >= (int)sizeof(next)) {
		ctl_error("%s: %s", path, strerror(ENAMETOOLONG));
		return CTL_FAILED;
	}
	fd = mkostemp(next, O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (f && !fchmod(fd, 0644) && fprintf(f, "%s\n", json_object_to_json_string_ext(spec, flags)) > 0 &&
	    !fclose(f) && !rename(next, path))
		return CTL_DONE;
	ctl_error("cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		unlink(next);
	return CTL_FAILED;
}

static int update(const struct ctl_mount *m, const char *path)
{
	struct ctl_slices slices;
	struct json_object *spec;
	int rc;

	if (ctl_slices_read(m->point, &slices))
		return CTL_FAILED;
	spec = spec_json(m, &slices);
	ctl_slices_free(&slices);
	if (spec) {
		rc = write_file(path, spec);
		json_object_put(spec);
		return rc;
	}
	if (!unlink(path) || errno == ENOENT)
		return CTL_DONE;
	ctl_error("cannot remove %s, which has no device any more: %s", path, strerror(errno));
	return CTL_FAILED;
}

/* The path of the mount's file in one of the directories. CTL_DONE, or CTL_FAILED (told). */
static int file_in(const struct ctl_mount *m, const char *dir, char path[static PATH_MAX])
{
	char *name = ctl_mount_word(m, "features", "name");
	int rc = name ? CTL_DONE : CTL_FAILED;

	if (name)
		snprintf(path, PATH_MAX, "%s/spmfs-%s.json", dir, name);
	else
		ctl_error("%s: its server does not say how it is named", m->point);
	free(name);
	return rc;
}

int ctl_cdi_refresh(const struct ctl_mount *m, bool make)
{
	char path[PATH_MAX];
	bool any = false;
	int rc = CTL_DONE;

	for (size_t i = 0; i < SPM_ARRAY_SIZE(dirs); i++) {
		if (file_in(m, dirs[i], path))
			return CTL_FAILED;
		if (access(path, F_OK))
			continue;
		any = true;
		if (update(m, path))
			rc = CTL_FAILED;
	}
	if (!make || any)
		return rc;
	mkdir(dirs[0], 0755);
	return file_in(m, dirs[0], path) ? CTL_FAILED : update(m, path);
}

static int print(const struct ctl_mount *m)
{
	struct ctl_slices slices;
	struct json_object *spec;

	if (ctl_slices_read(m->point, &slices))
		return CTL_FAILED;
	spec = spec_json(m, &slices);
	ctl_slices_free(&slices);
	if (spec) {
		ctl_json_print(spec);
		return CTL_DONE;
	}
	ctl_error("%s: no slices, so no devices; 'spmctl slice create' makes one", m->point);
	return CTL_FAILED;
}

static int write_for(const struct ctl_mount *m, const char *output)
{
	char path[PATH_MAX];
	int rc;

	if (output && !strcmp(output, "-"))
		return print(m);
	if (!output && file_in(m, dirs[0], path))
		return CTL_FAILED;
	if (!output && mkdir(dirs[0], 0755) && errno != EEXIST) {
		ctl_error("cannot make %s: %s", dirs[0], strerror(errno));
		return CTL_FAILED;
	}
	rc = update(m, output ? output : path);
	if (!rc)
		printf("%s\n", output ? output : path);
	return rc;
}

static int run(const struct ctl_cmd *cmd, int argc, char **argv)
{
	const struct ctl_mount *m;
	struct ctl_mounts mounts;
	struct ctl_opts opts;
	int first = ctl_options(cmd, argc, argv, &opts), rc;

	if (first < 0)
		return first == -2 ? CTL_DONE : CTL_USAGE;
	if (argc - first != 1) {
		ctl_error("cdi: give one mount point; usage: spmctl cdi %s", cmd->args);
		return CTL_USAGE;
	}
	if (opts.output && opts.refresh) {
		ctl_error("cdi: --output and --refresh exclude each other; usage: spmctl cdi %s", cmd->args);
		return CTL_USAGE;
	}
	if (ctl_mounts_read(&mounts))
		return CTL_FAILED;
	m = ctl_mount_find(&mounts, argv[first]);
	rc = !m ? CTL_FAILED : opts.refresh ? ctl_cdi_refresh(m, false) : write_for(m, opts.output);
	ctl_mounts_free(&mounts);
	return rc;
}

const struct ctl_cmd ctl_cdi = {
	.name = "cdi",
	.args = "[--output FILE|- | --refresh] MOUNTPOINT",
	.help = "slices as devices for containers",
	.options = CTL_OPT_OUTPUT | CTL_OPT_REFRESH,
	.run = run,
};
