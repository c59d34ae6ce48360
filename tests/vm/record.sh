#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Writes what /sys says of memory devices to standard output, for tests/sysfs.sh to make a /sys of it where there are no
# such devices: a line for each directory (D), link (L) and file (F), with a path below /sys, and what it leads to or holds.
#	bash tests/vm/run.sh --layout hmem bash ../src/tests/vm/record.sh >tests/data/sys-hmem
set -u
cd /sys || exit 1

roots=(bus/dax/devices bus/dax/drivers devices/system/node devices/system/memory)
for link in bus/dax/devices/* block/pmem*; do
	[ ! -e "$link" ] || roots+=("$(realpath --relative-to=/sys "$link")" "$link")
done
# a device hangs below what libdaxctl calls its region, whose attributes it wants as well
for link in bus/dax/devices/*; do
	[ ! -e "$link" ] || roots+=("$(realpath --relative-to=/sys "$link/..")" "dev/char/$(cat "$link/dev")")
done
{
	for root in "${roots[@]}"; do
		find "$root" \( -name power -o -name vmstat -o -name numastat -o -name hugepages -o -name trace -o -name holders \
			-o -name slaves -o -name integrity -o -name mq \) -prune -o -print
	done
} | sort -u | while IFS= read -r path; do
	if [ -L "$path" ]; then
		printf 'L %s %s\n' "$path" "$(readlink "$path")"
	elif [ -d "$path" ]; then
		printf 'D %s\n' "$path"
	elif [ -r "$path" ] && [[ $path != */@(uevent|removable|phys_device|soft_offline_page|hard_offline_page|probe|bind|unbind) ]] &&
		text=$(timeout 5 cat "$path" 2>/dev/null | tr -d '\0' | sed -z 's/\n$//; s/\\/\\\\/g; s/\n/\\n/g'); then
		printf 'F %s %s\n' "$path" "$text"
	fi
done
