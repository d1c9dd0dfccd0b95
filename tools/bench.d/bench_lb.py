# SPDX-License-Identifier: Apache-2.0
"""Connects through a Service that stands beside 10,000 others: against the pod itself, and against iptables rules.

The clients and backends are the same program everywhere. The peer runs first, before a node's programs are attached to
the cgroup root; its service is the last of the list and, a second figure, the one in the middle.
"""
import json
import os
import pathlib
import socket
import subprocess
import time

import iptables_peer
from bench_pods import NS, PODS, Watch, pod
from common import CLIENTS, CONNECTIONS, BenchNode, emit, median, request, wait_quiet

CONNECT = CLIENTS / "bench-connect"
ROUNDS = 3
BACKEND_PORT = 8080
SERVICES = f"/api/v1/namespaces/{NS}/services"


def rates(run, targets, seconds):
    """The median rate for each target; rounds interleaved, so that what disturbs the machine disturbs all alike."""
    got = [[] for _ in targets]
    for _ in range(ROUNDS):
        for i, (address, port) in enumerate(targets):
            got[i].append(json.loads(run("loop", address, str(port), str(seconds))))
    return [(median([g["rate"] for g in rounds]), median([g["p50_us"] for g in rounds])) for rounds in got]


def measure_peer(options):
    """{flavour: ((rate, p50) of the last, of the middle, ms to add one)} and the rate with no rules."""
    peer, n, result = iptables_peer.Peer(CONNECT), options.services, {}
    bare = rates(peer.client, [(iptables_peer.BACKEND_IP, iptables_peer.PORT)], options.lb_seconds)[0][0]
    for flavour in ("legacy", "nft"):
        why = peer.install(flavour, n)
        if why:
            print(json.dumps({"metric": "service_connect", "value": None, "unit": "/s", "n": 0,
                              "peer": f"iptables-{flavour}", "peer_value": None, "ratio": None,
                              "why": f"the peer is not to be had here: {why[:200]}"}), flush=True)
            continue
        targets = [(iptables_peer.service_ip(i), iptables_peer.SERVICE_PORT) for i in (n - 1, n // 2)]
        last, middle = rates(peer.client, targets, options.lb_seconds)
        result[flavour] = (last, middle, peer.add_one_ms(flavour, n))
        peer.remove(flavour)
    peer.close()
    return result, bare


def service(name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": "backend"},
                     "ports": [{"name": "http", "port": 80, "targetPort": BACKEND_PORT}]}}


def pid_of(argument):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() == f"/bin/busybox\0sleep\0{argument}\0".encode():
                return int(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise AssertionError(f"no container sleeps {argument}")


def start_pods(node, writer):
    """A client and a backend: {name: (process, address)}."""
    watch, result = Watch(node), {}
    for name, seconds in (("client", 2000001), ("backend", 2000002)):
        body = pod(name)
        body["metadata"]["labels"] = {"app": name}
        body["spec"]["containers"][0]["command"][2] = str(seconds)
        request(writer, "POST", PODS, body)
    watch.until_ready(["client", "backend"])
    for name, seconds in (("client", 2000001), ("backend", 2000002)):
        result[name] = (pid_of(seconds), request(writer, "GET", f"{PODS}/{name}")["status"]["podIP"])
    return result


def until_connects(address, timeout=120):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            socket.create_connection((address, 80), timeout=0.05).close()
            return
        except OSError:
            time.sleep(0.0005)
    raise AssertionError(f"{address} never answers")


def create_services(node, writer, n):
    """n services with the backend behind each, and how long until the last of them can be connected to."""
    start = time.monotonic()
    f = node.requests(CONNECTIONS, n, "POST", SERVICES, json.dumps(service("other-@")))
    emit("create_service", f["rate"], "/s", n, p99_us=f["p99_us"], connections=CONNECTIONS)
    last = request(writer, "GET", f"{SERVICES}/other-{n - 1}")["spec"]["clusterIP"]
    until_connects(last)
    emit(f"services_{n}_created_and_connectable", time.monotonic() - start, "s", n)
    wait_quiet(node, timeout=300)


def add_one(writer, peers):
    took = []
    for i in range(10):
        start = time.monotonic()
        address = request(writer, "POST", SERVICES, service(f"one-more-{i}"))["spec"]["clusterIP"]
        until_connects(address)
        took.append((time.monotonic() - start) * 1e3)
    for flavour, (_, _, ms) in peers.items():
        emit("service_added_to_connectable", median(took), "ms", len(took), f"iptables-{flavour}-restore", ms)
    if not peers:
        emit("service_added_to_connectable", median(took), "ms", len(took))


def measure_node(options, peers, bare):
    node = BenchNode(options=options).start()
    node.import_image()
    node.namespace(NS)
    writer = node.connection()
    pods = start_pods(node, writer)
    inside = lambda name: ["nsenter", f"--net=/proc/{pods[name][0]}/ns/net", str(CONNECT)]
    listener = subprocess.Popen([*inside("backend"), "listen", str(BACKEND_PORT)], stdout=subprocess.PIPE, text=True)
    try:
        if listener.stdout.readline() != "ready\n":
            raise AssertionError("the backend does not listen")
        address = request(writer, "POST", SERVICES, service("web"))["spec"]["clusterIP"]
        until_connects(address)
        create_services(node, writer, options.services)
        run = lambda *argv: subprocess.run([*inside("client"), *argv], stdout=subprocess.PIPE, text=True,
                                           check=True).stdout
        (via, via_us), (direct, direct_us) = rates(run, [(address, 80), (pods["backend"][1], BACKEND_PORT)],
                                                   options.lb_seconds)
        emit("service_connect", via, "/s", ROUNDS, "direct to the pod", direct, p50_us=via_us, peer_p50_us=direct_us)
        for flavour, (last, middle, _) in peers.items():
            for where, (rate, us) in (("last", last), ("middle", middle)):
                emit("service_connect", via, "/s", ROUNDS, f"iptables-{flavour}, {where} of {options.services}", rate,
                     p50_us=via_us, peer_p50_us=us)
        emit("pod_connect", direct, "/s", ROUNDS, "two plain veths and a route, no rules", bare)
        add_one(writer, peers)
    finally:
        listener.kill()
        listener.wait()
    node.close()


def measure(options):
    peers, bare = measure_peer(options)
    measure_node(options, peers, bare)
