#!/usr/bin/env python3
"""summary.py TESTLOG STATUS: what `meson test` did, by assertion, from its testlog.json.

A TAP test counts as many times as it asserts; any other test counts once. Failures and skips are
listed, then the line "N passed, M failed, K skipped" closes. Exit status: 1 when anything failed, or
when `meson test` itself ended with STATUS other than 0."""
import json
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
    elif result in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS") and not failed:
        failed.append(f"{name}: {result.lower()}")
    elif result in ("OK", "EXPECTEDFAIL") and not tap:
        passed = 1
    return passed, failed, skipped


def main():
    passed, failed, skipped, tests = 0, [], [], 0
    try:
        with open(sys.argv[1], encoding="utf-8") as log:
            for line in log:
                good, bad, left = count(json.loads(line))
                passed, failed, skipped, tests = (
                    passed + good, failed + bad, skipped + left, tests + 1)
    except OSError as error:
        failed.append(f"no test log: {error}")
    status = int(sys.argv[2])
    if status and not failed:
        failed.append(f"meson test ended with status {status}")
    for line in skipped:
        print("skipped:", line)
    for line in failed:
        print("failed:", line)
    print(f"{tests} test programs")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


sys.exit(main())
