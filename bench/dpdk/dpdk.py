#!/usr/bin/env python3
"""What a forwarded packet costs on DPDK: Hawser's engine, rte_hash, a bare rewrite, testpmd mac, OVS-DPDK.

    bench/dpdk/dpdk.py [--rounds 5] [--seconds 1] [--flows 1,1000,65536,1000000] [--without testpmd,ovs,ovs-ct]

All read the same frames from two net_pcap devices (infinite_rx) and send to the other, which drops them; in
turns, medians of the rounds. Nanoseconds are CPU time of the forwarding thread by packet, so that a
neighbour on the machine costs less than it would by the clock. Root; hugepages are reserved for the run.
Needs a release build, the packages dpdk and, for OVS, openvswitch-switch-dpdk.
"""
import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
OVS = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
HUGE = "/proc/sys/vm/nr_hugepages"
NEIGHBOURS = {"testpmd", "ovs", "ovs-ct"}


def cpu_ns(pid, name):
    """CPU time of a process's thread whose name has 'name' in it."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="ascii") as comm:
            if name in comm.read():
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
                    return int(stat.read().split()[0])
    raise RuntimeError(f"process {pid} has no thread {name}")


class Frames:
    """The two files of frames for a number of flows."""

    def __init__(self, bench, folder, flows):
        self.flows = flows
        self.paths = [f"{folder}/{flows}.a.pcap", f"{folder}/{flows}.b.pcap"]
        if not os.path.exists(self.paths[1]):
            subprocess.run([bench, "pcap", str(flows), *self.paths], check=True)

    def devices(self):
        return [f"net_pcap{i},rx_pcap={path},infinite_rx=1" for i, path in enumerate(self.paths)]


def own(bench, mode, frames, seconds):
    child = subprocess.run([bench, mode, str(frames.flows), str(seconds), *frames.paths], check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    out = child.stdout
    if child.returncode != 0:
        raise RuntimeError(f"{mode} at {frames.flows} flows: {out}{child.stderr}")
    return float(re.search(r"ns=([\d.]+)", out)[1]), int(re.search(r"bytes_a_flow=(\d+)", out)[1])


# ---- testpmd ----

def testpmd(frames, seconds):
    command = ["stdbuf", "-oL", "dpdk-testpmd", "--no-pci", "--no-telemetry", "--in-memory", "-l", "0,1", "--log-level=*:error"]
    for device in frames.devices():
        command += ["--vdev", device]
    command += ["--", "-i", "--forward-mode=mac", "--mbuf-size=384", "--no-mlockall",
                f"--total-num-mbufs={frames.flows + 16384}"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, bufsize=1)

    def say(line):
        child.stdin.write(line + "\n")
        child.stdin.flush()

    say("start")
    said = ""
    while "io packet forwarding" not in said and "mac packet forwarding" not in said:
        line = child.stdout.readline()
        if not line:
            raise RuntimeError("testpmd ended: " + said[-500:])
        said += line
    time.sleep(0.5)
    before = cpu_ns(child.pid, "worker")
    say("clear fwd stats all")
    time.sleep(seconds)
    say("stop")
    said = ""
    while "Accumulated" not in said or "RX-packets" not in said.split("Accumulated")[1]:
        said += child.stdout.readline()
    spent = cpu_ns(child.pid, "worker") - before
    say("quit")
    child.communicate(timeout=60)
    packets = int(re.search(r"RX-packets: (\d+)", said.split("Accumulated")[1])[1])
    return spent / packets


# ---- OVS-DPDK ----

class Ovs:
    """A vswitchd of our own, in a network namespace of its own (its bridge is a tap), with one PMD thread; flows
    of OpenFlow that rewrite, with or without conntrack."""

    def __init__(self, folder):
        self.folder = tempfile.mkdtemp(prefix="ovs-", dir=folder)
        self.env = dict(os.environ, OVS_RUNDIR=self.folder, OVS_DBDIR=self.folder, OVS_LOGDIR=self.folder)
        self.children = []
        schema = "/usr/share/openvswitch/vswitch.ovsschema"
        self.run("ovsdb-tool", "create", f"{self.folder}/conf.db", schema)
        self.start("ovsdb-server", f"{self.folder}/conf.db", f"--remote=punix:{self.folder}/db.sock")
        self.wait_for(f"{self.folder}/db.sock")
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
                   "other_config:dpdk-lcore-mask=0x1", "other_config:pmd-cpu-mask=0x2",
                   "other_config:dpdk-extra=--no-pci --in-memory --no-telemetry")
        self.daemon = self.start("unshare", "--net", OVS, f"unix:{self.folder}/db.sock", f"--unixctl={self.folder}/ctl", "-vconsole:err")
        self.wait_for(f"{self.folder}/ctl")

    def run(self, *args, quiet=False):
        return subprocess.run(args, env=self.env, check=True, text=True, stdout=subprocess.PIPE, timeout=180,
                              stderr=subprocess.DEVNULL if quiet else None).stdout

    def vsctl(self, *args):
        return self.run("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", *args)

    def ctl(self, *args):
        return self.run("ovs-appctl", "-t", f"{self.folder}/ctl", *args)

    def start(self, *args):
        with open(f"{self.folder}/log", "ab") as log:
            child = subprocess.Popen(args, env=self.env, stdout=log, stderr=log)
        self.children.append(child)
        return child

    @staticmethod
    def wait_for(path):
        for _ in range(600):
            if os.path.exists(path):
                return
            time.sleep(0.1)
        raise RuntimeError(f"'{path}' did not appear")

    def ports(self, frames, conntrack):
        """The frames' devices on a bridge; flows for what comes from either."""
        self.vsctl("--if-exists", "del-br", "br0", "--", "add-br", "br0", "--", "set", "bridge", "br0",
                   "datapath_type=netdev", "fail_mode=secure")
        flows = f"{self.folder}/flows"
        with open(flows, "w", encoding="ascii") as out:
            for port, other in ((1, 2), (2, 1)):
                rewrite = (f"set_field:02:00:00:00:09:0{other}->eth_src,set_field:02:00:00:00:00:0{other}->eth_dst,"
                           f"dec_ttl,output:{other}")
                if conntrack:
                    print(f"table=0,in_port={port},ip,actions=ct(table=1,zone=1)", file=out)
                    print(f"table=1,in_port={port},ct_state=+trk+new,ip,actions=ct(commit,zone=1),{rewrite}", file=out)
                    print(f"table=1,in_port={port},ct_state=+trk-new,ip,actions={rewrite}", file=out)
                else:
                    print(f"in_port={port},ip,actions={rewrite}", file=out)
        self.run("ovs-ofctl", "-O", "OpenFlow13", "replace-flows", f"unix:{self.folder}/br0.mgmt", flows)
        self.ctl("dpctl/ct-set-maxconns", "3000000")
        args = []
        for i, device in enumerate(frames.devices()):
            args += ["--", "add-port", "br0", f"p{i + 1}", "--", "set", "interface", f"p{i + 1}", "type=dpdk",
                     f"ofport_request={i + 1}", f"options:dpdk-devargs={device}"]
        self.vsctl(*args[1:])
        errors = self.vsctl("--columns=error", "--bare", "list", "interface").strip()
        if errors:
            raise RuntimeError("OVS: " + errors)

    def packets(self):
        text = self.run("ovs-ofctl", "-O", "OpenFlow13", "dump-ports", f"unix:{self.folder}/br0.mgmt")
        return sum(int(n) for n in re.findall(r"rx pkts=(\d+)", text.split("LOCAL")[0] if "port  1" in text else text))

    def measure(self, frames, seconds, conntrack):
        self.ports(frames, conntrack)
        begin, first = time.monotonic(), self.packets()
        while self.packets() < first + 6 * frames.flows and time.monotonic() < begin + 40:
            time.sleep(0.2)
        before, spent = self.packets(), cpu_ns(self.daemon.pid, "pmd")
        time.sleep(seconds)
        after, spent_after = self.packets(), cpu_ns(self.daemon.pid, "pmd")
        return (spent_after - spent) / max(1, after - before)

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def ovs(folder, frames, seconds, conntrack):
    switch = Ovs(folder)
    try:
        return switch.measure(frames, seconds, conntrack)
    finally:
        switch.stop()


# ---- the table ----

def verdict(claim, value, bound, at_most):
    met = value <= bound if at_most else value >= bound
    print(f"{'met   ' if met else 'MISSED'} {claim}: {value:.2f} (target {'≤' if at_most else '≥'} {bound})")


def judge(medians, counts):
    def ns(mode, flows):
        return medians.get((mode, flows))

    for flows in (1000, 65536):
        if ns("testpmd", flows):
            verdict(f"own / testpmd mac at {flows} flows", ns("own", flows) / ns("testpmd", flows), 1.0, True)
    for mode, bound in (("ovs", 6), ("ovs-ct", 15)):
        if ns(mode, 65536):
            verdict(f"{mode} / own at 65536 flows", ns(mode, 65536) / ns("own", 65536), bound, False)
    if 1000000 in counts:
        verdict("bare / own at 1000000 flows", ns("bare", 1000000) / ns("own", 1000000), 0.6, False)
    for flows in counts if ("hash", counts[0]) in medians else ():
        verdict(f"rte_hash / own at {flows} flows", ns("hash", flows) / ns("own", flows), 1.0, False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--flows", default="1,1000,65536,1000000")
    parser.add_argument("--without", default="")
    parser.add_argument("--build", default=f"{TOP}/build-release")
    options = parser.parse_args()
    bench = f"{options.build}/bench/bench_dpdk"
    if not os.path.exists(bench):
        sys.exit(f"'{bench}' is not there: meson setup -Dbuildtype=release {options.build} && "
                 f"ninja -C {options.build} bench/bench_dpdk")
    without = set(options.without.split(","))
    modes = [m for m in ("bare", "own", "hash", "testpmd", "ovs", "ovs-ct") if m not in without]
    if not os.path.exists(OVS):
        modes = [m for m in modes if not m.startswith("ovs")]
    counts = [int(n) for n in options.flows.split(",")]
    with open(HUGE, encoding="ascii") as huge:
        pages = huge.read()
    folder = tempfile.mkdtemp(prefix="hawser-dpdk-")
    results, memory = {}, {}
    try:
        with open(HUGE, "w", encoding="ascii") as huge:
            huge.write(str(max(int(pages), 300 + max(counts) // 2400)))
        for flows in counts:
            frames = Frames(bench, folder, flows)
            for _ in range(options.rounds):
                for mode in modes:  # what is measured is said at once: the whole takes long
                    if mode == "testpmd":
                        value = testpmd(frames, options.seconds)
                    elif mode.startswith("ovs"):
                        value = ovs(folder, frames, options.seconds, mode == "ovs-ct")
                    else:
                        value, memory[flows] = own(bench, mode, frames, options.seconds)
                    results.setdefault((mode, flows), []).append(value)
                    print(f"# {flows} flows, {mode}: {value:.1f} ns", file=sys.stderr, flush=True)
    finally:
        with open(HUGE, "w", encoding="ascii") as huge:
            huge.write(pages)
        shutil.rmtree(folder, ignore_errors=True)
    medians = {key: statistics.median(values) for key, values in results.items()}
    print(f"ns of CPU a packet, medians of {options.rounds} rounds (fastest)")
    print("flows    " + "".join(f"{mode:>18}" for mode in modes) + "   table bytes a flow")
    for flows in counts:
        row = "".join(f"{medians[mode, flows]:>10.1f} ({min(results[mode, flows]):>5.1f})" for mode in modes)
        print(f"{flows:<9}{row}   {memory[flows]}")
    judge(medians, counts)


if __name__ == "__main__":
    main()
