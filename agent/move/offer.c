/* Headers of LXD's migration protocol.
 * F1  A source offers what it prefers; rsync (for a raw file: the file's bytes) is always possible
 *     beside it, and its features always come along.
 * F2  A peer that does not know "bidirectional" is LXD 3.7 or older: it has xattrs, delete, compress.
 * F3  Content as subvolumes needs the header that lists them: without it, rsync.
 * F4  What a peer says is foreign: names are checked, lists bounded.
 * F5  Volatile keys that LXD 5.0 does not know stay here: it refuses a snapshot that has them.
 * F6  Before the bytes of a disk LXD sends the directory around it by an rsync without any features: they
 *     are of its type "rsync" alone. Between two of ours they hold there, too.
 * Called by moveinst.c and movecustom.c. */
#include "agent/move/offer.h"

#include "proto/grammar.h"

#include <string.h>

enum { SNAPSHOTS_MAX = 100000 };

struct Offer {
    Migrate__Header header;
    Migrate__Rsync rsync;
    Migrate__Btrfs btrfs;
    GPtrArray *idmap, *names, *snapshots; /* what the header's arrays point to */
    GPtrArray *owned;                     /* everything allocated for them */
};

/* LXD's numbers of architectures. */
static const char *const architectures[] = {
    NULL,    "i686", "x86_64", "armv7l",  "aarch64", "ppc",    "ppc64",  "ppc64le",
    "s390x", "mips", "mips64", "riscv32", "riscv64", "armv6l", "armv8l", "loongarch64",
};

/* ---- making ---- */

static void *
own(Offer *offer, size_t size)
{
    void *made = g_malloc0(size);
    g_ptr_array_add(offer->owned, made);
    return made;
}

static char *
own_text(Offer *offer, const char *text)
{
    char *made = g_utf8_make_valid(text != NULL ? text : "", -1);
    g_ptr_array_add(offer->owned, made);
    return made;
}

static Offer *
offer_alloc(void)
{
    Offer *offer = g_new0(Offer, 1);
    migrate__header__init(&offer->header);
    migrate__rsync__init(&offer->rsync);
    migrate__btrfs__init(&offer->btrfs);
    offer->owned = g_ptr_array_new_with_free_func(g_free);
    offer->idmap = g_ptr_array_new();
    offer->names = g_ptr_array_new();
    offer->snapshots = g_ptr_array_new();
    return offer;
}

void
offer_free(Offer *offer)
{
    if (offer == NULL) {
        return;
    }
    g_ptr_array_unref(offer->idmap);
    g_ptr_array_unref(offer->names);
    g_ptr_array_unref(offer->snapshots);
    g_ptr_array_unref(offer->owned);
    g_free(offer);
}

static void
set_rsync(Offer *offer, const PourRsync *how)
{
    Migrate__Rsync *rsync = &offer->rsync;
    rsync->has_xattrs = rsync->has_delete_ = rsync->has_compress = rsync->has_bidirectional = true;
    rsync->xattrs = how->xattrs;
    rsync->delete_ = how->del;
    rsync->compress = how->compress;
    rsync->bidirectional = true;
    rsync->has_whole = rsync->whole = how->whole;
    offer->header.rsync = rsync;
}

static void
set_btrfs(Offer *offer)
{
    Migrate__Btrfs *btrfs = &offer->btrfs;
    btrfs->has_migration_header = btrfs->migration_header = true;
    btrfs->has_header_subvolumes = btrfs->header_subvolumes = true;
    offer->header.btrfs = btrfs;
}

Offer *
offer_new(const OfferOurs *ours)
{
    Offer *offer = offer_alloc();
    const PourRsync all = {.xattrs = true, .del = true, .compress = ours->compress, .whole = true};
    offer->header.fs = ours->btrfs   ? MIGRATE__FS_TYPE__BTRFS
                       : ours->block ? MIGRATE__FS_TYPE__BLOCK_AND_RSYNC
                                     : MIGRATE__FS_TYPE__RSYNC;
    set_rsync(offer, &all); /* F1 */
    if (ours->btrfs) {
        set_btrfs(offer);
    }
    offer->header.has_index_header_version = true;
    offer->header.index_header_version = 1;
    return offer;
}

Offer *
offer_answer(const OfferAgreed *agreed, bool refresh)
{
    Offer *offer = offer_alloc();
    offer->header.fs = agreed->fs;
    set_rsync(offer, &agreed->rsync);
    if (agreed->fs == MIGRATE__FS_TYPE__BTRFS) {
        set_btrfs(offer);
    }
    offer->header.has_refresh = true;
    offer->header.refresh = refresh;
    offer->header.has_index_header_version = true;
    offer->header.index_header_version = agreed->index_header ? 1 : 0;
    return offer;
}

Migrate__Header *
offer_header(Offer *offer)
{
    offer->header.n_idmap = offer->idmap->len;
    offer->header.idmap = (Migrate__IdMap **) offer->idmap->pdata;
    offer->header.n_snapshot_names = offer->names->len;
    offer->header.snapshot_names = (char **) offer->names->pdata;
    offer->header.n_snapshots = offer->snapshots->len;
    offer->header.snapshots = (Migrate__Snapshot **) offer->snapshots->pdata;
    return &offer->header;
}

void
offer_add_idmap(Offer *offer, json_t *idmap)
{
    size_t i;
    json_t *range;
    json_array_foreach (idmap, i, range) {
        Migrate__IdMap *line = own(offer, sizeof *line);
        migrate__id_map__init(line);
        line->isuid = json_is_true(json_object_get(range, "Isuid"));
        line->isgid = json_is_true(json_object_get(range, "Isgid"));
        line->hostid = (gint32) json_integer_value(json_object_get(range, "Hostid"));
        line->nsid = (gint32) json_integer_value(json_object_get(range, "Nsid"));
        line->maprange = (gint32) json_integer_value(json_object_get(range, "Maprange"));
        g_ptr_array_add(offer->idmap, line);
    }
}

/* F5 */
static bool
travels(const char *key)
{
    return strcmp(key, "volatile.uuid.generation") != 0 &&
           !g_str_has_prefix(key, "volatile.hawser.");
}

static Migrate__Config **
own_config(Offer *offer, json_t *config, size_t *ret_count)
{
    const char *key;
    json_t *value;
    size_t count = 0;
    Migrate__Config **list = own(offer, (json_object_size(config) + 1) * sizeof *list);
    json_object_foreach (config, key, value) {
        if (!travels(key)) {
            continue;
        }
        Migrate__Config *line = own(offer, sizeof *line);
        migrate__config__init(line);
        line->key = own_text(offer, key);
        line->value = own_text(offer, json_string_value(value));
        list[count++] = line;
    }
    *ret_count = count;
    return list;
}

static Migrate__Device **
own_devices(Offer *offer, json_t *devices, size_t *ret_count)
{
    const char *name;
    json_t *device;
    size_t count = 0;
    Migrate__Device **list = own(offer, (json_object_size(devices) + 1) * sizeof *list);
    json_object_foreach (devices, name, device) {
        Migrate__Device *line = own(offer, sizeof *line);
        migrate__device__init(line);
        line->name = own_text(offer, name);
        line->config = own_config(offer, device, &line->n_config);
        list[count++] = line;
    }
    *ret_count = count;
    return list;
}

static gint32
architecture_number(const char *name)
{
    for (size_t i = 1; i < G_N_ELEMENTS(architectures); i++) {
        if (g_strcmp0(architectures[i], name) == 0) {
            return (gint32) i;
        }
    }
    return 0;
}

void
offer_add_snapshot(Offer *offer, const SnapRow *snap)
{
    size_t i;
    json_t *profile;
    Migrate__Snapshot *made = own(offer, sizeof *made);
    migrate__snapshot__init(made);
    made->name = own_text(offer, snap->name);
    made->local_config = own_config(offer, snap->config, &made->n_local_config);
    made->local_devices = own_devices(offer, snap->devices, &made->n_local_devices);
    made->profiles = own(offer, (json_array_size(snap->profiles) + 1) * sizeof(char *));
    json_array_foreach (snap->profiles, i, profile) {
        made->profiles[made->n_profiles++] = own_text(offer, json_string_value(profile));
    }
    made->ephemeral = snap->ephemeral;
    made->stateful = snap->stateful;
    made->architecture = architecture_number(snap->architecture);
    made->has_creation_date = made->has_last_used_date = made->has_expiry_date = true;
    made->creation_date = snap->created_at / G_USEC_PER_SEC;
    made->expiry_date = snap->expires_at / G_USEC_PER_SEC;
    g_ptr_array_add(offer->snapshots, made);
    g_ptr_array_add(offer->names, made->name);
}

/* ---- reading ---- */

/* F2 */
static PourRsync
match_rsync(const Migrate__Rsync *theirs, bool compress)
{
    if (theirs == NULL || !theirs->bidirectional) {
        return (PourRsync){.xattrs = true, .del = true, .compress = true};
    }
    return (PourRsync){.xattrs = theirs->xattrs,
                       .del = theirs->delete_,
                       .compress = theirs->compress && compress,
                       .whole = theirs->whole};
}

bool
offer_match(const Migrate__Header *theirs, const OfferOurs *ours, OfferAgreed *ret, GError **error)
{
    OfferAgreed agreed = {.rsync = match_rsync(theirs->rsync, ours->compress),
                          .index_header =
                              theirs->has_index_header_version && theirs->index_header_version > 0};
    bool lists = theirs->btrfs != NULL && theirs->btrfs->migration_header &&
                 theirs->btrfs->header_subvolumes;
    if (theirs->fs == MIGRATE__FS_TYPE__BTRFS && ours->btrfs && lists) { /* F3 */
        agreed.fs = MIGRATE__FS_TYPE__BTRFS;
    } else if (ours->block) {
        agreed.fs = MIGRATE__FS_TYPE__BLOCK_AND_RSYNC;
    } else if (theirs->fs == MIGRATE__FS_TYPE__BLOCK_AND_RSYNC) {
        return haw_fail(error, HAW_UNSUPPORTED, "No matching migration types found");
    } else {
        agreed.fs = MIGRATE__FS_TYPE__RSYNC;
    }
    if (agreed.fs == MIGRATE__FS_TYPE__BLOCK_AND_RSYNC && !agreed.rsync.whole) { /* F6 */
        agreed.rsync = (PourRsync){0};
    }
    *ret = agreed;
    return true;
}

static json_t *
read_config(Migrate__Config *const *list, size_t count)
{
    json_t *config = json_object();
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(config, list[i]->key, json_string(list[i]->value));
    }
    return config;
}

static SnapRow *
read_snapshot(const Migrate__Snapshot *theirs)
{
    SnapRow *row = g_new0(SnapRow, 1);
    row->name = g_strdup(theirs->name);
    row->description = g_strdup("");
    gint32 number = theirs->architecture;
    bool known = number > 0 && (size_t) number < G_N_ELEMENTS(architectures);
    row->architecture = g_strdup(known ? architectures[number] : "");
    row->config = read_config(theirs->local_config, theirs->n_local_config);
    row->devices = json_object();
    for (size_t i = 0; i < theirs->n_local_devices; i++) {
        const Migrate__Device *device = theirs->local_devices[i];
        json_object_set_new(row->devices, device->name,
                            read_config(device->config, device->n_config));
    }
    row->profiles = json_array();
    for (size_t i = 0; i < theirs->n_profiles; i++) {
        json_array_append_new(row->profiles, json_string(theirs->profiles[i]));
    }
    row->ephemeral = theirs->ephemeral;
    row->stateful = false; /* memory does not travel */
    row->created_at = MAX(theirs->creation_date, 0) * G_USEC_PER_SEC;
    row->expires_at = MAX(theirs->expiry_date, 0) * G_USEC_PER_SEC;
    return row;
}

/* F4 */
static bool
check_name(const char *name, GHashTable *seen, GError **error)
{
    if (*name == '\0' || strchr(name, '/') != NULL || *name == '.' || strlen(name) > 180 ||
        !g_utf8_validate(name, -1, NULL) || strpbrk(name, " \n\t") != NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid snapshot name \"%s\"", name);
    }
    return g_hash_table_add(seen, (void *) name) ||
           haw_fail(error, HAW_INVALID, "Two snapshots are named \"%s\"", name);
}

GPtrArray *
offer_snapshots(const Migrate__Header *theirs, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify) snap_row_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    if (theirs->n_snapshots > SNAPSHOTS_MAX || theirs->n_snapshot_names > SNAPSHOTS_MAX) {
        haw_fail(error, HAW_LIMIT, "Too many snapshots");
        return NULL;
    }
    for (size_t i = 0; i < theirs->n_snapshots; i++) {
        if (!check_name(theirs->snapshots[i]->name, seen, error)) {
            return NULL;
        }
        g_ptr_array_add(rows, read_snapshot(theirs->snapshots[i]));
    }
    for (size_t i = 0; theirs->n_snapshots == 0 && i < theirs->n_snapshot_names; i++) {
        Migrate__Snapshot bare = MIGRATE__SNAPSHOT__INIT;
        bare.name = theirs->snapshot_names[i];
        if (!check_name(bare.name, seen, error)) {
            return NULL;
        }
        g_ptr_array_add(rows, read_snapshot(&bare));
    }
    return g_steal_pointer(&rows);
}

json_t *
offer_idmap(const Migrate__Header *theirs)
{
    json_t *idmap = json_array();
    for (size_t i = 0; i < theirs->n_idmap && i < 1000; i++) {
        const Migrate__IdMap *line = theirs->idmap[i];
        json_array_append_new(idmap,
                              json_pack("{s:b,s:b,s:I,s:I,s:I}", "Isuid", line->isuid, "Isgid",
                                        line->isgid, "Hostid", (json_int_t) (guint32) line->hostid,
                                        "Nsid", (json_int_t) (guint32) line->nsid, "Maprange",
                                        (json_int_t) (guint32) line->maprange));
    }
    return idmap;
}

bool
offer_same_snapshot(const SnapRow *a, const SnapRow *b)
{
    return strcmp(a->name, b->name) == 0 &&
           (a->created_at == 0 || b->created_at == 0 ||
            a->created_at / G_USEC_PER_SEC == b->created_at / G_USEC_PER_SEC);
}
