#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds every fuzz target with clang and runs each for a bounded time over its corpus: `run.py BUILD-DIR [TARGET...]`.
K3C_FUZZ_SECONDS says how long each (3); what breaks is kept in BUILD-DIR and named. A find worth keeping goes, small, to
tests/fuzz/corpus/TARGET."""
import concurrent.futures
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = int(os.environ.get("K3C_FUZZ_SECONDS", "3"))
MAX_BYTES, MEMORY_MB = 8192, 2048
ONE_INPUT_SECONDS = 60  # by the clock, which goes on where the machine gives nothing


def build(to):
    if not (to / "build.ninja").exists():
        subprocess.run(["cmake", "-G", "Ninja", "-S", HERE.parent.parent, "-B", to, "-DCMAKE_C_COMPILER=clang",
                        "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS=-O1", "-DK3C_FUZZ=ON", "-DK3C_SANITIZE=ON"], check=True,
                       stdout=subprocess.DEVNULL)
    done = subprocess.run(["ninja", "-C", to, "fuzz"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-4000:])


def run(to, target):
    found, kept = to / "corpus" / target, HERE / "corpus" / target
    found.mkdir(parents=True, exist_ok=True)
    argv = [to / "tests" / "fuzz" / target, f"-max_total_time={SECONDS}", f"-max_len={MAX_BYTES}", "-seed=1",
            f"-rss_limit_mb={MEMORY_MB}", f"-timeout={ONE_INPUT_SECONDS}", f"-artifact_prefix={found}/../{target}-",
            "-print_final_stats=1", found]
    if kept.is_dir():
        argv.append(kept)
    return subprocess.run(argv, capture_output=True, text=True, errors="replace")


def main():
    to = pathlib.Path(sys.argv[1]).resolve()
    targets = sys.argv[2:] or sorted(p.stem for p in HERE.glob("fuzz_*.c"))
    build(to)
    broken = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for target, done in zip(targets, pool.map(lambda t: run(to, t), targets)):
            runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
            print(f"{target}: {runs[0] if runs else '?'} inputs, {'ok' if done.returncode == 0 else 'BROKEN'}")
            if done.returncode:
                broken.append((target, done))
    for target, done in broken:
        print(f"--- {target}, exit {done.returncode}\n{done.stderr[-4000:]}")
    sys.exit(f"broken: {', '.join(target for target, _ in broken)}" if broken else 0)


if __name__ == "__main__":
    main()
