# SPDX-License-Identifier: Apache-2.0
"""Requests to a pod whose policy allows 1,000 peers, the client the last of them, against a pod without any policy."""
import subprocess
import time

from common import BenchNode, emit, request
from paths import CONNECT_PORT, ECHO_PORT, NS, Ends, interleave

ROUNDS = 9
PEERS = 1000
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NS}/networkpolicies"


def policy(client):
    blocks = [f"203.0.{i // 250}.{1 + i % 250}/32" for i in range(PEERS - 1)] + [f"{client}/32"]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "many"},
            "spec": {"podSelector": {"matchLabels": {"app": "guarded"}}, "policyTypes": ["Ingress"],
                     "ingress": [{"from": [{"ipBlock": {"cidr": block}} for block in blocks]}]}}


def measure(options):
    node = BenchNode(options=options).start()
    node.import_image()
    node.namespace(NS)
    writer = node.connection()
    pods = ("client", "guarded", "open", "stranger")
    ends = Ends(node, writer, {name: {"app": name} for name in pods})
    try:
        for name in ("guarded", "open"):
            ends.serve(name)
        request(writer, "POST", POLICIES, policy(ends.ips["client"]))
        shut_out(ends)
        for what, port, metric in (("ask", ECHO_PORT, "policy_ask"), ("loop", CONNECT_PORT, "policy_connect")):
            ways = {name: lambda s, name=name: ends.run("client", what, ends.ips[name], port, s)
                    for name in ("guarded", "open")}
            got = interleave(ways, options.lb_seconds, ROUNDS)
            guarded, free = got["guarded"], got["open"]
            emit(metric, guarded["cpu_us"], "us", ROUNDS, "no policy", free["cpu_us"], goal=("<=", 1.03),
                 policy_peers=PEERS, p50_us=guarded["p50_us"], peer_p50_us=free["p50_us"], clock_rate=guarded["rate"],
                 peer_clock_rate=free["rate"])
    finally:
        ends.close()
    node.close()


def shut_out(ends):
    """The policy stands when a pod that it does not name gets no answer any more."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            subprocess.run([*ends.inside("stranger"), "ask", ends.ips["guarded"], str(ECHO_PORT), "0.01"], timeout=1,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return
    raise AssertionError("the policy lets everybody pass")
