# SPDX-License-Identifier: Apache-2.0
"""What a node without pods takes while nobody asks: memory, processor time, bytes written to disk."""
import pathlib
import time

from common import BenchNode, cpu_s, emit

CPU_WINDOW_S = 60


def memory_kb(pid, field):
    file = "status" if field == "VmRSS" else "smaps_rollup"
    for line in pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(f"{field} of {pid}")


def written(pid):
    """Bytes this process caused to be sent to the storage layer (not those that only reached tmpfs or a pipe)."""
    fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["write_bytes"])


def measure(options):
    node = BenchNode(options=options).start()
    node.wait_default_account()
    pids = {"server": node.server.pid, "supervisor": node.supervisor_pid()}
    time.sleep(options.settle_seconds)
    store = node.status()["store"]["bytesWrittenSinceStart"]
    time.sleep(1)
    files = {name: written(pid) for name, pid in pids.items()}
    window = min(CPU_WINDOW_S, options.idle_seconds)
    start, cpu = time.monotonic(), {name: cpu_s(pid) for name, pid in pids.items()}

    time.sleep(window)
    used = sum(cpu_s(pid) - cpu[name] for name, pid in pids.items())
    emit("idle_cpu", used * 100 / (time.monotonic() - start), "% of a core", 1, seconds=window)

    time.sleep(max(0, options.idle_seconds - window))
    for field, metric in (("VmRSS", "idle_rss"), ("Pss", "idle_pss")):
        kb = {name: memory_kb(pid, field) for name, pid in pids.items()}
        emit(metric, sum(kb.values()) / 1024, "MiB", 1, **{f"{name}_kib": v for name, v in kb.items()})
    total = sum(written(pid) - files[name] for name, pid in pids.items())
    emit("idle_bytes_written", total, "bytes", 1, seconds=options.idle_seconds,
         store_counter=node.status()["store"]["bytesWrittenSinceStart"] - store)
    node.close()
