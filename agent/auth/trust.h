/* trust.h: who may talk to us: certificates, tokens, the trust password, the server's own identity.
 * Threads: main loop; inside fibers where marked. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"

/* Loads server.crt and server.key (makes a self-signed ECDSA P-384 pair first) and the rows. Yields. */
Trust *trust_load(Agent *agent, GError **error);
void trust_free(Trust *trust);
const char *trust_server_cert_pem(Trust *trust);
const char *trust_server_key_pem(Trust *trust);
/* Of the authority whose clients are let in; NULL: any self-signed one may ask. */
const char *trust_ca_pem(Trust *trust);
const char *trust_server_fingerprint(Trust *trust); /* SHA-256 of the DER, hex */
/* Who is the peer with this certificate (DER; size 0: none)? Fills kind, protocol, username,
 * restricted, projects, metrics_only and certificate of a zeroed Caller whose other fields the
 * server sets. */
void trust_identify(Trust *trust, const guint8 *der, size_t size, Caller *ret_caller);

/* ---- the trust store; a certificate is an object as REST shows it ---- */
/* All of them, by fingerprint; borrowed until the next change. */
json_t *trust_list(Trust *trust);
/* By a unique prefix of the fingerprint, borrowed until the next change; NOT_FOUND. */
json_t *trust_find(Trust *trust, const char *prefix, GError **error);
/* Rows, then memory. EXISTS "Certificate already in trust store". Yield. */
bool trust_add(Trust *trust, json_t *cert, GError **error);
bool trust_update(Trust *trust, const char *fingerprint, json_t *cert, GError **error);
bool trust_delete(Trust *trust, const char *fingerprint, GError **error);
/* Memory follows rows that others changed (a project's name). Yields. */
bool trust_reload(Trust *trust, GError **error);
extern const Route certificate_routes[];
