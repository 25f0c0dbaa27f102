/* agent/net/zonewire.c against the bytes of strangers: whatever comes, it is answered or passed over, in
 * messages that are no larger than they may be. */
#include "agent/net/zonewire.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
measure(const guint8 *message, gsize size, void *data)
{
    gsize *most = data;
    g_assert_cmpuint(size, >=, 12);
    g_assert_cmpuint(size, <=, *most);
    g_assert_cmpuint(message[2] & 0x80, !=, 0); /* a response */
    return true;
}

static ZoneContent *
make_content(void)
{
    static const char *const servers[] = {"ns1.example.net", "ns2.example.net", NULL};
    ZoneContent *content = zonewire_content_new("lxd.example.net", servers, 1, NULL);
    for (int i = 0; i < 40; i++) {
        g_autofree char *owner = g_strdup_printf("host%d", i);
        zonewire_add(content, owner, "TXT", 60, "\"a text that takes some room in each message\"",
                     NULL);
    }
    return content;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ZoneContent *content;
    if (content == NULL) {
        content = make_content();
    }
    for (int pass = 0; pass < 4; pass++) {
        g_autoptr(ZoneQuery) query = zonewire_parse(data, size);
        gsize most = (pass & 1) != 0 ? 65535 : 1232;
        if (query == NULL) {
            return 0;
        }
        if (zonewire_key(query) != NULL && pass >= 2) {
            zonewire_verify(query, "MDEyMzQ1Njc4OWFiY2RlZg==");
        }
        zonewire_answer(query, pass != 1 ? content : NULL, (pass & 1) != 0, measure, &most);
    }
    return 0;
}
