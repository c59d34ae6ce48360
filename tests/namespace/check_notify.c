/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inotify: the events that tmpfs gives, in order. */
#include "tests/namespace/ns.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/xattr.h>

static const struct {
	uint32_t bit;
	const char *name;
} bits[] = {
	{IN_ACCESS, "access"},		{IN_MODIFY, "modify"},
	{IN_ATTRIB, "attrib"},		{IN_CLOSE_WRITE, "closew"},
	{IN_CLOSE_NOWRITE, "closer"},	{IN_OPEN, "open"},
	{IN_MOVED_FROM, "from"},	{IN_MOVED_TO, "to"},
	{IN_CREATE, "create"},		{IN_DELETE, "delete"},
	{IN_DELETE_SELF, "deleteself"}, {IN_MOVE_SELF, "moveself"},
	{IN_IGNORED, "ignored"},
};

/* All events there are now (the kernel merges equal ones in a row), as "create:name delete:name/" (a slash
 * behind directories). */
static const char *events(int in)
{
	static char text[2000];
	char buf[8192] __attribute__((aligned(8)));
	struct pollfd p = {.fd = in, .events = POLLIN};
	size_t used = 0, i;

	text[0] = '\0';
	while (poll(&p, 1, 20) == 1) {
		ssize_t len = read(in, buf, sizeof(buf)), pos;

		for (pos = 0; pos < len;) {
			struct inotify_event *e = (struct inotify_event *)(buf + pos);

			for (i = 0; i < NS_LEN(bits); i++)
				if (e->mask & bits[i].bit)
					used += (size_t)snprintf(text + used, sizeof(text) - used,
								 "%s%s%s%s%s", used ? " " : "", bits[i].name,
								 e->len ? ":" : "", e->len ? e->name : "",
								 e->mask & IN_ISDIR ? "/" : "");
			pos += (ssize_t)sizeof(*e) + e->len;
		}
	}
	return text;
}

static void names(void)
{
	int in = (int)OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));

	OK(mkdir("d", 0755));
	OK(mkdir("e", 0755));
	OK(inotify_add_watch(in, "d", IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF | IN_MOVE_SELF));
	mkfile("d/f", 0644);
	OK(mkdir("d/s", 0755));
	OK(symlink("x", "d/l"));
	OK(mkfifo("d/p", 0644));
	OK(link("d/f", "d/h"));
	STR(events(in), "create:f create:s/ create:l create:p create:h");
	OK(rename("d/f", "d/g"));
	OK(rename("d/g", "e/g"));
	OK(rename("e/g", "d/i"));
	STR(events(in), "from:f to:g from:g to:i");
	OK(rename("d/i", "d/l"));
	OK(syscall(SYS_renameat2, AT_FDCWD, "d/l", AT_FDCWD, "d/p", 2 /* RENAME_EXCHANGE */));
	STR(events(in), "from:i to:l from:l to:p from:p to:l");
	OK(unlink("d/l"));
	OK(rmdir("d/s"));
	OK(unlink("d/h"));
	OK(unlink("d/p"));
	STR(events(in), "delete:l delete:s/ delete:h delete:p");
	OK(rename("d", "dd"));
	OK(rmdir("dd"));
	STR(events(in), "moveself deleteself ignored");
	close(in);
}

static void contents(void)
{
	int in = (int)OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)), fd;
	char c;

	mkdata("f", 0644, "data");
	OK(inotify_add_watch(in, "f", IN_ALL_EVENTS));
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	EQ(read(fd, &c, 1), 1);
	EQ(write(fd, "x", 1), 1);
	OK(fchmod(fd, 0600));
	OK(ftruncate(fd, 1));
	OK(fsetxattr(fd, "user.k", "v", 1, 0));
	close(fd);
	STR(events(in), "open access modify attrib modify attrib closew");
	close((int)OK(open("f", O_RDONLY)));
	close((int)OK(open("f", O_WRONLY | O_TRUNC)));
	STR(events(in), "open closer open modify closew");
	OK(link("f", "g"));
	STR(events(in), "attrib");
	OK(unlink("g"));
	STR(events(in), "attrib");
	OK(utimensat(AT_FDCWD, "f", NULL, 0));
	OK(rename("f", "h"));
	STR(events(in), "attrib moveself");
	OK(unlink("h"));
	STR(events(in), "attrib deleteself ignored");
	close(in);
}

static void unlinked_file_ends_with_its_last_use(void)
{
	int in = (int)OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)), fd;

	mkfile("f", 0644);
	fd = (int)OK(open("f", O_RDWR | O_CLOEXEC));
	OK(inotify_add_watch(in, "f", IN_DELETE_SELF | IN_ATTRIB | IN_CLOSE));
	OK(unlink("f"));
	STR(events(in), "attrib");
	close(fd);
	STR(events(in), "closew deleteself ignored");
	close(in);
}

static void replaced_file(void)
{
	int in = (int)OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));

	mkfile("a", 0644);
	mkfile("b", 0644);
	OK(inotify_add_watch(in, "b", IN_DELETE_SELF | IN_ATTRIB));
	OK(rename("a", "b"));
	STR(events(in), "attrib deleteself ignored");
	close(in);
}

const struct ns_check checks_notify[] = {
	CHECK(names),	      CHECK(contents), CHECK(unlinked_file_ends_with_its_last_use),
	CHECK(replaced_file), CHECKS_END,
};
