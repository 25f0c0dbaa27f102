/* Headers of copies between servers: what both sides end up doing. */
#include "agent/move/offer.h"
#include "agent/move/subvols.h"

#include <string.h>

/* What the other side has after the message went over the wire. */
static Migrate__Header *
over_the_wire(Offer *offer)
{
    Migrate__Header *header = offer_header(offer);
    size_t size = migrate__header__get_packed_size(header);
    g_autofree guint8 *bytes = g_malloc(size);
    migrate__header__pack(header, bytes);
    Migrate__Header *read = migrate__header__unpack(NULL, size, bytes);
    g_assert_nonnull(read);
    return read;
}

static OfferAgreed
agree(const OfferOurs *source, const OfferOurs *target)
{
    OfferAgreed agreed = {0};
    g_autoptr(Offer) offer = offer_new(source);
    Migrate__Header *theirs = over_the_wire(offer);
    g_assert_true(offer_match(theirs, target, &agreed, NULL));
    migrate__header__free_unpacked(theirs, NULL);
    return agreed;
}

static void
test_btrfs_when_both_have_it(void)
{
    const OfferOurs has = {.btrfs = true}, lacks = {0};
    g_assert_cmpint(agree(&has, &has).fs, ==, MIGRATE__FS_TYPE__BTRFS);
    g_assert_cmpint(agree(&has, &lacks).fs, ==, MIGRATE__FS_TYPE__RSYNC);
    g_assert_cmpint(agree(&lacks, &has).fs, ==, MIGRATE__FS_TYPE__RSYNC);
}

static void
test_features_are_what_both_have(void)
{
    const OfferOurs compresses = {.compress = true}, plain = {0};
    OfferAgreed both = agree(&compresses, &compresses), one = agree(&compresses, &plain);
    g_assert_true(both.rsync.compress && both.rsync.whole && both.rsync.xattrs);
    g_assert_false(one.rsync.compress);
    g_assert_true(one.rsync.del);
}

static void
test_an_old_peer_has_three_features(void)
{
    const OfferOurs ours = {.btrfs = true};
    OfferAgreed agreed = {0};
    Migrate__Header old = MIGRATE__HEADER__INIT;
    old.fs = MIGRATE__FS_TYPE__ZFS;
    g_assert_true(offer_match(&old, &ours, &agreed, NULL));
    g_assert_cmpint(agreed.fs, ==, MIGRATE__FS_TYPE__RSYNC);
    g_assert_true(agreed.rsync.compress && !agreed.rsync.whole && !agreed.index_header);
}

static void
test_block_content_travels_as_a_file_or_as_a_subvolume(void)
{
    const OfferOurs block = {.block = true}, files = {0};
    const OfferOurs subvolume = {.block = true, .btrfs = true};
    g_assert_cmpint(agree(&block, &block).fs, ==, MIGRATE__FS_TYPE__BLOCK_AND_RSYNC);
    g_assert_cmpint(agree(&subvolume, &subvolume).fs, ==, MIGRATE__FS_TYPE__BTRFS);
    g_assert_cmpint(agree(&subvolume, &block).fs, ==, MIGRATE__FS_TYPE__BLOCK_AND_RSYNC);
    g_assert_cmpint(agree(&block, &subvolume).fs, ==, MIGRATE__FS_TYPE__BLOCK_AND_RSYNC);
    OfferAgreed agreed = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Offer) offer = offer_new(&block);
    g_assert_false(offer_match(offer_header(offer), &files, &agreed, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_UNSUPPORTED);
}

static SnapRow
snapshot(const char *name)
{
    return (SnapRow){.name = (char *) name,
                     .architecture = (char *) "x86_64",
                     .created_at = G_GINT64_CONSTANT(1700000000) * G_USEC_PER_SEC + 123456,
                     .expires_at = 0,
                     .config = json_pack("{s:s,s:s}", "user.a", "b", "volatile.uuid.generation",
                                         "unknown to LXD 5.0"),
                     .devices = json_pack("{s:{s:s,s:s}}", "root", "type", "disk", "path", "/"),
                     .profiles = json_pack("[s,s]", "default", "web")};
}

static void
snapshot_done(SnapRow *row)
{
    json_decref(row->config);
    json_decref(row->devices);
    json_decref(row->profiles);
}

static void
test_snapshots_survive_the_wire(void)
{
    const OfferOurs ours = {0};
    g_autoptr(Offer) offer = offer_new(&ours);
    SnapRow row = snapshot("s0");
    offer_add_snapshot(offer, &row);
    Migrate__Header *theirs = over_the_wire(offer);
    g_autoptr(GPtrArray) rows = offer_snapshots(theirs, NULL);
    g_assert_cmpuint(rows->len, ==, 1);
    const SnapRow *read = rows->pdata[0];
    g_assert_true(offer_same_snapshot(read, &row));
    g_assert_cmpstr(read->architecture, ==, "x86_64");
    g_assert_true(json_equal(read->devices, row.devices) &&
                  json_equal(read->profiles, row.profiles));
    g_assert_cmpuint(json_object_size(read->config), ==, 1);
    migrate__header__free_unpacked(theirs, NULL);
    snapshot_done(&row);
}

static void
test_names_that_are_no_names_are_refused(void)
{
    static const char *const bad[] = {"", "a/b", "..", ".hidden", "with space", "\xff"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        char *names[] = {(char *) bad[i]};
        Migrate__Header header = MIGRATE__HEADER__INIT;
        header.n_snapshot_names = 1;
        header.snapshot_names = names;
        g_autoptr(GError) error = NULL;
        g_assert_null(offer_snapshots(&header, &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
}

static void
test_two_snapshots_of_one_name_are_refused(void)
{
    char *names[] = {(char *) "s", (char *) "s"};
    Migrate__Header header = MIGRATE__HEADER__INIT;
    header.n_snapshot_names = 2;
    header.snapshot_names = names;
    g_assert_null(offer_snapshots(&header, NULL));
}

static void
test_paths_of_subvolumes_stay_inside(void)
{
    static const struct {
        const char *path;
        bool fine;
    } cases[] = {{"/a", true},       {"/a/b", true}, {"a", false},     {"/..", false},
                 {"/a/../b", false}, {"//", false},  {"/a//b", false}, {"/./a", false}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_auto_t *list = json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "subvolumes", "path", "/",
                                      "snapshot", "", "path", cases[i].path, "snapshot", "");
        g_assert_cmpint(subvols_check(list, NULL), ==, cases[i].fine);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/offer/btrfs-when-both-have-it", test_btrfs_when_both_have_it);
    g_test_add_func("/offer/features-are-what-both-have", test_features_are_what_both_have);
    g_test_add_func("/offer/an-old-peer-has-three-features", test_an_old_peer_has_three_features);
    g_test_add_func("/offer/block-content-travels-as-a-file-or-as-a-subvolume",
                    test_block_content_travels_as_a_file_or_as_a_subvolume);
    g_test_add_func("/offer/snapshots-survive-the-wire", test_snapshots_survive_the_wire);
    g_test_add_func("/offer/names-that-are-no-names-are-refused",
                    test_names_that_are_no_names_are_refused);
    g_test_add_func("/offer/two-snapshots-of-one-name-are-refused",
                    test_two_snapshots_of_one_name_are_refused);
    g_test_add_func("/subvols/paths-stay-inside", test_paths_of_subvolumes_stay_inside);
    return g_test_run();
}
