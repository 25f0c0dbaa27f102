/* Weak stand-ins for parts that have not landed yet, so that the agent links; goes away with the last. */
#include "agent/api/info.h"
#include "agent/api/resources.h"
#include "agent/api/settings.h"
#include "agent/api/warning.h"
#include "agent/auth/project.h"
#include "agent/auth/trust.h"
#include "agent/image/image.h"
#include "agent/inst/device.h"
#include "agent/inst/inst.h"
#include "agent/store/pool.h"

#define W __attribute__((weak))
#pragma GCC diagnostic ignored "-Wreturn-type"
static bool no(GError **error) { return haw_fail(error, HAW_UNSUPPORTED, "this part has not landed yet"); }
#define NO(sig) W sig { return no(error); }
#define NONE(sig) W sig { no(error); return NULL; }

W Settings *settings_load(Agent *agent, GError **error) { return g_malloc0(8); }
W void settings_free(Settings *s) { g_free(s); }
W const char *settings_get(Settings *s, const char *key) { return NULL; }
W bool settings_bool(Settings *s, const char *key) { return false; }
W gint64 settings_int(Settings *s, const char *key) { return 0; }
W void settings_on_change(Settings *s, const char *key, SettingsApply apply) { }
W Trust *trust_load(Agent *agent, GError **error) { return g_malloc0(8); }
W void trust_free(Trust *t) { g_free(t); }
W const char *trust_server_cert_pem(Trust *t) { return NULL; }
W const char *trust_server_key_pem(Trust *t) { return NULL; }
W const char *trust_server_fingerprint(Trust *t) { return ""; }
W void trust_identify(Trust *t, const guint8 *der, size_t size, Caller *c) { c->kind = CALLER_UNTRUSTED; }
NONE(json_t *project_config(Agent *agent, const char *project, GError **error))
W const char *project_for_images(Agent *agent, const char *project) { return project; }
W const char *project_for_profiles(Agent *agent, const char *project) { return project; }
W const char *project_for_volumes(Agent *agent, const char *project) { return project; }
W const char *project_for_networks(Agent *agent, const char *project) { return "default"; }
W char *project_object_name(const char *project, const char *name) { return g_str_equal(project, "default") ? g_strdup(name) : g_strdup_printf("%s_%s", project, name); }
W bool project_allow_instance(Agent *agent, const char *p, json_t *i, GError **error) { return true; }
W bool project_allow_volume(Agent *agent, const char *p, json_t *i, GError **error) { return true; }
W bool project_allow_network(Agent *agent, const char *p, const char *n, GError **error) { return true; }
NONE(json_t *profile_load(Agent *agent, const char *project, const char *name, GError **error))
W void warning_raise(Agent *agent, WarningType type, const char *project, const char *url, const char *message) { }
W void warning_resolve(Agent *agent, WarningType type, const char *project, const char *url) { }
NO(bool device_validate(Agent *a, const char *p, const Device *d, GError **error))
NO(bool device_start(Agent *a, const Device *d, json_t **r, GError **error))
NO(bool device_post_start(Agent *a, const Device *d, GError **error))
NO(bool device_stop(Agent *a, const Device *d, GError **error))
NO(bool device_hotplug(Agent *a, const Device *d, GError **error))
NO(bool device_hotunplug(Agent *a, const Device *d, GError **error))
W bool device_can_hotplug(const Device *d) { return false; }
NO(bool device_update(Agent *a, const Device *d, json_t *o, bool *r, GError **error))
#define ROUTES(x) W const Route x[] = {{NULL, NULL, NULL, 0}};
ROUTES(certificate_routes) ROUTES(info_routes)
ROUTES(profile_routes) ROUTES(project_routes)
ROUTES(resource_routes) ROUTES(warning_routes)
