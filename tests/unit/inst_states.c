/* inst/inst.c: the table of states (N1), walked pair by pair. */
#include "agent/inst/record.h"

#include <string.h>

/* Each row: from, and what it leads to. Whatever is not named is refused. */
static const struct {
    InstState from;
    guint to;
} allowed[] = {
    {INST_STOPPED, 1u << INST_STARTING},
    {INST_STARTING, 1u << INST_RUNNING | 1u << INST_STOPPED | 1u << INST_STOPPING},
    {INST_RUNNING, 1u << INST_FREEZING | 1u << INST_STOPPING | 1u << INST_ERROR},
    {INST_FREEZING, 1u << INST_FROZEN | 1u << INST_RUNNING | 1u << INST_STOPPING},
    {INST_FROZEN, 1u << INST_THAWING | 1u << INST_STOPPING | 1u << INST_ERROR},
    {INST_THAWING, 1u << INST_RUNNING | 1u << INST_FROZEN | 1u << INST_STOPPING},
    {INST_STOPPING, 1u << INST_STOPPED | 1u << INST_ERROR},
    {INST_ERROR, 1u << INST_STOPPING},
};

static void
only_the_arrows_of_the_drawing_are_taken(void)
{
    g_assert_cmpuint(G_N_ELEMENTS(allowed), ==, INST_ERROR + 1);
    for (size_t i = 0; i < G_N_ELEMENTS(allowed); i++) {
        for (guint to = INST_STOPPED; to <= INST_ERROR; to++) {
            bool want = (allowed[i].to >> to & 1) != 0;
            g_assert_cmpint(inst_may_move(allowed[i].from, to), ==, want);
        }
    }
}

static void
every_state_leads_back_to_stopped(void)
{
    for (guint from = INST_STOPPED; from <= INST_ERROR; from++) {
        guint reached = 1u << from;
        for (int round = 0; round <= INST_ERROR; round++) {
            for (guint at = 0; at <= INST_ERROR; at++) {
                for (guint to = 0; to <= INST_ERROR; to++) {
                    if ((reached >> at & 1) && inst_may_move(at, to)) {
                        reached |= 1u << to;
                    }
                }
            }
        }
        g_assert_true(reached >> INST_STOPPED & 1);
    }
}

static void
states_have_the_codes_that_clients_know(void)
{
    g_assert_cmpint(inst_state_code(INST_STOPPED), ==, 102);
    g_assert_cmpint(inst_state_code(INST_RUNNING), ==, 103);
    g_assert_cmpint(inst_state_code(INST_FROZEN), ==, 110);
    g_assert_cmpint(inst_state_code(INST_ERROR), ==, 112);
    g_assert_cmpstr(inst_state_name(INST_FROZEN), ==, "Frozen");
}

static void
a_merge_takes_values_in_and_empty_ones_out(void)
{
    json_t *config = json_pack("{s:s,s:s}", "a", "1", "b", "2");
    json_t *changes = json_pack("{s:n,s:s,s:s}", "a", "b", "", "c", "3");
    json_t *merged = record_merge(config, changes), *want = json_pack("{s:s}", "c", "3");
    g_assert_true(json_equal(merged, want));
    g_assert_cmpuint(json_object_size(config), ==, 2); /* R2: the old one stays as it was */
    json_decref(config);
    json_decref(changes);
    json_decref(merged);
    json_decref(want);
}

static void
a_devices_volatile_keys_go_back_where_they_came_from(void)
{
    json_t *config = json_pack("{s:s,s:s,s:s}", "volatile.eth0.hwaddr", "aa", "volatile.eth0.name",
                               "eth0", "volatile.eth1.hwaddr", "bb");
    json_t *own = record_volatile_of(config, "eth0");
    g_assert_cmpuint(json_object_size(own), ==, 2);
    json_object_del(own, "name");
    json_object_set_new(own, "host_name", json_string("veth1"));
    json_t *diff = record_volatile_diff(config, "eth0", own);
    g_assert_cmpuint(json_object_size(diff), ==, 2);
    g_assert_true(json_is_null(json_object_get(diff, "volatile.eth0.name")));
    g_assert_cmpstr(json_string_value(json_object_get(diff, "volatile.eth0.host_name")), ==,
                    "veth1");
    json_decref(config);
    json_decref(own);
    json_decref(diff);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/inst/only-the-arrows-of-the-drawing-are-taken",
                    only_the_arrows_of_the_drawing_are_taken);
    g_test_add_func("/inst/every-state-leads-back-to-stopped", every_state_leads_back_to_stopped);
    g_test_add_func("/inst/states-have-the-codes-that-clients-know",
                    states_have_the_codes_that_clients_know);
    g_test_add_func("/record/a-merge-takes-values-in-and-empty-ones-out",
                    a_merge_takes_values_in_and_empty_ones_out);
    g_test_add_func("/record/a-devices-volatile-keys-go-back-where-they-came-from",
                    a_devices_volatile_keys_go_back_where_they_came_from);
    return g_test_run();
}
