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
const char *trust_server_fingerprint(Trust *trust); /* SHA-256 of the DER, hex */
/* Who is the peer with this certificate (DER; size 0: none)? Fills kind, username, restricted,
 * projects, metrics_only of a Caller whose other fields the server sets. */
void trust_identify(Trust *trust, const guint8 *der, size_t size, Caller *ret_caller);
extern const Route certificate_routes[];
