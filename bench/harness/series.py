"""series.py: numbers of one kind: medians, spread, and whether two series differ."""
import re
import statistics
import subprocess
import time

UNITS = ("ms", "us", "µs", "ns", "s", "MiB/s", "GiB/s", "MiB", "GiB", "KiB", "Gbit/s", "Mbit/s", "kreq/s", "req/s",
         "k/s", "M/s", "/s", "%")
NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(" + "|".join(re.escape(u) for u in UNITS) + r")(?![\w/])")
LESS_IS_BETTER = {"ms", "us", "µs", "ns", "s", "MiB", "GiB", "KiB"}


class Series:
    """The values of one row, in the order in which they were measured."""

    def __init__(self, what, unit, values=()):
        self.what, self.unit, self.values = what, unit, list(values)

    def median(self):
        return statistics.median(self.values)

    def low(self):
        return min(self.values)

    def high(self):
        return max(self.values)

    def json(self):
        return {"what": self.what, "unit": self.unit, "median": self.median(), "low": self.low(),
                "high": self.high(), "values": self.values}


def from_text(text):
    """(what, unit, value) of every number with a unit; what stands before it on the line names it."""
    found = []
    for line in text.splitlines():
        head, at = "", 0
        for match in NUMBER.finditer(line):
            between = line[at:match.start()].strip(" ,;:()|\t")
            at = match.end()
            head = head or between
            what = head if between == head else f"{head}: {between}" if between else head
            found.append((re.sub(r"\s+", " ", what), match[2], float(match[1])))
    return found


def collect(rounds):
    """[[(what, unit, value)…]…] of several rounds as Series, in order of the first appearance."""
    table = {}
    for one in rounds:
        seen = {}
        for what, unit, value in one:
            seen[what] = seen.get(what, 0) + 1
            name = what if seen[what] == 1 else f"{what} #{seen[what]}"
            table.setdefault(name, Series(name, unit)).values.append(value)
    return list(table.values())


def run(command, env=None, tell=None, seconds=3600):
    """Its output; what it says on stderr goes to ours. A failure raises."""
    if tell:
        tell("$ " + " ".join(command))
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout.strip()[-400:]}")
    skipped = re.search(r"^1\.\.0 # SKIP (.*)$", done.stdout, re.M)
    if skipped:
        raise RuntimeError(f"{command[0]} measured nothing: {skipped[1]}")
    return done.stdout


def in_turns(sides, rounds, tell):
    """Calls each of the functions once a round, in alternating order; their results, one list a side."""
    results = [[] for _ in sides]
    for number in range(rounds):
        order = list(range(len(sides)))
        if number % 2:
            order.reverse()
        for which in order:
            results[which].append(sides[which]())
        tell(f"round {number + 1} of {rounds}")
    return results


def timed(call):
    begun = time.monotonic()
    call()
    return (time.monotonic() - begun) * 1000


def differs(old, new):
    """Whether the ranges of two rows do not meet: then the change is more than their noise."""
    return old["high"] < new["low"] or new["high"] < old["low"]
