/* archive_lib.h: libarchive, loaded when it is first needed: with its XML and
 * its cryptography it is a fifth of the resident memory of an agent that unpacks nothing.
 * Include it in place of the library's own header; its functions are called by their usual names, after
 * archive_lib_load() has succeeded once. What isn't listed here isn't linked: add it to both lists.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <archive.h>
#include <archive_entry.h>

/* clang-format off */
#define ARCHIVE_LIB_FUNCTIONS(X)                                                                   \
    X(archive_entry_acl_add_entry) X(archive_entry_acl_next) X(archive_entry_acl_reset)            \
    X(archive_entry_clone) X(archive_entry_copy_stat) X(archive_entry_filetype)                    \
    X(archive_entry_free) X(archive_entry_gid) X(archive_entry_hardlink)                           \
    X(archive_entry_mtime) X(archive_entry_mtime_is_set) X(archive_entry_mtime_nsec)               \
    X(archive_entry_new) X(archive_entry_pathname) X(archive_entry_perm)                           \
    X(archive_entry_rdevmajor) X(archive_entry_rdevminor) X(archive_entry_set_filetype)            \
    X(archive_entry_set_gid) X(archive_entry_set_hardlink) X(archive_entry_set_mtime)              \
    X(archive_entry_set_pathname) X(archive_entry_set_perm) X(archive_entry_set_size)              \
    X(archive_entry_set_symlink) X(archive_entry_set_uid) X(archive_entry_size)                    \
    X(archive_entry_sparse_add_entry) X(archive_entry_sparse_count)                                \
    X(archive_entry_sparse_next) X(archive_entry_sparse_reset) X(archive_entry_symlink)            \
    X(archive_entry_uid) X(archive_entry_xattr_add_entry) X(archive_entry_xattr_next)              \
    X(archive_entry_xattr_reset) X(archive_errno) X(archive_error_string)                          \
    X(archive_read_data) X(archive_read_data_block) X(archive_read_free) X(archive_read_new)       \
    X(archive_read_next_header) X(archive_read_open1) X(archive_read_set_callback_data)            \
    X(archive_read_set_read_callback) X(archive_read_set_skip_callback)                            \
    X(archive_read_support_filter_bzip2) X(archive_read_support_filter_gzip)                       \
    X(archive_read_support_filter_lzma) X(archive_read_support_filter_xz)                          \
    X(archive_read_support_filter_zstd) X(archive_read_support_format_raw)                         \
    X(archive_read_support_format_tar) X(archive_set_error) X(archive_write_add_filter)            \
    X(archive_write_close) X(archive_write_data) X(archive_write_fail) X(archive_write_free)       \
    X(archive_write_header) X(archive_write_new) X(archive_write_open2)                            \
    X(archive_write_set_bytes_in_last_block) X(archive_write_set_filter_option)                    \
    X(archive_write_set_format_iso9660) X(archive_write_set_format_pax_restricted)                 \
    X(archive_write_set_options)
/* clang-format on */

struct archive_lib {
#define FIELD(name) __typeof__(name) *name;
    ARCHIVE_LIB_FUNCTIONS(FIELD)
#undef FIELD
};
extern struct archive_lib archive_lib;

/* UNAVAILABLE when the library, or a function of it, isn't there. Cheap once it is loaded. */
bool archive_lib_load(GError **error);

#ifndef ARCHIVE_LIB_OWNER
#define archive_entry_acl_add_entry             archive_lib.archive_entry_acl_add_entry
#define archive_entry_acl_next                  archive_lib.archive_entry_acl_next
#define archive_entry_acl_reset                 archive_lib.archive_entry_acl_reset
#define archive_entry_clone                     archive_lib.archive_entry_clone
#define archive_entry_copy_stat                 archive_lib.archive_entry_copy_stat
#define archive_entry_filetype                  archive_lib.archive_entry_filetype
#define archive_entry_free                      archive_lib.archive_entry_free
#define archive_entry_gid                       archive_lib.archive_entry_gid
#define archive_entry_hardlink                  archive_lib.archive_entry_hardlink
#define archive_entry_mtime                     archive_lib.archive_entry_mtime
#define archive_entry_mtime_is_set              archive_lib.archive_entry_mtime_is_set
#define archive_entry_mtime_nsec                archive_lib.archive_entry_mtime_nsec
#define archive_entry_new                       archive_lib.archive_entry_new
#define archive_entry_pathname                  archive_lib.archive_entry_pathname
#define archive_entry_perm                      archive_lib.archive_entry_perm
#define archive_entry_rdevmajor                 archive_lib.archive_entry_rdevmajor
#define archive_entry_rdevminor                 archive_lib.archive_entry_rdevminor
#define archive_entry_set_filetype              archive_lib.archive_entry_set_filetype
#define archive_entry_set_gid                   archive_lib.archive_entry_set_gid
#define archive_entry_set_hardlink              archive_lib.archive_entry_set_hardlink
#define archive_entry_set_mtime                 archive_lib.archive_entry_set_mtime
#define archive_entry_set_pathname              archive_lib.archive_entry_set_pathname
#define archive_entry_set_perm                  archive_lib.archive_entry_set_perm
#define archive_entry_set_size                  archive_lib.archive_entry_set_size
#define archive_entry_set_symlink               archive_lib.archive_entry_set_symlink
#define archive_entry_set_uid                   archive_lib.archive_entry_set_uid
#define archive_entry_size                      archive_lib.archive_entry_size
#define archive_entry_sparse_add_entry          archive_lib.archive_entry_sparse_add_entry
#define archive_entry_sparse_count              archive_lib.archive_entry_sparse_count
#define archive_entry_sparse_next               archive_lib.archive_entry_sparse_next
#define archive_entry_sparse_reset              archive_lib.archive_entry_sparse_reset
#define archive_entry_symlink                   archive_lib.archive_entry_symlink
#define archive_entry_uid                       archive_lib.archive_entry_uid
#define archive_entry_xattr_add_entry           archive_lib.archive_entry_xattr_add_entry
#define archive_entry_xattr_next                archive_lib.archive_entry_xattr_next
#define archive_entry_xattr_reset               archive_lib.archive_entry_xattr_reset
#define archive_errno                           archive_lib.archive_errno
#define archive_error_string                    archive_lib.archive_error_string
#define archive_read_data                       archive_lib.archive_read_data
#define archive_read_data_block                 archive_lib.archive_read_data_block
#define archive_read_free                       archive_lib.archive_read_free
#define archive_read_new                        archive_lib.archive_read_new
#define archive_read_next_header                archive_lib.archive_read_next_header
#define archive_read_open1                      archive_lib.archive_read_open1
#define archive_read_set_callback_data          archive_lib.archive_read_set_callback_data
#define archive_read_set_read_callback          archive_lib.archive_read_set_read_callback
#define archive_read_set_skip_callback          archive_lib.archive_read_set_skip_callback
#define archive_read_support_filter_bzip2       archive_lib.archive_read_support_filter_bzip2
#define archive_read_support_filter_gzip        archive_lib.archive_read_support_filter_gzip
#define archive_read_support_filter_lzma        archive_lib.archive_read_support_filter_lzma
#define archive_read_support_filter_xz          archive_lib.archive_read_support_filter_xz
#define archive_read_support_filter_zstd        archive_lib.archive_read_support_filter_zstd
#define archive_read_support_format_raw         archive_lib.archive_read_support_format_raw
#define archive_read_support_format_tar         archive_lib.archive_read_support_format_tar
#define archive_set_error                       archive_lib.archive_set_error
#define archive_write_add_filter                archive_lib.archive_write_add_filter
#define archive_write_close                     archive_lib.archive_write_close
#define archive_write_data                      archive_lib.archive_write_data
#define archive_write_fail                      archive_lib.archive_write_fail
#define archive_write_free                      archive_lib.archive_write_free
#define archive_write_header                    archive_lib.archive_write_header
#define archive_write_new                       archive_lib.archive_write_new
#define archive_write_open2                     archive_lib.archive_write_open2
#define archive_write_set_bytes_in_last_block   archive_lib.archive_write_set_bytes_in_last_block
#define archive_write_set_filter_option         archive_lib.archive_write_set_filter_option
#define archive_write_set_format_iso9660        archive_lib.archive_write_set_format_iso9660
#define archive_write_set_format_pax_restricted archive_lib.archive_write_set_format_pax_restricted
#define archive_write_set_options               archive_lib.archive_write_set_options
#endif
