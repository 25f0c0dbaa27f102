/* identity.h: the user's certificate, made on demand, and the fingerprints of others'.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include "ctl/remotes.h"

/* Paths of client.crt and client.key, made (ECDSA P-384, ten years) when they are not there; caller
 * frees both. */
bool identity_ensure(Remotes *remotes, char **ret_cert_path, char **ret_key_path, GError **error);
/* SHA-256 of a PEM certificate's DER in hex, as the server names it; caller frees. */
char *identity_fingerprint(const char *pem, GError **error);
/* What curl takes as CURLOPT_PINNEDPUBLICKEY: "sha256//…"; caller frees. */
char *identity_pin(const char *pem, GError **error);
/* Base64 of the DER, as certificates travel in JSON; caller frees. */
char *identity_der_base64(const char *pem, GError **error);
/* Who a PEM certificate names (its common name) and from when to when it is valid, RFC 3339; each
 * caller frees. */
bool identity_describe(const char *pem, char **ret_name, char **ret_from, char **ret_until,
                       GError **error);
