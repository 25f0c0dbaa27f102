"""command.py: the command line of hawser-bench."""
import argparse
import os
import shlex
import subprocess
import sys

from harness import agent, claims, hosts, machine, report, scenarios, series


def tell(text):
    print(text, file=sys.stderr, flush=True)


def result_of(name, question, command, rows, **more):
    return dict({"name": name, "question": question, "command": command, "rows": [row.json() for row in rows]}, **more)


def finish(found, out, tree=None):
    result = {"machine": machine.describe(tree), "scenarios": found}
    print(report.markdown(result))
    if out:
        report.write(result, out, tell)
    return 1 if any(one.get("failed") for one in found) else 0


# ---- scenarios ----

def run_one(scenario, args, build, mode):
    rounds = args.rounds or (1 if mode == "quick" else scenario.rounds)
    builds = [build] + ([os.path.realpath(args.against)] if args.against else [])
    claimed = []

    def side(which):
        def once():
            rows, found = scenario.once(which, mode, tell)
            claimed[:] = found
            return rows
        return once

    for each in builds:
        scenario.prepare(each, tell)
    results = series.in_turns([side(which) for which in builds], rounds, tell)
    rows = [series.collect(one) for one in results]
    words = " ".join(scenario.argv(build, mode, "FILE")).replace(scenarios.TREE + "/", "")
    more = {"claims": claimed} if claimed and not args.against else {}
    if args.against:
        names = {row.what for row in rows[0]} & {row.what for row in rows[1]}
        rows = [[row for row in side_rows if row.what in names] for side_rows in rows]
        more["against"] = [row.json() for row in rows[1]]
    return result_of(scenario.name, scenario.question, words, rows[0], **more)


def publish(found):
    """Into bench/results/, in the place of the scenario's last result; then into the pages. A run that made no
    claims changes nothing."""
    if not found.get("claims"):
        return
    last = claims.load()
    last[found["name"]] = found
    order = [each.name for each in scenarios.SCENARIOS]
    os.makedirs(os.path.dirname(claims.LAST), exist_ok=True)
    ordered = sorted(last.values(), key=lambda one: order.index(one["name"]) if one["name"] in order else len(order))
    report.write({"machine": found["machine"], "scenarios": ordered}, claims.LAST, tell)
    claims.write()


def run(args):
    build = os.path.realpath(os.environ.get("HAWSER_BUILD", os.path.join(scenarios.TREE, "build-release")))
    if not os.path.isdir(os.path.join(scenarios.TREE, "agent")):
        raise SystemExit("hawser-bench: scenarios need the source tree: run bench/hawser-bench there")
    mode = "publish" if args.publish else "quick" if args.quick else ""
    found = []
    for scenario in scenarios.find(args.names):
        tell(f"== {scenario.name}: {scenario.question}")
        before = machine.describe(scenarios.TREE)
        try:
            found.append(run_one(scenario, args, build, mode))
        except (RuntimeError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            tell(f"{scenario.name}: {error}")
            found.append(result_of(scenario.name, scenario.question, " ".join(scenario.command), [], failed=str(error)))
        found[-1]["machine"] = before
        if args.publish:
            publish(found[-1])
    return finish(found, args.out, scenarios.TREE)


def pages(args):
    if args.write:
        claims.write()
    stale = claims.stale()
    for page in stale:
        tell(f"{page}: its tables are not those of bench/results/last.json: bench/hawser-bench pages --write")
    return 1 if stale else 0


def list_all(_):
    for scenario in scenarios.SCENARIOS:
        print(f"{scenario.name:14} {scenario.question} (needs {scenario.needs})")
    return 0


def ab(args):
    def side(words):
        def once():
            def call():
                subprocess.run(shlex.split(words), check=True, stdout=subprocess.DEVNULL)
            return [("wall clock", "ms", series.timed(call))]
        return once

    results = series.in_turns([side(args.a), side(args.b)], args.rounds or 11, tell)
    rows = [series.collect(one) for one in results]
    return finish([result_of("ab", f"A: {args.a}; B: {args.b}", "hawser-bench ab", rows[0],
                             against=[row.json() for row in rows[1]])], args.out)


def compare(args):
    lines, worse = report.compare(report.load(args.old), report.load(args.new))
    print("\n".join(lines))
    return 1 if worse else 0


def show(args):
    print(report.markdown(report.load(args.file)))
    return 0


# ---- agents and hosts ----

def launch(args):
    rows = agent.launch(args.launch, args.parallel, args.image, args.keep, tell)
    return finish([result_of("launch", f"{args.launch} containers, {args.parallel} at a time",
                             f"hawser-bench --launch {args.launch} --parallel {args.parallel}", rows)], args.out)


def delete(args):
    rows = agent.delete(args.parallel, tell)
    return finish([result_of("delete", "what --keep has left", "hawser-bench --delete", rows)], args.out) if rows else 0


def network(args):
    if args.end == "serve":
        hosts.serve(args.address, tell)
        return 0
    rows = hosts.network(args.address, args.seconds, args.rounds or 3, tell)
    return finish([result_of("network", f"TCP to {args.address}", f"hawser-bench network to {args.address}", rows)],
                  args.out)


def migration(args):
    rows = hosts.migration(args.instance, args.source, args.target, args.rounds or 3, args.ping, tell)
    return finish([result_of("migration", f"'{args.instance}' between {args.source} and {args.target}",
                             f"hawser-bench migration {args.instance} {args.source} {args.target}", rows)], args.out)


# ---- words ----

def parser_of(text):
    parse = argparse.ArgumentParser(prog="hawser-bench", usage=argparse.SUPPRESS, description=text,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--rounds", type=int, default=0)
    common.add_argument("--out")
    parse.add_argument("--launch", type=int)
    parse.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    parse.add_argument("--image")
    parse.add_argument("--keep", action="store_true")
    parse.add_argument("--delete", action="store_true")
    parse.add_argument("--out")
    parse.set_defaults(call=None)
    words = parse.add_subparsers(metavar="")

    def word(name, call, *parents):
        one = words.add_parser(name, parents=list(parents))
        one.set_defaults(call=call)
        return one

    word("list", list_all)
    one = word("run", run, common)
    one.add_argument("names", nargs="*")
    one.add_argument("--quick", action="store_true")
    one.add_argument("--publish", action="store_true")
    one.add_argument("--against")
    word("pages", pages).add_argument("--write", action="store_true")
    one = word("ab", ab, common)
    one.add_argument("--a", required=True)
    one.add_argument("--b", required=True)
    one = word("compare", compare)
    one.add_argument("old")
    one.add_argument("new")
    word("report", show).add_argument("file")
    one = word("network", network, common)
    one.add_argument("end", choices=("serve", "to"))
    one.add_argument("address", nargs="?", default="")
    one.add_argument("--seconds", type=float, default=3)
    one = word("migration", migration, common)
    for name in ("instance", "source", "target"):
        one.add_argument(name)
    one.add_argument("--ping")
    return parse


def main(argv, text):
    parse = parser_of(text)
    args = parse.parse_args(argv)
    try:
        if args.launch:
            return launch(args)
        if args.delete:
            return delete(args)
        if args.call is None:
            parse.print_help()
            return 2
        return args.call(args)
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        tell(f"hawser-bench: {error}")
        return 1
