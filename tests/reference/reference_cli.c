/* reference_cli.c: the table of commands as Markdown; check.sh holds docs/reference/cli.md against it. */
#include "ctl/command.h"

#include <stdio.h>

static void
print_option(const Option *option)
{
    printf("  - `");
    if (option->letter != 0) {
        printf("-%c, ", option->letter);
    }
    printf("--%s%s%s`: %s", option->name, option->value != NULL ? " " : "",
           option->value != NULL ? option->value : "", option->help);
    printf(option->fallback != NULL ? " (`%s`)\n" : "\n", option->fallback);
}

static void
print_command(const Command *row)
{
    printf("- `hawser %s%s%s`: %s", row->path, row->args != NULL ? " " : "",
           row->args != NULL ? row->args : "", row->summary);
    printf(row->alias != NULL ? "; also `%s`\n" : "\n", row->alias);
    for (const Option *option = row->options; option != NULL && option->name != NULL; option++) {
        print_option(option);
    }
}

static void
print_below(const char *path)
{
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (row->run != NULL && !row->hidden && command_is_below(row, path)) {
            print_command(row);
        }
    }
}

int
main(void)
{
    printf(
        "# Commands\n\nMade from the rows of `ctl/rows_*.c` by `tests/reference/check.sh --write`; "
        "what holds for all of them: [the command line](../cli.md). Everywhere:\n\n");
    for (const Option *option = command_global_options; option->name != NULL; option++) {
        print_option(option);
    }
    printf("\n");
    print_below("");
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (row->run == NULL) {
            printf("\n## hawser %s\n\n%s.\n\n", row->path, row->summary);
            print_below(row->path);
        }
    }
    return 0;
}
