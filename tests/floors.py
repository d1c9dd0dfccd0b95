#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The floors of the house: a room includes only rooms below it, every header is included by its full path, compiles
alone and opens with `#pragma once`, and nobody but the dataplane includes libbpf."""
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent

# room -> what it may include besides itself
ROOMS = {
    "userspace/base": [],
    "userspace/loop": ["userspace/base"],
    "userspace/net": ["userspace/base", "userspace/loop"],
    "datastore": ["userspace/base", "userspace/loop"],
    "userspace/api": ["userspace/base"],
    "userspace/registry": ["userspace/base", "userspace/loop", "userspace/api", "datastore"],
    "bpf": [],
    "userspace/dataplane": ["userspace/base", "bpf"],
}
LOW = ["userspace/base", "userspace/loop", "userspace/api", "datastore", "userspace/registry"]
ROOMS |= {
    "userspace/apiserver": LOW + ["userspace/net"],
    "userspace/controllers": LOW,
    "scheduler": LOW,
    "kubelet": LOW + ["userspace/net"],
    "userspace/netctl": LOW + ["userspace/net", "userspace/dataplane"],
    "userspace/dns": LOW + ["userspace/net"],
}
ROOMS["userspace/cmd"] = list(ROOMS)

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)
problems = []


def room_of(path):
    return max((r for r in ROOMS if path == r or path.startswith(r + "/")), key=len, default=None)


for room in ROOMS:
    for file in sorted((TOP / room).rglob("*.[ch]")):
        name = str(file.relative_to(TOP))
        if room_of(name) != room:
            continue
        text = file.read_text()
        for kind, target in INCLUDE.findall(text):
            if kind == "<":
                if target.startswith("bpf/") and room not in ("userspace/dataplane", "bpf"):
                    problems.append(f"{name}: only the dataplane includes libbpf ({target})")
                continue
            if target.startswith("generated/") or not (TOP / target).exists():
                if room not in ("userspace/dataplane", "userspace/api", "bpf"):
                    problems.append(f"{name}: include by the full path: {target}")
                continue
            other = room_of(target)
            if other and other != room and other not in ROOMS[room]:
                problems.append(f"{name}: {room} may not include {other} ({target})")
        lines = text.count("\n")
        if lines > 1000:
            problems.append(f"{name}: {lines} lines: split it along its concepts")
        if file.suffix == ".h" and room != "bpf":
            if "#pragma once" not in text:
                problems.append(f"{name}: no #pragma once")
            build = sys.argv[1] if len(sys.argv) > 1 else str(TOP / "build")
            alone = subprocess.run(
                ["cc", "-std=gnu17", "-D_GNU_SOURCE", '-DK3C_VERSION="0"', f"-I{TOP}", f"-I{build}/generated",
                 "-fsyntax-only", "-x", "c", name], cwd=TOP, capture_output=True, text=True)
            if alone.returncode:
                problems.append(f"{name}: does not compile alone: {alone.stderr.splitlines()[0]}")

print("\n".join(problems) or "every room keeps to its floor")
sys.exit(1 if problems else 0)
