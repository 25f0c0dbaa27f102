/* The table of helpers. A helper may fork again and end in a namespace where the leak sanitizer cannot
 * stop its threads: its check is off there, or it would turn a good exit status into a failure. */
#include "agent/fork.h"

#include "agent/api/forkprepare.h"
#include "agent/image/forkqimg.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/forkfile.h"
#include "agent/inst/forkmount.h"
#include "agent/inst/forkproxy.h"
#include "agent/inst/forkstart.h"
#include "agent/inst/forksyscall.h"
#include "agent/move/forkpass.h"
#include "agent/vm/forkshare.h"
#include "agent/vm/forkuser.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} helpers[] = {
    {"forkcgroup", forklxc_cgroup},   {"forkexec", forklxc_exec},
    {"forkfile", forkfile_main},      {"forkmount", forkmount_main},
    {"forkpass", forkpass_main},      {"forkprepare", forkprepare_main},
    {"forkproxy", forkproxy_main},    {"forkqimg", forkqimg_main},
    {"forksftp", forkfile_sftp_main}, {"forkshare", forkshare_main},
    {"forkstart", forkstart_main},    {"forksyscall", forksyscall_main},
    {"forkuser", forkuser_main},      {NULL, NULL},
};

#ifdef __SANITIZE_ADDRESS__
static int in_helper;

__attribute__((visibility("default"), used)) int __lsan_is_turned_off(void);

int
__lsan_is_turned_off(void)
{
    return in_helper;
}
#endif

int
fork_main(int argc, char **argv)
{
#ifdef __SANITIZE_ADDRESS__
    in_helper = 1;
#endif
    for (size_t i = 0; i < G_N_ELEMENTS(helpers); i++) {
        if (helpers[i].name != NULL && strcmp(helpers[i].name, argv[0]) == 0) {
            return helpers[i].run(argc, argv);
        }
    }
    fprintf(stderr, "hawserd: there is no helper \"%s\"\n", argv[0]);
    return 2;
}
