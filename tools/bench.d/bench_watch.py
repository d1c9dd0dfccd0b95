# SPDX-License-Identifier: Apache-2.0
"""From a create's request to the event in a watcher's hands, and to the last of many watchers."""
from common import BenchNode, config_map_body, cpu_s, emit

WATCHERS = 100


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
