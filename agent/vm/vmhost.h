/* vmhost.h: what this host can give to virtual machines: QEMU, an accelerator, vsock, SEV.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"

/* The name or path of the QEMU to run: $HAWSER_QEMU, or that of the architecture; borrowed. UNSUPPORTED
 * for an architecture that this agent has no machine for; NOT_FOUND names the package. */
const char *vmhost_qemu(const char *architecture, GError **error);
/* "kvm" or "tcg", by 'qemu.accel' ("auto", "kvm", "tcg"; NULL: auto). KVM asked for and not there is
 * UNSUPPORTED with the reason. *ret_why (the caller's, NULL for KVM) tells why it is TCG. */
const char *vmhost_accel(const char *asked, char **ret_why, GError **error);
/* Whether the CPU shows hardware virtualization ("vmx", "svm"), by the text of /proc/cpuinfo. */
bool vmhost_cpu_flag(const char *cpuinfo);
/* The CPU's features, by the text of /proc/cpuinfo (NULL: this host's): words and blanks. Caller frees. */
char *vmhost_cpu_features(const char *cpuinfo);
/* Those of 'wanted' that 'have' lacks, as "avx2, sha_ni"; NULL: none. Caller frees. */
char *vmhost_cpu_lacks(const char *wanted, const char *have);
bool vmhost_vsock(void);
/* Huge pages of the host's default size: 0 when it has no hugetlbfs. */
gint64 vmhost_hugepage_bytes(void);
int vmhost_cpus(void);
