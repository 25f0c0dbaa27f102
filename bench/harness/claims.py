"""claims.py: what is claimed of a scenario's numbers, read from what its command says; the tables of the pages.

A claim is {"what", "unit", "sides": {name: value}, "value", "target", "most"}: 'value' is what is held against the
target, at most or at least that much. The last result of each scenario lies in bench/results/last.json, and the
tables of README.md and bench/README.md are made from it, each between two marks of its page."""
import json
import os
import re

from harness import machine

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LAST = os.path.join(TREE, "bench", "results", "last")
PAGES = ("README.md", "bench/README.md")
MARKS = re.compile(r"(<!-- bench: ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)


def claim(what, value, target, most=True, unit="", **sides):
    return {"what": what, "unit": unit, "sides": sides, "value": value, "target": target, "most": most}


def met(one):
    return one["value"] <= one["target"] if one["most"] else one["value"] >= one["target"]


# ---- what the commands say ----

def of_compare(data):
    """vs-lxd and metrics: {"rows": [{"what", "unit", "lxd", "hawser", "ratio", "target"}]}."""
    return [claim(row["what"], row["ratio"], row["target"], unit=row["unit"], LXD=row["lxd"], Hawser=row["hawser"])
            for row in data["rows"]]


def _numbers(line):
    return [float(word) for word in re.findall(r"(?<![\w.])\d[\d,]*\.?\d*", line.replace(",", ""))]


FASTPATH = {"tcp_gbits": ("TCP", "Gbit/s", 0.95, 14), "udp_kpps": ("UDP, 1,000 packets a second", "", 0.92, None),
            "tcp_trips": ("TCP round trips a second", "", 0.90, None),
            "udp_trips": ("UDP round trips a second", "", 0.90, None),
            "connections": ("new connections a second", "", None, 0.95)}


def of_fastpath(text):
    found = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in FASTPATH and len(words) == 6:
            what, unit, of_bare, of_ovs = FASTPATH[words[0]]
            bare, fast, ovs = map(float, words[1:4])
            sides = {"unit": unit, "bare": bare, "fast": fast, "OVS": ovs}
            if of_bare:
                found.append(claim(f"{what}, of bare", fast / bare, of_bare, False, **sides))
            if of_ovs:
                found.append(claim(f"{what}, of OVS", fast / ovs, of_ovs, False, **sides))
        cost = re.match(r"a packet at (\d+) flows: .*?hit-own (\d+) ns; hit-any-own (\d+) ns", line)
        if cost and cost[1] == "1000":
            found.append(claim("a hit at 1 k flows, less an empty program", float(cost[2]), 40, unit="ns"))
        elif cost and cost[1] == "1000000":
            found.append(claim("a hit at 1 M flows, none of them in a cache", float(cost[3]), 100, unit="ns"))
    return found


def of_ovn(text):
    found = []
    for line in text.splitlines():
        plug = re.match(r"NIC plug, until its flows are installed +ovn-nbctl +([\d.]+) ms, Hawser +([\d.]+) ms", line)
        if plug:
            theirs, ours = float(plug[1]), float(plug[2])
            found.append(claim("NIC plug, until its flows are installed", ours / theirs, 0.5, unit="ms",
                               **{"ovn-nbctl": theirs, "Hawser": ours}))
        elif line.startswith("1,000 NICs on 50"):
            ms, _, transactions = _numbers(line.split("from empty")[1])[:3]
            found += [claim("1,000 NICs on 50 peered networks, from empty", ms, 10000, unit="ms"),
                      claim("its transactions", transactions, 50)]
        elif line.startswith("nothing to do"):
            found.append(claim("the same, nothing to do", _numbers(line)[0], 100, unit="ms"))
        elif line.startswith("one NIC more"):
            ms, transactions = _numbers(line)[:2]
            found.append(claim(f"transactions of one NIC more ({ms:.0f} ms)", transactions, 1))
    return found


def of_dpd(text):
    return [claim(f"a claim or release, {what}, 99 of 100", _numbers(line.split("p99")[1])[0] / 1000, 2, unit="ms")
            for line in text.splitlines() for name, what in (("wall", "by the clock"), ("own", "hawser-dpd's own time"))
            if line.startswith(name)]


def of_inventory(text):
    return [claim("CPU of a look at 2 PFs and 256 VFs", _numbers(line)[0], 50, unit="ms")
            for line in text.splitlines() if line.startswith("both")]


def of_vm_start(text):
    return [claim("request to QEMU running, median", _numbers(line.split("median")[1])[0], 150, unit="ms")
            for line in text.splitlines() if "start to QEMU running" in line]


def of_pauses(text):
    found, rest = [], {}
    for line in text.splitlines():
        pause = re.match(r"# (.*), by (.*): pause median ([\d.]+) ms, longest ([\d.]+) ms", line)
        if pause and pause[1] == "at rest":
            rest[pause[2]] = float(pause[3])
        elif pause:
            found.append(claim(f"the longest pause of a guest that is {pause[1]}", float(pause[4]), 50, unit="ms"))
    if len(rest) == 2:
        ours, theirs = rest["hawser-pages"], rest["QEMU's migration"]
        found.insert(0, claim("pause of a guest at rest, median", ours / theirs, 1, unit="ms", QEMU=theirs, Hawser=ours))
    return found


def of_verdicts(text):
    """'met    WHAT: VALUE (target ≤ BOUND)', as bench/dpdk/dpdk.py says it."""
    return [claim(match[1].strip(), float(match[2]), float(match[4]), match[3] == "≤")
            for match in re.finditer(r"^(?:met|MISSED) +(.*): ([\d.]+) \(target ([≤≥]) ([\d.]+)\)$", text, re.M)]


def of_moves(data):
    """What migrate holds against its bars: shares of QEMU's best way."""
    return [claim(f"guest '{bar['guest']}': {bar['name']}", bar["value"], bar["most"]) for bar in data["bars"]]


# ---- the tables ----

def number(value):
    if value and abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(claims):
    sides = list(dict.fromkeys(name for one in claims for name in one["sides"]))
    text = ["| | " + "".join(f"{name} | " for name in sides) + "measured | target | |\n",
            "|---|" + "---:|" * (len(sides) + 2) + "---|\n"]
    for one in claims:
        unit = f" {one['unit']}" if one["unit"] else ""
        cells = [number(one["sides"][name]) + unit if name in one["sides"] else "" for name in sides]
        own = "" if one["sides"] else unit
        text.append(f"| {one['what']} | " + "".join(f"{cell} | " for cell in cells) +
                    f"{number(one['value'])}{own} | {'≤' if one['most'] else '≥'} {number(one['target'])}{own} "
                    f"| {'met' if met(one) else '**missed**'} |\n")
    return "".join(text)


def section(one):
    """A scenario's last result as a page shows it."""
    found = one["machine"]
    text = (f"`{one['command']}` on {machine.line(found)}; "
            f"load {found['load']} at its begin; {found['when'][:10]}, commit {found.get('commit') or 'unknown'}:\n\n")
    return text + (f"Not measured: {one['failed']}\n" if one.get("failed") else table(one["claims"]))


def overview(last):
    text = ["| scenario | claims met | not met |\n", "|---|---:|---|\n"]
    for one in last.values():
        claims = one.get("claims", [])
        missed = "; ".join(f"{each['what']} ({number(each['value'])})" for each in claims if not met(each))
        text.append(f"| `{one['name']}` | {sum(map(met, claims))} of {len(claims)} | {one.get('failed') or missed} |\n")
    return "".join(text)


def load():
    try:
        with open(LAST + ".json", encoding="utf-8") as data:
            return {one["name"]: one for one in json.load(data)["scenarios"]}
    except FileNotFoundError:
        return {}


def filled(page, last):
    """The page's text with each table made anew; a scenario without a result keeps what stands there."""
    with open(os.path.join(TREE, page), encoding="utf-8") as data:
        text = data.read()

    def one(match):
        if match[2] == "overview" and last:
            return match[1] + overview(last) + match[3]
        return match[1] + section(last[match[2]]) + match[3] if match[2] in last else match[0]

    return text, MARKS.sub(one, text)


def stale():
    """The pages whose tables are not those of the last results."""
    last = load()
    return [page for page in PAGES if len(set(filled(page, last))) > 1]


def write():
    last = load()
    for page in PAGES:
        text, new = filled(page, last)
        if new != text:
            with open(os.path.join(TREE, page), "w", encoding="utf-8") as out:
                out.write(new)
