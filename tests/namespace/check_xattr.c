/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes. */
#include "tests/namespace/ns.h"

#include <sys/xattr.h>

static bool listed(const char *path, const char *name)
{
	char buf[4096];
	ssize_t n = llistxattr(path, buf, sizeof(buf)), i;

	for (i = 0; i < n; i += (ssize_t)strlen(buf + i) + 1)
		if (!strcmp(buf + i, name))
			return true;
	return false;
}

static void kinds_and_namespaces(void)
{
	const char *k;
	char buf[16];

	for (k = NS_KINDS; *k; k++) {
		ns_context("kind %c", *k);
		mkkind(*k, "x", 0644);
		OK(lsetxattr("x", "trusted.t", "tval", 4, 0));
		OK(lsetxattr("x", "security.s", "sval", 4, 0));
		EQ(lgetxattr("x", "trusted.t", buf, sizeof(buf)), 4);
		EQ(lgetxattr("x", "security.s", buf, sizeof(buf)), 4);
		TRUE(listed("x", "trusted.t") && listed("x", "security.s"));
		if (*k == 'f' || *k == 'd') {
			OK(lsetxattr("x", "user.u", "uval", 4, 0));
			EQ(lgetxattr("x", "user.u", buf, sizeof(buf)), 4);
			TRUE(!memcmp(buf, "uval", 4));
			TRUE(listed("x", "user.u"));
			OK(lremovexattr("x", "user.u"));
			ERR(ENODATA, lgetxattr("x", "user.u", buf, sizeof(buf)));
			TRUE(!listed("x", "user.u"));
		} else {
			ERR(EPERM, lsetxattr("x", "user.u", "uval", 4, 0));
			ERR(ENODATA, lgetxattr("x", "user.u", buf, sizeof(buf)));
		}
		OK(lremovexattr("x", "trusted.t"));
		OK(lremovexattr("x", "security.s"));
		ERR(ENODATA, lremovexattr("x", "trusted.t"));
		TRUE(!listed("x", "trusted.t"));
		OK(rmkind(*k, "x"));
	}
}

static void flags(void)
{
	char buf[16];

	mkfile("x", 0644);
	ERR(ENODATA, setxattr("x", "user.k", "v", 1, XATTR_REPLACE));
	OK(setxattr("x", "user.k", "one", 3, XATTR_CREATE));
	ERR(EEXIST, setxattr("x", "user.k", "two", 3, XATTR_CREATE));
	EQ(getxattr("x", "user.k", buf, sizeof(buf)), 3);
	TRUE(!memcmp(buf, "one", 3));
	OK(setxattr("x", "user.k", "three", 5, XATTR_REPLACE));
	EQ(getxattr("x", "user.k", buf, sizeof(buf)), 5);
	OK(setxattr("x", "user.k", "4", 1, 0));
	EQ(getxattr("x", "user.k", buf, sizeof(buf)), 1);
	EQ(buf[0], '4');
	ERR(EINVAL, setxattr("x", "user.k", "v", 1, 0x10));
}

static void sizes(void)
{
	static const size_t lengths[] = {0, 1, 7, 255, 256, 4000, 4096, 4097, 32768, 65535, 65536};
	char *value = malloc(65537), *back = malloc(65537);
	size_t i;

	mkfile("x", 0644);
	for (i = 0; i < NS_LEN(lengths); i++) {
		size_t len = lengths[i];

		ns_context("%zu bytes", len);
		fill(value, len, (unsigned int)len + 1);
		OK(setxattr("x", "user.k", value, len, 0));
		EQ(getxattr("x", "user.k", NULL, 0), len);
		memset(back, 0, 65537);
		EQ(getxattr("x", "user.k", back, 65536), len);
		TRUE(!memcmp(value, back, len));
		EQ(getxattr("x", "user.k", back, len), len);
		if (len > 1)
			ERR(ERANGE, getxattr("x", "user.k", back, len - 1));
	}
	ns_context(NULL);
	ERR(E2BIG, setxattr("x", "user.k", value, 65537, 0));
	EQ(getxattr("x", "user.k", NULL, 0), 65536);
	free(value);
	free(back);
}

static void names(void)
{
	char *n255 = repeat('n', 255), *n256 = repeat('n', 256), buf[8];

	memcpy(n255, "user.", 5);
	memcpy(n256, "user.", 5);
	mkfile("x", 0644);
	OK(setxattr("x", n255, "v", 1, 0));
	EQ(getxattr("x", n255, buf, sizeof(buf)), 1);
	TRUE(listed("x", n255));
	ERR(ERANGE, setxattr("x", n256, "v", 1, 0));
	ERR(ERANGE, getxattr("x", n256, buf, sizeof(buf)));
	ERR(ERANGE, setxattr("x", "", "v", 1, 0));
	ERR(EINVAL, setxattr("x", "user.", "v", 1, 0));
	ERR(EOPNOTSUPP, setxattr("x", "foo.bar", "v", 1, 0));
	ERR(EOPNOTSUPP, setxattr("x", "nodot", "v", 1, 0));
	ERR(EOPNOTSUPP, getxattr("x", "foo.bar", buf, sizeof(buf)));
	ERR(EOPNOTSUPP, removexattr("x", "foo.bar"));
	ERR(EOPNOTSUPP, setxattr("x", "system.foo", "v", 1, 0));
	ERR(EOPNOTSUPP, getxattr("x", "system.foo", buf, sizeof(buf)));
	OK(setxattr("x", "user.\xff\x01 \xc3\xa9", "v", 1, 0));
	TRUE(listed("x", "user.\xff\x01 \xc3\xa9"));
	ERR(ENODATA, getxattr("x", "user.none", buf, sizeof(buf)));
	ERR(ENODATA, removexattr("x", "user.none"));
	free(n255);
	free(n256);
}

static void lists(void)
{
	char name[32], buf[8192];
	ssize_t len;
	int i;

	mkfile("x", 0644);
	EQ(listxattr("x", NULL, 0), 0);
	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "user.key%03d", i);
		OK(setxattr("x", name, &i, sizeof(i), XATTR_CREATE));
	}
	len = listxattr("x", NULL, 0);
	EQ(len, 100 * 12);
	EQ(listxattr("x", buf, sizeof(buf)), len);
	EQ(listxattr("x", buf, (size_t)len), len);
	ERR(ERANGE, listxattr("x", buf, (size_t)len - 1));
	ERR(ERANGE, listxattr("x", buf, 1));
	for (i = 0; i < 100; i++) {
		int got = -1;

		snprintf(name, sizeof(name), "user.key%03d", i);
		TRUE(listed("x", name));
		EQ(getxattr("x", name, &got, sizeof(got)), sizeof(got));
		EQ(got, i);
	}
	for (i = 0; i < 100; i += 2) {
		snprintf(name, sizeof(name), "user.key%03d", i);
		OK(removexattr("x", name));
	}
	EQ(listxattr("x", NULL, 0), 50 * 12);
}

static void rights(void)
{
	char buf[64];

	mkfile("x", 0600);
	own("x", U1, G1);
	OK(setxattr("x", "user.k", "v", 1, 0));
	OK(setxattr("x", "trusted.k", "v", 1, 0));
	OK(setxattr("x", "security.k", "v", 1, 0));
	AS(U2, G2) {
		ERR(EACCES, getxattr("x", "user.k", buf, sizeof(buf)));
		ERR(EACCES, setxattr("x", "user.k", "w", 1, 0));
		ERR(EACCES, removexattr("x", "user.k"));
		/* the list, and security attributes, are everybody's to read */
		TRUE(listed("x", "user.k"));
		EQ(getxattr("x", "security.k", buf, sizeof(buf)), 1);
	}
	OK(chmod("x", 0644));
	AS(U2, G2) {
		EQ(getxattr("x", "user.k", buf, sizeof(buf)), 1);
		ERR(EACCES, setxattr("x", "user.k", "w", 1, 0));
		ERR(EACCES, removexattr("x", "user.k"));
	}
	OK(chmod("x", 0606));
	AS(U2, G2) {
		OK(setxattr("x", "user.k", "w", 1, 0));
		OK(removexattr("x", "user.k"));
	}
	/* as the owner too */
	AS(U1, G1) {
		ERR(EPERM, setxattr("x", "trusted.k", "w", 1, 0));
		ERR(ENODATA, getxattr("x", "trusted.k", buf, sizeof(buf)));
		ERR(EPERM, removexattr("x", "trusted.k"));
		TRUE(!listed("x", "trusted.k"));
		ERR(EPERM, setxattr("x", "security.k", "w", 1, 0));
		ERR(EPERM, removexattr("x", "security.k"));
	}
	EQ(getxattr("x", "trusted.k", buf, sizeof(buf)), 1);
}

static void sticky_directory_owner_only(void)
{
	mkdirm("d", 01777);
	own("d", U1, G1);
	AS(U2, G2)
		ERR(EPERM, setxattr("d", "user.k", "v", 1, 0));
	AS(U1, G1)
		OK(setxattr("d", "user.k", "v", 1, 0));
	OK(chmod("d", 0777));
	AS(U2, G2)
		OK(setxattr("d", "user.k", "w", 1, 0));
}

static void through_links_and_renames(void)
{
	char buf[16];

	mkfile("x", 0644);
	OK(setxattr("x", "user.k", "v", 1, 0));
	OK(link("x", "y"));
	EQ(getxattr("y", "user.k", buf, sizeof(buf)), 1);
	OK(setxattr("y", "user.k", "longer", 6, 0));
	EQ(getxattr("x", "user.k", buf, sizeof(buf)), 6);
	OK(unlink("x"));
	OK(rename("y", "z"));
	EQ(getxattr("z", "user.k", buf, sizeof(buf)), 6);
	OK(symlink("z", "l"));
	EQ(getxattr("l", "user.k", buf, sizeof(buf)), 6);
	ERR(ENODATA, lgetxattr("l", "user.k", buf, sizeof(buf)));
	OK(setxattr("l", "user.m", "", 0, 0));
	EQ(getxattr("z", "user.m", buf, sizeof(buf)), 0);
	OK(unlink("z"));
	mkfile("z", 0644);
	ERR(ENODATA, getxattr("z", "user.k", buf, sizeof(buf)));
	EQ(listxattr("z", NULL, 0), 0);
}

static void by_descriptor(void)
{
	char buf[64], proc[64];
	int r, p, d;

	mkfile("x", 0644);
	r = (int)OK(open("x", O_RDONLY | O_CLOEXEC));
	p = (int)OK(open("x", O_PATH | O_CLOEXEC));
	OK(fsetxattr(r, "user.k", "v", 1, 0));
	EQ(fgetxattr(r, "user.k", buf, sizeof(buf)), 1);
	EQ(flistxattr(r, buf, sizeof(buf)), 7);
	ERR(EBADF, fgetxattr(p, "user.k", buf, sizeof(buf)));
	ERR(EBADF, fsetxattr(p, "user.k", "w", 1, 0));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", p);
	EQ(getxattr(proc, "user.k", buf, sizeof(buf)), 1);
	OK(setxattr(proc, "user.p", "w", 1, 0));
	EQ(fgetxattr(r, "user.p", buf, sizeof(buf)), 1);
	OK(fremovexattr(r, "user.k"));
	ERR(ENODATA, fremovexattr(r, "user.k"));
	OK(mkdir("d", 0755));
	d = (int)OK(open("d", O_RDONLY | O_CLOEXEC));
	OK(fsetxattr(d, "user.k", "v", 1, 0));
	EQ(getxattr("d", "user.k", buf, sizeof(buf)), 1);
	close(r);
	close(p);
	close(d);
}

static void large_total(void)
{
	char name[32], *value = malloc(60000), *back = malloc(60000);
	int i;

	mkfile("x", 0644);
	for (i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "user.big%d", i);
		fill(value, 60000, (unsigned int)i);
		OK(setxattr("x", name, value, 60000, 0));
	}
	for (i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "user.big%d", i);
		fill(value, 60000, (unsigned int)i);
		EQ(getxattr("x", name, back, 60000), 60000);
		TRUE(!memcmp(value, back, 60000));
	}
	free(value);
	free(back);
}

/* One process changes a value between two lengths, another one sees whole values only. */
static void values_are_whole(void)
{
	struct ns_gate done;
	char buf[300];
	pid_t pid;
	int i;

	ns_gate_init(&done);
	mkfile("x", 0644);
	OK(setxattr("x", "user.k", "aaaaaaaa", 8, 0));
	pid = ns_fork();
	if (!pid) {
		memset(buf, 'b', sizeof(buf));
		for (i = 0; i < 400; i++) {
			OK(setxattr("x", "user.k", buf, sizeof(buf), 0));
			OK(setxattr("x", "user.k", "aaaaaaaa", 8, 0));
		}
		ns_gate_open(&done);
		ns_exit();
	}
	while (!ns_gate_try(&done, 0)) {
		ssize_t n = getxattr("x", "user.k", buf, sizeof(buf));

		if (!(n == 8 && buf[0] == 'a' && buf[7] == 'a') &&
		    !(n == 300 && buf[0] == 'b' && buf[299] == 'b'))
			FAIL("got %zd bytes, %s", n, n < 0 ? strerror(errno) : "mixed");
	}
	ns_wait(pid);
}

const struct ns_check checks_xattr[] = {
	CHECK(kinds_and_namespaces),
	CHECK(flags),
	CHECK(sizes),
	CHECK(names),
	CHECK(lists),
	CHECK(rights),
	CHECK(sticky_directory_owner_only),
	CHECK(through_links_and_renames),
	CHECK(by_descriptor),
	CHECK(large_total),
	CHECK(values_are_whole),
	CHECKS_END,
};
