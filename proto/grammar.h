/* grammar.h: LXD's value grammar (lxd-api instance-options §1): checks and parsers.
 * Empty text is a key that is unset and passes every check. Threads: any. */
#pragma once
#include "base/error.h"

bool grammar_bool(const char *v, GError **error);
bool grammar_size(const char *v, GError **error); /* "10GiB", "5MB", "123" */
bool grammar_bitsize(const char *v, GError **error);
bool grammar_int64(const char *v, GError **error);
bool grammar_uint8(const char *v, GError **error);
bool grammar_uint32(const char *v, GError **error);
bool grammar_priority(const char *v, GError **error); /* 0..10 */
bool grammar_ifname(const char *v, GError **error);
bool grammar_mac(const char *v, GError **error);
bool grammar_mtu(const char *v, GError **error);
bool grammar_vlan(const char *v, GError **error);
bool grammar_port(const char *v, GError **error);
bool grammar_port_range(const char *v, GError **error);
bool grammar_hostname(const char *v, GError **error); /* instance names too */
bool grammar_device_name(const char *v, GError **error);
bool grammar_snapshot_name(const char *v, GError **error);
bool grammar_url_segment(const char *v, GError **error); /* none of / ? & + and the like */
bool grammar_device_id(const char *v, GError **error);   /* "1af4": USB and PCI ids */
bool grammar_octal(const char *v, GError **error);
bool grammar_cron(const char *v, GError **error);       /* of instances: @startup, @never too */
bool grammar_cron_plain(const char *v, GError **error); /* of volumes */
bool grammar_expiry(const char *v, GError **error);
bool grammar_cpuset(const char *v, GError **error);
bool grammar_kernel_limit(const char *v, GError **error);
bool grammar_memory(const char *v, GError **error);      /* "50%" or a size, never 0 */
bool grammar_allowance(const char *v, GError **error);   /* "50%", "10ms/100ms" */
bool grammar_compression(const char *v, GError **error); /* "gzip", "zstd -3", "none" */
bool grammar_percent(const char *v, GError **error);
bool grammar_ipv4(const char *v, GError **error);
bool grammar_ipv6(const char *v, GError **error);
bool grammar_ip(const char *v, GError **error);
bool grammar_cidr4(const char *v, GError **error); /* host bits may be set: an address */
bool grammar_cidr6(const char *v, GError **error);
bool grammar_net4(const char *v, GError **error); /* no host bits */
bool grammar_net6(const char *v, GError **error);
bool grammar_net4_list(const char *v, GError **error);
bool grammar_net6_list(const char *v, GError **error);
bool grammar_range4_list(const char *v, GError **error);
bool grammar_range6_list(const char *v, GError **error);
bool grammar_ip_list(const char *v, GError **error);
bool grammar_listen(const char *v, GError **error); /* ":8443", "[::]", "1.2.3.4:80", "host" */

/* Values that passed their check; INVALID otherwise. */
bool grammar_parse_size(const char *v, gint64 *ret_bytes, GError **error);
bool grammar_parse_bits(const char *v, gint64 *ret_bits, GError **error);
bool grammar_parse_int64(const char *v, gint64 *ret_value, GError **error);
bool grammar_parse_bool(const char *v, bool fallback);
/* The host is "" for every address and an IPv6 address comes without brackets; caller frees. */
bool grammar_parse_listen(const char *v, guint16 default_port, char **ret_host, guint16 *ret_port,
                          GError **error);
/* The moment that an expiry ("1d 3H") after 'from' is. 0 (never) when v is empty or no expiry. */
gint64 grammar_expiry_after(const char *v, gint64 from_real_us);
/* Whether a schedule ("@daily, 0 6 * * *") fires in the minute of 'real_us', local time. */
bool grammar_cron_due(const char *v, gint64 real_us);
/* Comma lists, blanks trimmed, empty entries dropped; NULL-terminated, caller frees with
 * g_strfreev. NULL gives an empty list. */
char **grammar_list(const char *v);
/* Each entry of a comma list held against 'check'. */
bool grammar_each(const char *v, bool (*check)(const char *, GError **), GError **error);
/* "x" with quotes, as LXD's texts show a value; caller frees. */
char *grammar_quote(const char *v);
