/* sysfs as values. */
#include "hw/sysfs.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { SYSFS_MAX = 64 * 1024 };

#define PATH_OF(format, path)                                                                      \
    va_list args;                                                                                  \
    va_start(args, format);                                                                        \
    g_autofree char *path = g_strdup_vprintf(format, args);                                        \
    va_end(args)

static char *
read_text(const char *path)
{
    char *text = NULL;
    gsize size = 0;
    if (!g_file_get_contents(path, &text, &size, NULL) || size > SYSFS_MAX ||
        !g_utf8_validate(text, -1, NULL)) {
        g_free(text);
        return g_strdup("");
    }
    return g_strstrip(text);
}

char *
sysfs_text(const char *format, ...)
{
    PATH_OF(format, path);
    return read_text(path);
}

gint64
sysfs_int(gint64 missing, const char *format, ...)
{
    PATH_OF(format, path);
    g_autofree char *text = read_text(path);
    char *end;
    gint64 value = g_ascii_strtoll(text, &end, 0);
    return end != text ? value : missing;
}

char *
sysfs_link(const char *format, ...)
{
    PATH_OF(format, path);
    g_autofree char *target = g_file_read_link(path, NULL);
    return target != NULL ? g_path_get_basename(target) : g_strdup("");
}

/* "cpu10" behind "cpu9": text first, then the number at the end. */
static int
compare(const void *a, const void *b)
{
    const char *left = *(char *const *) a, *right = *(char *const *) b;
    size_t i = strcspn(left, "0123456789"), j = strcspn(right, "0123456789");
    if (i == j && left[i] != '\0' && right[j] != '\0' && strncmp(left, right, i) == 0) {
        char *left_end, *right_end;
        guint64 m = g_ascii_strtoull(left + i, &left_end, 10);
        guint64 n = g_ascii_strtoull(right + j, &right_end, 10);
        if (m != n && *left_end == '\0' && *right_end == '\0') {
            return m < n ? -1 : 1;
        }
    }
    return strcmp(left, right);
}

char **
sysfs_list(const char *format, ...)
{
    PATH_OF(format, path);
    GPtrArray *names = g_ptr_array_new();
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            g_ptr_array_add(names, g_strdup(entry->d_name));
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    if (names->len > 0) {
        qsort(names->pdata, names->len, sizeof(void *), compare);
    }
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(names, FALSE);
}

char *
sysfs_pci_of(const char *format, ...)
{
    PATH_OF(format, path);
    char real[PATH_MAX];
    if (realpath(path, real) == NULL) {
        return g_strdup("");
    }
    /* The nearest above that the PCI bus knows. */
    for (char *slash = strrchr(real, '/'); slash != NULL && slash != real;
         slash = strrchr(real, '/')) {
        g_autofree char *known = g_strdup_printf("/sys/bus/pci/devices/%s", slash + 1);
        if (g_file_test(known, G_FILE_TEST_EXISTS)) {
            return g_strdup(slash + 1);
        }
        *slash = '\0';
    }
    return g_strdup("");
}
