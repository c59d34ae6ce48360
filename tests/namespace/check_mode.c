/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Modes: chmod, umask, who may do what, sticky and setgid directories. */
#include "tests/namespace/ns.h"

#include <dirent.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static void chmod_every_kind(void)
{
	static const mode_t modes[] = {0,    0111,  0222,  0333,  0444,	 0555, 0666,
				       0777, 01777, 02777, 04777, 07777, 0644};
	const char *k;
	size_t i;

	for (k = NS_KINDS; *k; k++) {
		ns_context("kind %c", *k);
		if (*k == 'l')
			continue;
		mkkind(*k, "x", 0700);
		for (i = 0; i < NS_LEN(modes); i++) {
			STAMPS("x", NS_C, OK(chmod("x", modes[i])));
			OCT(mode_of("x"), modes[i]);
			EQ(st_of("x").st_mode & S_IFMT, kind_type(*k));
		}
		OK(rmkind(*k, "x"));
	}
}

static void chmod_through_symlink(void)
{
	mkfile("file", 0600);
	OK(symlink("file", "link"));
	OK(chmod("link", 0641));
	OCT(mode_of("file"), 0641);
	OCT(mode_of("link"), 0777);
	ERR(EOPNOTSUPP, fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW));
	OCT(mode_of("link"), 0777);
	OCT(mode_of("file"), 0641);
	OK(fchmodat(AT_FDCWD, "file", 0604, AT_SYMLINK_NOFOLLOW));
	OCT(mode_of("file"), 0604);
}

static void fchmod_kinds_of_descriptors(void)
{
	char proc[64];
	int r, p, d;

	mkfile("file", 0400);
	mkdirm("dir", 0500);
	r = (int)OK(open("file", O_RDONLY | O_CLOEXEC));
	p = (int)OK(open("file", O_PATH | O_CLOEXEC));
	d = (int)OK(open("dir", O_RDONLY | O_CLOEXEC));
	OK(fchmod(r, 0640));
	OCT(mode_of("file"), 0640);
	OK(fchmod(d, 01750));
	OCT(mode_of("dir"), 01750);
	ERR(EBADF, fchmod(p, 0600));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", p);
	OK(chmod(proc, 0604));
	OCT(mode_of("file"), 0604);
	ERR(EBADF, fchmod(1000, 0));
}

static void chmod_needs_the_owner(void)
{
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		if (*k == 'l')
			continue;
		ns_context("kind %c", *k);
		mkkind(*k, "x", 0666);
		own("x", U1, G1);
		AS(U2, G1)
			STAMPS("x", 0, ERR(EPERM, chmod("x", 0777)));
		AS_GROUPS(U2, G2, G1)
			ERR(EPERM, chmod("x", 0777));
		OCT(mode_of("x"), 0666);
		AS(U1, G2)
			OK(chmod("x", 0611));
		OCT(mode_of("x"), 0611);
		OK(rmkind(*k, "x"));
	}
}

static void chmod_drops_setgid_of_foreign_group(void)
{
	mkfile("file", 0644);
	own("file", U1, G2);
	mkdirm("dir", 0755);
	own("dir", U1, G2);
	AS(U1, G1) {
		OK(chmod("file", 06755));
		OCT(mode_of("file"), 04755);
		OK(chmod("dir", 02755));
		OCT(mode_of("dir"), 0755);
	}
	AS_GROUPS(U1, G1, G3, G2) {
		OK(chmod("file", 06755));
		OCT(mode_of("file"), 06755);
		OK(chmod("dir", 02755));
		OCT(mode_of("dir"), 02755);
	}
	/* root may in any case, and anyone may set the sticky bit of his file */
	OK(chmod("file", 02711));
	OCT(mode_of("file"), 02711);
	AS(U1, G1) {
		OK(chmod("file", 01644));
		OCT(mode_of("file"), 01644);
	}
}

static void umask_and_given_modes(void)
{
	static const mode_t masks[] = {0, 022, 077, 0777, 0117};
	static const mode_t modes[] = {0777, 0666, 0640, 0, 04755, 02755, 01777, 07777};
	size_t i, j;

	for (i = 0; i < NS_LEN(masks); i++) {
		for (j = 0; j < NS_LEN(modes); j++) {
			mode_t want = modes[j] & ~masks[i];

			ns_context("umask 0%o mode 0%o", masks[i], modes[j]);
			umask(masks[i]);
			close((int)OK(open("f", O_CREAT | O_EXCL | O_RDWR, modes[j])));
			OCT(mode_of("f"), want);
			OK(mkdir("d", modes[j]));
			OCT(mode_of("d"), want & 01777);
			OK(mkfifo("p", modes[j]));
			OCT(mode_of("p"), want);
			OK(mknod("c", S_IFCHR | modes[j], makedev(1, 3)));
			OCT(mode_of("c"), want);
			OK(unlink("f") | rmdir("d") | unlink("p") | unlink("c"));
		}
	}
	umask(0);
}

/* Every mode bit by every class, for reading, writing and both. */
static void class_has(int class, unsigned int rwx)
{
	static const struct {
		uid_t uid;
		gid_t gid;
	} who[] = {{U1, G2}, {U2, G1}, {U3, G3}};
	/* the other classes get the opposite, so that a mixed-up class is seen */
	mode_t all = 0777 & ~(07u << (6 - 3 * class)), mode;

	mode = (all & (unsigned int)(~rwx & 7) * 0111) | rwx << (6 - 3 * class);
	OK(chmod("file", mode));
	ns_context("mode 0%o class %d", mode, class);
	AS(who[class].uid, who[class].gid) {
		static const int flags[] = {O_RDONLY, O_WRONLY, O_RDWR};
		static const unsigned int needs[] = {4, 2, 6};
		int i;

		for (i = 0; i < 3; i++) {
			if ((rwx & needs[i]) == needs[i])
				close((int)OK(open("file", flags[i])));
			else
				ERR(EACCES, open("file", flags[i]));
		}
		for (i = 0; i < 8; i++) {
			if ((rwx & (unsigned int)i) == (unsigned int)i)
				OK(access("file", i));
			else
				ERR(EACCES, access("file", i));
		}
	}
}

static void permission_matrix(void)
{
	unsigned int rwx;
	int class;

	mkfile("file", 0);
	own("file", U1, G1);
	for (class = 0; class < 3; class ++)
		for (rwx = 0; rwx < 8; rwx++)
			class_has(class, rwx);
	ns_context(NULL);
	OK(chmod("file", 0));
	close((int)OK(open("file", O_RDWR)));
	ERR(EACCES, access("file", X_OK));
}

static void supplementary_groups(void)
{
	mkfile("file", 0060);
	own("file", U1, G1);
	mkdirm("dir", 0070);
	own("dir", U1, G1);
	AS_GROUPS(U2, G2, G3, G1) {
		close((int)OK(open("file", O_RDWR)));
		close((int)OK(open("dir/x", O_RDWR | O_CREAT, 0600)));
		OK(unlink("dir/x"));
	}
	AS_GROUPS(U2, G2, G3)
		ERR(EACCES, open("file", O_RDONLY));
	/* the owner's class counts, not the best one */
	AS_GROUPS(U1, G2, G1)
		ERR(EACCES, open("file", O_RDONLY));
}

static void supplementary_groups_beyond_32(void)
{
	gid_t many[200];
	unsigned int i;
	pid_t pid;

	for (i = 0; i < NS_LEN(many); i++)
		many[i] = 50000 + i;
	mkfile("file", 0060);
	own("file", 0, many[NS_LEN(many) - 1]);
	pid = ns_fork();
	if (!pid) {
		ns_become(U1, G1, NS_LEN(many), many);
		close((int)OK(open("file", O_RDWR)));
		ns_exit();
	}
	ns_wait(pid);
}

static void directory_modes(void)
{
	mkdirm("dir", 0);
	mkfile("dir/file", 0666);
	own("dir", U1, G1);
	AS(U1, G1) {
		OK(chmod("dir", 0400));
		close((int)OK(open("dir", O_RDONLY | O_DIRECTORY)));
		ERR(EACCES, access("dir/file", F_OK));
		ERR(EACCES, open("dir/file", O_RDONLY));
		ERR(EACCES, chdir("dir"));
		OK(chmod("dir", 0100));
		ERR(EACCES, open("dir", O_RDONLY | O_DIRECTORY));
		close((int)OK(open("dir", O_PATH)));
		close((int)OK(open("dir/file", O_RDWR)));
		ERR(EACCES, unlink("dir/file"));
		OK(chmod("dir", 0200));
		ERR(EACCES, unlink("dir/file"));
		ERR(EACCES, mkdir("dir/sub", 0755));
		OK(chmod("dir", 0300));
		OK(mkdir("dir/sub", 0755));
		OK(rmdir("dir/sub"));
		/* another's file goes when the directory may be written */
		OK(unlink("dir/file"));
	}
}

static void mode_change_and_open_descriptors(void)
{
	struct ns_gate ready, changed;
	pid_t pid;

	ns_gate_init(&ready);
	ns_gate_init(&changed);
	mkdata("file", 0666, "data");
	pid = ns_fork();
	if (!pid) {
		char c;
		int fd;

		ns_become(U2, G2, 0, NULL);
		fd = (int)OK(open("file", O_RDWR));
		ns_gate_open(&ready);
		ns_gate_pass(&changed);
		/* what is open stays open, a new open asks again */
		EQ(pread(fd, &c, 1, 0), 1);
		EQ(pwrite(fd, "D", 1, 0), 1);
		ERR(EACCES, open("file", O_RDONLY));
		ERR(EACCES, open("file", O_WRONLY));
		ns_exit();
	}
	ns_gate_pass(&ready);
	OK(chmod("file", 0600));
	ns_gate_open(&changed);
	ns_wait(pid);
	HAS("file", "Data");
}

static void sticky_refusals(const char *dir)
{
	char a[64], b[64];

	snprintf(a, sizeof(a), "%s/a", dir);
	snprintf(b, sizeof(b), "%s/b", dir);
	ERR(EPERM, unlink(a));
	ERR(EPERM, rename(a, "../gone"));
	ERR(EPERM, rename(a, b));
	OK(mkdir(b, 0777));
	ERR(EPERM, syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */));
	OK(rmdir(b));
	close((int)OK(open(b, O_CREAT | O_WRONLY, 0666)));
	ERR(EPERM, rename(b, a));
	OK(unlink(b));
}

static void sticky_directories(void)
{
	mkdirm("tmp", 01777);
	mkdirm("tmp/sub", 0777);
	mkfile("tmp/a", 0666);
	own("tmp", U3, G3);
	own("tmp/a", U1, G1);
	own("tmp/sub", U1, G1);
	AS(U2, G2) {
		sticky_refusals("tmp");
		ERR(EPERM, rmdir("tmp/sub"));
		ERR(EPERM, rename("tmp/sub", "tmp/sub2"));
	}
	AS(U1, G2) {
		OK(rename("tmp/a", "tmp/mine"));
		OK(unlink("tmp/mine"));
		OK(rmdir("tmp/sub"));
	}
	mkfile("tmp/a", 0666);
	own("tmp/a", U1, G1);
	/* the owner of the directory may as well */
	AS(U3, G2)
		OK(unlink("tmp/a"));
	mkfile("tmp/a", 0666);
	own("tmp/a", U1, G1);
	OK(chmod("tmp", 0777));
	AS(U2, G2)
		OK(unlink("tmp/a"));
}

static void setgid_directories(void)
{
	mkdirm("sg", 02777);
	own("sg", U3, G3);
	OK(chmod("sg", 02777));
	AS(U1, G1) {
		close((int)OK(open("sg/f", O_CREAT | O_RDWR, 0644)));
		OK(mkdir("sg/d", 0755));
		OK(mkfifo("sg/p", 0644));
		OK(symlink("x", "sg/l"));
		OK(mknod("sg/r", S_IFREG | 0644, 0));
		EQ(st_of("sg/f").st_gid, G3);
		EQ(st_of("sg/d").st_gid, G3);
		EQ(st_of("sg/p").st_gid, G3);
		EQ(st_of("sg/l").st_gid, G3);
		EQ(st_of("sg/r").st_gid, G3);
		EQ(st_of("sg/f").st_uid, U1);
		OCT(mode_of("sg/f"), 0644);
		OCT(mode_of("sg/d"), 02755);
		OCT(mode_of("sg/p"), 0644);
		OK(mkdir("sg/d/e", 0700));
		EQ(st_of("sg/d/e").st_gid, G3);
		OCT(mode_of("sg/d/e"), 02700);
		close((int)OK(open("sg/t", O_CREAT | O_RDWR, 02755)));
		OCT(mode_of("sg/t"), 0755);
		OK(mknod("sg/u", S_IFREG | 02755, 0));
		OCT(mode_of("sg/u"), 0755);
	}
	AS_GROUPS(U1, G1, G3) {
		close((int)OK(open("sg/v", O_CREAT | O_RDWR, 02755)));
		OCT(mode_of("sg/v"), 02755);
	}
	OK(mkdir("sg/byroot", 0755));
	EQ(st_of("sg/byroot").st_gid, G3);
	EQ(st_of("sg/byroot").st_uid, 0);
}

static void creator_owns(void)
{
	mkdirm("pub", 0777);
	AS_GROUPS(U1, G1, G2) {
		const char *k;

		for (k = "fdpsl"; *k; k++) {
			char name[] = {'p', 'u', 'b', '/', *k, '\0'};

			mkkind(*k, name, 0700);
			EQ(st_of(name).st_uid, U1);
			EQ(st_of(name).st_gid, G1);
		}
	}
}

const struct ns_check checks_mode[] = {
	CHECK(chmod_every_kind),
	CHECK(chmod_through_symlink),
	CHECK(fchmod_kinds_of_descriptors),
	CHECK(chmod_needs_the_owner),
	CHECK(chmod_drops_setgid_of_foreign_group),
	CHECK(umask_and_given_modes),
	CHECK(permission_matrix),
	CHECK(supplementary_groups),
	CHECK(supplementary_groups_beyond_32),
	CHECK(directory_modes),
	CHECK(mode_change_and_open_descriptors),
	CHECK(sticky_directories),
	CHECK(setgid_directories),
	CHECK(creator_owns),
	CHECKS_END,
};
