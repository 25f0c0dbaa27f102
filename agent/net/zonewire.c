/* DNS messages, by libknot and libzscanner. Chosen over ldns for three reasons: its packet code is the
 * one of a name server that meets the open internet, its TSIG has the whole hmac-sha family (ldns lacks
 * sha224 and sha384), and it signs the second and later messages of a transfer.
 * W1  Every byte of a query is foreign: nothing is taken from it that libknot did not parse.
 * W2  A transfer is as many messages as it needs, SOA first and last (LXD puts all into one, and fails
 *     at 64 KiB).
 * W3  A query that is signed rightly gets signed answers, each message over the one before (RFC 8945).
 * W4  What users write into records is one record or an error: no second line, no directive.
 * Called by zone_server.c (messages), zone_content.c, zone_records.c (records). */
#include "agent/net/zonewire.h"

#include <libdnssec/tsig.h>
#include <libknot/libknot.h>
#include <libzscanner/scanner.h>
#include <string.h>

#include "agent/net/subnet.h"

enum { SOA_TTL = 3600, NS_TTL = 300, UDP_SIZE = 512, UDP_MOST = 1232, DIGEST_MOST = 64 };

struct ZoneContent {
    char *zone;
    GPtrArray *records; /* knot_rrset_t; the SOA first */
    guint ns_count;     /* NS of the zone itself, behind the SOA */
};

struct ZoneQuery {
    knot_pkt_t *packet; /* owns its wire */
    char *zone, *key;
    int rcode;  /* of an answer that is none of ours to fill */
    int tsig;   /* KNOT_RCODE_*, of the signature; NOERROR: none, or right */
    bool keyed; /* 'secret' is set */
    knot_tsig_key_t secret;
    guint64 time_signed;
};

/* ---- records ---- */

static void
rrset_free(gpointer pointer)
{
    knot_rrset_free(pointer, NULL);
}

/* W4 */
bool
zonewire_check_name(const char *name, GError **error)
{
    g_auto(GStrv) labels = g_strsplit(name, ".", -1);
    if (strcmp(name, "@") == 0) {
        return true;
    }
    for (char **label = labels; *label != NULL; label++) {
        size_t length = strlen(*label);
        bool good = length > 0 && length <= 63;
        for (const char *at = *label; good && *at != '\0'; at++) {
            good = g_ascii_isalnum(*at) || strchr("-_*/", *at) != NULL; /* "/": RFC 2317 */
        }
        if (!good) {
            return haw_fail(error, HAW_INVALID, "Invalid DNS name \"%s\"", name);
        }
    }
    return (labels[0] != NULL && strlen(name) <= 250) ||
           haw_fail(error, HAW_INVALID, "Invalid DNS name \"%s\"", name);
}

static bool
scan(ZoneContent *content, const char *line, GError **error)
{
    g_autofree zs_scanner_t *scanner = g_malloc0(sizeof *scanner);
    if (zs_init(scanner, ".", KNOT_CLASS_IN, SOA_TTL) != 0) {
        return haw_fail(error, HAW_BUG, "cannot make a scanner of DNS records");
    }
    bool one = zs_set_input_string(scanner, line, strlen(line)) == 0 &&
               zs_parse_record(scanner) == 0 && scanner->state == ZS_STATE_DATA;
    knot_rrset_t *record = NULL;
    if (one) {
        record = knot_rrset_new(scanner->r_owner, scanner->r_type, scanner->r_class, scanner->r_ttl,
                                NULL);
        one = record != NULL &&
              knot_rrset_add_rdata(record, scanner->r_data, (guint16) scanner->r_data_length,
                                   NULL) == KNOT_EOK;
    }
    if (one) {
        g_ptr_array_add(content->records, record);
    } else {
        const char *why =
            scanner->error.code != 0 ? zs_strerror(scanner->error.code) : "not a record";
        haw_fail(error, HAW_INVALID, "Bad DNS record: %s", why);
        knot_rrset_free(record, NULL);
    }
    zs_deinit(scanner);
    return one;
}

static bool
is_one_line(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (g_ascii_iscntrl(*at)) {
            return false;
        }
    }
    return true;
}

bool
zonewire_add(ZoneContent *content, const char *owner, const char *type, guint32 ttl,
             const char *value, GError **error)
{
    guint16 number;
    bool apex = strcmp(owner, "@") == 0;
    if (!zonewire_check_name(owner, error)) {
        return false;
    }
    if (knot_rrtype_from_string(type, &number) != 0 || knot_rrtype_is_metatype(number) ||
        number == KNOT_RRTYPE_SOA) {
        return haw_fail(error, HAW_INVALID, "Bad DNS record: type \"%s\" cannot be used", type);
    }
    if (!is_one_line(value)) {
        return haw_fail(error, HAW_INVALID, "Bad DNS record: the value is more than a line");
    }
    g_autofree char *line = g_strdup_printf("%s%s%s. %u IN %s %s\n", apex ? "" : owner,
                                            apex ? "" : ".", content->zone, ttl, type, value);
    return scan(content, line, error);
}

ZoneContent *
zonewire_content_new(const char *zone, const char *const *nameservers, guint32 serial,
                     GError **error)
{
    g_autoptr(ZoneContent) content = g_new0(ZoneContent, 1);
    content->zone = g_strdup(zone);
    content->records = g_ptr_array_new_with_free_func(rrset_free);
    g_autofree char *mail = nameservers[0] != NULL ? g_strconcat(nameservers[0], ".", NULL)
                                                   : g_strconcat("hostmaster.", zone, ".", NULL);
    g_autofree char *line = g_strdup_printf("%s. %d IN SOA %s. %s %u 120 60 86400 30\n", zone,
                                            SOA_TTL, zone, mail, serial);
    if (!zonewire_check_name(zone, error) || !is_one_line(mail) || !scan(content, line, error)) {
        haw_push(error, "zone \"%s\"", zone);
        return NULL;
    }
    for (; *nameservers != NULL; nameservers++) {
        g_autofree char *target = g_strconcat(*nameservers, ".", NULL);
        if (!zonewire_add(content, "@", "NS", NS_TTL, target, error)) {
            haw_push(error, "name server \"%s\"", *nameservers);
            return NULL;
        }
        content->ns_count++;
    }
    return g_steal_pointer(&content);
}

void
zonewire_content_free(ZoneContent *content)
{
    if (content != NULL) {
        g_free(content->zone);
        g_ptr_array_unref(content->records);
        g_free(content);
    }
}

guint
zonewire_count(const ZoneContent *content)
{
    return content->records->len;
}

char *
zonewire_reverse(const char *zone, const char *address)
{
    struct subnet parsed;
    g_autoptr(GString) name = g_string_new(NULL);
    g_autofree char *suffix = g_strconcat(".", zone, NULL);
    if (!subnet_parse(address, &parsed)) {
        return NULL;
    }
    if (parsed.family == AF_INET) {
        for (int i = 3; i >= 0; i--) {
            g_string_append_printf(name, "%u.", parsed.address[i]);
        }
        g_string_append(name, "in-addr.arpa");
    } else {
        for (int i = 15; i >= 0; i--) {
            g_string_append_printf(name, "%x.%x.", parsed.address[i] & 15, parsed.address[i] >> 4);
        }
        g_string_append(name, "ip6.arpa");
    }
    return g_str_has_suffix(name->str, suffix) ? g_strndup(name->str, name->len - strlen(suffix))
                                               : NULL;
}

/* ---- queries ---- */

static char *
text_of_name(const knot_dname_t *name)
{
    char text[KNOT_DNAME_TXT_MAXLEN + 1];
    if (name == NULL || knot_dname_to_str(text, name, sizeof text) == NULL) {
        return NULL;
    }
    size_t length = strlen(text);
    if (length > 1 && text[length - 1] == '.') {
        text[length - 1] = '\0';
    }
    return g_ascii_strdown(text, -1);
}

static bool
is_transfer(guint16 type)
{
    return type == KNOT_RRTYPE_AXFR || type == KNOT_RRTYPE_IXFR;
}

/* What can be told without knowing any zone. */
static int
rcode_of(const knot_pkt_t *packet, bool parsed)
{
    if (!parsed || knot_wire_get_qdcount(packet->wire) != 1) {
        return KNOT_RCODE_FORMERR;
    }
    guint16 type = knot_pkt_qtype(packet);
    bool known = knot_wire_get_opcode(packet->wire) == KNOT_OPCODE_QUERY &&
                 knot_pkt_qclass(packet) == KNOT_CLASS_IN &&
                 (type == KNOT_RRTYPE_SOA || is_transfer(type));
    return known ? KNOT_RCODE_NOERROR : KNOT_RCODE_NOTIMPL;
}

ZoneQuery *
zonewire_parse(const void *bytes, gsize size)
{
    if (size < KNOT_WIRE_HEADER_SIZE || size > G_MAXUINT16 || knot_wire_get_qr(bytes)) {
        return NULL;
    }
    g_autoptr(ZoneQuery) query = g_new0(ZoneQuery, 1);
    query->packet = knot_pkt_new(NULL, (guint16) size, NULL);
    if (query->packet == NULL) {
        return NULL;
    }
    memcpy(query->packet->wire, bytes, size); /* parsing takes the signature out of its copy */
    query->packet->size = size;
    bool parsed = knot_pkt_parse(query->packet, 0) == KNOT_EOK;
    query->rcode = rcode_of(query->packet, parsed);
    query->tsig = KNOT_RCODE_NOERROR;
    if (parsed && query->rcode == KNOT_RCODE_NOERROR) {
        query->zone = text_of_name(knot_pkt_qname(query->packet));
    }
    if (parsed && knot_pkt_has_tsig(query->packet)) {
        query->key = text_of_name(query->packet->tsig_rr->owner);
        query->tsig = KNOT_RCODE_BADKEY;
    }
    return g_steal_pointer(&query);
}

void
zonewire_query_free(ZoneQuery *query)
{
    if (query != NULL) {
        if (query->keyed) {
            knot_tsig_key_deinit(&query->secret);
        }
        knot_pkt_free(query->packet);
        g_free(query->zone);
        g_free(query->key);
        g_free(query);
    }
}

const char *
zonewire_zone(const ZoneQuery *query)
{
    return query->zone;
}

const char *
zonewire_key(const ZoneQuery *query)
{
    return query->key;
}

bool
zonewire_verify(ZoneQuery *query, const char *secret)
{
    if (query->key == NULL || query->keyed) {
        return false;
    }
    const knot_dname_t *algorithm = knot_tsig_rdata_alg_name(query->packet->tsig_rr);
    dnssec_tsig_algorithm_t known =
        algorithm != NULL ? dnssec_tsig_algorithm_from_dname(algorithm) : DNSSEC_TSIG_UNKNOWN;
    if (known == DNSSEC_TSIG_UNKNOWN || known == DNSSEC_TSIG_HMAC_MD5 ||
        knot_tsig_key_init(&query->secret, dnssec_tsig_algorithm_to_name(known), query->key,
                           secret) != KNOT_EOK) {
        return false;
    }
    query->keyed = true;
    query->time_signed = knot_tsig_rdata_time_signed(query->packet->tsig_rr);
    switch (knot_tsig_server_check(query->packet->tsig_rr, query->packet->wire, query->packet->size,
                                   &query->secret)) {
    case KNOT_EOK:
        query->tsig = KNOT_RCODE_NOERROR;
        return true;
    case KNOT_TSIG_EBADTIME:
        query->tsig = KNOT_RCODE_BADTIME;
        return false;
    case KNOT_TSIG_EBADKEY:
        query->tsig = KNOT_RCODE_BADKEY;
        return false;
    default:
        query->tsig = KNOT_RCODE_BADSIG;
        return false;
    }
}

/* ---- answers ---- */

struct answer {
    ZoneQuery *query;
    knot_pkt_t *packet; /* owned */
    gsize most;
    guint sent;
    guint8 digest[DIGEST_MOST]; /* W3: of the message before */
    gsize digest_size;
    ZoneEmit emit;
    void *data;
    bool over; /* the receiver went, or there is nothing more to say */
};

static bool
signs(const struct answer *answer)
{
    return answer->query->keyed && knot_tsig_can_sign((guint16) answer->query->tsig);
}

static bool
begin(struct answer *answer)
{
    knot_pkt_free(answer->packet);
    answer->packet = knot_pkt_new(NULL, (guint16) answer->most, NULL);
    if (answer->packet == NULL ||
        knot_pkt_init_response(answer->packet, answer->query->packet) != KNOT_EOK) {
        answer->over = true;
        return false;
    }
    knot_wire_set_aa(answer->packet->wire);
    if (answer->query->key != NULL) {
        size_t room = signs(answer) ? knot_tsig_wire_size(&answer->query->secret)
                                    : knot_pkt_size(answer->query->packet) -
                                          answer->query->packet->size + DIGEST_MOST;
        knot_pkt_reserve(answer->packet, (guint16) MIN(room, answer->most / 2));
    }
    return knot_pkt_begin(answer->packet, KNOT_ANSWER) == KNOT_EOK;
}

/* W3 */
static bool
sign(struct answer *answer)
{
    knot_pkt_t *packet = answer->packet;
    ZoneQuery *query = answer->query;
    size_t size = sizeof answer->digest;
    if (query->key == NULL) {
        return true;
    }
    if (!signs(answer)) { /* the query's own, with what is wrong with it */
        return knot_tsig_add(packet->wire, &packet->size, packet->max_size, (guint16) query->tsig,
                             query->packet->tsig_rr) == KNOT_EOK;
    }
    int done =
        answer->sent == 0
            ? knot_tsig_sign(packet->wire, &packet->size, packet->max_size,
                             knot_tsig_rdata_mac(query->packet->tsig_rr),
                             knot_tsig_rdata_mac_length(query->packet->tsig_rr), answer->digest,
                             &size, &query->secret, (guint16) query->tsig, query->time_signed)
            : knot_tsig_sign_next(packet->wire, &packet->size, packet->max_size, answer->digest,
                                  answer->digest_size, answer->digest, &size, &query->secret,
                                  packet->wire, packet->size);
    answer->digest_size = size;
    return done == KNOT_EOK;
}

static void
finish(struct answer *answer)
{
    answer->packet->max_size = answer->most;
    if (answer->over || !sign(answer) ||
        !answer->emit(answer->packet->wire, answer->packet->size, answer->data)) {
        answer->over = true;
    }
    answer->sent++;
}

/* W2 */
static void
put(struct answer *answer, const knot_rrset_t *record, bool stream)
{
    if (answer->over ||
        knot_pkt_put(answer->packet, KNOT_COMPR_HINT_NONE, record, KNOT_PF_NOTRUNC) == KNOT_EOK) {
        return;
    }
    if (!stream) {
        knot_wire_set_tc(answer->packet->wire);
        finish(answer);
        answer->over = true;
        return;
    }
    finish(answer);
    if (!answer->over && begin(answer) &&
        knot_pkt_put(answer->packet, KNOT_COMPR_HINT_NONE, record, KNOT_PF_NOTRUNC) != KNOT_EOK) {
        answer->over = true; /* alone too big for a message: no such record passes the scanner */
    }
}

static void
put_zone(struct answer *answer, const ZoneContent *content, bool stream)
{
    const knot_rrset_t *soa = g_ptr_array_index(content->records, 0);
    for (guint i = 0; i < content->records->len; i++) {
        put(answer, g_ptr_array_index(content->records, i), stream);
    }
    put(answer, soa, stream);
}

/* The SOA alone; the name servers where answers have them. */
static void
put_soa(struct answer *answer, const ZoneContent *content, bool stream)
{
    put(answer, g_ptr_array_index(content->records, 0), stream);
    if (answer->over || knot_pkt_begin(answer->packet, KNOT_AUTHORITY) != KNOT_EOK) {
        return;
    }
    for (guint i = 1; i <= content->ns_count; i++) {
        put(answer, g_ptr_array_index(content->records, i), stream);
    }
}

static int
final_rcode(const ZoneQuery *query, const ZoneContent *content)
{
    if (query->rcode != KNOT_RCODE_NOERROR) {
        return query->rcode;
    }
    if (query->tsig != KNOT_RCODE_NOERROR) {
        return KNOT_RCODE_NOTAUTH;
    }
    return content == NULL ? KNOT_RCODE_NXDOMAIN : KNOT_RCODE_NOERROR;
}

static gsize
room(const ZoneQuery *query, bool stream)
{
    if (stream) {
        return KNOT_WIRE_MAX_PKTSIZE;
    }
    gsize asked =
        knot_pkt_has_edns(query->packet) ? knot_edns_get_payload(query->packet->opt_rr) : UDP_SIZE;
    return CLAMP(asked, UDP_SIZE, UDP_MOST);
}

void
zonewire_answer(ZoneQuery *query, const ZoneContent *content, bool stream, ZoneEmit emit,
                void *data)
{
    struct answer answer = {
        .query = query, .most = room(query, stream), .emit = emit, .data = data};
    int rcode = final_rcode(query, content);
    if (begin(&answer)) {
        knot_wire_set_rcode(answer.packet->wire, (guint8) rcode);
        if (rcode != KNOT_RCODE_NOERROR) {
            knot_wire_clear_aa(answer.packet->wire);
        } else if (is_transfer(knot_pkt_qtype(query->packet))) {
            put_zone(&answer, content, stream);
        } else {
            put_soa(&answer, content, stream);
        }
        if (!answer.over) {
            finish(&answer);
        }
    }
    knot_pkt_free(answer.packet);
}
