/* template.h: files of an image that are rendered into an instance's root (metadata.yaml).
 * Threads: template_apply() main loop, in a fiber; template_render() any. */
#pragma once
#include "agent/inst/idmap.h"
#include "agent/inst/record.h"

/* Renders the templates below 'mount' whose "when" has 'trigger' (may be NULL) or "start". The files
 * belong to the container's root. Yields. */
bool template_apply(Inst *inst, const char *mount, const GArray *map, bool idmapped,
                    const char *trigger, GError **error);

/* The same for a virtual machine, whose guest writes them: [{"path","text","create_only"}, …], a new reference.
 * Yields. */
json_t *template_collect(Inst *inst, const char *mount, const char *trigger, GError **error);

/* The subset of pongo2 that LXD images use: {{ a.b }}, {{ f("x", "y") }}, filters default, lower,
 * upper, {% if %} elif else endif with ==, !=, not, and, or; {% for k in list %} is not in it.
 * 'scope': objects and texts; config_get() reads scope "config". Caller frees; INVALID. */
char *template_render(const char *text, json_t *scope, GError **error);
