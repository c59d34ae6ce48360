/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/setup-claim.h"
#include "core/size.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#define LEFT_PART 64u                   /* of a node */
#define LEFT_MIN  (UINT64_C(16) << 20)
#define MISS_PART 1024u                 /* of the device: so much may be missing in the end */

int spm_setup_claim_fit(struct spm_options *o, bool whole, struct spm_error *e)
{
	uint64_t left = o->source.bytes / LEFT_PART > LEFT_MIN ? o->source.bytes / LEFT_PART : LEFT_MIN;
	char size[16];

	if (!o->claim)
		return 0;
	if (whole && o->source.bytes > 2 * left)
		o->source.bytes = (o->source.bytes - left) & ~(SPM_CLAIM_HUGE - 1);
	if (o->source.bytes >= SPM_CLAIM_MIN)
		return 0;
	return spm_fail(e, -EINVAL, "option isolate=claim: %s has %s, and a claim is made of 4M or more; give it more, or leave the "
			"option out", o->source_text, spm_size_human(o->source.bytes, size, sizeof(size)));
}

static void describe(const struct spm_options *o, struct spm_claim *c)
{
	*c = (struct spm_claim){ .device_bytes = o->source.bytes,
				 .nodes = spm_source_on_nodes(&o->source) ? &o->source.nodes : NULL };
}

/* By a child in the worker's control group: device memory is not charged to whoever called mount(8). */
static int claim_all(const struct spm_cgroup *cgroup, struct spm_claim *c)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		(void)!spm_cgroup_join(cgroup); /* there may be none */
		(void)spm_claim_take(c, c->device_bytes - SPM_CLAIM_FLOAT);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid < 0 ? -errno : 0;
}

int spm_setup_claim_make(const struct spm_options *o, const struct spm_slice_opts *so, const struct spm_cgroup *cgroup,
			 struct spm_claim *c, struct spm_error *e)
{
	char want[16], have[16];
	uint64_t held;
	int rc;

	describe(o, c);
	rc = spm_claim_create(c, so, o->size_bytes ? o->size_bytes : o->source.bytes, e);
	if (rc)
		return rc;
	rc = claim_all(cgroup, c);
	held = spm_claim_held(c) + SPM_CLAIM_FLOAT;
	if (!rc && held >= o->source.bytes - o->source.bytes / MISS_PART)
		return 0;
	spm_claim_drop(c);
	if (rc)
		return spm_fail(e, rc, "option isolate=claim: %s", strerror(-rc));
	return spm_fail(e, -ENOMEM, "option isolate=claim: only %s of the device's %s can be claimed, others have the rest; "
			"end them, or give a smaller size in %s",
			spm_size_human(held, have, sizeof(have)), spm_size_human(o->source.bytes, want, sizeof(want)),
			o->source_text);
}

int spm_setup_claim_reopen(const struct spm_options *o, struct spm_claim *c, struct spm_error *e)
{
	int rc;

	describe(o, c);
	rc = spm_claim_open(c);
	if (rc && rc != -ENOENT)
		return spm_fail(e, rc, "cannot open the reserve of the region '%s': %s", o->name, strerror(-rc));
	if (!rc == o->claim)
		return !rc;
	if (!rc)
		spm_claim_close(c);
	return spm_fail(e, -EINVAL, "the kept region '%s' was made %s isolate=claim; mount it so, or choose another name=",
			o->name, rc ? "without" : "with");
}
