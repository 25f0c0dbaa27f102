"""hosts.py: two hosts of an operator's own: the network between them, and moves of an instance.

Network: one end serves, the other connects; every number is made over TCP by this program on both ends, so
nothing else has to be installed. A request is one letter that says what the connection is for."""
import os
import re
import selectors
import signal
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


def serve(address, tell):
    """Until SIGINT or SIGTERM."""
    host, port = split(address)
    until = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: until.set())
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024,
                                    dualstack_ipv6=not host and socket.has_dualstack_ipv6())
    tell(f"serving on {host or 'every address'}, port {port}; end with ^C")
    with selectors.DefaultSelector() as wait:
        wait.register(listener, selectors.EVENT_READ)
        while not until.is_set():
            if wait.select(0.2):
                link, _ = listener.accept()
                threading.Thread(target=_serve_one, args=(link,), daemon=True).start()
    listener.close()


# ---- the end that asks ----

def _connect(host, port, what):
    try:
        link = socket.create_connection((host, port), timeout=30)
    except OSError as error:
        raise SystemExit(f"hawser-bench: {host}:{port}: {error.strerror or error}: does "
                         f"'hawser-bench network serve' run there?") from None
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
    """Asks fifty times a second whether an address answers; the longest silence, in ms."""
    EVERY_MS, PATIENCE_S = 20, 60

    def __init__(self, address):
        self.address, self.longest, self.answered, self.child = address, 0, [], None
        self.news = threading.Event()

    def __enter__(self):
        command = ["ping", "-n", "-i", str(self.EVERY_MS / 1000), "-W", "1", self.address]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        self._wait("does not answer")
        return self

    def _listen(self):
        for line in self.child.stdout:
            found = re.search(r"icmp_seq=(\d+) ttl", line)
            if found:
                self.answered.append(int(found[1]))
                self.news.set()

    def _wait(self, otherwise):
        self.news.clear()
        if not self.news.wait(self.PATIENCE_S):
            self.child.kill()
            raise SystemExit(f"hawser-bench: {self.address} {otherwise}")

    def settle(self):
        """A silence that lasts when the move has ended counts until it is over."""
        self._wait(f"did not answer within {self.PATIENCE_S} s after the move")

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        gaps = [after - before for before, after in zip(self.answered, self.answered[1:])]
        self.longest = (max(gaps, default=1) - 1) * self.EVERY_MS


def migration(name, source, target, rounds, ping, tell):
    program = os.environ.get("HAWSER", "hawser")
    there, back = Series("move there", "s"), Series("move back", "s")
    rows = [there, back]
    silence = Series("longest silence of its address", "ms")
    if ping:
        rows.append(silence)

    def command(origin, goal):
        if subprocess.run([program, "move", f"{origin}{name}", f"{goal}{name}"], check=False,
                          stdin=subprocess.DEVNULL).returncode != 0:
            raise SystemExit(f"hawser-bench: the move of '{name}' from {origin} to {goal} failed: it is on {origin}")

    def move(origin, goal, took):
        begun = time.monotonic()
        if ping:
            with Pinger(ping) as pinger:
                command(origin, goal)
                took.values.append(time.monotonic() - begun)
                pinger.settle()
            silence.values.append(pinger.longest)
        else:
            command(origin, goal)
            took.values.append(time.monotonic() - begun)

    for number in range(rounds):
        move(source, target, there)
        move(target, source, back)
        tell(f"round {number + 1} of {rounds}: {there.values[-1]:.2f} s there, {back.values[-1]:.2f} s back")
    return rows
