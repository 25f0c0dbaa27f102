/* acl.h: owners and POSIX ACLs of archive entries, with ids through an id map.
 * Threads: any. 'idmap' is InstRoot's list, NULL for ids as they are; an id that it hasn't becomes
 * ACL_NOBODY. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

struct archive_entry;

#define ACL_NOBODY 65534
guint32 acl_id_to_host(json_t *idmap, bool group, guint32 id);
guint32 acl_id_to_container(json_t *idmap, bool group, guint32 id);

/* The kernel's form of an ACL (system.posix_acl_access, …_default) from the entry's. The bytes are
 * the caller's to free; NULL when the entry has no such ACL. */
guint8 *acl_from_entry(json_t *idmap, struct archive_entry *entry, bool is_default,
                       size_t *ret_size);
/* And back: adds to the entry; bytes that are no ACL add nothing. */
void acl_to_entry(json_t *idmap, struct archive_entry *entry, bool is_default, const guint8 *bytes,
                  size_t size);
