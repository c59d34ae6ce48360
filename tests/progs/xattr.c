/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes and ACLs by their raw form, so that the tests need neither attr nor acl installed. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/progs/spmt.h"

static int complain(const char *what)
{
	fprintf(stderr, "spmt: %s: %s\n", what, strerrorname_np(errno));
	return 1;
}

int spmt_getxattr(int argc, char **argv)
{
	char buf[65536];
	ssize_t n;

	if (argc != 3)
		return 2;
	n = lgetxattr(argv[1], argv[2], buf, sizeof(buf));
	if (n < 0)
		return complain(argv[1]);
	return fwrite(buf, 1, (size_t)n, stdout) != (size_t)n;
}

static size_t unhex(const char *s, unsigned char *out, size_t max)
{
	size_t n = 0;
	unsigned int byte;

	while (n < max && sscanf(s + 2 * n, "%2x", &byte) == 1)
		out[n++] = (unsigned char)byte;
	return n;
}

int spmt_setproject(int argc, char **argv)
{
	struct fsxattr x;
	int fd, rc;

	if (argc != 3)
		return 2;
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain(argv[1]);
	rc = ioctl(fd, FS_IOC_FSGETXATTR, &x);
	if (!rc) {
		x.fsx_projid = (unsigned int)strtoul(argv[2], NULL, 10);
		rc = ioctl(fd, FS_IOC_FSSETXATTR, &x);
	}
	rc = rc ? complain(argv[1]) : 0;
	close(fd);
	return rc;
}

int spmt_setxattr(int argc, char **argv)
{
	unsigned char raw[1024];
	const void *val;
	size_t n;

	if (argc != 4)
		return 2;
	val = argv[3];
	n = strlen(argv[3]);
	if (!strncmp(argv[3], "0x", 2)) {
		n = unhex(argv[3] + 2, raw, sizeof(raw));
		val = raw;
	}
	return lsetxattr(argv[1], argv[2], val, n, 0) ? complain(argv[1]) : 0;
}

static int acl_entry(const char *s, struct posix_acl_xattr_entry *e)
{
	const char *perm = strrchr(s, ':');
	bool named = strlen(s) > 2 && s[2] != ':';
	int tag, bits = 0;

	if (!perm)
		return -EINVAL;
	switch (*s) {
	case 'u':
		tag = named ? ACL_USER : ACL_USER_OBJ;
		break;
	case 'g':
		tag = named ? ACL_GROUP : ACL_GROUP_OBJ;
		break;
	case 'm':
		tag = ACL_MASK;
		break;
	default:
		tag = ACL_OTHER;
	}
	bits |= strchr(perm, 'r') ? ACL_READ : 0;
	bits |= strchr(perm, 'w') ? ACL_WRITE : 0;
	bits |= strchr(perm, 'x') ? ACL_EXECUTE : 0;
	e->e_tag = htole16((uint16_t)tag);
	e->e_perm = htole16((uint16_t)bits);
	e->e_id = htole32(named ? (uint32_t)strtoul(s + 2, NULL, 10) : (uint32_t)ACL_UNDEFINED_ID);
	return 0;
}

/* Entries in the kernel's order: u:: u:N: g:: g:N: m:: o:: */
int spmt_setacl(int argc, char **argv)
{
	struct {
		struct posix_acl_xattr_header h;
		struct posix_acl_xattr_entry e[SPMT_MAX_ARGS];
	} acl = { .h.a_version = htole32(POSIX_ACL_XATTR_VERSION) };
	int n = argc - 2;

	if (n < 1 || n > SPMT_MAX_ARGS)
		return 2;
	for (int i = 0; i < n; i++)
		if (acl_entry(argv[i + 2], &acl.e[i]))
			return 2;
	if (setxattr(argv[1], "system.posix_acl_access", &acl, sizeof(acl.h) + (size_t)n * sizeof(acl.e[0]),
		     0))
		return complain(argv[1]);
	return 0;
}
