# SPDX-License-Identifier: Apache-2.0
"""Connects through a Service that stands beside others: against the pod itself, and against kube-proxy's rules in
iptables (legacy and nft) and in an nftables verdict map, at every size. The peers' service is the last of their list.

Everything stands at once and the rounds interleave. So the peers' clients, too, pass the node's program at the socket,
which finds nothing for them: about a tenth of a microsecond of their fifty and more.
"""
import json

import figure
import iptables_peer
from common import CONNECTIONS, BenchNode, emit, request, wait_quiet
from paths import CONNECT_PORT, ECHO_PORT, FLAVOURS, NS, SERVICES, Ends, interleave, peers, service, until_connects

ROUNDS = 5
SIZES = (1, 100, 1000, 10000)
NAMES = {"service": "k3c-bpf", "direct": "direct to the pod", "legacy": "iptables-legacy", "nft": "iptables-nft",
         "vmap": "nftables verdict map", "bare": "two plain veths and a route"}


def grow(node, writer, have, want):
    """Services with the backend behind each, until there are `want`."""
    if want > have:
        node.requests(CONNECTIONS, want - have, "POST", SERVICES, json.dumps(service(f"to-{want}-@")))
        last = request(writer, "GET", f"{SERVICES}/to-{want}-{want - have - 1}")["spec"]["clusterIP"]
        until_connects(last)
        wait_quiet(node, timeout=300)


def install(rules, n):
    """The flavours whose rules stand now; the others say why not."""
    standing = []
    for flavour in FLAVOURS:
        why = rules[flavour].install(flavour, n)
        if why:
            print(json.dumps({"metric": "service_connect", "value": None, "unit": "/s", "n": 0, "services": n,
                              "peer": NAMES[flavour], "why": f"not to be had here: {why[:200]}"}), flush=True)
        else:
            standing.append(flavour)
    return standing


def ways_of(what, ends, address, ports, rules, standing, n):
    """{name: run(seconds)}; ports: of the Service and of the backend."""
    peer = lambda flavour, ip, port: lambda s: json.loads(rules[flavour].client(what, ip, str(port), str(s)))
    ways = {"service": lambda s: ends.run("client", what, address, ports[0], s),
            "direct": lambda s: ends.run("client", what, ends.ips["backend"], ports[1], s)}
    for flavour in standing:
        ways[flavour] = peer(flavour, iptables_peer.service_ip(n - 1 if what == "loop" else n),
                             iptables_peer.SERVICE_PORT)
    ways["bare"] = peer("bare", iptables_peer.BACKEND_IP, ports[1])
    return ways


def told(metric, key, unit, got, n, goals):
    """A record for each way beside the Service's, with the goal for the ratio, if there is one."""
    mine = got["service"]
    for name, other in got.items():
        if name != "service":
            emit(metric, mine[key], unit, ROUNDS, NAMES[name], other[key], goal=goals.get(name), services=n,
                 p50_us=mine["p50_us"], peer_p50_us=other["p50_us"], p99_us=mine["p99_us"], peer_p99_us=other["p99_us"])


CONNECT_GOALS = {1: {f: (">=", 0.97) for f in FLAVOURS},
                 10000: {"legacy": (">=", 3), "nft": (">=", 3), "vmap": (">=", 1.25), "direct": (">=", 0.95)}}
ASK_GOALS = {"legacy": ("<=", 0.85), "nft": ("<=", 0.85), "bare": ("<=", 1.0)}


def one_core_us(got):
    """All of a question and its answer, both ends and the kernel between, on the one core: it is never idle."""
    return {name: {**g, "us": 1e6 / g["rate"]} for name, g in got.items()}


def measure_sizes(options, node, writer, ends, address, rules):
    have, lines = 1, {}
    for n in [s for s in SIZES if s <= options.services]:
        grow(node, writer, have, n)
        have = n
        standing = install(rules, n)
        got = interleave(ways_of("loop", ends, address, (80, CONNECT_PORT), rules, standing, n), options.lb_seconds, ROUNDS)
        told("service_connect", "rate", "/s", got, n, CONNECT_GOALS.get(n, {}))
        for name, g in got.items():
            lines.setdefault(NAMES[name], []).append((n, g["rate"]))
        if n == max(s for s in SIZES if s <= options.services):
            asked = interleave(ways_of("ask", ends, address, (81, ECHO_PORT), rules, standing, n), options.lb_seconds,
                               ROUNDS)
            told("kept_connection_ask", "us", "us", one_core_us(asked), n, ASK_GOALS)
        for flavour in standing:
            rules[flavour].remove(flavour)
    mine = lines[NAMES["service"]]
    if len(mine) > 1:
        emit("service_connect_flat", mine[-1][1], "/s", ROUNDS, "with one Service", mine[0][1], goal=(">=", 0.97),
             services=mine[-1][0])
    if options.figures:
        figure.draw(options.figures / "bench-lb.svg", "Connections a second through the last Service, one core", "Services",
                    "connections/s", lines)


def measure(options):
    rules = peers()
    node = BenchNode(options=options).start()
    node.import_image()
    node.namespace(NS)
    writer = node.connection()
    ends = Ends(node, writer, {"client": {"app": "client"}, "backend": {"app": "backend"}})
    try:
        ends.serve("backend")
        body = service("web", ports=((80, CONNECT_PORT), (81, ECHO_PORT)))
        address = request(writer, "POST", SERVICES, body)["spec"]["clusterIP"]
        until_connects(address)
        measure_sizes(options, node, writer, ends, address, rules)
    finally:
        ends.close()
        for peer in rules.values():
            peer.close()
    node.close()
