# SPDX-License-Identifier: Apache-2.0
"""One pod to another by its address, against two plain veths and a route without any program: questions and answers over
a connection that stays, and a stream."""
import iptables_peer
from bench_lb import NAMES
from common import BenchNode, emit
from paths import ECHO_PORT, NS, Ends, interleave, peers

ROUNDS = 9


def measure(options):
    bare = peers(("bare",))["bare"]
    node = BenchNode(options=options).start()
    node.import_image()
    node.namespace(NS)
    ends = Ends(node, node.connection(), {"client": {"app": "client"}, "backend": {"app": "backend"}})
    try:
        ends.serve("backend")
        for what in ("ask", "stream"):
            ways = {"direct": lambda s: ends.run("client", what, ends.ips["backend"], ECHO_PORT, s),
                    "bare": lambda s: bare.run(what, iptables_peer.BACKEND_IP, ECHO_PORT, s)}
            got = interleave(ways, options.lb_seconds, ROUNDS)
            mine, other = got["direct"], got["bare"]
            if what == "ask":
                emit("pod_to_pod_ask", mine["cpu_us"], "us", ROUNDS, NAMES["bare"], other["cpu_us"], goal=("<=", 1.0),
                     p50_us=mine["p50_us"], peer_p50_us=other["p50_us"], p99_us=mine["p99_us"],
                     peer_p99_us=other["p99_us"])
            else:
                emit("pod_to_pod_stream_64KiB", mine["cpu_us"], "us", ROUNDS, NAMES["bare"], other["cpu_us"],
                     clock_gb_s=mine["rate"] / 1e9, peer_clock_gb_s=other["rate"] / 1e9)
    finally:
        ends.close()
        bare.close()
    node.close()
