/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SPM_FS_OPS_H
#define SPM_FS_OPS_H

#include "fs/fs.h"

/*
 * The FUSE requests, by the file that answers them; the table is in session.c. Each replies exactly once.
 * No right is checked here: default_permissions has the kernel do it, and with idmapped mounts the uid of a
 * request means nothing but the owner of a new file.
 */

/* lookup.c */
void spm_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void spm_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void spm_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void spm_op_readlink(fuse_req_t req, fuse_ino_t ino);
void spm_op_statfs(fuse_req_t req, fuse_ino_t ino);

/* attr.c */
void spm_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void spm_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);

/* create.c */
void spm_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void spm_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void spm_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void spm_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void spm_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);

/* remove.c */
void spm_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void spm_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void spm_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
		   unsigned int flags);

/* readdir.c */
void spm_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void spm_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void spm_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);

/* xattr.c */
void spm_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void spm_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void spm_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void spm_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* open.c */
void spm_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void spm_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* sync.c */
void spm_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void spm_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* io.c */
void spm_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void spm_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		  struct fuse_file_info *fi);
void spm_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void spm_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void spm_op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in,
			    fuse_ino_t out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);
void spm_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg, struct fuse_file_info *fi,
		  unsigned int flags, const void *in_buf, size_t in_size, size_t out_size);

/* Inode @ino of the root slice (0: none) may have been moved among the orphans, or from there, by a worker that died
 * before it could mark it so. */
void spm_orphan_finish(struct spm_fs *fs, uint16_t slice, uint64_t ino);

#endif
