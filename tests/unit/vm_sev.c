/* security.sev*: what each key asks for, and what refuses it. */
#include "agent/vm/vmsev.h"
#include "base/error.h"

#include <string.h>

static const struct vmsev_host none = {false, false}, sev = {true, false}, all = {true, true};
static const char key[] = "AAECAw==", session[] = "BAUGBwgJ";

/* Refused with 'code' and words that have 'why' in them; 'config' is stolen. */
static void
refused(json_t *config, const char *architecture, const struct vmsev_host *host, int code,
        const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_nonnull(config);
    g_assert_false(vmsev_check(config, architecture, host, &error));
    g_assert_error(error, HAW_ERROR, code);
    if (strstr(error->message, why) == NULL) {
        g_error("\"%s\" does not say \"%s\"", error->message, why);
    }
    json_decref(config);
}

static void
taken(json_t *config, const struct vmsev_host *host)
{
    g_autoptr(GError) error = NULL;
    g_assert_nonnull(config);
    g_assert_true(vmsev_check(config, "x86_64", host, &error));
    g_assert_no_error(error);
    json_decref(config);
}

static void
sev_needs_a_host_that_has_it(void)
{
    taken(json_object(), &none);
    taken(json_pack("{s:s}", "security.sev", "false"), &none);
    taken(json_pack("{s:s}", "security.sev", "true"), &sev);
    refused(json_pack("{s:s}", "security.sev", "true"), "x86_64", &none, HAW_UNSUPPORTED,
            "AMD SEV is not supported by the host");
    refused(json_pack("{s:s}", "security.sev", "true"), "aarch64", &all, HAW_UNSUPPORTED,
            "only available on x86_64");
}

static void
encrypted_memory_does_not_move(void)
{
    refused(json_pack("{s:s,s:s}", "security.sev", "true", "migration.stateful", "true"), "x86_64",
            &all, HAW_INVALID, "unset migration.stateful");
    taken(json_pack("{s:s,s:s}", "security.sev", "true", "migration.stateful", "false"), &all);
    taken(json_pack("{s:s,s:s}", "security.sev", "false", "migration.stateful", "true"), &none);
}

static void
policy_es_needs_sev_and_a_host_that_has_it(void)
{
    refused(json_pack("{s:s}", "security.sev.policy.es", "true"), "x86_64", &all, HAW_INVALID,
            "without security.sev");
    refused(json_pack("{s:s,s:s}", "security.sev", "true", "security.sev.policy.es", "true"),
            "x86_64", &sev, HAW_UNSUPPORTED, "AMD SEV-ES is not supported by the host");
    refused(json_pack("{s:s,s:s}", "security.sev", "true", "security.sev.policy.es", "true"),
            "x86_64", &none, HAW_UNSUPPORTED, "AMD SEV is not supported by the host");
    taken(json_pack("{s:s,s:s}", "security.sev", "true", "security.sev.policy.es", "true"), &all);
    taken(json_pack("{s:s,s:s}", "security.sev", "true", "security.sev.policy.es", "false"), &sev);
}

static json_t *
with_session(const char *dh, const char *data)
{
    return json_pack("{s:s,s:s*,s:s*}", "security.sev", "true", "security.sev.session.dh", dh,
                     "security.sev.session.data", data);
}

static void
session_dh_and_data_belong_together(void)
{
    taken(with_session(key, session), &sev);
    refused(with_session(key, NULL), "x86_64", &sev, HAW_INVALID,
            "security.sev.session.dh needs security.sev.session.data");
    refused(with_session(NULL, session), "x86_64", &sev, HAW_INVALID,
            "security.sev.session.data needs security.sev.session.dh");
}

static void
session_dh_and_data_are_base64(void)
{
    static const char *const bad[] = {"/etc/passwd", "AAE", "AA=A", "====", "AAEC\n", "A A="};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        refused(with_session(bad[i], session), "x86_64", &sev, HAW_INVALID,
                "security.sev.session.dh is not base64");
        refused(with_session(key, bad[i]), "x86_64", &sev, HAW_INVALID,
                "security.sev.session.data is not base64");
    }
}

static void
qemu_gets_the_policy_and_files(void)
{
    json_auto_t *found =
        json_pack("{s:i,s:i,s:s}", "cbitpos", 51, "reduced-phys-bits", 1, "pdh", "x");
    json_auto_t *plain = json_pack("{s:s}", "security.sev", "true");
    json_auto_t *es = with_session(key, session);
    json_object_set_new(es, "security.sev.policy.es", json_string("true"));
    json_auto_t *one = vmsev_properties(plain, found, "/run/vm"),
                *other = vmsev_properties(es, found, "/run/vm");
    json_auto_t *want =
        json_pack("{s:i,s:i,s:i}", "cbitpos", 51, "reduced-phys-bits", 1, "policy", 1);
    g_assert_true(json_equal(one, want));
    json_object_set_new(want, "policy", json_integer(5));
    json_object_set_new(want, "dh-cert-file", json_string("/run/vm/" VMSEV_DH));
    json_object_set_new(want, "session-file", json_string("/run/vm/" VMSEV_SESSION));
    g_assert_true(json_equal(other, want));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sev/needs-a-host-that-has-it", sev_needs_a_host_that_has_it);
    g_test_add_func("/sev/encrypted-memory-does-not-move", encrypted_memory_does_not_move);
    g_test_add_func("/sev/policy-es-needs-sev-and-a-host-that-has-it",
                    policy_es_needs_sev_and_a_host_that_has_it);
    g_test_add_func("/sev/session-dh-and-data-belong-together",
                    session_dh_and_data_belong_together);
    g_test_add_func("/sev/session-dh-and-data-are-base64", session_dh_and_data_are_base64);
    g_test_add_func("/sev/qemu-gets-the-policy-and-files", qemu_gets_the_policy_and_files);
    return g_test_run();
}
