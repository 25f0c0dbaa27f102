/* shift.h: user and group ids through an id map, and what files carry of them: ACLs, capabilities.
 * Threads: any, each with a map of its own. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

struct archive_entry;

typedef struct Shift Shift;
/* From [{"Isuid","Isgid","Hostid","Nsid","Maprange"}…]; NULL or an empty array maps nothing. */
Shift *shift_new(json_t *idmap);
void shift_free(Shift *shift);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Shift, shift_free)

#define SHIFT_NOBODY 65534
/* SHIFT_NOBODY when the map hasn't the id. A NULL shift gives the id. */
guint32 shift_to_host(const Shift *shift, bool group, guint32 id);
guint32 shift_to_container(const Shift *shift, bool group, guint32 id);

/* The kernel's form of an ACL (system.posix_acl_access, …_default) from the entry's and back. The
 * bytes are the caller's to free; NULL when the entry has no such ACL. */
guint8 *shift_acl_bytes(const Shift *shift, struct archive_entry *entry, bool is_default,
                        size_t *ret_size);
/* Adds to the entry; bytes that are no ACL add nothing. */
void shift_acl_entry(const Shift *shift, struct archive_entry *entry, bool is_default,
                     const guint8 *bytes, size_t size);
