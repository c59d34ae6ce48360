/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/worker.h"
#include "core/lease.h"
#include "fs/attr.h"
#include "fs/ops.h"
#include "fs/sampler.h"
#include "fs/session.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#define ITABLE_MAX      (32u << 20) /* inodes that the kernel may remember at once; 2 GiB of address space */
#define MARK_MAP_XATTRS "trusted.spm.map-xattrs"

static const struct fuse_lowlevel_ops ops;

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct spm_fs *fs = userdata;

	if (!fs->init.done)
		spm_wire_reply(iov, count, &fs->init, !fs->opts->no_passthrough);
	return writev(fd, iov, count);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	/* libfuse sees only what fs/wire.c shows it; replies are spliced by fs/io.c */
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_CACHE_SYMLINKS);
	conn->max_write = SPM_WIRE_MAX_WRITE;
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = spm_op_lookup,
	.forget = spm_op_forget,
	.forget_multi = spm_op_forget_multi,
	.getattr = spm_op_getattr,
	.setattr = spm_op_setattr,
	.readlink = spm_op_readlink,
	.mknod = spm_op_mknod,
	.mkdir = spm_op_mkdir,
	.unlink = spm_op_unlink,
	.rmdir = spm_op_rmdir,
	.symlink = spm_op_symlink,
	.rename = spm_op_rename,
	.link = spm_op_link,
	.open = spm_op_open,
	.read = spm_op_read,
	.write = spm_op_write,
	.release = spm_op_release,
	.opendir = spm_op_opendir,
	.readdir = spm_op_readdir,
	.readdirplus = spm_op_readdirplus,
	.statfs = spm_op_statfs,
	.setxattr = spm_op_setxattr,
	.getxattr = spm_op_getxattr,
	.listxattr = spm_op_listxattr,
	.removexattr = spm_op_removexattr,
	.create = spm_op_create,
	.fallocate = spm_op_fallocate,
	.copy_file_range = spm_op_copy_file_range,
	.lseek = spm_op_lseek,
	.ioctl = spm_op_ioctl,
};

static void feature_off(struct spm_feature *f, const char *fmt, ...) SPM_PRINTF(2, 3);
static void feature_off(struct spm_feature *f, const char *fmt, ...)
{
	va_list ap;

	f->on = false;
	va_start(ap, fmt);
	vsnprintf(f->why, sizeof(f->why), fmt, ap);
	va_end(ap);
}

/* Found out by trying: no version number says what a kernel, a user namespace or a seccomp filter allows. */
static void probe_passthrough(struct spm_fs *fs)
{
	spm_auto_close int fd = -1;
	int id;

	if (fs->opts->no_passthrough) {
		feature_off(&fs->passthrough, "option nopassthrough");
		return;
	}
	if (!(fs->init.agreed & SPM_FUSE_PASSTHROUGH)) {
		feature_off(&fs->passthrough, "the kernel has no FUSE passthrough (Linux 6.9 and later with CONFIG_FUSE_PASSTHROUGH)");
		return;
	}
	fd = openat(fs->root.mount_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	id = fd < 0 ? -errno : spm_wire_backing_open(fs->dev_fd, fd);
	if (id < 0) {
		feature_off(&fs->passthrough, id == -EPERM ? "not permitted (needs CAP_SYS_ADMIN outside of user namespaces): %s" :
			    "the kernel refuses a backing file: %s", strerror(-id));
		return;
	}
	spm_wire_backing_close(fs->dev_fd, id);
	fs->passthrough.on = true;
}

static void probe_leases(struct spm_fs *fs)
{
	int rc = spm_lease_probe(fs->root.mount_fd);

	if (!rc)
		fs->leases.on = true;
	else if (rc == -EINVAL)
		feature_off(&fs->leases, "fs.leases-enable is 0: whatever was mapped directly stays direct");
	else
		feature_off(&fs->leases, "%s: whatever was mapped directly stays direct", strerror(-rc));
}

void spm_worker_ready(struct spm_fs *fs)
{
	int fd = fs->ready_fd, rc;

	fs->ready_fd = -1;
	probe_passthrough(fs);
	probe_leases(fs);
	/* a restriction that the user did not ask for is told where the mount was asked for */
	if (fs->passthrough.on || fs->opts->no_passthrough)
		rc = dprintf(fd, "ok");
	else
		rc = dprintf(fd, "okno direct mappings, files are mirrors: %s", fs->passthrough.why);
	if (rc < 0)
		spm_log(SPM_LOG_WARNING, "cannot tell the keeper that the mount is ready: %m");
	close(fd);
	spm_log(SPM_LOG_INFO, "%s mounted on %s, passthrough %s%s", fs->opts->source_text, fs->opts->mountpoint,
		fs->passthrough.on ? "on" : "off: ", fs->passthrough.why);
}

int spm_worker_note_map_xattr(struct spm_fs *fs)
{
	if (atomic_load(&fs->map_xattrs))
		return 0;
	atomic_store(&fs->map_xattrs, true);
	/* in a user namespace there are no trusted xattrs, and no kept regions with direct files either */
	if (fsetxattr(fs->root.mount_fd, MARK_MAP_XATTRS, "1", 1, 0) && errno != EPERM)
		return -errno;
	return 0;
}

static int setup(struct spm_fs *fs, const struct spm_worker_args *a)
{
	struct fuse_custom_io io = { .read = io_read, .writev = io_writev };
	char arg0[] = "spmfs", *argv[] = { arg0, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct spm_handle h;
	struct stat st;
	char mark;
	int rc;

	fs->opts = a->opts;
	fs->root = a->root;
	fs->dev_fd = a->dev_fd;
	fs->ready_fd = a->ready_fd;
	fs->keeper_pid = a->keeper_pid;
	fs->reopened = a->reopened;
	fs->nohalt = a->nohalt;
	if (a->opts->source.kind == SPM_SOURCE_NODE)
		fs->root.bind = &a->opts->source.nodes;
	fs->served_writes = a->opts->source.kind == SPM_SOURCE_NODE ||
			    (a->opts->size_bytes && a->opts->size_bytes < a->opts->source.bytes);
	fs->map_xattrs = fgetxattr(fs->root.mount_fd, MARK_MAP_XATTRS, &mark, 1) >= 0;
	spm_fdcache_init(&fs->fds);
	spm_fresh_init(&fs->fresh);
	for (unsigned int i = 0; i < SPM_INODE_LOCKS; i++)
		pthread_mutex_init(&fs->inode_locks[i], NULL);
	pthread_mutex_init(&fs->idle_backings.lock, NULL);
	rc = spm_itable_init(&fs->itable, ITABLE_MAX);
	if (rc)
		return rc;
	rc = spm_names_init(fs);
	if (rc)
		return rc;
	if (fstat(fs->root.data_fd, &st))
		return -errno;
	rc = spm_handle_at(fs->root.data_fd, "", &h);
	if (rc)
		return rc;
	spm_itable_set_root(&fs->itable, fs->root.id, st.st_ino, &h);

	/* the wait for the next request is in session.c, so reading must not sleep */
	if (fcntl(fs->dev_fd, F_SETFL, O_NONBLOCK))
		return -errno;
	fs->se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args); /* a copy that the parser made */
	if (!fs->se)
		return -ENOMEM;
	return fuse_session_custom_io(fs->se, &io, fs->dev_fd);
}

/* A worker's limits are its own, not those of whoever called mount(8). */
static void own_process(void)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit files;
	sigset_t all;

	setrlimit(RLIMIT_FSIZE, &unlimited);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* nobody but root looks into /proc/PID, and no core file shows the device */
#ifndef __SANITIZE_ADDRESS__ /* the leak check at the end has to look */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
	prctl(PR_SET_NAME, "spmfs-worker", 0, 0, 0);
	/* broken leases send SIGIO; terminal signals are the keeper's */
	sigfillset(&all);
	sigdelset(&all, SIGTERM);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGTERM, SIG_DFL);
}

int spm_worker_main(struct spm_worker_args *a)
{
	struct spm_fs *fs = calloc(1, sizeof(*fs));
	int rc;

	own_process();
	rc = fs ? setup(fs, a) : -ENOMEM;
	if (rc) {
		dprintf(a->ready_fd, "cannot set up the server: %s", strerror(-rc));
		return 1;
	}
	rc = spm_sampler_start(fs);
	if (!rc)
		rc = spm_session_run(fs);
	if (rc)
		spm_log(SPM_LOG_ERR, "cannot serve: %s", strerror(-rc));
	spm_sampler_stop(fs);
	spm_nohalt_close(&fs->nohalt);
	fuse_session_destroy(fs->se); /* closes dev_fd */
	spm_fdcache_destroy(&fs->fds);
	spm_names_destroy(&fs->names);
	spm_itable_destroy(&fs->itable);
	spm_slice_close(&fs->root);
	free(fs);
	return rc ? 1 : 0;
}
