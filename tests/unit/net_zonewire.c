/* agent/net/zonewire.c: records that are let in, names that are turned round, answers and their
 * signatures. */
#include "agent/net/zonewire.h"

#include <libknot/libknot.h>
#include <string.h>

static const char secret[] = "MDEyMzQ1Njc4OWFiY2RlZg==";
static const char *const servers[] = {"ns1.example.net", NULL};

static ZoneContent *
make(guint records)
{
    g_autoptr(GError) error = NULL;
    ZoneContent *content = zonewire_content_new("example.net", servers, 7, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < records; i++) {
        g_autofree char *owner = g_strdup_printf("h%u", i);
        g_assert_true(zonewire_add(content, owner, "A", 300, "10.0.0.1", &error));
    }
    return content;
}

/* ---- records ---- */

static void
a_record_is_one_line_of_its_own_zone(void)
{
    static const struct {
        const char *owner, *type, *value;
        bool good;
    } cases[] = {{"web", "A", "10.0.0.1", true},
                 {"@", "MX", "10 mail.example.net.", true},
                 {"*.web", "CNAME", "web", true},
                 {"_sip._tcp", "SRV", "0 5 5060 sip.example.net.", true},
                 {"web", "TXT", "\"two words\" \"more\"", true},
                 {"web", "A", "10.0.0.1\nevil A 6.6.6.6", false},
                 {"web", "A", "10.0.0.256", false},
                 {"web", "A", "", false},
                 {"web", "TXT", "( open", false},
                 {"web", "SOA", ". . 1 1 1 1 1", false},
                 {"web", "AXFR", "", false},
                 {"web", "NONSENSE", "1", false},
                 {"web A 1.1.1.1 ;", "A", "10.0.0.1", false},
                 {"$INCLUDE", "A", "10.0.0.1", false},
                 {"web.", "A", "10.0.0.1", false},
                 {"a..b", "A", "10.0.0.1", false},
                 {"", "A", "10.0.0.1", false}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(ZoneContent) content = make(0);
        bool good =
            zonewire_add(content, cases[i].owner, cases[i].type, 60, cases[i].value, &error);
        g_assert_cmpint(good, ==, cases[i].good);
        g_assert_cmpuint(zonewire_count(content), ==, cases[i].good ? 3 : 2);
    }
}

static void
a_reverse_name_is_below_its_zone_or_not_there(void)
{
    g_autofree char *four = zonewire_reverse("0.1.10.in-addr.arpa", "10.1.0.5");
    g_autofree char *six = zonewire_reverse("d.f.ip6.arpa", "fd42::1");
    g_autofree char *other = zonewire_reverse("0.1.10.in-addr.arpa", "10.2.0.5");
    g_autofree char *near = zonewire_reverse("1.10.in-addr.arpa", "10.11.0.5");
    g_autofree char *none = zonewire_reverse("0.1.10.in-addr.arpa", "nothing");
    g_assert_cmpstr(four, ==, "5");
    g_assert_cmpstr(six, ==, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4");
    g_assert_null(other);
    g_assert_null(near);
    g_assert_null(none);
}

/* ---- messages ---- */

static gsize
ask(guint8 *wire, gsize room, guint16 type, knot_tsig_key_t *key, guint8 *digest,
    gsize *digest_size)
{
    knot_pkt_t *query = knot_pkt_new(NULL, (guint16) room, NULL);
    g_autofree knot_dname_t *name = knot_dname_from_str_alloc("example.net.");
    knot_wire_set_id(query->wire, 4711);
    g_assert_cmpint(knot_pkt_put_question(query, name, KNOT_CLASS_IN, type), ==, KNOT_EOK);
    if (key != NULL) {
        g_assert_cmpint(knot_tsig_sign(query->wire, &query->size, room, NULL, 0, digest,
                                       digest_size, key, 0, 0),
                        ==, KNOT_EOK);
    }
    gsize size = query->size;
    memcpy(wire, query->wire, size);
    knot_pkt_free(query);
    return size;
}

struct gathered {
    GPtrArray *messages; /* GBytes */
    guint stop_after;    /* 0: never */
};

static bool
gather(const guint8 *message, gsize size, void *data)
{
    struct gathered *gathered = data;
    g_ptr_array_add(gathered->messages, g_bytes_new(message, size));
    return gathered->stop_after == 0 || gathered->messages->len < gathered->stop_after;
}

static GPtrArray *
answers(const guint8 *wire, gsize size, const ZoneContent *content, bool stream, const char *key,
        guint stop_after)
{
    g_autoptr(ZoneQuery) query = zonewire_parse(wire, size);
    struct gathered gathered = {g_ptr_array_new_with_free_func((GDestroyNotify) g_bytes_unref),
                                stop_after};
    g_assert_nonnull(query);
    if (key != NULL) {
        zonewire_verify(query, key);
    }
    zonewire_answer(query, content, stream, gather, &gathered);
    return gathered.messages;
}

static knot_pkt_t *
parsed(GPtrArray *messages, guint index)
{
    gsize size;
    const void *bytes = g_bytes_get_data(g_ptr_array_index(messages, index), &size);
    knot_pkt_t *packet = knot_pkt_new(NULL, (guint16) size, NULL);
    memcpy(packet->wire, bytes, size);
    packet->size = size;
    g_assert_cmpint(knot_pkt_parse(packet, 0), ==, KNOT_EOK);
    return packet;
}

static void
the_soa_comes_first_and_last(void)
{
    guint8 wire[512];
    gsize size = ask(wire, sizeof wire, KNOT_RRTYPE_AXFR, NULL, NULL, NULL);
    g_autoptr(ZoneContent) content = make(3);
    g_autoptr(GPtrArray) messages = answers(wire, size, content, true, NULL, 0);
    g_assert_cmpuint(messages->len, ==, 1);
    knot_pkt_t *packet = parsed(messages, 0);
    const knot_pktsection_t *section = knot_pkt_section(packet, KNOT_ANSWER);
    g_assert_cmpint(knot_wire_get_id(packet->wire), ==, 4711);
    g_assert_true(knot_wire_get_aa(packet->wire));
    g_assert_cmpint(knot_pkt_rr(section, 0)->type, ==, KNOT_RRTYPE_SOA);
    g_assert_cmpint(knot_pkt_rr(section, section->count - 1)->type, ==, KNOT_RRTYPE_SOA);
    knot_pkt_free(packet);
}

/* W2 */
static void
a_large_zone_is_several_messages(void)
{
    guint8 wire[512];
    gsize size = ask(wire, sizeof wire, KNOT_RRTYPE_AXFR, NULL, NULL, NULL);
    g_autoptr(ZoneContent) content = make(8000);
    g_autoptr(GPtrArray) messages = answers(wire, size, content, true, NULL, 0);
    guint records = 0;
    g_assert_cmpuint(messages->len, >, 1);
    for (guint i = 0; i < messages->len; i++) {
        knot_pkt_t *packet = parsed(messages, i);
        records += knot_wire_get_ancount(packet->wire);
        knot_pkt_free(packet);
    }
    g_assert_cmpuint(records, ==, zonewire_count(content) + 1);
}

static void
a_receiver_that_went_gets_no_more(void)
{
    guint8 wire[512];
    gsize size = ask(wire, sizeof wire, KNOT_RRTYPE_AXFR, NULL, NULL, NULL);
    g_autoptr(ZoneContent) content = make(20000);
    g_autoptr(GPtrArray) messages = answers(wire, size, content, true, NULL, 1);
    g_assert_cmpuint(messages->len, ==, 1);
}

static void
a_datagram_is_one_message_that_may_be_truncated(void)
{
    guint8 wire[512];
    gsize size = ask(wire, sizeof wire, KNOT_RRTYPE_AXFR, NULL, NULL, NULL);
    g_autoptr(ZoneContent) content = make(1000);
    g_autoptr(GPtrArray) messages = answers(wire, size, content, false, NULL, 0);
    g_assert_cmpuint(messages->len, ==, 1);
    knot_pkt_t *packet = parsed(messages, 0);
    g_assert_true(knot_wire_get_tc(packet->wire));
    g_assert_cmpuint(packet->size, <=, 512);
    knot_pkt_free(packet);
}

static int
rcode(GPtrArray *messages)
{
    knot_pkt_t *packet = parsed(messages, 0);
    int code = knot_wire_get_rcode(packet->wire);
    knot_pkt_free(packet);
    return code;
}

static void
what_is_no_request_for_a_zone_is_refused(void)
{
    guint8 wire[512];
    g_autoptr(ZoneContent) content = make(1);
    gsize size = ask(wire, sizeof wire, KNOT_RRTYPE_A, NULL, NULL, NULL);
    g_autoptr(GPtrArray) other_type = answers(wire, size, content, true, NULL, 0);
    g_assert_cmpint(rcode(other_type), ==, KNOT_RCODE_NOTIMPL);
    size = ask(wire, sizeof wire, KNOT_RRTYPE_SOA, NULL, NULL, NULL);
    g_autoptr(GPtrArray) no_zone = answers(wire, size, NULL, true, NULL, 0);
    g_assert_cmpint(rcode(no_zone), ==, KNOT_RCODE_NXDOMAIN);
    g_assert_null(zonewire_parse(wire, 11));
    knot_wire_set_qr(wire);
    g_assert_null(zonewire_parse(wire, size));
}

/* W3 */
static void
every_message_of_a_signed_answer_is_signed(void)
{
    guint8 wire[512];
    guint8 digest[64];
    gsize digest_size = sizeof digest;
    knot_tsig_key_t key;
    g_assert_cmpint(knot_tsig_key_init(&key, "hmac-sha384", "example.net_a.", secret), ==,
                    KNOT_EOK);
    gsize size = ask(wire, sizeof wire, KNOT_RRTYPE_AXFR, &key, digest, &digest_size);
    g_autoptr(ZoneContent) content = make(8000);
    g_autoptr(GPtrArray) messages = answers(wire, size, content, true, secret, 0);
    g_assert_cmpuint(messages->len, >, 1);
    for (guint i = 0; i < messages->len; i++) {
        knot_pkt_t *packet = parsed(messages, i);
        g_assert_true(knot_pkt_has_tsig(packet));
        const knot_rrset_t *tsig = packet->tsig_rr;
        int good = i == 0 ? knot_tsig_client_check(tsig, packet->wire, packet->size, digest,
                                                   digest_size, &key, 0)
                          : knot_tsig_client_check_next(tsig, packet->wire, packet->size, digest,
                                                        digest_size, &key, 0);
        g_assert_cmpint(good, ==, KNOT_EOK);
        digest_size = knot_tsig_rdata_mac_length(tsig);
        memcpy(digest, knot_tsig_rdata_mac(tsig), digest_size);
        knot_pkt_free(packet);
    }
    knot_tsig_key_deinit(&key);
}

static void
a_wrong_signature_gets_no_zone(void)
{
    static const char *const secrets[] = {"YW5vdGhlciBzZWNyZXQgaXMgaGVyZQ==", NULL};
    for (size_t i = 0; i < G_N_ELEMENTS(secrets); i++) {
        guint8 wire[512];
        guint8 digest[64];
        gsize digest_size = sizeof digest;
        knot_tsig_key_t key;
        knot_tsig_key_init(&key, "hmac-sha256", "example.net_a.", secret);
        gsize size = ask(wire, sizeof wire, KNOT_RRTYPE_SOA, &key, digest, &digest_size);
        g_autoptr(ZoneContent) content = make(1);
        g_autoptr(GPtrArray) messages = answers(wire, size, content, true, secrets[i], 0);
        g_assert_cmpuint(messages->len, ==, 1);
        g_assert_cmpint(rcode(messages), ==, KNOT_RCODE_NOTAUTH);
        knot_tsig_key_deinit(&key);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/zonewire/a-record-is-one-line-of-its-own-zone",
                    a_record_is_one_line_of_its_own_zone);
    g_test_add_func("/zonewire/a-reverse-name-is-below-its-zone-or-not-there",
                    a_reverse_name_is_below_its_zone_or_not_there);
    g_test_add_func("/zonewire/the-soa-comes-first-and-last", the_soa_comes_first_and_last);
    g_test_add_func("/zonewire/a-large-zone-is-several-messages", a_large_zone_is_several_messages);
    g_test_add_func("/zonewire/a-receiver-that-went-gets-no-more",
                    a_receiver_that_went_gets_no_more);
    g_test_add_func("/zonewire/a-datagram-is-one-message-that-may-be-truncated",
                    a_datagram_is_one_message_that_may_be_truncated);
    g_test_add_func("/zonewire/what-is-no-request-for-a-zone-is-refused",
                    what_is_no_request_for_a_zone_is_refused);
    g_test_add_func("/zonewire/every-message-of-a-signed-answer-is-signed",
                    every_message_of_a_signed_answer_is_signed);
    g_test_add_func("/zonewire/a-wrong-signature-gets-no-zone", a_wrong_signature_gets_no_zone);
    return g_test_run();
}
