/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_MOUNTS_H
#define SPM_FS_MOUNTS_H

#include <sys/types.h>
#include "core/dax-note.h" /* SPM_RUN_DIR */
#include "core/log.h"
#include "fs/options.h"

/*
 * Mounts in other namespaces than the caller's. The keeper lives in the region's mount namespace and must
 * hold no reference to the host's, or a container's mount would outlive the container; so what it has to
 * unmount in the end is looked for in the namespaces of the processes that are there then.
 */

/* Makes the FUSE mount, not attached anywhere yet. Returns its descriptor, *@dev its device number. */
int spm_mounts_make(const struct spm_options *o, int fuse_fd, dev_t *dev, struct spm_error *e) SPM_MUST_CHECK;
/* Attaches it to the directory @where_fd (O_PATH), which must be in the caller's namespace. */
int spm_mounts_attach(int mount_fd, int where_fd, struct spm_error *e) SPM_MUST_CHECK;

/* Unmounts, lazily, every mount of the spmfs with device number @dev and that source, in every namespace that
 * can be seen; @home_ns is returned to. Only while the mount is known to live: its number is given to another
 * filesystem as soon as it does not, which @fuse_fd (its /dev/fuse) tells, and which ends the search. With @sync
 * dirty pages are written back first. Returns how many. */
int spm_mounts_remove_all(dev_t dev, const char *source, int fuse_fd, bool sync, int home_ns);
/* The same for a mount whose connection was ended while it was still mounted: those that answer ENOTCONN are
 * counted, and unmounted with @remove. */
int spm_mounts_dead(dev_t dev, const char *source, bool remove, int home_ns);

/*
 * What a mount has in the host's SPM_RUN_DIR: NAME.ns pins its region (a bind of the namespace), and NAME.sock
 * is where spmctl reaches the keeper.
 */
void spm_mounts_pin_path(const char *name, char *buf, size_t len);
void spm_mounts_socket_path(const char *name, char *buf, size_t len);
/* In the host's namespace: makes it. */
int spm_mounts_pin(const char *name, int ns_fd, struct spm_error *e) SPM_MUST_CHECK;
/* On the host: SPM_RUN_DIR, which must be a mount of its own; and removes it if it is empty. */
int spm_mounts_run_dir(struct spm_error *e) SPM_MUST_CHECK;
void spm_mounts_run_dir_remove(void);
/* From wherever: removes the socket, and with @unpin the pin, and SPM_RUN_DIR with the last one. In between, on the host
 * and with the pin gone, @last (or NULL) is called. */
void spm_mounts_tidy(const char *name, bool unpin, int home_ns, void (*last)(void *arg), void *arg);

#endif
