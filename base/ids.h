/* ids.h: identifiers that we make: UUIDs, MAC addresses, secrets, names.
 * Threads: any. Random bytes come from getrandom(2); strings are the caller's to free. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

void ids_random(void *ret_bytes, size_t size);
/* RFC 4122 version 4, lower case. */
char *ids_uuid(void);
/* 00:16:3e:xx:xx:xx, the prefix that LXD's clients expect. */
char *ids_hwaddr(void);
/* 'bytes' random bytes in hex. */
char *ids_secret(size_t bytes);
/* Whether two texts are the same, in a time that tells nothing but their lengths. NULL is no secret:
 * like no other. */
bool ids_secret_is(const char *given, const char *secret);
/* "brave-otter": adjective and animal, a valid host name. */
char *ids_petname(void);
/* "veth1a2b3c4d": prefix and 8 hex digits, at most 15 bytes. */
char *ids_ifname(const char *prefix);
