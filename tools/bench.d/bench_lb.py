# SPDX-License-Identifier: Apache-2.0
"""Connects through a Service that stands beside others: against the pod itself, and against kube-proxy's rules in
iptables (legacy and nft) and in an nftables verdict map, at every size. The peers' service is the last of their list.

Everything stands at once and the rounds interleave. So the peers' clients, too, pass the node's program at the socket,
which finds nothing for them: about a tenth of a microsecond of their fifty and more. Compared is the processor time of
one connect or question (paths.py); a rate is what one core could do of them if it did nothing else.
"""
import json

import figure
import iptables_peer
from common import CONNECTIONS, BenchNode, emit, request, wait_quiet
from paths import CONNECT_PORT, ECHO_PORT, FLAVOURS, NS, SERVICES, Ends, interleave, peers, service, until_connects

ROUNDS = 9
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
    ways = {"service": lambda s: ends.run("client", what, address, ports[0], s),
            "direct": lambda s: ends.run("client", what, ends.ips["backend"], ports[1], s)}
    ip = iptables_peer.service_ip(n - 1 if what == "loop" else n)
    for flavour in standing:
        ways[flavour] = lambda s, peer=rules[flavour]: peer.run(what, ip, iptables_peer.SERVICE_PORT, s)
    ways["bare"] = lambda s: rules["bare"].run(what, iptables_peer.BACKEND_IP, ports[1], s)
    return ways


def told(metric, unit, value, got, n, goals):
    """A record for each way beside the Service's, with the goal for the ratio, if there is one."""
    mine = got["service"]
    for name, other in got.items():
        if name != "service":
            emit(metric, value(mine), unit, ROUNDS, NAMES[name], value(other), goal=goals.get(name), services=n,
                 p50_us=mine["p50_us"], peer_p50_us=other["p50_us"], p99_us=mine["p99_us"], peer_p99_us=other["p99_us"],
                 clock_rate=mine["rate"], peer_clock_rate=other["rate"])


CONNECT_GOALS = {1: {f: (">=", 1.0) for f in FLAVOURS},
                 10000: {"legacy": (">=", 3), "nft": (">=", 3), "vmap": (">=", 1.25), "direct": (">=", 0.95)}}
ASK_GOALS = {"legacy": ("<=", 0.85), "nft": ("<=", 0.85), "bare": ("<=", 1.0)}


def rate(g):
    return 1e6 / g["cpu_us"]


def measure_sizes(options, node, writer, ends, address, rules):
    """[(how many Services, what came of each way)]"""
    have, all_sizes = 1, []
    sizes = [s for s in SIZES if s <= options.services]
    for n in sizes:
        grow(node, writer, have, n)
        have = n
        standing = install(rules, n)
        got = interleave(ways_of("loop", ends, address, (80, CONNECT_PORT), rules, standing, n), options.lb_seconds, ROUNDS)
        told("service_connect", "/s", rate, got, n, CONNECT_GOALS.get(n, {}))
        all_sizes.append((n, got))
        if n == sizes[-1]:
            asked = interleave(ways_of("ask", ends, address, (81, ECHO_PORT), rules, standing, n), options.lb_seconds,
                               ROUNDS)
            told("kept_connection_ask", "us", lambda g: g["cpu_us"], asked, n, ASK_GOALS)
        for flavour in standing:
            rules[flavour].remove(flavour)
    return all_sizes


def told_flat(all_sizes):
    """Against the pod's own address at each size: minutes lie between the first and the last."""
    (_, first), (n, last) = all_sizes[0], all_sizes[-1]
    emit("service_of_direct", rate(last["service"]) / rate(last["direct"]), "of the pod's", ROUNDS, "with one Service",
         rate(first["service"]) / rate(first["direct"]), goal=(">=", 0.97), services=n)


def drawn(options, all_sizes):
    lines = {}
    for n, got in all_sizes:
        for name, g in got.items():
            lines.setdefault(NAMES[name], []).append((n, rate(g)))
    figure.draw(options.figures / "bench-lb.svg", "Connects to the last of all Services: what one core can do", "Services",
                "connects a second", lines)


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
        all_sizes = measure_sizes(options, node, writer, ends, address, rules)
        told_flat(all_sizes)
        if options.figures:
            drawn(options, all_sizes)
    finally:
        ends.close()
        for peer in rules.values():
            peer.close()
    node.close()
