"""agent.py: an agent behind its unix socket; and many containers on it at once, as lxd-benchmark does."""
import concurrent.futures
import http.client
import json
import os
import socket
import time

from harness.series import Series


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
    names = [f"bench-{number + 1}" for number in range(count)]

    def create(name):
        agent.ask("POST", "/1.0/instances", {"name": name, "source": source, "config": {"user.hawser-bench": "1"}})

    def state(action):
        return lambda name: agent.ask("PUT", f"/1.0/instances/{name}/state",
                                      {"action": action, "force": True, "timeout": 60})

    def each(what, call):
        took = Series(f"{what} one", "ms")

        def one(name):
            begun = time.monotonic()
            call(name)
            took.values.append((time.monotonic() - begun) * 1000)

        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
            list(pool.map(one, names))
        wall = time.monotonic() - begun
        tell(f"{what}: {count} in {wall:.2f} s, {count / wall:.2f} a second; one takes {took.median():.0f} ms")
        return [took, Series(f"{what} all", "s", [wall])]

    rows = []
    tell(f"{count} containers of '{image}', {parallel} at a time")
    try:
        rows += each("create", create) + each("start", state("start"))
        if not keep:
            rows += each("stop", state("stop"))
    finally:
        if not keep:
            rows += each("delete", lambda name: _delete(agent, name))
    return rows


def _delete(agent, name):
    try:
        agent.ask("DELETE", f"/1.0/instances/{name}")
    except RuntimeError as error:
        if "not found" not in str(error):
            agent.ask("PUT", f"/1.0/instances/{name}/state", {"action": "stop", "force": True, "timeout": 60})
            agent.ask("DELETE", f"/1.0/instances/{name}")
