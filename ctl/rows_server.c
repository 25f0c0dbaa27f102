/* Rows of commands: remotes, what goes on in a server, this program itself. Pure data. */
#include "ctl/cmd.h"
#include "ctl/rows.h"

/* clang-format off */
#define OPT_ACCEPT_CERTIFICATE {0, "accept-certificate", NULL, "Trust the certificate without asking"}
#define OPT_PASSWORD {0, "password", "<secret>", "Trust password or token"}
#define OPT_PROTOCOL {0, "protocol", "<server-protocol>", "lxd or simplestreams", "lxd"}
#define OPT_PUBLIC_SERVER {0, "public", NULL, "A public image server"}
#define OPT_WARNING_COLUMNS {'c', "columns", "<columns>", "What to show", "utSscpLl"}
#define OPT_ALL_WARNINGS {'a', "all", NULL, "Resolved ones too"}
#define OPT_DELETE_ALL {'a', "all", NULL, "All warnings"}
#define OPT_EVENT_TYPE {0, "type", "<event-type>", "logging, operation or lifecycle (may be repeated)"}
#define OPT_MONITOR_FORMAT {'f', "format", "<monitor-format>", "yaml, json or pretty", "yaml"}
#define OPT_PRETTY {0, "pretty", NULL, "Short lines for people"}
#define OPT_REQUEST {'X', "request", "<method>", "Method of the request", "GET"}
#define OPT_DATA {'d', "data", "<JSON>", "Body of the request, '-' for stdin"}
#define OPT_RAW {0, "raw", NULL, "The whole answer"}
#define OPT_WAIT {0, "wait", NULL, "Wait for the operation that it starts"}
#define OPT_WAIT_TIMEOUT {'t', "timeout", "<seconds>", "Give up after this long"}
#define OPT_RECOVER_POOL {0, "pool", "<pool>", "One more pool, that the server does not know: <name>:<driver>:<source>"}
#define OPT_RECOVER_YES {'y', "yes", NULL, "Take in what was found"}
#define OPT_SHUTDOWN_TIMEOUT {0, "timeout", "<seconds>", "Give up waiting after this long"}
#define OPT_FORCE_SHUTDOWN {'f', "force", NULL, "Do not wait for operations"}

static const Entity entity_operation = {"operation", "/1.0/operations/%s", "/1.0/operations", 1, "", NULL,
    NULL, "id", NULL};
static const Entity entity_warning = {"warning", "/1.0/warnings/%s", "/1.0/warnings", 1, "status", NULL,
    NULL, "uuid", NULL};

const Command rows_server[] = {
    {.path = "remote", .summary = "Servers that you know"},
    {.path = "remote add", .args = "[<new-name>] <address>", .summary = "Add a server",
     .run = cmd_remote_add,
     .options = OPTIONS(OPT_ACCEPT_CERTIFICATE, OPT_PASSWORD, OPT_PROTOCOL, OPT_PUBLIC_SERVER),
     .details = "The address is a host, host:port, URL, or a token from 'hawser config trust add' on the server.",
     .examples = "hawser remote add lab 10.0.0.5\n"
     "hawser remote add lab eyJjbGllbnRf…\n"
     "hawser remote add images https://images.example.org --protocol=simplestreams"},
    {.path = "remote list", .alias = "ls", .summary = "List servers", .run = cmd_remote_list,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "remote remove", .alias = "rm", .args = "<remote-name>", .summary = "Remove a server",
     .run = cmd_remote_remove},
    {.path = "remote rename", .alias = "mv", .args = "<remote-name> <new-name>",
     .summary = "Rename a server", .run = cmd_remote_rename},
    {.path = "remote switch", .alias = "set-default", .args = "<remote-name>",
     .summary = "Make a server the default one", .run = cmd_remote_switch},
    {.path = "remote get-default", .summary = "Show the default server", .run = cmd_remote_get_default},
    {.path = "remote set-url", .args = "<remote-name> <address>",
     .summary = "Change the address of a server", .run = cmd_remote_set_url},
    {.path = "alias", .summary = "Aliases of commands",
     .details = "@ARGS@ in a target stands for the words that follow the alias; without it they come last."},
    {.path = "alias add", .args = "<new-name> <target>", .summary = "Add an alias",
     .run = cmd_remote_alias_add, .examples = "hawser alias add ll 'list -c ns4 --format compact'\n"
     "hawser alias add sh 'exec @ARGS@ -- sh -l'"},
    {.path = "alias list", .alias = "ls", .summary = "List aliases", .run = cmd_remote_alias_list,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "alias remove", .alias = "rm", .args = "<command-alias>", .summary = "Remove an alias",
     .run = cmd_remote_alias_remove},
    {.path = "alias rename", .alias = "mv", .args = "<command-alias> <new-name>",
     .summary = "Rename an alias", .run = cmd_remote_alias_rename},
    {.path = "operation", .summary = "Work that goes on in the background"},
    {.path = "operation list", .alias = "ls", .args = "[<remote>:]", .summary = "List operations",
     .run = cmd_server_operation_list, .options = OPTIONS(OPT_FORMAT, OPT_ALL_PROJECTS)},
    {.path = "operation show", .args = "[<remote>:]<operation>", .summary = "Show an operation",
     .run = entity_show, .entity = &entity_operation},
    {.path = "operation delete", .alias = "cancel rm", .args = "[<remote>:]<operation>",
     .summary = "Cancel an operation", .run = entity_delete, .entity = &entity_operation},
    {.path = "warning", .summary = "Warnings of the server"},
    {.path = "warning list", .alias = "ls", .args = "[<remote>:]", .summary = "List warnings",
     .run = cmd_server_warning_list, .options = OPTIONS(OPT_WARNING_COLUMNS, OPT_FORMAT, OPT_ALL_WARNINGS),
     .details = "Columns: u UUID, t type, S status, s severity, c count, p project, L location, l last seen, f first seen."},
    {.path = "warning show", .args = "[<remote>:]<warning>", .summary = "Show a warning",
     .run = entity_show, .entity = &entity_warning},
    {.path = "warning acknowledge", .alias = "ack", .args = "[<remote>:]<warning>",
     .summary = "Acknowledge a warning", .run = cmd_server_warning_ack},
    {.path = "warning delete", .alias = "rm", .args = "[<remote>:][<warning>]",
     .summary = "Delete a warning", .run = cmd_server_warning_delete, .options = OPTIONS(OPT_DELETE_ALL)},
    {.path = "monitor", .args = "[<remote>:]", .summary = "Show events as they happen",
     .run = cmd_server_monitor,
     .options = OPTIONS(OPT_EVENT_TYPE, OPT_MONITOR_FORMAT, OPT_PRETTY, OPT_ALL_PROJECTS),
     .examples = "hawser monitor --type=lifecycle --format=json"},
    {.path = "query", .args = "[<remote>:]<api-path>", .summary = "Send a request to the API",
     .run = cmd_server_query, .options = OPTIONS(OPT_REQUEST, OPT_DATA, OPT_RAW, OPT_WAIT),
     .examples = "hawser query /1.0/instances\n"
     "hawser query -X PATCH -d '{\"description\":\"web\"}' /1.0/profiles/web"},
    {.path = "bench", .args = "<bench-command>...", .summary = "Measure an agent, a network or live moves",
     .run = cmd_bench_run, .verbatim = true,
     .details = "Runs hawser-bench: 'network serve' on one host and 'network to ADDRESS' on the other measure what is between them, 'migration' moves an instance there and back, 'compare' holds two results against each other. hawser-bench(1) tells more.",
     .examples = "hawser bench network to 10.0.0.2\n"
     "hawser bench migration vm1 local: other: --ping 10.0.3.5\n"
     "hawser bench compare before.json after.json"},
    {.path = "version", .args = "[<remote>:]", .summary = "Show versions of client and server",
     .run = cmd_server_version},
    {.path = "waitready", .summary = "Wait until hawserd is ready", .run = cmd_server_waitready,
     .options = OPTIONS(OPT_WAIT_TIMEOUT)},
    {.path = "shutdown", .summary = "Stop hawserd and its instances", .run = cmd_server_shutdown,
     .options = OPTIONS(OPT_FORCE_SHUTDOWN, OPT_SHUTDOWN_TIMEOUT)},
    {.path = "recover", .summary = "Take in instances and volumes that no database knows", .run = cmd_recover,
     .options = OPTIONS(OPT_RECOVER_POOL, OPT_RECOVER_YES, OPT_FORMAT),
     .details = "After the database was lost, or put back from an older copy: lists what lies on the pools and is in no row, and with --yes makes it instances and volumes again, with their snapshots. Projects, profiles and networks that they use have to be there.",
     .examples = "hawser recover\n"
     "hawser recover --yes --pool default:btrfs:/var/lib/hawser/disks/default.img"},
    {.path = "completion", .args = "<shell>",
     .summary = "Print the completion script of a shell (bash, zsh or fish)", .run = complete_script,
     .examples = "hawser completion bash > /etc/bash_completion.d/hawser\n"
     "hawser completion zsh > ~/.zfunc/_hawser\n"
     "hawser completion fish > ~/.config/fish/completions/hawser.fish"},
    {.path = "__complete", .args = "[<word>...]", .summary = "Print what may come next",
     .run = complete_run, .verbatim = true, .hidden = true},
    {.path = "__manual", .summary = "Print the manual page", .run = manual_run, .hidden = true},
    {.path = NULL},
};
