#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The man pages are clean mdoc, have their sections, and know every option and every control file.
set -u
SPM_NO_SANDBOX=1
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

pages=(spmfs.8 mount.fuse.spmfs.8 spmctl.1 spmfs-control.5 spmfs.conf.5 spmfs-containers.7)
for page in "${pages[@]}"; do
	file=$top_srcdir/man/$page
	ok "$page is there" test -s "$file"
	if command -v mandoc >/dev/null; then
		is "$page: mandoc finds nothing to complain of" "$(mandoc -Tlint -W warning "$file" 2>&1)" ""
	else
		skip "$page: mandoc finds nothing to complain of" "no mandoc here"
	fi
	for section in NAME DESCRIPTION EXAMPLES "SEE ALSO"; do
		ok "$page has $section" grep -qx "\.Sh $section" "$file"
	done
	while IFS= read -r ref; do
		ok "$page refers to $ref, which is there" test -e "$top_srcdir/man/$ref"
	done < <(sed -nE 's/^\.Xr (spm[a-z.-]*|mount\.fuse\.spmfs) ([0-9]).*/\1.\2/p' "$file" | sort -u)
done

# Each page as a reader sees it, without overstrikes.
text()
{
	mandoc -Tascii "$top_srcdir/man/$1" | sed 's/.\x08//g'
}

if ! command -v mandoc >/dev/null; then
	skip "every option of spmfs --help is in a man page" "no mandoc here"
elif [ ! -x "$SPMFS" ]; then
	skip "every option of spmfs --help is in a man page" "built without spmfs"
else
	both=$(text spmfs.8; text mount.fuse.spmfs.8)
	help=$("$SPMFS" --help)
	options=$(sed -nE 's/^  ([a-z_]+)=?  +[a-z0-9].*/\1/p' <<<"$help")
	ok "spmfs --help lists options" test "$(wc -l <<<"$options")" -ge 10
	for option in $options; do
		like "option $option is described" "$both" "(^|[^a-z_])$option([^a-z_]|\$)"
	done
	for letter in $(grep -oE '(^|[ [,])-[a-zA-Z]( |,|]|$)' <<<"$help" | tr -dc 'a-zA-Z\n' | sort -u); do
		like "flag -$letter is described" "$both" "-[a-zA-Z]*$letter"
	done
	while IFS= read -r key; do
		like "control file $key is described" "$(text spmfs-control.5)" "(^|[^a-z_])$key([^a-z_]|\$)"
	done < <(grep -oE '^	\{ "[a-z.]+", 0[0-7]+' "$top_srcdir/fs/control.c" | cut -d'"' -f2)
	while IFS= read -r key; do
		like "figure $key is described" "$(text spmfs-control.5)" "(^|[^a-z_])$key([^a-z_]|\$)"
	done < <(grep -oE '^		\{ "[a-z_]+", (true|false)' "$top_srcdir/fs/stats.c" | cut -d'"' -f2)
fi
if command -v mandoc >/dev/null; then
	page=$(text spmctl.1)
	for command in $("$SPMCTL" --help | sed -nE 's/^  ([a-z]+) .*/\1/p'); do
		like "spmctl $command is described" "$page" "(^|[^a-z_])$command([^a-z_]|\$)"
	done
	for command in create set show list remove; do
		like "spmctl slice $command is described" "$page" "slice $command"
		for option in $("$SPMCTL" slice "$command" --help | grep -oE '^  (-u, )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
			like "so is its option $option" "$page" "(^|[^a-z-])$option([^a-z-]|\$)"
		done
	done
	while IFS= read -r key; do
		like "its key $key" "$page" "(^|[^a-z_])$key([^a-z_]|\$)"
	done < <(sed -nE 's/^	\{ "[a-z.]+", "([a-z_]+)", [A-Z_]+ \},$/\1/p' "$top_srcdir/mount-helpers/spmctl-slice-list.c")
	page=$(text spmfs.conf.5)
	while IFS= read -r key; do
		like "key ${key/./-} of a slice is described" "$page" "(^|[^a-z-])${key/./-}([^a-z-]|\$)"
	done < <(sed -nE 's/^	\[SPM_LIMIT_[A-Z_]+\] = \{ "([a-z.]+)", .*/\1/p' "$top_srcdir/core/limits.c")
fi

spm_done
