/* zonewire.h: the DNS messages of zone transfers: queries in, answers out.
 * Threads: any; no I/O. */
#pragma once
#include "base/error.h"

/* ---- what a zone holds ---- */
typedef struct ZoneContent ZoneContent;
/* 'zone' without the final dot. Its SOA comes first, with 'serial'; 'nameservers' (may be empty) give
 * the NS records. INVALID for names that are none. */
ZoneContent *zonewire_content_new(const char *zone, const char *const *nameservers, guint32 serial,
                                  GError **error);
void zonewire_content_free(ZoneContent *content);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZoneContent, zonewire_content_free)
/* One record; 'owner' is below the zone, "@" the zone itself. INVALID. */
bool zonewire_add(ZoneContent *content, const char *owner, const char *type, guint32 ttl,
                  const char *value, GError **error);
guint zonewire_count(const ZoneContent *content);
/* "web", "*.web", "_sip._tcp", "@": INVALID for anything else. */
bool zonewire_check_name(const char *name, GError **error);
/* "5" for 10.1.0.5 in "0.1.10.in-addr.arpa"; NULL when the address is not in the zone. Caller frees. */
char *zonewire_reverse(const char *zone, const char *address);

/* ---- a query ---- */
typedef struct ZoneQuery ZoneQuery;
/* NULL for what gets no answer: too short to be a query, or a response. */
ZoneQuery *zonewire_parse(const void *bytes, gsize size);
void zonewire_query_free(ZoneQuery *query);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZoneQuery, zonewire_query_free)
/* The zone asked for, lower case, without the final dot; NULL when the query is no request for a zone
 * (it is answered with an error). Borrowed. */
const char *zonewire_zone(const ZoneQuery *query);
/* Name of the key it claims to be signed with, like zonewire_zone(); NULL: not signed. Borrowed. */
const char *zonewire_key(const ZoneQuery *query);
/* Is it signed with that key, whose secret is this (base64)? The answer will be, then. Without this, or
 * when false, the answer to a signed query says that the key is not known, or wrong. */
bool zonewire_verify(ZoneQuery *query, const char *secret);

/* One message at a time, without the length that TCP puts in front; false ends the answer. May yield. */
typedef bool (*ZoneEmit)(const guint8 *message, gsize size, void *data);
/* The answer: with 'content' NULL, that there is no such zone. 'stream' is TCP, where a transfer takes
 * as many messages as it needs; else it is one that tells to come back over TCP when it is too small. */
void zonewire_answer(ZoneQuery *query, const ZoneContent *content, bool stream, ZoneEmit emit,
                     void *data);
