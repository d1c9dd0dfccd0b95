# SPDX-License-Identifier: Apache-2.0
"""First start (empty folders) to /readyz, and restart after kill -9 to a Ready node, both seen by a client."""
import http.client
import ssl
import time

from common import BenchNode, PORT, emit, median, request

POLL_S = 0.001


def until(what, check, timeout=60):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            if check():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(POLL_S)
    raise AssertionError(f"timed out: {what}")


def readyz():
    connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=ssl._create_unverified_context(), timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def node_ready(node):
    """The Node object says Ready, and the kubelet of this very process says that it wrote it: the stored object still
    says so from before the restart."""
    connection = node.connection()
    try:
        if not request(connection, "GET", "/k3c-bpf/status")["node"]["ready"]:
            return False
        item = request(connection, "GET", "/api/v1/nodes")["items"][0]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"]["conditions"])
    except AssertionError:
        return False
    finally:
        connection.close()


def measure(options):
    first, again = [], []
    for _ in range(options.starts):
        node = BenchNode(options=options)
        start = time.monotonic()
        node.launch()
        until("/readyz", readyz)
        first.append((time.monotonic() - start) * 1e3)
        node.close()
    emit("start_to_readyz", median(first), "ms", len(first), max=max(first))

    node = BenchNode(options=options)
    node.launch()
    until("/readyz", readyz)
    until("node Ready", lambda: node_ready(node))
    node.credentials()
    for _ in range(options.starts):
        node.kill9()
        start = time.monotonic()
        node.launch()
        until("/readyz", readyz)
        until("node Ready", lambda: node_ready(node))
        again.append((time.monotonic() - start) * 1e3)
    emit("restart_to_node_ready", median(again), "ms", len(again), max=max(again))
    node.close()
