"""scenarios.py: the benches of this tree by name: the question, the command, how its answer is read.

Each command is one that a person can run by itself. 'rounds' is how often the harness runs it: benches that
compare two programs do their own rounds in turns and are run once."""
import json
import os
import tempfile

from harness import series

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


class Scenario:
    def __init__(self, name, question, command, quick=(), rounds=1, kind="text", needs="root", target=None):
        self.name, self.question, self.command, self.quick = name, question, command, list(quick)
        self.rounds, self.kind, self.needs, self.target = rounds, kind, needs, target or {}

    def argv(self, build, quick, result):
        words = [word.format(tree=TREE, build=build) for word in self.command]
        if quick:
            words += self.quick
        return words + (["--json", result] if self.kind != "text" else [])

    def once(self, build, quick, tell):
        """One run: [(what, unit, value)…], and the rows of a comparison with their targets."""
        env = dict(os.environ, HAWSER_BUILD=build)
        with tempfile.TemporaryDirectory(prefix="hawser-bench-") as work:
            result = os.path.join(work, "result.json")
            text = series.run(self.argv(build, quick, result), env, tell)
            if self.kind == "text":
                return series.from_text(text), []
            with open(result, encoding="utf-8") as data:
                return READERS[self.kind](json.load(data))


def _read_compare(data):
    """What vs-lxd and metrics write: {"rows": [{"what","unit","lxd","hawser","ratio","target"}]}."""
    found = []
    for row in data["rows"]:
        found.append((f"{row['what']}: LXD", row["unit"], row["lxd"]))
        found.append((f"{row['what']}: Hawser", row["unit"], row["hawser"]))
    return found, data["rows"]


def _read_migrate(data):
    """What migrate writes: a list of rounds, or a map of them; every number is taken by its path."""
    found = []

    def walk(value, path):
        if isinstance(value, dict):
            label = [str(value[key]) for key in ("guest", "way", "name") if isinstance(value.get(key), str)]
            for key, inner in value.items():
                walk(inner, path + label + [key] if not isinstance(inner, str) else path)
        elif isinstance(value, list) and value and all(isinstance(each, (int, float)) for each in value):
            found.extend((" ".join(path), _unit(path[-1]), float(each)) for each in value[:1])
        elif isinstance(value, list):
            for inner in value:
                walk(inner, path)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and path:
            found.append((" ".join(path), _unit(path[-1]), float(value)))

    walk(data, [])
    return found, []


def _unit(key):
    for end, unit in (("_ms", "ms"), ("_s", "s"), ("_mib", "MiB"), ("_bytes", "B"), ("_us", "us")):
        if key.endswith(end):
            return unit
    return ""


READERS = {"compare": _read_compare, "migrate": _read_migrate}

SCENARIOS = [
    Scenario("vs-lxd", "time and memory of LXD 5.0.2's everyday work: launch, start, stop, delete, lists",
             ["{tree}/bench/vs-lxd"], ["--quick"], kind="compare", needs="root, Debian's lxd"),
    Scenario("metrics", "a scrape with 1,000 containers, 100 of them running, and memory over 1,000 scrapes",
             ["{tree}/bench/metrics"], ["--quick"], kind="compare", needs="root, Debian's lxd"),
    Scenario("ovn", "the northbound database behind a change, beside LXD's ovn-nbctl calls",
             ["{tree}/bench/ovn"], ["--rounds", "3"], needs="root, OVN"),
    Scenario("fastpath", "traffic between two routed instances: bare veth, fast path, OVS's userspace datapath",
             ["{tree}/bench/fastpath/fastpath"], ["--rounds", "1", "--seconds", "1"], needs="root, Open vSwitch"),
    Scenario("migrate", "a running guest's memory by hawser-pages and by QEMU's own migration",
             ["{tree}/bench/migrate"], ["--quick", "--rounds", "1"], kind="migrate", needs="QEMU, 6 GiB"),
    Scenario("hw-inventory", "one look at a host with 256 virtual functions",
             ["{build}/bench/bench_hw_inventory", "50"], rounds=5),
    Scenario("dpd-claims", "virtual functions claimed and given back by hawser-dpd's ledger",
             ["{build}/bench/bench_dpd_claims"], rounds=3),
]


def find(names):
    known = {each.name: each for each in SCENARIOS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"hawser-bench: no scenario '{unknown[0]}': hawser-bench list shows those that there are")
    return [known[name] for name in names] if names else SCENARIOS
