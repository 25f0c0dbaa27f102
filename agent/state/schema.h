/* schema.h: the tables, as numbered migrations. Append only: a landed entry never changes. */
#pragma once

/* Entry i takes the database from version i to i+1. Ends with NULL. */
extern const char *const schema_migrations[];
