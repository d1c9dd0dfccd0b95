# SPDX-License-Identifier: Apache-2.0
"""Ways from a client to a backend, side by side: through k3c-bpf's Service, to the pod itself, and through each peer of
iptables_peer.py. All of them run the same program, client and backend on one core.

What is compared is the processor time of one operation, of client and backend together. Traffic over veths is carried
by whoever sends, so that this holds all the kernel does for it, and not what others do on the same core meanwhile."""
import os
import pathlib
import socket
import subprocess
import time

import iptables_peer
from bench_pods import NS, PODS, Watch, pod
from common import CLIENTS, median, request
from harness import wait_for

CONNECT = CLIENTS / "bench-connect"
SERVICES = f"/api/v1/namespaces/{NS}/services"
CORE = os.cpu_count() - 1  # the server and the machine's interrupts tend to the first
PINNED = ["taskset", "-c", str(CORE)]
CONNECT_PORT, ECHO_PORT = 8080, 8081  # of the backend
FLAVOURS = ("legacy", "nft", "vmap")


def service(name, app="backend", ports=((80, CONNECT_PORT),), **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": app}, **spec,
                     "ports": [{"name": f"p{p}", "port": p, "targetPort": t} for p, t in ports]}}


def pid_of(argument):
    wanted = f"/bin/busybox\0sleep\0{argument}\0".encode()

    def find():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() == wanted:
                    return int(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue
    # a container that has started has its process, but not yet its program
    return wait_for(f"the container that sleeps {argument}", find, every=0.01)


def until_connects(address, port=80, timeout=120):
    """Tries every tenth of a millisecond (without a pause it would take a core from the server): what nobody serves yet
    is refused at once."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            socket.create_connection((address, port), timeout=0.05).close()
            return
        except OSError:
            time.sleep(0.0001)
    raise AssertionError(f"{address} never answers")


class Ends:
    """Pods of a node that only sleep, with the bench's programs run in their network; {name: labels}, and annotations
    for some."""

    def __init__(self, node, writer, pods, annotations={}):
        self.pids, self.ips, self.servers = {}, {}, []
        watch = Watch(node)
        for i, (name, labels) in enumerate(pods.items()):
            body = pod(name)
            body["metadata"].update(labels=labels, annotations=annotations.get(name, {}))
            body["spec"]["containers"][0]["command"][2] = str(2000001 + i)
            request(writer, "POST", PODS, body)
        watch.until_ready(list(pods))
        for i, name in enumerate(pods):
            self.pids[name] = pid_of(2000001 + i)
            self.ips[name] = request(writer, "GET", f"{PODS}/{name}")["status"]["podIP"]

    def inside(self, name):
        return [*PINNED, "nsenter", f"--net=/proc/{self.pids[name]}/ns/net", str(CONNECT)]

    def serve(self, name):
        for what, port in (("listen", CONNECT_PORT), ("echo", ECHO_PORT)):
            server = subprocess.Popen([*self.inside(name), what, str(port)], stdout=subprocess.PIPE, text=True)
            self.servers.append(server)
            if server.stdout.readline() != "ready\n":
                raise AssertionError("the backend does not listen")

    def run(self, name, what, address, port, seconds):
        return iptables_peer.measured([*self.inside(name), what, address, str(port), str(seconds)], self.servers)

    def close(self):
        for server in self.servers:
            server.kill()
            server.wait()
        self.servers = []


def peers(flavours=(*FLAVOURS, "bare")):
    return {f: iptables_peer.Peer(CONNECT, f"-{f}", CORE) for f in flavours}


def lower_quartile(values):
    return sorted(values)[len(values) // 4]


def interleave(ways, seconds, rounds):
    """{name: what the program printed, over the rounds} for {name: run(seconds)}; whatever disturbs the machine disturbs
    all alike, and each round begins with another one. Processor time: the lower quartile of the rounds, as others that
    push this one's lines out of the caches add to it; not the least, which one lucky round decides. All else: the median."""
    got = {name: [] for name in ways}
    names = list(ways)
    for r in range(rounds):
        for name in names[r % len(names):] + names[:r % len(names)]:
            got[name].append(ways[name](seconds))
    pick = {"rate": median, "p99_us": median, "p50_us": median, "cpu_us": lower_quartile}
    return {name: {key: how([g[key] for g in all_rounds]) for key, how in pick.items()}
            for name, all_rounds in got.items()}
