# SPDX-License-Identifier: Apache-2.0
"""What arrives of a stream to, and from, a pod with a limit, beside the limit: payload alone, so that headers (a
twentieth of it on links of 1500 bytes) are missing."""
from common import BenchNode, emit, median
from paths import ECHO_PORT, NS, Ends

LIMITS = {"10M": 10, "100M": 100}
ROUNDS, SECONDS = 3, 3


def measure(options):
    node = BenchNode(options=options).start()
    node.import_image()
    node.namespace(NS)
    pods = {"free": {"app": "free"}}
    notes = {}
    for limit in LIMITS:
        for way in ("ingress", "egress"):
            name = f"{way}-{limit.lower()}"
            pods[name] = {"app": name}
            notes[name] = {f"kubernetes.io/{way}-bandwidth": limit}
    ends = Ends(node, node.connection(), pods, notes)
    try:
        for name in ("free", *(n for n in pods if n.startswith("ingress"))):
            ends.serve(name)
        for limit, mbit in LIMITS.items():
            for way in ("ingress", "egress"):
                name = f"{way}-{limit.lower()}"
                client, server = ("free", name) if way == "ingress" else (name, "free")
                got = [ends.run(client, "stream", ends.ips[server], ECHO_PORT, SECONDS) for _ in range(ROUNDS)]
                emit(f"{way}_bandwidth", median([g["rate"] for g in got]) * 8 / 1e6, "Mbit/s", ROUNDS, "its limit", mbit,
                     goal=(">=", 0.9), limit=limit, most=max(g["rate"] for g in got) * 8 / 1e6)
    finally:
        ends.close()
    node.close()
