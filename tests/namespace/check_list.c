/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listing directories, also large ones that others change meanwhile. */
#include "tests/namespace/ns.h"

#include <dirent.h>
#include <signal.h>

struct dirent64_raw {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

static void make_entries(const char *dir, unsigned int n)
{
	int d = (int)OK(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	char name[32];
	unsigned int i;

	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "s%06u", i);
		if (mknodat(d, name, S_IFREG | 0644, 0)) {
			FAIL("%s: %s", name, strerror(errno));
			break;
		}
	}
	close(d);
}

/* seen[i] counts entry s<i>; other names are given to other() if there is one. Returns the number of entries.
 */
static unsigned int list_raw(int d, size_t bufsize, uint8_t *seen, unsigned int n,
			     void (*other)(const char *))
{
	char *buf = malloc(bufsize);
	unsigned int count = 0;
	long len, pos;

	while ((len = syscall(SYS_getdents64, d, buf, bufsize)) > 0) {
		for (pos = 0; pos < len;) {
			struct dirent64_raw *e = (struct dirent64_raw *)(buf + pos);
			unsigned long i = e->name[0] == 's' ? strtoul(e->name + 1, NULL, 10) : n;

			if (i < n)
				seen[i]++;
			else if (other)
				other(e->name);
			count++;
			pos += e->reclen;
		}
	}
	OK(len);
	free(buf);
	return count;
}

static void expect_all_once(const uint8_t *seen, unsigned int n)
{
	unsigned int i, lost = 0, twice = 0;

	for (i = 0; i < n; i++) {
		lost += !seen[i];
		twice += seen[i] > 1;
	}
	EQ(lost, 0);
	EQ(twice, 0);
}

static void large_directory(void)
{
	static const size_t bufs[] = {280, 4096, 32768, 1 << 20};
	uint8_t *seen = malloc(ns_entries);
	size_t i;
	int d;

	OK(mkdir("d", 0755));
	make_entries("d", ns_entries);
	d = (int)OK(open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	for (i = 0; i < NS_LEN(bufs); i++) {
		ns_context("buffer of %zu", bufs[i]);
		memset(seen, 0, ns_entries);
		OK(lseek(d, 0, SEEK_SET));
		EQ(list_raw(d, bufs[i], seen, ns_entries, NULL), ns_entries + 2);
		expect_all_once(seen, ns_entries);
	}
	close(d);
	free(seen);
}

/* Names that come and go are all different, so none of them may be seen twice either. */
static uint8_t *churn_seen;
static unsigned int churn_max, churn_twice, churn_odd;

static void churn_name(const char *name)
{
	unsigned long i = strtoul(name + 1, NULL, 10);

	if (name[0] == '.')
		return;
	if (name[0] != 'c' || i >= churn_max)
		churn_odd++;
	else if (churn_seen[i]++)
		churn_twice++;
}

static void churn(struct ns_gate *stop)
{
	enum { WINDOW = 50 };
	char name[32];
	unsigned int i;
	int d = (int)OK(open("d", O_RDONLY | O_DIRECTORY));

	for (i = 0; i < churn_max && !ns_gate_try(stop, 0); i++) {
		snprintf(name, sizeof(name), "c%u", i);
		OK(mknodat(d, name, S_IFREG | 0644, 0));
		if (i >= WINDOW) {
			snprintf(name, sizeof(name), "c%u", i - WINDOW);
			OK(unlinkat(d, name, 0));
		}
	}
	for (i -= i < WINDOW ? i : WINDOW; i < churn_max; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		if (unlinkat(d, name, 0))
			break;
	}
}

static void list_while_others_create_and_delete(void)
{
	struct ns_gate stop;
	uint8_t *seen = malloc(ns_entries);
	int d, round;
	pid_t pid;

	churn_max = 2000000;
	churn_seen = malloc(churn_max);
	OK(mkdir("d", 0755));
	make_entries("d", ns_entries);
	ns_gate_init(&stop);
	pid = ns_fork();
	if (!pid) {
		churn(&stop);
		ns_exit();
	}
	for (round = 0; round < 6; round++) {
		ns_context("round %d", round);
		memset(seen, 0, ns_entries);
		memset(churn_seen, 0, churn_max);
		churn_twice = churn_odd = 0;
		d = (int)OK(open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		list_raw(d, round % 2 ? 1024 : 32768, seen, ns_entries, churn_name);
		close(d);
		expect_all_once(seen, ns_entries);
		EQ(churn_twice, 0);
		EQ(churn_odd, 0);
	}
	ns_gate_open(&stop);
	ns_wait(pid);
	free(seen);
	free(churn_seen);
}

static void list_while_others_rename(void)
{
	struct ns_gate stop;
	uint8_t seen[1000];
	int d, round;
	pid_t pid;

	OK(mkdir("d", 0755));
	make_entries("d", 1000);
	ns_gate_init(&stop);
	pid = ns_fork();
	if (!pid) {
		char a[32] = "d/x0", b[32];
		unsigned int i;

		mkfile(a, 0644);
		for (i = 1; !ns_gate_try(&stop, 0); i++) {
			snprintf(b, sizeof(b), "d/x%u", i);
			OK(rename(a, b));
			memcpy(a, b, sizeof(a));
		}
		ns_exit();
	}
	for (round = 0; round < 30; round++) {
		memset(seen, 0, sizeof(seen));
		d = (int)OK(open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		list_raw(d, 2048, seen, 1000, NULL);
		close(d);
		expect_all_once(seen, 1000);
	}
	ns_gate_open(&stop);
	ns_wait(pid);
}

/* As rm -r does it: read a few, delete them, read on. */
static void delete_while_listing(void)
{
	unsigned int n = 2000, deleted = 0;
	struct dirent *e;
	DIR *d;

	OK(mkdir("d", 0755));
	make_entries("d", n);
	d = opendir("d");
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		OK(unlinkat(dirfd(d), e->d_name, 0));
		deleted++;
	}
	EQ(deleted, n);
	if (d)
		closedir(d);
	OK(rmdir("d"));
}

static void positions(void)
{
	enum { N = 500 };
	long pos[N + 2];
	char names[N + 2][32];
	struct dirent *e;
	DIR *d, *other;
	int n = 0, i;

	OK(mkdir("d", 0755));
	make_entries("d", N);
	d = opendir("d");
	other = opendir("d");
	for (;;) {
		long here = telldir(d);

		e = readdir(d);
		if (!e)
			break;
		pos[n] = here;
		snprintf(names[n++], 32, "%.31s", e->d_name);
	}
	EQ(n, N + 2);
	for (i = n - 1; i >= 0; i -= 7) {
		seekdir(d, pos[i]);
		e = readdir(d);
		STR(e ? e->d_name : "(end)", names[i]);
		/* positions are the directory's, not the descriptor's */
		seekdir(other, pos[i]);
		e = readdir(other);
		STR(e ? e->d_name : "(end)", names[i]);
	}
	/* the entry at the position is gone: its successor comes */
	seekdir(d, pos[100]);
	OK(unlinkat(dirfd(d), names[100], 0));
	e = readdir(d);
	STR(e ? e->d_name : "(end)", names[101]);
	close((int)OK(openat(dirfd(d), "fresh", O_CREAT | O_RDWR, 0644)));
	rewinddir(d);
	for (n = 0, i = 0; (e = readdir(d)); n++)
		i += !strcmp(e->d_name, "fresh");
	EQ(n, N + 2);
	EQ(i, 1);
	closedir(d);
	closedir(other);
}

static void types_and_numbers(void)
{
	struct dirent *e;
	const char *k;
	int found = 0;
	DIR *d;

	OK(mkdir("p", 0755));
	for (k = NS_KINDS; *k; k++) {
		char name[] = {'p', '/', *k, '\0'};

		mkkind(*k, name, 0644);
	}
	OK(link("p/f", "p/hard"));
	d = opendir("p");
	while (d && (e = readdir(d))) {
		struct stat st;

		ns_context("%s", e->d_name);
		OK(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
		EQ(e->d_ino, st.st_ino);
		EQ(DTTOIF(e->d_type), st.st_mode & S_IFMT);
		found++;
	}
	EQ(found, 10);
	if (d)
		closedir(d);
}

/* Every byte that a name may have, alone and in company. */
static void names_of_all_bytes(void)
{
	char name[8];
	uint8_t seen[3][256] = {{0}};
	struct dirent *e;
	struct stat st;
	int c, i;
	DIR *d;

	for (c = 1; c < 256; c++) {
		if (c == '/')
			continue;
		for (i = 0; i < 3; i++) {
			snprintf(name, sizeof(name), i == 0 ? "%c" : i == 1 ? "a%c" : "%cz.", c);
			if (!strcmp(name, "."))
				continue;
			ns_context("byte 0x%02x form %d", (unsigned int)c, i);
			close((int)OK(open(name, O_CREAT | O_EXCL | O_RDWR, 0644)));
			OK(lstat(name, &st));
		}
	}
	ns_context(NULL);
	d = opendir(".");
	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len == 1 && e->d_name[0] != '.')
			seen[0][(uint8_t)e->d_name[0]]++;
		else if (len == 2 && e->d_name[0] == 'a')
			seen[1][(uint8_t)e->d_name[1]]++;
		else if (len == 3)
			seen[2][(uint8_t)e->d_name[0]]++;
	}
	for (c = 1; c < 256; c++)
		for (i = 0; i < 3; i++)
			if (c != '/' && !(c == '.' && i == 0) && seen[i][c] != 1)
				FAIL("byte 0x%02x form %d was listed %d times", (unsigned int)c, i,
				     seen[i][c]);
	if (d)
		closedir(d);
}

static void case_and_normal_forms_differ(void)
{
	mkdata("Name", 0644, "1");
	mkdata("name", 0644, "2");
	mkdata("\xc3\xa9", 0644, "3");
	mkdata("e\xcc\x81", 0644, "4");
	mkdata("name ", 0644, "5");
	mkdata(" name", 0644, "6");
	mkdata("...", 0644, "7");
	HAS("Name", "1");
	HAS("name", "2");
	HAS("\xc3\xa9", "3");
	HAS("e\xcc\x81", "4");
	HAS("name ", "5");
	HAS("...", "7");
}

static void empty_directory(void)
{
	struct dirent *e;
	int n = 0;
	DIR *d;

	OK(mkdir("d", 0755));
	d = opendir("d");
	while (d && (e = readdir(d))) {
		TRUE(e->d_name[0] == '.');
		n++;
	}
	EQ(n, 2);
	if (d)
		closedir(d);
	ERR(EINVAL, syscall(SYS_getdents64, OK(open("d", O_RDONLY | O_DIRECTORY)), (char[8]){0}, 8));
	mkfile("f", 0644);
	ERR(ENOTDIR, syscall(SYS_getdents64, OK(open("f", O_RDONLY)), (char[1024]){0}, 1024));
}

/* A name that was just made or removed is, or is not, in the next listing, whatever was cached. */
static void listings_are_fresh(void)
{
	uint8_t seen[3];
	char name[32];
	int i, d;

	OK(mkdir("d", 0755));
	mkfile("d/s1", 0644);
	for (i = 0; i < 100; i++) {
		memset(seen, 0, sizeof(seen));
		mkfile("d/s2", 0644);
		d = (int)OK(open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		EQ(list_raw(d, 1024, seen, 3, NULL), 4);
		EQ(seen[2], 1);
		snprintf(name, sizeof(name), "d/%s", i % 2 ? "s2" : "s1");
		OK(unlink(name));
		OK(lseek(d, 0, SEEK_SET));
		EQ(list_raw(d, 1024, seen, 3, NULL), 3);
		close(d);
		OK(i % 2 ? 0 : rename("d/s2", "d/s1"));
	}
}

enum { WATCHED = 24 };

/* Until told to stop: what ls -l does with d, or asks for the attributes of one entry, past every cache. */
static void look_at(struct ns_gate *stop, bool listing)
{
	while (!ns_gate_try(stop, 0)) {
		DIR *d = listing ? opendir("d") : NULL;
		struct dirent *e;
		struct statx sx;
		struct stat st;

		while (d && (e = readdir(d)))
			fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW);
		if (d)
			closedir(d);
		else
			statx(AT_FDCWD, "d/s0", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &sx);
	}
}

/*
 * Attributes change while others look at them: who has made a change sees it from then on. (A server's answer
 * to the other one's question may be under way meanwhile, with the old attributes in it.)
 */
static void attributes_stay_fresh(bool listing)
{
	struct ns_gate stop;
	int i, s;
	pid_t pid;

	OK(mkdir("d", 0755));
	for (i = 0; i < WATCHED; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d/s%d", i);
		OK(mkdir(name, 0755));
	}
	ns_gate_init(&stop);
	pid = ns_fork();
	if (!pid) {
		look_at(&stop, listing);
		ns_exit();
	}
	for (i = 0; i < 1500; i++) {
		char dir[16], sub[24];

		s = listing ? i % WATCHED : 0;
		snprintf(dir, sizeof(dir), "d/s%d", s);
		snprintf(sub, sizeof(sub), "%s/x", dir);
		OK(mkdir(sub, 0755));
		EQ(nlink_of(dir), 3);
		OK(rmdir(sub));
		EQ(nlink_of(dir), 2);
		EQ(size_of(dir), 40);
		OK(chmod(dir, 0700 + i % 8));
		OCT(mode_of(dir), 0700 + i % 8);
	}
	ns_gate_open(&stop);
	ns_wait(pid);
}

static void attributes_stay_fresh_beside_listings(void)
{
	attributes_stay_fresh(true);
}

static void attributes_stay_fresh_beside_stat(void)
{
	attributes_stay_fresh(false);
}

const struct ns_check checks_list[] = {
	CHECK(large_directory),
	CHECK(list_while_others_create_and_delete),
	CHECK(list_while_others_rename),
	CHECK(delete_while_listing),
	CHECK(positions),
	CHECK(types_and_numbers),
	CHECK(names_of_all_bytes),
	CHECK(case_and_normal_forms_differ),
	CHECK(empty_directory),
	CHECK(listings_are_fresh),
	CHECK(attributes_stay_fresh_beside_listings),
	CHECK(attributes_stay_fresh_beside_stat),
	CHECKS_END,
};
