/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_OPTIONS_H
#define SPM_FS_OPTIONS_H

#include "core/limits.h"
#include "core/log.h"
#include "core/source.h"

enum spm_nohalt_when { SPM_NOHALT_AUTO, SPM_NOHALT_ON, SPM_NOHALT_OFF };

/* Options that were given, where that is not the same as their default. */
enum spm_given {
	SPM_GIVEN_EXTENT = 1 << 0,
	SPM_GIVEN_LOW = 1 << 1,
	SPM_GIVEN_HIGH = 1 << 2,
	SPM_GIVEN_COLD = 1 << 3,
	SPM_GIVEN_COMPACT = 1 << 4,
	SPM_GIVEN_DAXMODE = 1 << 5,
	SPM_GIVEN_WATCHDOG = 1 << 6,
};

/* A mount as the user asked for it. Strings are owned by this struct (spm_options_free). */
struct spm_options {
	char *source_text;
	struct spm_source source;
	char *mountpoint;
	char *name;
	char *huge;
	char *mpol;
	char *conf;           /* of declared slices, a path or "none"; NULL: by the mount's name */
	char *list;           /* all -o lists as they were given, with commas between */
	uint64_t size_bytes;  /* size=; 0: the whole device */
	uint64_t size_pct;    /* size=N%, of the device */
	uint64_t nr_inodes;
	bool nr_inodes_set;
	unsigned int mode;
	uint32_t uid, gid;
	unsigned long mount_flags, flags_cleared; /* MS_* that options set, and took back */
	enum spm_map map;
	bool commit_lazy;
	enum spm_nohalt_when nohalt;
	enum spm_dax_mode dax_mode; /* daxmode= */
	bool claim; /* isolate=claim */
	bool keep;
	bool recover;
	bool force;            /* dir: also where it is not DAX; a pool: recovered though its device was let go */
	unsigned int watchdog; /* seconds; 0: off */
	char *swap;             /* paths with ':' between, none empty; NULL: no swap */
	uint64_t swap_bytes;    /* swapsize=, of all files together; 0: as much as the device */
	uint32_t extent_bytes;
	unsigned int low_pct, high_pct;
	unsigned int cold_s;    /* 0: off */
	uint64_t compact_bps;   /* bytes a second; 0: off */
	unsigned int given;     /* enum spm_given */
	const char *needs_swap; /* an option that was given and means nothing without swap= */
	bool no_passthrough;
	bool no_resend;
	bool no_idmap;
	bool remount;
	bool remount_seen; /* somewhere in the list at hand: options of the live mount are in it too */
	bool foreground;
	bool sloppy; /* mount -s: options that are not known are passed over */
	bool fake; /* mount -f: check everything, mount nothing */
};

void spm_options_init(struct spm_options *o);
void spm_options_free(struct spm_options *o);

/* Takes one -o list. -EINVAL with the reason (option, value, what is legal) in @e; -ENOMEM. */
int spm_options_parse(struct spm_options *o, const char *list, struct spm_error *e) SPM_MUST_CHECK;
/* Makes the paths of swap= and conf= absolute, by @cwd; in the list too, which others will parse elsewhere. -EINVAL, -ENOMEM. */
int spm_options_resolve(struct spm_options *o, const char *cwd, struct spm_error *e) SPM_MUST_CHECK;
/* After the last list: fills in what depends on other options, and checks them together. */
int spm_options_finish(struct spm_options *o, struct spm_error *e) SPM_MUST_CHECK;
/* Once the size of the device is known: what size= comes to, which must not be more. */
int spm_options_fit(struct spm_options *o, struct spm_error *e) SPM_MUST_CHECK;
/* The option table for --help: one "name  meaning" line each. */
void spm_options_help(FILE *out);

#endif
