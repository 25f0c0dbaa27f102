/* The rules of sink.c for a tree that another program has written (unsquashfs): S4 and S5.
 * Nothing is followed: every directory is opened from its parent, without symlinks. */
#include "agent/image/sink.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 256

/* S5 */
static void
drop_overlay_attributes(int dir_fd, const char *base)
{
    char list[4096];
    g_autofree char *at = g_strdup_printf("/proc/self/fd/%d/%s", dir_fd, base);
    ssize_t size = llistxattr(at, list, sizeof list);
    for (ssize_t i = 0; i < size; i += (ssize_t) strlen(list + i) + 1) {
        if (g_str_has_prefix(list + i, "trusted.") || g_str_has_prefix(list + i, "user.overlay.")) {
            lremovexattr(at, list + i);
        }
    }
}

static bool
check_entry(int dir_fd, const char *base, const char *name, const struct stat *st, guint64 *skipped,
            GError **error)
{
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        bool keep;
        if (!sink_device_check(name, st->st_mode & S_IFMT, st->st_rdev, &keep, error)) {
            return false;
        }
        if (!keep) {
            ++*skipped;
            return unlinkat(dir_fd, base, 0) == 0 ||
                   haw_fail_errno(error, errno, "remove '%s'", name);
        }
    }
    drop_overlay_attributes(dir_fd, base);
    return true;
}

static bool
check_dir(int dir_fd, const char *name, int depth, guint64 *skipped, GError **error)
{
    if (depth > DEPTH_MAX) {
        return haw_fail(error, HAW_LIMIT, "\"%s\": directories are too deep", name);
    }
    DIR *dir = fdopendir(fcntl(dir_fd, F_DUPFD_CLOEXEC, 0));
    if (dir == NULL) {
        return haw_fail_errno(error, errno, "read \"%s\"", name);
    }

    bool ok = true;
    struct dirent *entry;
    while (ok && (entry = readdir(dir)) != NULL) {
        struct stat st;
        const char *base = entry->d_name;
        if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 ||
            fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        g_autofree char *full = *name != '\0' ? g_strconcat(name, "/", base, NULL) : g_strdup(base);
        ok = check_entry(dir_fd, base, full, &st, skipped, error);
        if (ok && S_ISDIR(st.st_mode)) {
            haw_autofd int fd =
                openat(dir_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            ok = fd >= 0 ? check_dir(fd, full, depth + 1, skipped, error)
                         : haw_fail_errno(error, errno, "open \"%s\"", full);
        }
    }
    closedir(dir);
    return ok;
}

bool
sink_check_tree(int root_fd, guint64 *ret_skipped, GError **error)
{
    guint64 skipped = 0;
    if (!check_dir(root_fd, "", 0, &skipped, error)) {
        return false;
    }
    *ret_skipped = skipped;
    return true;
}
