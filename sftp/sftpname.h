/* sftpname.h: requests of an SFTP session on names, all of them below its root.
 * Threads: the session's only one. Each request appends its one answer to 'out'. */
#pragma once
#include "sftp/sftphandle.h"

void sftpname_setstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_open(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_opendir(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_stat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_lstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_remove(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out, int flags);
void sftpname_mkdir(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_rename(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out, bool replace,
                     bool link);
void sftpname_readlink(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_symlink(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_realpath(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftpname_statvfs(Sftp *sftp, uint32_t id, SftpOut *out, int fd);
void sftpname_extended(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
