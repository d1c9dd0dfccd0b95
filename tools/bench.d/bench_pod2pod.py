# SPDX-License-Identifier: Apache-2.0
"""One pod to another by its address, against two plain veths and a route without any program: questions and answers over
a connection that stays, and a stream."""
import json

import iptables_peer
from bench_lb import NAMES, one_core_us
from common import BenchNode, emit
from paths import ECHO_PORT, NS, Ends, interleave, peers

ROUNDS = 7


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
                    "bare": lambda s: json.loads(bare.client(what, iptables_peer.BACKEND_IP, str(ECHO_PORT), str(s)))}
            got = interleave(ways, options.lb_seconds, ROUNDS)
            if what == "ask":
                got = one_core_us(got)
                emit("pod_to_pod_ask", got["direct"]["us"], "us", ROUNDS, NAMES["bare"], got["bare"]["us"],
                     goal=("<=", 1.0), p50_us=got["direct"]["p50_us"], peer_p50_us=got["bare"]["p50_us"],
                     p99_us=got["direct"]["p99_us"], peer_p99_us=got["bare"]["p99_us"])
            else:
                emit("pod_to_pod_stream", got["direct"]["rate"] / 1e9, "GB/s", ROUNDS, NAMES["bare"],
                     got["bare"]["rate"] / 1e9)
    finally:
        ends.close()
        bare.close()
    node.close()
