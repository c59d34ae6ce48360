# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# For tests of mount(8), which looks for helpers in /sbin and nowhere else. Source it after lib.sh; spm_fake_sbin
# then shows a /sbin, in this test's own mount namespace, in which the helpers stand beside links to the real
# programs.

spm_fake_sbin()
{
	local p
	mkdir "$SPM_TMP/sbin" "$SPM_TMP/sbin.real" || return 1
	mount --bind /sbin/ "$SPM_TMP/sbin.real" || return 1
	for p in "$SPM_TMP"/sbin.real/*; do
		ln -s "$p" "$SPM_TMP/sbin/"
	done
	for p in mount.spmfs mount.fuse.spmfs; do
		ln -sf "$SPMFS" "$SPM_TMP/sbin/$p"
	done
	mount --bind "$SPM_TMP/sbin" /sbin/ || return 1
	at_exit umount "$SPM_TMP/sbin.real"
	at_exit umount /sbin/
}
