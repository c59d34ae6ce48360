/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spmctl slice list --output k8s-pv: slices as local PersistentVolumes of Kubernetes, a YAML document each. Every
 * value that is not ours is a quoted string, as JSON has them, which YAML knows as well.
 */
#include "config.h"

#include "mount-helpers/spmctl-slice.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define OBJECT_NAME_MAX 253 /* of Kubernetes: lower case, digits, - and . */

static void put_text(const char *key, const char *value)
{
	struct json_object *text = ctl_json_bytes(value);

	printf("%s%s\n", key, json_object_to_json_string_ext(text, JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(text);
}

/*
 * "spmfs-NODE-MOUNT-SLICE" as Kubernetes takes names. Where something had to be changed for that, or a '-' in a
 * name would blur where it ends, a hash (FNV-1a) of what it was keeps two slices apart.
 */
static void object_name(char out[static OBJECT_NAME_MAX + 1], const char *node, const char *mount,
			const char *slice)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	spm_auto_free char *whole = NULL;
	unsigned int parts = 0;
	bool changed = false;
	size_t n = 0;

	out[0] = '\0';
	if (asprintf(&whole, "spmfs/%s/%s/%s", node, mount, slice) < 0) {
		whole = NULL;
		return;
	}
	for (const char *p = whole; *p; p++) {
		bool dot = *p == '.' && isalnum((unsigned char)p[1]) && isalnum((unsigned char)p[-1]);
		bool fine = islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '-' || dot;

		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
		parts += *p == '/';
		changed |= (!fine && *p != '/') || (*p == '-' && parts > 1) || n >= OBJECT_NAME_MAX - 17;
		if (n < OBJECT_NAME_MAX - 17)
			out[n++] = fine ? *p : isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '-';
	}
	while (n && !isalnum((unsigned char)out[n - 1]))
		n--;
	out[n] = '\0';
	if (changed)
		snprintf(out + n, OBJECT_NAME_MAX + 1 - n, "-%016" PRIx64, h);
}

static void volume(const struct ctl_mount *m, const struct ctl_slice *s, const char *node, const char *name,
		   uint64_t bytes)
{
	char object[OBJECT_NAME_MAX + 1];
	spm_auto_free char *path = NULL;

	if (asprintf(&path, "%s/%s", strcmp(m->point, "/") ? m->point : "", s->name) < 0)
		path = NULL;
	object_name(object, node, name, s->name);
	puts("apiVersion: v1\nkind: PersistentVolume\nmetadata:");
	put_text("  name: ", object);
	puts("  labels:\n    app.kubernetes.io/managed-by: spmctl\n  annotations:");
	put_text("    spmfs.io/mount: ", name);
	put_text("    spmfs.io/slice: ", s->name);
	printf("spec:\n  capacity:\n    storage: \"%" PRIu64 "\"\n", bytes);
	puts("  volumeMode: Filesystem\n  accessModes:\n    - ReadWriteOnce\n  persistentVolumeReclaimPolicy: "
	     "Retain\n"
	     "  storageClassName: spmfs\n  local:");
	put_text("    path: ", path ? path : "");
	puts("  nodeAffinity:\n    required:\n      nodeSelectorTerms:\n        - matchExpressions:\n"
	     "            - key: kubernetes.io/hostname\n              operator: In\n              values:");
	put_text("                - ", node);
}

int ctl_k8s_print(const struct ctl_mount *m, const struct ctl_slices *slices, const char *node, bool *any)
{
	spm_auto_free char *name = ctl_mount_word(m, "features", "name");
	uint64_t device = ctl_mount_number(m, "stat", "limit_bytes");
	char host[256] = "";

	if (!name || !device) {
		ctl_error("%s: its server does not say how it is named, and how large it is", m->point);
		return CTL_FAILED;
	}
	if (!node) {
		gethostname(host, sizeof(host) - 1);
		/* a kubelet takes it in lower case */
		for (char *p = host; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		node = host;
	}
	for (size_t i = 0; i < slices->n; i++) {
		uint64_t max = ctl_slice_max(&slices->list[i]);

		if (*any)
			puts("---");
		*any = true;
		volume(m, &slices->list[i], node, name, max < device ? max : device);
	}
	return CTL_DONE;
}
