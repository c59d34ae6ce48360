/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Actor commands on mappings. M is a name that the test gives to a mapping; an access that ends in SIGSEGV
 * answers "err EFAULT", one that ends in SIGBUS "err EIO".
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/progs/spmt.h"

#define MAX_MAPS 64

static struct spmt_map maps[MAX_MAPS];
static sigjmp_buf fault_return;

struct spmt_map *spmt_map_get(const char *name)
{
	for (int i = 0; i < MAX_MAPS; i++)
		if (maps[i].p && !strcmp(maps[i].name, name))
			return &maps[i];
	return NULL;
}

static void on_fault(int sig)
{
	siglongjmp(fault_return, sig);
}

/* Set around every access, and not longer: a fault elsewhere is a bug of this program. */
static void catch_faults(bool on)
{
	struct sigaction sa = { .sa_handler = on ? on_fault : SIG_DFL };

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
}

enum access { PUT, GET, FILL, VERIFY, TOUCH, LOOK };

struct access_args {
	enum access what;
	char *p;
	size_t len;
	uint64_t off, seed;
	const char *text;
};

static int do_access(const struct access_args *a)
{
	ssize_t bad = -1;

	switch (a->what) {
	case PUT:
		memcpy(a->p, a->text, a->len);
		break;
	case GET:
		spmt_say("%.*s", (int)strnlen(a->p, a->len), a->p);
		break;
	case FILL:
		spmt_pattern(a->p, a->off, a->len, a->seed);
		break;
	case VERIFY:
		bad = spmt_pattern_check(a->p, a->off, a->len, a->seed);
		if (bad >= 0)
			spmt_say("wrong byte at %llu", (unsigned long long)a->off + (unsigned long long)bad);
		break;
	case TOUCH:
		for (size_t i = 0; i < a->len; i += 4096)
			((volatile char *)a->p)[i] += 1;
		break;
	case LOOK:
		for (size_t i = 0; i < a->len; i += 4096)
			(void)((volatile char *)a->p)[i];
		break;
	}
	return bad < 0 ? 0 : -EBADMSG;
}

static int guarded(const struct access_args *a)
{
	volatile int rc = 0;
	int sig = sigsetjmp(fault_return, 1);

	if (!sig) {
		catch_faults(true);
		rc = do_access(a);
	}
	catch_faults(false);
	return sig == SIGBUS ? -EIO : sig ? -EFAULT : rc;
}

static int access_map(enum access what, char **argv, size_t len, uint64_t seed, const char *text)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	uint64_t off = spmt_num(argv[2]);
	struct access_args a = { what, m ? m->p + off : NULL, len, off, seed, text };

	return m ? guarded(&a) : -ENXIO;
}

static int cmd_put(int argc, char **argv)
{
	return access_map(PUT, argv, strlen(argv[3]), 0, argv[3]);
}

static int cmd_get(int argc, char **argv)
{
	return access_map(GET, argv, spmt_num(argv[3]), 0, NULL);
}

static int cmd_mfill(int argc, char **argv)
{
	return access_map(FILL, argv, spmt_num(argv[3]), spmt_num(argv[4]), NULL);
}

static int cmd_mverify(int argc, char **argv)
{
	return access_map(VERIFY, argv, spmt_num(argv[3]), spmt_num(argv[4]), NULL);
}

static int cmd_touch(int argc, char **argv)
{
	return access_map(TOUCH, argv, spmt_num(argv[3]), 0, NULL);
}

static int cmd_look(int argc, char **argv)
{
	return access_map(LOOK, argv, spmt_num(argv[3]), 0, NULL);
}

static int prot_of(const char *s)
{
	return (strchr(s, 'r') ? PROT_READ : 0) | (strchr(s, 'w') ? PROT_WRITE : 0) |
	       (strchr(s, 'x') ? PROT_EXEC : 0);
}

static int cmd_map(int argc, char **argv)
{
	int kind = !strcmp(argv[4], "private") ? MAP_PRIVATE : !strcmp(argv[4], "sync") ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
	size_t len = spmt_num(argv[6]);
	int i;
	void *p;

	for (i = 0; i < MAX_MAPS && maps[i].p; i++)
		;
	if (i == MAX_MAPS)
		return -EMFILE;
	p = mmap(NULL, len, prot_of(argv[3]), kind, spmt_fd(argv[2]), (off_t)spmt_num(argv[5]));
	if (p == MAP_FAILED)
		return -errno;
	snprintf(maps[i].name, sizeof(maps[i].name), "%s", argv[1]);
	maps[i].p = p;
	maps[i].len = len;
	return 0;
}

static int cmd_unmap(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	int rc;

	if (!m)
		return -ENXIO;
	rc = munmap(m->p, m->len) ? -errno : 0;
	m->p = NULL;
	return rc;
}

static int cmd_mremap(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	size_t len = spmt_num(argv[2]);
	void *p;

	if (!m)
		return -ENXIO;
	p = mremap(m->p, m->len, len, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return -errno;
	m->p = p;
	m->len = len;
	return 0;
}

static int cmd_mprotect(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);

	return !m ? -ENXIO : mprotect(m->p, m->len, prot_of(argv[2])) ? -errno : 0;
}

static int cmd_frame(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);
	int fd = m ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
	uint64_t entry = 0;
	ssize_t n;

	if (fd < 0)
		return m ? -errno : -ENXIO;
	n = pread(fd, &entry, sizeof(entry), (off_t)(((uintptr_t)m->p + spmt_num(argv[2])) / 4096 * sizeof(entry)));
	close(fd);
	if (n != sizeof(entry) || !(entry >> 63))
		return -ENODATA;
	spmt_say("%llu", (unsigned long long)(entry & ((UINT64_C(1) << 55) - 1)) * 4096);
	return 0;
}

static int cmd_mlock(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);

	/* the address sanitizer makes a mlock() that does nothing */
	return !m ? -ENXIO : syscall(SYS_mlock, m->p, m->len) ? -errno : 0;
}

static int cmd_msync(int argc, char **argv)
{
	struct spmt_map *m = spmt_map_get(argv[1]);

	return !m ? -ENXIO : msync(m->p, m->len, MS_SYNC) ? -errno : 0;
}

static int cmd_madvise(int argc, char **argv)
{
	const struct {
		const char *name;
		int advice;
	} names[] = { { "remove", MADV_REMOVE },   { "dontneed", MADV_DONTNEED },
		      { "pageout", MADV_PAGEOUT }, { "cold", MADV_COLD },
		      { "collapse", 25 },	   { "huge", MADV_HUGEPAGE },
		      { "populate", 23 },
		      { "populate-read", 22 } };
	struct spmt_map *m = spmt_map_get(argv[1]);

	for (size_t i = 0; m && i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(argv[4], names[i].name))
			return madvise(m->p + spmt_num(argv[2]), spmt_num(argv[3]), names[i].advice) ? -errno
												     : 0;
	return -ENXIO;
}

const struct spmt_cmd spmt_map_cmds[] = {
	{ "map", 6, cmd_map }, /* M H PROT shared|private|sync OFF LEN */
	{ "frame", 2, cmd_frame }, /* M OFF: physical address of a page that was touched; root only */
	{ "unmap", 1, cmd_unmap },
	{ "put", 3, cmd_put },	       /* M OFF TEXT */
	{ "get", 3, cmd_get },	       /* M OFF LEN */
	{ "mfill", 4, cmd_mfill },     /* M OFF LEN SEED, as fill */
	{ "mverify", 4, cmd_mverify }, /* M OFF LEN SEED */
	{ "touch", 3, cmd_touch },     /* M OFF LEN: writes a byte in each page */
	{ "look", 3, cmd_look },       /* M OFF LEN: reads one */
	{ "mremap", 2, cmd_mremap },   /* M LEN */
	{ "mprotect", 2, cmd_mprotect },
	{ "mlock", 1, cmd_mlock },
	{ "msync", 1, cmd_msync },
	{ "madvise", 4, cmd_madvise }, /* M OFF LEN remove|dontneed|pageout|cold|collapse|huge|populate|populate-read */
	{ NULL },
};
