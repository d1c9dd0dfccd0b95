# SPDX-License-Identifier: Apache-2.0
"""Pods, image present: created to Ready as a watcher sees it; many at once; what an idle one costs the host."""
import json
import os
import pathlib
import time

from bench_idle import memory_kb
from common import BenchNode, emit, median, request, wait_quiet
from harness import IMAGE

NS, PODS = "bench", "/api/v1/namespaces/bench/pods"
SEQUENTIAL = 20


def room_for(pods):
    """Flags of a node that takes so many, and some others."""
    return "--max-pods", str(max(110, pods + 10))


def pod(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["/bin/busybox", "sleep", "1000000"]}]}}


class Watch:
    """A watch on the pods; yields (type, object)."""

    def __init__(self, node):
        writer = node.connection()
        version = request(writer, "GET", PODS)["metadata"]["resourceVersion"]
        writer.close()
        self.connection = node.connection()
        self.connection.request("GET", f"{PODS}?watch=1&resourceVersion={version}")
        self.response = self.connection.getresponse()

    def until_ready(self, names):
        """When each of the names was seen Ready, monotonic."""
        names, seen = set(names), {}
        while names:
            event = json.loads(self.response.readline())
            name = event["object"]["metadata"]["name"]
            conditions = event["object"].get("status", {}).get("conditions", [])
            if name in names and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                seen[name] = time.monotonic()
                names.remove(name)
        return seen

    def until_deleted(self, names):
        names = set(names)
        while names:
            event = json.loads(self.response.readline())
            if event["type"] == "DELETED":
                names.discard(event["object"]["metadata"]["name"])


def host_kb():
    """Of the whole host: what the kernel holds (namespaces, links, control groups, mounts, stacks), what lies on
    tmpfs, and all that is in use and not to be had back at once. After deferred frees; the least of some looks."""
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    time.sleep(2)
    looks = []
    for _ in range(8):
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        f = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        looks.append((sum(f[k] for k in ("SUnreclaim", "KernelStack", "PageTables", "Percpu")), f["Shmem"],
                      f["MemTotal"] - f["MemFree"] - f["Buffers"] - f["Cached"] - f["SReclaimable"] + f["Shmem"]))
        time.sleep(0.25)
    return [min(column) for column in zip(*looks)]


def applications_pss_kb():
    """Memory of the containers' own processes, shared pages divided among those who share them."""
    total = n = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() != b"/bin/busybox\0sleep\x001000000\0":
                continue
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
                    n += 1
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total, n


def sequential(node, writer, watch):
    took = []
    for i in range(SEQUENTIAL):
        start = time.monotonic()
        request(writer, "POST", PODS, pod(f"one-{i}"))
        took.append((watch.until_ready([f"one-{i}"])[f"one-{i}"] - start) * 1e3)
        request(writer, "DELETE", f"{PODS}/one-{i}")
        watch.until_deleted([f"one-{i}"])
    emit("pod_ready_p50", median(took), "ms", len(took), max=max(took))


def at_once(node, writer, watch, n):
    names = [f"many-{i}" for i in range(n)]
    start = time.monotonic()
    for name in names:
        request(writer, "POST", PODS, pod(name))
    seen = watch.until_ready(names)
    emit(f"pods_{n}_at_once", max(seen.values()) - start, "s", n)
    return names


def measure(options):
    node = BenchNode(*room_for(options.pods), options=options).start()
    node.import_image()
    node.namespace(NS)
    writer, watch = node.connection(), Watch(node)
    sequential(node, writer, watch)
    wait_quiet(node)
    pids = (node.server.pid, node.supervisor_pid())
    look = lambda: [sum(memory_kb(pid, "Pss") for pid in pids), *host_kb()]
    before = look()
    names = at_once(node, writer, watch, options.pods)
    wait_quiet(node)
    daemons, kernel, tmpfs, whole = ((after - then) / options.pods for after, then in zip(look(), before))
    own, processes = applications_pss_kb()
    if processes != options.pods:
        raise AssertionError(f"{processes} processes of {options.pods} pods")
    own /= options.pods
    emit("memory_per_idle_pod", (kernel + tmpfs + daemons) / 1024, "MiB", options.pods, kernel_kib=kernel,
         tmpfs_kib=tmpfs, server_and_supervisor_kib=daemons, whole_host_kib=whole - own, application_own_kib=own)
    start = time.monotonic()
    for name in names:
        request(writer, "DELETE", f"{PODS}/{name}")
    watch.until_deleted(names)
    emit(f"pods_{options.pods}_deleted", time.monotonic() - start, "s", options.pods)
    node.close()
