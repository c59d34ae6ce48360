/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target for everything that is parsed from the command line: SOURCE, -o lists, sizes, node lists.
 * With --enable-fuzzers and CC=clang it is a libFuzzer program; without, it replays files or, with no
 * arguments, a fixed number of seeded mutations of real inputs, which is what `make check` runs.
 */
#include "core/size.h"
#include "fs/options.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what, const char *text)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s, on input: %s\n", what, text);
	abort();
}

static void try_source(const char *text)
{
	struct spm_error e = { "" };
	struct spm_source s;
	int rc = spm_source_parse(text, &s, &e);

	require(!rc == !e.text[0], "a reason comes with a failure, and only then", text);
	require(rc || s.kind != SPM_SOURCE_MEM || s.bytes >= 65536, "no source without room", text);
}

static void try_together(struct spm_options *o, const char *text)
{
	struct spm_error e = { "" };
	struct spm_options again;
	int rc;

	o->mountpoint = strdup("/spm");
	o->source_text = strdup("mem:1G");
	rc = spm_options_finish(o, &e);
	require(!rc == !e.text[0], "a reason comes with a failure, and only then", text);
	require(rc || o->low_pct <= o->high_pct, "low is not above high", text);
	if (rc || !o->swap || spm_options_resolve(o, "/a,\\b", &e))
		return;
	/* what a later standby reads */
	spm_options_init(&again);
	require(!spm_options_parse(&again, o->list, &e) && again.swap && !strcmp(again.swap, o->swap),
		"resolved paths survive the list", text);
	for (const char *p = o->swap; p; p = strchr(p, ':')) {
		p += *p == ':';
		require(*p == '/', "all paths are absolute", text);
	}
	spm_options_free(&again);
}

static void try_options(const char *text)
{
	struct spm_error e = { "" };
	struct spm_options o;
	int rc;

	spm_options_init(&o);
	rc = spm_options_parse(&o, text, &e);
	require(!rc == !e.text[0], "a reason comes with a failure, and only then", text);
	require(o.mode <= 07777 && o.size_pct <= 100, "values are in range", text);
	require(o.low_pct <= 99 && o.high_pct <= 99 && o.extent_bytes >= 65536 &&
		!(o.extent_bytes & (o.extent_bytes - 1)), "swap's values are in range", text);
	if (!rc)
		try_together(&o, text);
	require(!o.name || (*o.name && !strchr(o.name, '/')), "a name is a file name", text);
	spm_options_free(&o);
}

static void try_numbers(const char *text)
{
	struct spm_nodes n, again;
	char list[8192];
	uint64_t bytes;

	if (!spm_size_parse(text, &bytes))
		require(bytes <= INT64_MAX, "sizes fit in off_t", text);
	if (!spm_nodes_parse(text, &n)) {
		spm_nodes_format(&n, list, sizeof(list));
		require(!spm_nodes_parse(list, &again) && !memcmp(&n, &again, sizeof(n)), "node lists survive printing", text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	try_source(text);
	try_options(text);
	try_numbers(text);
	free(text);
	return 0;
}

#ifndef SPM_LIBFUZZER
#define MUTATIONS 200000

static const char *const seeds[] = {
	"mem:1G", "node:0-3,5:16G", "node:0", "size=50%,mode=1777,uid=0,gid=0,nr_inodes=10k",
	"huge=within_size,mpol=bind:0,2-3,map=auto", "commit=lazy,nohalt=on,name=a.b,keep,nodev,ro,x-y=z", "recover,watchdog=86400",
	"swap=/a:b:/c/d,swapsize=8G,extent=64K", "low=10,swap=x\\,y,high=20,cold=600,compact=64M", "swap=/x,low=9,compact=off",
	"a\\,b,comment=x\\\\",
	"0-1023", "18446744073709551615", "9999999999999T",
};

static size_t mutate(char *buf, size_t len, size_t room, unsigned int *seed)
{
	static const char interesting[] = ",=:-\\%0189kKmMgGtT \n\xff";

	for (int n = rand_r(seed) % 6; n >= 0; n--) {
		size_t at = len ? (size_t)rand_r(seed) % len : 0;

		switch (rand_r(seed) % 3) {
		case 0:
			if (len)
				buf[at] = interesting[(size_t)rand_r(seed) % (sizeof(interesting) - 1)];
			break;
		case 1:
			if (len) {
				memmove(buf + at, buf + at + 1, len - at - 1);
				len--;
			}
			break;
		default:
			if (len < room) {
				memmove(buf + at + 1, buf + at, len - at);
				buf[at] = interesting[(size_t)rand_r(seed) % (sizeof(interesting) - 1)];
				len++;
			}
		}
	}
	return len;
}

static int replay(const char *path)
{
	spm_auto_fclose FILE *f = fopen(path, "rb");
	uint8_t buf[65536];

	if (!f) {
		perror(path);
		return 1;
	}
	return LLVMFuzzerTestOneInput(buf, fread(buf, 1, sizeof(buf), f));
}

int main(int argc, char **argv)
{
	unsigned int seed = 1;
	int rc = 0;

	for (int i = 1; i < argc; i++)
		rc |= replay(argv[i]);
	if (argc > 1)
		return rc;
	for (int i = 0; i < MUTATIONS; i++) {
		char buf[256];
		const char *from = seeds[(size_t)rand_r(&seed) % SPM_ARRAY_SIZE(seeds)];
		size_t len = strlen(from);

		memcpy(buf, from, len);
		len = mutate(buf, len, sizeof(buf) - 1, &seed);
		LLVMFuzzerTestOneInput((const uint8_t *)buf, len);
	}
	printf("1..1\nok 1 - %d mutated command lines\n", MUTATIONS);
	return 0;
}
#endif
