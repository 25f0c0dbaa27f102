"""rig.py: QEMU with the test guest (init.c), and hawser-pages between two of them; for bench/migrate and tests/e2e."""
import array
import json
import os
import socket
import struct
import subprocess
import threading
import time

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


def cpu_ticks(path):
    """Name and CPU time, in ticks, of a process (ended threads included) or of one thread, by its stat file."""
    with open(path) as file:
        head, fields = file.read().rsplit(") ", 1)
    return head.split("(", 1)[1], sum(int(field) for field in fields.split()[11:13])


def mount_memory(work, name):
    """A tmpfs for a guest's memory, as the agent makes it (agent/vm/vmmemory.c)."""
    path = os.path.join(work, f"{name}.memory")
    os.mkdir(path)
    for options in ("mode=0700,huge=advise", "mode=0700"):  # a kernel without huge pages knows no 'huge'
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "hawser", path], check=False).returncode == 0:
            return path
    raise RuntimeError("no tmpfs could be mounted for the guest's memory")


class Vm:
    """One QEMU with the test guest, or waiting for it; 'disk' (a file) by direct I/O. Its memory is 'shared': a file
    in /dev/shm, or in a tmpfs like the agent's ('ours'); or anonymous."""

    def __init__(self, work, name, image, mebibytes, shared, guest, incoming, disk=None, words="", ours=True):
        self.work, self.name, self.shared, self.bytes = work, name, shared, mebibytes << 20
        self.mount = mount_memory(work, name) if shared and ours else None
        self.memory = os.path.join(self.mount or "/dev/shm", f"hawser-bench-{os.getpid()}-{name}")
        fill, hot, rate = guest
        backend = (f"memory-backend-file,id=ram,size={mebibytes}M,mem-path={self.memory},share=on,align=2M" if shared
                   else f"memory-backend-ram,id=ram,size={mebibytes}M")
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", str(mebibytes), "-object", backend,
                   "-machine", "q35,memory-backend=ram", "-display", "none", "-nodefaults", "-no-reboot", "-name", f"{name},debug-threads=on",
                   "-serial", f"unix:{work}/{name}.serial,server=on,wait=off", "-qmp",
                   f"unix:{work}/{name}.qmp,server=on,wait=off", "-kernel", f"{image}/kernel", "-initrd",
                   f"{image}/initrd", "-append",
                   f"console=ttyS0 quiet panic=-1 guest.fill={fill} guest.hot={hot} guest.rate={rate} {words}"]
        if disk:
            command += ["-drive", f"file={disk},if=none,id=disk,format=raw,cache=none,aio=native", "-device",
                        "virtio-blk-pci,drive=disk"]
        if incoming:
            command += ["-incoming", "defer"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.qmp = Qmp(f"{work}/{name}.qmp")
        self.serial = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.serial.connect(f"{work}/{name}.serial")
        self.serial.settimeout(60)
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
        """Seconds of CPU of all threads but the vCPUs: those that have ended count, as streams' threads do when
        they are done, so it is the process's less its vCPUs', which live on."""
        ticks = cpu_ticks(f"/proc/{self.process.pid}/stat")[1]
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                name, spent = cpu_ticks(f"/proc/{self.process.pid}/task/{task}/stat")
            except OSError:
                continue
            if name.startswith("CPU "):
                ticks -= spent
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
        if self.mount:
            subprocess.run(["umount", "--lazy", self.mount], check=True)
            os.rmdir(self.mount)


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
    for link in (one, other):  # as the agents' connections are
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


def move_by_pages(binary, work, source, target, sealed, rounds=0, still=True):
    """'rounds': at least so many. 'still' False: arms under a running guest, which loses pages."""
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
    start = (number(6, source.process.pid) + number(9, DOWNTIME_MS * 1000) + number(10, 10000) + number(11, max(30, rounds)) +
             number(13, rounds))
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
        if value == Pages.STOP and still:
            source.qmp.ask("stop")
        elif value == Pages.RESUME and still:
            source.qmp.ask("cont")
        elif value == Pages.STOP_FINAL:
            source.qmp.forget()
            source.qmp.ask("migrate", uri=f"unix:{work}/outgoing")
            source.qmp.wait("MIGRATION", status="pre-switchover")
            stream.yes()  # first, as the agent does: the last pages go beside the devices' state
            source.qmp.ask("migrate-continue", state="pre-switchover")
            continue
        stream.yes()
    kind, value = sink.report()
    if kind != "done":
        raise RuntimeError(value)
    released.set()
    target.qmp.wait("RESUME")
    thread.join()
    return began, stream.end() + sink.end(), rounds


def move_by_qemu(work, source, target, names, limit_s=90):
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
        if time.time() - began > limit_s:
            raise RuntimeError(f"QEMU does not converge in {limit_s} s")
        time.sleep(0.01)
    target.qmp.wait("RESUME")
    return began, 0.0, status["ram"]["dirty-sync-count"]
