"""machine.py: what the numbers were made on."""
import datetime
import os
import platform
import subprocess


def _field(path, name):
    try:
        with open(path, encoding="utf-8", errors="replace") as text:
            for line in text:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def _output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def describe(tree=None):
    memory = _field("/proc/meminfo", "MemTotal").split()
    system = _field("/etc/os-release", "") or ""
    with open("/etc/os-release", encoding="utf-8") as text:
        for line in text:
            if line.startswith("PRETTY_NAME="):
                system = line.split("=", 1)[1].strip().strip('"')
    found = {
        "processors": os.cpu_count(),
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_gib": round(int(memory[0]) / 1048576, 1) if memory else 0,
        "kernel": platform.release(),
        "system": system,
        "virtual": _output("systemd-detect-virt") or ("yes" if "hypervisor" in _field("/proc/cpuinfo", "flags") else ""),
        "load": round(os.getloadavg()[0], 2),
        "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if tree:
        found["commit"] = _output("git", "-C", tree, "describe", "--always", "--dirty")
    return found


def line(machine):
    virtual = ", a virtual machine" if machine.get("virtual") not in ("", "none") else ""
    return (f"{machine['processors']} processors ({machine['processor']}{virtual}), {machine['memory_gib']} GiB, "
            f"Linux {machine['kernel']}, {machine['system']}")
