/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/claim.h"
#include "fs/worker.h"
#include "core/lease.h"
#include "fs/attr.h"
#include "fs/content.h"
#include "fs/handover.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/ops.h"
#include "fs/sampler.h"
#include "fs/session.h"
#include "fs/slices.h"
#include "fs/standby.h"
#include "fs/swap.h"
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/xattr.h>

#define MARK_MAP_XATTRS "trusted.spm.map-xattrs"

static const struct fuse_lowlevel_ops ops;

void spm_worker_keep_init(struct spm_fs *fs, const void *buf, size_t len)
{
	struct spm_state *s = fs->desks.state;
	const struct fuse_in_header *h = buf;

	if (h->opcode != FUSE_INIT || len > sizeof(s->init_request))
		return;
	memcpy(s->init_request, buf, len);
	s->init_request_len = (uint32_t)len;
}

/* The reply to INIT: the first is kept, and sent; the others must equal it, and are not. -errno */
static int keep_or_compare(struct spm_fs *fs, const struct iovec *iov, int count)
{
	struct spm_state *s = fs->desks.state;
	uint8_t reply[SPM_INIT_ROOM];
	size_t len = 0;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > sizeof(reply) - len)
			return -EPROTO;
		memcpy(reply + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	if (s->init_reply_len) {
		fs->init_differs = s->init_reply_len != len || memcmp(s->init_reply, reply, len);
		return 1;
	}
	memcpy(s->init_reply, reply, len);
	spm_state_barrier();
	s->init_reply_len = (uint32_t)len;
	return 0;
}

static ssize_t send(int fd, const struct iovec *iov, int count)
{
	const struct fuse_out_header *h = iov[0].iov_base;
	ssize_t n;

	if (!h->unique) /* a notification */
		return writev(fd, iov, count);
	spm_fault("reply");
	spm_desk_answering(true);
	n = writev(fd, iov, count);
	if (n < 0 && errno == ENOENT) {
		/* nobody waits for it: what the request has counted is taken back next */
		spm_desk_answering(false);
		errno = ENOENT;
	}
	return n;
}

/* What the user does not want; and what the first worker of this mount, an older program, did not know. */
static uint64_t left_out(const struct spm_fs *fs)
{
	const struct spm_state *s = fs->desks.state;
	bool idmap = !fs->opts->no_idmap;

	if (s->init_reply_len)
		idmap = idmap && spm_wire_agreed(s->init_reply, s->init_reply_len) & SPM_FUSE_ALLOW_IDMAP;
	return (fs->opts->no_passthrough ? SPM_FUSE_PASSTHROUGH : 0) | (idmap ? 0 : SPM_FUSE_ALLOW_IDMAP);
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct spm_fs *fs = userdata;
	size_t total = 0;
	int rc;

	if (fs->init.done)
		return send(fd, iov, count);
	spm_wire_reply(iov, count, &fs->init, left_out(fs));
	rc = fs->init.done ? keep_or_compare(fs, iov, count) : 0;
	if (!rc)
		return writev(fd, iov, count);
	for (int i = 0; rc > 0 && i < count; i++)
		total += iov[i].iov_len;
	errno = EPROTO;
	return rc > 0 ? (ssize_t)total : -1;
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
	.fsync = spm_op_fsync,
	.fsyncdir = spm_op_fsyncdir,
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

	if (fs->pool) {
		feature_off(&fs->passthrough, "the files' content is on a dax device in mode devdax, a character device");
		return;
	}
	if (fs->opts->no_passthrough) {
		feature_off(&fs->passthrough, "option nopassthrough");
		return;
	}
	if (!(fs->init.agreed & SPM_FUSE_PASSTHROUGH)) {
		feature_off(&fs->passthrough, "the kernel has no FUSE passthrough (Linux 6.9 and later with CONFIG_FUSE_PASSTHROUGH)");
		return;
	}
	fd = spm_slice_probe(fs->root.mount_fd);
	id = fd < 0 ? fd : spm_open_backing(fs, FUSE_ROOT_ID, NULL, fd);
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

static void keep_found(struct spm_found *to, const struct spm_feature *from)
{
	to->on = from->on;
	memcpy(to->why, from->why, sizeof(to->why));
}

static void take_found(struct spm_feature *to, const struct spm_found *from)
{
	to->on = from->on;
	memcpy(to->why, from->why, sizeof(to->why));
	to->why[sizeof(to->why) - 1] = '\0';
}

/* Once: a worker that found another result, for want of memory perhaps, would mix modes that must not be mixed. */
static void probe(struct spm_fs *fs)
{
	struct spm_state *s = fs->desks.state;

	_Static_assert(sizeof(s->leases.why) == sizeof(fs->leases.why), "the same text");
	if (s->probed) {
		take_found(&fs->passthrough, &s->passthrough);
		take_found(&fs->leases, &s->leases);
		return;
	}
	probe_passthrough(fs);
	probe_leases(fs);
	keep_found(&s->passthrough, &fs->passthrough);
	keep_found(&s->leases, &fs->leases);
	spm_state_barrier();
	s->probed = 1;
}

void spm_worker_ready(struct spm_fs *fs)
{
	bool first = !fs->desks.state->probed;
	struct spm_word w = { .kind = SPM_WORD_READY, .value = fs->desks.generation, .pid = getpid() };
	int fd = fs->ready_fd, rc;

	fs->ready_fd = -1;
	probe(fs);
	if (first)
		fs->desks.state->resend = !fs->opts->no_resend && fs->init.agreed & SPM_FUSE_HAS_RESEND;
	/* a restriction that the user did not ask for is told where the mount was asked for */
	snprintf(w.text, sizeof(w.text), "%.255s", fs->desks.state->mount.note);
	if (!fs->passthrough.on && !fs->opts->no_passthrough && !fs->pool)
		snprintf(w.text + strlen(w.text), sizeof(w.text) - strlen(w.text),
			 "%sno direct mappings, files are mirrors: %s", w.text[0] ? "; " : "", fs->passthrough.why);
	rc = spm_word_send(fd, &w, -1);
	if (rc)
		spm_log(SPM_LOG_WARNING, "cannot tell the keeper that the mount is ready: %s", strerror(-rc));
	close(fd);
	if (first)
		spm_log(SPM_LOG_INFO, "%s: start: %s, passthrough %s%s", fs->opts->mountpoint,
			fs->opts->source_text, fs->passthrough.on ? "on" : "off: ", fs->passthrough.why);
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

/* The shared memory, and whatever the last worker left in it. */
static int attach(struct spm_fs *fs, const struct spm_worker_args *a)
{
	struct spm_handle h;
	struct stat st;
	int rc = spm_desks_attach(&fs->desks, a->state_fd, a->buffers_fd);
	bool table = !rc;

	if (!rc)
		rc = spm_itable_attach(&fs->itable, a->inodes_fd);
	fs->itable.slow = spm_session_blocking; /* who is being forgotten may take long: a file's content goes */
	if (rc == -EPROTO)
		spm_log(SPM_LOG_ERR, "%s: the %s in shared memory is damaged, or of another version of spmfs", a->opts->mountpoint,
			table ? "inode table" : "state");
	if (rc)
		return rc;
	if (spm_takeover_needed(fs->desks.state)) {
		rc = spm_takeover_settle(fs);
		/* whatever a record that was set aside said of mappings is not known any more */
		fs->reopened |= fs->itable.damaged > 0;
		if (rc)
			return rc;
	}
	if (spm_itable_get(&fs->itable, FUSE_ROOT_ID))
		return 0;
	if (fstat(fs->root.data_fd, &st))
		return -errno;
	rc = spm_handle_at(fs->root.data_fd, "", &h);
	if (!rc)
		spm_itable_set_root(&fs->itable, fs->root.id, st.st_ino, &h);
	return rc;
}

/* Blocked here and so in all threads; the one with the lead looks for it. */
static int open_signals(void)
{
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	return signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int open_session(struct spm_fs *fs)
{
	struct fuse_custom_io io = { .read = io_read, .writev = io_writev };
	char arg0[] = "spmfs", *argv[] = { arg0, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

	fs->se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args); /* a copy that the parser made */
	if (!fs->se)
		return -ENOMEM;
	return fuse_session_custom_io(fs->se, &io, fs->dev_fd);
}

int spm_worker_rehearse(const struct spm_options *o, int state_fd, struct spm_error *e)
{
	spm_auto_free struct spm_state *s = malloc(sizeof(*s));
	spm_auto_free struct spm_fs *fs = calloc(1, sizeof(*fs));
	struct fuse_buf buf = { .size = 0 };
	struct spm_wire_request wire;
	int rc;

	if (!s || !fs)
		return -ENOMEM;
	if (pread(state_fd, s, sizeof(*s), 0) != sizeof(*s) || s->magic != SPM_STATE_MAGIC || s->version != SPM_STATE_VERSION ||
	    s->bytes != spm_state_bytes() || s->init_request_len > SPM_INIT_ROOM || s->init_reply_len > SPM_INIT_ROOM)
		return spm_fail(e, -EPROTO, "it keeps its state in another format (version %u); unmount and mount again",
				SPM_STATE_VERSION);
	fs->opts = o;
	fs->desks.state = s;
	/* nothing is written there: the reply is compared, not sent. libfuse only wants a descriptor to close */
	fs->dev_fd = eventfd(0, EFD_CLOEXEC);
	rc = fs->dev_fd < 0 ? -errno : open_session(fs);
	if (!rc) {
		buf.mem = s->init_request;
		buf.size = spm_wire_request(s->init_request, s->init_request_len, &fs->init, &wire);
		fuse_session_process_buf(fs->se, &buf);
		fuse_session_destroy(fs->se);
	}
	if (!rc && (!fs->init.done || fs->init_differs))
		rc = spm_fail(e, -EPROTO, "it would agree on something else with the kernel (INIT); unmount and mount again");
	return rc;
}

/* Whether the slice is smaller than the device, as it was mounted or resized since. */
static bool is_limited(const struct spm_fs *fs)
{
	struct statvfs sv;

	return !spm_slice_statfs(&fs->root, &sv) && (uint64_t)sv.f_blocks * sv.f_frsize < fs->opts->source.bytes;
}

static int setup(struct spm_fs *fs, const struct spm_worker_args *a)
{
	char mark;
	int rc;

	fs->opts = a->opts;
	fs->content = &spm_content_in_files;
	fs->root = a->root;
	fs->dev_fd = a->dev_fd;
	fs->ready_fd = -1;
	fs->reopened = a->reopened;
	fs->nohalt = a->nohalt;
	if (spm_source_on_nodes(&a->opts->source)) {
		fs->root.bind = &a->opts->source.nodes;
		fs->root.budget = &fs->root.own_budget;
	}
	fs->served_writes = spm_source_on_nodes(&a->opts->source) || is_limited(fs) || a->opts->swap;
	fs->map_xattrs = fgetxattr(fs->root.mount_fd, MARK_MAP_XATTRS, &mark, 1) >= 0;
	spm_fdcache_init(&fs->fds);
	spm_fresh_init(&fs->fresh);
	spm_texts_init(&fs->texts);
	spm_takeover_init(&fs->takeover);
	spm_parked_init(fs);
	for (unsigned int i = 0; i < SPM_INODE_LOCKS; i++)
		pthread_mutex_init(&fs->inode_locks[i], NULL);
	pthread_mutex_init(&fs->idle_backings.lock, NULL);
	pthread_mutex_init(&fs->backing_lock, NULL);
	pthread_mutex_init(&fs->direct_lock, NULL);
	fs->signal_fd = open_signals();
	if (fs->signal_fd < 0)
		return -errno;
	rc = spm_slices_setup(fs);
	if (!rc)
		rc = spm_names_init(fs);
	if (!rc)
		rc = attach(fs, a);
	/* what the last worker left half way is finished here, before anything is served */
	if (!rc)
		rc = spm_content_open(fs, a);
	if (!rc)
		rc = spm_promise_init(fs);
	if (rc)
		return rc;
	spm_slices_settle(&fs->slices);
	spm_slices_finish(fs);
	/* the wait for the next request is in session.c, so reading must not sleep */
	if (fcntl(fs->dev_fd, F_SETFL, O_NONBLOCK))
		return -errno;
	return open_session(fs);
}

/* The main thread takes over at a desk of its own, with the rights of any serving thread. */
static int take_over(struct spm_fs *fs)
{
	struct spm_thread t;
	int rc = spm_thread_init(&t, &fs->desks);

	if (!rc)
		rc = spm_takeover_run(fs);
	spm_thread_destroy(&t, &fs->desks);
	return rc;
}

/* A worker's limits are its own, not those of whoever called mount(8). */
static void own_process(void)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	static const int deadly[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGABRT, SIGTRAP };
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
	/* but for those that mean its end, whoever sends them */
	for (size_t i = 0; i < SPM_ARRAY_SIZE(deadly); i++)
		sigdelset(&all, deadly[i]);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

static void tear_down(struct spm_fs *fs)
{
	spm_nohalt_close(&fs->nohalt);
	fuse_session_destroy(fs->se); /* closes dev_fd */
	spm_fdcache_destroy(&fs->fds);
	spm_texts_destroy(&fs->texts);
	spm_names_destroy(&fs->names);
	spm_takeover_destroy(&fs->takeover);
	spm_parked_destroy(fs);
	spm_content_close(fs);
	spm_promise_destroy(fs);
	spm_itable_destroy(&fs->itable);
	spm_desks_detach(&fs->desks);
	spm_slices_teardown(fs);
	spm_slice_close(&fs->root);
	spm_cleanup_close(&fs->signal_fd);
	free(fs);
}

int spm_worker_main(struct spm_worker_args *a)
{
	struct spm_fs *fs = calloc(1, sizeof(*fs));
	struct spm_word w = { .kind = SPM_WORD_FAILED, .pid = getpid() };
	int rc;

	own_process();
	rc = fs ? setup(fs, a) : -ENOMEM;
	if (!rc && fs->desks.generation > 1)
		rc = take_over(fs);
	if (rc) {
		spm_log(SPM_LOG_ERR, "%s: the worker cannot %s: %s", a->opts->mountpoint,
			fs && fs->desks.generation > 1 ? "take over" : "start", strerror(-rc));
		w.value = (uint32_t)-rc;
		snprintf(w.text, sizeof(w.text), rc == -EPROTO ? "the state in shared memory is damaged, or of another version (%s)" :
			 "cannot set up the server: %s", strerror(-rc));
		spm_word_send(a->ready_fd, &w, -1);
		return 1;
	}
	fs->ready_fd = a->ready_fd;
	if (fs->init.done)
		spm_worker_ready(fs);
	rc = spm_sampler_start(fs);
	if (!rc)
		rc = spm_claim_start(fs);
	if (!rc)
		rc = spm_content_start(fs);
	if (!rc)
		rc = spm_session_run(fs);
	if (rc < 0)
		spm_log(SPM_LOG_ERR, "cannot serve: %s", strerror(-rc));
	spm_content_stop(fs);
	spm_claim_stop(fs);
	spm_sampler_stop(fs);
	tear_down(fs);
	return rc < 0 ? 1 : rc ? SPM_WORKER_YIELDED : SPM_WORKER_UNMOUNTED;
}
