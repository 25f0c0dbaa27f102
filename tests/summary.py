#!/usr/bin/env python3
"""summary.py TESTLOG STATUS [AGAIN]: what `meson test` did, by assertion, from its testlog.json.

A TAP test counts as many times as it asserts; any other test counts once. Failures and skips are
listed, then the line "N passed, M failed, K skipped" closes. Exit status: 1 when anything failed, or
when `meson test` itself ended with STATUS other than 0.

AGAIN is the log of a second run of the programs that failed, each alone. One that passes then counts
as it did then, and its first failures are listed as unsteady: they are defects, of the test or of
what it tests, but not of this change alone.

summary.py --failed TESTLOG prints the names of the programs that failed."""
import json
import os
import re
import sys

LINE = re.compile(r"^(not )?ok\b\s*\d*\s*-?\s*(.*?)(?:\s+#\s*(SKIP)\S*\s*(.*))?$", re.I)
NONE = re.compile(r"^1\.\.0\s*#\s*skip\S*\s*(.*)$", re.I)


def count(test):
    """(passed, [failed], [skipped]) of one test's record."""
    passed, failed, skipped = 0, [], []
    name = test["name"].split(" / ")[-1]
    tap = False
    for line in (test.get("stdout") or "").splitlines():
        whole = NONE.match(line)
        if whole:
            skipped.append(f"{name}: {whole[1]}")
            tap = True
            continue
        found = LINE.match(line)
        if not found:
            continue
        tap = True
        if found[3] and found[3].upper() == "SKIP":
            skipped.append(f"{name}: {found[2]}: {found[4]}")
        elif found[1]:
            failed.append(f"{name}: {found[2]}")
        else:
            passed += 1
    result = test["result"]
    if result == "SKIP" and not skipped:
        lines = (test.get("stdout") or "").strip().splitlines() or ["no reason given"]
        skipped.append(f"{name}: {lines[-1]}")
    elif result in BAD and not failed:
        failed.append(f"{name}: {result.lower()}")
    elif result in ("OK", "EXPECTEDFAIL") and not tap:
        passed = 1
    return passed, failed, skipped


BAD = ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS")


def read(path):
    """The records of a log, by name."""
    with open(path, encoding="utf-8") as log:
        return {test["name"]: test for test in map(json.loads, log)}


def main():
    if sys.argv[1] == "--failed":
        for name, test in read(sys.argv[2]).items():
            if test["result"] in BAD:
                print(name.split(" / ")[-1])
        return 0
    passed, failed, skipped, unsteady, tests, again = 0, [], [], [], {}, {}
    status = int(sys.argv[2])
    try:
        tests = read(sys.argv[1])
        again = read(sys.argv[3]) if len(sys.argv) > 3 and os.path.exists(sys.argv[3]) else {}
    except OSError as error:
        failed.append(f"no test log: {error}")
    for name, test in tests.items():
        if test["result"] in BAD and again.get(name, test)["result"] not in BAD:
            unsteady += count(test)[1]
            test = again[name]
        good, bad, left = count(test)
        passed, failed, skipped = passed + good, failed + bad, skipped + left
    if status and not failed and not unsteady:
        failed.append(f"meson test ended with status {status}")
    for line in skipped:
        print("skipped:", line)
    for line in unsteady:
        print("unsteady (failed beside others, passed alone):", line)
    for line in failed:
        print("failed:", line)
    print(f"{len(tests)} test programs")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


sys.exit(main())
