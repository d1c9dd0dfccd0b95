#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Services, as a truth table: every type with every traffic policy and kind of endpoint, asked from every kind of place (a
pod, a pod that is a backend itself, a pod on the host's network, the host, an outside host) in both families with real
sockets, and compared with a reference that reads the rules as Kubernetes documents them."""
import collections
import itertools
import os
import random
import unittest

from harness import CLUSTER_CIDR, DNS, PODS_V6, TWO_FAMILIES, Case, Node, Outside, wait_for
from network import HOST_V6, SCTP, TCP, UDP, Asker, Objects, Place, Servers, dropped, outside_place, protocols

EXTERNAL, EXTERNAL_V6 = "203.0.113.{}", "2001:db8:ee::{:x}"
SERVER_PORT = 7001
TRIES = int(os.environ.get("K3C_TABLE_TRIES", "6"))  # of each flow: a backend that must not answer has so many chances
# More packets at once than a processor's queue holds (net.core.netdev_max_backlog: 1000) it loses, datagrams for good.
AT_ONCE = 250

Ask = collections.namedtuple("Ask", "place address protocol port n")
Endpoint = collections.namedtuple("Endpoint", "name local ready serving terminating")
NOBODY = {None, "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EACCES", "EPERM", "ECONNRESET"}


def endpoint(name, local=True, state="ready"):
    return Endpoint(name, local, state == "ready", state != "gone", state in ("terminating", "gone"))


# What may stand behind a Service: name -> endpoints. "selected" ones come from pods by their labels.
BACKENDS = {
    "pods": [endpoint("default/a0"), endpoint("default/a1")],
    "host": [endpoint("host")],
    "none": [],
    "elsewhere": [endpoint("outside", local=False)],
    "mixed": [endpoint("default/a0"), endpoint("outside", local=False)],
    "leaving": [endpoint("default/a0", state="terminating"), endpoint("default/a1", state="gone")],
    "half": [endpoint("default/a0"), endpoint("default/a1", state="terminating")],
    "remote-left": [endpoint("default/a0", state="terminating"), endpoint("outside", local=False)],
}
SELECTED = {"pods": {"app": "a"}, "host": {"app": "h"}}
# An emulated machine has no time for all of them.
CHOSEN = os.environ.get("K3C_TABLE_BACKENDS", ",".join(BACKENDS)).split(",")
# ... nor for all Services: so many of each type, one of those with source ranges among them; other ones in each kernel.
PER_TYPE = int(os.environ.get("K3C_TABLE_PER_TYPE", "0"))


def unsupported(kind, protocol):
    """The host's own SCTP is translated on links, where 127.0.0.1 is nobody's."""
    return protocol == SCTP and kind == "loopback"


class Wanted:
    """One Service of the table."""

    def __init__(self, n, kind, backends, internal, external, ranges=None):
        self.n, self.kind, self.backends = n, kind, backends
        self.internal, self.external, self.ranges = internal, external, ranges
        self.name, self.port = f"t{n}", 20000 + n

    def object(self, protocols_):
        spec = {"type": "ClusterIP" if self.kind == "ExternalIP" else self.kind, "internalTrafficPolicy": self.internal,
                "ipFamilyPolicy": "RequireDualStack",
                "ports": [{"name": p.lower(), "protocol": p, "port": self.port,
                           "targetPort": "serve" if p == TCP and self.backends == "pods" else SERVER_PORT}
                          for p in protocols_]}
        if self.backends in SELECTED:
            spec["selector"] = SELECTED[self.backends]
        if self.external:
            spec["externalTrafficPolicy"] = self.external
        if self.kind == "ExternalIP":
            spec["externalIPs"] = [EXTERNAL.format(self.n), EXTERNAL_V6.format(self.n)]
        if self.ranges:
            spec["loadBalancerSourceRanges"] = self.ranges
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name, "namespace": "default"}, "spec": spec}

    def expected(self, place, kind):
        """Names of those who may answer at an address of this kind; the rules of kube-proxy, slowly."""
        policy = self.internal if kind == "cluster" else self.external if place == "outside" else "Cluster"
        if kind == "balancer" and self.ranges and not self.in_range(place):
            return set()
        candidates = [e for e in BACKENDS[self.backends] if e.local or policy == "Cluster"]
        ready = [e for e in candidates if e.ready]
        return {e.name for e in ready or [e for e in candidates if e.serving and e.terminating]}

    def in_range(self, place):
        if place in ("host", "hostnet"):
            return True  # the node itself always may
        return any(r.startswith("198.51.100") if place == "outside" else r == CLUSTER_CIDR for r in self.ranges)


def table():
    n = itertools.count(1)
    for backends in CHOSEN:
        for internal in "Cluster", "Local":
            yield Wanted(next(n), "ClusterIP", backends, internal, None)
            for kind in "NodePort", "LoadBalancer", "ExternalIP":
                for external in "Cluster", "Local":
                    if internal == "Cluster" or backends == "mixed":
                        yield Wanted(next(n), kind, backends, internal, external)
    for ranges in (["198.51.100.0/24", "2001:db8:aa::/64"], [CLUSTER_CIDR, PODS_V6], ["192.0.2.192/28", "2001:db8::/112"]):
        yield Wanted(next(n), "LoadBalancer", "pods", "Cluster", "Cluster", ranges)


def chosen():
    """The table, or the part of it that is wanted."""
    services = list(table())
    if not PER_TYPE:
        return services
    chance, kinds = random.Random(os.uname().release), collections.defaultdict(list)
    for w in services:
        kinds[w.kind, bool(w.ranges)].append(w)
    return [w for (_, ranges), some in kinds.items()
            for w in chance.sample(some, min(len(some), 1 if ranges else PER_TYPE))]


class Table(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(env={"K3C_CLUSTER_DNS": DNS, **TWO_FAMILIES}).start()
        cls.node.import_image()
        cls.objects, cls.servers, cls.places = Objects(cls.node), Servers(), {}
        cls.asker = Asker(dropped(cls.node, "no-backend", "source-range"))
        cls.protocols = protocols()
        wait_for("the default account", lambda: cls.objects.call(
            "GET", "/api/v1/namespaces/default/serviceaccounts/default"))
        for name, labels, spec in (("a0", {"app": "a"}, {}), ("a1", {"app": "a"}, {}), ("client", {}, {}),
                                   ("h", {"app": "h"}, {"hostNetwork": True})):
            ports = [("serve", TCP, SERVER_PORT)] if labels == {"app": "a"} else []
            pod = cls.objects.pod("default", name, labels, ports, **spec)
            cls.places[name] = cls.objects.place(pod)
        cls.places["hostnet"] = cls.places.pop("h")
        cls.node_addresses = cls.places["hostnet"].addresses
        cls.places["host"] = Place("host", None, cls.node_addresses)
        cls.net = Outside("k3c-e2e-table", "e2e-table0")
        cls.places["outside"] = outside_place(cls.net, dual=True)
        for name in "a0", "a1", "host", "outside":
            cls.servers.listen(cls.places[name], [(p, SERVER_PORT) for p in cls.protocols])

    @classmethod
    def tearDownClass(cls):
        cls.servers.close()
        for place in cls.places.values():
            place.close()
        cls.net.close()
        super().tearDownClass()

    # ---- objects ----

    def address_of(self, name, v6):
        place = self.places["host" if name == "host" else name.removeprefix("default/")]
        return next((a for a in place.addresses if (":" in a) == v6), None)

    def slices(self, w):
        """Those that a user writes: everything that pods and labels do not make."""
        if w.backends in SELECTED:
            return
        for v6 in False, True:
            made = []
            for e in BACKENDS[w.backends]:
                made.append({"addresses": [self.address_of(e.name, v6)], "conditions": {
                    "ready": e.ready, "serving": e.serving, "terminating": e.terminating}})
                if e.local:
                    made[-1]["nodeName"] = self.node_name()
            yield {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6" if v6 else "IPv4",
                   "metadata": {"name": f"{w.name}-{'v6' if v6 else 'v4'}", "namespace": "default",
                                "labels": {"kubernetes.io/service-name": w.name}},
                   "ports": [{"name": p.lower(), "protocol": p, "port": SERVER_PORT} for p in self.protocols],
                   "endpoints": made}

    def node_name(self):
        return self.objects.call("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]

    def create(self, w):
        self.objects.create(w.object(self.protocols))
        for s in self.slices(w):
            self.objects.create(s)

    def complete(self, w):
        """With all that controllers add to it; None: not yet."""
        o = self.objects.call("GET", f"/api/v1/namespaces/default/services/{w.name}")
        found = self.objects.call("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector="
                                  f"kubernetes.io/service-name%3D{w.name}")["items"]
        n = sum(len(s.get("endpoints") or []) for s in found)
        if n < 2 * len(BACKENDS[w.backends]):
            return None
        if w.kind == "LoadBalancer" and len(o.get("status", {}).get("loadBalancer", {}).get("ingress", [])) < 2:
            return None
        return o

    # ---- asking ----

    def addresses(self, w, o):
        """(kind, address, port by protocol)."""
        ports = {p["protocol"]: p for p in o["spec"]["ports"]}
        front = {p: w.port for p in ports}
        for a in o["spec"]["clusterIPs"]:
            yield "cluster", a, front
        for a in o["spec"].get("externalIPs", []):
            yield "external", a, front
        for i in o.get("status", {}).get("loadBalancer", {}).get("ingress", []):
            yield "balancer", i["ip"], front
        if w.kind in ("NodePort", "LoadBalancer"):
            node = {p: ports[p]["nodePort"] for p in ports}
            for a in [*self.node_addresses, Outside.HOST, HOST_V6]:
                yield "node", a, node
            for a in "127.0.0.1", "::1":
                yield "loopback", a, node

    def flows(self, w, o):
        """(question without its number, who may answer)."""
        for kind, address, ports in self.addresses(w, o):
            for name, place in self.places.items():
                if name == "a1" or (kind == "loopback" and name not in ("host", "hostnet")):
                    continue
                for protocol, port in ports.items():
                    if unsupported(kind, protocol):
                        continue
                    yield ((place, address, protocol, port),
                           w.expected(name, "node" if kind == "loopback" else kind), f"{w.__dict__} {kind}")

    def ask(self, flows, asker=None, hopeless=False):
        """{flow: [answers]}."""
        answers, all_ = collections.defaultdict(list), [Ask(*f, n) for f, n in itertools.product(flows, range(TRIES))]
        for at in range(0, len(all_), AT_ONCE):
            for a, who in (asker or self.asker).ask(all_[at:at + AT_ONCE], hopeless).items():
                answers[a[:4]].append(who)
        return answers

    def compare(self, what, flows):
        wrong, seen, refusals = [], collections.defaultdict(set), 0
        # where all are to be answered no silence ends a round
        answers = self.ask({f: None for f, want, _ in flows if want}, Asker(lambda: 0))
        answers.update(self.ask({f: None for f, want, _ in flows if not want}, hopeless=True))
        # a first packet may be lost to a race for a port
        again = [f for f, want, _ in flows if want and None in answers[f]]
        answers.update(self.ask(again, Asker(lambda: 0)))
        for f, want, note in flows:
            got = set(answers[f])
            seen[note] |= got
            if not (got <= want if want else got <= NOBODY):
                wrong.append(f"{f[0]} -> {f[1]}:{f[3]} {f[2]}: expected {want or 'nobody'}, got {got}; {note}")
            # An address that is not the node's refuses too, as kube-proxy does. (Errors are rationed by the kernel.)
            if (not want and f[0] is self.places["outside"] and f[2] == TCP and note.endswith(" external")
                    and "'external': 'Cluster'" in note):
                refusals += 1
                if "ECONNREFUSED" not in got:
                    wrong.append(f"{f[0]} -> {f[1]}:{f[3]}: not refused, {got}; {note}")
        # over all places and tries each one that may answer has answered somewhere
        for note in seen:
            missing = set().union(*(w for _, w, n in flows if n == note)) - seen[note]
            if missing:
                wrong.append(f"{missing} never answered: {note}")
        print(f"{what}: {len(flows)} flows x {TRIES}, {sum(not w for _, w, _ in flows)} of them to nobody, {len(again)} asked "
              f"again, {refusals} foreign addresses refused, {len(wrong)} wrong", flush=True)
        self.assertEqual(wrong[:20], [])
        # Rare: what a busy machine lost.
        self.assertLess(len(again), max(5, len(flows) // 100), [(f[0], *f[1:]) for f in again])

    # ---- the tests ----

    def test_table(self):
        wanted = chosen()
        for w in wanted:
            self.create(w)
        flows = []
        for w in wanted:
            o = wait_for(f"{w.name} ({w.kind}, {w.backends}) to be complete", lambda: self.complete(w))
            flows += self.flows(w, o)
        self.objects.settle()
        self.compare(f"{len(wanted)} services", flows)

    def test_affinity(self):
        """A client stays with its backend, over both families, and other clients may have others."""
        w = Wanted(900, "NodePort", "pods", "Cluster", "Cluster")
        o = w.object(self.protocols)
        o["spec"].update(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}})
        self.objects.create(o)
        o = wait_for("the service to be complete", lambda: self.complete(w))
        self.objects.settle()
        flows = [f for f, _, _ in self.flows(w, o)]
        answers = self.ask(flows)
        self.assertEqual([(f, a) for f, a in answers.items() if len(set(a)) != 1 or not a[0]][:10], [])
        print(f"affinity: {len(flows)} flows x {TRIES}, each with one backend")

    def test_host_ports(self):
        hosts = [("any", 7801, None), ("loopback", 7802, "127.0.0.1"), ("link", 7803, Outside.HOST)]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ports", "namespace": "default"}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [{
                "name": "main", "image": "k3c-bpf/demo:latest", "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sleep", "1000000"], "ports": [
                    {"name": f"{name[:4]}-{p.lower()}", "containerPort": SERVER_PORT, "protocol": p, "hostPort": port,
                     **({"hostIP": ip} if ip else {})} for name, port, ip in hosts for p in (TCP, UDP)]}]}}
        self.objects.create(pod)
        place = self.objects.place(pod)
        self.addCleanup(place.close)
        self.servers.listen(place, [(TCP, SERVER_PORT), (UDP, SERVER_PORT)])
        node = next(a for a in self.node_addresses if ":" not in a)
        flows = []
        for name, port, ip in hosts:
            for who, address in itertools.product(("client", "host", "outside"), (node, Outside.HOST, "127.0.0.1")):
                if address == "127.0.0.1" and who != "host":
                    continue
                served = ip in (None, address)
                flows += [((self.places[who], address, p, port), {"default/ports"} if served else set(), name)
                          for p in (TCP, UDP)]
        self.objects.settle()
        self.compare("host ports", flows)
        self.objects.delete(pod)
        wait_for("the pod to be gone", lambda: not [p for p in self.objects.call(
            "GET", "/api/v1/namespaces/default/pods")["items"] if p["metadata"]["name"] == "ports"])
        self.objects.settle()
        self.compare("host ports, the pod gone", [(f, set(), name) for f, _, name in flows])


if __name__ == "__main__":
    unittest.main()
