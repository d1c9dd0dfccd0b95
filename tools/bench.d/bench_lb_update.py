# SPDX-License-Identifier: Apache-2.0
"""One more Service of two endpoints where others stand: from before its POST until a connect to it succeeds. The peers:
how long their tool takes to add the rules of one service, with nobody's API before it."""
from bench_lb import NAMES, grow, install
from common import BenchNode, emit, median, request
from paths import FLAVOURS, NS, SERVICES, Ends, peers, service, until_connects

import time

ADDED, PEER_ADDED = 300, 5
GOAL_P99_MS = 5


def p99(values):
    return sorted(values)[len(values) * 99 // 100]


def free_addresses(writer, n):
    taken = {s["spec"]["clusterIP"] for s in request(writer, "GET", "/api/v1/services")["items"]}
    every = (f"10.183.{i // 256}.{i % 256}" for i in range(65279, 256, -1))
    return [a for _, a in zip(range(n), (a for a in every if a not in taken))]


def add_many(writer, addresses):
    """Each with an address told beforehand, so that the connects can begin with the POST."""
    took = []
    for i, address in enumerate(addresses):
        start = time.monotonic()
        request(writer, "POST", SERVICES, service(f"one-more-{i}", clusterIP=address))
        until_connects(address)
        took.append((time.monotonic() - start) * 1e3)
        request(writer, "DELETE", f"{SERVICES}/one-more-{i}")
    return took


def measure(options):
    rules = peers(FLAVOURS)
    added = {}
    for flavour in install(rules, options.services):
        added[flavour] = median([rules[flavour].add_one_ms(flavour, options.services + 1 + i) for i in range(PEER_ADDED)])
    for peer in rules.values():
        peer.close()
    node = BenchNode(options=options).start()
    node.import_image()
    node.namespace(NS)
    writer = node.connection()
    ends = Ends(node, writer, {"first": {"app": "backend"}, "second": {"app": "backend"}})
    try:
        for name in ("first", "second"):
            ends.serve(name)
        grow(node, writer, 0, options.services)
        took = add_many(writer, free_addresses(writer, ADDED))
    finally:
        ends.close()
    emit("service_added_to_connectable_p99", p99(took), "ms", len(took), goal=("<=", GOAL_P99_MS),
         services=options.services, p50=median(took))
    for flavour, ms in added.items():
        emit("service_added_to_connectable", median(took), "ms", len(took), NAMES[flavour], ms, services=options.services)
    node.close()
