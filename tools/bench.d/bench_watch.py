# SPDX-License-Identifier: Apache-2.0
"""From a create's request to the event in a watcher's hands, and to the last of many watchers."""
import pathlib
import shutil
import subprocess
import time

from common import PORT, BenchNode, config_map_body, cpu_s, emit, wait_quiet

WATCHERS = 100
IDLE, IDLE_CONNECTIONS = 1000, 8  # streams, as client-go multiplexes them


def resident(pid):
    """What the process itself holds, in bytes."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) * 1024


def watchers_now(node):
    text = node.k("get --raw /metrics")
    return sum(int(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith("apiserver_longrunning_requests") and 'resource="configmaps"' in line)


def idle(options):
    """Memory of the server for watchers that have nothing to see: over HTTP/2 on few connections, and on one each; a node
    of its own for each, which has freed nothing yet that it could use again."""
    if not shutil.which("h2load"):
        return
    for streams, connections in ((IDLE, IDLE_CONNECTIONS), (IDLE // 4, IDLE // 4)):
        node = BenchNode(options=options).start()
        node.namespace("bench")
        token = node.reader_token("bench")
        wait_quiet(node, 3)  # idle connections give their buffers back meanwhile
        before = resident(node.server.pid)
        client = subprocess.Popen(
            ["h2load", "-n", str(streams), "-c", str(connections), "-m", str(streams // connections), "-N", "600s",
             "--rps", "50",  # all at once would be more than one flow may queue
             "-H", f"authorization: Bearer {token}",
             f"https://127.0.0.1:{PORT}/api/v1/namespaces/bench/configmaps?watch=1&resourceVersion={revision(node)}"],
            env=node.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while (n := watchers_now(node)) < streams:
            if time.monotonic() > end:
                raise SystemExit(f"only {n} of {streams} watchers stand")
            time.sleep(0.2)
        wait_quiet(node, 3)
        grown = resident(node.server.pid) - before
        client.terminate()
        client.wait()
        emit("idle_watchers_memory", grown / 2**20, "MiB", streams, connections=connections,
             bytes_each=grown / streams)
        node.close()


def revision(node):
    return node.get("configmaps", "-n", "bench")["metadata"].get("resourceVersion") or node.status()["store"]["revision"]


def measure(options):
    node = BenchNode(options=options).start()
    node.namespace("bench")
    body = node.dir / "watch-body.json"
    body.write_text(config_map_body("w"))
    path = "/api/v1/namespaces/bench/configmaps"

    f = node.client("bench-watch", 1, options.events, 1000000, path, body)
    emit("watch_event_p50", f["last_p50_us"] / 1e3, "ms", f["events"], answer_p50=f["answer_p50_us"] / 1e3)
    emit("watch_event_p99", f["last_p99_us"] / 1e3, "ms", f["events"])

    n = max(1, options.events // 5)
    cpu = [cpu_s(node.server.pid)]
    node.client("bench-watch", WATCHERS, 1, 2000000, path, body)  # what the handshakes take
    cpu.append(cpu_s(node.server.pid))
    f = node.client("bench-watch", WATCHERS, n + 1, 3000000, path, body)
    cpu.append(cpu_s(node.server.pid))
    used = (cpu[2] - cpu[1]) - (cpu[1] - cpu[0])
    emit("watch_last_of_100_p50", f["last_p50_us"] / 1e3, "ms", f["events"], p99=f["last_p99_us"] / 1e3,
         first_p50=f["first_p50_us"] / 1e3)
    emit("watch_100_server_cpu", used * 1e6 / n / WATCHERS, "us an event sent", n * WATCHERS)
    node.close()
    idle(options)
