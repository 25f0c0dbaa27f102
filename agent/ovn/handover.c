/* A port from one server to another.
 * H1  The target begins, before the guest stops: requested-chassis names both, so the target's switch has the
 *     port's flows installed when the guest comes; activation-strategy=rarp keeps them shut until then.
 * H2  The target takes the row over before the source hears that the guest runs there: the source, whose
 *     NIC stops then, finds a row that is another's, and leaves it.
 * H3  Whatever is broken off leaves the source's row with the source, and what the target put into it is
 *     taken out again by the target's stop of its NIC.
 * The guest's RARP is QEMU's announce-self. Called by net/nic_ovn.c and net/ovn_handover.c. */
#include "agent/ovn/handover.h"

#include <string.h>

#include "agent/ovn/diff.h"
#include "agent/ovn/ovnobj.h"
#include "base/clock.h"
#include "base/log.h"

#define CHASSIS  "requested-chassis"
#define STRATEGY "activation-strategy"

/* The port's row when it is another server's; borrowed until the next yield. */
static const OvsdbRow *
their_row(Agent *agent, const char *lsp)
{
    Ovn *ovn = agent->ovn;
    const OvsdbRow *row =
        ovn->nb != NULL ? ovsdb_find(ovn->nb, "Logical_Switch_Port", "name", lsp) : NULL;
    const char *owner = row != NULL ? ovsdb_map_text(row, "external_ids", DIFF_OWNER) : NULL;
    return owner != NULL && strcmp(owner, ovn->owner) != 0 ? row : NULL;
}

bool
handover_is_theirs(Agent *agent, const char *lsp)
{
    return their_row(agent, lsp) != NULL;
}

/* Where the port is bound now; NULL when it is not. */
static const char *
bound_at(Ovn *ovn, const char *lsp)
{
    const OvsdbRow *port =
        ovn->sb != NULL ? ovsdb_find(ovn->sb, "Port_Binding", "logical_port", lsp) : NULL;
    const char *uuid = port != NULL ? ovsdb_text(port, "chassis") : NULL;
    const OvsdbRow *chassis = uuid != NULL ? ovsdb_get(ovn->sb, "Chassis", uuid) : NULL;
    return chassis != NULL ? ovsdb_text(chassis, "name") : NULL;
}

/* The row's options with another pair of ours; a new reference. */
static json_t *
with_options(const OvsdbRow *row, const char *chassis, const char *strategy)
{
    json_t *options = json_copy(json_object_get(row->columns, "options"));
    json_object_del(options, CHASSIS);
    json_object_del(options, STRATEGY);
    if (chassis != NULL) {
        json_object_set_new(options, CHASSIS, json_string(chassis));
    }
    if (strategy != NULL) {
        json_object_set_new(options, STRATEGY, json_string(strategy));
    }
    return options;
}

/* 'columns' is stolen; refused when the row's marks are others meanwhile. */
static bool
change(Ovn *ovn, const OvsdbRow *row, json_t *columns, GError **error)
{
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(ovn->nb);
    ovsdb_txn_expect(
        txn, row->table, row->uuid,
        json_pack("{s:O}", "external_ids", json_object_get(row->columns, "external_ids")));
    ovsdb_txn_update(txn, row->table, row->uuid, columns);
    return ovsdb_txn_commit(txn, error);
}

bool
handover_begin(Agent *agent, const char *lsp, GError **error)
{
    Ovn *ovn = agent->ovn;
    const OvsdbRow *row = their_row(agent, lsp);
    const char *there = row != NULL ? bound_at(ovn, lsp) : NULL;
    if (row == NULL || ovn->system_id == NULL) {
        return true;
    }
    if (there == NULL || strcmp(there, ovn->system_id) == 0) {
        return true; /* nobody has it: whoever binds it, has it */
    }
    g_autofree char *both = g_strdup_printf("%s,%s", there, ovn->system_id); /* H1 */
    return change(ovn, row, json_pack("{s:o}", "options", with_options(row, both, "rarp")),
                  error) ||
           haw_push(error, "Hand over OVN port \"%s\"", lsp);
}

static bool
is_installed(Ovn *ovn, const char *lsp)
{
    const OvsdbRow *row = ovn->local != NULL
                              ? ovsdb_find(ovn->local, "Interface", "external_ids:iface-id", lsp)
                              : NULL;
    return row == NULL ||
           g_strcmp0(ovsdb_map_text(row, "external_ids", "ovn-installed"), "true") == 0;
}

void
handover_await(Agent *agent, const char *lsp, gint64 wait_ms)
{
    Ovn *ovn = agent->ovn;
    gint64 until = clock_mono_us() / 1000 + wait_ms;
    while (!is_installed(ovn, lsp)) {
        gint64 left = until - clock_mono_us() / 1000;
        if (left <= 0 || !fiber_signal_wait(ovsdb_changed(ovn->local), left, NULL, NULL)) {
            haw_info("ovn.handover_late", KS("port", lsp));
            return;
        }
    }
}

void
handover_cancel(Agent *agent, const char *lsp)
{
    g_autoptr(GError) error = NULL;
    const OvsdbRow *row = their_row(agent, lsp);
    const char *asked = row != NULL ? ovsdb_map_text(row, "options", CHASSIS) : NULL;
    if (asked == NULL || strchr(asked, ',') == NULL) {
        return;
    }
    if (!change(agent->ovn, row, json_pack("{s:o}", "options", with_options(row, NULL, NULL)),
                &error)) {
        haw_warn("ovn.handover_cancel", KS("port", lsp), KS("why", error->message));
    }
}

bool
handover_take(Agent *agent, const char *lsp, const char *scope, GError **error)
{
    Ovn *ovn = agent->ovn;
    const OvsdbRow *row = their_row(agent, lsp);
    if (row == NULL) {
        return true;
    }
    json_t *marks = json_copy(json_object_get(row->columns, "external_ids"));
    json_object_set_new(marks, DIFF_OWNER, json_string(ovn->owner));
    json_object_set_new(marks, DIFF_SCOPE, json_string(scope));
    return change(ovn, row,
                  json_pack("{s:o, s:o}", "external_ids", marks, "options",
                            with_options(row, ovn->system_id, NULL)),
                  error) ||
           haw_push(error, "Take over OVN port \"%s\"", lsp);
}
