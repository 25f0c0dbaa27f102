#!/usr/bin/env python3
"""lint.py CHECK [BUILD_DIR]: what a compiler does not see: format, includes, names, headers, shape.

Each check prints one line a finding, "file:line: what", and exits 1 when there are any.
  format    clang-format 14 agrees with every C file
  includes  who may include whom, own header first, our includes name their folder
  names     stems are unique and say something, no library's prefix, no unfinished markers
  headers   every header compiles alone: by its own file, which includes it first, or here (flags from
            BUILD_DIR/compile_commands.json)
  scripts   shell and python files parse
  braces    every branch and loop has braces
  shape     functions of at most 60 lines; files of more than 600 are told, too
  helpers   hawserd-fork of BUILD_DIR is linked with few libraries
"""
import ast
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDERS = ("base", "proto", "hw", "sftp", "guest", "agent", "ctl", "tests", "bench", "bpf", "dataplane")
# Who may include whom: the first row that a path starts with. '' stands for anything.
MAY_INCLUDE = (
    ("base/", ("base/",)),
    ("proto/", ("proto/", "base/")),
    ("hw/", ("hw/", "base/")),
    ("sftp/", ("sftp/", "base/confine.h")),
    ("guest/", ("guest/", "sftp/", "proto/guestwire.h", "base/confine.h")),
    ("bpf/", ("bpf/", "dataplane/fast/")),
    ("dataplane/fast/", ("dataplane/fast/", "bpf/layout.h")),
    ("dataplane/", ("dataplane/", "base/", "proto/", "hw/", "bpf/layout.h", "bpf/layout_uplink.h", "bpf/layout_far.h", "bpf/fastpath.skel.h",
                    "bpf/uplink.skel.h")),
    ("agent/", ("agent/", "base/", "proto/", "hw/", "sftp/")),
    ("ctl/", ("ctl/", "base/", "proto/")),
    ("tests/", ("",)),
    ("bench/", ("",)),
)
EMPTY_STEMS = {"util", "utils", "common", "helper", "helpers", "misc", "manager"}
LIBRARY_PREFIX = re.compile(r"^(nl|rtnl|json|hash|raft|bpf|rte|lxc|g|MHD|curl|sqlite3|gnutls)_\w+\(")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MAX_FILE_LINES, MAX_FUNCTION_LINES = 600, 60


def files(*endings):
    for folder in FOLDERS:
        for where, folders, names in os.walk(os.path.join(TOP, folder)):
            folders[:] = sorted(d for d in folders if not d.startswith((".", "__")))
            for name in sorted(names):
                if name.endswith(endings):
                    yield os.path.relpath(os.path.join(where, name), TOP)


def lines(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as text:
        return text.read().splitlines()


def check_format(_):
    tool = "clang-format-14"
    found = list(files(".c", ".h"))
    run = subprocess.run([tool, "--dry-run", "-Werror", "--ferror-limit=1", *found], cwd=TOP,
                         capture_output=True, text=True, check=False)
    for line in run.stderr.splitlines():
        if "error:" in line:
            yield line.replace("code should be clang-formatted [-Wclang-format-violations]",
                               f"not formatted: {tool} -i")
    if run.returncode and "error:" not in run.stderr:
        yield run.stderr.strip() or "clang-format failed"


def check_includes(_):
    for path in files(".c", ".h"):
        allowed = next((may for start, may in MAY_INCLUDE if path.startswith(start)), ())
        first = True
        for number, line in enumerate(lines(path), 1):
            found = re.match(r'#\s*include\s+(["<])([^">]+)', line)
            if not found:
                continue
            name = found[2]
            own = path[:-2] + ".h"
            if first and path.endswith(".c") and os.path.exists(os.path.join(TOP, own)) \
                    and name != own:
                yield f"{path}:{number}: its own header '{own}' comes first"
            first = False
            if found[1] == "<":
                if path.startswith("dataplane/fast/") and name == "glib.h":
                    yield f"{path}:{number}: the packet path never includes glib.h"
                continue
            if "/" not in name:
                yield f"{path}:{number}: '{name}' does not name its folder"
            elif not name.startswith(tuple(allowed)):
                yield f"{path}:{number}: {path.split('/')[0]}/ may not include '{name}'"


def check_names(_):
    stems = {}
    for path in files(".c", ".h"):
        stem = os.path.basename(path)[:-2]
        place = path[:-2]
        if stem in EMPTY_STEMS:
            yield f"{path}:1: '{stem}' has no idea of its own: name the idea"
        # A test is named after what it tests; each kind of test has its names to itself.
        kind = "/".join(path.split("/")[:2]) if path.startswith("tests/") else ""
        if stem != "main" and stems.setdefault((kind, stem), place) != place:
            yield f"{path}:1: the stem is also that of '{stems[kind, stem]}'"
        before = ""
        for number, line in enumerate(lines(path), 1):
            # Statics clash with nobody, nor does a module's own name; lxc_conf.c has parts elsewhere.
            found = LIBRARY_PREFIX.match(line)
            own = before.startswith("static") or line.startswith((stem + "_", stem + "(", "lxc_conf_"))
            before = line
            if found and path.endswith(".c") and not own:
                yield f"{path}:{number}: '{found[1]}_' belongs to a library"
        if path.endswith(".h") and "#pragma once" not in lines(path):
            yield f"{path}:1: no '#pragma once'"
    for path in files(".c", ".h", ".sh", ".py", "meson.build"):
        for number, line in enumerate(lines(path), 1):
            found = UNFINISHED.search(line)
            if found and not path.endswith("lint.py") and "mktemp" not in line:
                yield f"{path}:{number}: unfinished: {found[1]}"


def commands_of(build_dir):
    with open(os.path.join(build_dir, "compile_commands.json"), encoding="utf-8") as text:
        return json.load(text)


def header_flags(commands):
    """The include and define flags of the agent's own compile commands, all together."""
    flags = {}
    for entry in commands:
        for word in shlex.split(entry["command"]):
            if word.startswith(("-I", "-D", "-pthread", "-isystem", "-march")):
                if word.startswith("-I") and not os.path.isabs(word[2:]):
                    word = "-I" + os.path.join(entry["directory"], word[2:])
                flags[word] = True
    return list(flags)


def check_headers(build_dir):
    commands = commands_of(build_dir)
    flags = header_flags(commands)
    built = {os.path.relpath(os.path.realpath(os.path.join(entry["directory"], entry["file"])), TOP) for entry in commands}

    def compile_one(path):
        run = subprocess.run(
            ["gcc", "-std=gnu17", "-fsyntax-only", "-Wall", "-Werror", *flags, "-I" + TOP,
             "-Wno-pragma-once-outside-header", "-Wno-unused-const-variable", "-Wno-unknown-pragmas", "-x", "c",
             os.path.join(TOP, path)],
            capture_output=True, text=True, check=False)
        errors = [line for line in run.stderr.splitlines()
                  if "error:" in line and "pragma once in main file" not in line]
        return [f"{path}: does not compile alone: {errors[0]}"] if errors else []

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # Built without DPDK, what is made for it is not compiled either.
        without = () if any("dpdk" in flag for flag in flags) else ("dataplane/poll/",)
        left = (path for path in files(".h") if not path.startswith(without) and path[:-2] + ".c" not in built)
        for found in pool.map(compile_one, left):
            yield from found


def shebang(path):
    with open(path, "rb") as text:
        return text.readline(80).decode("utf-8", "replace")


def check_scripts(_):
    listed = subprocess.run(["find", ".", "-path", "./.git", "-prune", "-o", "-path", "./build*",
                             "-prune", "-o", "-type", "f", "-print"], cwd=TOP,
                            capture_output=True, text=True, check=True).stdout.splitlines()
    for path in sorted(listed):
        full = os.path.join(TOP, path)
        first = shebang(full)
        if path.endswith(".py") or (first.startswith("#!") and "python" in first):
            try:
                ast.parse(open(full, encoding="utf-8").read())
            except SyntaxError as error:
                yield f"{path}:{error.lineno}: {error.msg}"
        elif path.endswith(".sh") or (first.startswith("#!") and "sh" in first):
            run = subprocess.run(["bash", "-n", full], capture_output=True, text=True, check=False)
            if run.returncode:
                yield f"{path}: {run.stderr.strip()}"


def check_braces(_):
    start = re.compile(r"^\s*(?:\} )?(?:else )?(?:if|for|while|json_array_foreach|"
                       r"json_object_foreach(?:_safe)?) ?\(")
    for path in files(".c", ".h"):
        statement, begun = "", 0
        for number, line in enumerate(lines(path), 1):
            if not statement and not start.match(line):
                if re.match(r"^\s*(\} )?else$", line):
                    yield f"{path}:{number}: no braces"
                continue
            begun = begun if statement else number
            code = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])\'|/\*.*?\*/', "", line).rstrip()
            statement += code + " "
            if statement.count("(") > statement.count(")"):
                continue
            if not code.endswith(("{", "\\", "}")) and not re.search(r"\} while \(.*\);?$", code):
                yield f"{path}:{begun}: no braces"
            statement = ""


# What the helpers of hawserd need: each further library costs every start and exec of a container.
HELPER_LIBRARIES = re.compile(r"lib(glib-2|jansson|nl-3|lxc|seccomp|c|m|asan|ubsan|gcc_s|pthread)\.")


def check_helpers(build):
    run = subprocess.run(["readelf", "-d", os.path.join(build, "agent", "hawserd-fork")],
                         capture_output=True, text=True, check=True)
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", run.stdout):
        if not HELPER_LIBRARIES.match(name):
            yield (f"agent/forkmain.c: hawserd-fork is linked with {name}: a helper's file calls into the "
                   "agent (the linker's -Map tells which)")


def check_shape(_):
    for path in files(".c", ".h"):
        text = lines(path)
        if len(text) > MAX_FILE_LINES:
            print(f"{path}:1: {len(text)} lines: to be split")  # told, not refused
        start = None
        for number, line in enumerate(text, 1):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                if number - start + 1 > MAX_FUNCTION_LINES:
                    yield f"{path}:{start}: a function of {number - start + 1} lines"
                start = None


def main():
    check = globals().get("check_" + sys.argv[1])
    if check is None:
        sys.exit(__doc__)
    found = list(check(sys.argv[2] if len(sys.argv) > 2 else os.path.join(TOP, "build")))
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


main()
