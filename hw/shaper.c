/* Rate limits: HTB with one class for what goes out; a policing u32 filter on the ingress qdisc for
 * what comes in. Shapes and numbers are those that LXD's operators know from "tc qdisc show".
 * Called from agent/net on worker threads. */
#include "hw/shaper.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <arpa/inet.h>
#include <string.h>

#include "hw/link.h"

enum { BURST_PARTS = 40, BURST_LEAST = 64 * 1024, POLICE_MTU = 65535, CELLS = 256 };

static struct nl_msg *
tc_msg(int type, int flags, int ifindex, guint32 parent, guint32 handle, guint32 info,
       const char *kind)
{
    struct tcmsg header = {.tcm_family = AF_UNSPEC,
                           .tcm_ifindex = ifindex,
                           .tcm_parent = parent,
                           .tcm_handle = handle,
                           .tcm_info = info};
    struct nl_msg *msg = nlsock_msg(type, flags, &header, sizeof(header));
    if (kind != NULL) {
        nla_put_string(msg, TCA_KIND, kind);
    }
    return msg;
}

/* Time on the wire in the kernel's ticks of 64 ns. */
static guint32
ticks(guint64 bytes, guint64 bytes_per_s)
{
    guint64 ns = (guint64) ((double) bytes * 1e9 / (double) bytes_per_s);
    return (guint32) MIN(ns >> 6, G_MAXUINT32);
}

static guint64
burst_of(guint64 bytes_per_s)
{
    return MAX(bytes_per_s / BURST_PARTS, (guint64) BURST_LEAST);
}

/* The table of wire times by packet size that the police action insists on. */
static guint8
rate_table(guint64 bytes_per_s, guint32 ret_table[CELLS])
{
    guint8 cell_log = 0;
    while ((POLICE_MTU >> cell_log) > CELLS - 1) {
        cell_log++;
    }
    for (guint i = 0; i < CELLS; i++) {
        ret_table[i] = ticks((guint64) (i + 1) << cell_log, bytes_per_s);
    }
    return cell_log;
}

static struct tc_ratespec
rate_of(guint64 bytes_per_s)
{
    return (struct tc_ratespec){.rate = (guint32) MIN(bytes_per_s, G_MAXUINT32),
                                .linklayer = TC_LINKLAYER_ETHERNET};
}

/* A filter that takes every packet: u32 with one key that matches nothing in particular. */
static struct nlattr *
put_match_all(struct nl_msg *msg)
{
    struct nlattr *options = nla_nest_start(msg, TCA_OPTIONS);
    struct {
        struct tc_u32_sel sel;
        struct tc_u32_key key;
    } match = {.sel = {.nkeys = 1, .flags = TC_U32_TERMINAL}};
    nla_put(msg, TCA_U32_SEL, sizeof(match), &match);
    return options;
}

static bool
drop_qdisc(NlSock *sock, int ifindex, guint32 parent, guint32 handle, GError **error)
{
    g_autoptr(GError) mine = NULL;
    struct nl_msg *msg = tc_msg(RTM_DELQDISC, 0, ifindex, parent, handle, 0, NULL);
    if (nlsock_ask(sock, &msg, &mine, "remove the rate limit") || haw_code(mine) == HAW_NOT_FOUND ||
        haw_code(mine) == HAW_INVALID) {
        return true; /* the default qdisc (ENOENT), or none of this handle (EINVAL) */
    }
    g_propagate_error(error, g_steal_pointer(&mine));
    return false;
}

static bool
add_htb(NlSock *sock, int ifindex, guint64 bytes_per_s, GError **error)
{
    struct nl_msg *msg =
        tc_msg(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, ifindex, TC_H_ROOT, 0x10000, 0, "htb");
    struct nlattr *options = nla_nest_start(msg, TCA_OPTIONS);
    struct tc_htb_glob glob = {.version = 3, .rate2quantum = 10, .defcls = 0x10};
    nla_put(msg, TCA_HTB_INIT, sizeof(glob), &glob);
    nla_nest_end(msg, options);
    if (!nlsock_ask(sock, &msg, error, "add an HTB queue")) {
        return false;
    }

    msg = tc_msg(RTM_NEWTCLASS, NLM_F_CREATE | NLM_F_REPLACE, ifindex, 0x10000, 0x10010, 0, "htb");
    options = nla_nest_start(msg, TCA_OPTIONS);
    guint64 burst = MAX(bytes_per_s / 100, (guint64) 1600);
    struct tc_htb_opt opt = {.rate = rate_of(bytes_per_s),
                             .ceil = rate_of(bytes_per_s),
                             .buffer = ticks(burst, bytes_per_s),
                             .cbuffer = ticks(burst, bytes_per_s),
                             .quantum = 60000};
    nla_put(msg, TCA_HTB_PARMS, sizeof(opt), &opt);
    if (bytes_per_s > G_MAXUINT32) {
        nla_put_u64(msg, TCA_HTB_RATE64, bytes_per_s);
        nla_put_u64(msg, TCA_HTB_CEIL64, bytes_per_s);
    }
    nla_nest_end(msg, options);
    if (!nlsock_ask(sock, &msg, error, "add an HTB class")) {
        return false;
    }

    msg = tc_msg(RTM_NEWTFILTER, NLM_F_CREATE, ifindex, 0x10000, 0,
                 TC_H_MAKE(1u << 16, htons(ETH_P_ALL)), "u32");
    options = put_match_all(msg);
    nla_put_u32(msg, TCA_U32_CLASSID, 0x10010);
    nla_nest_end(msg, options);
    return nlsock_ask(sock, &msg, error, "add a filter for the HTB class");
}

static bool
add_police(NlSock *sock, int ifindex, guint64 bytes_per_s, GError **error)
{
    struct nl_msg *msg = tc_msg(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, ifindex, TC_H_INGRESS,
                                0xffff0000, 0, "ingress");
    if (!nlsock_ask(sock, &msg, error, "add an ingress queue")) {
        return false;
    }
    guint32 table[CELLS];
    struct tc_police police = {.action = TC_POLICE_SHOT,
                               .rate = rate_of(bytes_per_s),
                               .burst = ticks(burst_of(bytes_per_s), bytes_per_s),
                               .mtu = POLICE_MTU};
    police.rate.cell_log = rate_table(bytes_per_s, table);
    police.rate.cell_align = -1;

    msg = tc_msg(RTM_NEWTFILTER, NLM_F_CREATE, ifindex, 0xffff0000, 0,
                 TC_H_MAKE(1u << 16, htons(ETH_P_ALL)), "u32");
    struct nlattr *options = put_match_all(msg);
    struct nlattr *nested = nla_nest_start(msg, TCA_U32_POLICE);
    nla_put(msg, TCA_POLICE_TBF, sizeof(police), &police);
    nla_put(msg, TCA_POLICE_RATE, sizeof(table), table);
    if (bytes_per_s > G_MAXUINT32) {
        nla_put_u64(msg, TCA_POLICE_RATE64, bytes_per_s);
    }
    nla_nest_end(msg, nested);
    nla_nest_end(msg, options);
    return nlsock_ask(sock, &msg, error, "add a policing filter");
}

bool
shaper_limit_out(NlSock *sock, const char *ifname, guint64 bits_per_s, GError **error)
{
    int ifindex = link_index(sock, ifname);
    if (ifindex == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Interface \"%s\" not found", ifname);
    }
    if (!drop_qdisc(sock, ifindex, TC_H_ROOT, 0, error)) {
        return false;
    }
    return bits_per_s == 0 || add_htb(sock, ifindex, MAX(bits_per_s / 8, 1u), error) ||
           haw_push(error, "limit what goes out by '%s'", ifname);
}

bool
shaper_limit_in(NlSock *sock, const char *ifname, guint64 bits_per_s, GError **error)
{
    int ifindex = link_index(sock, ifname);
    if (ifindex == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Interface \"%s\" not found", ifname);
    }
    if (!drop_qdisc(sock, ifindex, TC_H_INGRESS, 0xffff0000, error)) {
        return false;
    }
    if (bits_per_s == 0) {
        return true;
    }
    g_autoptr(GError) mine = NULL;
    if (add_police(sock, ifindex, MAX(bits_per_s / 8, 1u), &mine)) {
        return true;
    }
    drop_qdisc(sock, ifindex, TC_H_INGRESS, 0xffff0000, NULL);
    /* A kernel without act_police says ENOENT: it looked for a module. */
    HawCode code = haw_code(mine) == HAW_NOT_FOUND ? HAW_UNSUPPORTED : haw_code(mine);
    g_propagate_error(error, g_steal_pointer(&mine));
    haw_recode(error, code);
    return haw_push(error, "limit what comes in by '%s'", ifname);
}
