/* Identifiers. */
#include "base/ids.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

void
ids_random(void *ret_bytes, size_t size)
{
    guint8 *at = ret_bytes;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        g_assert(n > 0 || errno == EINTR);
        if (n > 0) {
            at += n;
            size -= (size_t) n;
        }
    }
}

char *
ids_uuid(void)
{
    return g_uuid_string_random();
}

char *
ids_hwaddr(void)
{
    guint8 tail[3];
    ids_random(tail, sizeof tail);
    return g_strdup_printf("00:16:3e:%02x:%02x:%02x", tail[0], tail[1], tail[2]);
}

char *
ids_secret(size_t bytes)
{
    g_autofree guint8 *raw = g_malloc(bytes);
    ids_random(raw, bytes);
    GString *hex = g_string_sized_new(bytes * 2);
    for (size_t i = 0; i < bytes; i++) {
        g_string_append_printf(hex, "%02x", raw[i]);
    }
    return g_string_free(hex, FALSE);
}

bool
ids_secret_is(const char *given, const char *secret)
{
    size_t length = secret != NULL ? strlen(secret) : 0;
    if (given == NULL || secret == NULL || strlen(given) != length) {
        return false;
    }
    volatile unsigned char differ = 0; /* no early way out */
    for (size_t i = 0; i < length; i++) {
        differ |= (unsigned char) (given[i] ^ secret[i]);
    }
    return differ == 0;
}

char *
ids_petname(void)
{
    static const char *const first[] = {
        "able",  "brave",  "bright", "calm",   "civil", "clever", "eager",  "fair",   "fleet",
        "frank", "fresh",  "glad",   "grand",  "handy", "hardy",  "honest", "keen",   "kind",
        "light", "lively", "loyal",  "lucid",  "merry", "neat",   "nimble", "noble",  "proud",
        "quick", "quiet",  "ready",  "sharp",  "sleek", "smooth", "solid",  "steady", "stout",
        "sunny", "swift",  "tidy",   "trusty", "vivid", "warm",   "witty",  "young"};
    static const char *const second[] = {
        "albatross", "anchovy", "beluga",  "bream",    "cod",      "cormorant", "crab",
        "curlew",    "dolphin", "eel",     "egret",    "flounder", "gannet",    "gull",
        "haddock",   "halibut", "heron",   "herring",  "kelp",     "lobster",   "mackerel",
        "marlin",    "mussel",  "narwhal", "otter",    "oyster",   "pelican",   "perch",
        "petrel",    "pike",    "plover",  "porpoise", "prawn",    "puffin",    "ray",
        "salmon",    "seal",    "shark",   "skate",    "sole",     "sprat",     "squid",
        "stork",     "tern",    "trout",   "tuna",     "turbot",   "walrus",    "whale",
        "whelk"};
    uint16_t pick[2];
    ids_random(pick, sizeof pick);
    return g_strdup_printf("%s-%s", first[pick[0] % G_N_ELEMENTS(first)],
                           second[pick[1] % G_N_ELEMENTS(second)]);
}

char *
ids_ifname(const char *prefix)
{
    g_autofree char *tail = ids_secret(4);
    return g_strdup_printf("%.7s%s", prefix, tail);
}
