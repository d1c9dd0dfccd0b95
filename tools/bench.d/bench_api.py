# SPDX-License-Identifier: Apache-2.0
"""Durable creates, reads and lists over TLS, with the server's own processor time for each."""
from common import CONNECTIONS, BenchNode, config_map_body, emit, wait_quiet

LISTED, LISTS = 2000, 100


def measure(options):
    node = BenchNode(options=options).start()
    for name in ("listed", "bench"):
        node.namespace(name)
    node.requests(CONNECTIONS, LISTED, "POST", "/api/v1/namespaces/listed/configmaps", config_map_body("cm"))

    before = node.status()["store"]
    f = node.requests(CONNECTIONS, options.creates, "POST", "/api/v1/namespaces/bench/configmaps", config_map_body("cm"))
    after = node.status()["store"]
    emit("create_configmap", f["rate"], "/s", f["requests"], p50_us=f["p50_us"], p99_us=f["p99_us"],
         connections=CONNECTIONS, commits=after["commits"] - before["commits"], fsync_p50_us=after["fsyncP50Micros"])
    emit("create_configmap_server_cpu", f["cpu_us"], "us", f["requests"])
    wait_quiet(node)

    f = node.requests(CONNECTIONS, options.gets, "GET", "/api/v1/namespaces/listed/configmaps/cm-7")
    emit("get_configmap", f["rate"], "/s", f["requests"], p50_us=f["p50_us"], p99_us=f["p99_us"],
         connections=CONNECTIONS)
    emit("get_configmap_server_cpu", f["cpu_us"], "us", f["requests"])

    f = node.requests(1, LISTS, "GET", "/api/v1/namespaces/listed/configmaps")
    emit("list_2000_configmaps", f["p50_us"] / 1e3, "ms", f["requests"], p99=f["p99_us"] / 1e3,
         bytes=f["bytes"] // f["requests"])
    emit("list_2000_configmaps_server_cpu", f["cpu_us"] / 1e3, "ms", f["requests"])
    node.close()
