/* settings.h: the server's configuration (core.*, images.*, …), in memory and in the database.
 * Threads: main loop. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"

Settings *settings_load(Agent *agent, GError **error); /* Yields. */
void settings_free(Settings *settings);
/* The value in force: as set, else the default of the key table, else NULL. Borrowed until the next
 * change. */
const char *settings_get(Settings *settings, const char *key);
bool settings_bool(Settings *settings, const char *key);
gint64 settings_int(Settings *settings, const char *key);
/* Called after a change of 'key' is stored; a failure undoes the change. Yields. */
typedef bool (*SettingsApply)(Agent *agent, const char *key, const char *value, GError **error);
void settings_on_change(Settings *settings, const char *key, SettingsApply apply);
/* Grows with every change. */
guint64 settings_generation(Settings *settings);
/* What is set, as REST shows it (secrets as true); a new reference. */
json_t *settings_json(Settings *settings);
/* Sets the keys of 'wanted' (null unsets); with 'replace' all others, but user.*, are unset. Yields. */
bool settings_change(Settings *settings, json_t *wanted, bool replace, GError **error);
