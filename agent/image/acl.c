/* Owners and ACLs between the host and a container.
 * On disk an unprivileged container's files may belong to mapped ids; archives always have the ids
 * the container sees. POSIX ACLs name ids too, in a binary form of the kernel's (little endian:
 * version, then tag, permissions, id of each entry), which libarchive knows only as entries. */
#include "agent/image/acl.h"

#include "agent/image/archive_lib.h"

#include "agent/inst/shift.h"

#include <linux/posix_acl_xattr.h>
#include <string.h>

guint32
acl_id_to_host(json_t *idmap, bool group, guint32 id)
{
    gint64 mapped = shift_to_host(idmap, group ? SHIFT_GID : SHIFT_UID, id);
    return mapped == SHIFT_NONE ? ACL_NOBODY : (guint32) mapped;
}

guint32
acl_id_to_container(json_t *idmap, bool group, guint32 id)
{
    gint64 mapped = shift_from_host(idmap, group ? SHIFT_GID : SHIFT_UID, id);
    return mapped == SHIFT_NONE ? ACL_NOBODY : (guint32) mapped;
}

static const struct {
    int archive;
    guint16 kernel;
} acl_tags[] = {
    {ARCHIVE_ENTRY_ACL_USER_OBJ, 0x01},  {ARCHIVE_ENTRY_ACL_USER, 0x02},
    {ARCHIVE_ENTRY_ACL_GROUP_OBJ, 0x04}, {ARCHIVE_ENTRY_ACL_GROUP, 0x08},
    {ARCHIVE_ENTRY_ACL_MASK, 0x10},      {ARCHIVE_ENTRY_ACL_OTHER, 0x20},
};

static int
by_tag_and_id(gconstpointer a, gconstpointer b)
{
    const struct posix_acl_xattr_entry *left = a, *right = b;
    int tags = (int) GUINT16_FROM_LE(left->e_tag) - (int) GUINT16_FROM_LE(right->e_tag);
    if (tags != 0) {
        return tags;
    }
    guint32 l = GUINT32_FROM_LE(left->e_id), r = GUINT32_FROM_LE(right->e_id);
    return l < r ? -1 : l > r;
}

guint8 *
acl_from_entry(json_t *idmap, struct archive_entry *entry, bool is_default, size_t *ret_size)
{
    int want = is_default ? ARCHIVE_ENTRY_ACL_TYPE_DEFAULT : ARCHIVE_ENTRY_ACL_TYPE_ACCESS;
    /* The three plain entries come from the mode; alone they are no ACL. */
    int count = archive_entry_acl_reset(entry, want);
    if (count == 0 || (!is_default && count <= 3)) {
        return NULL;
    }

    g_autoptr(GArray) list = g_array_new(FALSE, TRUE, sizeof(struct posix_acl_xattr_entry));
    int type, permset, tag, id;
    const char *name;
    while (archive_entry_acl_next(entry, want, &type, &permset, &tag, &id, &name) == ARCHIVE_OK) {
        struct posix_acl_xattr_entry one = {.e_perm = GUINT16_TO_LE((guint16) (permset & 7)),
                                            .e_id = GUINT32_TO_LE((guint32) -1)};
        for (size_t i = 0; i < G_N_ELEMENTS(acl_tags); i++) {
            if (acl_tags[i].archive == tag) {
                one.e_tag = GUINT16_TO_LE(acl_tags[i].kernel);
            }
        }
        if (tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP) {
            guint32 mapped =
                acl_id_to_host(idmap, tag == ARCHIVE_ENTRY_ACL_GROUP, (guint32) MAX(id, 0));
            one.e_id = GUINT32_TO_LE(mapped);
        }
        if (one.e_tag != 0) {
            g_array_append_val(list, one);
        }
    }
    g_array_sort(list, by_tag_and_id);

    struct posix_acl_xattr_header header = {.a_version = GUINT32_TO_LE(2)};
    size_t body = list->len * sizeof(struct posix_acl_xattr_entry);
    guint8 *bytes = g_malloc(sizeof header + body);
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + sizeof header, list->data, body);
    *ret_size = sizeof header + body;
    return bytes;
}

void
acl_to_entry(json_t *idmap, struct archive_entry *entry, bool is_default, const guint8 *bytes,
             size_t size)
{
    struct posix_acl_xattr_header header;
    struct posix_acl_xattr_entry one;
    if (size < sizeof header || (size - sizeof header) % sizeof one != 0) {
        return;
    }
    memcpy(&header, bytes, sizeof header);
    if (GUINT32_FROM_LE(header.a_version) != 2) {
        return;
    }

    int type = is_default ? ARCHIVE_ENTRY_ACL_TYPE_DEFAULT : ARCHIVE_ENTRY_ACL_TYPE_ACCESS;
    for (size_t at = sizeof header; at < size; at += sizeof one) {
        memcpy(&one, bytes + at, sizeof one);
        for (size_t i = 0; i < G_N_ELEMENTS(acl_tags); i++) {
            if (acl_tags[i].kernel != GUINT16_FROM_LE(one.e_tag)) {
                continue;
            }
            int tag = acl_tags[i].archive;
            int id = -1;
            if (tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP) {
                id = (int) acl_id_to_container(idmap, tag == ARCHIVE_ENTRY_ACL_GROUP,
                                               GUINT32_FROM_LE(one.e_id));
            }
            archive_entry_acl_add_entry(entry, type, GUINT16_FROM_LE(one.e_perm) & 7, tag, id,
                                        NULL);
        }
    }
}
