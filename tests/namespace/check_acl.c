/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX access control lists, as the extended attributes that the kernel takes. */
#include "tests/namespace/ns.h"

#include <endian.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#define ACCESS	"system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32, MAX_ENTRIES = 12 };

struct acl {
	struct posix_acl_xattr_header h;
	struct posix_acl_xattr_entry e[MAX_ENTRIES];
	size_t size;
};

/* From the text that acl_text() gives; with an id behind u or g it is a named entry, z is an unknown tag. */
static struct acl acl(const char *text)
{
	struct acl a = {.h.a_version = htole32(POSIX_ACL_XATTR_VERSION)};
	size_t n = 0;

	while (*text) {
		char c = *text, *end;
		unsigned long v = strtoul(text + 1, &end, 10), id = UINT32_MAX;
		bool named = *end == ':';

		if (named) {
			id = v;
			v = strtoul(end + 1, &end, 10);
		}
		a.e[n].e_tag = htole16(c == 'u'	  ? (named ? USER : USER_OBJ)
				       : c == 'g' ? (named ? GROUP : GROUP_OBJ)
				       : c == 'm' ? MASK
				       : c == 'o' ? OTHER
						  : 64);
		a.e[n].e_perm = htole16((uint16_t)v);
		a.e[n++].e_id = htole32((uint32_t)id);
		text = end + (*end == ' ');
	}
	a.size = sizeof(a.h) + n * sizeof(a.e[0]);
	return a;
}

static int acl_set(const char *path, const char *kind, struct acl a)
{
	return setxattr(path, kind, &a, a.size, 0);
}

/* "u7 u30001:6 g5 g40001:4 m6 o0", or the name of the error */
static const char *acl_text(const char *path, const char *kind)
{
	static char text[400];
	struct acl a;
	ssize_t n = getxattr(path, kind, &a, sizeof(a) - sizeof(a.size));
	size_t i, count;
	char *p = text;

	if (n < 0)
		return errno == ENODATA ? "none" : strerror(errno);
	count = ((size_t)n - sizeof(a.h)) / sizeof(a.e[0]);
	*p = '\0';
	for (i = 0; i < count; i++) {
		unsigned int tag = le16toh(a.e[i].e_tag), perm = le16toh(a.e[i].e_perm);
		char c = tag <= USER ? 'u' : tag <= GROUP ? 'g' : tag == MASK ? 'm' : 'o';

		p += sprintf(p, "%s%c", i ? " " : "", c);
		if (tag == USER || tag == GROUP)
			p += sprintf(p, "%u:", le32toh(a.e[i].e_id));
		p += sprintf(p, "%u", perm);
	}
	return text;
}

static void may(const char *path, const char *what)
{
	if (strchr(what, 'r'))
		close((int)OK(open(path, O_RDONLY)));
	else
		ERR(EACCES, open(path, O_RDONLY));
	if (strchr(what, 'w'))
		close((int)OK(open(path, O_WRONLY)));
	else
		ERR(EACCES, open(path, O_WRONLY));
	if (strchr(what, 'x'))
		OK(access(path, X_OK));
	else
		ERR(EACCES, access(path, X_OK));
}

static void named_users_and_groups(void)
{
	mkfile("f", 0600);
	STR(acl_text("f", ACCESS), "none");
	OK(acl_set("f", ACCESS, acl("u6 u30001:6 u30002:0 g0 g40001:4 g40002:2 m7 o1")));
	STR(acl_text("f", ACCESS), "u6 u30001:6 u30002:0 g0 g40001:4 g40002:2 m7 o1");
	/* the group bits of the mode are the mask */
	OCT(mode_of("f"), 0671);
	AS(U1, G3)
		may("f", "rw");
	AS(U2, G1)
		may("f", "");
	AS(U3, G1)
		may("f", "r");
	AS(U3, G2)
		may("f", "w");
	AS_GROUPS(U3, G3, G1)
		may("f", "r");
	AS(U3, G3)
		may("f", "x");
	/* one matching group entry must give all that is asked for */
	AS_GROUPS(U3, G1, G2) {
		may("f", "rw");
		ERR(EACCES, open("f", O_RDWR));
	}
}

static void mask_limits(void)
{
	mkfile("f", 0600);
	own("f", U3, G3);
	OK(acl_set("f", ACCESS, acl("u6 u30001:7 g6 m4 o0")));
	OCT(mode_of("f"), 0640);
	AS(U1, G1)
		may("f", "r");
	AS(U2, G3)
		may("f", "r");
	/* chmod of the group bits is a change of the mask */
	OK(chmod("f", 0660));
	STR(acl_text("f", ACCESS), "u6 u30001:7 g6 m6 o0");
	AS(U1, G1)
		may("f", "rw");
	AS(U2, G3)
		may("f", "rw");
	OK(chmod("f", 0412));
	STR(acl_text("f", ACCESS), "u4 u30001:7 g6 m1 o2");
	AS(U1, G1)
		may("f", "x");
	/* Linux looks at no list when the mask is empty: what others may, U1 may then, too */
	OK(chmod("f", 0402));
	STR(acl_text("f", ACCESS), "u4 u30001:7 g6 m0 o2");
	AS(U1, G1)
		may("f", "w");
	AS(U2, G2)
		may("f", "w");
}

static void owner_and_change_of_owner(void)
{
	mkfile("f", 0600);
	own("f", U1, G1);
	OK(acl_set("f", ACCESS, acl("u0 u30001:6 u30002:4 g0 m7 o0")));
	/* the owner's entry counts for the owner, whatever else names him */
	AS(U1, G2)
		may("f", "");
	AS(U2, G2)
		may("f", "r");
	OK(chown("f", U2, G1));
	AS(U2, G2)
		may("f", "");
	AS(U1, G2)
		may("f", "rw");
	STR(acl_text("f", ACCESS), "u0 u30001:6 u30002:4 g0 m7 o0");
}

static void minimal_lists_are_modes(void)
{
	mkfile("f", 0600);
	STAMPS("f", NS_C, OK(acl_set("f", ACCESS, acl("u7 g5 o4"))));
	OCT(mode_of("f"), 0754);
	STR(acl_text("f", ACCESS), "none");
	EQ(listxattr("f", NULL, 0), 0);
	OK(acl_set("f", ACCESS, acl("u7 u30001:7 g5 m7 o4")));
	EQ(listxattr("f", NULL, 0), sizeof(ACCESS));
	OCT(mode_of("f"), 0774);
	OK(removexattr("f", ACCESS));
	STR(acl_text("f", ACCESS), "none");
	OCT(mode_of("f"), 0774);
	AS(U1, G1)
		may("f", "r");
	OK(removexattr("f", ACCESS));
}

static void invalid_lists(void)
{
	struct acl a;

	mkfile("f", 0600);
	mkdirm("d", 0755);
	ERR(EINVAL, acl_set("f", ACCESS, acl("u6 u30001:6 g0 o0")));
	ERR(EINVAL, acl_set("f", ACCESS, acl("u6 g0")));
	ERR(EINVAL, acl_set("f", ACCESS, acl("g6 u0 o0")));
	ERR(EINVAL, acl_set("f", ACCESS, acl("u8 g0 o0")));
	ERR(EINVAL, acl_set("f", ACCESS, acl("u6 u6 g0 o0")));
	ERR(EINVAL, acl_set("f", ACCESS, acl("u6 z6 g0 o0")));
	a = acl("u6 g0 o0");
	a.h.a_version = htole32(1);
	ERR(EOPNOTSUPP, acl_set("f", ACCESS, a));
	a = acl("u6 g0 o0");
	a.size -= 3;
	ERR(EINVAL, acl_set("f", ACCESS, a));
	ERR(EACCES, acl_set("f", DEFAULT, acl("u6 g0 o0")));
	OCT(mode_of("f"), 0600);
	STR(acl_text("f", ACCESS), "none");
	STR(acl_text("d", DEFAULT), "none");
	STR(acl_text("f", DEFAULT), "none");
	ERR(ERANGE, (acl_set("f", ACCESS, acl("u6 u30001:6 g0 m6 o0")), getxattr("f", ACCESS, &a, 10)));
	EQ(getxattr("f", ACCESS, NULL, 0), 44);
}

static void kinds(void)
{
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		struct acl a = acl("u6 u30001:4 g0 m6 o0");
		char buf[64];

		ns_context("kind %c", *k);
		mkkind(*k, "x", 0600);
		if (*k == 'l') {
			ERR(EOPNOTSUPP, lsetxattr("x", ACCESS, &a, a.size, 0));
			ERR(EOPNOTSUPP, lgetxattr("x", ACCESS, buf, sizeof(buf)));
		} else {
			OK(lsetxattr("x", ACCESS, &a, a.size, 0));
			EQ(lgetxattr("x", ACCESS, buf, sizeof(buf)), a.size);
			OCT(mode_of("x"), 0660);
			if (*k == 'p')
				AS(U1, G1) {
					close((int)OK(open("x", O_RDONLY | O_NONBLOCK)));
					ERR(EACCES, open("x", O_RDWR));
				}
		}
		OK(rmkind(*k, "x"));
	}
}

static void who_may_set(void)
{
	struct acl a = acl("u6 u30002:6 g6 m6 o6");

	mkfile("f", 0666);
	own("f", U1, G1);
	AS(U2, G1) {
		ERR(EPERM, acl_set("f", ACCESS, a));
		ERR(EPERM, removexattr("f", ACCESS));
	}
	AS(U1, G2)
		OK(acl_set("f", ACCESS, a));
	STR(acl_text("f", ACCESS), "u6 u30002:6 g6 m6 o6");
	AS(U2, G2) {
		ERR(EPERM, removexattr("f", ACCESS));
		STR(acl_text("f", ACCESS), "u6 u30002:6 g6 m6 o6");
	}
	AS(U1, G1)
		OK(removexattr("f", ACCESS));
}

static void setgid_goes_with_foreign_group(void)
{
	static const gid_t groups[] = {G1, 0};
	struct acl a = acl("u7 u30002:7 g7 m7 o0");
	struct acl minimal = acl("u7 g5 o5");

	size_t i;

	mkfile("f", 0);
	for (i = 0; i < NS_LEN(groups); i++) {
		ns_context("group %u", groups[i]);
		own("f", U1, groups[i]);
		OK(chmod("f", 02755));
		AS(U1, G2)
			OK(acl_set("f", ACCESS, a));
		OCT(mode_of("f"), 0770);
		OK(chmod("f", 02755));
		AS_GROUPS(U1, G2, groups[i])
			OK(acl_set("f", ACCESS, a));
		OCT(mode_of("f"), 02770);
		AS(U1, G2)
			OK(acl_set("f", ACCESS, minimal));
		OCT(mode_of("f"), 0755);
		OK(chmod("f", 02755));
		OK(acl_set("f", ACCESS, a));
		OCT(mode_of("f"), 02770);
		OK(removexattr("f", ACCESS));
	}
}

/* A server that makes files as their owners must not still be one of them when it sets a list. */
static void setgid_goes_right_after_others_made_files(void)
{
	struct acl a = acl("u7 u30002:7 g7 m7 o0");
	int i;

	mkdirm("pub", 0777);
	mkfile("f", 0);
	own("f", U1, G1);
	for (i = 0; i < 50; i++) {
		OK(chmod("f", 02755));
		AS(U2, G1) {
			close((int)OK(open("pub/x", O_CREAT | O_RDWR, 0644)));
			OK(mkdir("pub/d", 0755));
			OK(unlink("pub/x"));
			OK(rmdir("pub/d"));
		}
		AS(U1, G2)
			OK(acl_set("f", ACCESS, a));
		OCT(mode_of("f"), 0770);
	}
}

static void default_lists_leave_setgid(void)
{
	struct acl a = acl("u7 u30002:7 g7 m7 o0");

	mkdirm("d", 0);
	own("d", U1, G1);
	OK(chmod("d", 02775));
	AS(U1, G2) {
		OK(acl_set("d", DEFAULT, a));
		OCT(mode_of("d"), 02775);
		OK(removexattr("d", DEFAULT));
		OCT(mode_of("d"), 02775);
		OK(acl_set("d", ACCESS, a));
		OCT(mode_of("d"), 0770);
	}
}

static void removal_and_setgid(void)
{
	static const gid_t groups[] = {G1, 0};
	struct acl a = acl("u7 u30002:7 g7 m7 o0");
	size_t i;

	mkfile("f", 0);
	mkdirm("d", 0);
	for (i = 0; i < NS_LEN(groups); i++) {
		const char *name = i ? "f" : "d";

		ns_context("group %u", groups[i]);
		own(name, U1, groups[i]);
		OK(chmod(name, 02775));
		OK(acl_set(name, ACCESS, a));
		OCT(mode_of(name), 02770);
		AS_GROUPS(U1, G2, groups[i])
			OK(removexattr(name, ACCESS));
		OCT(mode_of(name), 02770);
		OK(acl_set(name, ACCESS, a));
		OK(removexattr(name, ACCESS));
		OCT(mode_of(name), 02770);
		OK(acl_set(name, ACCESS, a));
		AS(U1, G2)
			OK(removexattr(name, ACCESS));
		OCT(mode_of(name), 0770);
	}
}

/* Makes d with a default list: u7 U1:6 g5 m7 o0. */
static void dir_with_default(void)
{
	mkdirm("d", 0777);
	OK(acl_set("d", DEFAULT, acl("u7 u30001:6 g5 m7 o0")));
	OCT(mode_of("d"), 0777);
}

static void inheritance_by_files(void)
{
	int fd;

	dir_with_default();
	/* with a default list the umask does not count */
	umask(077);
	close((int)OK(open("d/f", O_CREAT | O_EXCL | O_RDWR, 0666)));
	STR(acl_text("d/f", ACCESS), "u6 u30001:6 g5 m6 o0");
	OCT(mode_of("d/f"), 0660);
	STR(acl_text("d/f", DEFAULT), "none");
	close((int)OK(open("d/g", O_CREAT | O_EXCL | O_RDWR, 0604)));
	STR(acl_text("d/g", ACCESS), "u6 u30001:6 g5 m0 o0");
	OCT(mode_of("d/g"), 0600);
	OK(mkfifo("d/p", 0640));
	STR(acl_text("d/p", ACCESS), "u6 u30001:6 g5 m4 o0");
	OK(mknod("d/r", S_IFREG | 0777, 0));
	STR(acl_text("d/r", ACCESS), "u7 u30001:6 g5 m7 o0");
	OK(symlink("f", "d/l"));
	OCT(mode_of("d/l"), 0777);
	fd = (int)OK(open("d", O_TMPFILE | O_RDWR, 0666));
	OCT(st_fd(fd).st_mode & 07777, 0660);
	OK(linkat(fd, "", AT_FDCWD, "d/t", AT_EMPTY_PATH));
	STR(acl_text("d/t", ACCESS), "u6 u30001:6 g5 m6 o0");
	umask(0);
	OK(chmod("d/f", 0660));
	AS(U1, G1)
		may("d/f", "rw");
	AS(U2, G2)
		may("d/f", "");
	/* a name that comes by link or rename keeps what it has */
	mkfile("outside", 0644);
	OK(link("outside", "d/linked"));
	OK(rename("outside", "d/renamed"));
	STR(acl_text("d/renamed", ACCESS), "none");
	OCT(mode_of("d/linked"), 0644);
}

static void inheritance_by_directories(void)
{
	dir_with_default();
	umask(077);
	OK(mkdir("d/s", 0777));
	STR(acl_text("d/s", ACCESS), "u7 u30001:6 g5 m7 o0");
	STR(acl_text("d/s", DEFAULT), "u7 u30001:6 g5 m7 o0");
	OCT(mode_of("d/s"), 0770);
	OK(mkdir("d/s/t", 0700));
	STR(acl_text("d/s/t", ACCESS), "u7 u30001:6 g5 m0 o0");
	STR(acl_text("d/s/t", DEFAULT), "u7 u30001:6 g5 m7 o0");
	close((int)OK(open("d/s/t/f", O_CREAT | O_RDWR, 0666)));
	STR(acl_text("d/s/t/f", ACCESS), "u6 u30001:6 g5 m6 o0");
	OK(removexattr("d/s/t", DEFAULT));
	STR(acl_text("d/s/t", DEFAULT), "none");
	close((int)OK(open("d/s/t/g", O_CREAT | O_RDWR, 0666)));
	STR(acl_text("d/s/t/g", ACCESS), "none");
	OCT(mode_of("d/s/t/g"), 0600);
}

static void minimal_default_list(void)
{
	mkdirm("d", 0755);
	OK(acl_set("d", DEFAULT, acl("u7 g4 o1")));
	STR(acl_text("d", DEFAULT), "u7 g4 o1");
	umask(077);
	close((int)OK(open("d/f", O_CREAT | O_RDWR, 0666)));
	OCT(mode_of("d/f"), 0640);
	STR(acl_text("d/f", ACCESS), "none");
	OK(mkdir("d/s", 0777));
	OCT(mode_of("d/s"), 0741);
	STR(acl_text("d/s", DEFAULT), "u7 g4 o1");
	/* an empty default list is none */
	OK(setxattr("d", DEFAULT, &(struct posix_acl_xattr_header){htole32(POSIX_ACL_XATTR_VERSION)}, 4, 0));
	STR(acl_text("d", DEFAULT), "none");
	close((int)OK(open("d/g", O_CREAT | O_RDWR, 0666)));
	OCT(mode_of("d/g"), 0600);
}

static void default_list_with_setgid_directory(void)
{
	mkdirm("d", 0777);
	own("d", 0, G1);
	OK(chmod("d", 02777));
	OK(acl_set("d", DEFAULT, acl("u7 u30001:7 g7 m7 o5")));
	AS(U2, G2) {
		close((int)OK(open("d/f", O_CREAT | O_RDWR, 02775)));
		OCT(mode_of("d/f"), 0775);
		EQ(st_of("d/f").st_gid, G1);
		OK(mkdir("d/s", 0777));
		OCT(mode_of("d/s"), 02775);
	}
}

static void directories_and_names(void)
{
	mkdirm("d", 0700);
	mkdata("d/f", 0666, "inside");
	OK(acl_set("d", ACCESS, acl("u7 u30001:1 u30002:4 u30003:3 g0 m7 o0")));
	AS(U1, G1) {
		HAS("d/f", "inside");
		ERR(EACCES, open("d", O_RDONLY));
		ERR(EACCES, open("d/new", O_CREAT | O_RDWR, 0666));
	}
	AS(U2, G2) {
		close((int)OK(open("d", O_RDONLY)));
		ERR(EACCES, open("d/f", O_RDONLY));
	}
	AS(U3, G3) {
		close((int)OK(open("d/new", O_CREAT | O_RDWR, 0666)));
		OK(unlink("d/f"));
	}
}

static void change_counts_for_next_open(void)
{
	struct ns_gate ready, changed;
	pid_t pid;

	ns_gate_init(&ready);
	ns_gate_init(&changed);
	mkdata("f", 0600, "data");
	OK(acl_set("f", ACCESS, acl("u6 u30001:6 g0 m6 o0")));
	pid = ns_fork();
	if (!pid) {
		ns_become(U1, G1, 0, NULL);
		may("f", "rw");
		ns_gate_open(&ready);
		ns_gate_pass(&changed);
		may("f", "r");
		ns_gate_open(&ready);
		ns_gate_pass(&changed);
		may("f", "");
		ns_exit();
	}
	ns_gate_pass(&ready);
	OK(acl_set("f", ACCESS, acl("u6 u30001:4 g0 m6 o0")));
	ns_gate_open(&changed);
	ns_gate_pass(&ready);
	OK(removexattr("f", ACCESS));
	OK(chmod("f", 0600));
	ns_gate_open(&changed);
	ns_wait(pid);
}

const struct ns_check checks_acl[] = {
	CHECK(named_users_and_groups),
	CHECK(mask_limits),
	CHECK(owner_and_change_of_owner),
	CHECK(minimal_lists_are_modes),
	CHECK(invalid_lists),
	CHECK(kinds),
	CHECK(who_may_set),
	CHECK(setgid_goes_with_foreign_group),
	CHECK(setgid_goes_right_after_others_made_files),
	CHECK(default_lists_leave_setgid),
	CHECK(removal_and_setgid),
	CHECK(inheritance_by_files),
	CHECK(inheritance_by_directories),
	CHECK(minimal_default_list),
	CHECK(default_list_with_setgid_directory),
	CHECK(directories_and_names),
	CHECK(change_counts_for_next_open),
	CHECKS_END,
};
