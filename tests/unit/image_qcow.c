/* The first look at a qcow2 file. */
#include "agent/image/qcow.h"

#include <string.h>

typedef struct {
    guint8 bytes[512];
} Header;

static void
put(Header *header, size_t at, guint64 value, int size)
{
    for (int i = size - 1; i >= 0; i--, value >>= 8) {
        header->bytes[at + (size_t) i] = (guint8) value;
    }
}

/* Version 3, 64 KiB clusters, 1 MiB. */
static Header
good(void)
{
    Header header = {{0}};
    memcpy(header.bytes, "QFI\xfb", 4);
    put(&header, 4, 3, 4);
    put(&header, 20, 16, 4);
    put(&header, 24, 1 << 20, 8);
    put(&header, 100, 104, 4);
    return header;
}

static const char *
refusal(const Header *header)
{
    static char text[200];
    gint64 size = -1;
    g_autoptr(GError) error = NULL;
    if (qcow_check_bytes(header->bytes, sizeof header->bytes, &size, &error)) {
        return NULL;
    }
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    g_assert_cmpint(size, ==, -1);
    g_strlcpy(text, error->message, sizeof text);
    return text;
}

static void
test_plain(void)
{
    Header header = good();
    gint64 size = 0;
    g_assert_true(qcow_check_bytes(header.bytes, sizeof header.bytes, &size, NULL));
    g_assert_cmpint(size, ==, 1 << 20);
    put(&header, 4, 2, 4);
    g_assert_true(qcow_check_bytes(header.bytes, 72, &size, NULL));
}

static void
test_other_files(void)
{
    Header backing = good(), data = good(), named = good();
    put(&backing, 8, 104, 8);
    put(&backing, 16, 11, 4);
    g_assert_nonnull(strstr(refusal(&backing), "names another file"));
    put(&data, 72, 4, 8);
    g_assert_nonnull(strstr(refusal(&data), "names another file"));
    put(&named, 104, 0x44415441, 4);
    put(&named, 108, 8, 4);
    g_assert_nonnull(strstr(refusal(&named), "names another file"));
    /* also behind a harmless extension */
    put(&named, 104, 0x6803f857, 4);
    put(&named, 108, 5, 4);
    put(&named, 120, 0xe2792aca, 4);
    g_assert_nonnull(strstr(refusal(&named), "names another file"));
}

static void
test_what_is_not_known(void)
{
    static const struct {
        size_t at;
        guint64 value;
        int size;
        const char *why;
    } bad[] = {
        {0, 0, 4, "Unexpected image format"},
        {4, 4, 4, "not that of a qcow2 file"},
        {20, 40, 4, "not that of a qcow2 file"},
        {24, 0, 8, "can't be made"},
        {24, G_MAXUINT64, 8, "can't be made"},
        {32, 1, 4, "encrypted"},
        {72, 1 << 10, 8, "features that are not known"},
        {100, 8, 4, "cut short"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        Header header = good();
        put(&header, bad[i].at, bad[i].value, bad[i].size);
        const char *why = refusal(&header);
        g_assert_nonnull(why);
        g_assert_nonnull(strstr(why, bad[i].why));
    }
}

static void
test_every_length(void)
{
    Header header = good();
    gint64 size = 0;
    for (size_t n = 0; n <= sizeof header.bytes; n++) {
        bool ok = qcow_check_bytes(header.bytes, n, &size, NULL);
        g_assert_cmpint(ok, ==, n >= 104);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow/a-plain-file-tells-its-size", test_plain);
    g_test_add_func("/qcow/what-names-another-file-is-refused", test_other_files);
    g_test_add_func("/qcow/what-is-not-known-is-refused", test_what_is_not_known);
    g_test_add_func("/qcow/a-cut-header-is-refused-at-every-length", test_every_length);
    return g_test_run();
}
