# SPDX-License-Identifier: Apache-2.0
"""Durable creates, reads and lists over TLS, with the server's own processor time for each."""
import re
import shutil

from common import CONNECTIONS, PORT, BenchNode, config_map_body, cpu_s, emit, median, wait_quiet

LISTED, LISTS, EMPTIED = 2000, 100, 5


def get_http2(node, n):
    """The same GET over HTTP/2 with a service account's token, one request at a time on each connection."""
    if not shutil.which("h2load"):
        return
    token = node.reader_token("listed")
    before = cpu_s(node.server.pid)
    out = node.run("h2load", "-n", n, "-c", CONNECTIONS, "-m", "1", "-H", f"authorization: Bearer {token}",
                   f"https://127.0.0.1:{PORT}/api/v1/namespaces/listed/configmaps/cm-7").stdout
    if f"status codes: {n} 2xx" not in out:
        raise AssertionError(out)
    emit("get_configmap_http2", float(re.search(r"([0-9.]+) req/s", out)[1]), "/s", n, connections=CONNECTIONS)
    emit("get_configmap_http2_server_cpu", (cpu_s(node.server.pid) - before) * 1e6 / n, "us", n)


def delete_collection(node):
    """All of a namespace's objects by one request, from the request to the answer."""
    took, cpu = [], []
    node.namespace("emptied")
    for _ in range(EMPTIED):
        node.requests(CONNECTIONS, LISTED, "POST", "/api/v1/namespaces/emptied/configmaps", config_map_body("cm"))
        f = node.requests(1, 1, "DELETE", "/api/v1/namespaces/emptied/configmaps")
        took.append(f["p50_us"] / 1e3)
        cpu.append(f["cpu_us"] / 1e3)
    emit("deletecollection_2000", median(took), "ms", EMPTIED)
    emit("deletecollection_2000_server_cpu", median(cpu), "ms", EMPTIED)


def measure(options):
    node = BenchNode(options=options).start()
    for name in ("listed", "bench"):
        node.namespace(name)
    node.requests(CONNECTIONS, LISTED, "POST", "/api/v1/namespaces/listed/configmaps", config_map_body("cm"))

    before = node.status()["store"]
    path = "/api/v1/namespaces/bench/configmaps"
    f = node.requests(CONNECTIONS, options.creates, "POST", path, config_map_body("cm"))
    after = node.status()["store"]
    emit("create_configmap", f["rate"], "/s", f["requests"], p50_us=f["p50_us"], p99_us=f["p99_us"],
         connections=CONNECTIONS, commits=after["commits"] - before["commits"], fsync_p50_us=after["fsyncP50Micros"])
    emit("create_configmap_server_cpu", f["cpu_us"], "us", f["requests"])
    wait_quiet(node)

    f = node.requests(CONNECTIONS, options.gets, "GET", "/api/v1/namespaces/listed/configmaps/cm-7")
    emit("get_configmap", f["rate"], "/s", f["requests"], p50_us=f["p50_us"], p99_us=f["p99_us"],
         connections=CONNECTIONS)
    emit("get_configmap_server_cpu", f["cpu_us"], "us", f["requests"])

    get_http2(node, options.gets // CONNECTIONS * CONNECTIONS)

    f = node.requests(1, LISTS, "GET", "/api/v1/namespaces/listed/configmaps")
    emit("list_2000_configmaps", f["p50_us"] / 1e3, "ms", f["requests"], p99=f["p99_us"] / 1e3,
         bytes=f["bytes"] // f["requests"])
    emit("list_2000_configmaps_server_cpu", f["cpu_us"] / 1e3, "ms", f["requests"])
    delete_collection(node)
    node.close()
