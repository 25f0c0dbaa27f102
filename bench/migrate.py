#!/usr/bin/env python3
"""migrate.py: the measuring half of bench/migrate: one guest, moved by several ways in turns.

total   from the order to move to the guest running at the target
pause   from the guest's stop at the source to its start at the target, by QEMU's own events
gap     the longest silence that the guest itself noticed across the move
CPU     of both sides, all threads but the guest's own vCPUs
memory  what the guest occupies at the target afterwards"""
import argparse
import array
import json
import os
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

GUESTS = {"idle": (100, 0, 0), "random": (1700, 0, 0), "busy50": (700, 256, 50), "busy200": (700, 256, 200)}
# name: (memory is a shared file, by hawser-pages, sealed, capabilities)
WAYS = {
    "pages": (True, True, False, []),
    "pages sealed": (True, True, True, []),
    "qemu precopy, shared": (True, False, False, []),
    "qemu multifd, shared": (True, False, False, ["multifd"]),
    "qemu precopy, anonymous": (False, False, False, []),
    "qemu multifd, anonymous": (False, False, False, ["multifd"]),
    "qemu zero-copy, anonymous": (False, False, False, ["multifd", "zero-copy-send"]),
}
CHANNELS = 2
DOWNTIME_MS = 50


class Qmp:
    """A QEMU machine protocol session; events are kept."""

    def __init__(self, path):
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.link.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.link.settimeout(120)
        self.lines = self.link.makefile("rb")
        self.events = []
        self.lines.readline()
        self.ask("qmp_capabilities")

    def read(self):
        line = self.lines.readline()
        if not line:
            raise RuntimeError("QEMU closed its monitor")
        message = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message

    def ask(self, command, **arguments):
        self.link.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self.read()
            if "error" in message:
                raise RuntimeError(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def wait(self, name, **data):
        """The event's time in seconds; also when it came before."""
        while True:
            for event in self.events:
                if event["event"] == name and all(event.get("data", {}).get(k) == v for k, v in data.items()):
                    stamp = event["timestamp"]
                    return stamp["seconds"] + stamp["microseconds"] / 1e6
            self.read()

    def forget(self):
        self.events.clear()


class Vm:
    """One QEMU with the test guest, or waiting for it."""

    def __init__(self, work, name, image, mebibytes, shared, guest, incoming):
        self.work, self.name, self.shared, self.bytes = work, name, shared, mebibytes << 20
        self.memory = os.path.join("/dev/shm", f"hawser-bench-{os.getpid()}-{name}")
        fill, hot, rate = guest
        backend = (f"memory-backend-file,id=ram,size={mebibytes}M,mem-path={self.memory},share=on" if shared
                   else f"memory-backend-ram,id=ram,size={mebibytes}M")
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", str(mebibytes), "-object", backend,
                   "-machine", "q35,memory-backend=ram", "-display", "none", "-nodefaults", "-no-reboot",
                   "-serial", f"unix:{work}/{name}.serial,server=on,wait=off", "-qmp",
                   f"unix:{work}/{name}.qmp,server=on,wait=off", "-kernel", f"{image}/kernel", "-initrd",
                   f"{image}/initrd", "-append",
                   f"console=ttyS0 quiet panic=-1 guest.fill={fill} guest.hot={hot} guest.rate={rate}"]
        if incoming:
            command += ["-incoming", "defer"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.qmp = Qmp(f"{work}/{name}.qmp")
        self.serial = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.serial.connect(f"{work}/{name}.serial")
        self.serial.settimeout(240)
        self.console = self.serial.makefile("rb")

    def expect(self, word):
        while True:
            line = self.console.readline()
            if not line:
                raise RuntimeError("the guest's console closed")
            text = line.decode(errors="replace").strip()
            if text.startswith(word):
                return dict(part.split("=") for part in text.split()[1:])

    def say(self, word, answer):
        self.serial.sendall(word.encode() + b"\n")
        return self.expect(answer)

    def cpu(self):
        """Seconds of CPU of all threads but the vCPUs."""
        ticks = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                with open(f"/proc/{self.process.pid}/task/{task}/stat") as file:
                    head, fields = file.read().rsplit(") ", 1)
            except OSError:
                continue
            if not head.split("(", 1)[1].startswith("CPU "):
                ticks += sum(int(f) for f in fields.split()[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def occupied(self):
        if self.shared:
            return os.stat(self.memory).st_blocks * 512
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

    def end(self):
        self.process.kill()
        self.process.wait()
        if self.shared:
            os.unlink(self.memory)


# ---- protobuf, as far as proto/pages.proto needs it ----
def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def fields_of(data):
    at, found = 0, {}

    def take():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = take()
        if key & 7 == 0:
            found[key >> 3] = take()
        elif key & 7 == 1:
            found[key >> 3] = struct.unpack_from("<d", data, at)[0]
            at += 8
        else:
            size = take()
            found[key >> 3] = data[at:at + size]
            at += size
    return found


class Pages:
    """A hawser-pages at work; proto/pages.proto has the numbers."""
    STOP, STOP_FINAL, RESUME = 1, 2, 3

    def __init__(self, binary, start, fds):
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen([binary], stdin=theirs)
        theirs.close()
        self.link.settimeout(120)
        self.order(block(1, start), fds)

    def order(self, body, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.link.sendmsg([body], rights)

    def yes(self):
        self.order(block(2, number(1, 1)))

    def report(self):
        """("ask", wish), ("done", fields) or ("failure", text); progress is passed over."""
        while True:
            data = self.link.recv(4096)
            if not data:
                raise RuntimeError("hawser-pages went away")
            fields = fields_of(data)
            if 1 in fields:
                return "ask", fields[1]
            if 3 in fields:
                return "done", fields_of(fields[3])
            if 4 in fields:
                return "failure", fields_of(fields[4]).get(2, b"").decode()

    def end(self):
        """Seconds of CPU that it took."""
        self.link.close()
        usage = os.wait4(self.process.pid, 0)[2]
        self.process.returncode = 0
        return usage.ru_utime + usage.ru_stime


def tcp_pair():
    listener = socket.create_server(("127.0.0.1", 0))
    one = socket.create_connection(listener.getsockname())
    other = listener.accept()[0]
    listener.close()
    return one, other


def relay(listener, target, released, counted):
    """QEMU's device state: taken at once, handed on when the memory is whole."""
    source = listener.accept()[0]
    listener.close()
    held, link = [], None
    while True:
        data = source.recv(1 << 20)
        if not data:
            break
        counted[0] += len(data)
        held.append(data)
        if link is None and released.is_set():
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            link.connect(target)
        while link is not None and held:
            link.sendall(held.pop(0))
    released.wait(60)
    if link is None:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.connect(target)
    for data in held:
        link.sendall(data)
    link.close()


def capabilities(vm, names):
    vm.qmp.ask("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in names])


def move_by_pages(binary, work, source, target, sealed):
    capabilities(source, ["x-ignore-shared", "events", "pause-before-switchover"])
    capabilities(target, ["x-ignore-shared", "events"])
    source.qmp.ask("migrate-set-parameters", **{"max-bandwidth": 10 << 30})
    target.qmp.ask("migrate-incoming", uri=f"unix:{work}/incoming")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{work}/outgoing")
    listener.listen(1)
    released, counted = threading.Event(), [0]
    thread = threading.Thread(target=relay, args=(listener, f"{work}/incoming", released, counted))
    thread.start()
    pairs = [tcp_pair() for _ in range(CHANNELS)]
    common = (number(2, source.bytes) + block(3, os.urandom(32)) +
              (block(4, os.urandom(32)) if sealed else b"") + number(5, 30000))
    memories = [os.open(vm.memory, os.O_RDWR) for vm in (source, target)]
    start = (number(6, source.process.pid) + number(9, DOWNTIME_MS * 1000) + number(10, 10000) + number(11, 30))
    began = time.time()
    sink = Pages(binary, number(1, 1) + common, [memories[1]] + [pair[1].fileno() for pair in pairs])
    stream = Pages(binary, common + start, [memories[0]] + [pair[0].fileno() for pair in pairs])
    for fd in memories + [link.detach() for pair in pairs for link in pair]:
        os.close(fd)
    rounds = 0
    while True:
        kind, value = stream.report()
        if kind == "failure":
            raise RuntimeError(value)
        if kind == "done":
            rounds = value.get(1, 0)
            break
        if value == Pages.STOP:
            source.qmp.ask("stop")
        elif value == Pages.RESUME:
            source.qmp.ask("cont")
        elif value == Pages.STOP_FINAL:
            source.qmp.forget()
            source.qmp.ask("migrate", uri=f"unix:{work}/outgoing")
            source.qmp.wait("MIGRATION", status="pre-switchover")
            source.qmp.ask("migrate-continue", state="pre-switchover")
        stream.yes()
    kind, value = sink.report()
    if kind != "done":
        raise RuntimeError(value)
    released.set()
    target.qmp.wait("RESUME")
    thread.join()
    return began, stream.end() + sink.end(), rounds


def move_by_qemu(work, source, target, names):
    for vm in (source, target):
        capabilities(vm, ["events"] + [n for n in names if n != "zero-copy-send" or vm is source])
        if "multifd" in names:
            vm.qmp.ask("migrate-set-parameters", **{"multifd-channels": CHANNELS})
    source.qmp.ask("migrate-set-parameters", **{"max-bandwidth": 10 << 30, "downtime-limit": DOWNTIME_MS})
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    target.qmp.ask("migrate-incoming", uri=f"tcp:127.0.0.1:{port}")
    source.qmp.forget()
    began = time.time()
    source.qmp.ask("migrate", uri=f"tcp:127.0.0.1:{port}")
    while True:
        status = source.qmp.ask("query-migrate")
        if status["status"] == "failed":
            raise RuntimeError(status.get("error-desc", "QEMU's migration failed"))
        if status["status"] == "completed":
            break
        if time.time() - began > 90:
            raise RuntimeError("QEMU does not converge in 90 s")
        time.sleep(0.01)
    target.qmp.wait("RESUME")
    return began, 0.0, status["ram"]["dirty-sync-count"]


def run(options, way, kind, mebibytes):
    shared, by_pages, sealed, names = WAYS[way]
    guest = GUESTS[kind] if not options.quick else tuple(min(value, 200) for value in GUESTS[kind])
    work = tempfile.mkdtemp(prefix="hawser-bench-")
    vms = []
    try:
        vms.append(Vm(work, "source", options.image, mebibytes, shared, guest, False))
        vms.append(Vm(work, "target", options.image, mebibytes, shared, guest, True))
        source, target = vms
        source.expect("ready")
        time.sleep(1)
        source.say("gap", "gap")
        before = source.cpu() + target.cpu()
        source.qmp.forget()
        if by_pages:
            began, cpu, rounds = move_by_pages(options.pages, work, source, target, sealed)
        else:
            began, cpu, rounds = move_by_qemu(work, source, target, names)
        resumed = target.qmp.wait("RESUME")
        stopped = source.qmp.wait("STOP")
        cpu += source.cpu() + target.cpu() - before
        occupied = target.occupied()
        gap = int(target.say("gap", "gap")["us"])
        bad = int(target.say("check", "checked")["bad"])
        return {"total_s": resumed - began, "pause_ms": (resumed - stopped) * 1e3, "gap_ms": gap / 1e3, "cpu_s": cpu,
                "target_mib": occupied / 2**20, "rounds": rounds, "bad_pages": bad}
    finally:
        for vm in vms:
            vm.end()
        shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--quick", action="store_true", help="a guest of 512 MiB, one round")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--guest", action="append", choices=GUESTS)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--json")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    mebibytes = 512 if options.quick else 2048
    ways, results = options.way or list(WAYS), []
    for kind in options.guest or list(GUESTS):
        runs = {way: [] for way in ways}
        for turn in range(rounds):
            for way in ways[turn % len(ways):] + ways[:turn % len(ways)]:
                try:
                    runs[way].append(run(options, way, kind, mebibytes))
                except RuntimeError as why:
                    print(f"{kind}, {way}: {why}", file=sys.stderr)
        print(f"\n{kind}: {mebibytes} MiB, {rounds} rounds, medians; {platform.release()}, {os.cpu_count()} CPUs, TCG")
        print(f"{'':28}{'total s':>9}{'pause ms':>10}{'gap ms':>9}{'CPU s':>8}{'target MiB':>12}{'rounds':>8}"
              f"{'bad pages':>11}")
        for way, samples in runs.items():
            if not samples:
                print(f"{way:28}  failed")
                continue
            middle = {key: statistics.median(s[key] for s in samples) for key in samples[0]}
            middle["bad_pages"] = sum(s["bad_pages"] for s in samples)
            results.append({"guest": kind, "way": way, "runs": samples, **middle})
            print(f"{way:28}{middle['total_s']:9.2f}{middle['pause_ms']:10.1f}{middle['gap_ms']:9.1f}"
                  f"{middle['cpu_s']:8.2f}{middle['target_mib']:12.0f}{middle['rounds']:8.0f}{middle['bad_pages']:11d}",
                  flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    return 1 if any(r["bad_pages"] for r in results if r["way"].startswith("pages")) else 0


sys.exit(main())
