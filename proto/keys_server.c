/* The server's configuration (core.*, images.*, …). Only what is obeyed is listed. */
#include "proto/grammar.h"
#include "proto/keys.h"
#include "proto/ovsdb.h"

#include <string.h>

static bool
one_name_kind(const char *v, GError **error)
{
    return strcmp(v, "random") == 0 || strcmp(v, "mac") == 0 ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of [random mac])", v);
}

static bool
architecture(const char *v, GError **error)
{
    static const char *const known[] = {"x86_64", "i686",    "aarch64", "armv7l", "armv6l",
                                        "ppc",    "ppc64",   "ppc64le", "s390x",  "mips",
                                        "mips64", "riscv32", "riscv64", "armv8l", NULL};
    return g_strv_contains(known, v) ||
           haw_fail(error, HAW_INVALID, "Architecture isn't supported: %s", v);
}

static bool
ovn_remotes(const char *v, GError **error)
{
    return ovsdb_check_remotes(v, error);
}

static bool
stream_kind(const char *v, GError **error)
{
    static const char *const known[] = {"encrypted", "zerocopy", "qemu", NULL};
    return g_strv_contains(known, v) ||
           haw_fail(error, HAW_INVALID,
                    "Invalid value \"%s\" (not one of [encrypted zerocopy qemu])", v);
}

static bool
accelerator(const char *v, GError **error)
{
    static const char *const known[] = {"auto", "kvm", "tcg", NULL};
    return g_strv_contains(known, v) ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of [auto kvm tcg])", v);
}

static bool
pem(const char *v, GError **error)
{
    return strstr(v, "-----BEGIN ") != NULL ||
           haw_fail(error, HAW_INVALID, "Not in PEM format: no \"-----BEGIN\" line");
}

static bool
poll_cores(const char *v, GError **error)
{
    g_auto(GStrv) list = g_strsplit(v, ",", -1);
    bool ok = list[0] != NULL;
    for (guint i = 0; ok && list[i] != NULL; i++) {
        ok = g_ascii_string_to_unsigned(list[i], 10, 0, 1023, NULL, NULL);
        for (guint j = 0; ok && j < i; j++) {
            ok = strcmp(list[i], list[j]) != 0;
        }
    }
    return ok || haw_fail(error, HAW_INVALID,
                          "Invalid list of processors \"%s\": numbers by commas, each once", v);
}

static bool
poll_number(const char *v, GError **error)
{
    return g_ascii_string_to_unsigned(v, 10, 64, 1 << 24, NULL, NULL) ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\": 64 to 16777216", v);
}

#define S(name, type, check, fallback, help)                                                       \
    {                                                                                              \
        name, type, check, fallback, KEY_LIVE, help                                                \
    }
const Key keys_server[] = {
    S("backups.compression_algorithm", "compression", grammar_compression, "gzip",
      "How backups are compressed."),
    {"core.dns_address", "listen", grammar_listen, NULL, KEY_LIVE | KEY_LOCAL,
     "Address of the DNS server that hands out zones; unset means that there is none."},
    {"core.https_address", "listen", grammar_listen, NULL, KEY_LIVE | KEY_LOCAL,
     "Address of the HTTPS API; unset means that there is none."},
    S("core.https_allowed_credentials", "bool", grammar_bool, "false",
      "Sets Access-Control-Allow-Credentials."),
    S("core.https_allowed_headers", "string", NULL, NULL, "Sets Access-Control-Allow-Headers."),
    S("core.https_allowed_methods", "string", NULL, NULL, "Sets Access-Control-Allow-Methods."),
    S("core.https_allowed_origin", "string", NULL, NULL, "Sets Access-Control-Allow-Origin."),
    S("core.https_trusted_proxy", "ip list", grammar_ip_list, NULL,
      "Addresses of proxies that tell whom they speak for in a PROXY header."),
    {"core.metrics_address", "listen", grammar_listen, NULL, KEY_LIVE | KEY_LOCAL,
     "Address that serves the metrics and nothing else; unset means that there is none."},
    S("core.metrics_authentication", "bool", grammar_bool, "true",
      "Whether the metrics are for trusted certificates only."),
    S("core.proxy_http", "string", NULL, NULL, "Proxy for http:// downloads."),
    S("core.proxy_https", "string", NULL, NULL, "Proxy for https:// downloads."),
    S("core.proxy_ignore_hosts", "string", NULL, NULL, "Hosts that need no proxy."),
    S("core.remote_token_expiry", "expiry", grammar_expiry, NULL,
      "Life of a trust token; unset means for ever."),
    S("core.shutdown_timeout", "int64", grammar_int64, "5",
      "Minutes that a shutdown waits for operations."),
    S("core.trust_ca_certificates", "bool", grammar_bool, "false",
      "Whether a certificate that the authority in server.ca signed is trusted as such."),
    {"core.trust_password", "string", NULL, NULL, KEY_LIVE | KEY_HIDDEN,
     "Password with which clients may add themselves to the trust store."},
    S("dataplane.poll.cores", "cpu list", poll_cores, NULL,
      "Processors that poll NICs with hawser.poll=true, by commas; unset: none does."),
    S("dataplane.poll.flows", "integer", poll_number, "65536",
      "Connections there may be, counted in each direction."),
    S("dataplane.poll.hugepages", "bool", grammar_bool, "false",
      "Whether its memory is taken from hugepages."),
    S("dataplane.poll.memory", "MiB", poll_number, "256", "Memory for packets that are polled."),
    S("images.auto_update_cached", "bool", grammar_bool, "true",
      "Whether cached images are kept up to date."),
    S("images.auto_update_interval", "int64", grammar_int64, "6",
      "Hours between looks for newer images; 0 disables them."),
    S("images.compression_algorithm", "compression", grammar_compression, "gzip",
      "How new images are compressed."),
    S("images.default_architecture", "architecture", architecture, NULL,
      "Architecture that is taken from a mixed image server."),
    S("images.remote_cache_expiry", "int64", grammar_int64, "10",
      "Days after which an unused cached image goes."),
    S("instances.nic.host_name", "random|mac", one_name_kind, NULL,
      "How host interfaces of instances are named."),
    S("migration.bandwidth", "size", grammar_size, NULL,
      "Bytes a second that the disk and the memory of a virtual machine that moves while it runs "
      "may "
      "take, each; unset: no limit."),
    S("migration.rdma", "bool", grammar_bool, "false",
      "Whether memory of virtual machines that move goes by RDMA, where both hosts have a device "
      "on "
      "the way."),
    S("migration.stream", "encrypted|zerocopy|qemu", stream_kind, "encrypted",
      "How memory of virtual machines moves: zerocopy sends it in the clear, for a network that is "
      "trusted; qemu leaves it to QEMU."),
    S("network.ovn.ca_cert", "pem", pem, NULL, "CA of an OVN that is reached by TLS."),
    S("network.ovn.client_cert", "pem", pem, NULL, "Our certificate for that OVN."),
    {"network.ovn.client_key", "pem", pem, NULL, KEY_LIVE | KEY_HIDDEN,
     "Private key of that certificate."},
    S("network.ovn.filter", "bool", grammar_bool, "false",
      "Whether the uplink drops (by XDP) what tunnels bring for networks and ports that are not "
      "here."),
    S("network.ovn.integration_bridge", "ifname", grammar_ifname, "br-int",
      "Bridge of Open vSwitch that OVN's instances are on."),
    S("network.ovn.northbound_connection", "remotes", ovn_remotes, NULL,
      "OVN's northbound database (unix:, tcp:, ssl:, by commas); unset: the embedded OVN, or the "
      "host's."),
    {"storage.backups_volume", "string", NULL, NULL, KEY_LIVE | KEY_LOCAL,
     "POOL/VOLUME of project default that backups are kept on; unset: the state directory."},
    {"storage.images_volume", "string", NULL, NULL, KEY_LIVE | KEY_LOCAL,
     "POOL/VOLUME of project default that images are kept on; unset: the state directory."},
    {"user.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX, "Free form."},
    S("qemu.accel", "auto|kvm|tcg", accelerator, "auto",
      "How virtual machines run: auto takes KVM where the CPU and /dev/kvm have it, else "
      "emulates."),
    {NULL},
};
