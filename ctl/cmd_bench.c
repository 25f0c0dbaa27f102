/* 'hawser bench …': hawser-bench with the rest of the line, from where this program is, or from $PATH. */
#include <errno.h>
#include <unistd.h>

#include "ctl/cmd.h"

static char *
find_program(void)
{
    g_autofree char *own = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(own != NULL ? own : "/usr/bin/hawser");
    g_autofree char *beside = g_build_filename(dir, "hawser-bench", NULL);
    return g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE) ? g_steal_pointer(&beside)
                                                          : g_strdup("hawser-bench");
}

bool
cmd_bench_run(Ctl *ctl, GError **error)
{
    g_autofree char *program = find_program();
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, program);
    for (char *const *arg = ctl_args_from(ctl, 0); *arg != NULL; arg++) {
        g_ptr_array_add(argv, *arg);
    }
    g_ptr_array_add(argv, NULL);
    execvp(program, (char **) argv->pdata);
    if (errno == ENOENT) {
        return haw_fail(error, HAW_NOT_FOUND,
                        "there is no 'hawser-bench' here: install the package hawser-bench, or run "
                        "bench/hawser-bench of the source tree");
    }
    return haw_fail_errno(error, errno, "run '%s'", program);
}
