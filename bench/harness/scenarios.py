"""scenarios.py: the benches of this tree by name: the question, the command, how its answer is read.

Each command is one that a person can run by itself. 'rounds' is how often the harness runs it: benches that
compare two programs do their own rounds in turns and are run once. Claims are those of the last round."""
import json
import os
import tempfile

from harness import claims, series

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


class Scenario:
    """'builds' are the ninja targets that the command does not make itself; 'publish' are the arguments for the
    results that the pages show; 'read' makes claims of what the command printed, or of the JSON file it wrote."""

    def __init__(self, name, question, command, quick=(), publish=(), rounds=1, kind="text", needs="root", builds=(),
                 read=None):
        self.name, self.question, self.command = name, question, command
        self.quick, self.publish, self.builds = list(quick), list(publish), list(builds)
        self.rounds, self.kind, self.needs, self.read = rounds, kind, needs, read

    def argv(self, build, mode, result):
        words = [word.format(tree=TREE, build=build) for word in self.command]
        words += {"quick": self.quick, "publish": self.publish}.get(mode, [])
        return words + (["--json", result] if self.kind != "text" else [])

    def prepare(self, build, tell):
        """The build directory with the programs that are measured."""
        if not os.path.exists(os.path.join(build, "build.ninja")):
            series.run(["meson", "setup", build, TREE, "-Dbuildtype=release"], None, tell)
        series.run(["ninja", "-C", build] + self.builds, None, tell)

    def once(self, build, mode, tell):
        """One run: [(what, unit, value)…], and the claims that can be made of it."""
        env = dict(os.environ, HAWSER_BUILD=build)
        with tempfile.TemporaryDirectory(prefix="hawser-bench-") as work:
            result = os.path.join(work, "result.json")
            text = series.run(self.argv(build, mode, result), env, tell)
            if self.kind == "text":
                return series.from_text(text), self.read(text)
            with open(result, encoding="utf-8") as data:
                found = json.load(data)
            return ROWS[self.kind](found), self.read(found)


def _read_compare(data):
    """What vs-lxd and metrics write: {"rows": [{"what","unit","lxd","hawser","ratio","target"}]}."""
    found = []
    for row in data["rows"]:
        found.append((f"{row['what']}: LXD", row["unit"], row["lxd"]))
        found.append((f"{row['what']}: Hawser", row["unit"], row["hawser"]))
    return found


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
    return found


def _unit(key):
    for end, unit in (("_ms", "ms"), ("_s", "s"), ("_mib", "MiB"), ("_bytes", "B"), ("_us", "us")):
        if key.endswith(end):
            return unit
    return ""


ROWS = {"compare": _read_compare, "migrate": _read_migrate}

SCENARIOS = [
    Scenario("vs-lxd", "time and memory of LXD 5.0.2's everyday work: launch, start, stop, delete, lists",
             ["{tree}/bench/vs-lxd"], ["--quick"], ["--rounds", "11"], kind="compare", needs="root, Debian's lxd",
             read=claims.of_compare),
    Scenario("metrics", "a scrape with 1,000 containers, 100 of them running, and memory over 1,000 scrapes",
             ["{tree}/bench/metrics"], ["--quick"], ["--rounds", "3"], kind="compare", needs="root, Debian's lxd",
             read=claims.of_compare),
    Scenario("ovn", "the northbound database behind a change, beside LXD's ovn-nbctl calls",
             ["{tree}/bench/ovn"], ["--rounds", "3"], ["--rounds", "7"], needs="root, OVN", read=claims.of_ovn),
    Scenario("fastpath", "traffic between two routed instances: bare veth, fast path, OVS's userspace datapath",
             ["{tree}/bench/fastpath/fastpath"], ["--rounds", "1", "--seconds", "1"], ["--seconds", "1"],
             needs="root, Open vSwitch", builds=["tests/bpf/fastpath_tool", "bench/fastpath_rounds"],
             read=claims.of_fastpath),
    Scenario("migrate", "a running guest's memory by hawser-pages and by QEMU's own migration",
             ["{tree}/bench/migrate"], ["--quick", "--rounds", "1"], ["--rounds", "3"], kind="migrate", needs="QEMU, 6 GiB",
             read=claims.of_moves),
    Scenario("dpdk", "a forwarded packet on DPDK: Hawser's engine, a bare rewrite, rte_hash, testpmd, OVS-DPDK",
             ["{tree}/bench/dpdk/dpdk.py", "--build", "{build}"], ["--rounds", "1", "--flows", "1000"],
             ["--rounds", "1", "--flows", "1000,65536"], needs="root, packages of docs/packages/bench",
             builds=["bench/bench_dpdk"], read=claims.of_verdicts),
    Scenario("vm-start", "an agent's time from the request to a virtual machine's first instruction",
             ["{tree}/bench/vm-start"], ["3"], needs="root, QEMU", read=claims.of_vm_start),
    Scenario("moves", "for how long a virtual machine stands still that moves between two agents",
             ["{tree}/bench/moves"], ["3"], needs="root, QEMU", read=claims.of_pauses),
    Scenario("hw-inventory", "one look at a host with 256 virtual functions",
             ["{build}/bench/bench_hw_inventory", "50"], rounds=5, builds=["bench/bench_hw_inventory"],
             read=claims.of_inventory),
    Scenario("dpd-claims", "virtual functions claimed and given back by hawser-dpd's ledger",
             ["{build}/bench/bench_dpd_claims"], rounds=3, builds=["bench/bench_dpd_claims"], read=claims.of_dpd),
]


def find(names):
    known = {each.name: each for each in SCENARIOS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"hawser-bench: no scenario '{unknown[0]}': hawser-bench list shows those that there are")
    return [known[name] for name in names] if names else SCENARIOS
