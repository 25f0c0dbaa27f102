/* sysfs.h: one value a file, read without fuss. What is not there is empty, -1 or NULL: hardware that
 * does not say is no error. Threads: any. */
#pragma once
#include <glib.h>

/* The file's text without blanks at its ends; "" when it can't be read; caller frees. */
char *sysfs_text(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* A decimal or 0x number; 'missing' when there is none. */
gint64 sysfs_int(gint64 missing, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* The last part of where a link leads ("virtio-pci"); "" without; caller frees. */
char *sysfs_link(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Names in a directory, sorted by number where they have one, without dot entries; NULL-terminated,
 * caller frees with g_strfreev. */
char **sysfs_list(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* The PCI device that an object in sysfs hangs on: "0000:00:03.0", "" for none; caller frees. */
char *sysfs_pci_of(const char *format, ...) G_GNUC_PRINTF(1, 2);
