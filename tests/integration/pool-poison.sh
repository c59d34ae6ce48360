#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The device loses memory: EIO for exactly the extents that lay there, told once in the log, and never used again. The stand-in is
# cut off under the server, so that a load from behind its end is the SIGBUS that poison would be.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
export SPMFS_FAULTS=1

EXTENT=$((2 * MIB))

# What becomes of each extent of a file, as letters: r right, e EIO, ? anything else.
look()
{
	local i n out=
	n=$(($(stat -c %s "$1") / EXTENT))
	for ((i = 0; i < n; i++)); do
		if dd if="$1" bs=2M skip="$i" count=1 iflag=direct status=none 2>"$SPM_TMP/dd.err" >"$SPM_TMP/dd.out"; then
			cmp -s "$SPM_TMP/dd.out" <(dd if="$SPM_TMP/want" bs=2M skip="$i" count=1 status=none) && out+=r || out+='?'
		else
			grep -q "Input/output error" "$SPM_TMP/dd.err" && out+=e || out+='?'
		fi
	done
	printf '%s\n' "$out"
}

lines()
{
	grep -c "memory error: $1 cannot be read at offset" "$MNT.log"
}

head -c 40M /dev/urandom >"$SPM_TMP/want"
pool_mount 64M
cp "$SPM_TMP/want" "$MNT/f"
is "all is well" "$(look "$MNT/f")" rrrrrrrrrrrrrrrrrrrr
is "stat: nothing is lost" "$(spm_stat bad_bytes) $(spm_stat retired_bytes)" "0 0"
ok "nor does spmctl status speak of it" eval '! "$SPMCTL" status "$MNT" | grep -q lost'
sync
truncate -s 20M "$SPMFS_DAX_FILE"
got=$(look "$MNT/f")
lost=$(tr -dc e <<<"$got" | wc -c)
like "the memory is lost: some extents are EIO, all others right ($got)" "$got" '^[re]*$'
ok "$lost of them are lost" [ "$lost" -ge 10 ]
ok "and $((20 - lost)) are not" [ "$lost" -lt 20 ]
is "the log has a line for each of them" "$(lines "$MNT/f")" "$lost"
like "which says what to do" "$(grep -m 1 "memory error" "$MNT.log")" "fallocate -p"
truncate -s 64M "$SPMFS_DAX_FILE"
is "they stay lost when the memory is back" "$(look "$MNT/f")" "$got"
is "and are told once" "$(lines "$MNT/f")" "$lost"
is "stat: so much of files is lost" "$(spm_stat bad_bytes)" $((lost * EXTENT))
like "spmctl status says so" "$("$SPMCTL" status -u "$MNT")" "lost +$((lost * 2))(\.0)?M of files"
is "in JSON, too" "$("$SPMCTL" status --json "$MNT" | tr -d ' ",' | sed -n 's/^bad_bytes://p')" $((lost * EXTENT))
ok "events counts each of them" [ "$(sed -n 's/^memory_errors //p' "$MNT/.spm/events")" -ge "$lost" ]
is "the server lives" "$(spm_feature worker_restarts)" 0
at=$((${#got} - 1))
while [ "${got:at:1}" != e ]; do
	at=$((at - 1))
done
fails "what is lost cannot be written in part" dd if=/dev/zero of="$MNT/f" bs=4k seek=$((at * 512 + 1)) count=1 conv=notrunc oflag=direct
kill -9 "$(spm_server_pid)"
is "the next worker knows it too" "$(look "$MNT/f")" "$got"
is "and says how much" "$(spm_stat bad_bytes)" $((lost * EXTENT))
ok "a hole is punched there" fallocate -p -o $((at * EXTENT)) -l $EXTENT "$MNT/f"
is "which reads as zeros" "$(dd if="$MNT/f" bs=2M skip=$at count=1 iflag=direct status=none | tr -d '\0' | wc -c)" 0
ok "and can be written" dd if="$SPM_TMP/want" of="$MNT/f" bs=2M skip=$at seek=$at count=1 conv=notrunc status=none
is "so it is right again" "$(look "$MNT/f")" "${got:0:at}r${got:at+1}"
rm "$MNT/f"
# Of the 22 extents behind the cut some were nobody's; those that the server zeroed just then are lost as well.
all_free()
{
	[ "$(spm_stat free_bytes)" -ge $((POOL_FREE - 22 * EXTENT)) ]
}
ok "the rest is given back" wait_until 10 all_free
is "stat: nothing of files is lost any more" "$(spm_stat bad_bytes)" 0
ok "it is not used any more ($(spm_stat retired_bytes))" [ "$(spm_stat retired_bytes)" -ge $((lost * EXTENT)) ]
is "what is free and what is not used is what there was" $(($(spm_stat free_bytes) + $(spm_stat retired_bytes))) "$POOL_FREE"
ok "what was lost is not used again ($(spm_stat free_bytes) of $POOL_FREE)" \
	[ "$(spm_stat free_bytes)" -le $((POOL_FREE - lost * EXTENT)) ]
fill=$((($(spm_stat free_bytes)) / MIB))
ok "all the rest is" put "$MNT/g" "${fill}M" 3
ok "and right" check "$MNT/g" "${fill}M" 3
rm "$MNT/g"
spm_done
