# SPDX-License-Identifier: Apache-2.0
"""One more Service of two endpoints where others stand: from before its POST until a connect to it succeeds. The peers:
how long their tool takes to add the rules of one service, with nobody's API and no disk before it.

On the way lie two commits to the disk, one after the other: the Service's, and its slice's. So beside the figure stands
what two such commits took on the same disk in the same minutes, without anything else, and the whole once more with the
store on tmpfs, where a commit takes no time."""
import os
import pathlib
import shutil
import time

from bench_lb import NAMES, grow, install
from common import BenchNode, emit, median, request
from paths import FLAVOURS, NS, SERVICES, Ends, peers, service, until_connects

ADDED, PEER_ADDED = 300, 5
GOAL_P99_MS = 5
PAUSE_S = 0.05  # after each is deleted again
DISK_BLOCK, DISK_FILE = 40960, 8 << 20


def p99(values):
    return sorted(values)[len(values) * 99 // 100]


def free_addresses(writer, n):
    taken = {s["spec"]["clusterIP"] for s in request(writer, "GET", "/api/v1/services")["items"]}
    every = (f"10.183.{i // 256}.{i % 256}" for i in range(65279, 256, -1))
    return [a for _, a in zip(range(n), (a for a in every if a not in taken))]


class Disk:
    """What the disk itself takes: a file beside the store's, written to and made durable as often as one Service needs."""

    def __init__(self, path):
        self.fd, self.at = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), 0
        os.write(self.fd, bytes(DISK_FILE))
        os.fsync(self.fd)

    def commits_ms(self, n):
        start = time.monotonic()
        for _ in range(n):
            os.pwrite(self.fd, bytes([self.at // DISK_BLOCK % 256]) * DISK_BLOCK, self.at)
            os.fdatasync(self.fd)
            self.at = (self.at + DISK_BLOCK) % DISK_FILE
        return (time.monotonic() - start) * 1e3


def add_many(writer, addresses, disk):
    """Each with an address told beforehand, so that the connects can begin with the POST. What it takes, how much of that
    until the POST's answer, and what the disk took for two commits just then."""
    took, answered, commits = [], [], []
    for i, address in enumerate(addresses):
        start = time.monotonic()
        request(writer, "POST", SERVICES, service(f"one-more-{i}", clusterIP=address))
        answer = time.monotonic()
        until_connects(address)
        took.append((time.monotonic() - start) * 1e3)
        answered.append((answer - start) * 1e3)
        request(writer, "DELETE", f"{SERVICES}/one-more-{i}")
        time.sleep(PAUSE_S)
        commits.append(disk.commits_ms(2))
    return took, answered, commits


def measure_added(options, metric, goal, on_tmpfs):
    node = BenchNode(options=options)
    store = pathlib.Path(f"/dev/shm/{node.dir.name}-store") if on_tmpfs else node.dir
    ends = None
    try:
        if on_tmpfs:
            node.env["K3C_DATA_DIR"] = str(store)
            store.mkdir(0o700)
        node.start()
        node.import_image()
        node.namespace(NS)
        writer = node.connection()
        ends = Ends(node, writer, {"first": {"app": "backend"}, "second": {"app": "backend"}})
        for name in ("first", "second"):
            ends.serve(name)
        grow(node, writer, 0, options.services)
        took, answered, commits = add_many(writer, free_addresses(writer, ADDED), Disk(store / "disk"))
    finally:
        if ends:
            ends.close()
        node.close()
        if on_tmpfs:
            shutil.rmtree(store, ignore_errors=True)
    emit(metric, p99(took), "ms", len(took), goal=goal, services=options.services, p50=median(took),
         answered_p50=median(answered), answered_p99=p99(answered), two_disk_commits_p50=median(commits),
         two_disk_commits_p99=p99(commits))
    return took


def measure(options):
    rules = peers(FLAVOURS)
    added = {}
    for flavour in install(rules, options.services):
        added[flavour] = median([rules[flavour].add_one_ms(flavour, options.services + 1 + i) for i in range(PEER_ADDED)])
    for peer in rules.values():
        peer.close()
    took = measure_added(options, "service_added_to_connectable_p99", ("<=", GOAL_P99_MS), False)
    measure_added(options, "service_added_to_connectable_p99_tmpfs", None, True)
    for flavour, ms in added.items():
        emit("service_added_to_connectable", median(took), "ms", len(took), NAMES[flavour], ms, services=options.services)
