/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owners and groups, and what their change does to suid, sgid and file capabilities. */
#include "tests/namespace/ns.h"
#include "tests/namespace/caps.h"

static void chown_every_kind(void)
{
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		ns_context("kind %c", *k);
		mkkind(*k, "x", 0644);
		STAMPS("x", NS_C, OK(lchown("x", U1, G1)));
		EQ(st_of("x").st_uid, U1);
		EQ(st_of("x").st_gid, G1);
		OK(lchown("x", U2, -1));
		EQ(st_of("x").st_uid, U2);
		EQ(st_of("x").st_gid, G1);
		OK(lchown("x", -1, G2));
		EQ(st_of("x").st_uid, U2);
		EQ(st_of("x").st_gid, G2);
		STAMPS("x", NS_C, OK(lchown("x", -1, -1)));
		EQ(st_of("x").st_uid, U2);
		EQ(st_of("x").st_gid, G2);
		OK(lchown("x", 0xfffffffe, 0xfffffffe));
		EQ(st_of("x").st_uid, 0xfffffffe);
		OK(rmkind(*k, "x"));
	}
}

static void chown_and_symlinks(void)
{
	int p;

	mkfile("file", 0644);
	OK(symlink("file", "link"));
	OK(chown("link", U1, G1));
	EQ(st_of("file").st_uid, U1);
	EQ(st_of("link").st_uid, 0);
	OK(lchown("link", U2, G2));
	EQ(st_of("file").st_uid, U1);
	EQ(st_of("link").st_uid, U2);
	p = (int)OK(open("link", O_PATH | O_NOFOLLOW | O_CLOEXEC));
	OK(fchownat(p, "", U3, G3, AT_EMPTY_PATH));
	EQ(st_of("link").st_uid, U3);
	ERR(EBADF, fchown(p, 0, 0));
	ERR(EINVAL, fchownat(AT_FDCWD, "link", 0, 0, 0x4000));
	close(p);
}

static void chown_by_owner(void)
{
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		ns_context("kind %c", *k);
		mkkind(*k, "x", 0644);
		own("x", U1, G1);
		AS_GROUPS(U1, G1, G2) {
			OK(lchown("x", U1, G2));
			OK(lchown("x", -1, G1));
			OK(lchown("x", U1, G1));
			OK(lchown("x", -1, G1));
			STAMPS("x", 0, ERR(EPERM, lchown("x", U2, G1)));
			ERR(EPERM, lchown("x", U2, -1));
			STAMPS("x", 0, ERR(EPERM, lchown("x", -1, G3)));
			ERR(EPERM, lchown("x", U1, G3));
		}
		EQ(st_of("x").st_uid, U1);
		EQ(st_of("x").st_gid, G1);
		OK(rmkind(*k, "x"));
	}
}

static void chown_by_others(void)
{
	const char *k;

	for (k = NS_KINDS; *k; k++) {
		ns_context("kind %c", *k);
		mkkind(*k, "x", 0666);
		own("x", U1, G1);
		AS_GROUPS(U2, G1, G2) {
			ERR(EPERM, lchown("x", U2, G1));
			ERR(EPERM, lchown("x", -1, G2));
			ERR(EPERM, lchown("x", U1, G1));
			ERR(EPERM, lchown("x", U1, -1));
			ERR(EPERM, lchown("x", -1, G1));
			/* no change at all needs no right */
			OK(lchown("x", -1, -1));
		}
		OK(rmkind(*k, "x"));
	}
}

static void chown_changes_who_may(void)
{
	mkdata("file", 0600, "data");
	AS(U1, G1)
		ERR(EACCES, open("file", O_RDONLY));
	OK(chown("file", U1, G1));
	AS(U1, G1)
		HAS("file", "data");
	OK(chown("file", U2, G1));
	AS(U1, G1)
		ERR(EACCES, open("file", O_RDONLY));
	OK(chmod("file", 0040));
	AS(U1, G1)
		HAS("file", "data");
	OK(chown("file", -1, G2));
	AS(U1, G1)
		ERR(EACCES, open("file", O_RDONLY));
}

/* chown by root: mode before, mode after, for a file and for a directory. */
static void chown_clears_suid_and_sgid(void)
{
	static const mode_t modes[][2] = {
		{06755, 0755},	{04755, 0755},	{02755, 0755},	{04644, 0644},	{02710, 0710},
		{02744, 02744}, {01755, 01755}, {06666, 02666}, {07777, 01777},
	};
	size_t i;

	mkfile("file", 0);
	mkdirm("dir", 0);
	for (i = 0; i < NS_LEN(modes); i++) {
		ns_context("mode 0%o", modes[i][0]);
		OK(chmod("file", modes[i][0]));
		OK(chown("file", U1, G1));
		OCT(mode_of("file"), modes[i][1]);
		OK(chmod("file", modes[i][0]));
		OK(chown("file", U1, G1));
		OCT(mode_of("file"), modes[i][1]);
		OK(chmod("file", modes[i][0]));
		OK(chown("file", -1, -1));
		OCT(mode_of("file"), modes[i][1]);
		OK(chmod("dir", modes[i][0]));
		OK(chown("dir", U1, G1));
		OCT(mode_of("dir"), modes[i][0]);
	}
}

static void chown_by_owner_clears_suid(void)
{
	mkfile("file", 0);
	own("file", U1, G1);
	AS_GROUPS(U1, G1, G2) {
		OK(chmod("file", 06755));
		OK(chown("file", -1, G2));
		OCT(mode_of("file"), 0755);
		OK(chmod("file", 06755));
		OK(chown("file", U1, -1));
		OCT(mode_of("file"), 0755);
		OK(chmod("file", 02745));
		OCT(mode_of("file"), 02745);
		OK(chown("file", -1, G1));
		OCT(mode_of("file"), 02745);
	}
}

/* A change of nothing that would take the sgid bit away needs the owner's rights. */
static void no_change_by_others_of_a_setgid_file(void)
{
	mkfile("file", 02745);
	own("file", U1, G1);
	OK(chmod("file", 02745));
	AS(U2, G2) {
		ERR(EPERM, chown("file", -1, -1));
		OCT(mode_of("file"), 02745);
	}
}

static void chown_clears_capabilities(void)
{
	mkfile("file", 0755);
	cap_set("file");
	TRUE(cap_there("file"));
	OK(chmod("file", 0711));
	TRUE(cap_there("file"));
	OK(chown("file", U1, G1));
	TRUE(!cap_there("file"));
	cap_set("file");
	OK(chown("file", -1, -1));
	TRUE(!cap_there("file"));
}

static void fchown_of_open_file(void)
{
	int fd;

	mkfile("file", 06777);
	fd = (int)OK(open("file", O_RDONLY | O_CLOEXEC));
	OK(fchown(fd, U1, G2));
	EQ(st_fd(fd).st_uid, U1);
	EQ(st_of("file").st_gid, G2);
	OCT(st_fd(fd).st_mode & 07777, 0777);
	close(fd);
}

const struct ns_check checks_owner[] = {
	CHECK(chown_every_kind),
	CHECK(chown_and_symlinks),
	CHECK(chown_by_owner),
	CHECK(chown_by_others),
	CHECK(chown_changes_who_may),
	CHECK(chown_clears_suid_and_sgid),
	CHECK(chown_by_owner_clears_suid),
	CHECK(no_change_by_others_of_a_setgid_file),
	CHECK(chown_clears_capabilities),
	CHECK(fchown_of_open_file),
	CHECKS_END,
};
