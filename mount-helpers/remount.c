/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mount -o remount. mount(8) hands over what fstab says as well, so what the mount has already is no change. */
#include "mount-helpers/remount.h"
#include "core/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

/* What .spm/features says behind @key; false: nothing. */
static bool feature(FILE *f, const char *key, char *value, size_t size)
{
	size_t n = strlen(key);

	rewind(f);
	while (fgets(value, (int)size, f)) {
		value[strcspn(value, "\n")] = '\0';
		if (strncmp(value, key, n) || value[n] != ' ')
			continue;
		memmove(value, value + n + 1, strlen(value + n + 1) + 1);
		return true;
	}
	return false;
}

static int refuse(struct spm_error *e, const char *option, const char *has)
{
	return spm_fail(e, -EOPNOTSUPP, "option %s= cannot be changed in a live mount (it has %s); unmount, and "
			"mount anew", option, has);
}

/* Its paths stand in brackets at the end of the line. */
static int check_paths(struct spm_options *o, const char *line, struct spm_error *e)
{
	const char *paths = strchr(line, '(');
	char cwd[PATH_MAX];
	size_t n;
	int rc;

	if (!o->swap)
		return 0;
	if (!paths)
		return refuse(e, "swap", "none");
	rc = spm_options_resolve(o, getcwd(cwd, sizeof(cwd)) ? cwd : "/", e);
	n = strlen(o->swap);
	if (rc || (!strncmp(paths + 1, o->swap, n) && !strcmp(paths + 1 + n, ")")))
		return rc;
	return refuse(e, "swap", paths);
}

/* features tells what the files can hold, which is less by the header of each. */
static int check_size(const struct spm_options *o, const char *line, struct spm_error *e)
{
	unsigned long long bytes;
	unsigned int files;

	if (!o->swap_bytes || sscanf(line, "on: %u %*s %llu", &files, &bytes) != 2 || !files)
		return 0;
	if (files * ((o->swap_bytes / files & ~(uint64_t)(SPM_SLOT_BLOCK - 1)) -
		     (uint64_t)SPM_SLOT_FIRST * SPM_SLOT_BLOCK) == bytes)
		return 0;
	return refuse(e, "swapsize", strchr(line, ' ') + 1);
}

static int check_swap(struct spm_options *o, struct spm_error *e)
{
	const struct {
		const char *key;
		bool given;
		uint64_t value;
	} row[] = { { "extent", o->given & SPM_GIVEN_EXTENT, o->extent_bytes },
		    { "low", o->given & SPM_GIVEN_LOW, o->low_pct },
		    { "high", o->given & SPM_GIVEN_HIGH, o->high_pct },
		    { "cold", o->given & SPM_GIVEN_COLD, o->cold_s },
		    { "compact", o->given & SPM_GIVEN_COMPACT, o->compact_bps } };
	spm_auto_fclose FILE *f = NULL;
	char path[PATH_MAX + 32], text[PATH_MAX * 4];
	int rc = 0;

	if (!o->swap && !o->needs_swap && !(o->given & (SPM_GIVEN_EXTENT | SPM_GIVEN_COMPACT)))
		return 0;
	snprintf(path, sizeof(path), "%s/.spm/features", o->mountpoint);
	f = fopen(path, "re");
	if (!f)
		return spm_fail(e, -errno, "%s: %m; is a spmfs mounted there?", path);
	if (feature(f, "swap", text, sizeof(text))) {
		rc = check_paths(o, text, e);
		if (!rc)
			rc = check_size(o, text, e);
	}
	for (size_t i = 0; !rc && i < SPM_ARRAY_SIZE(row); i++)
		if (row[i].given && feature(f, row[i].key, text, sizeof(text)) && strtoull(text, NULL, 10) != row[i].value)
			rc = refuse(e, row[i].key, text);
	return rc;
}

/* The size of a live mount is a control file: the kernel passes no options to a FUSE server on remount. */
static int resize(const struct spm_options *o, struct spm_error *e)
{
	spm_auto_close int fd = -1;
	char path[PATH_MAX + 16], value[32];
	int n;

	snprintf(path, sizeof(path), "%s/.spm/max", o->mountpoint);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return spm_fail(e, -errno, "%s: cannot change the size: %m; is a spmfs mounted there?", o->mountpoint);
	n = o->size_pct ? snprintf(value, sizeof(value), "%llu%%", (unsigned long long)o->size_pct) :
			  snprintf(value, sizeof(value), "%llu", (unsigned long long)o->size_bytes);
	if (write(fd, value, (size_t)n) == n)
		return 0;
	if (errno == EBUSY)
		return spm_fail(e, -errno, "%s: more than that is in use; remove files first ('df' shows how much)",
				o->mountpoint);
	if (errno == EOPNOTSUPP)
		return spm_fail(e, -errno, "%s: its size is that of the directory's filesystem, since it has no quota of its own; "
				".spm/features says why", o->mountpoint);
	if (errno == ERANGE)
		return spm_fail(e, -errno, "%s: size=%s is more than the device %s", o->mountpoint, value, o->source_text);
	return spm_fail(e, -errno, "%s: cannot change the size: %m", o->mountpoint);
}

/* ro, nodev and the like are the kernel's; statvfs(3) shows them by the numbers of mount(2). */
static int change_flags(const struct spm_options *o, struct spm_error *e)
{
	const unsigned long known = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS |
				    MS_NOATIME | MS_NODIRATIME | 256;
	unsigned long flags;
	struct statvfs sv;

	if (statvfs(o->mountpoint, &sv))
		return spm_fail(e, -errno, "%s: %m", o->mountpoint);
	/* the one flag with a number of its own in statvfs(3) */
	if (sv.f_flag & 0x2000 /* ST_NOSYMFOLLOW */)
		sv.f_flag |= 256 /* MS_NOSYMFOLLOW */;
	flags = ((sv.f_flag & known) & ~o->flags_cleared) | o->mount_flags;
	if (flags != (sv.f_flag & known) && mount(NULL, o->mountpoint, NULL, MS_REMOUNT | flags, NULL))
		return spm_fail(e, -errno, "%s: cannot remount: %m", o->mountpoint);
	return 0;
}

int spm_remount(struct spm_options *o, struct spm_error *e)
{
	int rc = check_swap(o, e);

	if (!rc && (o->size_bytes || o->size_pct))
		rc = resize(o, e);
	return rc ? rc : change_flags(o, e);
}
