/* The config share as an ISO image, for guests that know neither 9p nor virtiofs. It is written beside its
 * place and renamed: QEMU opens a whole one. By libarchive. */
#include "agent/vm/configfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/archive_lib.h"
#include "base/fd.h"

#define ISO_PROGRAM_MAX (64 * 1024 * 1024)

static bool
failed(struct archive *to, const char *name, GError **error)
{
    return haw_fail(error, HAW_FAILED, "write '%s': %s", name, archive_error_string(to));
}

static bool
add_file(struct archive *to, const char *name, const void *bytes, size_t size, mode_t mode,
         GError **error)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, mode);
    archive_entry_set_size(entry, (la_int64_t) size);
    archive_entry_set_mtime(entry, 0, 0); /* the same files are the same image */
    bool ok = archive_write_header(to, entry) == ARCHIVE_OK &&
              archive_write_data(to, bytes, size) == (la_ssize_t) size;
    archive_entry_free(entry);
    return ok || failed(to, name, error);
}

static bool
add_program(struct archive *to, const char *program, GError **error)
{
    static const char *const names[] = {"hawser-guest", "lxd-agent"};
    size_t size = 0;
    g_autofree char *bytes = fd_read_file(program, ISO_PROGRAM_MAX, &size, error);
    bool ok = bytes != NULL;

    for (size_t i = 0; ok && i < G_N_ELEMENTS(names); i++) {
        ok = add_file(to, names[i], bytes, size, 0500, error);
    }
    return ok;
}

static la_ssize_t
put(struct archive *to, void *data, const void *bytes, size_t size)
{
    const int *fd = data;

    return fd_write_all(*fd, bytes, size, "the image", NULL) ? (la_ssize_t) size : -1;
}

static bool
write_to(int fd, json_t *files, const char *program, const char *label, GError **error)
{
    struct archive *to = archive_write_new();
    g_autofree char *options = g_strdup_printf("volume-id=%s", label);
    const char *name;
    json_t *text;
    bool ok = archive_write_set_format_iso9660(to) == ARCHIVE_OK &&
              archive_write_set_options(to, options) == ARCHIVE_OK &&
              archive_write_open2(to, &fd, NULL, put, NULL, NULL) == ARCHIVE_OK;

    if (!ok) {
        failed(to, label, error);
    }
    json_object_foreach (files, name, text) {
        const char *value = json_string_value(text);
        bool script = strstr(name, ".sh") != NULL || strstr(name, "-setup") != NULL;
        ok = ok && add_file(to, name, value, strlen(value), script ? 0500 : 0400, error);
    }
    ok = ok && (program == NULL || add_program(to, program, error));
    if (ok && archive_write_close(to) != ARCHIVE_OK) {
        ok = failed(to, label, error);
    }
    archive_write_free(to);
    return ok;
}

bool
configiso_write(const char *path, json_t *files, const char *program, const char *label,
                GError **error)
{
    g_autofree char *fresh = g_strdup_printf("%s.new", path);

    if (!archive_lib_load(error)) {
        return false;
    }
    haw_autofd int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "make '%s'", fresh);
    }
    if (!write_to(fd, files, program, label, error)) {
        unlink(fresh);
        return false;
    }
    return rename(fresh, path) == 0 || haw_fail_errno(error, errno, "put '%s' into place", path);
}
