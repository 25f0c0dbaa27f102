/* The files of a network's dnsmasq: static hosts, which we write, and leases, which it writes.
 * F1  A NIC's file is replaced whole, and the server told, only when its content changes.
 * F2  Texts that come from outside (host names) cannot end a line or a field: what is no plain word
 *     is left out. */
#include "agent/net/dnsmasq.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/net/subnet.h"
#include "base/fd.h"

enum { HOST_MOST = 4096, LEASES_MOST = 16 * 1024 * 1024 };

/* ---- hosts ---- */

void
dnsmasq_host_free(struct dnsmasq_host *host)
{
    if (host != NULL) {
        g_free(host->label);
        g_free(host->mac);
        g_free(host->ipv4);
        g_free(host->ipv6);
        g_free(host->hostname);
        g_free(host);
    }
}

char *
dnsmasq_label(const char *project, const char *inst, const char *device)
{
    g_autoptr(GString) text = g_string_new(NULL);
    if (strcmp(project, "default") != 0) {
        g_string_append_printf(text, "%s_", project);
    }
    g_string_append_printf(text, "%s.", inst);
    for (; *device != '\0'; device++) {
        /* "/" becomes "-", and "-" doubles, so that two devices never meet in one file. */
        g_string_append(text, *device == '-' ? "--" : *device == '/' ? "-" : "");
        if (*device != '-' && *device != '/') {
            g_string_append_c(text, *device);
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

struct dnsmasq_host *
dnsmasq_host_parse(const char *label, const char *line)
{
    struct dnsmasq_host *host = g_new0(struct dnsmasq_host, 1);
    g_autofree char *text = g_strstrip(g_strdup(line));
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    host->label = g_strdup(label);
    for (char **field = fields; *field != NULL; field++) {
        struct subnet address;
        size_t length = strlen(*field);
        if (field == fields) {
            host->mac = g_strdup(*field);
        } else if (**field == '[' && length > 2 && (*field)[length - 1] == ']') {
            host->ipv6 = g_strndup(*field + 1, length - 2);
        } else if (subnet_parse(*field, &address)) {
            host->ipv4 = g_strdup(*field);
        } else if (**field != '\0') {
            host->hostname = g_strdup(*field);
        }
    }
    return host;
}

static char *
host_path(Network *net, const char *label)
{
    g_autofree char *dir = netobj_path(net, "dnsmasq.hosts");
    return g_build_filename(dir, label, NULL);
}

/* F2 */
static bool
plain_word(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (!g_ascii_isalnum(*at) && *at != '-' && *at != '.' && *at != '_') {
            return false;
        }
    }
    return *text != '\0';
}

/* Made outside the directory, as dnsmasq reads every file in it. Not flushed to the disk: after a power
 * cut the NIC's next start writes it again, and launching does not wait for the disk. */
static bool
replace_host(Network *net, const char *path, const GString *line, GError **error)
{
    g_autofree char *temp = netobj_path(net, ".host-XXXXXX");
    haw_autofd int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create '%s'", temp);
    }
    if (!fd_write_all(fd, line->str, line->len, temp, error)) {
        unlink(temp);
        return false;
    }
    if (fchmod(fd, 0644) < 0 || rename(temp, path) < 0) {
        int err = errno;
        unlink(temp);
        return haw_fail_errno(error, err, "replace '%s'", path);
    }
    return true;
}

bool
dnsmasq_set_host(Network *net, const char *label, const char *mac, const char *ipv4,
                 const char *ipv6, const char *hostname, GError **error)
{
    g_autoptr(GString) line = g_string_new(mac);
    const char *mode = netobj_get(net, "dns.mode");
    if (ipv4 != NULL) {
        g_string_append_printf(line, ",%s", ipv4);
    }
    if (ipv6 != NULL) {
        g_string_append_printf(line, ",[%s]", ipv6);
    }
    if ((mode == NULL || strcmp(mode, "managed") == 0) && plain_word(hostname)) {
        g_string_append_printf(line, ",%s", hostname);
    }
    g_string_append_c(line, '\n');

    g_autofree char *path = host_path(net, label);
    g_autofree char *before = fd_read_file(path, HOST_MOST, NULL, NULL);
    if (before != NULL && strcmp(before, line->str) == 0) { /* F1 */
        return true;
    }
    g_autofree char *dir = netobj_path(net, "dnsmasq.hosts");
    if (!fd_mkdir_p(dir, 0755, error) || !replace_host(net, path, line, error)) {
        return false;
    }
    dnsmasq_reload(net);
    return true;
}

bool
dnsmasq_drop_host(Network *net, const char *label, GError **error)
{
    g_autofree char *path = host_path(net, label);
    if (unlink(path) == 0) {
        dnsmasq_reload(net);
    }
    return true;
}

GPtrArray *
dnsmasq_hosts(Network *net)
{
    GPtrArray *hosts =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) dnsmasq_host_free);
    g_autofree char *path = netobj_path(net, "dnsmasq.hosts");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *label;
    while (dir != NULL && (label = g_dir_read_name(dir)) != NULL) {
        g_autofree char *file = g_build_filename(path, label, NULL);
        g_autofree char *line = fd_read_file(file, HOST_MOST, NULL, NULL);
        if (line != NULL && label[0] != '.') {
            g_ptr_array_add(hosts, dnsmasq_host_parse(label, line));
        }
    }
    return hosts;
}

/* ---- leases ---- */

void
dnsmasq_lease_free(struct dnsmasq_lease *lease)
{
    if (lease != NULL) {
        g_free(lease->mac);
        g_free(lease->address);
        g_free(lease->hostname);
        g_free(lease->iaid);
        g_free(lease->duid);
        g_free(lease);
    }
}

static bool
is_mac(const char *text)
{
    guint8 m[6];
    return strlen(text) == 17 && sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &m[0], &m[1],
                                        &m[2], &m[3], &m[4], &m[5]) == 6;
}

/* "expiry mac address hostname client-id"; for IPv6 "expiry iaid address hostname duid", where a
 * DUID made from a MAC ends in it. */
GPtrArray *
dnsmasq_leases_parse(const char *text)
{
    GPtrArray *leases =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) dnsmasq_lease_free);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", -1);
        struct subnet address;
        if (g_strv_length(fields) < 5 || !subnet_parse(fields[2], &address)) {
            continue; /* "duid …", or half a line */
        }
        struct dnsmasq_lease *lease = g_new0(struct dnsmasq_lease, 1);
        size_t id = strlen(fields[4]);
        const char *tail = id >= 17 ? fields[4] + id - 17 : "";
        lease->expiry_s = g_ascii_strtoll(fields[0], NULL, 10);
        if (address.family == AF_INET6) {
            lease->iaid = g_strdup(fields[1]);
            lease->duid = g_strdup(fields[4]);
        }
        lease->mac = g_strdup(is_mac(fields[1]) ? fields[1] : is_mac(tail) ? tail : "");
        lease->address = g_strdup(fields[2]);
        lease->hostname = g_strdup(strcmp(fields[3], "*") == 0 ? "" : fields[3]);
        g_ptr_array_add(leases, lease);
    }
    return leases;
}

GPtrArray *
dnsmasq_leases(Network *net)
{
    g_autofree char *path = netobj_path(net, "dnsmasq.leases");
    g_autofree char *text = fd_read_file(path, LEASES_MOST, NULL, NULL);
    return dnsmasq_leases_parse(text != NULL ? text : "");
}
