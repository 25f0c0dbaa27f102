"""hosts.py: two hosts of an operator's own: the network between them, and moves of an instance.

Network: one end serves, the other connects; every number is made over TCP by this program on both ends, so
nothing else has to be installed. A request is one letter that says what the connection is for."""
import os
import re
import selectors
import socket
import subprocess
import threading
import time

from harness.series import Series

PORT = 18444
BLOCK = 1 << 20
SINK, ECHO = b"s", b"e"


def split(text, default_host=""):
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:]*)(?::(\d+))?|([0-9a-fA-F:]+)", text or "")
    if not match:
        raise SystemExit(f"hawser-bench: '{text}' is no address")
    host = match[1] or match[3] or match[5] or default_host
    return host, int(match[2] or match[4] or PORT)


# ---- the end that serves ----

def _serve_one(link):
    with link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        what = link.recv(1)
        space = bytearray(BLOCK)
        while what in (SINK, ECHO):
            count = link.recv_into(space)
            if count == 0:
                return
            if what == ECHO:
                link.sendall(memoryview(space)[:count])


def serve(address, tell, until=None):
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024,
                                    dualstack_ipv6=not host and socket.has_dualstack_ipv6())
    tell(f"serving on {host or 'every address'}, port {port}; end with ^C")
    with selectors.DefaultSelector() as wait:
        wait.register(listener, selectors.EVENT_READ)
        while until is None or not until.is_set():
            if wait.select(0.2):
                link, _ = listener.accept()
                threading.Thread(target=_serve_one, args=(link,), daemon=True).start()
    listener.close()


# ---- the end that asks ----

def _connect(host, port, what):
    link = socket.create_connection((host, port), timeout=30)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(what)
    return link


def _throughput(host, port, seconds, streams):
    block, sent = bytes(BLOCK), [0] * streams
    end = time.monotonic() + seconds

    def push(which):
        with _connect(host, port, SINK) as link:
            while time.monotonic() < end:
                link.sendall(block)
                sent[which] += BLOCK

    threads = [threading.Thread(target=push, args=(which,)) for which in range(streams)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent) * 8 / (time.monotonic() - begun) / 1e9


def _round_trips(host, port, seconds):
    took = []
    with _connect(host, port, ECHO) as link:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begun = time.perf_counter()
            link.sendall(b"x")
            link.recv(1)
            took.append((time.perf_counter() - begun) * 1e6)
    return took


def _connections(host, port, seconds):
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with _connect(host, port, ECHO) as link:
            link.sendall(b"x")
            link.recv(1)
        count += 1
    return count / seconds


def network(address, seconds, rounds, tell):
    host, port = split(address)
    one, four = Series("throughput, 1 stream", "Gbit/s"), Series("throughput, 4 streams", "Gbit/s")
    trips, news = Series("round trip, median", "us"), Series("new connections", "/s")
    late = Series("round trip, 99 of 100 below", "us")
    for number in range(rounds):
        one.values.append(_throughput(host, port, seconds, 1))
        four.values.append(_throughput(host, port, seconds, 4))
        took = sorted(_round_trips(host, port, seconds))
        trips.values.append(took[len(took) // 2])
        late.values.append(took[len(took) * 99 // 100])
        news.values.append(_connections(host, port, seconds))
        tell(f"round {number + 1} of {rounds}: {one.values[-1]:.2f} Gbit/s, {trips.values[-1]:.0f} us")
    return [one, four, trips, late, news]


# ---- an instance that moves ----

class Pinger:
    """Asks ten times a second whether an address answers; the longest silence, in ms."""

    def __init__(self, address):
        self.lost, self.child = 0, None
        self.command = ["ping", "-n", "-i", "0.1", "-W", "1", address]

    def __enter__(self):
        self.child = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.child.send_signal(2)
        numbers = [int(found) for found in re.findall(r"icmp_seq=(\d+) ttl", self.child.communicate()[0])]
        gaps = [after - before for before, after in zip(numbers, numbers[1:])]
        self.lost = (max(gaps) - 1) * 100 if gaps else 0


def migration(name, source, target, rounds, ping, tell):
    program = os.environ.get("HAWSER", "hawser")
    there, back = Series("move there", "s"), Series("move back", "s")
    rows = [there, back]
    silence = Series("longest silence of its address", "ms")
    if ping:
        rows.append(silence)

    def move(origin, goal, took):
        command = [program, "move", f"{origin}{name}", f"{goal}{name}"]
        begun = time.monotonic()
        if ping:
            with Pinger(ping) as pinger:
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            silence.values.append(pinger.lost)
        else:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        took.values.append(time.monotonic() - begun)

    for number in range(rounds):
        move(source, target, there)
        move(target, source, back)
        tell(f"round {number + 1} of {rounds}: {there.values[-1]:.2f} s there, {back.values[-1]:.2f} s back")
    return rows
