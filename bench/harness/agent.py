"""agent.py: an agent behind its unix socket; and many containers on it at once, as lxd-benchmark does."""
import concurrent.futures
import http.client
import itertools
import json
import os
import socket
import time

from harness.series import Series

MARK = "user.hawser-bench"  # on each container that is made here

class Agent:
    def __init__(self, directory):
        self.path = os.path.join(directory, "unix.socket")

    def ask(self, method, path, body=None):
        """The reply's metadata; waits for the operation when there is one."""
        link = http.client.HTTPConnection("hawser", timeout=600)
        link.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.sock.connect(self.path)
        try:
            return self._ask(link, method, path, body)
        finally:
            link.close()

    def _ask(self, link, method, path, body):
        link.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = json.loads(link.getresponse().read())
        if answer["type"] == "error":
            raise RuntimeError(f"{method} {path}: {answer['error']}")
        if answer["type"] == "async":
            done = self._ask(link, "GET", answer["operation"] + "/wait", None)
            if done["status_code"] != 200:
                raise RuntimeError(f"{method} {path}: {done['err']}")
            return done
        return answer["metadata"]


def find_directory():
    for path in (os.environ.get("HAWSER_DIR"), os.environ.get("LXD_DIR"), "/var/lib/hawser", "/var/lib/lxd"):
        if path and os.path.exists(os.path.join(path, "unix.socket")):
            return path
    raise SystemExit("hawser-bench: no agent answers here: start hawserd, or set HAWSER_DIR")


def _source(agent, image):
    if not image:
        aliases = agent.ask("GET", "/1.0/images/aliases?recursion=1")
        if not aliases:
            raise SystemExit("hawser-bench: the agent has no image: hawser image build debian/12, or --image")
        image = aliases[0]["name"]
    return {"type": "image", "alias": image}, image


def launch(count, parallel, image, keep, tell):
    """{step: Series of ms} for 'count' containers, 'parallel' at a time; the containers go again unless 'keep'."""
    agent = Agent(find_directory())
    source, image = _source(agent, image)
    taken = {path.rsplit("/", 1)[1] for path in agent.ask("GET", "/1.0/instances")}
    names = list(itertools.islice((f"bench-{at}" for at in itertools.count(1) if f"bench-{at}" not in taken), count))
    made = []

    def create(name):
        made.append(name)  # also one whose creation fails halfway
        try:
            agent.ask("POST", "/1.0/instances", {"name": name, "source": source, "config": {MARK: "1"}})
        except RuntimeError as error:
            raise RuntimeError(f"'{name}' of image '{image}': {error}") from None

    def state(action):
        return lambda name: agent.ask("PUT", f"/1.0/instances/{name}/state",
                                      {"action": action, "force": True, "timeout": 60})

    def each(what, call, whom=names):
        return _each(what, call, whom, parallel, tell)

    rows = []
    tell(f"{count} containers of '{image}', {parallel} at a time")
    try:
        rows += each("create", create) + each("start", state("start"))
        if not keep:
            rows += each("stop", state("stop"))
    finally:
        if not keep:
            rows += each("delete", lambda name: _delete(agent, name), made)
    return rows


def delete(parallel, tell):
    """What runs with 'keep' have left on the agent."""
    agent = Agent(find_directory())
    names = [one["name"] for one in agent.ask("GET", "/1.0/instances?recursion=1") if MARK in one["config"]]
    if not names:
        tell("there is nothing that hawser-bench made")
        return []
    return _each("delete", lambda name: _delete(agent, name), names, parallel, tell)


def _each(what, call, names, parallel, tell):
    took = Series(f"{what} one", "ms")

    def one(name):
        begun = time.monotonic()
        call(name)
        took.values.append((time.monotonic() - begun) * 1000)

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        list(pool.map(one, names))
    wall = time.monotonic() - begun
    tell(f"{what}: {len(names)} in {wall:.2f} s, {len(names) / wall:.2f} a second; one takes {took.median():.0f} ms")
    return [took, Series(f"{what} all", "s", [wall])]


def _delete(agent, name):
    try:
        agent.ask("DELETE", f"/1.0/instances/{name}")
    except RuntimeError as error:
        if "not found" not in str(error):
            agent.ask("PUT", f"/1.0/instances/{name}/state", {"action": "stop", "force": True, "timeout": 60})
            agent.ask("DELETE", f"/1.0/instances/{name}")
