/* The reconciler: our own rows → plan → difference → one transaction.
 * R1  One plan is made and carried out at a time; waiting for northd and hypervisors is outside of that.
 * R2  Nothing is remembered between runs but which scopes to look at: what is to be done is always the difference
 *     between rows of our database and rows of theirs. So an answer that was lost with its connection, a conflict
 *     with another writer, a crash of ours are all mended by looking again.
 * R3  The background fiber looks at all scopes after each new northbound session, and at single ones when a row of
 *     theirs changes behind our back, or is asked to; what fails is tried again, ever more slowly.
 * R4  Columns that northd writes are not changes.
 * R5  Whoever acts on what OVN said before (the observer) is told of a change before it is answered, once this
 *     host's flows are the new ones.
 * Called by networks, their ACLs, peers and NICs; and by ovn_api.c. */
#include "agent/ovn/ovn.h"

#include <string.h>

#include "agent/ovn/diff.h"
#include "agent/ovn/ovnobj.h"
#include "agent/ovn/watched.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"

enum {
    READY_MS = 5000,
    AGAIN_MOST = 8,  /* conflicts and lost connections in one apply */
    WAIT_MS = 10000, /* for northd or the hypervisors */
    SETTLE_MS = 100, /* changes that come together are looked at together */
    PAUSE_MS = 1000, /* after a failure; doubles */
    PAUSE_MOST_MS = 60000,
    BUILDERS_MOST = 16,
    FLUSH_TRIES = 6, /* of WAIT_MS each */
};

static const OvnBuilder *builders[BUILDERS_MOST];
static guint builder_count;

void
ovn_add_builder(const OvnBuilder *builder)
{
    g_assert(builder_count < BUILDERS_MOST);
    builders[builder_count++] = builder;
}

/* ---- plans ---- */

/* "net3" → its builder and 3; NULL for a scope that nobody here makes. */
static const OvnBuilder *
builder_of(const char *scope, gint64 *ret_id)
{
    for (guint i = 0; i < builder_count; i++) {
        size_t length = strlen(builders[i]->prefix);
        if (strncmp(scope, builders[i]->prefix, length) == 0 && g_ascii_isdigit(scope[length])) {
            char *end;
            *ret_id = g_ascii_strtoll(scope + length, &end, 10);
            return *end == '\0' ? builders[i] : NULL;
        }
    }
    return NULL;
}

static OvnPlan *
build(Agent *agent, const char *const *scopes, GError **error)
{
    g_autoptr(OvnPlan) plan = ovnplan_new();
    for (; *scopes != NULL; scopes++) {
        gint64 id = 0;
        const OvnBuilder *builder = builder_of(*scopes, &id);
        if (builder == NULL) {
            haw_fail(error, HAW_BUG, "nobody builds OVN rows of '%s'", *scopes);
            return NULL;
        }
        if (!builder->build(agent, id, plan, error)) {
            haw_push(error, "OVN rows of '%s'", *scopes);
            return NULL;
        }
    }
    return g_steal_pointer(&plan);
}

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Every scope that exists here, or of which rows are found; NULL-terminated. */
static char **
all_scopes(Ovn *ovn, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < builder_count; i++) {
        g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(gint64));
        if (!builders[i]->list(ovn->agent, ids, error)) {
            return NULL;
        }
        for (guint j = 0; j < ids->len; j++) {
            char *scope = g_strdup_printf("%s%" G_GINT64_FORMAT, builders[i]->prefix,
                                          g_array_index(ids, gint64, j));
            g_ptr_array_add(list, scope);
            g_hash_table_add(seen, scope);
        }
    }
    if (ovn->nb == NULL) { /* perhaps the last network went while the rows were read */
        haw_fail(error, HAW_UNAVAILABLE, "OVN is not set up");
        return NULL;
    }
    g_auto(GStrv) found = watched_scopes(ovn->nb, ovn->owner);
    gint64 id;
    for (char **scope = found; *scope != NULL; scope++) {
        if (!g_hash_table_contains(seen, *scope) && builder_of(*scope, &id) != NULL) {
            g_ptr_array_add(list, g_strdup(*scope));
        }
    }
    g_ptr_array_sort(list, by_text);
    g_ptr_array_add(list, NULL);
    g_ptr_array_set_free_func(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

/* ---- one transaction ---- */

static const OvsdbRow *
global_row(Ovn *ovn)
{
    g_autoptr(GPtrArray) rows = ovsdb_list(ovn->nb, "NB_Global", NULL, NULL);
    return rows->len > 0 ? g_ptr_array_index(rows, 0) : NULL;
}

/* Each transaction has a number, nb_cfg, that northd and the hypervisors repeat when they have done it. */
static bool
commit(Ovn *ovn, const OvnDiff *diff, gint64 *ret_number, GError **error)
{
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(ovn->nb);
    const OvsdbRow *global = global_row(ovn);
    guint number = 0;
    diff_emit(diff, txn);
    if (global != NULL) {
        g_autofree char *uuid = g_strdup(global->uuid);
        ovsdb_txn_mutate(txn, "NB_Global", uuid, "nb_cfg", "+=", json_integer(1));
        number = ovsdb_txn_select(txn, "NB_Global", uuid, "nb_cfg");
    }
    if (!ovsdb_txn_commit(txn, error)) {
        return false;
    }
    *ret_number = global != NULL ? ovsdb_txn_int(txn, number) : 0;
    return true;
}

/* After a transaction of ours: marks that its own changes made go; what others changed meanwhile
 * stays. */
static void
settle(Ovn *ovn, const OvnPlan *plan, const char *const *scopes)
{
    g_autoptr(OvnDiff) rest = diff_new(plan, ovn->nb, ovn->owner, scopes, NULL);
    if (rest == NULL || diff_size(rest) > 0) {
        return;
    }
    for (; *scopes != NULL; scopes++) {
        g_hash_table_remove(ovn->dirty, *scopes);
    }
}

/* Looks, and does what is to be done. 'ret_number' is what to wait for. */
static bool
apply_once(Ovn *ovn, const char *const *scopes, guint *ret_steps, gint64 *ret_number,
           GError **error)
{
    g_autoptr(OvnPlan) plan = build(ovn->agent, scopes, error);
    if (plan == NULL) {
        return false;
    }
    if (ovn->nb == NULL || !ovsdb_ready(ovn->nb)) {
        return haw_fail(error, HAW_UNAVAILABLE, "OVN northbound database: not connected");
    }
    g_autoptr(OvnDiff) diff = diff_new(plan, ovn->nb, ovn->owner, scopes, error);
    if (diff == NULL) {
        return haw_push(error, "OVN rows of '%s'%s", scopes[0], scopes[1] != NULL ? " …" : "");
    }
    for (const char *const *scope = scopes; *scope != NULL; scope++) {
        ovn->sharing |= ovnplan_is_shared(plan, *scope);
    }
    *ret_steps = diff_size(diff);
    if (diff_size(diff) == 0) {
        const OvsdbRow *global = global_row(ovn);
        *ret_number = global != NULL ? ovsdb_int(global, "nb_cfg") : 0;
        return true;
    }
    crash_point("ovn");
    if (!commit(ovn, diff, ret_number, error)) {
        ovn->failures++;
        return false;
    }
    crash_point("ovn");
    ovn->applies++;
    ovn->steps += *ret_steps;
    settle(ovn, plan, scopes);
    return true;
}

/* R2 */
static bool
apply_until(Ovn *ovn, const char *const *scopes, guint *ret_steps, gint64 *ret_number,
            GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&ovn->applying); /* R1 */
    for (guint tries = 1;; tries++) {
        g_autoptr(GError) why = NULL;
        if (ovn->nb == NULL) {
            return haw_fail(error, HAW_UNAVAILABLE, "OVN is not set up");
        }
        if (!ovsdb_wait_ready(ovn->nb, READY_MS, error)) {
            return false;
        }
        if (apply_once(ovn, scopes, ret_steps, ret_number, &why)) {
            return true;
        }
        bool again = haw_code(why) == HAW_UNAVAILABLE || haw_code(why) == HAW_CONFLICT;
        if (!again || tries >= AGAIN_MOST || ovn->closed) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        haw_debug("ovn.apply_again", KS("why", why->message));
        /* The update that made the conflict is on its way, or a reference is about to be made. */
        fiber_sleep_ms(tries * 10, ovn->stop, NULL);
    }
}

static bool
wait_number(Ovn *ovn, OvnWait wait, gint64 number, GError **error)
{
    const char *column = wait == OVN_WAIT_SB ? "sb_cfg" : "hv_cfg";
    gint64 end_us = clock_mono_us() + WAIT_MS * 1000;
    while (ovn->nb != NULL) {
        Ovsdb *db = ovn->nb;
        const OvsdbRow *global = global_row(ovn);
        if (global != NULL && ovsdb_int(global, column) >= number) {
            return true;
        }
        gint64 left_ms = (end_us - clock_mono_us()) / 1000;
        if (left_ms <= 0 || !fiber_signal_wait(ovsdb_changed(db), left_ms, ovn->stop, NULL)) {
            return haw_fail(
                error, HAW_TIMEOUT,
                wait == OVN_WAIT_SB
                    ? "ovn-northd did not translate the change within %d s: does it run?"
                    : "the change was not installed on every chassis within %d s",
                WAIT_MS / 1000);
        }
    }
    return haw_fail(error, HAW_UNAVAILABLE, "OVN northbound database: the session was closed");
}

/* The chassis of this host repeats the number in the southbound database. */
static bool
here_has(Ovn *ovn, gint64 number)
{
    const OvsdbRow *row = ovsdb_find(ovn->sb, "Chassis_Private", "name",
                                     ovn->system_id != NULL ? ovn->system_id : "");
    return row != NULL && ovsdb_int(row, "nb_cfg") >= number;
}

static bool
wait_here(Ovn *ovn, gint64 number, GError **error)
{
    gint64 end_us = clock_mono_us() + WAIT_MS * 1000;
    while (ovn->sb != NULL && !here_has(ovn, number)) {
        gint64 left_ms = (end_us - clock_mono_us()) / 1000;
        if (left_ms <= 0 || !fiber_signal_wait(ovsdb_changed(ovn->sb), left_ms, ovn->stop, NULL)) {
            return haw_fail(error, HAW_TIMEOUT,
                            "ovn-controller did not install the change within %d s: does it run?",
                            WAIT_MS / 1000);
        }
    }
    return ovn->sb != NULL ||
           haw_fail(error, HAW_UNAVAILABLE, "OVN southbound database: the session was closed");
}

/* ---- the observer ---- */

struct flush {
    Agent *agent;
    char **scopes; /* owned */
    gint64 number;
};

/* R5. A chassis that is slow holds up the change no longer than others: then once more when it has it. */
static void
flush_fiber(void *data)
{
    struct flush *flush = data;
    Ovn *ovn = flush->agent->ovn;
    for (int left = FLUSH_TRIES; left > 0 && !g_cancellable_is_cancelled(ovn->stop); left--) {
        bool here = wait_here(ovn, flush->number, NULL);
        if (ovn->observer->watching(flush->agent)) {
            ovn->observer->applied(flush->agent, (const char *const *) flush->scopes);
        }
        if (here) {
            break;
        }
    }
    g_strfreev(flush->scopes);
    g_free(flush);
}

static void
flush_later(Agent *agent, const char *const *scopes, gint64 number)
{
    struct flush *flush = g_new0(struct flush, 1);
    flush->agent = agent;
    flush->scopes = g_strdupv((char **) (guintptr) scopes);
    flush->number = number;
    fiber_start("ovn-flush", flush_fiber, flush);
}

static void
flush_now(Ovn *ovn, const char *const *scopes, gint64 number)
{
    g_autoptr(GError) error = NULL;
    if (!wait_here(ovn, number, &error)) {
        haw_warn("ovn.flush_later", KS("why", error->message));
        flush_later(ovn->agent, scopes, number);
    }
    ovn->observer->applied(ovn->agent, scopes);
}

bool
ovn_applyv(Agent *agent, const char *const *scopes, OvnWait wait, GError **error)
{
    Ovn *ovn = agent->ovn;
    guint steps = 0;
    gint64 number = 0;
    if (!apply_until(ovn, scopes, &steps, &number, error)) {
        return false;
    }
    bool flush = steps > 0 && ovn->observer != NULL && ovn->observer->watching(agent);
    if (wait == OVN_WAIT_NONE) {
        if (flush) {
            flush_later(agent, scopes, number);
        }
        return true;
    }
    bool ok = wait == OVN_WAIT_HERE ? wait_here(ovn, number, error)
                                    : wait_number(ovn, wait, number, error);
    if (flush) {
        flush_now(ovn, scopes, number);
    }
    return ok;
}

bool
ovn_apply(Agent *agent, OvnWait wait, GError **error, ...)
{
    g_autoptr(GPtrArray) scopes = g_ptr_array_new();
    const char *scope;
    va_list args;
    va_start(args, error);
    while ((scope = va_arg(args, const char *)) != NULL) {
        g_ptr_array_add(scopes, (gpointer) scope);
    }
    va_end(args);
    g_ptr_array_add(scopes, NULL);
    return ovn_applyv(agent, (const char *const *) scopes->pdata, wait, error);
}

/* One scope that cannot be must not hold up the others: alone, twice, for they refer to each other. */
static bool
apply_apart(Agent *agent, char **scopes, GError **error)
{
    bool ok = true;
    for (int round = 0; round < 2; round++) {
        ok = true;
        for (char **scope = scopes; *scope != NULL; scope++) {
            g_autoptr(GError) why = NULL;
            const char *one[] = {*scope, NULL};
            if (!ovn_applyv(agent, one, OVN_WAIT_NONE, &why)) {
                if (ok) {
                    g_clear_error(error);
                    g_propagate_error(error, g_error_copy(why));
                }
                ok = false;
            }
        }
        if (ok) {
            break;
        }
    }
    return ok;
}

bool
ovn_reconcile(Agent *agent, OvnWait wait, GError **error)
{
    Ovn *ovn = agent->ovn;
    g_autoptr(GError) why = NULL;
    if (ovn->nb != NULL && !ovsdb_wait_ready(ovn->nb, READY_MS, error)) {
        return false;
    }
    g_auto(GStrv) scopes = all_scopes(ovn, error);
    if (scopes == NULL) {
        return false;
    }
    if (ovn_applyv(agent, (const char *const *) scopes, wait, &why)) {
        return true;
    }
    if (haw_code(why) == HAW_UNAVAILABLE || haw_code(why) == HAW_TIMEOUT) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    return apply_apart(agent, scopes, error);
}

/* ---- the background ---- */

/* R4 */
static bool
differs(const OvsdbRow *before, const OvsdbRow *after)
{
    static const char *const theirs[] = {"up",     "dynamic_addresses", "tag",
                                         "status", "is_connected",      NULL};
    const char *column;
    json_t *value;
    json_object_foreach (after->columns, column, value) {
        json_t *was = json_object_get(before->columns, column);
        if (was != value && !g_strv_contains(theirs, column) && !json_equal(was, value)) {
            return true;
        }
    }
    return false;
}

static void
on_row(Ovsdb *db, const OvsdbRow *before, const OvsdbRow *after, void *data)
{
    Ovn *ovn = data;
    const OvsdbRow *rows[] = {before, after};
    if (ovn->observer != NULL) {
        ovn->observer->seen(ovn->agent, (after != NULL ? after : before)->table);
    }
    if (before != NULL && after != NULL && !differs(before, after)) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (rows[i] == NULL) {
            continue;
        }
        const char *owner = ovsdb_map_text(rows[i], "external_ids", DIFF_OWNER);
        const char *scope = ovsdb_map_text(rows[i], "external_ids", DIFF_SCOPE);
        if (scope != NULL && g_strcmp0(owner, ovn->owner) == 0) {
            ovn_kick(ovn->agent, scope);
        } else if (owner != NULL && after == NULL && ovn->sharing) {
            ovn_kick(ovn->agent, NULL); /* what stood in for rows of ours may have gone */
        }
    }
}

void
reconcile_watch(Ovn *ovn)
{
    ovsdb_on_row(ovn->nb, on_row, ovn);
    ovn->seen_epoch = 0;
    ovn->all_dirty = true;
    fiber_signal_all(&ovn->kicked);
}

void
ovn_kick(Agent *agent, const char *scope)
{
    Ovn *ovn = agent->ovn;
    if (scope == NULL) {
        ovn->all_dirty = true;
    } else {
        g_hash_table_add(ovn->dirty, g_strdup(scope));
    }
    fiber_signal_all(&ovn->kicked);
}

/* The dirty ones that somebody builds; those that nobody does are dropped. */
static char **
take_dirty(Ovn *ovn)
{
    GPtrArray *list = g_ptr_array_new();
    GHashTableIter iter;
    gpointer scope;
    gint64 id;
    g_hash_table_iter_init(&iter, ovn->dirty);
    while (g_hash_table_iter_next(&iter, &scope, NULL)) {
        if (builder_of(scope, &id) != NULL) {
            g_ptr_array_add(list, g_strdup(scope));
        }
    }
    g_hash_table_remove_all(ovn->dirty);
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(list, FALSE);
}

/* Everything that is marked. What could not be done is marked again. */
static bool
look(Ovn *ovn, GError **error)
{
    guint64 epoch = ovsdb_epoch(ovn->nb);
    guint64 steps = ovn->steps;
    bool all = ovn->all_dirty || epoch != ovn->seen_epoch;
    g_auto(GStrv) scopes = take_dirty(ovn);
    ovn->all_dirty = false;
    bool ok = true;
    if (all) {
        ok = ovn_reconcile(ovn->agent, OVN_WAIT_NONE, error);
        ovn->all_dirty |= !ok;
        ovn->seen_epoch = ok ? epoch : ovn->seen_epoch;
    } else if (scopes[0] != NULL &&
               !ovn_applyv(ovn->agent, (const char *const *) scopes, OVN_WAIT_NONE, NULL)) {
        ok = apply_apart(ovn->agent, scopes, error);
        for (char **scope = scopes; !ok && *scope != NULL; scope++) {
            g_hash_table_add(ovn->dirty, g_strdup(*scope));
        }
    }
    if (ovn->steps != steps) {
        haw_info("ovn.reconciled", KS("what", all ? "all" : scopes[0]),
                 KU("steps", ovn->steps - steps));
    }
    return ok;
}

static void
say(Ovn *ovn, const GError *error)
{
    const char *text = error != NULL ? error->message : NULL;
    if (text != NULL && g_strcmp0(ovn->last_error, text) != 0) {
        haw_warn("ovn.reconcile", KS("why", text));
    }
    g_free(ovn->last_error);
    ovn->last_error = g_strdup(text);
}

static bool
has_work(Ovn *ovn)
{
    return ovsdb_ready(ovn->nb) && (ovn->all_dirty || g_hash_table_size(ovn->dirty) > 0 ||
                                    ovsdb_epoch(ovn->nb) != ovn->seen_epoch);
}

/* R3 */
static void
background_run(void *data)
{
    Ovn *ovn = data;
    gint64 pause_ms = PAUSE_MS;
    while (!g_cancellable_is_cancelled(ovn->stop)) {
        g_autoptr(GError) error = NULL;
        if (!has_work(ovn) || !ovn->agent->ready) {
            /* Without a kick: a new session tells only its own waiters. */
            fiber_signal_wait(&ovn->kicked, PAUSE_MS, ovn->stop, NULL);
            continue;
        }
        fiber_sleep_ms(SETTLE_MS, ovn->stop, NULL);
        if (!has_work(ovn)) {
            continue;
        }
        bool ok = look(ovn, &error);
        if (ok && ovn->observer != NULL) {
            ovn->observer->seen(ovn->agent, NULL);
        }
        say(ovn, error);
        pause_ms = ok ? PAUSE_MS : MIN(pause_ms * 2, PAUSE_MOST_MS);
        if (!ok) {
            fiber_sleep_ms(pause_ms, ovn->stop, NULL);
        }
    }
}

void
reconcile_start(Ovn *ovn)
{
    fiber_start("ovn-reconcile", background_run, ovn);
}

/* ---- looks ---- */

json_t *
ovn_diff(Agent *agent, GError **error)
{
    Ovn *ovn = agent->ovn;
    if (ovn->nb == NULL) {
        return json_array();
    }
    if (!ovsdb_wait_ready(ovn->nb, READY_MS, error)) {
        return NULL;
    }
    g_auto(FiberHold) hold = fiber_hold(&ovn->applying);
    g_auto(GStrv) scopes = all_scopes(ovn, error);
    g_autoptr(OvnPlan) plan =
        scopes != NULL ? build(agent, (const char *const *) scopes, error) : NULL;
    if (plan == NULL || ovn->nb == NULL) {
        return plan == NULL ? NULL : json_array();
    }
    g_autoptr(OvnDiff) diff =
        diff_new(plan, ovn->nb, ovn->owner, (const char *const *) scopes, error);
    return diff != NULL ? diff_json(diff) : NULL;
}
